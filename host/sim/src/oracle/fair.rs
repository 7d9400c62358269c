//! Shares: of nodes by how well they do, and of what waits on them; and the quota of owners.

use std::collections::BTreeMap;

use hearth_core::RequestRefusal;
use hearth_wire::record::{LeaseFact, NodeKind, Purpose, ReportFact, Verdict};
use hearth_wire::{AttemptId, Inconclusive, KeyId, NodeId, Outcome, ReleaseId};

use super::{Node, Oracle};
use crate::world::sim_config;

/// Parts of one.
const ONE: u64 = 1 << 16;

/// Releases of which a node's run times are remembered.
const RATES_MAX: usize = 16;

/// How a node has done.
#[derive(Debug, Clone)]
pub(crate) struct Rates {
    /// Mean run times of the releases that were run here last, the latest at the end.
    micros: Vec<(ReleaseId, u64)>,
    speed: u64,
    errors: u64,
}

impl Rates {
    /// A run took this long. What was not run for long is forgotten.
    fn ran(&mut self, release: ReleaseId, micros: u64) {
        let before = self.micros_of(release).unwrap_or(micros);
        self.micros.retain(|(known, _)| *known != release);
        self.micros.push((release, mean(before, micros)));
        if self.micros.len() > RATES_MAX {
            self.micros.remove(0);
        }
    }

    fn micros_of(&self, release: ReleaseId) -> Option<u64> {
        let known = self.micros.iter().find(|(known, _)| *known == release)?;
        Some(known.1)
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            micros: Vec::new(),
            speed: ONE,
            errors: 0,
        }
    }
}

/// What choices core has made so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fairness {
    /// Mean run time of each release.
    micros: BTreeMap<ReleaseId, u64>,
    /// Choices between idle nodes, and those for one less than half as good as another.
    choices: u64,
    poor_choices: u64,
}

fn mean(before: u64, value: u64) -> u64 {
    (before * 7 + value) / 8
}

impl Node {
    fn weight(&self) -> u64 {
        let weight = self.rates.speed * self.free_slots() as u64 * (ONE - self.rates.errors);
        weight / ONE
    }
}

impl Oracle {
    pub(super) fn open_tasks_of(&self, owner: KeyId) -> u64 {
        let open = self.open_jobs.iter().map(|job| &self.jobs[*job]);
        let open = open.filter(|job| job.spec.owner == owner);
        open.map(|job| u64::from(job.open)).sum()
    }

    pub(super) fn refused(&mut self, refusal: &RequestRefusal) {
        if let RequestRefusal::OwnerQuota { open, max } = refusal {
            let right = *max == sim_config().owner_tasks_max && open > max;
            self.want(right, "a refusal has its reason", refusal);
        }
    }

    /// How long a run took, and whether the node was at fault when it had no result. It cannot have taken
    /// more than a second longer than its attempt was out.
    pub(super) fn measure(&mut self, id: NodeId, report: &ReportFact) {
        let attempt = self.attempts.get(&report.attempt);
        let since = attempt.map_or(self.at, |attempt| attempt.granted_at);
        let most = self.at.saturating_sub(since) * 1_000 + 1_000_000;
        let Some(release) = self.job(report.task.job).map(|job| job.spec.release) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        match &report.outcome {
            Outcome::Inconclusive(
                Inconclusive::HostFault(_) | Inconclusive::StackOverflow | Inconclusive::Deadline,
            ) => node.rates.errors = mean(node.rates.errors, ONE),
            Outcome::Inconclusive(_) => {}
            _ if report.verdict == Verdict::Noted => {}
            _ => {
                let micros = report.run_micros.clamp(1, most.min(1 << 40));
                let all = self.fairness.micros.entry(release).or_insert(micros);
                *all = mean(*all, micros);
                let speed = (*all * ONE / micros).clamp(ONE / 64, ONE * 64);
                node.rates.speed = mean(node.rates.speed, speed);
                node.rates.errors = mean(node.rates.errors, 0);
                node.rates.ran(release, micros);
            }
        }
    }

    /// What waits on a node behind its running attempts lasts a fifth of a second, or is one attempt.
    pub(super) fn weigh_prefetch(&mut self, id: NodeId, attempt: AttemptId) {
        let Some(task) = self.attempts.get(&attempt).map(|attempt| attempt.task) else {
            return;
        };
        let (Some(job), Some(node)) = (self.job(task.job), self.nodes.get(&id)) else {
            return;
        };
        let slots = u64::from(node.capacity.slots);
        let running = (node.live.len() - node.paused.len()) as u64;
        let measured = node.rates.micros_of(job.spec.release);
        let waits = match measured.filter(|_| node.kind != NodeKind::Local) {
            None => 0,
            // Means that are rounded differently differ a little.
            Some(micros) => (slots * 210_000 / micros.max(1)).clamp(1, 1_024) + 1,
        };
        if running > slots + waits {
            let detail = format!("{id} {:?}: {running} on {slots}, {measured:?}", node.kind);
            self.violate("a node gets no more than it may hold", detail);
        }
    }

    /// Counts choices of an idle node while another one, free as well, was far better.
    pub(super) fn weigh_choice(&mut self, id: NodeId, leases: &[LeaseFact]) {
        let Some(first) = leases.first().filter(|first| first.purpose == Purpose::Run) else {
            return;
        };
        let (Some(job), Some(chosen)) = (self.job(first.task.job), self.nodes.get(&id)) else {
            return;
        };
        if chosen.kind == NodeKind::Local || chosen.free_slots() == 0 {
            return;
        }
        let takes = |node: &Node| {
            node.kind != NodeKind::Local && node.free_slots() > 0 && self.takes(node, job)
        };
        let others = self
            .nodes
            .iter()
            .filter(|(other, node)| **other != id && takes(node));
        let Some(best) = others.map(|(_, node)| node.weight()).max() else {
            return;
        };
        let poor = best > chosen.weight() * 2;
        self.fairness.choices += 1;
        self.fairness.poor_choices += u64::from(poor);
    }

    /// In the long run the better nodes get the work; a few choices have their luck.
    pub(crate) fn judge_choices(&mut self) {
        let (all, poor) = (self.fairness.choices, self.fairness.poor_choices);
        if poor * 2 > all + 200 {
            self.violate(
                "better nodes go first",
                format!("{poor} of {all} were poor"),
            );
        }
    }
}
