//! Which nodes may run what: nodes that offer the same form a group, jobs that need the same form a
//! shape, and whether they fit is worked out once for each pair, when either is new.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use hearth_wire::record::{NodeKind, NodeProfile, ReleaseFacts};
use hearth_wire::{EngineId, EngineRange, JobOptions, Placement, TrustPolicy};
use serde::{Deserialize, Serialize};

use crate::Coordinator;
use crate::node::NodeIndex;
use crate::queue::Queue;

/// Position of a [`Shape`].
pub(crate) type ShapeIndex = u16;
/// Position of a [`Group`].
pub(crate) type GroupIndex = u32;

/// Distinct needs of open jobs. Each costs a look whenever a node of a fitting group gets work.
pub(crate) const SHAPES_MAX: usize = 512;
/// Distinct offers of nodes. Nodes beyond it count as having neither capabilities nor a location.
pub(crate) const GROUPS_MAX: usize = 512;

/// What a node must be for a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Needs {
    pub(crate) capabilities: Vec<String>,
    pub(crate) release_locations: Vec<String>,
    pub(crate) job_locations: Vec<String>,
    pub(crate) engine_min: [u16; 3],
    pub(crate) engine_max: [u16; 3],
    pub(crate) memory_bytes: u64,
    pub(crate) who: Who,
    /// Whether a trusted node will run the same again to compare. Then a volunteer must run an engine
    /// that one of our own runs: between others nothing can be compared, so nobody would answer for a
    /// wrong result.
    pub(crate) compared: bool,
}

/// Which kinds of node may run something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Who {
    Anybody,
    NotLocal,
    Trusted,
}

impl Needs {
    /// What a node needs for the runs of a job.
    pub(crate) fn new(release: &ReleaseFacts, options: &JobOptions) -> Self {
        let who = Who::of(options.placement, options.trust == TrustPolicy::Local);
        let compared = who != Who::Trusted && Coordinator::is_checked(options.trust);
        Self {
            capabilities: release.capabilities.clone(),
            release_locations: release.locations.clone(),
            job_locations: options.locations.clone(),
            engine_min: release.engines.min,
            engine_max: release.engines.max,
            memory_bytes: release.limits.memory_bytes,
            who,
            compared,
        }
    }

    /// What a node needs for the checks of the same job.
    pub(crate) fn of_checks(&self) -> Self {
        Self {
            who: Who::Trusted,
            compared: false,
            ..self.clone()
        }
    }

    pub(crate) fn met_by(&self, offer: &Offer, ours: &BTreeMap<EngineId, u32>) -> bool {
        let range = EngineRange {
            min: self.engine_min,
            max: self.engine_max,
        };
        let has = |name: &String| offer.capabilities.binary_search(name).is_ok();
        let place = |places: &[String]| places.is_empty() || places.contains(&offer.location);
        let kind = match self.who {
            Who::Anybody => true,
            Who::NotLocal => offer.kind != NodeKind::Local,
            Who::Trusted => offer.kind.is_trusted(),
        };
        let comparable = offer.kind.is_trusted() || ours.contains_key(&offer.engine);
        kind && (comparable || !self.compared)
            && range.contains(&offer.engine)
            && self.capabilities.iter().all(has)
            && place(&self.release_locations)
            && place(&self.job_locations)
            && offer.memory_power < 64
            && 1u64 << offer.memory_power >= self.memory_bytes
    }
}

impl Who {
    pub(crate) fn of(placement: Placement, trusted_only: bool) -> Self {
        match placement {
            _ if trusted_only => Self::Trusted,
            Placement::Anywhere => Self::Anybody,
            Placement::Volunteers => Self::NotLocal,
            Placement::Trusted => Self::Trusted,
        }
    }
}

/// What a node is to jobs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) kind: NodeKind,
    pub(crate) engine: EngineId,
    pub(crate) capabilities: Vec<String>,
    pub(crate) location: String,
    /// The largest power of two that its memory holds: 64 groups and not one for each number.
    pub(crate) memory_power: u32,
}

impl Offer {
    pub(crate) fn of(profile: &NodeProfile) -> Self {
        let mut capabilities = profile.capabilities.clone();
        capabilities.sort_unstable();
        Self {
            kind: profile.kind,
            engine: profile.engine,
            capabilities,
            location: profile.location.clone(),
            memory_power: profile
                .capacity
                .memory_bytes
                .checked_ilog2()
                .unwrap_or_default(),
        }
    }
}

/// Jobs that need the same.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) needs: Needs,
    /// Open jobs that use it.
    pub(crate) jobs: u32,
    /// Groups that fit.
    pub(crate) groups: Vec<GroupIndex>,
    /// Jobs with something to lease, by priority.
    pub(crate) queues: [Queue; 3],
    /// Where to go on looking for nodes after a look was cut short.
    pub(crate) resume: Option<IdleAt>,
}

/// A node with free slots, the best one first.
pub(crate) type IdleKey = (Reverse<u64>, NodeIndex);
/// Where a look at idle nodes stands; the local host comes last.
pub(crate) type IdleAt = (bool, IdleKey);

/// Nodes that offer the same.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) offer: Offer,
    /// Nodes that belong to it, connected or not.
    pub(crate) members: u32,
    /// Shapes that it fits.
    pub(crate) shapes: Vec<ShapeIndex>,
    /// Members that may get work and have free slots.
    pub(crate) idle: BTreeSet<IdleKey>,
    /// Members that may get work and run something of low priority that can be parked.
    pub(crate) low: BTreeSet<NodeIndex>,
    /// Members that may get work, and their slots.
    pub(crate) healthy: u32,
    pub(crate) slots: u64,
}

/// All shapes and groups. Positions are reused when the last job or node has left.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Fits {
    shapes: Vec<Option<Shape>>,
    shape_by: BTreeMap<Needs, ShapeIndex>,
    groups: Vec<Option<Group>>,
    group_by: BTreeMap<Offer, GroupIndex>,
    /// Engines of trusted nodes that are known, connected or not, and how many run each.
    engines: BTreeMap<EngineId, u32>,
}

impl Fits {
    pub(crate) fn has_room_for(&self, needs: &[&Needs]) -> bool {
        let new = |needs: &&&Needs| !self.shape_by.contains_key(**needs);
        self.shape_by.len() + needs.iter().filter(new).count() <= SHAPES_MAX
    }

    /// Engines of our own nodes.
    pub(crate) fn engines(&self) -> &BTreeMap<EngineId, u32> {
        &self.engines
    }

    /// A trusted node came to be known with the one engine, or is known with the other no more. Says
    /// whether that changes who may run what.
    pub(crate) fn swap_engine(&mut self, old: Option<EngineId>, new: Option<EngineId>) -> bool {
        let mut changed = false;
        if let Some(new) = new {
            let count = self.engines.entry(new).or_default();
            *count += 1;
            changed |= *count == 1;
        }
        if let Some(old) = old
            && let Some(count) = self.engines.get_mut(&old)
        {
            *count -= 1;
            if *count == 0 {
                self.engines.remove(&old);
                changed = true;
            }
        }
        if changed {
            self.match_again();
        }
        changed
    }

    /// Works out anew what fits, where results are compared.
    fn match_again(&mut self) {
        for (at, shape) in self.shapes.iter_mut().enumerate() {
            let Some(shape) = shape.as_mut().filter(|shape| shape.needs.compared) else {
                continue;
            };
            let at = at as ShapeIndex;
            shape.groups.clear();
            for (index, group) in self.groups.iter_mut().enumerate() {
                let Some(group) = group else {
                    continue;
                };
                group.shapes.retain(|other| *other != at);
                if shape.needs.met_by(&group.offer, &self.engines) {
                    group.shapes.push(at);
                    shape.groups.push(index as GroupIndex);
                }
            }
        }
    }

    pub(crate) fn shape(&self, index: ShapeIndex) -> Option<&Shape> {
        self.shapes.get(usize::from(index))?.as_ref()
    }

    pub(crate) fn shape_mut(&mut self, index: ShapeIndex) -> Option<&mut Shape> {
        self.shapes.get_mut(usize::from(index))?.as_mut()
    }

    pub(crate) fn group(&self, index: GroupIndex) -> Option<&Group> {
        self.groups.get(index as usize)?.as_ref()
    }

    pub(crate) fn group_mut(&mut self, index: GroupIndex) -> Option<&mut Group> {
        self.groups.get_mut(index as usize)?.as_mut()
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = (GroupIndex, &Group)> {
        let groups = self.groups.iter().enumerate();
        groups.filter_map(|(index, group)| Some((index as GroupIndex, group.as_ref()?)))
    }

    pub(crate) fn shapes(&self) -> impl Iterator<Item = (ShapeIndex, &Shape)> {
        let shapes = self.shapes.iter().enumerate();
        shapes.filter_map(|(index, shape)| Some((index as ShapeIndex, shape.as_ref()?)))
    }

    /// The shape of these needs, with one more job.
    pub(crate) fn join_shape(&mut self, needs: &Needs) -> ShapeIndex {
        let index = match self.shape_by.get(needs) {
            Some(index) => *index,
            None => self.add_shape(needs.clone()),
        };
        if let Some(shape) = self.shape_mut(index) {
            shape.jobs += 1;
        }
        index
    }

    fn add_shape(&mut self, needs: Needs) -> ShapeIndex {
        let place = vacant(&mut self.shapes);
        let index = place as ShapeIndex;
        let mut fitting = Vec::new();
        for (at, group) in self.groups.iter_mut().enumerate() {
            if let Some(group) = group
                && needs.met_by(&group.offer, &self.engines)
            {
                group.shapes.push(index);
                fitting.push(at as GroupIndex);
            }
        }
        self.shape_by.insert(needs.clone(), index);
        self.shapes[place] = Some(Shape {
            needs,
            jobs: 0,
            groups: fitting,
            queues: Default::default(),
            resume: None,
        });
        index
    }

    pub(crate) fn leave_shape(&mut self, index: ShapeIndex) {
        let Some(shape) = self.shape_mut(index) else {
            return;
        };
        shape.jobs -= 1;
        if shape.jobs > 0 {
            return;
        }
        if let Some(shape) = self.shapes[usize::from(index)].take() {
            self.shape_by.remove(&shape.needs);
            for group in shape.groups {
                if let Some(group) = self.group_mut(group) {
                    group.shapes.retain(|other| *other != index);
                }
            }
        }
    }

    /// The group of this offer, with one more member.
    pub(crate) fn join_group(&mut self, offer: Offer) -> GroupIndex {
        let index = match self.group_by.get(&offer) {
            Some(index) => *index,
            None if self.group_by.len() < GROUPS_MAX => self.add_group(offer),
            None => {
                // Full: the node keeps what decides results, and loses its labels.
                let plain = Offer {
                    capabilities: Vec::new(),
                    location: String::new(),
                    ..offer
                };
                match self.group_by.get(&plain) {
                    Some(index) => *index,
                    None => self.add_group(plain),
                }
            }
        };
        if let Some(group) = self.group_mut(index) {
            group.members += 1;
        }
        index
    }

    fn add_group(&mut self, offer: Offer) -> GroupIndex {
        let place = vacant(&mut self.groups);
        let index = place as GroupIndex;
        let mut fitting = Vec::new();
        for (at, shape) in self.shapes.iter_mut().enumerate() {
            if let Some(shape) = shape
                && shape.needs.met_by(&offer, &self.engines)
            {
                shape.groups.push(index);
                fitting.push(at as ShapeIndex);
            }
        }
        self.group_by.insert(offer.clone(), index);
        self.groups[place] = Some(Group {
            offer,
            members: 0,
            shapes: fitting,
            idle: BTreeSet::new(),
            low: BTreeSet::new(),
            healthy: 0,
            slots: 0,
        });
        index
    }

    pub(crate) fn leave_group(&mut self, index: GroupIndex) {
        let Some(group) = self.group_mut(index) else {
            return;
        };
        group.members -= 1;
        if group.members > 0 {
            return;
        }
        if let Some(group) = self.groups[index as usize].take() {
            self.group_by.remove(&group.offer);
            for shape in group.shapes {
                if let Some(shape) = self.shape_mut(shape) {
                    shape.groups.retain(|other| *other != index);
                }
            }
        }
    }

    /// Slots of the nodes that may get work and fit, without those of the local host.
    pub(crate) fn volunteer_slots(&self, shape: &Shape) -> u64 {
        let groups = shape.groups.iter().filter_map(|index| self.group(*index));
        let others = groups.filter(|group| group.offer.kind != NodeKind::Local);
        others.map(|group| group.slots).sum()
    }

    /// Nodes that may get work and fit, without the local host.
    pub(crate) fn volunteers(&self, shape: &Shape) -> u64 {
        let groups = shape.groups.iter().filter_map(|index| self.group(*index));
        let others = groups.filter(|group| group.offer.kind != NodeKind::Local);
        others.map(|group| u64::from(group.healthy)).sum()
    }

    /// Nodes that may get work and fit, of one engine only if one is given.
    pub(crate) fn healthy(&self, shape: &Shape, engine: Option<EngineId>) -> u64 {
        let groups = shape.groups.iter().filter_map(|index| self.group(*index));
        let groups = groups.filter(|group| engine.is_none_or(|one| group.offer.engine == one));
        groups.map(|group| u64::from(group.healthy)).sum()
    }
}

/// The first vacant position, or a new one at the end.
fn vacant<T>(list: &mut Vec<Option<T>>) -> usize {
    match list.iter().position(Option::is_none) {
        Some(place) => place,
        None => {
            list.push(None);
            list.len() - 1
        }
    }
}
