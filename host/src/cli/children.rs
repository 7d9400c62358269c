//! The hidden commands that run untrusted bytes: keyless, netless, confined.

use std::os::fd::BorrowedFd;

use hearth_runner::{CompilerOptions, Confine, RunnerOptions, serve_compiler, serve_runner};

use super::args::RunnerArgs;
use super::coordinator::inherited;
use super::exit::{Context, Failure, Kind};

/// Runs attempts for the node at the other end of the inherited socket.
pub(crate) fn runner(args: &RunnerArgs, fd: BorrowedFd<'_>) -> Result<(), Failure> {
    let stream = inherited(fd).context(
        Kind::Failed,
        "a runner is started by a node, with a socket as its standard input",
    )?;
    let options = RunnerOptions {
        slots: args.slots.into(),
        confine: Confine::Yes,
        ..RunnerOptions::default()
    };
    serve_runner(stream, &options).context(Kind::Failed, "runner")
}

/// Compiles one component for the node at the other end of the inherited socket.
pub(crate) fn compiler(fd: BorrowedFd<'_>) -> Result<(), Failure> {
    let stream = inherited(fd).context(
        Kind::Failed,
        "a compiler is started by a node, with a socket as its standard input",
    )?;
    serve_compiler(stream, &CompilerOptions::default()).context(Kind::Failed, "compiler")
}
