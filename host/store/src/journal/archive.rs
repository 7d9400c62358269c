//! The archive: segments that a start from a snapshot does not need, in a directory that may be on another
//! disk.
//!
//! They stay a part of the journal: readers find them there, and a start without a snapshot replays them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_wire::Seq;

use super::format::segment_name;
use super::scan::Segment;
use super::shared::Shared;
use crate::disk::{Disk, DiskFile, OpenMode, read_full, write_full};
use crate::{DirLock, StoreError};

/// A copy that is being made.
const UNFINISHED: &str = "unfinished";
/// Files are copied and compared in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// Moves segments to the archive while others read and write the journal.
#[derive(Debug)]
pub struct Archiver {
    shared: Arc<Shared>,
    _lock: Option<DirLock>,
}

impl Archiver {
    pub(super) fn new(shared: Arc<Shared>, lock: Option<DirLock>) -> Self {
        Self {
            shared,
            _lock: lock,
        }
    }

    /// Moves the segments that end at record `seq` or before it; gives back how many. The one being
    /// written stays, and all do if the journal has no archive. One caller at a time.
    ///
    /// # Errors
    ///
    /// [`StoreError::ArchiveAway`], a full disk, and what else the system refuses. What was not moved is
    /// where it was, and can be moved later.
    pub fn archive_before(&self, seq: Seq) -> Result<usize, StoreError> {
        let Some(archive) = self.shared.archive() else {
            return Ok(0);
        };
        let mut moved = 0;
        while let Some((before, segment)) = self.shared.to_archive(seq) {
            self.check(archive, before.as_ref(), &segment)?;
            let path = archive.join(segment_name(segment.header.first));
            self.place(archive, &segment, &path)?;
            self.shared.archived(segment.header.first, path);
            // Not synced: if the name comes back after a power loss, the file is in both places and the
            // next start moves it once more.
            self.disk()
                .remove(&segment.path)
                .map_err(|error| StoreError::io("removing", &segment.path, error))?;
            moved += 1;
        }
        Ok(moved)
    }

    fn disk(&self) -> &dyn Disk {
        self.shared.disk()
    }

    /// The directory is the archive, and not what is seen in its place while its disk is away: it holds
    /// the segment before.
    fn check(
        &self,
        archive: &Path,
        before: Option<&Segment>,
        segment: &Segment,
    ) -> Result<(), StoreError> {
        let first = segment.header.first;
        let there = match before {
            None => first == Seq(1),
            Some(before) => match self.disk().open(&before.path, OpenMode::Read) {
                Ok(_) => true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
                Err(error) => return Err(StoreError::io("opening", &before.path, error)),
            },
        };
        if there {
            return Ok(());
        }
        Err(StoreError::ArchiveAway {
            path: archive.to_owned(),
            first,
        })
    }

    /// Puts a segment into the archive, durably.
    fn place(&self, archive: &Path, segment: &Segment, path: &Path) -> Result<(), StoreError> {
        match self.disk().link(&segment.path, path) {
            Ok(()) => {}
            // Somebody was killed before the other name was removed.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                self.compare(segment, path)?;
            }
            // Another disk, or one that has no links.
            Err(_) => self.copy(segment, &archive.join(UNFINISHED), path)?,
        }
        self.disk()
            .sync_dir(archive)
            .map_err(|error| StoreError::io("syncing", archive, error))
    }

    fn copy(&self, segment: &Segment, unfinished: &Path, path: &Path) -> Result<(), StoreError> {
        let disk = self.disk();
        let failed = |error| StoreError::io("copying to", unfinished, error);
        let _ = disk.remove(unfinished);
        let copied = || {
            let file = disk.open(unfinished, OpenMode::CreateNew).map_err(failed)?;
            let mut pieces = Pieces::of(disk, &segment.path)?;
            let mut at = 0;
            while let Some(piece) = pieces.next()? {
                write_full(&*file, piece, at).map_err(failed)?;
                at += piece.len() as u64;
            }
            file.sync()
                .and_then(|()| disk.rename(unfinished, path))
                .map_err(failed)
        };
        copied().inspect_err(|_| {
            // It takes room that may be what is missing. If it stays, the next one takes its place.
            let _ = disk.remove(unfinished);
        })
    }

    /// A file that has the name of a segment in the archive is that segment.
    fn compare(&self, segment: &Segment, path: &Path) -> Result<(), StoreError> {
        let mut ours = Pieces::of(self.disk(), &segment.path)?;
        let mut theirs = Pieces::of(self.disk(), path)?;
        loop {
            let (at, ours, theirs) = (theirs.at, ours.next()?, theirs.next()?);
            if ours != theirs {
                let problem = format!("not the same as {}", segment.path.display());
                return Err(StoreError::damaged(path, at, problem));
            }
            if ours.is_none() {
                return Ok(());
            }
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
