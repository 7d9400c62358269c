//! Who may run what, in plain words.

use std::collections::BTreeSet;

use hearth_wire::record::{NodeKind, Standing};
use hearth_wire::{NodeId, Placement, TaskId, TrustPolicy};

use super::{Job, Node, Oracle, Task};
use crate::world::sim_config;

impl Node {
    /// Whether new work may go there.
    pub(crate) fn is_usable(&self) -> bool {
        self.profile.is_some()
            && self.standing == Standing::Good
            && !self.draining
            && self.capacity.slots > 0
    }

    pub(crate) fn free_slots(&self) -> usize {
        let running = self.live.len() - self.paused.len();
        usize::from(self.capacity.slots).saturating_sub(running)
    }
}

impl Oracle {
    /// Whether a connected node is what a job asks for, for a run or for a check.
    pub(crate) fn fits(&self, node: &Node, job: &Job, check: bool) -> bool {
        let Some(profile) = &node.profile else {
            return false;
        };
        let Some((release, _)) = self.releases.get(&job.spec.release) else {
            return false;
        };
        let options = &job.spec.options;
        let trusted_only =
            check || options.trust == TrustPolicy::Local || options.placement == Placement::Trusted;
        let kind = match profile.kind {
            NodeKind::Volunteer => !trusted_only,
            NodeKind::Trusted => true,
            NodeKind::Local => check || options.placement != Placement::Volunteers,
        };
        let ours = |other: &Node| {
            other.kind != NodeKind::Volunteer
                && other.engine == node.engine
                && !matches!(other.standing, Standing::Quarantined | Standing::Revoked)
        };
        // What nobody of ours can compare is not given to strangers to be compared.
        let comparable = options.trust != TrustPolicy::Certain
            || profile.kind != NodeKind::Volunteer
            || self.nodes.values().any(ours);
        let place = |places: &[String]| places.is_empty() || places.contains(&profile.location);
        kind && comparable
            && release
                .capabilities
                .iter()
                .all(|name| profile.capabilities.contains(name))
            && place(&release.locations)
            && place(&options.locations)
            && release.engines.contains(&profile.engine)
            && profile.capacity.memory_bytes >= release.limits.memory_bytes
    }

    /// Whether a node would take a job's fresh tasks now.
    pub(crate) fn takes(&self, node: &Node, job: &Job) -> bool {
        let barred = node.kind == NodeKind::Volunteer && self.in_doubt(job);
        let declined = node.declined.contains(&job.spec.release);
        node.is_usable() && !declined && !barred && self.fits(node, job, false)
    }

    /// Whether one of our own nodes would take a job's runs now.
    pub(crate) fn ours_take(&self, job: &Job) -> bool {
        self.nodes.values().any(|node| {
            node.kind != NodeKind::Volunteer
                && node.is_usable()
                && !node.declined.contains(&job.spec.release)
                && self.fits(node, job, false)
        })
    }

    /// Whether one of our own nodes would take a job's runs now and none has had this task: then volunteers
    /// have not failed it.
    pub(crate) fn awaits_ours(&self, job: &Job, task: &Task) -> bool {
        !self.had_by_ours(task) && self.ours_take(job)
    }

    /// Whether a task that has had all its attempts gets no further one: one of ours has had it, or none is
    /// there and none left so lately that it may come back.
    pub(crate) fn is_given_up(&self, job: &Job, task: &Task) -> bool {
        let hold = sim_config().reconnect_millis;
        let lately = self.ours_left_at.is_some_and(|at| self.at < at + hold);
        self.had_by_ours(task) || !(lately || self.ours_take(job))
    }

    pub(crate) fn had_by_ours(&self, task: &Task) -> bool {
        let mut history = task.history.iter().filter_map(|id| self.attempts.get(id));
        history.any(|attempt| {
            let node = self.nodes.get(&attempt.node);
            node.is_some_and(|node| node.kind != NodeKind::Volunteer)
        })
    }

    /// Whether two nodes could not run a job's component and one of ours is there to say if it can be run.
    pub(crate) fn in_doubt(&self, job: &Job) -> bool {
        job.unfit.len() >= 2 && self.ours_take(job)
    }

    /// Another node that could take a task and has not had it.
    pub(crate) fn another(&self, task: TaskId, but: NodeId) -> Option<NodeId> {
        let job = self.job(task.job)?;
        let in_doubt = self.in_doubt(job);
        let history = self.task(task)?.history.iter();
        let had: BTreeSet<_> = history
            .filter_map(|attempt| Some(self.attempts.get(attempt)?.node))
            .collect();
        let mut others = self.nodes.iter().filter(|(id, node)| {
            **id != but
                && node.is_usable()
                && !(in_doubt && node.kind == NodeKind::Volunteer)
                && !had.contains(id)
                && !node.declined.contains(&job.spec.release)
                && self.fits(node, job, false)
        });
        others.next().map(|(id, _)| *id)
    }
}
