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
    pub(crate) pauses: BTreeMap<SessionId, Vec<AttemptId>>,
    pub(crate) resumes: BTreeMap<SessionId, Vec<AttemptId>>,
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

    /// Appends everything as effects: first what happened, then what was taken away from nodes, then
    /// what they are given, then what is told to watchers.
    pub(crate) fn drain_into(&mut self, jobs: &BTreeMap<JobId, Job>, effects: &mut Vec<Effect>) {
        let out = std::mem::take(self);
        effects.extend(out.effects);
        let settled = out.settled.into_iter();
        effects.extend(settled.map(|(session, attempts)| Effect::Settled { session, attempts }));
        let cancels = out.cancels.into_iter();
        effects.extend(cancels.map(|(session, attempts)| Effect::Cancel { session, attempts }));
        let pauses = out.pauses.into_iter();
        effects.extend(pauses.map(|(session, attempts)| Effect::Pause { session, attempts }));
        let resumes = out.resumes.into_iter();
        effects.extend(resumes.map(|(session, attempts)| Effect::Resume { session, attempts }));
        let grants = out.grants.into_iter();
        for (session, (node, leases)) in grants.filter(|(_, (_, leases))| !leases.is_empty()) {
            effects.push(Effect::Grant {
                session,
                node,
                leases,
            });
        }
        let changed = out.told.iter().filter_map(|job| jobs.get(job));
        effects.extend(changed.map(|job| Effect::JobChanged {
            progress: job.progress(),
        }));
        let closed = out.closed.into_iter();
        effects.extend(closed.map(|progress| Effect::JobChanged { progress }));
    }
}
