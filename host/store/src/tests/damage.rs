//! Files that were changed, cut, swapped or lost behind the store's back: told, never swallowed.

use std::path::PathBuf;

use hearth_wire::Seq;

use super::{disk, open, records, root};
use crate::JournalConfig;
use crate::StoreError;
use crate::disk::Disk;
use crate::faulty::{Fault, FaultyDisk};

fn journal_dir() -> PathBuf {
    root().join("journal")
}

fn mark() -> PathBuf {
    journal_dir().join("durable.mark")
}

/// A journal of three commits in each of two or more segments; all of it was acknowledged.
fn written() -> FaultyDisk {
    let disk = disk(1);
    let (mut journal, ..) = open(&disk).unwrap();
    for number in 0..TOTAL / 2 {
        journal
            .append(&records(number * 2, number * 2 + 2))
            .unwrap();
        journal.commit().unwrap();
    }
    disk
}
const TOTAL: u64 = 20;

fn segments(disk: &FaultyDisk) -> Vec<(PathBuf, u64)> {
    let listed = disk.list(&journal_dir()).unwrap();
    let found: Vec<_> = listed
        .into_iter()
        .filter(|(name, _)| name.ends_with(".journal"))
        .map(|(name, len)| (journal_dir().join(name), len.unwrap()))
        .collect();
    assert!(found.len() >= 2, "{found:?}");
    found
}

fn told(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Damaged { .. }
            | StoreError::Missing { .. }
            | StoreError::Gap { .. }
            | StoreError::Format { .. }
    )
}

/// The owner has said to take the journal as it is. What is lost then is at most the newest commit.
fn open_without_mark(disk: &FaultyDisk) -> Result<super::Records, StoreError> {
    disk.remove(&mark()).unwrap();
    let config = JournalConfig {
        trust_end: true,
        ..super::config()
    };
    super::open_with(disk, config).map(|(_, found, _)| found)
}

#[test]
fn truncation_at_every_byte_is_told() {
    let whole = written();
    for (path, len) in segments(&whole) {
        for at in 0..len {
            let disk = whole.copy();
            disk.tamper(&path, |bytes| bytes.truncate(at as usize));
            let error = open(&disk).unwrap_err();
            assert!(told(&error), "{} cut at {at}: {error}", path.display());
            let names_file = error.to_string().contains("/disk/journal");
            assert!(names_file, "{error}");
        }
    }
}

#[test]
fn without_a_mark_truncation_loses_at_most_the_tail() {
    let whole = written();
    let all = segments(&whole);
    let last = all.last().unwrap().0.clone();
    for (path, len) in all {
        for at in 0..len {
            let disk = whole.copy();
            disk.tamper(&path, |bytes| bytes.truncate(at as usize));
            match open_without_mark(&disk) {
                Ok(found) => {
                    assert_eq!(path, last, "cut at {at}");
                    assert_eq!(found, records(0, found.len() as u64));
                    assert_eq!(found.len() % 2, 0, "a commit is kept whole or not at all");
                }
                Err(error) => assert!(told(&error), "{error}"),
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_told() {
    let whole = written();
    for (path, len) in segments(&whole) {
        for at in 0..len as usize {
            for bit in 0..8 {
                let disk = whole.copy();
                disk.tamper(&path, |bytes| bytes[at] ^= 1 << bit);
                let error = open(&disk).unwrap_err();
                assert!(told(&error), "{} at {at}.{bit}: {error}", path.display());
            }
        }
    }
}

#[test]
fn without_a_mark_every_flipped_bit_is_told_too() {
    let whole = written();
    for (path, len) in segments(&whole) {
        for at in 0..len as usize {
            for bit in 0..8 {
                let disk = whole.copy();
                disk.tamper(&path, |bytes| bytes[at] ^= 1 << bit);
                // A flip in the last batch leaves no sector of zeros, so it is no torn write.
                let error = open_without_mark(&disk).unwrap_err();
                assert!(told(&error), "{} at {at}.{bit}: {error}", path.display());
            }
        }
    }
}

#[test]
fn zeroed_parts_are_told() {
    let whole = written();
    for (path, len) in segments(&whole) {
        for at in (0..len as usize).step_by(7) {
            let disk = whole.copy();
            disk.tamper(&path, |bytes| {
                let to = (at + 64).min(bytes.len());
                bytes[at..to].fill(0);
            });
            let error = open(&disk).unwrap_err();
            assert!(told(&error), "{} at {at}: {error}", path.display());
        }
    }
}

/// Bytes of a slot that mean something.
const SLOT_USED: usize = 68;

#[test]
fn a_damaged_mark_is_told_before_anything_is_cut() {
    let whole = written();
    let (last, _) = segments(&whole).last().unwrap().clone();
    let told = |disk: &FaultyDisk, what: &str| {
        // What only the mark can tell: the newest commit is not whole any more.
        disk.tamper(&last, |bytes| bytes.truncate(bytes.len() - 7));
        let before = disk.copy();
        let error = open(disk).unwrap_err();
        let StoreError::Mark { path, .. } = &error else {
            panic!("{what}: {error}")
        };
        assert_eq!(*path, mark());
        let mut cut = Vec::new();
        disk.tamper(&last, |bytes| cut = bytes.clone());
        before.tamper(&last, |bytes| assert_eq!(*bytes, cut, "{what}: it was cut"));
        // The owner's word is taken, once.
        let config = JournalConfig {
            trust_end: true,
            ..super::config()
        };
        let (journal, found, recovery) = super::open_with(disk, config).unwrap();
        assert_eq!(found, records(0, TOTAL - 2));
        assert!(recovery.cut.is_some());
        drop(journal);
        assert_eq!(open(disk).unwrap().1, records(0, TOTAL - 2), "{what}");
    };
    for slot in [0, 512] {
        for at in 0..SLOT_USED {
            let disk = whole.copy();
            disk.tamper(&mark(), |bytes| bytes[slot + at] ^= 1 << (at % 8));
            if (8..16).contains(&at) {
                // A generation is there twice: the mark still says what there was.
                disk.tamper(&last, |bytes| bytes.truncate(bytes.len() - 7));
                let error = open(&disk).unwrap_err();
                assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
                continue;
            }
            told(&disk, &format!("byte {at} of {slot}"));
        }
    }
    for at in [0, 1, 67, 512, 513, 579] {
        let disk = whole.copy();
        disk.tamper(&mark(), |bytes| bytes.truncate(at));
        told(&disk, &format!("cut at {at}"));
    }
    let disk = whole.copy();
    disk.remove(&mark()).unwrap();
    told(&disk, "removed");
}

#[test]
fn an_older_copy_of_the_mark_hides_no_other_history() {
    let disk = disk(5);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.append(&records(0, 2)).unwrap();
    journal.commit().unwrap();
    let mut old = Vec::new();
    disk.tamper(&mark(), |bytes| old = bytes.clone());
    journal.append(&records(2, 4)).unwrap();
    journal.commit().unwrap();
    drop(journal);
    disk.tamper(&mark(), |bytes| *bytes = old);
    assert_eq!(open(&disk).unwrap().1, records(0, 4));
    // It is exact again from that start on.
    let (path, _) = disk.list(&journal_dir()).unwrap()[0].clone();
    disk.tamper(&journal_dir().join(path), |bytes| {
        bytes.truncate(bytes.len() - 7);
    });
    let error = open(&disk).unwrap_err();
    assert!(told(&error), "{error}");
}

#[test]
fn a_first_start_that_was_killed_at_any_moment_is_repeated() {
    let mut operation = 0;
    loop {
        let disk = disk(6);
        disk.fault_at(operation, Fault::PowerLoss);
        let first = open(&disk);
        if first.is_ok() && disk.operations() <= operation {
            break;
        }
        drop(first);
        for seed in 0..16 {
            let after = disk.after_power_loss(seed);
            let again = open(&after);
            let (_, found, _) = again.unwrap_or_else(|error| panic!("{operation}: {error}"));
            assert!(found.is_empty());
        }
        operation += 1;
    }
    assert!(operation > 5, "the mark and the first segment were made");
}

#[test]
fn removed_segments_are_told() {
    let whole = written();
    for (path, _) in segments(&whole) {
        let disk = whole.copy();
        disk.remove(&path).unwrap();
        let error = open(&disk).unwrap_err();
        assert!(told(&error), "{error}");
    }
}

#[test]
fn swapped_segments_and_other_histories_are_told() {
    let whole = written();
    let all = segments(&whole);
    let disk = whole.copy();
    let (first, second) = (&all[0].0, &all[1].0);
    let aside = journal_dir().join("aside");
    disk.rename(first, &aside).unwrap();
    disk.rename(second, first).unwrap();
    disk.rename(&aside, second).unwrap();
    let error = open(&disk).unwrap_err();
    assert!(told(&error), "{error}");

    // The same realm wrote something else, as long: a restored copy that went on by itself.
    let other = super::disk(2);
    let (mut journal, ..) = open(&other).unwrap();
    for number in 0..TOTAL / 2 {
        let mut batch = records(number * 2, number * 2 + 2);
        batch[0][0] ^= 0x20;
        journal.append(&batch).unwrap();
        journal.commit().unwrap();
    }
    drop(journal);
    for (number, (path, _)) in segments(&other).iter().enumerate() {
        let mut bytes = Vec::new();
        other.tamper(path, |theirs| bytes = theirs.clone());
        let disk = whole.copy();
        disk.tamper(&all[number].0, |ours| *ours = bytes);
        let error = open(&disk).unwrap_err();
        assert!(told(&error), "{error}");
    }
}

#[test]
fn a_stale_copy_of_the_journal_is_told() {
    let disk = disk(3);
    let (mut journal, ..) = open(&disk).unwrap();
    journal.append(&records(0, 2)).unwrap();
    journal.commit().unwrap();
    let (path, _) = disk.list(&journal_dir()).unwrap()[0].clone();
    let path = journal_dir().join(path);
    let mut old = Vec::new();
    disk.copy().tamper(&path, |bytes| old = bytes.clone());
    journal.append(&records(2, 4)).unwrap();
    journal.commit().unwrap();
    drop(journal);
    disk.tamper(&path, |bytes| *bytes = old);
    let error = open(&disk).unwrap_err();
    let StoreError::Missing {
        acknowledged,
        found,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((acknowledged, found), (Seq(4), Seq(2)));
}

#[test]
fn a_newer_format_is_told_as_such() {
    let disk = written();
    let (path, _) = segments(&disk)[0].clone();
    disk.tamper(&path, |bytes| bytes[8] = 9);
    let error = open(&disk).unwrap_err();
    assert!(
        matches!(error, StoreError::Format { found: 9, .. }),
        "{error}"
    );
}

#[test]
fn a_record_that_looks_like_a_batch_is_only_a_record() {
    // Whoever may choose a record's bytes copies a real batch into it; the tail is torn behind it.
    let whole = disk(4);
    let (mut journal, ..) = open(&whole).unwrap();
    journal.append(&records(0, 2)).unwrap();
    journal.commit().unwrap();
    let (name, _) = whole.list(&journal_dir()).unwrap()[0].clone();
    let path = journal_dir().join(name);
    let mut forged = Vec::new();
    whole
        .copy()
        .tamper(&path, |bytes| forged = bytes[160..].to_vec());
    journal.append(&[forged]).unwrap();
    journal.flush().unwrap();
    drop(journal);
    whole.tamper(&path, |bytes| {
        let len = bytes.len();
        bytes.truncate(len - 1);
    });
    let (_, found, recovery) = open(&whole).unwrap();
    assert_eq!(found, records(0, 2));
    assert!(recovery.cut.is_some());
}
