//! Which blobs stay: what is claimed, what is given up, and what turns out to be damaged.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hearth_wire::Digest;

use super::{BlobStore, lock_of};
use crate::StoreError;

/// A blob that was claimed this lately is not touched again: whoever gives up blobs waits much longer.
const CLAIMED_LATELY: Duration = Duration::from_secs(60);

/// What a damaged blob is renamed to, behind its name.
const BAD: &str = "bad";

impl BlobStore {
    /// Says that somebody counts on a blob from now on, and tells its length if it is there:
    /// [`BlobStore::give_up`] leaves it alone as if it had just been stored.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn claim(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        // Nobody may remove it between the look and the touch.
        let _names = lock_of(&self.inner.names);
        let Some(len) = self.len_of(digest)? else {
            return Ok(None);
        };
        let path = self.inner.path(digest);
        let failed = |error| StoreError::io("touching", &path, error);
        let disk = &self.inner.disk;
        if disk.age(&path).map_err(failed)? >= CLAIMED_LATELY {
            disk.touch(&path).map_err(failed)?;
        }
        Ok(Some(len))
    }

    /// Removes a blob that was neither stored nor claimed for as long as `unclaimed`, if `wanted` says that
    /// nobody wants it; gives its length if it went. Who claims it at the same time either keeps it or
    /// hears that it is not there. After a power loss it may be back.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn give_up(
        &self,
        digest: &Digest,
        unclaimed: Duration,
        wanted: impl FnOnce() -> bool,
    ) -> Result<Option<u64>, StoreError> {
        let _names = lock_of(&self.inner.names);
        let path = self.inner.path(digest);
        let age = match self.inner.disk.age(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| StoreError::io("looking at", &path, error))?,
        };
        if age < unclaimed || wanted() {
            return Ok(None);
        }
        let Some(len) = self.len_of(digest)? else {
            return Ok(None);
        };
        self.inner.remove(&path)?;
        self.inner.release(len);
        Ok(Some(len))
    }

    /// Takes the name from a blob that is not what its name says, so that it can be stored again; gives
    /// where the bytes are now, or nothing if it is not there. They count no longer, and stay until an
    /// operator has looked at them or the same happens to the next blob of that name. Not durable, unless
    /// it is stored again: what a power loss brings back is found damaged again.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn set_aside(&self, digest: &Digest) -> Result<Option<PathBuf>, StoreError> {
        let _names = lock_of(&self.inner.names);
        let Some(len) = self.len_of(digest)? else {
            return Ok(None);
        };
        let path = self.inner.path(digest);
        let bad = path.with_extension(BAD);
        self.inner
            .disk
            .rename(&path, &bad)
            .map_err(|error| StoreError::io("setting aside", &path, error))?;
        self.inner.release(len);
        Ok(Some(bad))
    }

    /// Where a blob is, or would be.
    pub fn path_of(&self, digest: &Digest) -> PathBuf {
        self.inner.path(digest)
    }
}
