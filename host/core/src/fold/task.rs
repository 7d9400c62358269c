//! Tasks: waiting again, and ending.

use hearth_wire::{AttemptId, JobId, Millis, TaskId, TaskIndex, limits};

use super::Folded;
use crate::Coordinator;
use crate::attempt::{AttemptState, NONE};
use crate::job::{Cell, ClosedJob, Job, Phase, Wait};
use crate::step::{Effect, Holder};
use crate::time::Timer;

impl Coordinator {
    pub(crate) fn cell(&self, task: TaskId) -> Option<&Cell> {
        let job = self.jobs.get(&task.job)?;
        job.cells.get(task.index.0 as usize)
    }

    /// A task without a live attempt waits again, not before `at`.
    pub(super) fn wait(&mut self, task: TaskId, at: Millis) {
        let Some(job) = self.jobs.get_mut(&task.job) else {
            return;
        };
        let cell = &mut job.cells[task.index.0 as usize];
        if cell.live > 0 || cell.wait != Wait::Nowhere || cell.phase.is_terminal() {
            return;
        }
        let entry = (at, task.index.0);
        cell.ready_at = at;
        match cell.phase {
            Phase::Provisional => {
                cell.wait = Wait::Check;
                job.checks.insert(entry);
            }
            _ => {
                cell.wait = Wait::Run;
                job.runs.insert(entry);
            }
        }
        if job.is_spent(&job.cells[task.index.0 as usize]) {
            self.out.exhausted.push(task);
        }
        self.out.changed.insert(task.job);
    }

    /// A task waits no longer.
    pub(super) fn unwait(&mut self, task: TaskId) {
        let Some(job) = self.jobs.get_mut(&task.job) else {
            return;
        };
        let index = task.index.0;
        let cell = &mut job.cells[index as usize];
        let entry = (std::mem::take(&mut cell.ready_at), index);
        match cell.wait {
            // The cursor over fresh tasks is moved by whoever takes one.
            Wait::Nowhere | Wait::Fresh => return,
            Wait::Run => job.runs.remove(&entry),
            Wait::Check => job.checks.remove(&entry),
        };
        cell.wait = Wait::Nowhere;
    }

    /// How long a task waits after this many half attempts without a result.
    pub(super) fn backoff(halves: u8) -> u64 {
        let doublings = u32::from(halves / 2).saturating_sub(1).min(16);
        (limits::RETRY_MILLIS_MIN << doublings).min(limits::RETRY_MILLIS_MAX)
    }

    /// Ends a task and forgets its attempts; live ones but `reporter` are cancelled at their nodes.
    pub(super) fn finish(
        &mut self,
        task: TaskId,
        phase: Phase,
        reporter: Option<AttemptId>,
    ) -> Folded {
        let index = task.index.0 as usize;
        let job = self.jobs.get(&task.job).ok_or("unknown job")?;
        let cell = *job.cells.get(index).ok_or("unknown task")?;
        if cell.phase.is_terminal() {
            return Err("a task ends twice");
        }
        self.unwait(task);
        let had_mismatch = self.mismatch_of(cell.head);
        let mut slot = cell.head;
        let mut checkpointed = false;
        while slot != NONE {
            let Some(attempt) = self.attempts.at(slot) else {
                return Err("an attempt is missing from its task's list");
            };
            let (id, next, node) = (attempt.id, attempt.next, attempt.node);
            checkpointed |= attempt.checkpoint.is_some();
            if attempt.state.is_live() {
                if Some(id) != reporter {
                    self.tell_cancelled(slot);
                }
                self.detach(slot);
            }
            if let Some(node) = self.nodes.at_mut(node) {
                node.unsettled.remove(&task);
            }
            self.drop_attempt(slot);
            slot = next;
        }
        if let Some(node) = had_mismatch {
            self.close_mismatch(node);
        }
        if checkpointed {
            let holder = Holder::Checkpoint(task);
            self.out.effects.push(Effect::BlobsReleased { holder });
        }
        let Some(job) = self.jobs.get_mut(&task.job) else {
            return Err("unknown job");
        };
        if cell.phase == Phase::Provisional {
            job.provisional -= 1;
        }
        match phase {
            Phase::Settled => job.settled += 1,
            Phase::Failed => job.failed += 1,
            Phase::Cancelled => job.cancelled += 1,
            Phase::Expired => job.expired += 1,
            Phase::Open | Phase::Provisional => return Err("a task ends in no terminal state"),
        }
        // A fresh task that ends with its job is passed over by the cursor; `fresh` only moves on in
        // order, and all tasks behind it end too.
        job.cells[index] = Cell {
            phase,
            wait: Wait::Nowhere,
            head: NONE,
            live: 0,
            halves: cell.halves,
            ready_at: Millis(0),
        };
        if cell.wait == Wait::Fresh {
            job.fresh = job.fresh.max(task.index.0 + 1);
        }
        let (owner, complete) = (job.owner, job.terminal() == job.count());
        self.open_tasks -= 1;
        if let Some(owner) = self.owners.at_mut(owner) {
            owner.open_tasks -= 1;
        }
        self.out.changed.insert(task.job);
        if complete {
            self.close(task.job);
        }
        Ok(())
    }

    fn close(&mut self, id: JobId) {
        self.leave_queues(id);
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        self.clear_job_timers(&job);
        self.fits.leave_shape(job.shape);
        if let Some(shape) = job.check_shape {
            self.fits.leave_shape(shape);
        }
        self.out.effects.push(Effect::BlobsReleased {
            holder: Holder::Inputs(id),
        });
        self.out.closed.push(job.progress());
        if let Some(owner) = self.owners.at(job.owner) {
            let closed = ClosedJob {
                owner: owner.key,
                spec: job.spec,
                tasks: job.count(),
                idempotency_key: job.idempotency_key,
            };
            self.closed.insert(id, closed);
            self.closed_order.push_back(id);
        }
        self.owners.leave(job.owner);
    }

    fn clear_job_timers(&mut self, job: &Job) {
        if let Some(at) = job.deadline {
            self.timers.clear(at, Timer::Deadline(job.id));
        }
        if let Some(at) = job.wake_at {
            self.timers.clear(at, Timer::Wake(job.id));
        }
        if let Some(at) = job.tail_at {
            self.timers.clear(at, Timer::Tail(job.id));
        }
        if let Some(at) = job.spent_at {
            self.timers.clear(at, Timer::Spent(job.id));
        }
    }

    /// The node whose provisional result for a task is contested, if one is.
    pub(super) fn mismatch_of(&self, head: u32) -> Option<u32> {
        let mut chain = self.attempts.chain(head);
        let contested = chain.any(|(_, a)| matches!(a.state, AttemptState::Other(_)));
        let mut chain = self.attempts.chain(head);
        let result = chain.find(|(_, a)| matches!(a.state, AttemptState::Result(_)));
        contested.then_some(result?.1.node)
    }

    pub(super) fn close_mismatch(&mut self, node: u32) {
        if let Some(node) = self.nodes.at_mut(node) {
            node.mismatches = node.mismatches.saturating_sub(1);
        }
        self.out.standings.insert(node);
    }
}

/// Every task of a job by name.
pub(crate) fn task_of(job: &Job, index: u32) -> TaskId {
    TaskId {
        job: job.id,
        index: TaskIndex(index),
    }
}
