//! The fold: what each record changes in what is shown.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use hearth_store::{Entry, Position};
use hearth_wire::api::JobState;
use hearth_wire::record::{
    Fact, Failure, LeaseFact, Mode, ModeReason, Purpose, Record, ReleaseFacts, ReportFact,
    Standing, TaskEnd, Verdict,
};
use hearth_wire::{
    AttemptId, Epoch, JobId, KeyId, Millis, NodeId, ReleaseId, Seq, TaskId, TaskIndex, TrustPolicy,
};
use serde::{Deserialize, Serialize};

use super::job::JobView;
use super::news::Happening;
use super::node::Nodes;
use super::references::References;
use super::task::{OWNER, Stage, TaskView};
use crate::clock::WallTimes;
use crate::fact::ShellFact;
use crate::tables::{Change, Changed};

/// Past switches of the mode that are shown.
const SWITCHES_MAX: usize = 64;

/// Starts that are remembered: one each day for eleven years.
const STARTS_MAX: usize = 4_096;

/// Checkpoints of one task that are remembered: two for each attempt that may be live.
const CHECKPOINTS_PER_TASK_MAX: usize = 16;

/// Everything that is shown to clients, as of one record.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) seq: Seq,
    pub(crate) at: Millis,
    pub(crate) epoch: Epoch,
    pub(crate) mode: Mode,
    /// Past switches with their wall time, the newest first.
    pub(crate) switches: VecDeque<(Mode, ModeReason, u64)>,
    pub(crate) jobs: BTreeMap<JobId, JobView>,
    pub(crate) nodes: Nodes,
    pub(crate) releases: BTreeMap<ReleaseId, ReleaseView>,
    pub(crate) wall: WallTimes,
    pub(crate) totals: Totals,
    /// Jobs that were submitted with an idempotency key.
    keys: HashMap<(KeyId, String), JobId>,
    /// Live attempts, and whose they are.
    live: HashMap<AttemptId, Live>,
    /// The same by task, to end all attempts of one.
    by_task: BTreeMap<(TaskId, AttemptId), NodeId>,
    /// Reports that may yet become the result of their task: only of tasks that are being checked.
    candidates: HashMap<TaskId, Vec<Candidate>>,
    /// The checkpoints of each task that is not terminal: core names them by sequence number.
    checkpoints: BTreeMap<(TaskId, Seq), Position>,
    /// The records with which the newest epochs began, the oldest first.
    starts: VecDeque<(Seq, Epoch)>,
    /// Jobs that ended with this record.
    #[serde(skip)]
    ending: Vec<JobId>,
    /// What left, until somebody takes it.
    #[serde(skip)]
    changes: Vec<Change>,
    /// Which files are needed. Folded beside the records from what core says of them.
    pub(crate) references: References,
}

/// A report that may yet become the result of its task.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Candidate {
    attempt: AttemptId,
    position: Position,
    place: u32,
}

/// A release that jobs may use.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReleaseView {
    pub(crate) facts: ReleaseFacts,
    pub(crate) revoked: bool,
}

/// Counters since the first record.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) jobs: u64,
    pub(crate) tasks: u64,
    pub(crate) leases: u64,
    pub(crate) reports: u64,
    pub(crate) settled: u64,
    pub(crate) failed: u64,
    pub(crate) retries: u64,
    pub(crate) nodes_lost: u64,
}

/// A live attempt.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) task: TaskId,
    pub(crate) node: NodeId,
}

impl State {
    /// Folds one durable record. What listeners want to know is added to `news`, if there are any.
    pub(crate) fn apply(
        &mut self,
        entry: Entry,
        record: &Arc<Record>,
        news: &mut Option<Vec<Happening>>,
    ) {
        self.seq = entry.seq;
        self.at = record.at;
        let wall = self.wall.unix_millis(entry.position, record.at);
        let listened = news.is_some();
        let mut tell = |happening: Happening| {
            if let Some(news) = news {
                news.push(happening);
            }
        };
        match &record.fact {
            Fact::Started { epoch } => {
                self.epoch = *epoch;
                if self.starts.len() == STARTS_MAX {
                    self.starts.pop_front();
                }
                self.starts.push_back((entry.seq, *epoch));
                self.nodes.iter_mut().for_each(|node| {
                    (node.connected, node.draining) = (false, false);
                });
            }
            Fact::ReleaseAdded(facts) => {
                self.releases.insert(
                    facts.id,
                    ReleaseView {
                        facts: facts.clone(),
                        revoked: false,
                    },
                );
            }
            Fact::ReleaseRevoked { release } => {
                if let Some(view) = self.releases.get_mut(release) {
                    view.revoked = true;
                }
            }
            Fact::Submitted { job, spec } => {
                self.totals.jobs += 1;
                self.totals.tasks += u64::from(spec.inputs.count);
                if let Some(key) = &spec.options.idempotency_key {
                    self.keys.insert((spec.owner, key.clone()), *job);
                }
                let view = JobView::new(spec.clone(), wall);
                self.jobs.insert(*job, view);
                tell(Happening::Changed(*job));
            }
            Fact::JobEnded { job, how } => {
                self.end_job(*job, *how, wall);
                tell(Happening::Changed(*job));
            }
            Fact::JobsForgotten { jobs } => {
                for job in jobs {
                    self.forget_job(*job);
                }
            }
            Fact::NodeJoined { profile, resumed } => {
                let node = profile.node;
                self.nodes.joined(profile.clone());
                for job in self.drop_attempts(node, resumed) {
                    tell(Happening::Changed(job));
                }
            }
            Fact::NodeCapacity { node, capacity } => self.nodes.capacity(*node, *capacity),
            Fact::NodeLost { node } => {
                self.totals.nodes_lost += 1;
                if let Some(view) = self.nodes.get_mut(*node) {
                    view.connected = false;
                }
                for job in self.drop_attempts(*node, &[]) {
                    tell(Happening::Changed(job));
                }
            }
            Fact::NodeDraining { node } => {
                if let Some(view) = self.nodes.get_mut(*node) {
                    view.draining = true;
                }
            }
            Fact::NodeStanding {
                node,
                standing,
                reason,
            } => {
                if let Some(view) = self.nodes.get_mut(*node) {
                    view.standing = *standing;
                    view.reason.clone_from(reason);
                }
                if *standing == Standing::Quarantined {
                    for task in self.take_back(*node) {
                        let node = Some(*node);
                        tell(Happening::Amended { task, node });
                        tell(Happening::Changed(task.job));
                    }
                }
            }
            Fact::Leased { node, leases, .. } => {
                let mut last = None;
                for lease in leases {
                    self.leased(*node, lease);
                    tell(Happening::Leased {
                        task: lease.task,
                        attempt: lease.attempt,
                        node: *node,
                    });
                    if last.replace(lease.task.job) != Some(lease.task.job) {
                        tell(Happening::Changed(lease.task.job));
                    }
                }
            }
            Fact::LeasesEnded { attempts } => {
                for attempt in attempts {
                    if let Some(live) = self.end_attempt(*attempt) {
                        self.count_failure(live.node);
                        tell(Happening::Changed(live.task.job));
                    }
                }
            }
            Fact::Reported { reports, .. }
            | Fact::Merged {
                results: reports, ..
            } => {
                let node = match &record.fact {
                    Fact::Reported { node, .. } => Some(*node),
                    _ => None,
                };
                for (position, report) in reports.iter().enumerate() {
                    let amended = self.reported(node, report, entry.position, wall);
                    if let Some(node) = amended {
                        let task = report.task;
                        tell(Happening::Amended { task, node });
                    }
                    if matches!(
                        report.verdict,
                        Verdict::Settled
                            | Verdict::Provisional
                            | Verdict::Confirmed { .. }
                            | Verdict::Failed(_)
                    ) && listened
                        && let Some(view) = self.task(report.task)
                    {
                        tell(Happening::Result {
                            task: report.task,
                            record: Arc::clone(record),
                            report: position,
                            wall,
                            view,
                        });
                    }
                    tell(Happening::Changed(report.task.job));
                }
            }
            Fact::TasksFailed { tasks, .. } => {
                for task in tasks {
                    self.task_failed(*task, wall);
                    tell(Happening::Changed(task.job));
                }
            }
            Fact::ModeChanged { mode, reason } => {
                self.mode = *mode;
                self.switches.truncate(SWITCHES_MAX - 1);
                self.switches.push_front((*mode, *reason, wall));
                tell(Happening::Mode);
            }
            Fact::Shell(bytes) => {
                if let Ok(ShellFact::Clock { at, unix_millis }) = ShellFact::decode(bytes) {
                    self.wall.anchor(entry.position, at, unix_millis);
                }
            }
            Fact::Checkpointed { task, .. } => {
                self.checkpoints.insert((*task, entry.seq), entry.position);
                self.forget_old_checkpoints(*task);
            }
            Fact::Paused { .. }
            | Fact::Resumed { .. }
            | Fact::ModeWanted { .. }
            | Fact::Held { .. }
            | Fact::Suspicion { .. } => {}
        }
        if let Some(news) = news {
            news.extend(self.ending.iter().copied().map(Happening::Ended));
        }
        self.let_go();
    }

    /// Tasks of jobs that have ended leave: they never change again.
    fn let_go(&mut self) {
        for job in self.ending.drain(..) {
            let view = self.jobs.get_mut(&job);
            if let Some(tasks) = view.and_then(|view| view.take_ended(self.seq)) {
                self.changes.push(Change {
                    seq: self.seq,
                    job,
                    changed: Changed::Ended(Arc::new(tasks)),
                });
            }
        }
    }

    /// What left since this was last asked. Whoever folds asks behind each record, or few of them.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The epoch that a record belongs to; `None` if that is too long ago to be known.
    pub(crate) fn epoch_at(&self, seq: Seq) -> Option<Epoch> {
        let behind = self.starts.partition_point(|(start, _)| *start <= seq);
        let (_, epoch) = self.starts.get(behind.checked_sub(1)?)?;
        Some(*epoch)
    }

    /// A task of a job that has not ended, or ended with this very record.
    fn task(&self, task: TaskId) -> Option<TaskView> {
        self.jobs.get(&task.job)?.task(task.index).copied()
    }

    /// The job that a key made.
    pub(crate) fn by_key(&self, owner: KeyId, key: &str) -> Option<(JobId, &JobView)> {
        let job = *self.keys.get(&(owner, key.to_owned()))?;
        Some((job, self.jobs.get(&job)?))
    }

    /// The job and task of a live attempt, and its node.
    pub(crate) fn live(&self, attempt: AttemptId) -> Option<Live> {
        self.live.get(&attempt).copied()
    }

    /// Nodes that hold a lease of a task.
    pub(crate) fn holders(&self, task: TaskId) -> impl Iterator<Item = NodeId> {
        self.by_task
            .range((task, AttemptId(0))..=(task, AttemptId(u64::MAX)))
            .map(|(_, node)| *node)
    }

    /// Where the record of a task's checkpoint is.
    pub(crate) fn checkpoint(&self, task: TaskId, seq: Seq) -> Option<Position> {
        self.checkpoints.get(&(task, seq)).copied()
    }

    /// Whether a node has a live lease.
    pub(crate) fn has_lease(&self, node: NodeId) -> bool {
        let view = self.nodes.get(node);
        view.is_some_and(|view| !view.attempts.is_empty())
    }

    /// The tasks of which a node has a live lease.
    fn leased_tasks(&self, node: NodeId) -> impl Iterator<Item = TaskId> {
        let attempts = self.nodes.get(node).map(|view| &view.attempts);
        let attempts = attempts.into_iter().flatten();
        attempts.filter_map(|attempt| Some(self.live.get(attempt)?.task))
    }

    /// A node's live attempts, each with what it runs.
    pub(crate) fn leased_releases(
        &self,
        node: NodeId,
    ) -> impl Iterator<Item = (AttemptId, ReleaseId)> {
        let attempts = self.nodes.get(node).map(|view| &view.attempts);
        attempts.into_iter().flatten().filter_map(|attempt| {
            let job = self.live.get(attempt)?.task.job;
            Some((*attempt, self.jobs.get(&job)?.spec.release))
        })
    }

    /// The jobs of those tasks.
    pub(crate) fn leased_jobs(&self, node: NodeId) -> BTreeSet<JobId> {
        self.leased_tasks(node).map(|task| task.job).collect()
    }

    /// Where the records of their checkpoints are.
    pub(crate) fn leased_checkpoints(&self, node: NodeId) -> impl Iterator<Item = Position> {
        self.leased_tasks(node).flat_map(|task| {
            let range = (task, Seq(0))..=(task, Seq(u64::MAX));
            self.checkpoints.range(range).map(|(_, position)| *position)
        })
    }

    fn leased(&mut self, node: NodeId, lease: &LeaseFact) {
        self.totals.leases += 1;
        self.live.insert(
            lease.attempt,
            Live {
                task: lease.task,
                node,
            },
        );
        self.by_task.insert((lease.task, lease.attempt), node);
        if let Some(view) = self.nodes.get_mut(node) {
            view.attempts.insert(lease.attempt);
        }
        let Some(job) = self.jobs.get_mut(&lease.task.job) else {
            return;
        };
        let mut again = false;
        job.change(lease.task.index, |task| {
            again = task.attempts > 0 && lease.purpose == Purpose::Run;
            task.attempts = task.attempts.saturating_add(1);
            task.live = task.live.saturating_add(1);
        });
        if again {
            job.retries += 1;
            self.totals.retries += 1;
        }
    }

    /// How many attempts are live.
    pub(crate) fn live_count(&self) -> usize {
        self.live.len()
    }

    /// A node, or without one the owner of the job, said how a task ended. Gives `Some(who)` if a result
    /// of `who` was replaced.
    fn reported(
        &mut self,
        node: Option<NodeId>,
        report: &ReportFact,
        position: Position,
        wall: u64,
    ) -> Option<Option<NodeId>> {
        self.totals.reports += u64::from(node.is_some());
        self.end_attempt(report.attempt);
        let place = node.map_or(OWNER, |node| self.nodes.position(node).unwrap_or(u32::MAX));
        let trusted = node
            .and_then(|node| self.nodes.get(node))
            .is_some_and(|view| view.profile.kind.is_trusted());
        if matches!(report.verdict, Verdict::Provisional | Verdict::Differs) {
            let candidates = self.candidates.entry(report.task).or_default();
            candidates.push(Candidate {
                attempt: report.attempt,
                position,
                place,
            });
        }
        let confirmed = match report.verdict {
            Verdict::Confirmed { result } => self
                .candidates
                .get(&report.task)
                .and_then(|all| all.iter().find(|one| one.attempt == result))
                .copied(),
            _ => None,
        };
        let job = self.jobs.get_mut(&report.task.job)?;
        let checked = job.spec.options.trust != TrustPolicy::Fast;
        let mut replaced = None;
        let mut ended = false;
        job.change(report.task.index, |task| {
            let before = task.outcome().and(task.node());
            match report.verdict {
                Verdict::Settled | Verdict::Provisional => {
                    if task.stage() == Stage::Provisional {
                        replaced = before;
                    }
                    ended = report.verdict == Verdict::Settled;
                    let stage = if ended {
                        Stage::Settled
                    } else {
                        Stage::Provisional
                    };
                    task.set_outcome(stage, position, place);
                    task.verified = checked && ended && trusted;
                }
                Verdict::Confirmed { .. } => {
                    ended = true;
                    match confirmed {
                        Some(right) => {
                            if before != Some(right.place) {
                                replaced = before;
                            }
                            task.set_outcome(Stage::Settled, right.position, right.place);
                        }
                        None => task.set_stage(Stage::Settled),
                    }
                    task.verified = checked;
                }
                Verdict::Failed(_) => {
                    ended = true;
                    task.set_outcome(Stage::Failed, position, place);
                }
                Verdict::Differs | Verdict::Retry | Verdict::Noted => {}
            }
        });
        // The component is to blame, whichever task has shown it: core ends the rest of the job.
        if let Verdict::Failed(failure @ Failure::Unfit) = report.verdict {
            job.failure = Some(failure);
        }
        match report.verdict {
            Verdict::Failed(_) => self.totals.failed += 1,
            Verdict::Settled | Verdict::Confirmed { .. } => self.totals.settled += 1,
            _ => {}
        }
        if job.close_if_over(wall) {
            self.ending.push(report.task.job);
        }
        if let Some(node) = node {
            match report.verdict {
                Verdict::Retry | Verdict::Failed(_) => self.count_failure(node),
                Verdict::Noted => {}
                _ => {
                    if let Some(view) = self.nodes.get_mut(node) {
                        view.results += 1;
                    }
                }
            }
        }
        if ended {
            self.end_attempts_of(report.task);
            self.candidates.remove(&report.task);
            self.forget_checkpoints(report.task);
        }
        replaced.map(|place| self.nodes.at(place).map(|view| view.profile.node))
    }

    /// A task ended without a result, though no report said so.
    fn task_failed(&mut self, task: TaskId, wall: u64) {
        self.totals.failed += 1;
        self.end_attempts_of(task);
        self.candidates.remove(&task);
        self.forget_checkpoints(task);
        if let Some(job) = self.jobs.get_mut(&task.job) {
            job.change(task.index, |task| task.set_stage(Stage::Failed));
            if job.close_if_over(wall) {
                self.ending.push(task.job);
            }
        }
    }

    /// Takes back what is provisional from a node that was found wrong.
    fn take_back(&mut self, node: NodeId) -> Vec<TaskId> {
        let Some(place) = self.nodes.position(node) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        for (id, job) in self.jobs.iter_mut().filter(|(_, job)| job.ended.is_none()) {
            for index in (0..job.spec.inputs.count).map(TaskIndex) {
                let from_it = job.task(index).is_some_and(|task| {
                    task.stage() == Stage::Provisional && task.node() == Some(place)
                });
                if from_it {
                    job.change(index, TaskView::reopen);
                    taken.push(TaskId { job: *id, index });
                }
            }
        }
        for task in &taken {
            self.candidates.remove(task);
        }
        taken
    }

    fn forget_checkpoints(&mut self, task: TaskId) {
        while let Some((key, _)) = self
            .checkpoints
            .range((task, Seq(0))..=(task, Seq(u64::MAX)))
            .next()
        {
            let key = *key;
            self.checkpoints.remove(&key);
        }
    }

    /// Core goes on from the furthest checkpoint of each attempt, so older ones are not named again.
    fn forget_old_checkpoints(&mut self, task: TaskId) {
        let range = (task, Seq(0))..=(task, Seq(u64::MAX));
        let keys: Vec<_> = self.checkpoints.range(range).map(|(key, _)| *key).collect();
        for key in keys.iter().rev().skip(CHECKPOINTS_PER_TASK_MAX) {
            self.checkpoints.remove(key);
        }
    }

    fn forget_job(&mut self, job: JobId) {
        let Some(view) = self.jobs.remove(&job) else {
            return;
        };
        let tasks = view.spec.inputs.count;
        if let Some(key) = view.spec.options.idempotency_key {
            self.keys.remove(&(view.spec.owner, key));
        }
        self.changes.push(Change {
            seq: self.seq,
            job,
            changed: Changed::Forgotten { tasks },
        });
    }

    fn count_failure(&mut self, node: NodeId) {
        if let Some(view) = self.nodes.get_mut(node) {
            view.failures += 1;
        }
    }

    fn end_job(&mut self, id: JobId, how: TaskEnd, wall: u64) {
        let from = TaskId {
            job: id,
            ..TaskId::default()
        };
        let until = TaskId {
            job: JobId(id.0 + 1),
            ..TaskId::default()
        };
        let attempts: Vec<_> = self
            .by_task
            .range((from, AttemptId(0))..(until, AttemptId(0)))
            .map(|((_, attempt), _)| *attempt)
            .collect();
        for attempt in attempts {
            self.end_attempt(attempt);
        }
        self.candidates.retain(|task, _| task.job != id);
        self.checkpoints.retain(|(task, _), _| task.job != id);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let failed = job.counts.failed;
        let (stage, state) = match how {
            TaskEnd::Cancelled => (Stage::Cancelled, JobState::Cancelled),
            TaskEnd::Expired => (Stage::Expired, JobState::Expired),
            TaskEnd::Failed(_) => (Stage::Failed, JobState::Closed),
        };
        if let TaskEnd::Failed(failure) = how {
            job.failure = Some(failure);
        }
        job.end_open(stage);
        job.state = state;
        job.ended = Some(wall);
        self.ending.push(id);
        self.totals.failed += u64::from(job.counts.failed - failed);
    }

    /// Ends a live attempt: its task waits again, unless it has other attempts or is terminal.
    fn end_attempt(&mut self, attempt: AttemptId) -> Option<Live> {
        let live = self.live.remove(&attempt)?;
        self.by_task.remove(&(live.task, attempt));
        if let Some(view) = self.nodes.get_mut(live.node) {
            view.attempts.remove(&attempt);
        }
        if let Some(job) = self.jobs.get_mut(&live.task.job) {
            job.change(live.task.index, |task| {
                task.live = task.live.saturating_sub(1);
            });
        }
        Some(live)
    }

    fn end_attempts_of(&mut self, task: TaskId) {
        while let Some((&(_, attempt), _)) = self
            .by_task
            .range((task, AttemptId(0))..=(task, AttemptId(u64::MAX)))
            .next()
        {
            self.end_attempt(attempt);
        }
    }

    /// Ends all attempts of a node but those that it kept; gives the jobs that changed.
    fn drop_attempts(&mut self, node: NodeId, kept: &[AttemptId]) -> Vec<JobId> {
        let Some(view) = self.nodes.get_mut(node) else {
            return Vec::new();
        };
        let kept: std::collections::BTreeSet<_> = kept.iter().collect();
        let lost: Vec<_> = view
            .attempts
            .iter()
            .filter(|attempt| !kept.contains(attempt))
            .copied()
            .collect();
        view.failures += lost.len() as u64;
        let mut jobs: Vec<_> = lost
            .into_iter()
            .filter_map(|attempt| self.end_attempt(attempt))
            .map(|live| live.task.job)
            .collect();
        jobs.dedup();
        jobs
    }
}
