//! Nodes: coming, going, changing.

use std::collections::BTreeSet;

use hearth_wire::message::{Capacity, Refusal};
use hearth_wire::record::{NodeProfile, Standing};
use hearth_wire::{AttemptId, EngineId, Epoch, NodeId, limits};

use super::Folded;
use crate::Coordinator;
use crate::attempt::AttemptState;
use crate::job::Phase;
use crate::node::{Node, NodeIndex};
use crate::shape::Offer;
use crate::step::Effect;
use crate::time::Timer;

impl Coordinator {
    pub(super) fn fold_started(&mut self, epoch: Epoch) -> Folded {
        if epoch.counter <= self.epoch.counter {
            return Err("an epoch is not above the one before");
        }
        self.epoch = epoch;
        self.extend_leases();
        for index in self.nodes.indices() {
            if self
                .nodes
                .at(index)
                .is_some_and(|node| node.session.is_some())
            {
                self.disconnect(index);
                if self
                    .nodes
                    .at(index)
                    .is_some_and(|node| !node.live.is_empty())
                {
                    let at = self.now.plus(self.config.reconnect_millis);
                    self.timers.set(at, Timer::Back(index));
                }
            }
        }
        Ok(())
    }

    /// Time goes on while no coordinator runs. A lease that would end before its node can have come back
    /// with what it finished goes on until then, so that our absence costs neither nodes nor tasks.
    fn extend_leases(&mut self) {
        // The node is given up first, at half the price and without blame.
        let least = self.now.plus(2 * self.config.reconnect_millis);
        let live = self.attempts.iter();
        let live = live.filter(|(_, attempt)| attempt.state == AttemptState::Live);
        let early = live.filter(|(_, attempt)| attempt.deadline < least);
        let early: Vec<_> = early
            .map(|(slot, attempt)| (slot, attempt.id, attempt.deadline))
            .collect();
        for (slot, id, deadline) in early {
            self.timers.clear(deadline, Timer::Lease(id));
            self.timers.set(least, Timer::Lease(id));
            if let Some(attempt) = self.attempts.at_mut(slot) {
                attempt.deadline = least;
            }
        }
    }

    pub(super) fn fold_joined(&mut self, profile: &NodeProfile, resumed: &[AttemptId]) -> Folded {
        if profile.session <= self.last_session {
            return Err("a session's number was used before");
        }
        self.last_session = profile.session;
        let index = match self.nodes.index(&profile.node) {
            Some(index) => index,
            None => self.add_node(Node::new(profile.node, profile.kind))?,
        };
        self.disconnect(index);
        self.keep_only(index, resumed);
        let offer = Offer::of(profile);
        let before = self.nodes.at(index).and_then(|node| node.group);
        self.unindex(index);
        let group = self.fits.join_group(offer);
        if let Some(before) = before {
            self.fits.leave_group(before);
        }
        let node = self.nodes.at_mut(index).ok_or("unknown node")?;
        node.group = Some(group);
        node.arrive(profile);
        self.nodes.sessions.insert(profile.session, index);
        self.vouch(index);
        self.out.nodes.insert(index);
        for attempt in resumed {
            self.revive(index, *attempt)?;
        }
        Ok(())
    }

    /// Takes in a node; a full realm forgets the one that left first and left nothing open.
    fn add_node(&mut self, node: Node) -> Result<NodeIndex, &'static str> {
        if self.nodes.len() >= limits::NODES_MAX {
            let (at, oldest) = *self
                .nodes
                .gone
                .first()
                .ok_or("the realm is full of nodes")?;
            self.nodes.gone.remove(&(at, oldest));
            let gone = self.nodes.forget(oldest);
            let engine = gone.as_ref().and_then(|node| node.vouches);
            if let Some(group) = gone.and_then(|node| node.group) {
                self.fits.leave_group(group);
            }
            self.swap_engine(engine, None);
        }
        Ok(self.nodes.add(node))
    }

    /// Notes what engine the node runs, if it is one of ours.
    fn vouch(&mut self, index: NodeIndex) {
        let Some(node) = self.nodes.at_mut(index) else {
            return;
        };
        let (old, new) = (node.vouches, node.engine_of_ours());
        node.vouches = new;
        if old != new {
            self.swap_engine(old, new);
        }
    }

    fn swap_engine(&mut self, old: Option<EngineId>, new: Option<EngineId>) {
        if self.fits.swap_engine(old, new) {
            // Others may run things now, and check what waited for that engine.
            let shapes = self.fits.shapes();
            self.out.shapes.extend(shapes.map(|(index, _)| index));
        }
    }

    /// The node has no connection any more. Its attempts are the caller's.
    fn disconnect(&mut self, index: NodeIndex) {
        let now = self.now;
        let Some(node) = self.nodes.at_mut(index) else {
            return;
        };
        let declined = std::mem::take(&mut node.declined);
        if let Some(session) = node.session.take() {
            node.left_at = now;
            if node.kind.is_trusted() {
                self.ours_left_at = Some(now);
            }
            self.nodes.sessions.remove(&session);
            // Nothing more can be sent there.
            self.out.grants.remove(&session);
            self.out.cancels.remove(&session);
            self.out.parked.remove(&session);
        }
        for release in declined {
            if let Some(release) = self.releases.get_mut(&release) {
                release.declined_by.remove(&index);
            }
        }
        self.out.nodes.insert(index);
        self.touch_shapes(index);
    }

    /// Live attempts that are not in the list are lost.
    fn keep_only(&mut self, index: NodeIndex, resumed: &[AttemptId]) {
        let keep: BTreeSet<_> = resumed.iter().copied().collect();
        let Some(node) = self.nodes.at(index) else {
            return;
        };
        let live = node.live.iter().copied();
        let mut lost: Vec<_> = live
            .filter_map(|slot| Some((self.attempts.at(slot)?.id, slot)))
            .filter(|(id, _)| !keep.contains(id))
            .collect();
        lost.sort_unstable();
        for (_, slot) in lost {
            self.lose(slot, 1, false);
        }
    }

    /// A node came back with an attempt that it holds.
    fn revive(&mut self, index: NodeIndex, id: AttemptId) -> Folded {
        let (slot, attempt) = self.attempts.find(id).ok_or("unknown attempt")?;
        if attempt.node != index {
            return Err("a node resumes another's attempt");
        }
        let parked = matches!(attempt.state, AttemptState::Paused(_));
        match attempt.state {
            AttemptState::Live | AttemptState::Paused(_) => {}
            AttemptState::Lost => {
                let (task, mut deadline) = (attempt.task, attempt.deadline);
                self.unwait(task);
                let job = self.jobs.get_mut(&task.job).ok_or("unknown job")?;
                if deadline > self.now {
                    // Only its connection was gone for a while: the attempt goes on, nothing was lost.
                    // Its lease went on too, or a node that comes and goes would never end it.
                    let cell = &mut job.cells[task.index.0 as usize];
                    cell.halves = cell.halves.saturating_sub(1);
                } else {
                    deadline = self.now.plus(job.lease_millis);
                }
                if let Some(attempt) = self.attempts.at_mut(slot) {
                    attempt.state = AttemptState::Live;
                    attempt.deadline = deadline;
                }
                self.attach(slot);
            }
            _ => return Err("a node resumes an attempt that has ended"),
        }
        // The node may have missed what it was told last. It may also hold as parked what was given up
        // meanwhile and goes on, and would let its lease pass.
        if let Some(session) = self.nodes.at(index).and_then(|node| node.session) {
            self.out.park(session, id, parked);
        }
        Ok(())
    }

    pub(super) fn fold_lost(&mut self, index: NodeIndex) {
        self.disconnect(index);
        self.keep_only(index, &[]);
    }

    pub(super) fn fold_capacity(&mut self, index: NodeIndex, capacity: Capacity) {
        if let Some(node) = self.nodes.at_mut(index) {
            // Memory decides which releases fit, and so the group; that is fixed per connection.
            node.capacity.slots = capacity.slots;
            self.out.nodes.insert(index);
            self.touch_shapes(index);
        }
    }

    pub(super) fn fold_draining(&mut self, index: NodeIndex) {
        if let Some(node) = self.nodes.at_mut(index) {
            node.draining = true;
            let session = node.session;
            self.out.nodes.insert(index);
            self.touch_shapes(index);
            if let Some(session) = session {
                self.out.effects.push(Effect::Drain { session });
            }
        }
    }

    pub(super) fn fold_standing(&mut self, id: NodeId, standing: Standing) -> Folded {
        let index = match self.nodes.index(&id) {
            Some(index) => index,
            // Revoked before it ever came.
            None => self.add_node(Node::new(id, hearth_wire::record::NodeKind::Volunteer))?,
        };
        let node = self.nodes.at_mut(index).ok_or("unknown node")?;
        node.standing = standing;
        self.vouch(index);
        self.out.nodes.insert(index);
        self.touch_shapes(index);
        if matches!(standing, Standing::Quarantined | Standing::Revoked) {
            if let Some(node) = self.nodes.at_mut(index) {
                node.blamed = false;
            }
            self.revoke_results(index)?;
            self.cancel_all(index);
        }
        if standing == Standing::Revoked
            && let Some(session) = self.nodes.at(index).and_then(|node| node.session)
        {
            self.disconnect(index);
            self.out.effects.push(Effect::CloseSession {
                session,
                reason: Refusal::Revoked,
            });
        }
        Ok(())
    }

    /// Everything of the node that is not settled is taken back and run again.
    fn revoke_results(&mut self, index: NodeIndex) -> Folded {
        let Some(node) = self.nodes.at_mut(index) else {
            return Ok(());
        };
        for task in std::mem::take(&mut node.unsettled) {
            self.amend(task)?;
        }
        Ok(())
    }

    /// A provisional result is taken back: the task is as it was before, and waits again.
    pub(super) fn amend(&mut self, task: hearth_wire::TaskId) -> Folded {
        let head = self.cell(task).ok_or("unknown task")?.head;
        let contested = self.mismatch_of(head);
        let reported = self.attempts.chain(head).filter(|(_, attempt)| {
            matches!(
                attempt.state,
                AttemptState::Result(_) | AttemptState::Other(_)
            )
        });
        let reported: Vec<_> = reported
            .map(|(slot, a)| (slot, a.id, a.state, a.node))
            .collect();
        for (slot, attempt, state, node) in reported {
            if matches!(state, AttemptState::Result(_)) {
                self.out
                    .effects
                    .push(Effect::ResultAmended { task, attempt });
                if let Some(node) = self.nodes.at_mut(node) {
                    node.unsettled.remove(&task);
                }
            }
            self.unlink(slot);
        }
        if let Some(node) = contested {
            self.close_mismatch(node);
        }
        self.unwait(task);
        let job = self.jobs.get_mut(&task.job).ok_or("unknown job")?;
        let cell = &mut job.cells[task.index.0 as usize];
        if cell.phase != Phase::Provisional {
            return Err("a result is taken back that is not provisional");
        }
        cell.phase = Phase::Open;
        job.provisional -= 1;
        let now = self.now;
        self.wait(task, now);
        self.out.changed.insert(task.job);
        Ok(())
    }

    /// Nothing that the node still holds is wanted: its attempts are void, their tasks wait again.
    fn cancel_all(&mut self, index: NodeIndex) {
        let Some(node) = self.nodes.at(index) else {
            return;
        };
        let mut live = node.live.clone();
        live.sort_unstable_by_key(|slot| self.attempts.at(*slot).map(|attempt| attempt.id));
        for slot in live {
            self.tell_cancelled(slot);
            self.lose(slot, 0, false);
            if let Some(attempt) = self.attempts.at_mut(slot) {
                attempt.state = AttemptState::Void;
            }
        }
    }
}
