//! What an operator may choose. Everything else is a limit of the wire crate.

use hearth_wire::limits;

/// Choices of an operator, all with defaults. A journal may be replayed with others than it was
/// written with: what was decided is in the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Open tasks of one owner.
    pub owner_tasks_max: u64,
    /// Time that nodes have to come back after the coordinator started before their tasks are
    /// leased again: three of a node's first, fast attempts to reconnect.
    pub reconnect_millis: u64,
    /// The local host helps with work for volunteers when they would need longer than this.
    pub overflow_millis: u64,
    /// A mode must fit for this long before it is left for a better one.
    pub mode_hold_millis: u64,
    /// A job of lower priority that waited this long gets a share beside more urgent ones.
    pub aging_millis: u64,
    /// Closed jobs that are remembered, for outputs and idempotency keys.
    pub closed_jobs_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            owner_tasks_max: limits::OPEN_TASKS_PER_AUTHOR_MAX,
            reconnect_millis: 5_000,
            overflow_millis: 10_000,
            mode_hold_millis: 3_000,
            aging_millis: 30_000,
            closed_jobs_max: limits::IDEMPOTENCY_KEYS_MAX,
        }
    }
}
