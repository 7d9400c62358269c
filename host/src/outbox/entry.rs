//! One job that is kept: its journal, and where everything is in it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hearth_store::{DirLock, Entry as Place, Journal, JournalConfig, Position, Reader, StoreError};
use hearth_wire::runner::RunOutcome;
use hearth_wire::{
    Blob, Body, Digest, EngineId, JobId, OfflineResult, Outcome, RealmId, TaskIndex, codec, limits,
};

use super::record::{Begun, Done, Record, Strange};
use super::{OutboxError, Work};

/// Pieces in which large bytes stand in the journal: far below its largest record.
const PIECE: usize = 1 << 20;
/// Largest record that is read back: a piece, or a release with its options.
const RECORD_BYTES_MAX: usize = PIECE + (64 << 10);

/// A job that is kept. Nobody else can open it meanwhile.
#[derive(Debug)]
pub struct Entry {
    name: String,
    journal: Journal,
    reader: Reader,
    found: Found,
    bytes_max: u64,
}

/// A result that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// What it ran on.
    pub engine: EngineId,
    /// The result.
    pub result: OfflineResult,
    /// Its output, if that is too large to stand in the result.
    pub output: Option<Vec<u8>>,
}

/// What was found in the journal.
#[derive(Debug, Default)]
struct Found {
    begun: Option<Begun>,
    component: Pieces,
    inputs: Pieces,
    job: Option<JobId>,
    results: BTreeMap<TaskIndex, At>,
    /// Results that the realm has.
    merged: BTreeSet<TaskIndex>,
    output: Pieces,
    /// Bytes of all records.
    bytes: u64,
}

/// Where a result is.
#[derive(Debug)]
struct At {
    position: Position,
    output: Pieces,
    engine: EngineId,
    content: Digest,
}

/// Bytes in pieces.
#[derive(Debug, Default)]
struct Pieces {
    positions: Vec<Position>,
    len: u64,
}

impl Pieces {
    fn push(&mut self, position: Position, piece: &[u8]) {
        self.positions.push(position);
        self.len += piece.len() as u64;
    }
}

impl Entry {
    /// Begins to keep a job, in a folder in which there is nothing yet.
    pub(super) fn create(
        lock: &DirLock,
        name: &str,
        realm: RealmId,
        work: &Work,
        bytes_max: u64,
    ) -> Result<Self, OutboxError> {
        let visit = |_: Place, _: &[u8]| Ok::<_, Strange>(());
        let (journal, _) = Journal::open(lock, JournalConfig::new(realm), visit)?;
        let mut entry = Self {
            name: name.to_owned(),
            reader: journal.reader(),
            journal,
            found: Found::default(),
            bytes_max,
        };
        let begun = Record::Begun(Begun {
            release: work.release.clone(),
            component: Blob::of(&work.component),
            inputs: work.inputs.clone(),
            file: Digest::of(&work.file),
            options: work.options.clone(),
        });
        let bytes = (work.component.len() + work.file.len()) as u64;
        if bytes > bytes_max {
            let max = bytes_max;
            return Err(OutboxError::TooLarge { bytes, max });
        }
        let component = pieces(&work.component).map(Record::Component);
        let inputs = pieces(&work.file).map(Record::Inputs);
        let records = [begun].into_iter().chain(component).chain(inputs);
        entry.append(records)?;
        Ok(entry)
    }

    /// Reads what is kept; `None` if its beginning was never written to the end.
    pub(super) fn open(
        lock: &DirLock,
        name: &str,
        realm: RealmId,
    ) -> Result<Option<Self>, StoreError> {
        let mut found = Found::default();
        let visit = |place: Place, bytes: &[u8]| {
            let record = codec::decode(bytes, RECORD_BYTES_MAX)?;
            found.take(place.position, bytes.len(), &record)
        };
        let (journal, _) = Journal::open(lock, JournalConfig::new(realm), visit)?;
        let entry = Self {
            name: name.to_owned(),
            reader: journal.reader(),
            journal,
            found,
            bytes_max: limits::OUTBOX_JOB_BYTES_MAX,
        };
        Ok(entry.found.is_whole().then_some(entry))
    }

    /// The same, which keeps at most so many bytes.
    pub(super) fn within(mut self, bytes_max: u64) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// The name of its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its idempotency key.
    pub fn key(&self) -> Option<&str> {
        self.begun()?.options.idempotency_key.as_deref()
    }

    /// The number under which the realm knows it, if it is known to.
    pub fn job(&self) -> Option<JobId> {
        self.found.job
    }

    /// How many results are kept, and how many of them the realm is not known to have.
    pub fn counts(&self) -> (usize, usize) {
        let (all, merged) = (self.found.results.len(), self.found.merged.len());
        (all, all - merged)
    }

    /// Everything that is needed to submit the job.
    ///
    /// # Errors
    ///
    /// When it cannot be read back.
    pub fn work(&self) -> Result<Work, OutboxError> {
        let begun = self.begun().cloned();
        let begun = begun.ok_or(StoreError::Position(0))?;
        let component = Bytes::from(self.read(&self.found.component)?);
        let file = Bytes::from(self.read(&self.found.inputs)?);
        Ok(Work {
            release: begun.release,
            component,
            inputs: begun.inputs,
            file,
            options: begun.options,
        })
    }

    /// Keeps results: they are on the disk when this returns, all of them for the price of one. One of a
    /// task that has a result already changes nothing, and neither does one that says nothing about its
    /// task.
    ///
    /// # Errors
    ///
    /// [`OutboxError::TooLarge`] beyond the limit of one job: what fits in front of it is kept. And what
    /// the system refuses.
    pub fn keep(&mut self, results: impl IntoIterator<Item = Kept>) -> Result<(), OutboxError> {
        let (mut records, mut fresh) = (Vec::new(), BTreeSet::new());
        let (mut bytes, mut too_large) = (self.found.bytes, None);
        for kept in results {
            let Kept {
                engine,
                result,
                output,
            } = kept;
            let known = self.found.results.contains_key(&result.index);
            if known || !result.outcome.is_conclusive() || !fresh.insert(result.index) {
                continue;
            }
            let output = output.unwrap_or_default();
            let output: Vec<_> = pieces(&output).map(Record::Output).collect();
            let done = Record::Done(Done { engine, result });
            let encoded: Vec<_> = output.iter().chain([&done]).map(codec::encode).collect();
            bytes += encoded.iter().map(|one| one.len() as u64).sum::<u64>();
            if bytes > self.bytes_max {
                let max = self.bytes_max;
                too_large = Some(OutboxError::TooLarge { bytes, max });
                break;
            }
            records.extend(output.into_iter().chain([done]).zip(encoded));
        }
        self.write(records)?;
        too_large.map_or(Ok(()), Err)
    }

    /// What is kept of a task, if it ran on this engine.
    ///
    /// # Errors
    ///
    /// When it cannot be read back.
    pub fn get(&self, index: TaskIndex, engine: EngineId) -> Result<Option<Kept>, OutboxError> {
        let at = self.found.results.get(&index);
        at.filter(|at| at.engine == engine)
            .map(|at| self.read_result(at))
            .transpose()
    }

    /// Tasks by their content ids: what ran on this engine and so need not be run again, here or in
    /// another job.
    pub fn by_content(&self, engine: EngineId) -> BTreeMap<Digest, TaskIndex> {
        let results = self.found.results.iter();
        let fits = results.filter(|(_, at)| at.engine == engine);
        fits.map(|(index, at)| (at.content, *index)).collect()
    }

    /// Notes the number under which the realm knows the job.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn accepted(&mut self, job: JobId) -> Result<(), OutboxError> {
        if self.found.job == Some(job) {
            return Ok(());
        }
        self.append([Record::Accepted(job)])
    }

    /// The next results that the realm is not known to have, all of one engine: at most as many as one
    /// request carries, and `bytes_max` of what is read for it.
    pub(super) fn next_batch(&self, bytes_max: usize) -> Result<Vec<Kept>, OutboxError> {
        let mut batch: Vec<Kept> = Vec::new();
        let mut bytes = 0;
        let open = self.found.results.iter();
        let open = open.filter(|(index, _)| !self.found.merged.contains(index));
        for (_, at) in open.take(limits::MERGED_PER_REQUEST_MAX) {
            if batch.first().is_some_and(|first| first.engine != at.engine) {
                break;
            }
            let kept = self.read_result(at)?;
            bytes += codec::encode(&kept.result).len() + at.output.len as usize;
            if bytes > bytes_max && !batch.is_empty() {
                break;
            }
            batch.push(kept);
        }
        Ok(batch)
    }

    /// Notes that the realm has these results.
    pub(super) fn merged(&mut self, tasks: Vec<TaskIndex>) -> Result<(), OutboxError> {
        self.append([Record::Merged(tasks)])
    }

    fn begun(&self) -> Option<&Begun> {
        self.found.begun.as_ref()
    }

    fn append(&mut self, records: impl IntoIterator<Item = Record>) -> Result<(), OutboxError> {
        let records = records.into_iter();
        let records = records.map(|record| {
            let encoded = codec::encode(&record);
            (record, encoded)
        });
        self.write(records.collect())
    }

    fn write(&mut self, records: Vec<(Record, Vec<u8>)>) -> Result<(), OutboxError> {
        let (records, encoded): (Vec<_>, Vec<_>) = records.into_iter().unzip();
        if records.is_empty() {
            return Ok(());
        }
        let places = self.journal.append(&encoded)?;
        self.journal.commit()?;
        for ((place, bytes), record) in places.into_iter().zip(&encoded).zip(&records) {
            let taken = self.found.take(place.position, bytes.len(), record);
            debug_assert!(taken.is_ok(), "what was written can be read: {taken:?}");
        }
        Ok(())
    }

    fn read_result(&self, at: &At) -> Result<Kept, OutboxError> {
        let bytes = self.reader.read_at(at.position)?;
        let Ok(Record::Done(done)) = codec::decode(&bytes, RECORD_BYTES_MAX) else {
            return Err(StoreError::Position(at.position.0).into());
        };
        let output = match at.output.positions[..] {
            [] => None,
            _ => Some(self.read(&at.output)?),
        };
        Ok(Kept {
            engine: done.engine,
            result: done.result,
            output,
        })
    }

    fn read(&self, pieces: &Pieces) -> Result<Vec<u8>, OutboxError> {
        let mut all = Vec::with_capacity(pieces.len as usize);
        for position in &pieces.positions {
            let bytes = self.reader.read_at(*position)?;
            match codec::decode(&bytes, RECORD_BYTES_MAX) {
                Ok(Record::Component(piece) | Record::Inputs(piece) | Record::Output(piece)) => {
                    all.extend_from_slice(&piece);
                }
                _ => return Err(StoreError::Position(position.0).into()),
            }
        }
        Ok(all)
    }
}

impl Found {
    /// Takes the next record.
    fn take(&mut self, position: Position, bytes: usize, record: &Record) -> Result<(), Strange> {
        self.bytes += bytes as u64;
        match record {
            Record::Begun(begun) if self.begun.is_none() => self.begun = Some(begun.clone()),
            _ if self.begun.is_none() => return Err(Strange::Order("it has no beginning")),
            Record::Begun(_) => return Err(Strange::Order("it begins twice")),
            Record::Component(piece) => self.component.push(position, piece),
            Record::Inputs(piece) => self.inputs.push(position, piece),
            Record::Accepted(job) => self.job = Some(*job),
            Record::Output(piece) => self.output.push(position, piece),
            Record::Done(done) => {
                let output = std::mem::take(&mut self.output);
                let stored = match &done.result.outcome {
                    Outcome::Returned(output) => match &output.body {
                        Body::Blob(blob) => blob.len,
                        Body::Inline(_) => 0,
                    },
                    _ => 0,
                };
                if output.len != stored {
                    return Err(Strange::Order("a result without its output"));
                }
                let at = At {
                    position,
                    output,
                    engine: done.engine,
                    content: done.result.content,
                };
                self.results.insert(done.result.index, at);
            }
            Record::Merged(tasks) => self.merged.extend(tasks),
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| {
            self.component.len == begun.component.len && self.inputs.len == begun.inputs.bytes
        })
    }
}

impl Kept {
    /// A result of this machine's own local host.
    pub fn new(
        engine: EngineId,
        index: TaskIndex,
        content: Digest,
        result: &crate::TaskResult,
    ) -> Self {
        let (outcome, output) = result.outcome.clone().into_outcome();
        Self {
            engine,
            result: OfflineResult {
                index,
                content,
                outcome,
                fuel_used: result.fuel_used,
                run_micros: u64::try_from(result.run_time.as_micros()).unwrap_or(u64::MAX),
            },
            output,
        }
    }

    /// The same as the local host gave it.
    pub fn into_result(self) -> crate::TaskResult {
        let outcome = match self.result.outcome {
            Outcome::Returned(returned) => RunOutcome::Returned {
                media_type: returned.media_type,
                bytes: match returned.body {
                    Body::Inline(bytes) => bytes,
                    Body::Blob(_) => self.output.unwrap_or_default(),
                },
            },
            Outcome::Refused(error) => RunOutcome::Refused(error),
            Outcome::Exhausted(resource) => RunOutcome::Exhausted(resource),
            Outcome::Trapped(kind) => RunOutcome::Trapped(kind),
            Outcome::Inconclusive(cause) => RunOutcome::Inconclusive(cause),
        };
        crate::TaskResult {
            index: self.result.index.0 as usize,
            outcome,
            fuel_used: self.result.fuel_used,
            run_time: std::time::Duration::from_micros(self.result.run_micros),
        }
    }
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    bytes.chunks(PIECE).map(<[u8]>::to_vec)
}
