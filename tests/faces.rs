//! The command line as people and programs meet it.

use std::process::Command;

use serde_json::Value;

use crate::support::{HEARTH, Realm};

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
        "node",
        "task",
        "run",
        "submit",
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
