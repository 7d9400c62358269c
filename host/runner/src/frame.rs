//! Frames on the socketpair: a little-endian `u32` length, then that many bytes of codec.

use std::io::{self, ErrorKind, Read, Write};

use hearth_wire::codec::{DecodeError, decode, encode};
use hearth_wire::limits::RUNNER_FRAME_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::RunnerError;

/// Bytes that are made room for before they have come; the rest follows as they come.
const AHEAD_BYTES: usize = 1 << 20;

/// Reads one frame; `None` at the end of the stream between two frames.
///
/// # Errors
///
/// [`RunnerError`] if the stream breaks or the bytes are not a frame.
pub fn read_frame<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>, RunnerError> {
    let mut length = [0; 4];
    let mut got = 0;
    while got < length.len() {
        match stream.read(&mut length[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(bytes) => got += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // How the end looks when the other side left without reading all that we had said.
            Err(error) if got == 0 && error.kind() == ErrorKind::ConnectionReset => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > RUNNER_FRAME_BYTES_MAX {
        return Err(DecodeError::TooLarge {
            bytes: length,
            max: RUNNER_FRAME_BYTES_MAX,
        }
        .into());
    }
    let mut bytes = Vec::with_capacity(length.min(AHEAD_BYTES));
    stream
        .by_ref()
        .take(length as u64)
        .read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(decode(&bytes, RUNNER_FRAME_BYTES_MAX)?))
}

/// Writes one frame.
///
/// # Errors
///
/// The stream's error, or `InvalidInput` if the message is larger than a frame may be.
pub fn write_frame<T: Serialize>(stream: &mut impl Write, message: &T) -> io::Result<()> {
    let bytes = encode(message);
    if bytes.len() > RUNNER_FRAME_BYTES_MAX {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!(
                "a frame of {} bytes, at most {RUNNER_FRAME_BYTES_MAX}",
                bytes.len()
            ),
        ));
    }
    // One write for small frames: the peer wakes once.
    if bytes.len() <= AHEAD_BYTES {
        let mut frame = Vec::with_capacity(bytes.len() + 4);
        frame.extend((bytes.len() as u32).to_le_bytes());
        frame.extend(bytes);
        stream.write_all(&frame)
    } else {
        stream.write_all(&(bytes.len() as u32).to_le_bytes())?;
        stream.write_all(&bytes)
    }
}
