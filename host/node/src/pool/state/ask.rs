//! What callers ask of the pool.

use std::collections::BTreeMap;

use hearth_wire::runner::{Confinement, ToRunner};
use hearth_wire::{AttemptId, Inconclusive};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{
    Action, Artefact, CANCEL_GRACE, CompileJob, Held, Outgoing, Place, RUNS_MAX, Runner, RunnerId,
    State, Timer, verdict,
};
use crate::artefacts::ArtefactName;
use crate::pool::events::{EventSink, RunEvent};
use crate::pool::judge::ended;
use crate::pool::{PoolError, PoolStatus, RunSpec};

impl State {
    pub(in crate::pool) fn submit(
        &mut self,
        spec: RunSpec,
        sink: &EventSink,
    ) -> Result<(), PoolError> {
        let attempt = spec.attempt;
        if self.closed {
            return Err(PoolError::Closed);
        }
        let lingers = |runner: &Runner| runner.sent.iter().any(|sent| sent.attempt == attempt);
        if self.runs.contains_key(&attempt) || self.runners.values().any(lingers) {
            return Err(PoolError::Duplicate(attempt));
        }
        if self.runs.len() >= RUNS_MAX {
            return Err(PoolError::Full);
        }
        let Some(engine) = self.engine else {
            return Err(PoolError::NotReady("no runner has started yet".to_owned()));
        };
        let now = Instant::now();
        if spec.limits.memory_bytes > self.config.memory_bytes {
            let text = format!(
                "the task may use {} bytes of memory, this node gives {}",
                spec.limits.memory_bytes, self.config.memory_bytes
            );
            sink.send(RunEvent::Finished(ended(
                attempt,
                Inconclusive::Declined(text),
            )));
            return Ok(());
        }
        if let Some(text) = self.poisoned(spec.component, now) {
            sink.send(RunEvent::Finished(ended(
                attempt,
                Inconclusive::HostFault(text),
            )));
            return Ok(());
        }
        let artefact = ArtefactName::new(
            spec.component,
            &engine,
            self.code,
            &spec.imports,
            &spec.limits,
        );
        // A deadline beyond the end of time is none.
        let deadline = spec.deadline.and_then(|after| now.checked_add(after));
        if let Some(at) = deadline {
            self.timers.insert((at, Timer::Deadline(attempt)));
        }
        let job = CompileJob {
            component: spec.component,
            source: spec.source.clone(),
            imports: spec.imports.clone(),
            limits: spec.limits,
            anew: false,
        };
        let expected = self.components.get(&spec.component);
        let micros = expected.map_or(0, |info| info.run_micros);
        let order = self.turns.place(spec.flow, micros);
        self.runs.insert(
            attempt,
            Held {
                spec,
                artefact,
                sink: sink.clone(),
                order,
                since: now,
                deadline,
                place: Place::Compiling,
                paused: false,
                losses: 0,
                reloaded: false,
            },
        );
        self.want_artefact(attempt, artefact, job, now);
        Ok(())
    }

    /// Asks for an artefact without an attempt.
    pub(in crate::pool) fn prepare(
        &mut self,
        job: CompileJob,
        done: oneshot::Sender<Result<(), Inconclusive>>,
    ) {
        let Some(engine) = self.engine.filter(|_| !self.closed) else {
            let _gone = done.send(Err(Inconclusive::HostFault("no runner".to_owned())));
            return;
        };
        let name = ArtefactName::new(job.component, &engine, self.code, &job.imports, &job.limits);
        self.forget_stale_artefacts(Instant::now());
        match self.artefacts.get_mut(&name) {
            Some(Artefact::Pending(_, waiting)) => waiting.push(done),
            Some(Artefact::Done(compiled, _)) => {
                let _gone = done.send(verdict(compiled));
            }
            None => {
                self.artefacts
                    .insert(name, Artefact::Pending(Vec::new(), vec![done]));
                self.actions.push(Action::Compile(name, job));
            }
        }
    }

    /// Ends attempts for their asker at once; their runner is told and given a grace.
    pub(in crate::pool) fn cancel(&mut self, attempts: &[AttemptId], why: &Inconclusive) {
        let mut per_runner: BTreeMap<RunnerId, Vec<AttemptId>> = BTreeMap::new();
        for &attempt in attempts {
            let Some(held) = self.runs.get(&attempt) else {
                continue;
            };
            if let Place::Sent(runner) = held.place {
                per_runner.entry(runner).or_default().push(attempt);
            }
            self.end(ended(attempt, why.clone()));
        }
        let at = Instant::now() + CANCEL_GRACE;
        for (id, attempts) in per_runner {
            for &attempt in &attempts {
                self.timers.insert((at, Timer::Unresponsive(id, attempt)));
            }
            if let Some(runner) = self.runners.get_mut(&id) {
                for sent in &mut runner.sent {
                    sent.cancelled |= attempts.contains(&sent.attempt);
                }
            }
            self.send(id, Outgoing::Message(ToRunner::Cancel(attempts)));
        }
    }

    pub(in crate::pool) fn set_paused(&mut self, attempts: &[AttemptId], paused: bool) {
        let mut per_runner: BTreeMap<RunnerId, Vec<AttemptId>> = BTreeMap::new();
        for attempt in attempts {
            let Some(held) = self.runs.get_mut(attempt) else {
                continue;
            };
            if held.paused == paused {
                continue;
            }
            held.paused = paused;
            match held.place {
                Place::Compiling => {}
                Place::Queued if paused => {
                    self.queue
                        .remove(&(held.spec.priority, held.order, *attempt));
                }
                Place::Queued => {
                    self.queue
                        .insert((held.spec.priority, held.order, *attempt));
                }
                Place::Sent(runner) => per_runner.entry(runner).or_default().push(*attempt),
            }
        }
        for (id, attempts) in per_runner {
            if let Some(runner) = self.runners.get_mut(&id) {
                for sent in &mut runner.sent {
                    if attempts.contains(&sent.attempt) {
                        sent.paused = paused;
                    }
                }
            }
            let message = if paused {
                ToRunner::Pause(attempts)
            } else {
                ToRunner::Resume(attempts)
            };
            self.send(id, Outgoing::Message(message));
        }
    }

    pub(in crate::pool) fn set_throttle(&mut self, percent: u8) {
        self.throttle = percent.min(100);
        self.tell_throttle();
    }

    pub(in crate::pool) fn set_slots(&mut self, slots: u16) {
        let whole = self
            .config
            .runners
            .saturating_mul(self.config.slots_per_runner);
        self.slots = slots.min(whole);
        self.tell_throttle();
    }

    /// Zero slots park everything, which to a runner is a throttle of zero.
    pub(super) fn effective_throttle(&self) -> u8 {
        if self.slots == 0 { 0 } else { self.throttle }
    }

    fn tell_throttle(&mut self) {
        let percent = self.effective_throttle();
        let ready: Vec<_> = self
            .runners
            .iter()
            .filter(|(_, runner)| runner.ready.is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in ready {
            self.send(id, Outgoing::Message(ToRunner::Throttle(percent)));
        }
    }

    pub(in crate::pool) fn waiting(&self) -> Vec<AttemptId> {
        let waiting = |held: &Held| !matches!(held.place, Place::Sent(_));
        self.runs
            .iter()
            .filter(|(_, held)| waiting(held))
            .map(|(attempt, _)| *attempt)
            .collect()
    }

    pub(in crate::pool) fn status(&self) -> PoolStatus {
        let running: usize = self
            .runners
            .values()
            .map(|r| r.active().min(self.config.slots_per_runner.into()))
            .sum();
        let sent: usize = self.runners.values().map(Runner::active).sum();
        let parked: usize = self.runners.values().map(|r| r.sent.len()).sum::<usize>() - sent;
        let ready = self.runners.values().filter_map(|r| r.ready.as_ref());
        PoolStatus {
            engine: self.engine,
            confinement: ready
                .map(|ready| ready.confinement)
                .reduce(|a, b| Confinement {
                    no_new_privileges: a.no_new_privileges && b.no_new_privileges,
                    landlock: a.landlock && b.landlock,
                    seccomp: a.seccomp && b.seccomp,
                    rlimits: a.rlimits && b.rlimits,
                })
                .unwrap_or_default(),
            slots: self.slots,
            running: running.min(u16::MAX.into()) as u16,
            queued: self
                .runs
                .len()
                .saturating_sub(running + parked)
                .min(u16::MAX.into()) as u16,
            runner_deaths: self.deaths,
            pids: self.runners.values().filter_map(|r| r.pid).collect(),
        }
    }

    pub(in crate::pool) fn close(&mut self) {
        self.closed = true;
        let attempts: Vec<_> = self.runs.keys().copied().collect();
        for attempt in attempts {
            self.end(ended(attempt, Inconclusive::Cancelled));
        }
        // Dropping the senders ends the writers, which closes the sockets.
        self.runners.clear();
        self.artefacts.clear();
    }
}
