//! The one place that talks to the host: the real one in a component, the mock one natively.

#[cfg(not(target_arch = "wasm32"))]
mod mock;
#[cfg(target_arch = "wasm32")]
mod wasm;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use mock::{Recording, enter, load, log, report, save, task};
#[cfg(target_arch = "wasm32")]
pub(crate) use wasm::{load, log, report, save, task};

/// Tells how far the task has come, in a unit of your choice; `None` for a total that is not known.
///
/// ```
/// # extern crate hearth_guest as hearth;
/// hearth::progress(3, 10);
/// hearth::progress(4711, None);
/// ```
pub fn progress(done: u64, total: impl Into<Option<u64>>) {
    report(done, total.into());
}
