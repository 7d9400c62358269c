//! The hidden commands that run untrusted bytes: keyless, netless, confined.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use hearth_runner::{
    CompilerOptions, Confine, RunnerOptions, serve_compiler, serve_runner, without_strays,
};
use hearth_sandbox::Profile;

use super::args::{CompilerArgs, RunnerArgs};
use super::coordinator::inherited;
use super::exit::{Context, Failure, Kind};

/// Runs attempts for the node at the other end of the inherited socket.
pub(crate) fn runner(args: &RunnerArgs, fd: BorrowedFd<'_>) -> Result<(), Failure> {
    without_strays().context(Kind::Failed, "descriptors of the parent")?;
    let stream = inherited(fd).context(
        Kind::Failed,
        "a runner is started by a node, with a socket as its standard input",
    )?;
    let mut options = RunnerOptions {
        slots: args.slots.into(),
        confine: Confine::Yes,
        profile: profile(args.pulley),
        ..RunnerOptions::default()
    };
    if let Some(millis) = args.checkpoint_millis {
        options.checkpoint_period = Duration::from_millis(millis);
    }
    serve_runner(stream, &options).context(Kind::Failed, "runner")
}

/// Compiles one component for the node at the other end of the inherited socket.
pub(crate) fn compiler(args: &CompilerArgs, fd: BorrowedFd<'_>) -> Result<(), Failure> {
    without_strays().context(Kind::Failed, "descriptors of the parent")?;
    let stream = inherited(fd).context(
        Kind::Failed,
        "a compiler is started by a node, with a socket as its standard input",
    )?;
    let options = CompilerOptions {
        profile: profile(args.pulley),
        ..CompilerOptions::default()
    };
    serve_compiler(stream, &options).context(Kind::Failed, "compiler")
}

fn profile(pulley: bool) -> Profile {
    if pulley {
        Profile::Pulley
    } else {
        Profile::Native
    }
}
