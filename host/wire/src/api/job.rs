//! Jobs: submission, status, events.

use serde::{Deserialize, Serialize};

use crate::api::{ErrorBody, ModeReport, ProcessingResult, text};
use crate::message::LogLevel;
use crate::{
    AttemptId, InputSet, JobId, JobOptions, NodeId, Priority, ReleaseId, Seq, TaskId, TrustPolicy,
};

/// `POST /v1/jobs`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitJob {
    /// A release that was posted before.
    pub release: ReleaseId,
    /// An input set that was stored before.
    pub inputs: InputSet,
    /// Everything else.
    #[serde(default)]
    pub options: JobOptions,
}

/// The job is durable: from now on nothing but its owner ends it before its tasks have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAccepted {
    /// The job.
    #[serde(with = "text")]
    pub job: JobId,
    /// Position of its record: a read with `min_seq` of this or more shows the job.
    pub seq: Seq,
    /// How many tasks it has.
    pub tasks: u32,
    /// Whether an earlier submission with the same idempotency key had made it.
    pub existing: bool,
}

/// Answer to results that a job's owner had computed while the realm was away. They are durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultsMerged {
    /// The job.
    #[serde(with = "text")]
    pub job: JobId,
    /// Results that were taken: nobody computes those tasks any more, a check of a `certain` job apart.
    pub merged: u32,
    /// Results of tasks that had one, or that had ended: they change nothing.
    pub known: u32,
    /// Position of the record behind which a read shows them.
    pub seq: Seq,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// The job.
    #[serde(with = "text")]
    pub job: JobId,
    /// The name that its owner gave it.
    pub name: String,
    /// What it runs.
    pub release: ReleaseId,
    /// Whether it is open or how it ended.
    pub state: JobState,
    /// Its queue.
    pub priority: Priority,
    /// What makes its results final.
    pub trust: TrustPolicy,
    /// How many tasks it has.
    pub tasks: u32,
    /// How many are in which state.
    pub counts: JobCounts,
    /// Leases granted beyond the first of each task.
    pub retries: u64,
    /// Who produced how many results.
    pub nodes: Vec<NodeShare>,
    /// When it was submitted.
    pub submitted_at: String,
    /// When it must end.
    pub deadline: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Why nothing of it is leased at the moment, or why it failed as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<ErrorBody>,
    /// Position of the newest record that this shows.
    pub seq: Seq,
}

/// Whether a job is open or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobState {
    /// Has tasks that are not terminal.
    Open,
    /// Every task is terminal.
    Closed,
    /// Its owner cancelled it.
    Cancelled,
    /// Its deadline passed.
    Expired,
}

/// How many tasks of a job are in which state. The sum is the number of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobCounts {
    /// Waiting for a lease.
    pub queued: u32,
    /// Leased to a node.
    pub leased: u32,
    /// With a result that its trust policy does not yet accept.
    pub provisional: u32,
    /// With a result that may still be amended.
    #[serde(rename = "final")]
    pub finalised: u32,
    /// With a result that never changes.
    pub settled: u32,
    /// Every allowed attempt failed.
    pub failed: u32,
    /// Cancelled before they had a result.
    pub cancelled: u32,
    /// The deadline came first.
    pub expired: u32,
}

/// A node's part of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShare {
    /// The node, or `local`, or `client` for the job's owner.
    pub node: String,
    /// The name that it gave itself.
    pub name: String,
    /// Its results.
    pub results: u32,
}

/// `GET /v1/jobs`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobList {
    /// The newest first.
    pub jobs: Vec<JobStatus>,
    /// Position of the newest record that this shows.
    pub seq: Seq,
}

/// Something that happened to a job: one server-sent event of `GET /v1/jobs/ID/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum JobEvent {
    /// How the job stands. The first event, and again whenever the state changes or counts moved.
    Job(JobStatus),
    /// A task was leased.
    Leased {
        /// The task.
        #[serde(with = "text")]
        task: TaskId,
        /// The attempt.
        #[serde(with = "text")]
        attempt: AttemptId,
        /// The node, or `local`.
        node: String,
    },
    /// How far an attempt is. May be left out when there is too much.
    Progress {
        /// The task.
        #[serde(with = "text")]
        task: TaskId,
        /// The node, or `local`.
        node: String,
        /// Units done.
        done: u64,
        /// Units in all, if known.
        total: Option<u64>,
    },
    /// A line that a guest logged. May be left out when there is too much.
    Log {
        /// The task.
        #[serde(with = "text")]
        task: TaskId,
        /// How important.
        level: LogLevel,
        /// The text.
        text: String,
    },
    /// A task has a result.
    Result(ProcessingResult),
    /// A result was revoked; the task runs again.
    Amended {
        /// The task.
        #[serde(with = "text")]
        task: TaskId,
        /// Whose result it was.
        node: Option<NodeId>,
    },
    /// The realm's mode changed.
    Mode(ModeReport),
    /// The reader was too slow and events were left out: read status and results again.
    Resync {
        /// How many events were left out.
        missed: u64,
    },
}

impl JobEvent {
    /// The `event:` field of the server-sent event.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Job(_) => "job",
            Self::Leased { .. } => "leased",
            Self::Progress { .. } => "progress",
            Self::Log { .. } => "log",
            Self::Result(_) => "result",
            Self::Amended { .. } => "amended",
            Self::Mode(_) => "mode",
            Self::Resync { .. } => "resync",
        }
    }
}
