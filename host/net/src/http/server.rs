//! Serving one accepted stream.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::stall::WriteStall;
use crate::shutdown::Shutdown;

/// What an HTTP connection allows. Bodies have their own limits, see [`super::body`].
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// From the end of one answer (or the start) until the end of the next request's headers: the
    /// slowest headers, and the longest idle time of a connection that is kept.
    pub header: Duration,
    /// Header fields of one request.
    pub headers: usize,
    /// Bytes of one request's head. hyper's least is 8 KiB.
    pub head_bytes: usize,
    /// Longest time that a write may wait for the peer to read.
    pub write: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(20),
            headers: 64,
            head_bytes: 32 << 10,
            write: Duration::from_secs(15),
        }
    }
}

/// Why serving a connection ended, other than by its own end. The peer is to blame for all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// No request came before the establish deadline.
    #[error("no request in time")]
    NoRequest,
    /// Headers came too slowly.
    #[error("headers too slow")]
    SlowHeaders,
    /// Not HTTP/1, or more than its limits. It was answered with a status if it could be.
    #[error("malformed request: {0}")]
    Malformed(String),
    /// Answers were not read.
    #[error("answers were not read in time")]
    Slow,
    /// The connection broke within a request.
    #[error("connection lost: {0}")]
    Lost(String),
    /// Requests were still being served when the grace of a shutdown was over.
    #[error("cut off by shutdown")]
    CutOff,
}

/// Serves `service` on `stream` until it closes, breaks a limit, or `shutdown` has been asked for and
/// the present request is answered.
///
/// # Errors
///
/// [`ServeError`], worth a counter and a debug line.
pub async fn serve<T, S, B>(
    stream: T,
    service: S,
    limits: &HttpLimits,
    first_request_by: Option<Instant>,
    mut shutdown: Shutdown,
) -> Result<(), ServeError>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let seen = Arc::new(AtomicBool::new(false));
    let service = Seen {
        service,
        seen: seen.clone(),
    };
    let connection = http1::Builder::new()
        // Without a timer, hyper ignores the limit on headers.
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_headers(limits.headers)
        .max_buf_size(limits.head_bytes.max(8 << 10))
        .serve_connection(TokioIo::new(WriteStall::new(stream, limits.write)), service);
    tokio::pin!(connection);
    let first = async {
        match first_request_by {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(first);
    let (mut established, mut draining) = (false, false);
    let mut expired = shutdown.clone();
    loop {
        tokio::select! {
            result = &mut connection => return result.map_err(|error| ended(&error)),
            () = &mut first, if !established => {
                if !seen.load(Ordering::Relaxed) {
                    return Err(ServeError::NoRequest);
                }
                established = true;
            }
            () = shutdown.requested(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = expired.expired() => return Err(ServeError::CutOff),
        }
    }
}

/// [`serve`] for a tower service, such as an axum router.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_tower<T, S, B>(
    stream: T,
    service: S,
    limits: &HttpLimits,
    first_request_by: Option<Instant>,
    shutdown: Shutdown,
) -> Result<(), ServeError>
where
    T: AsyncRead + AsyncWrite + Unpin,
    TowerToHyperService<S>: Service<Request<Incoming>, Response = Response<B>>,
    <TowerToHyperService<S> as Service<Request<Incoming>>>::Error:
        Into<Box<dyn StdError + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let service = TowerToHyperService::new(service);
    serve(stream, service, limits, first_request_by, shutdown).await
}

fn ended(error: &hyper::Error) -> ServeError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::TimedOut
        {
            return ServeError::Slow;
        }
        cause = inner.source();
    }
    if error.is_parse() || error.is_parse_too_large() {
        ServeError::Malformed(error.to_string())
    } else if error.is_timeout() {
        ServeError::SlowHeaders
    } else {
        ServeError::Lost(error.to_string())
    }
}

/// Notes that a request has come.
struct Seen<S> {
    service: S,
    seen: Arc<AtomicBool>,
}

impl<S, B> Service<Request<Incoming>> for Seen<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.seen.store(true, Ordering::Relaxed);
        self.service.call(request)
    }
}
