//! The coordinator's decisions, pure and deterministic: feed it events and time, obey its steps.
//!
//! This crate has no clock, no randomness, no I/O, no threads, no floating point and no map whose
//! order depends on anything but its keys; it builds for `wasm32-unknown-unknown`, which proves it.
//! It takes no proof types: what an [`Event`] claims was verified before.
//!
//! [`Coordinator`] is the place to start: `handle(now, event)` gives a [`Step`] of records and
//! effects, and all state is a fold of the records.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attempt;
mod check;
mod config;
mod coordinator;
mod event;
mod fold;
mod hash;
mod job;
mod median;
mod node;
mod outbox;
mod queue;
mod shape;
mod snapshot;
mod step;
mod time;
mod trust;

#[cfg(test)]
mod tests;

pub use check::Violation;
pub use config::Config;
pub use coordinator::{Coordinator, ReplayError};
pub use event::{Event, ReportIn, RequestId, ResultIn};
pub use snapshot::RestoreError;
pub use step::{Answer, Effect, Grant, Holder, JobProgress, JobState, RequestRefusal, Step};
