//! A run: as many worlds as it takes, one simulated hour each.

use std::panic::AssertUnwindSafe;

use hearth_wire::{Digest, Hasher};

use crate::fault::Faults;
use crate::rng::Rng;
use crate::world::{End, World, WorldConfig};

/// What to simulate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimConfig {
    /// Decides everything.
    pub seed: u64,
    /// Simulated hours. Each is a world of its own, with its own number of nodes and its own luck,
    /// so that no journal grows beyond what a replay takes in a moment.
    pub hours: u32,
    /// Stop at the first hour with a violation.
    pub stop_at_violation: bool,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Hours simulated.
    pub hours: u32,
    /// Events that core handled.
    pub events: u64,
    /// Records that it emitted.
    pub records: u64,
    /// Tasks that settled.
    pub settled: u64,
    /// Replays of a whole journal whose hash was compared.
    pub replays: u64,
    /// How often each kind of fault was caused.
    pub faults: Faults,
    /// What must not be, with the seed of its hour. Empty if all is well.
    pub violations: Vec<String>,
    /// The hours in which it was, to be kept.
    pub failed: Vec<Kept>,
    /// A digest of every hour's final state. The same for the same seed.
    pub hash: Digest,
}

/// A run that once failed, or has just done so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// One simulated hour from this seed.
    Hour(u64),
    /// [`crate::crash_everywhere`] from this seed.
    Crash(u64),
    /// One chain of lives of [`power`](crate::power()), by its number.
    Power(u64),
}

impl Kept {
    /// What must not be and is, if anything.
    pub fn violations(self) -> Vec<String> {
        match self {
            Self::Hour(seed) => {
                let stop_at_violation = true;
                let hours = 1;
                run(&SimConfig {
                    seed,
                    hours,
                    stop_at_violation,
                })
                .violations
            }
            Self::Crash(seed) => crate::crash_everywhere(seed).violations,
            Self::Power(chain) => crate::power::power_again(chain),
        }
    }
}

/// As it stands in the file of kept seeds.
impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hour(seed) => write!(f, "hour {seed}"),
            Self::Crash(seed) => write!(f, "crash {seed}"),
            Self::Power(chain) => write!(f, "power {chain}"),
        }
    }
}

/// Seeds of runs that once failed. Every run of the simulator and of its tests goes through them again.
pub fn kept_seeds() -> Vec<Kept> {
    let lines = include_str!("../seeds.txt").lines();
    let seeds = lines.filter_map(|line| {
        let (kind, seed) = line.split('#').next()?.trim().split_once(' ')?;
        let seed = seed.parse().ok()?;
        match kind {
            "hour" => Some(Kept::Hour(seed)),
            "crash" => Some(Kept::Crash(seed)),
            "power" => Some(Kept::Power(seed)),
            _ => None,
        }
    });
    seeds.collect()
}

/// Lives through a world. A panic in core is a violation like any other, and must not hide its seed.
pub(crate) fn live(config: WorldConfig) -> Result<End, String> {
    let seed = config.seed;
    let world = AssertUnwindSafe(|| World::new(config).run());
    std::panic::catch_unwind(world).map_err(|_| format!("seed {seed}: a panic, told of above"))
}

/// Simulates hours one after another.
pub fn run(config: &SimConfig) -> Report {
    let mut report = Report {
        seed: config.seed,
        hours: 0,
        events: 0,
        records: 0,
        settled: 0,
        replays: 0,
        faults: Faults::default(),
        violations: Vec::new(),
        failed: Vec::new(),
        hash: Digest::default(),
    };
    // The first hour's seed is the run's, so that a kept seed is one hour.
    let mut seeds = Rng::new(config.seed);
    for hour in 0..config.hours {
        let seed = if hour == 0 { config.seed } else { seeds.next() };
        report.hours += 1;
        let end = match live(WorldConfig::hour(seed)) {
            Ok(end) => end,
            Err(text) => {
                report.failed.push(Kept::Hour(seed));
                report.violations.push(text);
                if config.stop_at_violation {
                    break;
                }
                continue;
            }
        };
        report.events += end.events;
        report.records += end.records;
        report.settled += end.settled;
        report.replays += end.replays;
        report.faults.merge(&end.faults);
        report.hash = Hasher::with_domain("hearth.sim.v1")
            .raw(report.hash.as_bytes())
            .raw(end.hash.as_bytes())
            .finish();
        let failed = !end.violations.is_empty();
        report.failed.extend(failed.then_some(Kept::Hour(seed)));
        let named = end.violations.into_iter();
        report
            .violations
            .extend(named.map(|text| format!("seed {seed}: {text}")));
        if failed && config.stop_at_violation {
            break;
        }
    }
    report
}
