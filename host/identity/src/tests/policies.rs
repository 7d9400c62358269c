use hearth_wire::codec::encode;
use hearth_wire::envelope::Domain;
use hearth_wire::{AuthorEntry, NodeId, Policy, PolicyBundle, PublicKey, RealmId, Signed, limits};
use proptest::prelude::*;

use super::*;
use crate::policy::sign;

fn refusal(state: &mut PolicyState, from: &PolicyState, now: UnixSeconds) -> PolicyError {
    state.update(&from.bundle_bytes(), now).unwrap_err()
}

#[test]
fn newer_statements_are_taken_and_older_ones_refused() {
    let realm = Realm::new();
    let first = realm.state();
    let mut node = first.clone();
    assert_eq!(node.update(&first.bundle_bytes(), NOW), Ok(false));

    let revoked = realm
        .dir
        .revoke(NOW, |list| list.nodes.push(NodeId::default()))
        .unwrap();
    assert!(!node.is_revoked(NodeId::default()));
    assert_eq!(node.update(&revoked.bundle_bytes(), NOW), Ok(true));
    assert!(node.is_revoked(NodeId::default()));

    let policy = realm
        .dir
        .update_policy(None, NOW, |policy| policy.engine_min = [49, 0, 0])
        .unwrap();
    assert_eq!(node.update(&policy.bundle_bytes(), NOW), Ok(true));
    assert_eq!(node.policy().engine_min, [49, 0, 0]);

    assert!(matches!(
        refusal(&mut node, &revoked, NOW),
        PolicyError::Rollback {
            what: "policy",
            seen: 2,
            found: 1
        }
    ));
    // A new policy with an old list is no way around a revocation.
    let mixed = PolicyBundle {
        policy: policy.bundle().policy.clone(),
        revocations: first.bundle().revocations.clone(),
    };
    assert!(matches!(
        node.update(&encode(&mixed), NOW),
        Err(PolicyError::Rollback {
            what: "revocations",
            ..
        })
    ));
    assert!(node.is_revoked(NodeId::default()));
}

#[test]
fn two_statements_of_one_version_are_told() {
    let realm = Realm::new();
    let mut node = realm.state();
    let root = SigningKey::load(&realm.dir.path().join("root.key")).unwrap();
    let mut other = node.policy().clone().into_inner();
    other.name = "Others".to_owned();
    let bundle = PolicyBundle {
        policy: sign(&root, Domain::Policy, &other),
        revocations: node.bundle().revocations.clone(),
    };
    assert_eq!(
        node.update(&encode(&bundle), NOW),
        Err(PolicyError::Conflict {
            what: "policy",
            version: 1
        })
    );
}

#[test]
fn another_realm_s_statements_are_refused() {
    let (realm, other) = (Realm::new(), Realm::new());
    let mut node = realm.state();
    let genuine = node.bundle().clone();
    let accept = |policy: Signed, revocations: Signed| {
        let bundle = PolicyBundle {
            policy,
            revocations,
        };
        PolicyState::accept(&encode(&bundle), realm.dir.realm(), NOW)
    };
    assert!(matches!(
        refusal(&mut node, &other.state(), NOW),
        PolicyError::WrongRealm { what: "policy", .. }
    ));
    // The root key of another realm that claims to be this one.
    let root = SigningKey::load(&other.dir.path().join("root.key")).unwrap();
    let forged = sign(&root, Domain::Policy, &**node.policy());
    assert!(matches!(
        accept(forged, genuine.revocations.clone()),
        Err(PolicyError::WrongRealm { .. })
    ));
    // The right root key about another realm.
    let root = SigningKey::load(&realm.dir.path().join("root.key")).unwrap();
    let mut policy = node.policy().clone().into_inner();
    policy.realm = RealmId::default();
    let signed = sign(&root, Domain::Policy, &policy);
    assert!(matches!(
        accept(signed, genuine.revocations.clone()),
        Err(PolicyError::WrongRealm { .. })
    ));
    // Revocations of a key that the policy does not name.
    let list = sign(&root, Domain::Revocations, &**node.revocations());
    assert!(matches!(
        accept(genuine.policy.clone(), list),
        Err(PolicyError::WrongRealm {
            what: "revocations",
            ..
        })
    ));
}

#[test]
fn expired_and_future_statements_are_refused() {
    let realm = Realm::new();
    let bytes = realm.state().bundle_bytes();
    let id = realm.dir.realm();
    assert!(PolicyState::accept(&bytes, id, NOW).is_ok());
    assert!(matches!(
        PolicyState::accept(&bytes, id, later(REVOCATIONS_SECONDS + 1)),
        Err(PolicyError::Expired {
            what: "revocations",
            ..
        })
    ));
    assert!(matches!(
        PolicyState::accept(&bytes, id, later(POLICY_SECONDS + 1)),
        Err(PolicyError::Expired { what: "policy", .. })
    ));
    assert!(matches!(
        PolicyState::accept(&bytes, id, UnixSeconds(NOW.0 - 2 * HOUR)),
        Err(PolicyError::NotYetValid { what: "policy" })
    ));
    assert!(PolicyState::accept(&bytes, id, UnixSeconds(NOW.0 - HOUR / 2)).is_ok());
}

#[test]
fn revocations_are_signed_anew_at_half_of_their_life() {
    let realm = Realm::new();
    let half = REVOCATIONS_SECONDS / 2;
    let version = |now| realm.dir.refresh(now).unwrap().revocations().version;
    assert_eq!(version(later(half - 1)), 1);
    assert_eq!(version(later(half)), 2);
    assert_eq!(version(later(half + 1)), 2);
    // Signed while the clock was a day ahead: once it is right again, nodes must get a list they take.
    assert_eq!(version(later(half - DAY)), 3);
    let state = realm.state();
    assert!(
        PolicyState::accept(&state.bundle_bytes(), realm.dir.realm(), later(half - DAY)).is_ok()
    );
}

/// After a coordinator was taken over: what its online key signs counts no more.
#[test]
fn a_new_online_key_ends_the_old_one_s_invitations_and_revocations() {
    let realm = Realm::new();
    let mut node = realm.join(Role::Node, "node");
    let stolen = SigningKey::load(&realm.dir.path().join("online.key")).unwrap();
    let token = realm.dir.invite(Role::Admin, DAY, NOW).unwrap();
    let old = verify_invitation(&token, None, NOW).unwrap();
    let banned = NodeId::default();
    let before = realm
        .dir
        .revoke(NOW, |list| list.nodes.push(banned))
        .unwrap();
    let root = SigningKey::load(&realm.dir.path().join("root.key")).unwrap();
    let state = realm.dir.rotate_online_key(&root, NOW).unwrap();
    assert_ne!(state.policy().online, before.policy().online);
    assert!(state.is_revoked(banned), "nothing was forgotten");

    assert!(node.update_policy(&state.bundle_bytes(), NOW).unwrap());
    let forged = PolicyBundle {
        policy: state.bundle().policy.clone(),
        revocations: sign(&stolen, Domain::Revocations, &**state.revocations()),
    };
    assert!(matches!(
        node.update_policy(&encode(&forged), NOW),
        Err(DirError::Policy(PolicyError::WrongRealm { .. }))
    ));
    let csr = NodeKey::generate().unwrap().csr_pem().unwrap();
    assert_eq!(
        realm.authority.grant(&old, &realm.state(), &csr, "x", NOW),
        Err(EnrolError::ForeignInvitation)
    );
    realm.join(Role::Observer, "new");
    realm.dir.revoke(NOW, |list| list.nodes.clear()).unwrap();
}

/// Whoever stole the online key signed a list behind which no later one would count.
#[test]
fn a_list_of_the_highest_version_there_is_ends_with_the_key_that_signed_it() {
    let realm = Realm::new();
    let mut node = realm.join(Role::Node, "node");
    let stolen = SigningKey::load(&realm.dir.path().join("online.key")).unwrap();
    let mut list = realm.state().revocations().clone().into_inner();
    list.version = u64::MAX;
    let poison = PolicyBundle {
        policy: realm.state().bundle().policy.clone(),
        revocations: sign(&stolen, Domain::Revocations, &list),
    };
    assert!(node.update_policy(&encode(&poison), NOW).unwrap());
    let genuine = realm.dir.revoke(NOW, |_| ()).unwrap();
    assert!(matches!(
        node.update_policy(&genuine.bundle_bytes(), NOW),
        Err(DirError::Policy(PolicyError::Rollback {
            seen: u64::MAX,
            ..
        }))
    ));
    // It got as far as the realm's own directory, and there it ends too.
    std::fs::write(
        realm.dir.path().join("revocations.bin"),
        encode(&poison.revocations),
    )
    .unwrap();
    let root = SigningKey::load(&realm.dir.path().join("root.key")).unwrap();
    let state = realm.dir.rotate_online_key(&root, NOW).unwrap();
    assert!(state.is_newer_than(node.policy_state()));
    assert!(node.update_policy(&state.bundle_bytes(), NOW).unwrap());
    assert!(!state.is_newer_than(node.policy_state()));
    let banned = NodeId::default();
    let state = realm
        .dir
        .revoke(NOW, |list| list.nodes.push(banned))
        .unwrap();
    assert!(node.update_policy(&state.bundle_bytes(), NOW).unwrap());
    assert!(node.policy_state().is_revoked(banned));
    // An older policy does not bring the old key and its list back.
    assert!(matches!(
        node.update_policy(&encode(&poison), NOW),
        Err(DirError::Policy(PolicyError::Rollback {
            what: "policy",
            ..
        }))
    ));
}

#[test]
fn a_member_keeps_both_statements_in_one_piece() {
    let realm = Realm::new();
    let mut node = realm.join(Role::Node, "node");
    let path = node.path().to_owned();
    let before = std::fs::read(path.join("policy.bin")).unwrap();
    let root = SigningKey::load(&realm.dir.path().join("root.key")).unwrap();
    let state = realm.dir.rotate_online_key(&root, NOW).unwrap();
    assert!(node.update_policy(&state.bundle_bytes(), NOW).unwrap());
    let after = std::fs::read(path.join("policy.bin")).unwrap();
    // A machine that stopped at any time finds the one or the other, and goes on from either.
    for kept in [before, after] {
        std::fs::write(path.join("policy.bin"), kept).unwrap();
        let mut again = NodeDir::open(&path).unwrap();
        again.update_policy(&state.bundle_bytes(), NOW).unwrap();
        assert_eq!(again.policy_state().policy(), state.policy());
    }
    let others = std::fs::read_dir(&path).unwrap();
    let names: Vec<_> = others.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.contains(&"revocations.bin".into()), "{names:?}");
}

#[test]
fn an_interrupted_change_of_the_online_key_is_done_again() {
    let realm = Realm::new();
    let path = realm.dir.path();
    let root = SigningKey::load(&path.join("root.key")).unwrap();
    let old = ["policy.bin", "revocations.bin"].map(|n| std::fs::read(path.join(n)).unwrap());
    realm.dir.rotate_online_key(&root, NOW).unwrap();
    // As if the machine had stopped before the policy was written, then before the revocations were.
    for (name, bytes) in ["policy.bin", "revocations.bin"].into_iter().zip(&old) {
        std::fs::write(path.join("policy.bin"), &old[0]).unwrap();
        std::fs::write(path.join(name), bytes).unwrap();
        assert!(realm.dir.revoke(NOW, |_| ()).is_err());
        realm.dir.rotate_online_key(&root, NOW).unwrap();
        realm.dir.revoke(NOW, |_| ()).unwrap();
    }
    let stranger = SigningKey::generate().unwrap();
    assert!(realm.dir.rotate_online_key(&stranger, NOW).is_err());
    realm.dir.revoke(NOW, |_| ()).unwrap();
}

#[test]
fn an_author_is_let_in_with_a_name_and_a_key_that_somebody_can_hold() {
    let realm = Realm::new();
    let key = SigningKey::generate().unwrap().public();
    let add = |name: &str, key: PublicKey| {
        let entry = AuthorEntry {
            key,
            name: name.to_owned(),
            not_after: later(DAY),
        };
        let edit = |policy: &mut Policy| policy.authors.push(entry);
        realm.dir.update_policy(None, NOW, edit)
    };
    for (name, key, wrong) in [
        ("", key, "name"),
        ("Eve\u{1b}[2J", key, "name"),
        ("Eve\nauthors  nobody", key, "name"),
        ("Eve\u{202e}", key, "name"),
        ("Eve", PublicKey::new([0; 32]), "key"),
        ("Eve", PublicKey::new([0xff; 32]), "key"),
    ] {
        match add(name, key) {
            Err(DirError::Option { field, .. }) => assert_eq!(field, wrong, "{name:?}"),
            other => panic!("{name:?}: {other:?}"),
        }
    }
    assert_eq!(realm.state().policy().version, 1, "nothing was written");
    add("Grace", key).unwrap();
}

#[test]
fn lists_have_limits() {
    let realm = Realm::new();
    let entry = AuthorEntry {
        key: realm.author().public(),
        name: "Ada".to_owned(),
        not_after: later(DAY),
    };
    let too_many = realm.dir.update_policy(None, NOW, |policy| {
        policy.authors = vec![entry; limits::AUTHORS_MAX + 1];
    });
    assert!(matches!(
        too_many,
        Err(DirError::Policy(PolicyError::TooMany {
            list: "authors",
            ..
        }))
    ));
    let too_many = realm.dir.revoke(NOW, |list| {
        list.nodes = vec![NodeId::default(); limits::REVOCATIONS_MAX + 1];
    });
    assert!(matches!(
        too_many,
        Err(DirError::Policy(PolicyError::TooMany { list: "nodes", .. }))
    ));
    assert_eq!(realm.state().policy().version, 1, "nothing was written");
    assert_eq!(realm.state().revocations().version, 1);

    // The largest that are allowed fit one frame.
    realm
        .dir
        .revoke(NOW, |list| {
            list.nodes = vec![NodeId::default(); limits::REVOCATIONS_MAX];
            list.releases = vec![Default::default(); limits::REVOCATIONS_MAX];
            list.authors = vec![Default::default(); limits::REVOCATIONS_MAX];
        })
        .unwrap();
    const { assert!(2 * (limits::POLICY_BYTES_MAX + 1024) <= limits::FRAME_BYTES_MAX) };
    let bytes = realm.state().bundle_bytes();
    assert!(PolicyState::accept(&bytes, realm.dir.realm(), NOW).is_ok());
}

#[test]
fn every_changed_bit_of_a_bundle_is_noticed() {
    let realm = Realm::new();
    let bytes = realm.state().bundle_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(
            PolicyState::accept(&changed, realm.dir.realm(), NOW).is_err(),
            "bit {bit}"
        );
    }
    let mut stripped = realm.state().bundle().clone();
    stripped.policy.signature.clear();
    assert_eq!(
        PolicyState::accept(&encode(&stripped), realm.dir.realm(), NOW).unwrap_err(),
        PolicyError::BadSignature { what: "policy" }
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_policy(bytes: Vec<u8>) {
        prop_assert!(PolicyState::accept(&bytes, RealmId::default(), NOW).is_err());
    }
}
