//! An accepted connection, which holds its place until it is dropped.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;

/// An accepted connection, with TLS or (on loopback) without.
#[derive(Debug)]
pub struct ServerStream {
    inner: Inner,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Inner {
    /// Boxed: a TLS state is 1 KiB, and streams are moved through channels.
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

impl ServerStream {
    pub(super) fn tls(stream: TlsStream<TcpStream>, place: OwnedSemaphorePermit) -> Self {
        Self {
            inner: Inner::Tls(Box::new(stream)),
            _place: place,
        }
    }

    pub(super) fn plain(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        Self {
            inner: Inner::Plain(stream),
            _place: place,
        }
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Inner::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Inner::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Tls(stream) => Pin::new(stream).poll_flush(context),
            Inner::Plain(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Inner::Plain(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
