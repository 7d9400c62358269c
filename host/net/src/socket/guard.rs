//! Counts what tungstenite does not: fragments, control frames, time.
//!
//! It looks only at frame headers, on the plain bytes between TLS and tungstenite, and ends the
//! connection with a typed error before tungstenite keeps what came. Payloads pass untouched.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::{SocketError, SocketLimits};

/// Bytes of an HTTP head, before frames begin.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How many bytes have come so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Received(Arc<AtomicU64>);

impl Received {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A limit that the peer broke, on its way through an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Violation(pub(super) SocketError);

/// A stream whose incoming WebSocket frames are counted.
#[derive(Debug)]
pub(super) struct Guard<S> {
    stream: S,
    received: Received,
    inspector: Inspector,
}

impl<S> Guard<S> {
    pub(super) fn new(stream: S, limits: &SocketLimits) -> (Self, Received) {
        let received = Received::default();
        let guard = Self {
            stream,
            received: received.clone(),
            inspector: Inspector::new(limits.clone(), Instant::now()),
        };
        (guard, received)
    }
}

/// Where in the bytes we are.
#[derive(Debug)]
enum Place {
    /// In the head of the upgrade: how much of the blank line has come, how many bytes in all.
    Head { matched: usize, bytes: usize },
    /// In a frame's header: what has come of it.
    Header { bytes: [u8; 14], have: usize },
    /// In a frame's payload: how much is to come, and whether it ends the batch.
    Payload { left: u64, ends: bool },
}

const HEADER: Place = Place::Header {
    bytes: [0; 14],
    have: 0,
};

#[derive(Debug)]
struct Inspector {
    limits: SocketLimits,
    place: Place,
    fragments: u32,
    /// Since when the batch that is coming has been coming.
    batch_since: Option<Instant>,
    /// In thousandths.
    control_tokens: u64,
    control_since: Instant,
}

impl Inspector {
    fn new(limits: SocketLimits, now: Instant) -> Self {
        Self {
            place: Place::Head {
                matched: 0,
                bytes: 0,
            },
            fragments: 0,
            batch_since: None,
            control_tokens: u64::from(limits.control_burst) * 1_000,
            control_since: now,
            limits,
        }
    }

    fn inspect(&mut self, mut input: &[u8], now: Instant) -> Result<(), SocketError> {
        while !input.is_empty() {
            match &mut self.place {
                Place::Head { matched, bytes } => {
                    const BLANK_LINE: &[u8] = b"\r\n\r\n";
                    let byte = input[0];
                    input = &input[1..];
                    *bytes += 1;
                    if byte == BLANK_LINE[*matched] {
                        *matched += 1;
                    } else {
                        *matched = usize::from(byte == BLANK_LINE[0]);
                    }
                    if *matched == BLANK_LINE.len() {
                        self.place = HEADER;
                    } else if *bytes >= HEAD_BYTES_MAX {
                        return Err(SocketError::TooLarge {
                            bytes: *bytes as u64,
                            max: HEAD_BYTES_MAX,
                        });
                    }
                }
                Place::Header { bytes, have } => {
                    let need = if *have < 2 { 2 } else { header_len(bytes) };
                    let take = (need - *have).min(input.len());
                    bytes[*have..*have + take].copy_from_slice(&input[..take]);
                    *have += take;
                    input = &input[take..];
                    if *have >= 2 && *have == header_len(bytes) {
                        let header = *bytes;
                        self.place = self.header(header, now)?;
                        self.end_of_batch();
                    }
                }
                Place::Payload { left, .. } => {
                    let take = (*left).min(input.len() as u64);
                    *left -= take;
                    input = &input[take as usize..];
                    self.end_of_batch();
                }
            }
        }
        match self.batch_since {
            Some(since) if now.duration_since(since) > self.limits.batch => {
                Err(SocketError::SlowBatch {
                    limit: self.limits.batch,
                })
            }
            _ => Ok(()),
        }
    }

    /// After a whole header: what may come behind it.
    fn header(&mut self, bytes: [u8; 14], now: Instant) -> Result<Place, SocketError> {
        const TEXT: u8 = 1;
        const CONTINUATION: u8 = 0;
        const FIRST_CONTROL: u8 = 8;
        let opcode = bytes[0] & 0x0f;
        let last = bytes[0] & 0x80 != 0;
        let left = payload_len(&bytes);
        if left > self.limits.frame_bytes as u64 {
            return Err(SocketError::TooLarge {
                bytes: left,
                max: self.limits.frame_bytes,
            });
        }
        match opcode {
            FIRST_CONTROL.. => {
                self.take_control_token(now)?;
                return Ok(Place::Payload { left, ends: false });
            }
            TEXT => return Err(SocketError::Text),
            CONTINUATION => self.fragments += 1,
            _ => {
                self.fragments = 1;
                self.batch_since = Some(now);
            }
        }
        if self.fragments > self.limits.fragments {
            return Err(SocketError::TooManyFragments {
                max: self.limits.fragments,
            });
        }
        Ok(Place::Payload { left, ends: last })
    }

    fn end_of_batch(&mut self) {
        if let Place::Payload { left: 0, ends } = self.place {
            if ends {
                self.batch_since = None;
            }
            self.place = HEADER;
        }
    }

    fn take_control_token(&mut self, now: Instant) -> Result<(), SocketError> {
        let millis = now.duration_since(self.control_since).as_millis() as u64;
        let earned = millis.saturating_mul(u64::from(self.limits.control_per_second));
        self.control_tokens = self
            .control_tokens
            .saturating_add(earned)
            .min(u64::from(self.limits.control_burst) * 1_000);
        self.control_since = now;
        self.control_tokens = self
            .control_tokens
            .checked_sub(1_000)
            .ok_or(SocketError::ControlFlood)?;
        Ok(())
    }
}

/// Length of a header whose first two bytes are here.
fn header_len(bytes: &[u8; 14]) -> usize {
    let length = match bytes[1] & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if bytes[1] & 0x80 == 0 { 0 } else { 4 };
    2 + length + mask
}

fn payload_len(bytes: &[u8; 14]) -> u64 {
    match bytes[1] & 0x7f {
        126 => u64::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => bytes[2..10]
            .iter()
            .fold(0, |length, &byte| length << 8 | u64::from(byte)),
        short => u64::from(short),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let new = &buffer.filled()[before..];
        self.received
            .0
            .fetch_add(new.len() as u64, Ordering::Relaxed);
        Poll::Ready(
            self.inspector
                .inspect(new, Instant::now())
                .map_err(|error| io::Error::other(Violation(error))),
        )
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames that tungstenite itself writes, cut at every place, are counted as they are.
    #[tokio::test(start_paused = true)]
    async fn reads_headers_however_they_are_cut() {
        let mut bytes = b"GET / HTTP/1.1\r\nx: \r\r\n\r\n".to_vec();
        for (length, masked) in [(0usize, true), (5, false), (300, true), (70_000, false)] {
            bytes.push(0x82);
            let mask = if masked { 0x80 } else { 0 };
            match length {
                0..126 => bytes.push(mask | length as u8),
                126..65_536 => {
                    bytes.push(mask | 126);
                    bytes.extend((length as u16).to_be_bytes());
                }
                _ => {
                    bytes.push(mask | 127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            bytes.extend(vec![0x89; length + if masked { 4 } else { 0 }]);
        }
        let limits = SocketLimits {
            control_burst: 0,
            ..SocketLimits::default()
        };
        for cut in [1, 2, 3, 7, 64, 1_000, bytes.len()] {
            let mut inspector = Inspector::new(limits.clone(), Instant::now());
            for piece in bytes.chunks(cut) {
                // Payload bytes look like pings: one header misread would end it.
                inspector.inspect(piece, Instant::now()).unwrap();
            }
            assert!(matches!(inspector.place, Place::Header { have: 0, .. }));
            assert!(inspector.batch_since.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn control_frames_earn_their_tokens_back() {
        let now = Instant::now();
        let mut inspector = Inspector::new(SocketLimits::default(), now);
        inspector.inspect(b"\r\n\r\n", now).unwrap();
        let ping = [0x89, 0];
        for _ in 0..31 {
            inspector.inspect(&ping, now).unwrap();
        }
        let later = now + std::time::Duration::from_secs(1);
        for _ in 0..9 {
            inspector.inspect(&ping, later).unwrap();
        }
        assert_eq!(
            inspector.inspect(&ping, later),
            Err(SocketError::ControlFlood)
        );
    }
}
