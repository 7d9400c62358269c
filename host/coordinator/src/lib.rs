//! The shell around core: accept, drive, follow, serve.
//!
//! This crate never decides what happens to a task (core does), never links a Wasm engine or a GPU,
//! and never shows a client anything that is not durable.
//!
//! [`run`] is the place to start. A connection becomes a session or a series of requests (`accept`,
//! `session`, `api`); those turn what they have verified into events for the one `driver`, which owns
//! core and the journal's end; durable records are folded into `views`, which is all that is read; what
//! they need not hold in memory is in the index (`tables`).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accept;
mod api;
mod bucket;
mod clock;
mod config;
mod driver;
mod enrol;
mod error;
mod fact;
mod faults;
mod gently;
mod inputs;
mod local;
mod metrics;
mod nodes;
mod outcome;
mod releases;
mod room;
mod run;
mod scrubs;
mod session;
mod shell;
mod tables;
mod troubles;
mod trust;
mod views;

#[cfg(test)]
mod tests;

pub use config::{CoordinatorConfig, LocalHostConfig, PlainListener};
pub use error::CoordinatorError;
pub use run::{Bound, run};
