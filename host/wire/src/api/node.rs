//! Nodes, modes and health.

use serde::{Deserialize, Serialize};

use super::ErrorBody;
use crate::record::Mode;
use crate::runner::Confinement;
use crate::{Epoch, NodeId, RealmId, Seq};

/// `GET /v1/nodes`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeList {
    /// Every node that the realm knows.
    pub nodes: Vec<NodeStatus>,
    /// Position of the newest record that this shows.
    pub seq: Seq,
}

/// How a node stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node, or `local`.
    pub node_id: String,
    /// The name that it gave itself.
    pub name: String,
    /// Whether it works.
    pub status: NodeState,
    /// When it was last heard, ISO 8601; `None` when not since the coordinator's start.
    pub last_heartbeat: Option<String>,
    /// What it does.
    pub performance_metrics: PerformanceMetrics,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// Where it is, in its owner's words.
    pub location: String,
    /// `local`, `trusted` or `volunteer`.
    pub kind: String,
    /// Whether it has a connection now.
    pub connected: bool,
    /// Whether it takes no new work.
    pub draining: bool,
    /// Attempts that it can run at once.
    pub slots: u16,
    /// Leases that it holds.
    pub leases: u32,
    /// Results of it that were accepted.
    pub results: u64,
    /// Attempts on it that failed or were lost.
    pub failures: u64,
    /// What its results depend on.
    pub engine: String,
    /// `x86_64`, `aarch64`, …
    pub architecture: String,
    /// Which walls its system gave to its runners, as it says; `None` while it is not connected.
    #[serde(default)]
    pub confinement: Option<Confinement>,
}

/// Whether a node works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Connected and allowed to work.
    Active,
    /// Not connected, or draining.
    Inactive,
    /// Suspended, quarantined or revoked.
    Compromised,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PerformanceMetrics {
    /// CPU use of its machine, percent.
    pub cpu_usage: f64,
    /// Memory of the node and its runners, MiB.
    pub memory_usage: f64,
    /// Round trip, milliseconds.
    pub network_latency: f64,
    /// Share of its ended attempts that gave a result, 0 to 1.
    pub task_completion_rate: f64,
}

/// `GET /v1/modes`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeReport {
    /// The mode.
    pub mode: Mode,
    /// Since when, ISO 8601.
    pub since: String,
    /// Why.
    pub reason: String,
    /// Volunteers that take work.
    pub volunteers: u32,
    /// Their slots.
    pub volunteer_slots: u32,
    /// Slots of the local host and of trusted nodes.
    pub trusted_slots: u32,
    /// Tasks waiting for a lease.
    pub queued: u64,
    /// Tasks leased.
    pub leased: u64,
    /// Past switches, the newest first.
    pub switches: Vec<ModeSwitch>,
    /// Position of the newest record that this shows.
    pub seq: Seq,
}

/// A switch of the mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeSwitch {
    /// To this mode.
    pub mode: Mode,
    /// When, ISO 8601.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// `GET /healthz`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, or `draining` while it shuts down.
    pub status: String,
    /// The realm.
    pub realm: RealmId,
    /// This life of the coordinator.
    pub epoch: Epoch,
    /// Position of the newest durable record.
    pub seq: Seq,
    /// Version of the program.
    pub version: String,
    /// The coordinator's own local host, if it has one.
    pub local_node: Option<NodeId>,
    /// Why new work is refused though it lives, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<ErrorBody>,
}

/// `GET /v1/scrub`, and the answer to `POST /v1/scrub`: whether the coordinator's files were looked
/// through for damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrub {
    /// When the present one began, ISO 8601; none if none goes on.
    pub running_since: Option<String>,
    /// Bytes that it has read, or the last one.
    pub bytes_read: u64,
    /// When the last whole one ended in this life of the coordinator, ISO 8601.
    pub last_ended: Option<String>,
    /// Files that are damaged, are needed and were not replaced.
    pub damaged: Vec<ErrorBody>,
}

/// Answer to `POST /v1/nodes/ID/revoke`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Who is shut out.
    pub node: NodeId,
    /// Position of its record, for `min_seq`; zero if it never joined as a node.
    pub seq: Seq,
}
