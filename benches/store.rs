//! The journal: what an acknowledgement costs.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hearth_store::{DirLock, Journal, JournalConfig};
use hearth_wire::RealmId;

fn append_and_commit(criterion: &mut Criterion) {
    // Beside the build, which is on a disk: a temporary folder may be in memory, where a sync is free.
    let parent = Path::new(env!("CARGO_BIN_EXE_hearth")).parent().unwrap();
    let folder = tempfile::tempdir_in(parent).unwrap();
    let lock = DirLock::acquire(folder.path()).unwrap();
    let visit = |_, _: &[u8]| Ok::<_, std::io::Error>(());
    let (mut journal, _) =
        Journal::open(&lock, JournalConfig::new(RealmId::default()), visit).unwrap();
    let mut group = criterion.benchmark_group("store");
    for (records, bytes) in [(1, 128), (64, 128), (1024, 256)] {
        let batch: Vec<Vec<u8>> = (0..records)
            .map(|number| vec![number as u8; bytes])
            .collect();
        group.throughput(Throughput::Elements(records));
        group.bench_function(
            format!("append {records} records of {bytes} B and fdatasync"),
            |bencher| {
                bencher.iter_batched(
                    || batch.clone(),
                    |batch| {
                        journal.append(&batch).unwrap();
                        journal.commit().unwrap()
                    },
                    BatchSize::SmallInput,
                );
            },
        );
    }
    group.finish();
}

criterion_group!(benches, append_and_commit);
criterion_main!(benches);
