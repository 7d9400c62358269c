//! The mode: it says where work goes, and changes when that has been so for a while.

use hearth_wire::record::{Mode, NodeKind, Purpose};
use hearth_wire::{AttemptId, Placement, TrustPolicy};

use super::Oracle;
use crate::world::sim_config;

impl Oracle {
    /// Whether an attempt is one at home that volunteers might have made.
    fn is_overflow(&self, id: &AttemptId) -> bool {
        let Some(attempt) = self.attempts.get(id) else {
            return false;
        };
        let node = self.nodes.get(&attempt.node).map(|node| node.kind);
        let options = self
            .job(attempt.task.job)
            .map(|job| (job.spec.options.placement, job.spec.options.trust));
        let runs = matches!(attempt.purpose, Purpose::Run | Purpose::Hedge);
        runs && node == Some(NodeKind::Local)
            && options.is_some_and(|(placement, trust)| {
                placement == Placement::Anywhere && trust != TrustPolicy::Local
            })
    }

    pub(super) fn note_overflow(&mut self, id: AttemptId) {
        if self.is_overflow(&id) {
            self.overflow_at = Some(self.at);
        }
    }

    fn fitting_mode(&self, now: u64) -> Mode {
        let others = self.nodes.values();
        let mut others = others.filter(|node| node.kind != NodeKind::Local && node.is_usable());
        let local = self.nodes.values();
        let mut local = local.filter(|node| node.kind == NodeKind::Local);
        let short = 2 * sim_config().mode_hold_millis;
        if others.next().is_none() {
            Mode::Local
        } else if local.any(|node| node.live.iter().any(|id| self.is_overflow(id)))
            || self.overflow_at.is_some_and(|at| now < at + short)
        {
            Mode::Hybrid
        } else {
            Mode::Distributed
        }
    }

    pub(super) fn mode_changed(&mut self, mode: Mode) {
        self.want(mode != self.mode, "a mode change changes the mode", mode);
        let hold = sim_config().mode_hold_millis;
        let held = self
            .wanted
            .is_some_and(|(wanted, since)| wanted == mode && self.at >= since + hold);
        self.want(held, "a mode has fitted for a while", (mode, self.wanted));
        let fits = self.fitting_mode(self.at);
        self.want(fits == mode, "the mode says where work goes", (fits, mode));
        (self.mode, self.wanted) = (mode, None);
    }

    /// With nothing due, the mode fits or is about to.
    pub(crate) fn sample_mode(&mut self, now: u64) {
        let fits = self.fitting_mode(now.max(self.at));
        let near = self.wanted.map(|(mode, _)| mode) == Some(fits);
        let detail = (fits, self.mode, self.wanted);
        self.want(
            fits == self.mode || near,
            "the mode says where work goes",
            detail,
        );
    }
}
