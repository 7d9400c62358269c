//! The JSON of the HTTP API: what a client sends and what it gets back.
//!
//! One file per subject. Ids and digests are text in JSON (`job-7`, `job-7/3`, 64 hexadecimal
//! digits); times are ISO 8601 in UTC. Unknown fields of a request are refused, so that a misspelt
//! option is not silently ignored; unknown fields of an answer are to be ignored by clients.

mod enrol;
mod error;
mod job;
mod node;
mod result;
mod task;

pub use enrol::{EnrolRequest, Enrolled, Invitation, InvitationRequest, RenewRequest};
pub use error::{ApiError, Blame, ErrorBody};
pub use job::{
    JobAccepted, JobCounts, JobEvent, JobList, JobState, JobStatus, NodeShare, ResultsMerged,
    SubmitJob,
};
pub use node::{
    Health, ModeReport, ModeSwitch, NodeList, NodeState, NodeStatus, PerformanceMetrics, Revoked,
    Scrub,
};
pub use result::{
    CLIENT, OutputEncoding, ProcessingResult, ResultBody, ResultMetadata, ResultPage, TaskState,
    TaskStatus,
};
pub use task::{ProcessingTask, TaskData, TaskPosted, TaskRequest};

pub use crate::record::Mode;

use serde::{Deserialize, Serialize};

use crate::{Blob, InputSet, ReleaseId};

/// `PATH` prefix of every route of this version of the API.
pub const PREFIX: &str = "/v1";

/// Answer to a release that was verified and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseAdded {
    /// Its name from now on.
    pub release: ReleaseId,
}

/// Answer to a blob that is stored in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobStored {
    /// Its name and size.
    #[serde(flatten)]
    pub blob: Blob,
}

/// Answer to an input set that was read, checked and stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputSetStored {
    /// What a job names.
    pub inputs: InputSet,
}

/// Answer to a part of an upload: how many bytes are there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadProgress {
    /// Bytes stored; the next part starts here.
    pub offset: u64,
}

/// Ids as text in JSON, although they are numbers in postcard.
pub mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes the displayed form.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<T: Display, S: Serializer>(value: &T, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(value)
    }

    /// Reads the displayed form.
    ///
    /// # Errors
    ///
    /// When the text is not an id of this kind.
    pub fn deserialize<'de, T, D>(input: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(input)?;
        text.parse().map_err(de::Error::custom)
    }
}
