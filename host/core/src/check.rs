//! Invariants.

/// An invariant does not hold: a defect of core.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant {invariant} does not hold: {detail}")]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// Where.
    pub detail: String,
}
