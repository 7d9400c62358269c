//! Why a coordinator does not start or stops by itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use hearth_core::ReplayError;
use hearth_identity::DirError;
use hearth_store::StoreError;
use hearth_wire::Seq;
use hearth_wire::codec::DecodeError;

/// Why a coordinator does not start or stops by itself. The operator is to blame unless a variant
/// says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinatorError {
    /// An address is taken or not ours.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The listener without TLS must not be reachable from elsewhere.
    #[error("{0} is not a loopback address; the listener without TLS serves this machine only")]
    NotLoopback(SocketAddr),
    /// The realm's directory is not one, or a file in it is bad.
    #[error(transparent)]
    Realm(#[from] DirError),
    /// The journal or the blobs: locked by another coordinator, damaged, or the disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal holds nothing, beside something that is made only from one.
    #[error(
        "{} holds no journal, but {} is there, which is made only from one: mount the disks that the journal \
         and its archive are on, or put the whole folder {} back from a backup; if the journal is lost \
         for good, start once with --trust-journal-end, which goes on with what is left and gives up every \
         other job that was acknowledged",
        journal.display(), proof.display(), data.display()
    )]
    JournalLost {
        /// The journal's folder.
        journal: PathBuf,
        /// What shows that it held one.
        proof: PathBuf,
        /// The folder to put back.
        data: PathBuf,
    },
    /// A record cannot be read: written by a newer version, or damaged.
    #[error("record {seq} of the journal: {source}; start the version that wrote it, or restore")]
    Record {
        /// Which.
        seq: Seq,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A record does not follow from those before it.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Certificates or keys do not make a TLS configuration.
    #[error("TLS: {0}; run hearth init again, or restore the realm's directory")]
    Tls(String),
    /// The program of the local host is not there.
    #[error("the local host's program {} cannot be started: {source}", program.display())]
    LocalHost {
        /// The program.
        program: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start a thread: {0}; raise the limit of processes")]
    Thread(std::io::Error),
    /// A part ended that never should. We are to blame.
    #[error("the {0} ended by itself; this is a defect, please report it with the log before it")]
    Ended(&'static str),
}

impl CoordinatorError {
    /// Whether another coordinator works on this realm.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Store(StoreError::Locked { .. }))
    }
}
