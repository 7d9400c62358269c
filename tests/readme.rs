//! The README's commands, as they stand there, by a newcomer who has just built the program.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{HEARTH, guest};

/// What the README leaves to a person: a second terminal, the question that joining asks, Ctrl-C. The
/// ports are the test's own.
const PRELUDE: &str = r#"
set -eu
cargo() { case "$1" in test) command cargo test --quiet;; esac; }
hearth() {
  case "$1 ${2-}" in
    "init "*) command hearth "$@" --listen "$ADDRESS" --address "$ADDRESS" ;;
    "coordinator "*) command hearth coordinator ;;
    "node --join")
      command hearth "$@" --yes --name volunteer --cores 1 & NODE=$!
      until command hearth nodes | grep -q volunteer; do sleep 0.2; done ;;
    "node --leave") LEAVE=1 ;;
    "invite "*) until command hearth nodes >/dev/null 2>&1; do sleep 0.2; done; command hearth "$@" ;;
    *) command hearth "$@" ;;
  esac
}
"#;

const END: &str = r#"
kill -INT $NODE; wait $NODE || true
[ "$LEAVE" = 1 ] && command hearth node --leave --yes
kill %1; wait || true
"#;

/// The lines behind `$ ` in blocks marked as console.
fn commands(readme: &str) -> Vec<String> {
    let blocks = readme.split("```console\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    lines
        .filter_map(|line| line.strip_prefix("$ "))
        // The demo and all tests have run before, and the path is the test's.
        .filter(|line| !line.contains("cargo xtask") && !line.starts_with("export PATH"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_of_the_readme_works_word_for_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let commands = commands(&std::fs::read_to_string(root.join("README.md")).unwrap());
    assert!(commands.len() > 20, "{commands:?}");
    let folder = tempfile::tempdir().unwrap();
    // The folder is like the repository as far as these commands see it, and takes what they write.
    let target = folder.path().join("target");
    std::fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink(guest("keywords").parent().unwrap(), target.join("guests")).unwrap();
    std::os::unix::fs::symlink(root.join("tasks"), folder.path().join("tasks")).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let path = format!(
        "{}:{}",
        Path::new(HEARTH).parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut shell = Command::new("bash");
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("CARGO") && name != "CARGO_HOME")
    {
        shell.env_remove(name);
    }
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let mut child = shell
        .arg("-c")
        .arg(format!("{PRELUDE}{}{END}", commands.join("\n")))
        .current_dir(folder.path())
        .env("PATH", path)
        .env("ADDRESS", format!("127.0.0.1:{port}"))
        .env("XDG_DATA_HOME", folder.path().join("user"))
        .env_remove("HEARTH_REALM")
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .process_group(0)
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    // Whatever it started in the background ends with it, also when a command failed.
    let _ = Command::new("kill")
        .args(["-9", "--", &format!("-{}", child.id())])
        .stderr(Stdio::null())
        .status();
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(status.success(), "{status}\n{said}");
    for seen in [
        "nodes take it",
        "[here]",
        "in force",
        "volunteer",
        "83 of 83 tasks",
    ] {
        assert!(said.contains(seen), "nobody saw {seen:?}\n{said}");
    }
    let results = std::fs::read_dir(folder.path().join("results"))
        .unwrap()
        .count();
    let inputs = include_str!("../tasks/mersenne/inputs.jsonl")
        .lines()
        .count();
    assert_eq!(results, inputs);
    assert!(
        !folder.path().join("user/hearth/node").exists(),
        "leaving left something\n{said}"
    );
}
