//! The keyless, netless process in which components are compiled and run.
//!
//! A runner never holds a key, never opens a file or a socket, and never starts a process: after
//! [`Confine::Yes`] the system would not let it. It speaks [`hearth_wire::runner`] with its node over
//! one inherited stream and ends when that stream ends.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod compiler;
mod confine;
mod serve;

pub use compiler::{CompilerOptions, serve_compiler};
pub use confine::{Confine, ConfineError};
pub use serve::{RunnerError, RunnerOptions, serve_runner};
