//! A sandbox in your own program: run components over inputs, with limits and progress.

mod component;
mod job;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_node::pool::{IDLE_TIME, Kind, Launcher, Pool, PoolConfig, PoolError, PoolStatus};
use hearth_runner::{CompilerOptions, Confine, RunnerOptions};
use hearth_sandbox::{Profile, Unfit};
use hearth_wire::runner::Confinement;
use hearth_wire::{AttemptId, EngineId};

pub use component::Component;
pub use job::{Job, JobBuilder, JobControl, LogLine, Progress, TaskResult};

/// Why a local host cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalHostError {
    /// The file cannot be read.
    #[error("reading {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The component is not one that can run here; its author is to blame.
    #[error("not a component that can run here: {0}")]
    Unfit(#[from] Unfit),
    /// An input, or the number of them, breaks a limit.
    #[error("input {index} has {bytes} bytes, at most {max} are allowed: split it")]
    InputTooLarge {
        /// Which.
        index: usize,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: u64,
    },
    /// A job has at least one task.
    #[error("a job needs at least one input")]
    NoInputs,
    /// Runners could not be started or used.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The threads for it could not be started.
    #[error("starting threads: {0}")]
    Threads(std::io::Error),
}

/// How a [`LocalHost`] is made.
#[derive(Debug, Clone)]
pub struct LocalHostBuilder {
    program: Option<PathBuf>,
    slots: u16,
    memory_bytes: u64,
    cache: Option<PathBuf>,
    compile_timeout: Duration,
    profile: Profile,
}

impl Default for LocalHostBuilder {
    fn default() -> Self {
        let cores =
            std::thread::available_parallelism().map_or(1, |cores| cores.get().min(1024) as u16);
        Self {
            program: None,
            slots: cores,
            memory_bytes: 1 << 30,
            cache: None,
            compile_timeout: Duration::from_secs(120),
            profile: Profile::Native,
        }
    }
}

impl LocalHostBuilder {
    /// Runs guests in confined processes of this `hearth` program instead of threads of your own.
    ///
    /// Without it a flaw in the engine is a flaw in your program: fine for your own components in
    /// your own tests, not for other people's code.
    pub fn runner_program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Tasks that run at once; default one per core.
    pub fn slots(mut self, slots: u16) -> Self {
        self.slots = slots.max(1);
        self
    }

    /// Memory of all running guests together, in bytes; default 1 GiB.
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Keeps compiled components in this folder; default in memory.
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Wall-clock limit of one compilation; default two minutes.
    pub fn compile_timeout(mut self, limit: Duration) -> Self {
        self.compile_timeout = limit;
        self
    }

    /// Runs guests on wasmtime's portable interpreter: slow, the same bytes.
    pub fn pulley(mut self) -> Self {
        self.profile = Profile::Pulley;
        self
    }

    /// Starts the runners.
    ///
    /// # Errors
    ///
    /// When no runner becomes ready.
    pub fn start(self) -> Result<LocalHost, LocalHostError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("hearth-local")
            .enable_all()
            .build()
            .map_err(LocalHostError::Threads)?;
        let (runners, slots_per_runner) = if self.program.is_some() {
            (self.slots, 1)
        } else {
            (1, self.slots)
        };
        let config = PoolConfig {
            launcher: self.launcher(),
            runners,
            idle_time: IDLE_TIME,
            slots_per_runner,
            memory_bytes: self.memory_bytes,
            artefacts: self.cache,
            artefact_bytes: 1 << 30,
            compile_timeout: self.compile_timeout,
            nice: 0,
        };
        let pool = runtime.block_on(Pool::start(config))?;
        Ok(LocalHost {
            pool,
            attempts: AtomicU64::new(1),
            slots: self.slots,
            runtime,
        })
    }

    fn launcher(&self) -> Launcher {
        if let Some(path) = &self.program {
            let args = |command: &str| {
                let pulley = (self.profile == Profile::Pulley).then_some("--pulley");
                let args = [command].into_iter().chain(pulley);
                args.map(str::to_owned).collect()
            };
            return Launcher::Program {
                path: path.clone(),
                runner_args: args("__runner"),
                compiler_args: args("__compiler"),
            };
        }
        let (slots, profile) = (u32::from(self.slots), self.profile);
        Launcher::InProcess(Arc::new(move |stream, kind| {
            // Errors end the stream, which is what the pool sees and reports.
            let ended = match kind {
                Kind::Runner => {
                    let options = RunnerOptions {
                        slots,
                        confine: Confine::No,
                        profile,
                        ..RunnerOptions::default()
                    };
                    hearth_runner::serve_runner(stream, &options)
                }
                Kind::Compiler => {
                    let options = CompilerOptions {
                        confine: Confine::No,
                        profile,
                        ..CompilerOptions::default()
                    };
                    hearth_runner::serve_compiler(stream, &options)
                }
            };
            if let Err(error) = ended {
                tracing::warn!(%error, ?kind, "an in-process runner ended");
            }
        }))
    }
}

/// Runs components over inputs on this machine, without a network, a coordinator or a signature.
///
/// It is the same sandbox in which volunteers run tasks, so a component gives the same bytes, the
/// same outcome and the same fuel here as anywhere. Calls block; from async code use a blocking
/// thread.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let host = hearth::LocalHost::in_process()?;
/// let component = hearth::Component::from_path("greet.component.wasm")?;
/// for result in host.job(&component).inputs(["Ada", "Grace"]).run()? {
///     println!("{}: {:?}", result.index, result.output());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LocalHost {
    // Before the runtime, so that it goes first.
    pool: Pool,
    attempts: AtomicU64,
    slots: u16,
    runtime: tokio::runtime::Runtime,
}

impl LocalHost {
    /// A host with confined runner processes, or with threads of this one; see the builder.
    pub fn builder() -> LocalHostBuilder {
        LocalHostBuilder::default()
    }

    /// A host whose guests run in threads of this program: for your own components.
    ///
    /// # Errors
    ///
    /// When the engine cannot start on this machine.
    pub fn in_process() -> Result<Self, LocalHostError> {
        Self::builder().start()
    }

    /// Begins a job of `component`.
    pub fn job<'host>(&'host self, component: &Component) -> JobBuilder<'host> {
        JobBuilder::new(self, component.clone())
    }

    /// What outcomes depend on here.
    pub fn engine(&self) -> Option<EngineId> {
        self.status().engine
    }

    /// The walls around guests.
    pub fn confinement(&self) -> Confinement {
        self.status().confinement
    }

    fn status(&self) -> PoolStatus {
        self.pool.status()
    }

    fn next_attempt(&self) -> AttemptId {
        AttemptId(self.attempts.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for LocalHost {
    fn drop(&mut self) {
        self.runtime.block_on(self.pool.shutdown());
    }
}
