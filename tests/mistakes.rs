//! What people do wrong: each mistake has an exit code and a next step that fits it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use hearth_identity::SigningKey;
use serde_json::Value;

use crate::support::{Process, Realm, eventually, guest};

/// Prime, and its test takes far longer than this test.
const LONG: &str = "{\"exponent\": 23209}\n";

#[test]
fn a_run_ends_alike_on_the_network_and_here() {
    let realm = Realm::start();
    let component = guest("mersenne");
    let component = component.to_str().unwrap();
    let good = realm.file("good.json", "{\"exponent\": 31}");
    let bad = realm.file("bad.json", "{\"exponent\": 4}");
    let long = realm.file("long.jsonl", &LONG.repeat(4));
    let both = |args: &[&str], code: i32| {
        let ends = [&["run", component][..], &["run", "--offline", component]].map(|run| {
            let output = realm.run(&[run, args].concat());
            assert_eq!(output.status.code(), Some(code), "{run:?} {args:?}");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            // Who ran it differs, and what is said about where it runs.
            let out = text(&output.stdout);
            let mut lines: Vec<_> = out
                .lines()
                .map(|line| line.split("  [").next().unwrap().to_owned())
                .collect();
            lines.sort();
            (lines, text(&output.stderr))
        });
        let [(here, here_said), (there, there_said)] = ends;
        assert_eq!(here, there);
        assert_eq!(here_said, there_said);
        (here, here_said)
    };
    both(&[&good], 0);
    let (lines, said) = both(&[&good, &bad], 6);
    assert_eq!(
        lines[0],
        "bad.json: refused: invalid input: exponent 4 is not a prime"
    );
    assert!(said.contains("1 of 2 tasks have no output"), "{said}");
    let (lines, _) = both(&["--lines", &long, "--deadline", "1"], 6);
    assert_eq!(lines[3], "line 4: expired");
    both(&[&good, "--deadline", "0"], 2);
    realm.fails(2, &["submit", component, &good, "--deadline", "0"]);
}

/// A `hearth run` with one short task and this many times the long ones.
fn long_run(realm: &Realm, times: usize) -> std::process::Child {
    let component = guest("mersenne");
    let lines = format!("{{\"exponent\": 31}}\n{}", LONG.repeat(times));
    let inputs = realm.file("long.jsonl", &lines);
    realm
        .command(&["run", component.to_str().unwrap(), "--lines", &inputs])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn an_interrupted_run_names_the_job_that_goes_on() {
    let realm = Realm::start();
    let mut run = long_run(&realm, 8);
    let mut first = String::new();
    let mut printed = BufReader::new(run.stdout.take().unwrap());
    printed.read_line(&mut first).unwrap();
    let sent = std::process::Command::new("kill")
        .args(["-INT", &run.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let output = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    for words in ["job-1 goes on", "hearth wait job-1", "hearth cancel job-1"] {
        assert!(said.contains(words), "{said}");
    }
    let jobs = &realm.json(&["jobs"])[0]["jobs"];
    assert_eq!(jobs[0]["state"], "open");
    let cancelled = realm.ok(&["cancel", "job-1"]);
    assert!(cancelled.starts_with("job-1 is cancelled;"), "{cancelled}");
    // The truth about what had ended, and it is no error: what was wanted is so.
    let again = realm.ok(&["cancel", "job-1"]);
    assert!(again.contains("had ended already (cancelled)"), "{again}");
    let job = realm.submit_mersenne(&[31], &[]);
    realm.ok(&["wait", &job, "--timeout", "60"]);
    let late = realm.ok(&["cancel", &job]);
    let truth = "job-2 had ended already (closed): 1 of 1 tasks have a result\n";
    assert_eq!(late, truth);
}

/// At home there is nobody who would go on.
#[test]
fn a_run_that_went_home_ends_when_it_is_interrupted() {
    let mut realm = Realm::start();
    let mut run = long_run(&realm, 40);
    let mut line = String::new();
    let mut printed = BufReader::new(run.stdout.take().unwrap());
    printed.read_line(&mut line).unwrap();
    realm.coordinator.as_mut().unwrap().kill();
    let mut told = BufReader::new(run.stderr.take().unwrap());
    while !line.contains("went away") {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "it ended");
    }
    let run = Process::new(run);
    run.signal("INT");
    assert_eq!(run.wait().code(), Some(130));
}

#[test]
fn places_and_addresses_that_cannot_be_used_say_what_to_do() {
    let realm = Realm::start();
    let component = guest("mersenne");
    let component = component.to_str().unwrap();
    let input = realm.file("input.json", "{\"exponent\": 31}");
    let taken = realm.file("taken", "a file");
    let inside = format!("{taken}/x");
    let new = realm.path("new");
    let new = new.to_str().unwrap();
    let mistakes: [(&[&str], &str); 13] = [
        (&["coordinator"], "stop it first"),
        (
            &["--realm", new, "init", "--no-passphrase", "--name", ""],
            "--name",
        ),
        (
            &["--realm", new, "init", "--no-passphrase", "--author", ""],
            "--author",
        ),
        (
            &[
                "--realm",
                new,
                "init",
                "--no-passphrase",
                "--address",
                "here",
            ],
            "--address HOST:PORT",
        ),
        (
            &["--realm", &taken, "init", "--no-passphrase"],
            "another place",
        ),
        (
            &[
                "--realm",
                realm.folder.path().to_str().unwrap(),
                "init",
                "--no-passphrase",
            ],
            "an empty folder",
        ),
        (&["invite", "node", "--out", &inside], "another place"),
        (
            &["invite", "node", "--out", "/nonexistent/token"],
            "make its folder",
        ),
        (
            &["run", component, &input, "--out", &taken],
            "another place",
        ),
        (
            &["run", "--offline", component, &input, "--out", &inside],
            "another place",
        ),
        (
            &["task", "run", component, &input, "--out", &taken],
            "another place",
        ),
        (
            &["task", "sign", component, "--out", &inside],
            "another place",
        ),
        (&["man", &taken], "another place"),
    ];
    for (args, next) in mistakes {
        let said = realm.fails(3, args);
        let told = said.split_once("next:").unwrap_or_default().1;
        assert!(told.contains(next), "{args:?}: {said}");
    }
    let jobs = &realm.json(&["jobs"])[0]["jobs"];
    assert_eq!(jobs.as_array().unwrap().len(), 0, "nothing ran for nothing");
    let other = Realm::init();
    let said = other.fails(3, &["coordinator", "--listen", &realm.address]);
    assert!(said.contains("ss -ltnp"), "{said}");
    // TEST-NET-1: no machine has it.
    let said = other.fails(3, &["coordinator", "--listen", "192.0.2.1:7420"]);
    assert!(said.contains("an address of this machine"), "{said}");
    let said = other.fails(3, &["coordinator", "--api", "192.0.2.1:7421"]);
    assert!(said.contains("--api 127.0.0.1:PORT"), "{said}");
}

#[test]
fn only_a_key_that_somebody_can_hold_is_let_in() {
    let realm = Realm::init();
    let key = SigningKey::generate().unwrap().public();
    let add =
        |key: &str| ["author", "add", key, "--name", "grace", "--no-passphrase"].map(str::to_owned);
    let fails = |code, key: &str| {
        let args = add(key);
        realm.fails(code, &args.each_ref().map(String::as_str))
    };
    // An id and a key both have 64 digits, and half of all ids are points of the curve.
    let said = fails(2, &key.id().to_string());
    assert!(said.contains("may be the id of a key"), "{said}");
    let digits = key.to_string().split_off("ed25519:".len());
    fails(2, &digits);
    for nobody in [
        "0".repeat(64),
        "f".repeat(64),
        format!("01{}", "0".repeat(62)),
    ] {
        let said = fails(3, &format!("ed25519:{nobody}"));
        assert!(said.contains("nobody can hold"), "{said}");
    }
    let args = add(&key.to_string());
    realm.ok(&args.each_ref().map(String::as_str));
    let listed = &realm.json(&["author", "list"])[0];
    assert_eq!(listed[1]["key"], key.to_string());
    assert_eq!(listed[1]["key_id"], key.id().to_string());
}

#[test]
fn of_two_that_join_into_one_folder_one_keeps_its_invitation() {
    let realm = Realm::start();
    let dir = realm.path("ada");
    let mut tokens = Vec::new();
    for name in ["one", "two"] {
        let path = realm.path(name).to_str().unwrap().to_owned();
        realm.ok(&["invite", "node", "--out", &path]);
        tokens.push(path);
    }
    let join = |token: &str| {
        let mut join = realm.command(&["node", "--join", "--yes", "--cores", "1"]);
        join.args(["--memory", "512", "--token-file", token]);
        join.arg("--dir").arg(&dir);
        join.stdout(Stdio::null()).stderr(Stdio::piped());
        join.spawn().unwrap()
    };
    let mut nodes: Vec<_> = tokens.iter().map(|token| join(token)).collect();
    let loser = eventually("one of the two", || {
        (0..2).find(|at| nodes[*at].try_wait().unwrap().is_some())
    });
    let lost = nodes.remove(loser).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&lost.stderr);
    assert_eq!(lost.status.code(), Some(3), "{said}");
    let mut winner = nodes.remove(0);
    eventually("the volunteer", || {
        let list = &realm.json(&["nodes"])[0]["nodes"];
        let mut nodes = list.as_array()?.iter();
        nodes.find(|node| node["kind"] != "local").map(|_| ())
    });
    winner.kill().unwrap();
    winner.wait().unwrap();
    // The loser's invitation still lets somebody in.
    let mut second = realm.command(&["node", "--join", "--yes", "--cores", "1"]);
    second.args(["--memory", "512", "--token-file", &tokens[loser], "--dir"]);
    let mut second = second
        .arg(realm.path("grace"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the second volunteer", || {
        let list = &realm.json(&["nodes"])[0]["nodes"];
        let volunteers = list
            .as_array()?
            .iter()
            .filter(|node| node["kind"] != "local");
        (volunteers.count() == 2).then_some(())
    });
    second.kill().unwrap();
    second.wait().unwrap();
    // A power cut in the middle of writing leaves such files; half a key is not to stay.
    let half = dir.join(".node.key.00112233445566ff.tmp");
    std::fs::write(&half, "half").unwrap();
    let left = realm.json(&["node", "--leave", "--yes", "--dir", dir.to_str().unwrap()]);
    assert_eq!(left[0]["gone"], Value::Bool(true), "{left:?}");
    assert!(!dir.exists());
    // The same where nobody has joined yet.
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(&half, "half").unwrap();
    realm.ok(&["node", "--leave", "--yes", "--dir", dir.to_str().unwrap()]);
    assert!(!dir.exists());
}
