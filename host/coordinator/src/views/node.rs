//! What is kept of one node.

use std::collections::{BTreeSet, HashMap};

use hearth_wire::message::Capacity;
use hearth_wire::record::{NodeKind, NodeProfile, Standing};
use hearth_wire::{AttemptId, NodeId};
use serde::{Deserialize, Serialize};

/// What is kept of one node that ever joined.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NodeView {
    pub(crate) profile: NodeProfile,
    pub(crate) connected: bool,
    pub(crate) draining: bool,
    pub(crate) standing: Standing,
    pub(crate) reason: String,
    /// Leases that it holds.
    pub(crate) attempts: BTreeSet<AttemptId>,
    /// Results of it that became a task's.
    pub(crate) results: u64,
    /// Attempts of it that ended without one.
    pub(crate) failures: u64,
}

impl NodeView {
    /// How it is named to clients.
    pub(crate) fn shown_id(&self) -> String {
        match self.profile.kind {
            NodeKind::Local => "local".to_owned(),
            NodeKind::Trusted | NodeKind::Volunteer => self.profile.node.to_string(),
        }
    }

    pub(crate) fn may_work(&self) -> bool {
        self.connected && !self.draining && self.standing == Standing::Good
    }
}

/// All nodes. Their positions are what tasks hold, because an id has 32 bytes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Nodes {
    nodes: Vec<NodeView>,
    positions: HashMap<NodeId, u32>,
}

impl Nodes {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &NodeView> {
        self.nodes.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut NodeView> {
        self.nodes.iter_mut()
    }

    pub(crate) fn at(&self, position: u32) -> Option<&NodeView> {
        self.nodes.get(position as usize)
    }

    pub(crate) fn position(&self, node: NodeId) -> Option<u32> {
        self.positions.get(&node).copied()
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&NodeView> {
        self.at(self.position(node)?)
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut NodeView> {
        let position = self.position(node)?;
        self.nodes.get_mut(position as usize)
    }

    /// Takes in a node that joined, or joined again.
    pub(crate) fn joined(&mut self, profile: NodeProfile) {
        let id = profile.node;
        if let Some(node) = self.get_mut(id) {
            node.profile = profile;
            node.connected = true;
            node.draining = false;
            return;
        }
        self.positions.insert(id, self.nodes.len() as u32);
        self.nodes.push(NodeView {
            profile,
            connected: true,
            draining: false,
            standing: Standing::Good,
            reason: String::new(),
            attempts: BTreeSet::new(),
            results: 0,
            failures: 0,
        });
    }

    pub(crate) fn capacity(&mut self, node: NodeId, capacity: Capacity) {
        if let Some(node) = self.get_mut(node) {
            node.profile.capacity = capacity;
        }
    }
}
