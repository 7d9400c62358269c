//! Chains of checkpoints: who ran the guest from where to where.

use hearth_wire::envelope::Domain;
use hearth_wire::{
    Body, Checkpoint, CheckpointLink, Digest, NodeId, NodePublicKey, TaskId, limits,
};

use crate::key::signed_by_node;
use crate::{KeyError, NodeKey, Verified};

/// A checkpoint is not one to resume from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// Nobody is said to have made it.
    #[error("the checkpoint names no maker: start the task again")]
    Empty,
    /// It was handed on too often.
    #[error(
        "the checkpoint was handed on more than {} times: start the task again",
        limits::CHECKPOINT_CHAIN_MAX
    )]
    TooLong,
    /// A maker is not a node of this realm.
    #[error("the checkpoint was made by {}, which is not a node of this realm", .0.short())]
    UnknownMaker(NodeId),
    /// A maker's signature is not its own, or is about something else.
    #[error("the checkpoint is not signed by {}, which is said to have made it", .0.short())]
    BadSignature(NodeId),
    /// The last maker's statement is about another state.
    #[error("the checkpoint's state is not the one that its maker signed")]
    OtherState,
    /// Fuel went down along the chain.
    #[error("the checkpoint by {} used less fuel than the one before", .0.short())]
    FuelWentDown(NodeId),
    /// The state is larger than a checkpoint may be.
    #[error("the checkpoint has {0} bytes, at most {max} are allowed", max = limits::CHECKPOINT_BYTES_MAX)]
    TooLarge(u64),
    /// The statement could not be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What a verifier knows about the maker of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maker {
    /// A node, by the public key of its certificate.
    Key(NodePublicKey),
    /// The coordinator's own local host, which signs nothing.
    Local,
}

/// The checkpoint that `node` made when its guest saved `state`, having begun from `resumed`.
///
/// `key` is `None` on the local host, which holds none.
///
/// # Errors
///
/// [`ChainError::TooLong`], [`ChainError::Key`].
pub fn sign_checkpoint(
    key: Option<&NodeKey>,
    node: NodeId,
    (content, task): (Digest, TaskId),
    (state, fuel_used): (Body, u64),
    resumed: Option<&Checkpoint>,
) -> Result<Checkpoint, ChainError> {
    let mut chain = resumed.map_or_else(Vec::new, |checkpoint| checkpoint.chain.clone());
    if chain.len() >= limits::CHECKPOINT_CHAIN_MAX {
        return Err(ChainError::TooLong);
    }
    let mut previous = None;
    for link in &chain {
        previous = Some(Digest::of(&statement(link, content, task, previous)));
    }
    let mut link = CheckpointLink {
        node,
        fuel_used,
        state: state.blob().digest,
        signature: Vec::new(),
    };
    if let Some(key) = key {
        let statement = statement(&link, content, task, previous);
        link.signature = key.sign(Domain::Checkpoint, &statement)?;
    }
    chain.push(link);
    Ok(Checkpoint {
        state,
        fuel_used,
        chain,
    })
}

fn statement(
    link: &CheckpointLink,
    content: Digest,
    task: TaskId,
    previous: Option<Digest>,
) -> Vec<u8> {
    CheckpointLink::statement(content, task, link.fuel_used, link.state, previous)
}

/// Verifies every link of a chain about one task. `maker` tells what is known about a node.
///
/// # Errors
///
/// [`ChainError`].
pub fn verify_chain(
    chain: &[CheckpointLink],
    (content, task): (Digest, TaskId),
    maker: impl Fn(NodeId) -> Option<Maker>,
) -> Result<(), ChainError> {
    if chain.len() > limits::CHECKPOINT_CHAIN_MAX {
        return Err(ChainError::TooLong);
    }
    let (mut previous, mut fuel_used) = (None, 0);
    for link in chain {
        let statement = statement(link, content, task, previous);
        let signed = match maker(link.node).ok_or(ChainError::UnknownMaker(link.node))? {
            Maker::Key(key) => {
                key.node_id() == link.node
                    && signed_by_node(&key, Domain::Checkpoint, &statement, &link.signature)
            }
            Maker::Local => link.signature.is_empty(),
        };
        if !signed {
            return Err(ChainError::BadSignature(link.node));
        }
        if link.fuel_used < fuel_used {
            return Err(ChainError::FuelWentDown(link.node));
        }
        fuel_used = link.fuel_used;
        previous = Some(Digest::of(&statement));
    }
    Ok(())
}

/// Verifies a checkpoint of one task: its chain, and that its last maker signed this very state.
///
/// Whether a stored state's bytes have its digest is for the one who fetches them.
///
/// # Errors
///
/// [`ChainError`].
pub fn verify_checkpoint(
    checkpoint: Checkpoint,
    about: (Digest, TaskId),
    maker: impl Fn(NodeId) -> Option<Maker>,
) -> Result<Verified<Checkpoint>, ChainError> {
    let len = checkpoint.state.len();
    if !checkpoint.state.within_limit() || len > limits::CHECKPOINT_BYTES_MAX {
        return Err(ChainError::TooLarge(len));
    }
    verify_chain(&checkpoint.chain, about, maker)?;
    let last = checkpoint.chain.last().ok_or(ChainError::Empty)?;
    if last.state != checkpoint.state.blob().digest || last.fuel_used != checkpoint.fuel_used {
        return Err(ChainError::OtherState);
    }
    Ok(Verified::new(checkpoint))
}
