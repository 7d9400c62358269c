//! What the coordinator keeps on its disk: the real journal and snapshots, on a disk that fails.

use std::path::Path;
use std::sync::Arc;

use hearth_core::Coordinator;
use hearth_store::faulty::{Fault as Strike, FaultyDisk};
use hearth_store::{
    Disk, Entry, Journal, JournalConfig, Reader, Snapshot, Snapshots, Start, StoreError,
};
use hearth_wire::record::Record;
use hearth_wire::{Digest, RealmId, Seq, codec};

use super::sim_config;
use crate::rng::Rng;

/// Largest record, generously: a batch of reports with inline bodies.
pub(super) const RECORD_BYTES_MAX: usize = 4 << 20;
/// Damages of the journal that each world ends with.
const DAMAGES: u64 = 6;

/// What is on the disk, what was written to it, and what of that somebody was told of.
pub(crate) struct Storage {
    pub(super) disk: FaultyDisk,
    open: Option<Open>,
    segment_bytes: u64,
    /// Records in order: those that the newest start found, and those appended since.
    pub(crate) written: Vec<Vec<u8>>,
    /// How many of them are known to be durable, so that effects may have left.
    pub(crate) durable: usize,
    /// What the disk was told to do.
    armed: Option<Strike>,
    /// Snapshots that were damaged.
    damaged: Vec<Seq>,
}

struct Open {
    journal: Journal,
    snapshots: Snapshots,
}

/// Why something came to nothing.
pub(crate) enum Failure {
    /// The disk.
    Disk(StoreError),
    /// Something that must not be.
    Law(&'static str, String),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Disk(error)
    }
}

/// What a start found.
pub(crate) struct Recovered {
    pub(crate) core: Coordinator,
    /// Damaged snapshots that it passed over.
    pub(crate) refused: u64,
    /// Whether records were lost that nobody had been told of.
    pub(crate) torn: bool,
}

impl Storage {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self {
            disk: FaultyDisk::new(root(), rng.next()),
            open: None,
            // So that an hour has some dozens of segments, and as many chances for a snapshot.
            segment_bytes: rng.range(64, 512) << 10,
            written: Vec::new(),
            durable: 0,
            armed: None,
            damaged: Vec::new(),
        }
    }

    /// Lets the disk strike after so many more operations.
    pub(crate) fn arm(&mut self, strike: Strike, operations: u64) {
        self.armed = Some(strike);
        self.disk.no_fault();
        self.disk
            .fault_at(self.disk.operations() + operations, strike);
    }

    /// What struck, if the machine or the process is dead.
    pub(crate) fn struck(&self) -> Option<Strike> {
        self.armed.filter(|_| self.disk.is_off())
    }

    /// Nothing strikes any more.
    pub(crate) fn disarm(&mut self) {
        self.armed = None;
        self.disk.no_fault();
        self.disk.set_capacity(usize::MAX);
        self.disk.set_short_writes(false);
        self.disk.set_write_back(false);
    }

    /// The process has ended, and with it the machine if the power went.
    pub(crate) fn close(&mut self, power: Option<u64>) {
        self.open = None;
        if let Some(luck) = power {
            self.disk = self.disk.after_power_loss(luck);
        }
        self.disk.revive();
        self.disk.set_capacity(usize::MAX);
        self.armed = None;
    }

    fn open(&mut self) -> Result<&mut Open, StoreError> {
        self.open.as_mut().ok_or(StoreError::Poisoned {
            cause: "it is closed".to_owned(),
        })
    }

    /// Adds the records of a step: to the same batch, or, if they are `apart`, each to one of its own, as
    /// those of a very large step are. What is added is taken out of `records`, so that the rest can be
    /// tried again.
    pub(crate) fn append(
        &mut self,
        records: &mut Vec<Vec<u8>>,
        apart: bool,
    ) -> Result<(), StoreError> {
        while !records.is_empty() {
            let size = if apart { 1 } else { records.len() };
            self.open()?.journal.append(&records[..size])?;
            self.written.extend(records.drain(..size));
            if apart {
                self.flush()?;
            }
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<Seq, StoreError> {
        self.open()?.journal.flush()
    }

    pub(crate) fn sync(&mut self) -> Result<Seq, StoreError> {
        self.open()?.journal.syncer().sync()
    }

    /// Starts as a coordinator does: from the newest usable snapshot, unless it is to be the whole journal,
    /// and from the records behind it.
    pub(crate) fn recover(&mut self, whole: bool) -> Result<Recovered, Failure> {
        let on: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let snapshots = Snapshots::open_on(Arc::clone(&on), root(), realm(), 0)?;
        let genesis = JournalConfig::new(realm()).start;
        let (mut core, start, refused) = if whole {
            (Coordinator::new(sim_config()), genesis, 0)
        } else {
            self.newest(&snapshots)?
        };
        let config = JournalConfig {
            segment_bytes: self.segment_bytes,
            start,
            ..JournalConfig::new(realm())
        };
        let written = &self.written;
        let visit = |entry: Entry, bytes: &[u8]| {
            if written.get(entry.seq.0 as usize - 1).map(Vec::as_slice) != Some(bytes) {
                return Err(format!("record {} is not what was written", entry.seq));
            }
            replay(&mut core, bytes)
        };
        let journal = match Journal::open_on(on, root().to_owned(), config, visit) {
            Ok((journal, _)) => journal,
            Err(StoreError::Visitor { source, .. }) => {
                let law = "what is recovered is what was written";
                return Err(Failure::Law(law, source.to_string()));
            }
            Err(error) => return Err(Failure::Disk(error)),
        };
        let (found, known) = (journal.durable().0 as usize, self.written.len());
        if found < self.durable || found > known {
            let told = self.durable;
            let text = format!("{found} records, {told} were acknowledged, {known} written");
            return Err(Failure::Law("acknowledged is in the journal", text));
        }
        self.written.truncate(found);
        self.open = Some(Open { journal, snapshots });
        let torn = found < known;
        Ok(Recovered {
            core,
            refused,
            torn,
        })
    }

    /// The state in the newest snapshot that can be used, and how many cannot.
    fn newest(&self, snapshots: &Snapshots) -> Result<(Coordinator, Start, u64), Failure> {
        let mut refused = 0;
        for (seq, _) in snapshots.list()? {
            let damaged = self.damaged.contains(&seq);
            // Whatever is wrong with one, the journal holds everything all the same.
            let Ok(snapshot) = snapshots.read(seq) else {
                refused += u64::from(damaged);
                continue;
            };
            if damaged {
                let law = "damage in a snapshot is told";
                return Err(Failure::Law(law, seq.to_string()));
            }
            match Coordinator::restore(sim_config(), &snapshot.body) {
                Ok(core) if core.seq() == seq => return Ok((core, snapshot.start, refused)),
                Ok(core) => {
                    let text = format!("{seq} holds {}", core.seq());
                    return Err(Failure::Law("every snapshot can be restored", text));
                }
                Err(error) => {
                    let text = error.to_string();
                    return Err(Failure::Law("every snapshot can be restored", text));
                }
            }
        }
        let start = JournalConfig::new(realm()).start;
        Ok((Coordinator::new(sim_config()), start, refused))
    }

    /// The newest point at which a snapshot may stand, if the journal has grown behind the newest snapshot,
    /// and by enough or in a `hurry`.
    pub(crate) fn due(&self, hurry: bool) -> Result<Option<Start>, Failure> {
        let Some(Open { journal, snapshots }) = &self.open else {
            return Ok(None);
        };
        let (newest, len) = snapshots.list()?.first().copied().unwrap_or_default();
        let ends = journal.reader().ends();
        let behind = ends.iter().filter(|end| end.seq > newest).count() as u64;
        let grown = hurry || behind * self.segment_bytes >= len;
        Ok(ends.last().copied().filter(|_| behind > 0 && grown))
    }

    /// Makes a snapshot as a coordinator does, beside the work: from the newest one and the journal behind
    /// it.
    pub(crate) fn save(&mut self, end: Start) -> Result<(), Failure> {
        let Some(Open { journal, snapshots }) = &self.open else {
            return Ok(());
        };
        // One whose name a power loss has taken back may be written again.
        self.damaged.retain(|damaged| *damaged != end.seq);
        let (mut core, from, _) = self.newest(snapshots)?;
        replay_to(&mut core, &journal.reader(), end.seq)?;
        let body = core.snapshot();
        snapshots.write(&Snapshot { start: end, body }, from.seq)?;
        Ok(())
    }

    /// Damages the newest snapshot; says whether there was one.
    pub(crate) fn damage_snapshot(&mut self, rng: &mut Rng) -> bool {
        let dir = root().join("snapshots");
        let Ok(names) = self.disk.list(&dir) else {
            return false;
        };
        let seqs = names.iter().filter_map(|(name, _)| {
            let seq = name.strip_suffix(".snapshot")?.parse().ok()?;
            Some((Seq(seq), dir.join(name)))
        });
        let Some((seq, path)) = seqs.max() else {
            return false;
        };
        let changed = damage(&self.disk, &path, rng).is_some();
        if changed {
            self.damaged.push(seq);
        }
        changed
    }

    /// Damages durable parts of the journal, each alone, on a copy of the disk, and starts without a
    /// snapshot: it must be refused with the name of the file and the place, or that of a format. Gives
    /// back how many damages were told.
    pub(crate) fn damage_journal(&self, rng: &mut Rng) -> Result<u64, Failure> {
        let dir = root().join("journal");
        let names = self.disk.list(&dir).unwrap_or_default();
        let names = names.into_iter();
        let paths: Vec<_> = names
            .filter(|(name, _)| name.ends_with(".journal"))
            .map(|(name, _)| dir.join(name))
            .collect();
        let copy = self.disk.copy();
        let mut told = 0;
        for _damage in 0..DAMAGES {
            let path = &paths[rng.below(paths.len() as u64) as usize];
            let mut whole = Vec::new();
            copy.tamper(path, |bytes| whole.clone_from(bytes));
            let Some(at) = damage(&copy, path, rng) else {
                continue;
            };
            let on: Arc<dyn Disk> = Arc::new(copy.clone());
            let config = JournalConfig {
                segment_bytes: self.segment_bytes,
                ..JournalConfig::new(realm())
            };
            let visit = |_: Entry, _: &[u8]| Ok::<_, std::convert::Infallible>(());
            let named = match Journal::open_on(on, root().to_owned(), config, visit) {
                Err(StoreError::Damaged {
                    path: file, offset, ..
                }) => file == *path && offset <= at,
                Err(StoreError::Format { path: file, .. }) => file == *path && at < 16,
                _ => false,
            };
            if !named {
                let text = format!("byte {at} of {}", path.display());
                return Err(Failure::Law("damage in the journal is told", text));
            }
            told += 1;
            copy.tamper(path, |bytes| *bytes = whole);
        }
        Ok(told)
    }
}

/// Flips a bit or blanks a page, anywhere. Gives back the first byte that is another one, if any is.
fn damage(disk: &FaultyDisk, path: &Path, rng: &mut Rng) -> Option<u64> {
    let (luck, page) = (rng.next(), rng.once_in(3));
    let mut first = None;
    disk.tamper(path, |bytes| {
        let at = luck as usize % bytes.len().max(1);
        let range = if page {
            at / 4_096 * 4_096..(at / 4_096 * 4_096 + 4_096).min(bytes.len())
        } else {
            at..(at + 1).min(bytes.len())
        };
        for index in range {
            let now = if page {
                0
            } else {
                bytes[index] ^ (1 << (luck % 8))
            };
            if first.is_none() && bytes[index] != now {
                first = Some(index as u64);
            }
            bytes[index] = now;
        }
    });
    first
}

fn replay(core: &mut Coordinator, bytes: &[u8]) -> Result<(), String> {
    let record = codec::decode::<Record>(bytes, RECORD_BYTES_MAX);
    let record = record.map_err(|error| error.to_string())?;
    core.replay(&record).map_err(|error| error.to_string())
}

fn replay_to(core: &mut Coordinator, reader: &Reader, seq: Seq) -> Result<(), Failure> {
    let mut records = reader.replay(Seq(core.seq().0 + 1));
    while core.seq() < seq {
        let Some((_, bytes)) = records.next_entry()? else {
            let text = core.seq().to_string();
            return Err(Failure::Law("readers see what is durable", text));
        };
        replay(core, bytes).map_err(|error| Failure::Law("every record can be replayed", error))?;
    }
    Ok(())
}

fn root() -> &'static Path {
    Path::new("/disk")
}

fn realm() -> RealmId {
    RealmId(Digest::of(b"a realm"))
}
