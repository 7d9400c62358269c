//! Records: the facts of which the coordinator's state is a fold, as they stand in the journal.
//!
//! One record is one journal entry, so the n-th record of a realm has sequence number n. A record
//! covers a batch or a range (all leases given to one node, all reports of one frame, every task of a
//! submission), never one row for each event of a task. Whoever folds records, core or a view, needs
//! nothing else: decisions are in them as [`Verdict`]s, not to be taken again.
//!
//! Enums are append-only, like messages; a changed record raises the wire version.

use serde::{Deserialize, Serialize};

use crate::message::Capacity;
use crate::{
    AttemptId, Checkpoint, Class, Digest, EngineId, EngineRange, Epoch, JobId, JobSpec, KeyId,
    Millis, NodeId, Outcome, ReleaseId, SessionId, TaskId, TaskLimits, TaskType,
};

/// One journal entry: something that happened, and when on core's clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Core's time, never less than that of the record before.
    pub at: Millis,
    /// What happened.
    pub fact: Fact,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// A coordinator began to live on this journal. No node is connected; leases go on for a while.
    Started {
        /// Above every epoch before it.
        epoch: Epoch,
    },
    /// A release whose signatures were verified may be used by jobs.
    ReleaseAdded(ReleaseFacts),
    /// A release must not run any more: its open jobs fail.
    ReleaseRevoked {
        /// The release.
        release: ReleaseId,
    },
    /// A job was accepted, all its tasks with it.
    Submitted {
        /// Its number, the next one.
        job: JobId,
        /// What was asked for.
        spec: JobSpec,
    },
    /// All tasks of a job that are not terminal end like this.
    JobEnded {
        /// The job.
        job: JobId,
        /// How its open tasks end.
        how: TaskEnd,
    },
    /// Jobs that closed long ago are forgotten; their outputs may go.
    JobsForgotten {
        /// The jobs, the first one closed first.
        jobs: Vec<JobId>,
    },
    /// A node is connected, for the first time or again. A live attempt of the node that is not
    /// resumed here never reached it, or was lost by it: its task waits again.
    NodeJoined {
        /// Who and what.
        profile: NodeProfile,
        /// Attempts that it still holds and that are wanted.
        resumed: Vec<AttemptId>,
    },
    /// A node offers more or less than before.
    NodeCapacity {
        /// The node.
        node: NodeId,
        /// What it offers now.
        capacity: Capacity,
    },
    /// A node's connection ended (or it did not come back after a start): its tasks wait again.
    NodeLost {
        /// The node.
        node: NodeId,
    },
    /// A node gets no new work.
    NodeDraining {
        /// The node.
        node: NodeId,
    },
    /// A node's standing changed.
    NodeStanding {
        /// The node.
        node: NodeId,
        /// What holds from now on.
        standing: Standing,
        /// Why, for people.
        reason: String,
    },
    /// Work was given to a node.
    Leased {
        /// The node.
        node: NodeId,
        /// The connection over which it goes.
        session: SessionId,
        /// The leases, attempts numbered upwards.
        leases: Vec<LeaseFact>,
    },
    /// Attempts whose lease ended without a report, or that were parked for too long: their tasks wait
    /// again.
    LeasesEnded {
        /// The attempts.
        attempts: Vec<AttemptId>,
    },
    /// Tasks ended without a result, though no report said so.
    TasksFailed {
        /// The tasks.
        tasks: Vec<TaskId>,
        /// Why.
        failure: Failure,
    },
    /// Attempts are parked for more urgent work.
    Paused {
        /// The node.
        node: NodeId,
        /// The attempts.
        attempts: Vec<AttemptId>,
    },
    /// Parked attempts go on.
    Resumed {
        /// The node.
        node: NodeId,
        /// The attempts.
        attempts: Vec<AttemptId>,
    },
    /// Reports of one node, each with what was decided about it.
    Reported {
        /// The node.
        node: NodeId,
        /// The reports that count for something; others are answered and leave no trace.
        reports: Vec<ReportFact>,
    },
    /// A node made a checkpoint of a live attempt.
    Checkpointed {
        /// The attempt.
        attempt: AttemptId,
        /// Its task.
        task: TaskId,
        /// What another attempt resumes from: granted by naming this record's sequence number.
        checkpoint: Checkpoint,
    },
    /// The mode ought to be this one; it changes when that has held for a while.
    ModeWanted {
        /// The mode that fits the present state.
        mode: Mode,
    },
    /// The mode changed.
    ModeChanged {
        /// From now on.
        mode: Mode,
        /// Why.
        reason: ModeReason,
    },
    /// Something outside of core watches a node. Raises checks in later policies; never isolates.
    Suspicion {
        /// The node.
        node: NodeId,
        /// From 0 (none) to 255.
        level: u8,
        /// Why, for people.
        reason: String,
    },
    /// Something that the shell around core must not forget (redeemed invitations, wall times): core
    /// does not interpret it. `SHELL_FACT_BYTES_MAX` at most.
    Shell(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Until then no run of a job is leased: its owner brings results.
    Held {
        /// The job.
        job: JobId,
        /// A time that has come lets the job go on.
        until: Millis,
    },
    /// Results that the owner of a job computed while the realm was away. Nobody held a lease of them:
    /// each gets an attempt that was never live.
    Merged {
        /// The job.
        job: JobId,
        /// Whose it is, and whose machine computed them.
        owner: KeyId,
        /// What they ran on.
        engine: EngineId,
        /// Each with an attempt of its own, numbered upwards. The verdicts are [`Verdict::Settled`] and
        /// [`Verdict::Provisional`].
        results: Vec<ReportFact>,
    },
}

/// What core needs to know of a verified manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseFacts {
    /// The release.
    pub id: ReleaseId,
    /// Who signed it.
    pub author: KeyId,
    /// SHA-256 of the component.
    pub component: Digest,
    /// Limits of one attempt.
    pub limits: TaskLimits,
    /// How results are compared.
    pub class: Class,
    /// What it is for.
    pub task_type: TaskType,
    /// What a node must have, sorted.
    pub capabilities: Vec<String>,
    /// Where it may run; empty for anywhere.
    pub locations: Vec<String>,
    /// Engines that it may run on.
    pub engines: EngineRange,
}

/// What core knows of a connected node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProfile {
    /// The node: its certificate's key.
    pub node: NodeId,
    /// The connection.
    pub session: SessionId,
    /// How far it is trusted. Comes from the certificate or the socketpair, never from `Hello`.
    pub kind: NodeKind,
    /// For people.
    pub name: String,
    /// What its results depend on.
    pub engine: EngineId,
    /// `x86_64`, `aarch64`, …
    pub architecture: String,
    /// What it offers.
    pub capacity: Capacity,
    /// What it can do, sorted.
    pub capabilities: Vec<String>,
    /// Where it is; empty if not told.
    pub location: String,
}

/// How far a node is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// A machine that is not ours: its word is a report, not a result.
    Volunteer,
    /// Marked by the root key: decides checks, takes work like a volunteer.
    Trusted,
    /// The local host: decides checks, takes work when volunteers cannot.
    Local,
}

impl NodeKind {
    /// Whether its runs decide checks.
    pub fn is_trusted(self) -> bool {
        self != Self::Volunteer
    }
}

/// Whether a node gets work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It does.
    Good,
    /// It gets none while a mismatch is open.
    Suspended,
    /// It gets none: two trusted runs agreed that it was wrong.
    Quarantined,
    /// Its certificate is revoked: it may not connect.
    Revoked,
}

/// One lease in a [`Fact::Leased`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseFact {
    /// The attempt.
    pub attempt: AttemptId,
    /// The task.
    pub task: TaskId,
    /// What the run is for.
    pub purpose: Purpose,
}

/// What a run is for. A node is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To get a result.
    Run,
    /// A second run beside a slow one in the tail of a job.
    Hedge,
    /// To compare with a result, on a trusted node.
    Check,
    /// To decide between two results that differ, on a trusted node.
    Arbitrate,
}

/// One report in a [`Fact::Reported`], or one result in a [`Fact::Merged`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportFact {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its task.
    pub task: TaskId,
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel used over all attempts that it resumed.
    pub fuel_used: u64,
    /// Time in the sandbox, in microseconds.
    pub run_micros: u64,
    /// What was decided.
    pub verdict: Verdict,
}

/// What a report did to its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// It is the task's result, and never changes.
    Settled,
    /// It is the task's result for now; a check follows.
    Provisional,
    /// It decides that what an earlier attempt reported (provisionally, or as one that differs) is the
    /// result, which never changes.
    Confirmed {
        /// Whose report is the result.
        result: AttemptId,
    },
    /// It differs from the task's result; a trusted run decides. The result is provisional still.
    Differs,
    /// Says nothing about the task, which waits and is leased again.
    Retry,
    /// The task ended without a result.
    Failed(Failure),
    /// It came from a node that has been found wrong since, or beside a live attempt that goes on:
    /// noted, without effect on the task.
    Noted,
}

/// Why a task ended without a result.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// As many attempts as the job allows ended without a result.
    #[error("every attempt ended without a result; see the attempts' reasons")]
    Attempts,
    /// A trusted node, or two others while none was there to try, could not run the component at all. The
    /// author is to blame.
    #[error("the component cannot be run; its author must publish one that fits its manifest")]
    Unfit,
    /// Three runs, two of them on trusted nodes, differ. The author is to blame.
    #[error("the component's results differ between runs; its author must make it deterministic")]
    Nondeterministic,
    /// The release was revoked.
    #[error("the release was revoked; submit the job with another release")]
    ReleaseRevoked,
}

/// How the open tasks of a job end together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TaskEnd {
    /// Somebody asked to stop.
    Cancelled,
    /// The job's deadline passed.
    Expired,
    /// They cannot succeed.
    Failed(Failure),
}

/// Where work goes now.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// To volunteers.
    Distributed,
    /// To volunteers and the local host.
    Hybrid,
    /// To the local host.
    #[default]
    Local,
}

/// Why the mode changed.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "kebab-case")]
pub enum ModeReason {
    /// No volunteer that may work is connected.
    #[error("no volunteer is connected that may take work")]
    NoVolunteers,
    /// Volunteers alone would take too long, or miss a deadline.
    #[error("volunteers alone would take too long for the work that waits")]
    Overflow,
    /// Volunteers can do the work that waits.
    #[error("volunteers can do the work that waits")]
    Enough,
}
