//! Blobs: files that are named by what is in them.

mod keep;
mod partial;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_wire::{Blob, Digest, Hasher};

use crate::disk::{Disk, DiskFile, OpenMode, RealDisk};
use crate::{DirLock, StoreError};
use partial::PartialState;

pub use partial::{Partial, PartialName};
pub use writer::BlobWriter;

/// Directories of names: one for each first byte of a digest.
const SHARDS: usize = 256;
const TEMP: &str = "temp";
const PARTIAL: &str = "partial";
/// Read and hash in pieces of this size.
const PIECE: usize = 128 << 10;

/// Limits of a blob store.
#[derive(Debug, Clone)]
pub struct BlobConfig {
    /// Bytes that all blobs and unfinished uploads may take.
    pub quota_bytes: u64,
    /// Bytes that are left free on the disk, so that running work can finish.
    pub reserve_bytes: u64,
    /// Bytes of those that [`BlobStore::urgent`] leaves free too: the journal needs them.
    pub urgent_reserve_bytes: u64,
    /// Unfinished uploads at once.
    pub partials_max: usize,
    /// An unfinished upload that nobody touches for this long is removed by
    /// [`BlobStore::expire_partials`].
    pub partial_ttl: Duration,
}

impl Default for BlobConfig {
    /// 64 GiB, 1 GiB in reserve and 32 MiB of it for the journal, 256 uploads of a day.
    fn default() -> Self {
        Self {
            quota_bytes: 64 << 30,
            reserve_bytes: 1 << 30,
            urgent_reserve_bytes: 32 << 20,
            partials_max: 256,
            partial_ttl: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Blobs in a directory. Clones share it.
///
/// A blob appears whole and durable or not at all: its bytes are synced before it gets its name, and
/// the name is synced before anybody is told. A file's name is made from a [`Digest`], so no text
/// from outside ever becomes a path. Names are SHA-256 of the bytes unless the writer was
/// finished with another check (input sets are named by their Merkle root).
#[derive(Debug, Clone)]
pub struct BlobStore {
    inner: Arc<Inner>,
    /// Whether it may write into the disk's reserve.
    urgent: bool,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    config: BlobConfig,
    used: Mutex<u64>,
    partials: Mutex<BTreeMap<PartialName, PartialState>>,
    /// Uploads that ended well, the first to have done so in front: as many as may be open.
    ended: Mutex<VecDeque<PartialName>>,
    /// Uploads beside another of the same name, which nobody can go on with.
    beside: AtomicUsize,
    /// Held while a name changes its file, so that `used` counts each once.
    names: Mutex<()>,
    /// For each directory of names: changes that it may have, with those of earlier processes, and how
    /// many of them are durable.
    changes: [AtomicU64; SHARDS],
    durable: [AtomicU64; SHARDS],
    temp_number: AtomicU64,
    _lock: Option<DirLock>,
}

impl BlobStore {
    /// Opens the blobs in the locked directory's subdirectory `name`, or makes it. What was being
    /// written when the last process ended is removed; unfinished uploads stay.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn open(
        lock: &DirLock,
        name: &'static str,
        config: BlobConfig,
    ) -> Result<Self, StoreError> {
        let dir = lock.path().join(name);
        Self::build(Arc::new(RealDisk), dir, config, Some(lock.clone()))
    }

    /// As [`BlobStore::open`], on any disk. The caller sees to it that nobody else uses `dir`.
    ///
    /// # Errors
    ///
    /// What the disk refuses.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        config: BlobConfig,
    ) -> Result<Self, StoreError> {
        Self::build(disk, dir, config, None)
    }

    fn build(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        config: BlobConfig,
        lock: Option<DirLock>,
    ) -> Result<Self, StoreError> {
        make_dirs(&*disk, &dir).map_err(|error| StoreError::io("making", &dir, error))?;
        let inner = Inner {
            disk,
            dir,
            config,
            used: Mutex::new(0),
            partials: Mutex::default(),
            ended: Mutex::default(),
            beside: AtomicUsize::new(0),
            names: Mutex::default(),
            changes: [const { AtomicU64::new(1) }; SHARDS],
            durable: [const { AtomicU64::new(0) }; SHARDS],
            temp_number: AtomicU64::new(0),
            _lock: lock,
        };
        let temp = inner.dir.join(TEMP);
        for (name, _) in inner.list(&temp)? {
            inner.remove(&temp.join(name))?;
        }
        let mut used = 0;
        let mut partials = BTreeMap::new();
        for (name, len) in inner.list(&inner.dir.join(PARTIAL))? {
            if let (Some(name), Some(len)) = (PartialName::parse(&name), len) {
                used += len;
                partials.insert(name, PartialState::found(len));
            }
        }
        let store = Self {
            inner: Arc::new(inner),
            urgent: false,
        };
        store.for_each(|blob| used += blob.len)?;
        *lock_of(&store.inner.used) = used;
        *lock_of(&store.inner.partials) = partials;
        Ok(store)
    }

    /// The same store for work that runs: what the disk keeps in reserve is for it.
    #[must_use]
    pub fn urgent(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            urgent: true,
        }
    }

    /// Stores bytes that are in memory.
    ///
    /// # Errors
    ///
    /// Quota, reserve, a full disk, and what the system refuses.
    pub fn put(&self, bytes: &[u8]) -> Result<Blob, StoreError> {
        let mut writer = self.writer()?;
        writer.write(bytes)?;
        writer.finish(None)
    }

    /// The length of a blob, if it is there.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn len_of(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        match self.open_blob(digest) {
            Ok(blob) => Ok(Some(blob.len)),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a blob for reading any part of it; it is there durably. It can be read to its end even if it
    /// is removed.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], and what the system refuses.
    pub fn open_blob(&self, digest: &Digest) -> Result<BlobFile, StoreError> {
        let path = self.inner.path(digest);
        let failed = |error| StoreError::io("opening", &path, error);
        let file = match self.inner.disk.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound(*digest));
            }
            other => other.map_err(failed)?,
        };
        // Whoever is told that it is there relies on that. It may have got its name this moment, or from
        // a process that was killed before it synced it.
        let shard = shard_of(digest);
        let changes = self.inner.changes[shard].load(Ordering::Acquire);
        if self.inner.durable[shard].load(Ordering::Acquire) < changes {
            self.inner.sync_names(digest)?;
        }
        let len = file.len().map_err(failed)?;
        Ok(BlobFile { path, file, len })
    }

    /// Reads a blob into memory and checks its SHA-256.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] beyond `max` bytes, [`StoreError::Damaged`] if the file is not what
    /// its name says, [`StoreError::NotFound`], and what the system refuses.
    pub fn read(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, StoreError> {
        let blob = self.open_blob(digest)?;
        if blob.len > max {
            return Err(StoreError::TooLarge {
                digest: *digest,
                bytes: blob.len,
                max,
            });
        }
        let mut bytes = Vec::with_capacity(blob.len as usize);
        let failed = |error| StoreError::io("reading", &blob.path, error);
        blob.reader(0).read_to_end(&mut bytes).map_err(failed)?;
        if Digest::of(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(StoreError::damaged(
                &blob.path,
                0,
                "not the bytes of this name",
            ))
        }
    }

    /// Reads a blob and checks its SHA-256, for scrubbing.
    ///
    /// # Errors
    ///
    /// As [`BlobStore::read`].
    pub fn verify(&self, digest: &Digest) -> Result<(), StoreError> {
        let blob = self.open_blob(digest)?;
        let hash = hash_file(&*blob.file, blob.len)
            .map_err(|error| StoreError::io("reading", &blob.path, error))?;
        if hash.finish() == *digest {
            Ok(())
        } else {
            Err(StoreError::damaged(
                &blob.path,
                0,
                "not the bytes of this name",
            ))
        }
    }

    /// Removes a blob; whether it was there. After a power loss it may be back.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        let _names = lock_of(&self.inner.names);
        let Some(len) = self.len_of(digest)? else {
            return Ok(false);
        };
        self.inner.remove(&self.inner.path(digest))?;
        self.inner.release(len);
        Ok(true)
    }

    /// Shows all blobs to `each`, ordered by name.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn for_each(&self, mut each: impl FnMut(Blob)) -> Result<(), StoreError> {
        for shard in 0..=u8::MAX {
            for (name, len) in self.inner.list(&self.inner.dir.join(shard_name(shard)))? {
                if let (Ok(digest), Some(len)) = (name.parse(), len) {
                    each(Blob { digest, len });
                }
            }
        }
        Ok(())
    }

    /// All blobs, ordered by name.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn list(&self) -> Result<Vec<Blob>, StoreError> {
        let mut blobs = Vec::new();
        self.for_each(|blob| blobs.push(blob))?;
        Ok(blobs)
    }

    /// Where the blobs are.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Bytes free on the disk.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        self.inner.free_bytes()
    }

    /// Bytes of all blobs and unfinished uploads.
    pub fn used_bytes(&self) -> u64 {
        *lock_of(&self.inner.used)
    }
}

impl Inner {
    fn path(&self, digest: &Digest) -> PathBuf {
        self.shard(digest).join(digest.to_string())
    }

    fn shard(&self, digest: &Digest) -> PathBuf {
        self.dir.join(shard_name(digest.as_bytes()[0]))
    }

    /// Makes the names beside this blob's durable, and its own.
    fn sync_names(&self, digest: &Digest) -> Result<(), StoreError> {
        let (dir, shard) = (self.shard(digest), shard_of(digest));
        let changes = self.changes[shard].load(Ordering::Acquire);
        self.disk
            .sync_dir(&dir)
            .map_err(|error| StoreError::io("syncing", &dir, error))?;
        self.durable[shard].fetch_max(changes, Ordering::AcqRel);
        Ok(())
    }

    fn list(&self, path: &Path) -> Result<Vec<(String, Option<u64>)>, StoreError> {
        let listed = self.disk.list(path);
        listed.map_err(|error| StoreError::io("listing", path, error))
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let removed = self.disk.remove(path);
        removed.map_err(|error| StoreError::io("removing", path, error))
    }

    /// Counts `wanted` bytes against the quota.
    fn reserve(&self, wanted: u64) -> Result<(), StoreError> {
        let mut used = lock_of(&self.used);
        let quota = self.config.quota_bytes;
        match used.checked_add(wanted) {
            Some(sum) if sum <= quota => {
                *used = sum;
                Ok(())
            }
            _ => Err(StoreError::Quota {
                used: *used,
                quota,
                wanted,
            }),
        }
    }

    fn release(&self, bytes: u64) {
        let mut used = lock_of(&self.used);
        *used = used.saturating_sub(bytes);
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        let free = self.disk.free_bytes(&self.dir);
        free.map_err(|error| StoreError::io("looking at", &self.dir, error))
    }

    /// Refuses to go on when too little of the disk is free.
    fn check_free(&self, urgent: bool) -> Result<(), StoreError> {
        let reserve = match urgent {
            false => self.config.reserve_bytes,
            true => self.config.urgent_reserve_bytes,
        };
        if reserve == 0 {
            return Ok(());
        }
        let free = self.free_bytes()?;
        if free >= reserve {
            Ok(())
        } else {
            Err(StoreError::Reserve {
                path: self.dir.clone(),
                free,
                reserve,
            })
        }
    }

    /// Gives a durable file its name. From then on its bytes are counted as the blob's, whether or not
    /// the name becomes durable.
    fn name(&self, file: &dyn DiskFile, path: &Path, digest: &Digest) -> Result<(), StoreError> {
        file.sync()
            .map_err(|error| StoreError::io("syncing", path, error))?;
        let target = self.path(digest);
        let _names = lock_of(&self.names);
        // A file of this name is replaced: if it was damaged, it is whole again.
        let replaced = match self.disk.open(&target, OpenMode::Read) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        };
        let replaced = replaced.map_err(|error| StoreError::io("opening", &target, error))?;
        self.changes[shard_of(digest)].fetch_add(1, Ordering::AcqRel);
        // An upload may have been written long before it was finished, and whoever finishes it counts on it
        // from now on.
        self.disk
            .touch(path)
            .and_then(|()| self.disk.rename(path, &target))
            .map_err(|error| StoreError::io("naming", &target, error))?;
        self.release(replaced);
        Ok(())
    }
}

/// An open blob.
#[derive(Debug, Clone)]
pub struct BlobFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    len: u64,
}

impl BlobFile {
    /// Number of bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` from `offset` as far as there are bytes; gives back how many. Whoever receives
    /// them checks the digest.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, StoreError> {
        crate::disk::read_full(&*self.file, buffer, offset)
            .map_err(|error| StoreError::io("reading", &self.path, error))
    }

    /// A reader from `offset` to the end.
    pub fn reader(&self, offset: u64) -> BlobReader {
        BlobReader {
            file: Arc::clone(&self.file),
            offset,
        }
    }
}

/// Reads a file from some offset to its end.
#[derive(Debug)]
pub struct BlobReader {
    file: Arc<dyn DiskFile>,
    offset: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

fn shard_of(digest: &Digest) -> usize {
    usize::from(digest.as_bytes()[0])
}

fn shard_name(shard: u8) -> String {
    format!("{shard:02x}")
}

fn make_dirs(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.create_dir(dir)?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent)?;
    }
    let there = disk.list(dir)?;
    let shards = (0..=u8::MAX).map(shard_name);
    for name in shards.chain([TEMP.to_owned(), PARTIAL.to_owned()]) {
        if there
            .binary_search_by(|(known, _)| known.cmp(&name))
            .is_err()
        {
            disk.create_dir(&dir.join(name))?;
        }
    }
    disk.sync_dir(dir)
}

/// Hashes the first `len` bytes of a file.
fn hash_file(file: &dyn DiskFile, len: u64) -> io::Result<Hasher> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    while offset < len {
        let want = usize::try_from(len - offset).unwrap_or(PIECE).min(PIECE);
        let read = crate::disk::read_full(file, &mut buffer[..want], offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&buffer[..read]);
        offset += read as u64;
    }
    Ok(hasher)
}

/// No code panics while it holds one of these locks.
fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
