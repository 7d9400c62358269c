//! The writing end.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use serde::Serialize;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::outbox::{Outbox, Work};
use super::{SendError, SocketError, SocketLimits, Stream};

/// How long a last word may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Longest reason in a close frame: a control frame holds 125 bytes, two of them are the code.
const REASON_BYTES_MAX: usize = 123;

/// Why one side closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Done.
    Normal,
    /// This side stops.
    ShuttingDown,
    /// The peer broke the protocol.
    Protocol,
    /// The peer is not wanted: revoked, duplicate, too slow.
    Policy,
    /// The peer sent too much at once.
    TooLarge,
    /// This side is overloaded; try again later.
    TryLater,
}

impl CloseReason {
    /// The WebSocket close code.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::ShuttingDown => 1001,
            Self::Protocol => 1002,
            Self::Policy => 1008,
            Self::TooLarge => 1009,
            Self::TryLater => 1013,
        }
    }

    pub(super) fn closed(self, text: &str) -> SocketError {
        SocketError::Closed {
            code: self.code(),
            reason: text.to_owned(),
        }
    }

    fn frame(self, text: &str) -> CloseFrame {
        let mut end = text.len().min(REASON_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        CloseFrame {
            code: self.code().into(),
            reason: text[..end].into(),
        }
    }
}

/// Puts messages into the outbox of one connection. Clones share it.
#[derive(Debug)]
pub struct Sender<Out> {
    outbox: Arc<Outbox>,
    message: PhantomData<fn(Out)>,
}

impl<Out> Clone for Sender<Out> {
    fn clone(&self) -> Self {
        Self::new(self.outbox.clone())
    }
}

impl<Out> Sender<Out> {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        Self {
            outbox,
            message: PhantomData,
        }
    }

    /// Writes what is queued, then closes with `reason`. Nothing more is taken.
    ///
    /// The receiver then ends with the peer's goodbye, or without it after a second.
    pub fn close(&self, reason: CloseReason, text: &str) {
        self.outbox.close(reason, text);
    }

    /// Why the socket has ended, if it has.
    #[must_use]
    pub fn error(&self) -> Option<SocketError> {
        self.outbox.error()
    }

    /// Waits until the socket has ended.
    pub async fn ended(&self) -> SocketError {
        self.outbox.ended().await
    }
}

impl<Out: Serialize> Sender<Out> {
    /// Queues `message` if there is room. Messages queued by one task leave in order.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the message was not queued.
    pub fn try_send(&self, message: &Out) -> Result<(), SendError> {
        self.outbox.push(message)
    }

    /// Queues `message`, waiting for room. A peer that does not read ends the socket with
    /// [`SocketError::Slow`], and so this wait.
    ///
    /// # Errors
    ///
    /// [`SendError`], never [`SendError::Full`]; the message was not queued.
    pub async fn send(&self, message: &Out) -> Result<(), SendError> {
        loop {
            let room = self.outbox.room.notified();
            tokio::pin!(room);
            // Before looking, so that room made in between is not missed.
            room.as_mut().enable();
            match self.outbox.push(message) {
                Err(SendError::Full) => room.await,
                result => return result,
            }
        }
    }
}

/// Writes frames until the socket ends. Everything that waits is bounded by `limits.write`.
pub(super) async fn write(
    mut sink: SplitSink<Stream, Message>,
    outbox: Arc<Outbox>,
    limits: SocketLimits,
) {
    let error = tokio::select! {
        error = outbox.ended() => error,
        error = write_all(&mut sink, &outbox, &limits) => outbox.end(error),
    };
    if let Some(reason) = error.farewell() {
        let frame = reason.frame(&error.to_string());
        let _ = timeout(FAREWELL, sink.send(Message::Close(Some(frame)))).await;
    }
}

async fn write_all(
    sink: &mut SplitSink<Stream, Message>,
    outbox: &Outbox,
    limits: &SocketLimits,
) -> SocketError {
    let slow = |_| SocketError::Slow {
        limit: limits.write,
    };
    let mut flushed = true;
    loop {
        let step = match outbox.take() {
            Work::Frame(frame) => {
                flushed = false;
                timeout(limits.write, sink.feed(Message::Binary(frame))).await
            }
            // One flush for all the frames that were waiting.
            Work::Nothing | Work::Close(..) if !flushed => {
                flushed = true;
                timeout(limits.write, sink.flush()).await
            }
            Work::Nothing => {
                outbox.work.notified().await;
                continue;
            }
            Work::Close(reason, text) => {
                let farewell = sink.send(Message::Close(Some(reason.frame(&text))));
                if timeout(FAREWELL, farewell).await.is_ok() {
                    // The receiver ends the socket when the peer's answer comes.
                    tokio::time::sleep(FAREWELL).await;
                }
                return reason.closed(&text);
            }
        };
        if let Err(error) = step.map_err(slow).and_then(|written| Ok(written?)) {
            return error;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let frame = CloseReason::Policy.frame(&"ü".repeat(100));
        assert_eq!(frame.reason.len(), 122);
        assert_eq!(u16::from(frame.code), 1008);
    }
}
