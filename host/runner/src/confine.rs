//! Walls around the process, put up before any untrusted byte is read and before any thread starts.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod syscalls;

use hearth_wire::runner::Confinement;

/// Whether a process confines itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confine {
    /// For a process of its own. For the whole process, and for good.
    Yes,
    /// For a runner inside an embedding program: a flaw in wasmtime then reaches everything in it.
    No,
}

/// A wall that the system has could not be put up. The environment is to blame: nothing runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot confine this process: {0}. Start the runner from its node, on one thread")]
pub struct ConfineError(pub(crate) String);

/// Limits on resources of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    /// Address space. A pool of memories needs terabytes of it, so only compile processes have one.
    pub(crate) memory_bytes: Option<u64>,
    /// CPU time; the process is killed beyond it.
    pub(crate) cpu_seconds: Option<u64>,
}

/// Puts up landlock and no other wall, so that a test sees what landlock alone refuses; `false` if this
/// system does not have it.
///
/// # Errors
///
/// [`ConfineError`].
#[doc(hidden)]
#[cfg(target_os = "linux")]
pub fn confine_by_landlock_alone() -> Result<bool, ConfineError> {
    linux::landlock()
}

/// Puts up every wall that this system has, and tells which stand.
pub(crate) fn confine(confine: Confine, limits: Limits) -> Result<Confinement, ConfineError> {
    match confine {
        Confine::No => Ok(Confinement::default()),
        #[cfg(target_os = "linux")]
        Confine::Yes => linux::confine(limits),
        #[cfg(not(target_os = "linux"))]
        Confine::Yes => {
            let _ = limits;
            Ok(Confinement::default())
        }
    }
}
