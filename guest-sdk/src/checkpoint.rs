//! Snapshots of a task's state, so that it can be moved to another machine or survive a crash.
//!
//! A task must give the same result from any snapshot as from the start. The host decides which
//! snapshots it keeps, so save as often as is convenient, some times a second at the most: each
//! costs fuel for copying it. Save at the top of a loop, before its work: the first `save` of a resumed
//! task is then of the very state that it loaded, where the host sets the fuel to what it was. A loop that
//! fills one buffer again and uses [`save_bytes`] costs the same fuel with and without interruption, to
//! the unit; one that allocates differs by what the allocator does on another heap.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Result, ResultExt, host};

/// The newest snapshot, as [`save`] wrote it. `None` at a fresh start, and when it cannot be read,
/// which the log then tells.
pub fn load<T: DeserializeOwned>() -> Option<T> {
    let state = load_bytes()?;
    match serde_json::from_slice(&state) {
        Ok(state) => Some(state),
        Err(error) => {
            crate::log::warn(format_args!(
                "starting again, the checkpoint cannot be read: {error}"
            ));
            None
        }
    }
}

/// Offers `state` as a snapshot, in JSON.
///
/// # Errors
///
/// [`Error::Failed`](crate::Error::Failed) if `state` has no JSON form: a map whose keys are not text.
pub fn save(state: &impl Serialize) -> Result<()> {
    save_bytes(&serde_json::to_vec(state).or_failed()?);
    Ok(())
}

/// The newest snapshot, as [`save_bytes`] wrote it. `None` at a fresh start.
pub fn load_bytes() -> Option<Vec<u8>> {
    host::load()
}

/// Offers `state` as a snapshot. One above the limit
/// [`checkpoint_bytes`](crate::Limits::checkpoint_bytes) is dropped.
pub fn save_bytes(state: &[u8]) {
    host::save(state);
}
