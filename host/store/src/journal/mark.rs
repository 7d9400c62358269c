//! The mark: a small file that says up to where the journal has been acknowledged.
//!
//! It is written after each sync and not synced itself, but written and synced at each start. As long as the system
//! lives it is exact, so that after `kill -9` a journal that ends before it has lost something,
//! whatever its tail looks like. After a power loss it may be behind; it is never ahead, and never
//! empty: it is whole and durable before there are records. So one that is missing beside records, or
//! does not hold what was written to it, has been changed from outside.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hearth_wire::{Digest, Seq};

use super::format::{Tip, crc};
use crate::disk::{Disk, DiskFile, OpenMode, read_full, write_again, write_full};
use crate::fields::{Fields, Reading};

pub(super) const MARK_NAME: &str = "durable.mark";

/// Two slots, written in turn, each within one sector: one of them is always whole.
const SLOT: usize = 512;
const USED: usize = 76;
/// What the checksum is over; the generation stands behind it once more.
const SUMMED: usize = 64;
const MAGIC: &[u8; 8] = b"HEARTHMK";
/// More syncs than any journal lives through.
const GENERATION_MAX: u64 = 1 << 62;

#[derive(Debug)]
pub(super) struct Mark {
    file: Arc<dyn DiskFile>,
    generation: u64,
}

/// What a mark's file holds.
#[derive(Debug)]
pub(super) enum Found {
    /// The file is not there.
    Missing,
    /// A part of what a new journal's mark holds: the start that made it did not come further.
    Unfinished,
    /// Something else than what was written to it.
    Damaged,
    /// What was written to it; the newest record that was acknowledged.
    Whole(Mark, Tip),
}

impl Mark {
    /// Makes the file anew, for a journal that ends at `tip`. It is durable once it was
    /// [renewed](Mark::renew), its name with the directory.
    pub(super) fn create(disk: &dyn Disk, path: &Path, tip: &Tip) -> io::Result<Self> {
        let file = match disk.open(path, OpenMode::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.open(path, OpenMode::Write)?
            }
            other => other?,
        };
        // Both slots, so that from now on neither is ever empty.
        let mut slots = [0; 2 * SLOT];
        slots[..USED].copy_from_slice(&encode(2, tip));
        slots[SLOT..][..USED].copy_from_slice(&encode(1, tip));
        write_full(&*file, &slots, 0)?;
        Ok(Self {
            file,
            generation: 2,
        })
    }

    /// Reads the file, if it is there; `genesis` is where its journal begins.
    pub(super) fn find(disk: &dyn Disk, path: &Path, genesis: &Tip) -> io::Result<Found> {
        let file = match disk.open(path, OpenMode::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
            other => other?,
        };
        let mut slots = [0; 2 * SLOT];
        read_full(&*file, &mut slots, 0)?;
        let (even, odd) = slots.split_at(SLOT);
        let newest = match (decode(even), decode(odd)) {
            (Some(even), Some(odd)) if even.0 > odd.0 => Some(even),
            (Some(_), Some(odd)) => Some(odd),
            (Some(even), None) => torn(odd).map(|begun| (begun.max(even.0 + 1) + 1, even.1)),
            (None, Some(odd)) => torn(even).map(|begun| (begun.max(odd.0 + 1) + 1, odd.1)),
            (None, None) => None,
        };
        if let Some((generation, tip)) = newest {
            return Ok(Found::Whole(Self { file, generation }, tip));
        }
        let unfinished =
            is_part_of(even, &encode(2, genesis)) && is_part_of(odd, &encode(1, genesis));
        Ok(if unfinished {
            Found::Unfinished
        } else {
            Found::Damaged
        })
    }

    /// Notes what a start has found, durably. A slot that was torn is the one that is written: before the
    /// other one can be torn too, it is whole.
    pub(super) fn renew(&mut self, tip: &Tip) -> io::Result<()> {
        // Both slots first: the process that made the file may have ended before it synced it, or because
        // that failed, and what is read may be in the system's memory alone.
        write_again(&*self.file, 0)?;
        self.file.sync()?;
        self.write(tip)?;
        self.file.sync()
    }

    pub(super) fn write(&mut self, tip: &Tip) -> io::Result<()> {
        self.generation += 1;
        let slot = encode(self.generation, tip);
        write_full(&*self.file, &slot, self.generation % 2 * SLOT as u64)
    }
}

/// What the next generation in a slot must exceed whose write was torn: its bytes begin as a generation that is
/// newer than the one with which they end. Nobody was told of that one yet, so the other slot counts. A slot
/// that was damaged elsewhere ends with the generation that it begins with. The next generation in this slot
/// is a newer one: the same one again, torn elsewhere, would end as it begins.
fn torn(slot: &[u8]) -> Option<u64> {
    let number = |from: usize| {
        let bytes = slot.get(from..from + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let (begins, ends) = (number(MAGIC.len())?, number(SUMMED + 4)?);
    // Which slot it is decides whether its generations are even; after a power loss some are missing.
    let torn = slot.starts_with(MAGIC) && ends > 0 && ends != begins && ends % 2 == begins % 2;
    let begun = if begins > ends {
        begins
    } else {
        // Torn within the generation, of which the low bytes come first: the carry is not there yet.
        let bits = u64::BITS - (begins ^ ends).leading_zeros();
        begins.checked_add(1_u64.checked_shl(bits.next_multiple_of(8))?)?
    };
    (torn && begun <= GENERATION_MAX).then_some(begun)
}

/// Whether a slot holds the beginning of `bytes` and nothing else.
fn is_part_of(slot: &[u8], bytes: &[u8; USED]) -> bool {
    let same = slot.iter().zip(bytes).take_while(|(a, b)| a == b).count();
    slot[same..].iter().all(|&byte| byte == 0)
}

fn encode(generation: u64, tip: &Tip) -> [u8; USED] {
    let mut slot = [0; USED];
    let mut out = Fields(&mut slot);
    out.put(MAGIC);
    out.put(&generation.to_le_bytes());
    out.put(&tip.seq.0.to_le_bytes());
    out.put(&tip.position.to_le_bytes());
    out.put(tip.hash.as_bytes());
    let sum = crc(&[&slot[..SUMMED]]);
    let mut out = Fields(&mut slot[SUMMED..]);
    out.put(&sum.to_le_bytes());
    out.put(&generation.to_le_bytes());
    slot
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
    (&magic == MAGIC && sum == crc(&[slot.get(..SUMMED)?])).then_some((generation, tip))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::faulty::FaultyDisk;

    fn tip(seq: u64) -> Tip {
        Tip {
            seq: Seq(seq),
            position: 100 * seq,
            hash: Digest::of(&seq.to_le_bytes()),
        }
    }

    /// A mark whose last write, of `generation`, came no further than `torn` bytes, over a slot that was
    /// written `older` generations before.
    fn torn_at(generation: u64, older: u64, torn: usize) -> Found {
        let disk = FaultyDisk::new(Path::new("/"), 1);
        let path = Path::new("/mark");
        drop(Mark::create(&disk, path, &tip(0)).unwrap());
        disk.tamper(path, |bytes| {
            for written in [generation - older, generation - 1] {
                let at = (written % 2) as usize * SLOT;
                bytes[at..][..USED].copy_from_slice(&encode(written, &tip(written)));
            }
            let at = (generation % 2) as usize * SLOT;
            bytes[at..][..torn].copy_from_slice(&encode(generation, &tip(generation))[..torn]);
        });
        Mark::find(&disk, path, &tip(0)).unwrap()
    }

    #[test]
    fn a_write_torn_at_any_byte_leaves_the_one_before_and_is_outdone_by_the_next() {
        let generations = [5, 256, 257, 3_073, 65_536, 65_537, (1 << 24) + 1, 1 << 40];
        for (generation, torn) in generations
            .into_iter()
            .flat_map(|generation| (0..=USED).map(move |torn| (generation, torn)))
        {
            for older in [2, 4, 256, 258, 30_000] {
                if older + 2 > generation {
                    continue;
                }
                let found = torn_at(generation, older, torn);
                let Found::Whole(mark, at) = found else {
                    panic!("{generation} over {older} before, torn at {torn}: {found:?}");
                };
                let whole = torn >= SUMMED + 4;
                assert_eq!(at, tip(generation - u64::from(!whole)));
                assert!(mark.generation >= generation - 1);
                let next = mark.generation + 1;
                let begun = torn > MAGIC.len() && !whole;
                assert!(
                    !begun || next % 2 == generation % 2,
                    "the torn slot is next"
                );
            }
        }
    }
}
