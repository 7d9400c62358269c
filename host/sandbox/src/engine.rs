//! One wasmtime configuration: what is on, what is off, and why.

use hearth_wire::EngineId;

/// What executes a component. Both give the same outcomes and burn the same fuel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// Machine code by Cranelift.
    #[default]
    Native,
    /// Portable byte code in an interpreter: slow, and free of everything that differs between CPUs.
    /// The third opinion when two CPUs disagree.
    Pulley,
}

/// Where memories, tables and stacks of guests come from. Changes no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Allocation {
    /// Pooled if the address space allows it, on demand otherwise.
    #[default]
    Auto,
    /// Reserved once for all slots: fast, needs terabytes of address space.
    Pooled,
    /// Reserved for each attempt.
    OnDemand,
}

/// No engine can be made on this machine. The environment is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no engine on this machine: {0}")]
pub struct EngineError(pub(crate) String);

/// What outcomes of this build depend on: wasmtime's version and our semantic settings. The same on
/// every CPU and for both profiles.
pub fn engine_id() -> EngineId {
    todo!()
}
