//! Effects: nothing leaves that the durable records do not bear out.

use hearth_core::{Answer, Effect, JobProgress, JobState};
use hearth_wire::record::Verdict;

use super::{AttemptState, Oracle, State};

impl Oracle {
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
            Effect::Cancel { attempts, .. } => {
                for attempt in attempts {
                    let known = self.attempts.get(attempt).map(|attempt| attempt.state);
                    let live = known == Some(AttemptState::Live);
                    self.want(!live, "only unwanted attempts are cancelled", attempt);
                }
            }
            Effect::JobChanged { progress } => self.progress(progress),
            Effect::ResultAccepted { task, verdict, .. } => {
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
                    Answer::Cancelled { seq }
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
