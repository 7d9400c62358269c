use std::fs;

use hearth_wire::NodeId;

use super::*;

#[test]
fn init_makes_everything_and_refuses_to_do_it_twice() {
    let realm = Realm::new();
    let path = realm.dir.path();
    for name in [
        "root.key",
        "online.key",
        "ca.key",
        "ca.pem",
        "coordinator.key",
        "admin.key",
        "admin.pem",
        "author.key",
        "policy.bin",
        "revocations.bin",
        "realm.toml",
        "data",
    ] {
        assert!(path.join(name).exists(), "{name}");
    }
    assert_eq!(realm.dir.name(), "Testers");
    assert_eq!(realm.state().policy().authors[0].name, "Ada");
    assert_eq!(realm.state().policy().engine_min, [48, 0, 8]);
    let root = fs::read(path.join("root.key")).unwrap();
    assert!(matches!(
        RealmDir::init(path, options(), NOW),
        Err(DirError::Exists(_))
    ));
    assert_eq!(fs::read(path.join("root.key")).unwrap(), root);

    let other = realm.root.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("diary.txt"), "mine").unwrap();
    assert!(matches!(
        RealmDir::init(&other, options(), NOW),
        Err(DirError::NotEmpty(_))
    ));
    assert!(!RealmDir::exists(&other));
    assert!(matches!(RealmDir::open(&other), Err(DirError::Missing(_))));
}

/// A start on a full disk shows its certificate too.
#[test]
fn what_the_coordinator_shows_is_written_nowhere() {
    let realm = Realm::new();
    let path = realm.dir.path();
    let files = || {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort_unstable();
        names
    };
    let before = files();
    let tls = realm.dir.coordinator_tls(later(DAY)).unwrap();
    assert_eq!(tls.chain.len(), 2);
    assert_eq!(files(), before);
    assert!(!path.join("coordinator.pem").exists());
}

#[cfg(unix)]
#[test]
fn secrets_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let realm = Realm::new();
    let path = realm.dir.path();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path), 0o700);
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        let expected = if entry.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&entry), expected, "{}", entry.display());
    }
    let key = path.join("author.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(
        realm.dir.author_key(),
        Err(DirError::Exposed(path)) if path == key
    ));
}

#[test]
fn bad_options_are_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("realm");
    let field = |edit: &dyn Fn(&mut InitOptions)| {
        let mut options = options();
        edit(&mut options);
        match RealmDir::init(&path, options, NOW) {
            Err(DirError::Option { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(field(&|o| o.name.clear()), "name");
    assert_eq!(field(&|o| o.name = "n".repeat(61)), "name");
    assert_eq!(field(&|o| o.first_author = "a\nb".into()), "first author");
    assert_eq!(field(&|o| o.addresses = vec!["host".into()]), "addresses");
    assert_eq!(field(&|o| o.addresses = vec!["h:0".into()]), "addresses");
    assert_eq!(field(&|o| o.addresses = vec!["h:1".into(); 9]), "addresses");
    assert_eq!(field(&|o| o.passphrase = Some(String::new())), "passphrase");
    assert!(!path.exists(), "nothing was made");
}

#[test]
fn the_root_key_signs_policies_behind_its_passphrase_and_may_be_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("realm");
    let mut protected = options();
    protected.passphrase = Some("correct horse".to_owned());
    assert!(!format!("{protected:?}").contains("horse"));
    let summary = RealmDir::init(&path, protected, NOW).unwrap();
    let dir = RealmDir::open(&path).unwrap();
    assert!(dir.root_key_is_protected().unwrap());
    assert!(
        !fs::read_to_string(&summary.root_key)
            .unwrap()
            .contains("PRIVATE KEY")
    );
    let edit = |policy: &mut hearth_wire::Policy| policy.trusted_nodes.push(NodeId::default());
    assert!(matches!(
        dir.update_policy(None, NOW, edit),
        Err(DirError::Key(KeyError::PassphraseNeeded))
    ));
    assert!(matches!(
        dir.update_policy(Some("wrong"), NOW, edit),
        Err(DirError::Key(KeyError::WrongPassphrase))
    ));
    let state = dir.update_policy(Some("correct horse"), NOW, edit).unwrap();
    assert!(state.is_trusted_node(NodeId::default()));

    let elsewhere = root.path().join("stick.key");
    fs::rename(&summary.root_key, &elsewhere).unwrap();
    assert!(matches!(
        dir.update_policy(Some("correct horse"), NOW, edit),
        Err(DirError::NoRootKey(_))
    ));
    // Everything that a running coordinator does goes on without it.
    dir.coordinator_tls(NOW).unwrap();
    dir.invite(Role::Node, DAY, NOW).unwrap();
    dir.revoke(NOW, |list| list.nodes.push(NodeId::default()))
        .unwrap();
    assert!(
        !dir.policy_state()
            .unwrap()
            .is_trusted_node(NodeId::default())
    );
    let key = SigningKey::load_sealed(&elsewhere, Some("correct horse")).unwrap();
    assert_eq!(key.id().0, dir.realm().0);
    let state = dir.update_policy_with(&key, NOW, |_| ()).unwrap();
    assert_eq!(state.policy().version, 3);
    let stranger = SigningKey::generate().unwrap();
    assert!(matches!(
        dir.update_policy_with(&stranger, NOW, |_| ()),
        Err(DirError::Policy(PolicyError::WrongRealm { .. }))
    ));
}

#[test]
fn an_edit_cannot_move_the_realm_or_lower_the_version() {
    let realm = Realm::new();
    let before = realm.state();
    let after = realm
        .dir
        .update_policy(None, later(5), |policy| {
            policy.realm = Default::default();
            policy.ca = Default::default();
            policy.online = SigningKey::generate().unwrap().public();
            policy.version = 0;
            policy.expires = UnixSeconds(0);
        })
        .unwrap();
    assert_eq!(after.policy().realm, before.policy().realm);
    assert_eq!(after.policy().ca, before.policy().ca);
    assert_eq!(after.policy().online, before.policy().online);
    assert_eq!(after.policy().version, 2);
    assert_eq!(after.policy().expires, later(5 + POLICY_SECONDS));
}

#[test]
fn revocations_at_once_are_all_kept() {
    let realm = Realm::new();
    std::thread::scope(|scope| {
        for number in 0..8u8 {
            let dir = &realm.dir;
            scope.spawn(move || {
                let node = NodeId(hearth_wire::Digest::of(&[number]));
                dir.revoke(NOW, |list| list.nodes.push(node)).unwrap();
            });
        }
    });
    assert_eq!(realm.state().revocations().nodes.len(), 8);
    assert_eq!(realm.state().revocations().version, 9);
}

#[test]
fn the_owner_s_own_certificate_renews_itself() {
    let realm = Realm::new();
    let first = realm.dir.admin_tls(NOW).unwrap().chain;
    assert_eq!(realm.dir.admin_tls(later(DAY)).unwrap().chain, first);
    let after_a_year = later(365 * DAY);
    let renewed = realm.dir.admin_tls(after_a_year).unwrap().chain;
    assert_ne!(renewed, first);
    let ca = realm.authority.ca();
    assert!(ca.verify_peer(&renewed[0], after_a_year).is_ok());
    // A clock that was ahead and is right again.
    let again = realm.dir.admin_tls(NOW).unwrap().chain;
    assert!(ca.verify_peer(&again[0], NOW).is_ok());
}

#[test]
fn a_swapped_ca_is_noticed() {
    let (realm, other) = (Realm::new(), Realm::new());
    let node = realm.join(Role::Node, "node");
    fs::copy(other.dir.path().join("ca.pem"), node.path().join("ca.pem")).unwrap();
    assert!(matches!(
        NodeDir::open(node.path()),
        Err(DirError::OtherCa(_))
    ));
    fs::copy(
        other.dir.path().join("ca.pem"),
        realm.dir.path().join("ca.pem"),
    )
    .unwrap();
    assert!(matches!(realm.dir.authority(), Err(DirError::OtherCa(_))));
}

#[test]
fn a_node_keeps_the_newest_policy_over_restarts() {
    let realm = Realm::new();
    let old = realm.state().bundle_bytes();
    let mut node = realm.join(Role::Node, "node");
    let id = node.node_id();
    let new = realm.dir.revoke(NOW, |list| list.nodes.push(id)).unwrap();
    assert!(node.update_policy(&new.bundle_bytes(), NOW).unwrap());
    assert!(!node.update_policy(&new.bundle_bytes(), NOW).unwrap());
    let mut node = NodeDir::open(node.path()).unwrap();
    assert!(node.policy_state().is_revoked(id));
    assert!(matches!(
        node.update_policy(&old, NOW),
        Err(DirError::Policy(PolicyError::Rollback { .. }))
    ));
}

#[test]
fn joining_twice_is_refused_and_leaving_removes_all() {
    let realm = Realm::new();
    let node = realm.join(Role::Node, "node");
    let path = node.path().to_owned();
    assert!(matches!(
        NodeDir::prepare(&path),
        Err(DirError::OtherRealm(_))
    ));
    fs::create_dir(path.join("cache")).unwrap();
    fs::write(path.join("cache/blob"), "x").unwrap();
    let killed = path.join(".node.key.00112233445566ff.tmp");
    fs::write(&killed, "half").unwrap();
    assert_eq!(NodeDir::leftovers(&path).unwrap(), [killed]);
    node.leave().unwrap();
    assert!(!path.exists());

    // A person's author key is the person's.
    let author = realm.join(Role::Author, "author");
    let path = author.path().to_owned();
    let key = author.author_key().unwrap().id();
    assert_eq!(author.author_key().unwrap().id(), key);
    author.leave().unwrap();
    assert_eq!(
        SigningKey::load(&path.join("author.key")).unwrap().id(),
        key
    );
}

#[test]
fn an_interrupted_join_keeps_its_key() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("node");
    let first = NodeDir::prepare(&path).unwrap().key().node_id();
    assert_eq!(NodeDir::prepare(&path).unwrap().key().node_id(), first);
    assert!(!NodeDir::exists(&path));
    assert!(matches!(NodeDir::open(&path), Err(DirError::Missing(_))));
}

#[test]
fn a_personal_author_key_is_made_once_even_by_many_at_once() {
    let root = tempfile::tempdir().unwrap();
    let user = UserDir::open(&root.path().join("hearth")).unwrap();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| user.author_key().unwrap().id()))
            .collect();
        racers.into_iter().map(|r| r.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
}

#[test]
fn damaged_files_are_told_and_nothing_is_guessed() {
    let realm = Realm::new();
    let path = realm.dir.path();
    fs::write(path.join("policy.bin"), b"").unwrap();
    assert!(matches!(
        realm.dir.policy_state(),
        Err(DirError::Policy(PolicyError::Malformed { .. }))
    ));
    fs::write(path.join("author.key"), b"\xff").unwrap();
    assert!(matches!(
        realm.dir.author_key(),
        Err(DirError::Damaged { .. })
    ));
    fs::write(path.join("author.key"), b"nothing").unwrap();
    assert!(matches!(
        realm.dir.author_key(),
        Err(DirError::Key(KeyError::Malformed { .. }))
    ));
    fs::write(path.join("realm.toml"), b"name = 3").unwrap();
    assert!(matches!(
        RealmDir::open(path),
        Err(DirError::Damaged { .. })
    ));
    fs::write(path.join("realm.toml"), vec![b'#'; 2 << 20]).unwrap();
    assert!(matches!(
        RealmDir::open(path),
        Err(DirError::Damaged { .. })
    ));
}
