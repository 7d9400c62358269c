//! How a request ends.

use std::error::Error as StdError;
use std::time::Duration;

use hearth_wire::Digest;
use hearth_wire::api::{ApiError, Blame};

use crate::http::body::BodyError;
use crate::tls::ConnectError;

/// Why a request has no answer, or not the one that was hoped for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The server says no, in its own words.
    #[error("{message}; {next}")]
    Api {
        /// HTTP status.
        status: u16,
        /// For programs.
        code: String,
        /// For people.
        message: String,
        /// Who can do something about it.
        blame: Blame,
        /// What to do.
        next: String,
    },
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// TLS ended the connection: the server does not take this machine's certificate, mostly.
    #[error(
        "the server ended the connection: {0}; is this machine's certificate valid and not revoked?"
    )]
    Tls(rustls::Error),
    /// The connection broke.
    #[error("the connection was lost: {0}; try again")]
    Lost(String),
    /// The answer did not come in time.
    #[error("no answer within {} ms; try again, the server may be overloaded", .limit.as_millis())]
    Timeout {
        /// The time allowed.
        limit: Duration,
    },
    /// The answer is larger than asked for.
    #[error("an answer of more than {max} bytes")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// What came is not what was asked for: damaged, or a lie.
    #[error("received {received} instead of {expected}; the server's copy is damaged")]
    Digest {
        /// Asked for.
        expected: Digest,
        /// Received.
        received: Digest,
    },
    /// An answer that is not the protocol, or a request that cannot be written.
    #[error("malformed: {0}; one side is of another version")]
    Malformed(String),
    /// A file on this machine.
    #[error("{path}: {message}")]
    File {
        /// Which.
        path: String,
        /// In the system's words.
        message: String,
    },
}

impl HttpError {
    /// Who can change it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Api { blame, .. } => *blame,
            Self::Connect(error) => error.blame(),
            Self::Lost(_) | Self::Timeout { .. } | Self::File { .. } => Blame::Operator,
            Self::Tls(_) | Self::TooLarge { .. } | Self::Digest { .. } | Self::Malformed(_) => {
                Blame::Peer
            }
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(ConnectError::Unreachable { .. } | ConnectError::Timeout { .. })
            | Self::Lost(_)
            | Self::Timeout { .. } => true,
            Self::Api { status, .. } => matches!(status, 429 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// The same of a transfer, which is repeated at leisure: a body that broke or was too slow on its way,
    /// another transfer of the same bytes, and a server without room pass by themselves too.
    #[must_use]
    pub fn is_transient_for_transfers(&self) -> bool {
        let passes = match self {
            Self::Api { status, code, .. } => {
                matches!(status, 408 | 507)
                    || matches!(
                        code.as_str(),
                        "body-broken" | "upload-busy" | "upload-offset"
                    )
            }
            _ => false,
        };
        passes || self.is_transient()
    }

    /// HTTP status of the server's refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// From an answer with a status of 400 or above, or one that nobody expects.
    pub(super) fn from_answer(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<ApiError>(body) {
            Ok(ApiError { error }) => Self::Api {
                status,
                code: error.code,
                message: error.message,
                blame: error.blame,
                next: error.next,
            },
            Err(_) => Self::Api {
                status,
                code: "status".to_owned(),
                message: format!("the server answered with status {status}"),
                blame: Blame::Peer,
                next: "check that the address is a Hearth coordinator of this version".to_owned(),
            },
        }
    }

    pub(super) fn from_hyper(error: &hyper::Error) -> Self {
        let mut cause: Option<&dyn StdError> = error.source();
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<std::io::Error>()
                && let Some(tls) = crate::tls::cause(io)
            {
                return Self::Tls(tls.clone());
            }
            cause = inner.source();
        }
        if error.is_parse() || error.is_parse_too_large() {
            Self::Malformed(error.to_string())
        } else {
            Self::Lost(error.to_string())
        }
    }
}

impl From<BodyError> for HttpError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { max } => Self::TooLarge { max },
            BodyError::Slow { limit } => Self::Timeout { limit },
            BodyError::Broken(message) => Self::Lost(message),
        }
    }
}
