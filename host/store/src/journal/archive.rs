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

use super::format::{parse_segment_name, segment_name};
use super::mark::MARK_NAME;
use super::scan::{Segment, SegmentFile, segment_files};
use super::shared::Shared;
use crate::disk::{Disk, DiskFile, OpenMode, read_full, write_full};
use crate::{DirLock, StoreError};

/// The file that says whose the archive is, in words.
const OWNER: &str = "archive.realm";
/// The file beside the journal that says, in words, that segments have left and where to. Without it a
/// directory that is nobody's yet may become the archive; with it that is the place at which a disk is to
/// be mounted.
const NOTE: &str = "archive.begun";
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
    /// Nothing was ever moved. It is made when something is.
    New,
    /// What was moved there cannot be had, and why.
    Away(String),
}

type Names = [(String, Option<u64>)];

impl Archive {
    /// Looks whose a directory is; gives the segments in it too. `beside` are the files in the journal's
    /// own. Nothing but another journal's own directory is an error: a start may need nothing of the
    /// archive.
    pub(super) fn find(
        disk: &dyn Disk,
        dir: &Path,
        realm: RealmId,
        beside: &Names,
    ) -> Result<(Self, Vec<SegmentFile>), StoreError> {
        let owner = format!("the archive of realm {}", realm.0);
        let begun = has(beside, NOTE);
        let names = match disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !begun => Ok(Vec::new()),
            other => other,
        };
        let (standing, files) = match names {
            Ok(names) if has(&names, MARK_NAME) => {
                let path = dir.to_owned();
                return Err(StoreError::ArchiveTaken { path });
            }
            Ok(names) => match check_owner(disk, dir, &owner) {
                Ok(true) => (Standing::Ours, segment_files(dir, &names, true)),
                Ok(false) => match nobodys(&names, &owner) {
                    Some(problem) => (Standing::Away(problem), Vec::new()),
                    None if begun => {
                        let problem = "segments were moved, but not there: is its disk mounted?";
                        (Standing::Away(problem.to_owned()), Vec::new())
                    }
                    None => (Standing::New, Vec::new()),
                },
                Err(problem) => (Standing::Away(problem), Vec::new()),
            },
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

    /// The journal was opened: the first record that is there, and why something in the archive could not
    /// be looked at.
    pub(super) fn opened(&self, first: Seq, unread: Option<String>) {
        let mut standing = self.standing();
        if let Some(problem) = unread {
            *standing = Standing::Away(problem);
        } else if matches!(*standing, Standing::New) && first > Seq(1) {
            let problem = "what the journal begins with is not there: is its disk mounted?";
            *standing = Standing::Away(problem.to_owned());
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

fn has(names: &Names, name: &str) -> bool {
    names.iter().any(|(known, _)| known == name)
}

/// Whether a directory is said to be ours; false if it is not said whose it is. Else what is wrong.
fn check_owner(disk: &dyn Disk, dir: &Path, owner: &str) -> Result<bool, String> {
    let read = || {
        let file = disk.open(&dir.join(OWNER), OpenMode::Read)?;
        let mut text = [0; 128];
        let read = read_full(&*file, &mut text, 0)?;
        Ok(String::from_utf8_lossy(&text[..read]).trim().to_owned())
    };
    match read() {
        Ok(found) if found == owner => Ok(true),
        Ok(found) => Err(format!("{OWNER} in it says {found:?}, not {owner:?}")),
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// What is wrong with a directory that is not said to be anybody's, and has these files.
fn nobodys(names: &Names, owner: &str) -> Option<String> {
    let segments = names
        .iter()
        .any(|(name, _)| parse_segment_name(name).is_some());
    segments.then(|| {
        format!(
            "files of a journal are in it, but no file {OWNER} with the line {owner:?} that says whose"
        )
    })
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
    /// not the one being written; says whether there was one. A journal without an archive has none. Once
    /// `stop` says so, one that is copied is not moved.
    ///
    /// # Errors
    ///
    /// [`StoreError::ArchiveAway`], an archive that another process writes to, a full disk, and what else
    /// the system refuses. The segment is in one place or in both then, and is read.
    pub fn archive_next(&mut self, seq: Seq, stop: impl Fn() -> bool) -> Result<bool, StoreError> {
        let shared = Arc::clone(&self.shared);
        let Some((archive, segment)) = shared.archive().zip(shared.to_archive(seq)) else {
            return Ok(false);
        };
        self.prepare(archive)?;
        let path = archive.dir.join(segment_name(segment.header.first));
        if !place(shared.disk(), archive, &segment, &path, stop)? {
            return Ok(false);
        }
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
        let check = || {
            let ours = check_owner(disk, dir, &archive.owner);
            match ours.map_err(|problem| archive.away(problem))? {
                false if !new => Err(archive.away("it is not there any more".to_owned())),
                ours => Ok(ours),
            }
        };
        if new {
            let parent = dir.parent().unwrap_or(dir);
            disk.create_dir(dir)
                .and_then(|()| disk.sync_dir(parent))
                .map_err(|error| StoreError::io("making", dir, error))?;
        }
        // Before there is a lock, which would be made where something else is mounted.
        check()?;
        if self.lock.is_some() && self.archive_lock.is_none() {
            self.archive_lock = Some(DirLock::acquire(dir)?);
        }
        // Another process may have made it its own before that.
        let ours = check()?;
        let names = disk
            .list(dir)
            .map_err(|error| StoreError::io("listing", dir, error))?;
        // A journal's own, which had nothing in it when we were opened.
        if has(&names, MARK_NAME) {
            return Err(StoreError::ArchiveTaken { path: dir.clone() });
        }
        if !ours && let Some(problem) = nobodys(&names, &archive.owner) {
            return Err(archive.away(problem));
        }
        let beside = self.shared.dir();
        if disk.open(&beside.join(NOTE), OpenMode::Read).is_err() {
            // Also one that is there: its maker may have been killed before it was durable, and without an
            // owner the note says that something is missed.
            write_text(disk, dir, OWNER, &format!("{}\n", archive.owner))?;
            let note = format!("segments of this journal are in {}\n", dir.display());
            write_text(disk, beside, NOTE, &note)?;
        }
        *standing = Standing::Ours;
        Ok(())
    }
}

/// Makes a small file, durably.
fn write_text(disk: &dyn Disk, dir: &Path, name: &str, text: &str) -> Result<(), StoreError> {
    let path = dir.join(name);
    write(disk, dir, &path, |file| {
        let written = write_full(file, text.as_bytes(), 0);
        written.map_err(|error| StoreError::io("writing", &path, error))?;
        Ok(true)
    })?;
    disk.sync_dir(dir)
        .map_err(|error| StoreError::io("syncing", dir, error))
}

/// Puts a segment into the archive, durably; false if `stop` came first.
fn place(
    disk: &dyn Disk,
    archive: &Archive,
    segment: &Segment,
    path: &Path,
    stop: impl Fn() -> bool,
) -> Result<bool, StoreError> {
    let copy = || {
        write(disk, &archive.dir, path, |file| {
            copy(disk, &segment.path, file, stop)
        })
    };
    // What has the name already is found first, also from one disk to another: `EEXIST` goes before `EXDEV`.
    let placed = match disk.link(&segment.path, path) {
        Ok(()) => true,
        // Somebody was killed before the other name was removed, or has put a file there by hand. Of that
        // it is not known whether it is durable, so it is written once more.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            compare(disk, &segment.path, path)?;
            copy()?
        }
        // Another disk, or one that has no links.
        Err(_) => copy()?,
    };
    if placed {
        disk.sync_dir(&archive.dir)
            .map_err(|error| StoreError::io("syncing", &archive.dir, error))?;
    }
    Ok(placed)
}

/// Makes a file that is whole and durable, under its name or not at all: that if `fill` says that it is not
/// wanted any more.
fn write(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    fill: impl FnOnce(&dyn DiskFile) -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    let unfinished = dir.join(UNFINISHED);
    let failed = |error| StoreError::io("writing", &unfinished, error);
    // Of a process that was killed.
    let _ = disk.remove(&unfinished);
    let written = disk
        .open(&unfinished, OpenMode::CreateNew)
        .map_err(failed)
        .and_then(|file| {
            let wanted = fill(&*file)?;
            if wanted {
                file.sync()
                    .and_then(|()| disk.rename(&unfinished, path))
                    .map_err(failed)?;
            }
            Ok(wanted)
        });
    if !matches!(written, Ok(true)) {
        // It takes room that may be what is missing. If it stays, the next one takes its place.
        let _ = disk.remove(&unfinished);
    }
    written
}

fn copy(
    disk: &dyn Disk,
    from: &Path,
    to: &dyn DiskFile,
    stop: impl Fn() -> bool,
) -> Result<bool, StoreError> {
    let mut pieces = Pieces::of(disk, from)?;
    let mut at = 0;
    while let Some(piece) = pieces.next()? {
        if stop() {
            return Ok(false);
        }
        write_full(to, piece, at).map_err(|error| StoreError::io("copying", from, error))?;
        at += piece.len() as u64;
    }
    Ok(true)
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
