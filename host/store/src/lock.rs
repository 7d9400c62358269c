//! One process per directory.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::StoreError;

/// Proof that this process alone works on a directory. The lock goes with its last clone, or with
/// the process, however it dies.
///
/// The file itself stays: removing it would let two processes lock two files of one name.
#[derive(Debug, Clone)]
pub struct DirLock {
    dir: PathBuf,
    _held: Arc<Held>,
}

/// Unlocks by itself: closing would not do while a child between its fork and its exec has a copy of the
/// descriptor.
#[derive(Debug)]
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl DirLock {
    /// Locks `dir`, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if another process (or another part of this one) holds it.
    pub fn acquire(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("hearth.lock");
        let failed = |action, source| StoreError::io(action, &path, source);
        std::fs::create_dir_all(dir).map_err(|error| StoreError::io("making", dir, error))?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed("opening", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Who holds it is only told to a person, so a failure to read it is no error.
                let pid = match (&file).take(16).read_to_string(&mut text) {
                    Ok(_) => text.trim().parse().ok(),
                    Err(_) => None,
                };
                return Err(StoreError::Locked { path, pid });
            }
            Err(TryLockError::Error(error)) => return Err(failed("locking", error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| failed("writing", error))?;
        Ok(Self {
            dir: dir.to_owned(),
            _held: Arc::new(Held(file)),
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }
}
