//! Segments in the archive: read there, never lost on the way, and told of by name when they are away.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hearth_wire::{Digest, RealmId, Seq};

use super::{Records, config, disk, open_with, record, records, root};
use crate::disk::{Disk, OpenMode};
use crate::faulty::{Fault, FaultyDisk};
use crate::{Entry, Journal, JournalConfig, Recovery, Start, StoreError};

/// Records of [`filled`], and how many a snapshot covers.
const RECORDS: u64 = 100;
const COVERED: u64 = 60;

fn archive() -> PathBuf {
    root().join("archive")
}

fn with_archive() -> JournalConfig {
    JournalConfig {
        archive: Some(archive()),
        ..config()
    }
}

/// A journal of which nothing is in the archive yet, and a point at which a snapshot may stand.
fn filled(disk: &FaultyDisk) -> (Journal, Vec<Entry>, Start) {
    let (mut journal, ..) = open_with(disk, with_archive()).unwrap();
    let mut entries = Vec::new();
    let mut start = None;
    for number in 0..RECORDS {
        entries.extend(journal.append(&[record(number)]).unwrap());
        journal.commit().unwrap();
        if number + 1 == COVERED {
            let (seq, hash) = (journal.durable(), journal.hash());
            start = Some(Start { seq, hash });
        }
    }
    (journal, entries, start.unwrap())
}

/// The same, with everything in the archive that can be.
fn archived(disk: &FaultyDisk) -> (Vec<Entry>, Start) {
    let (journal, entries, start) = filled(disk);
    assert!(journal.archiver().archive_before(start.seq).unwrap() > 3);
    (entries, start)
}

fn names(disk: &FaultyDisk, dir: &str) -> Vec<PathBuf> {
    let dir = root().join(dir);
    let names = disk.list(&dir).unwrap();
    let names = names.iter().filter(|(name, _)| name.ends_with(".journal"));
    names.map(|(name, _)| dir.join(name)).collect()
}

type Numbered = Vec<(Seq, Vec<u8>)>;

/// A start behind a snapshot.
fn open_from(disk: &FaultyDisk, start: Start) -> Result<(Journal, Numbered, Recovery), StoreError> {
    let mut found = Vec::new();
    let visit = |entry: Entry, bytes: &[u8]| {
        found.push((entry.seq, bytes.to_vec()));
        Ok::<_, Infallible>(())
    };
    let config = JournalConfig {
        start,
        ..with_archive()
    };
    let (journal, recovery) = Journal::open_on(Arc::new(disk.clone()), root(), config, visit)?;
    Ok((journal, found, recovery))
}

fn replayed(journal: &Journal, from: u64) -> Result<Records, StoreError> {
    let mut found = Vec::new();
    let mut replay = journal.reader().replay(Seq(from));
    while let Some((_, bytes)) = replay.next_entry()? {
        found.push(bytes.to_vec());
    }
    Ok(found)
}

fn behind(covered: u64) -> Numbered {
    (covered..RECORDS)
        .map(|n| (Seq(n + 1), record(n)))
        .collect()
}

#[test]
fn what_is_in_the_archive_is_read_there() {
    for links in [true, false] {
        let disk = disk(1);
        disk.set_links(links);
        let (journal, entries, start) = filled(&disk);
        let all = names(&disk, "journal").len();
        // Open before anything is moved.
        let reader = journal.reader();
        let mut slow = reader.replay(Seq(1));
        assert_eq!(slow.next_entry().unwrap().unwrap().1, record(0));
        let moved = journal.archiver().archive_before(start.seq).unwrap();
        assert!(moved > 3, "{moved}");
        assert_eq!(names(&disk, "archive").len(), moved);
        assert_eq!(names(&disk, "journal").len(), all - moved);
        assert_eq!(disk.list(&archive()).unwrap().len(), moved, "nothing else");
        assert_eq!(journal.archiver().archive_before(start.seq).unwrap(), 0);

        let (config, bare) = (with_archive(), config());
        for again in [false, true] {
            let journal = match again {
                false => None,
                true => Some(open_with(&disk, config.clone()).unwrap()),
            };
            let reader = match &journal {
                Some((journal, found, recovery)) => {
                    assert_eq!(*found, records(0, RECORDS));
                    assert_eq!((recovery.first, recovery.segments), (Seq(1), all));
                    journal.reader()
                }
                None => reader.clone(),
            };
            for (number, entry) in entries.iter().enumerate() {
                let bytes = reader.read_at(entry.position).unwrap();
                assert_eq!(bytes, record(number as u64));
            }
        }
        for number in 1..RECORDS {
            assert_eq!(slow.next_entry().unwrap().unwrap().1, record(number));
        }
        assert_eq!(replayed(&journal, 1).unwrap(), records(0, RECORDS));
        drop(journal);
        let (journal, found, recovery) = open_from(&disk, start).unwrap();
        assert_eq!(found, behind(COVERED));
        assert_eq!(recovery.damaged, Vec::<PathBuf>::new());
        assert_eq!(replayed(&journal, 1).unwrap(), records(0, RECORDS));
        drop(journal);
        // Whoever is not told where it is misses it.
        let error = open_with(&disk, bare).unwrap_err();
        assert!(matches!(error, StoreError::Gap { .. }), "{error}");
    }
}

#[test]
fn the_newest_segment_stays() {
    let disk = disk(2);
    let (mut journal, ..) = filled(&disk);
    let all = names(&disk, "journal").len();
    let moved = journal.archiver().archive_before(journal.durable());
    assert_eq!(moved.unwrap(), all - 1);
    journal.append(&[record(RECORDS)]).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let (_, found, _) = open_with(&disk, with_archive()).unwrap();
    assert_eq!(found, records(0, RECORDS + 1));
}

/// A disk on which archiving is about to begin, and what it would be.
fn before_a_move(seed: u64, links: bool) -> (FaultyDisk, Journal, Start) {
    let disk = disk(seed);
    disk.set_links(links);
    disk.set_short_writes(seed.is_multiple_of(3));
    let (journal, _, start) = filled(&disk);
    (disk, journal, start)
}

fn operations_of_a_move(seed: u64, links: bool) -> u64 {
    let (disk, journal, start) = before_a_move(seed, links);
    let before = disk.operations();
    journal.archiver().archive_before(start.seq).unwrap();
    disk.operations() - before
}

/// Whatever stops the move, everything is in one place or in both, and the next one ends it.
#[test]
fn a_move_that_is_stopped_at_any_operation_loses_nothing() {
    let mut stopped = 0;
    for (seed, links) in (0..20).flat_map(|seed| [(seed, true), (seed, false)]) {
        for operation in 0..operations_of_a_move(seed, links) {
            for fault in [Fault::PowerLoss, Fault::Kill, Fault::Error] {
                let (disk, journal, start) = before_a_move(seed, links);
                disk.fault_at(disk.operations() + operation, fault);
                let moved = journal.archiver().archive_before(start.seq);
                drop(journal);
                stopped += u64::from(moved.is_err());
                let what = format!("{links} {fault:?} {operation} {seed}: {moved:?}");
                let disk = match fault {
                    Fault::PowerLoss => disk.after_power_loss(seed),
                    Fault::Kill | Fault::Error => disk,
                };
                disk.revive();
                look_at_both_starts(&disk, start, &what);
            }
        }
    }
    assert!(stopped > 2_000, "{stopped}");
}

/// A start of either kind finds everything, and ends the move.
fn look_at_both_starts(disk: &FaultyDisk, start: Start, what: &str) {
    for whole in [true, false] {
        let disk = disk.copy();
        let (journal, recovery) = if whole {
            let opened = open_with(&disk, with_archive());
            let (journal, found, recovery) =
                opened.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(found, records(0, RECORDS), "{what}");
            (journal, recovery)
        } else {
            let opened = open_from(&disk, start);
            let (journal, found, recovery) =
                opened.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(found, behind(COVERED), "{what}");
            (journal, recovery)
        };
        let told = (recovery.damaged.len(), recovery.first);
        assert_eq!(told, (0, Seq(1)), "{what}");
        let moved = journal.archiver().archive_before(start.seq);
        moved.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(
            replayed(&journal, 1).unwrap(),
            records(0, RECORDS),
            "{what}"
        );
        drop(journal);
        let (_, found, _) = open_with(&disk.after_power_loss(3), with_archive()).unwrap();
        assert_eq!(found, records(0, RECORDS), "{what}");
    }
}

#[test]
fn readers_and_the_writer_go_on_while_segments_move() {
    let disk = disk(4);
    disk.set_links(false);
    let (mut journal, entries, _) = filled(&disk);
    let (reader, archiver) = (journal.reader(), journal.archiver());
    let done = AtomicBool::new(false);
    let (done, reader) = (&done, &reader);
    std::thread::scope(|scope| {
        for _thread in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for (number, entry) in entries.iter().enumerate() {
                        let bytes = reader.read_at(entry.position).unwrap();
                        assert_eq!(bytes, record(number as u64));
                    }
                }
            });
        }
        scope.spawn(move || {
            for number in RECORDS..4 * RECORDS {
                journal.append(&[record(number)]).unwrap();
                journal.commit().unwrap();
            }
        });
        scope.spawn(move || {
            let mut moved = 0;
            while !done.load(Ordering::Relaxed) {
                let durable = reader.durable();
                moved += archiver.archive_before(durable).unwrap();
                done.store(durable == Seq(4 * RECORDS), Ordering::Relaxed);
            }
            assert!(moved > 12, "{moved}");
        });
    });
    let (_, found, _) = open_with(&disk, with_archive()).unwrap();
    assert_eq!(found, records(0, 4 * RECORDS));
}

/// The disk of the archive is not mounted: nothing of it is needed to go on, what is in it is told of when
/// it is asked for, and nothing is put where it is not.
#[test]
fn an_archive_that_is_away_is_told_and_gets_nothing() {
    for when in ["before a start", "while it runs"] {
        let disk = disk(5);
        let (entries, start) = archived(&disk);
        let away = |disk: &FaultyDisk| {
            for path in names(disk, "archive") {
                disk.remove(&path).unwrap();
            }
        };
        let journal = if when == "before a start" {
            away(&disk);
            let (journal, found, recovery) = open_from(&disk, start).unwrap();
            assert_eq!(found, behind(COVERED));
            assert!(recovery.first > Seq(1) && recovery.first <= Seq(COVERED + 1));
            let error = journal.reader().read_at(entries[0].position).unwrap_err();
            assert!(matches!(error, StoreError::Away { .. }), "{error}");
            let error = replayed(&journal, 1).unwrap_err();
            assert!(matches!(error, StoreError::Gap { .. }), "{error}");
            journal
        } else {
            let (journal, ..) = open_from(&disk, start).unwrap();
            away(&disk);
            let error = journal.reader().read_at(entries[0].position).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("opening /disk/archive/"), "{text}");
            journal
        };
        let before = names(&disk, "journal");
        let error = journal.archiver().archive_before(Seq(RECORDS)).unwrap_err();
        assert!(matches!(error, StoreError::ArchiveAway { .. }), "{error}");
        assert_eq!(names(&disk, "journal"), before);
        assert_eq!(names(&disk, "archive"), Vec::<PathBuf>::new());
        drop(journal);
        let error = open_with(&disk, with_archive()).unwrap_err();
        assert!(matches!(error, StoreError::Gap { .. }), "{error}");
    }
}

#[test]
fn a_file_missing_in_the_middle_of_the_archive_is_told() {
    let disk = disk(6);
    let (entries, start) = archived(&disk);
    let gone = names(&disk, "archive").swap_remove(1);
    disk.remove(&gone).unwrap();
    let (journal, found, recovery) = open_from(&disk, start).unwrap();
    assert_eq!(found, behind(COVERED));
    assert_eq!(recovery.damaged, &names(&disk, "archive")[..1]);
    let reader = journal.reader();
    let read = entries.iter().map(|entry| reader.read_at(entry.position));
    let away = read.filter(|read| matches!(read, Err(StoreError::Away { .. })));
    assert!(away.count() > 3);
}

/// Its disk fails: that holds up no start that needs nothing of it.
#[test]
fn a_harmed_archive_holds_up_only_who_reads_there() {
    let disk = disk(7);
    let (entries, start) = archived(&disk);
    let harmed = names(&disk, "archive").swap_remove(0);
    // Its header, and the first record's last byte.
    let first = entries[0].position.0 as usize + 8 + record(0).len();
    disk.tamper(&harmed, |bytes| {
        bytes[..100].fill(0xa5);
        bytes[first - 1] ^= 1;
    });
    let (journal, found, recovery) = open_from(&disk, start).unwrap();
    assert_eq!(found, behind(COVERED));
    assert_eq!(recovery.damaged, std::slice::from_ref(&harmed));
    let error = journal.reader().read_at(entries[0].position).unwrap_err();
    assert!(
        error.to_string().contains(harmed.to_str().unwrap()),
        "{error}"
    );
    drop(journal);
    let error = open_with(&disk, with_archive()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { path, .. } if *path == harmed),
        "{error}"
    );
}

#[test]
fn a_full_archive_stops_nothing_and_is_gone_on_with_later() {
    let disk = disk(8);
    disk.set_links(false);
    let (journal, _, start) = filled(&disk);
    // One more segment fits, and a half.
    disk.set_capacity(disk.used() + 700);
    let archiver = journal.archiver();
    let error = archiver.archive_before(start.seq).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert_eq!(disk.list(&archive()).unwrap(), [], "no half copy");
    assert_eq!(replayed(&journal, 1).unwrap(), records(0, RECORDS));
    disk.set_capacity(usize::MAX);
    assert!(archiver.archive_before(start.seq).unwrap() > 3);
    assert_eq!(replayed(&journal, 1).unwrap(), records(0, RECORDS));
}

#[test]
fn another_realms_archive_is_refused() {
    let disk = disk(9);
    archived(&disk);
    let other = JournalConfig {
        archive: Some(archive()),
        ..JournalConfig::new(RealmId(Digest::of(b"another realm")))
    };
    let home = root().join("other");
    disk.create_dir(&home).unwrap();
    let nothing = |_: Entry, _: &[u8]| Ok::<_, Infallible>(());
    let opened = Journal::open_on(Arc::new(disk.clone()), home, other.clone(), nothing);
    let error = opened.unwrap_err();
    // There is something, and no mark for it.
    assert!(matches!(error, StoreError::Mark { .. }), "{error}");
    let home = root().join("other");
    let trusting = JournalConfig {
        trust_end: true,
        ..other
    };
    let opened = Journal::open_on(Arc::new(disk.clone()), home, trusting, nothing);
    let error = opened.unwrap_err();
    assert!(matches!(error, StoreError::WrongRealm { .. }), "{error}");
}

#[test]
fn nothing_in_the_archive_is_written_over() {
    let disk = disk(10);
    let (journal, _, start) = filled(&disk);
    let taken = archive().join(names(&disk, "journal")[0].file_name().unwrap());
    disk.open(&taken, OpenMode::CreateNew).unwrap();
    disk.tamper(&taken, |bytes| bytes.extend_from_slice(b"something else"));
    let error = journal.archiver().archive_before(start.seq).unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { path, .. } if *path == taken),
        "{error}"
    );
    assert_eq!(replayed(&journal, 1).unwrap(), records(0, RECORDS));
}

#[test]
fn a_journals_own_directory_is_no_archive() {
    let disk = disk(12);
    drop(open_with(&disk, config()).unwrap());
    let own = JournalConfig {
        archive: Some(root().join("journal")),
        ..config()
    };
    let error = open_with(&disk, own).unwrap_err();
    assert!(matches!(error, StoreError::ArchiveTaken { .. }), "{error}");
    // Another realm's, by a path that is not there yet.
    let home = root().join("other");
    disk.create_dir(&home).unwrap();
    let other = JournalConfig {
        archive: Some(root().join("journal")),
        ..JournalConfig::new(RealmId(Digest::of(b"another realm")))
    };
    let nothing = |_: Entry, _: &[u8]| Ok::<_, Infallible>(());
    let opened = Journal::open_on(Arc::new(disk.clone()), home, other, nothing);
    assert!(opened.is_err());
    let (_, found, _) = open_with(&disk, config()).unwrap();
    assert_eq!(found, Records::new());
}

/// The journal's own directory is lost: the archive alone is no journal, unless the owner says so.
#[test]
fn an_archive_without_a_journal_is_told() {
    let disk = disk(11);
    let (journal, ..) = filled(&disk);
    journal
        .archiver()
        .archive_before(journal.durable())
        .unwrap();
    drop(journal);
    let dir = root().join("journal");
    for (name, _) in disk.list(&dir).unwrap() {
        disk.remove(&dir.join(name)).unwrap();
    }
    let error = open_with(&disk, with_archive()).unwrap_err();
    assert!(matches!(error, StoreError::Mark { .. }), "{error}");
    let trusting = JournalConfig {
        trust_end: true,
        ..with_archive()
    };
    let (mut journal, found, _) = open_with(&disk, trusting).unwrap();
    let kept = found.len() as u64;
    assert!(kept > COVERED && kept < RECORDS, "{kept}");
    assert_eq!(found, records(0, kept));
    // It goes on in a file of its own.
    journal.append(&[record(kept)]).unwrap();
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(names(&disk, "journal").len(), 1);
    let (_, found, _) = open_with(&disk, with_archive()).unwrap();
    assert_eq!(found, records(0, kept + 1));
}
