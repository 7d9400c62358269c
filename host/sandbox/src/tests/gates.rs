//! Pause, resume, throttle, cancel.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hearth_wire::Inconclusive;

use super::guests::guest;
use super::*;

/// Counts to `steps` and reports every step of a million.
fn counter() -> Vec<u8> {
    guest(
        "(loop $l
           (local.set $n (i64.add (local.get $n) (i64.const 1)))
           (if (i64.eqz (i64.rem_u (local.get $n) (i64.const 100000))) (then
             (call $report (local.get $n) (i32.const 0) (i64.const 0))))
           (br_if $l (i64.lt_u (local.get $n) (i64.const 400000000))))
         (i64.store (i32.const 4096) (local.get $n))
         (call $ok (i32.const 4096) (i32.const 8))",
    )
}

#[derive(Default, Clone)]
struct Done(Arc<Mutex<u64>>);

impl Hooks for Done {
    fn progress(&mut self, done: u64, _total: Option<u64>) {
        *self.0.lock().unwrap() = done;
    }
}

impl Done {
    fn get(&self) -> u64 {
        *self.0.lock().unwrap()
    }

    fn wait_past(&self, done: u64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.get() <= done {
            assert!(Instant::now() < deadline, "the guest does not go on");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn long() -> RunRequest {
    let mut request = request(b"");
    request.limits.fuel = 1 << 40;
    request
}

/// Starts the counter on a thread of its own.
fn start(sandbox: &Sandbox) -> (Gate, Done, std::thread::JoinHandle<Ran>) {
    let program = program(sandbox, &counter());
    let (gate, done) = (Gate::new(), Done::default());
    let (sandbox, ours, hooks) = (sandbox.clone(), gate.clone(), done.clone());
    let thread = std::thread::spawn(move || sandbox.run_blocking(&program, long(), &ours, hooks));
    (gate, done, thread)
}

#[test]
fn paused_guest_stands_still_and_goes_on() {
    for sandbox in [&*NATIVE, &*PULLEY] {
        let (gate, done, thread) = start(sandbox);
        done.wait_past(0);
        gate.pause();
        std::thread::sleep(Duration::from_millis(100));
        let at = done.get();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(done.get(), at, "it ran on while it was paused");
        gate.resume();
        done.wait_past(at);
        gate.cancel();
        let ran = thread.join().unwrap();
        assert_eq!(
            ran.outcome,
            RunOutcome::Inconclusive(Inconclusive::Cancelled)
        );
    }
}

#[test]
fn pausing_changes_no_bytes_and_no_fuel_and_is_not_counted_as_time() {
    let quick = guest(
        "(loop $l
           (local.set $n (i64.add (local.get $n) (i64.const 1)))
           (br_if $l (i64.lt_u (local.get $n) (i64.const 30000000))))
         (i64.store (i32.const 4096) (local.get $n))
         (call $ok (i32.const 4096) (i32.const 8))",
    );
    let sandbox = NATIVE.clone();
    let program = program(&sandbox, &quick);
    let alone = sandbox.run_blocking(&program, long(), &Gate::new(), NoHooks);
    assert_eq!(alone.outcome, returned(&30_000_000u64.to_le_bytes()));

    let gate = Gate::new();
    gate.pause();
    let ours = gate.clone();
    let began = Instant::now();
    let thread = std::thread::spawn(move || sandbox.run_blocking(&program, long(), &ours, NoHooks));
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(20));
        gate.resume();
        std::thread::sleep(Duration::from_millis(7));
        gate.pause();
    }
    std::thread::sleep(Duration::from_millis(300));
    gate.resume();
    let paused = thread.join().unwrap();
    let wall = began.elapsed();
    assert_eq!(paused.outcome, alone.outcome);
    assert_eq!(paused.fuel_used, alone.fuel_used);
    let counted = Duration::from_micros(paused.run_micros);
    assert!(counted <= wall, "{counted:?} of {wall:?}");
}

#[test]
fn parked_guest_can_be_cancelled_and_expired() {
    for end in [Inconclusive::Cancelled, Inconclusive::Deadline] {
        let (gate, done, thread) = start(&NATIVE);
        done.wait_past(0);
        gate.pause();
        std::thread::sleep(Duration::from_millis(30));
        match end {
            Inconclusive::Deadline => gate.expire(),
            _ => gate.cancel(),
        }
        assert_eq!(
            thread.join().unwrap().outcome,
            RunOutcome::Inconclusive(end)
        );
    }
}

#[test]
fn cancelled_before_it_starts() {
    let gate = Gate::new();
    gate.cancel();
    let program = program(&NATIVE, &counter());
    let ran = NATIVE.run_blocking(&program, long(), &gate, NoHooks);
    assert_eq!(
        ran.outcome,
        RunOutcome::Inconclusive(Inconclusive::Cancelled)
    );
    assert_eq!(ran.fuel_used, 0);
}

#[test]
fn throttled_guests_get_their_share() {
    // A sandbox of its own: the throttle is for all guests of one.
    let sandbox = sandbox(Profile::Native, Allocation::OnDemand);
    let (gate, done, thread) = start(&sandbox);
    done.wait_past(0);
    sandbox.throttle(0);
    std::thread::sleep(Duration::from_millis(100));
    let at = done.get();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(done.get(), at, "zero percent is parked");
    sandbox.throttle(50);
    done.wait_past(at);
    sandbox.throttle(100);
    done.wait_past(done.get());
    gate.cancel();
    let ran = thread.join().unwrap();
    assert_eq!(
        ran.outcome,
        RunOutcome::Inconclusive(Inconclusive::Cancelled)
    );
}

#[test]
fn many_attempts_at_once_stay_apart() {
    let sandbox = &*NATIVE;
    let echo = guest("(call $ok (local.get $body) (local.get $len))");
    let program = program(sandbox, &echo);
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let program = &program;
            scope.spawn(move || {
                for round in 0..50u8 {
                    let input = [thread, round];
                    let ran = sandbox.run_blocking(program, request(&input), &Gate::new(), NoHooks);
                    assert_eq!(ran.outcome, returned(&input));
                }
            });
        }
    });
}
