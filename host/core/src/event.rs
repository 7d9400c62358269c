//! Events: everything that can happen to core.
//!
//! The shell has verified what an event claims (signatures, certificates, content ids, sizes) before
//! it makes one. What remains for core is whether it fits the present state.

use hearth_wire::message::Capacity;
use hearth_wire::record::{NodeProfile, ReleaseFacts};
use hearth_wire::{
    AttemptId, Checkpoint, EngineId, JobId, JobSpec, KeyId, NodeId, Outcome, ReleaseId, SessionId,
    TaskId, TaskIndex,
};

/// Names a request of the shell, so that the answer finds its way back. Core does not look into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The first event of every life of a coordinator, after the journal was replayed.
    Started {
        /// Drawn at random by the shell.
        incarnation: u64,
    },
    /// A release was verified. Adding it again changes nothing and is acknowledged.
    ReleaseAdded {
        /// Whom to answer.
        request: RequestId,
        /// What its manifest says.
        facts: ReleaseFacts,
    },
    /// A release is not trusted any more.
    ReleaseRevoked {
        /// Whom to answer.
        request: RequestId,
        /// The release.
        release: ReleaseId,
    },
    /// A client wants a job done. The shell has seen the input set and its root.
    Submit {
        /// Whom to answer.
        request: RequestId,
        /// What is wanted.
        spec: JobSpec,
    },
    /// The same from a client that brings results of it: no run of the job is leased for a while, whether
    /// it is new or an earlier submission with the same key made it.
    SubmitHeld {
        /// Whom to answer.
        request: RequestId,
        /// What is wanted.
        spec: JobSpec,
    },
    /// A client brings results of its job that it computed while the realm was away. The shell has
    /// checked content ids, sizes, and that large outputs are stored.
    Merge {
        /// Whom to answer.
        request: RequestId,
        /// The job.
        job: JobId,
        /// Who brings them: the key of the client's certificate.
        owner: KeyId,
        /// What they ran on.
        engine: EngineId,
        /// The results; at most `MERGED_PER_REQUEST_MAX`.
        results: Vec<ResultIn>,
        /// Whether more follow, so that the job waits for them.
        more: bool,
    },
    /// A client wants a job done no longer.
    Cancel {
        /// Whom to answer.
        request: RequestId,
        /// The job.
        job: JobId,
        /// Who asks; `None` for an admin, who may cancel any job.
        owner: Option<KeyId>,
    },
    /// A node said hello. The shell has closed its own side of an older, silent connection, or
    /// leaves the choice to core, which then tells it to close the older one.
    NodeJoined {
        /// Who and what.
        profile: NodeProfile,
        /// Attempts that the node says it holds.
        held: Vec<AttemptId>,
    },
    /// A node's owner paused it, resumed it, or changed its limits.
    CapacityChanged {
        /// The node's connection.
        session: SessionId,
        /// What it offers now.
        capacity: Capacity,
    },
    /// A connection ended or was silent for too long.
    NodeLost {
        /// The connection. One that was replaced meanwhile is ignored.
        session: SessionId,
    },
    /// A node shall get no new work: it said goodbye, or an admin asked.
    NodeDrain {
        /// Whom to answer; `None` if the node itself asked.
        request: Option<RequestId>,
        /// The node.
        node: NodeId,
    },
    /// A node's certificate was revoked.
    NodeRevoked {
        /// Whom to answer.
        request: RequestId,
        /// The node.
        node: NodeId,
    },
    /// A node said how attempts ended.
    Reported {
        /// The node, as its certificate says.
        node: NodeId,
        /// The connection, for the answer.
        session: SessionId,
        /// The reports, content ids checked; at most `REPORTS_PER_BATCH_MAX`.
        reports: Vec<ReportIn>,
    },
    /// A node made a checkpoint; the chain of makers was verified.
    CheckpointMade {
        /// The node, as its certificate says.
        node: NodeId,
        /// The attempt.
        attempt: AttemptId,
        /// What another attempt would resume from.
        checkpoint: Checkpoint,
    },
    /// Behaviour of a node was judged outside of core. Journaled, and a seam for later policies.
    Suspicion {
        /// The node.
        node: NodeId,
        /// From 0 (none) to 255.
        level: u8,
        /// Why, for people.
        reason: String,
    },
    /// The shell wants something remembered; core journals it and does not look into it.
    Shell {
        /// Whom to answer, if anybody waits.
        request: Option<RequestId>,
        /// At most `SHELL_FACT_BYTES_MAX`.
        bytes: Vec<u8>,
    },
    /// Time has passed: [`crate::Coordinator::next_timeout`] is due. Harmless at any other time.
    Tick,
}

/// One result that the owner of a job computed.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultIn {
    /// Which task.
    pub index: TaskIndex,
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel used.
    pub fuel_used: u64,
    /// Time in the sandbox, in microseconds.
    pub run_micros: u64,
}

/// One report of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportIn {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its task, as the node says.
    pub task: TaskId,
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel used over all attempts that it resumed.
    pub fuel_used: u64,
    /// Time in the sandbox, in microseconds.
    pub run_micros: u64,
}
