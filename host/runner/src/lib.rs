//! The keyless, netless process in which components are compiled and run.
//!
//! A runner never holds a key, never opens a file or a socket, and never starts a process: once
//! confined ([`Confine::Yes`]), the system would not let it. It speaks [`hearth_wire::runner`] with its
//! node over one inherited stream and ends when that stream ends. What a guest that breaks out of
//! wasmtime finds is one stream to a node that believes nothing but outcomes.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(test)]
extern crate self as hearth_runner;

mod compiler;
mod confine;
mod frame;
mod inherit;
mod outbox;
mod serve;
mod slots;

#[cfg(test)]
mod tests;

pub use compiler::{CompilerOptions, serve_compiler};
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub use confine::confine_by_landlock_alone;
pub use confine::{Confine, ConfineError};
pub use frame::{read_frame, write_frame};
pub use inherit::{inherited_stream, without_strays};
pub use serve::{RunnerError, RunnerOptions, serve_runner};
