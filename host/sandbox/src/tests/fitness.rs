//! What is refused before anything is compiled.

use super::guests::{component_of, guest, guest_with};
use super::*;

const ECHO: &str = "(call $ok (local.get $body) (local.get $len))";

fn granted() -> Vec<String> {
    ["checkpoint", "context", "progress"]
        .map(|name| format!("hearth:task/{name}@0.1.0"))
        .to_vec()
}

fn refusal(component: &[u8]) -> String {
    admit(component, &granted(), &request(b"").limits)
        .unwrap_err()
        .to_string()
}

#[test]
fn imports_are_what_a_manifest_lists() {
    let component = guest(
        "(call $report (i64.const 0) (i32.const 0) (i64.const 0)) (call $get_task (i32.const 2048))
         (call $load (i32.const 2048)) (call $ok (i32.const 0) (i32.const 0))",
    );
    let imports = imports_of(&component).unwrap();
    for name in granted() {
        assert!(imports.contains(&name), "{name} in {imports:?}");
    }
    assert!(imports.is_sorted());
    admit(&component, &granted(), &request(b"").limits).unwrap();
}

#[test]
fn core_module_is_told_from_a_component() {
    let module = wat::parse_str("(module)").unwrap();
    assert_eq!(
        admit(&module, &granted(), &request(b"").limits).unwrap_err(),
        Unfit::CoreModule
    );
    assert!(refusal(&module).contains("core module, not a component"));
}

#[test]
fn what_is_not_webassembly_is_refused() {
    assert!(refusal(b"#!/bin/sh\nrm -rf /").contains("not WebAssembly"));
    assert!(refusal(b"").contains("not WebAssembly"));
    let whole = guest(ECHO);
    for len in [4, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        refusal(&whole[..len]);
    }
    let mut trailing = whole.clone();
    trailing.extend(b"\0asm\x0d\0\x01\0");
    refusal(&trailing);
    // No byte of it may be able to make the check panic.
    for position in (0..whole.len()).step_by(7) {
        let mut broken = whole.clone();
        broken[position] ^= 0x55;
        let _ = admit(&broken, &granted(), &request(b"").limits);
    }
}

#[test]
fn imports_outside_of_the_world_are_listed_by_function() {
    let component = component_of(
        "greedy",
        &[
            "package test:greedy; interface disk { wipe: func(); read: func(at: u64) -> u64; }
           world greedy { import disk; include hearth:task/task@0.1.0; }",
        ],
        r#"(module
          (import "test:greedy/disk" "wipe" (func $wipe))
          (import "test:greedy/disk" "read" (func $read (param i64) (result i64)))
          (memory (export "memory") 1)
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
          (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
            (call $wipe) (drop (call $read (i64.const 0))) (i32.const 0)))"#,
    );
    let text = refusal(&component);
    assert!(text.contains("test:greedy/disk: not offered"), "{text}");
    assert!(
        text.contains("- wipe\n") && text.contains("- read"),
        "{text}"
    );
    // Granting it does not help.
    let mut all = granted();
    all.push("test:greedy/disk".to_owned());
    assert!(matches!(
        admit(&component, &all, &request(b"").limits),
        Err(Unfit::World(skews)) if skews.len() == 1 && skews[0].functions == ["wipe", "read"]
    ));
}

#[test]
fn imports_beyond_the_manifest_are_refused() {
    let component = guest(ECHO);
    let granted = &granted()[..2];
    let log = guest(
        "(call $log (i32.const 0) (i32.const 0) (i32.const 0)) (call $ok (i32.const 0) (i32.const 0))",
    );
    let error = admit(&log, granted, &request(b"").limits).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("progress@0.1.0: not granted by the signed manifest"),
        "{error}"
    );
    drop(component);
}

#[test]
fn another_version_is_told_as_skew() {
    let component = component_of(
        "task",
        &["package hearth:task@0.9.0;
           interface context { get-task: func() -> u32; get-moon: func() -> u32; }
           interface runner { run: func() -> u32; }
           world task { import context; export runner; }"],
        r#"(module
          (import "hearth:task/context@0.9.0" "get-moon" (func $moon (result i32)))
          (memory (export "memory") 1)
          (func (export "hearth:task/runner@0.9.0#run") (result i32) (call $moon)))"#,
    );
    let text = refusal(&component);
    assert!(
        text.contains("hearth:task/context@0.9.0: made for 0.9.0, this host has 0.1.0"),
        "{text}"
    );
    assert!(text.contains("get-moon"), "{text}");
    assert!(
        text.contains("hearth:task/runner@0.9.0: made for 0.9.0, this host has 0.1.0"),
        "{text}"
    );
}

#[test]
fn live_tasks_are_refused_by_name() {
    let component = component_of(
        "task-live",
        &[],
        r#"(module
          (import "hearth:task/deadline@0.1.0" "get-remaining" (func $left (result i64)))
          (memory (export "memory") 1)
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
          (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
            (drop (call $left)) (i32.const 0)))"#,
    );
    let text = refusal(&component);
    assert!(
        text.contains("deadline@0.1.0: live tasks are not run by this host"),
        "{text}"
    );
    assert!(text.contains("- get-remaining"), "{text}");
}

#[test]
fn component_without_the_export_is_refused() {
    let component = component_of(
        "empty",
        &["package test:empty; world empty { export nothing: func(); }"],
        r#"(module (func (export "nothing")))"#,
    );
    assert!(refusal(&component).contains("hearth:task/runner@0.1.0: not exported"));
}

#[test]
fn static_sizes_are_held_to_the_limits() {
    let large = guest_with("(table 1001 funcref)", ECHO);
    assert_eq!(
        admit(&large, &granted(), &request(b"").limits).unwrap_err(),
        Unfit::TooLarge {
            what: "initial table elements",
            got: 1_001,
            max: 1_000
        }
    );
    let mut small = request(b"").limits;
    small.memory_bytes = 32 << 10;
    assert!(matches!(
        admit(&guest(ECHO), &granted(), &small),
        Err(Unfit::TooLarge {
            what: "initial memory in bytes",
            ..
        })
    ));
    let many = guest_with(&"(func)".repeat(200_001), ECHO);
    assert!(matches!(
        admit(&many, &granted(), &request(b"").limits),
        Err(Unfit::TooLarge {
            what: "functions",
            ..
        })
    ));
    let oversize = vec![0; 64 << 20 | 1];
    assert!(matches!(
        admit(&oversize, &granted(), &request(b"").limits),
        Err(Unfit::TooLarge {
            what: "component bytes",
            ..
        })
    ));
}

#[test]
fn features_that_differ_between_machines_are_refused() {
    for (item, run) in [
        ("(memory $shared 1 1 shared)", ""),
        ("(memory $wide i64 1)", ""),
        (
            "",
            "(drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0)))",
        ),
    ] {
        let module =
            wat::parse_str(format!("(component (core module {item} (func {run})))")).unwrap();
        let text = match admit(&module, &granted(), &request(b"").limits) {
            Err(error) => error.to_string(),
            // Function bodies are the compiler's to check.
            Ok(_) => panic!("{item}{run} was admitted"),
        };
        let body_only = item.is_empty();
        assert!(
            body_only || text.contains("not a component that this host can run"),
            "{text}"
        );
    }
}

#[test]
fn artefact_of_another_engine_is_not_loaded() {
    let component = guest(ECHO);
    let admitted = admit(&component, &granted(), &request(b"").limits).unwrap();
    let artefact = PULLEY.compile(&admitted).unwrap();
    assert!(NATIVE.load(&artefact).is_err());
    PULLEY.load(&artefact).unwrap();
    let mut torn = artefact.into_bytes();
    torn.truncate(100);
    assert!(PULLEY.load(&Artefact::from_sealed(torn)).is_err());
}
