//! A mock host for native tests of tasks.
//!
//! ```
//! # extern crate hearth_guest as hearth;
//! use hearth::testing::Host;
//!
//! fn run(name: String) -> Result<String, hearth::Error> {
//!     hearth::info!("greeting {name}");
//!     Ok(format!("hello {name}"))
//! }
//!
//! let mut host = Host::new();
//! assert_eq!(host.run(|| run("ember".into())), Ok("hello ember".into()));
//! assert_eq!(host.logs()[0].1, "greeting ember");
//! ```

use crate::host::{self, Recording};
use crate::log::Level;
use crate::{Context, Limits};

/// A mock host: says what a task is told, keeps what it tells.
///
/// It belongs to the thread that calls [`Host::run`]; threads that the work starts see a host with
/// default answers that forgets all it is told.
#[derive(Debug, Clone, Default)]
pub struct Host {
    inner: Recording,
}

impl Host {
    /// A host with id and seed zero, the default limits and no checkpoint.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the task's id.
    #[must_use]
    pub fn with_id(mut self, id: [u8; 32]) -> Self {
        self.inner.context.id = id;
        self
    }

    /// Sets the task's seed.
    #[must_use]
    pub fn with_seed(mut self, seed: [u8; 32]) -> Self {
        self.inner.context.seed = seed;
        self
    }

    /// Sets the task's limits. Only `checkpoint_bytes` is enforced here: compute, memory and output
    /// are the sandbox's to measure.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.inner.context.limits = limits;
        self
    }

    /// Sets the snapshot that the task finds.
    #[must_use]
    pub fn with_checkpoint(mut self, state: impl Into<Vec<u8>>) -> Self {
        self.inner.checkpoint = Some(state.into());
        self
    }

    /// Runs `work` on this host. What it tells is added to what the host has already been told.
    pub fn run<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (value, told) = host::enter(std::mem::take(&mut self.inner), work);
        self.inner = told;
        value
    }

    /// What the task is told about itself.
    pub fn context(&self) -> &Context {
        &self.inner.context
    }

    /// The reports of progress, in order: done and total.
    pub fn progress(&self) -> &[(u64, Option<u64>)] {
        &self.inner.progress
    }

    /// The lines of the log, in order.
    pub fn logs(&self) -> &[(Level, String)] {
        &self.inner.logs
    }

    /// The snapshots that were saved, in order.
    pub fn checkpoints(&self) -> &[Vec<u8>] {
        &self.inner.checkpoints
    }
}
