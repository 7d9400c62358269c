//! Results that the owner of a job computed while the realm was away.

use std::collections::BTreeSet;

use hearth_wire::record::{Fact, ReportFact, Verdict};
use hearth_wire::{Class, EngineId, JobId, KeyId, TaskId, TrustPolicy, limits};

use super::Turn;
use crate::Coordinator;
use crate::event::{RequestId, ResultIn};
use crate::job::{Job, Phase};
use crate::step::{Answer, RequestRefusal};

/// What an owner brings.
pub(super) struct Brought {
    pub(super) owner: KeyId,
    pub(super) engine: EngineId,
    pub(super) results: Vec<ResultIn>,
    pub(super) more: bool,
}

impl Coordinator {
    /// No run of an open job is leased until its owner has brought what it has, or for a while.
    pub(super) fn hold(&mut self, turn: &mut Turn<'_>, job: JobId) {
        let until = turn.now.plus(limits::HOLD_MILLIS);
        if self
            .jobs
            .get(&job)
            .is_some_and(|job| job.held_until < until)
        {
            self.emit(turn, Fact::Held { job, until });
        }
    }

    /// Takes the results of tasks that have none. Bringing them again, in pieces or after the job has
    /// ended changes nothing, so a client may ask again until it hears an answer.
    pub(super) fn merge(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        id: JobId,
        brought: Brought,
    ) {
        let Brought {
            owner,
            engine,
            results,
            more,
        } = brought;
        // Another's job and no job are answered alike.
        if self.owner_of(id) != Some(owner) {
            return self.refuse(turn, request, RequestRefusal::UnknownJob(id));
        }
        let brought = results.len() as u32;
        let results = match self.jobs.get(&id) {
            Some(job) => match self.wanted_of(job, engine, results) {
                Ok(results) => results,
                Err(refusal) => return self.refuse(turn, request, refusal),
            },
            None => Vec::new(),
        };
        if more {
            self.hold(turn, id);
        }
        let merged = results.len() as u32;
        if merged > 0 {
            self.emit(
                turn,
                Fact::Merged {
                    job: id,
                    owner,
                    engine,
                    results,
                },
            );
        }
        let now = turn.now;
        if !more && self.jobs.get(&id).is_some_and(|job| job.is_held(now)) {
            let until = now;
            self.emit(turn, Fact::Held { job: id, until });
        }
        let (known, seq) = (brought - merged, self.seq);
        self.answer(turn, request, Answer::Merged { merged, known, seq });
    }

    /// The results of tasks without one, each with the attempt that it gets.
    fn wanted_of(
        &self,
        job: &Job,
        engine: EngineId,
        results: Vec<ResultIn>,
    ) -> Result<Vec<ReportFact>, RequestRefusal> {
        let facts = self
            .releases
            .get(&job.release)
            .map(|release| &release.facts);
        let facts = facts.ok_or(RequestRefusal::UnknownRelease(job.release))?;
        let verdict = match job.trust {
            // Whoever owns the job takes the word of their own machine; that nobody has checked it is
            // told with the result.
            TrustPolicy::Fast | TrustPolicy::Local => Verdict::Settled,
            _ => Verdict::Provisional,
        };
        let (mut wanted, mut seen) = (Vec::new(), BTreeSet::new());
        for result in results {
            let task = TaskId {
                job: job.id,
                index: result.index,
            };
            let bad = |problem| Err(RequestRefusal::BadResult { task, problem });
            let Some(cell) = job.cells.get(result.index.0 as usize) else {
                return bad("the job has no such task");
            };
            if facts.class != Class::Exact {
                return bad("its class says that two runs may differ");
            }
            if !facts.engines.contains(&engine) {
                return bad("the release is not for the engine on which it ran");
            }
            if !result.outcome.is_conclusive() {
                return bad("an inconclusive run says nothing about a task");
            }
            if facts.limits.check_fuel(result.fuel_used).is_err() {
                return bad("it used more fuel than its manifest grants");
            }
            if cell.phase == Phase::Open && seen.insert(result.index) {
                wanted.push((task, result));
            }
        }
        let ids: Vec<_> = self.attempts.next_ids(wanted.len()).collect();
        if ids.len() < wanted.len() {
            return Err(RequestRefusal::Full);
        }
        let facts = ids.into_iter().zip(wanted);
        Ok(facts
            .map(|(attempt, (task, result))| ReportFact {
                attempt,
                task,
                outcome: result.outcome,
                fuel_used: result.fuel_used,
                run_micros: result.run_micros,
                verdict,
            })
            .collect())
    }
}
