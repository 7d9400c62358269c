//! Blobs that are claimed, given up and set aside, on real files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use hearth_wire::Digest;

use crate::{BlobConfig, BlobStore, DirLock, PartialName, StoreError};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn store(config: BlobConfig) -> (tempfile::TempDir, BlobStore) {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(dir.path()).unwrap();
    let store = BlobStore::open(&lock, "blobs", config).unwrap();
    (dir, store)
}

fn config() -> BlobConfig {
    BlobConfig {
        reserve_bytes: 0,
        ..BlobConfig::default()
    }
}

/// Lets a blob look as if it was stored so long ago.
fn age(store: &BlobStore, digest: &Digest, age: Duration) {
    let file = std::fs::File::open(store.path_of(digest)).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn what_nobody_wants_goes_when_it_is_old() {
    let (_dir, store) = store(config());
    let blob = store.put(b"wanted for a while").unwrap().digest;
    assert_eq!(store.give_up(&blob, DAY, || false).unwrap(), None, "new");
    age(&store, &blob, DAY * 2);
    assert_eq!(store.give_up(&blob, DAY, || true).unwrap(), None, "wanted");
    assert_eq!(store.give_up(&blob, DAY * 3, || false).unwrap(), None);
    assert_eq!(store.give_up(&blob, DAY, || false).unwrap(), Some(18));
    assert_eq!(
        (store.used_bytes(), store.len_of(&blob).unwrap()),
        (0, None)
    );
    assert_eq!(store.give_up(&blob, DAY, || false).unwrap(), None, "gone");
    assert_eq!(store.claim(&blob).unwrap(), None);
}

#[test]
fn a_claim_makes_a_blob_new() {
    let (dir, store) = store(config());
    let blob = store.put(b"claimed").unwrap().digest;
    age(&store, &blob, DAY * 2);
    assert_eq!(store.claim(&blob).unwrap(), Some(7));
    assert_eq!(store.give_up(&blob, DAY, || false).unwrap(), None);
    age(&store, &blob, DAY * 2);
    store.put(b"claimed").unwrap();
    assert_eq!(store.give_up(&blob, DAY, || false).unwrap(), None, "stored");
    let name = PartialName {
        owner: Digest::of(b"somebody"),
        blob: Digest::of(b"slow"),
    };
    let mut partial = store.begin(name).unwrap();
    partial.write(b"slow").unwrap();
    let unfinished = format!("blobs/partial/{}-{}", name.owner, name.blob);
    let file = std::fs::File::open(dir.path().join(unfinished)).unwrap();
    file.set_modified(SystemTime::now() - DAY * 2).unwrap();
    partial.finish().unwrap();
    let kept = store.give_up(&name.blob, DAY, || false).unwrap();
    assert_eq!(kept, None, "finished just now");
    // A clock that is set back makes files of the future, which are not old.
    let file = std::fs::File::open(store.path_of(&blob)).unwrap();
    file.set_modified(SystemTime::now() + DAY).unwrap();
    assert_eq!(store.give_up(&blob, DAY, || false).unwrap(), None);
}

/// Whoever is told that a blob is there finds it, whatever goes on beside: it is removed and stored again
/// and again meanwhile.
#[test]
fn whoever_was_told_finds_it() {
    let (_dir, store) = store(config());
    let bytes = b"told and found".as_slice();
    let digest = Digest::of(bytes);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let remover = scope.spawn(|| {
            let mut removed = 0;
            while !stop.load(Ordering::Relaxed) {
                // Only what looks old goes, so that a claim or an upload in between must count.
                removed += u64::from(store.give_up(&digest, DAY, || false).unwrap().is_some());
            }
            removed
        });
        let mut told = 0;
        for round in 0..300 {
            if round % 3 == 0 {
                let name = PartialName {
                    owner: Digest::of(b"somebody"),
                    blob: digest,
                };
                let mut partial = store.begin(name).unwrap();
                partial.write(bytes).unwrap();
                partial.finish().unwrap();
            } else if store.claim(&digest).unwrap().is_none() {
                continue;
            }
            told += 1;
            assert_eq!(store.read(&digest, 100).unwrap(), bytes, "was told");
            if let Ok(file) = std::fs::File::open(store.path_of(&digest)) {
                let _ = file.set_modified(SystemTime::now() - DAY * 2);
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(told >= 100);
        assert!(remover.join().unwrap() > 0, "something was removed");
    });
    let there = store.len_of(&digest).unwrap().unwrap_or(0);
    assert_eq!(store.used_bytes(), there, "counted once");
}

#[test]
fn what_is_set_aside_can_be_stored_again() {
    let (_dir, store) = store(config());
    let blob = store.put(b"precious").unwrap().digest;
    std::fs::write(store.path_of(&blob), b"worthless").unwrap();
    let aside = store.set_aside(&blob).unwrap().unwrap();
    assert!(aside.to_str().unwrap().ends_with(".bad"));
    assert_eq!(std::fs::read(&aside).unwrap(), b"worthless");
    assert_eq!(
        (
            store.len_of(&blob).unwrap(),
            store.set_aside(&blob).unwrap()
        ),
        (None, None)
    );
    assert_eq!(store.list().unwrap(), [], "it is no blob any more");
    store.put(b"precious").unwrap();
    store.verify(&blob).unwrap();
}

#[test]
fn work_that_runs_may_use_the_reserve() {
    let (_dir, store) = store(BlobConfig {
        reserve_bytes: u64::MAX,
        urgent_reserve_bytes: 0,
        ..BlobConfig::default()
    });
    let refused = store.put(b"new work").unwrap_err();
    assert!(matches!(refused, StoreError::Reserve { .. }), "{refused}");
    let name = PartialName {
        owner: Digest::of(b"a node"),
        blob: Digest::of(b"output"),
    };
    let refused = store.begin(name).map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::Reserve { .. }), "{refused}");
    let mut partial = store.urgent().begin(name).unwrap();
    partial.write(b"output").unwrap();
    partial.finish().unwrap();
    assert_eq!(store.read(&name.blob, 6).unwrap(), b"output");
    store.urgent().put(b"checkpoint").unwrap();
    let (_dir, store) = self::store(BlobConfig {
        reserve_bytes: u64::MAX,
        urgent_reserve_bytes: u64::MAX,
        ..BlobConfig::default()
    });
    let refused = store.urgent().put(b"not from the journal").unwrap_err();
    assert!(matches!(refused, StoreError::Reserve { .. }), "{refused}");
}

/// A blob for which there is no room leaves nothing behind, and is stored whole when there is.
#[test]
fn a_full_disk_is_told_at_every_byte_of_a_blob() {
    let bytes = [7; 700];
    let (mut refused, dir) = (0, super::root().join("blobs"));
    for capacity in 0..=bytes.len() {
        let disk = super::disk(capacity as u64);
        let shared = std::sync::Arc::new(disk.clone());
        let store = BlobStore::open_on(shared, dir.clone(), config()).unwrap();
        disk.set_short_writes(capacity % 2 == 0);
        disk.set_capacity(capacity);
        if let Err(error) = store.put(&bytes) {
            refused += 1;
            assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
            assert_eq!((store.used_bytes(), disk.used()), (0, 0));
            disk.set_capacity(usize::MAX);
            store.put(&bytes).unwrap();
        }
        assert_eq!(store.read(&Digest::of(&bytes), 700).unwrap(), bytes);
    }
    assert_eq!(refused, bytes.len());
}
