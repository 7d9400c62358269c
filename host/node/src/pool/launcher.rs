//! Starts runners and compile processes.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Runs attempts: `ToRunner` in, `FromRunner` out.
    Runner,
    /// Compiles one component: `CompileRequest` in, `CompileReply` out.
    Compiler,
}

/// Serves one end of a socketpair on a thread of its own until the socket closes.
pub type InProcess = dyn Fn(UnixStream, Kind) + Send + Sync;

/// How children are started.
#[derive(Clone)]
pub enum Launcher {
    /// As processes: the socketpair is their standard input (descriptor 0), the environment is
    /// empty, the process group their own. They end when their socket closes.
    Program {
        /// The program; never searched for.
        path: PathBuf,
        /// Its arguments for a runner.
        runner_args: Vec<String>,
        /// Its arguments for a compile process.
        compiler_args: Vec<String>,
    },
    /// As threads of this process, for an embedding program that accepts that a flaw in the engine
    /// is then a flaw in itself: no confinement, and a crash takes everything along.
    InProcess(Arc<InProcess>),
}

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program { path, .. } => f.debug_tuple("Program").field(path).finish(),
            Self::InProcess(_) => f.write_str("InProcess"),
        }
    }
}

/// A child could not be started.
#[derive(Debug, thiserror::Error)]
#[error("starting {program}: {source}")]
pub struct LaunchError {
    /// What was started.
    pub program: String,
    /// Why it failed.
    pub source: std::io::Error,
}
