//! Tests of the store over a faulty disk, over real files, and over processes that are killed.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod archive;
mod ballast;
mod blobs;
mod damage;
mod index;
mod journal;
mod keep;
mod power;
mod process;
mod properties;
mod snapshots;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_wire::{Digest, RealmId};

use crate::faulty::FaultyDisk;
use crate::{Journal, JournalConfig, Recovery, StoreError};

const ROOT: &str = "/disk";

fn realm() -> RealmId {
    RealmId(Digest::of(b"a realm"))
}

/// Small segments, so that little data makes several.
fn config() -> JournalConfig {
    JournalConfig {
        segment_bytes: 1_000,
        ..JournalConfig::new(realm())
    }
}

fn root() -> PathBuf {
    PathBuf::from(ROOT)
}

fn disk(seed: u64) -> FaultyDisk {
    FaultyDisk::new(Path::new(ROOT), seed)
}

type Records = Vec<Vec<u8>>;

/// Opens the journal on `disk` with all its records.
fn open(disk: &FaultyDisk) -> Result<(Journal, Records, Recovery), StoreError> {
    open_with(disk, config())
}

fn open_with(
    disk: &FaultyDisk,
    config: JournalConfig,
) -> Result<(Journal, Records, Recovery), StoreError> {
    let mut records = Vec::new();
    let (journal, recovery) =
        Journal::open_on(Arc::new(disk.clone()), root(), config, |entry, bytes| {
            assert_eq!(entry.seq.0, records.len() as u64 + 1);
            records.push(bytes.to_vec());
            Ok::<_, Infallible>(())
        })?;
    Ok((journal, records, recovery))
}

/// The `number`th record of a test: of any length, without a zero in it.
fn record(number: u64) -> Vec<u8> {
    let len = (number * 37 % 151) as usize;
    let mut bytes = format!("record {number} ").into_bytes();
    bytes.extend((0..len).map(|at| (at as u64 * 7 + number) as u8 | 1));
    bytes
}

/// Records `from..to`, in a batch.
fn records(from: u64, to: u64) -> Records {
    (from..to).map(record).collect()
}
