//! Ballast: room that is kept taken, to be given up when the disk is full.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::{Disk, OpenMode, RealDisk};
use crate::{DirLock, StoreError};

/// Beside the journal's files, since it is for them, and another disk's room would not help.
const DIR: &str = "journal";
const NAME: &str = "ballast";

/// A file that is good for nothing but its size.
///
/// A full disk would end the process in the middle of work. With the ballast gone there is room again for
/// what runs: reports, the ends of jobs, an orderly end. New work must wait until the ballast is back.
///
/// What it cannot help against: a file system that says only at a sync that it was full, since a failed
/// sync is final; and one that gives room to others first, or that compresses what was never written.
#[derive(Debug)]
pub struct Ballast {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Zero for none.
    bytes: u64,
    held: AtomicBool,
    _lock: Option<DirLock>,
}

impl Ballast {
    /// The ballast of a locked directory, of `bytes` or none. One of another size, or that was being made
    /// when a process ended, is removed; none is made.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn open(lock: &DirLock, bytes: u64) -> Result<Self, StoreError> {
        let mut ballast = Self::open_on(Arc::new(RealDisk), lock.path(), bytes)?;
        ballast._lock = Some(lock.clone());
        Ok(ballast)
    }

    /// As [`Ballast::open`], on any disk. The caller sees to it that nobody else uses `parent`.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn open_on(disk: Arc<dyn Disk>, parent: &Path, bytes: u64) -> Result<Self, StoreError> {
        let dir = parent.join(DIR);
        disk.create_dir(&dir)
            .and_then(|()| disk.sync_dir(parent))
            .map_err(|error| StoreError::io("making", &dir, error))?;
        let path = dir.join(NAME);
        let found = match disk.open(&path, OpenMode::Read).map(|file| file.len()) {
            Ok(len) => Some(len.map_err(|error| StoreError::io("looking at", &path, error))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(StoreError::io("opening", &path, error)),
        };
        let ballast = Self {
            disk,
            dir,
            bytes,
            held: AtomicBool::new(found.is_some()),
            _lock: None,
        };
        if found.is_some_and(|len| len != bytes) {
            ballast.free()?;
        }
        Ok(ballast)
    }

    /// Where the ballast is, and what it is for.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its size when it is there; zero if there is to be none.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is there.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Takes the room, if it is not taken already. The caller sees to it that there is more than enough.
    ///
    /// # Errors
    ///
    /// A full disk, and what else the system refuses. Nothing is taken then.
    pub fn make(&self) -> Result<(), StoreError> {
        if self.bytes == 0 || self.is_held() {
            return Ok(());
        }
        let path = self.dir.join(NAME);
        let made = self
            .disk
            .open(&path, OpenMode::CreateNew)
            .and_then(|file| {
                file.allocate(self.bytes)?;
                file.sync()
            })
            .and_then(|()| self.disk.sync_dir(&self.dir));
        if let Err(error) = made {
            // One that stays is of the wrong size, and goes at the next start.
            let _ = self.disk.remove(&path);
            return Err(StoreError::io("making", &path, error));
        }
        self.held.store(true, Ordering::Release);
        Ok(())
    }

    /// Gives the room back; false if there was none to give.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn free(&self) -> Result<bool, StoreError> {
        if !self.held.swap(false, Ordering::AcqRel) {
            return Ok(false);
        }
        let path = self.dir.join(NAME);
        // The sync makes file systems that hand room on only with their own journal do so now.
        self.disk
            .remove(&path)
            .and_then(|()| self.disk.sync_dir(&self.dir))
            .map_err(|error| StoreError::io("removing", &path, error))?;
        Ok(true)
    }

    /// Bytes free on its disk.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        self.disk
            .free_bytes(&self.dir)
            .map_err(|error| StoreError::io("looking at", &self.dir, error))
    }
}
