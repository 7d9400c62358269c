//! Batches of messages over WebSocket.
//!
//! A binary message is one frame of [`hearth_wire::codec`]: a batch `Vec<Message>` behind the version
//! byte. tungstenite speaks the protocol; what it leaves unbounded is bounded here. A guard under
//! it counts fragments, control frames and time on the plain bytes, an outbox bounds what waits to
//! be written, and a peer that does not read or falls silent is given up.
//!
//! The stream may be TLS or an inherited socketpair: everything else is the same.

mod error;
mod guard;
mod outbox;
mod receiver;
mod sender;
mod upgrade;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use hearth_wire::limits::{
    ESTABLISH_MILLIS, FRAME_BYTES_MAX, MESSAGES_PER_FRAME_MAX, OUTBOX_MESSAGES_MAX,
    READ_BUFFER_BYTES, WRITE_BUFFER_BYTES_MAX,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

pub use error::{SendError, SocketError};
pub use receiver::Receiver;
pub use sender::{CloseReason, Sender};

/// Path of a node's WebSocket.
pub const PATH: &str = "/v1/connect";
/// Subprotocol that both sides must name: a browser's WebSocket names none and is refused.
pub const SUBPROTOCOL: &str = "hearth.v1";

/// What a socket allows.
#[derive(Debug, Clone)]
pub struct SocketLimits {
    /// For the upgrade, on the client's side and where no deadline is given.
    pub upgrade: Duration,
    /// Longest time without a single byte from the peer. Silence is allowed if this is `None`.
    pub silence: Option<Duration>,
    /// Longest time that one write may wait for the peer to read.
    pub write: Duration,
    /// From the first byte of a batch until its last.
    pub batch: Duration,
    /// Fragments of one batch. We send one; a proxy may cut it.
    pub fragments: u32,
    /// Pings, pongs and closes at once. Heartbeats are messages, so these are rare.
    pub control_burst: u32,
    /// Pings, pongs and closes per second in the long run.
    pub control_per_second: u32,
    /// Largest batch, in bytes.
    pub frame_bytes: usize,
    /// Largest batch, in messages.
    pub frame_messages: usize,
    /// Messages that may wait to be written.
    pub outbox_messages: usize,
    /// Bytes that may wait to be written.
    pub outbox_bytes: usize,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            upgrade: Duration::from_millis(ESTABLISH_MILLIS / 2),
            silence: None,
            write: Duration::from_secs(5),
            // A full frame at 1 Mbit/s takes 8.4 s.
            batch: Duration::from_secs(15),
            fragments: 64,
            control_burst: 32,
            control_per_second: 8,
            frame_bytes: FRAME_BYTES_MAX,
            frame_messages: MESSAGES_PER_FRAME_MAX,
            outbox_messages: OUTBOX_MESSAGES_MAX,
            outbox_bytes: WRITE_BUFFER_BYTES_MAX,
        }
    }
}

/// A WebSocket on which `In` is read and `Out` is written.
///
/// It exists only as its two ends: a [`Receiver`] that its owner reads, and a [`Sender`] whose
/// clones put messages into one bounded outbox, which a task of its own writes. The task ends when
/// the receiver is dropped or the connection fails.
#[derive(Debug)]
pub struct Socket<In, Out>(PhantomData<(In, Out)>);

/// What a socket runs on, whatever its kind.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for S {}

type Stream = WebSocketStream<guard::Guard<Box<dyn Transport>>>;

impl<In: DeserializeOwned + Serialize, Out: Serialize> Socket<In, Out> {
    /// The client's side of an upgrade at `path` on `stream`. `authority` goes into `Host`.
    ///
    /// # Errors
    ///
    /// [`SocketError::Refused`] if the server says no, [`SocketError::Establish`] if it says nothing.
    pub async fn connect<S>(
        stream: S,
        authority: &str,
        path: &str,
        limits: SocketLimits,
    ) -> Result<(Sender<Out>, Receiver<In>), SocketError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (guard, received) = guard::Guard::new(Box::new(stream) as _, &limits);
        let stream = upgrade::connect(guard, authority, path, &limits).await?;
        Ok(Self::start(stream, received, None, limits))
    }

    /// The server's side of an upgrade at `path` on `stream`. By `deadline` the upgrade must be
    /// done and the first batch must have come.
    ///
    /// # Errors
    ///
    /// [`SocketError::Protocol`] if the request is not such an upgrade, [`SocketError::Establish`] if
    /// it takes too long.
    pub async fn accept<S>(
        stream: S,
        path: &str,
        deadline: Option<Instant>,
        limits: SocketLimits,
    ) -> Result<(Sender<Out>, Receiver<In>), SocketError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (guard, received) = guard::Guard::new(Box::new(stream) as _, &limits);
        let stream = upgrade::accept(guard, path, deadline, &limits).await?;
        Ok(Self::start(stream, received, deadline, limits))
    }

    fn start(
        stream: Stream,
        received: guard::Received,
        deadline: Option<Instant>,
        limits: SocketLimits,
    ) -> (Sender<Out>, Receiver<In>) {
        let (sink, stream) = stream.split();
        let outbox = Arc::new(outbox::Outbox::new(&limits));
        tokio::spawn(sender::write(sink, outbox.clone(), limits.clone()));
        (
            Sender::new(outbox.clone()),
            Receiver::new(stream, received, deadline, outbox, limits),
        )
    }
}

fn config(limits: &SocketLimits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(outbox::FRAME_BYTES_TARGET)
        // A frame is written only once the one before it has left, so one of each kind fits.
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX.max(2 * limits.frame_bytes))
        .max_message_size(Some(limits.frame_bytes))
        .max_frame_size(Some(limits.frame_bytes))
}
