//! Which tasks of a job a node gets.

use hearth_wire::record::{LeaseFact, NodeKind, Purpose};
use hearth_wire::{EngineId, Millis, TaskId};

use super::Turn;
use crate::Coordinator;
use crate::attempt::AttemptState;
use crate::fold::task_of;
use crate::job::{Cell, Job, Lane};
use crate::node::{Node, NodeIndex};
use crate::shape::{Shape, Who};

/// Waiting tasks looked at for one node, and those looked at once more by one that would idle: those
/// that it may not have cost no more than this.
const LOOK_MAX: usize = 16;
const LOOK_MORE_MAX: usize = 1_024;

/// Nodes that declined a release and are looked at to count those that did not. Beyond it, a task may
/// have to wait for its lease to end on a node before it is given to the same one again.
const DECLINERS_LOOK_MAX: usize = 1_024;

/// Whether the local host may take a job's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtHome {
    /// Whatever waits.
    All,
    /// Only tasks that no volunteer may have any more.
    Left,
}

impl Coordinator {
    /// Up to `most` tasks of a job's lane that the node may have now, in order.
    pub(super) fn pick(
        &self,
        turn: &Turn<'_>,
        index: NodeIndex,
        job: &Job,
        lane: Lane,
        most: usize,
    ) -> Vec<(TaskId, Purpose)> {
        let mut picked = Vec::new();
        let Some(node) = self.nodes.at(index) else {
            return picked;
        };
        let Some(shape) = job.shape_of(lane).and_then(|shape| self.fits.shape(shape)) else {
            return picked;
        };
        if node.declined.contains(&job.release) {
            return picked;
        }
        // Volunteers could not run the component: one of ours has the last word on that.
        let in_doubt = lane == Lane::Run && job.unfit.len() >= 2 && self.ours(job, shape) > 0;
        if in_doubt && !node.kind.is_trusted() {
            return picked;
        }
        let home = match lane {
            Lane::Check => AtHome::All,
            Lane::Run if in_doubt => AtHome::All,
            Lane::Run => self.at_home(turn, node, job, shape),
        };
        let set = match lane {
            Lane::Check => &job.checks,
            Lane::Run => &job.runs,
        };
        let due = set.iter().take_while(|(at, _)| *at <= turn.now);
        // Some stay behind for other nodes; behind them come more that this one may have. What the local
        // host leaves to volunteers, they will soon have taken away from in front of the rest.
        let others = lane == Lane::Run && (home == AtHome::Left || job.fresh < job.count());
        let more = !others && node.free_slots() > 0;
        for (looked, (_, task)) in due.take(LOOK_MORE_MAX).enumerate() {
            let enough = looked >= LOOK_MAX + most && !(more && picked.is_empty());
            if picked.len() >= most || enough {
                break;
            }
            let task = task_of(job, *task);
            let may_have = if in_doubt {
                self.may_decide(index, job, shape, task)
            } else {
                self.may_have(index, job, shape, task, home, lane)
            };
            if may_have {
                picked.push((task, self.purpose(task, lane)));
            }
        }
        if lane == Lane::Run && home == AtHome::All {
            let room = most - picked.len();
            let fresh = (job.fresh..job.count()).take(room);
            picked.extend(fresh.map(|task| (task_of(job, task), Purpose::Run)));
        }
        picked
    }

    fn purpose(&self, task: TaskId, lane: Lane) -> Purpose {
        if lane == Lane::Run {
            return Purpose::Run;
        }
        let head = self
            .cell(task)
            .map_or(crate::attempt::NONE, |cell| cell.head);
        let mut chain = self.attempts.chain(head);
        if chain.any(|(_, attempt)| matches!(attempt.state, AttemptState::Other(_))) {
            Purpose::Arbitrate
        } else {
            Purpose::Check
        }
    }

    /// Whether a node may have a task that waits again.
    ///
    /// Its last attempt is for one of our own nodes ([`Coordinator::awaits_ours`]), and so is one beyond
    /// that.
    ///
    /// A volunteer never gets a task that it failed: with nobody else there the task waits for another
    /// node. Our own nodes (trusted ones, the local host) are the last resort, so one of them gets a
    /// task that it failed when no other node is there that could take it. The same holds for any node
    /// that had the task and lost it without failing: by a broken connection, a lease that ended, a
    /// stop by its owner.
    fn may_have(
        &self,
        index: NodeIndex,
        job: &Job,
        shape: &Shape,
        task: TaskId,
        home: AtHome,
        lane: Lane,
    ) -> bool {
        let (Some(cell), Some(node)) = (self.cell(task), self.nodes.at(index)) else {
            return false;
        };
        let engine = match lane {
            Lane::Check => self.check_engine(shape, cell.head),
            Lane::Run => None,
        };
        if engine.is_some_and(|engine| engine != node.engine) {
            return false;
        }
        let (mut mine, mut had) = (false, Vec::new());
        for (_, attempt) in self.attempts.chain(cell.head) {
            if attempt.node == index {
                let failed = attempt.state == AttemptState::Failed && !node.kind.is_trusted();
                if attempt.state.is_live() || failed {
                    return false;
                }
                mine = true;
            }
            had.push(attempt.node);
        }
        let last = cell.halves > 0 && job.is_last(cell) && self.awaits_ours(job, cell);
        if lane == Lane::Run && (job.is_spent(cell) || last) {
            return node.kind.is_trusted();
        }
        if !mine && home == AtHome::All {
            return true;
        }
        had.sort_unstable();
        had.dedup();
        had.retain(|other| {
            let other = self.nodes.at(*other);
            other.is_some_and(|other| {
                takes(shape, other)
                    && !other.declined.contains(&job.release)
                    && engine.is_none_or(|engine| engine == other.engine)
            })
        });
        let (all, volunteers) = self.takers(job, shape, engine);
        let nobody_new = all <= had.len() as u64;
        match home {
            AtHome::All => nobody_new,
            AtHome::Left => {
                let others = had.iter().filter_map(|other| self.nodes.at(*other));
                let others = others.filter(|other| other.kind != NodeKind::Local);
                volunteers <= others.count() as u64 && (!mine || nobody_new)
            }
        }
    }

    /// Whether one of our own nodes that fits is there and none of them has had the task. Volunteers
    /// alone never fail a task: while this holds, a task that has had all its attempts gets one more.
    fn awaits_ours(&self, job: &Job, cell: &Cell) -> bool {
        let shape = self.fits.shape(job.shape);
        !self.had_by_ours(cell) && shape.is_some_and(|shape| self.ours(job, shape) > 0)
    }

    /// Whether a task that has had all its attempts gets no further one: one of our own nodes has had it,
    /// or none is there and none has left so lately that it may be back at once, as after a start.
    pub(super) fn is_given_up(&self, job: &Job, cell: &Cell) -> bool {
        let now = self.now.max(self.clock);
        let hold = self.config.reconnect_millis;
        let lately = self.ours_left_at.is_some_and(|at| now < at.plus(hold));
        self.had_by_ours(cell) || !(lately || self.awaits_ours(job, cell))
    }

    fn had_by_ours(&self, cell: &Cell) -> bool {
        self.attempts.chain(cell.head).any(|(_, attempt)| {
            let node = self.nodes.at(attempt.node);
            node.is_some_and(|node| node.kind.is_trusted())
        })
    }

    /// Whether one of our own nodes may say with a task if a component can be run at all: any that has
    /// not had it, and one that had it when no other of ours is there.
    fn may_decide(&self, index: NodeIndex, job: &Job, shape: &Shape, task: TaskId) -> bool {
        let Some(cell) = self.cell(task) else {
            return false;
        };
        let mut had = std::collections::BTreeSet::new();
        for (_, attempt) in self.attempts.chain(cell.head) {
            if attempt.node == index && attempt.state.is_live() {
                return false;
            }
            let node = self.nodes.at(attempt.node);
            let takes = node.is_some_and(|node| {
                node.kind.is_trusted()
                    && takes(shape, node)
                    && !node.declined.contains(&job.release)
            });
            if takes {
                had.insert(attempt.node);
            }
        }
        !had.contains(&index) || self.ours(job, shape) <= had.len() as u64
    }

    /// How many of our own nodes would take a job's runs now.
    pub(super) fn ours(&self, job: &Job, shape: &Shape) -> u64 {
        let groups = shape.groups.iter();
        let groups = groups.filter_map(|group| self.fits.group(*group));
        let ours = groups.filter(|group| group.offer.kind.is_trusted());
        let healthy: u64 = ours.map(|group| u64::from(group.healthy)).sum();
        let release = self.releases.get(&job.release);
        let declined = release.map(|release| &release.declined_by);
        let declined = declined.into_iter().flatten().take(DECLINERS_LOOK_MAX);
        let declined = declined.filter_map(|index| self.nodes.at(*index));
        let declined = declined.filter(|node| node.kind.is_trusted() && takes(shape, node));
        healthy.saturating_sub(declined.count() as u64)
    }

    /// The engine on which a result is checked: its own, while one of ours that fits and is there runs
    /// that. Results of other engines may differ though nobody lied; then the trusted one is taken.
    fn check_engine(&self, shape: &Shape, head: u32) -> Option<EngineId> {
        let mut chain = self.attempts.chain(head).map(|(_, attempt)| attempt);
        let result = chain.find(|attempt| matches!(attempt.state, AttemptState::Result(_)))?;
        let engine = result.engine;
        let groups = shape.groups.iter();
        let mut groups = groups.filter_map(|group| self.fits.group(*group));
        let there = groups.any(|group| {
            group.offer.engine == engine && group.offer.kind.is_trusted() && group.healthy > 0
        });
        there.then_some(engine)
    }

    /// Nodes that would take a job's work now, of one engine if only that will do: all of them, and
    /// those that are not the local host.
    fn takers(&self, job: &Job, shape: &Shape, engine: Option<EngineId>) -> (u64, u64) {
        let declined = self
            .releases
            .get(&job.release)
            .map(|release| &release.declined_by);
        let declined = declined.into_iter().flatten().take(DECLINERS_LOOK_MAX);
        let declined = declined.filter_map(|index| self.nodes.at(*index));
        let mut volunteers = self.fits.volunteers(shape);
        let mut all = self.fits.healthy(shape, engine);
        for node in declined.filter(|node| takes(shape, node)) {
            let counts = engine.is_none_or(|engine| engine == node.engine);
            all = all.saturating_sub(u64::from(counts));
            volunteers = volunteers.saturating_sub(u64::from(node.kind != NodeKind::Local));
        }
        (all, volunteers)
    }

    /// Volunteers go first. The local host takes what is meant for trusted nodes; of the rest it takes
    /// what volunteers cannot do at all, or not in time.
    fn at_home(&self, turn: &Turn<'_>, node: &Node, job: &Job, shape: &Shape) -> AtHome {
        if node.kind != NodeKind::Local || shape.needs.who != Who::Anybody {
            return AtHome::All;
        }
        let slots = self.fits.volunteer_slots(shape);
        if slots == 0 || self.takers(job, shape, None).1 == 0 {
            return AtHome::All;
        }
        let waiting: u64 = shape.queues.iter().map(|queue| queue.len() as u64).sum();
        let others = waiting.saturating_sub(1);
        if self.is_late(turn.now, job, slots, others) {
            AtHome::All
        } else {
            AtHome::Left
        }
    }

    /// Whether volunteers would need too long for what waits of a job, were it alone; with others
    /// beside it the slots are shared.
    fn is_late(&self, now: Millis, job: &Job, slots: u64, others: u64) -> bool {
        let micros = self
            .releases
            .get(&job.release)
            .map_or(0, |release| release.micros);
        let work = u128::from(micros) * u128::from(job.waiting() + job.live.len() as u64);
        let millis = work * u128::from(others + 1) / u128::from(slots) / 1_000;
        let left = job.deadline.map(|deadline| u128::from(deadline.since(now)));
        millis > u128::from(self.config.overflow_millis) || left.is_some_and(|left| millis > left)
    }

    /// Journals leases of these tasks to a node.
    pub(super) fn lease(
        &mut self,
        turn: &mut Turn<'_>,
        index: NodeIndex,
        tasks: Vec<(TaskId, Purpose)>,
    ) -> usize {
        let Some((node, session)) = self.nodes.at(index).and_then(|n| Some((n.id, n.session?)))
        else {
            return 0;
        };
        let ids = self.attempts.next_ids(tasks.len());
        let leases: Vec<_> = ids
            .zip(tasks)
            .map(|(attempt, (task, purpose))| LeaseFact {
                attempt,
                task,
                purpose,
            })
            .collect();
        let count = leases.len();
        if count > 0 {
            self.emit(
                turn,
                hearth_wire::record::Fact::Leased {
                    node,
                    session,
                    leases,
                },
            );
        }
        count
    }
}

/// Whether a node gets work of a shape.
fn takes(shape: &Shape, node: &Node) -> bool {
    node.is_usable()
        && node
            .group
            .is_some_and(|group| shape.groups.contains(&group))
}
