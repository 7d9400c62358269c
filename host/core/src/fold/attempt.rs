//! Attempts: granted, parked, lost, ended.

use hearth_wire::record::{LeaseFact, NodeKind, Purpose};
use hearth_wire::{AttemptId, Body, Checkpoint, Millis, NodeId, Priority, Seq, SessionId, TaskId};

use super::Folded;
use crate::Coordinator;
use crate::attempt::{Attempt, AttemptState, NONE, PARKED_MILLIS_MAX};
use crate::job::Wait;
use crate::shape::Who;
use crate::step::{Effect, Grant, Holder};
use crate::time::Timer;

impl Coordinator {
    pub(super) fn fold_leased(
        &mut self,
        node: &NodeId,
        session: SessionId,
        leases: &[LeaseFact],
    ) -> Folded {
        let index = self.nodes.index(node).ok_or("unknown node")?;
        if self.nodes.by_session(session) != Some(index) {
            return Err("a lease goes to a session that is not the node's");
        }
        for lease in leases {
            self.fold_lease(index, *node, session, lease)?;
        }
        for chunk in leases.chunk_by(|one, next| one.task.job == next.task.job) {
            self.charge(chunk[0].task.job, chunk.len() as u64);
        }
        self.turn += 1;
        Ok(())
    }

    fn fold_lease(
        &mut self,
        index: u32,
        id: NodeId,
        session: SessionId,
        lease: &LeaseFact,
    ) -> Folded {
        let task = lease.task;
        let cell = *self.cell(task).ok_or("unknown task")?;
        if cell.phase.is_terminal() {
            return Err("a lease of a task that has ended");
        }
        self.unwait(task);
        let checkpoint = self.checkpoint_for(lease.purpose, cell.head);
        let borrowed = self.borrows(index, lease.purpose, cell.head);
        let now = self.now;
        let node = self.nodes.at_mut(index).ok_or("unknown node")?;
        let job = self.jobs.get_mut(&task.job).ok_or("unknown job")?;
        let ahead = node.running() / usize::from(node.capacity.slots.max(1));
        let attempt = Attempt {
            id: lease.attempt,
            task,
            node: index,
            engine: node.engine,
            purpose: lease.purpose,
            state: AttemptState::Live,
            granted_at: now,
            deadline: now.plus(job.lease_millis),
            ahead: ahead.min(usize::from(u16::MAX)) as u16,
            checkpoint: None,
            borrowed,
            next: cell.head,
            in_node: 0,
            in_job: 0,
        };
        let slot = self.attempts.insert(attempt)?;
        if cell.wait == Wait::Fresh {
            if job.fresh != task.index.0 {
                return Err("a fresh task is leased out of order");
            }
            job.fresh += 1;
        }
        let cell = &mut job.cells[task.index.0 as usize];
        cell.wait = Wait::Nowhere;
        cell.head = slot;
        node.attempts += 1;
        if lease.purpose == Purpose::Hedge {
            job.hedged += 1;
        }
        let grant = Grant {
            attempt: lease.attempt,
            task,
            release: job.release,
            priority: job.priority,
            millis: job.lease_millis,
            checkpoint: checkpoint.map(|(seq, _)| seq),
        };
        self.attach(slot);
        if self.is_overflow(slot) {
            self.overflow_at = Some(now);
        }
        let grants = self.out.grants.entry(session).or_insert((id, Vec::new()));
        grants.1.push(grant);
        Ok(())
    }

    /// Whether an attempt is one at home that volunteers might have made.
    fn is_overflow(&self, slot: u32) -> bool {
        let Some(attempt) = self.attempts.at(slot) else {
            return false;
        };
        let local = self.nodes.at(attempt.node).map(|node| node.kind) == Some(NodeKind::Local);
        let shape = self.jobs.get(&attempt.task.job).map(|job| job.shape);
        let shape = shape.and_then(|shape| self.fits.shape(shape));
        let anybody = shape.is_some_and(|shape| shape.needs.who == Who::Anybody);
        local && anybody && matches!(attempt.purpose, Purpose::Run | Purpose::Hedge)
    }

    /// The checkpoint that a run may go on from, and the fuel that it had cost. A check goes on only
    /// from another check: what a volunteer saved must not decide about a volunteer.
    pub(crate) fn checkpoint_for(&self, purpose: Purpose, head: u32) -> Option<(Seq, u64)> {
        self.maker_for(purpose, head)?.checkpoint
    }

    /// The attempt that made the checkpoint of [`Self::checkpoint_for`].
    fn maker_for(&self, purpose: Purpose, head: u32) -> Option<&Attempt> {
        let usable = |attempt: &Attempt| match purpose {
            Purpose::Run | Purpose::Hedge => {
                let node = self.nodes.at(attempt.node);
                node.is_some_and(|node| node.standing == hearth_wire::record::Standing::Good)
            }
            Purpose::Check => attempt.purpose == Purpose::Check,
            Purpose::Arbitrate => attempt.purpose == Purpose::Arbitrate,
        };
        let mut made = self.attempts.chain(head).map(|(_, attempt)| attempt);
        // A task keeps one checkpoint, so the first one found is the only one.
        made.find(|attempt| usable(attempt) && attempt.checkpoint.is_some())
    }

    /// Whether a lease to this node goes on from what another untrusted node saved.
    fn borrows(&self, index: u32, purpose: Purpose, head: u32) -> bool {
        self.maker_for(purpose, head).is_some_and(|maker| {
            let node = self.nodes.at(maker.node);
            let trusted = node.is_some_and(|node| node.kind.is_trusted());
            maker.borrowed || (maker.node != index && !trusted)
        })
    }

    /// Nobody goes on from the task's checkpoint any more.
    pub(super) fn drop_checkpoint(&mut self, task: TaskId) {
        let head = self.cell(task).map_or(NONE, |cell| cell.head);
        let made = self.attempts.chain(head);
        let made = made.filter(|(_, attempt)| attempt.checkpoint.is_some());
        let made: Vec<_> = made.map(|(slot, _)| slot).collect();
        for slot in &made {
            if let Some(attempt) = self.attempts.at_mut(*slot) {
                attempt.checkpoint = None;
            }
        }
        if !made.is_empty() {
            let holder = Holder::Checkpoint(task);
            self.out.effects.push(Effect::BlobsReleased { holder });
        }
    }

    /// Puts a live attempt into the lists of its node and job.
    pub(super) fn attach(&mut self, slot: u32) {
        let overflow = self.is_overflow(slot);
        let Some(attempt) = self.attempts.at_mut(slot) else {
            return;
        };
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else {
            return;
        };
        let Some(node) = self.nodes.at_mut(attempt.node) else {
            return;
        };
        attempt.in_node = node.live.len() as u32;
        attempt.in_job = job.live.len() as u32;
        node.live.push(slot);
        job.live.push(slot);
        node.low += u32::from(job.priority == Priority::Low);
        let cell = &mut job.cells[attempt.task.index.0 as usize];
        cell.live += 1;
        job.leased += u32::from(cell.live == 1);
        self.overflow_live += u32::from(overflow);
        self.timers.set(attempt.deadline, Timer::Lease(attempt.id));
        self.out.nodes.insert(attempt.node);
        self.out.changed.insert(attempt.task.job);
    }

    /// Takes a live attempt out of the lists of its node and job. Its state is the caller's.
    pub(super) fn detach(&mut self, slot: u32) {
        let overflow = self.is_overflow(slot);
        let Some(attempt) = self.attempts.at(slot) else {
            return;
        };
        let (id, index, task) = (attempt.id, attempt.node, attempt.task);
        let (in_node, in_job) = (attempt.in_node as usize, attempt.in_job as usize);
        let paused = matches!(attempt.state, AttemptState::Paused(_));
        let ends = attempt.ends();
        if let Some(node) = self.nodes.at_mut(index) {
            node.live.swap_remove(in_node);
            node.paused -= u32::from(paused);
            let moved = node.live.get(in_node).copied();
            if let Some(moved) = moved.and_then(|slot| self.attempts.at_mut(slot)) {
                moved.in_node = in_node as u32;
            }
        }
        if let Some(job) = self.jobs.get_mut(&task.job) {
            job.live.swap_remove(in_job);
            let moved = job.live.get(in_job).copied();
            if let Some(moved) = moved.and_then(|slot| self.attempts.at_mut(slot)) {
                moved.in_job = in_job as u32;
            }
            let cell = &mut job.cells[task.index.0 as usize];
            cell.live -= 1;
            job.leased -= u32::from(cell.live == 0);
            if job.priority == Priority::Low
                && !paused
                && let Some(node) = self.nodes.at_mut(index)
            {
                node.low -= 1;
            }
        }
        self.overflow_live -= u32::from(overflow);
        if let Some(ends) = ends {
            self.timers.clear(ends, Timer::Lease(id));
        }
        self.out.nodes.insert(index);
        self.out.changed.insert(task.job);
    }

    /// Forgets an attempt that is not live and stands in no list any more.
    pub(super) fn drop_attempt(&mut self, slot: u32) {
        let Some(attempt) = self.attempts.remove(slot) else {
            return;
        };
        if let Some(node) = self.nodes.at_mut(attempt.node) {
            node.attempts -= 1;
        }
        self.out.nodes.insert(attempt.node);
    }

    /// Takes an attempt that is not live out of its task's list, and forgets it.
    pub(super) fn unlink(&mut self, slot: u32) {
        let Some(attempt) = self.attempts.at(slot) else {
            return;
        };
        let (task, next) = (attempt.task, attempt.next);
        if attempt.checkpoint.is_some() {
            // It leaves with the attempt that made it: nobody else will know of it.
            let holder = Holder::Checkpoint(task);
            self.out.effects.push(Effect::BlobsReleased { holder });
        }
        let Some(cell) = self.cell(task) else {
            return;
        };
        let head = cell.head;
        let before = self.attempts.chain(head).find(|(_, a)| a.next == slot);
        match before.map(|(slot, _)| slot) {
            Some(before) => {
                if let Some(before) = self.attempts.at_mut(before) {
                    before.next = next;
                }
            }
            None => {
                if let Some(job) = self.jobs.get_mut(&task.job) {
                    job.cells[task.index.0 as usize].head = next;
                }
            }
        }
        self.drop_attempt(slot);
    }

    /// A live attempt has no node or no lease any more; its task waits unless another attempt lives.
    pub(super) fn lose(&mut self, slot: u32, halves: u8, wait: bool) {
        self.detach(slot);
        let Some(attempt) = self.attempts.at_mut(slot) else {
            return;
        };
        attempt.state = AttemptState::Lost;
        let task = attempt.task;
        let at = self.add_halves(task, halves);
        self.wait(task, if wait { at } else { self.now });
    }

    /// Counts attempts without a result; says when the task may be leased again.
    pub(super) fn add_halves(&mut self, task: TaskId, halves: u8) -> Millis {
        let Some(job) = self.jobs.get_mut(&task.job) else {
            return self.now;
        };
        let cell = &mut job.cells[task.index.0 as usize];
        cell.halves = cell.halves.saturating_add(halves);
        self.now.plus(Self::backoff(cell.halves))
    }

    pub(super) fn tell_cancelled(&mut self, slot: u32) {
        let Some(attempt) = self.attempts.at(slot) else {
            return;
        };
        let session = self.nodes.at(attempt.node).and_then(|node| node.session);
        let Some(session) = session else {
            return;
        };
        if let Some(parked) = self.out.parked.get_mut(&session) {
            parked.remove(&attempt.id);
        }
        // What was granted in this very step has not left: it never will.
        if let Some((_, grants)) = self.out.grants.get_mut(&session) {
            let before = grants.len();
            grants.retain(|grant| grant.attempt != attempt.id);
            if grants.len() < before {
                return;
            }
        }
        self.out
            .cancels
            .entry(session)
            .or_default()
            .push(attempt.id);
    }

    pub(super) fn fold_lease_ended(&mut self, id: AttemptId) -> Folded {
        let (slot, attempt) = self.attempts.find(id).ok_or("unknown attempt")?;
        if !attempt.state.is_live() {
            return Err("a lease ends that is not live");
        }
        let node = attempt.node;
        let parked = matches!(attempt.state, AttemptState::Paused(_));
        self.tell_cancelled(slot);
        if parked {
            // We parked it: that says nothing against its node.
            self.lose(slot, 1, true);
            return Ok(());
        }
        if let Some(node) = self.nodes.at_mut(node) {
            node.record.failed();
        }
        self.lose(slot, 2, true);
        Ok(())
    }

    pub(super) fn fold_paused(&mut self, id: AttemptId) -> Folded {
        let now = self.now;
        let (slot, attempt) = self.attempts.find(id).ok_or("unknown attempt")?;
        if attempt.state != AttemptState::Live {
            return Err("an attempt is parked that does not run");
        }
        let (index, deadline, job) = (attempt.node, attempt.deadline, attempt.task.job);
        if let Some(attempt) = self.attempts.at_mut(slot) {
            attempt.state = AttemptState::Paused(now);
        }
        self.timers.clear(deadline, Timer::Lease(id));
        let ends = now.plus(PARKED_MILLIS_MAX);
        self.timers.set(ends, Timer::Lease(id));
        let low = self.jobs.get(&job).map(|job| job.priority) == Some(Priority::Low);
        let node = self.nodes.at_mut(index).ok_or("unknown node")?;
        node.paused += 1;
        node.low -= u32::from(low);
        self.out.nodes.insert(index);
        if let Some(session) = node.session {
            self.out.park(session, id, true);
        }
        Ok(())
    }

    pub(super) fn fold_resumed(&mut self, id: AttemptId) -> Folded {
        let now = self.now;
        let (slot, attempt) = self.attempts.find(id).ok_or("unknown attempt")?;
        let AttemptState::Paused(since) = attempt.state else {
            return Err("an attempt goes on that was not parked");
        };
        let (index, job) = (attempt.node, attempt.task.job);
        // The lease does not run while the attempt is parked.
        let deadline = attempt.deadline.plus(now.since(since));
        if let Some(attempt) = self.attempts.at_mut(slot) {
            attempt.state = AttemptState::Live;
            attempt.deadline = deadline;
        }
        let ends = since.plus(PARKED_MILLIS_MAX);
        self.timers.clear(ends, Timer::Lease(id));
        self.timers.set(deadline, Timer::Lease(id));
        let low = self.jobs.get(&job).map(|job| job.priority) == Some(Priority::Low);
        let node = self.nodes.at_mut(index).ok_or("unknown node")?;
        node.paused -= 1;
        node.low += u32::from(low);
        self.out.nodes.insert(index);
        if let Some(session) = node.session {
            self.out.park(session, id, false);
        }
        Ok(())
    }

    pub(super) fn fold_checkpoint(
        &mut self,
        id: AttemptId,
        task: TaskId,
        checkpoint: &Checkpoint,
    ) -> Folded {
        let seq = Seq(self.seq.0 + 1);
        let (slot, attempt) = self.attempts.find(id).ok_or("unknown attempt")?;
        if attempt.task != task || !attempt.state.is_live() {
            return Err("a checkpoint of an attempt that is not live");
        }
        // One state per task is kept, the one that got furthest. What is released here must not be
        // granted later, so whoever made it has none any more.
        self.drop_checkpoint(task);
        if let Some(attempt) = self.attempts.at_mut(slot) {
            attempt.checkpoint = Some((seq, checkpoint.fuel_used));
        }
        let holder = Holder::Checkpoint(task);
        if let Body::Blob(blob) = &checkpoint.state {
            self.out.effects.push(Effect::BlobHeld {
                holder,
                blob: blob.digest,
            });
        }
        Ok(())
    }
}
