//! Facts that the shell puts into the journal and core does not interpret.

use hearth_wire::codec::{self, DecodeError};
use hearth_wire::{Millis, Redemption, limits};
use serde::{Deserialize, Serialize};

/// A fact of the shell. Append-only, like records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ShellFact {
    /// Core's time belongs to this wall time.
    Clock {
        /// Core's time.
        at: Millis,
        /// The wall's, in milliseconds since 1970.
        unix_millis: u64,
    },
    /// An invitation was used.
    Redeemed(Redemption),
}

impl ShellFact {
    /// For the journal.
    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// From the journal.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, limits::FRAME_BYTES_MAX)
    }
}
