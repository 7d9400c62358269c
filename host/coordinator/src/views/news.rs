//! What those who follow a job are told.

use std::sync::Arc;

use hearth_wire::api::JobEvent;
use hearth_wire::record::Record;
use hearth_wire::{AttemptId, JobId, NodeId, TaskId};

use super::TaskView;

/// Something for those who follow a job.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// From the journal.
    Happening(Happening),
    /// From a session: progress and logs, which are not journaled.
    Live(Arc<JobEvent>),
}

/// What happened to a job, for those who listen.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// Counts or state moved.
    Changed(JobId),
    /// The job has ended; what came of its tasks was told before.
    Ended(JobId),
    /// A task was leased.
    Leased {
        task: TaskId,
        attempt: AttemptId,
        node: NodeId,
    },
    /// A task has a result; `report` is its position in the record, `wall` the record's time.
    Result {
        task: TaskId,
        record: Arc<Record>,
        report: usize,
        wall: u64,
        /// The task behind this record.
        view: TaskView,
    },
    /// A result was taken back.
    Amended { task: TaskId, node: Option<NodeId> },
    /// The mode changed.
    Mode,
}
