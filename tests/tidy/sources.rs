//! Rules of the house for source files.

use std::fs;
use std::path::{Path, PathBuf};

use super::root;

/// Lines of a source file without its tests: one file, one thing.
const LINES_MAX: usize = 700;

fn sources() -> Vec<(PathBuf, String)> {
    let mut open: Vec<PathBuf> = ["host", "guest-sdk", "tasks", "tests", "benches", "examples"]
        .iter()
        .map(|dir| root().join(dir))
        .collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                open.extend(
                    fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    }
    found
}

#[test]
fn files_hold_one_thing() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let lines = text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .count();
        if lines > LINES_MAX {
            long.push(format!("{}: {lines}", path.display()));
        }
    }
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:?}");
}

#[test]
fn unsafe_lives_in_one_place() {
    let allowed = Path::new("host/sandbox");
    let marker = ["unsafe", " {"].concat();
    let strays: Vec<_> = sources()
        .into_iter()
        .filter(|(path, text)| {
            path.starts_with("host") && !path.starts_with(allowed) && text.contains(&marker)
        })
        .map(|(path, _)| path)
        .collect();
    assert!(
        strays.is_empty(),
        "unsafe outside of host/sandbox: {strays:?}"
    );
}

#[test]
fn nothing_is_ignored_or_left_to_do() {
    let words = [
        ["#[ig", "nore"].concat(),
        ["to", "do!("].concat(),
        ["unimpl", "emented!("].concat(),
    ];
    let mut found = Vec::new();
    for (path, text) in sources() {
        for word in &words {
            if text.contains(word.as_str()) {
                found.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_top_level_is_fixed() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "SECURITY.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "host",
        "guest-sdk",
        "tasks",
        "wit",
        "tests",
        "benches",
        "examples",
        "target",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || allowed.contains(&name.as_str()),
            "{name} does not belong at the top"
        );
    }
}
