//! An archive that is away, harmed, full or somebody else's is told by name, gets nothing, and holds up
//! nobody who needs nothing of it.

use super::watched::Hooked;
use super::*;

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
