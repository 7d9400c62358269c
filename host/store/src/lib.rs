//! Journal, snapshots and blobs: acknowledged means on the platter.
//!
//! This crate never looks into the bytes that it keeps, never opens a socket, never reads a clock
//! for a decision and never repairs silently: damage that could hide an acknowledged record is a
//! typed error that names the file and the offset.
//!
//! Everything is blocking; a caller on an async runtime uses its blocking threads. All files are
//! reached through [`Disk`], so that tests can put a faulty one underneath.

mod ballast;
mod blobs;
mod disk;
mod error;
mod fields;
mod index;
mod journal;
mod lock;
mod snapshots;

#[cfg(any(test, feature = "faulty"))]
pub mod faulty;

#[cfg(test)]
mod tests;
pub use ballast::Ballast;
pub use blobs::{BlobConfig, BlobFile, BlobReader, BlobStore, BlobWriter, Partial, PartialName};
pub use disk::{Disk, DiskFile, OpenMode, RealDisk};
pub use error::StoreError;
pub use index::{
    INDEX_KEY_BYTES_MAX, INDEX_ROW_BYTES_MAX, Index, IndexError, IndexPoint, IndexStep, Indexes,
};
pub use journal::{
    Archiver, BATCH_BYTES_MAX, Cut, Entry, Journal, JournalConfig, Position, RECORD_BYTES_MAX,
    Reader, Recovery, Replay, Start, Syncer,
};
pub use lock::DirLock;
pub use snapshots::{Snapshot, Snapshots};
