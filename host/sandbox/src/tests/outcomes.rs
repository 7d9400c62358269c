//! Every way in which a guest can end.

use std::sync::{Arc, Mutex};

use hearth_wire::message::LogLevel;
use hearth_wire::runner::RunOutcome;
use hearth_wire::{Resource, TaskError, TrapKind};

use super::guests::{STACK_OVERFLOW, guest, guest_with};
use super::*;

fn outcome(component: &[u8]) -> RunOutcome {
    run(component, &request(b"hello")).outcome
}

#[test]
fn returns_what_it_was_given() {
    let echo = guest("(call $ok (local.get $body) (local.get $len))");
    let ran = run(&echo, &request(b"hello"));
    assert_eq!(ran.outcome, returned(b"hello"));
    assert!(ran.fuel_used > 0);
    // The same again costs the same again.
    assert_eq!(run(&echo, &request(b"hello")).fuel_used, ran.fuel_used);
    // A megabyte on the way in and out, growing the memory on the way.
    let input = vec![7; 1 << 20];
    assert_eq!(run(&echo, &request(&input)).outcome, returned(&input));
}

#[test]
fn sees_its_task() {
    // id, seed and limits lie at 2048: two lists, then six numbers.
    let id = guest(
        "(call $get_task (i32.const 2048)) (call $ok (i32.load (i32.const 2048)) (i32.load (i32.const 2052)))",
    );
    assert_eq!(outcome(&id), returned(Digest::of(b"content").as_bytes()));
    let seed = guest(
        "(call $get_task (i32.const 2048)) (call $ok (i32.load (i32.const 2056)) (i32.load (i32.const 2060)))",
    );
    assert_eq!(outcome(&seed), returned(Digest::of(b"seed").as_bytes()));
    let limits =
        guest("(call $get_task (i32.const 2048)) (call $ok (i32.const 2064) (i32.const 16))");
    let mut wanted = 50_000_000u64.to_le_bytes().to_vec();
    wanted.extend((4u64 << 20).to_le_bytes());
    assert_eq!(outcome(&limits), returned(&wanted));
}

#[test]
fn refuses_with_its_own_error() {
    let refuse = |case| {
        guest(&format!(
            "(call $err (i32.const {case}) (local.get $body) (local.get $len))"
        ))
    };
    let text = || Some("hello".to_owned());
    for (case, error) in [
        (0, TaskError::InvalidInput(text())),
        (1, TaskError::NotGranted(text())),
        (2, TaskError::Failed(text())),
        (3, TaskError::Other(text())),
    ] {
        assert_eq!(outcome(&refuse(case)), RunOutcome::Refused(error));
    }
}

#[test]
fn cuts_a_huge_error_at_a_character() {
    // "é" is two bytes; with one byte before them, the limit falls inside one.
    let huge = guest("(call $err (i32.const 2) (local.get $body) (local.get $len))");
    let text = format!("x{}", "é".repeat(100_000));
    let ran = run(&huge, &request(text.as_bytes()));
    let RunOutcome::Refused(TaskError::Failed(Some(kept))) = ran.outcome else {
        panic!("{:?}", ran.outcome);
    };
    assert_eq!(kept.len(), 4_095);
    assert!(text.starts_with(&kept));
}

#[test]
fn endless_loop_is_exhausted_of_fuel() {
    let ran = run(&guest("(loop $l (br $l)) (unreachable)"), &request(b""));
    assert_eq!(ran.outcome, RunOutcome::Exhausted(Resource::Fuel));
    assert_eq!(ran.fuel_used, 50_000_000);
}

#[test]
fn endless_start_function_is_exhausted_of_fuel() {
    let component = guest_with(
        "(func $begin (loop $l (br $l))) (start $begin)",
        "(call $ok (i32.const 0) (i32.const 0))",
    );
    assert_eq!(outcome(&component), RunOutcome::Exhausted(Resource::Fuel));
}

#[test]
fn start_up_costs_no_fuel_of_the_task() {
    let body = "(call $ok (local.get $body) (local.get $len))";
    let plain = run(&guest(body), &request(b"hello"));
    let prepared = guest_with(
        "(func $begin (local $i i32) (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $l (i32.lt_u (local.get $i) (i32.const 100000))))) (start $begin)
         (data (i32.const 4096) \"some data to copy\")",
        body,
    );
    let ran = run(&prepared, &request(b"hello"));
    assert_eq!(ran.outcome, plain.outcome);
    assert_eq!(ran.fuel_used, plain.fuel_used);
}

#[test]
fn memory_bomb_is_exhausted_of_memory() {
    // As an allocator does it: grow until refused, then abort.
    let bomb = guest(
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (unreachable)",
    );
    assert_eq!(outcome(&bomb), RunOutcome::Exhausted(Resource::Memory));
    // All at once, and more than 32 bits can address.
    for pages in [1_000, 60_000, 65_536] {
        let bomb = guest(&format!(
            "(drop (memory.grow (i32.const {pages}))) (unreachable)"
        ));
        assert_eq!(
            outcome(&bomb),
            RunOutcome::Exhausted(Resource::Memory),
            "{pages}"
        );
    }
}

#[test]
fn guest_that_copes_with_refused_memory_returns() {
    let copes = guest(
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
         (i32.store (i32.const 4096) (memory.size)) (call $ok (i32.const 4096) (i32.const 4))",
    );
    // 4 MiB are 64 pages.
    assert_eq!(outcome(&copes), returned(&64u32.to_le_bytes()));
}

#[test]
fn table_bomb_is_exhausted_of_memory() {
    let bomb = guest_with(
        "(table $t 0 funcref)",
        "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1)))) (unreachable)",
    );
    assert_eq!(outcome(&bomb), RunOutcome::Exhausted(Resource::Memory));
    let copes = guest_with(
        "(table $t 0 funcref)",
        "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1))))
         (i32.store (i32.const 4096) (table.size $t)) (call $ok (i32.const 4096) (i32.const 4))",
    );
    // The component's own adapter has a small table, which counts as well.
    assert_eq!(outcome(&copes), returned(&900u32.to_le_bytes()));
}

#[test]
fn deep_recursion_is_inconclusive() {
    let deep = guest_with(
        "(func $deep (param i64) (result i64) (i64.add (i64.const 1) (call $deep (local.get 0))))",
        "(drop (call $deep (i64.const 0))) (unreachable)",
    );
    let mut request = request(b"");
    request.limits.fuel = 10_000_000_000;
    assert_eq!(run(&deep, &request).outcome, STACK_OVERFLOW);
}

#[test]
fn giant_output_is_exhausted_of_output() {
    let giant = |len: u32| {
        guest(&format!(
            "(drop (memory.grow (i32.const 40))) (call $ok (i32.const 0) (i32.const {len}))"
        ))
    };
    assert_eq!(outcome(&giant(1 << 20)), returned(&memory_of(1 << 20)));
    assert_eq!(
        outcome(&giant((1 << 20) + 1)),
        RunOutcome::Exhausted(Resource::Output)
    );
    // More than one call may carry.
    let mut big = request(b"");
    big.limits.memory_bytes = 64 << 20;
    let component =
        guest("(drop (memory.grow (i32.const 500))) (call $ok (i32.const 0) (i32.const 20000000))");
    assert_eq!(
        run(&component, &big).outcome,
        RunOutcome::Exhausted(Resource::Output)
    );
}

/// What a fresh guest's memory holds from 0 on, after `$ok`.
fn memory_of(len: usize) -> Vec<u8> {
    let mut memory = vec![0; len];
    memory[16..26].copy_from_slice(b"text/plain");
    memory[1028] = 16;
    memory[1032] = 10;
    memory[1040..1044].copy_from_slice(&(len as u32).to_le_bytes());
    memory[8192..8202].copy_from_slice(b"text/plain");
    memory[8208..8213].copy_from_slice(b"hello");
    memory
}

#[test]
fn traps_are_told_by_kind() {
    let table =
        "(table $t 3 3 funcref) (elem (table $t) (i32.const 1) func $other) (type $t0 (func))
                 (func $other (param i32))";
    let call =
        |index: i32| format!("(call_indirect $t (type $t0) (i32.const {index})) (unreachable)");
    for (run, kind) in [
        ("(unreachable)".to_owned(), TrapKind::Unreachable),
        ("(i32.load (i32.const -8))".to_owned(), TrapKind::MemoryOutOfBounds),
        ("(drop (table.get $t (i32.const 9))) (unreachable)".to_owned(), TrapKind::TableOutOfBounds),
        (call(9), TrapKind::TableOutOfBounds),
        (call(0), TrapKind::IndirectCallToNull),
        (call(1), TrapKind::BadSignature),
        ("(i32.div_s (i32.const 1) (local.get $i))".to_owned(), TrapKind::DivisionByZero),
        (
            "(i32.div_s (i32.const -2147483648) (i32.sub (local.get $i) (i32.const 1)))".to_owned(),
            TrapKind::IntegerOverflow,
        ),
        (
            "(i32.trunc_f64_s (f64.div (f64.const 0) (f64.const 0)))".to_owned(),
            TrapKind::BadConversionToInteger,
        ),
        // A body that lies outside of the memory.
        ("(call $ok (i32.const 0) (i32.const 70000))".to_owned(), TrapKind::Contract),
        // A result that lies outside of the memory.
        ("(i32.const -4)".to_owned(), TrapKind::Contract),
        // No such case of the result.
        ("(i32.store8 (i32.const 1024) (i32.const 9)) (i32.const 1024)".to_owned(), TrapKind::Contract),
        // A media type that is empty, or not text.
        (
            "(drop (call $ok (i32.const 0) (i32.const 0))) (i32.store (i32.const 1032) (i32.const 0)) (i32.const 1024)"
                .to_owned(),
            TrapKind::Contract,
        ),
        (
            "(i32.store8 (i32.const 16) (i32.const 255)) (call $ok (i32.const 0) (i32.const 0))".to_owned(),
            TrapKind::Contract,
        ),
        (
            "(i32.store8 (i32.const 16) (i32.const 10)) (call $ok (i32.const 0) (i32.const 0))".to_owned(),
            TrapKind::Contract,
        ),
    ] {
        assert_eq!(outcome(&guest_with(table, &run)), RunOutcome::Trapped(kind), "{run}");
    }
}

#[test]
fn not_a_number_has_one_form() {
    // NaNs of different make, as arithmetic gives them; their bits would differ between CPUs.
    let nan = guest(
        "(f64.store (i32.const 4096) (f64.div (f64.const 0) (f64.convert_i32_s (local.get $i))))
         (f64.store (i32.const 4104) (f64.sqrt (f64.convert_i32_s (i32.sub (local.get $i) (i32.const 1)))))
         (f64.store (i32.const 4112) (f64.add (f64.const nan:0x123456) (f64.convert_i32_s (local.get $i))))
         (call $ok (i32.const 4096) (i32.const 24))",
    );
    let canonical = 0x7ff8_0000_0000_0000u64.to_le_bytes().repeat(3);
    assert_eq!(outcome(&nan), returned(&canonical));
}

#[derive(Default, Clone)]
struct Heard(Arc<Mutex<HeardInner>>);

#[derive(Default)]
struct HeardInner {
    log: Vec<(LogLevel, String)>,
    progress: Vec<(u64, Option<u64>)>,
}

impl Hooks for Heard {
    fn progress(&mut self, done: u64, total: Option<u64>) {
        self.0.lock().unwrap().progress.push((done, total));
    }

    fn log(&mut self, level: LogLevel, text: &str) {
        self.0.lock().unwrap().log.push((level, text.to_owned()));
    }
}

#[test]
fn log_flood_is_kept_to_its_limit_and_changes_nothing() {
    let flood = guest(
        "(loop $l (call $log (i32.const 2) (local.get $body) (local.get $len))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $l (i32.lt_u (local.get $i) (i32.const 1000))))
         (call $report (i64.const 3) (i32.const 1) (i64.const 4))
         (call $report (i64.const 4) (i32.const 0) (i64.const 0))
         (call $ok (local.get $body) (local.get $len))",
    );
    let heard = Heard::default();
    let program = program(&NATIVE, &flood);
    let ran = NATIVE.run_blocking(&program, request(b"hello"), &Gate::new(), heard.clone());
    assert_eq!(ran.outcome, returned(b"hello"));
    let inner = heard.0.lock().unwrap();
    let kept: usize = inner.log.iter().map(|(_, text)| text.len()).sum();
    assert_eq!(kept, 4_096);
    assert_eq!(ran.log_bytes_dropped, 5_000 - 4_096);
    assert_eq!(inner.log[0], (LogLevel::Warn, "hello".to_owned()));
    assert_eq!(inner.progress, [(3, Some(4)), (4, None)]);
    drop(inner);

    // What nobody hears costs the same.
    assert_eq!(run(&flood, &request(b"hello")).fuel_used, ran.fuel_used);

    // A line is cut at its own limit.
    let heard = Heard::default();
    let long = "x".repeat(3_000);
    let line = guest(
        "(call $log (i32.const 0) (local.get $body) (local.get $len)) (call $ok (i32.const 0) (i32.const 0))",
    );
    let program = super::program(&NATIVE, &line);
    let ran = NATIVE.run_blocking(
        &program,
        request(long.as_bytes()),
        &Gate::new(),
        heard.clone(),
    );
    assert_eq!(ran.log_bytes_dropped, 3_000 - 1_024);
    assert_eq!(heard.0.lock().unwrap().log[0].1.len(), 1_024);
}

#[test]
fn calls_into_the_host_are_charged_by_their_bytes() {
    let log = |len: u32| {
        let component = guest(&format!(
            "(call $log (i32.const 0) (i32.const 0) (i32.const {len})) (call $ok (i32.const 0) (i32.const 0))"
        ));
        run(&component, &request(b"")).fuel_used
    };
    assert_eq!(log(10_000) - log(0), 10_000);

    let broke = guest(
        "(loop $l (call $log (i32.const 0) (i32.const 0) (i32.const 60000)) (br $l)) (unreachable)",
    );
    assert_eq!(outcome(&broke), RunOutcome::Exhausted(Resource::Fuel));
}
