//! Resuming changes no outcome.

use std::sync::{Arc, Mutex};

use hearth_wire::Resource;
use hearth_wire::runner::Resume;

use super::guests::guest;
use super::*;

/// Adds up the numbers below 1,000 and saves (i, sum) at the top of each hundredth step.
fn adder() -> Vec<u8> {
    guest(
        "(call $load (i32.const 2048))
         (if (i32.load8_u (i32.const 2048)) (then
           (local.set $i (i32.load (i32.load (i32.const 2052))))
           (local.set $n (i64.load offset=4 (i32.load (i32.const 2052))))))
         (loop $l
           (if (i32.eqz (i32.rem_u (local.get $i) (i32.const 100))) (then
             (i32.store (i32.const 4096) (local.get $i))
             (i64.store offset=4 (i32.const 4096) (local.get $n))
             (call $save (i32.const 4096) (i32.const 12))))
           (local.set $n (i64.add (local.get $n) (i64.extend_i32_u (local.get $i))))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $l (i32.lt_u (local.get $i) (i32.const 1000))))
         (i64.store (i32.const 4096) (local.get $n))
         (call $ok (i32.const 4096) (i32.const 8))",
    )
}

#[derive(Default, Clone)]
struct Keep(Arc<Mutex<Vec<Resume>>>);

impl Hooks for Keep {
    fn wants_checkpoint(&mut self) -> bool {
        true
    }

    fn checkpoint(&mut self, state: Vec<u8>, fuel_used: u64) {
        self.0.lock().unwrap().push(Resume { state, fuel_used });
    }
}

fn kept(sandbox: &Sandbox, component: &[u8], request: RunRequest) -> (Ran, Vec<Resume>) {
    let keep = Keep::default();
    let program = program(sandbox, component);
    let ran = sandbox.run_blocking(&program, request, &Gate::new(), keep.clone());
    let states = std::mem::take(&mut *keep.0.lock().unwrap());
    (ran, states)
}

#[test]
fn resumed_attempt_has_the_same_bytes_and_the_same_fuel() {
    let adder = adder();
    let (whole, states) = kept(&NATIVE, &adder, request(b""));
    assert_eq!(whole.outcome, returned(&499_500u64.to_le_bytes()));
    assert_eq!(states.len(), 10);
    for sandbox in [&*NATIVE, &*PULLEY] {
        for (position, state) in states.iter().enumerate() {
            let mut request = request(b"");
            request.resume = Some(state.clone());
            let (resumed, later) = kept(sandbox, &adder, request);
            assert_eq!(resumed.outcome, whole.outcome);
            assert_eq!(resumed.fuel_used, whole.fuel_used, "from state {position}");
            // It saves the very states that the whole run saved from there on.
            assert_eq!(later, states[position..]);
        }
    }
}

#[test]
fn resumed_attempt_does_the_work_only_once() {
    let adder = adder();
    let (whole, states) = kept(&NATIVE, &adder, request(b""));
    let mut request = request(b"");
    request.resume = states.last().cloned();
    let (_, later) = kept(&NATIVE, &adder, request);
    assert_eq!(later.len(), 1, "of ten steps one was left");
    assert!(whole.fuel_used > states[9].fuel_used);
}

#[test]
fn exhaustion_is_told_only_of_a_run_from_the_start() {
    let adder = adder();
    let (whole, states) = kept(&NATIVE, &adder, request(b""));
    // Nothing left at the end is too little: from the start and from every state alike.
    let mut short = request(b"");
    short.limits.fuel = whole.fuel_used;
    assert_eq!(
        run(&adder, &short).outcome,
        RunOutcome::Exhausted(Resource::Fuel)
    );
    for state in &states {
        short.resume = Some(state.clone());
        assert_eq!(
            run(&adder, &short).outcome,
            RunOutcome::Exhausted(Resource::Fuel)
        );
    }
    // Just enough: the resumed attempt is too close to be believed, the one from the start decides.
    let mut enough = request(b"");
    enough.limits.fuel = whole.fuel_used + 1;
    for state in &states {
        enough.resume = Some(state.clone());
        let ran = run(&adder, &enough);
        assert_eq!(ran.outcome, whole.outcome);
        assert_eq!(ran.fuel_used, whole.fuel_used);
    }
}

#[test]
fn poisoned_state_that_makes_a_guest_fail_is_passed_over() {
    // Traps on any state, as a guest does that cannot read one.
    let picky = guest(
        "(call $load (i32.const 2048))
         (if (i32.load8_u (i32.const 2048)) (then (unreachable)))
         (call $ok (local.get $body) (local.get $len))",
    );
    let mut request = request(b"hello");
    request.resume = Some(Resume {
        state: b"poison".to_vec(),
        fuel_used: u64::MAX,
    });
    assert_eq!(run(&picky, &request).outcome, returned(b"hello"));
}

#[test]
fn checkpoint_flood_changes_nothing() {
    let flood = guest(
        "(drop (memory.grow (i32.const 10)))
         (loop $l (call $save (i32.const 0) (i32.const 100000))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $l (i32.lt_u (local.get $i) (i32.const 100))))
         (call $ok (local.get $body) (local.get $len))",
    );
    let (ran, states) = kept(&NATIVE, &flood, request(b"hello"));
    assert_eq!(ran.outcome, returned(b"hello"));
    assert_eq!(states, [], "each is larger than the manifest allows");
    assert_eq!(run(&flood, &request(b"hello")).fuel_used, ran.fuel_used);
}

#[test]
fn restoring_gives_fuel_back_once() {
    // Saves a state, and with one loads, works and saves it again and again: without an end, if each
    // round put the meter back to where the state was made.
    let endless = guest(
        "(call $save (i32.const 4096) (i32.const 12))
         (call $load (i32.const 2048))
         (if (i32.load8_u (i32.const 2048)) (then
           (loop $l
             (call $load (i32.const 2048))
             (call $save (i32.const 4096) (i32.const 12))
             (local.set $i (i32.add (local.get $i) (i32.const 1)))
             (br_if $l (i32.lt_u (local.get $i) (i32.const 10000))))))
         (call $ok (local.get $body) (local.get $len))",
    );
    let (whole, states) = kept(&NATIVE, &endless, request(b"hello"));
    let mut resumed = request(b"hello");
    resumed.resume = states.first().cloned();
    let ran = run(&endless, &resumed);
    assert_eq!(ran.outcome, whole.outcome);
    // The least that 10,000 rounds of two calls can cost.
    assert!(
        ran.fuel_used - whole.fuel_used > 10_000 * 2 * crate::rules::CALL_FUEL,
        "{} resumed, {} at once",
        ran.fuel_used,
        whole.fuel_used
    );
}

#[test]
fn work_done_before_the_first_save_is_not_given_back() {
    // With a state it works hard before it saves that state again.
    let worker = guest(
        "(call $load (i32.const 2048))
         (if (i32.load8_u (i32.const 2048)) (then
           (loop $l
             (local.set $i (i32.add (local.get $i) (i32.const 1)))
             (br_if $l (i32.lt_u (local.get $i) (i32.const 2000000))))))
         (call $save (i32.const 4096) (i32.const 12))
         (call $ok (local.get $body) (local.get $len))",
    );
    let (whole, states) = kept(&NATIVE, &worker, request(b"hello"));
    let mut resumed = request(b"hello");
    resumed.resume = states.first().cloned();
    let ran = run(&worker, &resumed);
    assert_eq!(ran.outcome, whole.outcome);
    assert!(ran.fuel_used - whole.fuel_used > 2_000_000);
}
