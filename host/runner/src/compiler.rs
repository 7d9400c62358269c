//! The loop of a compile process: one request, one reply.

use std::os::unix::net::UnixStream;

use hearth_sandbox::{Allocation, CompileError, Profile, Sandbox, SandboxConfig, admit};
use hearth_wire::limits::ARTEFACT_BYTES_MAX;
use hearth_wire::runner::{CompileReply, CompileRequest};

use crate::confine::{self, Limits};
use crate::frame::{read_frame, write_frame};
use crate::{Confine, RunnerError};

/// How a compile process works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompilerOptions {
    /// Whether to confine this process, with limits on memory and CPU time.
    pub confine: Confine,
    /// What the artefact is for.
    pub profile: Profile,
    /// Address space of the process, in bytes, when confined. The largest honest components known (18 MB)
    /// take less than 1 GiB.
    pub memory_bytes_max: u64,
    /// CPU seconds of the process, when confined.
    pub cpu_seconds_max: u64,
}

impl Default for CompilerOptions {
    fn default() -> Self {
        Self {
            confine: Confine::Yes,
            profile: Profile::Native,
            memory_bytes_max: 4 << 30,
            cpu_seconds_max: 300,
        }
    }
}

/// Reads one `CompileRequest`, admits and compiles the component, answers, and returns.
///
/// To be called before the process has any other thread. A process beyond its limits dies
/// without an answer: to its node that is `CompileReply::Failed`.
///
/// # Errors
///
/// [`RunnerError`] if there is no request or no way to answer; a bad component is an answer.
pub fn serve_compiler(stream: UnixStream, options: &CompilerOptions) -> Result<(), RunnerError> {
    confine::confine(
        options.confine,
        Limits {
            memory_bytes: Some(options.memory_bytes_max),
            cpu_seconds: Some(options.cpu_seconds_max),
        },
    )?;
    let mut stream = stream;
    // A node that has changed its mind hangs up.
    let Some(request) = read_frame::<CompileRequest>(&mut stream)? else {
        return Ok(());
    };
    let reply = compile(&request, options.profile);
    write_frame(&mut stream, &reply)?;
    Ok(())
}

fn compile(request: &CompileRequest, profile: Profile) -> CompileReply {
    let admitted = match admit(&request.component, &request.imports, &request.limits) {
        Ok(admitted) => admitted,
        Err(unfit) => return CompileReply::Unfit(unfit.to_string()),
    };
    // Nothing is run here, so nothing is pooled.
    let config = SandboxConfig {
        profile,
        attempts: 1,
        allocation: Allocation::OnDemand,
    };
    let sandbox = match Sandbox::new(&config) {
        Ok(sandbox) => sandbox,
        Err(error) => return CompileReply::Failed(error.to_string()),
    };
    match sandbox.compile(&admitted) {
        Ok(artefact) => answer(artefact.into_bytes()),
        Err(error @ CompileError::System(_)) => CompileReply::Failed(error.to_string()),
        // It was admitted, so what is left are function bodies and types that do not fit.
        Err(error) => CompileReply::Unfit(error.to_string()),
    }
}

/// Machine code that no frame holds can be given to no runner.
fn answer(artefact: Vec<u8>) -> CompileReply {
    let bytes = artefact.len();
    if bytes > ARTEFACT_BYTES_MAX {
        return CompileReply::Unfit(format!(
            "machine code of {bytes} bytes, at most {ARTEFACT_BYTES_MAX} are allowed"
        ));
    }
    CompileReply::Compiled { artefact }
}

#[cfg(test)]
mod tests {
    use hearth_wire::limits::RUNNER_FRAME_BYTES_MAX;
    use hearth_wire::runner::ToRunner;
    use hearth_wire::{Digest, codec};

    use super::*;

    #[test]
    fn machine_code_that_no_frame_holds_is_unfit() {
        let CompileReply::Compiled { artefact } = answer(vec![0; ARTEFACT_BYTES_MAX]) else {
            panic!("the largest fits");
        };
        let component = Digest::default();
        let load = codec::encode(&ToRunner::Load {
            component,
            artefact,
        });
        assert!(load.len() <= RUNNER_FRAME_BYTES_MAX);
        let reply = answer(vec![0; ARTEFACT_BYTES_MAX + 1]);
        assert!(matches!(reply, CompileReply::Unfit(text) if text.contains("machine code")));
    }
}
