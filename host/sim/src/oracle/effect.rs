//! Effects: nothing leaves that the durable records do not bear out.

use std::collections::{BTreeMap, BTreeSet};

use hearth_core::{Answer, Effect, JobProgress, JobState};
use hearth_wire::record::{ReportFact, Verdict};
use hearth_wire::{AttemptId, NodeId, SessionId};

use super::{AttemptState, Oracle, State};

/// What must leave with the effects of a step whose records were folded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Due {
    accepted: BTreeSet<AttemptId>,
    cancelled: BTreeSet<(SessionId, AttemptId)>,
    closed: BTreeSet<SessionId>,
    /// Attempts that were parked (true) or go on: the last word on each.
    parked: BTreeMap<(SessionId, AttemptId), bool>,
}

impl Due {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A report decided something about its task: whoever waits for it is told.
    pub(super) fn report(&mut self, report: &ReportFact) {
        let silent = matches!(
            report.verdict,
            Verdict::Retry | Verdict::Noted | Verdict::Differs
        );
        if !silent {
            self.accepted.insert(report.attempt);
        }
    }

    /// A node's work on an attempt is of no use any more: it is told, if it was ever given it.
    pub(super) fn cancel(&mut self, session: Option<SessionId>, attempt: AttemptId) {
        self.cancelled
            .extend(session.map(|session| (session, attempt)));
    }

    /// A node is to park an attempt, or to go on with it.
    pub(super) fn park(&mut self, session: Option<SessionId>, attempt: AttemptId, parked: bool) {
        let word = session.map(|session| ((session, attempt), parked));
        self.parked.extend(word);
    }

    /// An attempt has ended: no word on it is owed.
    pub(super) fn end(&mut self, attempt: AttemptId) {
        self.parked.retain(|(_, other), _| *other != attempt);
    }

    /// A node may not stay.
    pub(super) fn hang_up(&mut self, session: Option<SessionId>) {
        self.closed.extend(session);
    }
}

impl Oracle {
    /// All effects of a step have left.
    pub(crate) fn step_left(&mut self) {
        let due = std::mem::take(&mut self.due);
        self.want(
            due.accepted.is_empty(),
            "whoever waits for a result is told",
            &due.accepted,
        );
        self.want(
            due.closed.is_empty(),
            "a revoked node is hung up on",
            &due.closed,
        );
        for (session, attempt) in due.cancelled {
            // Nothing can be sent over a connection that has ended.
            let here = self.sessions.contains_key(&session);
            self.want(!here, "useless work is called off", (session, attempt));
        }
        for ((session, attempt), parked) in due.parked {
            let here = self.sessions.contains_key(&session);
            let detail = (session, attempt, parked);
            self.want(!here, "nodes hear what is parked and what goes on", detail);
        }
    }

    /// A live attempt is of no use any more. One that was granted in this very step has not left.
    pub(super) fn call_off(&mut self, id: AttemptId) {
        if let Some(attempt) = self.attempts.get(&id)
            && self.granted.contains(&id)
        {
            let session = self.session_of(attempt.node);
            self.due.cancel(session, id);
        }
    }

    pub(super) fn session_of(&self, node: NodeId) -> Option<SessionId> {
        let mut sessions = self.sessions.iter();
        sessions.find_map(|(session, of)| (*of == node).then_some(*session))
    }

    /// When a step has ended, whoever was found wrong has been shut out, and what cannot be run any more
    /// has ended.
    pub(crate) fn judge_owed(&mut self) {
        let owed = self.owed.clone();
        self.want(owed.is_empty(), "who is found wrong is shut out", owed);
        let mut open = self.open_jobs.iter().map(|job| &self.jobs[*job]);
        let useless = open.find(|job| {
            let release = self.releases.get(&job.spec.release);
            job.doomed || release.is_none_or(|(_, revoked)| *revoked)
        });
        let useless = useless.map(|job| job.id);
        self.want(useless.is_none(), "what cannot be run ends", useless);
    }

    /// What has had all of its attempts has failed, unless one of ours may make one more.
    pub(crate) fn judge_spent(&mut self) {
        let open = self.open_jobs.iter().map(|job| &self.jobs[*job]);
        let mut spent = open.filter(|job| {
            let limit = u32::from(job.spec.options.attempts_max) * 2;
            let mut tasks = job.tasks.iter();
            tasks.any(|task| {
                let waits = task.state < State::Settled && task.live == 0;
                waits && task.halves >= limit && self.is_given_up(job, task)
            })
        });
        let spent = spent.next().map(|job| job.id);
        self.want(
            spent.is_none(),
            "what has had all its attempts fails",
            spent,
        );
    }

    /// Checks an effect at the moment when it leaves: all records of its step, and no later ones, are
    /// folded.
    pub(crate) fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Grant {
                session,
                node,
                leases,
            } => {
                let here = self.sessions.get(session) == Some(node);
                self.want(here, "work goes to the node's present connection", node);
                for grant in leases {
                    let known = self.attempts.get(&grant.attempt);
                    let fits = known.is_some_and(|attempt| {
                        attempt.node == *node
                            && attempt.task == grant.task
                            && attempt.state == AttemptState::Live
                    });
                    self.want(fits, "no effect before its record", grant);
                    let first = self.granted.insert(grant.attempt);
                    self.want(first, "one live lease per attempt", grant);
                    let right = self.job(grant.task.job).is_some_and(|job| {
                        job.spec.release == grant.release
                            && job.spec.options.lease_millis == grant.millis
                            && job.spec.options.priority == grant.priority
                    });
                    self.want(right, "a grant says what its job says", grant);
                    self.resumes(grant);
                }
            }
            Effect::Welcome { epoch, session, .. } => {
                self.want(
                    Some(*epoch) == self.epoch,
                    "nodes hear the present epoch",
                    epoch,
                );
                let known = self.sessions.contains_key(session);
                self.want(known, "no effect before its record", session);
            }
            Effect::Settled { session, attempts } => {
                for attempt in attempts {
                    let Some(known) = self.attempts.get(attempt) else {
                        continue;
                    };
                    let awaited = matches!(known.state, AttemptState::Live | AttemptState::Lost);
                    let mine = self.sessions.get(session) == Some(&known.node);
                    if awaited && mine && !self.misbound.contains(attempt) {
                        self.violate("an answered report is in the journal", attempt);
                    }
                }
            }
            Effect::Cancel { session, attempts } => {
                for attempt in attempts {
                    self.due.cancelled.remove(&(*session, *attempt));
                    let known = self.attempts.get(attempt).map(|attempt| attempt.state);
                    let live = known == Some(AttemptState::Live);
                    self.want(!live, "only unwanted attempts are cancelled", attempt);
                }
            }
            Effect::Pause { session, attempts } | Effect::Resume { session, attempts } => {
                let parked = matches!(effect, Effect::Pause { .. });
                for attempt in attempts {
                    let owed = self.due.parked.remove(&(*session, *attempt));
                    let right = owed == Some(parked);
                    self.want(right, "no effect before its record", (attempt, parked));
                    let has = self.granted.contains(attempt);
                    self.want(has, "a node has what it is told to park", attempt);
                }
            }
            Effect::JobChanged { progress } => self.progress(progress),
            Effect::ResultAccepted {
                task,
                verdict,
                attempt,
                ..
            } => {
                self.due.accepted.remove(attempt);
                let state = self.task(*task).map(|task| task.state);
                let fits = match verdict {
                    Verdict::Settled | Verdict::Confirmed { .. } => state == Some(State::Settled),
                    // It may have been taken back or confirmed in the same step.
                    Verdict::Provisional => state.is_some(),
                    _ => state == Some(State::Failed),
                };
                self.want(fits, "no effect before its record", (task, verdict));
            }
            Effect::Done { answer, .. } => {
                let seq = match answer {
                    Answer::Submitted {
                        seq, job, tasks, ..
                    } => {
                        let known = self.job(*job).map(|job| job.tasks.len() as u32);
                        self.want(known == Some(*tasks), "acknowledged is in the journal", job);
                        seq
                    }
                    Answer::Merged { seq, .. }
                    | Answer::Cancelled { seq }
                    | Answer::ReleaseAdded { seq }
                    | Answer::ReleaseRevoked { seq }
                    | Answer::Draining { seq }
                    | Answer::NodeRevoked { seq }
                    | Answer::Noted { seq } => seq,
                };
                self.want(seq.0 <= self.seq, "acknowledged is in the journal", seq);
            }
            Effect::BlobHeld { holder, blob } => {
                self.held.entry(*holder).or_default().insert(*blob);
            }
            Effect::BlobsReleased { holder } => {
                self.held.remove(holder);
            }
            Effect::Refused { refusal, .. } => self.refused(refusal),
            Effect::CloseSession { session, .. } => {
                self.due.closed.remove(session);
            }
            Effect::ModeChanged { mode, .. } => {
                self.want(*mode == self.mode, "no effect before its record", mode);
            }
            _ => {}
        }
    }

    fn progress(&mut self, progress: &JobProgress) {
        let Some(job) = self.job(progress.job) else {
            return self.violate("no effect before its record", progress.job);
        };
        let counts = [
            job.counts[0],
            progress.provisional,
            progress.settled,
            progress.failed,
            progress.cancelled,
            progress.expired,
        ];
        let fits = counts == job.counts && progress.leased == job.leased;
        let closed = progress.state != JobState::Open;
        let detail = format!("{progress:?} and {:?} {}", job.counts, job.leased);
        let fits = fits && closed == (job.open == 0);
        if !fits {
            self.violate("a job's progress is that of its tasks", detail);
        }
    }
}
