//! Blobs on real files.

use std::io::Read;
use std::time::Duration;

use hearth_wire::{Digest, InputSetWriter, read_index};

use crate::{BlobConfig, BlobStore, DirLock, PartialName, StoreError};

struct Fixture {
    dir: tempfile::TempDir,
    lock: DirLock,
    store: BlobStore,
}

fn fixture(config: BlobConfig) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(dir.path()).unwrap();
    let store = BlobStore::open(&lock, "blobs", config).unwrap();
    Fixture { dir, lock, store }
}

fn config() -> BlobConfig {
    BlobConfig {
        reserve_bytes: 0,
        ..BlobConfig::default()
    }
}

fn name(owner: &str, bytes: &[u8]) -> PartialName {
    PartialName {
        owner: Digest::of(owner.as_bytes()),
        blob: Digest::of(bytes),
    }
}

#[test]
fn bytes_come_back_by_their_name_whole_and_in_ranges() {
    let Fixture {
        store,
        lock,
        dir: _dir,
    } = fixture(config());
    let bytes: Vec<u8> = (0..300_000u32).map(|n| (n * 7) as u8).collect();
    let mut writer = store.writer().unwrap();
    for piece in bytes.chunks(1_000) {
        writer.write(piece).unwrap();
    }
    let blob = writer.finish(Some(Digest::of(&bytes))).unwrap();
    assert_eq!(store.put(&bytes).unwrap(), blob);
    assert_eq!(store.used_bytes(), 300_000, "twice the same is once");
    let store = BlobStore::open(&lock, "blobs", config()).unwrap();
    assert_eq!(store.used_bytes(), 300_000);
    assert_eq!(store.read(&blob.digest, 300_000).unwrap(), bytes);
    assert!(matches!(
        store.read(&blob.digest, 299_999).unwrap_err(),
        StoreError::TooLarge { .. }
    ));
    let open = store.open_blob(&blob.digest).unwrap();
    let mut range = [0; 100];
    assert_eq!(open.read_at(&mut range, 299_950).unwrap(), 50);
    assert_eq!(range[..50], bytes[299_950..]);
    let mut rest = Vec::new();
    open.reader(1_000).read_to_end(&mut rest).unwrap();
    assert_eq!(rest, bytes[1_000..]);
    assert!(store.remove(&blob.digest).unwrap());
    assert!(!store.remove(&blob.digest).unwrap());
    assert_eq!(store.len_of(&blob.digest).unwrap(), None);
    assert_eq!(open.read_at(&mut range, 0).unwrap(), 100, "still open");
}

#[test]
fn wrong_bytes_are_refused_and_leave_nothing() {
    let Fixture { store, dir, .. } = fixture(config());
    let mut writer = store.writer().unwrap();
    writer.write(b"not what was promised").unwrap();
    let error = writer.finish(Some(Digest::of(b"promised"))).unwrap_err();
    assert!(matches!(error, StoreError::Mismatch { .. }), "{error}");
    let mut abandoned = store.writer().unwrap();
    abandoned.write(b"half").unwrap();
    drop(abandoned);
    assert_eq!(store.used_bytes(), 0);
    let temp = dir.path().join("blobs/temp");
    assert_eq!(std::fs::read_dir(temp).unwrap().count(), 0);
}

#[test]
fn a_damaged_blob_is_told_and_healed_by_storing_it_again() {
    let Fixture { store, dir, .. } = fixture(config());
    let blob = store.put(b"precious").unwrap();
    let text = blob.digest.to_string();
    let path = dir.path().join("blobs").join(&text[..2]).join(&text);
    std::fs::write(&path, b"precio").unwrap();
    for error in [
        store.read(&blob.digest, 100).unwrap_err(),
        store.verify(&blob.digest).unwrap_err(),
    ] {
        assert!(error.to_string().contains(&text), "{error}");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
    store.put(b"precious").unwrap();
    assert_eq!(store.read(&blob.digest, 100).unwrap(), b"precious");
}

#[test]
fn an_upload_goes_on_after_a_restart() {
    let Fixture {
        store,
        lock,
        dir: _dir,
    } = fixture(config());
    let bytes = b"0123456789".repeat(50_000);
    let upload = name("alice", &bytes);
    let mut partial = store.resume(upload, 0).unwrap();
    partial.write(&bytes[..200_000]).unwrap();
    assert_eq!(store.partial_offset(&upload), Some(200_000), "while open");
    drop(partial);
    assert_eq!(store.partial_offset(&upload), Some(200_000));
    drop(store);
    let store = BlobStore::open(&lock, "blobs", config()).unwrap();
    assert_eq!(store.partial_offset(&upload), Some(200_000));
    assert_eq!(store.used_bytes(), 200_000);
    let error = store.resume(upload, 100).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Offset {
                have: 200_000,
                asked: 100
            }
        ),
        "{error}"
    );
    let mut partial = store.resume(upload, 200_000).unwrap();
    partial.write(&bytes[200_000..]).unwrap();
    let blob = partial.finish().unwrap();
    assert_eq!(store.read(&blob.digest, 1 << 20).unwrap(), bytes);
    assert_eq!(store.partial_offset(&upload), None);
    assert_eq!(store.used_bytes(), 500_000);
}

#[test]
fn one_sender_can_not_spoil_the_upload_of_another() {
    let Fixture {
        store, dir: _dir, ..
    } = fixture(config());
    let (mallory, alice) = (name("mallory", b"good bytes"), name("alice", b"good bytes"));
    let mut bad = store.resume(mallory, 0).unwrap();
    bad.write(b"bad bytes!").unwrap();
    let mut good = store.resume(alice, 0).unwrap();
    good.write(b"good ").unwrap();
    let error = bad.finish().unwrap_err();
    assert!(matches!(error, StoreError::Mismatch { .. }), "{error}");
    assert!(matches!(
        store.resume(alice, 0).unwrap_err(),
        StoreError::Busy
    ));
    good.write(b"bytes").unwrap();
    good.finish().unwrap();
    assert_eq!(store.partial_offset(&mallory), None);
    assert_eq!(store.used_bytes(), 10);
}

#[test]
fn uploads_of_one_name_at_once_all_end_well() {
    let limits = BlobConfig {
        partials_max: 2,
        ..config()
    };
    let Fixture {
        store, dir: _dir, ..
    } = fixture(limits);
    let upload = name("alice", b"good bytes");
    let mut slow = store.begin(upload).unwrap();
    slow.write(b"go").unwrap();
    let mut fast = store.begin(upload).unwrap();
    let mut broken = store.begin(upload).unwrap();
    broken.write(b"good by").unwrap();
    let error = store.begin(upload).unwrap_err();
    assert!(matches!(error, StoreError::TooManyPartials(2)), "{error}");
    drop(broken);
    fast.write(b"good bytes").unwrap();
    let blob = fast.finish().unwrap();
    assert_eq!(store.used_bytes(), 12);
    // The blob is there, and the first one ends as if it had been alone.
    assert_eq!(store.read(&blob.digest, 100).unwrap(), b"good bytes");
    slow.write(b"od bytes").unwrap();
    assert_eq!(slow.finish().unwrap(), blob);
    assert_eq!(store.used_bytes(), 10);
    // Who sent it may know that it is there; others not, and who sends something else not.
    assert!(store.ended_lately(&upload));
    assert!(!store.ended_lately(&name("bob", b"good bytes")));
    assert!(!store.ended_lately(&name("alice", b"other bytes")));
    let mut lies = store.begin(upload).unwrap();
    let mut beside = store.begin(upload).unwrap();
    lies.write(b"something").unwrap();
    beside.write(b"other").unwrap();
    assert!(beside.finish().is_err());
    assert!(lies.finish().is_err());
    assert_eq!(store.read(&blob.digest, 100).unwrap(), b"good bytes");
    assert_eq!(store.used_bytes(), 10);
}

#[test]
fn quota_reserve_and_uploads_have_limits() {
    let tight = BlobConfig {
        quota_bytes: 1_000,
        reserve_bytes: 0,
        urgent_reserve_bytes: 0,
        partials_max: 2,
        partial_ttl: Duration::ZERO,
    };
    let Fixture {
        store,
        lock,
        dir: _dir,
    } = fixture(tight.clone());
    store.put(&[1; 600]).unwrap();
    let error = store.put(&[2; 401]).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Quota {
                used: 600,
                quota: 1_000,
                wanted: 401
            }
        ),
        "{error}"
    );
    store.put(&[3; 400]).unwrap();
    assert_eq!(store.used_bytes(), 1_000);

    let uploads: Vec<_> = (0..2u8)
        .map(|n| drop(store.resume(name("alice", &[n]), 0).unwrap()))
        .collect();
    assert_eq!(uploads.len(), 2);
    let error = store.resume(name("alice", &[9]), 0).unwrap_err();
    assert!(matches!(error, StoreError::TooManyPartials(2)), "{error}");
    assert_eq!(store.expire_partials().unwrap(), 2);
    drop(store.resume(name("alice", &[9]), 0).unwrap());

    let greedy = BlobConfig {
        reserve_bytes: u64::MAX,
        ..tight
    };
    let other = BlobStore::open(&lock, "others", greedy).unwrap();
    let error = other.put(b"x").unwrap_err();
    assert!(matches!(error, StoreError::Reserve { .. }), "{error}");
}

#[test]
fn an_input_set_is_named_by_its_own_check() {
    let Fixture {
        lock, dir: _dir, ..
    } = fixture(config());
    let inputs = BlobStore::open(&lock, "inputs", config()).unwrap();
    let mut file = Vec::new();
    let mut set = InputSetWriter::new(&mut file);
    for number in 0..100u32 {
        set.push(&number.to_le_bytes()).unwrap();
    }
    set.finish("application/octet-stream").unwrap();
    let root = read_index(&mut &file[..]).unwrap().root;
    let upload = PartialName {
        owner: Digest::default(),
        blob: root,
    };
    let check = |reader: &mut dyn Read| {
        read_index(&mut std::io::BufReader::new(reader)).map(|index| index.root)
    };
    let mut partial = inputs.resume(upload, 0).unwrap();
    partial.write(&file[..50]).unwrap();
    let error = partial.finish_with(check).unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    let mut partial = inputs.resume(upload, 0).unwrap();
    partial.write(&file).unwrap();
    let blob = partial.finish_with(check).unwrap();
    assert_eq!((blob.digest, blob.len), (root, file.len() as u64));
    let mut writer = inputs.writer().unwrap();
    writer.write(&file).unwrap();
    assert_eq!(writer.finish_with(check).unwrap().digest, root);
}

#[test]
fn foreign_files_are_no_blobs() {
    let Fixture { store, dir, lock } = fixture(config());
    drop(store);
    std::fs::write(dir.path().join("blobs/00/README"), b"hello").unwrap();
    std::fs::write(dir.path().join("blobs/partial/x-y"), b"hello").unwrap();
    std::fs::write(dir.path().join("blobs/temp/17"), b"left over").unwrap();
    let store = BlobStore::open(&lock, "blobs", config()).unwrap();
    assert_eq!(store.used_bytes(), 0);
    assert!(store.list().unwrap().is_empty());
    assert!(!dir.path().join("blobs/temp/17").exists());
}
