//! In what order work goes out: urgent work, work that waited long, deadlines; and the means to have
//! it done in time: parking what is less urgent, second runs of what is late.

use std::collections::{BTreeMap, BTreeSet};

use hearth_wire::record::{LeaseFact, NodeKind, Purpose};
use hearth_wire::{JobId, NodeId, Priority};

use super::{Job, Node, Oracle, State};
use crate::world::sim_config;

/// Decisions on leases after which shares begin anew.
const ROUND: usize = 8;
/// Jobs that core looks at first in each queue, whether a node may have them or not.
const LOOK: usize = 16;
/// Second runs of one job: a few, and one for every so many tasks.
const HEDGES_MIN: usize = 4;
const TASKS_PER_HEDGE: usize = 16;
/// Settled tasks among which some were late, and urgent runs for some of which another had to yield.
const SETTLED_MIN: u64 = 10_000;
const URGENT_MIN: u64 = 2_000;

/// What is known of the order so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Order {
    /// Decisions on leases, each for one node and one job.
    decisions: usize,
    /// Of each round, the turns in which work of a priority went before more urgent work that waited
    /// for the same node; in which less urgent work waited for long and more urgent work was leased.
    passed: BTreeMap<Priority, BTreeSet<usize>>,
    stayed: BTreeMap<Priority, BTreeSet<usize>>,
    urgent_leases: u64,
    hedges: u64,
    parked: u64,
}

/// Turns of a round that are for work of this priority once it waited long; all others are for what is
/// more urgent. High has five to itself.
fn share(priority: Priority) -> usize {
    match priority {
        Priority::High => ROUND,
        Priority::Medium => 2,
        Priority::Low => 1,
    }
}

/// What else a node might have had in place of what it got.
struct Choice {
    /// That of what it got.
    priority: Priority,
    /// Whether it might have had something more urgent, and whether nothing of that priority had
    /// waited long enough for this.
    passes: bool,
    early: bool,
    /// Priorities of less urgent work that waited for long and that it might have had.
    aged: BTreeSet<Priority>,
    /// A job of the same owner and priority with an earlier deadline.
    earlier: Option<JobId>,
}

impl Job {
    fn priority(&self) -> Priority {
        self.spec.options.priority
    }

    fn is_aged(&self, at: u64) -> bool {
        at >= self.submitted_at + sim_config().aging_millis
    }

    /// Whether a task waits that was leased before, or its result for a check.
    fn waits_again(&self) -> bool {
        let mut known = self.leased_again();
        known.any(|task| task.live == 0 && task.state < State::Settled)
    }
}

impl Oracle {
    /// Work was leased to a node: should something else have gone before it?
    pub(super) fn weigh_order(&mut self, id: NodeId, leases: &[LeaseFact]) {
        let turn = self.order.decisions % ROUND;
        self.order.decisions += 1;
        let first = leases.first().copied();
        let Some((first, choice)) = first.and_then(|first| Some((first, self.choice(id, &first)?)))
        else {
            return;
        };
        let (priority, order) = (choice.priority, &mut self.order);
        if priority == Priority::High {
            order.urgent_leases += leases.len() as u64;
        }
        let passed = order.passed.entry(priority).or_default();
        passed.extend(choice.passes.then_some(turn));
        let reserved = passed.len() <= share(priority);
        let mut starved = None;
        for less in choice.aged {
            let stayed = order.stayed.entry(less).or_default();
            stayed.insert(turn);
            if stayed.len() > ROUND - share(less) {
                starved = Some(less);
            }
        }
        let detail = (id, first);
        self.want(!choice.early, "urgent work goes first", detail);
        self.want(reserved, "urgent work has its reserved share", detail);
        let none = starved.is_none();
        self.want(none, "what waited long has its share", (starved, detail));
        let none = choice.earlier.is_none();
        let detail = (choice.earlier, detail);
        self.want(none, "the earliest deadline goes first", detail);
    }

    /// What else there was for a free slot. What waits on a node behind its running attempts passes
    /// nobody over, since nodes run the urgent first; and the local host takes what volunteers cannot,
    /// whatever its priority.
    fn choice(&self, id: NodeId, first: &LeaseFact) -> Option<Choice> {
        let (job, node) = (self.job(first.task.job)?, self.nodes.get(&id)?);
        let free = node.kind != NodeKind::Local && node.free_slots() > 0;
        if !free || first.purpose == Purpose::Hedge {
            return None;
        }
        let (priority, owner, at) = (job.spec.options.priority, job.spec.owner, self.at);
        let open = self.open_jobs.iter().map(|job| &self.jobs[*job]);
        let waits = open.clone();
        let waits = waits
            .filter(|other| other.has_fresh() && !self.is_held(other) && self.takes(node, other));
        let waits: Vec<_> = waits.collect();
        let passes = waits.iter().any(|other| other.priority() < priority);
        let mut alike = open.filter(|other| other.priority() == priority);
        let aged = waits.iter().filter(|other| other.is_aged(at));
        let due = |job: &Job| job.expires.unwrap_or(u64::MAX);
        let earlier = waits.iter().find(|other| {
            let same = other.spec.owner == owner && other.priority() == priority;
            same && due(other) < due(job) && self.stands_in_front(node, other)
        });
        Some(Choice {
            priority,
            passes,
            early: passes && !alike.any(|other| other.is_aged(at)),
            aged: aged
                .map(|other| other.priority())
                .filter(|less| *less > priority)
                .collect(),
            earlier: earlier.map(|other| other.id),
        })
    }

    /// Whether a job is certainly among those that core looks at first for a node: no queue has more
    /// in front of it that the node may not have, or whose deadlines do not count.
    fn stands_in_front(&self, node: &Node, job: &Job) -> bool {
        let open = self.open_jobs.iter().map(|job| &self.jobs[*job]);
        let queued = open.filter(|other| {
            other.priority() == job.priority() && (other.has_fresh() || other.waits_again())
        });
        let deadlines = queued.clone().filter(|other| other.expires.is_some());
        let barred = queued.filter(|other| {
            let fits = self.fits(node, other, false) || self.fits(node, other, true);
            let fresh = other.has_fresh() && !self.is_held(other);
            fits && !(fresh && self.takes(node, other))
        });
        // A job may stand in a queue twice, for runs and for checks.
        deadlines.count() * 2 <= LOOK && barred.count() * 2 < LOOK
    }

    pub(super) fn weigh_hedge(&mut self, id: JobId) {
        self.order.hedges += 1;
        let Some(job) = self.job_mut(id) else { return };
        job.hedged += 1;
        let (hedged, tasks) = (job.hedged, job.tasks.len());
        let few = hedged <= HEDGES_MIN + tasks / TASKS_PER_HEDGE;
        self.want(few, "few tasks are hedged", (id, hedged, tasks));
    }

    pub(super) fn note_parked(&mut self) {
        self.order.parked += 1;
    }

    /// In an hour some tasks are late, and urgent work finds all slots taken.
    pub(crate) fn judge_order(&mut self) {
        let (settled, order) = (self.settled, &self.order);
        let (urgent, hedges, parked) = (order.urgent_leases, order.hedges, order.parked);
        let hedged = hedges > 0 || settled < SETTLED_MIN;
        self.want(hedged, "what is late is hedged", settled);
        let yields = parked > 0 || urgent < URGENT_MIN;
        self.want(yields, "less urgent work is parked", urgent);
    }
}
