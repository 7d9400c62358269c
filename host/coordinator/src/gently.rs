//! Work that nobody waits for.

use std::thread;

use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, unix};

use crate::error::CoordinatorError;

/// How much less of a processor [`Manner::Behind`] gets than the rest.
const NICE: i32 = 10;

/// How far work goes behind the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It gets only what nobody else wants of a processor, and makes way the moment that somebody does. While
    /// all processors are busy, it stands nearly still.
    Idle,
    /// It gets a small share whatever the rest wants, and may hold a processor for a few milliseconds while
    /// somebody waits for it.
    Behind,
}

impl Manner {
    /// Lets the calling thread go behind the rest, for as long as it lives.
    pub(crate) fn take(self) {
        // Where it is refused, this is as quick as the rest.
        let _ = match self {
            Self::Idle => {
                let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
                let own = unix::thread_native_id();
                unix::set_thread_priority_and_policy(own, ThreadPriority::Min, policy).ok()
            }
            Self::Behind => {
                let own = rustix::thread::gettid();
                rustix::process::setpriority_process(Some(own), NICE).ok()
            }
        };
    }
}

/// Does something on a thread of its own, since its manner stays with it. Blocks.
pub(crate) fn gently<T: Send, E: Send + From<CoordinatorError>>(
    name: &'static str,
    manner: Manner,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(format!("hearth-{name}"));
        let spawned = thread.spawn_scoped(scope, || {
            manner.take();
            work()
        });
        let ended = spawned.map_err(CoordinatorError::Thread)?.join();
        ended.unwrap_or_else(|_| Err(CoordinatorError::Ended(name).into()))
    })
}
