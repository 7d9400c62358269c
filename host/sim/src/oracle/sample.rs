//! What must hold whenever everything is durable and nothing is due: no work waits for nothing.

use std::collections::BTreeSet;

use hearth_wire::record::NodeKind;
use hearth_wire::{NodeId, Placement, TrustPolicy};

use super::fact::PARKED_MILLIS_MAX;
use super::{AttemptState, Job, Node, Oracle, State, Task};
use crate::world::sim_config;

impl Oracle {
    /// No node that may have a fresh task idles; the local host counts when nobody else can.
    pub(crate) fn sample_idle(&mut self) {
        let waiting: Vec<_> = self.open_jobs.iter().map(|job| &self.jobs[*job]).collect();
        let waiting = waiting.into_iter();
        let waiting = waiting.filter(|job| job.has_fresh() && !self.is_held(job));
        let mut found = None;
        for job in waiting {
            let takes = |node: &Node| self.takes(node, job);
            let anywhere = |job: &Job| {
                job.spec.options.placement == Placement::Anywhere
                    && job.spec.options.trust != TrustPolicy::Local
            };
            let volunteers = self.nodes.values();
            let mut volunteers =
                volunteers.filter(|node| node.kind != NodeKind::Local && takes(node));
            let alone = volunteers.next().is_none();
            let idle = self.nodes.iter().find(|(_, node)| {
                let asked = node.kind != NodeKind::Local || alone || !anywhere(job);
                asked && takes(node) && node.free_slots() > 0
            });
            if let Some((id, node)) = idle {
                found = Some(format!("{} waits, {id} ({:?}) idles", job.id, node.kind));
                break;
            }
        }
        if let Some(detail) = found {
            self.violate("no node idles beside work that it may have", detail);
        }
    }

    /// No task that waits again waits for nothing: a node that idles and had it not gets it, the local
    /// host once volunteers had their turn; and when nobody is left who had it not, who had it may try
    /// again, but no volunteer that failed it.
    pub(crate) fn sample_again(&mut self, now: u64) {
        let jobs = self.open_jobs.iter().map(|job| &self.jobs[*job]);
        let jobs = jobs.filter(|job| !self.is_held(job));
        let mut found = jobs.filter_map(|job| {
            let waits =
                |task: &&Task| task.state == State::Open && task.live == 0 && task.ready <= now;
            // Core looks at the first few; this one is certainly among them.
            let task = job
                .leased_again()
                .filter(waits)
                .min_by_key(|task| task.ready)?;
            let idle = self.who_should_take(job, task)?;
            Some(format!("{} {task:?} waits, {idle} idles", job.id))
        });
        if let Some(detail) = found.next() {
            self.violate("no node idles beside work that it may have", detail);
        }
    }

    fn who_should_take(&self, job: &Job, task: &Task) -> Option<NodeId> {
        let history = task.history.iter().filter_map(|id| self.attempts.get(id));
        let had: BTreeSet<_> = history.clone().map(|attempt| attempt.node).collect();
        let failed = history.filter(|attempt| attempt.state == AttemptState::Failed);
        let failed: BTreeSet<_> = failed.map(|attempt| attempt.node).collect();
        let takers: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| {
                let declined = node.declined.contains(&job.spec.release);
                node.is_usable() && !declined && self.fits(node, job, false)
            })
            .collect();
        let new = |kind: fn(NodeKind) -> bool| {
            let mut all = takers.iter();
            all.any(|(id, node)| kind(node.kind) && !had.contains(id))
        };
        let (any_new, volunteer_new) = (new(|_| true), new(|kind| kind != NodeKind::Local));
        let anywhere = job.spec.options.placement == Placement::Anywhere
            && job.spec.options.trust != TrustPolicy::Local;
        let mut idle = takers.iter().filter(|(_, node)| node.free_slots() > 0);
        // Its last attempt is for one of ours, and so is a component that two nodes could not run.
        let ours = |id: &&NodeId| {
            let node = self.nodes.get(*id);
            node.is_some_and(|node| node.kind != NodeKind::Volunteer)
        };
        let last = task.halves + 2 >= u32::from(job.spec.options.attempts_max) * 2;
        let spent = task.halves >= u32::from(job.spec.options.attempts_max) * 2;
        let ours_next = spent || (last && task.halves > 0 && self.awaits_ours(job, task));
        if ours_next || self.in_doubt(job) {
            return idle.map(|(id, _)| *id).find(|id| ours(id)).copied();
        }
        let should = idle.find(|(id, node)| match had.contains(id) {
            false => node.kind != NodeKind::Local || !anywhere || !volunteer_new,
            true => !any_new && (node.kind != NodeKind::Volunteer || !failed.contains(id)),
        });
        should.map(|(id, _)| **id)
    }

    /// Nothing is older than its lease allows.
    pub(crate) fn sample_leases(&mut self, now: u64) {
        let overdue = self.attempts.iter().find(|(id, attempt)| {
            let paused = self
                .nodes
                .get(&attempt.node)
                .is_some_and(|n| n.paused.contains(id));
            attempt.state == AttemptState::Live && !paused && now > attempt.ends
        });
        if let Some(id) = overdue.map(|(id, _)| *id) {
            self.violate("leases end", id);
        }
        let parked = self.attempts.iter().filter(|(_, attempt)| {
            let since = attempt
                .parked_at
                .filter(|_| attempt.state == AttemptState::Live);
            since.is_some_and(|since| now > since + PARKED_MILLIS_MAX)
        });
        if let Some(id) = parked.map(|(id, _)| *id).next() {
            self.violate("nothing is parked for ever", id);
        }
        // After a start nodes have a while to come back; then their tasks wait again.
        let away = self.nodes.iter();
        let mut away = away.filter(|(_, node)| node.profile.is_none() && !node.live.is_empty());
        let due = self.started_at + sim_config().reconnect_millis;
        if let Some(id) = away.next().map(|(id, _)| *id).filter(|_| now > due) {
            self.violate("nobody waits for a node that does not come back", id);
        }
        let late = self.open_jobs.iter().map(|job| &self.jobs[*job]);
        let late = late.filter(|job| job.expires.is_some_and(|at| now > at));
        if let Some(id) = late.map(|job| job.id).next() {
            self.violate("jobs expire at their deadline", id);
        }
    }

    /// What waits and who could have it, for people.
    pub(crate) fn explain_open(&self) -> String {
        let mut text = format!("{} tasks are open", self.open_tasks());
        let jobs = self.open_jobs.iter().take(3).map(|job| &self.jobs[*job]);
        for job in jobs {
            let mut open = job.tasks.iter().enumerate();
            let first = open.find(|(_, task)| task.state < State::Settled);
            text += &format!("; {} {:?} {:?}", job.id, job.spec.options, job.counts);
            let Some((index, task)) = first else {
                continue;
            };
            text += &format!(" task {index} {task:?}");
            for attempt in &task.history {
                text += &format!(" {:?}", self.attempts.get(attempt));
            }
            for (id, node) in &self.nodes {
                let check = task.state == State::Provisional;
                if node.is_usable() && self.fits(node, job, check) {
                    let declined = node.declined.contains(&job.spec.release);
                    let (kind, free) = (node.kind, node.free_slots());
                    let slots = node.capacity.slots;
                    text += &format!(" {} {kind:?} free {free} of {slots}", id.short());
                    text += if declined { " declined" } else { "" };
                }
            }
        }
        text
    }
}
