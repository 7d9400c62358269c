//! Calling a server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hearth_wire::api::Blame;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Alpn, ClientTls, cause};

/// An encrypted connection to a server.
pub type ClientStream = TlsStream<TcpStream>;

/// Where a server is, and who it must be.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `host:port`, each tried in turn and resolved anew for each connection.
    pub addresses: Vec<String>,
    /// The name that the server's certificate must have.
    pub server_name: ServerName<'static>,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address is known, or none of the names resolves.
    #[error("{0} has no address: check the name and the network")]
    Unresolved(String),
    /// Nobody answers.
    #[error("{address} does not answer ({message}): is the coordinator running, is the port open?")]
    Unreachable {
        /// The last address tried.
        address: String,
        /// In the system's words.
        message: String,
    },
    /// It took too long.
    #[error("{address} did not finish the handshake in {} ms: it is overloaded or not Hearth", .limit.as_millis())]
    Timeout {
        /// The last address tried.
        address: String,
        /// The time allowed.
        limit: Duration,
    },
    /// One side does not believe the other.
    #[error("{address} and this machine do not accept each other: {error}")]
    Tls {
        /// The address.
        address: String,
        /// In TLS's words.
        error: rustls::Error,
    },
    /// The server speaks something else.
    #[error("{address} does not speak {}: it is no Hearth coordinator, or another version", .alpn.name())]
    Alpn {
        /// The address.
        address: String,
        /// What was asked for.
        alpn: Alpn,
    },
}

impl ConnectError {
    /// Who can change it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Unresolved(_) | Self::Unreachable { .. } | Self::Timeout { .. } => {
                Blame::Operator
            }
            Self::Tls { .. } | Self::Alpn { .. } => Blame::Peer,
        }
    }
}

/// A connection to `endpoint` for `alpn`, made within `limit` per address.
///
/// # Errors
///
/// [`ConnectError`] of the last address tried.
pub async fn connect(
    endpoint: &Endpoint,
    tls: &ClientTls,
    alpn: Alpn,
    limit: Duration,
) -> Result<ClientStream, ConnectError> {
    let mut last = ConnectError::Unresolved(endpoint.addresses.join(", "));
    for name in &endpoint.addresses {
        let resolved = match timeout(limit, lookup_host(name.as_str())).await {
            Ok(Ok(resolved)) => resolved.collect::<Vec<_>>(),
            Ok(Err(_)) | Err(_) => {
                last = ConnectError::Unresolved(name.clone());
                continue;
            }
        };
        for address in resolved {
            match timeout(limit, handshake(address, endpoint, tls, alpn)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => {
                    last = ConnectError::Timeout {
                        address: address.to_string(),
                        limit,
                    }
                }
            }
        }
    }
    Err(last)
}

async fn handshake(
    address: SocketAddr,
    endpoint: &Endpoint,
    tls: &ClientTls,
    alpn: Alpn,
) -> Result<ClientStream, ConnectError> {
    let text = || address.to_string();
    let unreachable = |error: io::Error| ConnectError::Unreachable {
        address: text(),
        message: error.to_string(),
    };
    let tcp = TcpStream::connect(address).await.map_err(unreachable)?;
    tune(&tcp).map_err(unreachable)?;
    let stream = TlsConnector::from(tls.config(alpn))
        .connect(endpoint.server_name.clone(), tcp)
        .await
        .map_err(|error| match cause(&error) {
            // A server that shares no protocol with us says so before it shows a certificate.
            Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)) => {
                ConnectError::Alpn {
                    address: text(),
                    alpn,
                }
            }
            Some(cause) => ConnectError::Tls {
                address: text(),
                error: cause.clone(),
            },
            None => unreachable(error),
        })?;
    if stream.get_ref().1.alpn_protocol() == Some(alpn.name().as_bytes()) {
        Ok(stream)
    } else {
        Err(ConnectError::Alpn {
            address: text(),
            alpn,
        })
    }
}

/// No delay for small frames; a peer that vanished without a word is noticed by the kernel too.
pub(crate) fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(Duration::from_secs(15))
            .with_interval(Duration::from_secs(5))
            .with_retries(3),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(30)))?;
    Ok(())
}
