//! Machine code that this crate made, on its way between our own processes.

/// What [`crate::Sandbox::compile`] made of a component: machine code for this machine's engine.
///
/// Loading one executes it, so only bytes that came out of `compile` and were kept under the
/// node's seal may be turned back into one.
#[derive(Clone, PartialEq, Eq)]
pub struct Artefact {
    bytes: Vec<u8>,
}

impl Artefact {
    /// Takes back bytes whose seal the node has checked.
    pub fn from_sealed(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The bytes, for sealing and sending to one's own runner.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
