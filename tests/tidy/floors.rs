//! A crate imports only from lower floors; what must be absent is absent.

use std::collections::{BTreeMap, BTreeSet};

use super::{metadata, text};

/// The floor of each crate of the product.
const FLOORS: [(&str, u8); 12] = [
    ("hearth-wire", 0),
    ("hearth-identity", 1),
    ("hearth-core", 2),
    ("hearth-store", 2),
    ("hearth-sandbox", 2),
    ("hearth-net", 2),
    ("hearth-coordinator", 3),
    ("hearth-node", 3),
    ("hearth-runner", 3),
    ("hearth-sim", 3),
    ("hearth", 4),
    // A tool beside the floors: it links nothing of the product.
    ("xtask", 0),
];

fn floor(name: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, floor)| *floor)
}

/// Dependencies of a workspace package by name; without `dev` those of tests are left out.
fn dependencies(name: &str, dev: bool) -> BTreeSet<&'static str> {
    let packages = metadata()["packages"].as_array().unwrap();
    let package = packages
        .iter()
        .find(|package| text(&package["name"]) == name)
        .unwrap();
    let all = package["dependencies"].as_array().unwrap().iter();
    all.filter(|dependency| dev || dependency["kind"].is_null())
        .map(|dependency| text(&dependency["name"]))
        .collect()
}

#[test]
fn crates_import_only_from_lower_floors() {
    for (name, own) in FLOORS {
        for dependency in dependencies(name, false) {
            if let Some(other) = floor(dependency) {
                assert!(
                    other < own,
                    "{name} (floor {own}) imports {dependency} (floor {other})"
                );
            }
        }
    }
}

#[test]
fn guests_see_only_the_contract() {
    let members = metadata()["packages"].as_array().unwrap();
    let guests = members.iter().filter(|package| {
        let path = text(&package["manifest_path"]);
        package["source"].is_null() && (path.contains("/guest-sdk/") || path.contains("/tasks/"))
    });
    let mut seen = 0;
    for guest in guests {
        seen += 1;
        for dependency in dependencies(text(&guest["name"]), true) {
            assert!(
                floor(dependency).is_none(),
                "{} imports {dependency} of the host",
                guest["name"]
            );
        }
    }
    assert!(
        seen >= 5,
        "the SDK, its macros and the three example tasks are there"
    );
}

/// All packages that building `root` without its tests can reach.
fn closure(root: &str) -> BTreeSet<String> {
    let nodes = metadata()["resolve"]["nodes"].as_array().unwrap();
    let by_id: BTreeMap<&str, &serde_json::Value> =
        nodes.iter().map(|node| (text(&node["id"]), node)).collect();
    let packages = metadata()["packages"].as_array().unwrap();
    let names: BTreeMap<&str, &str> = packages
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let start = *names.iter().find(|(_, name)| **name == root).unwrap().0;
    let (mut open, mut seen) = (vec![start], BTreeSet::new());
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in by_id[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                open.push(text(&dependency["pkg"]));
            }
        }
    }
    seen.into_iter().map(|id| names[id].to_owned()).collect()
}

#[test]
fn keys_and_engines_never_share_a_crate_graph() {
    for name in [
        "hearth-coordinator",
        "hearth-node",
        "hearth-core",
        "hearth-identity",
        "hearth-net",
        "hearth-store",
    ] {
        let found = closure(name);
        let engines: Vec<_> = found
            .iter()
            .filter(|name| name.starts_with("wasmtime") || name.starts_with("cranelift"))
            .collect();
        assert!(engines.is_empty(), "{name} links {engines:?}");
    }
    for name in ["hearth-runner", "hearth-sandbox"] {
        let found = closure(name);
        for forbidden in ["hearth-identity", "hearth-net", "rustls", "hyper"] {
            assert!(!found.contains(forbidden), "{name} links {forbidden}");
        }
        assert!(
            found.contains("wasmtime"),
            "the test sees the graph of {name}"
        );
    }
}

#[test]
fn core_is_pure() {
    let found = closure("hearth-core");
    for forbidden in ["tokio", "rand", "getrandom", "rustix", "libc", "ring"] {
        assert!(!found.contains(forbidden), "hearth-core links {forbidden}");
    }
}
