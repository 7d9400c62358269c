//! The command line as people and programs meet it.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use hearth_identity::{NodeDir, RealmDir, certificate_pem, verify_invitation};
use hearth_wire::{Role, UnixSeconds};
use serde_json::Value;

use crate::support::{HEARTH, Realm, eventually, guest};

#[test]
fn every_command_explains_itself() {
    let help = |args: &[&str]| {
        let output = Command::new(HEARTH).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let all = help(&["--help"]);
    assert!(all.contains("Exit codes:"));
    let commands = [
        "init",
        "coordinator",
        "invite",
        "join",
        "author",
        "policy",
        "revoke",
        "token",
        "node",
        "task",
        "run",
        "submit",
        "sync",
        "jobs",
        "results",
        "cancel",
        "wait",
        "nodes",
        "modes",
        "demo",
        "completions",
        "man",
    ];
    for command in commands {
        assert!(
            all.lines()
                .any(|line| line.trim_start().starts_with(command)),
            "{command} is not in --help"
        );
        help(&[command, "--help"]);
    }
    for command in ["new", "build", "check", "run", "sign"] {
        help(&["task", command, "--help"]);
    }
    assert!(!all.contains("__runner"), "hidden commands stay hidden");
}

#[test]
fn completions_and_man_pages_are_made() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(HEARTH)
            .args(["completions", shell])
            .output()
            .unwrap();
        assert!(output.status.success() && output.stdout.len() > 1000);
    }
    let made = Command::new(HEARTH)
        .arg("man")
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(made.success());
    assert!(folder.path().join("hearth.1").exists() && folder.path().join("hearth-run.1").exists());
}

#[test]
fn exit_codes_and_next_steps_are_as_documented() {
    let realm = Realm::init();
    let component = crate::support::guest("mersenne");
    let component = component.to_str().unwrap();
    let wrong_line = realm.run(&["run"]);
    assert_eq!(wrong_line.status.code(), Some(2));
    let missing = realm.fails(3, &["run", component, "no-such-file"]);
    assert!(missing.contains("no-such-file"), "{missing}");
    let empty = realm.fails(3, &["run", component]);
    assert!(empty.contains("next:"), "{empty}");
    let unreachable = realm.fails(4, &["jobs"]);
    assert!(unreachable.contains("hearth coordinator"), "{unreachable}");
    let again = realm.fails(3, &["init", "--no-passphrase"]);
    assert!(again.contains("holds a realm"), "{again}");
    let nowhere = realm.fails(3, &["--realm", "/nonexistent/realm", "jobs"]);
    assert!(nowhere.contains("hearth init"), "{nowhere}");
    // Two is not an exponent that the Lucas-Lehmer test takes on: four is not prime.
    let input = realm.file("input.json", "{\"exponent\": 4}");
    let refused = realm.fails(6, &["run", "--offline", component, &input]);
    assert!(refused.contains("no output"), "{refused}");
}

#[test]
fn an_observer_sees_and_may_not_touch() {
    let realm = Realm::start();
    let token = realm.path("observer.token");
    realm.ok(&["invite", "observer", "--out", token.to_str().unwrap()]);
    let theirs = realm.path("theirs");
    let theirs = theirs.to_str().unwrap();
    realm.ok(&[
        "--realm",
        theirs,
        "join",
        "--token-file",
        token.to_str().unwrap(),
    ]);
    let job = realm.submit_mersenne(&[89], &[]);
    realm.ok(&["--realm", theirs, "jobs"]);
    realm.ok(&["--realm", theirs, "nodes"]);
    realm.fails(5, &["--realm", theirs, "cancel", &job]);
    realm.fails(5, &["--realm", theirs, "invite", "node"]);
}

#[test]
fn configuration_files_are_strict() {
    let realm = Realm::init();
    let path = realm.dir().join("hearth.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\nlocal_cors = 2\n")).unwrap();
    let message = realm.fails(3, &["coordinator"]);
    assert!(
        message.contains("local_cors") && message.contains("next:"),
        "{message}"
    );
}

#[test]
fn a_node_leaves_nothing_behind() {
    let realm = Realm::start();
    let mut node = realm.volunteer("ada", &[]);
    let dir = realm.path("ada");
    let dir = dir.to_str().unwrap();
    node.terminate();
    realm.ok(&["node", "--leave", "--yes", "--dir", dir]);
    assert!(!realm.path("ada").exists());
    let message = realm.fails(3, &["node", "--dir", dir]);
    assert!(message.contains("--join"), "{message}");
}

#[test]
fn a_paused_node_takes_no_work_until_resumed() {
    let realm = Realm::without_local_host();
    let _node = realm.volunteer("ada", &[]);
    let dir = realm.path("ada");
    let dir = dir.to_str().unwrap();
    realm.ok(&["node", "--pause", "--dir", dir]);
    let slots = |wanted: u64| {
        crate::support::eventually("the node's slots", || {
            let nodes = realm.json(&["nodes"])[0]["nodes"].clone();
            (nodes[0]["slots"].as_u64()? == wanted).then_some(())
        });
    };
    slots(0);
    let job = realm.submit_mersenne(&[89], &[]);
    realm.fails(7, &["wait", &job, "--timeout", "2"]);
    realm.ok(&["node", "--resume", "--dir", dir]);
    slots(1);
    realm.ok(&["wait", &job, "--timeout", "60"]);
}

#[test]
fn the_example_embeds_a_local_host() {
    let lines = include_str!("../examples/embed.rs").lines().count();
    assert!(lines < 30, "{lines} lines");
    let folder = crate::support::HEARTH.rsplit_once('/').unwrap().0;
    let example = std::path::Path::new(folder).join("examples/embed");
    // `cargo test` builds it beside the tests, unless it was told to build some of them only.
    if !example.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "-p", "hearth", "--example", "embed"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success());
    }
    let output = Command::new(&example)
        .arg(crate::support::guest("keywords"))
        .arg("Rust rust hearth hearth hearth")
        .output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", example.display()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("hearth"), "{text}");
}

#[test]
fn the_demo_shows_itself_in_a_small_form() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = crate::support::guest("render");
    let output = Command::new(HEARTH)
        .args(["demo", "--quick", "--tasks"])
        .arg(tasks.parent().unwrap())
        .arg("--out")
        .arg(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("equal, tile by tile") && text.contains("kill -9"),
        "{text}"
    );
    let picture = std::path::Path::new(text.trim_end().lines().last().unwrap()).to_owned();
    assert!(
        picture.exists(),
        "the last line is the picture's path: {text}"
    );
    let summary: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("demo.json")).unwrap()).unwrap();
    assert_eq!(summary["digests_equal"], true);
    assert!(summary["nodes"].as_array().unwrap().len() >= 2, "{summary}");
    assert!(
        !folder.path().join("realm").exists(),
        "nothing is left behind"
    );
}

/// A document on standard error with the kind, the next step and the exit code.
#[test]
fn errors_are_documents_for_programs() {
    let realm = Realm::init();
    let message = realm.fails(4, &["--json", "jobs"]);
    let error: Value = serde_json::from_str(message.trim()).unwrap();
    let error = &error["error"];
    assert_eq!(error["kind"], "unreachable");
    assert_eq!(error["exit_code"], 4);
    assert!(
        error["next"]
            .as_str()
            .unwrap()
            .contains("hearth coordinator")
    );
    assert!(!error["message"].as_str().unwrap().is_empty());
    let message = realm.fails(2, &["--json", "jbos"]);
    let error: Value = serde_json::from_str(message.trim()).unwrap();
    assert_eq!(error["error"]["kind"], "usage", "{message}");
}

/// One request to the listener without TLS; the answer's status and body.
fn plain(address: &str, token: Option<&str>, path: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let bearer = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\n{bearer}Connection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[test]
fn a_token_opens_the_api_of_this_machine_until_it_is_removed() {
    let mut realm = Realm::init();
    realm.start_coordinator(&["--no-local-host", "--api", "127.0.0.1:0"]);
    let ready = std::fs::read_to_string(realm.path("ready.json")).unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    let address = ready["api"].as_str().unwrap();
    let made = &realm.json(&["token", "add", "laptop", "--role", "observer"])[0];
    let token = made["token"].as_str().unwrap();
    let listed = &realm.json(&["token", "list"])[0];
    assert_eq!(listed[0]["name"], "laptop");
    assert_eq!(listed[0]["role"], "observer");
    assert!(!listed.to_string().contains(token), "{listed}");
    assert_eq!(plain(address, None, "/v1/jobs").0, 401);
    assert_eq!(plain(address, Some("hearth-token-x"), "/v1/jobs").0, 401);
    let (status, answer) = plain(address, Some(token), "/v1/jobs");
    assert_eq!(status, 200, "{answer}");
    realm.ok(&["token", "remove", "laptop"]);
    assert_eq!(plain(address, Some(token), "/v1/jobs").0, 401);
    realm.fails(3, &["token", "remove", "laptop"]);
    realm.fails(3, &["token", "add", "laptop", "--role", "node"]);
}

#[test]
fn the_root_key_signs_from_where_it_was_moved() {
    let realm = Realm::init();
    let (dir, away) = (realm.dir(), realm.path("away.key"));
    std::fs::rename(dir.join("root.key"), &away).unwrap();
    let missing = realm.fails(3, &["policy", "renew", "--no-passphrase"]);
    assert!(missing.contains("--root-key"), "{missing}");
    let before = &realm.json(&["policy", "show"])[0];
    let away = away.to_str().unwrap();
    let after = &realm.json(&["policy", "renew", "--root-key", away])[0];
    assert_eq!(
        after["version"].as_u64().unwrap(),
        before["version"].as_u64().unwrap() + 1
    );
    let key = "a".repeat(64);
    let trusted = &realm.json(&["policy", "trust", &key, "--root-key", away])[0];
    assert_eq!(trusted["trusted_nodes"][0], key.as_str());
    let trusted = &realm.json(&["policy", "distrust", &key, "--root-key", away])[0];
    assert_eq!(trusted["trusted_nodes"], serde_json::json!([]));
    let other = Realm::init();
    let theirs = other.dir().join("root.key");
    let refused = realm.fails(
        3,
        &["policy", "renew", "--root-key", theirs.to_str().unwrap()],
    );
    assert!(refused.contains("next:"), "{refused}");
}

#[test]
fn a_revoked_release_and_author_run_nowhere() {
    let realm = Realm::init();
    let input = realm.file("input.json", "{\"exponent\": 31}");
    let component = guest("mersenne");
    let file = realm.path("mersenne.hearth");
    let file = file.to_str().unwrap();
    realm.ok(&["task", "sign", component.to_str().unwrap(), "--out", file]);
    realm.ok(&["run", "--offline", file, &input]);
    realm.ok(&["revoke", file]);
    let refused = realm.fails(3, &["run", "--offline", file, &input]);
    assert!(refused.contains("revoked"), "{refused}");
    realm.ok(&[
        "task",
        "sign",
        component.to_str().unwrap(),
        "--out",
        file,
        "--days",
        "7",
    ]);
    realm.ok(&["run", "--offline", file, &input]);
    let author = realm.json(&["author", "list"])[0][0]["key_id"].clone();
    let authors = &realm.json(&["author", "revoke", author.as_str().unwrap()])[0];
    assert_eq!(authors[0]["revoked"], true);
    let refused = realm.fails(3, &["run", "--offline", file, &input]);
    assert!(refused.contains("revoked"), "{refused}");
    realm.fails(3, &["author", "revoke", &"b".repeat(64)]);
}

#[test]
fn a_join_that_nobody_agreed_to_leaves_nothing_behind() {
    let realm = Realm::start();
    let token = realm.path("ada.token");
    let token = token.to_str().unwrap();
    realm.ok(&["invite", "node", "--out", token]);
    let dir = realm.path("ada");
    let join = [
        "node",
        "--join",
        "--token-file",
        token,
        "--dir",
        dir.to_str().unwrap(),
    ];
    // A session of its own has no terminal, and standard input is none.
    let mut alone = Command::new("setsid");
    alone.arg("--wait").arg(HEARTH).args(join);
    let output = alone.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("--yes"), "{said}");
    assert!(!dir.exists(), "nothing was asked, nothing was made");
    // The invitation was not spent on it.
    let mut node = realm.command(&join);
    node.args(["--yes", "--cores", "1", "--capability", "gpu"]);
    let mut node = node.stderr(Stdio::null()).spawn().unwrap();
    eventually("the volunteer", || {
        let list = &realm.json(&["nodes"])[0]["nodes"];
        let mut nodes = list.as_array()?.iter();
        nodes.find(|node| node["kind"] != "local").map(|_| ())
    });
    node.kill().unwrap();
    node.wait().unwrap();
    let kept = std::fs::read_to_string(dir.join("hearth.toml")).unwrap();
    assert!(kept.contains("\ncapabilities = [\"gpu\"]"), "{kept}");
    assert!(kept.contains("\ncores = 1"), "{kept}");
    // As if the power had gone while the question stood there: it is asked again.
    std::fs::remove_file(dir.join("hearth.toml")).unwrap();
    let mut node = realm.command(&join);
    let mut node = node.arg("--yes").stderr(Stdio::null()).spawn().unwrap();
    eventually("the limits", || {
        dir.join("hearth.toml").exists().then_some(())
    });
    node.kill().unwrap();
    node.wait().unwrap();
    let joined = realm.fails(3, &join);
    assert!(joined.contains("joined a realm already"), "{joined}");
}

#[test]
fn joining_says_who_is_to_blame() {
    let mut realm = Realm::start();
    let token = |name: &str| {
        let path = realm.path(name);
        realm.ok(&["invite", "observer", "--out", path.to_str().unwrap()]);
        path.to_str().unwrap().to_owned()
    };
    let (used, unused) = (token("used"), token("unused"));
    let join = |realm: &Realm, dir: &str, token: &str, code: i32| {
        let dir = realm.path(dir);
        let said = realm.fails(
            code,
            &[
                "--realm",
                dir.to_str().unwrap(),
                "join",
                "--token-file",
                token,
            ],
        );
        assert!(said.contains("next:"), "{said}");
        dir
    };
    let first = realm.path("first");
    realm.ok(&[
        "--realm",
        first.to_str().unwrap(),
        "join",
        "--token-file",
        &used,
    ]);
    let second = join(&realm, "second", &used, 5);
    assert!(!second.exists(), "a plain no leaves nothing behind");
    let not_one = realm.file("not-one", "hello");
    join(&realm, "third", &not_one, 3);
    realm.coordinator.as_mut().unwrap().kill();
    join(&realm, "fourth", &unused, 4);
}

#[test]
fn members_renew_their_certificates() {
    let realm = Realm::start();
    let token = realm.path("observer.token");
    let token = token.to_str().unwrap();
    realm.ok(&["invite", "observer", "--out", token]);
    let theirs = realm.path("theirs");
    let name = theirs.to_str().unwrap();
    realm.ok(&["--realm", name, "join", "--token-file", token]);
    // As if it had joined three quarters of a certificate's life ago.
    let now = UnixSeconds(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs());
    let then = UnixSeconds(now.0 - hearth_identity::CLIENT_SECONDS / 4 * 3);
    let joined = NodeDir::open(&theirs).unwrap();
    let csr = joined.key().csr_pem().unwrap();
    let owner = RealmDir::open(&realm.dir()).unwrap();
    let invitation = owner.invite(Role::Observer, 60, then).unwrap();
    let invitation = verify_invitation(&invitation, Some(owner.realm()), then).unwrap();
    let policy = owner.policy_state().unwrap();
    let authority = owner.authority().unwrap();
    let granted = authority
        .grant(&invitation, &policy, &csr, "old", then)
        .unwrap();
    std::fs::write(
        theirs.join("node.pem"),
        certificate_pem(&granted.certificate),
    )
    .unwrap();
    assert!(NodeDir::open(&theirs).unwrap().needs_renewal(now));
    realm.ok(&["--realm", name, "jobs"]);
    let renewed = NodeDir::open(&theirs).unwrap();
    assert!(!renewed.needs_renewal(now));
}

#[test]
fn a_demo_without_components_says_where_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(HEARTH)
        .args(["demo", "--tasks"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cargo xtask guests"), "{said}");
}
