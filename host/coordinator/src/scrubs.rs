//! When the files were looked through, and whether they are now.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hearth_wire::api::Scrub;
use tokio::sync::Notify;

use crate::clock::iso;

/// When the files were looked through for damage, and the wish that they be.
#[derive(Debug, Default)]
pub(crate) struct Scrubs {
    wish: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Wall time at which the present one began.
    began: Option<u64>,
    bytes: u64,
    /// Wall time at which the last whole one ended, and what it read.
    last: Option<(u64, u64)>,
}

impl Scrubs {
    /// Wants one soon. One that goes on is not begun again.
    pub(crate) fn ask(&self) {
        if self.lock().began.is_none() {
            self.wish.notify_one();
        }
    }

    /// Waits until somebody wants one.
    pub(crate) async fn asked(&self) {
        self.wish.notified().await;
    }

    pub(crate) fn begin(&self, wall: u64) {
        let mut state = self.lock();
        state.began = Some(wall);
        state.bytes = 0;
    }

    pub(crate) fn read(&self, bytes: u64) {
        self.lock().bytes += bytes;
    }

    /// It ended, at this wall time if everything was read.
    pub(crate) fn end(&self, wall: Option<u64>) {
        let mut state = self.lock();
        state.began = None;
        state.last = wall.map(|wall| (wall, state.bytes)).or(state.last);
    }

    /// How it stands, as shown; `damaged` files are known and not replaced.
    pub(crate) fn shown(&self, damaged: Vec<hearth_wire::api::ErrorBody>) -> Scrub {
        let state = self.lock();
        Scrub {
            running_since: state.began.map(iso),
            bytes_read: state.bytes,
            last_ended: state.last.map(|(wall, _)| iso(wall)),
            damaged,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
