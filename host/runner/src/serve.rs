//! The loop of a runner.

use std::os::unix::net::UnixStream;

use hearth_sandbox::{Allocation, Profile};

use crate::{Confine, ConfineError};

/// How a runner works.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// Attempts at once, each on a thread of its own.
    pub slots: u32,
    /// Whether to confine this process.
    pub confine: Confine,
    /// What executes components.
    pub profile: Profile,
    /// Where memories come from.
    pub allocation: Allocation,
}

/// Why a runner ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// No engine on this machine.
    #[error(transparent)]
    Engine(#[from] hearth_sandbox::EngineError),
    /// No walls.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The stream to the node broke in the middle of a frame, or could not be used.
    #[error("stream to the node: {0}")]
    Io(#[from] std::io::Error),
    /// The node sent something that is not a frame of ours. The node is to blame.
    #[error("frame from the node: {0}")]
    Decode(#[from] hearth_wire::codec::DecodeError),
}

/// Runs attempts for the node at the other end of `stream`, until it ends.
///
/// Blocks the calling thread; starts its own threads.
///
/// # Errors
///
/// [`RunnerError`]; the end of the stream is not one.
pub fn serve_runner(stream: UnixStream, options: &RunnerOptions) -> Result<(), RunnerError> {
    let _ = (stream, options);
    todo!()
}
