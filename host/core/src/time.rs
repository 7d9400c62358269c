//! Timers. Core has no clock: it says when it wants to be called, and takes the time as an argument.

use std::collections::BTreeSet;

use hearth_wire::{AttemptId, JobId, Millis};
use serde::{Deserialize, Serialize};

use crate::node::NodeIndex;
use crate::shape::ShapeIndex;

/// What becomes due.
///
/// Timers follow from the state and are no part of it: one that is due without cause does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Timer {
    /// The lease of an attempt ends, or it was parked for too long: its task waits again.
    Lease(AttemptId),
    /// The deadline of a job: what is open then expires.
    Deadline(JobId),
    /// The first waiting task of a job has waited long enough to be leased again.
    Wake(JobId),
    /// A node had its time to come back after a start: its tasks wait again.
    Back(NodeIndex),
    /// Tasks of a job that volunteers have spent wait for one of our own nodes, which may be gone by now.
    Spent(JobId),
    /// A job is in its tail: perhaps something is slow enough for a second node.
    Tail(JobId),
    /// A mode was wanted for long enough.
    Mode,
    /// Placing the work of a shape was cut short after a bounded number of nodes.
    Place(ShapeIndex),
}

/// All timers, the next one first.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Timers(BTreeSet<(Millis, Timer)>);

impl Timers {
    pub(crate) fn set(&mut self, at: Millis, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn clear(&mut self, at: Millis, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    pub(crate) fn next(&self) -> Option<Millis> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(crate) fn has(&self, at: Millis, timer: Timer) -> bool {
        self.0.contains(&(at, timer))
    }

    /// The next timer that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Millis) -> Option<(Millis, Timer)> {
        let first = *self.0.first()?;
        (first.0 <= now).then(|| {
            self.0.remove(&first);
            first
        })
    }
}
