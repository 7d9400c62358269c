//! The loop of a compile process: one request, one reply.

use std::os::unix::net::UnixStream;

use hearth_sandbox::Profile;

use crate::{Confine, RunnerError};

/// How a compile process works.
#[derive(Debug, Clone)]
pub struct CompilerOptions {
    /// Whether to confine this process, with limits on memory and CPU time.
    pub confine: Confine,
    /// What the artefact is for.
    pub profile: Profile,
    /// Address space of the process, in bytes, when confined.
    pub memory_bytes_max: u64,
    /// CPU seconds of the process, when confined.
    pub cpu_seconds_max: u64,
}

/// Reads one `CompileRequest`, admits and compiles the component, answers, and ends.
///
/// # Errors
///
/// [`RunnerError`] if there is no request or no way to answer; a bad component is an answer.
pub fn serve_compiler(stream: UnixStream, options: &CompilerOptions) -> Result<(), RunnerError> {
    let _ = (stream, options);
    todo!()
}
