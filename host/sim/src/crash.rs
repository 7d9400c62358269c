//! A crash after every step: what the journal holds by then must replay to what was.

use hearth_core::Coordinator;
use hearth_wire::codec;
use hearth_wire::record::Record;

use crate::run::live;
use crate::world::{WorldConfig, sim_config};

/// What crashing everywhere has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashReport {
    /// Steps after which a crash was tried.
    pub steps: u64,
    /// Records of the run.
    pub records: u64,
    /// What must not be. Empty if all is well.
    pub violations: Vec<String>,
}

/// Lives through a small world, then replays its journal up to each step into a new core, and
/// compares the hash with the one that the living core had after that step.
pub fn crash_everywhere(seed: u64) -> CrashReport {
    let config = WorldConfig {
        millis: 15_000,
        volunteers: 6,
        tasks_max: 60,
        mishap_millis: 400,
        message_luck: 60,
        crashes: false,
        keep_hashes: true,
        ..WorldConfig::hour(seed)
    };
    let end = match live(config) {
        Ok(end) => end,
        Err(text) => {
            return CrashReport {
                steps: 0,
                records: 0,
                violations: vec![text],
            };
        }
    };
    let named = end.violations.into_iter();
    let mut violations: Vec<_> = named.map(|text| format!("seed {seed}: {text}")).collect();
    if !violations.is_empty() {
        // The world ended early, before its last steps were durable.
        return CrashReport {
            steps: 0,
            records: end.records,
            violations,
        };
    }
    let mut steps = 0;
    let mut last = None;
    for (count, hash) in &end.hashes {
        // Steps without records leave the state as it was; one replay serves them all.
        if let Some((before, known)) = last
            && before == *count
        {
            if known != *hash {
                violations.push(format!(
                    "seed {seed}: the state changes without a record after {count}"
                ));
                break;
            }
            continue;
        }
        last = Some((*count, *hash));
        steps += 1;
        let mut core = Coordinator::new(sim_config());
        let replayed = end.journal[..*count].iter().all(|bytes| {
            let record = codec::decode::<Record>(bytes, usize::MAX);
            record.is_ok_and(|record| core.replay(&record).is_ok())
        });
        if !replayed || core.state_hash() != *hash {
            violations.push(format!(
                "seed {seed}: a crash after record {count} changes the state"
            ));
            break;
        }
    }
    CrashReport {
        steps,
        records: end.records,
        violations,
    }
}
