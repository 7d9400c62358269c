//! Hearth runs other people's code on other people's machines, believes only what it can check, and
//! keeps working when the network is gone.
//!
//! This library is the product's face for programs: [`LocalHost`] runs components here and now,
//! in a few lines and without set-up. With the feature `full` (the default) it also holds the
//! client of a coordinator and the author's tools, which the `hearth` program is made of.
//!
//! # How it is built
//!
//! Crates stand on floors, and each imports only from lower ones:
//!
//! ```text
//!  4  hearth
//!  3  coordinator   node   runner   sim
//!  2  core   store   sandbox   net
//!  1  identity
//!  0  wire
//! ```
//!
//! `core` decides and is pure; `coordinator` is the shell around it; `node` holds keys and network
//! and never guest code; `runner` holds guest code and never keys or network. The README's Map tells
//! how one task travels.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod local_host;

#[cfg(feature = "full")]
pub mod client;
#[cfg(feature = "full")]
pub mod outbox;
#[cfg(feature = "full")]
pub mod task_tools;

pub use hearth_wire as wire;
pub use local_host::{
    Component, Job, JobBuilder, JobControl, LocalHost, LocalHostBuilder, LocalHostError, LogLine,
    Progress, TaskResult,
};
