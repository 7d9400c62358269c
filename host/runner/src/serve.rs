//! The loop of a runner.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hearth_sandbox::{Allocation, Artefact, Profile, Sandbox, SandboxConfig, engine_id};
use hearth_wire::runner::{FromRunner, Ready, ToRunner};

use crate::confine::{self, Limits};
use crate::frame::{read_frame, write_frame};
use crate::outbox::Outbox;
use crate::slots::Slots;
use crate::{Confine, ConfineError};

/// How a runner works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerOptions {
    /// Attempts at once that run, each on a thread of its own; as many again may be parked.
    pub slots: u32,
    /// Whether to confine this process.
    pub confine: Confine,
    /// What executes components.
    pub profile: Profile,
    /// Where memories come from.
    pub allocation: Allocation,
    /// How often a state of an attempt is kept, at most.
    pub checkpoint_period: Duration,
}

impl Default for RunnerOptions {
    fn default() -> Self {
        Self {
            slots: 1,
            confine: Confine::Yes,
            profile: Profile::Native,
            allocation: Allocation::Auto,
            // What a lost node may cost; a state costs the network up to 16 MiB.
            checkpoint_period: Duration::from_secs(5),
        }
    }
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
    /// The stream to the node broke in the middle of a frame, or no thread could be had.
    #[error("stream to the node: {0}")]
    Io(#[from] std::io::Error),
    /// The node sent something that is not a frame of ours. The node is to blame.
    #[error("frame from the node: {0}")]
    Decode(#[from] hearth_wire::codec::DecodeError),
}

/// Runs attempts for the node at the other end of `stream`, until it hangs up or says `Shutdown`.
///
/// Blocks the calling thread and starts its own; with [`Confine::Yes`], to be called before the process
/// has any other thread, since landlock holds for the calling thread and those that it starts.
///
/// # Errors
///
/// [`RunnerError`]; the end of the stream is not one.
pub fn serve_runner(stream: UnixStream, options: &RunnerOptions) -> Result<(), RunnerError> {
    let confinement = confine::confine(options.confine, Limits::default())?;
    let slots = options.slots.clamp(1, 512);
    let sandbox = Sandbox::new(&SandboxConfig {
        profile: options.profile,
        attempts: 2 * slots,
        allocation: options.allocation,
    })?;
    let mut writer = stream.try_clone()?;
    let mut reader = stream;
    write_frame(
        &mut writer,
        &FromRunner::Ready(Ready {
            engine: engine_id(),
            code: sandbox.code(),
            confinement,
        }),
    )?;

    let outbox = Arc::new(Outbox::new());
    let shared = Slots::new(
        sandbox.clone(),
        Arc::clone(&outbox),
        slots as usize,
        options.checkpoint_period,
    );
    let threads = 2 * slots as usize;
    let working = AtomicUsize::new(threads);
    // The last one to leave switches off the light: with no slot at work, nobody adds to the outbox.
    let work = || {
        shared.work();
        if working.fetch_sub(1, Ordering::AcqRel) == 1 {
            outbox.close();
        }
    };
    let write = |mut writer: UnixStream| {
        outbox.write_to(&mut writer);
        // All is written, or the node is gone: either way the reader has nothing to wait for.
        let _ = writer.shutdown(Shutdown::Both);
    };
    std::thread::scope(|scope| {
        let started = (0..threads).try_for_each(|number| {
            std::thread::Builder::new()
                .name(format!("hearth-slot-{number}"))
                .spawn_scoped(scope, work)
                .map(|_| ())
        });
        let started = started.and_then(|()| {
            std::thread::Builder::new()
                .name("hearth-writer".to_owned())
                .spawn_scoped(scope, || write(writer))
                .map(|_| ())
        });
        let ended = match started {
            Ok(()) => read_all(&mut reader, &sandbox, &shared),
            Err(error) => Err(error.into()),
        };
        // Hung up, or worse: nobody waits for outcomes. After `Shutdown` there is nothing left to abandon.
        shared.abandon();
        ended
    })
}

/// Obeys the node until it hangs up, also while the last attempts end after `Shutdown`.
fn read_all(reader: &mut UnixStream, sandbox: &Sandbox, slots: &Slots) -> Result<(), RunnerError> {
    while let Some(message) = read_frame::<ToRunner>(reader)? {
        match message {
            ToRunner::Load {
                component,
                artefact,
            } => {
                // The node has checked its seal on these bytes; see `Artefact`.
                let program = sandbox
                    .load(&Artefact::from_sealed(artefact))
                    .map_err(|error| error.to_string());
                slots.load(component, program);
            }
            ToRunner::Unload(component) => slots.unload(&component),
            ToRunner::Run(runs) => slots.run(runs),
            ToRunner::Cancel(attempts) => slots.cancel(&attempts),
            ToRunner::Pause(attempts) => slots.pause(&attempts),
            ToRunner::Resume(attempts) => slots.resume(&attempts),
            ToRunner::Throttle(percent) => slots.throttle(percent),
            ToRunner::Shutdown => slots.close(),
        }
    }
    Ok(())
}
