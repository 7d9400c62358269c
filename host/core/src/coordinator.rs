//! The owner of all state.

use hearth_wire::record::{Mode, Record};
use hearth_wire::{Digest, Epoch, JobId, Millis, Seq, SessionId};

use crate::step::JobProgress;
use crate::{Config, Event, Step, Violation};

/// The owner of all state.
#[derive(Debug)]
pub struct Coordinator {
    config: Config,
}

/// A record does not follow from those before it: the journal is another realm's, or damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} does not fit those before it ({problem}); restore the journal from a backup")]
pub struct ReplayError {
    /// The record.
    pub seq: Seq,
    /// What does not fit.
    pub problem: &'static str,
}

impl Coordinator {
    /// An empty realm.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
    /// Folds one journaled record. All records are replayed before the first event.
    ///
    /// # Errors
    ///
    /// [`ReplayError`] if the record does not follow from those before it.
    pub fn replay(&mut self, _record: &Record) -> Result<(), ReplayError> {
        let _ = &self.config;
        todo!()
    }
    /// Decides what an event means, changes the state accordingly, and says what to do.
    pub fn handle(&mut self, _now: Millis, _event: Event) -> Step {
        todo!()
    }
    /// When [`Event::Tick`] is wanted next, if no other event comes first.
    pub fn next_timeout(&self) -> Option<Millis> {
        todo!()
    }
    /// The sequence number of the newest record.
    pub fn seq(&self) -> Seq {
        todo!()
    }
    /// The time of the newest record: the shell's clock must start here.
    pub fn now(&self) -> Millis {
        todo!()
    }
    /// The present epoch.
    pub fn epoch(&self) -> Epoch {
        todo!()
    }
    /// The newest session that was ever taken in: new ones are numbered above it.
    pub fn last_session(&self) -> SessionId {
        todo!()
    }
    /// The present mode.
    pub fn mode(&self) -> Mode {
        todo!()
    }
    /// How an open job stands; `None` for one that closed or never was.
    pub fn job(&self, _job: JobId) -> Option<JobProgress> {
        todo!()
    }
    /// A digest of the whole state. Equal for a coordinator and one that replayed its records.
    pub fn state_hash(&self) -> Digest {
        todo!()
    }
    /// Walks the whole state and checks every invariant.
    ///
    /// # Errors
    ///
    /// The first [`Violation`] found: a defect of core.
    pub fn check(&self) -> Result<(), Violation> {
        todo!()
    }
}
