//! Segments in the archive: read there, never lost on the way, and told of by name when they are away.

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

/// The disk of the archive is not mounted: nothing of it is needed to go on, what is in it is told of when
/// it is asked for, and nothing is put where it is not.
#[test]
fn an_archive_that_is_away_is_told_and_gets_nothing() {
    for when in ["before a start", "while it runs"] {
        let disk = disk(5);
        let (entries, start) = archived(&disk);
        let journal = if when == "before a start" {
            unmount(&disk);
            let (journal, found, recovery) = open_from(&disk, start).unwrap();
            assert_eq!(found, behind(COVERED));
            assert!(recovery.first > Seq(1) && recovery.first <= Seq(COVERED + 1));
            assert!(recovery.archive_away.is_some(), "{recovery:?}");
            let error = journal.reader().read_at(entries[0].position).unwrap_err();
            assert!(matches!(error, StoreError::Away { .. }), "{error}");
            assert!(error.to_string().contains("/disk/archive"), "{error}");
            let error = replayed(&journal, 1).unwrap_err();
            assert!(matches!(error, StoreError::Gap { .. }), "{error}");
            assert!(error.to_string().contains("/disk/archive"), "{error}");
            journal
        } else {
            let (journal, ..) = open_from(&disk, start).unwrap();
            unmount(&disk);
            let error = journal.reader().read_at(entries[0].position).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("opening /disk/archive/"), "{text}");
            journal
        };
        let before = names(&disk, "journal");
        let error = archive_before(&journal, Seq(RECORDS)).unwrap_err();
        assert!(matches!(error, StoreError::ArchiveAway { .. }), "{error}");
        assert_eq!(names(&disk, "journal"), before);
        assert_eq!(disk.list(&archive()).unwrap(), []);
        drop(journal);
        let error = open_with(&disk, with_archive()).unwrap_err();
        assert!(matches!(error, StoreError::ArchiveAway { .. }), "{error}");
    }
}

/// A process was killed in the middle of the first move, and then the disk is not mounted: whatever had
/// come of it, nothing is put where it is not, and what is missing is not taken for damage.
#[test]
fn a_first_move_that_was_cut_short_is_no_new_archive() {
    for (seed, links) in (0..4).flat_map(|seed| [(seed, true), (seed, false)]) {
        for operation in 0..operations_of_a_move(seed, links) {
            let (disk, journal, start) = before_a_move(seed, links);
            disk.fault_at(disk.operations() + operation, Fault::Kill);
            let moved = archive_before(&journal, start.seq);
            assert!(moved.is_err(), "{moved:?}");
            drop(journal);
            disk.revive();
            let beside = disk.list(&root().join("journal")).unwrap();
            if !beside.iter().any(|(name, _)| name == "archive.begun") {
                assert_eq!(names(&disk, "archive"), Vec::<PathBuf>::new());
                continue;
            }
            let moved = names(&disk, "archive").len();
            unmount(&disk);
            let what = format!("{links} {operation} {seed}, {moved} in it");
            let (journal, _, recovery) = open_from(&disk, start).unwrap();
            assert!(recovery.archive_away.is_some(), "{what}: {recovery:?}");
            let error = archive_before(&journal, Seq(RECORDS)).unwrap_err();
            assert!(
                matches!(error, StoreError::ArchiveAway { .. }),
                "{what}: {error}"
            );
            assert_eq!(disk.list(&archive()).unwrap(), []);
            drop(journal);
            match open_with(&disk, with_archive()) {
                Ok((_, found, _)) => assert_eq!(found, records(0, RECORDS)),
                Err(StoreError::ArchiveAway { .. }) => {}
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }
}

/// One of the first is still there, and the rest of what was moved is not.
#[test]
fn a_hole_in_front_of_a_journal_is_no_damage() {
    let disk = disk(13);
    archived(&disk);
    let first = names(&disk, "archive").swap_remove(0);
    copy(&disk, &first, &root().join("journal"));
    let there = disk.copy();
    unmount(&disk);
    let error = open_with(&disk, with_archive()).unwrap_err();
    assert!(matches!(error, StoreError::ArchiveAway { .. }), "{error}");
    // And if one file is missing where the others are.
    let gone = names(&there, "archive").swap_remove(2);
    there.remove(&gone).unwrap();
    let error = open_with(&there, with_archive()).unwrap_err();
    assert!(matches!(error, StoreError::Gap { .. }), "{error}");
}

/// A directory with segments in it of which nobody says whose they are is not made ours.
#[test]
fn files_of_nobody_are_left_alone() {
    for when in ["before a start", "while it runs"] {
        let disk = disk(17);
        let foreign = archive().join("00000000000000000900.journal");
        let appears = |disk: &FaultyDisk| {
            disk.create_dir(&archive()).unwrap();
            put(disk, &foreign, b"of somebody");
        };
        if when == "before a start" {
            appears(&disk);
        }
        let (journal, _, start) = filled(&disk);
        if when == "while it runs" {
            appears(&disk);
        }
        let error = archive_before(&journal, start.seq).unwrap_err();
        assert!(matches!(error, StoreError::ArchiveAway { .. }), "{error}");
        assert!(error.to_string().contains("archive.realm"), "{error}");
        assert_eq!(names(&disk, "archive"), std::slice::from_ref(&foreign));
        drop(journal);
        let (_, found, recovery) = open_with(&disk, with_archive()).unwrap();
        assert_eq!(found, records(0, RECORDS));
        assert!(recovery.archive_away.is_some());
        // What whoever lost an archive is told to do, without an end of the line.
        disk.remove(&foreign).unwrap();
        let line = format!("the archive of realm {}", config().realm.0);
        put(&disk, &archive().join("archive.realm"), line.as_bytes());
        let (journal, ..) = open_with(&disk, with_archive()).unwrap();
        assert!(archive_before(&journal, start.seq).unwrap() > 3);
    }
}

#[test]
fn a_copy_that_is_to_stop_leaves_nothing() {
    let (disk, journal, start) = before_a_move(18, false);
    let mut archiver = journal.archiver();
    assert!(!archiver.archive_next(start.seq, || true).unwrap());
    assert_eq!(names(&disk, "archive"), Vec::<PathBuf>::new());
    assert!(archiver.archive_next(start.seq, || false).unwrap());
    assert_eq!(replayed(&journal, 1).unwrap(), records(0, RECORDS));
}

/// A file is put back while readers hold the one that was there.
#[test]
fn what_is_put_back_is_read() {
    let disk = disk(19);
    let (entries, start) = archived(&disk);
    let (journal, ..) = open_from(&disk, start).unwrap();
    let reader = journal.reader();
    assert_eq!(reader.read_at(entries[0].position).unwrap(), record(0));
    let first = names(&disk, "archive").swap_remove(0);
    let mut whole = Vec::new();
    disk.tamper(&first, |bytes| whole = std::mem::take(bytes));
    let error = reader.read_at(entries[0].position).unwrap_err();
    assert!(matches!(error, StoreError::Away { .. }), "{error}");
    put(&disk, &first, &whole);
    assert_eq!(reader.read_at(entries[0].position).unwrap(), record(0));
}

fn copy(disk: &FaultyDisk, from: &Path, to: &Path) {
    let mut bytes = Vec::new();
    disk.tamper(from, |whole| bytes.clone_from(whole));
    put(disk, &to.join(from.file_name().unwrap()), &bytes);
}

/// A file that somebody puts there by hand.
fn put(disk: &FaultyDisk, path: &Path, bytes: &[u8]) {
    let _ = disk.remove(path);
    disk.open(path, OpenMode::CreateNew).unwrap();
    disk.tamper(path, |file| *file = bytes.to_vec());
}

type Change = Box<dyn Fn(&FaultyDisk) -> JournalConfig>;

/// Whatever keeps the archive from being looked at holds up no start that needs nothing of it.
#[test]
fn a_start_needs_no_archive() {
    let listed = || Err(std::io::Error::from_raw_os_error(116));
    let away: [(&str, Change); 3] = [
        (
            "it is another realm's",
            Box::new(|disk| {
                put(
                    disk,
                    &archive().join("archive.realm"),
                    b"the archive of realm x",
                );
                with_archive()
            }),
        ),
        (
            "the directory that it is in is not there",
            Box::new(|_| JournalConfig {
                archive: Some(root().join("mnt/archive")),
                ..config()
            }),
        ),
        (
            "it is a file",
            Box::new(|disk| {
                let file = root().join("file");
                put(disk, &file, b"");
                JournalConfig {
                    archive: Some(file),
                    ..config()
                }
            }),
        ),
    ];
    for (what, change) in away {
        let disk = disk(14);
        let (_, start) = archived(&disk);
        let config = change(&disk);
        let hooked = Hooked::on(&disk);
        *hooked.list.lock().unwrap() = Box::new(move |path| {
            if path.ends_with("file") {
                listed()
            } else {
                Ok(())
            }
        });
        let from = JournalConfig {
            start,
            ..config.clone()
        };
        let nothing = |_: Entry, _: &[u8]| Ok::<_, Infallible>(());
        let opened = Journal::open_on(Arc::clone(&hooked) as Arc<dyn Disk>, root(), from, nothing);
        let (journal, recovery) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(recovery.archive_away.is_some(), "{what}");
        let error = archive_before(&journal, Seq(RECORDS)).unwrap_err();
        assert!(
            matches!(error, StoreError::ArchiveAway { .. }),
            "{what}: {error}"
        );
        drop(journal);
        let opened = Journal::open_on(hooked as Arc<dyn Disk>, root(), config, nothing);
        let error = opened.unwrap_err();
        assert!(
            matches!(error, StoreError::ArchiveAway { .. }),
            "{what}: {error}"
        );
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
    // Or what was behind it: nobody can tell without reading it.
    assert_eq!(recovery.damaged, &names(&disk, "archive")[..1]);
    let reader = journal.reader();
    let read = entries.iter().map(|entry| reader.read_at(entry.position));
    let away = read.filter(|read| matches!(read, Err(StoreError::Away { .. })));
    assert!(away.count() > 3);
}

/// A header is not what it was, a file is another realm's, or the disk does not read: that holds up no
/// start that needs nothing of it.
#[test]
fn a_harmed_archive_holds_up_only_who_reads_there() {
    let (whole, other) = (disk(7), disk(8));
    let (entries, start) = archived(&whole);
    let foreign = JournalConfig {
        segment_bytes: 700,
        ..JournalConfig::new(RealmId(Digest::of(b"another realm")))
    };
    drop(open_with(&other, foreign).unwrap());
    let mut foreign = Vec::new();
    let path = names(&other, "journal").swap_remove(0);
    other.tamper(&path, |bytes| foreign.clone_from(bytes));
    for harm in ["header", "format", "foreign", "unreadable"] {
        let disk = whole.copy();
        let harmed = names(&disk, "archive").swap_remove(0);
        let hooked = Hooked::on(&disk);
        match harm {
            "header" => disk.tamper(&harmed, |bytes| bytes[..100].fill(0xa5)),
            "format" => disk.tamper(&harmed, |bytes| bytes[9] ^= 1),
            "foreign" => put(&disk, &harmed, &foreign),
            _ => {
                let harmed = harmed.clone();
                *hooked.open.lock().unwrap() = Box::new(move |path| match *path == harmed {
                    true => Err(std::io::Error::from_raw_os_error(5)),
                    false => Ok(()),
                });
            }
        }
        let from = JournalConfig {
            start,
            ..with_archive()
        };
        let nothing = |_: Entry, _: &[u8]| Ok::<_, Infallible>(());
        let on = || Arc::clone(&hooked) as Arc<dyn Disk>;
        let opened = Journal::open_on(on(), root(), from, nothing);
        let (journal, recovery) = opened.unwrap_or_else(|error| panic!("{harm}: {error}"));
        assert_eq!(recovery.damaged, std::slice::from_ref(&harmed), "{harm}");
        let unreadable = recovery.archive_away.is_some();
        assert_eq!(unreadable, harm == "unreadable", "{recovery:?}");
        let last = entries[usize::try_from(COVERED).unwrap() - 1];
        assert_eq!(
            journal.reader().read_at(last.position).unwrap(),
            record(COVERED - 1)
        );
        if harm == "unreadable" {
            let error = journal.reader().read_at(entries[0].position).unwrap_err();
            assert!(
                error.to_string().contains(harmed.to_str().unwrap()),
                "{error}"
            );
        }
        drop(journal);
        let error = Journal::open_on(on(), root(), with_archive(), nothing).unwrap_err();
        assert!(
            error.to_string().contains(harmed.to_str().unwrap()),
            "{harm}: {error}"
        );
    }
}

#[test]
fn a_full_archive_stops_nothing_and_is_gone_on_with_later() {
    let disk = disk(8);
    disk.set_links(false);
    let (journal, _, start) = filled(&disk);
    // Not a whole segment fits.
    disk.set_capacity(disk.used() + 700);
    let error = archive_before(&journal, start.seq).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert_eq!(names(&disk, "archive"), Vec::<PathBuf>::new());
    assert_eq!(disk.list(&archive()).unwrap().len(), 1, "no half copy");
    assert_eq!(replayed(&journal, 1).unwrap(), records(0, RECORDS));
    disk.set_capacity(usize::MAX);
    assert!(archive_before(&journal, start.seq).unwrap() > 3);
    assert_eq!(replayed(&journal, 1).unwrap(), records(0, RECORDS));
}

/// Neither what another realm moved there, nor that realm's own.
#[test]
fn another_realms_archive_is_left_alone() {
    let disk = disk(9);
    archived(&disk);
    let before = disk.list(&archive()).unwrap();
    let home = root().join("other");
    disk.create_dir(&home).unwrap();
    let other = JournalConfig {
        archive: Some(archive()),
        segment_bytes: 1_000,
        ..JournalConfig::new(RealmId(Digest::of(b"another realm")))
    };
    let nothing = |_: Entry, _: &[u8]| Ok::<_, Infallible>(());
    let opened = Journal::open_on(Arc::new(disk.clone()), home, other, nothing);
    let (mut journal, recovery) = opened.unwrap();
    assert!(recovery.archive_away.unwrap().contains("realm"));
    for number in 0..RECORDS {
        journal.append(&[record(number)]).unwrap();
        journal.commit().unwrap();
    }
    let error = archive_before(&journal, Seq(RECORDS)).unwrap_err();
    assert!(matches!(error, StoreError::ArchiveAway { .. }), "{error}");
    assert_eq!(disk.list(&archive()).unwrap(), before);
    assert_eq!(replayed(&journal, 1).unwrap(), records(0, RECORDS));
}

#[test]
fn nothing_in_the_archive_is_written_over() {
    for links in [true, false] {
        let disk = disk(10);
        disk.set_links(links);
        let (_, start) = archived(&disk);
        let (journal, ..) = open_from(&disk, start).unwrap();
        let next = names(&disk, "journal").swap_remove(0);
        let taken = archive().join(next.file_name().unwrap());
        put(&disk, &taken, b"something else");
        let error = archive_before(&journal, Seq(RECORDS)).unwrap_err();
        assert!(
            matches!(&error, StoreError::Twins { theirs, .. } if *theirs == taken),
            "{error}"
        );
        assert_eq!(replayed(&journal, 1).unwrap(), records(0, RECORDS));
        let mut found = Vec::new();
        disk.tamper(&taken, |bytes| found.clone_from(bytes));
        assert_eq!(found, b"something else");
    }
}

#[test]
fn a_journals_own_directory_is_no_archive() {
    let own = |realm: &str| JournalConfig {
        archive: Some(root().join("journal")),
        segment_bytes: 1_000,
        ..JournalConfig::new(RealmId(Digest::of(realm.as_bytes())))
    };
    // From the first start on, and later.
    let disk = disk(12);
    let (mut journal, ..) = open_with(&disk, own("a realm")).unwrap();
    for number in 0..RECORDS {
        journal.append(&[record(number)]).unwrap();
        journal.commit().unwrap();
    }
    let error = archive_before(&journal, Seq(RECORDS)).unwrap_err();
    assert!(matches!(error, StoreError::ArchiveTaken { .. }), "{error}");
    drop(journal);
    let error = open_with(&disk, own("a realm")).unwrap_err();
    assert!(matches!(error, StoreError::ArchiveTaken { .. }), "{error}");
    let home = root().join("other");
    disk.create_dir(&home).unwrap();
    let nothing = |_: Entry, _: &[u8]| Ok::<_, Infallible>(());
    let opened = Journal::open_on(Arc::new(disk.clone()), home, own("another"), nothing);
    let error = opened.unwrap_err();
    assert!(matches!(error, StoreError::ArchiveTaken { .. }), "{error}");
    let (_, found, _) = open_with(&disk, config()).unwrap();
    assert_eq!(found, records(0, RECORDS));
}

/// An older copy of the journal's directory is put back: what is in the archive is not lost with the rest.
#[test]
fn an_old_backup_beside_a_newer_archive_goes_on_from_the_archives_end() {
    for further in [0, 1] {
        let newer = disk(22);
        let (mut journal, ..) = open_with(&newer, with_archive()).unwrap();
        let mut backup = None;
        for number in 0..RECORDS {
            journal.append(&[record(number)]).unwrap();
            journal.commit().unwrap();
            if number == 32 {
                backup = Some(newer.copy());
            }
        }
        let backup = backup.unwrap();
        let current = names(&backup, "journal").len() - 1;
        let segments = names(&newer, "journal");
        let end = segments[current + further + 1]
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap();
        let end = end.parse::<u64>().unwrap() - 1;
        archive_before(&journal, Seq(end)).unwrap();
        backup.create_dir(&archive()).unwrap();
        for (name, _) in newer.list(&archive()).unwrap() {
            let mut bytes = Vec::new();
            newer.tamper(&archive().join(&name), |file| bytes.clone_from(file));
            put(&backup, &archive().join(name), &bytes);
        }
        let (mut journal, found, recovery) = open_with(&backup, with_archive()).unwrap();
        assert_eq!(found, records(0, end), "{further}");
        assert_eq!((recovery.damaged.len(), recovery.shorter.len()), (0, 1));
        for number in end..RECORDS {
            journal.append(&[record(number)]).unwrap();
            journal.commit().unwrap();
        }
        assert!(archive_before(&journal, Seq(RECORDS)).unwrap() > 0);
        drop(journal);
        let (_, found, _) = open_with(&backup, with_archive()).unwrap();
        assert_eq!(found, records(0, RECORDS));
    }
}

/// Somebody puts half a file of the archive into the journal's directory.
#[test]
fn a_shorter_copy_hides_no_whole_one() {
    let disk = disk(25);
    let (_, start) = archived(&disk);
    let third = names(&disk, "archive").swap_remove(2);
    copy(&disk, &third, &root().join("journal"));
    let short = root().join("journal").join(third.file_name().unwrap());
    disk.tamper(&short, |bytes| bytes.truncate(bytes.len() / 2));
    let (journal, _, recovery) = open_from(&disk, start).unwrap();
    assert_eq!((recovery.damaged.len(), recovery.shorter), (0, vec![short]));
    assert_eq!(replayed(&journal, 1).unwrap(), records(0, RECORDS));
    assert!(archive_before(&journal, Seq(RECORDS)).unwrap() > 0);
}

/// The journal's own directory is lost: the archive alone is no journal, unless the owner says so.
#[test]
fn an_archive_without_a_journal_is_told() {
    let disk = disk(11);
    let (journal, ..) = filled(&disk);
    archive_before(&journal, journal.durable()).unwrap();
    drop(journal);
    let dir = root().join("journal");
    for (name, _) in disk.list(&dir).unwrap() {
        disk.remove(&dir.join(name)).unwrap();
    }
    // What has ended is never torn.
    let last = names(&disk, "archive").pop().unwrap();
    let harmed = disk.copy();
    harmed.tamper(&last, |bytes| bytes.truncate(bytes.len() - 1));
    let error = open_with(&disk, with_archive()).unwrap_err();
    assert!(matches!(error, StoreError::Mark { .. }), "{error}");
    let trusting = JournalConfig {
        trust_end: true,
        ..with_archive()
    };
    let error = open_with(&harmed, trusting.clone()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { path, .. } if *path == last),
        "{error}"
    );
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

/// A segment moves at the moment at which a reader opens it: it is read all the same, and nobody goes on
/// holding what has left its disk.
#[test]
fn a_reader_that_opens_a_file_as_it_moves_reads_it_and_lets_go() {
    for opened in [false, true] {
        let disk = disk(15);
        let (journal, entries, start) = filled(&disk);
        drop(journal);
        let hooked = Hooked::on(&disk);
        let from = JournalConfig {
            start,
            ..with_archive()
        };
        let nothing = |_: Entry, _: &[u8]| Ok::<_, Infallible>(());
        let on = Arc::clone(&hooked) as Arc<dyn Disk>;
        let (journal, _) = Journal::open_on(on, root(), from, nothing).unwrap();
        let reader = journal.reader();
        let oldest = names(&disk, "journal").swap_remove(0);
        let archiver = Mutex::new(journal.archiver());
        let paths = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&paths);
        let moves = move |path: &Path| {
            seen.lock().unwrap().push(path.to_owned());
            // Opening it in the move itself is none of a reader.
            if *path == oldest
                && let Ok(mut archiver) = archiver.try_lock()
            {
                archiver.archive_next(start.seq, || false).unwrap();
            }
            Ok(())
        };
        match opened {
            false => *hooked.open.lock().unwrap() = Box::new(moves),
            true => *hooked.opened.lock().unwrap() = Box::new(moves),
        }
        for _again in 0..2 {
            assert_eq!(reader.read_at(entries[0].position).unwrap(), record(0));
        }
        let archived = names(&disk, "archive");
        assert_eq!(archived.len(), 1);
        let paths = paths.lock().unwrap();
        let last = paths.iter().rposition(|path| *path == archived[0]);
        assert!(last.is_some(), "{paths:?}");
        let opens = paths.iter().filter(|path| **path == archived[0]);
        assert_eq!(opens.count(), 1, "kept open from then on: {paths:?}");
    }
}

/// What a reader holds open of a segment is let go of when it moves.
#[test]
fn an_open_file_does_not_keep_the_room_that_it_has_left() {
    let disk = disk(16);
    let (journal, entries, start) = filled(&disk);
    drop(journal);
    let hooked = Hooked::on(&disk);
    let nothing = |_: Entry, _: &[u8]| Ok::<_, Infallible>(());
    let on = Arc::clone(&hooked) as Arc<dyn Disk>;
    let (journal, _) = Journal::open_on(on, root(), with_archive(), nothing).unwrap();
    let reader = journal.reader();
    assert_eq!(reader.read_at(entries[0].position).unwrap(), record(0));
    archive_before(&journal, start.seq).unwrap();
    let paths = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&paths);
    *hooked.open.lock().unwrap() = Box::new(move |path| {
        seen.lock().unwrap().push(path.to_owned());
        Ok(())
    });
    assert_eq!(reader.read_at(entries[0].position).unwrap(), record(0));
    assert_eq!(*paths.lock().unwrap(), &names(&disk, "archive")[..1]);
}

/// A disk that somebody watches.
struct Hooked {
    disk: FaultyDisk,
    open: Mutex<Hook>,
    opened: Mutex<Hook>,
    list: Mutex<Hook>,
}

type Hook = Box<dyn Fn(&Path) -> std::io::Result<()> + Send>;

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl Hooked {
    fn on(disk: &FaultyDisk) -> Arc<Self> {
        let nothing = || Mutex::new(Box::new(|_: &Path| Ok(())) as Hook);
        Arc::new(Self {
            disk: disk.clone(),
            open: nothing(),
            opened: nothing(),
            list: nothing(),
        })
    }

    /// A hook may itself open something; that is not watched.
    fn watch(hook: &Mutex<Hook>, path: &Path) -> std::io::Result<()> {
        hook.try_lock().map_or(Ok(()), |hook| hook(path))
    }
}

impl Disk for Hooked {
    fn create_dir(&self, path: &Path) -> std::io::Result<()> {
        self.disk.create_dir(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> std::io::Result<Arc<dyn DiskFile>> {
        Self::watch(&self.open, path)?;
        let file = self.disk.open(path, mode)?;
        Self::watch(&self.opened, path)?;
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.disk.link(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.disk.remove(path)
    }

    fn list(&self, path: &Path) -> std::io::Result<Vec<(String, Option<u64>)>> {
        Self::watch(&self.list, path)?;
        self.disk.list(path)
    }

    fn sync_dir(&self, path: &Path) -> std::io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> std::io::Result<u64> {
        self.disk.free_bytes(path)
    }
}
