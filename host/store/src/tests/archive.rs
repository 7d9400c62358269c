//! Segments in the archive: read there, and never lost on the way.

mod away;
mod watched;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hearth_wire::{Digest, RealmId, Seq};

use super::{Records, config, disk, open_with, record, records, root};
use crate::disk::{Disk, DiskFile, OpenMode};
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

/// Moves all that ends at `seq` or before it; gives back how many.
fn archive_before(journal: &Journal, seq: Seq) -> Result<usize, StoreError> {
    let mut archiver = journal.archiver();
    let mut moved = 0;
    while archiver.archive_next(seq, || false)? {
        moved += 1;
    }
    Ok(moved)
}

/// The same, with everything in the archive that can be.
fn archived(disk: &FaultyDisk) -> (Vec<Entry>, Start) {
    let (journal, entries, start) = filled(disk);
    assert!(archive_before(&journal, start.seq).unwrap() > 3);
    (entries, start)
}

/// The archive's disk is not mounted: its place is an empty directory.
fn unmount(disk: &FaultyDisk) {
    for (name, _) in disk.list(&archive()).unwrap() {
        disk.remove(&archive().join(name)).unwrap();
    }
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
        let moved = archive_before(&journal, start.seq).unwrap();
        assert!(moved > 3, "{moved}");
        assert_eq!(names(&disk, "archive").len(), moved);
        assert_eq!(names(&disk, "journal").len(), all - moved);
        let others = disk.list(&archive()).unwrap().len() - moved;
        assert_eq!(others, 1, "nothing else but whose it is");
        assert_eq!(archive_before(&journal, start.seq).unwrap(), 0);

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
    let moved = archive_before(&journal, journal.durable());
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
    archive_before(&journal, start.seq).unwrap();
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
                let moved = archive_before(&journal, start.seq);
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
        let moved = archive_before(&journal, start.seq);
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
    let (reader, mut archiver) = (journal.reader(), journal.archiver());
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
                while archiver.archive_next(durable, || false).unwrap() {
                    moved += 1;
                }
                done.store(durable == Seq(4 * RECORDS), Ordering::Relaxed);
            }
            assert!(moved > 12, "{moved}");
        });
    });
    let (_, found, _) = open_with(&disk, with_archive()).unwrap();
    assert_eq!(found, records(0, 4 * RECORDS));
}
