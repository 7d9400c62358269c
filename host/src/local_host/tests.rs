//! What an embedding program sees of its jobs.

use std::time::{Duration, Instant};

use hearth_wire::runner::RunOutcome;
use hearth_wire::{Digest, Inconclusive, limits};

use super::*;

/// A guest that logs two lines, reports twice and returns "ok".
const TALKER: &str = r#"(module
  (import "hearth:task/progress@0.1.0" "report" (func $report (param i64 i32 i64)))
  (import "hearth:task/progress@0.1.0" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 2)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  (data (i32.const 16) "\00\00\00\00" "\40\00\00\00\0a\00\00\00" "\50\00\00\00\02\00\00\00")
  (data (i32.const 64) "text/plain")
  (data (i32.const 80) "ok")
  (data (i32.const 96) "firstthen")
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (call $log (i32.const 2) (i32.const 96) (i32.const 5))
    (call $report (i64.const 1) (i32.const 1) (i64.const 2))
    (call $log (i32.const 2) (i32.const 101) (i32.const 4))
    (call $report (i64.const 2) (i32.const 1) (i64.const 2))
    (i32.const 16)))"#;

fn talker() -> Component {
    let guest = hostile::Guest {
        name: "talker",
        wat: TALKER,
        shape: hostile::Shape::World("task"),
        expected: hostile::Expected::Returned(b"ok"),
    };
    Component::from_bytes(guest.component().unwrap()).unwrap()
}

fn endless() -> Component {
    Component::from_bytes(hostile::component("endless-loop").unwrap()).unwrap()
}

fn host() -> LocalHost {
    LocalHost::builder().slots(2).start().unwrap()
}

/// More fuel than any deadline here lets a guest use.
fn much_fuel() -> hearth_wire::TaskLimits {
    hearth_wire::TaskLimits {
        fuel: u64::MAX >> 1,
        ..Default::default()
    }
}

#[test]
fn progress_and_logs_come_with_the_task_they_are_of() {
    let (host, component) = (host(), talker());
    let (mut seen, mut lines) = (Vec::new(), Vec::new());
    let results = {
        let job = host.job(&component).inputs(["a", "b"]);
        let job = job
            .on_progress(|progress| seen.push(progress))
            .on_log(|line| lines.push(line));
        job.run().unwrap().wait()
    };
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(|result| result.output() == Some(b"ok")));
    for index in 0..2 {
        let texts: Vec<_> = lines
            .iter()
            .filter(|line| line.index == index)
            .map(|line| line.text.as_str())
            .collect();
        assert_eq!(texts, ["first", "then"]);
        let last = seen.iter().rfind(|progress| progress.index == index);
        let last = last.unwrap();
        assert_eq!(last.total, Some(2));
        assert!((1..=2).contains(&last.done));
    }
}

#[test]
fn wrong_inputs_are_told_before_anything_runs() {
    let (host, component) = (host(), talker());
    assert!(matches!(
        host.job(&component).run(),
        Err(LocalHostError::NoInputs)
    ));
    let large = vec![0; limits::INPUT_BYTES_MAX as usize + 1];
    let job = host.job(&component).input("small").input(&large);
    match job.run() {
        Err(LocalHostError::InputTooLarge { index, bytes, max }) => {
            assert_eq!(
                (index, bytes as u64, max),
                (1, max + 1, limits::INPUT_BYTES_MAX)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_task_ends_at_its_deadline_and_a_job_at_its_end() {
    let (host, component) = (host(), endless());
    let ended = |job: JobBuilder<'_>| {
        let begun = Instant::now();
        let results = job.limits(much_fuel()).run().unwrap().wait();
        assert!(begun.elapsed() < Duration::from_secs(60));
        results.into_iter().map(|result| {
            assert_eq!(result.digest(), None);
            result.outcome
        })
    };
    let deadline = RunOutcome::Inconclusive(Inconclusive::Deadline);
    let job = host.job(&component).input("a");
    let outcomes = ended(job.deadline(Duration::from_millis(300)));
    assert_eq!(
        outcomes.collect::<Vec<_>>(),
        std::slice::from_ref(&deadline)
    );
    // More tasks than slots: those that never started end as well.
    let job = host.job(&component).inputs(["a"; 9]);
    let outcomes = ended(job.ends_at(Instant::now() + Duration::from_millis(300)));
    assert_eq!(outcomes.collect::<Vec<_>>(), vec![deadline; 9]);
}

#[test]
fn a_paused_job_stands_still_until_it_is_resumed() {
    let (host, component) = (host(), talker());
    let job = host.job(&component).inputs(["a"; 4]).run().unwrap();
    let control = job.control();
    control.pause();
    let waiter = std::thread::scope(|scope| {
        let (sender, ended) = std::sync::mpsc::channel();
        let control = &control;
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(400));
            sender.send(Instant::now()).unwrap();
            control.resume();
        });
        let results = job.wait();
        let resumed = ended.recv().unwrap();
        (results, resumed, Instant::now())
    });
    let (results, resumed, done) = waiter;
    assert_eq!(results.len(), 4);
    assert!(done > resumed, "nothing ends while the job is paused");
}

#[test]
fn a_pool_that_takes_nothing_ends_the_job() {
    let (host, component) = (host(), talker());
    host.runtime.block_on(host.pool.shutdown());
    let results = host.job(&component).inputs(["a", "b", "c"]).run().unwrap();
    let results = results.wait();
    assert_eq!(results.len(), 3);
    for result in results {
        let RunOutcome::Inconclusive(Inconclusive::HostFault(why)) = result.outcome else {
            panic!("{result:?}");
        };
        assert!(why.contains("shut down"), "{why}");
    }
}

#[test]
fn a_seed_changes_no_outcome_of_a_task_that_ignores_it() {
    let (host, component) = (host(), talker());
    let digest = |seed: &[u8]| {
        let job = host.job(&component).input("a").seed(Digest::of(seed));
        job.run().unwrap().wait()[0].digest()
    };
    assert_eq!(digest(b"one"), digest(b"two"));
}
