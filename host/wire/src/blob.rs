//! Bytes that travel inside a message or beside it.

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::limits::INLINE_BYTES_MAX;

/// The name and size of bytes that are stored apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Blob {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub len: u64,
}

impl Blob {
    /// The blob that `bytes` are.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            digest: Digest::of(bytes),
            len: bytes.len() as u64,
        }
    }
}

/// Bytes that are inside the message when they are few, and a blob beside it otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// At most [`INLINE_BYTES_MAX`] bytes.
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    /// To be fetched by digest.
    Blob(Blob),
}

impl Body {
    /// The name and size of the bytes, wherever they are.
    pub fn blob(&self) -> Blob {
        match self {
            Self::Inline(bytes) => Blob::of(bytes),
            Self::Blob(blob) => *blob,
        }
    }

    /// Number of bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Blob(blob) => blob.len,
        }
    }

    /// Whether an inline body keeps its limit.
    pub fn within_limit(&self) -> bool {
        match self {
            Self::Inline(bytes) => bytes.len() <= INLINE_BYTES_MAX,
            Self::Blob(_) => true,
        }
    }
}
