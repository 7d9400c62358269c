//! Reports on disk, for a coordinator that cannot be reached now.
//!
//! Each file holds one batch behind its SHA-256 and is written beside, synced and renamed, so that it
//! is there as a whole or not at all. A file goes when all of its reports are settled.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hearth_wire::limits::{REPORTS_PER_BATCH_MAX, SPILLED_REPORTS_MAX};
use hearth_wire::message::Report;
use hearth_wire::{AttemptId, Digest, codec};
use serde::{Deserialize, Serialize};

/// A report that is not settled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spilled {
    pub(crate) report: Report,
    /// Its output is a blob that the coordinator does not have yet.
    pub(crate) upload: bool,
}

const DIGEST_BYTES: usize = 32;
/// A batch of reports with outputs and chains of the largest size.
const FILE_BYTES_MAX: usize = 8 << 20;

#[derive(Debug)]
pub(crate) struct Spill {
    dir: PathBuf,
    next: u64,
    files: BTreeMap<u64, BTreeSet<AttemptId>>,
    held: BTreeSet<AttemptId>,
}

impl Spill {
    /// Opens the directory and reads what an earlier process left. Damaged files are put aside.
    pub(crate) fn open(dir: &Path) -> io::Result<(Self, Vec<Spilled>)> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let mut spill = Self {
            dir: dir.to_owned(),
            next: 1,
            files: BTreeMap::new(),
            held: BTreeSet::new(),
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let number = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_suffix(".reports"))
                .and_then(|number| number.parse::<u64>().ok());
            let Some(number) = number else {
                if path.extension().is_some_and(|kind| kind == "tmp") {
                    fs::remove_file(&path)?;
                }
                continue;
            };
            spill.next = spill.next.max(number + 1);
            match read(&path) {
                Ok(reports) => {
                    let attempts: BTreeSet<_> = reports
                        .iter()
                        .map(|spilled| spilled.report.attempt)
                        .collect();
                    spill.held.extend(&attempts);
                    spill.files.insert(number, attempts);
                    found.extend(reports);
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "spilled reports cannot be read; their tasks will run again elsewhere");
                    fs::rename(&path, path.with_extension("damaged"))?;
                }
            }
        }
        found.truncate(SPILLED_REPORTS_MAX);
        Ok((spill, found))
    }

    /// Keeps those reports that are not kept yet. They are durable when this returns.
    pub(crate) fn add(&mut self, reports: &[Spilled]) -> io::Result<()> {
        let new: Vec<_> = reports
            .iter()
            .filter(|spilled| !self.held.contains(&spilled.report.attempt))
            .cloned()
            .collect();
        for batch in new.chunks(REPORTS_PER_BATCH_MAX) {
            if self.held.len() + batch.len() > SPILLED_REPORTS_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::StorageFull,
                    format!("{SPILLED_REPORTS_MAX} reports wait already"),
                ));
            }
            let frame = codec::encode(batch);
            let mut bytes = Digest::of(&frame).as_bytes().to_vec();
            bytes.extend(frame);
            let number = self.next;
            self.next += 1;
            let path = self.path(number);
            let temporary = path.with_extension("tmp");
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            let attempts: BTreeSet<_> = batch.iter().map(|s| s.report.attempt).collect();
            self.held.extend(&attempts);
            self.files.insert(number, attempts);
        }
        if !new.is_empty() {
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }

    /// The report is settled. Costs nothing for one that was never spilled.
    pub(crate) fn settled(&mut self, attempt: AttemptId) {
        if !self.held.remove(&attempt) {
            return;
        }
        let mut empty = Vec::new();
        for (number, attempts) in &mut self.files {
            if attempts.remove(&attempt) && attempts.is_empty() {
                empty.push(*number);
            }
        }
        for number in empty {
            self.files.remove(&number);
            if let Err(error) = fs::remove_file(self.path(number)) {
                tracing::warn!(%error, "a spilled file stays; it will be sent again and settled again");
            }
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:012}.reports"))
    }
}

fn read(path: &Path) -> io::Result<Vec<Spilled>> {
    let bytes = fs::read(path)?;
    let damaged = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let Some((digest, frame)) = bytes.split_at_checked(DIGEST_BYTES) else {
        return Err(damaged("shorter than its digest".to_owned()));
    };
    if Digest::of(frame).as_bytes() != digest {
        return Err(damaged("its digest differs".to_owned()));
    }
    codec::decode(frame, FILE_BYTES_MAX).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use hearth_wire::{EngineId, Inconclusive, JobId, Outcome, TaskId, TaskIndex};

    pub(crate) fn report(attempt: u64) -> Report {
        Report {
            attempt: AttemptId(attempt),
            task: TaskId {
                job: JobId(1),
                index: TaskIndex(0),
            },
            content: Digest::default(),
            engine: EngineId {
                version: [48, 0, 8],
                semantics: Digest::default(),
            },
            outcome: Outcome::Inconclusive(Inconclusive::Cancelled),
            fuel_used: 0,
            run_micros: 0,
            log_bytes_dropped: 0,
            chain: Vec::new(),
        }
    }

    #[test]
    fn reports_come_back_once_until_they_are_settled() {
        let dir = tempfile::tempdir().unwrap();
        let reports: Vec<_> = (1..=600)
            .map(|n| Spilled {
                report: report(n),
                upload: n == 7,
            })
            .collect();
        let (mut spill, found) = Spill::open(dir.path()).unwrap();
        assert!(found.is_empty());
        spill.add(&reports).unwrap();
        spill.add(&reports).unwrap();
        let (mut spill, mut found) = Spill::open(dir.path()).unwrap();
        found.sort_by_key(|spilled| spilled.report.attempt);
        assert_eq!(found, reports);
        (1..=256).for_each(|n| spill.settled(AttemptId(n)));
        let (mut spill, found) = Spill::open(dir.path()).unwrap();
        assert_eq!(found.len(), 600 - 256);
        (257..=600).for_each(|n| spill.settled(AttemptId(n)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let (mut spill, _) = Spill::open(dir.path()).unwrap();
        let one = Spilled {
            report: report(1),
            upload: false,
        };
        spill.add(&[one]).unwrap();
        let path = spill.path(1);
        let genuine = fs::read(&path).unwrap();
        for at in 0..genuine.len() {
            let mut bytes = genuine.clone();
            bytes[at] ^= 4;
            fs::write(&path, bytes).unwrap();
            let (_, found) = Spill::open(dir.path()).unwrap();
            assert!(found.is_empty(), "byte {at}");
            assert!(path.with_extension("damaged").exists());
        }
        fs::write(&path, &genuine[..20]).unwrap();
        assert!(Spill::open(dir.path()).unwrap().1.is_empty());
    }
}
