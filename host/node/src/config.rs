//! What a node is told when it starts, and what it tells.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use hearth_wire::runner::Confinement;
use hearth_wire::{EngineId, KeyId};
use tokio::sync::watch;

use crate::pool::PoolConfig;

/// Bytes of blobs that a node keeps by default.
const BLOB_BYTES_DEFAULT: u64 = 4 << 30;

/// Configuration of a node.
#[derive(Debug)]
pub struct NodeConfig {
    /// As what it connects.
    pub mode: Mode,
    /// For people.
    pub name: String,
    /// Where it is, in the owner's words; may be empty.
    pub location: String,
    /// What it can do (`gpu`, …).
    pub capabilities: Vec<String>,
    /// How it runs attempts.
    pub pool: PoolConfig,
    /// What its owner allows.
    pub owner: OwnerLimits,
    /// Where blobs, spilled reports and the highest epoch are kept. A volunteer's is its directory.
    pub state: PathBuf,
    /// Bytes of blobs (components, inputs, outputs) that are kept.
    pub blob_bytes: u64,
    /// Where the node tells how it is doing, for the command line.
    pub status: Option<watch::Sender<NodeStatus>>,
}

impl NodeConfig {
    /// A node in `mode` with its state in `state` and everything else at its default.
    pub fn new(mode: Mode, name: impl Into<String>, state: PathBuf, pool: PoolConfig) -> Self {
        Self {
            mode,
            name: name.into(),
            location: String::new(),
            capabilities: Vec::new(),
            pool,
            owner: OwnerLimits::default(),
            state,
            blob_bytes: BLOB_BYTES_DEFAULT,
            status: None,
        }
    }
}

/// As what a node connects.
#[derive(Debug)]
pub enum Mode {
    /// A volunteer with a key, over TLS. Its directory, made by [`crate::join`], is the state
    /// directory.
    Volunteer {
        /// Addresses (`host:port`) beyond those that were learnt at joining, tried after them.
        addresses: Vec<String>,
        /// Also look for the realm by multicast DNS.
        discover: bool,
    },
    /// The coordinator's local host: no key, no TLS, no signatures; the parent is trusted.
    Local {
        /// Carries the WebSocket.
        messages: UnixStream,
        /// Carries HTTP/1.1 for blobs and inputs.
        http: UnixStream,
    },
}

/// What the owner of the machine allows. A lease beyond it is declined, never shrunk.
///
/// Cores and memory are those of the pool ([`PoolConfig`]): a pool is made within them.
#[derive(Debug, Clone)]
pub struct OwnerLimits {
    /// If not empty, only code of these authors runs.
    pub allow_authors: Vec<KeyId>,
    /// Code of these authors never runs.
    pub deny_authors: Vec<KeyId>,
    /// Share of time that guests may run, in percent.
    pub throttle: u8,
    /// Offer fewer slots while other programs use the machine's cores. Always so for a local host.
    pub follow_load: bool,
}

impl Default for OwnerLimits {
    fn default() -> Self {
        Self {
            allow_authors: Vec::new(),
            deny_authors: Vec::new(),
            throttle: 100,
            follow_load: false,
        }
    }
}

/// How a node is doing.
#[derive(Debug, Clone, Default)]
pub struct NodeStatus {
    /// The coordinator, while the node is connected and welcome.
    pub connected: bool,
    /// Why it is not, in one line.
    pub trouble: Option<String>,
    /// What its outcomes depend on.
    pub engine: Option<EngineId>,
    /// Slots offered.
    pub slots: u16,
    /// Attempts that run.
    pub running: u16,
    /// Attempts that wait.
    pub queued: u16,
    /// Attempts that ended since the start.
    pub ended: u64,
    /// Reports that the coordinator has not settled.
    pub unsettled: u64,
    /// Whether the owner has paused it.
    pub paused: bool,
    /// Walls around the runners.
    pub confinement: Confinement,
    /// Runner processes.
    pub runner_pids: Vec<u32>,
}
