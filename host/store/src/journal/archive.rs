//! The archive: segments that a start from a snapshot does not need, in a directory that may be on another
//! disk.
//!
//! They stay a part of the journal: readers find them there, and a start without a snapshot replays them.
//! A file says whose archive the directory is, so that neither another realm's is taken for it nor the
//! place at which its disk is to be mounted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_wire::{RealmId, Seq};

use super::format::segment_name;
use super::mark::MARK_NAME;
use super::scan::{Segment, SegmentFile, segment_files};
use super::shared::Shared;
use crate::disk::{Disk, DiskFile, OpenMode, read_full, write_full};
use crate::{DirLock, StoreError};

/// The file that says whose the archive is, in words.
const OWNER: &str = "archive.realm";
/// A file that is being made.
const UNFINISHED: &str = "unfinished";
/// Files are copied and compared in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// The directory, and how it stands.
#[derive(Debug)]
pub(super) struct Archive {
    dir: PathBuf,
    owner: String,
    standing: Mutex<Standing>,
}

#[derive(Debug)]
enum Standing {
    Ours,
    /// Nothing was ever moved there. It is made when something is.
    New,
    /// What was moved there cannot be had, and why.
    Away(String),
}

impl Archive {
    /// Looks whose a directory is; gives the segments in it too. Nothing but a journal's own directory is
    /// an error here: a start may need nothing of the archive.
    pub(super) fn find(
        disk: &dyn Disk,
        dir: &Path,
        realm: RealmId,
    ) -> Result<(Self, Vec<SegmentFile>), StoreError> {
        let owner = format!("the archive of realm {}\n", realm.0);
        let (standing, files) = match disk.list(dir) {
            Ok(names) if names.iter().any(|(name, _)| name == MARK_NAME) => {
                let path = dir.to_owned();
                return Err(StoreError::ArchiveTaken { path });
            }
            Ok(names) => match whose(disk, dir) {
                Ok(Some(found)) if found == owner => {
                    (Standing::Ours, segment_files(dir, &names, true))
                }
                Ok(Some(found)) => (Standing::Away(format!("it is {found:?}")), Vec::new()),
                Ok(None) => (Standing::New, Vec::new()),
                Err(error) => (Standing::Away(error.to_string()), Vec::new()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Standing::New, Vec::new()),
            Err(error) => (Standing::Away(error.to_string()), Vec::new()),
        };
        let archive = Self {
            dir: dir.to_owned(),
            owner,
            standing: Mutex::new(standing),
        };
        Ok((archive, files))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The journal was opened: `whole` if all of it is in its own directory. If something is missing there
    /// it was moved once, and a directory that nobody owns is not where.
    pub(super) fn opened(&self, whole: bool) {
        let mut standing = self.standing();
        if matches!(*standing, Standing::New) && !whole {
            *standing = Standing::Away(
                "the journal is not whole without what was moved there, and it holds nothing: is its disk \
                 mounted?"
                    .to_owned(),
            );
        }
    }

    /// Why what was moved there cannot be had.
    pub(super) fn problem(&self) -> Option<String> {
        match &*self.standing() {
            Standing::Away(problem) => Some(problem.clone()),
            Standing::Ours | Standing::New => None,
        }
    }

    pub(super) fn away(&self, problem: String) -> StoreError {
        StoreError::ArchiveAway {
            path: self.dir.clone(),
            problem,
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the file says whose an archive is; `None` if it is not there.
fn whose(disk: &dyn Disk, dir: &Path) -> io::Result<Option<String>> {
    let file = match disk.open(&dir.join(OWNER), OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = [0; 128];
    let read = read_full(&*file, &mut text, 0)?;
    Ok(Some(String::from_utf8_lossy(&text[..read]).into_owned()))
}

/// Moves segments to the archive while others read and write the journal.
#[derive(Debug)]
pub struct Archiver {
    shared: Arc<Shared>,
    /// Of the journal, if it is on a real disk, and then of the archive too.
    lock: Option<DirLock>,
    archive_lock: Option<DirLock>,
}

impl Archiver {
    pub(super) fn new(shared: Arc<Shared>, lock: Option<DirLock>) -> Self {
        Self {
            shared,
            lock,
            archive_lock: None,
        }
    }

    /// Moves the oldest segment that is not in the archive, if it ends at record `seq` or before it and is
    /// not the one being written; says whether there was one. A journal without an archive has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::ArchiveAway`], an archive that another process writes to, a full disk, and what else
    /// the system refuses. The segment is in one place or in both then, and is read.
    pub fn archive_next(&mut self, seq: Seq) -> Result<bool, StoreError> {
        let shared = Arc::clone(&self.shared);
        let Some((archive, segment)) = shared.archive().zip(shared.to_archive(seq)) else {
            return Ok(false);
        };
        self.prepare(archive)?;
        let path = archive.dir.join(segment_name(segment.header.first));
        place(shared.disk(), archive, &segment, &path)?;
        shared.archived(segment.header.first, path);
        // Not synced: if the name comes back after a power loss, the file is in both places and the next
        // process moves it once more.
        shared
            .disk()
            .remove(&segment.path)
            .map_err(|error| StoreError::io("removing", &segment.path, error))?;
        Ok(true)
    }

    /// The directory is ours, and we alone write to it.
    fn prepare(&mut self, archive: &Archive) -> Result<(), StoreError> {
        let (disk, dir) = (self.shared.disk(), &archive.dir);
        let mut standing = archive.standing();
        let new = match &*standing {
            Standing::Ours => false,
            Standing::New => true,
            Standing::Away(problem) => return Err(archive.away(problem.clone())),
        };
        if new {
            let parent = dir.parent().unwrap_or(dir);
            disk.create_dir(dir)
                .and_then(|()| disk.sync_dir(parent))
                .map_err(|error| StoreError::io("making", dir, error))?;
        }
        // It may have been unmounted, and something else mounted there.
        let found = whose(disk, dir).map_err(|error| archive.away(error.to_string()))?;
        match found {
            Some(found) if found == archive.owner => {}
            None if new => {}
            None => return Err(archive.away("it is not there any more".to_owned())),
            Some(found) => return Err(archive.away(format!("it is {found:?}"))),
        }
        if self.lock.is_some() && self.archive_lock.is_none() {
            self.archive_lock = Some(DirLock::acquire(dir)?);
        }
        // A journal's own, which had nothing in it when we were opened.
        if disk.open(&dir.join(MARK_NAME), OpenMode::Read).is_ok() {
            return Err(StoreError::ArchiveTaken { path: dir.clone() });
        }
        if new {
            write(disk, dir, &dir.join(OWNER), |file| {
                write_full(file, archive.owner.as_bytes(), 0)
                    .map_err(|error| StoreError::io("writing", dir, error))
            })?;
            *standing = Standing::Ours;
        }
        Ok(())
    }
}

/// Puts a segment into the archive, durably.
fn place(
    disk: &dyn Disk,
    archive: &Archive,
    segment: &Segment,
    path: &Path,
) -> Result<(), StoreError> {
    let copy = || {
        write(disk, &archive.dir, path, |file| {
            copy(disk, &segment.path, file)
        })
    };
    match disk.link(&segment.path, path) {
        Ok(()) => {}
        // Somebody was killed before the other name was removed, or has put a file there by hand. Of that
        // it is not known whether it is durable, so it is written once more.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            compare(disk, &segment.path, path)?;
            copy()?;
        }
        // Another disk, or one that has no links.
        Err(_) => copy()?,
    }
    disk.sync_dir(&archive.dir)
        .map_err(|error| StoreError::io("syncing", &archive.dir, error))
}

/// Makes a file that is whole and durable, under its name or not at all.
fn write(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    fill: impl FnOnce(&dyn DiskFile) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let unfinished = dir.join(UNFINISHED);
    let failed = |error| StoreError::io("writing", &unfinished, error);
    // Of a process that was killed.
    let _ = disk.remove(&unfinished);
    let written = disk
        .open(&unfinished, OpenMode::CreateNew)
        .map_err(failed)
        .and_then(|file| {
            fill(&*file)?;
            file.sync()
                .and_then(|()| disk.rename(&unfinished, path))
                .map_err(failed)
        });
    written.inspect_err(|_| {
        // It takes room that may be what is missing. If it stays, the next one takes its place.
        let _ = disk.remove(&unfinished);
    })
}

fn copy(disk: &dyn Disk, from: &Path, to: &dyn DiskFile) -> Result<(), StoreError> {
    let mut pieces = Pieces::of(disk, from)?;
    let mut at = 0;
    while let Some(piece) = pieces.next()? {
        write_full(to, piece, at).map_err(|error| StoreError::io("copying", from, error))?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Refuses a file in the place of a segment that is not the same.
fn compare(disk: &dyn Disk, ours: &Path, theirs: &Path) -> Result<(), StoreError> {
    let (mut left, mut right) = (Pieces::of(disk, ours)?, Pieces::of(disk, theirs)?);
    loop {
        let (left, right) = (left.next()?, right.next()?);
        if left != right {
            return Err(StoreError::Twins {
                ours: ours.to_owned(),
                theirs: theirs.to_owned(),
            });
        }
        if left.is_none() {
            return Ok(());
        }
    }
}

/// A file, a piece at a time.
struct Pieces {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    at: u64,
    buffer: Vec<u8>,
}

impl Pieces {
    fn of(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        let file = disk
            .open(path, OpenMode::Read)
            .map_err(|error| StoreError::io("opening", path, error))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            at: 0,
            buffer: Vec::new(),
        })
    }

    fn next(&mut self) -> Result<Option<&[u8]>, StoreError> {
        self.buffer.resize(PIECE_BYTES, 0);
        let read = read_full(&*self.file, &mut self.buffer, self.at)
            .map_err(|error| StoreError::io("reading", &self.path, error))?;
        self.at += read as u64;
        Ok((read > 0).then_some(&self.buffer[..read]))
    }
}
