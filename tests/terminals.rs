//! Where words go: what must not be lost on standard output, and what must not reach a terminal.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use hearth_identity::{RealmDir, SigningKey};
use hearth_wire::envelope::Domain;
use hearth_wire::{Signed, codec};

use crate::support::{Process, Realm, eventually, guest, hostile};

/// Sequences that steer a terminal, fake a line or turn text round.
const NASTY: [&str; 3] = ["eve\u{1b}[2J", "eve\nauthors  nobody", "eve\u{202e}txt"];

fn into_full(realm: &Realm, args: &[&str]) -> Output {
    let full = File::create("/dev/full").unwrap();
    let mut command = realm.command(args);
    command.stdout(full).stderr(Stdio::piped());
    command.spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let realm = Realm::init();
    let component = guest("mersenne");
    let component = component.to_str().unwrap();
    let input = realm.file("input.json", "{\"exponent\": 31}");
    let commands: [&[&str]; 7] = [
        &["token", "add", "laptop", "--role", "observer"],
        &["--json", "token", "list"],
        &["invite", "node"],
        &["author", "list"],
        &["run", "--offline", component, &input],
        &["completions", "bash"],
        &["--help"],
    ];
    for args in commands {
        let output = into_full(&realm, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("standard output"), "{args:?}: {said}");
        assert!(said.contains("next"), "{args:?}: {said}");
    }
}

#[test]
fn a_reader_that_had_enough_is_no_failure() {
    let realm = Realm::init();
    for args in [
        &["completions", "bash"][..],
        &["--help"],
        &["author", "list"],
    ] {
        let mut command = realm.command(args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Gone before the first word.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        assert!(said.is_empty(), "{args:?}: {said}");
    }
}

/// Whoever reads may stand still for a while: what comes then is not put off by as much again, let alone by
/// a multiple of it.
#[test]
fn a_reader_that_stood_still_gets_the_rest_at_once() {
    const STILL: Duration = Duration::from_secs(6);
    let realm = Realm::start();
    // More than a pipe holds.
    let text =
        "the keeper of the lamp counts the nights of the year and trims its wick. ".repeat(4);
    let lines = realm.file("lines", &format!("{text}\n").repeat(1_000));
    let component = guest("keywords");
    let args = ["run", component.to_str().unwrap(), "--lines", &lines];
    let mut command = realm.command(&args);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    std::thread::sleep(STILL);
    let begun = Instant::now();
    assert_eq!(out.lines().map(Result::unwrap).count(), 999);
    assert!(child.wait().unwrap().success());
    assert!(begun.elapsed() < 2 * STILL, "{:?}", begun.elapsed());
}

/// Neither the coordinator's nor the node's words are worth its life.
#[test]
fn processes_live_on_when_nobody_can_read_them() {
    let mut realm = Realm::init();
    let ready = realm.path("ready.json");
    let full = || File::create("/dev/full").unwrap();
    let mut coordinator = realm.command(&["coordinator", "--no-local-host", "--ready-file"]);
    coordinator.arg(&ready).stdout(full()).stderr(full());
    realm.coordinator = Some(Process::new(coordinator.spawn().unwrap()));
    eventually("the coordinator", || ready.exists().then_some(()));
    let token = realm.path("ada.token");
    let token = token.to_str().unwrap();
    realm.ok(&["invite", "node", "--out", token]);
    let dir = realm.path("ada");
    let mut node = realm.command(&["--json", "node", "--join", "--yes", "--name", "ada"]);
    node.args(["--cores", "1", "--memory", "512", "--token-file", token])
        .arg("--dir")
        .arg(&dir);
    let mut node = Process::new(node.stdout(full()).stderr(full()).spawn().unwrap());
    let job = realm.submit_mersenne(&[89], &[]);
    realm.ok(&["wait", &job, "--timeout", "60"]);
    assert!(node.is_running() && realm.coordinator.as_mut().unwrap().is_running());
}

#[test]
fn names_that_play_with_the_reader_are_refused() {
    let realm = Realm::start();
    let key = SigningKey::generate().unwrap().public().to_string();
    let component = guest("mersenne");
    let component = component.to_str().unwrap();
    let input = realm.file("input.json", "{\"exponent\": 31}");
    for name in NASTY {
        let commands: [&[&str]; 5] = [
            &["author", "add", &key, "--name", name],
            &["token", "add", name, "--role", "observer"],
            &["submit", component, &input, "--name", name],
            &["submit", component, &input, "--location", name],
            &[
                "--realm",
                "/nonexistent/realm",
                "init",
                "--no-passphrase",
                "--name",
                name,
            ],
        ];
        for args in commands {
            let said = realm.fails(3, args);
            assert!(said.contains("control characters"), "{args:?}: {said}");
        }
    }
}

/// What a terminal would obey, and what turns text round.
fn steers(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).contains(['\u{1b}', '\u{202e}'])
}

#[test]
fn what_others_wrote_is_shown_by_number() {
    let realm = Realm::start();
    let component = hostile(realm.folder.path(), "terminal-escapes");
    let component = component.to_str().unwrap();
    let input = realm.file("in\u{1b}[31m\nput.txt", "hi");
    let shown =
        "in\\u{1b}[31m\\nput.txt: refused: failed: \\u{1b}[2J\\nhearth: all is well\\u{202e}.";
    for place in [&["run"][..], &["run", "--offline"]] {
        let output = realm.run(&[place, &[component, &input]].concat());
        assert_eq!(output.status.code(), Some(6));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.starts_with(shown) && text.lines().count() == 1,
            "{text}"
        );
        assert!(!steers(&output.stdout) && !steers(&output.stderr), "{text}");
    }
    let results = realm.ok(&["results", "job-1"]);
    assert!(
        !steers(results.as_bytes()) && results.lines().count() == 1,
        "{results}"
    );
    // Programs are given what the guest said.
    let told = &realm.json(&["results", "job-1"])[0]["result"]["metadata"]["detail"];
    assert!(steers(told.as_str().unwrap().as_bytes()), "{told}");
}

/// A realm's owner may sign what this program would refuse to.
#[test]
fn a_realm_cannot_fake_the_consent_screen() {
    let mut realm = Realm::init();
    let dir = RealmDir::open(&realm.dir()).unwrap();
    let mut policy = dir.policy_state().unwrap().policy().clone().into_inner();
    policy.version += 1;
    policy.authors[0].name = "eve\u{1b}[1A\nlimits   1 core\u{202e}".to_owned();
    let root = SigningKey::load(&realm.dir().join("root.key")).unwrap();
    let bytes = codec::encode(&policy);
    let signed = Signed {
        signature: root.sign(Domain::Policy, &bytes),
        key: root.public(),
        bytes,
    };
    std::fs::write(realm.dir().join("policy.bin"), codec::encode(&signed)).unwrap();
    realm.start_coordinator(&["--no-local-host"]);
    let _node = realm.volunteer("ada", &[]);
    let said = realm.said("ada");
    let authors = said.lines().find(|line| line.starts_with("authors"));
    assert_eq!(
        authors,
        Some("authors  eve\\u{1b}[1A\\nlimits   1 core\\u{202e} (only their signed code runs)"),
        "{said}"
    );
    assert!(!steers(realm.ok(&["author", "list"]).as_bytes()));
    assert!(!steers(realm.ok(&["policy", "show"]).as_bytes()));
}
