//! Components that were fetched and outputs that were not yet handed over, by digest.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use hearth_wire::Digest;

/// How long a pinned blob that was seen on the disk is taken to be there. Nothing of ours drops it, and tasks
/// of one component come by the thousand each second.
const SEEN_FOR: Duration = Duration::from_secs(1);

/// A bounded directory of blobs. What is pinned stays; of the rest the least recently used goes.
#[derive(Debug)]
pub(crate) struct Blobs {
    dir: PathBuf,
    bytes_max: u64,
    pins: Mutex<HashMap<Digest, Pinned>>,
    /// One fetch per blob at a time.
    fetching: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug, Default)]
struct Pinned {
    count: u32,
    /// When it was last found, and its length.
    seen: Option<(Instant, u64)>,
}

/// Keeps a blob from being dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    blobs: Arc<Blobs>,
    digest: Digest,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = lock(&self.blobs.pins);
        if let Some(pinned) = pins.get_mut(&self.digest) {
            pinned.count -= 1;
            if pinned.count == 0 {
                pins.remove(&self.digest);
            }
        }
    }
}

impl Blobs {
    pub(crate) fn open(dir: &Path, bytes_max: u64) -> io::Result<Arc<Self>> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            bytes_max,
            pins: Mutex::default(),
            fetching: Mutex::default(),
        }))
    }

    /// Where the blob is or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    pub(crate) fn pin(self: &Arc<Self>, digest: Digest) -> Pin {
        lock(&self.pins).entry(digest).or_default().count += 1;
        Pin {
            blobs: Arc::clone(self),
            digest,
        }
    }

    /// Whether the blob is there, which counts as a use of it.
    pub(crate) fn has(&self, digest: &Digest, len: u64) -> bool {
        let path = self.path(digest);
        if fs::metadata(&path).map(|meta| meta.len()).ok() != Some(len) {
            return false;
        }
        // Only the order of eviction depends on it.
        let _stale = File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        true
    }

    /// The same of a blob that is pinned, without asking the disk each time.
    pub(crate) fn has_pinned(&self, pin: &Pin, len: u64) -> bool {
        let seen = lock(&self.pins).get(&pin.digest).and_then(|p| p.seen);
        if seen.is_some_and(|(at, seen)| seen == len && at.elapsed() < SEEN_FOR) {
            return true;
        }
        let has = self.has(&pin.digest, len);
        if let Some(pinned) = lock(&self.pins).get_mut(&pin.digest) {
            pinned.seen = has.then(|| (Instant::now(), len));
        }
        has
    }

    /// Held while a blob is fetched, so that many leases of one release fetch it once.
    pub(crate) fn turn(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetching = lock(&self.fetching);
        fetching.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(fetching.entry(digest).or_default())
    }

    /// Keeps bytes durably: an output may have to wait for a coordinator beyond our own restart.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        if self.has(digest, bytes.len() as u64) {
            return Ok(());
        }
        self.make_room(bytes.len() as u64)?;
        let temporary = self.dir.join(format!("{digest}.tmp"));
        let written = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&temporary, self.path(digest)))
            .and_then(|()| File::open(&self.dir)?.sync_all());
        if written.is_err() {
            let _gone = fs::remove_file(&temporary);
        }
        written
    }

    pub(crate) fn remove(&self, digest: &Digest) {
        // One that is gone already is as good.
        let _gone = fs::remove_file(self.path(digest));
    }

    /// Drops the least recently used unpinned blobs until `len` more bytes fit.
    ///
    /// # Errors
    ///
    /// When the pinned ones alone leave no room: the disk that the owner gives is full.
    pub(crate) fn make_room(&self, len: u64) -> io::Result<()> {
        let mut files = Vec::new();
        let mut total = len;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            total += meta.len();
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| name.parse::<Digest>().ok());
            if let Some(digest) = digest {
                files.push((meta.modified()?, meta.len(), digest));
            } else if meta
                .modified()?
                .elapsed()
                .is_ok_and(|age| age.as_secs() > 86_400)
            {
                // A transfer that nobody resumed for a day.
                fs::remove_file(entry.path())?;
                total -= meta.len();
            }
        }
        files.sort();
        for (_, len, digest) in files {
            if total <= self.bytes_max {
                return Ok(());
            }
            if !lock(&self.pins).contains_key(&digest) {
                self.remove(&digest);
                total -= len;
            }
        }
        if total <= self.bytes_max {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!(
                "the {} bytes that this node may keep are in use",
                self.bytes_max
            ),
        ))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_from_what_is_not_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path(), 25).unwrap();
        let put = |text: &[u8]| {
            let digest = Digest::of(text);
            std::thread::sleep(Duration::from_millis(15));
            blobs.put(&digest, text).map(|()| digest)
        };
        let first = put(b"0123456789").unwrap();
        let pin = blobs.pin(first);
        let second = put(b"abcdefghij").unwrap();
        let third = put(b"ABCDEFGHIJ").unwrap();
        assert!(blobs.has(&first, 10));
        assert!(!blobs.has(&second, 10));
        assert!(blobs.has(&third, 10));
        let full = blobs.make_room(16).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        drop(pin);
        blobs.make_room(16).unwrap();
        assert!(!blobs.has(&first, 10));
    }
}
