//! How a socket ends.

use std::io;
use std::time::Duration;

use hearth_wire::api::Blame;
use hearth_wire::codec::DecodeError;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};

use super::CloseReason;
use super::guard::Violation;

/// Why a socket has ended, or never began.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The server answered the upgrade with an HTTP status.
    #[error("the server refused the connection with status {status}")]
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// The upgrade or the first batch took too long.
    #[error("the peer did not introduce itself in time")]
    Establish,
    /// Nothing came for too long: the peer hangs, or the network in between is gone.
    #[error("no byte from the peer for {} ms", .limit.as_millis())]
    Silent {
        /// The time allowed.
        limit: Duration,
    },
    /// The peer does not read what is sent to it.
    #[error("the peer did not read for {} ms", .limit.as_millis())]
    Slow {
        /// The time allowed.
        limit: Duration,
    },
    /// A frame or batch with too many bytes.
    #[error("a batch of {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// As announced or received.
        bytes: u64,
        /// The limit.
        max: usize,
    },
    /// A batch with too many messages.
    #[error("a batch of {count} messages, at most {max} are allowed")]
    TooManyMessages {
        /// As announced.
        count: u64,
        /// The limit.
        max: usize,
    },
    /// A batch without messages.
    #[error("an empty batch")]
    EmptyBatch,
    /// A batch cut into too many fragments.
    #[error("a batch of more than {max} fragments")]
    TooManyFragments {
        /// The limit.
        max: u32,
    },
    /// A batch that takes too long to come.
    #[error("a batch that takes longer than {} ms", .limit.as_millis())]
    SlowBatch {
        /// The time allowed.
        limit: Duration,
    },
    /// Too many pings, pongs or closes.
    #[error("too many control frames")]
    ControlFlood,
    /// A text frame; only binary ones are spoken here.
    #[error("a text frame")]
    Text,
    /// A batch that is not what it should be.
    #[error("a batch that cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// Not the WebSocket protocol, or not this use of it.
    #[error("not the protocol: {0}")]
    Protocol(String),
    /// One side closed in order.
    #[error("closed with code {code}: {reason}")]
    Closed {
        /// WebSocket close code.
        code: u16,
        /// In the words of whoever closed.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// TLS refused: mostly the certificate of one side.
    #[error("refused by TLS: {0}")]
    Tls(rustls::Error),
}

impl SocketError {
    /// Who can change it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Lost(_) | Self::Silent { .. } => Blame::Operator,
            _ => Blame::Peer,
        }
    }

    /// Whether the peer broke the protocol or a limit, so that trying again would not help.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        !matches!(
            self,
            Self::Refused { .. }
                | Self::Establish
                | Self::Silent { .. }
                | Self::Slow { .. }
                | Self::Closed { .. }
                | Self::Lost(_)
                | Self::Tls(_)
        )
    }

    /// What is told to the peer, if it is worth telling.
    pub(super) fn farewell(&self) -> Option<CloseReason> {
        match self {
            Self::TooLarge { .. } | Self::TooManyMessages { .. } => Some(CloseReason::TooLarge),
            Self::Establish | Self::Silent { .. } | Self::Slow { .. } => Some(CloseReason::Policy),
            _ if self.is_violation() => Some(CloseReason::Protocol),
            _ => None,
        }
    }
}

impl From<WsError> for SocketError {
    fn from(error: WsError) -> Self {
        match error {
            WsError::Io(error) => error.into(),
            WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => Self::TooLarge {
                bytes: size as u64,
                max: max_size,
            },
            WsError::ConnectionClosed | WsError::AlreadyClosed => Self::Closed {
                code: CloseReason::Normal.code(),
                reason: String::new(),
            },
            WsError::Protocol(
                ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete,
            ) => Self::Lost("the peer hung up without a word".to_owned()),
            WsError::Http(response) => Self::Refused {
                status: response.status().as_u16(),
            },
            other => Self::Protocol(other.to_string()),
        }
    }
}

impl From<io::Error> for SocketError {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref();
        if let Some(violation) = inner.and_then(|inner| inner.downcast_ref::<Violation>()) {
            return violation.0.clone();
        }
        match crate::tls::cause(&error) {
            Some(cause) => Self::Tls(cause.clone()),
            None => Self::Lost(error.to_string()),
        }
    }
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// As many messages or bytes wait as may wait: the peer reads more slowly than this side writes.
    #[error("the outbox is full; wait, drop what may be dropped, or close")]
    Full,
    /// The message alone is larger than a frame. A defect on this side: large bodies go as blobs.
    #[error("a message of {bytes} bytes, at most {max} fit a frame: send its body as a blob")]
    TooLarge {
        /// Of this message.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The message has no encoding. A defect on this side.
    #[error("the message cannot be encoded: {0}")]
    Encode(String),
    /// The socket has ended.
    #[error(transparent)]
    Closed(#[from] SocketError),
}
