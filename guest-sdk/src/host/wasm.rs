//! The host of a component, through its bindings.

use crate::__private::bindings::hearth::task as wit;
use crate::log::Level;
use crate::{Context, Limits};

pub(crate) fn task() -> Context {
    let info = wit::context::get_task();
    Context {
        id: key(&info.id),
        seed: key(&info.seed),
        limits: Limits {
            fuel: info.limits.fuel,
            memory_bytes: info.limits.memory_bytes,
            table_elements: info.limits.table_elements,
            output_bytes: info.limits.output_bytes,
            log_bytes: info.limits.log_bytes,
            checkpoint_bytes: info.limits.checkpoint_bytes,
        },
    }
}

pub(crate) fn report(done: u64, total: Option<u64>) {
    wit::progress::report(done, total);
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Debug => wit::progress::Level::Debug,
        Level::Info => wit::progress::Level::Info,
        Level::Warn => wit::progress::Level::Warn,
        Level::Error => wit::progress::Level::Error,
    };
    wit::progress::log(level, message);
}

pub(crate) fn load() -> Option<Vec<u8>> {
    wit::checkpoint::load()
}

pub(crate) fn save(state: &[u8]) {
    wit::checkpoint::save(state);
}

/// The contract says 32 bytes; a host that gives others is the host's fault, and visible at once.
fn key(bytes: &[u8]) -> [u8; 32] {
    match bytes.try_into() {
        Ok(key) => key,
        Err(_) => panic!("the host broke the contract: an id or seed is not 32 bytes long"),
    }
}
