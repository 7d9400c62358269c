//! Why a coordinator does not start or stops by itself.

use std::net::SocketAddr;

/// Why a coordinator does not start or stops by itself. The operator is to blame unless a variant
/// says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinatorError {
    /// An address is taken or not ours.
    #[error("cannot listen on {addr}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}
