//! Steps: what core answers to an event.

use hearth_wire::message;
use hearth_wire::record::{Failure, Mode, ModeReason, Record, TaskEnd, Verdict};
use hearth_wire::{
    AttemptId, Digest, Epoch, JobId, NodeId, Priority, ReleaseId, Seq, SessionId, TaskId,
};

use crate::RequestId;

/// What core answers to an event.
///
/// The shell appends `records` to the journal, in order, and lets `effects` leave in order once the
/// last record that core had emitted by then is durable; with no records in this step that is the last
/// record of an earlier one ([`crate::Coordinator::seq`] after `handle`). Only effects for which
/// [`Effect::may_leave_at_once`] holds need not wait.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// To be journaled.
    pub records: Vec<Record>,
    /// To be done after that.
    pub effects: Vec<Effect>,
}

/// Something for the shell to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A request was carried out.
    Done {
        /// Which.
        request: RequestId,
        /// With what result.
        answer: Answer,
    },
    /// A request was not carried out. Nothing changed.
    Refused {
        /// Which.
        request: RequestId,
        /// Why, and what to do.
        refusal: RequestRefusal,
    },
    /// A node was taken in: send `Welcome`.
    Welcome {
        /// The connection.
        session: SessionId,
        /// The coordinator's epoch.
        epoch: Epoch,
        /// Attempts that it holds and nobody wants.
        unwanted: Vec<AttemptId>,
    },
    /// Work for a node.
    Grant {
        /// The connection.
        session: SessionId,
        /// Its node.
        node: NodeId,
        /// The leases.
        leases: Vec<Grant>,
    },
    /// Attempts that a node need not go on with.
    Cancel {
        /// The connection.
        session: SessionId,
        /// The attempts.
        attempts: Vec<AttemptId>,
    },
    /// Attempts to be parked.
    Pause {
        /// The connection.
        session: SessionId,
        /// The attempts.
        attempts: Vec<AttemptId>,
    },
    /// Parked attempts to go on with.
    Resume {
        /// The connection.
        session: SessionId,
        /// The attempts.
        attempts: Vec<AttemptId>,
    },
    /// Reports of these attempts are durable, or will never be wanted: the node may forget them.
    Settled {
        /// The connection over which they came.
        session: SessionId,
        /// The attempts.
        attempts: Vec<AttemptId>,
    },
    /// A node shall take no more work and leave when it is done.
    Drain {
        /// The connection.
        session: SessionId,
    },
    /// A connection must be closed.
    CloseSession {
        /// The connection.
        session: SessionId,
        /// What to tell the node.
        reason: message::Refusal,
    },
    /// A job's counts or state changed. At most one for each job and step.
    JobChanged {
        /// How it stands now.
        progress: JobProgress,
    },
    /// A task got a result, or its result was confirmed, or it ended without one.
    ResultAccepted {
        /// The task.
        task: TaskId,
        /// Whose report decided.
        attempt: AttemptId,
        /// The node of that attempt; for what the job's owner computed, the owner's key.
        node: NodeId,
        /// What was decided: `Settled`, `Provisional`, `Confirmed` or `Failed`.
        verdict: Verdict,
    },
    /// A provisional or final result was taken back; the task is run again.
    ResultAmended {
        /// The task.
        task: TaskId,
        /// Whose report was the result.
        attempt: AttemptId,
    },
    /// A blob must be kept for this holder.
    BlobHeld {
        /// For whom.
        holder: Holder,
        /// The blob.
        blob: Digest,
    },
    /// Whatever is kept for this holder need not be any more.
    BlobsReleased {
        /// For whom.
        holder: Holder,
    },
    /// The mode changed.
    ModeChanged {
        /// From now on.
        mode: Mode,
        /// Why.
        reason: ModeReason,
    },
}

impl Effect {
    /// Whether it says which blobs are kept.
    pub fn keeps_blobs(&self) -> bool {
        matches!(self, Self::BlobHeld { .. } | Self::BlobsReleased { .. })
    }

    /// Whether the effect says nothing about state, so that it need not wait for any record.
    /// These are refusals for what the request itself says. All others rest on jobs, releases or nodes
    /// of which the record may not be durable yet, so that a crash could take back what was told.
    pub fn may_leave_at_once(&self) -> bool {
        use RequestRefusal as R;
        matches!(
            self,
            Self::Refused {
                refusal: R::EmptyJob
                    | R::TooManyTasks { .. }
                    | R::BadOption { .. }
                    | R::FactTooLarge { .. },
                ..
            }
        )
    }
}

/// For whom a blob is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A release: its component.
    Release(ReleaseId),
    /// The inputs of a job, until it closes.
    Inputs(JobId),
    /// The outputs of a job, until it is forgotten.
    Outputs(JobId),
    /// The checkpoint of a task, until one that got further or the task's end.
    Checkpoint(TaskId),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The job exists.
    Submitted {
        /// Its number.
        job: JobId,
        /// The record that made it: views are new enough from here on.
        seq: Seq,
        /// How many tasks it has.
        tasks: u32,
        /// Whether an earlier submission with this idempotency key made it.
        existing: bool,
    },
    /// The results are part of the job, as far as it had none.
    Merged {
        /// Results that were taken.
        merged: u32,
        /// Results of tasks that had one or had ended.
        known: u32,
        /// Views are new enough from here on.
        seq: Seq,
    },
    /// The job is cancelled, or had closed before.
    Cancelled {
        /// Views are new enough from here on.
        seq: Seq,
    },
    /// The release can be used.
    ReleaseAdded {
        /// Views are new enough from here on.
        seq: Seq,
    },
    /// The release can be used no longer.
    ReleaseRevoked {
        /// Views are new enough from here on.
        seq: Seq,
    },
    /// The node gets no more work.
    Draining {
        /// Views are new enough from here on.
        seq: Seq,
    },
    /// The node may not connect any more.
    NodeRevoked {
        /// Views are new enough from here on.
        seq: Seq,
    },
    /// The shell's fact is journaled.
    Noted {
        /// Views are new enough from here on.
        seq: Seq,
    },
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestRefusal {
    /// The client names a release that nobody added.
    #[error("release {0} is not known here; add it first")]
    UnknownRelease(ReleaseId),
    /// The release was revoked.
    #[error("release {0} was revoked; use another one")]
    ReleaseRevoked(ReleaseId),
    /// The client names a job that never was, or is another's.
    #[error("there is no job {0} of yours; look at the list of jobs")]
    UnknownJob(JobId),
    /// Nobody by this name ever joined.
    #[error("node {0} is not known here; look at the list of nodes")]
    UnknownNode(NodeId),
    /// The job has no inputs.
    #[error("the job has no inputs; submit at least one")]
    EmptyJob,
    /// The job has too many inputs.
    #[error("the job has {tasks} inputs, at most {max} are allowed; submit it in parts")]
    TooManyTasks {
        /// Asked for.
        tasks: u32,
        /// Allowed.
        max: u32,
    },
    /// An option breaks its limit.
    #[error("option {field}: {problem}")]
    BadOption {
        /// The option.
        field: &'static str,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// The idempotency key was used for a job that asked for something else.
    #[error("this idempotency key belongs to {0}, which asks for something else; use a new key")]
    KeyReused(JobId),
    /// What a client brings as a result cannot be one of its job.
    #[error("result of {task}: {problem}; compute it again with this version of hearth")]
    BadResult {
        /// The task.
        task: TaskId,
        /// What is wrong.
        problem: &'static str,
    },
    /// The client has as many open tasks as it may have.
    #[error("you would have {open} open tasks, at most {max} are allowed; wait for some to end")]
    OwnerQuota {
        /// With this job.
        open: u64,
        /// Allowed.
        max: u64,
    },
    /// The realm has as much open work as it allows.
    #[error("the realm has as much open work as it allows; try again later")]
    Full,
    /// The shell's fact is larger than allowed. We are to blame.
    #[error("a fact of {bytes} bytes is more than the journal takes; please report this")]
    FactTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The realm has as many releases as it allows.
    #[error("the realm has as many releases as it allows; revoke some that are not used")]
    TooManyReleases,
}

/// One lease in an [`Effect::Grant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The attempt.
    pub attempt: AttemptId,
    /// The task.
    pub task: TaskId,
    /// What to run.
    pub release: ReleaseId,
    /// How urgent.
    pub priority: Priority,
    /// Time from arrival until the lease ends, in milliseconds.
    pub millis: u64,
    /// The [`hearth_wire::record::Fact::Checkpointed`] record to resume from.
    pub checkpoint: Option<Seq>,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobProgress {
    /// The job.
    pub job: JobId,
    /// Whether it is open, or how it closed.
    pub state: JobState,
    /// All tasks.
    pub tasks: u32,
    /// Tasks with at least one live attempt.
    pub leased: u32,
    /// Tasks with a provisional or final result.
    pub provisional: u32,
    /// Tasks with a settled result.
    pub settled: u32,
    /// Tasks that ended without a result.
    pub failed: u32,
    /// Tasks that were cancelled.
    pub cancelled: u32,
    /// Tasks that expired.
    pub expired: u32,
}

/// Whether a job is open, or how it closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Some task is not terminal.
    Open,
    /// Every task is terminal; each ended in its own way.
    Complete,
    /// It was ended as a whole.
    Ended(TaskEnd),
}

impl JobState {
    /// Why the whole job failed, if it did.
    pub fn failure(self) -> Option<Failure> {
        match self {
            Self::Ended(TaskEnd::Failed(failure)) => Some(failure),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_leaves_at_once_only_if_it_says_nothing_about_state() {
        let at_once = |refusal| {
            let request = RequestId(1);
            Effect::Refused { request, refusal }.may_leave_at_once()
        };
        let (tasks, max) = (2, 1);
        assert!(at_once(RequestRefusal::EmptyJob));
        assert!(at_once(RequestRefusal::TooManyTasks { tasks, max }));
        let (open, max) = (2, 1);
        for refusal in [
            RequestRefusal::KeyReused(JobId(1)),
            RequestRefusal::ReleaseRevoked(ReleaseId::default()),
            RequestRefusal::OwnerQuota { open, max },
            RequestRefusal::Full,
            RequestRefusal::UnknownJob(JobId(1)),
        ] {
            assert!(!at_once(refusal.clone()), "{refusal}");
        }
    }
}
