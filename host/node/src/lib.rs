//! A node: connects, takes leases, spreads them over runners, reports.
//!
//! This crate holds keys and network connections, and therefore never runs, compiles or loads guest
//! code: no Wasm engine is in its crate graph. Guests run in runner processes, which it starts, feeds
//! over a socketpair and believes nothing but the outcomes of attempts that it gave them.
//!
//! - [`pool`] runs attempts on runners; with [`artefacts`] it is all that a slim embedding needs.
//! - [`run`] is the node itself: one session with a coordinator after another, until shutdown.
//! - [`join`] and [`leave`] make and remove what a machine needs to be a volunteer.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod artefacts;
pub mod pool;

#[cfg(feature = "network")]
mod blobs;
#[cfg(feature = "network")]
mod config;
#[cfg(feature = "network")]
mod control;
#[cfg(feature = "network")]
mod enrol;
#[cfg(feature = "network")]
mod epoch;
#[cfg(feature = "network")]
mod load;
#[cfg(feature = "network")]
mod node;
#[cfg(feature = "network")]
mod spill;

#[cfg(feature = "network")]
pub use config::{Mode, NodeConfig, NodeStatus, OwnerLimits};
#[cfg(feature = "network")]
pub use control::{Control, ControlError, control, is_paused};
#[cfg(feature = "network")]
pub use enrol::{JoinError, Joined, LeaveError, join, leave};
#[cfg(feature = "network")]
pub use node::{NodeError, run};
