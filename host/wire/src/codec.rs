//! Frames: a version byte, then postcard, with limits checked before parsing.

use postcard::ser_flavors::Size;
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
    /// A number in more bytes than it needs: two encodings of one value, of which one was signed.
    #[error("{0} bytes more than this value takes: a number is padded")]
    Padded(usize),
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

/// As [`decode`], of what somebody else sent or signed: only the one encoding that [`encode`] gives.
///
/// postcard takes numbers in more bytes than they need, and nothing else in two forms; so the length
/// alone tells. Counting it costs less than a tenth of the decoding; our own journal and runners are
/// read without.
///
/// # Errors
///
/// [`DecodeError`], [`DecodeError::Padded`] among them.
pub fn decode_canonical<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    max: usize,
) -> Result<T, DecodeError> {
    let value: T = decode(bytes, max)?;
    let shortest = postcard::serialize_with_flavor(&value, Size::default())
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    match bytes.len().saturating_sub(shortest + 1) {
        0 => Ok(value),
        padding => Err(DecodeError::Padded(padding)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bad input h27: one value in two encodings.
    #[test]
    fn h27_padded_numbers_are_refused_from_others() {
        use crate::message::NodeMessage;
        use crate::{AttemptId, JobId};
        for (padded, shortest) in [
            (vec![WIRE_VERSION, 0x87, 0x00], vec![WIRE_VERSION, 0x07]),
            (
                vec![WIRE_VERSION, 0xff, 0x80, 0x80, 0x00],
                vec![WIRE_VERSION, 0x7f],
            ),
        ] {
            assert_eq!(decode::<u64>(&padded, 64), decode_canonical(&shortest, 64));
            let extra = padded.len() - shortest.len();
            assert_eq!(
                decode_canonical::<u64>(&padded, 64),
                Err(DecodeError::Padded(extra))
            );
            assert_eq!(
                decode_canonical::<JobId>(&padded, 64),
                Err(DecodeError::Padded(extra))
            );
        }
        // The length of a list, the number of a variant, and a number deep inside.
        let goodbye = encode(&vec![NodeMessage::Goodbye]);
        assert!(decode_canonical::<Vec<NodeMessage>>(&goodbye, 64).is_ok());
        for at in 1..goodbye.len() {
            let mut padded = goodbye.clone();
            padded[at] |= 0x80;
            padded.insert(at + 1, 0);
            assert!(decode::<Vec<NodeMessage>>(&padded, 64).is_ok());
            assert_eq!(
                decode_canonical::<Vec<NodeMessage>>(&padded, 64),
                Err(DecodeError::Padded(1))
            );
        }
        let frame = encode(&(vec![AttemptId(300)], "text", 7u8, Some(true)));
        type Frame = (Vec<AttemptId>, String, u8, Option<bool>);
        assert!(decode_canonical::<Frame>(&frame, 64).is_ok());
    }

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
