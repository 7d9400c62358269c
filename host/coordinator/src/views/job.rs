//! What is kept of one job.

use std::collections::BTreeMap;

use hearth_wire::api::{JobCounts, JobState, TaskState};
use hearth_wire::record::Failure;
use hearth_wire::{JobId, JobSpec, Seq, TaskIndex};
use serde::{Deserialize, Serialize};

use super::task::{Stage, TaskView};
use crate::tables::{Picked, Wanted};

/// Where the tasks of a job are.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Tasks {
    /// In a dense vector: nothing is allocated for one of them.
    Here(#[serde(with = "hearth_wire::sparse")] Vec<TaskView>),
    /// The job ended with record `closed`, and its tasks never change again: they were handed to the
    /// [`Tables`](crate::tables::Tables).
    Away { closed: Seq },
}

/// What is kept of one job.
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
    pub(crate) tasks: Tasks,
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
            tasks: Tasks::Here(vec![TaskView::NEW; count as usize]),
            counts: JobCounts {
                queued: count,
                ..JobCounts::default()
            },
            retries: 0,
            shares: BTreeMap::new(),
        }
    }

    /// A task of a job that has not ended.
    pub(crate) fn task(&self, index: TaskIndex) -> Option<&TaskView> {
        match &self.tasks {
            Tasks::Here(tasks) => tasks.get(index.0 as usize),
            Tasks::Away { .. } => None,
        }
    }

    /// The first `limit` tasks with an outcome from `from` on, of the job `id`.
    pub(crate) fn pick(&self, id: JobId, from: u32, limit: usize) -> Picked {
        match &self.tasks {
            Tasks::Here(tasks) => {
                let with_outcome = tasks
                    .iter()
                    .enumerate()
                    .skip(from as usize)
                    .filter(|(_, task)| task.outcome().is_some() || task.state().is_terminal())
                    .map(|(index, task)| (TaskIndex(index as u32), *task));
                Picked::Here(with_outcome.take(limit).collect())
            }
            // All of them have one.
            Tasks::Away { closed } => {
                let count = self.spec.inputs.count;
                let limit = u32::try_from(limit).unwrap_or(u32::MAX);
                let until = from.saturating_add(limit).min(count);
                Picked::Away(Wanted {
                    job: id,
                    closed: *closed,
                    tasks: from.min(until)..until,
                })
            }
        }
    }

    /// One task of the job `id`, if it has so many.
    pub(crate) fn pick_one(&self, id: JobId, index: TaskIndex) -> Option<Picked> {
        match &self.tasks {
            Tasks::Here(_) => Some(Picked::Here(vec![(index, *self.task(index)?)])),
            Tasks::Away { .. } if index.0 < self.spec.inputs.count => {
                Some(self.pick(id, index.0, 1))
            }
            Tasks::Away { .. } => None,
        }
    }

    /// Takes the tasks of a job that has ended with record `closed`, but only once.
    pub(crate) fn take_ended(&mut self, closed: Seq) -> Option<Vec<TaskView>> {
        self.ended?;
        match std::mem::replace(&mut self.tasks, Tasks::Away { closed }) {
            Tasks::Here(tasks) => Some(tasks),
            before @ Tasks::Away { .. } => {
                self.tasks = before;
                None
            }
        }
    }

    /// Changes a task and keeps the counts right.
    pub(crate) fn change(&mut self, index: TaskIndex, change: impl FnOnce(&mut TaskView)) {
        let Tasks::Here(tasks) = &mut self.tasks else {
            return;
        };
        let Some(task) = tasks.get_mut(index.0 as usize) else {
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

    /// Notes the end of the last task; true if this was it.
    pub(crate) fn close_if_over(&mut self, wall: u64) -> bool {
        let over = self.ended.is_none() && self.is_over();
        if over {
            self.ended = Some(wall);
            self.state = JobState::Closed;
        }
        over
    }

    fn is_over(&self) -> bool {
        let counts = &self.counts;
        counts.queued == 0 && counts.leased == 0 && counts.provisional == 0 && counts.finalised == 0
    }

    /// Ends every task that is not terminal.
    pub(crate) fn end_open(&mut self, stage: Stage) {
        for index in (0..self.spec.inputs.count).map(TaskIndex) {
            if self.task(index).is_some_and(TaskView::is_open) {
                self.change(index, |task| {
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

/// Where tasks in this state are counted.
pub(crate) fn count(counts: &mut JobCounts, state: TaskState) -> &mut u32 {
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
