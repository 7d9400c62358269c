//! What waits to be written to one peer: encoded, bounded, cut into frames as late as possible.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use hearth_wire::limits::WIRE_VERSION;
use serde::Serialize;
use tokio::sync::{Notify, watch};

use super::{CloseReason, SendError, SocketError, SocketLimits};

/// Frames are cut at this size if messages allow it: large enough that headers and system calls do
/// not count, small enough that ten thousand write buffers do not either.
pub(super) const FRAME_BYTES_TARGET: usize = 64 << 10;
/// Version byte and the count of messages, at most.
const ENVELOPE_BYTES_MAX: usize = 1 + 5;

/// Messages waiting for one peer.
///
/// They are encoded when they are sent, on the sender's time, one behind the other into one buffer.
/// A batch `Vec<Message>` is the count and then the messages, so a frame is cut from the buffer by
/// putting a count in front. It costs one copy per frame and no allocation per message.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// The writer sleeps here.
    pub(super) work: Notify,
    /// Senders that found it full sleep here.
    pub(super) room: Notify,
    ended: watch::Sender<Option<SocketError>>,
    messages_max: usize,
    bytes_max: usize,
    message_bytes_max: usize,
    frame_messages: usize,
}

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    lengths: VecDeque<usize>,
    scratch: Vec<u8>,
    closing: Option<(CloseReason, String)>,
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Work {
    Frame(Bytes),
    Close(CloseReason, String),
    Nothing,
}

impl Outbox {
    pub(super) fn new(limits: &SocketLimits) -> Self {
        Self {
            state: Mutex::default(),
            work: Notify::new(),
            room: Notify::new(),
            ended: watch::Sender::new(None),
            messages_max: limits.outbox_messages,
            bytes_max: limits.outbox_bytes,
            message_bytes_max: limits.frame_bytes - ENVELOPE_BYTES_MAX,
            frame_messages: limits.frame_messages,
        }
    }

    /// Puts one message in, or says why not.
    pub(super) fn push<T: Serialize>(&self, message: &T) -> Result<(), SendError> {
        if let Some(error) = self.error() {
            return Err(error.into());
        }
        let mut state = self.lock();
        if let Some((reason, text)) = &state.closing {
            return Err(SendError::Closed(reason.closed(text)));
        }
        if state.lengths.len() >= self.messages_max {
            return Err(SendError::Full);
        }
        let mut scratch = std::mem::take(&mut state.scratch);
        scratch.clear();
        let scratch = postcard::to_extend(message, scratch)
            .map_err(|error| SendError::Encode(error.to_string()))?;
        let length = scratch.len();
        let result = if length > self.message_bytes_max {
            Err(SendError::TooLarge {
                bytes: length,
                max: self.message_bytes_max,
            })
        } else if !state.lengths.is_empty() && state.bytes.len() + length > self.bytes_max {
            Err(SendError::Full)
        } else {
            state.bytes.extend_from_slice(&scratch);
            state.lengths.push_back(length);
            Ok(())
        };
        // One large message must not be remembered for the life of the connection.
        if scratch.capacity() <= FRAME_BYTES_TARGET {
            state.scratch = scratch;
        }
        drop(state);
        if result.is_ok() {
            self.work.notify_one();
        }
        result
    }

    /// The next frame, or what to do when none is left.
    pub(super) fn take(&self) -> Work {
        let mut state = self.lock();
        if state.lengths.is_empty() {
            return match state.closing.clone() {
                Some((reason, text)) => Work::Close(reason, text),
                None => Work::Nothing,
            };
        }
        let (mut count, mut length) = (0, 0);
        while let Some(&next) = state.lengths.front()
            && count < self.frame_messages
            && (count == 0 || length + next <= FRAME_BYTES_TARGET)
        {
            state.lengths.pop_front();
            count += 1;
            length += next;
        }
        let mut frame = BytesMut::with_capacity(ENVELOPE_BYTES_MAX + length);
        frame.put_u8(WIRE_VERSION);
        put_varint(&mut frame, count);
        frame.extend_from_slice(&state.bytes.split_to(length));
        if state.bytes.is_empty() && state.bytes.capacity() > FRAME_BYTES_TARGET {
            state.bytes = BytesMut::new();
        }
        drop(state);
        self.room.notify_waiters();
        Work::Frame(frame.freeze())
    }

    /// Asks the writer to close once everything queued is written. The first reason stays.
    pub(super) fn close(&self, reason: CloseReason, text: &str) {
        self.lock()
            .closing
            .get_or_insert_with(|| (reason, text.to_owned()));
        self.work.notify_one();
    }

    /// Ends the socket. The first error stays, and is what everyone sees.
    pub(super) fn end(&self, error: SocketError) -> SocketError {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(error);
            first
        });
        self.room.notify_waiters();
        // Just set, if not before.
        self.error()
            .unwrap_or_else(|| SocketError::Lost("ended".to_owned()))
    }

    pub(super) fn error(&self) -> Option<SocketError> {
        self.ended.borrow().clone()
    }

    /// Waits until the socket has ended.
    pub(super) async fn ended(&self) -> SocketError {
        let mut receiver = self.ended.subscribe();
        match receiver.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(error)) => error.clone(),
            // Neither can happen while `self` holds the sending end.
            Ok(None) | Err(_) => SocketError::Lost("ended".to_owned()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// postcard's length prefix.
fn put_varint(frame: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        frame.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    frame.put_u8(value as u8);
}

/// How many messages a frame says it holds, before any is parsed.
pub(super) fn announced(frame: &[u8]) -> Option<u64> {
    let mut count = 0;
    for (index, &byte) in frame.iter().skip(1).take(9).enumerate() {
        count |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(count);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_wire::codec;

    #[test]
    fn a_frame_is_what_the_codec_makes_of_the_batch() {
        let outbox = Outbox::new(&SocketLimits::default());
        for count in [1usize, 2, 127, 128, 300] {
            let batch: Vec<(u64, String)> = (0..count as u64)
                .map(|index| (index * 1_000, format!("message {index}")))
                .collect();
            for message in &batch {
                outbox.push(message).unwrap();
            }
            let Work::Frame(frame) = outbox.take() else {
                panic!("no frame");
            };
            assert_eq!(frame, codec::encode(&batch));
            assert_eq!(announced(&frame), Some(count as u64));
        }
        assert!(matches!(outbox.take(), Work::Nothing));
    }

    #[test]
    fn is_bounded_in_messages_and_in_bytes_and_cuts_frames() {
        let limits = SocketLimits {
            outbox_messages: 100,
            outbox_bytes: 300_000,
            frame_messages: 10,
            ..SocketLimits::default()
        };
        let outbox = Outbox::new(&limits);
        for _ in 0..100 {
            outbox.push(&1u8).unwrap();
        }
        assert_eq!(outbox.push(&1u8), Err(SendError::Full));
        for _ in 0..10 {
            assert!(matches!(outbox.take(), Work::Frame(frame) if frame.len() == 12));
        }
        let large = "x".repeat(40_000);
        for _ in 0..7 {
            outbox.push(&large).unwrap();
        }
        assert_eq!(outbox.push(&large), Err(SendError::Full));
        assert!(matches!(outbox.take(), Work::Frame(frame) if frame.len() < 2 * 40_000));
        outbox.push(&large).unwrap();
        let huge = "x".repeat(FRAME_BYTES_MAX_FOR_TEST);
        assert!(matches!(
            outbox.push(&huge),
            Err(SendError::TooLarge { .. })
        ));
    }

    const FRAME_BYTES_MAX_FOR_TEST: usize = hearth_wire::limits::FRAME_BYTES_MAX;

    #[test]
    fn closes_only_behind_what_is_queued_and_takes_nothing_more() {
        let outbox = Outbox::new(&SocketLimits::default());
        outbox.push(&1u8).unwrap();
        outbox.close(CloseReason::ShuttingDown, "bye");
        assert!(matches!(outbox.push(&2u8), Err(SendError::Closed(_))));
        assert!(matches!(outbox.take(), Work::Frame(_)));
        assert!(
            matches!(outbox.take(), Work::Close(CloseReason::ShuttingDown, text) if text == "bye")
        );
    }
}
