//! Task crates that are made, built and run outside the repository, by the cargo that runs this test.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hearth_wire::{Digest, TaskType};
use serde_json::Value;

use crate::task_tools::{self, ToolError, build, check, load};
use crate::{Component, LocalHost};

/// A new task somewhere else. All of them build into one folder, so that the dependencies of the SDK
/// are built once.
fn made(name: &str) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    // target/debug/deps/PROGRAM
    let target = program.ancestors().nth(3).unwrap().join("task-crates");
    fs::create_dir(place.path().join(".cargo")).unwrap();
    let config = format!("[build]\ntarget-dir = {:?}\n", target.to_str().unwrap());
    fs::write(place.path().join(".cargo/config.toml"), config).unwrap();
    let made = task_tools::new(&place.path().join(name)).unwrap();
    (place, made.folder)
}

fn change(folder: &std::path::Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file}: {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_new_task_builds_and_runs_anywhere() {
    let (place, folder) = made("word-count");
    let mut heard = Vec::new();
    let built = build(&folder, None, &mut |line| heard.push(line.to_owned())).unwrap();
    assert_eq!(built.name, "word-count");
    assert!(
        built
            .component
            .ends_with("hearth/word-count.component.wasm"),
        "{built:?}"
    );
    assert!(
        built.manifest.ends_with("hearth/word-count.manifest.toml"),
        "{built:?}"
    );
    assert!(
        built
            .imports
            .iter()
            .all(|import| import.starts_with("hearth:task/")),
        "{built:?}"
    );
    assert!(
        heard.iter().any(|line| line.contains("word-count")),
        "{heard:?}"
    );
    let bytes = fs::read(&built.component).unwrap();
    assert_eq!(built.digest, Digest::of(&bytes));
    // Nobody's folders are in what is given to others.
    let places = [
        place.path().to_str().unwrap(),
        ".cargo/registry",
        env!("CARGO_MANIFEST_DIR"),
    ];
    for place in places {
        let found = bytes
            .windows(place.len())
            .any(|part| part == place.as_bytes());
        assert!(!found, "{place}");
    }

    let loaded = load(&folder).unwrap();
    assert_eq!(
        (loaded.draft.name.as_str(), loaded.draft.version.as_str()),
        ("word-count", "0.1.0")
    );
    assert_eq!(loaded.draft.task_type, TaskType::Analysis);
    assert_eq!(loaded.component, bytes);
    let report = check(&folder).unwrap();
    assert_eq!(report.unfit, None);
    assert_eq!(report.digest, built.digest);

    let component = Component::from_bytes(loaded.component).unwrap();
    let sample = fs::read(folder.join("sample-input.json")).unwrap();
    let mut digests = Vec::new();
    for builder in [LocalHost::builder(), LocalHost::builder().pulley()] {
        let host = builder.slots(1).start().unwrap();
        let job = host
            .job(&component)
            .media_type("application/json")
            .limits(loaded.draft.limits);
        let results = job.inputs([sample.clone()]).run().unwrap().wait();
        let output: Value = serde_json::from_slice(results[0].output().unwrap()).unwrap();
        assert_eq!(output["words"], 16);
        assert_eq!(output["counts"]["wheel"], 1);
        digests.push(results[0].digest());
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn the_tests_of_a_new_task_pass_without_a_sandbox() {
    let (_place, folder) = made("tested");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .arg("test")
        .current_dir(&folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("test result: ok. 2 passed"), "{text}");
    assert!(!text.contains("warning"), "{text}");
}

#[test]
fn a_task_below_a_workspace_is_its_own() {
    let (place, _folder) = made("outside");
    fs::write(
        place.path().join("Cargo.toml"),
        "[workspace]\nmembers = []\n",
    )
    .unwrap();
    let folder = task_tools::new(&place.path().join("inside"))
        .unwrap()
        .folder;
    let built = build(&folder, Some(&place.path().join("out")), &mut |_| {}).unwrap();
    assert_eq!(
        built.component,
        place.path().join("out/inside.component.wasm")
    );
    assert!(load(&built.component).is_ok());
}

#[test]
fn what_the_author_says_is_in_the_manifest() {
    let (place, folder) = made("said");
    change(
        &folder,
        "Cargo.toml",
        "# memory-bytes = 67_108_864",
        "memory-bytes = 8_388_608",
    );
    change(
        &folder,
        "Cargo.toml",
        "locations = []",
        "locations = [\"attic\", \"attic\", \"cellar\"]",
    );
    let built = build(&folder, Some(place.path()), &mut |_| {}).unwrap();
    let draft = load(&built.component).unwrap().draft;
    assert_eq!(draft.limits.memory_bytes, 8_388_608);
    assert_eq!(draft.locations, ["attic", "cellar"]);

    change(
        &folder,
        "Cargo.toml",
        "memory-bytes = 8_388_608",
        "memory-byte = 1",
    );
    let error = build(&folder, None, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ToolError::Metadata { .. }), "{error}");
    assert!(error.to_string().contains("memory-byte"), "{error}");
}

#[test]
fn what_does_not_build_says_why() {
    let (_place, folder) = made("broken");
    change(&folder, "src/lib.rs", "#[hearth::task]\n", "");
    let error = build(&folder, None, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ToolError::Encode(_)), "{error}");
    assert!(error.to_string().contains("#[hearth::task]"), "{error}");

    change(&folder, "src/lib.rs", "Ok(Output {", "Ok(Outputt {");
    let error = build(&folder, None, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ToolError::Cargo(_)), "{error}");
    assert!(error.to_string().contains("Outputt"), "{error}");

    change(
        &folder,
        "Cargo.toml",
        "[\"cdylib\", \"rlib\"]",
        "[\"rlib\"]",
    );
    let error = build(&folder, None, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ToolError::NotATask { .. }), "{error}");
    assert!(error.to_string().contains("cdylib"), "{error}");

    fs::write(folder.join("Cargo.toml"), "[package").unwrap();
    let error = build(&folder, None, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ToolError::Cargo(_)), "{error}");
}
