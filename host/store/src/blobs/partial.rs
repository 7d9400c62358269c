//! Uploads that can be interrupted and go on later.

use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hearth_wire::{Blob, Digest, Hasher};

use super::writer::CHECK_FREE_EVERY;
use super::{BlobReader, BlobStore, Inner, PARTIAL, TEMP, hash_file, lock_of};
use crate::StoreError;
use crate::disk::{DiskFile, OpenMode, write_again, write_full};

/// Whose upload it is, and of what. One sender can not spoil another one's upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartialName {
    /// Who sends it, as any digest that stands for them.
    pub owner: Digest,
    /// What it will be named.
    pub blob: Digest,
}

impl PartialName {
    fn text(&self) -> String {
        format!("{}-{}", self.owner, self.blob)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (owner, blob) = text.split_once('-')?;
        Some(Self {
            owner: owner.parse().ok()?,
            blob: blob.parse().ok()?,
        })
    }
}

/// An unfinished upload as the store knows it.
#[derive(Debug)]
pub(super) enum PartialState {
    /// Somebody is sending; so many bytes are there.
    Open(Arc<AtomicU64>),
    /// It waits to go on.
    Idle {
        len: u64,
        /// The hash so far; `None` after a restart, when the file has to be read again.
        hasher: Option<Hasher>,
        touched: Instant,
    },
}

impl PartialState {
    pub(super) fn found(len: u64) -> Self {
        Self::Idle {
            len,
            hasher: None,
            touched: Instant::now(),
        }
    }
}

/// An upload in progress. Dropped, it waits to go on; finished, it is a blob.
///
/// Its bytes are durable only when it is finished. If power is lost before, the hash at the end
/// tells, and the sender starts again.
#[derive(Debug)]
pub struct Partial {
    inner: Arc<Inner>,
    name: PartialName,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    hasher: Hasher,
    len: u64,
    /// The length for those who ask.
    told: Arc<AtomicU64>,
    end: End,
    /// Another upload has the name.
    beside: bool,
    urgent: bool,
}

/// What happens to an upload when it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Keep,
    Remove,
    Published,
}

impl BlobStore {
    /// How many bytes of an upload are there, if it was begun.
    pub fn partial_offset(&self, name: &PartialName) -> Option<u64> {
        match lock_of(&self.inner.partials).get(name)? {
            PartialState::Idle { len, .. } => Some(*len),
            PartialState::Open(len) => Some(len.load(Ordering::Relaxed)),
        }
    }

    /// Whether this sender ended this upload lately: so it may know that the blob is there. Kept in
    /// memory only, for as many uploads as may be open.
    pub fn ended_lately(&self, name: &PartialName) -> bool {
        lock_of(&self.inner.ended).contains(name)
    }

    /// Begins an upload, or goes on with it where it stopped. At offset zero it begins anew.
    ///
    /// # Errors
    ///
    /// [`StoreError::Offset`] tells where to go on; [`StoreError::Busy`] if it is open;
    /// [`StoreError::TooManyPartials`]; the disk's reserve, and what the system refuses.
    pub fn resume(&self, name: PartialName, offset: u64) -> Result<Partial, StoreError> {
        let inner = &self.inner;
        inner.check_free(self.urgent)?;
        let mut partials = lock_of(&inner.partials);
        let idle = match partials.get_mut(&name) {
            Some(PartialState::Open(_)) => return Err(StoreError::Busy),
            Some(PartialState::Idle { len, hasher, .. }) => Some((*len, hasher.take())),
            None => None,
        };
        let (have, hasher) = idle.clone().unwrap_or((0, Some(Hasher::new())));
        if offset != 0 && offset != have {
            if let Some((len, hasher)) = idle {
                let touched = Instant::now();
                let state = PartialState::Idle {
                    len,
                    hasher,
                    touched,
                };
                partials.insert(name, state);
            }
            return Err(StoreError::Offset {
                have,
                asked: offset,
            });
        }
        let max = inner.config.partials_max;
        if idle.is_none() && partials.len() >= max {
            return Err(StoreError::TooManyPartials(max));
        }
        let told = Arc::new(AtomicU64::new(offset));
        partials.insert(name, PartialState::Open(Arc::clone(&told)));
        drop(partials);
        let opened = self.open_partial(name, idle.is_some(), have, offset, hasher, told);
        if opened.is_err() {
            let mut partials = lock_of(&inner.partials);
            match idle {
                Some((len, _)) => partials.insert(name, PartialState::found(len)),
                None => partials.remove(&name),
            };
        }
        opened
    }

    /// Begins an upload that comes in one piece. While another one has the name, this goes beside it
    /// and leaves nothing behind if it breaks off; whichever ends first makes the blob, and the other
    /// makes the same one.
    ///
    /// # Errors
    ///
    /// As [`BlobStore::resume`], but never [`StoreError::Busy`].
    pub fn begin(&self, name: PartialName) -> Result<Partial, StoreError> {
        match self.resume(name, 0) {
            Err(StoreError::Busy) => self.begin_beside(name),
            other => other,
        }
    }

    fn begin_beside(&self, name: PartialName) -> Result<Partial, StoreError> {
        let inner = &self.inner;
        let max = inner.config.partials_max;
        let counted = inner
            .beside
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count < max).then_some(count + 1)
            });
        counted.map_err(|_| StoreError::TooManyPartials(max))?;
        let number = inner.temp_number.fetch_add(1, Ordering::Relaxed);
        let path = inner.dir.join(TEMP).join(number.to_string());
        let file = inner
            .disk
            .open(&path, OpenMode::CreateNew)
            .map_err(|error| {
                inner.beside.fetch_sub(1, Ordering::AcqRel);
                StoreError::io("making", &path, error)
            })?;
        Ok(Partial {
            inner: Arc::clone(inner),
            name,
            file,
            path,
            hasher: Hasher::new(),
            len: 0,
            told: Arc::default(),
            end: End::Remove,
            beside: true,
            urgent: self.urgent,
        })
    }

    fn open_partial(
        &self,
        name: PartialName,
        exists: bool,
        have: u64,
        offset: u64,
        hasher: Option<Hasher>,
        told: Arc<AtomicU64>,
    ) -> Result<Partial, StoreError> {
        let inner = &self.inner;
        let path = inner.dir.join(PARTIAL).join(name.text());
        let failed = |error| StoreError::io("opening", &path, error);
        let mode = if exists {
            OpenMode::Write
        } else {
            OpenMode::CreateNew
        };
        let file = match inner.disk.open(&path, mode) {
            // A file that could not be removed when its upload ended.
            Err(error) if !exists && error.kind() == ErrorKind::AlreadyExists => {
                inner.disk.open(&path, OpenMode::Write)
            }
            other => other,
        };
        let file = file.map_err(failed)?;
        let hasher = if offset == 0 {
            file.set_len(0).map_err(failed)?;
            inner.release(have);
            Hasher::new()
        } else {
            match hasher {
                Some(hasher) => hasher,
                // Left by another process, whose sync of it may have failed.
                None => write_again(&*file, 0)
                    .and_then(|()| hash_file(&*file, have))
                    .map_err(failed)?,
            }
        };
        Ok(Partial {
            inner: Arc::clone(inner),
            name,
            file,
            path,
            hasher,
            len: offset,
            told,
            end: End::Keep,
            beside: false,
            urgent: self.urgent,
        })
    }

    /// Removes uploads that nobody touched for the configured time; gives back how many.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn expire_partials(&self) -> Result<usize, StoreError> {
        let ttl = self.inner.config.partial_ttl;
        let mut partials = lock_of(&self.inner.partials);
        let old: Vec<(PartialName, u64)> = partials
            .iter()
            .filter_map(|(name, state)| match state {
                PartialState::Idle { len, touched, .. } if touched.elapsed() >= ttl => {
                    Some((*name, *len))
                }
                _ => None,
            })
            .collect();
        for (name, len) in &old {
            let path = self.inner.dir.join(PARTIAL).join(name.text());
            self.inner.remove(&path)?;
            self.inner.release(*len);
            partials.remove(name);
        }
        Ok(old.len())
    }
}

impl Partial {
    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// Quota, reserve, a full disk, and what the system refuses. What was added before stays, and
    /// the upload can go on later.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let len = bytes.len() as u64;
        if self.len / CHECK_FREE_EVERY != (self.len + len) / CHECK_FREE_EVERY {
            self.inner.check_free(self.urgent)?;
        }
        self.inner.reserve(len)?;
        if let Err(error) = write_full(&*self.file, bytes, self.len) {
            self.inner.release(len);
            return Err(StoreError::io("writing", &self.path, error));
        }
        self.hasher.update(bytes);
        self.len += len;
        self.told.store(self.len, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes that are there, from this and earlier connections.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Ends the upload: its SHA-256 must be the name that it was begun with.
    ///
    /// # Errors
    ///
    /// [`StoreError::Mismatch`], after which the upload begins anew; and what the system refuses.
    pub fn finish(mut self) -> Result<Blob, StoreError> {
        let found = self.hasher.clone().finish();
        self.check(found)?;
        self.publish()
    }

    /// Ends the upload: what `name` reads out of it must be the name that it was begun with.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] with the error of `name` or [`StoreError::Mismatch`], after which the
    /// upload begins anew; and what the system refuses.
    pub fn finish_with<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        mut self,
        name: impl FnOnce(&mut dyn Read) -> Result<Digest, E>,
    ) -> Result<Blob, StoreError> {
        let mut reader = BlobReader {
            file: Arc::clone(&self.file),
            offset: 0,
        };
        match name(&mut reader) {
            Ok(found) => self.check(found)?,
            Err(error) => {
                self.end = End::Remove;
                return Err(StoreError::Refused(error.into()));
            }
        }
        self.publish()
    }

    /// Gives the upload up.
    pub fn discard(mut self) {
        self.end = End::Remove;
    }

    fn check(&mut self, found: Digest) -> Result<(), StoreError> {
        let expected = self.name.blob;
        if found == expected {
            return Ok(());
        }
        self.end = End::Remove;
        Err(StoreError::Mismatch { expected, found })
    }

    fn publish(mut self) -> Result<Blob, StoreError> {
        // The system tells a failed sync once, and takes the next one as done: after a failure nothing of
        // this file is believed.
        self.end = End::Remove;
        let digest = self.name.blob;
        self.inner.name(&*self.file, &self.path, &digest)?;
        self.end = End::Published;
        self.inner.sync_names(&digest)?;
        let mut ended = lock_of(&self.inner.ended);
        if !ended.contains(&self.name) {
            if ended.len() >= self.inner.config.partials_max {
                ended.pop_front();
            }
            ended.push_back(self.name);
        }
        drop(ended);
        Ok(Blob {
            digest,
            len: self.len,
        })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.beside {
            if self.end != End::Published {
                // If the file stays, the next start removes it.
                let _ = self.inner.disk.remove(&self.path);
                self.inner.release(self.len);
            }
            self.inner.beside.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let mut partials = lock_of(&self.inner.partials);
        match self.end {
            End::Keep => {
                let state = PartialState::Idle {
                    len: self.len,
                    hasher: Some(std::mem::take(&mut self.hasher)),
                    touched: Instant::now(),
                };
                partials.insert(self.name, state);
            }
            End::Remove => {
                // If the file stays, it is found and expires after the next start.
                let _ = self.inner.disk.remove(&self.path);
                self.inner.release(self.len);
                partials.remove(&self.name);
            }
            End::Published => {
                partials.remove(&self.name);
            }
        }
    }
}
