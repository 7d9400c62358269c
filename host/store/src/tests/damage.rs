//! Files that were changed, cut, swapped or lost behind the store's back: told, never swallowed.

use std::path::PathBuf;

use hearth_wire::Seq;

use super::{disk, open, records, root};
use crate::StoreError;
use crate::disk::Disk;
use crate::faulty::FaultyDisk;

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

/// After a power loss the mark may be behind. What was lost then is at most the newest commit.
fn forget_mark(disk: &FaultyDisk) {
    disk.tamper(&mark(), |bytes| bytes.fill(0));
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
            forget_mark(&disk);
            disk.tamper(&path, |bytes| bytes.truncate(at as usize));
            match open(&disk) {
                Ok((_, found, _)) => {
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
    forget_mark(&whole);
    for (path, len) in segments(&whole) {
        for at in 0..len as usize {
            for bit in 0..8 {
                let disk = whole.copy();
                disk.tamper(&path, |bytes| bytes[at] ^= 1 << bit);
                // A flip in the last batch leaves no sector of zeros, so it is no torn write.
                let error = open(&disk).unwrap_err();
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

#[test]
fn a_damaged_mark_is_no_obstacle() {
    let whole = written();
    for at in 0..1024 {
        for bit in 0..8 {
            let disk = whole.copy();
            disk.tamper(&mark(), |bytes| bytes[at] ^= 1 << bit);
            assert_eq!(open(&disk).unwrap().1.len() as u64, TOTAL);
        }
    }
    for at in 0..1024 {
        let disk = whole.copy();
        disk.tamper(&mark(), |bytes| bytes.truncate(at));
        assert_eq!(open(&disk).unwrap().1.len() as u64, TOTAL);
    }
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
