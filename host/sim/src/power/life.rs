//! One process on a disk: it starts, works, and is struck somewhere.

use std::path::Path;
use std::sync::Arc;

use hearth_store::faulty::FaultyDisk;
use hearth_store::{
    BlobConfig, BlobStore, Disk, Entry, Journal, JournalConfig, PartialName, Snapshots, Start,
    StoreError,
};
use hearth_wire::{Digest, RealmId, Seq};

use super::model::Model;
use super::{Broken, home, root};
use crate::rng::{Rng, mix};

/// Blobs by number: few, so that they meet again.
const BLOBS: u64 = 6;

/// The last of the numbers that stand for an upload in [`blob_work`].
const UPLOAD: u64 = 4;

/// What one kind of work is like.
#[derive(Debug)]
pub(super) struct Habits {
    segment_bytes: u64,
    steps: u64,
    /// Which of the three stores is opened last: the last one alone syncs its own name.
    last: u64,
    /// Whether the directories for blobs are there before the work begins. Making them takes hundreds of
    /// operations that are all alike, of which then some are struck.
    laid_out: bool,
    pub(super) every: u64,
    /// Whether segments go to an archive, and whether they can be linked there.
    archives: bool,
    links: bool,
    /// Every how many steps a snapshot is made.
    snapshot_every: u64,
}

impl Habits {
    pub(super) fn of(work: u64) -> Self {
        let mut rng = Rng::new(mix(work));
        let laid_out = work % 7 != 1;
        Self {
            segment_bytes: rng.range(300, 1_500),
            steps: rng.range(25, 60),
            last: work % 3,
            laid_out,
            every: if laid_out { 1 } else { 5 },
            archives: rng.once_in(2),
            snapshot_every: rng.range(3, 9),
            links: rng.once_in(2),
        }
    }

    /// The disk on which such work begins.
    pub(super) fn disk(&self, work: u64) -> FaultyDisk {
        let disk = FaultyDisk::new(root(), work);
        disk.set_links(self.links);
        if self.laid_out {
            let on: Arc<dyn Disk> = Arc::new(disk.clone());
            // If this fails, so does the first start.
            let _ = make_home(&*on).and_then(|()| open_blobs(&on, &mut Model::new(work)));
            return disk.copy();
        }
        disk
    }
}

const SNAPSHOTS_LAST: u64 = 0;
const BLOBS_LAST: u64 = 1;

/// What a process holds open.
pub(super) struct Stores {
    journal: Journal,
    snapshots: Snapshots,
    blobs: BlobStore,
    /// Whether it began with a snapshot.
    pub(super) restored: bool,
}

/// Why a life ended.
enum Ended {
    /// The disk failed, as it was told to.
    Disk(StoreError),
    Broken(Broken),
}

impl From<Broken> for Ended {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { .. }
            | StoreError::Poisoned { .. }
            | StoreError::ArchiveAway { .. } => Self::Disk(error),
            error => Self::Broken(Broken::Refused(error.to_string())),
        }
    }
}

/// Starts, which nothing disturbs.
pub(super) fn settle(
    disk: &FaultyDisk,
    model: &mut Model,
    habits: &Habits,
    luck: &mut Rng,
) -> Result<Stores, Broken> {
    match open(disk, model, habits, luck) {
        Ok(stores) => Ok(stores),
        Err(Ended::Disk(error)) => Err(Broken::Refused(error.to_string())),
        Err(Ended::Broken(broken)) => Err(broken),
    }
}

/// Starts and works until something strikes, or to the end. Gives back what the disk said.
pub(super) fn live(
    disk: &FaultyDisk,
    model: &mut Model,
    habits: &Habits,
    rng: &mut Rng,
) -> Result<Option<StoreError>, Broken> {
    let lived = open(disk, model, habits, rng).and_then(|mut stores| {
        for step in 1..=habits.steps {
            if step.is_multiple_of(habits.snapshot_every) {
                snapshot(&stores, model)?;
            }
            if rng.once_in(20) {
                // Another process, without a last word of this one.
                drop(stores);
                stores = open(disk, model, habits, rng)?;
            }
            work(&mut stores, disk, model, habits, rng)?;
        }
        commit(&mut stores, model)
    });
    match lived {
        Ok(()) => Ok(None),
        Err(Ended::Disk(error)) => Ok(Some(error)),
        Err(Ended::Broken(broken)) => Err(broken),
    }
}

fn realm() -> RealmId {
    RealmId(Digest::of(b"a realm"))
}

/// Opens everything as a coordinator does, and looks at all of it.
fn open(
    disk: &FaultyDisk,
    model: &mut Model,
    habits: &Habits,
    luck: &mut Rng,
) -> Result<Stores, Ended> {
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    make_home(&*on)?;
    let genesis = JournalConfig::new(realm()).start;
    if habits.last == SNAPSHOTS_LAST {
        let blobs = open_blobs(&on, model)?;
        let journal = open_journal(&on, model, habits, genesis)?;
        let snapshots = open_snapshots(&on, model)?.0;
        return Ok(Stores {
            journal,
            snapshots,
            blobs,
            restored: false,
        });
    }
    let late = habits.last == BLOBS_LAST;
    let early = (!late).then(|| open_blobs(&on, model)).transpose()?;
    let (snapshots, newest) = open_snapshots(&on, model)?;
    // By turns the whole journal.
    let newest = newest.filter(|_| !luck.once_in(4));
    let journal = open_journal(&on, model, habits, newest.unwrap_or(genesis))?;
    let blobs = match early {
        Some(blobs) => blobs,
        None => open_blobs(&on, model)?,
    };
    Ok(Stores {
        journal,
        snapshots,
        blobs,
        restored: newest.is_some(),
    })
}

/// Whoever makes a realm sees to its own directory.
fn make_home(on: &dyn Disk) -> Result<(), Ended> {
    let made = on.create_dir(&home()).and_then(|()| on.sync_dir(root()));
    let made = made.map_err(|source| StoreError::Io {
        action: "making",
        path: home(),
        source,
    });
    Ok(made?)
}

fn open_journal(
    on: &Arc<dyn Disk>,
    model: &mut Model,
    habits: &Habits,
    start: Start,
) -> Result<Journal, Ended> {
    let config = JournalConfig {
        segment_bytes: habits.segment_bytes,
        start,
        archive: habits.archives.then(|| root().join("archive")),
        ..JournalConfig::new(realm())
    };
    let mut broken = None;
    let visit = |entry: Entry, bytes: &[u8]| {
        model.check_record(entry.seq, bytes).map_err(|found| {
            broken = Some(found);
            "another record"
        })
    };
    let opened = Journal::open_on(Arc::clone(on), home(), config, visit);
    if let Some(broken) = broken {
        return Err(Ended::Broken(broken));
    }
    let (journal, recovery) = opened?;
    if let Some(damaged) = recovery.damaged.iter().chain(&recovery.shorter).next() {
        let text = format!("{} is taken for damaged", damaged.display());
        return Err(Broken::Refused(text).into());
    }
    if let Some(problem) = recovery.archive_away {
        return Err(Broken::Refused(format!("the archive is away: {problem}")).into());
    }
    let moved = holds(on, &root().join("archive"), ".journal")?;
    if moved && !holds(on, &home().join("journal"), "archive.begun")? {
        let text = "segments were moved, and nothing beside the journal says so";
        return Err(Broken::Refused(text.to_owned()).into());
    }
    if recovery.first > Seq(1) {
        let text = format!("the journal begins at record {}", recovery.first);
        return Err(Broken::Record(text).into());
    }
    model.found(journal.durable())?;
    Ok(journal)
}

/// Whether a directory holds a file whose name ends so.
fn holds(on: &Arc<dyn Disk>, dir: &Path, end: &str) -> Result<bool, StoreError> {
    let names = match on.list(dir) {
        Ok(names) => names,
        Err(source) => {
            return Err(StoreError::Io {
                action: "listing",
                path: dir.to_owned(),
                source,
            });
        }
    };
    Ok(names.iter().any(|(name, _)| name.ends_with(end)))
}

fn open_snapshots(
    on: &Arc<dyn Disk>,
    model: &mut Model,
) -> Result<(Snapshots, Option<Start>), Ended> {
    let snapshots = Snapshots::open_on(Arc::clone(on), &home(), realm(), 0)?;
    let newest = look_at_snapshots(&snapshots, model)?;
    Ok((snapshots, newest))
}

fn open_blobs(on: &Arc<dyn Disk>, model: &mut Model) -> Result<BlobStore, Ended> {
    let config = BlobConfig {
        reserve_bytes: 0,
        ..BlobConfig::default()
    };
    let blobs = BlobStore::open_on(Arc::clone(on), home().join("blobs"), config)?;
    look_at_blobs(&blobs, model)?;
    Ok(blobs)
}

/// Those that were promised are there, all that are there are whole, and none that was removed is back.
fn look_at_snapshots(snapshots: &Snapshots, model: &mut Model) -> Result<Option<Start>, Ended> {
    let listed: Vec<_> = snapshots
        .list()?
        .into_iter()
        .map(|(seq, _)| seq.0)
        .collect();
    if let Some(lost) = model.snapshots.iter().find(|seq| !listed.contains(seq)) {
        let text = format!("the snapshot up to {lost} is not there");
        return Err(Broken::Snapshot(text).into());
    }
    let known = |seq: &u64| model.snapshots.contains(seq) || model.perhaps.contains(seq);
    if let Some(back) = listed.iter().find(|seq| !known(seq)) {
        let text = format!("the snapshot up to {back} was removed and is back");
        return Err(Broken::Refused(text).into());
    }
    let mut newest = None;
    for seq in &listed {
        let found = snapshots.read(Seq(*seq))?;
        model.check_snapshot(&found)?;
        newest = newest.or(Some(found.start));
    }
    Ok(newest)
}

/// Those that were promised are there, and all that are there are what their names say.
fn look_at_blobs(blobs: &BlobStore, model: &mut Model) -> Result<(), Ended> {
    for (digest, bytes) in &model.blobs {
        match blobs.read(digest, u64::MAX) {
            Ok(found) if found == *bytes => {}
            Ok(_) => return Err(Broken::Blob(format!("{digest} is another one")).into()),
            Err(error @ StoreError::Io { .. }) => return Err(error.into()),
            Err(error) => return Err(Broken::Blob(error.to_string()).into()),
        }
    }
    let listed = blobs.list()?;
    for blob in &listed {
        match blobs.verify(&blob.digest) {
            Err(error @ StoreError::Damaged { .. }) => {
                return Err(Broken::Blob(error.to_string()).into());
            }
            other => other?,
        }
    }
    let named: u64 = listed.iter().map(|blob| blob.len).sum();
    let parts = (0..BLOBS).map(|number| blobs.partial_offset(&upload(model, number)));
    let counted = named + parts.flatten().sum::<u64>();
    if blobs.used_bytes() != counted {
        let text = format!(
            "{} bytes are counted, {counted} are there",
            blobs.used_bytes()
        );
        return Err(Broken::Refused(text).into());
    }
    Ok(())
}

fn upload(model: &Model, number: u64) -> PartialName {
    PartialName {
        owner: Digest::of(b"owner"),
        blob: Digest::of(&model.blob(number)),
    }
}

/// Does one thing.
fn work(
    stores: &mut Stores,
    disk: &FaultyDisk,
    model: &mut Model,
    habits: &Habits,
    rng: &mut Rng,
) -> Result<(), Ended> {
    match rng.below(12) {
        0..=5 => {
            let batch: Vec<_> = (0..rng.range(1, 4)).map(|_| model.record()).collect();
            model.append(&batch);
            stores.journal.append(&batch)?;
            match rng.below(3) {
                0 => commit(stores, model),
                1 => Ok(_ = stores.journal.flush()?),
                _ => Ok(()),
            }
        }
        6 => commit(stores, model),
        7 => follow(stores, model, rng),
        8 if habits.archives => {
            let older = model.snapshots.first().copied().unwrap_or_default();
            // A coordinator lives on when a segment cannot be moved.
            match stores.journal.archiver().archive_next(Seq(older), || false) {
                Err(error) if disk.is_off() => Err(error.into()),
                Err(StoreError::Io { .. }) | Ok(_) => Ok(()),
                Err(other) => Err(other.into()),
            }
        }
        _ => {
            // A coordinator lives on when a blob cannot be kept.
            match blob_work(&stores.blobs, model, rng) {
                Err(Ended::Disk(_)) if !disk.is_off() => Ok(()),
                other => other,
            }
        }
    }
}

/// Makes everything durable, by turns as a driver does it: written here, synced by another hand.
fn commit(stores: &mut Stores, model: &mut Model) -> Result<(), Ended> {
    let durable = if model.written.len().is_multiple_of(2) {
        stores.journal.flush()?;
        stores.journal.syncer().sync()?
    } else {
        stores.journal.commit()?
    };
    model.acknowledged = durable.0 as usize;
    if model.acknowledged != model.written.len() {
        let text = format!("a commit ends at {durable} of {}", model.written.len());
        return Err(Broken::Record(text).into());
    }
    Ok(())
}

/// Readers see what is durable, all of it, and nothing else.
fn follow(stores: &Stores, model: &mut Model, rng: &mut Rng) -> Result<(), Ended> {
    let reader = stores.journal.reader();
    let durable = reader.durable().0;
    // Whatever is shown was promised with it.
    model.acknowledged = model.acknowledged.max(durable as usize);
    let from = 1 + rng.below(durable.max(1));
    let mut replay = reader.replay(Seq(from));
    for seq in from..=durable {
        match replay.next_entry()? {
            Some((entry, bytes)) if entry.seq.0 == seq => model.check_record(entry.seq, bytes)?,
            _ => return Err(Broken::Record(format!("record {seq} is not read")).into()),
        }
    }
    Ok(())
}

fn snapshot(stores: &Stores, model: &mut Model) -> Result<(), Ended> {
    let newest = stores.snapshots.list()?.first().map_or(0, |(seq, _)| seq.0);
    let Some(end) = stores.journal.reader().ends().last().copied() else {
        return Ok(());
    };
    if end.seq.0 <= newest {
        return Ok(());
    }
    // What is in a snapshot was durable before.
    model.acknowledged = model.acknowledged.max(end.seq.0 as usize);
    model.snapshot_begins(end.seq.0, newest);
    match stores.snapshots.write(&model.snapshot(end), Seq(newest)) {
        Ok(()) => model.snapshot_stands(end.seq.0, newest),
        // The journal holds everything all the same, and a later one is tried.
        Err(StoreError::Io { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    Ok(())
}

fn blob_work(blobs: &BlobStore, model: &mut Model, rng: &mut Rng) -> Result<(), Ended> {
    let mut number = rng.below(BLOBS);
    let mut what = rng.below(8);
    let begun = |number: &u64| blobs.partial_offset(&upload(model, *number)).is_some();
    if let Some(begun) = (0..BLOBS).find(begun).filter(|_| rng.once_in(2)) {
        // What another process began is gone on with, as senders do.
        (number, what) = (begun, UPLOAD);
    }
    let (bytes, name) = (model.blob(number), upload(model, number));
    let digest = name.blob;
    match what {
        0 | 1 => {
            blobs.put(&bytes)?;
            model.blobs.insert(digest, bytes);
        }
        2..=UPLOAD => {
            let from = blobs.partial_offset(&name).unwrap_or(0) as usize;
            let mut part = blobs.resume(name, from as u64)?;
            let to = bytes.len().min(from + rng.range(1, 1_200) as usize);
            part.write(bytes.get(from..to).unwrap_or(&[]))?;
            if to < bytes.len() {
                return Ok(());
            }
            match part.finish() {
                Ok(_) => _ = model.blobs.insert(digest, bytes),
                // What was left of it when the power went; it begins anew.
                Err(StoreError::Mismatch { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        5 | 6 => {
            // Whoever is told that it is there relies on it.
            if blobs.len_of(&digest)?.is_some() {
                model.blobs.insert(digest, bytes);
            }
        }
        _ => {
            model.blobs.remove(&digest);
            blobs.remove(&digest)?;
        }
    }
    Ok(())
}
