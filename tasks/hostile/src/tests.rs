#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use wit_parser::{Resolve, WorldItem};

use super::*;

#[test]
fn every_file_is_in_the_list_and_says_what_is_expected() {
    let files: BTreeSet<String> = std::fs::read_dir(env!("CARGO_MANIFEST_DIR"))
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            Some(name.strip_suffix(".wat")?.to_owned())
        })
        .collect();
    let listed: BTreeSet<String> = GUESTS.iter().map(|guest| guest.name.to_owned()).collect();
    assert_eq!(files, listed);
    for guest in GUESTS {
        let said = match guest.expected {
            Expected::Returned(_) => "Returned(ok)".to_owned(),
            Expected::RefusedFailed => "Refused(Failed)".to_owned(),
            Expected::Exhausted(resource) => format!("Exhausted({resource})"),
            Expected::Trapped(kind) => format!("Trapped({kind})"),
            Expected::StackOverflow => "Inconclusive(StackOverflow)".to_owned(),
            Expected::Unfit { names: None } => "Inconclusive(Unfit)".to_owned(),
            Expected::Unfit { names: Some(names) } => {
                format!("Inconclusive(Unfit), naming {names}")
            }
        };
        let line = format!(";; Expected: {said}");
        assert!(guest.wat.contains(&line), "{}: {line}", guest.name);
    }
}

#[test]
fn all_but_the_bare_ones_are_valid_components_of_their_world() {
    let ours = [
        "hearth:task/checkpoint@0.1.0",
        "hearth:task/progress@0.1.0",
        "hearth:task/types@0.1.0",
    ];
    for guest in GUESTS {
        let bytes = guest.component().unwrap();
        wasmparser::Validator::new()
            .validate_all(&bytes)
            .unwrap_or_else(|error| panic!("{}: {error}", guest.name));
        let Shape::World(world) = guest.shape else {
            continue;
        };
        let foreign: Vec<String> = imports(&bytes)
            .unwrap()
            .into_iter()
            .filter(|name| !ours.contains(&name.as_str()))
            .collect();
        let wanted: &[&str] = match world {
            "foreign" => &["evil:host/shell@1.0.0"],
            "sockets" => &["wasi:sockets/instance-network@0.2.0"],
            "random" => &["wasi:random/random@0.2.0"],
            "insecure" => &["wasi:random/insecure@0.2.0"],
            _ => &[],
        };
        assert_eq!(foreign, wanted, "{}", guest.name);
    }
}

#[test]
fn an_unknown_name_and_a_module_without_world_are_told() {
    assert!(component("angel").is_err());
    assert!(imports(&component("core-module").unwrap()).is_err());
    assert!(componentize(b"not wasm").is_err());
    // A module without its world's section must not become a component that imports nothing.
    let undescribed = wat::parse_str(GUESTS[0].wat).unwrap();
    assert!(componentize(&undescribed).is_err());
}

/// The contract itself: it parses, has its worlds, and every item in it is documented and dated.
#[test]
fn the_contract_parses_and_is_documented() {
    let mut resolve = Resolve::default();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_dir(folder).unwrap();
    let names = |items: &wit_parser::IndexMap<wit_parser::WorldKey, WorldItem>| -> Vec<String> {
        let mut names: Vec<String> = items
            .keys()
            .map(|key| resolve.name_world_key(key))
            .collect();
        names.sort();
        names
    };
    let world = |name| &resolve.worlds[resolve.select_world(&[package], Some(name)).unwrap()];
    let comparable = [
        "hearth:task/checkpoint@0.1.0",
        "hearth:task/context@0.1.0",
        "hearth:task/progress@0.1.0",
        "hearth:task/types@0.1.0",
    ];
    assert_eq!(names(&world("task").imports), comparable);
    assert_eq!(names(&world("task").exports), ["hearth:task/runner@0.1.0"]);
    assert!(names(&world("task-live").imports).contains(&"hearth:task/deadline@0.1.0".to_owned()));

    for (_, world) in &resolve.worlds {
        assert!(world.docs.contents.is_some(), "{}", world.name);
        assert!(!world.stability.is_unknown(), "{}", world.name);
    }
    for (_, interface) in &resolve.interfaces {
        let name = interface.name.as_deref().unwrap();
        assert!(interface.docs.contents.is_some(), "{name}");
        assert!(!interface.stability.is_unknown(), "{name}");
        for (function, item) in &interface.functions {
            assert!(item.docs.contents.is_some(), "{name}.{function}");
            assert!(!item.stability.is_unknown(), "{name}.{function}");
        }
        for (kind, id) in &interface.types {
            let item = &resolve.types[*id];
            if matches!(item.kind, wit_parser::TypeDefKind::Type(_)) {
                // Used from another interface, and documented there.
                continue;
            }
            assert!(item.docs.contents.is_some(), "{name}.{kind}");
            assert!(!item.stability.is_unknown(), "{name}.{kind}");
        }
    }
}
