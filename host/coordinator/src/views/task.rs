//! What is kept of one task.

use hearth_store::Position;
use hearth_wire::api::TaskState;
use hearth_wire::sparse::Blank;
use serde::{Deserialize, Serialize};

/// What is kept of one task: 24 bytes, whatever its output is. The outcome stays in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskView {
    /// Where the record is that holds the result; meaningless without one.
    position: u64,
    /// Who produced the result, or failed last: a position in the table of nodes.
    node: u32,
    /// Leases granted so far.
    pub(crate) attempts: u16,
    /// Attempts that are live.
    pub(crate) live: u8,
    stage: Stage,
    /// Whether the result was checked on a trusted node or came from one.
    pub(crate) verified: bool,
}

/// Everything of a task's state but whether it is leased. In snapshots and in the index by number: new
/// ones go to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// No result.
    Waiting,
    /// A result that may change.
    Provisional,
    /// A result that stays.
    Settled,
    /// Ended without a result; the last outcome may say why.
    Failed,
    /// Cancelled.
    Cancelled,
    /// The deadline came first.
    Expired,
}

const NO_NODE: u32 = u32::MAX;

/// In the place of a node: the owner of the job, who computed the result while the realm was away.
pub(crate) const OWNER: u32 = u32::MAX - 1;

impl TaskView {
    pub(crate) const NEW: Self = Self {
        position: u64::MAX,
        node: NO_NODE,
        attempts: 0,
        live: 0,
        stage: Stage::Waiting,
        verified: false,
    };

    pub(crate) fn state(&self) -> TaskState {
        match (self.stage, self.live) {
            (Stage::Waiting, 0) => TaskState::Queued,
            (Stage::Waiting, _) => TaskState::Leased,
            (Stage::Provisional, _) => TaskState::Provisional,
            (Stage::Settled, _) => TaskState::Settled,
            (Stage::Failed, _) => TaskState::Failed,
            (Stage::Cancelled, _) => TaskState::Cancelled,
            (Stage::Expired, _) => TaskState::Expired,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Provisional)
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Where the outcome is that decided, if one did.
    pub(crate) fn outcome(&self) -> Option<Position> {
        (self.position != u64::MAX).then_some(Position(self.position))
    }

    /// Who made that outcome.
    pub(crate) fn node(&self) -> Option<u32> {
        (self.node != NO_NODE).then_some(self.node)
    }

    pub(crate) fn set_outcome(&mut self, stage: Stage, position: Position, node: u32) {
        self.stage = stage;
        self.position = position.0;
        self.node = node;
    }

    /// Puts back what was once kept: where the outcome is, and who made it.
    pub(crate) fn restore(&mut self, outcome: Option<Position>, node: Option<u32>) {
        self.position = outcome.map_or(u64::MAX, |position| position.0);
        self.node = node.unwrap_or(NO_NODE);
    }

    pub(crate) fn set_stage(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// The result is taken back.
    pub(crate) fn reopen(&mut self) {
        *self = Self {
            attempts: self.attempts,
            live: self.live,
            ..Self::NEW
        };
    }
}

/// In snapshots, tasks of which nothing has happened are only counted.
impl Blank for TaskView {
    const BLANK: Self = Self::NEW;
}
