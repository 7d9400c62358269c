//! Nodes that come, and what is said about them.

use hearth_wire::message::Refusal;
use hearth_wire::record::{Fact, NodeProfile, Standing};
use hearth_wire::{AttemptId, Checkpoint, NodeId, SessionId, limits};

use super::Turn;
use crate::Coordinator;
use crate::attempt::AttemptState;
use crate::job::Phase;
use crate::node::Node;
use crate::step::Effect;

/// Live attempts that a task may have: one, and one more that hedges it or was thought lost.
pub(crate) const LIVE_MAX: u8 = 2;

impl Coordinator {
    /// The node whose present connection this is.
    pub(super) fn node_of(&self, session: SessionId) -> Option<NodeId> {
        let index = self.nodes.by_session(session)?;
        self.nodes.at(index).map(|node| node.id)
    }

    pub(super) fn join(&mut self, turn: &mut Turn<'_>, profile: NodeProfile, held: &[AttemptId]) {
        let (session, id) = (profile.session, profile.node);
        if session <= self.last_session {
            // The shell gave a number twice, or a join was repeated: the first one counts.
            return;
        }
        let known = self.nodes.index(&id).and_then(|index| self.nodes.at(index));
        let full = self.nodes.len() >= limits::NODES_MAX && self.nodes.gone.is_empty();
        let refusal = match known {
            Some(node) if node.standing == Standing::Revoked => Some(Refusal::Revoked),
            None if full => Some(Refusal::Full),
            _ => None,
        };
        if let Some(reason) = refusal {
            let effect = Effect::CloseSession { session, reason };
            turn.step.effects.push(effect);
            return;
        }
        if let Some(older) = known.and_then(|node| node.session) {
            turn.step.effects.push(Effect::CloseSession {
                session: older,
                reason: Refusal::Duplicate,
            });
        }
        let (resumed, unwanted) = self.sort_held(known, &profile, held);
        let epoch = self.epoch;
        self.emit(turn, Fact::NodeJoined { profile, resumed });
        turn.step.effects.push(Effect::Welcome {
            session,
            epoch,
            unwanted,
        });
    }

    /// Which of the attempts that a node holds go on, and which nobody wants. The others it may
    /// finish: they were leased to somebody else meanwhile, and the first report counts.
    fn sort_held(
        &self,
        known: Option<&Node>,
        profile: &NodeProfile,
        held: &[AttemptId],
    ) -> (Vec<AttemptId>, Vec<AttemptId>) {
        let (mut resumed, mut unwanted) = (Vec::new(), Vec::new());
        let mut held = held.to_vec();
        held.sort_unstable();
        held.dedup();
        let good = known.is_some_and(|node| node.standing == Standing::Good)
            && known.is_some_and(|node| node.kind == profile.kind);
        // What another engine began, this one must not finish.
        let same_engine = known.is_some_and(|node| node.engine == profile.engine);
        // A task may not be revived twice over by two attempts of one node.
        let mut tasks = std::collections::BTreeSet::new();
        for id in held {
            let found = self.attempts.find(id).map(|(_, attempt)| attempt);
            let mine = found.filter(|attempt| {
                let node = self.nodes.at(attempt.node);
                let mine = node.is_some_and(|node| node.id == profile.node);
                mine && same_engine && attempt.state.is_awaited()
            });
            let Some(attempt) = mine else {
                unwanted.push(id);
                continue;
            };
            let Some(cell) = self.cell(attempt.task) else {
                unwanted.push(id);
                continue;
            };
            let checks = cell.phase == Phase::Provisional;
            let room = resumed.len() < limits::LEASES_PER_NODE_MAX;
            let goes_on = match attempt.state {
                AttemptState::Lost => {
                    let purpose_fits = checks == attempt.is_check();
                    let mut chain = self.attempts.chain(cell.head);
                    let twice = chain.any(|(_, a)| a.node == attempt.node && a.state.is_live());
                    good && purpose_fits
                        && !twice
                        && cell.live < LIVE_MAX
                        && !tasks.contains(&attempt.task)
                }
                _ => known.is_some_and(|node| node.kind == profile.kind),
            };
            if goes_on && room {
                tasks.insert(attempt.task);
                resumed.push(id);
            }
        }
        (resumed, unwanted)
    }

    pub(super) fn checkpoint(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        id: AttemptId,
        checkpoint: Checkpoint,
    ) {
        let Some((_, attempt)) = self.attempts.find(id) else {
            return;
        };
        let mine = self.nodes.index(&node) == Some(attempt.node) && attempt.state.is_live();
        // A run that began anew is behind what is kept of the task until it has caught up. What a node
        // saved that is not in good standing any more is in nobody's way.
        let head = self
            .cell(attempt.task)
            .map_or(crate::attempt::NONE, |cell| cell.head);
        let kept = self.checkpoint_for(attempt.purpose, head);
        let further = kept.is_none_or(|(_, fuel)| fuel < checkpoint.fuel_used);
        let node = self.nodes.at(attempt.node);
        let good = node.is_some_and(|node| node.standing == Standing::Good);
        let release = self.jobs.get(&attempt.task.job).map(|job| job.release);
        let release = release.and_then(|release| self.releases.get(&release));
        let fuel_max = release.map_or(0, |release| release.facts.limits.fuel);
        // Beyond its fuel there is nothing to go on from, and nothing could ever get further.
        let bounded = checkpoint.state.within_limit()
            && checkpoint.chain.len() <= limits::CHECKPOINT_CHAIN_MAX
            && checkpoint.fuel_used <= fuel_max;
        if mine && good && further && bounded {
            let (attempt, task) = (id, attempt.task);
            self.emit(
                turn,
                Fact::Checkpointed {
                    attempt,
                    task,
                    checkpoint,
                },
            );
        }
    }

    pub(super) fn suspect(&mut self, turn: &mut Turn<'_>, node: NodeId, level: u8, reason: String) {
        if self.nodes.index(&node).is_some() {
            let reason = reason.chars().take(limits::NAME_BYTES_MAX).collect();
            self.emit(
                turn,
                Fact::Suspicion {
                    node,
                    level,
                    reason,
                },
            );
        }
    }
}
