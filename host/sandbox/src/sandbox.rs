//! The engine with everything that lives as long as the process.

use std::sync::Arc;

use hearth_wire::Digest;
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use crate::gate::Throttle;
use crate::host::{self, Host};
use crate::ticker::Ticker;
use crate::{Admitted, Allocation, Artefact, EngineError, Profile, engine, rules, wasi};

/// How a [`Sandbox`] is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxConfig {
    /// What executes components.
    pub profile: Profile,
    /// Attempts at once, running and paused; 1 to 1,024.
    pub attempts: u32,
    /// Where memories come from.
    pub allocation: Allocation,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            profile: Profile::Native,
            attempts: 1,
            allocation: Allocation::Auto,
        }
    }
}

/// One engine for the life of the process.
///
/// A component goes [`admit`](crate::admit) → [`compile`](Self::compile) → [`load`](Self::load) →
/// [`run`](Self::run), the first two in a process of their own, since a compiler that reads hostile input
/// must be allowed to fail. Each attempt has a store of its own that is never used again. All
/// attempts share one epoch, whose ticks make guests look at their [`Gate`](crate::Gate). The cost: memory
/// of a parked attempt stays taken, and one process can hold only as many as its pool was made for.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    linker: Linker<Host>,
    throttle: Arc<Throttle>,
    ticker: Ticker,
    pooled: bool,
}

/// A loaded component, ready to be instantiated any number of times. Cheap to clone.
#[derive(Clone)]
pub struct Program {
    pre: InstancePre<Host>,
    run: ComponentExportIndex,
}

/// The compiler gave up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The component cannot be compiled: the author is to blame.
    #[error("compiler: {0}")]
    Unfit(String),
    /// This machine did not give what compiling takes, memory mostly.
    #[error("the system does not give what compiling takes: {0}. Free memory on this machine")]
    System(String),
}

impl CompileError {
    fn of(error: &wasmtime::Error) -> Self {
        let text = format!("{error:#}");
        let system = error.chain().any(|cause| {
            cause.is::<std::io::Error>()
                || cause.is::<rustix::io::Errno>()
                || cause.is::<wasmtime::OutOfMemory>()
        });
        if system {
            Self::System(text)
        } else {
            Self::Unfit(text)
        }
    }
}

/// An artefact is not for this engine, or what it imports is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("artefact: {0}. Compile the component again on this machine")]
pub struct LoadError(String);

impl Sandbox {
    /// Makes the engine and its ticker, a thread that sleeps while nothing runs.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if this machine cannot have one.
    pub fn new(config: &SandboxConfig) -> Result<Self, EngineError> {
        let (engine, pooled) = engine::make(config.profile, config.allocation, config.attempts)?;
        let mut linker = Linker::new(&engine);
        host::add_to_linker(&mut linker)
            .and_then(|()| wasi::add_to_linker(&mut linker))
            .map_err(|error| EngineError(format!("linker: {error:#}")))?;
        let throttle = Arc::new(Throttle::default());
        let ticker = Ticker::start(&engine, Arc::clone(&throttle))
            .map_err(|error| EngineError(format!("ticker: {error}")))?;
        Ok(Self {
            inner: Arc::new(Inner {
                engine,
                linker,
                throttle,
                ticker,
                pooled,
            }),
        })
    }

    /// Whether memories come from a pool.
    pub fn is_pooled(&self) -> bool {
        self.inner.pooled
    }

    /// Names the machine code that this sandbox can load, for caches.
    pub fn code(&self) -> Digest {
        engine::code(&self.inner.engine)
    }

    /// Compiles an admitted component and checks that it links. Slow: seconds for megabytes.
    ///
    /// # Errors
    ///
    /// [`CompileError`] if the compiler refuses it or it does not fit the world after all.
    pub fn compile(&self, component: &Admitted<'_>) -> Result<Artefact, CompileError> {
        let fail = |error: wasmtime::Error| CompileError::of(&error);
        let compiled =
            Component::from_binary(&self.inner.engine, component.bytes()).map_err(fail)?;
        let Some(required) = compiled.resources_required() else {
            return Err(CompileError::Unfit(
                "it imports core modules, which this host does not offer".to_owned(),
            ));
        };
        for (what, got, max) in [
            ("memories", required.num_memories, rules::MEMORIES_MAX),
            ("tables", required.num_tables, rules::TABLES_MAX),
        ] {
            if got > max {
                return Err(CompileError::Unfit(format!(
                    "{what}: {got}, at most {max} allowed"
                )));
            }
        }
        self.link(&compiled).map_err(fail)?;
        // Nothing that the author wrote is looked at any more.
        let artefact = compiled.serialize().map(Artefact::new);
        artefact.map_err(|error| CompileError::System(format!("{error:#}")))
    }

    /// Maps an artefact and links its imports.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if it was made by another engine or for another world.
    pub fn load(&self, artefact: &Artefact) -> Result<Program, LoadError> {
        artefact
            .load(&self.inner.engine)
            .and_then(|component| self.link(&component))
            .map_err(|error| LoadError(format!("{error:#}")))
    }

    /// Share of time that guests of this sandbox may run, in percent: 100 is no throttle, 0 parks all.
    pub fn throttle(&self, percent: u8) {
        self.inner.throttle.set(percent);
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn ticker(&self) -> &Ticker {
        &self.inner.ticker
    }

    pub(crate) fn throttled(&self) -> &Arc<Throttle> {
        &self.inner.throttle
    }

    fn link(&self, component: &Component) -> wasmtime::Result<Program> {
        let missing =
            || wasmtime::format_err!("it does not export hearth:task/runner@0.1.0 with `run`");
        let runner = component
            .get_export_index(None, "hearth:task/runner@0.1.0")
            .ok_or_else(missing)?;
        let run = component
            .get_export_index(Some(&runner), "run")
            .ok_or_else(missing)?;
        let pre = self.inner.linker.instantiate_pre(component)?;
        Ok(Program { pre, run })
    }
}

impl Program {
    pub(crate) fn pre(&self) -> &InstancePre<Host> {
        &self.pre
    }

    pub(crate) fn run(&self) -> &ComponentExportIndex {
        &self.run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_is_not_held_against_the_author() {
        let no_memory =
            || std::io::Error::from_raw_os_error(rustix::io::Errno::NOMEM.raw_os_error());
        let system: [wasmtime::Error; 3] = [
            no_memory().into(),
            rustix::io::Errno::NOMEM.into(),
            wasmtime::Error::from(no_memory()).context("publishing code"),
        ];
        for error in &system {
            assert!(
                matches!(CompileError::of(error), CompileError::System(_)),
                "{error:#}"
            );
        }
        let author = wasmtime::Error::msg("code for function is too large");
        assert!(matches!(CompileError::of(&author), CompileError::Unfit(_)));
    }
}
