//! The engine with everything that lives as long as the process.

use std::sync::Arc;

use crate::{Admitted, Allocation, Artefact, EngineError, Gate, Hooks, Profile, Ran, RunRequest};

/// How a [`Sandbox`] is made.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// What executes components.
    pub profile: Profile,
    /// Attempts at once, running and paused.
    pub slots: u32,
    /// Where memories come from.
    pub allocation: Allocation,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self { profile: Profile::Native, slots: 1, allocation: Allocation::Auto }
    }
}

/// One engine for the life of the process.
#[derive(Clone)]
pub struct Sandbox {
    _inner: Arc<()>,
}

/// A loaded component, ready to be instantiated any number of times. Cheap to clone.
#[derive(Clone)]
pub struct Program {
    _inner: Arc<()>,
}

/// The compiler gave up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compiler: {0}")]
pub struct CompileError(pub(crate) String);

/// An artefact is not for this engine, or what it imports is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("artefact: {0}")]
pub struct LoadError(pub(crate) String);

impl Sandbox {
    /// Makes the engine and starts its clock.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if this machine cannot have one.
    pub fn new(config: &SandboxConfig) -> Result<Self, EngineError> {
        let _ = config;
        todo!()
    }

    /// Compiles an admitted component. Slow: seconds for megabytes.
    ///
    /// # Errors
    ///
    /// [`CompileError`] if the compiler refuses it.
    pub fn compile(&self, component: &Admitted<'_>) -> Result<Artefact, CompileError> {
        let _ = component;
        todo!()
    }

    /// Maps an artefact and links its imports.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if it was made by another engine or for another world.
    pub fn load(&self, artefact: &Artefact) -> Result<Program, LoadError> {
        let _ = artefact;
        todo!()
    }

    /// Share of time that guests of this sandbox may run, in percent: 100 is no throttle, 0 parks all.
    pub fn throttle(&self, percent: u8) {
        let _ = percent;
        todo!()
    }

    /// Runs one attempt to its end.
    pub async fn run(&self, program: &Program, request: RunRequest, gate: &Gate, hooks: impl Hooks) -> Ran {
        let _ = (program, request, gate, hooks);
        todo!()
    }
}
