//! Checkpoints: state that a guest saved, what it had cost, and who made it.

use serde::{Deserialize, Serialize};

use crate::{Body, Digest, NodeId, TaskId};

/// Saved state of a task from which another attempt can go on without changing the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The state as the guest saved it.
    pub state: Body,
    /// Fuel that the task had used when it saved, over all attempts: the resumed attempt starts there.
    pub fuel_used: u64,
    /// Who made it, the first maker first. A poisoned checkpoint is traced along this chain.
    pub chain: Vec<CheckpointLink>,
}

/// A maker's statement about a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointLink {
    /// The node that ran the guest from the previous link (or the start) to this state.
    pub node: NodeId,
    /// Fuel used when the state was saved.
    pub fuel_used: u64,
    /// Digest of the state.
    pub state: Digest,
    /// The node's signature over [`CheckpointLink::statement`], empty from the local host, which
    /// holds no key and speaks over an inherited socket.
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}

impl CheckpointLink {
    /// The bytes that the node signs: the task's content id, the task, the state, the fuel, and the
    /// digest of the previous link's statement (zero at the start).
    pub fn statement(
        content: Digest,
        task: TaskId,
        fuel_used: u64,
        state: Digest,
        previous: Option<Digest>,
    ) -> Vec<u8> {
        let mut bytes = content.as_bytes().to_vec();
        bytes.extend_from_slice(&task.job.0.to_le_bytes());
        bytes.extend_from_slice(&task.index.0.to_le_bytes());
        bytes.extend_from_slice(&fuel_used.to_le_bytes());
        bytes.extend_from_slice(state.as_bytes());
        bytes.extend_from_slice(previous.unwrap_or_default().as_bytes());
        bytes
    }
}
