//! The short form of the campaign: `cargo xtask sim --hours 200` is the long one.

use std::collections::BTreeMap;

use hearth_wire::record::{Fact, Record, ReleaseFacts};
use hearth_wire::{
    Digest, EngineRange, JobOptions, JobSpec, KeyId, TaskLimits, TrustPolicy, codec,
};

use crate::world::{Wish, World, WorldConfig};
use crate::{Fault, Kept, SimConfig, crash_everywhere, kept_seeds, power, run};

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

/// `cargo xtask power --points 20000` is the long form.
#[test]
fn power_losses_at_every_operation_lose_nothing_that_was_promised() {
    let report = power(1, 2_000, 25);
    assert_eq!(report.violations, Vec::<String>::new());
    assert!(report.points >= 2_000 && report.chains > 200, "{report:?}");
    assert!(report.torn > 100 && report.killed > 100, "{report:?}");
    assert!(
        report.failed_disks > 100 && report.restored > 100,
        "{report:?}"
    );
    assert!(report.snapshots > 100 && report.blobs > 100, "{report:?}");
}

/// A world without faults in which two owners always have plenty waiting, all of it alike.
fn two_owners(seed: u64, owners: [KeyId; 2]) -> World {
    let mut world = World::new(WorldConfig {
        volunteers: 6,
        crashes: false,
        quiet: true,
        ..WorldConfig::hour(seed)
    });
    // Shorter than a second, so that accounts in coarse units would show.
    world.clients.usual_millis = Some(300);
    let facts = ReleaseFacts {
        limits: TaskLimits {
            memory_bytes: 1 << 24,
            ..TaskLimits::default()
        },
        capabilities: Vec::new(),
        locations: Vec::new(),
        engines: EngineRange {
            min: [40, 0, 0],
            max: [48, 9, 9],
        },
        ..world.new_release()
    };
    world.offer(facts);
    world.run_until(1_000);
    for second in 1..120 {
        for owner in owners {
            let jobs = world.oracle.jobs.iter();
            let jobs = jobs.filter(|job| job.spec.owner == owner);
            let waiting: usize = jobs.map(|job| job.tasks.len() - job.fresh as usize).sum();
            for _ in (waiting..500).step_by(50) {
                let spec = world.new_spec();
                let mut inputs = spec.inputs;
                inputs.count = 50;
                let options = JobOptions {
                    trust: TrustPolicy::Fast,
                    ..JobOptions::default()
                };
                let spec = JobSpec {
                    release: spec.release,
                    inputs,
                    owner,
                    options,
                };
                world.ask(Wish::Submit(spec, None));
            }
        }
        world.run_until((second + 1) * 1_000);
    }
    world
}

#[test]
fn two_owners_who_always_want_more_get_the_same_run_time() {
    let owners = [1, 2].map(|name: u8| KeyId(Digest::of(&[name])));
    let world = two_owners(1, owners);
    assert_eq!(world.oracle.violations, Vec::<String>::new());
    let (mut of, mut micros, mut runs) = (BTreeMap::new(), BTreeMap::new(), 0);
    for bytes in &world.shell.storage.written {
        match codec::decode::<Record>(bytes, usize::MAX).unwrap().fact {
            Fact::Submitted { job, spec } => _ = of.insert(job, spec.owner),
            Fact::Reported { reports, .. } => {
                for report in reports {
                    runs += 1;
                    *micros.entry(of[&report.task.job]).or_default() += report.run_micros;
                }
            }
            _ => {}
        }
    }
    let [one, other]: [u64; 2] = owners.map(|owner| micros.get(&owner).copied().unwrap_or(0));
    assert!(runs > 2_000, "{runs} runs");
    let near = one.abs_diff(other) * 10 < one.max(other);
    assert!(near, "{one} and {other} microseconds");
}
