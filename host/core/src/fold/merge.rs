//! What the owner of a job brings: its results, and the time for which the job waits for them.

use hearth_wire::record::{Purpose, ReportFact, Verdict};
use hearth_wire::{EngineId, JobId, KeyId, Millis, NodeId, TaskId};

use super::{Folded, task_of};
use crate::Coordinator;
use crate::attempt::{Attempt, AttemptState, OWNER};
use crate::job::{Phase, Wait};
use crate::step::Effect;

impl Coordinator {
    pub(super) fn fold_held(&mut self, id: JobId, until: Millis) -> Folded {
        let job = self.jobs.get_mut(&id).ok_or("unknown job")?;
        job.held_until = until;
        self.out.changed.insert(id);
        Ok(())
    }

    pub(super) fn fold_merged(
        &mut self,
        id: JobId,
        owner: KeyId,
        engine: EngineId,
        results: &[ReportFact],
    ) -> Folded {
        if self.owner_of(id) != Some(owner) {
            return Err("results of another's job");
        }
        // All of them first: their ids were given out in one go, and a task that settles frees a slot.
        let mut slots = Vec::with_capacity(results.len());
        for result in results {
            if result.task.job != id {
                return Err("a result of another job");
            }
            slots.push(self.take_by_hand(engine, result)?);
        }
        for (slot, result) in slots.into_iter().zip(results) {
            let task = result.task;
            self.hold_output(result);
            match result.verdict {
                Verdict::Settled => self.finish(task, Phase::Settled, None)?,
                Verdict::Provisional => {
                    let digest = result.outcome.digest().ok_or("an inconclusive result")?;
                    self.fold_provisional(slot, task, digest)?;
                }
                _ => return Err("a verdict that is none on an owner's result"),
            }
            self.out.effects.push(Effect::ResultAccepted {
                task,
                attempt: result.attempt,
                node: NodeId(owner.0),
                verdict: result.verdict,
            });
        }
        Ok(())
    }

    /// Puts an attempt that nobody held in front of its task's list. The task waits nowhere then, so the
    /// caller must end it or let it wait again.
    fn take_by_hand(&mut self, engine: EngineId, result: &ReportFact) -> Result<u32, &'static str> {
        let task = result.task;
        let cell = *self.cell(task).ok_or("unknown task")?;
        if cell.phase != Phase::Open {
            return Err("a result of a task that has one");
        }
        if cell.wait == Wait::Fresh {
            self.pass_over(task);
        }
        self.unwait(task);
        let now = self.now;
        let slot = self.attempts.insert(Attempt {
            id: result.attempt,
            task,
            node: OWNER,
            engine,
            purpose: Purpose::Run,
            state: AttemptState::Void,
            granted_at: now,
            deadline: now,
            ahead: 0,
            checkpoint: None,
            borrowed: false,
            next: cell.head,
            in_node: 0,
            in_job: 0,
        })?;
        let job = self.jobs.get_mut(&task.job).ok_or("unknown job")?;
        job.cells[task.index.0 as usize].head = slot;
        Ok(slot)
    }

    /// Takes a task out of the middle of those that were never leased. Those in front of it wait like
    /// tasks that are leased again, so that what is behind the cursor is all alike.
    fn pass_over(&mut self, task: TaskId) {
        let Some(job) = self.jobs.get_mut(&task.job) else {
            return;
        };
        let passed = job.fresh..task.index.0;
        job.fresh = task.index.0 + 1;
        job.cells[task.index.0 as usize].wait = Wait::Nowhere;
        let mut passed: Vec<_> = passed.map(|index| task_of(job, index)).collect();
        for task in &passed {
            job.cells[task.index.0 as usize].wait = Wait::Nowhere;
        }
        let now = self.now;
        for task in passed.drain(..) {
            self.wait(task, now);
        }
    }
}
