//! The node: one session after another until shutdown.

use crate::config::NodeConfig;
use crate::pool::PoolError;

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Its runners cannot work.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// Runs a node until `shutdown` resolves and what it held is finished or given back.
///
/// # Errors
///
/// [`NodeError`] when it cannot go on; a lost connection is no error.
pub async fn run(
    _config: NodeConfig,
    _shutdown: impl Future<Output = ()> + Send,
) -> Result<(), NodeError> {
    todo!()
}
