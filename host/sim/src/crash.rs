//! A crash after every record: what the journal holds by then must replay, and be gone on from.

use std::collections::BTreeMap;

use hearth_core::{Coordinator, Event};
use hearth_wire::codec;
use hearth_wire::record::Record;

use crate::oracle::Oracle;
use crate::run::live;
use crate::world::{WorldConfig, sim_config, truth};

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

/// Lives through a small world, then replays its journal. Where a step ended the state must have the
/// hash that the living core had; from the records within a step a coordinator starts, must be sound, and
/// must do at once what the step had still to do. What becomes of the work after a crash is for the simulated hours.
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
    let mut known = BTreeMap::new();
    for (count, hash) in end.hashes {
        // Steps without records leave the state as it was; one replay serves them all.
        if known
            .insert(count, hash)
            .is_some_and(|before| before != hash)
        {
            violations.push(format!(
                "seed {seed}: the state changes without a record after {count}"
            ));
        }
    }
    let (mut core, mut oracle) = (Coordinator::new(sim_config()), Oracle::default());
    for (count, bytes) in (1..).zip(&end.journal) {
        let sound = replay(&mut core, bytes).and_then(|record| {
            oracle.record(&record, &truth);
            match known.get(&count) {
                Some(hash) if core.state_hash() == *hash => Ok(()),
                Some(_) => Err("the state is another".to_owned()),
                None => start_from(&end.journal[..count], oracle.clone()),
            }
        });
        steps += u64::from(known.contains_key(&count));
        if let Err(problem) = sound {
            violations.push(format!(
                "seed {seed}: a crash after record {count}: {problem}"
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

fn replay(core: &mut Coordinator, bytes: &[u8]) -> Result<Record, String> {
    let record = codec::decode::<Record>(bytes, usize::MAX);
    let record = record.map_err(|error| error.to_string())?;
    let replayed = core.replay(&record).map_err(|error| error.to_string());
    replayed.map(|()| record)
}

/// A coordinator finds these records, which end within a step, and starts: what had to follow the last
/// of them follows now. The oracle has seen the same records.
fn start_from(journal: &[Vec<u8>], mut oracle: Oracle) -> Result<(), String> {
    let mut core = Coordinator::new(sim_config());
    journal
        .iter()
        .try_for_each(|bytes| replay(&mut core, bytes).map(drop))?;
    let now = core.now();
    let step = core.handle(now, Event::Started { incarnation: 1 });
    for record in &step.records {
        oracle.record(record, &truth);
    }
    oracle.judge_owed();
    oracle.judge_spent();
    if let Some(violation) = oracle.violations.into_iter().next() {
        return Err(violation);
    }
    core.check().map_err(|violation| violation.to_string())
}
