//! What goes over wires and into files: ids, limits, messages, records, codecs.
//!
//! This crate never does I/O, never reads a clock and never holds a key. It builds for
//! `wasm32-unknown-unknown`, which proves it. Everything in it is plain data: the meaning of a
//! message lives in the crate that handles it, the number that bounds it lives in [`limits`].
//!
//! Encodings are postcard behind a version byte. They are not canonical, so signatures and digests
//! are always taken over *received bytes* ([`codec`], [`envelope`]).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod blob;
mod checkpoint;
mod digest;
mod id;
mod input_set;
mod job;
mod offline;
mod outcome;
mod policy;
mod release;

pub mod api;
pub mod codec;
pub mod envelope;
pub mod limits;
pub mod merkle;
pub mod message;
pub mod record;
pub mod runner;
pub mod sparse;
pub mod text;

pub use blob::{Blob, Body};
pub use checkpoint::{Checkpoint, CheckpointLink};
pub use digest::{Digest, Hasher, ParseDigestError};
pub use id::{
    AttemptId, Epoch, JobId, KeyId, Millis, NodeId, ParseIdError, RealmId, ReleaseId, Seq,
    SessionId, TaskId, TaskIndex, UnixSeconds,
};
pub use input_set::{
    InputIndex, InputSet, InputSetError, InputSetWriter, content_id, input_leaf, read_index,
};
pub use job::{JobOptions, JobSpec, Placement, Priority, TrustPolicy};
pub use offline::{OfflineResult, OfflineResults};
pub use outcome::{Inconclusive, Outcome, Output, Overrun, Resource, TaskError, TrapKind};
pub use policy::{
    AuthorEntry, Invitation, InvitationNonce, NodePublicKey, ParsePublicKeyError, Policy,
    PolicyBundle, PublicKey, Redemption, Revocations, Role, Signed,
};
pub use release::{
    Class, EngineId, EngineRange, Manifest, ManifestError, Release, Signature, TaskLimits,
    TaskType, World,
};
