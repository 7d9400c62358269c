//! Work that nobody waits for.

use std::thread;

use crate::error::CoordinatorError;

/// How much less of a processor such work gets than the rest.
const NICE: i32 = 10;

/// Does something on a thread of its own, since its niceness stays with it. Blocks.
pub(crate) fn gently<T: Send, E: Send + From<CoordinatorError>>(
    name: &'static str,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(format!("hearth-{name}"));
        let spawned = thread.spawn_scoped(scope, || {
            be_gentle();
            work()
        });
        let ended = spawned.map_err(CoordinatorError::Thread)?.join();
        ended.unwrap_or_else(|_| Err(CoordinatorError::Ended(name).into()))
    })
}

/// Lets the calling thread go behind the rest, for as long as it lives.
pub(crate) fn be_gentle() {
    let own = rustix::thread::gettid();
    // Where it is refused, this is as quick as the rest.
    let _ = rustix::process::setpriority_process(Some(own), NICE);
}
