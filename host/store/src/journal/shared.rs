//! What the writer, the syncer and the readers of a journal share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use hearth_wire::{Digest, Seq};

use super::Start;
use super::archive::Archive;
use super::format::Tip;
use super::mark::Mark;
use super::scan::Segment;
use crate::StoreError;
use crate::disk::{Disk, DiskFile, OpenMode};

/// Segments that readers hold open; a follower needs the newest, results are read all over.
const OPEN_FILES_MAX: usize = 64;

/// What was written to the newest segment, synced or not.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) tip: Tip,
    pub(super) file: Arc<dyn DiskFile>,
}

#[derive(Debug)]
pub(super) struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    archive: Option<Archive>,
    segments: RwLock<Vec<Segment>>,
    /// Files of segments that were read, the most recently used last.
    files: Mutex<Vec<(Seq, Arc<dyn DiskFile>)>>,
    written: Mutex<Written>,
    /// Held over a sync: two at once could each take the other's error for its own success.
    mark: Mutex<Mark>,
    durable_seq: AtomicU64,
    /// Published before `durable_seq`, so that a reader who sees the number can read the record.
    durable_end: AtomicU64,
    poison: OnceLock<String>,
}

impl Shared {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        archive: Option<Archive>,
        segments: Vec<Segment>,
        written: Written,
        mark: Mark,
    ) -> Self {
        Self {
            disk,
            dir,
            archive,
            segments: RwLock::new(segments),
            files: Mutex::default(),
            durable_seq: AtomicU64::new(written.tip.seq.0),
            durable_end: AtomicU64::new(written.tip.position),
            written: Mutex::new(written),
            mark: Mutex::new(mark),
            poison: OnceLock::new(),
        }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    pub(super) fn archive_dir(&self) -> Option<PathBuf> {
        Some(self.archive()?.dir().to_owned())
    }

    /// What stood at `position` is in no file that is there.
    pub(super) fn away(&self, position: u64) -> StoreError {
        StoreError::Away {
            path: self.dir.clone(),
            archive: self.archive_dir(),
            position,
        }
    }

    /// The newest durable record and the position behind it.
    pub(super) fn durable(&self) -> (Seq, u64) {
        let seq = Seq(self.durable_seq.load(Ordering::Acquire));
        (seq, self.durable_end.load(Ordering::Acquire))
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.poison.get() {
            None => Ok(()),
            Some(cause) => Err(StoreError::Poisoned {
                cause: cause.clone(),
            }),
        }
    }

    pub(super) fn poison(&self, error: &StoreError) {
        // The first cause is the one to tell.
        let _ = self.poison.set(error.to_string());
    }

    pub(super) fn written(&self) -> MutexGuard<'_, Written> {
        lock(&self.written)
    }

    /// Syncs what was written when this was called, at least.
    pub(super) fn sync(&self) -> Result<Seq, StoreError> {
        let mut mark = lock(&self.mark);
        self.check()?;
        let written = self.written().clone();
        let (durable, end) = self.durable();
        if written.tip.position == end {
            return Ok(durable);
        }
        let path = || self.dir.clone();
        let synced = written.file.sync().map_err(|source| StoreError::Io {
            action: "syncing",
            path: path(),
            source,
        });
        if let Err(error) = synced {
            self.poison(&error);
            return Err(error);
        }
        self.durable_end
            .store(written.tip.position, Ordering::Release);
        self.durable_seq.store(written.tip.seq.0, Ordering::Release);
        mark.write(&written.tip).map_err(|error| {
            let error = StoreError::io("writing the mark of", &self.dir, error);
            self.poison(&error);
            error
        })?;
        Ok(written.tip.seq)
    }

    /// A new segment takes over. Everything before it is durable.
    pub(super) fn rotated(&self, segment: Segment, written: Written) {
        let _mark = lock(&self.mark);
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(segment);
        self.durable_end
            .store(written.tip.position, Ordering::Release);
        *self.written() = written;
    }

    /// The oldest segment that is not in the archive, if it ends at record `seq` or before it. Never the
    /// newest.
    pub(super) fn to_archive(&self, seq: Seq) -> Option<Segment> {
        let segments = self.segments();
        let at = segments.iter().position(|segment| !segment.archived)?;
        let next = segments.get(at + 1)?;
        let ended = next.header.first.0 <= seq.0.saturating_add(1);
        ended.then(|| segments[at].clone())
    }

    /// The segment that begins with `first` is in the archive.
    pub(super) fn archived(&self, first: Seq, path: PathBuf) {
        let mut segments = self
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = segments
            .iter_mut()
            .find(|segment| segment.header.first == first)
        {
            segment.path = path;
            segment.archived = true;
        }
        drop(segments);
        self.close(first);
    }

    /// Opens the file of a segment anew when it is read again.
    pub(super) fn close(&self, first: Seq) {
        lock(&self.files).retain(|(known, _)| *known != first);
    }

    fn segments(&self) -> RwLockReadGuard<'_, Vec<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where each segment but the newest ends.
    pub(super) fn ends(&self) -> Vec<Start> {
        let segments = self.segments();
        let later = segments.iter().skip(1).map(|segment| &segment.header);
        // A damaged header does not say what it follows.
        let whole = later.filter(|header| header.hash != Digest::default());
        let ends = whole.map(|header| Start {
            seq: Seq(header.first.0 - 1),
            hash: header.previous,
        });
        ends.collect()
    }

    /// The first record that is there.
    pub(super) fn first(&self) -> Seq {
        let segments = self.segments();
        segments
            .first()
            .map_or(Seq(1), |segment| segment.header.first)
    }

    /// The first record of each segment.
    pub(super) fn firsts(&self) -> Vec<Seq> {
        let segments = self.segments();
        segments
            .iter()
            .map(|segment| segment.header.first)
            .collect()
    }

    /// The segment that holds `position`, and where the next one begins.
    pub(super) fn segment_at(&self, position: u64) -> Option<(Segment, Option<u64>)> {
        self.segment_by(|segment| segment.header.position <= position)
    }

    /// The segment that holds record `seq`, and where the next one begins.
    pub(super) fn segment_of(&self, seq: Seq) -> Option<(Segment, Option<u64>)> {
        self.segment_by(|segment| segment.header.first <= seq)
    }

    fn segment_by(&self, before: impl Fn(&Segment) -> bool) -> Option<(Segment, Option<u64>)> {
        let segments = self.segments();
        let after = segments.partition_point(before);
        let segment = segments.get(after.checked_sub(1)?)?.clone();
        Some((
            segment,
            segments.get(after).map(|next| next.header.position),
        ))
    }

    /// The file of a segment, from the open ones if it is there. No lock is held while it is opened: the
    /// archive may be slow.
    pub(super) fn file(&self, segment: &Segment) -> Result<Arc<dyn DiskFile>, StoreError> {
        let first = segment.header.first;
        if let Some(file) = used(&mut lock(&self.files), first) {
            return Ok(file);
        }
        let mut path = segment.path.clone();
        loop {
            let opened = self.disk.open(&path, OpenMode::Read);
            let mut files = lock(&self.files);
            // It may have been moved since it was looked up. Then it is not kept open: it would keep its
            // room on the disk that it has left.
            match (self.segment_of(first), opened) {
                (Some((now, _)), _) if now.header.first == first && now.path != path => {
                    path = now.path;
                }
                (_, Err(error)) => return Err(StoreError::io("opening", &path, error)),
                (_, Ok(file)) => {
                    // Or opened by somebody else.
                    if used(&mut files, first).is_none() {
                        if files.len() == OPEN_FILES_MAX {
                            files.remove(0);
                        }
                        files.push((first, Arc::clone(&file)));
                    }
                    return Ok(file);
                }
            }
        }
    }
}

/// The open file of a segment, which is the most recently used now.
fn used(files: &mut [(Seq, Arc<dyn DiskFile>)], first: Seq) -> Option<Arc<dyn DiskFile>> {
    let index = files.iter().position(|(known, _)| *known == first)?;
    files[index..].rotate_left(1);
    files.last().map(|(_, file)| Arc::clone(file))
}

/// No code panics while it holds one of these locks, and none leaves its value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Syncs what a [`crate::Journal`] flushed, so that the next batch can be decided and written while
/// this one is on its way to the disk.
#[derive(Debug, Clone)]
pub struct Syncer {
    shared: Arc<Shared>,
}

impl Syncer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Makes everything flushed before this call durable; gives back the newest durable record.
    ///
    /// # Errors
    ///
    /// Any failure is fatal: the journal is poisoned.
    pub fn sync(&self) -> Result<Seq, StoreError> {
        self.shared.sync()
    }
}
