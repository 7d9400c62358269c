//! What the pool knows, and every decision that it makes.
//!
//! One mutex around plain data, reactor functions that never wait: submitters, readers of runners and
//! the dispatcher each lock, decide, and leave. Sends to runners are `try_send`s into queues that are
//! bounded because no more is sent ahead than fits; one that is full belongs to a runner that does
//! not read, which is killed.

mod ask;
mod assign;
mod hear;
mod turns;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hearth_wire::runner::{Finished, Ready, ToRunner};
use hearth_wire::{AttemptId, Digest, EngineId, Inconclusive, Priority};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use turns::Turns;

use super::events::{EventSink, RunEvent};
use super::judge::ended;
use super::{ComponentSource, PoolConfig, RunSpec};
use crate::artefacts::ArtefactName;

/// Attempts that a pool holds: what a node may hold, and as many again that are being given back.
pub(super) const RUNS_MAX: usize = 2 * hearth_wire::limits::LEASES_PER_NODE_MAX;
/// From a cancel until a runner that has not answered is killed. Guests are interrupted within
/// milliseconds; only one bulk operation of at most a second cannot be.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// From the start of a runner until it must be ready.
pub(super) const START_GRACE: Duration = Duration::from_secs(20);
/// First delay before a dead runner is replaced; doubles with each death in a row.
const RESTART_MIN: Duration = Duration::from_millis(50);
/// Longest such delay.
const RESTART_MAX: Duration = Duration::from_secs(30);
/// An attempt of another author waits this long before a runner is taken from its author.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
/// Deaths of runners under one component, without a success between, until it is not run here.
const POISON_DEATHS: u32 = 3;
/// For how long.
const POISON_TIME: Duration = Duration::from_secs(600);
/// For how long a failed compilation is not tried again.
const FAILED_TIME: Duration = Duration::from_secs(30);
/// Run time that is sent ahead to a runner, so that it does not idle while a message travels.
const AHEAD_MICROS: u64 = 4_000;
/// Attempts sent ahead at most.
pub(super) const AHEAD_MAX: usize = 128;
/// Inputs and states in one frame of several attempts. A larger one travels alone, and fits.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Queued attempts that are looked at for one that suits a runner.
const SCAN_MAX: usize = 256;
/// Compiled components that one runner keeps.
pub(super) const LOADED_MAX: usize = 16;
/// Compiled components kept in memory for runners still to come.
const ARTEFACTS_HELD_MAX: usize = 32;
/// Artefacts of which it is remembered that they were compiled again.
const REMADE_MAX: usize = 1_024;
/// Components of which something is remembered.
const COMPONENTS_MAX: usize = 1_024;
/// Messages that wait for one runner's writer: everything that can be under way at once.
pub(super) const OUTGOING_MAX: usize = 1_024;

pub(super) type RunnerId = u64;

/// What the dispatcher must do outside of the lock.
pub(super) enum Action {
    /// Start a runner.
    Spawn(RunnerId, mpsc::Receiver<Outgoing>, oneshot::Receiver<()>),
    /// Find or make an artefact.
    Compile(ArtefactName, CompileJob),
}

/// All that a compilation needs.
#[derive(Debug, Clone)]
pub(super) struct CompileJob {
    pub(super) component: Digest,
    pub(super) source: ComponentSource,
    pub(super) imports: Vec<String>,
    pub(super) limits: hearth_wire::TaskLimits,
    /// Whatever the cache holds: it could not be loaded.
    pub(super) anew: bool,
}

/// What came of a compilation.
#[derive(Debug, Clone)]
pub(super) enum Compiled {
    /// The artefact.
    Ready(Arc<[u8]>),
    /// The component cannot be run: the author is to blame.
    Unfit(String),
    /// It failed here.
    Failed(String),
}

/// To a runner's writer.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A message.
    Message(ToRunner),
    /// A `Load`, encoded by the writer so that the bytes are shared until then.
    Load(Digest, Arc<[u8]>),
}

/// What happens later, unless something happens before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The attempt's lease ends.
    Deadline(AttemptId),
    /// The runner should have answered a cancel of the attempt.
    Unresponsive(RunnerId, AttemptId),
    /// The runner should be ready.
    Start(RunnerId),
    /// The runner was asked to end and should be gone.
    Leave(RunnerId),
    /// A dead runner's place may be filled again, or an attempt has waited enough for its turn.
    Look,
}

struct Held {
    spec: RunSpec,
    artefact: ArtefactName,
    sink: EventSink,
    /// Its place among those of its priority that wait, in expected microseconds of run time.
    order: u64,
    since: Instant,
    deadline: Option<Instant>,
    place: Place,
    paused: bool,
    /// Runners that died under it.
    losses: u8,
    /// Its artefact could not be loaded once before.
    reloaded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Compiling,
    Queued,
    Sent(RunnerId),
}

enum Artefact {
    /// Attempts and callers that wait for it.
    Pending(
        Vec<AttemptId>,
        Vec<oneshot::Sender<Result<(), Inconclusive>>>,
    ),
    Done(Compiled, Instant),
}

#[derive(Default)]
struct ComponentInfo {
    /// Moving average of the run time in microseconds; zero while unknown.
    run_micros: u64,
    deaths: u32,
    poisoned: Option<Instant>,
    used: Option<Instant>,
}

/// What the runner holds of an attempt that may have ended for us already.
struct SentInfo {
    attempt: AttemptId,
    memory: u64,
    paused: bool,
    component: Digest,
    limits: hearth_wire::TaskLimits,
    cancelled: bool,
}

struct Runner {
    ready: Option<Ready>,
    /// Whose code has been in this process.
    group: Option<Digest>,
    /// In the order in which they were sent.
    sent: Vec<SentInfo>,
    loaded: Vec<Digest>,
    out: mpsc::Sender<Outgoing>,
    /// Dropped to kill it.
    kill: Option<oneshot::Sender<()>>,
    retiring: bool,
    pid: Option<u32>,
}

impl Runner {
    fn active(&self) -> usize {
        self.sent.iter().filter(|sent| !sent.paused).count()
    }
    fn parked_only(&self) -> bool {
        !self.sent.is_empty() && self.active() == 0
    }
}

/// See the module.
pub(super) struct State {
    config: PoolConfig,
    engine: Option<EngineId>,
    /// The machine code that runners can load; set with `engine`.
    code: Digest,
    runs: HashMap<AttemptId, Held>,
    queue: BTreeSet<(Priority, u64, AttemptId)>,
    turns: Turns,
    artefacts: HashMap<ArtefactName, Artefact>,
    /// Compiled again because they could not be loaded, which helps once or not at all.
    remade: BTreeSet<ArtefactName>,
    components: HashMap<Digest, ComponentInfo>,
    runners: BTreeMap<RunnerId, Runner>,
    timers: BTreeSet<(Instant, Timer)>,
    next_id: u64,
    slots: u16,
    throttle: u8,
    deaths: u64,
    deaths_in_row: u32,
    restart_at: Option<Instant>,
    /// Since when there are more runners than work.
    surplus_since: Option<Instant>,
    pub(super) last_trouble: Option<String>,
    pub(super) closed: bool,
    actions: Vec<Action>,
}

impl State {
    pub(super) fn new(config: PoolConfig) -> Self {
        let slots = config.runners.saturating_mul(config.slots_per_runner);
        Self {
            config,
            engine: None,
            code: Digest::default(),
            runs: HashMap::new(),
            queue: BTreeSet::new(),
            turns: Turns::default(),
            artefacts: HashMap::new(),
            remade: BTreeSet::new(),
            components: HashMap::new(),
            runners: BTreeMap::new(),
            timers: BTreeSet::new(),
            next_id: 1,
            slots,
            throttle: 100,
            deaths: 0,
            deaths_in_row: 0,
            restart_at: None,
            surplus_since: None,
            last_trouble: None,
            closed: false,
            actions: Vec::new(),
        }
    }

    fn next(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn is_at(&self, attempt: AttemptId, runner: RunnerId) -> bool {
        self.runs
            .get(&attempt)
            .is_some_and(|held| held.place == Place::Sent(runner))
    }

    fn end(&mut self, finished: Finished) {
        if let Some(held) = self.runs.remove(&finished.attempt) {
            self.queue
                .remove(&(held.spec.priority, held.order, finished.attempt));
            if let Some(at) = held.deadline {
                self.timers.remove(&(at, Timer::Deadline(finished.attempt)));
            }
            held.sink.send(RunEvent::Finished(finished));
        }
    }

    fn enqueue(&mut self, attempt: AttemptId) {
        if let Some(held) = self.runs.get_mut(&attempt) {
            held.place = Place::Queued;
            if !held.paused {
                self.queue.insert((held.spec.priority, held.order, attempt));
            }
        }
    }

    fn requeue_for_artefact(&mut self, attempt: AttemptId, anew: bool, now: Instant) {
        let Some(held) = self.runs.get_mut(&attempt) else {
            return;
        };
        self.queue
            .remove(&(held.spec.priority, held.order, attempt));
        held.place = Place::Compiling;
        let name = held.artefact;
        let job = CompileJob {
            component: held.spec.component,
            source: held.spec.source.clone(),
            imports: held.spec.imports.clone(),
            limits: held.spec.limits,
            anew,
        };
        self.want_artefact(attempt, name, job, now);
    }

    fn want_artefact(
        &mut self,
        attempt: AttemptId,
        name: ArtefactName,
        job: CompileJob,
        now: Instant,
    ) {
        self.forget_stale_artefacts(now);
        match self.artefacts.get_mut(&name) {
            Some(Artefact::Pending(waiting, _)) => waiting.push(attempt),
            Some(Artefact::Done(compiled, used)) => {
                *used = now;
                match verdict(compiled) {
                    Ok(()) => self.enqueue(attempt),
                    Err(why) => self.end(ended(attempt, why)),
                }
            }
            None => {
                self.artefacts
                    .insert(name, Artefact::Pending(vec![attempt], Vec::new()));
                self.actions.push(Action::Compile(name, job));
            }
        }
    }

    /// Failures are tried again after a while; of the rest the most recently used are kept.
    fn forget_stale_artefacts(&mut self, now: Instant) {
        self.artefacts.retain(|_, artefact| match artefact {
            Artefact::Done(Compiled::Failed(_), since) => *since + FAILED_TIME > now,
            _ => true,
        });
        while self.artefacts.len() > ARTEFACTS_HELD_MAX {
            let oldest = self
                .artefacts
                .iter()
                .filter_map(|(name, artefact)| match artefact {
                    Artefact::Done(_, used) => Some((*used, *name)),
                    Artefact::Pending(..) => None,
                })
                .min();
            let Some((_, name)) = oldest else { break };
            self.artefacts.remove(&name);
        }
    }

    fn poisoned(&mut self, component: Digest, now: Instant) -> Option<String> {
        if self.components.len() >= COMPONENTS_MAX {
            let oldest = self
                .components
                .iter()
                .filter(|(_, info)| info.poisoned.is_none_or(|until| until <= now))
                .min_by_key(|(_, info)| info.used)
                .map(|(component, _)| *component);
            if let Some(oldest) = oldest {
                self.components.remove(&oldest);
            }
        }
        let info = self.components.entry(component).or_default();
        info.used = Some(now);
        match info.poisoned {
            Some(until) if until > now => Some(format!(
                "{} runners died under component {}; this node does not run it for now",
                info.deaths,
                component.short()
            )),
            Some(_) => {
                info.poisoned = None;
                info.deaths = 0;
                None
            }
            None => None,
        }
    }

    fn send(&mut self, id: RunnerId, message: Outgoing) {
        let full = match self.runners.get(&id) {
            Some(runner) => runner.out.try_send(message).is_err(),
            None => false,
        };
        if full {
            self.kill(id, "it does not read what is sent to it");
        }
    }

    fn kill(&mut self, id: RunnerId, why: &str) {
        if let Some(runner) = self.runners.get_mut(&id)
            && runner.kill.take().is_some()
        {
            tracing::warn!(runner = id, why, "killing a runner");
        }
    }
}

fn verdict(compiled: &Compiled) -> Result<(), Inconclusive> {
    match compiled {
        Compiled::Ready(_) => Ok(()),
        Compiled::Unfit(text) => Err(Inconclusive::Unfit(text.clone())),
        Compiled::Failed(text) => Err(Inconclusive::HostFault(text.clone())),
    }
}
