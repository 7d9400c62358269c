//! Becoming a volunteer, and stopping to be one.

use std::path::{Path, PathBuf};

use hearth_wire::{NodeId, RealmId};

/// What `join` made.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The realm.
    pub realm: RealmId,
    /// This node.
    pub node: NodeId,
    /// The directory.
    pub dir: PathBuf,
}

/// Why a machine could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// No address of the token answered.
    #[error("no coordinator answered at {tried}; check that it runs and can be reached from here")]
    Unreachable {
        /// Addresses and what happened at each.
        tried: String,
    },
}

/// Joins the realm of `token` and writes the node's directory.
///
/// # Errors
///
/// [`JoinError`], each saying what to do next.
pub async fn join(_token: &str, _name: &str, _dir: &Path) -> Result<Joined, JoinError> {
    todo!()
}

/// Removes everything that `join` and the node made in `dir`.
///
/// # Errors
///
/// When a file cannot be removed.
pub fn leave(_dir: &Path) -> std::io::Result<()> {
    todo!()
}
