//! Reports: what each verdict changes.

use hearth_wire::record::{ReportFact, Verdict};
use hearth_wire::{AttemptId, Body, Digest, Inconclusive, Millis, Outcome, TaskId};

use super::Folded;
use crate::Coordinator;
use crate::attempt::{AttemptState, OWNER};
use crate::job::Phase;
use crate::node::{DECLINED_MAX, NodeIndex, ewma};
use crate::step::{Effect, Holder};

/// How much longer than its attempt was out a run may have taken by its node's clock.
pub(crate) const RUN_SLACK_MICROS: u64 = 1_000_000;

impl Coordinator {
    pub(super) fn fold_report(&mut self, index: NodeIndex, report: &ReportFact) -> Folded {
        let found = self.attempts.find(report.attempt);
        let (slot, attempt) = found.ok_or("a report of an unknown attempt")?;
        if attempt.node != index || attempt.task != report.task {
            return Err("a report of another's attempt");
        }
        if !attempt.state.is_awaited() {
            return Err("a second report of an attempt");
        }
        let was_live = attempt.state.is_live();
        let digest = report.outcome.digest();
        let since = attempt.granted_at;
        self.fold_measures(index, report, since);
        if let Some(session) = self.nodes.at(index).and_then(|node| node.session) {
            let settled = self.out.settled.entry(session).or_default();
            settled.push(report.attempt);
        }
        match report.verdict {
            Verdict::Settled => {
                self.hold_output(report);
                self.finish(report.task, Phase::Settled, Some(report.attempt))?;
            }
            Verdict::Provisional => {
                self.hold_output(report);
                let digest = digest.ok_or("an inconclusive result")?;
                self.fold_provisional(slot, report.task, digest)?;
            }
            Verdict::Confirmed { result } => {
                if result == report.attempt {
                    return Err("a report confirms itself");
                }
                self.fold_confirmed(report.task, report.attempt, result)?;
            }
            Verdict::Differs => {
                self.hold_output(report);
                let digest = digest.ok_or("an inconclusive check")?;
                self.fold_differs(slot, report.task, digest)?;
            }
            Verdict::Retry => self.fold_retry(slot, was_live, report)?,
            Verdict::Failed(_) => {
                if matches!(
                    report.outcome,
                    Outcome::Inconclusive(Inconclusive::Unfit(_))
                ) {
                    self.note_unfit(index, report.task);
                    if let Some(job) = self.jobs.get_mut(&report.task.job) {
                        job.doomed = true;
                        self.out.doomed.insert(job.id);
                    }
                }
                self.finish(report.task, Phase::Failed, Some(report.attempt))?;
            }
            Verdict::Noted => self.fold_noted(slot, was_live, report.task),
        }
        let told = !matches!(
            report.verdict,
            Verdict::Retry | Verdict::Noted | Verdict::Differs
        );
        if told && let Some(node) = self.nodes.at(index) {
            self.out.effects.push(Effect::ResultAccepted {
                task: report.task,
                attempt: report.attempt,
                node: node.id,
                verdict: report.verdict,
            });
        }
        Ok(())
    }

    /// How fast and how reliable the node was. No run took longer than its attempt was out: owners are charged
    /// by these times, so one that is made up must not be long.
    fn fold_measures(&mut self, index: NodeIndex, report: &ReportFact, since: Millis) {
        let most = self.now.since(since).saturating_mul(1_000);
        let most = most.saturating_add(RUN_SLACK_MICROS);
        let Some(job) = self.jobs.get_mut(&report.task.job) else {
            return;
        };
        let Some(node) = self.nodes.at_mut(index) else {
            return;
        };
        match &report.outcome {
            Outcome::Inconclusive(
                Inconclusive::HostFault(_) | Inconclusive::StackOverflow | Inconclusive::Deadline,
            ) => node.record.failed(),
            Outcome::Inconclusive(_) => {}
            // What is only noted must not move the weights: it may be made up.
            _ if report.verdict == Verdict::Noted => {}
            _ => {
                let micros = report.run_micros.clamp(1, most.min(1 << 40));
                job.run_times.add(micros);
                if node.kind.is_trusted() && !job.unfit.is_empty() {
                    // It runs after all: those who could not are to blame, and others may go on.
                    job.unfit.clear();
                    self.out.shapes.insert(job.shape);
                }
                if let Some(release) = self.releases.get_mut(&job.release) {
                    release.micros = match release.micros {
                        0 => micros,
                        mean => ewma(mean, micros),
                    };
                    node.record.ran(job.release, micros, release.micros);
                }
            }
        }
        self.out.nodes.insert(index);
    }

    pub(super) fn hold_output(&mut self, report: &ReportFact) {
        if let Outcome::Returned(output) = &report.outcome
            && let Body::Blob(blob) = &output.body
        {
            self.out.effects.push(Effect::BlobHeld {
                holder: Holder::Outputs(report.task.job),
                blob: blob.digest,
            });
        }
    }

    pub(super) fn fold_provisional(&mut self, slot: u32, task: TaskId, digest: Digest) -> Folded {
        if self.cell(task).map(|cell| cell.phase) == Some(Phase::Provisional) {
            // A better start replaces what cannot be compared, and what that was made from with it.
            self.drop_checkpoint(task);
            self.amend(task)?;
        }
        self.retire(slot, AttemptState::Result(digest));
        let index = self.attempts.at(slot).map(|attempt| attempt.node);
        if let Some(node) = index.and_then(|index| self.nodes.at_mut(index)) {
            node.unsettled.insert(task);
        }
        self.unwait(task);
        self.cancel_others(task);
        let job = self.jobs.get_mut(&task.job).ok_or("unknown job")?;
        job.cells[task.index.0 as usize].phase = Phase::Provisional;
        job.provisional += 1;
        let now = self.now;
        self.wait(task, now);
        Ok(())
    }

    fn fold_confirmed(&mut self, task: TaskId, reporter: AttemptId, result: AttemptId) -> Folded {
        let (_, attempt) = self.attempts.find(result).ok_or("an unknown result")?;
        let overturned = match attempt.state {
            AttemptState::Result(_) => false,
            AttemptState::Other(_) => true,
            _ => return Err("a confirmed attempt has no report"),
        };
        if attempt.task != task {
            return Err("a confirmed attempt is another task's");
        }
        let head = self.cell(task).ok_or("unknown task")?.head;
        if overturned && let Some(index) = self.mismatch_of(head) {
            // Our own machines may be wrong too (a bad memory module), but shutting them out would
            // leave nobody to decide anything. A job's owner is no node, and harmed nobody else.
            if let Some(node) = self.nodes.at_mut(index) {
                node.blamed = !node.kind.is_trusted();
                self.out.standings.insert(index);
            } else if index != OWNER {
                return Err("unknown node");
            }
            let chain = self.attempts.chain(head);
            let wrong = chain.filter(|(_, a)| matches!(a.state, AttemptState::Result(_)));
            for attempt in wrong.map(|(_, attempt)| attempt.id).collect::<Vec<_>>() {
                self.out
                    .effects
                    .push(Effect::ResultAmended { task, attempt });
            }
        }
        self.finish(task, Phase::Settled, Some(reporter))
    }

    fn fold_differs(&mut self, slot: u32, task: TaskId, digest: Digest) -> Folded {
        self.retire(slot, AttemptState::Other(digest));
        let head = self.cell(task).ok_or("unknown task")?.head;
        let producer = self.mismatch_of(head).ok_or("nothing to differ from")?;
        if let Some(node) = self.nodes.at_mut(producer) {
            node.mismatches += 1;
        }
        self.out.standings.insert(producer);
        self.unwait(task);
        self.cancel_others(task);
        let now = self.now;
        self.wait(task, now);
        Ok(())
    }

    fn fold_retry(&mut self, slot: u32, was_live: bool, report: &ReportFact) -> Folded {
        let Outcome::Inconclusive(cause) = &report.outcome else {
            return Err("a conclusive report is retried");
        };
        let task = report.task;
        let index = self.attempts.at(slot).map(|attempt| attempt.node);
        let index = index.ok_or("unknown attempt")?;
        if matches!(cause, Inconclusive::Unfit(_)) {
            self.note_unfit(index, task);
        }
        if matches!(cause, Inconclusive::Declined(_) | Inconclusive::Unfit(_)) {
            self.decline(index, task);
            if was_live {
                self.detach(slot);
            }
            self.unlink(slot);
            let now = self.now;
            self.wait(task, now);
            return Ok(());
        }
        // One that was stopped says nothing against its node, like one that lost its node.
        let (state, halves) = match cause {
            Inconclusive::Cancelled => (AttemptState::Void, 1),
            _ => (AttemptState::Failed, 2),
        };
        self.retire(slot, state);
        if was_live {
            let at = self.add_halves(task, halves);
            self.wait(task, at);
        }
        Ok(())
    }

    fn fold_noted(&mut self, slot: u32, was_live: bool, task: TaskId) {
        self.retire(slot, AttemptState::Void);
        if was_live {
            let at = self.add_halves(task, 1);
            self.wait(task, at);
        }
    }

    /// Ends a lease, if the attempt still has one.
    fn retire(&mut self, slot: u32, state: AttemptState) {
        if self
            .attempts
            .at(slot)
            .is_some_and(|attempt| attempt.state.is_live())
        {
            self.detach(slot);
        }
        if let Some(attempt) = self.attempts.at_mut(slot) {
            attempt.state = state;
        }
    }

    /// No live attempt of the task is wanted any more; what they report would be of no use.
    fn cancel_others(&mut self, task: TaskId) {
        let Some(cell) = self.cell(task) else {
            return;
        };
        let chain = self.attempts.chain(cell.head);
        let others: Vec<_> = chain
            .filter(|(_, attempt)| attempt.state.is_live())
            .map(|(slot, _)| slot)
            .collect();
        for slot in others {
            self.tell_cancelled(slot);
            self.retire(slot, AttemptState::Void);
        }
    }

    /// The node gets no more of this release while it is connected.
    fn decline(&mut self, index: NodeIndex, task: TaskId) {
        let Some(job) = self.jobs.get(&task.job) else {
            return;
        };
        let Some(node) = self.nodes.at_mut(index) else {
            return;
        };
        if node.session.is_none() {
            return;
        }
        let release = job.release;
        if node.declined.len() >= DECLINED_MAX
            && let Some(first) = node.declined.pop_first()
            && let Some(release) = self.releases.get_mut(&first)
        {
            release.declined_by.remove(&index);
        }
        if node.declined.insert(release)
            && let Some(release) = self.releases.get_mut(&release)
        {
            release.declined_by.insert(index);
        }
        self.touch_shapes(index);
    }

    fn note_unfit(&mut self, index: NodeIndex, task: TaskId) {
        let Some(node) = self.nodes.at(index) else {
            return;
        };
        let id = node.id;
        if let Some(job) = self.jobs.get_mut(&task.job)
            && job.unfit.len() < 2
        {
            job.unfit.insert(id);
            // From the second on it is for our own nodes.
            self.out.shapes.insert(job.shape);
        }
    }
}
