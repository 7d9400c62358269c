//! Writing a blob whose name is not known before its end.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hearth_wire::{Blob, Digest, Hasher};

use super::{BlobReader, BlobStore, Inner, TEMP};
use crate::StoreError;
use crate::disk::{DiskFile, OpenMode, write_full};

/// The free space of the disk is looked at again after this many bytes.
pub(super) const CHECK_FREE_EVERY: u64 = 8 << 20;

/// A blob that is being written. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    inner: Arc<Inner>,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    hasher: Hasher,
    len: u64,
    named: bool,
    urgent: bool,
}

impl BlobStore {
    /// Begins a blob.
    ///
    /// # Errors
    ///
    /// The reserve of the disk, and what the system refuses.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        self.inner.check_free(self.urgent)?;
        let number = self.inner.temp_number.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.dir.join(TEMP).join(number.to_string());
        let file = self
            .inner
            .disk
            .open(&path, OpenMode::CreateNew)
            .map_err(|error| StoreError::io("making", &path, error))?;
        Ok(BlobWriter {
            inner: Arc::clone(&self.inner),
            file,
            path,
            hasher: Hasher::new(),
            len: 0,
            named: false,
            urgent: self.urgent,
        })
    }
}

impl BlobWriter {
    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// Quota, reserve, a full disk, and what the system refuses. The blob is lost then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let len = bytes.len() as u64;
        if self.len / CHECK_FREE_EVERY != (self.len + len) / CHECK_FREE_EVERY {
            self.inner.check_free(self.urgent)?;
        }
        self.inner.reserve(len)?;
        let offset = self.len;
        // Counted before it is written: dropping the writer gives it back either way.
        self.len += len;
        write_full(&*self.file, bytes, offset)
            .map_err(|error| StoreError::io("writing", &self.path, error))?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Bytes written so far.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Ends the blob and names it by its SHA-256, which must be `expected` if that is given.
    ///
    /// # Errors
    ///
    /// [`StoreError::Mismatch`], a full disk, and what the system refuses.
    pub fn finish(mut self, expected: Option<Digest>) -> Result<Blob, StoreError> {
        let found = std::mem::take(&mut self.hasher).finish();
        match expected {
            Some(expected) if expected != found => Err(StoreError::Mismatch { expected, found }),
            _ => self.publish(found),
        }
    }

    /// Ends the blob and names it by what `name` reads out of it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] with the error of `name`, and as [`BlobWriter::finish`].
    pub fn finish_with<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        self,
        name: impl FnOnce(&mut dyn Read) -> Result<Digest, E>,
    ) -> Result<Blob, StoreError> {
        let mut reader = BlobReader {
            file: Arc::clone(&self.file),
            offset: 0,
        };
        let digest = name(&mut reader).map_err(|error| StoreError::Refused(error.into()))?;
        self.publish(digest)
    }

    fn publish(mut self, digest: Digest) -> Result<Blob, StoreError> {
        self.inner.name(&*self.file, &self.path, &digest)?;
        self.named = true;
        self.inner.sync_names(&digest)?;
        Ok(Blob {
            digest,
            len: self.len,
        })
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.named {
            // If it stays, the next start removes it.
            let _ = self.inner.disk.remove(&self.path);
            self.inner.release(self.len);
        }
    }
}
