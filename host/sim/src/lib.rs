//! Drives the real core through simulated hours of a bad world, from one printed seed.
//!
//! This crate is never part of a product. It has no clock, no network and no threads of its own: time
//! is a number, chance is a seed, so that the same seed is the same run. Every record that core emits
//! goes into the store's own journal, on a disk in memory that fails and loses power; whatever leaves core
//! waits until its record is durable there; an oracle that shares no code with core looks at all of it.
//! The same disk strikes the store alone, at every operation.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod crash;
mod fault;
mod oracle;
mod power;
mod rng;
mod run;
mod world;

pub use crash::{CrashReport, crash_everywhere};
pub use fault::{Fault, Faults};
pub use power::{PowerReport, power};
pub use run::{Kept, Report, SimConfig, kept_seeds, run};

#[cfg(test)]
mod tests;
