//! Timers, the number of runners, and which attempt goes to which runner.

use std::sync::Arc;

use hearth_wire::runner::{Run, ToRunner};
use hearth_wire::{AttemptId, Digest, Inconclusive};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{
    AHEAD_MAX, AHEAD_MICROS, Action, Artefact, BATCH_BYTES_MAX, CANCEL_GRACE, Compiled, Held,
    LOADED_MAX, OUTGOING_MAX, Outgoing, PATIENCE, Place, Runner, RunnerId, SCAN_MAX, START_GRACE,
    SentInfo, State, Timer,
};

impl State {
    /// Fires timers, starts runners, hands out work. Gives back what must be done outside of the
    /// lock, and when to look again at the latest.
    pub(in crate::pool) fn advance(&mut self) -> (Vec<Action>, Option<Instant>) {
        let now = Instant::now();
        while let Some(&(at, timer)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.remove(&(at, timer));
            self.fire(timer);
        }
        if !self.closed {
            self.fill_runners(now);
            let ids: Vec<_> = self.runners.keys().copied().collect();
            for id in ids {
                self.feed(id, now);
            }
        }
        let next = self.timers.first().map(|(at, _)| *at);
        (std::mem::take(&mut self.actions), next)
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Deadline(attempt) => self.cancel(&[attempt], &Inconclusive::Deadline),
            Timer::Unresponsive(id, attempt) => {
                let still = self
                    .runners
                    .get(&id)
                    .is_some_and(|r| r.sent.iter().any(|sent| sent.attempt == attempt));
                if still {
                    self.kill(id, "it did not answer a cancel");
                }
            }
            Timer::Start(id) => {
                if self.runners.get(&id).is_some_and(|r| r.ready.is_none()) {
                    self.kill(id, "it did not become ready in time");
                }
            }
            Timer::Leave(id) => self.kill(id, "it did not end when asked"),
            Timer::Look => {}
        }
    }

    /// As many runners as there is work for, at least one and at most as configured, and one more for
    /// each that only holds parked attempts.
    fn fill_runners(&mut self, now: Instant) {
        if self.restart_at.is_some_and(|at| at > now) {
            return;
        }
        self.restart_at = None;
        let live = self.runners.values().filter(|r| !r.retiring).count();
        let per_runner = usize::from(self.config.slots_per_runner);
        // The owner may offer fewer slots for a while: more runners than those need have no work.
        let most = usize::from(self.config.runners)
            .min(usize::from(self.slots).div_ceil(per_runner))
            .max(1);
        let parked = self.runners.values().filter(|r| r.parked_only()).count();
        let parked = parked.min(most);
        let active: usize = self.runners.values().map(Runner::active).sum();
        let work = active + self.queue.len();
        let wanted = work.div_ceil(per_runner);
        let wanted = wanted.clamp(1, most) + parked;
        for _ in live..wanted {
            self.spawn(now);
        }
        if live <= wanted {
            self.surplus_since = None;
            return;
        }
        let kept_until = *self.surplus_since.get_or_insert(now) + self.config.idle_time;
        // A runner beyond those that are configured stood in for a parked one, and is not kept.
        if live <= most + parked && now < kept_until {
            self.timers.insert((kept_until, Timer::Look));
            return;
        }
        let idle = self
            .runners
            .iter()
            .find(|(_, r)| !r.retiring && r.sent.is_empty() && r.ready.is_some());
        if let Some(id) = idle.map(|(id, _)| *id) {
            self.retire(id);
        }
        self.surplus_since = None;
    }

    fn spawn(&mut self, now: Instant) {
        let id = self.next();
        let (out, outgoing) = mpsc::channel(OUTGOING_MAX);
        let (kill, killed) = oneshot::channel();
        self.runners.insert(
            id,
            Runner {
                ready: None,
                group: None,
                sent: Vec::new(),
                loaded: Vec::new(),
                out,
                kill: Some(kill),
                retiring: false,
                pid: None,
            },
        );
        self.timers.insert((now + START_GRACE, Timer::Start(id)));
        self.actions.push(Action::Spawn(id, outgoing, killed));
    }

    fn retire(&mut self, id: RunnerId) {
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.retiring = true;
        }
        self.timers
            .insert((Instant::now() + CANCEL_GRACE, Timer::Leave(id)));
        self.send(id, Outgoing::Message(ToRunner::Shutdown));
    }

    /// Hands queued attempts to one runner, in order, as far as slots and memory go.
    fn feed(&mut self, id: RunnerId, now: Instant) {
        let mut batch = Vec::new();
        let (mut bytes, mut cut) = (0, false);
        let mut loads = Vec::new();
        while let Some(attempt) = self.choose(id, now, &batch) {
            let Some(held) = self.runs.get(&attempt) else {
                break;
            };
            let (artefact_name, component) = (held.artefact, held.spec.component);
            let Some(Artefact::Done(Compiled::Ready(artefact), used)) =
                self.artefacts.get_mut(&artefact_name)
            else {
                // It was forgotten since: from the disk again.
                self.requeue_for_artefact(attempt, false, now);
                continue;
            };
            *used = now;
            let artefact = Arc::clone(artefact);
            let state = held.spec.resume.as_ref().map_or(0, |r| r.state.len());
            let size = held.spec.input.len() + state;
            if !batch.is_empty() && bytes + size > BATCH_BYTES_MAX {
                cut = true;
                break;
            }
            let Some(runner) = self.runners.get_mut(&id) else {
                break;
            };
            if let Some(at) = runner.loaded.iter().position(|loaded| *loaded == component) {
                let component = runner.loaded.remove(at);
                runner.loaded.push(component);
            } else {
                if runner.loaded.len() >= LOADED_MAX {
                    let in_use = |c: &Digest| runner.sent.iter().any(|s| s.component == *c);
                    let Some(at) = runner.loaded.iter().position(|c| !in_use(c)) else {
                        break;
                    };
                    let old = runner.loaded.remove(at);
                    loads.push(Outgoing::Message(ToRunner::Unload(old)));
                }
                runner.loaded.push(component);
                loads.push(Outgoing::Load(component, artefact));
            }
            let Some(held) = self.runs.get_mut(&attempt) else {
                break;
            };
            self.queue
                .remove(&(held.spec.priority, held.order, attempt));
            self.turns.taken(held.order);
            held.place = Place::Sent(id);
            let spec = &held.spec;
            runner.group = Some(spec.group);
            runner.sent.push(SentInfo {
                attempt,
                memory: spec.limits.memory_bytes,
                paused: false,
                component,
                limits: spec.limits,
                cancelled: false,
            });
            bytes += size;
            batch.push(Run {
                attempt,
                component,
                content: spec.content,
                limits: spec.limits,
                seed: spec.seed,
                media_type: spec.media_type.clone(),
                input: spec.input.to_vec(),
                resume: spec.resume.clone(),
            });
        }
        loads.into_iter().for_each(|load| self.send(id, load));
        if !batch.is_empty() {
            self.send(id, Outgoing::Message(ToRunner::Run(batch)));
            let idle = |r: &Runner| r.sent.is_empty() && r.ready.is_some() && !r.retiring;
            if cut || (!self.queue.is_empty() && self.runners.values().any(idle)) {
                // More may fit in a further frame, or this runner is now full and an idle one of
                // another author should make way.
                self.timers.insert((now, Timer::Look));
            }
        }
    }

    /// The queued attempt that this runner should take next, if it should take one.
    fn choose(&mut self, id: RunnerId, now: Instant, batch: &[Run]) -> Option<AttemptId> {
        let runner = self.runners.get(&id)?;
        let whole: usize = self.runners.values().map(Runner::active).sum();
        if runner.ready.is_none()
            || runner.retiring
            || self.slots == 0
            || self.effective_throttle() == 0
        {
            return None;
        }
        let active = runner.active();
        let has_slot = active < self.config.slots_per_runner.into() && whole < self.slots.into();
        let memory: u64 = self
            .runners
            .values()
            .flat_map(|r| &r.sent)
            .map(|sent| sent.memory)
            .sum();
        let fits = |held: &Held| memory + held.spec.limits.memory_bytes <= self.config.memory_bytes;
        let shared = self.config.launcher.in_process();
        let mut crowded = false;
        for &(_, _, attempt) in self.queue.iter().take(SCAN_MAX) {
            let held = self.runs.get(&attempt)?;
            let same = shared || runner.group.is_none_or(|group| group == held.spec.group);
            if same {
                let may = has_slot
                    || (whole < usize::from(self.slots) + AHEAD_MAX && self.ahead(runner, held));
                return (may && fits(held)).then_some(attempt);
            }
            let waited = now.saturating_duration_since(held.since);
            if waited < PATIENCE {
                self.timers.insert((held.since + PATIENCE, Timer::Look));
                continue;
            }
            // Its turn has come, in a fresh process. One that still works is left to run dry.
            let serves = |r: &&Runner| !r.retiring && r.group.is_none_or(|g| g == held.spec.group);
            let slots = usize::from(self.config.slots_per_runner);
            let free = |r: &Runner| r.ready.is_none() || r.active() < slots;
            let mut serving = self.runners.values().filter(serves).peekable();
            if serving.peek().is_some() {
                crowded |= !serving.any(free);
                continue;
            }
            if runner.sent.is_empty() && batch.is_empty() {
                self.retire(id);
            }
            return None;
        }
        // Its author has runners, all of them full: one more, if this one has nothing to do.
        if crowded && has_slot && runner.sent.is_empty() && batch.is_empty() {
            self.retire(id);
        }
        None
    }

    /// Whether the attempt may wait inside the runner, behind others that end soon.
    fn ahead(&self, runner: &Runner, held: &Held) -> bool {
        let Some(info) = self.components.get(&held.spec.component) else {
            return false;
        };
        let alike = runner
            .sent
            .iter()
            .all(|sent| sent.component == held.spec.component);
        if info.run_micros == 0 || info.deaths > 0 || !alike {
            return false;
        }
        let most = (AHEAD_MICROS / info.run_micros).min(AHEAD_MAX as u64) as usize;
        runner.active() < usize::from(self.config.slots_per_runner) * (1 + most)
    }
}
