//! The whole state as bytes, so that a start need not replay the journal from its beginning.

use hearth_wire::{Digest, Seq};

use crate::{Config, Coordinator};

/// The form of what is in [`Coordinator::snapshot`]. Raise it with every change of a type that is in there,
/// and with every change of what the fold makes of a record: an older snapshot is then left unread, and
/// the journal is replayed instead.
pub(crate) const FORMAT: u32 = 5;
const HEADER: usize = 4 + size_of::<Digest>();

/// A snapshot is not one that this program can go on from. The journal still is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Another version of the program made it.
    #[error("snapshot of format {0}, this program has {FORMAT}")]
    Format(u32),
    /// Its bytes are not a state.
    #[error("not a state: {0}")]
    Malformed(String),
    /// The state in it is not the one that was put there.
    #[error("the state at record {0} is not the one that was saved")]
    Different(Seq),
}

impl Coordinator {
    /// The state as of its newest record: all of it, with what is kept only for speed, so that nothing
    /// has to be worked out again and equals stay in their order. About ten bytes for each task that was
    /// ever leased, nothing for the others.
    ///
    /// # Panics
    ///
    /// If effects have not left yet: between steps there are none.
    #[allow(clippy::expect_used)]
    pub fn snapshot(&self) -> Vec<u8> {
        assert!(self.out.is_empty(), "a snapshot in the middle of a step");
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        bytes.extend_from_slice(self.state_hash().as_bytes());
        postcard::to_extend(self, bytes).expect("a state serialises into memory")
    }

    /// A coordinator that goes on where [`Coordinator::snapshot`] was taken. What the configuration says
    /// holds from here on, as after a replay.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]. Whoever gave the bytes has checked that they are as they were written; here it
    /// is checked that they mean the same state.
    pub fn restore(config: Config, bytes: &[u8]) -> Result<Self, RestoreError> {
        let short = || RestoreError::Malformed("it ends early".to_owned());
        let (header, body) = bytes.split_at_checked(HEADER).ok_or_else(short)?;
        let (format, hash) = header.split_first_chunk().ok_or_else(short)?;
        let format = u32::from_le_bytes(*format);
        if format != FORMAT {
            return Err(RestoreError::Format(format));
        }
        let malformed = |error: postcard::Error| RestoreError::Malformed(error.to_string());
        let (mut core, rest) = postcard::take_from_bytes::<Self>(body).map_err(malformed)?;
        if !rest.is_empty() {
            return Err(RestoreError::Malformed(
                "it goes on behind its end".to_owned(),
            ));
        }
        if core.state_hash().as_bytes() != hash {
            return Err(RestoreError::Different(core.seq));
        }
        core.config = config;
        Ok(core)
    }
}
