//! Opening a realm's data: the newest snapshot, and one pass over the journal behind it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_core::{Config, Coordinator, Event};
use hearth_store::{
    Archiver, Ballast, BlobConfig, BlobStore, DirLock, Entry, Indexes, Journal, JournalConfig,
    Snapshots, StoreError,
};
use hearth_wire::{RealmId, Seq, codec};

use super::folded::{Folded, Members};
use super::{lost, snapshots};
use crate::clock::{Clock, unix_millis};
use crate::config::CoordinatorConfig;
use crate::error::CoordinatorError;
use crate::fact::ShellFact;
use crate::inputs::InputSets;
use crate::releases::Releases;
use crate::room::{Room, Roomy};
use crate::tables::Tables;
use crate::views::State;

/// Bytes of all releases: core's limit of releases, a few KiB each.
const RELEASES_BYTES_MAX: u64 = 512 << 20;

/// Everything that is in a data directory.
pub(super) struct Opened {
    pub(super) core: Coordinator,
    pub(super) clock: Clock,
    pub(super) journal: Journal,
    pub(super) archiver: Archiver,
    pub(super) state: State,
    pub(super) tables: Tables,
    pub(super) members: Members,
    pub(super) snapshots: Snapshots,
    pub(super) room: Arc<Room>,
    pub(super) blobs: BlobStore,
    pub(super) inputs: InputSets,
    pub(super) releases: Releases,
}

/// Opens a data directory and begins a new epoch on it, durably. Blocks.
pub(super) fn open(
    config: &CoordinatorConfig,
    data: &Path,
    realm: RealmId,
) -> Result<Opened, CoordinatorError> {
    let lock = DirLock::acquire(data)?;
    let archive = archive_dir(config, data)?;
    // Before anything is made: the ballast makes the journal's folder already.
    lost::look(config, data, &archive, realm)?;
    let ballast = Ballast::open(&lock, config.ballast_bytes)?;
    // Outputs of what runs may have what is in reserve, but not all of what the journal may yet need.
    let for_journal = config.disk_reserve_bytes.min(config.ballast_bytes / 2);
    let store = |name, quota_bytes| {
        let config = BlobConfig {
            quota_bytes,
            reserve_bytes: config.disk_reserve_bytes,
            urgent_reserve_bytes: for_journal,
            ..BlobConfig::default()
        };
        BlobStore::open(&lock, name, config)
    };
    let blobs = store("blobs", config.blob_bytes_max)?;
    let room = Room::new(ballast, blobs.clone(), config.disk_reserve_bytes);
    let inputs = InputSets::new(store("inputs", config.blob_bytes_max)?);
    let releases = Releases::new(store("releases", RELEASES_BYTES_MAX)?);
    let snapshots = Snapshots::open(&lock, realm, config.disk_reserve_bytes)?;
    let (mut folded, start) = snapshots::newest(&snapshots, realm, &core_config(config))?;
    let journal = JournalConfig {
        segment_bytes: config.journal_segment_bytes,
        start,
        archive: Some(archive.clone()),
        trust_end: config.trust_journal_end,
        ..JournalConfig::new(realm)
    };
    let tables = Tables::new(Indexes::new(&lock, realm));
    tables.begin_behind(start.seq);
    let replay = |entry: Entry, bytes: &[u8]| {
        let changes = folded.replay(entry, bytes)?;
        tables.hand_over(changes, entry.seq);
        Ok::<_, CoordinatorError>(())
    };
    let (mut journal, recovery) = Journal::open(&lock, journal, replay)?;
    let Folded {
        mut core,
        mut state,
        members,
    } = folded;
    if let Some(cut) = &recovery.cut {
        tracing::warn!(?cut, "an unfinished write at the journal's end was cut");
    }
    for file in &recovery.damaged {
        tracing::error!(
            file = %file.display(),
            "this file of the journal, or what was behind it, is damaged: a snapshot holds what is needed \
             to go on, but results that were there cannot be read; put it back from a backup"
        );
    }
    for file in &recovery.shorter {
        tracing::warn!(
            file = %file.display(),
            "this file of the journal is not used, because there is a longer one of its name: remove it"
        );
    }
    if let Some(problem) = &recovery.archive_away {
        tracing::error!(archive = %archive.display(), %problem, "the archive cannot be used");
    }
    if recovery.first > Seq(1) {
        tracing::error!(
            first = %recovery.first,
            "the journal before this record is not there: results in it cannot be read, and no start \
             without a snapshot is possible"
        );
    }
    tracing::info!(
        records = recovery.records,
        bytes = recovery.bytes,
        behind = %start.seq,
        "journal read"
    );
    // A deadline is a moment that somebody was told, so time went on while nobody was here.
    let away = state.wall.elapsed(core.now(), unix_millis());
    if let ended @ 1.. = away / 1_000 {
        tracing::info!(seconds = ended, "the journal's newest record is this old");
    }
    let clock = Clock::starting_at(core.now().plus(away));
    begin(&mut core, clock, &mut journal, &mut state, &room)?;
    tables.hand_over(state.take_changes(), state.seq);
    room.look();
    Ok(Opened {
        core,
        clock,
        archiver: journal.archiver(),
        journal,
        state,
        tables,
        members,
        snapshots,
        room,
        blobs,
        inputs,
        releases,
    })
}

/// Where the archive is to be: nowhere among our own files but in its own place.
fn archive_dir(config: &CoordinatorConfig, data: &Path) -> Result<PathBuf, StoreError> {
    let path = config.realm.join(&config.archive);
    if path.starts_with(data) && path != data.join("archive") {
        return Err(StoreError::ArchiveTaken { path });
    }
    Ok(path)
}

/// What the owner chose of what core may be told.
pub(super) fn core_config(config: &CoordinatorConfig) -> Config {
    Config {
        owner_tasks_max: config.open_tasks_per_author,
        closed_jobs_max: config.ended_jobs_max,
        ..Config::default()
    }
}

/// The new epoch, and which wall time it began at.
fn begin(
    core: &mut Coordinator,
    clock: Clock,
    journal: &mut Journal,
    state: &mut State,
    room: &Room,
) -> Result<(), StoreError> {
    // The standard library seeds its hashers from the system's randomness.
    let incarnation = RandomState::new().build_hasher().finish();
    let now = clock.now();
    let anchor = ShellFact::Clock {
        at: now,
        unix_millis: unix_millis(),
    };
    let events = [
        Event::Started { incarnation },
        Event::Shell {
            request: None,
            bytes: anchor.encode(),
        },
    ];
    let mut records = Vec::new();
    let mut effects = Vec::new();
    for event in events {
        let step = core.handle(now, event);
        records.extend(step.records);
        effects.extend(step.effects);
    }
    let encoded: Vec<_> = records.iter().map(codec::encode).collect();
    let mut roomy = Roomy { journal, room };
    let entries = roomy.write(|journal| journal.append(&encoded))?;
    roomy.write(Journal::commit)?;
    for (entry, record) in entries.into_iter().zip(records) {
        state.apply(entry, &Arc::new(record), &mut None);
    }
    // Others at this point could only be for sessions, and there are none.
    let holds = effects.iter().filter(|effect| effect.keeps_blobs());
    holds.for_each(|effect| state.references.apply(effect));
    Ok(())
}
