//! The oracle: an independent and simple-minded account of what core may do.
//!
//! It sees only what is durable (records, in order) and what left (effects). It shares no code with
//! core: where core has indices, it has loops.

mod checkpoint;
mod effect;
mod fact;
mod fair;
mod fit;
mod merge;
mod mode;
mod order;
mod report;
mod sample;

use std::collections::{BTreeMap, BTreeSet};

use hearth_core::Holder;
use hearth_wire::message::Capacity;
use hearth_wire::record::{Mode, NodeKind, NodeProfile, Purpose, Record, ReleaseFacts, Standing};
use hearth_wire::{
    AttemptId, Digest, EngineId, Epoch, JobId, JobSpec, NodeId, ReleaseId, Seq, SessionId, TaskId,
};

use checkpoint::Kept;
use fair::Fairness;
use order::Order;

/// Violations kept; one is enough to fail.
const VIOLATIONS_MAX: usize = 20;

/// What the oracle knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Oracle {
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) epoch: Option<Epoch>,
    /// When the coordinator last started.
    started_at: u64,
    pub(crate) releases: BTreeMap<ReleaseId, (ReleaseFacts, bool)>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) attempts: BTreeMap<AttemptId, Attempt>,
    pub(crate) sessions: BTreeMap<SessionId, NodeId>,
    last_session: SessionId,
    last_attempt: u64,
    pub(crate) granted: BTreeSet<AttemptId>,
    /// Attempts that a node reported for another task: their answer says nothing.
    pub(crate) misbound: BTreeSet<AttemptId>,
    /// Who made the checkpoint of a record.
    pub(crate) savers: BTreeMap<Seq, AttemptId>,
    /// Nodes that the next records must suspend or quarantine.
    owed: BTreeSet<NodeId>,
    /// When one of our own nodes was last disconnected.
    ours_left_at: Option<u64>,
    /// What must have left when the effects of the present step have.
    due: effect::Due,
    /// Blobs that the coordinator was told to keep.
    pub(crate) held: BTreeMap<Holder, BTreeSet<Digest>>,
    pub(crate) mode: Mode,
    /// The mode that fits, and since when, if it is not the present one.
    wanted: Option<(Mode, u64)>,
    /// When the local host last took work that volunteers might have done.
    overflow_at: Option<u64>,
    pub(crate) fairness: Fairness,
    pub(crate) order: Order,
    pub(crate) open_jobs: BTreeSet<usize>,
    pub(crate) settled: u64,
    pub(crate) violations: Vec<String>,
}

/// A job as the records tell it.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) spec: JobSpec,
    pub(crate) tasks: Vec<Task>,
    pub(crate) fresh: u32,
    /// No run of it is leased before then.
    pub(crate) held_until: u64,
    pub(crate) open: u32,
    pub(crate) counts: [u32; 6],
    pub(crate) leased: u32,
    /// Second runs so far.
    pub(crate) hedged: usize,
    pub(crate) submitted_at: u64,
    /// Nodes that could not run its component, until one of ours could.
    pub(crate) unfit: BTreeSet<NodeId>,
    pub(crate) expires: Option<u64>,
    /// Its component cannot be run: the next records must end it.
    pub(crate) doomed: bool,
}

impl Job {
    /// Whether some of its tasks were never leased.
    pub(crate) fn has_fresh(&self) -> bool {
        (self.fresh as usize) < self.tasks.len()
    }

    /// Its tasks that core takes for ones to be leased again: those that were leased before, and those in
    /// front of one that its owner brought the result of.
    fn leased_again(&self) -> impl Iterator<Item = &Task> {
        let passed = &self.tasks[..self.fresh as usize];
        let behind = &self.tasks[self.fresh as usize..];
        passed
            .iter()
            .chain(behind.iter().filter(|task| !task.history.is_empty()))
    }
}

/// A task as the records tell it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Task {
    pub(crate) state: State,
    /// Attempts that core may remember, in order.
    pub(crate) history: Vec<AttemptId>,
    pub(crate) result: Option<(AttemptId, Digest)>,
    pub(crate) other: Option<(AttemptId, Digest)>,
    pub(crate) live: u32,
    pub(crate) halves: u32,
    /// Not to be leased before this time.
    pub(crate) ready: u64,
    pub(crate) checkpoint: Option<Kept>,
}

/// How a task stands; also the index into a job's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum State {
    #[default]
    Open,
    Provisional,
    Settled,
    Failed,
    Cancelled,
    Expired,
}

/// A node as the records tell it.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) profile: Option<NodeProfile>,
    pub(crate) kind: NodeKind,
    /// What it ran when it was last here.
    pub(crate) engine: Option<EngineId>,
    pub(crate) capacity: Capacity,
    pub(crate) standing: Standing,
    pub(crate) draining: bool,
    pub(crate) declined: BTreeSet<ReleaseId>,
    /// Whether a wrong report stands in the records that is nobody's fault but its own.
    pub(crate) lied: bool,
    pub(crate) live: BTreeSet<AttemptId>,
    pub(crate) paused: BTreeSet<AttemptId>,
    pub(crate) rates: fair::Rates,
}

/// An attempt that has not been forgotten.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) task: TaskId,
    pub(crate) node: NodeId,
    pub(crate) engine: Option<EngineId>,
    pub(crate) purpose: Purpose,
    pub(crate) state: AttemptState,
    /// When it was first leased, whatever came then.
    pub(crate) granted_at: u64,
    /// When its lease ends, and since when that stands still.
    pub(crate) ends: u64,
    pub(crate) parked_at: Option<u64>,
    /// Whether it went on, at once or over others, from what another volunteer saved.
    pub(crate) borrowed: bool,
    /// The checkpoint that its grant must name.
    pub(crate) resumes: Option<Seq>,
}

/// How an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptState {
    Live,
    Lost,
    Failed,
    Reported,
    Void,
}

impl Oracle {
    /// Notes what must not be.
    pub(crate) fn violate(&mut self, invariant: &str, detail: impl std::fmt::Display) {
        if self.violations.len() < VIOLATIONS_MAX {
            let seq = self.seq;
            self.violations
                .push(format!("{invariant} (record {seq}): {detail}"));
        }
    }

    fn want(&mut self, holds: bool, invariant: &str, detail: impl std::fmt::Debug) {
        if !holds {
            self.violate(invariant, format!("{detail:?}"));
        }
    }

    /// Folds the next durable record. `truth` is the digest of a task's right outcome.
    pub(crate) fn record(&mut self, record: &Record, truth: &dyn Fn(TaskId) -> Digest) {
        self.seq += 1;
        self.want(record.at.0 >= self.at, "time never goes back", record.at);
        self.at = record.at.0;
        self.fact(&record.fact, truth);
    }

    pub(crate) fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(usize::try_from(id.0).ok()?.checked_sub(1)?)
    }

    fn job_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs
            .get_mut(usize::try_from(id.0).ok()?.checked_sub(1)?)
    }

    pub(crate) fn task(&self, id: TaskId) -> Option<&Task> {
        self.job(id.job)?.tasks.get(id.index.0 as usize)
    }

    fn task_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.job_mut(id.job)?.tasks.get_mut(id.index.0 as usize)
    }

    pub(crate) fn open_tasks(&self) -> u64 {
        let open = self
            .open_jobs
            .iter()
            .map(|job| u64::from(self.jobs[*job].open));
        open.sum()
    }

    /// An attempt holds no lease any more.
    fn unlive(&mut self, id: AttemptId, state: AttemptState) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        let was_live = attempt.state == AttemptState::Live;
        attempt.state = state;
        let (task, node) = (attempt.task, attempt.node);
        if !was_live {
            return;
        }
        self.due.end(id);
        if let Some(node) = self.nodes.get_mut(&node) {
            node.live.remove(&id);
            node.paused.remove(&id);
        }
        let (mut none_left, at) = (false, self.at);
        if let Some(task) = self.task_mut(task) {
            task.live -= 1;
            task.ready = at;
            none_left = task.live == 0;
        }
        if none_left && let Some(job) = self.job_mut(task.job) {
            job.leased -= 1;
        }
    }

    /// A task changes its state; ends at most once, and then nothing of it is left.
    fn enter(&mut self, id: TaskId, state: State) {
        let Some(task) = self.task(id) else {
            return self.violate("tasks are known", id);
        };
        let before = task.state;
        if before >= State::Settled {
            return self.violate(
                "a task has one terminal state",
                format!("{id} {before:?} {state:?}"),
            );
        }
        if state >= State::Settled {
            let history = task.history.clone();
            self.stop_others(id);
            for attempt in history {
                self.attempts.remove(&attempt);
            }
        }
        let Some(job) = self.job_mut(id.job) else {
            return;
        };
        job.counts[before as usize] -= 1;
        job.counts[state as usize] += 1;
        let task = &mut job.tasks[id.index.0 as usize];
        task.state = state;
        if state >= State::Settled {
            task.history = Vec::new();
            (task.result, task.other, task.checkpoint) = (None, None, None);
            job.open -= 1;
            let closed = job.open == 0;
            self.settled += u64::from(state == State::Settled);
            if closed {
                self.open_jobs.remove(&((id.job.0 - 1) as usize));
            }
        }
    }
}
