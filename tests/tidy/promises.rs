//! Each promise in the README names a test that exists.

use std::fs;

use super::root;

#[test]
fn promises_name_tests_that_exist() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme
        .split("## Promises")
        .nth(1)
        .expect("README has a section Promises");
    let section = section.split("\n## ").next().unwrap();
    let names: Vec<&str> = section
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .flat_map(|line| line.rsplit('|').nth(1).unwrap_or_default().split('`'))
        .filter(|name| name.contains("::"))
        .collect();
    assert!(names.len() >= 8, "each promise has a test, found {names:?}");
    let mut sources = Vec::new();
    let mut open = vec![
        root().join("host"),
        root().join("tests"),
        root().join("tasks"),
        root().join("guest-sdk"),
    ];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = path.file_stem().unwrap().to_string_lossy().into_owned();
            sources.push((module, fs::read_to_string(&path).unwrap()));
        }
    }
    for name in names {
        let mut parts = name.rsplit("::");
        let (function, module) = (parts.next().unwrap(), parts.next().unwrap());
        let is_test = |text: &str| {
            text.match_indices(&format!("fn {function}("))
                .any(|(at, _)| text[..at].trim_end().ends_with([']', 'c']))
        };
        assert!(
            sources
                .iter()
                .any(|(found, text)| found == module && is_test(text)),
            "the README names {name}, which does not exist"
        );
    }
}
