//! What is kept of one job.

use std::collections::BTreeMap;

use hearth_wire::api::{JobCounts, JobState, TaskState};
use hearth_wire::record::Failure;
use hearth_wire::{JobSpec, TaskIndex};
use serde::{Deserialize, Serialize};

use super::task::{Stage, TaskView};

/// What is kept of one job. Tasks are a dense vector: nothing is allocated for one of them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JobView {
    pub(crate) spec: JobSpec,
    /// Wall time, as it was told to whoever submitted it.
    pub(crate) submitted_wall: u64,
    /// Wall time of the end.
    pub(crate) ended: Option<u64>,
    pub(crate) state: JobState,
    /// Why it failed as a whole.
    pub(crate) failure: Option<Failure>,
    #[serde(with = "hearth_wire::sparse")]
    pub(crate) tasks: Vec<TaskView>,
    pub(crate) counts: JobCounts,
    /// Leases that were granted to get a result, beyond the first of each task.
    pub(crate) retries: u64,
    /// Results by position in the table of nodes.
    pub(crate) shares: BTreeMap<u32, u32>,
}

impl JobView {
    pub(crate) fn new(spec: JobSpec, submitted_wall: u64) -> Self {
        let count = spec.inputs.count;
        Self {
            spec,
            submitted_wall,
            ended: None,
            state: JobState::Open,
            failure: None,
            tasks: vec![TaskView::NEW; count as usize],
            counts: JobCounts {
                queued: count,
                ..JobCounts::default()
            },
            retries: 0,
            shares: BTreeMap::new(),
        }
    }

    pub(crate) fn task(&self, index: TaskIndex) -> Option<&TaskView> {
        self.tasks.get(index.0 as usize)
    }

    /// Changes a task and keeps the counts right.
    pub(crate) fn change(&mut self, index: TaskIndex, change: impl FnOnce(&mut TaskView)) {
        let Some(task) = self.tasks.get_mut(index.0 as usize) else {
            return;
        };
        let before = task.state();
        let producer = task.outcome().and(task.node()).filter(|_| has_result(task));
        change(task);
        let after = task.state();
        let producer_after = task.outcome().and(task.node()).filter(|_| has_result(task));
        *count(&mut self.counts, before) -= 1;
        *count(&mut self.counts, after) += 1;
        if producer != producer_after {
            if let Some(share) = producer.and_then(|node| self.shares.get_mut(&node)) {
                *share -= 1;
            }
            if let Some(node) = producer_after {
                *self.shares.entry(node).or_default() += 1;
            }
        }
    }

    /// Notes the end of the last task.
    pub(crate) fn close_if_over(&mut self, wall: u64) {
        if self.ended.is_none() && self.is_over() {
            self.ended = Some(wall);
            self.state = JobState::Closed;
        }
    }

    fn is_over(&self) -> bool {
        let counts = &self.counts;
        counts.queued == 0 && counts.leased == 0 && counts.provisional == 0 && counts.finalised == 0
    }

    /// Ends every task that is not terminal.
    pub(crate) fn end_open(&mut self, stage: Stage) {
        for index in 0..self.tasks.len() {
            if self.tasks[index].is_open() {
                self.change(TaskIndex(index as u32), |task| {
                    task.live = 0;
                    task.set_stage(stage);
                });
            }
        }
    }
}

fn has_result(task: &TaskView) -> bool {
    matches!(task.stage(), Stage::Provisional | Stage::Settled)
}

fn count(counts: &mut JobCounts, state: TaskState) -> &mut u32 {
    match state {
        TaskState::Leased => &mut counts.leased,
        TaskState::Provisional => &mut counts.provisional,
        TaskState::Final => &mut counts.finalised,
        TaskState::Settled => &mut counts.settled,
        TaskState::Failed => &mut counts.failed,
        TaskState::Cancelled => &mut counts.cancelled,
        TaskState::Expired => &mut counts.expired,
        _ => &mut counts.queued,
    }
}
