//! Results that a client computed while its realm was away, on their way to the coordinator.

use serde::{Deserialize, Serialize};

use crate::{Digest, EngineId, Outcome, TaskIndex};

/// `POST /v1/jobs/ID/offline-results`, in [`crate::codec`]: results of a job of the sender's.
///
/// `MERGED_PER_REQUEST_MAX` at most. Outputs that are too large to travel inside were uploaded before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflineResults {
    /// What they ran on.
    pub engine: EngineId,
    /// The results, in any order.
    pub results: Vec<OfflineResult>,
    /// Whether more will follow soon: no run of the job is leased for `HOLD_MILLIS` from now. Without,
    /// the job goes on at once.
    pub more: bool,
}

/// How one task ended on its owner's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflineResult {
    /// Which task.
    pub index: TaskIndex,
    /// Content id of what was run: it must be that of the task.
    pub content: Digest,
    /// How it ended; never inconclusive.
    pub outcome: Outcome,
    /// Fuel used.
    pub fuel_used: u64,
    /// Time in the sandbox, in microseconds.
    pub run_micros: u64,
}
