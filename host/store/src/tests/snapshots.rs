//! Snapshots, and starts of the journal from them.

use std::convert::Infallible;
use std::sync::Arc;

use hearth_wire::{Digest, RealmId, Seq};

use super::{config, disk, open, realm, record, records, root};
use crate::disk::Disk;
use crate::faulty::{Fault, FaultyDisk};
use crate::{Entry, Journal, JournalConfig, Snapshot, Snapshots, Start, StoreError};

fn snapshots(disk: &FaultyDisk) -> Result<Snapshots, StoreError> {
    Snapshots::open_on(Arc::new(disk.clone()), &root(), realm(), 0)
}

fn snapshot(seq: u64) -> Snapshot {
    Snapshot {
        start: Start {
            seq: Seq(seq),
            hash: Digest::of(&seq.to_le_bytes()),
        },
        body: vec![seq as u8; 700 + seq as usize],
    }
}

fn seqs(store: &Snapshots) -> Vec<Seq> {
    let found = store.list().unwrap();
    found.into_iter().map(|(seq, _)| seq).collect()
}

#[test]
fn the_newest_and_the_one_it_was_made_from_are_kept_and_read_back() {
    let disk = disk(1);
    let store = snapshots(&disk).unwrap();
    for (seq, from) in [(10, 0), (200, 10), (3_000, 200)] {
        store.write(&snapshot(seq), Seq(from)).unwrap();
    }
    let store = snapshots(&disk.after_power_loss(1)).unwrap();
    assert_eq!(seqs(&store), [Seq(3_000), Seq(200)]);
    for seq in [200, 3_000] {
        assert_eq!(store.read(Seq(seq)).unwrap(), snapshot(seq));
    }
    // The newest could not be gone on from: the one that could stays in its place.
    let empty = Snapshot {
        body: Vec::new(),
        ..snapshot(3_001)
    };
    store.write(&empty, Seq(200)).unwrap();
    assert_eq!(seqs(&store), [Seq(3_001), Seq(200)]);
    assert_eq!(store.read(Seq(3_001)).unwrap(), empty);
}

#[test]
fn the_disks_reserve_is_left_to_the_journal() {
    let disk = disk(6);
    disk.set_capacity(10_000);
    let on = Arc::new(disk.clone());
    let store = Snapshots::open_on(on, &root(), realm(), 8_000).unwrap();
    store.write(&snapshot(1), Seq(0)).unwrap();
    let large = Snapshot {
        body: vec![7; 2_000],
        ..snapshot(2)
    };
    let error = store.write(&large, Seq(1)).unwrap_err();
    assert!(matches!(error, StoreError::Reserve { .. }), "{error}");
    assert_eq!(seqs(&store), [Seq(1)]);
}

#[test]
fn damage_anywhere_is_told_with_the_files_name() {
    let disk = disk(2);
    let store = snapshots(&disk).unwrap();
    store.write(&snapshot(7), Seq(0)).unwrap();
    let path = store.path(Seq(7));
    let whole = store.read(Seq(7)).unwrap().body.len() + 192;
    for at in 0..whole {
        let copy = disk.copy();
        copy.tamper(&path, |bytes| bytes[at] ^= 0x10);
        let error = snapshots(&copy).unwrap().read(Seq(7)).unwrap_err();
        assert!(
            error.to_string().contains(".snapshot"),
            "byte {at}: {error}"
        );
    }
    for len in [0, 1, 191, 192, whole - 1] {
        let copy = disk.copy();
        copy.tamper(&path, |bytes| bytes.truncate(len));
        let error = snapshots(&copy).unwrap().read(Seq(7)).unwrap_err();
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "{len}: {error}"
        );
    }
    disk.tamper(&path, |bytes| bytes.push(0));
    assert!(store.read(Seq(7)).is_err());
    let other = RealmId(Digest::of(b"another realm"));
    let theirs = Snapshots::open_on(Arc::new(disk.clone()), &root(), other, 0).unwrap();
    theirs.write(&snapshot(9), Seq(7)).unwrap();
    let error = store.read(Seq(9)).unwrap_err();
    assert!(matches!(error, StoreError::WrongRealm { .. }), "{error}");
}

/// Whatever happens while one is written, those before it stay whole, and the next one succeeds.
#[test]
fn a_fault_at_any_operation_costs_at_most_the_new_one() {
    let (mut losses, mut written) = (0, 0);
    for fault in [Fault::PowerLoss, Fault::Kill, Fault::Error] {
        for operation in 0..30 {
            for seed in 0..20 {
                let disk = disk(seed);
                let store = snapshots(&disk).unwrap();
                store.write(&snapshot(1), Seq(0)).unwrap();
                store.write(&snapshot(2), Seq(1)).unwrap();
                disk.set_short_writes(seed.is_multiple_of(2));
                disk.fault_at(disk.operations() + operation, fault);
                let done = store.write(&snapshot(3), Seq(2));
                // One that did not come does not come later.
                disk.revive();
                let disk = match fault {
                    Fault::PowerLoss => disk.after_power_loss(seed),
                    Fault::Error | Fault::Kill => disk,
                };
                let what = format!("{fault:?} {operation} {seed}: {done:?}");
                let store = snapshots(&disk).unwrap();
                let kept = seqs(&store);
                assert!(kept.len() >= 2, "{what}: {kept:?}");
                for seq in &kept {
                    assert_eq!(store.read(*seq).unwrap(), snapshot(seq.0), "{what}");
                }
                assert!(done.is_err() || kept[0] == Seq(3), "{what}");
                losses += u32::from(done.is_err());
                written += u32::from(done.is_ok());
                store.write(&snapshot(4), Seq(2)).unwrap();
                assert_eq!(seqs(&store), [Seq(4), Seq(2)], "{what}");
            }
        }
    }
    assert!(losses > 200 && written > 200, "{losses} {written}");
}

#[test]
fn a_journal_begins_at_every_end_of_a_segment_and_readers_see_what_was_before() {
    let disk = disk(3);
    let (mut journal, ..) = open(&disk).unwrap();
    let mut positions = Vec::new();
    for number in 0..100 {
        let entries = journal.append(&[record(number)]).unwrap();
        positions.push(entries[0].position);
        journal.commit().unwrap();
    }
    let ends = journal.reader().ends();
    assert!(ends.len() > 3, "{ends:?}");
    drop(journal);
    for start in ends {
        let config = JournalConfig { start, ..config() };
        let mut found = Vec::new();
        let visit = |entry: Entry, bytes: &[u8]| {
            found.push((entry.seq, bytes.to_vec()));
            Ok::<_, Infallible>(())
        };
        let on = Arc::new(disk.clone());
        let (journal, recovery) = Journal::open_on(on, root(), config, visit).unwrap();
        let behind = start.seq.0..100;
        let expected: Vec<_> = behind.map(|n| (Seq(n + 1), record(n))).collect();
        assert_eq!(found, expected);
        // Not more than that was read.
        assert_eq!(recovery.records as usize, expected.len());
        let reader = journal.reader();
        for (number, position) in (0..).zip(&positions) {
            assert_eq!(reader.read_at(*position).unwrap(), record(number));
        }
        let mut replay = reader.replay(Seq(1));
        assert_eq!(replay.next_entry().unwrap().unwrap().1, records(0, 1)[0]);
    }
}

#[test]
fn a_damaged_header_behind_the_start_is_told_and_costs_only_what_is_in_that_segment() {
    let whole = disk(5);
    let (mut journal, ..) = open(&whole).unwrap();
    let mut positions = Vec::new();
    for number in 0..100 {
        positions.push(journal.append(&[record(number)]).unwrap()[0].position);
        journal.commit().unwrap();
    }
    let ends = journal.reader().ends();
    let start = *ends.last().unwrap();
    drop(journal);
    let begin = |disk: &FaultyDisk, start| {
        let config = JournalConfig { start, ..config() };
        let visit = |_: Entry, _: &[u8]| Ok::<_, Infallible>(());
        Journal::open_on(Arc::new(disk.clone()), root(), config, visit)
    };
    let genesis = config().start;
    // Each one behind the start: the segments that end at it and before.
    let firsts = [0].into_iter().chain(ends.iter().map(|end| end.seq.0));
    for first in firsts.take(ends.len()) {
        let path = root().join(format!("journal/{:020}.journal", first + 1));
        for at in [0, 20, 100, 140, 159] {
            let disk = whole.copy();
            disk.tamper(&path, |bytes| bytes[at] ^= 4);
            let (journal, recovery) = begin(&disk, start).unwrap();
            assert_eq!(recovery.damaged, [path.as_path()]);
            let reader = journal.reader();
            for (number, position) in (0..).zip(&positions) {
                assert_eq!(reader.read_at(*position).unwrap(), record(number));
            }
            let mut replay = reader.replay(Seq(1));
            let error = loop {
                match replay.next_entry() {
                    Ok(entry) => assert!(entry.is_some(), "it reads over the damage"),
                    Err(error) => break error,
                }
            };
            let named = error.to_string().contains(path.to_str().unwrap());
            assert!(named, "byte {at} of {}: {error}", path.display());
            // No snapshot may stand on what it cannot tell of.
            assert!(reader.ends().iter().all(|end| ends.contains(end)));
            drop(journal);
            // Whoever needs it is refused.
            let error = begin(&disk, genesis).unwrap_err();
            assert!(
                error.to_string().contains(path.to_str().unwrap()),
                "{error}"
            );
        }
    }
    let (_, recovery) = begin(&whole, start).unwrap();
    assert!(recovery.damaged.is_empty());
    // So is one that ends early, and a gap behind one.
    let path = |first: u64| root().join(format!("journal/{first:020}.journal"));
    let (second, third) = (path(ends[0].seq.0 + 1), path(ends[1].seq.0 + 1));
    let disk = whole.copy();
    disk.tamper(&second, |bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(begin(&disk, start).unwrap().1.damaged, [second.as_path()]);
    let disk = whole.copy();
    disk.remove(&third).unwrap();
    assert_eq!(begin(&disk, start).unwrap().1.damaged, [second.as_path()]);
}

/// A snapshot whose journal lost its end, or that is another history's.
#[test]
fn a_start_that_the_journal_does_not_hold_is_refused() {
    let disk = disk(4);
    let (mut journal, ..) = open(&disk).unwrap();
    for number in 0..60 {
        journal.append(&[record(number)]).unwrap();
        journal.commit().unwrap();
    }
    let ends = journal.reader().ends();
    drop(journal);
    let begin = |start| {
        let config = JournalConfig { start, ..config() };
        let visit = |_: Entry, _: &[u8]| Ok::<_, Infallible>(());
        Journal::open_on(Arc::new(disk.clone()), root(), config, visit)
    };
    let mut other = ends[1];
    other.hash = Digest::of(b"of another history");
    let error = begin(other).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let mut ahead = ends[1];
    ahead.seq = Seq(61);
    let error = begin(ahead).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    assert!(begin(ends[1]).is_ok());
}
