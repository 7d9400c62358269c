//! From what wasmtime says to what is told: conclusive only if every machine would say the same.

use hearth_wire::limits::{ERROR_TEXT_BYTES_MAX, NAME_BYTES_MAX};
use hearth_wire::runner::RunOutcome;
use hearth_wire::{Inconclusive, Resource, TaskError, TrapKind};
use wasmtime::component::{ComponentType, Lift, Lower};
use wasmtime::{PoolConcurrencyLimitError, Trap};

use crate::gate::Stop;
use crate::host::{Host, cut};

/// Errors of our own host functions, told apart from what wasmtime finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// A function was called that this world forbids.
    #[error("this function is forbidden in a comparable world")]
    Forbidden,
}

/// `payload` on its way in.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct PayloadIn {
    #[component(name = "media-type")]
    pub(crate) media_type: String,
    pub(crate) body: Vec<u8>,
}

/// `payload` on its way out.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct PayloadOut {
    #[component(name = "media-type")]
    media_type: String,
    body: Vec<u8>,
}

/// `error-code`.
#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum ErrorCode {
    #[component(name = "invalid-input")]
    InvalidInput(Option<String>),
    #[component(name = "not-granted")]
    NotGranted(Option<String>),
    #[component(name = "failed")]
    Failed(Option<String>),
    #[component(name = "other")]
    Other(Option<String>),
}

pub(crate) type Returned = (Result<PayloadOut, ErrorCode>,);

/// How far an attempt had come when it ended in an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Making the instance, with its start function.
    Start,
    /// `run`.
    Run,
}

/// What a guest returned, within its limits.
pub(crate) fn of_return(returned: Returned, host: &Host) -> RunOutcome {
    match returned.0 {
        Ok(PayloadOut { media_type, body }) => {
            if body.len() as u64 > host.limits.output_bytes {
                return RunOutcome::Exhausted(Resource::Output);
            }
            if media_type.is_empty()
                || media_type.len() > NAME_BYTES_MAX
                || media_type.contains(char::is_control)
            {
                return RunOutcome::Trapped(TrapKind::Contract);
            }
            RunOutcome::Returned {
                media_type,
                bytes: body,
            }
        }
        Err(code) => RunOutcome::Refused(match code {
            ErrorCode::InvalidInput(text) => TaskError::InvalidInput(text.map(shorten)),
            ErrorCode::NotGranted(text) => TaskError::NotGranted(text.map(shorten)),
            ErrorCode::Failed(text) => TaskError::Failed(text.map(shorten)),
            ErrorCode::Other(text) => TaskError::Other(text.map(shorten)),
        }),
    }
}

fn shorten(text: String) -> String {
    cut(&text, ERROR_TEXT_BYTES_MAX).to_owned()
}

/// What ended a guest that did not return. One that is `overdrawn` owed more fuel than it had left, so that
/// it had come to its end before whatever else it ran into.
pub(crate) fn of_error(
    error: &wasmtime::Error,
    host: &Host,
    stage: Stage,
    overdrawn: bool,
) -> RunOutcome {
    match of_error_alone(error, host, stage) {
        RunOutcome::Trapped(_) | RunOutcome::Exhausted(_) if overdrawn => {
            RunOutcome::Exhausted(Resource::Fuel)
        }
        outcome => outcome,
    }
}

fn of_error_alone(error: &wasmtime::Error, host: &Host, stage: Stage) -> RunOutcome {
    if let Some(fault) = host.limiter.host_fault() {
        return host_fault(fault.to_owned());
    }
    if error.is::<PoolConcurrencyLimitError>() || has_system_error(error) {
        return host_fault(format!("{error:#}"));
    }
    let kind = match error.downcast_ref::<Trap>() {
        // The depth of a stack depends on CPU and compiler: no answer to the task.
        Some(Trap::StackOverflow) => {
            return RunOutcome::Inconclusive(Inconclusive::StackOverflow);
        }
        Some(Trap::OutOfFuel) => return RunOutcome::Exhausted(Resource::Fuel),
        // Nothing here interrupts by trap.
        Some(Trap::Interrupt) => return host_fault("interrupted".to_owned()),
        Some(trap) => trap_kind(*trap),
        None if error.is::<Fault>() => TrapKind::Forbidden,
        None if carries_too_much(error) => return RunOutcome::Exhausted(Resource::Output),
        None if stage == Stage::Run || host.limiter.refused() => TrapKind::Contract,
        // Without a trap, an instance is refused for what it is made of: counts that only show when
        // it is put together, or a system that is short of something unnamed.
        None if format!("{error:#}").contains("resource limit exceeded") => {
            return RunOutcome::Inconclusive(Inconclusive::Unfit(format!("{error:#}")));
        }
        None => return host_fault(format!("{error:#}")),
    };
    // A guest that ends badly after it was refused memory ended for want of it: allocators
    // trap, so this is how a memory bomb looks. One that copes with the refusal goes on.
    if host.limiter.refused() {
        return RunOutcome::Exhausted(Resource::Memory);
    }
    RunOutcome::Trapped(kind)
}

pub(crate) fn of_stop(stop: Stop) -> RunOutcome {
    RunOutcome::Inconclusive(match stop {
        Stop::Cancelled => Inconclusive::Cancelled,
        Stop::Deadline => Inconclusive::Deadline,
    })
}

pub(crate) fn host_fault(text: String) -> RunOutcome {
    RunOutcome::Inconclusive(Inconclusive::HostFault(text))
}

fn trap_kind(trap: Trap) -> TrapKind {
    match trap {
        Trap::UnreachableCodeReached => TrapKind::Unreachable,
        Trap::MemoryOutOfBounds => TrapKind::MemoryOutOfBounds,
        Trap::TableOutOfBounds => TrapKind::TableOutOfBounds,
        Trap::IndirectCallToNull => TrapKind::IndirectCallToNull,
        Trap::BadSignature => TrapKind::BadSignature,
        Trap::IntegerOverflow => TrapKind::IntegerOverflow,
        Trap::IntegerDivisionByZero => TrapKind::DivisionByZero,
        Trap::BadConversionToInteger => TrapKind::BadConversionToInteger,
        // All others are rules of the component model, or of features that are off.
        _ => TrapKind::Contract,
    }
}

/// Whether the operating system said no, anywhere below.
fn has_system_error(error: &wasmtime::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.is::<std::io::Error>() || cause.is::<rustix::io::Errno>())
}

/// wasmtime keeps the type of this error to itself, so it is known by its text; a test holds it to that.
fn carries_too_much(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .to_string()
            .contains("fuel allocated for hostcalls has been exhausted")
    })
}
