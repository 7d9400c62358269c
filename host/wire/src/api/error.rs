//! The one shape of every error.

use serde::{Deserialize, Serialize};

/// Body of every answer with a status of 400 or above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// The error.
    pub error: ErrorBody,
}

/// What went wrong, who is to blame and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}; {next}")]
pub struct ErrorBody {
    /// For programs: `kebab-case`, never changes.
    pub code: String,
    /// For people: what went wrong.
    pub message: String,
    /// Who can do something about it.
    pub blame: Blame,
    /// What to do.
    pub next: String,
}

/// Who can do something about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Blame {
    /// Whoever sent the request.
    Client,
    /// The author of a component or release.
    Author,
    /// Who runs this machine: disk, addresses, certificates.
    Operator,
    /// The other side of a connection.
    Peer,
    /// Us: a defect.
    Hearth,
}
