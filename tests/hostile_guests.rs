//! Guests that misbehave end as they should, and honest work goes on beside them.

use hearth::{Component, LocalHost, LocalHostError, TaskResult};
use hearth_wire::runner::RunOutcome;
use hearth_wire::{Inconclusive, TaskError, TaskLimits};
use hostile::{Expected, GUESTS, Guest};

use crate::support::{HEARTH, guest};

/// Small, so that what runs into a limit does so soon.
fn limits() -> TaskLimits {
    TaskLimits {
        fuel: 300_000_000,
        memory_bytes: 16 << 20,
        output_bytes: 1 << 20,
        ..TaskLimits::default()
    }
}

fn ends_as_expected(guest: &Guest, result: &TaskResult) {
    let name = guest.name;
    match (guest.expected, &result.outcome) {
        (Expected::Returned(body), RunOutcome::Returned { bytes, .. }) => {
            assert_eq!(bytes, body, "{name}")
        }
        (Expected::RefusedFailed, RunOutcome::Refused(TaskError::Failed(Some(text)))) => {
            assert!(
                !text.is_empty() && text.len() <= hearth_wire::limits::ERROR_TEXT_BYTES_MAX,
                "{name}: {} bytes",
                text.len()
            );
        }
        (Expected::Exhausted(resource), RunOutcome::Exhausted(found)) => {
            assert_eq!(format!("{found:?}"), resource, "{name}")
        }
        (Expected::Trapped(kind), RunOutcome::Trapped(found)) => {
            assert_eq!(format!("{found:?}"), kind, "{name}")
        }
        (Expected::StackOverflow, RunOutcome::Inconclusive(Inconclusive::StackOverflow)) => {}
        (Expected::Unfit { names }, RunOutcome::Inconclusive(Inconclusive::Unfit(text))) => {
            assert!(
                names.is_none_or(|names| text.contains(names)),
                "{name}: {text}"
            );
        }
        (expected, found) => panic!("{name}: expected {expected:?}, got {found:?}"),
    }
}

#[test]
fn every_hostile_guest_ends_as_expected() {
    let host = LocalHost::builder()
        .runner_program(HEARTH)
        .slots(2)
        .start()
        .unwrap();
    let walls = host.confinement();
    assert!(
        walls.no_new_privileges && walls.seccomp && walls.rlimits,
        "{walls:?}"
    );
    let honest = Component::from_path(guest("mersenne")).unwrap();
    for hostile in GUESTS {
        let bytes = hostile.component().unwrap();
        let component = match Component::from_bytes(bytes) {
            Ok(component) => component,
            Err(LocalHostError::Unfit(error)) => {
                let Expected::Unfit { names } = hostile.expected else {
                    panic!("{}: {error}", hostile.name)
                };
                assert!(
                    names.is_none_or(|names| error.to_string().contains(names)),
                    "{}: {error}",
                    hostile.name
                );
                continue;
            }
            Err(error) => panic!("{}: {error}", hostile.name),
        };
        // Two of them beside an honest task on the same host.
        let job = host
            .job(&component)
            .limits(limits())
            .inputs(["", "input"])
            .run()
            .unwrap();
        let beside = host
            .job(&honest)
            .media_type("application/json")
            .input("{\"exponent\": 521}")
            .run()
            .unwrap();
        let results = job.wait();
        assert_eq!(results.len(), 2, "{}", hostile.name);
        results
            .iter()
            .for_each(|result| ends_as_expected(hostile, result));
        assert!(
            beside.wait()[0].output().is_some(),
            "honest work beside {}",
            hostile.name
        );
    }
}

#[test]
fn deterministic_ends_are_the_same_on_pulley() {
    let native = LocalHost::in_process().unwrap();
    let pulley = LocalHost::builder().pulley().start().unwrap();
    for hostile in GUESTS.iter().filter(|guest| {
        !matches!(
            guest.expected,
            Expected::Unfit { .. } | Expected::StackOverflow
        )
    }) {
        let Ok(component) = Component::from_bytes(hostile.component().unwrap()) else {
            continue;
        };
        // An interpreter is slow: a small budget shows the same.
        let limits = TaskLimits {
            fuel: 30_000_000,
            ..limits()
        };
        let run = |host: &LocalHost| {
            host.job(&component)
                .limits(limits)
                .input("")
                .run()
                .unwrap()
                .wait()
        };
        let (ours, theirs) = (run(&native), run(&pulley));
        assert_eq!(ours[0].digest(), theirs[0].digest(), "{}", hostile.name);
        assert_eq!(ours[0].fuel_used, theirs[0].fuel_used, "{}", hostile.name);
    }
}
