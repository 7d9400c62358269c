//! The loop that advances the state, and what it shares with everybody else.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::state::{Action, State};
use super::{PoolConfig, compile, runner};
use crate::artefacts::Artefacts;

pub(super) struct Shared {
    state: Mutex<State>,
    /// Something changed that the dispatcher should look at.
    pub(super) wake: Notify,
    /// Raised when a runner becomes ready or dies.
    pub(super) progress: watch::Sender<u64>,
    /// Children that live.
    pub(super) children: watch::Sender<usize>,
    pub(super) config: PoolConfig,
    pub(super) artefacts: Artefacts,
    /// Compilations at once: each may take a whole core and much memory.
    pub(super) compilers: Semaphore,
    /// Raised when the pool closes: nobody waits for a compilation then.
    pub(super) closing: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(config: PoolConfig, artefacts: Artefacts) -> Arc<Self> {
        let compilers = usize::from(config.runners.div_ceil(2)).clamp(1, 4);
        Arc::new(Self {
            state: Mutex::new(State::new(config.clone())),
            wake: Notify::new(),
            progress: watch::Sender::new(0),
            children: watch::Sender::new(0),
            config,
            artefacts,
            compilers: Semaphore::new(compilers),
            closing: watch::Sender::new(false),
        })
    }

    /// Ends everything: attempts, runners, and compilations that run or wait.
    pub(super) fn close(&self) {
        self.lock().close();
        self.compilers.close();
        self.closing.send_replace(true);
        self.wake.notify_one();
    }

    /// The state. A panic under the lock would be a defect of ours; going on beats losing the node.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }
}

/// Counts a child as long as it lives.
pub(super) struct Alive<'a>(&'a Shared);

impl<'a> Alive<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        shared.children.send_modify(|children| *children += 1);
        Self(shared)
    }
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.children.send_modify(|children| *children -= 1);
    }
}

/// Advances the state whenever it was changed or a timer is due, until the pool is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let (actions, next, closed) = {
            let mut state = shared.lock();
            let (actions, next) = state.advance();
            (actions, next, state.closed)
        };
        if closed {
            return;
        }
        for action in actions {
            match action {
                Action::Spawn(id, outgoing, killed) => {
                    tokio::spawn(runner::drive(Arc::clone(&shared), id, outgoing, killed));
                }
                Action::Compile(name, job) => {
                    tokio::spawn(compile::compile(Arc::clone(&shared), name, job));
                }
            }
        }
        // A timer never fires a busy loop: what is due already was handled above.
        let next = next.map(|at| at.max(Instant::now()));
        tokio::select! {
            () = shared.wake.notified() => {}
            () = sleep_until(next) => {}
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
