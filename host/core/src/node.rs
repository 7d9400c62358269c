//! Nodes: what they offer, what they hold, how fast and how reliable they have been.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use hearth_wire::message::Capacity;
use hearth_wire::record::{NodeKind, NodeProfile, Standing};
use hearth_wire::{EngineId, Millis, NodeId, ReleaseId, SessionId, TaskId, limits};
use serde::{Deserialize, Serialize};

use crate::shape::{GroupIndex, IdleKey};

/// Position of a [`Node`].
pub(crate) type NodeIndex = u32;

/// Releases of which a node's run time is remembered; the one used longest ago goes first.
const RATES_MAX: usize = 16;
/// Releases that a node declined and that are remembered while it is connected.
pub(crate) const DECLINED_MAX: usize = 256;
/// Work that waits on a node behind its running attempts lasts about this long: twice a round trip
/// across an ocean, so that a node does not idle while its next leases travel.
const PREFETCH_MICROS: u64 = 200_000;
/// What waits on a node for no longer than this costs less there than the round trip that it saves.
const QUICK_MICROS: u64 = 2_000;
/// What an attempt takes at the least, with all that is done for it beside its run.
pub(crate) const ATTEMPT_MICROS_MIN: u64 = 50;
/// Attempts that may wait on one node: bounds what a loss costs.
const PREFETCH_MAX: u64 = 1_024;
/// Parts of one, for shares and speeds in fixed point.
pub(crate) const ONE: u64 = 1 << 16;

/// What may wait on a node behind the attempts that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    Nothing,
    /// About [`PREFETCH_MICROS`] of work, and no more than the node's share of what waits for anybody, so
    /// that others that idle get theirs.
    Share,
    /// As much, or [`QUICK_MICROS`] of work if the share is less.
    Quick,
}

/// A node that the realm knows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) kind: NodeKind,
    pub(crate) engine: EngineId,
    pub(crate) group: Option<GroupIndex>,
    pub(crate) session: Option<SessionId>,
    pub(crate) capacity: Capacity,
    pub(crate) standing: Standing,
    pub(crate) draining: bool,
    /// Slots of live attempts, in no order.
    pub(crate) live: Vec<u32>,
    /// How many of them are parked.
    pub(crate) paused: u32,
    /// Live attempts for jobs of low priority that are not parked.
    pub(crate) low: u32,
    /// Attempts in the slab that name this node.
    pub(crate) attempts: u32,
    /// Tasks whose provisional result it produced.
    pub(crate) unsettled: BTreeSet<TaskId>,
    /// Checks that differ from its results and are not decided.
    pub(crate) mismatches: u32,
    /// Two trusted runs agreed that it was wrong, and its standing does not say so yet.
    pub(crate) blamed: bool,
    /// Releases that it would not or could not run, while connected.
    pub(crate) declined: BTreeSet<ReleaseId>,
    /// When its connection ended, if it did.
    pub(crate) left_at: Millis,
    pub(crate) record: Track,
    /// Its key in its group's list of idle nodes, if it stands there, and whether in that of nodes
    /// with low work and what it adds to its group's slots. All follow from the fields above.
    pub(crate) idle: Option<IdleKey>,
    pub(crate) in_low: bool,
    pub(crate) in_gone: bool,
    pub(crate) counted: Option<u16>,
    /// The engine for which it stands among our own nodes, if it does.
    pub(crate) vouches: Option<EngineId>,
}

/// How a node has done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Track {
    /// Run time by release, in microseconds, and when it was last updated, as a count of reports.
    pub(crate) rates: BTreeMap<ReleaseId, (u64, u64)>,
    /// How fast it is compared with all nodes, over the releases it ran; [`ONE`] is as fast as all.
    pub(crate) speed: u64,
    /// The share of its attempts that ended without a result through its fault; [`ONE`] is all.
    pub(crate) errors: u64,
    pub(crate) reports: u64,
}

impl Default for Track {
    fn default() -> Self {
        Self {
            rates: BTreeMap::new(),
            speed: ONE,
            errors: 0,
            reports: 0,
        }
    }
}

impl Track {
    /// A run of a release took this long; over all nodes it takes `mean` on average.
    pub(crate) fn ran(&mut self, release: ReleaseId, micros: u64, mean: u64) {
        self.reports += 1;
        let micros = micros.max(1);
        let reports = self.reports;
        let rate = self.rates.entry(release).or_insert((micros, reports));
        *rate = (ewma(rate.0, micros), reports);
        if self.rates.len() > RATES_MAX {
            let oldest = self.rates.iter().min_by_key(|(_, (_, at))| *at);
            if let Some(release) = oldest.map(|(release, _)| *release) {
                self.rates.remove(&release);
            }
        }
        let ratio = (u128::from(mean.max(1)) * u128::from(ONE) / u128::from(micros)) as u64;
        // A single odd run must not move a node to the end or the front of the line.
        self.speed = ewma(self.speed, ratio.clamp(ONE / 64, ONE * 64));
        self.errors = ewma(self.errors, 0);
    }

    /// An attempt ended without a result through the node's fault.
    pub(crate) fn failed(&mut self) {
        self.errors = ewma(self.errors, ONE);
    }

    /// Expected run time of a release here, if one of its runs was seen.
    pub(crate) fn micros(&self, release: ReleaseId) -> Option<u64> {
        self.rates.get(&release).map(|(micros, _)| *micros)
    }
}

/// A mean that forgets: the newest value counts an eighth.
pub(crate) fn ewma(mean: u64, value: u64) -> u64 {
    if value >= mean {
        mean + (value - mean).div_ceil(8)
    } else {
        mean - (mean - value).div_ceil(8)
    }
}

impl Node {
    pub(crate) fn new(id: NodeId, kind: NodeKind) -> Self {
        Self {
            id,
            kind,
            engine: EngineId {
                version: [0; 3],
                semantics: hearth_wire::Digest::default(),
            },
            group: None,
            session: None,
            capacity: Capacity::default(),
            standing: Standing::Good,
            draining: false,
            live: Vec::new(),
            paused: 0,
            low: 0,
            attempts: 0,
            unsettled: BTreeSet::new(),
            mismatches: 0,
            blamed: false,
            declined: BTreeSet::new(),
            left_at: Millis(0),
            record: Track::default(),
            idle: None,
            in_low: false,
            in_gone: false,
            counted: None,
            vouches: None,
        }
    }

    pub(crate) fn arrive(&mut self, profile: &NodeProfile) {
        self.kind = profile.kind;
        self.engine = profile.engine;
        self.session = Some(profile.session);
        self.capacity = profile.capacity;
        self.draining = false;
        self.declined.clear();
    }

    /// Whether it may get work at all.
    pub(crate) fn is_healthy(&self) -> bool {
        self.session.is_some() && self.standing == Standing::Good && !self.draining
    }

    /// Whether it may get work and has not been paused by its owner: it counts as another one.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_healthy() && self.capacity.slots > 0
    }

    /// The engine that it lends its word to: it is ours, and was not shut out.
    pub(crate) fn engine_of_ours(&self) -> Option<EngineId> {
        let shut_out = matches!(self.standing, Standing::Quarantined | Standing::Revoked);
        let came = self.group.is_some();
        (self.kind.is_trusted() && came && !shut_out).then_some(self.engine)
    }

    pub(crate) fn running(&self) -> usize {
        self.live.len() - self.paused as usize
    }

    /// Attempts that could start at once.
    pub(crate) fn free_slots(&self) -> usize {
        let room = limits::LEASES_PER_NODE_MAX.saturating_sub(self.live.len());
        usize::from(self.capacity.slots)
            .saturating_sub(self.running())
            .min(room)
    }

    /// Attempts of a release that may be leased now; `share` is the node's of what waits. Nothing waits
    /// here before a run was measured, on the local host (its work may go back to volunteers), or
    /// where the node idles through its owner's wish.
    pub(crate) fn room(&self, release: ReleaseId, ahead: Ahead, share: u64) -> usize {
        let free = self.free_slots();
        let slots = u64::from(self.capacity.slots);
        if ahead == Ahead::Nothing || self.kind == NodeKind::Local || slots == 0 {
            return free;
        }
        let Some(micros) = self.record.micros(release) else {
            return free;
        };
        let quick = match ahead {
            Ahead::Quick => slots * QUICK_MICROS / micros.max(ATTEMPT_MICROS_MIN),
            _ => 0,
        };
        let ahead = (slots * PREFETCH_MICROS / micros.max(1)).clamp(1, PREFETCH_MAX);
        let ahead = ahead.min(share.max(quick));
        let most = (slots + ahead).min(limits::LEASES_PER_NODE_MAX as u64) as usize;
        most.saturating_sub(self.running())
            .min(limits::LEASES_PER_NODE_MAX.saturating_sub(self.live.len()))
    }

    /// How good it is to give it work: speed × free slots × share of attempts that end well.
    pub(crate) fn weight(&self) -> u64 {
        let good = ONE - self.record.errors.min(ONE - 1);
        let weight = u128::from(self.record.speed) * self.free_slots() as u128 * u128::from(good);
        u64::try_from(weight / u128::from(ONE)).unwrap_or(u64::MAX)
    }

    pub(crate) fn idle_key(&self, index: NodeIndex) -> Option<IdleKey> {
        let idle = self.is_healthy() && self.free_slots() > 0;
        idle.then(|| (Reverse(self.weight()), index))
    }

    /// Whether nothing would be lost if it were forgotten.
    pub(crate) fn is_forgettable(&self) -> bool {
        self.session.is_none()
            && self.standing == Standing::Good
            && self.attempts == 0
            && self.unsettled.is_empty()
    }
}

/// All nodes, by position and by id.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Nodes {
    list: Vec<Option<Node>>,
    free: Vec<NodeIndex>,
    by_id: BTreeMap<NodeId, NodeIndex>,
    pub(crate) sessions: BTreeMap<SessionId, NodeIndex>,
    /// Nodes that may be forgotten, the one that left first in front.
    pub(crate) gone: BTreeSet<(Millis, NodeIndex)>,
}

impl Nodes {
    pub(crate) fn at(&self, index: NodeIndex) -> Option<&Node> {
        self.list.get(index as usize)?.as_ref()
    }

    pub(crate) fn at_mut(&mut self, index: NodeIndex) -> Option<&mut Node> {
        self.list.get_mut(index as usize)?.as_mut()
    }

    pub(crate) fn index(&self, id: &NodeId) -> Option<NodeIndex> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn by_session(&self, session: SessionId) -> Option<NodeIndex> {
        self.sessions.get(&session).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// In order of ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        let indices = self.by_id.values();
        indices.filter_map(|index| Some((*index, self.at(*index)?)))
    }

    pub(crate) fn indices(&self) -> Vec<NodeIndex> {
        self.by_id.values().copied().collect()
    }

    pub(crate) fn add(&mut self, node: Node) -> NodeIndex {
        let id = node.id;
        let index = match self.free.pop() {
            Some(index) => {
                self.list[index as usize] = Some(node);
                index
            }
            None => {
                self.list.push(Some(node));
                (self.list.len() - 1) as NodeIndex
            }
        };
        self.by_id.insert(id, index);
        index
    }

    pub(crate) fn forget(&mut self, index: NodeIndex) -> Option<Node> {
        let node = self.list.get_mut(index as usize)?.take()?;
        self.by_id.remove(&node.id);
        self.free.push(index);
        Some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(slots: u16) -> Node {
        let mut node = Node::new(NodeId::default(), NodeKind::Volunteer);
        node.session = Some(SessionId(1));
        node.capacity.slots = slots;
        node
    }

    #[test]
    fn prefetch_follows_the_measured_rate() {
        let release = ReleaseId::default();
        let mut node = node(4);
        assert_eq!(
            node.room(release, Ahead::Share, u64::MAX),
            4,
            "nothing waits before a measure"
        );
        node.record.ran(release, 10_000, 10_000);
        assert_eq!(
            node.room(release, Ahead::Share, u64::MAX),
            4 + 80,
            "200 ms of 10 ms runs on 4 slots"
        );
        let mut slow = super::Node::new(NodeId::default(), NodeKind::Volunteer);
        slow.capacity.slots = 2;
        slow.record.ran(release, 60_000_000, 1);
        assert_eq!(
            slow.room(release, Ahead::Share, u64::MAX),
            3,
            "one waits behind long runs"
        );
        let mut quick = super::Node::new(NodeId::default(), NodeKind::Volunteer);
        quick.capacity.slots = 64;
        quick.record.ran(release, 1, 1);
        assert_eq!(
            quick.room(release, Ahead::Share, u64::MAX),
            64 + 1_024,
            "bounded"
        );
    }

    #[test]
    fn no_more_than_a_share_waits_unless_it_is_quick() {
        let release = ReleaseId::default();
        let mut node = node(4);
        node.record.ran(release, 10_000, 10_000);
        assert_eq!(node.room(release, Ahead::Share, 7), 4 + 7);
        assert_eq!(
            node.room(release, Ahead::Quick, 0),
            4,
            "nothing near the end"
        );
        node.live = (0..9).collect();
        assert_eq!(
            node.room(release, Ahead::Share, 7),
            2,
            "what waits there already counts"
        );
        let mut quick = super::Node::new(NodeId::default(), NodeKind::Volunteer);
        quick.capacity.slots = 2;
        quick.record.ran(release, 100, 100);
        assert_eq!(quick.room(release, Ahead::Quick, 0), 2 + 40);
        assert_eq!(quick.room(release, Ahead::Share, 0), 2);
        assert_eq!(quick.room(release, Ahead::Nothing, 9), 2);
        quick.record.rates.clear();
        quick.record.ran(release, 1, 1);
        assert_eq!(
            quick.room(release, Ahead::Quick, 0),
            2 + 80,
            "a run is not all"
        );
    }

    #[test]
    fn weight_follows_speed_slots_and_errors() {
        let release = ReleaseId::default();
        let (mut fast, mut slow, mut bad) = (node(4), node(4), node(4));
        for _ in 0..50 {
            fast.record.ran(release, 1_000, 2_000);
            slow.record.ran(release, 4_000, 2_000);
            bad.record.ran(release, 1_000, 2_000);
            bad.record.failed();
            bad.record.failed();
        }
        assert!(fast.weight() > 3 * slow.weight());
        assert!(fast.weight() > bad.weight());
        assert!(node(8).weight() > node(4).weight());
        fast.record.failed();
        assert!(fast.weight() > 0);
    }

    #[test]
    fn an_ewma_arrives() {
        let mean = (0..100).fold(1_000_000, |mean, _| ewma(mean, 10));
        assert_eq!(mean, 10);
        assert_eq!((0..200).fold(0, |mean, _| ewma(mean, ONE)), ONE);
    }

    #[test]
    fn rates_are_bounded() {
        let mut track = Track::default();
        for n in 0..100u8 {
            track.ran(ReleaseId(hearth_wire::Digest::new([n; 32])), 5, 5);
        }
        assert_eq!(track.rates.len(), RATES_MAX);
        assert!(
            track
                .rates
                .contains_key(&ReleaseId(hearth_wire::Digest::new([99; 32])))
        );
    }
}
