//! What an owner asks of the node of a directory while it runs, or before it starts again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// An owner's wish. It is kept in the directory, so it holds over restarts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Park what runs and take no work.
    Pause,
    /// Go on.
    Resume,
}

/// The wish could not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// There is no node.
    #[error("{0} is no directory of a node; name it with --dir, or join a realm first")]
    NoNode(PathBuf),
    /// The file could not be written.
    #[error("{path}: {source}; check the directory's owner and free space")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The file whose presence means that the node is paused. A file and not a socket: it works while
/// the node is down, and its permissions are those of the directory that holds the key.
pub(crate) fn pause_file(dir: &Path) -> PathBuf {
    dir.join("paused")
}

/// Tells the node of `dir` what its owner wants. A running node hears of it within a second.
///
/// # Errors
///
/// [`ControlError`] when there is no such directory or it cannot be written.
pub fn control(dir: &Path, wish: Control) -> Result<(), ControlError> {
    if !dir.is_dir() {
        return Err(ControlError::NoNode(dir.to_owned()));
    }
    let path = pause_file(dir);
    let done = match wish {
        Control::Pause => File::create(&path).and_then(|file| file.sync_all()),
        Control::Resume => match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        },
    };
    done.map_err(|source| ControlError::Io { path, source })
}

/// Whether the owner of the node of `dir` has paused it.
pub fn is_paused(dir: &Path) -> bool {
    pause_file(dir).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_kept_and_a_missing_node_is_told() {
        let dir = tempfile::tempdir().unwrap();
        control(dir.path(), Control::Resume).unwrap();
        control(dir.path(), Control::Pause).unwrap();
        control(dir.path(), Control::Pause).unwrap();
        assert!(is_paused(dir.path()));
        control(dir.path(), Control::Resume).unwrap();
        assert!(!is_paused(dir.path()));
        let missing = dir.path().join("missing");
        assert!(matches!(
            control(&missing, Control::Pause),
            Err(ControlError::NoNode(_))
        ));
    }
}
