//! Reading durable records while others are appended.

use std::sync::Arc;

use hearth_wire::Seq;

use super::format::{
    BATCH_HEADER, BatchHeader, RECORD_HEADER, SEGMENT_HEADER, record_at, record_len,
};
use super::scan::Segment;
use super::shared::Shared;
use super::window::Window;
use super::{BATCH_BYTES_MAX, Entry, Position, RECORD_BYTES_MAX, Start};
use crate::StoreError;
use crate::disk::read_full;

/// Most records fit into the first read.
const GUESS: usize = 512;

/// Reads durable records, by place or in order. Clones share open files.
#[derive(Debug, Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The newest durable record.
    pub fn durable(&self) -> Seq {
        self.shared.durable().0
    }

    /// The record at a place that [`crate::Journal::append`] or a replay told.
    ///
    /// # Errors
    ///
    /// [`StoreError::Position`] if no durable record begins there, [`StoreError::Damaged`] if its
    /// bytes changed since they were written, [`StoreError::Away`] if its segment is not there, and what
    /// the system refuses.
    pub fn read_at(&self, position: Position) -> Result<Vec<u8>, StoreError> {
        let nothing = || StoreError::Position(position.0);
        let away = || self.shared.away(position.0);
        let (_, end) = self.shared.durable();
        let (segment, next) = self.shared.segment_at(position.0).ok_or_else(away)?;
        let end = end.min(next.unwrap_or(u64::MAX));
        let offset = position.0 - segment.header.position;
        if offset < (SEGMENT_HEADER + BATCH_HEADER) as u64 || position.0 >= end {
            return Err(nothing());
        }
        let room = (end - position.0).min((RECORD_HEADER + RECORD_BYTES_MAX) as u64) as usize;
        let file = self.shared.file(&segment)?;
        let read = |len: usize| {
            let mut bytes = vec![0; len];
            let read = read_full(&*file, &mut bytes, offset);
            // Another file may be there later: its disk is mounted again, or it was put back.
            if !matches!(read, Ok(1..)) {
                self.shared.close(segment.header.first);
            }
            match read.map_err(|error| StoreError::io("reading", &segment.path, error))? {
                0 => Err(away()),
                read => {
                    bytes.truncate(read);
                    Ok(bytes)
                }
            }
        };
        let mut bytes = read(room.min(GUESS))?;
        let len = record_len(&bytes).ok_or_else(nothing)?;
        let whole = RECORD_HEADER.saturating_add(len);
        if whole > room {
            return Err(nothing());
        }
        if whole > bytes.len() {
            bytes = read(whole)?;
        }
        match record_at(&bytes, position.0) {
            Some(record) => {
                let len = record.len();
                bytes.drain(..RECORD_HEADER);
                bytes.truncate(len);
                Ok(bytes)
            }
            None => {
                let problem = "no record with a right checksum begins here";
                Err(StoreError::damaged(&segment.path, offset, problem))
            }
        }
    }

    /// The points at which a snapshot may stand, the oldest first: the ends of all segments but the newest.
    pub fn ends(&self) -> Vec<Start> {
        self.shared.ends()
    }

    /// The first record of each segment that is there, the oldest first.
    pub fn firsts(&self) -> Vec<Seq> {
        self.shared.firsts()
    }

    /// All durable records from `seq` on, in order, then those that become durable.
    pub fn replay(&self, seq: Seq) -> Replay {
        Replay {
            shared: Arc::clone(&self.shared),
            next: Seq(seq.0.max(1)),
            place: None,
        }
    }
}

/// Reads durable records in order. Holds one batch in memory.
#[derive(Debug)]
pub struct Replay {
    shared: Arc<Shared>,
    next: Seq,
    place: Option<Place>,
}

/// Where a replay is: in the segment, in the batch.
#[derive(Debug)]
struct Place {
    segment: Segment,
    window: Window,
    /// Offset of the current batch in the file; its header, once it is read; bytes of its body and
    /// records that are behind us.
    batch: u64,
    header: Option<BatchHeader>,
    consumed: usize,
    passed: u32,
}

impl Replay {
    /// The next durable record, or `None` if there is none yet: asked again later, it goes on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Gap`] if the record's segment is not there, damage, and what the system refuses.
    pub fn next_entry(&mut self) -> Result<Option<(Entry, &[u8])>, StoreError> {
        let (durable, end) = self.shared.durable();
        if self.next > durable {
            return Ok(None);
        }
        let (entry, batch, len) = loop {
            if self.place.is_none() {
                self.place = Some(self.find()?);
            }
            let Some(place) = &mut self.place else {
                return Ok(None);
            };
            match place.step(end, &self.shared)? {
                Step::Record(entry, _, _) if entry.seq < self.next => {}
                Step::Record(entry, from, len) => break (entry, from, len),
                Step::NextSegment => self.place = None,
            }
        };
        self.next = Seq(entry.seq.0 + 1);
        let Some(place) = &mut self.place else {
            return Ok(None);
        };
        let path = &place.segment.path;
        let bytes = place
            .window
            .get(batch, len, u64::MAX)
            .map_err(|error| StoreError::io("reading", path, error))?;
        Ok(Some((entry, bytes)))
    }

    fn find(&self) -> Result<Place, StoreError> {
        let gap = || StoreError::Gap {
            path: self.shared.dir().to_owned(),
            archive: self.shared.archive_dir(),
            needed: self.next,
            found: self.shared.first(),
        };
        let (segment, _) = self.shared.segment_of(self.next).ok_or_else(gap)?;
        Ok(Place {
            window: Window::new(self.shared.file(&segment)?),
            segment,
            batch: SEGMENT_HEADER as u64,
            header: None,
            consumed: 0,
            passed: 0,
        })
    }
}

enum Step {
    /// A record, the offset of its bytes in the file and their number.
    Record(Entry, u64, usize),
    NextSegment,
}

impl Place {
    /// Goes one record on.
    fn step(&mut self, end: u64, shared: &Shared) -> Result<Step, StoreError> {
        let path = &self.segment.path;
        let base = self.segment.header.position;
        let failed = |error| StoreError::io("reading", path, error);
        let limit = end - base;
        let header = match self.header {
            Some(header) if self.passed < header.records => header,
            done => {
                if let Some(header) = done {
                    self.batch += header.extent() as u64;
                }
                (self.header, self.consumed, self.passed) = (None, 0, 0);
                let (_, next) = shared.segment_at(base).ok_or(StoreError::Position(base))?;
                if next == Some(base + self.batch) {
                    return Ok(Step::NextSegment);
                }
                let bytes = self
                    .window
                    .get(self.batch, BATCH_HEADER, limit)
                    .map_err(failed)?;
                if bytes.is_empty() && next.is_some() {
                    return Err(shared.away(base + self.batch));
                }
                let header = BatchHeader::decode(bytes, &self.segment.header.hash)
                    .filter(|header| header.body as usize <= BATCH_BYTES_MAX)
                    .ok_or_else(|| StoreError::damaged(path, self.batch, "not a batch's header"))?;
                *self.header.insert(header)
            }
        };
        let offset = self.batch + (BATCH_HEADER + self.consumed) as u64;
        // The whole batch at once, so that the window is filled once per batch at the most.
        let whole = self
            .window
            .get(self.batch, header.extent(), limit)
            .map_err(failed)?;
        let body = whole.get(BATCH_HEADER + self.consumed..).unwrap_or(&[]);
        let record = record_at(body, base + offset).ok_or_else(|| {
            let problem = "no record with a right checksum begins here";
            StoreError::damaged(path, offset, problem)
        })?;
        let len = record.len();
        let entry = Entry {
            seq: Seq(header.first.0 + u64::from(self.passed)),
            position: Position(base + offset),
        };
        self.consumed += RECORD_HEADER + len;
        self.passed += 1;
        Ok(Step::Record(entry, offset + RECORD_HEADER as u64, len))
    }
}
