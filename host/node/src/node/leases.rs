//! Leases: from their arrival until the pool says how they ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hearth_identity::{Trust, sign_checkpoint};
use hearth_wire::limits::{
    CHECKPOINT_CHAIN_MAX, INLINE_BYTES_MAX, LEASES_PER_NODE_MAX, SPILLED_REPORTS_MAX,
};
use hearth_wire::message::{CheckpointReport, Input, Lease, LogLine, NodeMessage};
use hearth_wire::runner::{Finished, Resume, RunOutcome};
use hearth_wire::{
    AttemptId, Blob, Body, Checkpoint, Digest, Inconclusive, Manifest, Priority, Release,
    ReleaseId, TaskId, content_id,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::admit::Breach;
use super::work::{self, Done, Gathered, Want};
use super::{Node, unix_now};
use crate::blobs::Pin;
use crate::pool::{ComponentSource, RunEvent, RunSpec};

/// Longest lease: beyond it a clock of ours would be trusted more than any machine lives.
const LEASE_MAX: Duration = Duration::from_secs(30 * 86_400);

/// What an attempt is at.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    task: TaskId,
    content: Digest,
}

/// A lease that has not ended.
pub(super) struct Attempt {
    about: About,
    release: Arc<Release>,
    manifest: Arc<Manifest>,
    /// The author.
    group: Digest,
    media_type: String,
    seed: Digest,
    priority: Priority,
    deadline: Instant,
    /// Where it goes on from.
    resumed: Option<Checkpoint>,
    /// In the pool, with what it needs there.
    running: Option<(Pin, OwnedSemaphorePermit)>,
    paused: bool,
    /// A checkpoint is under way to the coordinator; another one is not begun before it arrived.
    saving: bool,
}

impl Attempt {
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Its end is told without waiting for the pool's.
    pub(super) fn forget_pool(&mut self) {
        self.running = None;
    }
}

impl Node {
    /// # Errors
    ///
    /// What the coordinator did against the protocol.
    pub(super) fn on_leases(&mut self, leases: Vec<Lease>) -> Result<(), Breach> {
        // Whoever leases to an idle node listens more closely from now on.
        let soon = Instant::now() + self.heartbeat;
        self.timers.heartbeat = self.timers.heartbeat.min(soon);
        let mut ready = Vec::new();
        let taken = leases.into_iter().try_for_each(|lease| {
            ready.extend(self.on_lease(lease)?);
            Ok(())
        });
        self.run(ready);
        taken
    }

    /// Gives the run if all that it needs is at hand; otherwise it is gathered first.
    fn on_lease(&mut self, lease: Lease) -> Result<Option<RunSpec>, Breach> {
        let attempt = lease.attempt;
        // A release travels with the first lease that names it, whatever becomes of that lease.
        let named = self.admission.admit(lease.release, unix_now())?;
        if self.attempts.contains_key(&attempt) {
            return Ok(None);
        }
        if self.reports.contains_key(&attempt) {
            self.ready.insert(attempt);
            self.flush_soon();
            return Ok(None);
        }
        let Input {
            media_type, digest, ..
        } = &lease.input;
        // Also a report that nothing ran is bound to what was asked.
        let content = named
            .manifest
            .as_ref()
            .map_or(Digest::default(), |manifest| {
                content_id(manifest, digest, media_type, &lease.seed)
            });
        let about = About {
            task: lease.task,
            content,
        };
        let full =
            self.attempts.len() >= LEASES_PER_NODE_MAX || self.reports.len() >= SPILLED_REPORTS_MAX;
        let declined = if lease.epoch != self.seen.epoch() {
            Some(Inconclusive::Declined(format!(
                "the lease is of epoch {}, the coordinator of {}",
                lease.epoch,
                self.seen.epoch()
            )))
        } else if self.drain.is_some() {
            Some(Inconclusive::Cancelled)
        } else if full {
            let text = "this node holds as many leases as it may";
            Some(Inconclusive::Declined(text.to_owned()))
        } else {
            None
        };
        let verdict = named.verdict.map_err(Inconclusive::Declined);
        let (manifest, group) = match (declined, named.manifest, verdict) {
            (None, Some(manifest), Ok(group)) => (manifest, group),
            (Some(why), _, _) | (None, _, Err(why)) => {
                self.conclude(attempt, about, why);
                return Ok(None);
            }
            // No release without a manifest has a good verdict.
            (None, None, Ok(_)) => return Ok(None),
        };
        let deadline = Instant::now() + Duration::from_millis(lease.millis).min(LEASE_MAX);
        let resumed = lease.checkpoint.filter(|checkpoint| {
            let sound = check_chain(checkpoint);
            if let Err(problem) = sound {
                tracing::warn!(task = %about.task, problem, "a checkpoint is not used: the task starts again");
            }
            sound.is_ok()
        });
        if let Some(checkpoint) = &resumed {
            tracing::info!(%attempt, task = %about.task, fuel = checkpoint.fuel_used, "going on from a checkpoint");
        }
        let want = Want {
            task: about.task,
            component: manifest.component,
            input: lease.input,
            state: resumed.as_ref().map(|checkpoint| checkpoint.state.clone()),
            until: deadline,
        };
        self.attempts.insert(
            attempt,
            Attempt {
                about,
                release: named.release,
                manifest,
                group,
                media_type: want.input.media_type.clone(),
                seed: lease.seed,
                priority: lease.priority,
                deadline,
                resumed,
                running: None,
                paused: false,
                saving: false,
            },
        );
        if let Some(gathered) = work::gather_at_once(&self.blobs, &self.budget, &want) {
            return Ok(self.gathered(attempt, gathered));
        }
        let (client, blobs) = (self.client.clone(), Arc::clone(&self.blobs));
        let (budget, done) = (Arc::clone(&self.budget), self.done.clone());
        tokio::spawn(async move {
            let gathered = work::gather(client, blobs, budget, want).await;
            // The loop is gone only when the node is.
            let _gone = done.send(Done::Gathered(attempt, gathered)).await;
        });
        Ok(None)
    }

    pub(super) fn on_gathered(&mut self, attempt: AttemptId, result: Result<Gathered, String>) {
        let ready = self.gathered(attempt, result);
        self.run(ready.into_iter().collect());
    }

    /// The run of an attempt for which everything is there.
    fn gathered(
        &mut self,
        attempt: AttemptId,
        result: Result<Gathered, String>,
    ) -> Option<RunSpec> {
        // It may have been cancelled or run out since.
        let held = self.attempts.get_mut(&attempt)?;
        let gathered = match result {
            Ok(gathered) => gathered,
            Err(text) => {
                let about = held.about;
                self.attempts.remove(&attempt);
                self.conclude(attempt, about, Inconclusive::HostFault(text));
                return None;
            }
        };
        let resume = gathered.state.zip(held.resumed.as_ref());
        let resume = resume.map(|(state, checkpoint)| Resume {
            state,
            fuel_used: checkpoint.fuel_used,
        });
        if resume.is_none() {
            // What was not resumed must not be told as resumed.
            held.resumed = None;
        }
        held.running = Some((gathered.pin, gathered.permit));
        let manifest = &held.manifest;
        Some(RunSpec {
            attempt,
            flow: held.about.task.job.0,
            group: held.group,
            component: manifest.component.digest,
            source: ComponentSource::File(gathered.component),
            imports: manifest.imports.clone(),
            limits: manifest.limits,
            content: held.about.content,
            seed: held.seed,
            media_type: held.media_type.clone(),
            input: gathered.input,
            resume,
            priority: held.priority,
            deadline: Some(held.deadline.saturating_duration_since(Instant::now())),
        })
    }

    fn run(&mut self, ready: Vec<RunSpec>) {
        let attempts = ready.iter().map(|run| run.attempt);
        let is_paused = |attempt: &AttemptId| self.attempts.get(attempt).is_some_and(|a| a.paused);
        let paused: Vec<_> = attempts.filter(is_paused).collect();
        for (attempt, error) in self.pool.submit(ready, &self.sink) {
            if let Some(held) = self.attempts.remove(&attempt) {
                self.conclude(
                    attempt,
                    held.about,
                    Inconclusive::HostFault(error.to_string()),
                );
            }
        }
        if !paused.is_empty() {
            self.pool.pause(&paused);
        }
    }

    pub(super) fn on_event(&mut self, event: RunEvent) {
        match event {
            RunEvent::Finished(finished) => self.on_finished(finished),
            RunEvent::Progress {
                attempt,
                done,
                total,
            } => {
                // Merged until the next heartbeat; bounded by the attempts held.
                if self.attempts.contains_key(&attempt) {
                    self.progress.insert(attempt, (done, total));
                }
            }
            RunEvent::Log {
                attempt,
                level,
                text,
            } => {
                let Some(link) = self.link.up().filter(|_| self.log_tokens > 0) else {
                    return;
                };
                self.log_tokens -= 1;
                let line = LogLine {
                    attempt,
                    level,
                    text,
                };
                // Lines may be lost; the connection is worth more.
                let _full = link.try_send(&NodeMessage::Log(line));
            }
            RunEvent::Checkpoint {
                attempt,
                state,
                fuel_used,
            } => self.on_checkpoint(attempt, state, fuel_used),
        }
    }

    fn on_finished(&mut self, finished: Finished) {
        self.progress.remove(&finished.attempt);
        let Some(held) = self.attempts.remove(&finished.attempt) else {
            return;
        };
        let Finished {
            attempt,
            outcome,
            fuel_used,
            run_micros,
            log_bytes_dropped,
        } = finished;
        self.ended += 1;
        if let RunOutcome::Inconclusive(why) = &outcome {
            tracing::info!(%attempt, task = %held.about.task, ?why, "an attempt says nothing about its task");
        }
        let (outcome, output) = outcome.into_outcome();
        let report = hearth_wire::message::Report {
            attempt,
            task: held.about.task,
            content: held.about.content,
            engine: self.engine,
            outcome,
            fuel_used,
            run_micros,
            log_bytes_dropped,
            chain: held
                .resumed
                .map(|checkpoint| checkpoint.chain)
                .unwrap_or_default(),
        };
        self.add_report(report, output);
    }

    fn on_checkpoint(&mut self, attempt: AttemptId, state: Vec<u8>, fuel_used: u64) {
        let up = self.link.up().is_some();
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        // Without a coordinator it is of no use to anyone: the attempt itself goes on here.
        if !up || held.saving {
            return;
        }
        let full = |resumed: &Checkpoint| resumed.chain.len() >= CHECKPOINT_CHAIN_MAX;
        if held.resumed.as_ref().is_some_and(full) {
            return;
        }
        let (body, bytes) = if state.len() <= INLINE_BYTES_MAX {
            (Body::Inline(state), None)
        } else {
            (Body::Blob(Blob::of(&state)), Some(state))
        };
        let signed = sign_checkpoint(
            self.me.key(),
            self.me.id(),
            (held.about.content, held.about.task),
            (body, fuel_used),
            held.resumed.as_ref(),
        );
        let checkpoint = match signed {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                tracing::warn!(%attempt, %error, "a checkpoint is not kept");
                return;
            }
        };
        held.saving = true;
        match bytes {
            None => self.on_saved(attempt, checkpoint, Ok(())),
            Some(state) => {
                let (client, done) = (self.client.clone(), self.done.clone());
                let digest = checkpoint.state.blob().digest;
                tokio::spawn(async move {
                    let result = work::save(client, digest, state).await;
                    let _gone = done.send(Done::Saved(attempt, checkpoint, result)).await;
                });
            }
        }
    }

    pub(super) fn on_saved(
        &mut self,
        attempt: AttemptId,
        checkpoint: Checkpoint,
        result: Result<(), String>,
    ) {
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        held.saving = false;
        if let Err(error) = result {
            tracing::warn!(%attempt, error, "a checkpoint was not handed over; the next one may be");
            return;
        }
        if let Some(link) = self.link.up() {
            tracing::info!(%attempt, fuel = checkpoint.fuel_used, "a checkpoint is handed over");
            let report = CheckpointReport {
                attempt,
                checkpoint,
            };
            // The next checkpoint makes up for one that found no room.
            let _full = link.try_send(&NodeMessage::Checkpoint(report));
        }
    }

    /// Somebody wants these no longer. With `tell` each is reported as cancelled.
    pub(super) fn on_cancel(&mut self, attempts: &[AttemptId], tell: bool) {
        let mut running = Vec::new();
        for attempt in attempts {
            let Some(held) = self.attempts.get(attempt) else {
                continue;
            };
            if held.is_running() && tell {
                running.push(*attempt);
                continue;
            }
            let (about, was_running) = (held.about, held.is_running());
            self.attempts.remove(attempt);
            self.progress.remove(attempt);
            if tell {
                self.conclude(*attempt, about, Inconclusive::Cancelled);
            } else if was_running {
                self.pool.cancel(&[*attempt]);
            }
        }
        if !running.is_empty() {
            // Their ends come out of the pool as of any other attempt.
            self.pool.cancel(&running);
        }
    }

    /// The realm trusts others from now on: what runs here by its old word is judged again, and code
    /// of an author who was taken back stops at once.
    pub(super) fn trust_anew(&mut self, trust: Trust) {
        let now = unix_now();
        self.admission.set_trust(trust, now);
        let mut verdicts: HashMap<ReleaseId, Result<Digest, String>> = HashMap::new();
        let mut declined = Vec::new();
        for (attempt, held) in &self.attempts {
            let verdict = verdicts
                .entry(held.release.id())
                .or_insert_with(|| self.admission.judge(Arc::clone(&held.release), now).verdict);
            if let Err(why) = verdict {
                declined.push((*attempt, held.about, held.is_running(), why.clone()));
            }
        }
        for (attempt, about, running, why) in declined {
            tracing::warn!(%attempt, why, "an attempt is given back: its release is not trusted any more");
            self.attempts.remove(&attempt);
            if running {
                // Its end in the pool is nobody's any more.
                self.pool.cancel(&[attempt]);
            }
            self.conclude(attempt, about, Inconclusive::Declined(why));
        }
    }

    pub(super) fn on_pause(&mut self, attempts: &[AttemptId], paused: bool) {
        for attempt in attempts {
            if let Some(held) = self.attempts.get_mut(attempt) {
                held.paused = paused;
            }
        }
        if paused {
            self.pool.pause(attempts);
        } else {
            self.pool.resume(attempts);
        }
    }

    /// Leases that ran out while their inputs were still being fetched; the pool sees to the others.
    pub(super) fn expire_leases(&mut self, now: Instant) {
        let late: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, held)| !held.is_running() && held.deadline <= now)
            .map(|(attempt, held)| (*attempt, held.about))
            .collect();
        for (attempt, about) in late {
            self.attempts.remove(&attempt);
            self.conclude(attempt, about, Inconclusive::Deadline);
        }
    }

    /// Reports an attempt that never ran.
    fn conclude(&mut self, attempt: AttemptId, about: About, why: Inconclusive) {
        self.progress.remove(&attempt);
        let About { task, content } = about;
        tracing::info!(%attempt, %task, ?why, "an attempt did not run");
        let report = hearth_wire::message::Report {
            attempt,
            task,
            content,
            engine: self.engine,
            outcome: hearth_wire::Outcome::Inconclusive(cut(why)),
            fuel_used: 0,
            run_micros: 0,
            log_bytes_dropped: 0,
            chain: Vec::new(),
        };
        self.add_report(report, None);
    }
}

fn cut(mut why: Inconclusive) -> Inconclusive {
    if let Inconclusive::HostFault(text)
    | Inconclusive::Declined(text)
    | Inconclusive::Unfit(text) = &mut why
    {
        crate::pool::cut(text, 1 << 10);
    }
    why
}

/// What a node can check of a chain: its form, that it ends in this state, that fuel only rises. Who
/// signed the links only the coordinator can check, which knows all nodes' keys; a link that is not
/// its maker's can make a result wrong, never this machine unsafe.
fn check_chain(checkpoint: &Checkpoint) -> Result<(), &'static str> {
    let chain = &checkpoint.chain;
    let Some(last) = chain.last() else {
        return Err("it names no maker");
    };
    if chain.len() > CHECKPOINT_CHAIN_MAX {
        return Err("its chain is too long");
    }
    if !checkpoint.state.within_limit() {
        return Err("its state is too large to be inline");
    }
    if last.state != checkpoint.state.blob().digest || last.fuel_used != checkpoint.fuel_used {
        return Err("its last link is not about this state");
    }
    if !chain.is_sorted_by_key(|link| link.fuel_used) {
        return Err("its fuel does not rise");
    }
    Ok(())
}
