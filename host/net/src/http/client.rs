//! Talking to one server.

mod connection;
mod error;
mod events;
mod transfer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_wire::limits::{
    API_BODY_BYTES_MAX, BLOB_RANGE_BYTES, BLOB_STALL_MILLIS, ESTABLISH_MILLIS,
};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::tls::{Alpn, ClientTls, Endpoint};
use connection::{Answer, Pool, Target, Upload};

pub use error::HttpError;
pub use events::{Event, Events};
pub use transfer::UploadSource;

/// What a client allows.
#[derive(Debug, Clone)]
pub struct ClientLimits {
    /// To connect, per address.
    pub connect: Duration,
    /// For one request with a JSON answer, from the first byte sent to the last received.
    pub request: Duration,
    /// Longest pause in a transfer. The transfer is then resumed.
    pub stall: Duration,
    /// Longest pause between server-sent events; servers send comments in between.
    pub events_silence: Duration,
    /// Connections kept and requests in flight at once; event streams come on top.
    pub connections: usize,
    /// Bytes of one JSON answer.
    pub answer_bytes: usize,
    /// Bytes asked for or sent at once within a transfer.
    pub range_bytes: u64,
    /// Attempts in a row that move nothing before a transfer fails.
    pub retries: u32,
    /// First and longest delay between such attempts.
    pub retry_delay: (Duration, Duration),
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(ESTABLISH_MILLIS / 2),
            request: Duration::from_secs(30),
            stall: Duration::from_millis(BLOB_STALL_MILLIS),
            events_silence: Duration::from_secs(45),
            connections: 4,
            // A page of results is larger than any request.
            answer_bytes: 16 * API_BODY_BYTES_MAX,
            range_bytes: BLOB_RANGE_BYTES,
            retries: 5,
            retry_delay: (Duration::from_millis(100), Duration::from_secs(5)),
        }
    }
}

/// A client of one server. Clones share its connections.
///
/// Connections are kept between requests. A request that meets a kept connection just closed by the
/// server is sent again on a new one, unless the server may have begun to act on it.
///
/// Dropping a request's future before its end closes the connection that it used. For a client over an
/// inherited stream, which has only that one, this is the end.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Arc<Pool>,
}

impl Client {
    /// A client over TLS, with [`Alpn::Http`] or [`Alpn::Enrol`].
    #[must_use]
    pub fn tls(endpoint: Endpoint, tls: ClientTls, alpn: Alpn, limits: ClientLimits) -> Self {
        let authority = match &endpoint.server_name {
            rustls::pki_types::ServerName::IpAddress(ip) => std::net::IpAddr::from(*ip).to_string(),
            name => name.to_str().into_owned(),
        };
        let target = Target::Tls {
            endpoint: Box::new(endpoint),
            tls,
            alpn,
        };
        Self {
            pool: Arc::new(Pool::new(target, authority, None, limits)),
        }
    }

    /// A client without TLS, for a server on this machine that asks for a bearer token.
    #[must_use]
    pub fn plain(address: SocketAddr, token: Option<String>, limits: ClientLimits) -> Self {
        let pool = Pool::new(Target::Plain(address), address.to_string(), token, limits);
        Self {
            pool: Arc::new(pool),
        }
    }

    /// A client over one inherited stream. Its requests take turns.
    ///
    /// # Errors
    ///
    /// [`HttpError::Lost`] if the stream is closed already.
    pub async fn over<S>(stream: S, limits: ClientLimits) -> Result<Self, HttpError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = ClientLimits {
            connections: 1,
            ..limits
        };
        let pool = Pool::new(Target::Inherited, "local".to_owned(), None, limits);
        pool.adopt(stream).await?;
        Ok(Self {
            pool: Arc::new(pool),
        })
    }

    /// `GET`, JSON back.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        self.json(Method::GET, path, None).await
    }

    /// `POST` of JSON, JSON back.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub async fn post_json<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, HttpError> {
        self.json(Method::POST, path, Some(to_json(body)?)).await
    }

    /// `DELETE`, JSON back.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub async fn delete_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        self.json(Method::DELETE, path, None).await
    }

    /// `POST` of bytes, JSON back.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub async fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Bytes,
    ) -> Result<T, HttpError> {
        let body = ("application/octet-stream", body);
        self.json(Method::POST, path, Some(body)).await
    }

    /// `GET` of at most `max` bytes into memory.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub async fn get_bytes(&self, path: &str, max: usize) -> Result<Bytes, HttpError> {
        let request = self.request(Method::GET, path, None)?;
        let answer = self.send(request).await?.checked().await?;
        answer.read(max).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<T, HttpError> {
        let limit = self.pool.limits.request;
        let exchange = async {
            let request = self.request(method, path, body)?;
            let answer = self.send(request).await?.checked().await?;
            let bytes = answer.read(self.pool.limits.answer_bytes).await?;
            // Answers without a body read as `()` or an `Option`.
            let bytes = if bytes.is_empty() {
                Bytes::from_static(b"null")
            } else {
                bytes
            };
            serde_json::from_slice(&bytes).map_err(|error| HttpError::Malformed(error.to_string()))
        };
        tokio::time::timeout(limit, exchange)
            .await
            .map_err(|_| HttpError::Timeout { limit })?
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Request<Upload>, HttpError> {
        let mut request = self.pool.request(method, path);
        let mut upload = Upload::default();
        if let Some((media_type, bytes)) = body {
            request = request.header(CONTENT_TYPE, media_type);
            upload = Upload::new(bytes);
        }
        request
            .header(ACCEPT, "application/json, */*;q=0.5")
            .body(upload)
            .map_err(|error| HttpError::Malformed(error.to_string()))
    }

    async fn send(&self, request: Request<Upload>) -> Result<Answer, HttpError> {
        Pool::send(&self.pool, request).await
    }
}

fn to_json<B: Serialize>(body: &B) -> Result<(&'static str, Bytes), HttpError> {
    let bytes =
        serde_json::to_vec(body).map_err(|error| HttpError::Malformed(error.to_string()))?;
    Ok(("application/json", bytes.into()))
}
