//! The tasks of ended jobs: on their way into the index, in it, and back.
//!
//! While a job is open its tasks are a dense vector in the views. When it ends they never change again, so
//! they leave memory: the follower hands them over, a thread of its own packs them into rows of the index
//! (`keep`), and reads find them there. The journal is the truth and the index is made from it: whatever is
//! wrong with the index, it is set aside and built again from a snapshot and the journal behind it, and a
//! read waits for that or is refused with the directory's name. Nothing but such reads ever waits for it.

mod keep;
mod pack;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use hearth_store::{Index, IndexError, Indexes};
use hearth_wire::{JobId, Seq, TaskIndex};

use crate::metrics::{Counter, Exposition};
use crate::views::TaskView;

pub(crate) use keep::{Keeper, Source};

/// Tasks that may wait for the index: 24 bytes each, so 96 MiB, and never less than the largest job. What
/// is beyond is dropped, the oldest first, and made from the journal again.
const WAITING_TASKS_MAX: usize = hearth_wire::limits::TASKS_PER_JOB_MAX as usize;
/// Changes that may wait: as many jobs as are remembered at the most.
const WAITING_MAX: usize = hearth_wire::limits::IDEMPOTENCY_KEYS_MAX;

/// How long a read waits while the index is being built.
const READ_WAIT: Duration = Duration::from_secs(5);
/// Reads that wait so: each has one of the few threads that may.
const READS_WAITING_MAX: usize = 64;

/// Something that left the views.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The record that it left with.
    pub(crate) seq: Seq,
    pub(crate) job: JobId,
    pub(crate) changed: Changed,
}

/// What became of a job.
#[derive(Debug, Clone)]
pub(crate) enum Changed {
    /// It ended with these tasks.
    Ended(Arc<Vec<TaskView>>),
    /// It had ended, and is shown no more.
    Forgotten { tasks: u32 },
}

/// Tasks of a job: at hand, or to be read by [`Tables::tasks`].
#[derive(Debug)]
pub(crate) enum Picked {
    Here(Vec<(TaskIndex, TaskView)>),
    Away(Wanted),
}

/// Some tasks of a job that ended with record `closed`.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) job: JobId,
    pub(crate) closed: Seq,
    pub(crate) tasks: Range<u32>,
}

/// The tasks of an ended job cannot be read now. The operator's disk is to blame, or time helps.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TablesError {
    #[error("{0} is not known any more")]
    Forgotten(JobId),
    #[error("the results of {job} are found through the index in {}, which {why}", dir.display())]
    NotYet {
        job: JobId,
        dir: PathBuf,
        why: String,
    },
}

/// The tasks of ended jobs. Shared by the follower, which hands over, the thread that keeps the index, and
/// all who read.
#[derive(Debug)]
pub(crate) struct Tables {
    places: Indexes,
    shared: Mutex<Shared>,
    /// Told of everything in `shared` that others may wait for.
    moved: Condvar,
    /// Exclusive only while one index takes the place of another.
    index: RwLock<Option<Index>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Shared {
    /// Not yet in the index, in the order of the journal.
    waiting: VecDeque<Change>,
    /// The tables among them.
    tables: HashMap<JobId, Arc<Vec<TaskView>>>,
    /// Tasks in those.
    tasks: usize,
    /// What left up to here does not wait, whether it is in the index or not.
    dropped: Seq,
    /// The newest record of which everything was handed over.
    shown: Seq,
    /// The newest record of which everything is in the index.
    applied: Seq,
    standing: Standing,
    /// What a reader found in the index that should not be so.
    damage: Option<String>,
    /// Reads that wait.
    reads: usize,
    stop: bool,
}

/// How the index stands.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Standing {
    /// Being opened, or built.
    #[default]
    Building,
    /// It follows.
    Ready,
    /// It cannot be had; tried again from time to time.
    Down(String),
}

#[derive(Debug, Default)]
struct Counts {
    rebuilds: Counter,
    catch_ups: Counter,
    scrubs: Counter,
    disk_bytes: AtomicU64,
    live_bytes: AtomicU64,
}

impl Tables {
    /// For a realm of which nothing was handed over yet.
    pub(crate) fn new(places: Indexes) -> Self {
        Self {
            places,
            shared: Mutex::default(),
            moved: Condvar::new(),
            index: RwLock::default(),
            counts: Counts::default(),
        }
    }

    /// What left before record `seq`, and with it, is not handed over: the state that is gone on from is
    /// of that record.
    pub(crate) fn begin_behind(&self, seq: Seq) {
        let mut shared = self.lock();
        shared.dropped = seq;
        shared.shown = seq;
    }

    /// Takes what left with the records up to `seq`. Never waits.
    pub(crate) fn hand_over(&self, changes: Vec<Change>, seq: Seq) {
        let mut shared = self.lock();
        shared.shown = seq;
        if changes.is_empty() {
            return;
        }
        for change in changes {
            if let Changed::Ended(table) = &change.changed {
                shared.tasks += table.len();
                shared.tables.insert(change.job, Arc::clone(table));
            }
            shared.waiting.push_back(change);
        }
        while shared.waiting.len() > WAITING_MAX || shared.tasks > WAITING_TASKS_MAX {
            let Some(oldest) = shared.take_oldest() else {
                break;
            };
            shared.dropped = oldest.seq;
        }
        self.moved.notify_all();
    }

    /// The tasks that were picked. Blocks: on the disk, and while the index is being built. `is_known`
    /// says whether the job still is.
    pub(crate) fn tasks(
        &self,
        picked: Picked,
        is_known: impl Fn(JobId) -> bool,
    ) -> Result<Vec<(TaskIndex, TaskView)>, TablesError> {
        let wanted = match picked {
            Picked::Here(tasks) => return Ok(tasks),
            Picked::Away(wanted) => wanted,
        };
        let until = Instant::now() + READ_WAIT;
        loop {
            if let Some(found) = self.waiting(&wanted) {
                return Ok(found);
            }
            match self.indexed(&wanted) {
                Ok(Some(found)) => return Ok(found),
                _ if !is_known(wanted.job) => return Err(TablesError::Forgotten(wanted.job)),
                Ok(None) => {}
                Err(damage) => self.tell_damage(damage.to_string()),
            }
            self.wait(&wanted, until)?;
        }
    }

    /// Those of a table that waits.
    fn waiting(&self, wanted: &Wanted) -> Option<Vec<(TaskIndex, TaskView)>> {
        let table = self.lock().tables.get(&wanted.job).cloned()?;
        let range = wanted.tasks.start as usize..wanted.tasks.end as usize;
        let tasks = table.get(range)?.iter().copied();
        Some(wanted.tasks.clone().map(TaskIndex).zip(tasks).collect())
    }

    /// Those of a table in the index; `None` if it need not be there yet.
    fn indexed(&self, wanted: &Wanted) -> Result<Option<Vec<(TaskIndex, TaskView)>>, IndexError> {
        let guard = self.index();
        let Some(index) = guard.as_ref() else {
            return Ok(None);
        };
        let due = index.point().seq >= wanted.closed;
        let found = pack::read(index, wanted.job, wanted.tasks.clone())?;
        if found.is_none() && due {
            let problem = format!("it lacks tasks of {}", wanted.job);
            let path = index.path().to_owned();
            return Err(IndexError::Damaged { path, problem });
        }
        Ok(found)
    }

    /// Waits for the index to move on.
    fn wait(&self, wanted: &Wanted, until: Instant) -> Result<(), TablesError> {
        let mut shared = self.lock();
        let left = until.saturating_duration_since(Instant::now());
        let why = match &shared.standing {
            Standing::Down(why) => Some(format!("cannot be had: {why}")),
            _ if shared.stop => Some("is closed, because the coordinator stops".to_owned()),
            _ if left.is_zero() || shared.reads >= READS_WAITING_MAX => Some(format!(
                "is being built from the journal: it has come to record {} of {}",
                shared.applied, wanted.closed
            )),
            _ => None,
        };
        if let Some(why) = why {
            return Err(TablesError::NotYet {
                job: wanted.job,
                dir: self.places.path(),
                why,
            });
        }
        shared.reads += 1;
        // Woken by each step of the index; looking again costs little.
        let (mut shared, _) = self
            .moved
            .wait_timeout(shared, left.min(Duration::from_millis(100)))
            .unwrap_or_else(PoisonError::into_inner);
        shared.reads -= 1;
        Ok(())
    }

    fn tell_damage(&self, damage: String) {
        let mut shared = self.lock();
        // Once it is being built again, the one that was read is none that counts.
        if shared.standing == Standing::Ready {
            shared.damage.get_or_insert(damage);
            self.moved.notify_all();
        }
    }

    /// Everything that is measured.
    pub(crate) fn write(&self, out: &mut Exposition) {
        let (waiting, lag, down) = {
            let shared = self.lock();
            let lag = shared.shown.0.saturating_sub(shared.applied.0);
            let down = matches!(shared.standing, Standing::Down(_));
            (shared.tasks as u64, lag, u64::from(down))
        };
        let Counts {
            rebuilds,
            catch_ups,
            scrubs,
            disk_bytes,
            live_bytes,
        } = &self.counts;
        for (name, help, value) in [
            (
                "index_disk_bytes",
                "Bytes of the index on the disk.",
                disk_bytes.load(Ordering::Relaxed),
            ),
            (
                "index_live_bytes",
                "Bytes of its rows.",
                live_bytes.load(Ordering::Relaxed),
            ),
            (
                "index_lag_records",
                "Records shown that the index does not follow yet.",
                lag,
            ),
            (
                "index_waiting_tasks",
                "Tasks of ended jobs in memory, on their way into the index.",
                waiting,
            ),
            (
                "index_down",
                "Whether the index cannot be had, so that results of ended jobs cannot be read.",
                down,
            ),
        ] {
            out.gauge(name, help, value);
        }
        out.counter(
            "index_rebuilds_total",
            "Times that the index was set aside and built again.",
            rebuilds.get(),
        );
        out.counter(
            "index_catch_ups_total",
            "Times that the journal was read once more to fill the index.",
            catch_ups.get(),
        );
        out.counter(
            "index_scrubs_total",
            "Times that the whole index was read and found right.",
            scrubs.get(),
        );
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> RwLockReadGuard<'_, Option<Index>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another index in the place of the one that readers see, and gives that.
    fn replace(&self, index: Option<Index>) -> Option<Index> {
        let mut place = self.index.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut place, index)
    }
}

impl Shared {
    fn take_oldest(&mut self) -> Option<Change> {
        let change = self.waiting.pop_front()?;
        if let Changed::Ended(table) = &change.changed {
            self.tasks -= table.len();
            self.tables.remove(&change.job);
        }
        Some(change)
    }

    /// Lets go of what is in the index up to `seq`.
    fn applied(&mut self, seq: Seq) {
        self.applied = seq;
        self.dropped = self.dropped.max(seq);
        while self.waiting.front().is_some_and(|change| change.seq <= seq) {
            self.take_oldest();
        }
    }

    /// Jobs that are forgotten, though the index may not know it yet.
    fn forgotten(&self) -> BTreeMap<JobId, Seq> {
        let forgotten = self
            .waiting
            .iter()
            .filter_map(|change| match change.changed {
                Changed::Forgotten { .. } => Some((change.job, change.seq)),
                Changed::Ended(_) => None,
            });
        forgotten.collect()
    }
}
