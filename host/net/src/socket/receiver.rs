//! The reading end.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use hearth_wire::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::guard::Received;
use super::outbox::{Outbox, announced};
use super::{CloseReason, SocketError, SocketLimits, Stream};

/// How long the answer to a goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Reads batches from one connection. Dropping it closes the connection.
pub struct Receiver<In> {
    stream: SplitStream<Stream>,
    received: Received,
    /// Until the first batch has come.
    deadline: Option<Instant>,
    outbox: Arc<Outbox>,
    limits: SocketLimits,
    message: PhantomData<fn() -> In>,
}

impl<In> std::fmt::Debug for Receiver<In> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Receiver")
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl<In> Receiver<In> {
    pub(super) fn new(
        stream: SplitStream<Stream>,
        received: Received,
        deadline: Option<Instant>,
        outbox: Arc<Outbox>,
        limits: SocketLimits,
    ) -> Self {
        Self {
            stream,
            received,
            deadline,
            outbox,
            limits,
            message: PhantomData,
        }
    }

    /// Bytes received so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received.get()
    }

    /// From now on, silence for longer than this ends the socket.
    pub fn set_silence(&mut self, silence: Option<Duration>) {
        self.limits.silence = silence;
    }
}

impl<In: DeserializeOwned + Serialize> Receiver<In> {
    /// The next batch, in the order in which it was sent. Never an empty one.
    ///
    /// Nothing is lost if the future is dropped before it is ready.
    ///
    /// # Errors
    ///
    /// [`SocketError`], once and for ever: the socket has ended for both directions.
    pub async fn recv(&mut self) -> Result<Vec<In>, SocketError> {
        if let Some(error) = self.outbox.error() {
            return Err(error);
        }
        let outbox = self.outbox.clone();
        let result = tokio::select! {
            biased;
            result = self.next() => result,
            error = outbox.ended() => Err(error),
        };
        match result {
            Ok(batch) => {
                self.deadline = None;
                Ok(batch)
            }
            Err(error) => Err(self.outbox.end(error)),
        }
    }

    async fn next(&mut self) -> Result<Vec<In>, SocketError> {
        loop {
            match self.next_message().await? {
                Message::Binary(frame) => return self.decode(&frame),
                Message::Text(_) => return Err(SocketError::Text),
                // tungstenite has answered it, or will with the next read.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                Message::Close(frame) => {
                    // Until the answer is out and, on the client's side, the server has hung up.
                    let _ = timeout(FAREWELL, async {
                        while let Some(Ok(_)) = self.stream.next().await {}
                    })
                    .await;
                    return Err(match frame {
                        Some(frame) => SocketError::Closed {
                            code: frame.code.into(),
                            reason: frame.reason.as_str().to_owned(),
                        },
                        None => CloseReason::Normal.closed(""),
                    });
                }
            }
        }
    }

    async fn next_message(&mut self) -> Result<Message, SocketError> {
        loop {
            let before = self.received.get();
            let limit = match self.deadline {
                Some(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
                None => self.limits.silence,
            };
            let next = match limit {
                None => Ok(self.stream.next().await),
                Some(limit) => timeout(limit, self.stream.next()).await,
            };
            match next {
                Ok(Some(message)) => return Ok(message?),
                Ok(None) => return Err(CloseReason::Normal.closed("")),
                Err(_) if self.deadline.is_some() => return Err(SocketError::Establish),
                // A large batch on a slow line is not silence.
                Err(_) if self.received.get() > before => {}
                Err(_) => {
                    return Err(SocketError::Silent {
                        limit: limit.unwrap_or_default(),
                    });
                }
            }
        }
    }

    fn decode(&self, frame: &[u8]) -> Result<Vec<In>, SocketError> {
        // Before parsing: a frame of one-byte messages would make a batch two hundred times its size.
        if let Some(count) = announced(frame)
            && count > self.limits.frame_messages as u64
        {
            return Err(SocketError::TooManyMessages {
                count,
                max: self.limits.frame_messages,
            });
        }
        let batch: Vec<In> = codec::decode_canonical(frame, self.limits.frame_bytes)?;
        if batch.is_empty() {
            return Err(SocketError::EmptyBatch);
        }
        Ok(batch)
    }
}

impl<In> Drop for Receiver<In> {
    fn drop(&mut self) {
        self.outbox.close(CloseReason::Normal, "");
    }
}
