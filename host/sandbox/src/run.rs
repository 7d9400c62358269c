//! One attempt: what goes in, what comes out.

use hearth_wire::message::LogLevel;
use hearth_wire::runner::{Resume, RunOutcome};
use hearth_wire::{Digest, TaskLimits};

/// One attempt, complete.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRequest {
    /// Content id: the id that the guest sees.
    pub content: Digest,
    /// Seed that the guest sees.
    pub seed: Digest,
    /// Limits of the signed manifest.
    pub limits: TaskLimits,
    /// How to read the input.
    pub media_type: String,
    /// The input.
    pub input: Vec<u8>,
    /// State to go on from.
    pub resume: Option<Resume>,
}

/// What a guest tells while it runs. Called on the thread that runs the guest: must not block.
pub trait Hooks: Send + 'static {
    /// How far the guest is.
    fn progress(&mut self, done: u64, total: Option<u64>) {
        let _ = (done, total);
    }

    /// A line of log within the limits.
    fn log(&mut self, level: LogLevel, text: &str) {
        let _ = (level, text);
    }

    /// State that the guest offers, and the fuel it had cost. `wants_checkpoint` was true before.
    fn checkpoint(&mut self, state: Vec<u8>, fuel_used: u64) {
        let _ = (state, fuel_used);
    }

    /// Whether a state offered now would be kept; saves a copy when not.
    fn wants_checkpoint(&mut self) -> bool {
        false
    }
}

/// Hooks that hear nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub outcome: RunOutcome,
    /// Fuel used, over all attempts resumed.
    pub fuel_used: u64,
    /// Time in the sandbox, in microseconds, without pauses.
    pub run_micros: u64,
    /// Log bytes dropped because they were beyond the limit.
    pub log_bytes_dropped: u64,
}
