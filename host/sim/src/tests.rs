//! The short form of the campaign: `cargo xtask sim --hours 200` is the long one.

use crate::{Fault, Kept, SimConfig, crash_everywhere, kept_seeds, run};

fn hours(seed: u64, hours: u32) -> crate::Report {
    run(&SimConfig {
        seed,
        hours,
        stop_at_violation: true,
    })
}

#[test]
fn hours_without_a_violation_and_with_every_fault() {
    let report = hours(20_261, 4);
    assert_eq!(report.violations, Vec::<String>::new());
    assert!(report.events >= 4 * 40_000, "{} events", report.events);
    for fault in Fault::ALL {
        assert!(report.faults.count(*fault) > 0, "no {}", fault.word());
    }
    assert!(report.settled > 10_000 && report.replays > 10);
}

#[test]
fn seeds_that_once_failed_do_not_any_more() {
    let seeds = kept_seeds();
    assert!(seeds.contains(&Kept::Hour(13)));
    for seed in seeds {
        assert_eq!(seed.violations(), Vec::<String>::new(), "{seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_not() {
    let (first, again, other) = (hours(7, 1), hours(7, 1), hours(8, 1));
    assert_eq!(first, again);
    assert_ne!(first.hash, other.hash);
}

#[test]
fn a_crash_after_any_step_replays_to_the_same_state() {
    let mut steps = 0;
    for seed in 0..6 {
        let report = crash_everywhere(seed);
        assert_eq!(report.violations, Vec::<String>::new());
        steps += report.steps;
    }
    assert!(steps > 1_000, "{steps} steps");
}
