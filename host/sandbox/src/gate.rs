//! The gate through which the owner of the machine pauses, resumes and cancels an attempt.

use std::sync::Arc;

/// A handle on one attempt. Cheap to clone; may be used from any thread, before, during and after the run.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    _shared: Arc<()>,
}

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parks the attempt with its memory, within one tick of the engine's clock.
    pub fn pause(&self) {
        todo!()
    }

    /// Goes on with a parked attempt.
    pub fn resume(&self) {
        todo!()
    }

    /// Ends the attempt with `Inconclusive(Cancelled)`, unless it has ended.
    pub fn cancel(&self) {
        todo!()
    }

    /// Ends the attempt with `Inconclusive(Deadline)`, unless it has ended.
    pub fn expire(&self) {
        todo!()
    }
}
