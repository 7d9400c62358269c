//! A file read front to back through one bounded buffer.

use std::io;
use std::sync::Arc;

use crate::disk::{DiskFile, read_full};

/// Read ahead in steps of this size: large enough that system calls cost nothing beside hashing.
const STEP: usize = 1 << 20;

/// A view on a file that moves forward. Its buffer holds the largest piece asked for plus a step.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    start: u64,
}

impl Window {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// The `len` bytes at `offset`, or fewer where the file (or `end`, if it is sooner) ends.
    pub(super) fn get(&mut self, offset: u64, len: usize, end: u64) -> io::Result<&[u8]> {
        let len = len.min(usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX));
        let held = self.start..self.start + self.buffer.len() as u64;
        if !(held.contains(&offset) && offset + len as u64 <= held.end) {
            let ahead = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
            self.buffer.resize(len.max(STEP.min(ahead)), 0);
            let read = read_full(&*self.file, &mut self.buffer, offset)?;
            self.buffer.truncate(read);
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        let to = (from + len).min(self.buffer.len());
        Ok(&self.buffer[from..to])
    }
}
