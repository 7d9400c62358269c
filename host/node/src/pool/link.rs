//! Frames on the socketpair between a node and a child.

use std::io;

use hearth_wire::codec::{self, DecodeError};
use hearth_wire::limits::RUNNER_FRAME_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why nothing more can be read from or written to a child.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The child closed its end.
    #[error("it closed its socket")]
    Closed,
    /// The socket failed, or ended inside a frame.
    #[error("its socket failed: {0}")]
    Io(#[from] io::Error),
    /// A frame above the limit, from the child or for it.
    #[error("a frame of {0} bytes, at most {RUNNER_FRAME_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// The child does not speak our protocol.
    #[error("it sent what is no message: {0}")]
    Decode(#[from] DecodeError),
}

/// Reads one frame. Memory follows what arrives, never what was announced.
pub(super) async fn read_frame<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Result<T, LinkError> {
    let mut length = [0; 4];
    match from.read(&mut length[..1]).await? {
        0 => return Err(LinkError::Closed),
        _ => from.read_exact(&mut length[1..]).await?,
    };
    let length = u32::from_le_bytes(length) as usize;
    if length > RUNNER_FRAME_BYTES_MAX {
        return Err(LinkError::TooLarge(length));
    }
    buffer.clear();
    // A large frame is rare; its memory is not kept for the small ones that follow.
    buffer.shrink_to(1 << 20);
    from.take(length as u64).read_to_end(buffer).await?;
    if buffer.len() != length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(codec::decode(buffer, RUNNER_FRAME_BYTES_MAX)?)
}

/// Writes one frame.
pub(super) async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> Result<(), LinkError> {
    let frame = codec::encode(message);
    if frame.len() > RUNNER_FRAME_BYTES_MAX {
        return Err(LinkError::TooLarge(frame.len()));
    }
    to.write_all(&(frame.len() as u32).to_le_bytes()).await?;
    to.write_all(&frame).await?;
    Ok(to.flush().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_bounded_before_they_are_read() {
        let mut buffer = Vec::new();
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &7u32).await.unwrap();
        let seven: u32 = read_frame(&mut &bytes[..], &mut buffer).await.unwrap();
        assert_eq!(seven, 7);
        let huge = u32::MAX.to_le_bytes();
        let error = read_frame::<u32>(&mut &huge[..], &mut buffer).await;
        assert!(matches!(error, Err(LinkError::TooLarge(_))));
        let error = read_frame::<u32>(&mut &bytes[..5], &mut buffer).await;
        assert!(matches!(error, Err(LinkError::Io(_))));
        let error = read_frame::<u32>(&mut &[][..], &mut buffer).await;
        assert!(matches!(error, Err(LinkError::Closed)));
        bytes[4] = 99;
        let error = read_frame::<u32>(&mut &bytes[..], &mut buffer).await;
        assert!(matches!(
            error,
            Err(LinkError::Decode(DecodeError::Version(99)))
        ));
    }
}
