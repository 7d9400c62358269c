//! From HTTP to WebSocket, under a time limit on both sides.

use std::future::Future;

use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::{accept_hdr_async_with_config, client_async_with_config};

use super::guard::Guard;
use super::{SUBPROTOCOL, SocketError, SocketLimits, Stream, Transport, config};

pub(super) async fn connect(
    stream: Guard<Box<dyn Transport>>,
    authority: &str,
    path: &str,
    limits: &SocketLimits,
) -> Result<Stream, SocketError> {
    let mut request = format!("ws://{authority}{path}").into_client_request()?;
    request.headers_mut().insert(
        SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(SUBPROTOCOL),
    );
    let upgrade = client_async_with_config(request, stream, Some(config(limits)));
    let (stream, _) = within(Instant::now() + limits.upgrade, upgrade).await?;
    Ok(stream)
}

// The error is tungstenite's own type.
#[allow(clippy::result_large_err)]
pub(super) async fn accept(
    stream: Guard<Box<dyn Transport>>,
    path: &str,
    deadline: Option<Instant>,
    limits: &SocketLimits,
) -> Result<Stream, SocketError> {
    let check = |request: &Request, mut response: Response| {
        let refuse = |status| {
            let mut refusal = ErrorResponse::new(None);
            *refusal.status_mut() = status;
            refusal
        };
        if request.uri().path() != path {
            return Err(refuse(StatusCode::NOT_FOUND));
        }
        let protocol = request.headers().get(SEC_WEBSOCKET_PROTOCOL);
        if protocol.is_none_or(|protocol| protocol != SUBPROTOCOL) {
            return Err(refuse(StatusCode::BAD_REQUEST));
        }
        response.headers_mut().insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
        Ok(response)
    };
    let upgrade = accept_hdr_async_with_config(stream, check, Some(config(limits)));
    let deadline = deadline.unwrap_or_else(|| Instant::now() + limits.upgrade);
    within(deadline, upgrade)
        .await
        .map_err(|error| match error {
            // On this side it was the request that was refused.
            SocketError::Refused { status } => {
                SocketError::Protocol(format!("not an upgrade to {path}, answered with {status}"))
            }
            error => error,
        })
}

async fn within<T>(
    deadline: Instant,
    upgrade: impl Future<Output = Result<T, WsError>>,
) -> Result<T, SocketError> {
    timeout_at(deadline, upgrade)
        .await
        .map_err(|_| SocketError::Establish)?
        .map_err(SocketError::from)
}
