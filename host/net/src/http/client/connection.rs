//! Connections that are kept between requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::http::request::Builder;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{ClientLimits, HttpError};
use crate::http::body::{Chunks, read_all};
use crate::tls::{Alpn, ClientTls, ConnectError, Endpoint, connect, tune};

/// An error answer has one JSON object.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Pieces in which a body is handed to the connection, so that its progress is seen.
const PIECE_BYTES: usize = 64 << 10;

/// Where requests go.
#[derive(Debug)]
pub(super) enum Target {
    Tls {
        endpoint: Box<Endpoint>,
        tls: ClientTls,
        alpn: Alpn,
    },
    Plain(SocketAddr),
    /// The one connection was given; there will be no other.
    Inherited,
}

#[derive(Debug)]
pub(super) struct Pool {
    target: Target,
    authority: String,
    token: Option<String>,
    pub(super) limits: ClientLimits,
    idle: Mutex<Vec<SendRequest<Upload>>>,
    places: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(
        target: Target,
        authority: String,
        token: Option<String>,
        limits: ClientLimits,
    ) -> Self {
        Self {
            target,
            authority,
            token,
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(limits.connections.max(1))),
            limits,
        }
    }

    pub(super) fn request(&self, method: Method, path: &str) -> Builder {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority);
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Makes `stream` the pool's one connection.
    pub(super) async fn adopt<S>(&self, stream: S) -> Result<(), HttpError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connection = handshake(stream).await?;
        self.keep(connection);
        Ok(())
    }

    /// Sends `request` as soon as there is a place for it.
    pub(super) async fn send(
        pool: &Arc<Self>,
        request: Request<Upload>,
    ) -> Result<Answer, HttpError> {
        let place = pool
            .places
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| HttpError::Lost("the client was closed".to_owned()))?;
        let answer = pool.exchange(request).await?;
        Ok(Answer {
            place: Some(place),
            pool: Some(pool.clone()),
            ..answer
        })
    }

    /// Sends a request whose answer may take as long as it likes: it takes none of the places, and its
    /// connection is kept like any other once the answer has ended.
    pub(super) async fn send_apart(
        pool: &Arc<Self>,
        request: Request<Upload>,
    ) -> Result<Answer, HttpError> {
        match pool.target {
            Target::Inherited => Self::send(pool, request).await,
            Target::Tls { .. } | Target::Plain(_) => Ok(Answer {
                pool: Some(pool.clone()),
                ..pool.exchange(request).await?
            }),
        }
    }

    async fn exchange(&self, mut request: Request<Upload>) -> Result<Answer, HttpError> {
        while let Some(connection) = self.kept().await {
            // Everything but POST may be done twice. A POST that was sent may have been acted on.
            let again = (request.method() != Method::POST).then(|| request.clone());
            match self.try_on(connection, request).await {
                Ok(answer) => return Ok(answer),
                // The server closed the kept connection meanwhile and has not seen the request.
                Err((_, Some(unsent))) => request = unsent,
                Err((error @ HttpError::Lost(_), None)) => request = again.ok_or(error)?,
                Err((error, None)) => return Err(error),
            }
        }
        let connection = self.connect().await?;
        self.try_on(connection, request)
            .await
            .map_err(|(error, _)| error)
    }

    /// The error comes with the request if the server cannot have seen it.
    async fn try_on(
        &self,
        mut connection: SendRequest<Upload>,
        request: Request<Upload>,
    ) -> Result<Answer, (HttpError, Option<Request<Upload>>)> {
        let progress = request.body().progress.clone();
        let exchange = connection.try_send_request(request);
        tokio::pin!(exchange);
        loop {
            let before = progress.load(Ordering::Relaxed);
            match timeout(self.limits.stall, &mut exchange).await {
                Ok(Ok(response)) => {
                    let (head, body) = response.into_parts();
                    return Ok(Answer {
                        status: head.status,
                        headers: head.headers,
                        body,
                        stall: self.limits.stall,
                        connection: Some(connection),
                        place: None,
                        pool: None,
                    });
                }
                Ok(Err(mut error)) => {
                    let unsent = error.take_message();
                    return Err((HttpError::from_hyper(error.error()), unsent));
                }
                // A large body on a slow line is not a stall.
                Err(_) if progress.load(Ordering::Relaxed) > before => {}
                Err(_) => {
                    let limit = self.limits.stall;
                    return Err((HttpError::Timeout { limit }, None));
                }
            }
        }
    }

    /// A kept connection that is ready, if there is one.
    async fn kept(&self) -> Option<SendRequest<Upload>> {
        loop {
            let mut connection = self
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()?;
            if connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: SendRequest<Upload>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !connection.is_closed() && idle.len() < self.limits.connections {
            idle.push(connection);
        }
    }

    async fn connect(&self) -> Result<SendRequest<Upload>, HttpError> {
        let limit = self.limits.connect;
        match &self.target {
            Target::Tls {
                endpoint,
                tls,
                alpn,
            } => handshake(connect(endpoint, tls, *alpn, limit).await?).await,
            Target::Plain(address) => {
                let unreachable = |message: String| ConnectError::Unreachable {
                    address: address.to_string(),
                    message,
                };
                let tcp = timeout(limit, TcpStream::connect(address))
                    .await
                    .map_err(|_| ConnectError::Timeout {
                        address: address.to_string(),
                        limit,
                    })?
                    .map_err(|error| unreachable(error.to_string()))?;
                tune(&tcp).map_err(|error| unreachable(error.to_string()))?;
                handshake(tcp).await
            }
            Target::Inherited => Err(HttpError::Lost(
                "the inherited connection is closed".to_owned(),
            )),
        }
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Upload>, HttpError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(64 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| HttpError::from_hyper(&error))?;
    // Ends with the connection, whose life is that of `sender` and its answers.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "client connection ended");
        }
    });
    Ok(sender)
}

/// An answer whose body is not read yet. Its connection is kept if the body is read to the end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Incoming,
    stall: Duration,
    connection: Option<SendRequest<Upload>>,
    place: Option<OwnedSemaphorePermit>,
    pool: Option<Arc<Pool>>,
}

impl Answer {
    /// This answer if its status is a good one, and otherwise the error that it tells.
    pub(super) async fn checked(self) -> Result<Self, HttpError> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(self.into_error().await)
    }

    /// The error that this answer tells.
    pub(super) async fn into_error(self) -> HttpError {
        let status = self.status.as_u16();
        match self.read(ERROR_BYTES_MAX).await {
            Ok(body) => HttpError::from_answer(status, &body),
            Err(HttpError::TooLarge { .. }) => HttpError::from_answer(status, &[]),
            Err(error) => error,
        }
    }

    /// The stated length of the body.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// All of the body.
    pub(super) async fn read(mut self, max: usize) -> Result<Bytes, HttpError> {
        let body = read_all(&mut self.body, max, self.stall).await?;
        self.finish();
        Ok(body)
    }

    /// The body piece by piece. After the end call [`Answer::finish`].
    pub(super) fn chunks(&mut self, max: u64, stall: Duration) -> Chunks<&mut Incoming> {
        Chunks::new(&mut self.body, max, stall)
    }

    /// Keeps the connection: the body was read to its end.
    pub(super) fn finish(mut self) {
        if let (Some(pool), Some(connection)) = (self.pool.take(), self.connection.take()) {
            pool.keep(connection);
        }
        // Only now may another request look for a kept connection.
        drop(self.place.take());
    }
}

/// A request's body, which tells how far it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Upload {
    bytes: Bytes,
    progress: Arc<AtomicU64>,
}

impl Upload {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            progress: Arc::default(),
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.bytes.len().min(PIECE_BYTES);
        let piece = self.bytes.split_to(length);
        self.progress.fetch_add(length as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
