//! Jobs and their tasks: sixteen bytes for each task until it is leased.

use std::collections::BTreeSet;

use hearth_wire::record::TaskEnd;
use hearth_wire::sparse::Blank;
use hearth_wire::{
    Digest, JobId, KeyId, Millis, NodeId, Priority, ReleaseId, TaskId, TaskIndex, TrustPolicy,
};
use serde::{Deserialize, Serialize};

use crate::attempt::NONE;
use crate::median::Histogram;
use crate::queue::OwnerIndex;
use crate::shape::ShapeIndex;
use crate::step::{JobProgress, JobState};

/// An open job.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) release: ReleaseId,
    pub(crate) owner: OwnerIndex,
    pub(crate) priority: Priority,
    pub(crate) trust: TrustPolicy,
    pub(crate) submitted_at: Millis,
    pub(crate) lease_millis: u64,
    pub(crate) attempts_max: u8,
    pub(crate) deadline: Option<Millis>,
    /// Virtual finish time of its next turn among those of its owner's jobs, in microseconds; see
    /// [`Owner::finish`](crate::queue::Owner::finish).
    pub(crate) finish: u64,
    /// No run is leased before then: its owner brings results.
    pub(crate) held_until: Millis,
    pub(crate) spec: Digest,
    pub(crate) idempotency_key: Option<String>,
    /// What a node needs for a run, and for a check.
    pub(crate) shape: ShapeIndex,
    pub(crate) check_shape: Option<ShapeIndex>,
    #[serde(with = "hearth_wire::sparse")]
    pub(crate) cells: Vec<Cell>,
    /// Tasks from here on were never leased.
    pub(crate) fresh: u32,
    /// Tasks that wait to be leased again, not before the time given.
    pub(crate) runs: BTreeSet<(Millis, u32)>,
    /// Tasks with a provisional result that wait for a trusted run, not before the time given.
    pub(crate) checks: BTreeSet<(Millis, u32)>,
    /// Slots of live attempts.
    pub(crate) live: Vec<u32>,
    pub(crate) leased: u32,
    pub(crate) provisional: u32,
    pub(crate) settled: u32,
    pub(crate) failed: u32,
    pub(crate) cancelled: u32,
    pub(crate) expired: u32,
    /// Second runs that the tail has cost so far.
    pub(crate) hedged: u32,
    /// Whether it cannot succeed any more, though it has not ended yet.
    pub(crate) doomed: bool,
    /// Nodes that found that its component cannot be run; two are enough, unless one of ours is there to
    /// have the last word.
    pub(crate) unfit: BTreeSet<NodeId>,
    pub(crate) ended: Option<TaskEnd>,
    pub(crate) run_times: Histogram,
    /// Whether the job stands in its shapes' queues, and the timers that are set for it.
    pub(crate) queued: [bool; 2],
    pub(crate) wake_at: Option<Millis>,
    pub(crate) tail_at: Option<Millis>,
    pub(crate) spent_at: Option<Millis>,
}

/// A job that closed and is remembered for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClosedJob {
    pub(crate) owner: KeyId,
    pub(crate) spec: Digest,
    pub(crate) tasks: u32,
    pub(crate) idempotency_key: Option<String>,
}

/// What core keeps of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) phase: Phase,
    pub(crate) wait: Wait,
    /// Attempts that ended without a result, in halves: one that only lost its node counts one half.
    pub(crate) halves: u8,
    /// Live attempts.
    pub(crate) live: u8,
    /// The newest remembered attempt.
    pub(crate) head: u32,
    /// Its time in [`Job::runs`] or [`Job::checks`], while it waits there.
    pub(crate) ready_at: Millis,
}

/// How a task stands. The last four are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// No result yet.
    Open,
    /// It has a result that a check may still change.
    Provisional,
    /// It has a result that never changes.
    Settled,
    /// It ended without a result.
    Failed,
    /// Its job was cancelled.
    Cancelled,
    /// Its job's deadline passed.
    Expired,
}

/// Where a task waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// Nowhere: it is leased, or terminal.
    Nowhere,
    /// Behind [`Job::fresh`].
    Fresh,
    /// In [`Job::runs`] since it may be leased from then on.
    Run,
    /// In [`Job::checks`].
    Check,
}

impl Cell {
    pub(crate) const FRESH: Self = Self {
        phase: Phase::Open,
        wait: Wait::Fresh,
        halves: 0,
        live: 0,
        head: NONE,
        ready_at: Millis(0),
    };
}

impl Phase {
    pub(crate) fn is_terminal(self) -> bool {
        self >= Self::Settled
    }
}

/// In snapshots, tasks that were never leased are only counted.
impl Blank for Cell {
    const BLANK: Self = Self::FRESH;
}

/// A lane of a job: what kind of run waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Lane {
    /// Checks and arbitration, on trusted nodes; before runs, because results wait for them.
    Check,
    /// First runs and repeated ones.
    Run,
}

impl Job {
    pub(crate) fn count(&self) -> u32 {
        self.cells.len() as u32
    }

    /// Whether a task has had all the attempts that the job allows.
    pub(crate) fn is_spent(&self, cell: &Cell) -> bool {
        u16::from(cell.halves) >= u16::from(self.attempts_max) * 2
    }

    /// Tasks that wait though they have had all the attempts that the job allows.
    pub(crate) fn spent(&self) -> impl Iterator<Item = TaskId> {
        let waiting = self.runs.iter().chain(&self.checks);
        let spent = waiting.filter(|(_, index)| self.is_spent(&self.cells[*index as usize]));
        spent.map(|(_, index)| TaskId {
            job: self.id,
            index: TaskIndex(*index),
        })
    }

    /// Whether the next attempt of a task may be its last.
    pub(crate) fn is_last(&self, cell: &Cell) -> bool {
        u16::from(cell.halves) + 2 >= u16::from(self.attempts_max) * 2
    }

    /// Tasks that wait for a run, whether or not their time has come.
    pub(crate) fn waiting(&self) -> u64 {
        u64::from(self.count() - self.fresh) + self.runs.len() as u64
    }

    /// Whether its owner brings results, so that none of its tasks is run meanwhile.
    pub(crate) fn is_held(&self, now: Millis) -> bool {
        now < self.held_until
    }

    /// Whether something in the lane may be leased at `now`.
    pub(crate) fn is_ready(&self, lane: Lane, now: Millis) -> bool {
        let due = |set: &BTreeSet<(Millis, u32)>| set.first().is_some_and(|(at, _)| *at <= now);
        match lane {
            Lane::Run if self.is_held(now) => false,
            Lane::Run => self.fresh < self.count() || due(&self.runs),
            Lane::Check => due(&self.checks),
        }
    }

    /// When the next task that is not ready becomes so. Others that are ready may wait in front of it,
    /// because the nodes that idle may not have them.
    pub(crate) fn next_wake(&self, now: Millis) -> Option<Millis> {
        let later = |set: &BTreeSet<(Millis, u32)>| {
            let mut later = set.range((now.plus(1), 0)..);
            later.next().map(|(at, _)| *at)
        };
        let held = self.is_held(now).then_some(self.held_until);
        let times = [later(&self.runs), later(&self.checks), held];
        times.into_iter().flatten().min()
    }

    pub(crate) fn shape_of(&self, lane: Lane) -> Option<ShapeIndex> {
        match lane {
            Lane::Run => Some(self.shape),
            Lane::Check => self.check_shape,
        }
    }

    pub(crate) fn terminal(&self) -> u32 {
        self.settled + self.failed + self.cancelled + self.expired
    }

    pub(crate) fn progress(&self) -> JobProgress {
        let state = match self.ended {
            Some(end) => JobState::Ended(end),
            None if self.terminal() == self.count() => JobState::Complete,
            None => JobState::Open,
        };
        JobProgress {
            job: self.id,
            state,
            tasks: self.count(),
            leased: self.leased,
            provisional: self.provisional,
            settled: self.settled,
            failed: self.failed,
            cancelled: self.cancelled,
            expired: self.expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_task_costs_sixteen_bytes() {
        assert_eq!(size_of::<Cell>(), 16);
    }
}
