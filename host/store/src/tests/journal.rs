//! What a journal does when nothing goes wrong, and what it says to a wrong caller.

use std::sync::Arc;

use hearth_wire::{Digest, RealmId, Seq};

use super::{config, disk, open, open_with, realm, record, records, root};
use crate::{DirLock, Entry, Journal, JournalConfig, Position, RECORD_BYTES_MAX, StoreError};

fn nothing(_: Entry, _: &[u8]) -> Result<(), std::convert::Infallible> {
    Ok(())
}

#[test]
fn records_come_back_in_order_over_segments_and_restarts() {
    let disk = disk(1);
    let mut positions = Vec::new();
    for round in 0..10 {
        let (mut journal, found, recovery) = open(&disk).unwrap();
        assert_eq!(found, records(0, round * 7));
        assert_eq!(recovery.cut, None);
        assert_eq!(journal.last_seq(), Seq(round * 7));
        let entries = journal.append(&records(round * 7, round * 7 + 7)).unwrap();
        assert_eq!(journal.durable(), Seq(round * 7));
        assert_eq!(journal.commit().unwrap(), Seq(round * 7 + 7));
        positions.extend(entries);
        let reader = journal.reader();
        for (number, entry) in positions.iter().enumerate() {
            assert_eq!(entry.seq, Seq(number as u64 + 1));
            assert_eq!(
                reader.read_at(entry.position).unwrap(),
                record(number as u64)
            );
        }
    }
    let (_, found, recovery) = open(&disk).unwrap();
    assert_eq!(found, records(0, 70));
    assert!(recovery.segments > 4, "{recovery:?}");
}

#[test]
fn works_on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(dir.path()).unwrap();
    let mut all = 0;
    for _ in 0..3 {
        let mut found = 0;
        let (mut journal, _) = Journal::open(&lock, config(), |_, bytes| {
            assert_eq!(bytes, record(found));
            found += 1;
            Ok::<_, std::convert::Infallible>(())
        })
        .unwrap();
        assert_eq!(found, all);
        for number in all..all + 40 {
            journal.append(&[record(number)]).unwrap();
            journal.commit().unwrap();
        }
        all += 40;
    }
}

#[test]
fn nothing_is_read_before_it_is_durable() {
    let disk = disk(2);
    let (mut journal, ..) = open(&disk).unwrap();
    let reader = journal.reader();
    let mut replay = reader.replay(Seq(1));
    let entry = journal.append(&[record(0)]).unwrap()[0];
    let hidden = |error| matches!(error, StoreError::Position(_));
    assert!(hidden(reader.read_at(entry.position).unwrap_err()));
    assert!(replay.next_entry().unwrap().is_none());
    journal.flush().unwrap();
    assert!(hidden(reader.read_at(entry.position).unwrap_err()));
    assert!(replay.next_entry().unwrap().is_none());
    assert_eq!(journal.syncer().sync().unwrap(), Seq(1));
    assert_eq!(reader.read_at(entry.position).unwrap(), record(0));
    let (found, bytes) = replay.next_entry().unwrap().unwrap();
    assert_eq!((found, bytes), (entry, &record(0)[..]));
    assert!(replay.next_entry().unwrap().is_none());
}

#[test]
fn only_the_beginning_of_a_record_is_a_position() {
    let disk = disk(3);
    let (mut journal, ..) = open(&disk).unwrap();
    let entries = journal.append(&records(0, 30)).unwrap();
    journal.commit().unwrap();
    let reader = journal.reader();
    let mut right = 0;
    for position in 0..entries[29].position.0 + 300 {
        match reader.read_at(Position(position)) {
            Ok(bytes) => {
                let at = entries.binary_search_by_key(&position, |entry| entry.position.0);
                assert_eq!(bytes, record(at.unwrap() as u64));
                right += 1;
            }
            Err(StoreError::Position(_) | StoreError::Damaged { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(right, 30);
}

#[test]
fn a_follower_sees_each_record_once_while_others_are_appended() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(dir.path()).unwrap();
    let (mut journal, _) = Journal::open(&lock, config(), nothing).unwrap();
    let reader = journal.reader();
    let follower = std::thread::spawn(move || {
        let mut replay = reader.replay(Seq(1));
        let mut next = 0;
        while next < 600 {
            while let Some((entry, bytes)) = replay.next_entry().unwrap() {
                assert_eq!(entry.seq, Seq(next + 1));
                assert_eq!(bytes, record(next));
                assert_eq!(reader.read_at(entry.position).unwrap(), bytes);
                next += 1;
            }
            std::thread::yield_now();
        }
    });
    for number in (0..600).step_by(3) {
        journal.append(&records(number, number + 3)).unwrap();
        journal.commit().unwrap();
    }
    follower.join().unwrap();
    // From the middle of a batch, in the middle of a segment.
    let mut replay = journal.reader().replay(Seq(302));
    let (entry, bytes) = replay.next_entry().unwrap().unwrap();
    assert_eq!((entry.seq, bytes), (Seq(302), &record(301)[..]));
}

#[test]
fn syncs_on_another_thread_keep_order() {
    let disk = disk(4);
    let (mut journal, ..) = open(&disk).unwrap();
    let syncer = journal.syncer();
    let (flushed, waiting) = std::sync::mpsc::sync_channel::<Seq>(8);
    let other = std::thread::spawn(move || {
        for seq in waiting {
            assert!(syncer.sync().unwrap() >= seq);
        }
    });
    for number in 0..200 {
        journal.append(&[record(number)]).unwrap();
        flushed.send(journal.flush().unwrap()).unwrap();
    }
    drop(flushed);
    other.join().unwrap();
    assert_eq!(journal.durable(), Seq(200));
    drop(journal);
    assert_eq!(open(&disk).unwrap().1, records(0, 200));
}

#[test]
fn a_record_that_is_too_large_changes_nothing() {
    let disk = disk(5);
    let (mut journal, ..) = open(&disk).unwrap();
    let large = vec![1; RECORD_BYTES_MAX + 1];
    let error = journal.append(&[record(0), large]).unwrap_err();
    assert!(
        matches!(error, StoreError::RecordTooLarge { .. }),
        "{error}"
    );
    assert_eq!(journal.last_seq(), Seq(0));
    // Several of the largest make several batches.
    let largest = vec![7; RECORD_BYTES_MAX];
    journal
        .append(&[largest.clone(), largest.clone(), largest.clone()])
        .unwrap();
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(open(&disk).unwrap().1, [&largest[..]; 3]);
}

#[test]
fn an_empty_commit_costs_and_changes_nothing() {
    let disk = disk(6);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.append(&records(0, 1)).unwrap();
    journal.commit().unwrap();
    let before = disk.operations();
    journal.append(&records(0, 0)).unwrap();
    assert_eq!(journal.commit().unwrap(), Seq(1));
    assert_eq!(disk.operations(), before);
}

#[test]
fn another_realm_is_told() {
    let disk = disk(8);
    drop(open(&disk).unwrap());
    let other = RealmId(Digest::of(b"another realm"));
    let error = open_with(&disk, JournalConfig::new(other)).unwrap_err();
    let StoreError::WrongRealm {
        expected, found, ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((expected, found), (other, realm()));
}

#[test]
fn a_refused_record_names_itself() {
    let disk = disk(9);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.append(&records(0, 5)).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let visit = |entry: Entry, _: &[u8]| {
        if entry.seq == Seq(3) {
            Err("of an unknown kind")
        } else {
            Ok(())
        }
    };
    let error = Journal::open_on(Arc::new(disk), root(), config(), visit).unwrap_err();
    assert_eq!(
        error.to_string(),
        "record 3 was refused while reading the journal: of an unknown kind"
    );
}
