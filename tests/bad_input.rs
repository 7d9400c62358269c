//! Everything that may come in wrong, through the real program: who is to blame, what next, nothing lost.

use std::path::PathBuf;
use std::process::Stdio;

use hearth::task_tools::{self, Bundle, SignOptions};
use hearth_identity::{RealmDir, SigningKey, sign_release};
use hearth_wire::{Digest, RealmId, Release, UnixSeconds};

use crate::support::{Realm, cpu_ticks, descendants, eventually, guest};

/// Long ago, and long from now.
const THEN: UnixSeconds = UnixSeconds(1_000);
const LATER: UnixSeconds = UnixSeconds(40_000_000_000);

fn options() -> SignOptions {
    SignOptions {
        not_before: UnixSeconds(hearth_now() - 3_600),
        not_after: UnixSeconds(hearth_now() + 86_400),
        realm: None,
    }
}

fn hearth_now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// `mersenne` signed with `key`, as a file in the realm's folder.
fn signed(realm: &Realm, name: &str, key: &SigningKey, options: &SignOptions) -> (PathBuf, Bundle) {
    let loaded = task_tools::load(&guest("mersenne")).unwrap();
    let bundle = task_tools::sign(&loaded, key, options).unwrap();
    let path = realm.path(name);
    bundle.write(&path).unwrap();
    (path, bundle)
}

fn author(realm: &Realm) -> SigningKey {
    RealmDir::open(&realm.dir()).unwrap().author_key().unwrap()
}

/// An honest job over the same coordinator goes through.
fn honest_work_goes_on(realm: &Realm) {
    let job = realm.submit_mersenne(&[89], &[]);
    realm.ok(&["wait", &job, "--timeout", "60"]);
}

#[test]
fn every_bad_release_has_its_own_error() {
    let realm = Realm::start();
    let key = author(&realm);
    let stranger = SigningKey::generate().unwrap();
    let input = realm.file("input.json", "{\"exponent\": 31}");
    let (_, good) = signed(&realm, "good.hearth", &key, &options());
    let write = |name: &str, bundle: &Bundle| {
        let path = realm.path(name);
        bundle.write(&path).unwrap();
        path
    };
    let manifest = good.release.parse_manifest().unwrap();

    let unsigned = Release::unsigned(&manifest);
    let unsigned = Bundle {
        release: unsigned,
        ..good.clone()
    };
    let mut forged = good.clone();
    forged.release.signatures[0].bytes[7] ^= 1;
    let mut other = good.component.to_vec();
    *other.last_mut().unwrap() ^= 1;
    let swapped = Bundle {
        component: other.into(),
        ..good.clone()
    };
    let old = SignOptions {
        not_before: THEN,
        not_after: UnixSeconds(THEN.0 + 10),
        ..options()
    };
    let early = SignOptions {
        not_before: UnixSeconds(LATER.0 - 10),
        not_after: LATER,
        ..options()
    };
    let elsewhere = SignOptions {
        realm: Some(RealmId(Digest::of(b"another realm"))),
        ..options()
    };
    let mut whole = std::fs::read(realm.path("good.hearth")).unwrap();
    let torn = realm.path("torn.hearth");
    std::fs::write(&torn, &whole[..100]).unwrap();
    whole[8] = 9;
    let newer = realm.path("newer.hearth");
    std::fs::write(&newer, &whole).unwrap();

    let sign = |name: &str, key: &SigningKey, options: &SignOptions| {
        let (path, _) = signed(&realm, name, key, options);
        path
    };
    let cases = [
        (write("unsigned.hearth", &unsigned), "is not signed"),
        (write("forged.hearth", &forged), "was changed after"),
        (write("swapped.hearth", &swapped), "was signed"),
        (sign("old.hearth", &key, &old), "ended at"),
        (sign("early.hearth", &key, &early), "valid from"),
        (
            sign("foreign.hearth", &stranger, &options()),
            "nobody trusted",
        ),
        (sign("elsewhere.hearth", &key, &elsewhere), "is for realm"),
        (torn, "ends early"),
        (newer, "format 9"),
        (PathBuf::from(&input), "neither"),
    ];
    for (path, wanted) in &cases {
        let message = realm.fails(3, &["submit", path.to_str().unwrap(), &input]);
        assert!(
            message.contains(wanted) && message.contains("next:"),
            "{}: {message}",
            path.display()
        );
    }
    assert_eq!(
        realm.json(&["jobs"])[0]["jobs"].as_array().unwrap().len(),
        0,
        "nothing was submitted"
    );
    honest_work_goes_on(&realm);
}

/// The signature is right and the coordinator has no Wasm engine: nodes find out, before compiling. One
/// volunteer's word is not enough for it; the local host's is.
#[test]
fn a_component_that_imports_more_than_its_manifest_ends_unfit_with_the_list() {
    let realm = Realm::start();
    let _node = realm.volunteer("ada", &[]);
    let (_, mut bundle) = signed(&realm, "good.hearth", &author(&realm), &options());
    let mut manifest = bundle.release.parse_manifest().unwrap();
    manifest
        .imports
        .retain(|import| !import.contains("progress"));
    bundle.release = sign_release(&manifest, &author(&realm)).unwrap();
    let path = realm.path("greedy.hearth");
    bundle.write(&path).unwrap();
    let input = realm.file("input.json", "{\"exponent\": 31}");
    let job = realm.json(&["submit", path.to_str().unwrap(), &input])[0]["job"]
        .as_str()
        .unwrap()
        .to_owned();
    realm.fails(6, &["wait", &job, "--timeout", "60"]);
    let results = realm.json(&["results", &job]);
    let told = results[0]["result"]["metadata"].to_string();
    assert!(told.contains("progress"), "{}", results[0]);
    honest_work_goes_on(&realm);
}

#[test]
fn what_an_owner_declines_runs_elsewhere() {
    let mut realm = Realm::without_local_host();
    let mut picky = realm.volunteer("ada", &[]);
    picky.terminate();
    let file = realm.path("ada").join("hearth.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let nobody = Digest::of(b"somebody else").to_string();
    let nobody = &nobody[..author(&realm).id().to_string().len()];
    let text = text.replace(
        "# allow_authors = []",
        &format!("allow_authors = [\"{nobody}\"]"),
    );
    assert!(text.contains(nobody), "{text}");
    std::fs::write(&file, text).unwrap();
    let _picky = realm.node("ada", &[]);
    eventually("the picky node", || {
        (realm.json(&["nodes"])[0]["nodes"][0]["connected"] == true).then_some(())
    });
    let job = realm.submit_mersenne(&[89, 107], &[]);
    realm.fails(7, &["wait", &job, "--timeout", "2"]);
    // Nobody else is there yet: the work waits, and is done as soon as somebody is.
    let _other = realm.volunteer("grace", &[]);
    realm.ok(&["wait", &job, "--timeout", "60"]);
    for result in realm.json(&["results", &job]) {
        assert_eq!(result["result"]["metadata"]["node_name"], "grace");
    }
    realm.coordinator.take().unwrap().terminate();
}

#[test]
fn a_token_is_good_once_here_and_for_one() {
    let realm = Realm::start();
    let token = realm.path("token");
    let token = token.to_str().unwrap();
    realm.ok(&["invite", "node", "--out", token]);
    let join = |name: &str, realm: &Realm| {
        let dir = realm.path(name);
        let mut command = realm.command(&[
            "node",
            "--join",
            "--yes",
            "--token-file",
            token,
            "--name",
            name,
        ]);
        command
            .arg("--dir")
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    // Two machines race for one token: one gets in and works on, the other is told why not.
    let mut racers = [join("ada", &realm), join("grace", &realm)];
    let (loser, winner) = eventually("a loser", || {
        let ended: Vec<bool> = racers
            .iter_mut()
            .map(|racer| racer.try_wait().unwrap().is_some())
            .collect();
        let loser = ended.iter().position(|ended| *ended)?;
        Some((loser, 1 - loser))
    });
    let [first, second] = racers;
    let (lost, mut won) = if loser == 0 {
        (first, second)
    } else {
        (second, first)
    };
    let output = lost.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && message.contains("next:"),
        "{message}"
    );
    let name = ["ada", "grace"][winner];
    eventually("the winner", || {
        (realm.json(&["nodes"])[0]["nodes"]
            .to_string()
            .contains(name))
        .then_some(())
    });
    assert!(won.try_wait().unwrap().is_none());
    won.kill().unwrap();
    won.wait().unwrap();
    // Presented again by a third, and at another realm.
    let output = join("edsger", &realm).wait_with_output().unwrap();
    let again = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && again.contains("next:"),
        "{again}"
    );
    // Another realm at the same address: the token names its own realm's key.
    let mut realm = realm;
    realm.coordinator.take().unwrap().terminate();
    let other = Realm::start_at(&realm.address);
    let fresh = realm.path("fresh-dir");
    let strange = realm.run(&[
        "node",
        "--join",
        "--yes",
        "--token-file",
        token,
        "--dir",
        fresh.to_str().unwrap(),
    ]);
    let why = String::from_utf8_lossy(&strange.stderr);
    assert!(
        !strange.status.success()
            && why.contains("next:")
            && why.contains("do not accept each other"),
        "a token of another realm opened this one, or failed for another reason: {why}"
    );
    assert!(!fresh.join("node.key").exists() || !fresh.join("node.pem").exists());
    honest_work_goes_on(&other);
}

#[test]
fn tokens_that_are_none_are_told_apart() {
    let realm = Realm::init();
    for (name, text) in [
        ("empty", ""),
        ("words", "this is not a token"),
        ("half", "hearth1-"),
    ] {
        let file = realm.file(name, text);
        let dir = realm.path("node-dir");
        let message = realm.fails(
            3,
            &[
                "node",
                "--join",
                "--yes",
                "--token-file",
                &file,
                "--dir",
                dir.to_str().unwrap(),
            ],
        );
        assert!(message.contains("next:"), "{name}: {message}");
    }
}

#[test]
fn inputs_that_are_too_large_are_refused_before_they_travel() {
    let realm = Realm::start();
    let path = realm.path("huge");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(hearth_wire::limits::INPUT_BYTES_MAX + 1)
        .unwrap();
    let component = guest("mersenne");
    let message = realm.fails(
        3,
        &[
            "submit",
            component.to_str().unwrap(),
            path.to_str().unwrap(),
        ],
    );
    assert!(
        message.contains("more than") && message.contains("next:"),
        "{message}"
    );
    let message = realm.fails(
        3,
        &[
            "submit",
            component.to_str().unwrap(),
            "--lines",
            "/dev/null",
        ],
    );
    assert!(
        message.contains("no inputs") && message.contains("next:"),
        "{message}"
    );
    honest_work_goes_on(&realm);
}

#[test]
fn runners_killed_from_outside_cost_nothing_but_time() {
    let realm = Realm::without_local_host();
    let node = realm.volunteer("ada", &[]);
    let job = realm.submit_mersenne(&[4253, 4423, 4259], &[]);
    for _ in 0..2 {
        eventually("the end of a process at work", || {
            let children = descendants(node.id());
            let victim = children.into_iter().find(|pid| cpu_ticks(*pid) > 10)?;
            let kill = std::process::Command::new("kill")
                .args(["-9", &victim.to_string()])
                .status();
            kill.unwrap().success().then_some(())
        });
    }
    let waited = realm.run(&["wait", &job, "--timeout", "80"]);
    let told = realm.run(&["results", &job]);
    assert!(
        waited.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&told.stdout),
        realm.said("ada")
    );
    let results = realm.json(&["results", &job]);
    assert_eq!(results.len(), 3);
    assert!(
        results
            .iter()
            .all(|result| result["result"]["metadata"]["outcome"] == "returned")
    );
}

#[test]
fn a_revoked_node_is_out_and_told() {
    let realm = Realm::start();
    let mut node = realm.volunteer("ada", &[]);
    let id = realm.json(&["nodes"])[0]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|node| node["name"] == "ada")
        .unwrap()["node_id"]
        .as_str()
        .unwrap()
        .to_owned();
    realm.ok(&["nodes", "--revoke", &id]);
    eventually("the node's end", || (!node.is_running()).then_some(()));
    assert!(
        realm.said("ada").contains("revoked"),
        "{}",
        realm.said("ada")
    );
    let mut again = realm.node("ada", &[]);
    eventually("the node's end", || (!again.is_running()).then_some(()));
    honest_work_goes_on(&realm);
}
