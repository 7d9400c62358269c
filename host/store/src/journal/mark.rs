//! The mark: a small file that says up to where the journal has been acknowledged.
//!
//! It is written after each sync and not synced itself. As long as the system lives it is exact, so
//! that after `kill -9` a journal that ends before it has lost something, whatever its tail
//! looks like. After a power loss it may be behind; it is never ahead.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hearth_wire::{Digest, Seq};

use super::format::{Fields, Reading, Tip, crc};
use crate::disk::{Disk, DiskFile, OpenMode, read_full, write_full};

pub(super) const MARK_NAME: &str = "durable.mark";

/// Two slots, written in turn, each within one sector: one of them is always whole.
const SLOT: usize = 512;
const USED: usize = 68;
const MAGIC: &[u8; 8] = b"HEARTHMK";

#[derive(Debug)]
pub(super) struct Mark {
    file: Arc<dyn DiskFile>,
    generation: u64,
}

impl Mark {
    /// Makes the file.
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::CreateNew)?;
        write_full(&*file, &[0; 2 * SLOT], 0)?;
        Ok(Self {
            file,
            generation: 0,
        })
    }

    /// Opens the file and reads the newest whole slot.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<(Self, Option<Tip>)> {
        let file = disk.open(path, OpenMode::Write)?;
        let mut slots = [0; 2 * SLOT];
        read_full(&*file, &mut slots, 0)?;
        let newest = slots
            .chunks(SLOT)
            .filter_map(decode)
            .max_by_key(|(generation, _)| *generation);
        let mark = Self {
            file,
            generation: newest.map_or(0, |(generation, _)| generation),
        };
        Ok((mark, newest.map(|(_, tip)| tip)))
    }

    pub(super) fn write(&mut self, tip: &Tip) -> io::Result<()> {
        self.generation += 1;
        let mut slot = [0; USED];
        let mut out = Fields(&mut slot);
        out.put(MAGIC);
        out.put(&self.generation.to_le_bytes());
        out.put(&tip.seq.0.to_le_bytes());
        out.put(&tip.position.to_le_bytes());
        out.put(tip.hash.as_bytes());
        let sum = crc(&[&slot[..USED - 4]]);
        slot[USED - 4..].copy_from_slice(&sum.to_le_bytes());
        write_full(&*self.file, &slot, self.generation % 2 * SLOT as u64)
    }
}

fn decode(slot: &[u8]) -> Option<(u64, Tip)> {
    let mut fields = Reading(slot);
    let magic = fields.take::<8>()?;
    let generation = u64::from_le_bytes(fields.take()?);
    let tip = Tip {
        seq: Seq(u64::from_le_bytes(fields.take()?)),
        position: u64::from_le_bytes(fields.take()?),
        hash: Digest::new(fields.take()?),
    };
    let sum = u32::from_le_bytes(fields.take()?);
    (&magic == MAGIC && sum == crc(&[slot.get(..USED - 4)?])).then_some((generation, tip))
}
