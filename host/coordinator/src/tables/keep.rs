//! The thread that keeps the index: fills it, builds it again, looks through it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hearth_store::{Index, IndexError, IndexPoint, IndexStep, Reader, Snapshots, StoreError};
use hearth_wire::api::JobCounts;
use hearth_wire::codec::{self, DecodeError};
use hearth_wire::record::Record;
use hearth_wire::{JobId, Seq};

use super::{Change, Changed, Standing, Tables, pack};
use crate::gently::Manner;
use crate::run::views_of;
use crate::views::{RECORD_BYTES_MAX, State, Tasks, Views, count};

/// Bytes of one step.
const STEP_BYTES: usize = 1 << 20;
/// Tasks whose tables are put into the index together, and of which so many are in memory once more while
/// it is built from the journal.
const TASKS_AT_ONCE: usize = 1 << 18;
/// How often the index is told of records with which no job ended, so that a start need not look at them.
const POINT_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the index has outgrown its rows.
const GROWTH_EVERY: Duration = Duration::from_secs(600);
/// Times that the index is built again before there is a pause.
const FAILURES_AT_ONCE: u32 = 3;
/// The pause.
const PAUSE: Duration = Duration::from_secs(30);
/// How long an end in order waits for the index. It only saves work at the next start.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// What the index is made from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) views: Arc<Views>,
    pub(crate) journal: Reader,
    pub(crate) snapshots: Snapshots,
    /// How often the whole index is compared with the views.
    pub(crate) scrub_every: Duration,
}

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    tables: Arc<Tables>,
    thread: Option<JoinHandle<()>>,
}

/// Why the index is not followed any further.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("{0}")]
    Found(String),
    #[error("the index follows the journal up to record {0}, which is none of this journal")]
    OtherHistory(Seq),
    #[error("the index cannot be built: {0}")]
    Journal(#[from] StoreError),
    #[error("the index cannot be built: the journal ends at record {found}, before {wanted}")]
    Short { found: Seq, wanted: Seq },
    #[error("the index cannot be built: record {seq} of the journal: {source}")]
    Record { seq: Seq, source: DecodeError },
}

impl Trouble {
    /// Whether another index would not help.
    fn is_of_the_journal(&self) -> bool {
        matches!(
            self,
            Self::Journal(_) | Self::Short { .. } | Self::Record { .. }
        )
    }
}

/// What is to be done next.
enum Work {
    /// Tables that left with records up to this one, and everything before it is in the index then.
    Put(Vec<Change>, Seq),
    /// What left up to this record is not at hand.
    CatchUp(Seq),
    Rest,
    Stop,
}

impl Keeper {
    pub(crate) fn start(tables: Arc<Tables>, source: Source) -> std::io::Result<Self> {
        let own = Arc::clone(&tables);
        let thread = thread::Builder::new()
            .name("hearth-index".to_owned())
            .spawn(move || keep(&own, &source))?;
        let thread = Some(thread);
        Ok(Self { tables, thread })
    }

    /// Ends the thread behind what it has at hand, and waits for it. Blocks.
    pub(crate) fn stop(mut self) {
        self.tables.ask_to_stop();
        let Some(thread) = self.thread.take() else {
            return;
        };
        let until = Instant::now() + STOP_WAIT;
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        if !thread.is_finished() {
            tracing::warn!("the index is not closed in time; the next start looks what is missing");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.tables.ask_to_stop();
    }
}

fn keep(tables: &Tables, source: &Source) {
    // What it has not taken yet is kept in memory, so it must come along.
    Manner::Behind.take();
    let mut failures = 0;
    while !tables.stops() {
        let trouble = match follow(tables, source, &mut failures) {
            Ok(()) => break,
            Err(trouble) => trouble,
        };
        failures += 1;
        tables.begin_again();
        close(tables.replace(None));
        let down = if trouble.is_of_the_journal() {
            tracing::error!(%trouble, "results of ended jobs cannot be read");
            Some(trouble.to_string())
        } else {
            tables.counts.rebuilds.inc();
            match tables.places.set_aside() {
                Ok(aside) => {
                    tracing::error!(%trouble, ?aside, "the index is built again");
                    (failures > FAILURES_AT_ONCE).then(|| trouble.to_string())
                }
                Err(error) => {
                    tracing::error!(%trouble, %error, "the index cannot be had");
                    Some(error.to_string())
                }
            }
        };
        if let Some(why) = down {
            tables.rest_down(why, PAUSE);
        }
    }
    close(tables.replace(None));
}

fn close(index: Option<Index>) {
    if let Some(Err(error)) = index.map(Index::close) {
        tracing::warn!(%error, "the index did not close well");
    }
}

/// Opens the index and keeps it as new as the views, until told to stop.
fn follow(tables: &Tables, source: &Source, failures: &mut u32) -> Result<(), Trouble> {
    let index = tables.places.open()?;
    let point = index.point();
    let known = point.seq == Seq(0) || {
        let state = source.views.read();
        point.seq <= state.seq && state.epoch_at(point.seq) == Some(point.epoch)
    };
    if !known {
        return Err(Trouble::OtherHistory(point.seq));
    }
    tracing::info!(seq = %point.seq, rows = index.rows(), "the index is open");
    tables.replace(Some(index));
    tables.came_to(point.seq);
    let opened = Instant::now();
    let (mut scrub, mut growth) = (opened, opened + GROWTH_EVERY);
    loop {
        let through = match tables.next()? {
            Work::Put(changes, seq) => {
                let epoch = source.views.read().epoch_at(seq).unwrap_or_default();
                let point = IndexPoint { seq, epoch };
                tables.with_index(|index| put(index, &changes, point))?;
                seq
            }
            Work::CatchUp(until) => {
                catch_up(tables, source, until)?;
                continue;
            }
            Work::Rest => continue,
            Work::Stop => return Ok(()),
        };
        tables.came_to(through);
        tables.measure()?;
        let now = Instant::now();
        if now >= scrub {
            look_through(tables, &source.views)?;
            scrub = Instant::now() + source.scrub_every;
        }
        // One that was looked through and held for a while is no failure; what fails over and over is tried
        // again seldom, since that reads the whole journal.
        if now.duration_since(opened) >= PAUSE {
            *failures = 0;
        }
        if now >= growth {
            growth = now + GROWTH_EVERY;
            shrink(tables)?;
        }
    }
}

impl Tables {
    fn ask_to_stop(&self) {
        self.lock().stop = true;
        self.moved.notify_all();
    }

    fn stops(&self) -> bool {
        self.lock().stop
    }

    /// Everything up to `seq` is in the index.
    fn came_to(&self, seq: Seq) {
        self.lock().applied(seq);
        self.moved.notify_all();
    }

    /// There is no index any more.
    fn begin_again(&self) {
        let mut shared = self.lock();
        shared.standing = Standing::Building;
        shared.applied = Seq(0);
        shared.damage = None;
    }

    /// Waits a while without an index.
    fn rest_down(&self, why: String, pause: Duration) {
        let mut shared = self.lock();
        shared.standing = Standing::Down(why);
        let until = Instant::now() + pause;
        while !shared.stop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let (again, _) = self
                .moved
                .wait_timeout(shared, left)
                .unwrap_or_else(PoisonError::into_inner);
            shared = again;
        }
        shared.standing = Standing::Building;
    }

    fn with_index<T>(&self, work: impl FnOnce(&Index) -> Result<T, Trouble>) -> Result<T, Trouble> {
        match self.index().as_ref() {
            Some(index) => work(index),
            None => Err(Trouble::Found("the index is not open".to_owned())),
        }
    }

    fn measure(&self) -> Result<(), Trouble> {
        use std::sync::atomic::Ordering::Relaxed;
        self.with_index(|index| {
            index.check()?;
            self.counts.disk_bytes.store(index.disk_bytes()?, Relaxed);
            self.counts.live_bytes.store(index.live_bytes(), Relaxed);
            Ok(())
        })
    }

    /// Waits for something to do.
    fn next(&self) -> Result<Work, Trouble> {
        let mut shared = self.lock();
        let rests = shared.waiting.is_empty() && shared.standing == Standing::Ready;
        if rests && !shared.stop && shared.damage.is_none() {
            let waited = self.moved.wait_timeout(shared, POINT_EVERY);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            shared = again;
            if shared.waiting.is_empty() && !timeout.timed_out() && shared.damage.is_none() {
                return Ok(if shared.stop { Work::Stop } else { Work::Rest });
            }
        }
        if let Some(damage) = shared.damage.take() {
            return Err(Trouble::Found(damage));
        }
        if shared.applied < shared.dropped {
            if shared.stop {
                return Ok(Work::Stop);
            }
            shared.standing = Standing::Building;
            return Ok(Work::CatchUp(shared.shown));
        }
        shared.standing = Standing::Ready;
        let mut changes: Vec<Change> = Vec::new();
        let mut tasks = 0;
        for change in &shared.waiting {
            // Whole records only: one may end several jobs.
            let another = changes.last().is_none_or(|last| last.seq != change.seq);
            if tasks >= TASKS_AT_ONCE && another {
                break;
            }
            tasks += change.tasks();
            changes.push(change.clone());
        }
        let all = changes.len() == shared.waiting.len();
        let last = changes.last().map_or(shared.shown, |last| last.seq);
        if changes.is_empty() && shared.stop {
            return Ok(Work::Stop);
        }
        Ok(Work::Put(changes, if all { shared.shown } else { last }))
    }
}

impl Change {
    /// A measure of the work. Removing rows is some, too.
    fn tasks(&self) -> usize {
        match &self.changed {
            Changed::Ended(table) => table.len(),
            Changed::Forgotten { tasks } => *tasks as usize,
        }
    }
}

/// Puts changes into the index, in several steps if they are large: the last one says that they are there.
pub(super) fn put(index: &Index, changes: &[Change], point: IndexPoint) -> Result<(), Trouble> {
    let before = index.point();
    let mut step = IndexStep::default();
    for change in changes {
        let mut from = Some(0);
        while let Some(chunk) = from {
            from = match &change.changed {
                Changed::Ended(table) => {
                    pack::write(&mut step, STEP_BYTES, change.job, table, chunk)
                }
                Changed::Forgotten { tasks } => {
                    pack::remove(&mut step, STEP_BYTES, change.job, *tasks, chunk)
                }
            };
            if from.is_some() {
                index.apply(std::mem::take(&mut step), before)?;
            }
        }
    }
    if !step.is_empty() || point != before {
        index.apply(step, point)?;
    }
    Ok(())
}

/// Folds the journal once more, from the newest snapshot that is not newer than the index, and puts what
/// left up to record `until` into it.
fn catch_up(tables: &Tables, source: &Source, until: Seq) -> Result<(), Trouble> {
    let have = tables.with_index(|index| Ok(index.point().seq))?;
    let begun = Instant::now();
    tables.counts.catch_ups.inc();
    let mut state = newest(&source.snapshots, have);
    let from = state.seq;
    let mut records = source.journal.replay(Seq(from.0 + 1));
    let (mut changes, mut tasks) = (Vec::new(), 0);
    while state.seq < until && !tables.stops() {
        let Some((entry, bytes)) = records.next_entry()? else {
            let (found, wanted) = (state.seq, until);
            return Err(Trouble::Short { found, wanted });
        };
        let record: Record =
            codec::decode(bytes, RECORD_BYTES_MAX).map_err(|source| Trouble::Record {
                seq: entry.seq,
                source,
            })?;
        state.apply(entry, &Arc::new(record), &mut None);
        for change in state.take_changes() {
            if change.seq > have {
                tasks += change.tasks();
                changes.push(change);
            }
        }
        if tasks >= TASKS_AT_ONCE || state.seq == until {
            let (seq, epoch) = (state.seq, state.epoch);
            let point = IndexPoint { seq, epoch };
            tables.with_index(|index| put(index, &changes, point))?;
            tables.came_to(seq);
            (changes, tasks) = (Vec::new(), 0);
        }
    }
    let seconds = begun.elapsed().as_secs_f32();
    tracing::info!(%from, to = %state.seq, seconds, "the index was built from the journal");
    Ok(())
}

/// What was shown as of the newest snapshot that is not newer than `have`; nothing if there is none.
fn newest(snapshots: &Snapshots, have: Seq) -> State {
    let listed = snapshots.list().unwrap_or_default();
    let usable = listed.into_iter().filter(|(seq, _)| *seq <= have);
    let read = |(seq, _)| {
        let snapshot = snapshots.read(seq).map_err(|error| error.to_string());
        let state = snapshot.and_then(|snapshot| {
            let state = views_of(&snapshot.body);
            state.map_err(|error| error.to_string())
        });
        state
            .inspect_err(|error| tracing::warn!(%seq, %error, "a snapshot is left unread"))
            .ok()
    };
    usable.filter_map(read).next().unwrap_or_default()
}

/// Reads the whole index and compares it with what is shown of each job.
fn look_through(tables: &Tables, views: &Views) -> Result<(), Trouble> {
    let (mut due, forgotten) = {
        let state = views.read();
        let shared = tables.lock();
        let ended = state.jobs.iter().filter_map(|(id, job)| match job.tasks {
            Tasks::Away { closed } if closed <= shared.applied => Some((*id, job.counts)),
            _ => None,
        });
        (ended.collect::<BTreeMap<_, _>>(), shared.forgotten())
    };
    let mut found: BTreeMap<JobId, JobCounts> = BTreeMap::new();
    tables.with_index(|index| {
        let damaged = |problem: String| IndexError::Damaged {
            path: index.path().to_owned(),
            problem,
        };
        index.walk(|key, row| {
            let parsed = pack::parse(key).and_then(|key| Some((key, pack::unpack(row)?)));
            let Some(((job, _), tasks)) = parsed else {
                return Err(damaged("it has a row that is none of ours".to_owned()));
            };
            let counts = found.entry(job).or_default();
            tasks
                .iter()
                .for_each(|task| *count(counts, task.state()) += 1);
            Ok(())
        })?;
        for (job, counts) in found {
            if forgotten.contains_key(&job) {
                due.remove(&job);
            } else if due.remove(&job) != Some(counts) {
                return Err(damaged(format!("its tasks of {job} are not those shown")).into());
            }
        }
        match due.keys().find(|job| !forgotten.contains_key(job)) {
            Some(job) => Err(damaged(format!("it lacks {job}")).into()),
            None => Ok(()),
        }
    })?;
    tables.counts.scrubs.inc();
    Ok(())
}

/// Writes an index that takes far more of the disk than its rows anew.
fn shrink(tables: &Tables) -> Result<(), Trouble> {
    if tables.with_index(|index| Ok(index.is_overgrown()?))? {
        rewrite(tables)?;
        tracing::info!("the index was written anew, because it had outgrown its rows");
    }
    Ok(())
}

/// Writes the index into another directory, which takes its place.
pub(super) fn rewrite(tables: &Tables) -> Result<(), Trouble> {
    let rewritten = tables.with_index(|index| Ok(tables.places.rewrite(index)?))?;
    if let Some(old) = tables.replace(Some(rewritten)) {
        tables.places.remove(old)?;
    }
    Ok(())
}
