//! Domain-separated bytes for signatures.
//!
//! A signature is always made over `label ‖ 0 ‖ SHA-256(bytes)`, where `bytes` are the bytes as they
//! were received and `label` says what kind of statement they are. So a signature of one kind can
//! never be shown as one of another.

use crate::Digest;

/// What a signature states about bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Domain {
    /// An author publishes a manifest ([`crate::Manifest`]).
    Release,
    /// The root key states the realm's policy.
    Policy,
    /// The online key takes something back ([`crate::Revocations`]).
    Revocations,
    /// The online key states an invitation token ([`crate::Invitation`]).
    Invitation,
    /// A node states the Merkle root of a batch of reports.
    Reports,
    /// A node states a checkpoint that it made ([`crate::CheckpointLink`]).
    Checkpoint,
    /// The coordinator states which requests for enrolment it granted.
    Enrolment,
}

impl Domain {
    /// The label in front of the signed digest.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Release => "hearth.release.v1",
            Self::Policy => "hearth.policy.v1",
            Self::Revocations => "hearth.revocations.v1",
            Self::Invitation => "hearth.invitation.v1",
            Self::Reports => "hearth.reports.v1",
            Self::Checkpoint => "hearth.checkpoint.v1",
            Self::Enrolment => "hearth.enrolment.v1",
        }
    }

    /// The bytes that are signed for `bytes` in this domain.
    pub fn signed_bytes(self, bytes: &[u8]) -> Vec<u8> {
        let mut signed = self.label().as_bytes().to_vec();
        signed.push(0);
        signed.extend_from_slice(Digest::of(bytes).as_bytes());
        signed
    }
}
