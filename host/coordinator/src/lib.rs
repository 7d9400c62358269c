//! The shell around core: accept, drive, follow, serve.
//!
//! This crate never decides what happens to a task (core does), never links a Wasm engine or a GPU,
//! and never shows a client anything that is not durable.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;
mod error;

pub use config::{CoordinatorConfig, LocalHostConfig, PlainListener};
pub use error::CoordinatorError;
