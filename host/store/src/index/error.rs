//! What can go wrong with an index. It can always be built again.

use std::io;
use std::path::{Path, PathBuf};

use hearth_wire::RealmId;

/// Why an index cannot be used. But for [`IndexError::TooLarge`], which the caller is to blame for, the
/// answer is to set it aside and to build it again; nothing is lost with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// It holds something that was never written to it, or lacks something that was.
    #[error("the index in {} is damaged: {problem}", path.display())]
    Damaged {
        /// Its directory.
        path: PathBuf,
        /// What was noticed.
        problem: String,
    },
    /// It belongs to another realm.
    #[error("the index in {} belongs to realm {found}, not to {expected}", path.display())]
    WrongRealm {
        /// Its directory.
        path: PathBuf,
        /// The realm of this directory.
        expected: RealmId,
        /// The realm in the index.
        found: RealmId,
    },
    /// Another version wrote it.
    #[error("the index in {} has format {found}, this version has {supported}", path.display())]
    Format {
        /// Its directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// The engine refused, or broke down over what it found.
    #[error("the index in {}: {action}: {problem}", path.display())]
    Engine {
        /// What was tried.
        action: &'static str,
        /// Its directory.
        path: PathBuf,
        /// What the engine said.
        problem: String,
    },
    /// The engine gives no answer. Its thread is left to itself.
    #[error("the index in {}: {action} took more than {seconds} seconds", path.display())]
    Hangs {
        /// What was tried.
        action: &'static str,
        /// Its directory.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// The system failed to do something with a file or a directory.
    #[error("{action} {}: {source}; look who may write there, and what is in the way", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// No row may be this large. The caller is to blame.
    #[error("a row of {bytes} bytes under a key of {key} bytes is none that an index takes")]
    TooLarge {
        /// Bytes of the key.
        key: usize,
        /// Bytes of the row.
        bytes: usize,
    },
}

impl IndexError {
    pub(crate) fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
