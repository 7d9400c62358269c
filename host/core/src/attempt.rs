//! Attempts: a slab of all that are live, and of those that their task still remembers.

use hearth_wire::record::Purpose;
use hearth_wire::{AttemptId, Digest, EngineId, Millis, Seq, TaskId};
use serde::{Deserialize, Serialize};

use crate::node::NodeIndex;

/// No slot: the end of a task's list.
pub(crate) const NONE: u32 = u32::MAX;
/// In the place of a node: the owner of the job, who computed a result while the realm was away. No node
/// stands there, so it is never leased to, trusted, blamed or counted.
pub(crate) const OWNER: NodeIndex = NodeIndex::MAX;
/// Bits of an attempt's id that name its slot: 16 million attempts may be remembered at once, more
/// than all nodes may hold together with their tasks' histories in any realm that one machine serves.
const SLOT_BITS: u32 = 24;
pub(crate) const SLOTS_MAX: usize = 1 << SLOT_BITS;

/// The longest time for which an attempt is parked. Urgent work passes long before, and what was parked
/// half a minute ago goes on beside it; but an owner may take away the slots in which it could go on.
pub(crate) const PARKED_MILLIS_MAX: u64 = 600_000;

/// One lease of a task to a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) id: AttemptId,
    pub(crate) task: TaskId,
    pub(crate) node: NodeIndex,
    /// What the node ran when it got the lease: it may run something else by now.
    pub(crate) engine: EngineId,
    pub(crate) purpose: Purpose,
    pub(crate) state: AttemptState,
    pub(crate) granted_at: Millis,
    /// When the lease ends; while parked, when it would have ended.
    pub(crate) deadline: Millis,
    /// Attempts that the node had to run before this one, for each of its slots.
    pub(crate) ahead: u16,
    /// The checkpoint that its task keeps, if this attempt made it, and the fuel that had cost.
    pub(crate) checkpoint: Option<(Seq, u64)>,
    /// Whether it went on, at once or over others, from a state that another untrusted node saved: what
    /// it reports may then be that node's fault.
    pub(crate) borrowed: bool,
    /// The task's previous attempt.
    pub(crate) next: u32,
    /// Where it stands in its node's and its job's lists of live attempts.
    pub(crate) in_node: u32,
    pub(crate) in_job: u32,
}

/// How an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AttemptState {
    /// Leased, and a report is awaited.
    Live,
    /// Leased and parked since then, for more urgent work.
    Paused(Millis),
    /// The node was lost or its lease ended; a late report is still welcome.
    Lost,
    /// It ended without a result: the node is not asked again for this task.
    Failed,
    /// Its report is the task's provisional result.
    Result(Digest),
    /// Its report differs from the provisional result.
    Other(Digest),
    /// Its node was found wrong, its report came too late to count, or its owner stopped it.
    Void,
}

impl AttemptState {
    /// Whether the attempt holds a lease.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Paused(_))
    }

    /// Whether a report would still be looked at.
    pub(crate) fn is_awaited(self) -> bool {
        self.is_live() || self == Self::Lost
    }
}

/// All attempts that are remembered. An id is a counter with the slot in its low bits, so that ids
/// rise with time, are never used twice, and are found without a map.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Attempts {
    slots: Vec<Option<Attempt>>,
    free: Vec<u32>,
    counter: u64,
}

impl Attempts {
    pub(crate) fn slot_of(id: AttemptId) -> u32 {
        (id.0 & (SLOTS_MAX as u64 - 1)) as u32
    }

    /// The ids of the next `count` attempts, fewer if the slab is full.
    pub(crate) fn next_ids(&self, count: usize) -> impl Iterator<Item = AttemptId> + '_ {
        let reused = self.free.iter().rev().copied();
        let fresh = self.slots.len()..SLOTS_MAX;
        let slots = reused.chain(fresh.map(|slot| slot as u32));
        let ids = slots.zip(self.counter + 1..);
        ids.map(|(slot, counter)| AttemptId(counter << SLOT_BITS | u64::from(slot)))
            .take(count)
    }

    /// Takes in the attempt with the next id.
    pub(crate) fn insert(&mut self, attempt: Attempt) -> Result<u32, &'static str> {
        if self.next_ids(1).next() != Some(attempt.id) {
            return Err("an attempt's id is not the next one");
        }
        self.counter += 1;
        let slot = Self::slot_of(attempt.id);
        if self.free.last() == Some(&slot) {
            self.free.pop();
            self.slots[slot as usize] = Some(attempt);
        } else {
            self.slots.push(Some(attempt));
        }
        Ok(slot)
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Attempt> {
        let attempt = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(attempt)
    }

    pub(crate) fn at(&self, slot: u32) -> Option<&Attempt> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut Attempt> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The slot and attempt of this name, if it is remembered.
    pub(crate) fn find(&self, id: AttemptId) -> Option<(u32, &Attempt)> {
        let slot = Self::slot_of(id);
        let attempt = self.at(slot)?;
        (attempt.id == id).then_some((slot, attempt))
    }

    /// The attempts of a task, the newest first, from the head of its list.
    pub(crate) fn chain(&self, head: u32) -> impl Iterator<Item = (u32, &Attempt)> {
        let mut slot = head;
        std::iter::from_fn(move || {
            let attempt = self.at(slot)?;
            let found = (slot, attempt);
            slot = attempt.next;
            Some(found)
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Attempt)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, attempt)| Some((slot as u32, attempt.as_ref()?)))
    }

    pub(crate) fn counter(&self) -> u64 {
        self.counter
    }

    pub(crate) fn free(&self) -> &[u32] {
        &self.free
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Attempt {
    /// When its lease is taken back, if it has one.
    pub(crate) fn ends(&self) -> Option<Millis> {
        match self.state {
            AttemptState::Live => Some(self.deadline),
            AttemptState::Paused(since) => Some(since.plus(PARKED_MILLIS_MAX)),
            _ => None,
        }
    }

    /// Whether the run is to compare, and not to get a result.
    pub(crate) fn is_check(&self) -> bool {
        matches!(self.purpose, Purpose::Check | Purpose::Arbitrate)
    }
}
