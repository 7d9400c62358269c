//! Machine code that this crate made, on its way between our own processes. The only module with
//! `unsafe` code.

use wasmtime::Engine;
use wasmtime::component::Component;

/// What [`crate::Sandbox::compile`] made of a component: machine code for this machine's engine.
///
/// Running one runs whatever is in it, outside of every sandbox but the walls of the process. So it
/// is made in a compile process, kept under its node's seal, never taken from a network, and
/// loaded only in a confined runner (or in a process whose owner chose to have no walls).
#[derive(Clone, PartialEq, Eq)]
pub struct Artefact {
    bytes: Vec<u8>,
}

impl Artefact {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Takes back bytes of [`Artefact::into_bytes`] after a way through other processes of the same
    /// node.
    ///
    /// The caller vouches for that: a node checks its seal before it sends an artefact to a runner, and a
    /// runner takes them from nobody but its node.
    pub fn from_sealed(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The bytes, for sealing and for sending to one's own runner.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Maps the code.
    #[allow(unsafe_code)]
    pub(crate) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: `deserialize` demands bytes that `Engine::precompile_component` made and nobody
        // altered; wasmtime itself refuses those of another version, target, CPU or configuration.
        // An `Artefact` comes from `Sandbox::compile` in this process, or from `from_sealed`, whose
        // caller vouches that `compile` made it in a process of the same node and that the seal, a MAC
        // under a key that only the node has, was checked since. Bytes from elsewhere
        // have no way here: no message of the network carries artefacts.
        unsafe { Component::deserialize(engine, &self.bytes) }
    }
}
