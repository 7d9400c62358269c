//! What stands in the journal of a job that is kept.

use hearth_wire::{
    Blob, Digest, EngineId, InputSet, JobId, JobOptions, OfflineResult, Release, TaskIndex,
};
use serde::{Deserialize, Serialize};

/// One record. Append-only, like those of a realm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Record {
    /// The first: what the job is. Its component and then its inputs follow in pieces.
    Begun(Begun),
    /// The next piece of the component.
    Component(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The next piece of the input set's file.
    Inputs(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The realm knows the job by this number.
    Accepted(JobId),
    /// The next piece of the output of the result that follows, if that is too large to stand in it.
    Output(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A task ended.
    Done(Done),
    /// The realm has the results of these tasks.
    Merged(Vec<TaskIndex>),
}

/// What a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) release: Release,
    pub(super) component: Blob,
    pub(super) inputs: InputSet,
    /// Digest of the input set's file.
    pub(super) file: Digest,
    pub(super) options: JobOptions,
}

/// How a task ended, and on what it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) engine: EngineId,
    pub(super) result: OfflineResult,
}

/// Records do not follow from each other, though each is as it was written: a defect of the program
/// that wrote them, or of this one.
#[derive(Debug, thiserror::Error)]
pub(super) enum Strange {
    #[error("it is none of this version's: {0}")]
    Record(#[from] hearth_wire::codec::DecodeError),
    #[error("{0}")]
    Order(&'static str),
}
