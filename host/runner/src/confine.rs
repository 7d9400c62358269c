//! Walls around the process, put up before any untrusted byte is read.

/// Whether a process confines itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confine {
    /// For a process of its own. Irrevocable, and for the whole process.
    Yes,
    /// For a runner inside an embedding program: a flaw in wasmtime then reaches everything in it.
    No,
}

/// A wall that the system has could not be put up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("confinement: {0}")]
pub struct ConfineError(pub(crate) String);
