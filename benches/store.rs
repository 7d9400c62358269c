//! The journal: what an acknowledgement costs. The index: what an ended job costs, and a page of its results.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hearth_store::{DirLock, IndexPoint, IndexStep, Indexes, Journal, JournalConfig};
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

/// Rows as 128 packed tasks make them, eight for a job of a thousand tasks.
fn index_rows(criterion: &mut Criterion) {
    let parent = Path::new(env!("CARGO_BIN_EXE_hearth")).parent().unwrap();
    let folder = tempfile::tempdir_in(parent).unwrap();
    let lock = DirLock::acquire(folder.path()).unwrap();
    let index = Indexes::new(&lock, RealmId::default()).open().unwrap();
    let mut group = criterion.benchmark_group("store");
    let mut next = 0u64;
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("index 1,000 tasks: 8 rows of 900 B in a step", |bencher| {
        bencher.iter(|| {
            let mut step = IndexStep::default();
            for _ in 0..8 {
                next += 1;
                let row = (0..900u64).map(|at| (at * next) as u8).collect();
                step.put(next.to_be_bytes().to_vec(), row);
            }
            index.apply(step, IndexPoint::default()).unwrap();
        });
    });
    group.throughput(Throughput::Elements(128));
    group.bench_function("index read a row of 900 B", |bencher| {
        let mut key = 0;
        bencher.iter(|| {
            key = key % next + 1;
            index.get(&key.to_be_bytes()).unwrap().unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, append_and_commit, index_rows);
criterion_main!(benches);
