//! The locked subset of WASI.

use hearth_wire::TrapKind;

use super::guests::component_of;
use super::*;

const WASI: &[&str] = &[
    "package wasi:random@0.2.0;
     interface random { get-random-u64: func() -> u64; }
     interface insecure { get-insecure-random-u64: func() -> u64; }",
    "package wasi:clocks@0.2.0;
     interface monotonic-clock { type instant = u64; now: func() -> instant; }
     interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }",
    "package wasi:cli@0.2.0;
     interface environment {
       get-environment: func() -> list<tuple<string, string>>;
       get-arguments: func() -> list<string>;
     }
     interface exit { exit: func(status: result); }",
    "package test:wasi;
     world guest {
       import wasi:random/random@0.2.0;
       import wasi:random/insecure@0.2.0;
       import wasi:clocks/monotonic-clock@0.2.0;
       import wasi:clocks/wall-clock@0.2.0;
       import wasi:cli/environment@0.2.0;
       import wasi:cli/exit@0.2.0;
       include hearth:task/task@0.1.0;
     }",
];

fn guest(run: &str) -> Vec<u8> {
    component_of(
        "guest",
        WASI,
        &format!(
            r#"(module
      (import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))
      (import "wasi:random/insecure@0.2.0" "get-insecure-random-u64" (func $insecure (result i64)))
      (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
      (import "wasi:clocks/wall-clock@0.2.0" "now" (func $wall (param i32)))
      (import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
      (import "wasi:cli/environment@0.2.0" "get-arguments" (func $arguments (param i32)))
      (import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (data (i32.const 16) "text/plain")
      (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
      (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
        {run}
        (i32.store (i32.const 1028) (i32.const 16))
        (i32.store (i32.const 1032) (i32.const 10))
        (i32.store (i32.const 1036) (i32.const 2048))
        (i32.store (i32.const 1040) (i32.const 64))
        (i32.const 1024)))"#
        ),
    )
}

#[test]
fn guest_that_needs_wasi_sees_a_world_that_never_changes() {
    let component = guest(
        "(i64.store (i32.const 2048) (call $insecure))
         (i64.store (i32.const 2056) (call $insecure))
         (i64.store (i32.const 2064) (call $now))
         (call $wall (i32.const 2072))
         (call $environment (i32.const 2088))
         (call $arguments (i32.const 2096))
         ;; Only the lengths: a pointer to nothing is nobody's business.
         (i32.store (i32.const 2088) (i32.const 0))
         (i32.store (i32.const 2096) (i32.const 0))",
    );
    let first = run(&component, &request(b"")).outcome;
    let RunOutcome::Returned { bytes, .. } = &first else {
        panic!("{first:?}");
    };
    assert_ne!(bytes[..8], [0; 8], "random numbers from the seed");
    assert_ne!(bytes[..8], bytes[8..16]);
    assert_eq!(
        bytes[16..],
        [0; 48],
        "no time, no environment, no arguments"
    );
    assert_eq!(run(&component, &request(b"")).outcome, first);

    let mut other = request(b"");
    other.seed = Digest::of(b"another seed");
    assert_ne!(run(&component, &other).outcome, first);
}

#[test]
fn real_randomness_is_forbidden() {
    let component = guest("(drop (call $random))");
    assert_eq!(
        run(&component, &request(b"")).outcome,
        RunOutcome::Trapped(TrapKind::Forbidden)
    );
}

#[test]
fn exit_is_no_way_to_end() {
    let component = guest("(call $exit (i32.const 0))");
    assert_eq!(
        run(&component, &request(b"")).outcome,
        RunOutcome::Trapped(TrapKind::Contract)
    );
}

#[test]
fn sockets_are_not_offered() {
    let component = component_of(
        "guest",
        &[
            "package wasi:sockets@0.2.0; interface network { open: func() -> u32; }",
            "package test:net; world guest { import wasi:sockets/network@0.2.0; include hearth:task/task@0.1.0; }",
        ],
        r#"(module
          (import "wasi:sockets/network@0.2.0" "open" (func $open (result i32)))
          (memory (export "memory") 1)
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
          (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32) (call $open)))"#,
    );
    let imports = imports_of(&component).unwrap();
    let error = admit(&component, &imports, &request(b"").limits).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("wasi:sockets/network@0.2.0: not offered"),
        "{error}"
    );
}
