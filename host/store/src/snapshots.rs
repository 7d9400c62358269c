//! Snapshots: what the journal's records up to one of them make, so that a start need not read those.
//!
//! ```text
//! magic 8 | format u32 | header length u32 | key id 32 | realm 32 | seq u64 | journal's hash 32
//!         | body length u64 | body's SHA-256 32 | hash of all this 32 | body
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_wire::{Digest, Hasher, RealmId, Seq};

use crate::disk::{Disk, OpenMode, RealDisk, read_full, write_full};
use crate::fields::{Fields, Reading, check_format, check_ours};
use crate::journal::Start;
use crate::{DirLock, StoreError};

/// Format of the files that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"HEARTHSN";
const HEADER: usize = 192;
const DIR: &str = "snapshots";
/// A snapshot that is being written.
const UNFINISHED: &str = "unfinished";

/// A state, and the point of the journal that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The newest record in it, and the journal's hash behind that.
    pub start: Start,
    /// The state, as whoever wrote it wrote it.
    pub body: Vec<u8>,
}

/// The snapshots of a directory: the newest, and the one that it was made from.
///
/// A snapshot is written beside the others, synced, named, and its name synced, before others go: so one
/// that has been gone on from is there at every moment. They stand beside a whole journal and may all be
/// removed; a start then takes longer.
#[derive(Debug, Clone)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    realm: RealmId,
    /// Bytes that are left free on the disk: the journal needs them more.
    reserve: u64,
    _lock: Option<DirLock>,
}

impl Snapshots {
    /// The snapshots of a directory, whose place is made if it is not there.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn open(lock: &DirLock, realm: RealmId, reserve: u64) -> Result<Self, StoreError> {
        let mut snapshots = Self::open_on(Arc::new(RealDisk), lock.path(), realm, reserve)?;
        snapshots._lock = Some(lock.clone());
        Ok(snapshots)
    }

    /// As [`Snapshots::open`], on any disk. The caller sees to it that nobody else uses `parent`.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        parent: &Path,
        realm: RealmId,
        reserve: u64,
    ) -> Result<Self, StoreError> {
        let dir = parent.join(DIR);
        disk.create_dir(&dir)
            .and_then(|()| disk.sync_dir(parent))
            .map_err(|error| StoreError::io("making", &dir, error))?;
        // Of a process that was killed; the journal may need the room at once.
        let _ = disk.remove(&dir.join(UNFINISHED));
        Ok(Self {
            disk,
            dir,
            realm,
            reserve,
            _lock: None,
        })
    }

    /// The snapshots that are there, the newest first, by the newest record in each, with the length of
    /// its file. Whether one can be used is known when it is read.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn list(&self) -> Result<Vec<(Seq, u64)>, StoreError> {
        let names = self.disk.list(&self.dir);
        let names = names.map_err(|error| StoreError::io("listing", &self.dir, error))?;
        let names = names.iter().rev();
        let found = names.filter_map(|(name, len)| Some((parse(name)?, len.unwrap_or(0))));
        Ok(found.collect())
    }

    /// The snapshot up to `seq`.
    ///
    /// # Errors
    ///
    /// Damage, a wrong realm, an unknown format, and what the system refuses. The journal and the other
    /// snapshot are not touched by any of this.
    pub fn read(&self, seq: Seq) -> Result<Snapshot, StoreError> {
        let path = self.path(seq);
        let failed = |error| StoreError::io("reading", &path, error);
        let file = self.disk.open(&path, OpenMode::Read).map_err(failed)?;
        let mut bytes = [0; HEADER];
        let read = read_full(&*file, &mut bytes, 0).map_err(failed)?;
        let (start, len, digest) = self.header(&bytes[..read], &path)?;
        let whole = HEADER as u64 + len;
        if start.seq != seq {
            return Err(StoreError::damaged(
                &path,
                0,
                "the name of another snapshot",
            ));
        }
        if file.len().map_err(failed)? != whole {
            return Err(StoreError::damaged(
                &path,
                whole,
                "not the length it states",
            ));
        }
        let mut body = vec![0; len as usize];
        let read = read_full(&*file, &mut body, HEADER as u64).map_err(failed)?;
        if read as u64 != len || Digest::of(&body) != digest {
            let problem = "the state does not have the hash that the header states";
            return Err(StoreError::damaged(&path, HEADER as u64, problem));
        }
        Ok(Snapshot { start, body })
    }

    /// Writes a snapshot that was made from the one up to `from` (zero if from none), and removes all but
    /// these two.
    ///
    /// # Errors
    ///
    /// [`StoreError::Reserve`], a full disk, and what else the system refuses. The snapshots that were
    /// there stay.
    pub fn write(&self, snapshot: &Snapshot, from: Seq) -> Result<(), StoreError> {
        let free = self.disk.free_bytes(&self.dir);
        let free = free.map_err(|error| StoreError::io("looking at", &self.dir, error))?;
        if free < self.reserve.saturating_add(snapshot.body.len() as u64) {
            return Err(StoreError::Reserve {
                path: self.dir.clone(),
                free,
                reserve: self.reserve,
            });
        }
        let unfinished = self.dir.join(UNFINISHED);
        let seq = snapshot.start.seq;
        let path = self.path(seq);
        let written = self.write_beside(snapshot, &unfinished).and_then(|()| {
            self.disk
                .rename(&unfinished, &path)
                .and_then(|()| self.disk.sync_dir(&self.dir))
                .map_err(|error| StoreError::io("naming", &path, error))
        });
        if let Err(error) = written {
            // It takes room that may be what is missing. If it stays, the next one takes its place.
            let _ = self.disk.remove(&unfinished);
            return Err(error);
        }
        for (old, _) in self.list()? {
            if old != seq && old != from {
                let path = self.path(old);
                self.disk
                    .remove(&path)
                    .and_then(|()| self.disk.sync_dir(&self.dir))
                    .map_err(|error| StoreError::io("removing", &path, error))?;
            }
        }
        Ok(())
    }

    /// The file of the snapshot up to `seq`.
    pub(crate) fn path(&self, seq: Seq) -> PathBuf {
        self.dir.join(name(seq))
    }

    fn write_beside(&self, snapshot: &Snapshot, path: &Path) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("writing", path, error);
        let _ = self.disk.remove(path);
        let file = self.disk.open(path, OpenMode::CreateNew).map_err(failed)?;
        let header = encode(self.realm, snapshot);
        write_full(&*file, &header, 0).map_err(failed)?;
        write_full(&*file, &snapshot.body, HEADER as u64).map_err(failed)?;
        file.sync().map_err(failed)
    }

    fn header(&self, bytes: &[u8], path: &Path) -> Result<(Start, u64, Digest), StoreError> {
        let broken = || StoreError::damaged(path, 0, "not a snapshot's header");
        let mut fields = Reading(bytes);
        let mut read = || {
            let magic = fields.take::<8>()?;
            let format = u32::from_le_bytes(fields.take()?);
            let _length = u32::from_le_bytes(fields.take()?);
            let key = Digest::new(fields.take()?);
            let realm = RealmId(Digest::new(fields.take()?));
            let start = Start {
                seq: Seq(u64::from_le_bytes(fields.take()?)),
                hash: Digest::new(fields.take()?),
            };
            let len = u64::from_le_bytes(fields.take()?);
            let digest = Digest::new(fields.take()?);
            let hash = Digest::new(fields.take()?);
            Some((magic, format, key, realm, start, len, digest, hash))
        };
        let (magic, format, key, realm, start, len, digest, hash) = read().ok_or_else(broken)?;
        if &magic != MAGIC {
            return Err(broken());
        }
        check_format(path, format, FORMAT)?;
        if hash != hash_of(&bytes[..HEADER - 32]) {
            return Err(broken());
        }
        check_ours(path, self.realm, realm, key)?;
        Ok((start, len, digest))
    }
}

fn name(seq: Seq) -> String {
    format!("{:020}.snapshot", seq.0)
}

fn parse(text: &str) -> Option<Seq> {
    let seq = Seq(text.strip_suffix(".snapshot")?.parse().ok()?);
    (name(seq) == text).then_some(seq)
}

fn encode(realm: RealmId, snapshot: &Snapshot) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let mut out = Fields(&mut bytes);
    out.put(MAGIC);
    out.put(&FORMAT.to_le_bytes());
    out.put(&(HEADER as u32).to_le_bytes());
    // The key that the body is encrypted with: none yet, but the place is kept.
    out.put(Digest::default().as_bytes());
    out.put(realm.0.as_bytes());
    out.put(&snapshot.start.seq.0.to_le_bytes());
    out.put(snapshot.start.hash.as_bytes());
    out.put(&(snapshot.body.len() as u64).to_le_bytes());
    out.put(Digest::of(&snapshot.body).as_bytes());
    let hash = hash_of(&bytes[..HEADER - 32]);
    bytes[HEADER - 32..].copy_from_slice(hash.as_bytes());
    bytes
}

fn hash_of(header: &[u8]) -> Digest {
    Hasher::with_domain("hearth.snapshot.v1")
        .raw(header)
        .finish()
}
