//! What a node is told when it starts, and what it tells.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use hearth_wire::KeyId;
use hearth_wire::runner::Confinement;
use tokio::sync::watch;

use crate::pool::PoolConfig;

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
    /// Where blobs, spilled reports and the highest epoch are kept.
    pub state: PathBuf,
    /// Bytes of blobs (components, inputs) that are kept.
    pub blob_bytes: u64,
    /// From SIGTERM until what still runs is given back.
    pub drain_grace: Duration,
    /// Where the node tells how it is doing, for the command line.
    pub status: Option<watch::Sender<NodeStatus>>,
}

/// As what a node connects.
#[derive(Debug)]
pub enum Mode {
    /// A volunteer with a key, over TLS.
    Volunteer {
        /// Its directory, made by [`crate::join`].
        dir: PathBuf,
        /// Addresses (`host:port`) beyond those that were learnt at joining, tried in turn.
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
#[derive(Debug, Clone, Default)]
pub struct OwnerLimits {
    /// Attempts at once; `None` for one per core.
    pub cores: Option<u16>,
    /// Memory for all attempts together, in bytes; `None` for half of the machine's.
    pub memory_bytes: Option<u64>,
    /// If not empty, only code of these authors runs.
    pub allow_authors: Vec<KeyId>,
    /// Code of these authors never runs.
    pub deny_authors: Vec<KeyId>,
    /// Niceness of the children, 0 to 19.
    pub nice: i32,
    /// Share of time that guests may run, in percent.
    pub throttle: u8,
}

/// How a node is doing.
#[derive(Debug, Clone, Default)]
pub struct NodeStatus {
    /// The coordinator's address, while connected.
    pub connected: Option<String>,
    /// Why it is not connected, in one line.
    pub trouble: Option<String>,
    /// Attempts that run.
    pub running: u16,
    /// Attempts that ended since the start.
    pub ended: u64,
    /// Reports that wait for a coordinator.
    pub unsettled: u64,
    /// Whether the owner has paused it.
    pub paused: bool,
    /// Walls around the runners.
    pub confinement: Confinement,
}
