//! Messages between a node and the coordinator.
//!
//! One frame is a batch of messages of one direction ([`crate::codec`]). Enums are append-only: a new
//! message is a new variant at the end, a changed one raises the wire version. There are no maps, no
//! recursive types and no elements of zero size, because postcard bounds none of them.

use serde::{Deserialize, Serialize};

use crate::runner::Confinement;
use crate::{
    AttemptId, Checkpoint, CheckpointLink, Digest, EngineId, Epoch, Outcome, Priority, Release,
    ReleaseId, Role, TaskId,
};

/// What a node says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum NodeMessage {
    /// First message of a connection, and only the first.
    Hello(Hello),
    /// Every heartbeat period.
    Heartbeat(Load),
    /// How attempts ended, signed together.
    Reports(ReportBatch),
    /// How far attempts are. May be dropped.
    Progress(Vec<Progress>),
    /// A line that a guest logged. May be dropped.
    Log(LogLine),
    /// A checkpoint that the node made; its body, if it is a blob, was uploaded before.
    Checkpoint(CheckpointReport),
    /// The owner paused the node, resumed it, or changed its limits.
    Capacity(Capacity),
    /// The node takes no new work and closes when its leases have ended.
    Goodbye,
}

/// What a coordinator says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CoordinatorMessage {
    /// Answer to `Hello`.
    Welcome(Welcome),
    /// Work.
    Lease(Vec<Lease>),
    /// Attempts that are wanted no longer. Unknown ones are ignored.
    Cancel(Vec<AttemptId>),
    /// Attempts to park with their memory, for more urgent work.
    Pause(Vec<AttemptId>),
    /// Attempts to go on with.
    Resume(Vec<AttemptId>),
    /// Reports of these attempts are durable (or will never be wanted): forget them.
    Settled(Vec<AttemptId>),
    /// Take no more work, finish or give back what you have, then say goodbye.
    Drain,
    /// The connection will be closed. The text says what to do.
    Refused(Refusal),
}

/// A node introduces itself. Its identity is its certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// For people; `NAME_BYTES_MAX` at most.
    pub name: String,
    /// What its results depend on.
    pub engine: EngineId,
    /// `x86_64`, `aarch64`, …
    pub architecture: String,
    /// What it offers.
    pub capacity: Capacity,
    /// What it can do (`gpu`, …), sorted.
    pub capabilities: Vec<String>,
    /// Where it is, in the owner's words; empty if not told.
    pub location: String,
    /// The highest epoch that it has seen; a coordinator with a lower one is stale.
    pub seen_epoch: Epoch,
    /// Attempts that it still holds from an earlier connection, running or finished.
    pub held: Vec<AttemptId>,
    /// Which walls its system gave to its runners.
    pub confinement: Confinement,
}

/// What a node offers at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capacity {
    /// Attempts that run at once. Zero while the owner has paused the node.
    pub slots: u16,
    /// Memory for all attempts together, in bytes.
    pub memory_bytes: u64,
}

/// How busy a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Attempts running.
    pub running: u16,
    /// Attempts waiting on the node.
    pub queued: u16,
    /// CPU use of the machine, in hundredths of a percent.
    pub cpu: u16,
    /// Memory of the node and its runners, in MiB.
    pub memory_mib: u32,
    /// Round trip measured by the node, in microseconds; zero when unknown.
    pub round_trip_micros: u32,
}

/// The right to run one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The attempt.
    pub attempt: AttemptId,
    /// The task.
    pub task: TaskId,
    /// The epoch in which it was granted.
    pub epoch: Epoch,
    /// What to run. Sent in full once per connection, then named.
    pub release: ReleaseRef,
    /// What to run it on.
    pub input: Input,
    /// Seed that the guest sees.
    pub seed: Digest,
    /// How urgent.
    pub priority: Priority,
    /// Time from the arrival of this lease until it ends, in milliseconds.
    pub millis: u64,
    /// Where to go on from.
    pub checkpoint: Option<Checkpoint>,
}

/// A release, in full or by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ReleaseRef {
    /// With the manifest and its signatures, which the node verifies itself.
    Full(Release),
    /// One that was sent in full on this connection.
    Known(ReleaseId),
}

/// The input of one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// How to read it.
    pub media_type: String,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Where they are.
    pub source: InputSource,
}

/// Where an input's bytes are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum InputSource {
    /// Here.
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    /// In the job's input set: fetch by task, `GET /v1/inputs/JOB/INDEX`, `len` bytes.
    Stored {
        /// How many bytes.
        len: u64,
    },
}

/// Reports with one signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportBatch {
    /// Encoded [`Report`]s: what was signed is what was received.
    pub reports: Vec<ReportBytes>,
    /// Signature of the node's key over the Merkle root of the reports' leaf hashes in
    /// [`crate::envelope::Domain::Reports`]; empty from the local host, which holds no key.
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}

/// One encoded [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportBytes(#[serde(with = "serde_bytes")] pub Vec<u8>);

/// How one attempt ended. Bound to everything that it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The attempt.
    pub attempt: AttemptId,
    /// The task.
    pub task: TaskId,
    /// Content id of the task ([`crate::content_id`]): binds input, component, seed and limits.
    pub content: Digest,
    /// What it ran on.
    pub engine: EngineId,
    /// How it ended. A body that is a blob was uploaded before.
    pub outcome: Outcome,
    /// Fuel used over all attempts that this one resumed.
    pub fuel_used: u64,
    /// Time in the sandbox, in microseconds.
    pub run_micros: u64,
    /// Log bytes that the guest wrote beyond its limit and that were dropped.
    pub log_bytes_dropped: u64,
    /// Who made the checkpoint that this attempt resumed; empty if it began at the start.
    pub chain: Vec<CheckpointLink>,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The attempt.
    pub attempt: AttemptId,
    /// Units done, in the guest's measure.
    pub done: u64,
    /// Units in all, if known.
    pub total: Option<u64>,
}

/// A line that a guest logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The attempt.
    pub attempt: AttemptId,
    /// How important.
    pub level: LogLevel,
    /// The text, `LOG_LINE_BYTES_MAX` at most.
    pub text: String,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For the author.
    Debug,
    /// For everyone.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
}

/// A checkpoint of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// The attempt.
    pub attempt: AttemptId,
    /// What another attempt would resume from.
    pub checkpoint: Checkpoint,
}

/// The coordinator takes a node in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The coordinator's epoch; a node refuses one below the highest it has seen.
    pub epoch: Epoch,
    /// Heartbeat period while the node holds leases or reports, in milliseconds.
    pub heartbeat_millis: u32,
    /// Heartbeat period while it holds nothing, in milliseconds.
    pub idle_heartbeat_millis: u32,
    /// Silence after which either side gives the connection up, in milliseconds.
    pub silence_millis: u32,
    /// The realm's signed policy: the node keeps the newest that it has seen.
    #[serde(with = "serde_bytes")]
    pub policy: Vec<u8>,
    /// Held attempts (of `Hello`) that are wanted no longer.
    pub unwanted: Vec<AttemptId>,
}

/// Why a coordinator closes a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The same node is connected already; the older connection was closed if it was silent.
    #[error("this node is connected already; stop the other process that uses its key")]
    Duplicate,
    /// The certificate is revoked.
    #[error("this node's certificate is revoked; ask the realm's owner for a new invitation")]
    Revoked,
    /// The node's engine is older than the realm allows.
    #[error("the realm asks for wasmtime {0} or newer; update hearth on this machine")]
    EngineTooOld(String),
    /// The realm is full.
    #[error("the realm has as many nodes as it allows; try again later")]
    Full,
    /// A message came that this state does not allow, or one that breaks a limit.
    #[error("protocol violation: {0}; update hearth on this machine, or report this")]
    Protocol(String),
    /// The coordinator stops.
    #[error("the coordinator is shutting down; reconnect later")]
    ShuttingDown,
    /// The node does not read what is sent to it.
    #[error("the node does not read fast enough")]
    Slow,
    /// The certificate is one of another role.
    #[error(
        "this door is for nodes, and the certificate is one of {0}; join with an invitation for a node"
    )]
    WrongRole(Role),
    /// What the realm trusts has changed, and what this connection has declined may be wanted again.
    #[error("the realm's trust has changed; connect again")]
    Rejoin,
}
