//! A stream whose peer must read, and whose last answer is not lost.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long, and for how many bytes, a closing connection is read from.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 64 << 20;

/// Fails a write that has waited too long. hyper has no limit of its own for this.
///
/// A request may be refused before its body was read. If the socket were then closed with bytes
/// unread, the system would reset the connection, and the peer, still sending, would hear of the reset
/// and not of the refusal. So after the last answer the rest is read and thrown away for a moment.
#[derive(Debug)]
pub(super) struct WriteStall<S> {
    stream: S,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
    /// Bytes that may still be thrown away, once this side has closed.
    lingering: Option<usize>,
}

impl<S> WriteStall<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            timer: Box::pin(sleep(limit)),
            waiting: false,
            lingering: None,
        }
    }

    fn watch<T>(
        &mut self,
        poll: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.waiting = false;
            return poll;
        }
        if !self.waiting {
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + self.limit);
        }
        match self.timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer does not read",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteStall<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WriteStall<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(poll, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(poll, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let left = match &mut this.lingering {
            Some(left) => left,
            lingering => {
                let poll = Pin::new(&mut this.stream).poll_shutdown(context);
                if poll.is_pending() {
                    return this.watch(poll, context);
                }
                ready!(poll)?;
                this.timer.as_mut().reset(Instant::now() + LINGER);
                lingering.insert(LINGER_BYTES_MAX)
            }
        };
        let mut scratch = [0; 4 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            let poll = Pin::new(&mut this.stream).poll_read(context, &mut buffer);
            if poll.is_pending() {
                // When the moment is over, so is the connection.
                return this.timer.as_mut().poll(context).map(Ok);
            }
            let length = buffer.filled().len();
            *left = left.saturating_sub(length);
            // An error is the peer's goodbye, and not worth telling.
            if matches!(poll, Poll::Ready(Err(_))) || length == 0 || *left == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
