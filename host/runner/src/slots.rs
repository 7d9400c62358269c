//! Attempts of one runner: waiting, running, parked.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hearth_sandbox::{Gate, Hooks, Program, RunRequest, Sandbox};
use hearth_wire::message::{LogLevel, Progress};
use hearth_wire::runner::{Finished, Run, RunOutcome};
use hearth_wire::{AttemptId, Digest, Inconclusive};

use crate::outbox::Outbox;

/// Attempts that may wait in a runner: a node sends what its slots and a short prefetch need.
const WAITING_MAX: usize = hearth_wire::limits::LEASES_PER_NODE_MAX;
/// Compiled components at once; a node unloads what it no longer needs.
const PROGRAMS_MAX: usize = 256;

/// Shared by the reader of the stream and the threads that run guests.
///
/// A parked attempt keeps its thread and its memory but not its slot: while some are parked, as many
/// others may run. So there are more threads than slots, and the node decides how many it parks. The
/// cost: after a resume, more guests run than there are slots until one of them ends.
pub(crate) struct Slots {
    sandbox: Sandbox,
    outbox: Arc<Outbox>,
    slots: usize,
    checkpoint_period: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    programs: BTreeMap<Digest, Result<Program, String>>,
    waiting: VecDeque<(Run, Gate)>,
    running: BTreeMap<AttemptId, Gate>,
    closing: bool,
}

impl State {
    /// Attempts that run and are not parked.
    fn active(&self) -> usize {
        self.running
            .values()
            .filter(|gate| !gate.is_paused())
            .count()
    }
}

impl Slots {
    pub(crate) fn new(
        sandbox: Sandbox,
        outbox: Arc<Outbox>,
        slots: usize,
        checkpoint_period: Duration,
    ) -> Self {
        Self {
            sandbox,
            outbox,
            slots,
            checkpoint_period,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn load(&self, component: Digest, program: Result<Program, String>) {
        let mut state = self.lock();
        if state.programs.len() >= PROGRAMS_MAX && !state.programs.contains_key(&component) {
            // The node's runs of it will say that it is not there.
            tracing::warn!(%component, "{PROGRAMS_MAX} components are loaded: unload some first");
            return;
        }
        state.programs.insert(component, program);
    }

    pub(crate) fn unload(&self, component: &Digest) {
        self.lock().programs.remove(component);
    }

    /// Queues attempts; those beyond the limit are declined at once.
    pub(crate) fn run(&self, runs: Vec<Run>) {
        let mut declined = Vec::new();
        {
            let mut state = self.lock();
            for run in runs {
                if state.waiting.len() < WAITING_MAX {
                    state.waiting.push_back((run, Gate::new()));
                } else {
                    declined.push(run.attempt);
                }
            }
        }
        self.changed.notify_all();
        for attempt in declined {
            self.outbox.finish(ended(
                attempt,
                Inconclusive::Declined(format!(
                    "{WAITING_MAX} attempts wait in this runner already"
                )),
            ));
        }
    }

    pub(crate) fn cancel(&self, attempts: &[AttemptId]) {
        let mut dropped = Vec::new();
        {
            let mut state = self.lock();
            for attempt in attempts {
                if let Some(gate) = state.running.get(attempt) {
                    gate.cancel();
                } else if let Some(position) = position(&state, *attempt) {
                    state.waiting.remove(position);
                    dropped.push(*attempt);
                }
                // Unknown: it has ended, and its outcome is on the way.
            }
        }
        for attempt in dropped {
            self.outbox.finish(ended(attempt, Inconclusive::Cancelled));
        }
    }

    pub(crate) fn pause(&self, attempts: &[AttemptId]) {
        self.each(attempts, Gate::pause);
    }

    pub(crate) fn resume(&self, attempts: &[AttemptId]) {
        self.each(attempts, Gate::resume);
    }

    pub(crate) fn throttle(&self, percent: u8) {
        self.sandbox.throttle(percent);
    }

    /// Ends the threads when nothing waits or runs.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// Ends everything now: the node is gone, and nobody waits for outcomes.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.closing = true;
        state.waiting.clear();
        state.running.values().for_each(Gate::cancel);
        self.changed.notify_all();
    }

    /// Runs attempts on the calling thread until closed.
    pub(crate) fn work(&self) {
        while let Some((run, gate, program)) = self.next() {
            let attempt = run.attempt;
            let finished = program.map(|program| {
                // A panic is our fault or wasmtime's, and no reason to lose the other attempts.
                catch_unwind(AssertUnwindSafe(|| self.attempt(run, &gate, &program)))
                    .unwrap_or_else(|_| {
                        ended(
                            attempt,
                            Inconclusive::HostFault("the runner panicked".to_owned()),
                        )
                    })
            });
            {
                let mut state = self.lock();
                state.running.remove(&attempt);
            }
            self.changed.notify_all();
            match finished {
                Ok(finished) => self.outbox.finish(finished),
                Err(text) => self.outbox.not_loaded(attempt, text),
            }
        }
    }

    /// The next attempt that may start; `None` when there will be none.
    fn next(&self) -> Option<(Run, Gate, Result<Program, String>)> {
        let mut state = self.lock();
        loop {
            let free = state.active() < self.slots;
            let ready = state.waiting.iter().position(|(_, gate)| !gate.is_paused());
            if free
                && let Some(position) = ready
                && let Some((run, gate)) = state.waiting.remove(position)
            {
                state.running.insert(run.attempt, gate.clone());
                let program = match state.programs.get(&run.component) {
                    Some(program) => program.clone(),
                    None => Err(format!("component {} is not loaded", run.component)),
                };
                return Some((run, gate, program));
            }
            if state.closing && state.waiting.is_empty() {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn attempt(&self, run: Run, gate: &Gate, program: &Program) -> Finished {
        let hooks = ToOutbox {
            attempt: run.attempt,
            outbox: Arc::clone(&self.outbox),
            period: self.checkpoint_period,
            last: Instant::now(),
        };
        let request = RunRequest {
            content: run.content,
            seed: run.seed,
            limits: run.limits,
            media_type: run.media_type,
            input: run.input,
            resume: run.resume,
        };
        let ran = self.sandbox.run_blocking(program, request, gate, hooks);
        Finished {
            attempt: run.attempt,
            outcome: ran.outcome,
            fuel_used: ran.fuel_used,
            run_micros: ran.run_micros,
            log_bytes_dropped: ran.log_bytes_dropped,
        }
    }

    fn each(&self, attempts: &[AttemptId], act: impl Fn(&Gate)) {
        let state = self.lock();
        for attempt in attempts {
            if let Some(gate) = state.running.get(attempt) {
                act(gate);
            } else if let Some((_, gate)) =
                position(&state, *attempt).and_then(|position| state.waiting.get(position))
            {
                act(gate);
            }
        }
        // A parked attempt gives its slot away; a resumed one that waits may start.
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn position(state: &State, attempt: AttemptId) -> Option<usize> {
    state
        .waiting
        .iter()
        .position(|(run, _)| run.attempt == attempt)
}

/// An attempt that never began.
fn ended(attempt: AttemptId, cause: Inconclusive) -> Finished {
    Finished {
        attempt,
        outcome: RunOutcome::Inconclusive(cause),
        fuel_used: 0,
        run_micros: 0,
        log_bytes_dropped: 0,
    }
}

struct ToOutbox {
    attempt: AttemptId,
    outbox: Arc<Outbox>,
    period: Duration,
    last: Instant,
}

impl Hooks for ToOutbox {
    fn progress(&mut self, done: u64, total: Option<u64>) {
        self.outbox.progress(Progress {
            attempt: self.attempt,
            done,
            total,
        });
    }

    fn log(&mut self, level: LogLevel, text: &str) {
        self.outbox.log(self.attempt, level, text);
    }

    fn wants_checkpoint(&mut self) -> bool {
        self.last.elapsed() >= self.period
    }

    fn checkpoint(&mut self, state: Vec<u8>, fuel_used: u64) {
        self.last = Instant::now();
        self.outbox.checkpoint(self.attempt, state, fuel_used);
    }
}
