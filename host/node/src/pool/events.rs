//! The way of events from the pool to whoever asked for the attempts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hearth_wire::AttemptId;
use hearth_wire::message::LogLevel;
use hearth_wire::runner::Finished;
use tokio::sync::mpsc;

/// Events that may be dropped and wait for one receiver: a second of a very chatty guest.
const DROPPABLE_MAX: usize = 1_024;
/// Bytes of checkpoints that wait for one receiver.
const CHECKPOINT_BYTES_MAX: usize = 64 << 20;

/// What comes out of an attempt. Every attempt ends with exactly one `Finished`, its last event.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEvent {
    /// It ended.
    Finished(Finished),
    /// How far it is. Dropped when the receiver is slow.
    Progress {
        /// The attempt.
        attempt: AttemptId,
        /// Units done.
        done: u64,
        /// Units in all.
        total: Option<u64>,
    },
    /// A line that the guest logged. Dropped when the receiver is slow.
    Log {
        /// The attempt.
        attempt: AttemptId,
        /// How important.
        level: LogLevel,
        /// The text.
        text: String,
    },
    /// State that the guest saved. Dropped when the receiver is slow.
    Checkpoint {
        /// The attempt.
        attempt: AttemptId,
        /// The state.
        state: Vec<u8>,
        /// Fuel used until then.
        fuel_used: u64,
    },
}

impl RunEvent {
    /// The attempt that the event is about.
    pub fn attempt(&self) -> AttemptId {
        match self {
            Self::Finished(finished) => finished.attempt,
            Self::Progress { attempt, .. }
            | Self::Log { attempt, .. }
            | Self::Checkpoint { attempt, .. } => *attempt,
        }
    }

    fn checkpoint_bytes(&self) -> usize {
        match self {
            Self::Checkpoint { state, .. } => state.len(),
            _ => 0,
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    droppable: AtomicUsize,
    checkpoint_bytes: AtomicUsize,
}

/// Where the events of attempts go; clones feed the same [`RunEvents`].
///
/// The queue behind it is bounded without ever making the pool wait: ends of attempts are as many as
/// the pool holds attempts, and everything else is dropped when too much of it waits. Waiting here
/// would let one slow consumer stop the attempts of all others.
#[derive(Debug, Clone)]
pub struct EventSink {
    queue: mpsc::UnboundedSender<RunEvent>,
    waiting: Arc<Waiting>,
}

/// The receiving end.
#[derive(Debug)]
pub struct RunEvents {
    queue: mpsc::UnboundedReceiver<RunEvent>,
    waiting: Arc<Waiting>,
}

/// Makes a sink and its receiver. One sink can serve all attempts, or each attempt its own.
pub fn events() -> (EventSink, RunEvents) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::<Waiting>::default();
    let sink = EventSink {
        queue: sender,
        waiting: Arc::clone(&waiting),
    };
    (
        sink,
        RunEvents {
            queue: receiver,
            waiting,
        },
    )
}

impl EventSink {
    /// Delivers the event, or drops it when it may be dropped and too many wait.
    pub(super) fn send(&self, event: RunEvent) {
        if !matches!(event, RunEvent::Finished(_)) {
            let bytes = event.checkpoint_bytes();
            let fits = self.waiting.droppable.load(Ordering::Relaxed) < DROPPABLE_MAX
                && (bytes == 0
                    || self.waiting.checkpoint_bytes.load(Ordering::Relaxed) + bytes
                        <= CHECKPOINT_BYTES_MAX);
            if !fits {
                return;
            }
            self.waiting.droppable.fetch_add(1, Ordering::Relaxed);
            self.waiting
                .checkpoint_bytes
                .fetch_add(bytes, Ordering::Relaxed);
        }
        // A receiver that is gone wants no events.
        let _gone = self.queue.send(event);
    }
}

impl RunEvents {
    /// The next event, `None` once all sinks are gone and everything was received.
    pub async fn next(&mut self) -> Option<RunEvent> {
        let event = self.queue.recv().await?;
        Some(self.taken(event))
    }

    /// The next event if one is there.
    pub fn try_next(&mut self) -> Option<RunEvent> {
        let event = self.queue.try_recv().ok()?;
        Some(self.taken(event))
    }

    fn taken(&self, event: RunEvent) -> RunEvent {
        if !matches!(event, RunEvent::Finished(_)) {
            self.waiting.droppable.fetch_sub(1, Ordering::Relaxed);
            self.waiting
                .checkpoint_bytes
                .fetch_sub(event.checkpoint_bytes(), Ordering::Relaxed);
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_is_dropped_and_ends_are_not() {
        let (sink, mut events) = events();
        let progress = RunEvent::Progress {
            attempt: AttemptId(1),
            done: 1,
            total: None,
        };
        (0..DROPPABLE_MAX + 50).for_each(|_| sink.send(progress.clone()));
        let end = RunEvent::Finished(super::super::judge::ended(
            AttemptId(1),
            hearth_wire::Inconclusive::Cancelled,
        ));
        sink.send(end.clone());
        drop(sink);
        let mut got = Vec::new();
        while let Some(event) = events.next().await {
            got.push(event);
        }
        assert_eq!(got.len(), DROPPABLE_MAX + 1);
        assert_eq!(got.last(), Some(&end));
        assert_eq!(events.waiting.droppable.load(Ordering::Relaxed), 0);
    }
}
