//! Reading a journal back: every hash is checked, a torn tail is cut, anything else is damage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_wire::{Digest, RealmId, Seq};

use super::format::{
    BATCH_HEADER, BATCH_MAGIC, BatchHeader, HeaderError, RECORD_HEADER, SEGMENT_HEADER,
    SegmentHeader, TRAILER, Tip, parse_segment_name, record_at,
};
use super::window::Window;
use super::{BATCH_BYTES_MAX, Entry, Position, Start};
use crate::StoreError;
use crate::disk::{Disk, DiskFile, OpenMode};

/// The unit that a disk writes whole or not at all.
const SECTOR: u64 = 512;
/// How much of a broken tail is looked at in one go: whole sectors.
const STEP: u64 = 64 << 10;

/// A segment as the journal and its readers know it.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) path: PathBuf,
    /// Whether it is in the archive, where nothing is written.
    pub(super) archived: bool,
}

/// A segment's file, of which nothing but the name is known.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) first: Seq,
    pub(super) path: PathBuf,
    pub(super) archived: bool,
    pub(super) len: u64,
}

/// The segments among the files of a directory.
pub(super) fn segment_files(
    dir: &Path,
    names: &[(String, Option<u64>)],
    archived: bool,
) -> Vec<SegmentFile> {
    let files = names.iter().filter_map(|(name, len)| {
        Some(SegmentFile {
            first: parse_segment_name(name)?,
            path: dir.join(name),
            archived,
            len: len.unwrap_or(0),
        })
    });
    files.collect()
}

/// The segments of a journal in order. Of one that is in both directories, because a process was killed
/// while it moved, one file is taken; and those that are shorter than their twins, which only an older
/// copy is that somebody has put there.
pub(super) fn merged(
    ours: Vec<SegmentFile>,
    archived: Vec<SegmentFile>,
) -> (Vec<SegmentFile>, Vec<PathBuf>) {
    let mut merged: BTreeMap<Seq, SegmentFile> = BTreeMap::new();
    let mut shorter = Vec::new();
    // Ours are the second, so of two that are equally long they are taken.
    for file in archived.into_iter().chain(ours) {
        match merged.get(&file.first) {
            Some(twin) if twin.len > file.len => shorter.push(file.path),
            Some(twin) => {
                if twin.len < file.len {
                    shorter.push(twin.path.clone());
                }
                merged.insert(file.first, file);
            }
            None => _ = merged.insert(file.first, file),
        }
    }
    (merged.into_values().collect(), shorter)
}

/// An incomplete tail that was cut: records of a commit that never returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub file: PathBuf,
    /// Where it ends now.
    pub offset: u64,
    /// How much was cut.
    pub bytes: u64,
}

/// What was found when a journal was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Segments read.
    pub segments: usize,
    /// The torn tail, if there was one.
    pub cut: Option<Cut>,
    /// Segments wholly behind the start that are damaged, or behind which something is missing: nothing of
    /// that is needed to go on, but what was acknowledged there cannot be read back. It has to be restored
    /// from a backup.
    pub damaged: Vec<PathBuf>,
    /// Files that are not used because there is a longer one of the same segment: older copies.
    pub shorter: Vec<PathBuf>,
    /// The first record that is there. What was before it may be needed by readers.
    pub first: Seq,
    /// Why the archive cannot be used, if it cannot.
    pub archive_away: Option<String>,
}

pub(super) type Visitor<'a> =
    &'a mut dyn FnMut(Entry, &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

pub(super) struct Scan<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) dir: &'a Path,
    pub(super) archive: Option<&'a Path>,
    pub(super) realm: RealmId,
    /// What the mark says was acknowledged.
    pub(super) mark: Option<Tip>,
    /// From where the journal is needed, and whether its hash was met there.
    pub(super) start: Start,
    pub(super) met: bool,
    /// The newest whole batch that was met, or where the journal begins.
    pub(super) newest: Tip,
    pub(super) recovery: Recovery,
    /// Why something in the archive could not be looked at.
    pub(super) unread: Option<String>,
}

/// Where a segment stopped being whole.
struct Broken {
    offset: u64,
    /// End of the broken batch, where its header can be trusted.
    end: Option<u64>,
    problem: &'static str,
    /// Whether a torn write can look like this.
    tearable: bool,
}

impl Scan<'_> {
    /// Reads all segments. Gives back them and the tip; no segments if the journal is new.
    pub(super) fn run(
        &mut self,
        files: &[SegmentFile],
        visit: Visitor<'_>,
    ) -> Result<(Vec<Segment>, Tip), StoreError> {
        let mut segments: Vec<Segment> = Vec::with_capacity(files.len());
        let mut tip: Option<Tip> = None;
        // What the start covers is kept for readers, and read here only from the segment on in which the
        // start's own hash stands: as that of its end, or in a header as that of the one before.
        let behind = files.partition_point(|file| file.first <= self.start.seq);
        let unread = match files.get(behind) {
            Some(file) if self.goes_on_from_start(file)? => behind,
            _ => behind.saturating_sub(1),
        };
        segments.extend(self.known(&files[..unread], files.get(unread))?);
        for (
            number,
            SegmentFile {
                first,
                path,
                archived,
                ..
            },
        ) in files.iter().enumerate().skip(unread)
        {
            let first = *first;
            // What is in the archive has ended, so nothing can be torn there.
            let last = number + 1 == files.len() && !archived;
            let file = self
                .disk
                .open(
                    path,
                    if last {
                        OpenMode::Write
                    } else {
                        OpenMode::Read
                    },
                )
                .map_err(|error| StoreError::io("opening", path, error))?;
            let Some(header) = self.header(path, &*file, first, tip, last)? else {
                continue;
            };
            let start = Tip {
                seq: Seq(first.0 - 1),
                hash: header.hash,
                position: header.position + SEGMENT_HEADER as u64,
            };
            let segment = Segment {
                header,
                path: path.clone(),
                archived: *archived,
            };
            tip = Some(self.batches(&segment, file, start, last, visit)?);
            self.recovery.segments += 1;
            segments.push(segment);
        }
        let end = tip.map_or(Seq(0), |tip| tip.seq);
        let acknowledged = self.mark.map_or(Seq(0), |mark| mark.seq);
        let acknowledged = acknowledged.max(self.start.seq);
        if acknowledged > end {
            return Err(StoreError::Missing {
                path: self.dir.to_owned(),
                acknowledged,
                found: end,
            });
        }
        if !segments.is_empty() && !self.met {
            let problem = format!(
                "another history than that of the snapshot up to record {}: without the folder \
                 snapshots beside it, the journal is read alone",
                self.start.seq
            );
            return Err(StoreError::damaged(self.dir, 0, problem));
        }
        let genesis = Tip {
            seq: self.start.seq,
            hash: self.start.hash,
            position: 0,
        };
        self.recovery.first = segments
            .first()
            .map_or(Seq(1), |segment| segment.header.first);
        Ok((segments, tip.unwrap_or(genesis)))
    }

    /// What stands where the header of a segment should be, and the length of its file.
    fn peek(
        &self,
        file: &SegmentFile,
    ) -> Result<(Result<SegmentHeader, HeaderError>, u64), StoreError> {
        let SegmentFile { first, path, .. } = file;
        let failed = |error| StoreError::io("reading", path, error);
        let file = self.disk.open(path, OpenMode::Read).map_err(failed)?;
        let mut bytes = [0; SEGMENT_HEADER];
        let read = crate::disk::read_full(&*file, &mut bytes, 0).map_err(failed)?;
        let header = match SegmentHeader::decode(&bytes[..read], path, self.realm) {
            Ok(header) if header.first != *first => Err(HeaderError::Broken),
            other => other,
        };
        Ok((header, file.len().map_err(failed)?))
    }

    /// Whether a segment's header shows that it follows the start.
    fn goes_on_from_start(&self, file: &SegmentFile) -> Result<bool, StoreError> {
        let Seq(before) = self.start.seq;
        let header = self.peek(file)?.0;
        let follows = file.first.0 == before + 1;
        Ok(follows && header.is_ok_and(|header| header.previous == self.start.hash))
    }

    /// Segments of which only the headers are read; `next` is the one behind them. One whose header is
    /// damaged, or that does not reach to the next, is told of and keeps its place, so that whoever reads in
    /// it hears of the file.
    fn known(
        &mut self,
        files: &[SegmentFile],
        next: Option<&SegmentFile>,
    ) -> Result<Vec<Segment>, StoreError> {
        let mut end = None;
        if let Some(next) = next {
            end = self.peek(next)?.0.ok().map(|header| header.position);
        }
        let mut segments = Vec::with_capacity(files.len());
        for file in files.iter().rev() {
            let (header, len) = match self.peek(file) {
                // Whatever is in the archive, it must not hold up a start that needs nothing of it.
                Ok((Err(HeaderError::Unusable(_)), _)) if file.archived => {
                    (Err(HeaderError::Broken), file.len)
                }
                Err(error) if file.archived => {
                    self.unread.get_or_insert(error.to_string());
                    (Err(HeaderError::Broken), file.len)
                }
                other => other?,
            };
            let header = match header {
                Ok(header) => {
                    if end.is_some_and(|end| end != header.position + len) {
                        self.recovery.damaged.push(file.path.clone());
                    }
                    header
                }
                Err(HeaderError::Unusable(error)) => return Err(error),
                Err(HeaderError::Broken) => {
                    self.recovery.damaged.push(file.path.clone());
                    SegmentHeader {
                        realm: self.realm,
                        first: file.first,
                        position: end.unwrap_or(0).saturating_sub(len),
                        previous: Digest::default(),
                        hash: Digest::default(),
                    }
                }
            };
            end = Some(header.position);
            segments.push(Segment {
                header,
                path: file.path.clone(),
                archived: file.archived,
            });
        }
        segments.reverse();
        Ok(segments)
    }

    /// The header of a segment that follows `tip`; `None` if it was never finished and is removed.
    fn header(
        &mut self,
        path: &Path,
        file: &dyn DiskFile,
        first: Seq,
        tip: Option<Tip>,
        last: bool,
    ) -> Result<Option<SegmentHeader>, StoreError> {
        let failed = |error| StoreError::io("reading", path, error);
        let mut bytes = [0; SEGMENT_HEADER];
        let read = crate::disk::read_full(file, &mut bytes, 0).map_err(failed)?;
        let header = match SegmentHeader::decode(&bytes[..read], path, self.realm) {
            Ok(header) => header,
            Err(HeaderError::Unusable(error)) => return Err(error),
            Err(HeaderError::Broken) => {
                // A header is synced before the first batch is written, so a torn one has nothing
                // behind it, and nothing in this file was acknowledged.
                let alone = file.len().map_err(failed)? <= SEGMENT_HEADER as u64;
                let acknowledged = self.mark.is_some_and(|mark| mark.seq >= first);
                if !(last
                    && alone
                    && !acknowledged
                    && (read < SEGMENT_HEADER || zero_sector(&bytes, 0)))
                {
                    return Err(StoreError::damaged(path, 0, "not a segment's header"));
                }
                // The segment that takes its place syncs the directory.
                self.disk
                    .remove(path)
                    .map_err(|error| StoreError::io("removing", path, error))?;
                self.recovery.cut = Some(Cut {
                    file: path.to_owned(),
                    offset: 0,
                    bytes: read as u64,
                });
                return Ok(None);
            }
        };
        if header.first != first {
            return Err(StoreError::damaged(path, 0, "the name of another segment"));
        }
        let needed = tip.map_or(self.start.seq, |tip| tip.seq).0 + 1;
        if first.0 > needed {
            return Err(StoreError::Gap {
                path: self.dir.to_owned(),
                archive: self.archive.map(Path::to_owned),
                needed: Seq(needed),
                found: first,
            });
        }
        if let Some(tip) = tip
            && (header.previous, header.position) != (tip.hash, tip.position)
        {
            let problem = "the hash does not go on from the segment before";
            return Err(StoreError::damaged(path, 0, problem));
        }
        if tip.is_none() && first.0 > self.newest.seq.0 {
            self.newest = Tip {
                seq: Seq(first.0 - 1),
                hash: header.previous,
                position: header.position,
            };
        }
        // A start that was noted between two segments has either hash.
        self.met |= first.0 == self.start.seq.0 + 1
            && [header.previous, header.hash].contains(&self.start.hash);
        Ok(Some(header))
    }

    /// Reads the batches of a segment; gives back the tip behind the last whole one.
    fn batches(
        &mut self,
        segment: &Segment,
        file: Arc<dyn DiskFile>,
        mut tip: Tip,
        last: bool,
        visit: Visitor<'_>,
    ) -> Result<Tip, StoreError> {
        let path = &segment.path;
        let failed = |error| StoreError::io("reading", path, error);
        let len = file.len().map_err(failed)?;
        let mut window = Window::new(file);
        let mut offset = SEGMENT_HEADER as u64;
        while offset < len {
            let salt = &segment.header.hash;
            let head = window.get(offset, BATCH_HEADER, len).map_err(failed)?;
            let header = match check_header(head, salt, tip) {
                Ok(header) => header,
                Err((problem, tearable)) => {
                    let broken = Broken {
                        offset,
                        end: None,
                        problem,
                        tearable,
                    };
                    return self.cut(segment, &mut window, broken, len, tip, last);
                }
            };
            let batch = window.get(offset, header.extent(), len).map_err(failed)?;
            let whole = batch.len() == header.extent()
                && batch.last() == Some(&TRAILER)
                && header.hash == header.chain(tip.hash, &batch[BATCH_HEADER..batch.len() - 1]);
            if !whole {
                let broken = Broken {
                    offset,
                    end: Some(offset + header.extent() as u64),
                    problem: "the batch does not have the hash that its header states",
                    tearable: true,
                };
                return self.cut(segment, &mut window, broken, len, tip, last);
            }
            let body = &batch[BATCH_HEADER..batch.len() - 1];
            if !hand_on(&header, body, tip, self.start.seq, visit)? {
                // The hash is right, so it was written so.
                let problem = "the batch does not hold the records that it states";
                return Err(StoreError::damaged(path, offset, problem));
            }
            tip = Tip {
                seq: header.last(),
                hash: header.hash,
                position: tip.position + header.extent() as u64,
            };
            offset += header.extent() as u64;
            self.newest = tip;
            self.recovery.records += u64::from(header.records);
            self.met |= (tip.seq, tip.hash) == (self.start.seq, self.start.hash);
            if let Some(mark) = self.mark {
                let passed = mark.seq >= header.first && mark.seq <= tip.seq;
                if passed && (mark.seq, mark.hash) != (tip.seq, tip.hash) {
                    let problem = "another history than the one that was acknowledged";
                    return Err(StoreError::damaged(path, offset, problem));
                }
            }
        }
        self.recovery.bytes += len;
        Ok(tip)
    }

    /// Cuts a segment at a broken batch, if it is certain that nobody was told of it.
    fn cut(
        &mut self,
        segment: &Segment,
        window: &mut Window,
        broken: Broken,
        len: u64,
        tip: Tip,
        last: bool,
    ) -> Result<Tip, StoreError> {
        let path = &segment.path;
        let failed = |error| StoreError::io("reading", path, error);
        let damaged = |problem: &str| {
            StoreError::damaged(
                path,
                broken.offset,
                format!("{}, {problem}", broken.problem),
            )
        };
        if !last {
            return Err(damaged("and later segments follow it"));
        }
        if self.mark.is_some_and(|mark| mark.seq > tip.seq) {
            return Err(damaged("but it had been acknowledged"));
        }
        let end = broken.end.unwrap_or(broken.offset + BATCH_HEADER as u64);
        let mut short = end > len;
        let region_end = broken.end.unwrap_or(len).min(len);
        let mut offset = broken.offset;
        while offset < len {
            // Steps end where sectors end, and look a header further, so that none hides between.
            let step = STEP - offset % STEP;
            let bytes = window
                .get(offset, step as usize + BATCH_HEADER, len)
                .map_err(failed)?;
            if later_batch(bytes, &segment.header.hash, tip.seq) {
                return Err(damaged(
                    "but a later one shows that it had been acknowledged",
                ));
            }
            let region = region_end.min(offset + step).saturating_sub(offset) as usize;
            short |= zero_sector(&bytes[..region.min(bytes.len())], offset);
            offset += step;
        }
        if !(broken.tearable && short) {
            return Err(damaged("and a torn write does not look like this"));
        }
        window
            .file
            .set_len(broken.offset)
            .map_err(|error| StoreError::io("cutting", path, error))?;
        self.recovery.bytes += broken.offset;
        self.recovery.cut = Some(Cut {
            file: path.clone(),
            offset: broken.offset,
            bytes: len - broken.offset,
        });
        Ok(tip)
    }
}

/// Hands a batch's records behind `start` on; false if the body does not hold what the header says.
fn hand_on(
    header: &BatchHeader,
    body: &[u8],
    tip: Tip,
    start: Seq,
    visit: Visitor<'_>,
) -> Result<bool, StoreError> {
    let mut at = 0;
    for number in 0..u64::from(header.records) {
        let position = tip.position + (BATCH_HEADER + at) as u64;
        let Some(record) = record_at(&body[at..], position) else {
            return Ok(false);
        };
        at += RECORD_HEADER + record.len();
        let entry = Entry {
            seq: Seq(header.first.0 + number),
            position: Position(position),
        };
        if entry.seq > start {
            visit(entry, record).map_err(|source| StoreError::Visitor {
                seq: entry.seq,
                source,
            })?;
        }
    }
    Ok(at == body.len())
}

/// The header of the batch behind `tip`, or what is wrong and whether a torn write explains it.
fn check_header(
    bytes: &[u8],
    salt: &Digest,
    tip: Tip,
) -> Result<BatchHeader, (&'static str, bool)> {
    let header = BatchHeader::decode(bytes, salt).ok_or(("not a batch's header", true))?;
    let fits = header.first.0 == tip.seq.0 + 1
        && header.records > 0
        && header.durable < header.first
        && header.body as usize <= BATCH_BYTES_MAX
        && header.records as usize <= header.body as usize / RECORD_HEADER;
    if fits {
        Ok(header)
    } else {
        Err(("a batch that does not go on from the one before", false))
    }
}

/// Whether zeros stand over the whole part of `bytes` that some sector holds: what is there when a
/// write grew the file but that sector did not reach the disk.
fn zero_sector(bytes: &[u8], offset: u64) -> bool {
    let mut rest = bytes;
    let mut head = ((SECTOR - offset % SECTOR) as usize).min(rest.len());
    while !rest.is_empty() {
        let (sector, behind) = rest.split_at(head);
        if sector.iter().all(|&byte| byte == 0) {
            return true;
        }
        rest = behind;
        head = (SECTOR as usize).min(rest.len());
    }
    false
}

/// Whether a batch begins in `bytes` that was written after `tip`'s successor had been synced.
fn later_batch(bytes: &[u8], salt: &Digest, tip: Seq) -> bool {
    bytes
        .windows(BATCH_MAGIC.len())
        .enumerate()
        .filter(|(_, window)| window == BATCH_MAGIC)
        .filter_map(|(at, _)| BatchHeader::decode(&bytes[at..], salt))
        .any(|header| header.durable > tip && header.first > header.durable)
}
