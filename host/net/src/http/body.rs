//! Bodies within limits of size and time.

use std::fmt::Display;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::timeout;

/// Why a body was not read to its end. The peer is to blame for all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// More bytes than allowed.
    #[error("a body of more than {max} bytes")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// It came too slowly.
    #[error("the body did not come within {} ms", .limit.as_millis())]
    Slow {
        /// The time allowed, for all of it or for the next piece.
        limit: Duration,
    },
    /// The connection broke within it.
    #[error("the body broke off: {0}")]
    Broken(String),
}

/// All of `body`, which has at most `max` bytes and comes within `limit`.
///
/// # Errors
///
/// [`BodyError`].
pub async fn read_all<B>(body: B, max: usize, limit: Duration) -> Result<Bytes, BodyError>
where
    B: Body + Unpin,
    B::Error: Display,
{
    let read = async {
        let mut chunks = Chunks::new(body, max as u64, limit);
        let Some(first) = chunks.next().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = chunks.next().await? else {
            return Ok(first);
        };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        while let Some(more) = chunks.next().await? {
            all.extend_from_slice(&more);
        }
        Ok(all.freeze())
    };
    timeout(limit, read)
        .await
        .map_err(|_| BodyError::Slow { limit })?
}

/// A body piece by piece.
#[derive(Debug)]
pub struct Chunks<B> {
    body: B,
    left: u64,
    max: u64,
    stall: Duration,
}

impl<B> Chunks<B>
where
    B: Body + Unpin,
    B::Error: Display,
{
    /// `body`, of at most `max` bytes, with no pause longer than `stall`.
    pub fn new(body: B, max: u64, stall: Duration) -> Self {
        Self {
            body,
            left: max,
            max,
            stall,
        }
    }

    /// The next piece, none at the end. Trailers are skipped.
    ///
    /// # Errors
    ///
    /// [`BodyError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        // A length that is stated and too large need not be read to be refused.
        if self.body.size_hint().lower() > self.left {
            return Err(BodyError::TooLarge { max: self.max });
        }
        loop {
            let frame = timeout(self.stall, self.body.frame())
                .await
                .map_err(|_| BodyError::Slow { limit: self.stall })?;
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
            if let Ok(mut data) = frame.into_data() {
                let data = data.copy_to_bytes(data.remaining());
                self.left = self
                    .left
                    .checked_sub(data.len() as u64)
                    .ok_or(BodyError::TooLarge { max: self.max })?;
                return Ok(Some(data));
            }
        }
    }
}
