//! Runs attempts on runner processes.
//!
//! ```text
//! RunSpec ─ Pool ─ queue by priority ─ runner (one author at a time) ─ RunEvent
//!             └ compile child, one per component ─ sealed artefact cache
//! ```
//!
//! A runner process runs code of one author only: when another author's turn comes it is replaced.
//! A sandbox escape therefore reaches nothing of anybody else, not even what an earlier guest left in
//! memory. The cost is one process start (some ten milliseconds) when authors change, which is why an
//! attempt waits a little before it takes a runner from another author.

mod compile;
mod dispatch;
mod events;
mod judge;
mod launcher;
mod link;
mod runner;
mod state;
#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_wire::runner::{Confinement, Resume};
use hearth_wire::{AttemptId, Digest, EngineId, Inconclusive, Priority, TaskLimits};
use tokio::sync::oneshot;

use crate::artefacts::{ArtefactError, Artefacts};
use dispatch::Shared;
use state::CompileJob;

pub use events::{EventSink, RunEvent, RunEvents, events};
#[cfg(feature = "network")]
pub(crate) use judge::cut;
pub use launcher::{InProcess, Kind, LaunchError, Launcher};

/// How long a runner without work is kept, if nobody says otherwise: longer than the pauses between
/// leases, shorter than an owner would wonder what these processes are for.
pub const IDLE_TIME: Duration = Duration::from_secs(10);

/// Runners that may die before a pool says that it cannot start.
const START_TRIES: u64 = 3;

/// How a pool is made.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// How runner and compile processes are started.
    pub launcher: Launcher,
    /// Runner processes at most. Their number follows the work that waits; one is always there.
    pub runners: u16,
    /// How long a runner is kept for which there is no work: work comes in bursts.
    pub idle_time: Duration,
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
    /// Which attempts it belongs to: within a priority, flows get equal time, however many attempts of
    /// each wait. The number of the job.
    pub flow: u64,
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

/// What a pool is and does at the moment.
#[derive(Debug, Clone, Default)]
pub struct PoolStatus {
    /// What outcomes depend on.
    pub engine: Option<EngineId>,
    /// The weakest walls around any runner.
    pub confinement: Confinement,
    /// Attempts that may run at once, at the moment.
    pub slots: u16,
    /// Attempts that run.
    pub running: u16,
    /// Attempts that wait.
    pub queued: u16,
    /// Runners that died since the start.
    pub runner_deaths: u64,
    /// Runner processes, for whoever wants to look at them.
    pub pids: Vec<u32>,
}

/// The pool could not start, or takes no attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// No runner became ready.
    #[error(
        "no runner became ready: {0}; free memory and address space on this machine, or raise its limits"
    )]
    NotReady(String),
    /// The artefact cache cannot be used.
    #[error(transparent)]
    Artefacts(#[from] ArtefactError),
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

/// Handle of a pool; clones name the same one. It ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Pool {
    handle: Arc<Handle>,
}

struct Handle(Arc<Shared>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pool")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Pool {
    /// Starts the pool and waits until its first runner is ready.
    ///
    /// # Errors
    ///
    /// [`PoolError`] when no runner becomes ready or a directory cannot be used.
    pub async fn start(config: PoolConfig) -> Result<Self, PoolError> {
        let artefacts = match &config.artefacts {
            Some(dir) => Artefacts::open(dir, config.artefact_bytes)?,
            None => Artefacts::in_memory(config.artefact_bytes),
        };
        let mut config = config;
        config.runners = config.runners.max(1);
        config.slots_per_runner = config.slots_per_runner.max(1);
        let shared = Shared::new(config, artefacts);
        let pool = Self {
            handle: Arc::new(Handle(Arc::clone(&shared))),
        };
        tokio::spawn(dispatch::run(Arc::clone(&shared)));
        let mut progress = shared.progress.subscribe();
        let first = async {
            loop {
                {
                    let state = shared.lock();
                    let status = state.status();
                    if status.engine.is_some() {
                        return Ok(());
                    }
                    if status.runner_deaths >= START_TRIES {
                        let trouble = state.last_trouble.clone();
                        return Err(PoolError::NotReady(trouble.unwrap_or_default()));
                    }
                }
                if progress.changed().await.is_err() {
                    return Err(PoolError::Closed);
                }
            }
        };
        match tokio::time::timeout(state::START_GRACE, first).await {
            Ok(result) => result.map(|()| pool),
            Err(_) => Err(PoolError::NotReady("it did not say so in time".to_owned())),
        }
    }

    /// Queues attempts whose events go to `sink`. Each accepted one ends with one `Finished`.
    ///
    /// # Errors
    ///
    /// For each attempt that was not taken, with its reason.
    pub fn submit(&self, runs: Vec<RunSpec>, sink: &EventSink) -> Vec<(AttemptId, PoolError)> {
        let mut refused = Vec::new();
        {
            let mut state = self.shared().lock();
            for run in runs {
                let attempt = run.attempt;
                if let Err(error) = state.submit(run, sink) {
                    refused.push((attempt, error));
                }
            }
        }
        self.shared().wake.notify_one();
        refused
    }

    /// Runs one attempt; its events come out of the receiver.
    ///
    /// # Errors
    ///
    /// When the pool does not take it.
    pub fn run(&self, run: RunSpec) -> Result<RunEvents, PoolError> {
        let (sink, events) = events();
        self.shared().lock().submit(run, &sink)?;
        self.shared().wake.notify_one();
        Ok(events)
    }

    /// Compiles a component if it is not in the cache.
    ///
    /// # Errors
    ///
    /// Why it cannot be run here.
    pub async fn prepare(
        &self,
        component: Digest,
        source: ComponentSource,
        imports: Vec<String>,
        limits: TaskLimits,
    ) -> Result<(), Inconclusive> {
        let (done, compiled) = oneshot::channel();
        self.shared().lock().prepare(
            CompileJob {
                component,
                source,
                imports,
                limits,
                anew: false,
            },
            done,
        );
        self.shared().wake.notify_one();
        let closed = || Inconclusive::HostFault("the pool was shut down".to_owned());
        compiled.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Stops attempts: each that has not ended ends now, with `Inconclusive(Cancelled)`. A runner
    /// that does not let go of one within a grace is killed.
    pub fn cancel(&self, attempts: &[AttemptId]) {
        self.shared()
            .lock()
            .cancel(attempts, &Inconclusive::Cancelled);
        self.shared().wake.notify_one();
    }

    /// Parks attempts with their memory. Their slots are free for others.
    pub fn pause(&self, attempts: &[AttemptId]) {
        self.shared().lock().set_paused(attempts, true);
        self.shared().wake.notify_one();
    }

    /// Goes on with parked attempts.
    pub fn resume(&self, attempts: &[AttemptId]) {
        self.shared().lock().set_paused(attempts, false);
        self.shared().wake.notify_one();
    }

    /// Share of time that guests may run, in percent.
    pub fn throttle(&self, percent: u8) {
        self.shared().lock().set_throttle(percent);
        self.shared().wake.notify_one();
    }

    /// Attempts that may run at once, at most what the pool was made for; zero parks everything.
    pub fn set_slots(&self, slots: u16) {
        self.shared().lock().set_slots(slots);
        self.shared().wake.notify_one();
    }

    /// Attempts that no runner has yet.
    pub fn waiting(&self) -> Vec<AttemptId> {
        self.shared().lock().waiting()
    }

    /// What the pool is and does.
    pub fn status(&self) -> PoolStatus {
        self.shared().lock().status()
    }

    /// Ends everything: what still runs ends with `Inconclusive(Cancelled)`, and all children are
    /// gone when this returns.
    pub async fn shutdown(&self) {
        self.shared().close();
        let mut children = self.shared().children.subscribe();
        let _gone = children.wait_for(|children| *children == 0).await;
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }
}
