//! Frames: a version byte, then postcard, with limits checked before parsing.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::WIRE_VERSION;

/// Why bytes are not a value. The peer (or the file) is to blame for each of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Nothing there.
    #[error("empty frame")]
    Empty,
    /// More bytes than the limit for this kind of frame.
    #[error("{bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Bytes received.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The version byte is not ours.
    #[error("wire version {0}, this side speaks {WIRE_VERSION}: update the older side")]
    Version(u8),
    /// The bytes end early, or hold an unknown variant or a bad number.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Bytes after the value.
    #[error("{0} bytes after the end of the message")]
    Trailing(usize),
}

/// `value` behind the version byte.
///
/// # Panics
///
/// If `value` cannot be serialised at all: only types of this crate are encoded, and none of them
/// has a fallible serialisation.
#[allow(clippy::expect_used)]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![WIRE_VERSION]).expect("wire types serialise into memory")
}

/// The value in `bytes`, which must be exactly one frame of at most `max` bytes.
///
/// # Errors
///
/// [`DecodeError`], each variant naming what is wrong with the bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLarge {
            bytes: bytes.len(),
            max,
        });
    }
    let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version != WIRE_VERSION {
        return Err(DecodeError::Version(version));
    }
    let (value, rest) = postcard::take_from_bytes(body)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::Trailing(rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_exactly_one_frame() {
        let frame = encode(&(7u32, "text"));
        assert_eq!(
            decode::<(u32, String)>(&frame, 64),
            Ok((7, "text".to_owned()))
        );
        assert_eq!(
            decode::<(u32, String)>(&frame, 3),
            Err(DecodeError::TooLarge { bytes: 7, max: 3 })
        );
        assert_eq!(decode::<u32>(&[], 64), Err(DecodeError::Empty));
        assert_eq!(decode::<u32>(&[9, 1], 64), Err(DecodeError::Version(9)));
        assert_eq!(
            decode::<u32>(&[WIRE_VERSION, 1, 1], 64),
            Err(DecodeError::Trailing(1))
        );
        assert!(matches!(
            decode::<(u32, String)>(&frame[..4], 64),
            Err(DecodeError::Malformed(_))
        ));
    }
}
