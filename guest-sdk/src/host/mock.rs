//! The mock host of native builds: one per thread, quiet until a test enters it.

use std::cell::RefCell;

use crate::log::Level;
use crate::{Context, Limits};

/// What the mock host answers and what it was told.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    pub(crate) context: Context,
    pub(crate) checkpoint: Option<Vec<u8>>,
    pub(crate) progress: Vec<(u64, Option<u64>)>,
    pub(crate) logs: Vec<(Level, String)>,
    pub(crate) checkpoints: Vec<Vec<u8>>,
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            context: Context {
                id: [0; 32],
                seed: [0; 32],
                // The limits of a manifest that states none.
                limits: Limits {
                    fuel: 20_000_000_000,
                    memory_bytes: 64 << 20,
                    table_elements: 20_000,
                    output_bytes: 4 << 20,
                    log_bytes: 64 << 10,
                    checkpoint_bytes: 1 << 20,
                },
            },
            checkpoint: None,
            progress: Vec::new(),
            logs: Vec::new(),
            checkpoints: Vec::new(),
        }
    }
}

thread_local! {
    static HOST: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

/// Makes `host` the thread's host while `work` runs, and gives it back with what it was told.
pub(crate) fn enter<T>(host: Recording, work: impl FnOnce() -> T) -> (T, Recording) {
    /// Gives the thread its earlier host back, even if the work panics.
    struct Leave(Option<Recording>);
    impl Drop for Leave {
        fn drop(&mut self) {
            let outer = self.0.take();
            HOST.with(|host| *host.borrow_mut() = outer);
        }
    }

    let _leave = Leave(HOST.with(|slot| slot.replace(Some(host))));
    let value = work();
    let told = HOST.with(|slot| slot.borrow_mut().take());
    (value, told.unwrap_or_default())
}

pub(crate) fn task() -> Context {
    HOST.with(|host| match &*host.borrow() {
        Some(host) => host.context.clone(),
        None => Recording::default().context,
    })
}

pub(crate) fn report(done: u64, total: Option<u64>) {
    tell(|host| host.progress.push((done, total)));
}

pub(crate) fn log(level: Level, message: &str) {
    tell(|host| host.logs.push((level, message.to_owned())));
}

pub(crate) fn load() -> Option<Vec<u8>> {
    HOST.with(|host| {
        host.borrow()
            .as_ref()
            .and_then(|host| host.checkpoint.clone())
    })
}

pub(crate) fn save(state: &[u8]) {
    tell(|host| {
        // As the contract demands of every host.
        if state.len() as u64 <= host.context.limits.checkpoint_bytes {
            host.checkpoints.push(state.to_vec());
        }
    });
}

fn tell(what: impl FnOnce(&mut Recording)) {
    HOST.with(|host| {
        if let Some(host) = &mut *host.borrow_mut() {
            what(host);
        }
    });
}
