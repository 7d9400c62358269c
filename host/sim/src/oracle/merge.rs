//! What owners bring: believed for their own jobs alone, once, and never run beside or after it.

use hearth_wire::record::{Purpose, ReportFact, Verdict};
use hearth_wire::{EngineId, JobId, KeyId, Millis, NodeId, TrustPolicy, limits};

use super::{Attempt, AttemptState, Job, Oracle, State};

impl Oracle {
    /// Whether nothing of a job may be leased, because its owner brings results.
    pub(super) fn is_held(&self, job: &Job) -> bool {
        self.at < job.held_until
    }

    /// Whether a task has a result, or has ended without one.
    pub(crate) fn has_result(&self, id: hearth_wire::TaskId) -> bool {
        self.task(id).is_some_and(|task| task.state != State::Open)
    }

    pub(super) fn held(&mut self, id: JobId, until: Millis) {
        let (at, open) = (self.at, self.job(id).is_some_and(|job| job.open > 0));
        self.want(open, "only open jobs wait for results", id);
        let within = until.0 <= at + limits::HOLD_MILLIS;
        self.want(within, "no job waits for results for ever", (id, until));
        if let Some(job) = self.job_mut(id) {
            job.held_until = until.0;
        }
    }

    pub(super) fn merged(
        &mut self,
        id: JobId,
        owner: KeyId,
        engine: EngineId,
        result: &ReportFact,
    ) {
        let task = result.task;
        self.used_first(result.attempt);
        let Some(job) = self.job(id).filter(|_| task.job == id) else {
            return self.violate(
                "results are brought for jobs that exist",
                format!("{result:?}"),
            );
        };
        let (policy, release) = (job.spec.options.trust, job.spec.release);
        let own = job.spec.owner == owner;
        let facts = self.releases.get(&release).map(|(facts, _)| facts);
        let runs = facts.is_some_and(|facts| {
            facts.engines.contains(&engine) && result.fuel_used <= facts.limits.fuel
        });
        let open = self.task(task).map(|task| task.state) == Some(State::Open);
        let digest = result.outcome.digest();
        self.want(own, "results are brought by the job's owner", result);
        self.want(
            runs,
            "a brought result is one that its release allows",
            result,
        );
        self.want(
            open,
            "a result is brought once, for a task without one",
            result,
        );
        self.want(digest.is_some(), "only results are brought", result);
        let expected = match policy {
            TrustPolicy::Certain => Verdict::Provisional,
            _ => Verdict::Settled,
        };
        let right = result.verdict == expected;
        self.want(right, "a final result has what its policy asks for", result);
        self.pass_over(result);
        self.attempts.insert(
            result.attempt,
            Attempt {
                task,
                node: NodeId(owner.0),
                engine: Some(engine),
                purpose: Purpose::Run,
                state: AttemptState::Reported,
                granted_at: self.at,
                ends: self.at,
                parked_at: None,
                borrowed: false,
                resumes: None,
            },
        );
        if let Some(task) = self.task_mut(task) {
            task.history.push(result.attempt);
        }
        self.due.report(result);
        if result.verdict == Verdict::Settled {
            return self.enter(task, State::Settled);
        }
        self.stop_others(task);
        self.enter(task, State::Provisional);
        let at = self.at;
        if let Some(task) = self.task_mut(task) {
            task.ready = at;
            task.result = digest.map(|digest| (result.attempt, digest));
        }
    }

    /// What was in front of a task that was never leased waits as if it had been.
    fn pass_over(&mut self, result: &ReportFact) {
        let (at, index) = (self.at, result.task.index.0);
        let Some(job) = self.job_mut(result.task.job) else {
            return;
        };
        if index >= job.fresh {
            for passed in &mut job.tasks[job.fresh as usize..index as usize] {
                passed.ready = at;
            }
            job.fresh = index + 1;
        }
    }
}
