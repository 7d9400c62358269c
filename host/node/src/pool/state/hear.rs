//! What runners and compilations say.

use hearth_wire::runner::{Finished, Ready, RunOutcome};
use hearth_wire::{AttemptId, Inconclusive};
use tokio::time::Instant;

use super::{
    Artefact, Compiled, Outgoing, POISON_DEATHS, POISON_TIME, Place, REMADE_MAX, RESTART_MAX,
    RESTART_MIN, RunnerId, State, Timer, verdict,
};
use crate::artefacts::ArtefactName;
use crate::pool::events::RunEvent;
use crate::pool::judge::{ended, judge};
use hearth_wire::runner::ToRunner;

impl State {
    pub(in crate::pool) fn on_started(&mut self, id: RunnerId, pid: Option<u32>) {
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.pid = pid;
        }
    }

    /// # Errors
    ///
    /// A breach of the protocol: the runner is then killed by its reader.
    pub(in crate::pool) fn on_ready(&mut self, id: RunnerId, ready: Ready) -> Result<(), String> {
        let Some(runner) = self.runners.get_mut(&id) else {
            return Ok(());
        };
        if runner.ready.is_some() {
            return Err("it said twice that it is ready".to_owned());
        }
        match self.engine {
            Some(engine) if engine != ready.engine => {
                return Err(format!(
                    "its engine is {}, the others' is {engine}",
                    ready.engine
                ));
            }
            Some(_) if self.code != ready.code => {
                return Err("its machine code is of another kind than the others'".to_owned());
            }
            _ => (self.engine, self.code) = (Some(ready.engine), ready.code),
        }
        runner.ready = Some(ready);
        self.deaths_in_row = 0;
        let percent = self.effective_throttle();
        if percent != 100 {
            self.send(id, Outgoing::Message(ToRunner::Throttle(percent)));
        }
        Ok(())
    }

    /// # Errors
    ///
    /// A breach of the protocol: the runner is then killed by its reader.
    pub(in crate::pool) fn on_finished(
        &mut self,
        id: RunnerId,
        mut finished: Finished,
    ) -> Result<(), String> {
        let Some(runner) = self.runners.get_mut(&id) else {
            return Ok(());
        };
        let attempt = finished.attempt;
        let Some(at) = runner.sent.iter().position(|sent| sent.attempt == attempt) else {
            return Err(format!("it ended {attempt}, which it was not given"));
        };
        judge(&mut finished, &runner.sent[at].limits)
            .map_err(|what| format!("it reported {what}"))?;
        let sent = runner.sent.remove(at);
        let stopped = matches!(
            finished.outcome,
            RunOutcome::Inconclusive(Inconclusive::Cancelled | Inconclusive::Deadline)
        );
        if stopped && !sent.cancelled {
            finished.outcome = RunOutcome::Inconclusive(Inconclusive::HostFault(
                "the runner stopped an attempt that nobody cancelled".to_owned(),
            ));
        }
        if !matches!(finished.outcome, RunOutcome::Inconclusive(_)) {
            let info = self.components.entry(sent.component).or_default();
            info.deaths = 0;
            let micros = finished.run_micros.max(1);
            info.run_micros = match info.run_micros {
                0 => micros,
                // Rises at once and falls slowly: too much sent ahead makes others wait.
                before if micros > before => micros,
                before => (before * 7 + micros) / 8,
            };
        }
        if self.is_at(attempt, id) {
            self.end(finished);
        }
        Ok(())
    }

    /// A runner could not begin an attempt. What it was given to load is compiled again, once: the cache
    /// may hold what another build of the program left there.
    ///
    /// # Errors
    ///
    /// A breach of the protocol: the runner is then killed by its reader.
    pub(in crate::pool) fn on_not_loaded(
        &mut self,
        id: RunnerId,
        attempt: AttemptId,
        text: String,
    ) -> Result<(), String> {
        let Some(runner) = self.runners.get_mut(&id) else {
            return Ok(());
        };
        let Some(at) = runner.sent.iter().position(|sent| sent.attempt == attempt) else {
            return Err(format!(
                "it did not begin {attempt}, which it was not given"
            ));
        };
        let sent = runner.sent.remove(at);
        runner.loaded.retain(|loaded| *loaded != sent.component);
        if !self.is_at(attempt, id) {
            return Ok(());
        }
        let Some(held) = self.runs.get_mut(&attempt) else {
            return Ok(());
        };
        if std::mem::replace(&mut held.reloaded, true) {
            self.end(ended(attempt, Inconclusive::HostFault(text)));
            return Ok(());
        }
        let name = held.artefact;
        tracing::warn!(%text, "an artefact could not be loaded: it is compiled again");
        if self.remade.len() >= REMADE_MAX {
            self.remade.clear();
        }
        let anew = self.remade.insert(name);
        if anew {
            self.artefacts.remove(&name);
        }
        self.requeue_for_artefact(attempt, anew, Instant::now());
        Ok(())
    }

    /// Something that may be dropped came from a runner.
    pub(in crate::pool) fn on_notice(&mut self, id: RunnerId, event: RunEvent) {
        let attempt = event.attempt();
        if !self.is_at(attempt, id) {
            return;
        }
        if let Some(held) = self.runs.get(&attempt) {
            let fits = match &event {
                RunEvent::Checkpoint {
                    state, fuel_used, ..
                } => {
                    state.len() as u64 <= held.spec.limits.checkpoint_bytes
                        && *fuel_used <= held.spec.limits.fuel
                }
                _ => true,
            };
            if fits {
                held.sink.send(event);
            }
        }
    }

    /// A runner is gone. What it held is run once more elsewhere; what dies twice is given back.
    pub(in crate::pool) fn on_gone(&mut self, id: RunnerId, why: &str) {
        let Some(runner) = self.runners.remove(&id) else {
            return;
        };
        let now = Instant::now();
        let expected = runner.retiring && runner.sent.is_empty();
        if !expected && !self.closed {
            self.deaths += 1;
            self.deaths_in_row += 1;
            let delay = RESTART_MIN * 2u32.saturating_pow(self.deaths_in_row.min(16) - 1);
            let at = now + delay.min(RESTART_MAX);
            self.restart_at = Some(at);
            self.timers.insert((at, Timer::Look));
            self.last_trouble = Some(why.to_owned());
            tracing::warn!(
                runner = id,
                why,
                attempts = runner.sent.len(),
                "a runner died; what it held is run again"
            );
        }
        let mut running = 0;
        for sent in runner.sent {
            // Only what had a thread can have killed it; the rest waited behind.
            let suspect = !sent.paused && !sent.cancelled && running < self.config.slots_per_runner;
            if suspect {
                running += 1;
                let info = self.components.entry(sent.component).or_default();
                info.deaths += 1;
                if info.deaths >= POISON_DEATHS {
                    info.poisoned = Some(now + POISON_TIME);
                }
            }
            if !self.is_at(sent.attempt, id) {
                continue;
            }
            let Some(held) = self.runs.get_mut(&sent.attempt) else {
                continue;
            };
            held.losses += u8::from(suspect);
            held.place = Place::Queued;
            if held.losses > 1 {
                let text = format!("two runners died under this attempt, the last: {why}");
                self.end(ended(sent.attempt, Inconclusive::HostFault(text)));
            } else if !held.paused {
                self.queue
                    .insert((held.spec.priority, held.order, sent.attempt));
            }
        }
    }

    pub(in crate::pool) fn on_compiled(&mut self, name: ArtefactName, compiled: Compiled) {
        let Some(Artefact::Pending(attempts, callers)) = self.artefacts.remove(&name) else {
            return;
        };
        for caller in callers {
            let _gone = caller.send(verdict(&compiled));
        }
        for attempt in attempts {
            match verdict(&compiled) {
                Ok(()) => self.enqueue(attempt),
                Err(why) => self.end(ended(attempt, why)),
            }
        }
        self.artefacts
            .insert(name, Artefact::Done(compiled, Instant::now()));
        self.forget_stale_artefacts(Instant::now());
    }
}
