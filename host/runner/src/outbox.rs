//! What waits to be written to the node: bounded, merged, batched.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hearth_wire::AttemptId;
use hearth_wire::message::{LogLevel, Progress};
use hearth_wire::runner::{Finished, FromRunner, RunOutcome};

use crate::frame::write_frame;

/// Outcomes' bytes in one frame, if one alone is not larger: bounds the node's work between two frames.
const BATCH_BYTES: usize = 4 << 20;
/// Outcomes' bytes that may wait; a slot waits with its next one beyond it.
const FINISHED_BYTES_MAX: usize = 64 << 20;
/// Log lines that may wait: a node that is slow to read them loses the newest.
const LOG_LINES_MAX: usize = 4_096;
/// Progress is told at most this often; the newest is all that anybody wants.
const PROGRESS_PERIOD: Duration = Duration::from_millis(100);

/// Filled by slots, emptied by one writer. Outcomes wake the writer at once and are never dropped; progress
/// is merged per attempt and checkpoints are replaced by newer ones, so both hold at most one per slot.
pub(crate) struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    finished: VecDeque<Finished>,
    finished_bytes: usize,
    progress: BTreeMap<AttemptId, Progress>,
    logs: VecDeque<(AttemptId, LogLevel, String)>,
    checkpoints: BTreeMap<AttemptId, (Vec<u8>, u64)>,
    /// As many as attempts may wait in this runner, and never dropped: they end an attempt here.
    not_loaded: Vec<(AttemptId, String)>,
    /// The node is gone: nothing is kept any more.
    broken: bool,
    /// Write what is left and end.
    closing: bool,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        }
    }

    /// Adds an outcome; waits while too many bytes wait. The attempt's own checkpoint is moot then.
    pub(crate) fn finish(&self, finished: Finished) {
        let bytes = size(&finished);
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| {
                !state.broken && state.finished_bytes > FINISHED_BYTES_MAX
            })
            .unwrap_or_else(PoisonError::into_inner);
        if state.broken {
            return;
        }
        state.checkpoints.remove(&finished.attempt);
        state.finished_bytes += bytes;
        state.finished.push_back(finished);
        self.changed.notify_all();
    }

    pub(crate) fn progress(&self, progress: Progress) {
        let mut state = self.lock();
        if !state.broken && state.progress.insert(progress.attempt, progress).is_none() {
            self.changed.notify_all();
        }
    }

    pub(crate) fn log(&self, attempt: AttemptId, level: LogLevel, text: &str) {
        let mut state = self.lock();
        if !state.broken && state.logs.len() < LOG_LINES_MAX {
            state.logs.push_back((attempt, level, text.to_owned()));
            self.changed.notify_all();
        }
    }

    pub(crate) fn checkpoint(&self, attempt: AttemptId, state: Vec<u8>, fuel_used: u64) {
        let mut shared = self.lock();
        if !shared.broken {
            shared.checkpoints.insert(attempt, (state, fuel_used));
            self.changed.notify_all();
        }
    }

    pub(crate) fn not_loaded(&self, attempt: AttemptId, text: String) {
        let mut state = self.lock();
        if !state.broken {
            state.not_loaded.push((attempt, text));
            self.changed.notify_all();
        }
    }

    /// Nobody adds any more: the writer ends when it has written what there is.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// Writes until closed or until the stream breaks, which ends the waiting of slots as well.
    pub(crate) fn write_to(&self, stream: &mut impl Write) {
        let mut told = Instant::now().checked_sub(PROGRESS_PERIOD);
        loop {
            let progress_due = told.is_none_or(|told| told.elapsed() >= PROGRESS_PERIOD);
            let Some(batch) = self.next_batch(progress_due) else {
                return;
            };
            if batch
                .iter()
                .any(|message| matches!(message, FromRunner::Progress(_)))
            {
                told = Some(Instant::now());
            }
            for message in &batch {
                if let Err(error) = write_frame(stream, message) {
                    tracing::debug!(%error, "the node is gone");
                    let mut state = self.lock();
                    *state = State {
                        broken: true,
                        ..State::default()
                    };
                    self.changed.notify_all();
                    return;
                }
            }
        }
    }

    /// What to write next, in the order in which it came about: what an attempt said before how it ended.
    /// `None` at the end.
    fn next_batch(&self, progress_due: bool) -> Option<Vec<FromRunner>> {
        let mut state = self.lock();
        loop {
            let urgent = !state.finished.is_empty()
                || !state.logs.is_empty()
                || !state.not_loaded.is_empty()
                || !state.checkpoints.is_empty();
            let progress = !state.progress.is_empty();
            if urgent || (progress && (progress_due || state.closing)) {
                break;
            }
            if state.closing {
                return None;
            }
            if progress {
                let (next, wait) = self
                    .changed
                    .wait_timeout(state, PROGRESS_PERIOD)
                    .unwrap_or_else(PoisonError::into_inner);
                state = next;
                if wait.timed_out() {
                    break;
                }
            } else {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }

        let mut batch = Vec::new();
        for (attempt, level, text) in state.logs.drain(..) {
            batch.push(FromRunner::Log {
                attempt,
                level,
                text,
            });
        }
        let progress: Vec<Progress> = std::mem::take(&mut state.progress).into_values().collect();
        if !progress.is_empty() {
            batch.push(FromRunner::Progress(progress));
        }
        for (attempt, (bytes, fuel_used)) in std::mem::take(&mut state.checkpoints) {
            batch.push(FromRunner::Checkpoint {
                attempt,
                state: bytes,
                fuel_used,
            });
        }
        for (attempt, text) in std::mem::take(&mut state.not_loaded) {
            batch.push(FromRunner::NotLoaded { attempt, text });
        }
        let mut finished = Vec::new();
        let mut bytes = 0;
        while let Some(next) = state.finished.front() {
            let size = size(next);
            if !finished.is_empty() && bytes + size > BATCH_BYTES {
                break;
            }
            bytes += size;
            finished.extend(state.finished.pop_front());
        }
        state.finished_bytes -= bytes;
        if !finished.is_empty() {
            batch.push(FromRunner::Finished(finished));
        }
        self.changed.notify_all();
        Some(batch)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that an outcome takes, roughly.
fn size(finished: &Finished) -> usize {
    64 + match &finished.outcome {
        RunOutcome::Returned { media_type, bytes } => media_type.len() + bytes.len(),
        // Texts of errors are cut to 4 KiB.
        _ => 4 << 10,
    }
}
