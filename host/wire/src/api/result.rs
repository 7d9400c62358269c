//! Results of tasks.

use serde::{Deserialize, Serialize};

use crate::api::text;
use crate::{Digest, Seq, TaskId};

/// In the place of a node's id: the owner of the job, on a machine of their own.
pub const CLIENT: &str = "client";

/// `GET /v1/jobs/ID/results`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultPage {
    /// In order of index. Tasks that have no result yet are left out.
    pub results: Vec<ProcessingResult>,
    /// The `from` of the next page; `None` behind the last task.
    pub next: Option<u32>,
    /// Whether no result of the job will be added any more.
    pub complete: bool,
    /// Position of the newest record that this shows.
    pub seq: Seq,
}

/// What came out of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessingResult {
    /// `job-7/3`
    #[serde(with = "text")]
    pub task_id: TaskId,
    /// What came out and how sure it is.
    pub result: ResultBody,
    /// The node, or `local`, or `client` for the job's owner, who computed it while the realm was away;
    /// `None` when no attempt ended with a result.
    pub processed_by: Option<String>,
    /// When the result was accepted, ISO 8601.
    pub processed_at: Option<String>,
    /// Time in the sandbox, seconds.
    pub processing_time: f64,
    /// Whether it was checked on a trusted node or came from one.
    pub verified: bool,
    /// Position in the job.
    pub index: u32,
    /// Where the task stands.
    pub state: TaskState,
    /// Attempts so far.
    pub attempts: u32,
    /// Digest of the outcome, by which two runs are compared.
    pub digest: Option<Digest>,
}

/// What came out of a task and how sure it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultBody {
    /// The output as text, in the encoding that the metadata names. `None` when the task has no
    /// output, or one that is too large for a page: fetch it by itself then.
    pub output: Option<String>,
    /// Probability that the result is right, as far as is known.
    pub confidence: f64,
    /// Everything else.
    pub metadata: ResultMetadata,
}

/// Everything else about a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultMetadata {
    /// `returned`, `refused`, `exhausted`, `trapped` or `inconclusive`; empty without an outcome.
    pub outcome: String,
    /// For people: why there is no output.
    pub detail: Option<String>,
    /// How to read the output.
    pub media_type: Option<String>,
    /// How the output is written in `output`.
    pub encoding: OutputEncoding,
    /// Bytes of the output.
    pub bytes: u64,
    /// SHA-256 of the output.
    pub output_digest: Option<Digest>,
    /// Fuel used.
    pub fuel_used: u64,
    /// What it ran on.
    pub engine: String,
    /// Name that the node gave itself.
    pub node_name: String,
}

/// How an output is written in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputEncoding {
    /// As it is: it is valid UTF-8.
    #[default]
    Utf8,
    /// Base64 of RFC 4648 with padding.
    Base64,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TaskState {
    /// Waiting for a lease.
    Queued,
    /// Leased to a node.
    Leased,
    /// Has a result that its trust policy does not yet accept.
    Provisional,
    /// Has a result that may still be amended.
    Final,
    /// Has a result that never changes.
    Settled,
    /// Every allowed attempt failed.
    Failed,
    /// Cancelled.
    Cancelled,
    /// The deadline came first.
    Expired,
}

impl TaskState {
    /// Whether the state never changes.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Settled | Self::Failed | Self::Cancelled | Self::Expired
        )
    }
}

/// `GET /v1/jobs/ID/tasks/INDEX`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// `job-7/3`
    #[serde(with = "text")]
    pub task: TaskId,
    /// Where it stands.
    pub state: TaskState,
    /// Nodes that hold a lease of it, or `local`.
    pub leased_to: Vec<String>,
    /// Its result, once there is one.
    pub result: Option<ProcessingResult>,
    /// Position of the newest record that this shows.
    pub seq: Seq,
}
