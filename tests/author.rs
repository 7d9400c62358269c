//! An author far from the repository: new, build, check, run, sign.

use std::process::Command;

use serde_json::Value;

use crate::support::{HEARTH, Realm};

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
        let output = command
            .env_remove("HEARTH_REALM")
            .env("XDG_DATA_HOME", folder.path().join("user"))
            .output()
            .unwrap();
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
