//! Reports: the verdict must be the one that the job's policy asks for.

use hearth_wire::record::{Failure, NodeKind, Purpose, ReportFact, Standing, Verdict};
use hearth_wire::{Digest, Inconclusive, NodeId, Outcome, TaskId, TrustPolicy};

use super::{AttemptState, Oracle, State};

impl Oracle {
    pub(super) fn reported(
        &mut self,
        id: NodeId,
        report: &ReportFact,
        truth: &dyn Fn(TaskId) -> Digest,
    ) {
        let Some(attempt) = self.attempts.get(&report.attempt).cloned() else {
            return self.violate("reports are of attempts that exist", format!("{report:?}"));
        };
        let bound = attempt.node == id && attempt.task == report.task;
        self.want(bound, "a report is bound to its node and task", report);
        let awaited = matches!(attempt.state, AttemptState::Live | AttemptState::Lost);
        self.want(awaited, "an attempt is reported once", report);
        let (Some(job), Some(node)) = (self.job(report.task.job), self.nodes.get(&id)) else {
            return;
        };
        let (policy, limit) = (
            job.spec.options.trust,
            u32::from(job.spec.options.attempts_max),
        );
        let (kind, standing) = (node.kind, node.standing);
        let Some(task) = self.task(report.task) else {
            return;
        };
        let (result, other, halves) = (task.result, task.other, task.halves);
        let given_up = self.is_given_up(job, task);
        let was_live = attempt.state == AttemptState::Live;
        let digest = report.outcome.digest();
        let blamed = matches!(standing, Standing::Quarantined | Standing::Revoked);
        let counts = !matches!(report.verdict, Verdict::Noted | Verdict::Retry);
        if blamed && counts {
            self.violate(
                "nothing of a blamed node is believed",
                format!("{report:?}"),
            );
        }
        let checks = matches!(attempt.purpose, Purpose::Check | Purpose::Arbitrate);
        let wrong = digest.is_some_and(|digest| digest != truth(report.task));
        if wrong
            && !attempt.borrowed
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.lied = true;
        }
        let unfit = matches!(
            report.outcome,
            Outcome::Inconclusive(Inconclusive::Unfit(_))
        );
        let ours = kind != NodeKind::Volunteer;
        let noted = report.verdict == Verdict::Noted;
        if let Some(job) = self.job_mut(report.task.job) {
            if unfit && !noted && job.unfit.len() < 2 {
                job.unfit.insert(id);
            } else if ours && digest.is_some() && !noted {
                job.unfit.clear();
            }
        }
        self.due.report(report);
        self.measure(id, report);
        match report.verdict {
            Verdict::Settled => {
                let allowed = match policy {
                    TrustPolicy::Fast => digest.is_some(),
                    TrustPolicy::Local => digest.is_some() && kind != NodeKind::Volunteer,
                    _ => false,
                };
                self.want(
                    allowed,
                    "a final result has what its policy asks for",
                    report,
                );
                self.settle(report, digest, policy, truth);
            }
            Verdict::Provisional => {
                let allowed = policy == TrustPolicy::Certain && digest.is_some();
                self.want(
                    allowed,
                    "only checked jobs have provisional results",
                    report,
                );
                if result.is_some() {
                    // What led to it leads nobody any more.
                    if let Some(task) = self.task_mut(report.task) {
                        task.checkpoint = None;
                    }
                    self.amend(report.task);
                }
                self.unlive(report.attempt, AttemptState::Reported);
                self.stop_others(report.task);
                self.enter(report.task, State::Provisional);
                let at = self.at;
                if let Some(task) = self.task_mut(report.task) {
                    // Its check need not wait, though another run may have been about to.
                    task.ready = at;
                    task.result = digest.map(|digest| (report.attempt, digest));
                }
            }
            Verdict::Confirmed { result: chosen } => {
                let candidates = [result, other].into_iter().flatten();
                let believed = candidates
                    .into_iter()
                    .find(|(attempt, _)| *attempt == chosen);
                let agree = believed.is_some_and(|(_, known)| Some(known) == digest);
                let trusted = kind != NodeKind::Volunteer && checks;
                let allowed = policy == TrustPolicy::Certain && agree && trusted;
                self.want(
                    allowed,
                    "a final result has what its policy asks for",
                    report,
                );
                let overturned = result.is_some_and(|(attempt, _)| attempt != chosen);
                self.owe(result.filter(|_| overturned));
                self.settle(report, digest, policy, truth);
            }
            Verdict::Differs => {
                let differs = result.is_some_and(|(_, known)| Some(known) != digest);
                let allowed = differs && other.is_none() && kind != NodeKind::Volunteer && checks;
                self.want(allowed, "a check differs from a result", report);
                self.owe(result);
                self.unlive(report.attempt, AttemptState::Reported);
                self.stop_others(report.task);
                let at = self.at;
                if let Some(task) = self.task_mut(report.task) {
                    task.ready = at;
                    task.other = digest.map(|digest| (report.attempt, digest));
                }
            }
            Verdict::Retry => {
                let Outcome::Inconclusive(cause) = &report.outcome else {
                    return self.violate(
                        "only inconclusive attempts are retried",
                        format!("{report:?}"),
                    );
                };
                self.retried(id, report, cause, was_live);
            }
            Verdict::Failed(failure) => {
                let allowed = match failure {
                    Failure::Attempts => {
                        digest.is_none() && halves + 2 >= limit * 2 && (ours || given_up)
                    }
                    Failure::Unfit => {
                        matches!(
                            report.outcome,
                            Outcome::Inconclusive(Inconclusive::Unfit(_))
                        )
                    }
                    Failure::Nondeterministic => {
                        let known = [result, other].map(|known| known.map(|(_, digest)| digest));
                        digest.is_some() && !known.contains(&digest) && !known.contains(&None)
                    }
                    Failure::ReleaseRevoked => false,
                };
                self.want(allowed, "a task fails for a reason", report);
                if unfit && let Some(job) = self.job_mut(report.task.job) {
                    job.doomed = true;
                }
                self.unlive(report.attempt, AttemptState::Reported);
                self.enter(report.task, State::Failed);
            }
            Verdict::Noted => {
                let excused = blamed
                    || !was_live
                    || result.is_some()
                    || (policy == TrustPolicy::Local && kind == NodeKind::Volunteer);
                self.want(excused || digest.is_none(), "a good report counts", report);
                self.unlive(report.attempt, AttemptState::Void);
                if was_live {
                    self.add_halves(report.attempt, 1, true);
                }
                // A late report of an open task is as good as any.
                let dropped = digest.is_some() && result.is_none() && !blamed;
                let local = policy == TrustPolicy::Local && kind == NodeKind::Volunteer;
                self.want(!dropped || local, "a late report counts", report);
            }
        }
    }

    /// Whose result was contested must be shut out by the records that follow.
    fn owe(&mut self, result: Option<(hearth_wire::AttemptId, Digest)>) {
        let producer = result.and_then(|(attempt, _)| self.attempts.get(&attempt));
        let Some(id) = producer.map(|attempt| attempt.node) else {
            return;
        };
        let node = self.nodes.get(&id);
        if node.is_some_and(|n| n.kind == NodeKind::Volunteer && n.standing == Standing::Good) {
            self.owed.insert(id);
        }
    }

    fn settle(
        &mut self,
        report: &ReportFact,
        digest: Option<Digest>,
        policy: TrustPolicy,
        truth: &dyn Fn(TaskId) -> Digest,
    ) {
        if policy != TrustPolicy::Fast {
            // Trusted nodes do not lie here.
            let right = digest == Some(truth(report.task));
            self.want(right, "no checked result is wrong", report.task);
        }
        self.unlive(report.attempt, AttemptState::Reported);
        self.enter(report.task, State::Settled);
    }

    fn retried(&mut self, id: NodeId, report: &ReportFact, cause: &Inconclusive, was_live: bool) {
        let release = self.job(report.task.job).map(|job| job.spec.release);
        if matches!(cause, Inconclusive::Declined(_) | Inconclusive::Unfit(_)) {
            self.unlive(report.attempt, AttemptState::Void);
            self.attempts.remove(&report.attempt);
            self.forget_checkpoint(report.task, report.attempt);
            if let Some(task) = self.task_mut(report.task) {
                task.history.retain(|other| *other != report.attempt);
            }
            let node = self.nodes.get_mut(&id);
            if let Some((node, release)) = node.zip(release)
                && node.profile.is_some()
            {
                node.declined.insert(release);
            }
            return;
        }
        // Who was stopped by its owner has not failed.
        let (state, halves) = match cause {
            Inconclusive::Cancelled => (AttemptState::Void, 1),
            _ => (AttemptState::Failed, 2),
        };
        self.unlive(report.attempt, state);
        if was_live {
            self.add_halves(report.attempt, halves, true);
        }
    }

    /// Whoever still runs a task is told that it need not.
    pub(super) fn stop_others(&mut self, task: TaskId) {
        let history = self.task(task).map(|task| task.history.clone());
        for attempt in history.unwrap_or_default() {
            let live = self.attempts.get(&attempt).map(|a| a.state);
            if live == Some(AttemptState::Live) {
                self.call_off(attempt);
                self.unlive(attempt, AttemptState::Void);
            }
        }
    }
}
