//! Runs attempts on runner processes.
//!
//! ```text
//! RunSpec ─ Pool ─ queue by priority ─ runner (one author at a time) ─ RunEvent
//!             └ compile child, one per component ─ sealed artefact cache
//! ```

mod launcher;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use hearth_wire::message::LogLevel;
use hearth_wire::runner::{Confinement, Finished, Resume};
use hearth_wire::{AttemptId, Digest, EngineId, Inconclusive, Priority, TaskLimits};

pub use launcher::{InProcess, Kind, LaunchError, Launcher};

/// How a pool is made.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// How runner and compile processes are started.
    pub launcher: Launcher,
    /// Runner processes.
    pub runners: u16,
    /// Attempts that run at once in one runner; must be what the runner was told.
    pub slots_per_runner: u16,
    /// Memory for all attempts together, in bytes: an attempt starts when its limit fits.
    pub memory_bytes: u64,
    /// Where compiled components and the key that seals them are kept; `None` keeps them in memory.
    pub artefacts: Option<PathBuf>,
    /// Bytes of compiled components that are kept.
    pub artefact_bytes: u64,
    /// Wall-clock limit of one compilation; the child is killed at it.
    pub compile_timeout: Duration,
    /// Niceness of the children, 0 to 19.
    pub nice: i32,
}

/// The bytes of a component. Read only when it must be compiled, and checked against the digest then.
#[derive(Debug, Clone)]
pub enum ComponentSource {
    /// In memory.
    Bytes(Bytes),
    /// In a file.
    File(PathBuf),
}

/// One attempt.
#[derive(Debug, Clone)]
pub struct RunSpec {
    /// Names the attempt; unique among those that the pool holds.
    pub attempt: AttemptId,
    /// Whose code it is: components of two groups never share a runner process. The author's key id.
    pub group: Digest,
    /// Digest of the component.
    pub component: Digest,
    /// Its bytes.
    pub source: ComponentSource,
    /// Exactly the interfaces that it may import, sorted.
    pub imports: Vec<String>,
    /// Limits of its manifest.
    pub limits: TaskLimits,
    /// Content id: the id that the guest sees.
    pub content: Digest,
    /// Seed that the guest sees.
    pub seed: Digest,
    /// How to read the input.
    pub media_type: String,
    /// The input.
    pub input: Bytes,
    /// Where to go on from.
    pub resume: Option<Resume>,
    /// Which queue.
    pub priority: Priority,
    /// From submission until the attempt is given up.
    pub deadline: Option<Duration>,
}

/// What comes out of an attempt. Every attempt ends with exactly one `Finished`, its last event.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEvent {
    /// It ended.
    Finished(Finished),
    /// How far it is. Dropped when the receiver is slow.
    Progress {
        /// The attempt.
        attempt: AttemptId,
        /// Units done.
        done: u64,
        /// Units in all.
        total: Option<u64>,
    },
    /// A line that the guest logged. Dropped when the receiver is slow.
    Log {
        /// The attempt.
        attempt: AttemptId,
        /// How important.
        level: LogLevel,
        /// The text.
        text: String,
    },
    /// State that the guest saved. Dropped when the receiver is slow.
    Checkpoint {
        /// The attempt.
        attempt: AttemptId,
        /// The state.
        state: Vec<u8>,
        /// Fuel used until then.
        fuel_used: u64,
    },
}

/// What a pool is and does at the moment.
#[derive(Debug, Clone, Default)]
pub struct PoolStatus {
    /// What outcomes depend on.
    pub engine: Option<EngineId>,
    /// The weakest walls around any runner.
    pub confinement: Confinement,
    /// Attempts that run.
    pub running: u16,
    /// Attempts that wait.
    pub queued: u16,
    /// Runners that died since the start.
    pub runner_deaths: u64,
}

/// The pool could not start, or takes no attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// No runner became ready.
    #[error("no runner became ready: {0}; run `hearth node --check` on this machine")]
    NotReady(String),
    /// A directory could not be made or read.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The attempt is in the pool already.
    #[error("{0} is in the pool already")]
    Duplicate(AttemptId),
    /// As many attempts as a pool holds.
    #[error("the pool holds as many attempts as it may; wait until some have ended")]
    Full,
    /// The pool was shut down.
    #[error("the pool was shut down")]
    Closed,
}

/// Handle of a pool; clones name the same one.
#[derive(Debug, Clone)]
pub struct Pool {}

/// Where the events of attempts go; clones feed the same [`RunEvents`].
#[derive(Debug, Clone)]
pub struct EventSink {}

/// The receiving end.
#[derive(Debug)]
pub struct RunEvents {}

/// Makes a sink and its receiver. One sink can serve all attempts, or each attempt its own.
pub fn events() -> (EventSink, RunEvents) {
    todo!()
}

impl RunEvents {
    /// The next event, `None` once all sinks are gone and everything was received.
    pub async fn next(&mut self) -> Option<RunEvent> {
        todo!()
    }
}

impl Pool {
    /// Starts the pool and waits until its first runner is ready.
    ///
    /// # Errors
    ///
    /// [`PoolError`] when no runner becomes ready or a directory cannot be used.
    pub async fn start(_config: PoolConfig) -> Result<Self, PoolError> {
        todo!()
    }

    /// Queues attempts whose events go to `sink`. Each accepted one ends with one `Finished`.
    ///
    /// # Errors
    ///
    /// For each attempt that was not taken, with its reason.
    pub fn submit(&self, _runs: Vec<RunSpec>, _sink: &EventSink) -> Vec<(AttemptId, PoolError)> {
        todo!()
    }

    /// Runs one attempt; its events come out of the receiver.
    ///
    /// # Errors
    ///
    /// When the pool does not take it.
    pub fn run(&self, _run: RunSpec) -> Result<RunEvents, PoolError> {
        todo!()
    }

    /// Compiles a component if it is not in the cache.
    ///
    /// # Errors
    ///
    /// Why it cannot be run here.
    pub async fn prepare(
        &self,
        _component: Digest,
        _source: ComponentSource,
        _imports: Vec<String>,
        _limits: TaskLimits,
    ) -> Result<(), Inconclusive> {
        todo!()
    }

    /// Stops attempts; each ends with `Inconclusive(Cancelled)` unless it had ended.
    pub fn cancel(&self, _attempts: &[AttemptId]) {
        todo!()
    }

    /// Parks attempts with their memory.
    pub fn pause(&self, _attempts: &[AttemptId]) {
        todo!()
    }

    /// Goes on with parked attempts.
    pub fn resume(&self, _attempts: &[AttemptId]) {
        todo!()
    }

    /// Share of time that guests may run, in percent.
    pub fn throttle(&self, _percent: u8) {
        todo!()
    }

    /// Attempts that may run at once, at most what the pool was made for; zero parks everything.
    pub fn set_slots(&self, _slots: u16) {
        todo!()
    }

    /// What the pool is and does.
    pub fn status(&self) -> PoolStatus {
        todo!()
    }

    /// Ends everything: what still runs ends with `Inconclusive(Cancelled)`.
    pub async fn shutdown(&self) {
        todo!()
    }
}
