//! Clients that lose the realm: they compute by themselves, and bring what they have when it is back.
//! They bring it in pieces, twice, late, or not to the end; and some bring what is none of theirs.

use hearth_core::{Answer, Event, RequestId, RequestRefusal, ResultIn};
use hearth_wire::{
    Digest, EngineId, Inconclusive, JobId, JobSpec, KeyId, Outcome, TaskId, TaskIndex, TrustPolicy,
    limits,
};

use super::client::Clients;
use super::{Happening, World, client};
use crate::fault::Fault;

/// What becomes of a client without a realm.
#[derive(Debug, Clone)]
pub(crate) enum Offline {
    /// Another client loses the realm.
    Begin,
    /// One brings the next piece of what it has.
    Bring(Luggage),
}

/// What a client has computed of a job and not brought yet.
#[derive(Debug, Clone)]
pub(crate) struct Luggage {
    job: JobId,
    owner: KeyId,
    results: Vec<ResultIn>,
    /// Whether it will all be brought a second time.
    again: bool,
}

/// What such a client asks for.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    /// A job that was never submitted, with what it has of it.
    Submit(JobSpec),
    Merge(Piece),
}

/// Some results.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    job: JobId,
    owner: KeyId,
    engine: EngineId,
    results: Vec<ResultIn>,
    more: bool,
    /// Whether all of it may be believed, if the job is still open.
    good: bool,
}

/// What the realm's own nodes run: only they check, and they compare what ran on their own engine.
fn engine() -> EngineId {
    EngineId {
        version: [48, 0, 8],
        semantics: Digest::default(),
    }
}

impl Wish {
    pub(super) fn event(self, request: RequestId) -> Event {
        match self {
            Self::Submit(spec) => Event::SubmitHeld { request, spec },
            Self::Merge(piece) => Event::Merge {
                request,
                job: piece.job,
                owner: piece.owner,
                engine: piece.engine,
                results: piece.results,
                more: piece.more,
            },
        }
    }
}

impl World {
    pub(crate) fn offline(&mut self, offline: Offline) {
        match offline {
            Offline::Begin if self.quiet => {}
            Offline::Begin => {
                let next = self.rng.range(1, self.config.mishap_millis * 4);
                self.after(next, Happening::Offline(Offline::Begin));
                self.lose_realm();
            }
            Offline::Bring(luggage) => self.bring(luggage),
        }
    }

    /// A client finds the realm gone, and works through a job of its own.
    fn lose_realm(&mut self) {
        if self.rng.once_in(4) && self.oracle.open_tasks() < self.config.tasks_max {
            let mut spec = self.new_spec();
            let key = format!("offline {}", spec.options.name);
            spec.options.idempotency_key = Some(key);
            return self.ask(client::Wish::Offline(Wish::Submit(spec)));
        }
        let recent = self.clients.recent.clone();
        let open: Vec<_> = self.oracle.open_jobs.iter().copied().collect();
        let (job, spec) = if !open.is_empty() && !self.rng.once_in(4) {
            let job = &self.oracle.jobs[self.rng.pick(&open)];
            (job.id, job.spec.clone())
        } else if !recent.is_empty() {
            let known = self.rng.below(recent.len() as u64) as usize;
            recent[known].clone()
        } else {
            return;
        };
        self.go_on_alone(job, &spec);
    }

    /// Some or all tasks of a job, in no order or from the end, as they were missing.
    fn go_on_alone(&mut self, job: JobId, spec: &JobSpec) {
        let count = u64::from(spec.inputs.count);
        let from = self.rng.below(count);
        let mut results = Vec::new();
        for index in from..count {
            if !self.rng.once_in(6) {
                results.push(self.computed(job, spec, index as u32));
            }
        }
        if self.rng.once_in(3) {
            results.reverse();
        }
        let luggage = Luggage {
            job,
            owner: spec.owner,
            results,
            again: self.rng.once_in(3),
        };
        let back = self.rng.range(100, 20_000);
        self.after(back, Happening::Offline(Offline::Bring(luggage)));
    }

    /// What a client makes of a task. Its machine may be broken: then a check must find it.
    fn computed(&mut self, job: JobId, spec: &JobSpec, index: u32) -> ResultIn {
        let index = TaskIndex(index);
        let task = TaskId { job, index };
        let wrong = spec.options.trust == TrustPolicy::Certain && self.rng.once_in(12);
        let other = TaskId {
            index: TaskIndex(index.0 + 1_000_000),
            ..task
        };
        ResultIn {
            index,
            outcome: Clients::right_outcome(if wrong { other } else { task }),
            fuel_used: Clients::task_seed(task) % 1_000,
            run_micros: self.clients.run_millis(task) * 1_000,
        }
    }

    fn bring(&mut self, mut luggage: Luggage) {
        if self.rng.once_in(8) {
            self.bring_what_is_none(&luggage);
        }
        // It may be killed, and its folder lost: the job must go on without it.
        if self.rng.once_in(20) {
            return;
        }
        let most = self.rng.range(1, 40) as usize;
        let rest = luggage.results.split_off(most.min(luggage.results.len()));
        let results = std::mem::replace(&mut luggage.results, rest);
        let more = !luggage.results.is_empty();
        let piece = Piece {
            job: luggage.job,
            owner: luggage.owner,
            engine: engine(),
            results: results.clone(),
            more,
            good: true,
        };
        self.ask(client::Wish::Offline(Wish::Merge(piece.clone())));
        if self.rng.once_in(8) {
            self.fault(Fault::OfflineAgain);
            self.ask(client::Wish::Offline(Wish::Merge(piece)));
        }
        if luggage.again {
            let again = Luggage {
                results,
                again: false,
                ..luggage.clone()
            };
            self.fault(Fault::OfflineAgain);
            let later = self.rng.range(1, 60_000);
            self.after(later, Happening::Offline(Offline::Bring(again)));
        }
        if more {
            // Now and then it is too slow for the job to wait.
            let pause = if self.rng.once_in(10) {
                limits::HOLD_MILLIS * 2
            } else {
                2_000
            };
            let next = self.rng.range(1, pause);
            self.after(next, Happening::Offline(Offline::Bring(luggage)));
        }
    }

    /// Results that must not be believed: of another's job, of no task, of no end, of another engine.
    fn bring_what_is_none(&mut self, luggage: &Luggage) {
        let mut piece = Piece {
            job: luggage.job,
            owner: luggage.owner,
            engine: engine(),
            results: luggage.results.iter().take(3).cloned().collect(),
            more: self.rng.once_in(2),
            good: false,
        };
        let Some(first) = piece.results.first_mut() else {
            return;
        };
        match self.rng.below(6) {
            0 => piece.owner = KeyId(Digest::of(b"somebody else")),
            1 => piece.job = JobId(u64::MAX),
            2 => first.index = TaskIndex(u32::MAX),
            3 => first.outcome = Outcome::Inconclusive(Inconclusive::Cancelled),
            4 => first.fuel_used = u64::MAX,
            _ => piece.engine.version = [1, 0, 0],
        }
        self.fault(Fault::OfflineBad);
        self.ask(client::Wish::Offline(Wish::Merge(piece)));
    }

    pub(super) fn offline_answered(&mut self, wish: Wish, answer: Result<Answer, RequestRefusal>) {
        match (wish, answer) {
            (Wish::Submit(spec), Ok(Answer::Submitted { job, .. })) => {
                self.fault(Fault::OfflineJob);
                let same = self.oracle.job(job).is_some_and(|known| known.spec == spec);
                if !same {
                    self.oracle.violate("acknowledged is in the journal", job);
                }
                self.clients.jobs.insert(job, spec.clone());
                self.go_on_alone(job, &spec);
            }
            // A release that was revoked meanwhile, an owner with too much at once.
            (Wish::Submit(_), Err(_)) => {}
            (Wish::Merge(piece), Ok(Answer::Merged { merged, known, .. })) => {
                self.brought(&piece, merged, known);
            }
            (Wish::Merge(piece), Err(refusal)) => {
                let open = self.oracle.job(piece.job).is_some_and(|job| job.open > 0);
                if piece.good && open {
                    self.oracle.violate("good results are taken", refusal);
                }
            }
            (wish, Ok(answer)) => {
                let detail = format!("{wish:?} {answer:?}");
                self.oracle
                    .violate("an answer is one to the request", detail);
            }
        }
    }

    /// An owner was told that its results were taken: they are, and nobody will be asked for them.
    fn brought(&mut self, piece: &Piece, merged: u32, known: u32) {
        if !piece.good && merged > 0 {
            self.oracle
                .violate("what cannot be a result is refused", format!("{piece:?}"));
        }
        if (merged + known) as usize != piece.results.len() {
            self.oracle
                .violate("every result is accounted for", format!("{piece:?}"));
        }
        if merged > 0 {
            self.fault(Fault::OfflineResults);
        }
        if !piece.good {
            return;
        }
        for result in &piece.results {
            let task = TaskId {
                job: piece.job,
                index: result.index,
            };
            if !self.oracle.has_result(task) {
                self.oracle.violate("acknowledged is in the journal", task);
            }
        }
    }
}
