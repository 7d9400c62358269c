//! What the fold notes for the outside. `handle` turns it into effects, a replay drops it.

use std::collections::{BTreeMap, BTreeSet};

use hearth_wire::{AttemptId, JobId, NodeId, SessionId, TaskId};

use crate::job::Job;
use crate::node::NodeIndex;
use crate::shape::ShapeIndex;
use crate::step::{Effect, Grant, JobProgress};

/// Consequences of the records of one step.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outbox {
    /// In the order in which they came about.
    pub(crate) effects: Vec<Effect>,
    /// By connection: what goes there in one message each.
    pub(crate) grants: BTreeMap<SessionId, (NodeId, Vec<Grant>)>,
    pub(crate) cancels: BTreeMap<SessionId, Vec<AttemptId>>,
    /// Attempts that were parked (true) or go on: the last word on each.
    pub(crate) parked: BTreeMap<SessionId, BTreeMap<AttemptId, bool>>,
    pub(crate) settled: BTreeMap<SessionId, Vec<AttemptId>>,
    /// Jobs and nodes that the present record touched, and those of the whole step.
    pub(crate) changed: BTreeSet<JobId>,
    pub(crate) told: BTreeSet<JobId>,
    pub(crate) nodes: BTreeSet<NodeIndex>,
    pub(crate) freed: BTreeSet<NodeIndex>,
    /// Jobs that closed.
    pub(crate) closed: Vec<JobProgress>,
    /// Where work may find a node that it could not find before.
    pub(crate) shapes: BTreeSet<ShapeIndex>,
    /// Tasks without a live attempt that have had all the attempts that their job allows.
    pub(crate) exhausted: Vec<TaskId>,
    /// Nodes whose standing no longer fits what is known of them.
    pub(crate) standings: BTreeSet<NodeIndex>,
    /// Jobs that cannot succeed any more.
    pub(crate) doomed: BTreeSet<JobId>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A node shall park an attempt, or go on with it.
    pub(crate) fn park(&mut self, session: SessionId, attempt: AttemptId, parked: bool) {
        let attempts = self.parked.entry(session).or_default();
        attempts.insert(attempt, parked);
    }

    /// Appends everything as effects: first what happened, then what was taken away from nodes, then
    /// what they are given, then what of all that is parked or goes on, then what is told to watchers.
    ///
    /// An attempt can be granted and parked in one step, and a node takes no notice of a word on an
    /// attempt that it does not have: so that word comes after the grants.
    pub(crate) fn drain_into(&mut self, jobs: &BTreeMap<JobId, Job>, effects: &mut Vec<Effect>) {
        let out = std::mem::take(self);
        effects.extend(out.effects);
        let settled = out.settled.into_iter();
        effects.extend(settled.map(|(session, attempts)| Effect::Settled { session, attempts }));
        let cancels = out.cancels.into_iter();
        effects.extend(cancels.map(|(session, attempts)| Effect::Cancel { session, attempts }));
        let grants = out.grants.into_iter();
        for (session, (node, leases)) in grants.filter(|(_, (_, leases))| !leases.is_empty()) {
            effects.push(Effect::Grant {
                session,
                node,
                leases,
            });
        }
        for parked in [true, false] {
            for (session, attempts) in &out.parked {
                let session = *session;
                let attempts = attempts.iter().filter(|(_, word)| **word == parked);
                let attempts: Vec<_> = attempts.map(|(attempt, _)| *attempt).collect();
                if attempts.is_empty() {
                    continue;
                }
                effects.push(if parked {
                    Effect::Pause { session, attempts }
                } else {
                    Effect::Resume { session, attempts }
                });
            }
        }
        let changed = out.told.iter().filter_map(|job| jobs.get(job));
        effects.extend(changed.map(|job| Effect::JobChanged {
            progress: job.progress(),
        }));
        let closed = out.closed.into_iter();
        effects.extend(closed.map(|progress| Effect::JobChanged { progress }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_and_is_parked_again_in_one_step_is_parked() {
        let (session, attempt, other) = (SessionId(1), AttemptId(7), AttemptId(8));
        let mut out = Outbox::default();
        out.park(session, attempt, false);
        out.park(session, attempt, true);
        out.park(session, other, false);
        let mut effects = Vec::new();
        out.drain_into(&BTreeMap::new(), &mut effects);
        let (parked, goes_on) = (vec![attempt], vec![other]);
        let pause = Effect::Pause {
            session,
            attempts: parked,
        };
        let resume = Effect::Resume {
            session,
            attempts: goes_on,
        };
        assert_eq!(effects, [pause, resume]);
    }
}
