//! What can go wrong with what is kept, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use hearth_store::StoreError;

/// Why results cannot be kept, or what is kept cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// Another process works on the job.
    #[error("{} is in use{}", path.display(), pid.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    Busy {
        /// The job's folder.
        path: PathBuf,
        /// The process, if it could be read.
        pid: Option<u32>,
    },
    /// A folder holds something that was never put there. It was set aside.
    #[error("results that were kept cannot be read ({source}); they were set aside as {}", path.display())]
    Damaged {
        /// Where it is now.
        path: PathBuf,
        /// What was found.
        source: StoreError,
    },
    /// As many jobs are kept as may be.
    #[error("{} holds {max} jobs, which is the limit", path.display())]
    TooMany {
        /// The outbox.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
    /// One job has more to keep than it may.
    #[error("the job has {bytes} bytes to keep, at most {max} are kept of one")]
    TooLarge {
        /// What it would have.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The journal of a job refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system failed to do something with a folder.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl OutboxError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Io {
            action,
            path,
            source,
        }
    }
}
