//! What a guest may know about its task.

use crate::{Rng, host};

/// What a guest may know about its task: the same in every attempt, on every machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The task's content id: a digest over component, world, input, seed, limits and models.
    pub id: [u8; 32],
    /// What the client fixed when it submitted the job; zero if it chose nothing.
    pub seed: [u8; 32],
    /// The limits that the manifest states.
    pub limits: Limits,
}

/// The limits of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Compute, in the engine's fuel.
    pub fuel: u64,
    /// The sum of all linear memories, in bytes.
    pub memory_bytes: u64,
    /// The sum of the elements of all tables.
    pub table_elements: u32,
    /// Bytes that may be returned.
    pub output_bytes: u64,
    /// Bytes of log that are kept.
    pub log_bytes: u64,
    /// Bytes of one checkpoint; a larger one is dropped.
    pub checkpoint_bytes: u64,
}

impl Context {
    /// A generator from the seed. Different `stream`s are independent of each other; equal ones give
    /// equal numbers in every task of the job, so mix in something of the input where tasks should differ.
    pub fn rng(&self, stream: u64) -> Rng {
        Rng::new(&self.seed, stream)
    }
}

/// Tells about the task.
pub fn context() -> Context {
    host::task()
}
