//! Admits, compiles and runs components in wasmtime, and survives them.
//!
//! This crate never opens a file or a socket, never holds a key, never shows a guest the time, and
//! never loads machine code that it did not compile itself. Read [`Sandbox`] for the life of a
//! component and [`RunRequest`] for the rules by which an attempt ends.

#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admit;
mod artefact;
mod engine;
mod gate;
mod host;
mod limiter;
mod meter;
mod outcome;
mod rules;
mod run;
mod sandbox;
mod ticker;
mod wasi;

#[cfg(test)]
mod tests;

pub use admit::{Admitted, Unfit, WorldSkew, admit, imports_of};
pub use artefact::Artefact;
pub use engine::{Allocation, EngineError, Profile, engine_id};
pub use gate::Gate;
pub use run::{Hooks, NoHooks, Ran, RunRequest};
pub use sandbox::{CompileError, LoadError, Program, Sandbox, SandboxConfig};
