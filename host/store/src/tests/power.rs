//! Power losses, failing syncs and full disks at every single operation.

use hearth_wire::{Digest, Seq};

use super::{config, disk, open, record, records, root};
use crate::faulty::{Fault, FaultyDisk};
use crate::{BlobConfig, BlobStore, PartialName, StoreError};

const COMMITS: u64 = 12;

/// Appends and commits until something fails; the newest acknowledged record, and how many were
/// appended.
fn work(disk: &FaultyDisk) -> (u64, u64, Option<StoreError>) {
    let (mut acknowledged, mut appended);
    let mut journal = match open(disk) {
        Ok((journal, found, _)) => {
            assert_eq!(found, records(0, found.len() as u64));
            appended = found.len() as u64;
            acknowledged = appended;
            journal
        }
        Err(error) => return (0, 0, Some(error)),
    };
    for commit in 0..COMMITS {
        let batch = records(appended, appended + 1 + commit % 4);
        match journal.append(&batch).and_then(|_| {
            appended += batch.len() as u64;
            journal.commit()
        }) {
            Ok(seq) => acknowledged = seq.0,
            Err(error) => return (acknowledged, appended, Some(error)),
        }
    }
    (acknowledged, appended, None)
}

/// Opens after a fault: everything acknowledged is there, in order, and nothing that was never
/// written.
fn check(disk: &FaultyDisk, acknowledged: u64, appended: u64, what: &str) -> u64 {
    let (journal, found, _) = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let count = found.len() as u64;
    assert_eq!(found, records(0, count), "{what}");
    assert!(count >= acknowledged, "{what}: {count} of {acknowledged}");
    assert!(count <= appended, "{what}: {count} of {appended}");
    assert_eq!(journal.durable(), Seq(count));
    count
}

fn operations_of_work() -> u64 {
    let disk = disk(0);
    assert!(work(&disk).2.is_none());
    disk.operations()
}

#[test]
fn power_loss_at_every_operation_keeps_what_was_acknowledged() {
    let mut points = 0;
    for operation in 0..operations_of_work() {
        for seed in 0..40 {
            let before = disk(seed);
            before.set_short_writes(seed.is_multiple_of(3));
            before.fault_at(operation, Fault::PowerLoss);
            let (acknowledged, appended, error) = work(&before);
            let what = format!("operation {operation}, seed {seed}");
            assert!(error.is_some(), "{what}");
            let after = before.after_power_loss(seed ^ 0xabcd);
            let found = check(&after, acknowledged, appended, &what);
            // And the journal goes on from there, through another loss.
            let (more, _, error) = work(&after);
            assert!(error.is_none(), "{what}: {error:?}");
            assert!(more > found, "{what}");
            check(&after.after_power_loss(seed), more, more, &what);
            points += 1;
        }
    }
    assert!(points > 2_000, "{points}");
}

#[test]
fn power_loss_during_recovery_keeps_what_was_acknowledged() {
    for operation in (0..operations_of_work()).step_by(3) {
        for seed in 0..12 {
            let before = disk(seed);
            before.fault_at(operation, Fault::PowerLoss);
            let (acknowledged, appended, _) = work(&before);
            let mut disk = before.after_power_loss(seed);
            for again in 0..4 {
                disk.fault_at(again, Fault::PowerLoss);
                match open(&disk) {
                    Ok((_, found, _)) => assert!(found.len() as u64 >= acknowledged),
                    Err(error) => assert!(matches!(error, StoreError::Io { .. }), "{error}"),
                }
                disk = disk.after_power_loss(seed + again);
            }
            check(
                &disk,
                acknowledged,
                appended,
                &format!("{operation} {seed}"),
            );
        }
    }
}

/// Whatever was torn by the first is repaired before the second can tear something else.
#[test]
fn power_losses_one_soon_after_the_other_keep_what_was_acknowledged() {
    for operation in 0..operations_of_work() {
        for seed in 0..8 {
            let before = disk(seed);
            before.fault_at(operation, Fault::PowerLoss);
            let (acknowledged, appended, _) = work(&before);
            let after = before.after_power_loss(seed);
            let what = format!("operation {operation}, seed {seed}");
            let found = check(&after.copy(), acknowledged, appended, &what);
            for soon in 0..16 {
                let disk = after.copy();
                disk.fault_at(soon, Fault::PowerLoss);
                let (acknowledged, appended, _) = work(&disk);
                let disk = disk.after_power_loss(seed + soon);
                check(&disk, acknowledged, appended.max(found), &what);
            }
        }
    }
}

#[test]
fn power_loss_with_unsynced_batches_behind_each_other() {
    // Batches are written while the one before is still being synced: all of them may be torn.
    for seed in 0..3_000 {
        let before = disk(seed);
        let (mut journal, ..) = open(&before).unwrap();
        journal.append(&records(0, 3)).unwrap();
        journal.commit().unwrap();
        for number in 3..6 {
            journal.append(&[record(number)]).unwrap();
            journal.flush().unwrap();
        }
        let found = check(
            &before.after_power_loss(seed),
            3,
            6,
            &format!("seed {seed}"),
        );
        assert!((3..=6).contains(&found));
    }
}

#[test]
fn what_a_killed_process_wrote_is_durable_once_it_was_read() {
    let mut kept = 0;
    for seed in 0..40 {
        let disk = disk(seed);
        let (mut journal, ..) = open(&disk).unwrap();
        journal.append(&records(0, 9)).unwrap();
        journal.flush().unwrap();
        drop(journal);
        let (_, found, _) = open(&disk).unwrap();
        kept += found.len();
        let what = format!("seed {seed}");
        check(&disk.after_power_loss(seed), found.len() as u64, 9, &what);
    }
    assert_eq!(kept, 40 * 9);
}

#[test]
fn what_follows_a_killed_process_is_durable_whatever_that_one_was_doing() {
    for operation in 0..operations_of_work() {
        for seed in 0..12 {
            let disk = disk(seed);
            disk.fault_at(operation, Fault::Kill);
            let (acknowledged, appended, error) = work(&disk);
            assert!(error.is_some());
            disk.revive();
            let what = format!("operation {operation}, seed {seed}");
            let found = check(&disk, acknowledged, appended, &what);
            let (mut journal, ..) = open(&disk).unwrap();
            journal.append(&[record(found)]).unwrap();
            journal.commit().unwrap();
            check(&disk.after_power_loss(seed), found + 1, found + 1, &what);
        }
    }
}

#[test]
fn a_failed_sync_is_fatal_and_loses_nothing_acknowledged() {
    let mut poisoned = 0;
    for operation in 0..operations_of_work() {
        for seed in 0..4 {
            let before = disk(seed);
            let Ok((mut journal, ..)) = open(&before) else {
                panic!("no fault yet")
            };
            let offset = before.operations();
            before.fault_at(offset + operation, Fault::Error);
            let (mut acknowledged, mut appended) = (0, 0);
            let mut failed = false;
            for commit in 0..COMMITS {
                let batch = records(appended, appended + 1 + commit % 4);
                let done = journal.append(&batch).and_then(|_| {
                    appended += batch.len() as u64;
                    journal.commit()
                });
                match done {
                    Ok(seq) => {
                        assert!(!failed, "acknowledged after a failure");
                        acknowledged = seq.0;
                    }
                    Err(StoreError::Poisoned { .. }) => {
                        assert!(failed);
                        poisoned += 1;
                    }
                    Err(StoreError::Io { .. }) => failed = true,
                    Err(other) => panic!("{other}"),
                }
            }
            let what = format!("operation {operation}, seed {seed}");
            check(
                &before.after_power_loss(seed),
                acknowledged,
                appended,
                &what,
            );
        }
    }
    assert!(poisoned > 100, "{poisoned}");
}

/// After a failed sync the system shows what was written and takes the next sync as done, though it
/// never writes it. The next process must not believe it.
#[test]
fn what_a_failed_sync_left_in_memory_is_durable_once_it_was_read() {
    let (mut failed, mut again) = (0, 0);
    for operation in 0..operations_of_work() {
        for seed in 0..20 {
            let disk = disk(seed);
            disk.set_write_back(seed.is_multiple_of(2));
            disk.fault_at(operation, Fault::Error);
            let (_, _, error) = work(&disk);
            failed += u32::from(error.is_some());
            disk.revive();
            let what = format!("operation {operation}, seed {seed}");
            let (journal, found, _) = open(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
            drop(journal);
            let found = found.len() as u64;
            check(&disk.after_power_loss(seed), found, found, &what);
            // And so is what was acknowledged on top of it.
            let (more, _, error) = work(&disk);
            assert!(error.is_none(), "{what}: {error:?}");
            again += u32::from(more > found);
            check(&disk.after_power_loss(seed), more, more, &what);
        }
    }
    assert!(failed > 500 && again > 500, "{failed} {again}");
}

#[test]
fn a_start_that_fails_after_a_power_loss_harms_no_later_one() {
    for struck in 0..12 {
        for seed in 0..24 {
            let before = disk(seed);
            before.fault_at(struck, Fault::PowerLoss);
            let _ = open(&before);
            let after = before.after_power_loss(seed);
            for failing in 0..16 {
                let disk = after.copy();
                disk.fault_at(failing, Fault::Error);
                let _ = open(&disk);
                disk.no_fault();
                let what = format!("power lost at {struck} ({seed}), disk failed at {failing}");
                check(&disk, 0, 0, &what);
                check(&disk.after_power_loss(seed), 0, 0, &what);
            }
        }
    }
}

#[test]
fn a_full_disk_can_be_tried_again_at_every_byte() {
    let whole = {
        let disk = disk(0);
        work(&disk);
        disk.used()
    };
    let mut refused = 0;
    for capacity in 1_100..whole {
        let disk = disk(capacity as u64);
        let Ok((mut journal, ..)) = open(&disk) else {
            panic!("there is room for the beginning")
        };
        disk.set_capacity(capacity);
        let mut appended = 0;
        for commit in 0..COMMITS {
            let batch = records(appended, appended + 1 + commit % 4);
            let mut tries = 0;
            while let Err(error) = journal.append(&batch) {
                assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
                disk.set_capacity(usize::MAX);
                tries += 1;
                assert!(tries < 2);
                refused += 1;
            }
            appended += batch.len() as u64;
            while let Err(error) = journal.commit() {
                assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
                assert!(journal.durable().0 < appended);
                disk.set_capacity(usize::MAX);
                tries += 1;
                assert!(tries < 2);
                refused += 1;
            }
        }
        assert_eq!(journal.durable(), Seq(appended));
        drop(journal);
        check(
            &disk.after_power_loss(1),
            appended,
            appended,
            "after a full disk",
        );
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn blobs_are_whole_or_absent_after_a_power_loss_at_every_operation() {
    let dir = root().join("blobs");
    let config = BlobConfig {
        reserve_bytes: 0,
        ..BlobConfig::default()
    };
    let open = |disk: &FaultyDisk| {
        BlobStore::open_on(
            std::sync::Arc::new(disk.clone()),
            dir.clone(),
            config.clone(),
        )
    };
    let blob = |number: u64| record(number).repeat(1 + number as usize * 9);
    let work = |disk: &FaultyDisk| {
        let mut stored = Vec::new();
        let Ok(store) = open(disk) else { return stored };
        for number in 0..6 {
            match store.put(&blob(number)) {
                Ok(blob) => stored.push(blob),
                Err(_) => break,
            }
        }
        stored
    };
    let clean = disk(0);
    assert_eq!(work(&clean).len(), 6);
    let first = 250;
    for operation in first..clean.operations() {
        for seed in 0..10 {
            let before = disk(seed);
            before.fault_at(operation, Fault::PowerLoss);
            let stored = work(&before);
            let store = open(&before.after_power_loss(seed)).unwrap();
            for (number, name) in stored.iter().enumerate() {
                let bytes = store.read(&name.digest, u64::MAX).unwrap();
                assert_eq!(
                    bytes,
                    blob(number as u64),
                    "operation {operation}, seed {seed}"
                );
            }
            let mut used = 0;
            for found in store.list().unwrap() {
                store.verify(&found.digest).unwrap();
                used += found.len;
            }
            assert_eq!(store.used_bytes(), used);
        }
    }
}

#[test]
fn an_upload_whose_sync_failed_begins_anew_and_is_durable_in_the_end() {
    let bytes = record(3).repeat(20);
    let name = PartialName {
        owner: Digest::of(b"owner"),
        blob: Digest::of(&bytes),
    };
    let send = |store: &BlobStore| {
        let from = store.partial_offset(&name).unwrap_or(0);
        let mut partial = store.resume(name, from)?;
        partial.write(&bytes[from as usize..])?;
        partial.finish()
    };
    let open = |disk: &FaultyDisk| {
        let disk = std::sync::Arc::new(disk.clone());
        BlobStore::open_on(disk, root().join("blobs"), BlobConfig::default()).unwrap()
    };
    let clean = disk(0);
    let store = open(&clean);
    let first = clean.operations();
    send(&store).unwrap();
    let mut failed = 0;
    for operation in first..clean.operations() {
        let disk = disk(0);
        let store = open(&disk);
        disk.fault_at(operation, Fault::Error);
        failed += usize::from(send(&store).is_err());
        let what = format!("operation {operation}");
        if store.len_of(&name.blob).unwrap().is_none() {
            send(&store).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        let store = open(&disk.after_power_loss(0));
        assert_eq!(store.read(&name.blob, u64::MAX).unwrap(), bytes, "{what}");
    }
    assert!(failed > 2, "{failed} of the operations matter");
}

#[test]
fn what_a_killed_or_failed_process_named_is_durable_once_it_was_told() {
    let bytes = record(5).repeat(9);
    let digest = Digest::of(&bytes);
    let name = PartialName {
        owner: Digest::of(b"owner"),
        blob: digest,
    };
    let open = |disk: &FaultyDisk| {
        let disk = std::sync::Arc::new(disk.clone());
        BlobStore::open_on(disk, root().join("blobs"), BlobConfig::default()).unwrap()
    };
    let send = |store: &BlobStore| {
        let from = store.partial_offset(&name).unwrap_or(0);
        let mut partial = store.resume(name, from)?;
        partial.write(&bytes[from as usize..])?;
        partial.finish()
    };
    let (mut told, mut resumed) = (0, 0);
    for fault in [Fault::Kill, Fault::Error] {
        for operation in 0..6 {
            for seed in 0..20 {
                let disk = disk(seed);
                let store = open(&disk);
                // What the dead do on their way out does not happen.
                let struck = disk.operations() + operation;
                disk.fault_at(struck + 1, Fault::Kill);
                disk.fault_at(struck, fault);
                let _ = send(&store);
                drop(store);
                disk.revive();
                let store = open(&disk);
                let what = format!("{fault:?} {operation} {seed}");
                if store.len_of(&digest).unwrap().is_some() {
                    told += 1;
                } else {
                    resumed += u32::from(store.partial_offset(&name).is_some());
                    send(&store).unwrap_or_else(|error| panic!("{what}: {error}"));
                }
                assert_eq!(store.used_bytes(), bytes.len() as u64, "{what}");
                let store = open(&disk.after_power_loss(seed));
                let found = store.read(&digest, u64::MAX);
                assert_eq!(found.unwrap_or_else(|e| panic!("{what}: {e}")), bytes);
            }
        }
    }
    assert!(told > 20 && resumed > 20, "{told} {resumed}");
}

#[test]
fn segments_of_a_power_loss_are_not_larger_than_asked() {
    let disk = disk(1);
    work(&disk);
    let config = config();
    let (_, _, recovery) = open(&disk).unwrap();
    assert!(recovery.bytes / recovery.segments as u64 <= config.segment_bytes + 1_000);
}
