//! The ballast, and a journal that needs it.

use std::path::Path;
use std::sync::Arc;

use hearth_wire::Seq;

use super::{ROOT, disk, open, record, records};
use crate::disk::{Disk, DiskFile, OpenMode, RealDisk};
use crate::faulty::{Fault, FaultyDisk};
use crate::{Ballast, DirLock, StoreError};

const BYTES: u64 = 4_000;

fn ballast(disk: &FaultyDisk) -> Ballast {
    Ballast::open_on(Arc::new(disk.clone()), Path::new(ROOT), BYTES).unwrap()
}

#[test]
fn the_ballast_takes_its_room_and_gives_it_back() {
    let disk = disk(1);
    let one = ballast(&disk);
    assert!(!one.is_held());
    assert!(!one.free().unwrap(), "there is none to give");
    one.make().unwrap();
    assert_eq!(disk.used() as u64, BYTES);
    let one = ballast(&disk);
    assert!(one.is_held(), "it outlives a restart");
    assert!(ballast(&disk.after_power_loss(7)).is_held(), "and more");
    assert!(one.free().unwrap());
    assert_eq!(disk.used(), 0);
    assert!(!ballast(&disk.after_power_loss(3)).is_held());
    disk.set_capacity(BYTES as usize - 1);
    assert!(matches!(
        one.make().unwrap_err(),
        StoreError::NoSpace { .. }
    ));
    assert_eq!((disk.used(), one.is_held()), (0, false), "nothing half");
}

#[test]
fn a_ballast_that_was_never_finished_is_made_anew() {
    let counted = disk(1);
    ballast(&counted).make().unwrap();
    let before = {
        let empty = disk(1);
        ballast(&empty);
        empty.operations()
    };
    for operation in before..counted.operations() {
        let disk = disk(operation);
        let one = ballast(&disk);
        disk.fault_at(operation, Fault::PowerLoss);
        assert!(one.make().is_err());
        for seed in 0..4 {
            let disk = disk.after_power_loss(seed);
            let one = ballast(&disk);
            let used = disk.used() as u64;
            assert_eq!(used, if one.is_held() { BYTES } else { 0 });
            one.make().unwrap();
            assert_eq!(disk.used() as u64, BYTES);
        }
    }
}

/// Writes records one by one until one does not fit, with a disk that is full after `capacity` bytes.
fn fill(disk: &FaultyDisk, capacity: usize) -> (crate::Journal, u64, StoreError) {
    let (mut journal, ..) = open(disk).unwrap();
    disk.set_capacity(capacity);
    let mut number = 0;
    loop {
        let appended = journal.append(&[record(number)]);
        match appended.and_then(|_| journal.commit()) {
            Ok(seq) => number = seq.0,
            Err(error) => return (journal, number, error),
        }
    }
}

/// At every byte at which a write can be cut short: the same batch goes to the same place.
#[test]
fn with_the_ballast_gone_the_same_batch_fits_where_it_did_not() {
    for capacity in 5_100..7_400 {
        let disk = disk(capacity as u64);
        let one = ballast(&disk);
        one.make().unwrap();
        let (mut journal, durable, error) = fill(&disk, capacity);
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
        assert_eq!(journal.durable(), Seq(durable), "nothing false is told");
        assert!(one.free().unwrap());
        // One that could not be appended is appended again, one that could not be written is there.
        if journal.last_seq() == Seq(durable) {
            journal.append(&[record(durable)]).unwrap();
        }
        assert_eq!(journal.commit().unwrap(), Seq(durable + 1));
        drop(journal);
        let (_, read, _) = open(&disk.after_power_loss(1)).unwrap();
        assert_eq!(read, records(0, durable + 1), "at {capacity}");
    }
}

#[test]
fn without_ballast_a_full_disk_ends_it_and_loses_nothing_acknowledged() {
    for capacity in 1_100..2_400 {
        let disk = disk(capacity as u64);
        let (mut journal, durable, error) = fill(&disk, capacity);
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
        let again = journal.commit();
        if let Err(error) = again {
            assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
        }
        drop(journal);
        for seed in 0..3 {
            let disk = disk.after_power_loss(seed);
            let (_, read, _) = open(&disk).unwrap();
            assert!(read.len() as u64 >= durable, "at {capacity}");
            assert_eq!(read, records(0, read.len() as u64));
        }
    }
}

#[test]
fn a_sync_that_fails_is_final_whatever_room_there_is() {
    let disk = disk(5);
    let one = ballast(&disk);
    one.make().unwrap();
    let (mut journal, ..) = open(&disk).unwrap();
    journal.append(&[record(0)]).unwrap();
    journal.flush().unwrap();
    disk.fault_at(disk.operations(), Fault::Error);
    let error = journal.syncer().sync().unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(one.free().unwrap());
    let error = journal.commit().unwrap_err();
    assert!(matches!(error, StoreError::Poisoned { .. }), "{error}");
}

#[test]
fn a_real_file_system_gives_the_room_and_takes_it_back() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(dir.path()).unwrap();
    let one = Ballast::open(&lock, 1 << 20).unwrap();
    one.make().unwrap();
    let path = dir.path().join("journal/ballast");
    let taken = std::fs::metadata(&path).unwrap();
    assert_eq!(taken.len(), 1 << 20);
    assert!(taken.blocks() * 512 >= 1 << 20, "not a hole");
    assert!(
        !Ballast::open(&lock, 0).unwrap().is_held(),
        "none is wanted"
    );
    assert!(!path.exists());
}

#[test]
fn room_is_taken_by_writing_where_there_is_no_other_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let file = RealDisk.open(&path, OpenMode::CreateNew).unwrap();
    #[derive(Debug)]
    struct Plain(Arc<dyn DiskFile>);
    impl DiskFile for Plain {
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
            self.0.read_at(buffer, offset)
        }
        fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<usize> {
            // Short, as a system may.
            self.0.write_at(&bytes[..bytes.len().min(1_000)], offset)
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.0.set_len(len)
        }
        fn sync(&self) -> std::io::Result<()> {
            self.0.sync()
        }
    }
    Plain(file).allocate(100_001).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 100_001);
}
