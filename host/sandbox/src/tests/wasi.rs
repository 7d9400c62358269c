//! The locked subset of WASI.

use std::sync::{Arc, Mutex};

use hearth_wire::message::LogLevel;
use hearth_wire::{Resource, TrapKind};

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
    returning(
        WASI,
        r#"(import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))
      (import "wasi:random/insecure@0.2.0" "get-insecure-random-u64" (func $insecure (result i64)))
      (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
      (import "wasi:clocks/wall-clock@0.2.0" "now" (func $wall (param i32)))
      (import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
      (import "wasi:cli/environment@0.2.0" "get-arguments" (func $arguments (param i32)))
      (import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))"#,
        run,
    )
}

/// A guest that imports these and returns the 64 bytes at 2048.
fn returning(packages: &[&str], imports: &str, run: &str) -> Vec<u8> {
    component_of(
        "guest",
        packages,
        &format!(
            r#"(module
      {imports}
      (memory (export "memory") 3)
      (data (i32.const 16) "text/plain")
      (data (i32.const 64) "a line\nanother\n")
      (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
      (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
        (local $i i32) (local $s i32) (local $p i32)
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

/// A part of WASI's own text with what a standard library and its streams use.
const STREAMS: &[&str] = &[
    "package wasi:io@0.2.3;
     interface error { resource error; }
     interface poll {
       resource pollable { ready: func() -> bool; block: func(); }
       poll: func(in: list<borrow<pollable>>) -> list<u32>;
     }
     interface streams {
       use error.{error};
       use poll.{pollable};
       variant stream-error { last-operation-failed(error), closed }
       resource input-stream { read: func(len: u64) -> result<list<u8>, stream-error>; }
       resource output-stream {
         write: func(contents: list<u8>) -> result<_, stream-error>;
         subscribe: func() -> pollable;
       }
     }",
    "package wasi:random@0.2.3;
     interface insecure { get-insecure-random-bytes: func(len: u64) -> list<u8>; }
     interface insecure-seed { insecure-seed: func() -> tuple<u64, u64>; }",
    "package wasi:filesystem@0.2.3;
     interface types { resource descriptor; }
     interface preopens {
       use types.{descriptor};
       get-directories: func() -> list<tuple<descriptor, string>>;
     }",
    "package wasi:cli@0.2.3;
     interface stdin { use wasi:io/streams@0.2.3.{input-stream}; get-stdin: func() -> input-stream; }
     interface stdout { use wasi:io/streams@0.2.3.{output-stream}; get-stdout: func() -> output-stream; }
     interface terminal-output { resource terminal-output; }
     interface terminal-stdout {
       use terminal-output.{terminal-output};
       get-terminal-stdout: func() -> option<terminal-output>;
     }",
    "package test:streams;
     world guest {
       import wasi:io/poll@0.2.3;
       import wasi:io/streams@0.2.3;
       import wasi:random/insecure@0.2.3;
       import wasi:random/insecure-seed@0.2.3;
       import wasi:filesystem/preopens@0.2.3;
       import wasi:cli/stdin@0.2.3;
       import wasi:cli/stdout@0.2.3;
       import wasi:cli/terminal-stdout@0.2.3;
       include hearth:task/task@0.1.0;
     }",
];

fn streaming(run: &str) -> Vec<u8> {
    returning(
        STREAMS,
        r#"(import "wasi:io/poll@0.2.3" "[method]pollable.ready" (func $ready (param i32) (result i32)))
      (import "wasi:io/poll@0.2.3" "[method]pollable.block" (func $block (param i32)))
      (import "wasi:io/poll@0.2.3" "poll" (func $poll (param i32 i32 i32)))
      (import "wasi:io/streams@0.2.3" "[method]input-stream.read" (func $read (param i32 i64 i32)))
      (import "wasi:io/streams@0.2.3" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
      (import "wasi:io/streams@0.2.3" "[method]output-stream.subscribe" (func $subscribe (param i32) (result i32)))
      (import "wasi:random/insecure@0.2.3" "get-insecure-random-bytes" (func $bytes (param i64 i32)))
      (import "wasi:random/insecure-seed@0.2.3" "insecure-seed" (func $seed (param i32)))
      (import "wasi:filesystem/preopens@0.2.3" "get-directories" (func $folders (param i32)))
      (import "wasi:cli/stdin@0.2.3" "get-stdin" (func $stdin (result i32)))
      (import "wasi:cli/stdout@0.2.3" "get-stdout" (func $stdout (result i32)))
      (import "wasi:cli/terminal-stdout@0.2.3" "get-terminal-stdout" (func $terminal (param i32)))"#,
        run,
    )
}

#[test]
fn streams_polls_folders_and_terminals_are_there_and_empty() {
    let component = streaming(
        "(call $folders (i32.const 2048))
         ;; No folder; where the empty list lies is nobody's business.
         (i32.store (i32.const 2048) (i32.const 0))
         (call $terminal (i32.const 2056))
         ;; Standard input is at its end: an error (1) whose case is `closed` (1).
         (call $read (call $stdin) (i64.const 10) (i32.const 2064))
         (local.set $p (call $subscribe (call $stdout)))
         (i32.store (i32.const 2080) (call $ready (local.get $p)))
         (call $block (local.get $p))
         (i32.store (i32.const 4096) (local.get $p))
         (call $poll (i32.const 4096) (i32.const 1) (i32.const 2084))
         (i32.store (i32.const 2084) (i32.const 0))
         (call $seed (i32.const 2096))",
    );
    let RunOutcome::Returned { bytes, .. } = run(&component, &request(b"")).outcome else {
        panic!("not returned");
    };
    assert_eq!(bytes[..16], [0; 16], "no folder, no terminal");
    assert_eq!((bytes[16], bytes[20]), (1, 1), "closed");
    assert_eq!(bytes[32..44], [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_ne!(bytes[48..56], [0; 8], "a seed from the task's own");
    assert_ne!(bytes[48..56], bytes[56..64]);
}

#[derive(Default, Clone)]
struct Lines(Arc<Mutex<Vec<(LogLevel, String)>>>);

impl Hooks for Lines {
    fn log(&mut self, level: LogLevel, text: &str) {
        self.0.lock().unwrap().push((level, text.to_owned()));
    }
}

#[test]
fn output_is_log_within_its_limit_and_is_charged() {
    let printing = |count: u32, len: u32| {
        streaming(&format!(
            "(local.set $s (call $stdout))
             (loop $l (call $write (local.get $s) (i32.const 64) (i32.const {len}) (i32.const 4096))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $l (i32.lt_u (local.get $i) (i32.const {count}))))"
        ))
    };
    let lines = Lines::default();
    let program = program(&NATIVE, &printing(1, 15));
    NATIVE.run_blocking(&program, request(b""), &Gate::new(), lines.clone());
    let said = ["a line", "another"].map(|line| (LogLevel::Info, line.to_owned()));
    assert_eq!(*lines.0.lock().unwrap(), said);

    // 13 bytes a time without the ends of lines, and 4,096 may be kept.
    let ran = run(&printing(1_000, 15), &request(b""));
    assert!(matches!(ran.outcome, RunOutcome::Returned { .. }));
    assert_eq!(ran.log_bytes_dropped, 13_000 - 4_096);

    let fuel = |len| run(&printing(1, len), &request(b"")).fuel_used;
    assert_eq!(fuel(50_000) - fuel(0), 50_000);
}

#[test]
fn calls_of_wasi_alone_exhaust_the_fuel() {
    for flood in [
        "(loop $l (call $bytes (i64.const 65536) (i32.const 4096)) (br $l)) (unreachable)",
        "(loop $l (call $write (call $stdout) (i32.const 64) (i32.const 65000) (i32.const 4096)) (br $l)) (unreachable)",
        // Owed in full when it traps: the debt comes first.
        "(loop $l (call $bytes (i64.const 65536) (i32.const 4096))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $l (i32.lt_u (local.get $i) (i32.const 100)))) (unreachable)",
    ] {
        let ran = run(&streaming(flood), &request(b""));
        assert_eq!(
            ran.outcome,
            RunOutcome::Exhausted(Resource::Fuel),
            "{flood}"
        );
        assert_eq!(ran.fuel_used, 50_000_000);
    }
}

/// Why a component does not link.
fn linking(component: &[u8]) -> String {
    let compiled = wasmtime::component::Component::from_binary(NATIVE.engine(), component).unwrap();
    let mut linker = wasmtime::component::Linker::new(NATIVE.engine());
    crate::wasi::add_to_linker(&mut linker).unwrap();
    match linker.instantiate_pre(&compiled) {
        Ok(_) => String::new(),
        Err(error) => format!("{error:#}"),
    }
}

/// Every function of the table is in the linker, and what is not in the table is refused by name.
#[test]
fn the_locked_functions_are_those_that_are_linked() {
    let refuse = |interface: &str, function: &str, version: &str| {
        let text = format!(
            r#"(component (import "{interface}@{version}" (instance (export "{function}" (func)))))"#
        );
        let component = wat::parse_str(text).unwrap();
        let imports = [format!("{interface}@{version}")];
        admit(&component, &imports, &request(b"").limits)
            .unwrap_err()
            .to_string()
    };
    let skew = "this host's WASI 0.2 lacks these functions";
    let unlinked = "implementation is missing";
    let surprise =
        r#"(component (import "wasi:cli/exit@0.2.9" (instance (export "surprise" (func)))))"#;
    assert!(linking(&wat::parse_str(surprise).unwrap()).contains(unlinked));
    for (interface, functions) in crate::admit::wasi::WASI {
        let text = refuse(interface, "surprise", "0.2.9");
        assert!(
            text.contains(skew) && text.contains("- surprise"),
            "{interface}: {text}"
        );
        let plain = functions.iter().filter(|name| !name.starts_with('['));
        for function in plain {
            let text = refuse(interface, function, "0.2.9");
            assert!(!text.contains(skew), "{interface} {function}: {text}");
            // The type is made up, so linking fails for that, not for want of the function.
            let component = wat::parse_str(format!(
                r#"(component (import "{interface}@0.2.9" (instance (export "{function}" (func (param "surprise" string))))))"#
            ))
            .unwrap();
            let error = linking(&component);
            assert!(!error.contains(unlinked), "{interface} {function}: {error}");
        }
    }
    assert!(refuse("wasi:cli/exit", "exit", "0.3.0").contains("this host has WASI 0.2"));
    assert!(refuse("wasi:http/types", "fetch", "0.2.0").contains("not offered"));
}
