//! Bodies within limits of size and time.

use std::fmt::Display;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::{Instant, timeout};

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
    /// Bytes that must come in each `stall` of waiting.
    least: u64,
    /// What came, and how long it was waited for, since the last time that it was enough.
    came: u64,
    waited: Duration,
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
            least: 1,
            came: 0,
            waited: Duration::ZERO,
        }
    }

    /// Wants `bytes` in each `stall`, and the end within the last: a peer that drips keeps nothing
    /// waiting for ever. Only time spent waiting for the peer counts.
    #[must_use]
    pub fn at_least(mut self, bytes: u64) -> Self {
        self.least = bytes;
        self
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
            let begun = Instant::now();
            let left = self.stall.saturating_sub(self.waited);
            let frame = timeout(left, self.body.frame())
                .await
                .map_err(|_| BodyError::Slow { limit: self.stall })?;
            self.waited += begun.elapsed();
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
                self.came += data.len() as u64;
                if self.came >= self.least {
                    (self.came, self.waited) = (0, Duration::ZERO);
                }
                return Ok(Some(data));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// A body that brings `piece` bytes every `pause`.
    fn drip(piece: usize, pause: Duration) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let pieces = stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            Some((Ok(Frame::data(Bytes::from(vec![7; piece]))), ()))
        });
        StreamBody::new(Box::pin(pieces))
    }

    async fn read<B: Body<Error = Infallible> + Unpin>(mut chunks: Chunks<B>) -> BodyError {
        loop {
            if let Err(error) = chunks.next().await {
                return error;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_cut_after_one_stall() {
        let limit = Duration::from_secs(15);
        let begun = Instant::now();
        let chunks = Chunks::new(drip(1, Duration::from_secs(1)), 1_000, limit).at_least(100);
        assert_eq!(read(chunks).await, BodyError::Slow { limit });
        assert_eq!(begun.elapsed(), limit);
        // Fast enough, it goes on to its limit of size.
        let chunks = Chunks::new(drip(10, Duration::from_secs(1)), 1_000, limit).at_least(100);
        assert_eq!(read(chunks).await, BodyError::TooLarge { max: 1_000 });
        // Without a rate any sign of life is enough: event streams are like that.
        let chunks = Chunks::new(drip(1, Duration::from_secs(14)), 50, limit);
        assert_eq!(read(chunks).await, BodyError::TooLarge { max: 50 });
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_the_reader_takes_is_not_the_peers() {
        let limit = Duration::from_secs(15);
        let body = drip(50, Duration::from_secs(1));
        let mut chunks = Chunks::new(body, 1_000, limit).at_least(100);
        for _ in 0..6 {
            chunks.next().await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }
}
