//! Facts: each must be allowed by those before it.

use std::collections::BTreeSet;

use hearth_wire::record::{Fact, LeaseFact, NodeKind, NodeProfile, Purpose, Standing, TaskEnd};
use hearth_wire::{
    AttemptId, Digest, JobId, JobSpec, NodeId, SessionId, TaskId, TaskIndex, limits,
};

use super::{Attempt, AttemptState, Job, Node, Oracle, State, Task};
use crate::world::sim_config;

/// The longest time for which work is parked.
pub(super) const PARKED_MILLIS_MAX: u64 = 600_000;

impl Oracle {
    pub(super) fn fact(&mut self, fact: &Fact, truth: &dyn Fn(TaskId) -> Digest) {
        match fact {
            Fact::Started { epoch } => {
                let rises = self
                    .epoch
                    .is_none_or(|before| epoch.counter > before.counter);
                self.want(rises, "epochs rise", epoch);
                (self.epoch, self.started_at) = (Some(*epoch), self.at);
                self.sessions.clear();
                self.due.clear();
                let least = self.at + 2 * sim_config().reconnect_millis;
                for attempt in self.attempts.values_mut() {
                    if attempt.state == AttemptState::Live && attempt.parked_at.is_none() {
                        attempt.ends = attempt.ends.max(least);
                    }
                }
                for node in self.nodes.values_mut() {
                    if node.profile.is_some() && node.kind != NodeKind::Volunteer {
                        self.ours_left_at = Some(self.at);
                    }
                    node.profile = None;
                    node.declined.clear();
                }
            }
            Fact::ReleaseAdded(facts) => {
                let before = self.releases.insert(facts.id, (facts.clone(), false));
                self.want(before.is_none(), "a release is added once", facts.id);
            }
            Fact::ReleaseRevoked { release } => match self.releases.get_mut(release) {
                Some(known) => known.1 = true,
                None => self.violate("releases are known", release),
            },
            Fact::Submitted { job, spec } => self.submitted(*job, spec),
            Fact::JobEnded { job, how } => self.ended(*job, *how),
            Fact::JobsForgotten { jobs } => {
                for job in jobs {
                    let open = self.job(*job).is_none_or(|job| job.open > 0);
                    self.want(!open, "only closed jobs are forgotten", job);
                }
            }
            Fact::NodeJoined { profile, resumed } => self.joined(profile, resumed),
            Fact::NodeCapacity { node, capacity } => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.capacity.slots = capacity.slots;
                }
            }
            Fact::NodeLost { node } => {
                self.left(*node);
                self.lose_all(*node, &BTreeSet::new(), 1);
            }
            Fact::NodeDraining { node } => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.draining = true;
                }
            }
            Fact::NodeStanding { node, standing, .. } => self.standing(*node, *standing),
            Fact::Leased {
                node,
                session,
                leases,
            } => {
                self.weigh_choice(*node, leases);
                self.weigh_order(*node, leases);
                for lease in leases {
                    self.leased(*node, *session, lease);
                }
            }
            Fact::LeasesEnded { attempts } => {
                for attempt in attempts {
                    let known = self.attempts.get(attempt);
                    let live = known.is_some_and(|a| a.state == AttemptState::Live);
                    self.want(live, "only live leases end", attempt);
                    let parked = self.attempts.get(attempt).and_then(|a| a.parked_at);
                    let ends = self.attempts.get(attempt).map_or(0, |a| a.ends);
                    let due = parked.map_or(ends, |since| since + PARKED_MILLIS_MAX);
                    self.want(due <= self.at, "leases end when they are over", attempt);
                    self.call_off(*attempt);
                    self.unlive(*attempt, AttemptState::Lost);
                    // What was parked for others' sake says nothing against its node.
                    let halves = if parked.is_some() { 1 } else { 2 };
                    self.add_halves(*attempt, halves, true);
                }
            }
            Fact::TasksFailed { tasks, .. } => {
                for task in tasks {
                    let spent = self
                        .job(task.job)
                        .zip(self.task(*task))
                        .is_some_and(|(job, t)| {
                            t.live == 0
                                && t.halves >= u32::from(job.spec.options.attempts_max) * 2
                                && self.is_given_up(job, t)
                        });
                    self.want(
                        spent,
                        "a task fails after as many attempts as allowed",
                        task,
                    );
                    self.enter(*task, State::Failed);
                }
            }
            Fact::Paused { node, attempts } | Fact::Resumed { node, attempts } => {
                let pause = matches!(fact, Fact::Paused { .. });
                for attempt in attempts {
                    let changed = self.nodes.get_mut(node).is_some_and(|node| {
                        node.live.contains(attempt)
                            && if pause {
                                node.paused.insert(*attempt)
                            } else {
                                node.paused.remove(attempt)
                            }
                    });
                    self.want(
                        changed,
                        "live attempts are parked and go on in turn",
                        attempt,
                    );
                    if pause {
                        self.note_parked();
                    }
                    let session = self.session_of(*node);
                    self.due.park(session, *attempt, pause);
                    let at = self.at;
                    if let Some(attempt) = self.attempts.get_mut(attempt) {
                        let since = attempt.parked_at.take();
                        attempt.ends += since.map_or(0, |since| at - since);
                        attempt.parked_at = pause.then_some(at);
                    }
                }
            }
            Fact::Reported { node, reports } => {
                for report in reports {
                    self.reported(*node, report, truth);
                }
            }
            Fact::Checkpointed {
                attempt,
                task,
                checkpoint,
            } => self.checkpointed(*attempt, *task, checkpoint),
            Fact::ModeWanted { mode } => {
                self.wanted = (*mode != self.mode).then_some((*mode, self.at));
            }
            Fact::ModeChanged { mode, .. } => self.mode_changed(*mode),
            Fact::Suspicion { .. } | Fact::Shell(_) => {}
            Fact::Held { job, until } => self.held(*job, *until),
            Fact::Merged {
                job,
                owner,
                engine,
                results,
            } => {
                for result in results {
                    self.merged(*job, *owner, *engine, result);
                }
            }
        }
    }

    fn submitted(&mut self, id: JobId, spec: &JobSpec) {
        let next = JobId(self.jobs.len() as u64 + 1);
        self.want(id == next, "jobs are numbered densely", id);
        let usable = self
            .releases
            .get(&spec.release)
            .is_some_and(|(_, revoked)| !revoked);
        self.want(usable, "jobs run releases that may be used", id);
        if let Some(key) = &spec.options.idempotency_key {
            let twice = self.jobs.iter().any(|job| {
                job.spec.owner == spec.owner
                    && job.spec.options.idempotency_key.as_ref() == Some(key)
            });
            self.want(!twice, "an idempotency key makes one job", id);
        }
        let count = spec.inputs.count;
        self.want(count > 0, "a job has tasks", id);
        let open = self.open_tasks_of(spec.owner) + u64::from(count);
        let within = open <= sim_config().owner_tasks_max;
        self.want(within, "an owner has no more open tasks than allowed", open);
        self.jobs.push(Job {
            id,
            spec: spec.clone(),
            tasks: (0..count).map(|_| Task::default()).collect(),
            fresh: 0,
            held_until: 0,
            open: count,
            counts: [count, 0, 0, 0, 0, 0],
            leased: 0,
            hedged: 0,
            submitted_at: self.at,
            unfit: BTreeSet::new(),
            expires: spec.options.deadline_millis.map(|millis| self.at + millis),
            doomed: false,
        });
        self.open_jobs.insert(self.jobs.len() - 1);
    }

    fn ended(&mut self, id: JobId, how: TaskEnd) {
        let at = self.at;
        let Some(job) = self.job(id) else {
            return self.violate("jobs are known", id);
        };
        let (open, expires) = (job.open, job.expires);
        let (count, release) = (job.tasks.len() as u32, job.spec.release);
        self.want(open > 0, "only open jobs end", id);
        let state = match how {
            TaskEnd::Cancelled => State::Cancelled,
            TaskEnd::Expired => {
                let due = expires.is_some_and(|due| due <= at);
                self.want(due, "jobs expire at their deadline", id);
                State::Expired
            }
            TaskEnd::Failed(hearth_wire::record::Failure::ReleaseRevoked) => {
                let revoked = self
                    .releases
                    .get(&release)
                    .is_some_and(|(_, revoked)| *revoked);
                self.want(revoked, "jobs fail with their release", id);
                State::Failed
            }
            TaskEnd::Failed(_) => State::Failed,
        };
        for index in 0..count {
            let task = TaskId {
                job: id,
                index: TaskIndex(index),
            };
            if self
                .task(task)
                .is_some_and(|task| task.state < State::Settled)
            {
                self.enter(task, state);
            }
        }
    }

    fn joined(&mut self, profile: &NodeProfile, resumed: &[AttemptId]) {
        let id = profile.node;
        self.want(
            profile.session > self.last_session,
            "sessions rise",
            profile.session,
        );
        self.last_session = profile.session;
        let known = self.nodes.entry(id).or_insert_with(|| Node {
            profile: None,
            kind: profile.kind,
            engine: None,
            capacity: profile.capacity,
            standing: Standing::Good,
            draining: false,
            declined: BTreeSet::new(),
            lied: false,
            live: BTreeSet::new(),
            paused: BTreeSet::new(),
            rates: Default::default(),
        });
        let revoked = known.standing == Standing::Revoked;
        self.want(!revoked, "revoked nodes stay out", id);
        self.left(id);
        let keep: BTreeSet<_> = resumed.iter().copied().collect();
        self.lose_all(id, &keep, 1);
        for attempt in resumed {
            self.revived(id, *attempt);
            // It may have missed what was said last, or hold as parked what was given up and goes on.
            let found = self.attempts.get(attempt);
            let parked = found.is_some_and(|attempt| attempt.parked_at.is_some());
            self.due.park(Some(profile.session), *attempt, parked);
        }
        self.sessions.insert(profile.session, id);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.kind = profile.kind;
            node.engine = Some(profile.engine);
            node.capacity = profile.capacity;
            node.profile = Some(profile.clone());
            node.draining = false;
        }
    }

    fn revived(&mut self, node: NodeId, id: AttemptId) {
        let found = self.attempts.get(&id).cloned();
        let Some(attempt) = found.filter(|attempt| attempt.node == node) else {
            return self.violate("a node resumes its own attempts", id);
        };
        match attempt.state {
            AttemptState::Live => {}
            AttemptState::Lost => {
                let at = self.at;
                let lease = self.job(attempt.task.job);
                let lease = lease.map_or(0, |job| job.spec.options.lease_millis);
                if let Some(attempt) = self.attempts.get_mut(&id) {
                    attempt.state = AttemptState::Live;
                    attempt.parked_at = None;
                }
                if attempt.ends > at {
                    // Its node was only away: that cost nothing.
                    if let Some(task) = self.task_mut(attempt.task) {
                        task.halves -= 1;
                    }
                } else if let Some(attempt) = self.attempts.get_mut(&id) {
                    attempt.ends = at + lease;
                }
                self.make_live(id, attempt.task, node);
            }
            _ => self.violate("only awaited attempts are resumed", id),
        }
    }

    fn make_live(&mut self, id: AttemptId, task: TaskId, node: NodeId) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.live.insert(id);
        }
        let mut first = false;
        let mut live = 0;
        if let Some(task) = self.task_mut(task) {
            task.live += 1;
            live = task.live;
            first = live == 1;
        }
        if let Some(job) = self.job_mut(task.job) {
            job.leased += u32::from(first);
        }
        self.want(live <= 2, "a task has at most two live attempts", task);
    }

    fn left(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.declined.clear();
            if let Some(profile) = node.profile.take() {
                self.sessions.remove(&profile.session);
                if profile.kind != NodeKind::Volunteer {
                    self.ours_left_at = Some(self.at);
                }
            }
        }
    }

    fn lose_all(&mut self, id: NodeId, keep: &BTreeSet<AttemptId>, halves: u32) {
        let live = self.nodes.get(&id).map(|node| node.live.clone());
        for attempt in live.unwrap_or_default() {
            if !keep.contains(&attempt) {
                self.unlive(attempt, AttemptState::Lost);
                self.add_halves(attempt, halves, false);
            }
        }
    }

    /// Counts an attempt without a result, after which its task may have to wait for a while: 50 ms,
    /// twice as long for each attempt more, at most half a minute.
    pub(super) fn add_halves(&mut self, attempt: AttemptId, halves: u32, waits: bool) {
        let at = self.at;
        let task = self.attempts.get(&attempt).map(|attempt| attempt.task);
        if let Some(task) = task.and_then(|task| self.task_mut(task)) {
            task.halves += halves;
            let doubled = (1..task.halves / 2).fold(50, |wait: u64, _| (wait * 2).min(30_000));
            if waits && task.live == 0 {
                task.ready = at + doubled;
            }
        }
    }

    fn standing(&mut self, id: NodeId, standing: Standing) {
        let node = self.nodes.entry(id).or_insert_with(|| Node {
            profile: None,
            kind: NodeKind::Volunteer,
            engine: None,
            capacity: Default::default(),
            standing: Standing::Good,
            draining: false,
            declined: BTreeSet::new(),
            lied: false,
            live: BTreeSet::new(),
            paused: BTreeSet::new(),
            rates: Default::default(),
        });
        let before = node.standing;
        node.standing = standing;
        let guilty = node.lied && node.kind == NodeKind::Volunteer;
        if matches!(standing, Standing::Suspended | Standing::Quarantined) {
            self.want(guilty, "only a node that lied is shut out", id);
        }
        if standing != Standing::Good {
            self.owed.remove(&id);
        }
        self.want(before != Standing::Revoked, "revocation is for ever", id);
        if !matches!(standing, Standing::Quarantined | Standing::Revoked) {
            return;
        }
        // Blame takes back everything that is not settled.
        let results: Vec<_> = self
            .attempts
            .iter()
            .filter(|(attempt, a)| {
                let task = self.task(a.task);
                a.node == id
                    && task.is_some_and(|task| task.result.is_some_and(|(r, _)| r == **attempt))
            })
            .map(|(_, attempt)| attempt.task)
            .collect();
        for task in results {
            self.amend(task);
        }
        let live = self.nodes.get(&id).map(|node| node.live.clone());
        for attempt in live.unwrap_or_default() {
            self.call_off(attempt);
            self.unlive(attempt, AttemptState::Void);
        }
        if standing == Standing::Revoked {
            self.due.hang_up(self.session_of(id));
            self.left(id);
        }
    }

    /// A provisional result is taken back.
    pub(super) fn amend(&mut self, id: TaskId) {
        let Some(task) = self.task_mut(id) else {
            return;
        };
        let gone = [task.result.take(), task.other.take()];
        for (attempt, _) in gone.into_iter().flatten() {
            if let Some(task) = self.task_mut(id) {
                task.history.retain(|other| *other != attempt);
            }
            self.attempts.remove(&attempt);
            self.forget_checkpoint(id, attempt);
        }
        let at = self.at;
        if let Some(task) = self.task_mut(id) {
            task.ready = at;
        }
        self.enter(id, State::Open);
    }

    /// An attempt has an id that none before it had.
    pub(super) fn used_first(&mut self, attempt: AttemptId) {
        let counter = attempt.0 >> 24;
        let next = counter == self.last_attempt + 1 && !self.attempts.contains_key(&attempt);
        self.want(next, "attempts are never used twice", attempt);
        self.last_attempt = counter;
    }

    fn leased(&mut self, id: NodeId, session: SessionId, lease: &LeaseFact) {
        let (task_id, attempt) = (lease.task, lease.attempt);
        self.used_first(attempt);
        let (Some(job), Some(node)) = (self.job(task_id.job), self.nodes.get(&id)) else {
            return self.violate(
                "leases name jobs and nodes that exist",
                format!("{lease:?}"),
            );
        };
        let Some(task) = job.tasks.get(task_id.index.0 as usize) else {
            return self.violate("leases name tasks that exist", format!("{lease:?}"));
        };
        let check = matches!(lease.purpose, Purpose::Check | Purpose::Arbitrate);
        let fits = self.fits(node, job, check);
        let usable = node.is_usable();
        let here = self.sessions.get(&session) == Some(&id);
        let revoked = self
            .releases
            .get(&job.spec.release)
            .is_none_or(|(_, revoked)| *revoked);
        let declined = node.declined.contains(&job.spec.release);
        let mine = task
            .history
            .iter()
            .filter_map(|a| self.attempts.get(a))
            .filter(|a| a.node == id);
        let (mut twice, mut failed, mut had) = (false, false, false);
        for before in mine {
            twice |= before.state == AttemptState::Live;
            failed |= before.state == AttemptState::Failed;
            had = true;
        }
        let volunteer = node.kind == NodeKind::Volunteer;
        let early = lease.purpose != Purpose::Hedge && self.at < task.ready;
        let limit = u32::from(job.spec.options.attempts_max) * 2;
        let run = lease.purpose == Purpose::Run;
        let spent = task.halves >= limit && (self.had_by_ours(task) || (run && volunteer));
        let ours_next =
            run && task.halves > 0 && task.halves + 2 >= limit && self.awaits_ours(job, task);
        let full = node.live.len() >= limits::LEASES_PER_NODE_MAX;
        let state = task.state;
        let (free, prefetches) = (node.free_slots(), node.kind != NodeKind::Local);
        let fresh = job.fresh == task_id.index.0 && task.history.is_empty();
        let live = task.live;
        let held = !check && self.at < job.held_until;
        let contested = task.other.is_some();
        let detail = || format!("{lease:?} to {id}");
        if !usable {
            self.violate("leases only to nodes that may get work", detail());
        }
        if !here {
            self.violate("leases go over the node's present connection", detail());
        }
        if !fits {
            self.violate("leases only to nodes that fit the job", detail());
        }
        if revoked {
            self.violate("revoked releases do not run", detail());
        }
        if declined {
            self.violate("a node that declined a release gets none of it", detail());
        }
        if twice {
            self.violate("a node has a task once", detail());
        }
        if full || (free == 0 && !prefetches) {
            self.violate("a node gets no more than it may hold", detail());
        }
        let phase_fits = match lease.purpose {
            Purpose::Run => state == State::Open && live == 0,
            Purpose::Hedge => state == State::Open && live == 1,
            Purpose::Check => state == State::Provisional && live == 0 && !contested,
            Purpose::Arbitrate => state == State::Provisional && live == 0 && contested,
        };
        if !phase_fits {
            self.violate(
                "a lease has a purpose",
                format!("{} {state:?} {live}", detail()),
            );
        }
        if held {
            self.violate("what its owner brings results of is not run", detail());
        }
        if early {
            self.violate("a failed task waits before it is leased again", detail());
        }
        if spent && live == 0 {
            self.violate("a task has as many attempts as allowed", detail());
        }
        if ours_next && volunteer {
            self.violate("the last attempt is for one of our own nodes", detail());
        }
        if failed && volunteer {
            self.violate("no volunteer gets what it failed", detail());
        }
        if had
            && !check
            && let Some(other) = self.another(task_id, id)
        {
            let detail = format!("{}, {other} could have it", detail());
            self.violate("a failed task goes to another node", detail);
        }
        if self.owed.contains(&id) {
            self.violate("who is found wrong gets nothing more", detail());
        }
        let borrowed = self.borrows(task_id, lease.purpose, id);
        let (at, engine) = (self.at, self.nodes.get(&id).and_then(|node| node.engine));
        let compared = self.task(task_id).and_then(|task| task.result);
        let compared = compared.and_then(|(result, _)| self.attempts.get(&result));
        if check && compared.is_some_and(|result| result.engine != engine) {
            // All of ours run one engine here, and only that gets what is checked.
            self.violate("a result is checked on its own engine", detail());
        }
        let ends = self.job(task_id.job);
        let ends = at + ends.map_or(0, |job| job.spec.options.lease_millis);
        let resumes = self.furthest(task_id, lease.purpose).map(|kept| kept.seq);
        self.attempts.insert(
            attempt,
            Attempt {
                task: task_id,
                node: id,
                engine,
                purpose: lease.purpose,
                state: AttemptState::Live,
                granted_at: at,
                ends,
                parked_at: None,
                borrowed,
                resumes,
            },
        );
        if let Some(job) = self.job_mut(task_id.job) {
            job.fresh += u32::from(fresh);
            job.tasks[task_id.index.0 as usize].history.push(attempt);
        }
        if lease.purpose == Purpose::Hedge {
            self.weigh_hedge(task_id.job);
        }
        self.make_live(attempt, task_id, id);
        self.note_overflow(attempt);
        self.weigh_prefetch(id, attempt);
    }
}
