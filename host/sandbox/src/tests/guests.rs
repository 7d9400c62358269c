//! Components out of WebAssembly text.

use hearth_wire::Inconclusive;
use hearth_wire::runner::RunOutcome;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

pub(super) const STACK_OVERFLOW: RunOutcome = RunOutcome::Inconclusive(Inconclusive::StackOverflow);

/// Imports of the world `task`, and what a guest needs to speak the canonical ABI by hand.
const PROLOGUE: &str = r#"
  (import "hearth:task/context@0.1.0" "get-task" (func $get_task (param i32)))
  (import "hearth:task/progress@0.1.0" "report" (func $report (param i64 i32 i64)))
  (import "hearth:task/progress@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "hearth:task/checkpoint@0.1.0" "load" (func $load (param i32)))
  (import "hearth:task/checkpoint@0.1.0" "save" (func $save (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "text/plain")
  (global $next (mut i32) (i32.const 8192))
  (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $p i32)
    (local.set $p (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $p) (local.get 3)))
    (block $enough
      (loop $grow
        (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
        (unreachable)))
    (local.get $p))
  ;; ok(payload("text/plain", body))
  (func $ok (param $ptr i32) (param $len i32) (result i32)
    (i32.store8 (i32.const 1024) (i32.const 0))
    (i32.store (i32.const 1028) (i32.const 16))
    (i32.store (i32.const 1032) (i32.const 10))
    (i32.store (i32.const 1036) (local.get $ptr))
    (i32.store (i32.const 1040) (local.get $len))
    (i32.const 1024))
  ;; err(case(some(text)))
  (func $err (param $case i32) (param $ptr i32) (param $len i32) (result i32)
    (i32.store8 (i32.const 1024) (i32.const 1))
    (i32.store8 (i32.const 1028) (local.get $case))
    (i32.store8 (i32.const 1032) (i32.const 1))
    (i32.store (i32.const 1036) (local.get $ptr))
    (i32.store (i32.const 1040) (local.get $len))
    (i32.const 1024))
"#;

/// A component of world `task`: `items` are module fields, `run` is the body of `run`, with
/// `$body` and `$len` for the input.
pub(super) fn guest_with(items: &str, run: &str) -> Vec<u8> {
    component(&format!(
        r#"(module {PROLOGUE} {items}
          (func (export "hearth:task/runner@0.1.0#run")
            (param $media i32) (param $media_len i32) (param $body i32) (param $len i32) (result i32)
            (local $i i32) (local $n i64)
            {run}))"#
    ))
}

pub(super) fn guest(run: &str) -> Vec<u8> {
    guest_with("", run)
}

pub(super) fn component(wat: &str) -> Vec<u8> {
    component_of("task", &[], wat)
}

/// A component for `world` of our WIT, with more packages of WIT beside it.
pub(super) fn component_of(world: &str, packages: &[&str], wat: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).unwrap();
    let mut resolve = Resolve::default();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (mut package, _) = resolve.push_dir(folder).unwrap();
    for (number, text) in packages.iter().enumerate() {
        package = resolve.push_str(format!("{number}.wit"), text).unwrap();
    }
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}
