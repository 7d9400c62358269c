//! Random sequences of operations against the simplest model.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_wire::{Digest, Seq};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{disk, open, root};
use crate::{BlobConfig, BlobStore, PartialName, StoreError};

#[derive(Debug, Clone)]
enum JournalStep {
    Append(Vec<Vec<u8>>),
    Flush,
    Commit,
    Reopen,
    Kill(u64),
    Follow,
}

fn journal_step() -> impl Strategy<Value = JournalStep> {
    prop_oneof![
        4 => vec(vec(any::<u8>(), 0..200), 0..6).prop_map(JournalStep::Append),
        1 => Just(JournalStep::Flush),
        3 => Just(JournalStep::Commit),
        1 => Just(JournalStep::Reopen),
        1 => any::<u64>().prop_map(JournalStep::Kill),
        1 => Just(JournalStep::Follow),
    ]
}

#[derive(Debug, Clone)]
enum BlobStep {
    Put(u8),
    Send(u8, usize),
    Finish(u8),
    Remove(u8),
    Reopen,
}

fn blob_step() -> impl Strategy<Value = BlobStep> {
    prop_oneof![
        (0..8u8).prop_map(BlobStep::Put),
        (0..8u8, 1..400usize).prop_map(|(which, len)| BlobStep::Send(which, len)),
        (0..8u8).prop_map(BlobStep::Finish),
        (0..8u8).prop_map(BlobStep::Remove),
        Just(BlobStep::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_journal_is_a_list(seed: u64, steps in vec(journal_step(), 1..40)) {
        let mut disk = disk(seed);
        disk.set_short_writes(seed.is_multiple_of(2));
        let (mut journal, ..) = open(&disk).unwrap();
        let (mut model, mut acknowledged): (Vec<Vec<u8>>, usize) = (Vec::new(), 0);
        for step in steps {
            match step {
                JournalStep::Append(records) => {
                    let entries = journal.append(&records).unwrap();
                    for (number, entry) in entries.iter().enumerate() {
                        prop_assert_eq!(entry.seq, Seq((model.len() + number + 1) as u64));
                    }
                    model.extend(records);
                    prop_assert_eq!(journal.last_seq(), Seq(model.len() as u64));
                    // Making room may have committed what was there before.
                    acknowledged = acknowledged.max(journal.durable().0 as usize);
                }
                JournalStep::Flush => {
                    journal.flush().unwrap();
                }
                JournalStep::Commit => {
                    prop_assert_eq!(journal.commit().unwrap(), Seq(model.len() as u64));
                    acknowledged = model.len();
                }
                JournalStep::Follow => {
                    let mut replay = journal.reader().replay(Seq(1));
                    for expected in &model[..acknowledged] {
                        let (entry, bytes) = replay.next_entry().unwrap().unwrap();
                        prop_assert_eq!(bytes, &expected[..]);
                        let bytes = bytes.to_vec();
                        prop_assert_eq!(journal.reader().read_at(entry.position).unwrap(), bytes);
                    }
                    prop_assert!(replay.next_entry().unwrap().is_none());
                }
                JournalStep::Reopen | JournalStep::Kill(_) => {
                    drop(journal);
                    if let JournalStep::Kill(seed) = step {
                        disk = disk.after_power_loss(seed);
                    }
                    let (opened, found, _) = open(&disk).unwrap();
                    prop_assert!(found.len() >= acknowledged);
                    model.truncate(found.len());
                    prop_assert_eq!(&found, &model);
                    acknowledged = found.len();
                    journal = opened;
                }
            }
        }
    }

    #[test]
    fn a_blob_store_is_a_set(steps in vec(blob_step(), 1..60)) {
        let disk = disk(1);
        let config = BlobConfig { quota_bytes: 3_000, reserve_bytes: 0, ..BlobConfig::default() };
        let dir = root().join("blobs");
        let open = || BlobStore::open_on(Arc::new(disk.clone()), dir.clone(), config.clone());
        let content = |which: u8| vec![which | 1; 100 + usize::from(which) * 100];
        let digest = |which: u8| Digest::of(&content(which));
        let name = |which| PartialName { owner: Digest::default(), blob: digest(which) };
        let mut store = open().unwrap();
        let mut model = BTreeMap::new();
        let mut partials: BTreeMap<u8, usize> = BTreeMap::new();
        for step in steps {
            let used = model.values().sum::<usize>() + partials.values().sum::<usize>();
            match step {
                BlobStep::Put(which) => match store.put(&content(which)) {
                    Ok(blob) => {
                        prop_assert_eq!(blob.digest, digest(which));
                        model.insert(digest(which), content(which).len());
                    }
                    Err(StoreError::Quota { .. }) => {
                        prop_assert!(used + content(which).len() > 3_000);
                    }
                    Err(other) => panic!("{other}"),
                },
                BlobStep::Send(which, len) => {
                    let have = partials.get(&which).copied().unwrap_or(0);
                    let content = content(which);
                    let to = (have + len).min(content.len());
                    let elsewhere = store.resume(name(which), have as u64 + 1);
                    prop_assert!(matches!(elsewhere, Err(StoreError::Offset { .. })), "elsewhere");
                    let mut partial = store.resume(name(which), have as u64).unwrap();
                    let sent = partial.write(&content[have..to]);
                    prop_assert_eq!(sent.is_err(), used + to - have > 3_000);
                    let again = store.resume(name(which), 0);
                    prop_assert!(matches!(again, Err(StoreError::Busy)), "again");
                    let now = partial.len() as usize;
                    partials.insert(which, now);
                }
                BlobStep::Finish(which) => {
                    let Some(have) = partials.remove(&which) else { continue };
                    if have == 0 { continue }
                    let partial = store.resume(name(which), have as u64).unwrap();
                    match partial.finish() {
                        Ok(blob) => {
                            prop_assert_eq!(have, content(which).len());
                            model.insert(blob.digest, have);
                        }
                        Err(StoreError::Mismatch { .. }) => {
                            prop_assert!(have < content(which).len());
                            prop_assert_eq!(store.partial_offset(&name(which)), None);
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
                BlobStep::Remove(which) => {
                    let there = model.remove(&digest(which)).is_some();
                    prop_assert_eq!(store.remove(&digest(which)).unwrap(), there);
                }
                BlobStep::Reopen => store = open().unwrap(),
            }
            let used = model.values().sum::<usize>() + partials.values().sum::<usize>();
            prop_assert_eq!(store.used_bytes(), used as u64);
            let listed: BTreeMap<_, _> = store.list().unwrap().into_iter()
                .map(|blob| (blob.digest, blob.len as usize)).collect();
            prop_assert_eq!(&listed, &model);
        }
    }
}
