//! Bringing work and nodes together.
//!
//! Two movements, both O(log n) for each lease. A node that was freed takes the best job that it may
//! have (`fill`). Work that came looks for idle nodes, the best one first, and each takes what its
//! slots hold and its share of the rest (`spread`). So under load each node pulls at its own rate, which
//! is what weights by rate aim at; and without load the fastest node gets the task.

use std::collections::BTreeSet;
use std::ops::Bound;

use hearth_wire::record::NodeKind;
use hearth_wire::{Priority, TrustPolicy};

use super::Turn;
use crate::Coordinator;
use crate::job::Lane;
use crate::node::{Ahead, Node, NodeIndex};
use crate::queue::{CANDIDATES_MAX, CANDIDATES_MORE_MAX, Candidate, TURN_TASKS, order_of_turn};
use crate::shape::{Group, GroupIndex, IdleAt, ShapeIndex};
use crate::time::Timer;

/// Chunks for one node in one step.
const CHUNKS_MAX: usize = 64;
/// Nodes tried for one shape in one step; the look goes on at the next one.
const TRIES_MAX: usize = 256;
/// Idle local hosts that are asked again whenever anything else was freed. There is one, as a rule.
const LOCALS_MAX: usize = 4;

/// Tasks that a node may have, and what for.
type Tasks = Vec<(hearth_wire::TaskId, hearth_wire::record::Purpose)>;

/// What came of a look at the first jobs of the queues.
enum Look {
    Found(Tasks),
    /// There is nothing for the node, now or behind these.
    Nothing,
    /// The node may have nothing of these, and others stand behind them.
    Barred,
}

impl Coordinator {
    pub(super) fn place(&mut self, turn: &mut Turn<'_>) {
        let freed = std::mem::take(&mut self.out.freed);
        for index in &freed {
            self.fill(turn, *index, Ahead::Quick);
        }
        while let Some(shape) = self.out.shapes.pop_first() {
            self.spread(turn, shape);
            self.preempt(turn, shape);
        }
        if !freed.is_empty() {
            // What volunteers need for the rest has changed, and with it what is done at home.
            for index in self.idle_locals() {
                self.fill(turn, index, Ahead::Nothing);
            }
        }
        self.out.freed.clear();
        self.out.shapes.clear();
    }

    fn idle_locals(&self) -> Vec<NodeIndex> {
        let local = |(_, group): &(GroupIndex, &Group)| group.offer.kind == NodeKind::Local;
        let idle = self.fits.groups().filter(local);
        let idle = idle.flat_map(|(_, group)| group.idle.iter().map(|(_, index)| *index));
        idle.take(LOCALS_MAX).collect()
    }

    /// Gives a node what it may have: parked attempts and urgent work first, then by the queues, and
    /// as far `ahead` as it may. Says how many tasks it took.
    pub(super) fn fill(&mut self, turn: &mut Turn<'_>, index: NodeIndex, ahead: Ahead) -> usize {
        let mut taken = 0;
        self.unpark(turn, index, true);
        for _ in 0..CHUNKS_MAX {
            let Some(node) = self.nodes.at(index) else {
                break;
            };
            if !node.is_healthy() || (ahead == Ahead::Nothing && node.free_slots() == 0) {
                break;
            }
            let Some(tasks) = self.best_for(turn, index, ahead) else {
                break;
            };
            let got = self.lease(turn, index, tasks);
            taken += got;
            if got == 0 {
                break;
            }
        }
        self.unpark(turn, index, false);
        taken
    }

    /// The next chunk of tasks for a node.
    fn best_for(&self, turn: &Turn<'_>, index: NodeIndex, ahead: Ahead) -> Option<Tasks> {
        let node = self.nodes.at(index)?;
        let group = self.fits.group(node.group?)?;
        let order = self.priorities(turn, group.shapes.as_slice());
        for priority in order {
            for look in [CANDIDATES_MAX, CANDIDATES_MORE_MAX] {
                match self.best_of(turn, index, priority, ahead, look) {
                    Look::Found(tasks) => return Some(tasks),
                    Look::Nothing => break,
                    Look::Barred => {}
                }
            }
        }
        None
    }

    /// The best of the first `look` jobs of each queue of a priority that the node may have.
    fn best_of(
        &self,
        turn: &Turn<'_>,
        index: NodeIndex,
        priority: Priority,
        ahead: Ahead,
        look: usize,
    ) -> Look {
        let Some(node) = self.nodes.at(index) else {
            return Look::Nothing;
        };
        let group = node.group.and_then(|group| self.fits.group(group));
        let shapes = group.map_or(&[][..], |group| group.shapes.as_slice());
        let queues = shapes.iter().filter_map(|shape| self.fits.shape(*shape));
        let queues = queues.map(|shape| &shape.queues[priority as usize]);
        let least = queues.clone().filter_map(|queue| queue.least()).min();
        let Some(least) = least else {
            return Look::Nothing;
        };
        let more = queues.clone().any(|queue| queue.len() > look);
        let mut best: Vec<Candidate> = queues
            .flat_map(|queue| queue.candidates(&self.owners, priority, least, look))
            .collect();
        best.sort_unstable();
        let share = match ahead {
            Ahead::Nothing => 0,
            _ => self.share(node, &best),
        };
        let mut barred = false;
        for candidate in best {
            let entry = candidate.entry;
            let Some(job) = self.jobs.get(&entry.job) else {
                continue;
            };
            // A job of another shape of the same group may stand in a queue for both lanes.
            let fits = job
                .shape_of(entry.lane)
                .is_some_and(|shape| shapes.contains(&shape));
            let room = node.room(job.release, ahead, share);
            if !fits || room == 0 {
                continue;
            }
            let tasks = self.pick(turn, index, job, entry.lane, room.min(TURN_TASKS as usize));
            if !tasks.is_empty() {
                return Look::Found(tasks);
            }
            // The local host passes by what volunteers will do: no reason to look any further.
            barred |= node.kind != NodeKind::Local || node.declined.contains(&job.release);
        }
        if barred && more && node.free_slots() > 0 {
            Look::Barred
        } else {
            Look::Nothing
        }
    }

    /// Tasks that a node may put aside of what waits in these jobs: half of an even share, so that the last
    /// ones are still in the queue when nodes differ.
    fn share(&self, node: &Node, of: &[Candidate]) -> u64 {
        let waiting = of.iter().filter_map(|candidate| {
            let job = self.jobs.get(&candidate.entry.job)?;
            Some(match candidate.entry.lane {
                Lane::Run => job.waiting(),
                Lane::Check => job.checks.len() as u64,
            })
        });
        let slots = u64::from(node.capacity.slots);
        waiting.sum::<u64>().saturating_mul(slots) / (2 * self.volunteer_slots.max(1))
    }

    fn priorities(&self, turn: &Turn<'_>, shapes: &[ShapeIndex]) -> [Priority; 3] {
        let aged = |priority: Priority| {
            shapes.iter().any(|shape| {
                let queue = self
                    .fits
                    .shape(*shape)
                    .map(|shape| &shape.queues[priority as usize]);
                let oldest = queue.and_then(|queue| queue.oldest());
                let job = oldest.and_then(|job| self.jobs.get(&job));
                job.is_some_and(|job| turn.now.since(job.submitted_at) >= self.config.aging_millis)
            })
        };
        order_of_turn(self.turn, aged(Priority::Medium), aged(Priority::Low))
    }

    /// Finds nodes for the work of a shape.
    fn spread(&mut self, turn: &mut Turn<'_>, index: ShapeIndex) {
        let Some(shape) = self.fits.shape_mut(index) else {
            return;
        };
        let from = shape.resume.take();
        let mut idle = IdleLook::new(self, index, from);
        for _ in 0..TRIES_MAX {
            let next = idle.next(self).filter(|_| self.has_ready(index));
            if let Some(shape) = self.fits.shape_mut(index) {
                shape.resume = next;
            }
            let Some((_, (_, node))) = next else {
                return;
            };
            self.fill(turn, node, Ahead::Share);
        }
        self.timers.set(turn.now.plus(1), Timer::Place(index));
    }

    fn has_ready(&self, index: ShapeIndex) -> bool {
        let shape = self.fits.shape(index);
        shape.is_some_and(|shape| shape.queues.iter().any(|queue| !queue.is_empty()))
    }

    /// Whether a result of a job with this policy is checked before it is final.
    pub(crate) fn is_checked(trust: TrustPolicy) -> bool {
        !matches!(trust, TrustPolicy::Fast | TrustPolicy::Local)
    }

    /// A timer says that something may be ready now.
    pub(super) fn wake(&mut self, job: hearth_wire::JobId) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.wake_at = None;
        }
        self.requeue(job);
        // One that was ready before for other tasks did not stir its shapes.
        if let Some(job) = self.jobs.get(&job) {
            for lane in [Lane::Check, Lane::Run] {
                self.out.shapes.extend(job.shape_of(lane));
            }
        }
    }
}

/// A look over the idle nodes that fit a shape, over all its groups at once: the best node first, the
/// local host last. It holds no borrow, so that work can be given out between two steps.
pub(super) struct IdleLook {
    heads: BTreeSet<(IdleAt, GroupIndex)>,
}

impl IdleLook {
    /// Starts behind `from`, or at the best node.
    pub(super) fn new(core: &Coordinator, shape: ShapeIndex, from: Option<IdleAt>) -> Self {
        let mut look = Self {
            heads: BTreeSet::new(),
        };
        let groups = core.fits.shape(shape).map(|shape| shape.groups.as_slice());
        for group in groups.unwrap_or_default() {
            look.enter(core, *group, from);
        }
        look
    }

    pub(super) fn next(&mut self, core: &Coordinator) -> Option<IdleAt> {
        loop {
            let (at, group) = self.heads.pop_first()?;
            self.enter(core, group, Some(at));
            let idle = core
                .fits
                .group(group)
                .is_some_and(|group| group.idle.contains(&at.1));
            if idle {
                return Some(at);
            }
        }
    }

    fn enter(&mut self, core: &Coordinator, index: GroupIndex, behind: Option<IdleAt>) {
        let Some(group) = core.fits.group(index) else {
            return;
        };
        let local = group.offer.kind == NodeKind::Local;
        let from = match behind {
            Some((true, _)) if !local => return,
            Some((at_local, key)) if at_local == local => Bound::Excluded(key),
            _ => Bound::Unbounded,
        };
        if let Some(key) = group.idle.range((from, Bound::Unbounded)).next() {
            self.heads.insert(((local, *key), index));
        }
    }
}
