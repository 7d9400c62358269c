//! The journal: what happened, in the order in which it happened, and nothing before it is durable.

mod archive;
mod format;
mod mark;
mod reader;
mod scan;
mod shared;
mod window;

use std::path::PathBuf;
use std::sync::Arc;

use hearth_wire::{Digest, Hasher, RealmId, Seq};
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, OpenMode, RealDisk, write_again, write_full};
use crate::{DirLock, StoreError};
use archive::Archive;
use format::{
    BATCH_HEADER, BatchHeader, RECORD_HEADER, SEGMENT_HEADER, SegmentHeader, TRAILER, Tip,
    record_header, segment_name,
};
use mark::{Found, MARK_NAME, Mark};
use scan::{Scan, Segment, SegmentFile, merged, segment_files};
use shared::{Shared, Written};

pub use archive::Archiver;
pub use reader::{Reader, Replay};
pub use scan::{Cut, Recovery};
pub use shared::Syncer;

/// Largest record. A step's records are many and small; this leaves room for a batch of reports.
pub const RECORD_BYTES_MAX: usize = 8 << 20;
/// Largest batch, and so what a reader holds in memory.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// Where a record is: bytes from the beginning of the journal, over all its segments.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position(pub u64);

/// A record's number and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its number, dense from 1.
    pub seq: Seq,
    /// Where it is.
    pub position: Position,
}

/// The point from which the journal is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The newest record that is not needed: zero, or the one that a snapshot covers.
    pub seq: Seq,
    /// The journal's hash behind it.
    pub hash: Digest,
}

/// What a journal is opened with.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// The realm, which every segment names.
    pub realm: RealmId,
    /// A segment that is larger gets no further batch.
    pub segment_bytes: u64,
    /// From where it is needed. Segments in front of it may be missing.
    pub start: Start,
    /// The directory to which segments go that are not needed so often, if any: see [`Archiver`]. It may be
    /// on another disk, and is made with the first of them if its parent is there.
    pub archive: Option<PathBuf>,
    /// Take the end that is found for the end, though the file that says where it was is missing or
    /// damaged. Whoever sets this gives up what may have been cut from it.
    pub trust_end: bool,
}

impl JournalConfig {
    /// The whole journal of `realm`, in segments of 64 MiB, without an archive.
    pub fn new(realm: RealmId) -> Self {
        let hash = Hasher::with_domain("hearth.journal.genesis.v1")
            .raw(realm.0.as_bytes())
            .finish();
        Self {
            realm,
            segment_bytes: 64 << 20,
            start: Start { seq: Seq(0), hash },
            archive: None,
            trust_end: false,
        }
    }
}

/// The writing end of a journal: `append` gathers records, `commit` makes them durable.
///
/// Everything appended since the last commit goes to the disk in one write and one `fdatasync`, so
/// the price of durability is paid per commit and not per record. Records get their numbers and
/// places when they are appended, before they are durable; whoever tells somebody else about one
/// waits for the commit.
///
/// A full disk leaves everything as it was and the commit can be tried again. Any other failure
/// poisons the journal: what a failed sync left behind is unknown, and only reading it back can
/// tell, so the process must end.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    config: JournalConfig,
    segment: Segment,
    /// Where the chain is behind everything that was written to the file.
    written: Tip,
    /// Sealed batches and the open one, in the order of the file, from `written.position`.
    buffer: Vec<u8>,
    /// The chain behind the sealed batches of `buffer`.
    sealed: Tip,
    /// Where the open batch begins in `buffer`, and its records.
    open: Option<(usize, u32)>,
    /// On a real disk.
    lock: Option<DirLock>,
}

impl Journal {
    /// Opens the journal of a directory, or makes one, and reads it: `visit` sees each durable record
    /// behind [`JournalConfig::start`] in order.
    ///
    /// # Errors
    ///
    /// Damage, missing files, a wrong realm, an unknown format, what `visit` refuses, and what the
    /// system refuses. Only a torn tail, whose commit never returned, is cut, and
    /// [`Recovery`] says so.
    pub fn open<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        lock: &DirLock,
        config: JournalConfig,
        visit: impl FnMut(Entry, &[u8]) -> Result<(), E>,
    ) -> Result<(Self, Recovery), StoreError> {
        let dir = lock.path().to_owned();
        let (mut journal, recovery) = Self::open_on(Arc::new(RealDisk), dir, config, visit)?;
        journal.lock = Some(lock.clone());
        Ok((journal, recovery))
    }

    /// As [`Journal::open`], on any disk. The caller sees to it that nobody else uses `parent`.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn open_on<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        disk: Arc<dyn Disk>,
        parent: PathBuf,
        config: JournalConfig,
        mut visit: impl FnMut(Entry, &[u8]) -> Result<(), E>,
    ) -> Result<(Self, Recovery), StoreError> {
        let dir = parent.join("journal");
        disk.create_dir(&dir)
            .and_then(|()| disk.sync_dir(&parent))
            .map_err(|error| StoreError::io("making", &dir, error))?;
        let mark_path = dir.join(MARK_NAME);
        let names = disk
            .list(&dir)
            .map_err(|error| StoreError::io("listing", &dir, error))?;
        let (archive, archived) = match &config.archive {
            Some(archive) => {
                let (archive, files) = Archive::find(&*disk, archive, config.realm, &names)?;
                (Some(archive), files)
            }
            None => (None, Vec::new()),
        };
        let (files, shorter) = merged(segment_files(&dir, &names, false), archived);
        let genesis = Tip {
            seq: config.start.seq,
            hash: config.start.hash,
            position: 0,
        };
        let mark_failed = |error| StoreError::io("writing", &mark_path, error);
        let found = Mark::find(&*disk, &mark_path, &genesis)
            .map_err(|error| StoreError::io("opening", &mark_path, error))?;
        let suspect = match &found {
            Found::Whole(..) => None,
            Found::Missing | Found::Unfinished if is_new(&files, config.start.seq) => None,
            Found::Missing => Some("is missing"),
            Found::Unfinished | Found::Damaged => Some("is damaged"),
        };
        if let Some(problem) = suspect
            && !config.trust_end
        {
            return Err(StoreError::Mark {
                path: mark_path,
                problem,
            });
        }
        // Before the first segment, whose making brings this name to the disk too.
        let (mark, acknowledged) = match (found, suspect) {
            (Found::Whole(mark, tip), _) => (Some(mark), Some(tip)),
            (_, None) => {
                let mark = Mark::create(&*disk, &mark_path, &genesis).map_err(mark_failed)?;
                (Some(mark), None)
            }
            // Made anew below, when it is known what for.
            (_, Some(_)) => (None, None),
        };

        let mut scan = Scan {
            disk: &*disk,
            dir: &dir,
            archive: config.archive.as_deref(),
            realm: config.realm,
            mark: acknowledged,
            start: config.start,
            met: false,
            unread: None,
            newest: genesis,
            recovery: Recovery {
                shorter,
                ..Recovery::default()
            },
        };
        let scanned = scan.run(&files, &mut |entry, record| {
            visit(entry, record).map_err(Into::into)
        });
        let (mut segments, mut tip) = match (scanned, &archive) {
            // What is needed may be where we could not look.
            (Err(error @ (StoreError::Gap { .. } | StoreError::Missing { .. })), Some(archive)) => {
                let problem = archive.problem();
                return Err(problem.map_or(error, |problem| archive.away(problem)));
            }
            (scanned, _) => scanned?,
        };
        if let Some(archive) = &archive {
            archive.opened(scan.recovery.first, scan.unread.take());
            scan.recovery.archive_away = archive.problem();
        }
        let (recovery, newest) = (scan.recovery, scan.newest);
        let segment = match segments.last() {
            Some(segment) if !segment.archived => segment.clone(),
            _ => {
                let (segment, start) = new_segment(&*disk, &dir, config.realm, tip)?;
                tip = start;
                segments.push(segment.clone());
                segment
            }
        };
        let file = disk
            .open(&segment.path, OpenMode::Write)
            .map_err(|error| StoreError::io("opening", &segment.path, error))?;
        // What was read may still be only in the system's memory, if the process before this one
        // was killed between writing and syncing, or its sync failed; and so may the cut of a torn
        // tail. It is shown as durable from here on. What the mark tells of is so already.
        let noted = acknowledged.map_or(0, |noted| noted.position);
        write_again(&*file, noted.saturating_sub(segment.header.position))
            .and_then(|()| file.sync())
            .map_err(|error| StoreError::io("syncing", &segment.path, error))?;
        let mut mark = match mark {
            Some(mark) => mark,
            None => Mark::create(&*disk, &mark_path, &newest).map_err(mark_failed)?,
        };
        // The one before may have been killed between syncing and noting it, or the power went.
        let noted = acknowledged.filter(|noted| noted.seq >= newest.seq);
        mark.renew(&noted.unwrap_or(newest)).map_err(mark_failed)?;
        // The names too: of the mark, and of a segment whose maker was killed before it came to this.
        disk.sync_dir(&dir)
            .map_err(|error| StoreError::io("syncing", &dir, error))?;
        let written = Written { tip, file };
        let journal = Self {
            shared: Arc::new(Shared::new(disk, dir, archive, segments, written, mark)),
            config,
            segment,
            written: tip,
            buffer: Vec::new(),
            sealed: tip,
            open: None,
            lock: None,
        };
        Ok((journal, recovery))
    }

    /// The number of the newest record appended.
    pub fn last_seq(&self) -> Seq {
        Seq(self.sealed.seq.0 + self.open.map_or(0, |(_, records)| u64::from(records)))
    }

    /// The newest durable record.
    pub fn durable(&self) -> Seq {
        self.shared.durable().0
    }

    /// The hash that covers every record written so far.
    pub fn hash(&self) -> Digest {
        self.written.hash
    }

    /// A handle that reads durable records, also from other threads.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// A handle that syncs what was flushed, also from another thread while more is appended.
    pub fn syncer(&self) -> Syncer {
        Syncer::new(Arc::clone(&self.shared))
    }

    /// A handle that moves segments to the archive, also from another thread.
    pub fn archiver(&self) -> Archiver {
        Archiver::new(Arc::clone(&self.shared), self.lock.clone())
    }

    /// Adds records behind all others. They are durable after the next [`Journal::commit`].
    ///
    /// # Errors
    ///
    /// None of the records is added if one is too large, if the journal is poisoned, or if room had
    /// to be made (a full buffer, a full segment) and that failed.
    pub fn append(&mut self, records: &[impl AsRef<[u8]>]) -> Result<Vec<Entry>, StoreError> {
        self.shared.check()?;
        if let Some(record) = records
            .iter()
            .find(|record| record.as_ref().len() > RECORD_BYTES_MAX)
        {
            return Err(StoreError::RecordTooLarge {
                bytes: record.as_ref().len(),
                max: RECORD_BYTES_MAX,
            });
        }
        if self.buffer.len() >= BATCH_BYTES_MAX {
            self.flush()?;
        }
        let end = self.written.position + self.buffer.len() as u64;
        if end - self.segment.header.position >= self.config.segment_bytes
            && self.last_seq() >= self.segment.header.first
        {
            self.rotate()?;
        }
        let entries = records.iter().map(|record| self.push(record.as_ref()));
        Ok(entries.collect())
    }

    /// Writes and syncs everything appended; gives back the newest durable record.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSpace`] changes nothing and can be tried again. Everything else is fatal.
    pub fn commit(&mut self) -> Result<Seq, StoreError> {
        self.flush()?;
        self.shared.sync()
    }

    /// Writes everything appended without syncing it, for a [`Syncer`] on another thread. Gives back
    /// the newest record written.
    ///
    /// # Errors
    ///
    /// As [`Journal::commit`].
    pub fn flush(&mut self) -> Result<Seq, StoreError> {
        self.shared.check()?;
        self.seal();
        if self.buffer.is_empty() {
            return Ok(self.written.seq);
        }
        let mut written = self.shared.written();
        let offset = self.written.position - self.segment.header.position;
        match write_full(&*written.file, &self.buffer, offset) {
            Ok(()) => {}
            Err(error) => {
                let error = StoreError::io("writing", &self.segment.path, error);
                // The same bytes are written to the same place by the next try.
                if !matches!(error, StoreError::NoSpace { .. }) {
                    self.shared.poison(&error);
                }
                return Err(error);
            }
        }
        written.tip = self.sealed;
        self.written = self.sealed;
        self.buffer.clear();
        // One large step must not keep its memory for ever.
        self.buffer.shrink_to(BATCH_BYTES_MAX / 16);
        Ok(self.written.seq)
    }

    fn push(&mut self, record: &[u8]) -> Entry {
        let size = RECORD_HEADER + record.len();
        if let Some((start, _)) = self.open
            && self.buffer.len() - start - BATCH_HEADER + size > BATCH_BYTES_MAX
        {
            self.seal();
        }
        let (start, records) = self.open.unwrap_or_else(|| {
            let start = self.buffer.len();
            self.buffer.resize(start + BATCH_HEADER, 0);
            (start, 0)
        });
        let position = self.written.position + self.buffer.len() as u64;
        self.buffer
            .extend_from_slice(&record_header(position, record));
        self.buffer.extend_from_slice(record);
        self.open = Some((start, records + 1));
        Entry {
            seq: self.last_seq(),
            position: Position(position),
        }
    }

    /// Finishes the open batch.
    fn seal(&mut self) {
        let Some((start, records)) = self.open.take() else {
            return;
        };
        let body = &self.buffer[start + BATCH_HEADER..];
        let mut header = BatchHeader {
            body: body.len() as u32,
            records,
            first: Seq(self.sealed.seq.0 + 1),
            durable: self.shared.durable().0,
            hash: Digest::default(),
        };
        header.hash = header.chain(self.sealed.hash, body);
        let bytes = header.encode(&self.segment.header.hash);
        self.buffer[start..start + BATCH_HEADER].copy_from_slice(&bytes);
        self.buffer.push(TRAILER);
        self.sealed = Tip {
            seq: header.last(),
            hash: header.hash,
            position: self.sealed.position + header.extent() as u64,
        };
    }

    /// Goes on in a new segment. The old one is durable before the new one exists, so only the
    /// newest can have a torn tail.
    fn rotate(&mut self) -> Result<(), StoreError> {
        self.commit()?;
        let disk = self.shared.disk();
        let made = new_segment(disk, self.shared.dir(), self.config.realm, self.written).and_then(
            |(segment, start)| {
                let file = disk
                    .open(&segment.path, OpenMode::Write)
                    .map_err(|error| StoreError::io("opening", &segment.path, error))?;
                Ok((segment, start, file))
            },
        );
        let (segment, start, file) = made.inspect_err(|error| {
            if !matches!(error, StoreError::NoSpace { .. }) {
                self.shared.poison(error);
            }
        })?;
        self.shared
            .rotated(segment.clone(), Written { tip: start, file });
        self.segment = segment;
        self.written = start;
        self.sealed = start;
        Ok(())
    }
}

/// Whether nothing was ever written to a journal but the beginning of its first segment.
fn is_new(files: &[SegmentFile], start: Seq) -> bool {
    // A snapshot proves that there was a journal, and so that it had a mark.
    start == Seq(0)
        && files
            .iter()
            .all(|file| file.first == Seq(1) && file.len <= SEGMENT_HEADER as u64)
}

/// Makes the segment that follows `tip`, durably. A full disk leaves nothing behind.
fn new_segment(
    disk: &dyn Disk,
    dir: &std::path::Path,
    realm: RealmId,
    tip: Tip,
) -> Result<(Segment, Tip), StoreError> {
    let first = Seq(tip.seq.0 + 1);
    let path = dir.join(segment_name(first));
    let header = SegmentHeader::new(realm, first, tip.position, tip.hash);
    let file = disk
        .open(&path, OpenMode::CreateNew)
        .map_err(|error| StoreError::io("making", &path, error))?;
    let made = write_full(&*file, &header.encode(), 0)
        .and_then(|()| file.sync())
        .and_then(|()| disk.sync_dir(dir));
    if let Err(error) = made {
        // If this fails too, the next start removes it, as a header that was never finished.
        let _ = disk.remove(&path);
        return Err(StoreError::io("making", &path, error));
    }
    let start = Tip {
        seq: tip.seq,
        hash: header.hash,
        position: tip.position + SEGMENT_HEADER as u64,
    };
    let segment = Segment {
        header,
        path,
        archived: false,
    };
    Ok((segment, start))
}
