//! An author far from the repository: new, build, check, run, sign.

use std::io::BufRead;
use std::process::Command;

use hearth::task_tools::{self, Bundle, SignOptions};
use hearth_identity::{RealmDir, SigningKey, sign_release};
use hearth_wire::{Digest, RealmId, Release, ReleaseId, UnixSeconds};
use serde_json::Value;

use crate::support::{HEARTH, Process, Realm};

/// `hearth task new` outside of the repository, with a program that was moved away from it.
#[test]
fn an_author_needs_only_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("hearth");
    std::fs::copy(HEARTH, &program).unwrap();
    let task = folder.path().join("hello");
    let hearth = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).current_dir(folder.path());
        // What the checkout's own cargo run has set must not help.
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") && name != "CARGO_HOME")
        {
            command.env_remove(name);
        }
        command
            .env_remove("HEARTH_REALM")
            .env("XDG_DATA_HOME", folder.path().join("user"));
        // A child that another test starts just now may hold the copy open for a moment.
        let output = crate::support::eventually("the program", || match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => None,
            output => Some(output.unwrap()),
        });
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "hearth {args:?}\n{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };
    hearth(&["task", "new", "hello"]);
    let embedded = std::fs::read_to_string(task.join("Cargo.toml")).unwrap();
    assert!(!embedded.contains(env!("CARGO_MANIFEST_DIR")), "{embedded}");
    let built: Value =
        serde_json::from_str(&hearth(&["--json", "task", "build", "hello"])).unwrap();
    let component = built["component"].as_str().unwrap();
    let component = folder.path().join(component);
    let imports = built["imports"].as_array().unwrap();
    assert!(
        imports
            .iter()
            .all(|import| import.as_str().unwrap().starts_with("hearth:task/")),
        "{built}"
    );
    hearth(&["task", "check", component.to_str().unwrap()]);
    let sample = task.join("sample-input.json");
    let ran: Value = serde_json::from_str(&hearth(&[
        "--json",
        "run",
        "hello",
        sample.to_str().unwrap(),
    ]))
    .unwrap();
    assert_eq!(ran["outcome"], "returned", "{ran}");
    let once: Value = serde_json::from_str(&hearth(&[
        "--json",
        "task",
        "run",
        component.to_str().unwrap(),
        sample.to_str().unwrap(),
    ]))
    .unwrap();
    assert_eq!(once["digest"], ran["digest"]);
    let signed: Value =
        serde_json::from_str(&hearth(&["--json", "task", "sign", "hello"])).unwrap();
    let release = folder.path().join(signed["file"].as_str().unwrap());
    let again: Value = serde_json::from_str(&hearth(&[
        "--json",
        "run",
        release.to_str().unwrap(),
        sample.to_str().unwrap(),
    ]))
    .unwrap();
    assert_eq!(again["digest"], ran["digest"]);
}

#[test]
fn an_invited_author_submits_once_the_owner_allows_its_key() {
    let realm = Realm::start();
    let token = realm.path("author.token");
    realm.ok(&["invite", "author", "--out", token.to_str().unwrap()]);
    let theirs = realm.path("theirs");
    let theirs = theirs.to_str().unwrap();
    let joined = realm.json(&[
        "--realm",
        theirs,
        "join",
        "--name",
        "grace",
        "--token-file",
        token.to_str().unwrap(),
    ]);
    let key = joined[0]["author_key"].as_str().unwrap();
    let input = realm.file("input.json", "{\"exponent\": 31}");
    let component = crate::support::guest("mersenne");
    let submit = [
        "--realm",
        theirs,
        "submit",
        component.to_str().unwrap(),
        &input,
    ];
    let refused = realm.fails(3, &submit);
    assert!(refused.contains("author"), "{refused}");
    realm.ok(&["author", "add", key, "--name", "grace", "--no-passphrase"]);
    let job = crate::support::eventually("the new policy", || {
        let args: Vec<_> = ["--json"].into_iter().chain(submit).collect();
        let output = realm.run(&args);
        let document: Value = serde_json::from_slice(&output.stdout).ok()?;
        document["job"].as_str().map(str::to_owned)
    });
    realm.ok(&["--realm", theirs, "wait", &job, "--timeout", "60"]);
}

/// A release of `mersenne` by `key`, changed by `edit` before it is written.
fn release(
    realm: &Realm,
    name: &str,
    key: &SigningKey,
    options: &SignOptions,
    edit: impl FnOnce(&mut Bundle),
) -> (String, ReleaseId) {
    let loaded = task_tools::load(&crate::support::guest("mersenne")).unwrap();
    let mut bundle = task_tools::sign(&loaded, key, options).unwrap();
    edit(&mut bundle);
    let path = realm.path(&format!("{name}.hearth"));
    bundle.write(&path).unwrap();
    (path.to_str().unwrap().to_owned(), bundle.release.id())
}

fn now() -> UnixSeconds {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    UnixSeconds(since.as_secs())
}

#[test]
fn home_runs_only_what_a_trusted_author_signed() {
    let realm = Realm::init();
    let dir = RealmDir::open(&realm.dir()).unwrap();
    let (author, stranger) = (dir.author_key().unwrap(), SigningKey::generate().unwrap());
    let input = realm.file("input.json", "{\"exponent\": 31}");
    let refused = |file: &str, why: &str| {
        let message = realm.fails(3, &["run", "--offline", file, &input]);
        assert!(
            message.contains(why) && message.contains("next:"),
            "{why}: {message}"
        );
        // Tools of authors verify nothing, and say so.
        realm.ok(&["task", "run", file, &input]);
    };
    let valid = SignOptions {
        not_before: UnixSeconds(0),
        not_after: UnixSeconds(u64::MAX),
        realm: None,
    };
    let (good, _) = release(&realm, "good", &author, &valid, |_| ());
    realm.ok(&["run", "--offline", &good, &input]);
    let (foreign, _) = release(&realm, "foreign", &stranger, &valid, |_| ());
    refused(&foreign, "nobody trusted here");
    let (unsigned, _) = release(&realm, "unsigned", &author, &valid, |bundle| {
        bundle.release.signatures.clear();
    });
    refused(&unsigned, "not signed");
    let (tampered, _) = release(&realm, "tampered", &author, &valid, |bundle| {
        let mut manifest = bundle.release.parse_manifest().unwrap();
        manifest.limits.fuel += 1;
        let signatures = std::mem::take(&mut bundle.release.signatures);
        bundle.release = Release::unsigned(&manifest);
        bundle.release.signatures = signatures;
    });
    refused(&tampered, "changed after");
    let (greedy, _) = release(&realm, "greedy", &author, &valid, |bundle| {
        let mut manifest = bundle.release.parse_manifest().unwrap();
        manifest
            .imports
            .retain(|import| !import.contains("progress"));
        bundle.release = sign_release(&manifest, &author).unwrap();
    });
    refused(&greedy, "not granted");
    let ended = SignOptions {
        not_after: UnixSeconds(now().0 - 60),
        ..valid
    };
    let (ended, _) = release(&realm, "ended", &author, &ended, |_| ());
    refused(&ended, "the release ended");
    let elsewhere = SignOptions {
        realm: Some(RealmId(Digest::of(b"another"))),
        ..valid
    };
    let (elsewhere, _) = release(&realm, "elsewhere", &author, &elsewhere, |_| ());
    refused(&elsewhere, "for realm");
    let newer = SignOptions {
        not_after: UnixSeconds(now().0 + 3600),
        ..valid
    };
    let (revoked, id) = release(&realm, "revoked", &author, &newer, |_| ());
    dir.revoke(now(), |list| list.releases.push(id)).unwrap();
    refused(&revoked, "revoked");
    realm.ok(&["run", "--offline", &good, &input]);
}

#[test]
fn home_goes_on_when_the_policy_has_ended() {
    let realm = Realm::init();
    let dir = RealmDir::open(&realm.dir()).unwrap();
    let long_ago = UnixSeconds(now().0 - 2 * hearth_identity::POLICY_SECONDS);
    dir.update_policy(None, long_ago, |_| ()).unwrap();
    let valid = SignOptions {
        not_before: UnixSeconds(0),
        not_after: UnixSeconds(u64::MAX),
        realm: None,
    };
    let (file, _) = release(&realm, "good", &dir.author_key().unwrap(), &valid, |_| ());
    let input = realm.file("input.json", "{\"exponent\": 31}");
    let output = realm.run(&["run", "--offline", &file, &input]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("policy ended"), "{said}");
}

#[test]
fn the_personal_key_is_trusted_on_this_machine_only() {
    let (here, there) = (Realm::init(), Realm::init());
    let component = crate::support::guest("mersenne");
    let component = component.to_str().unwrap();
    let input = here.file("input.json", "{\"exponent\": 31}");
    here.ok(&["run", "--offline", component, &input]);
    let key = here.path("user/hearth/author.key");
    let key = SigningKey::load(&key).unwrap();
    let valid = SignOptions {
        not_before: UnixSeconds(0),
        not_after: UnixSeconds(u64::MAX),
        realm: None,
    };
    let (file, _) = release(&here, "mine", &key, &valid, |_| ());
    here.ok(&["run", "--offline", &file, &input]);
    there.fails(3, &["run", "--offline", &file, &input]);
}

/// Exponents whose tests take seconds in all, so that there is a middle.
const LONG: [u64; 12] = [
    4253, 4423, 4259, 4261, 4271, 4273, 4283, 4289, 4297, 4327, 4337, 4339,
];

#[test]
fn run_takes_the_rest_home_when_the_coordinator_dies() {
    takes_the_rest_home(Process::kill);
}

/// For a while it answers that it cannot serve any more.
#[test]
fn run_takes_the_rest_home_when_the_coordinator_stops() {
    takes_the_rest_home(|coordinator| {
        coordinator.terminate();
    });
}

fn takes_the_rest_home(end: impl FnOnce(&mut Process)) {
    let mut realm = Realm::start();
    let lines: String = LONG
        .iter()
        .map(|exponent| format!("{{\"exponent\": {exponent}}}\n"))
        .collect();
    let inputs = realm.file("exponents.jsonl", &lines);
    let component = crate::support::guest("mersenne");
    let component = component.to_str().unwrap();
    let mut run = realm.command(&["--json", "run", component, "--lines", &inputs]);
    let mut run = run
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = std::io::BufReader::new(run.stdout.take().unwrap()).lines();
    let mut results: Vec<Value> = Vec::new();
    let mut take = |results: &mut Vec<Value>| match printed.next() {
        Some(line) => {
            results.push(serde_json::from_str(&line.unwrap()).unwrap());
            true
        }
        None => false,
    };
    assert!(take(&mut results), "a first result");
    end(realm.coordinator.as_mut().unwrap());
    while take(&mut results) {}
    let output = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("went away"), "{said}");
    let by_index = |results: &[Value]| {
        let pairs = results.iter().map(|result| {
            let index = result["index"].as_u64().unwrap();
            (index, result["digest"].as_str().unwrap().to_owned())
        });
        pairs.collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(results.len(), LONG.len(), "none twice, none missing");
    let home = realm.json(&["run", "--offline", component, "--lines", &inputs]);
    assert_eq!(by_index(&results), by_index(&home));
    let at_home =
        |result: &&Value| result["processed_by"] == "local" && result["task_id"].is_null();
    assert!(results.iter().filter(at_home).count() < LONG.len());
}

#[test]
fn a_deadline_holds_at_home_too() {
    let realm = Realm::init();
    let lines = "{\"exponent\": 9689}\n".repeat(24);
    let inputs = realm.file("exponents.jsonl", &lines);
    let component = crate::support::guest("mersenne");
    let run = [
        "run",
        "--offline",
        "--deadline",
        "2",
        component.to_str().unwrap(),
        "--lines",
        &inputs,
    ];
    let message = realm.fails(6, &run);
    assert!(message.contains("of 24 tasks have no output"), "{message}");
}
