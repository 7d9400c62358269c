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
use crate::disk::{Disk, DiskFile, OpenMode, read_full, write_full};
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
        let mut slots = [0; 2 * SLOT];
        read_full(&*file, &mut slots, 0)?;
        // Newer than what is left of one that is given up, of which a power loss may keep a slot.
        let left = slots.chunks(SLOT).filter_map(read).map(|slot| slot.0).max();
        let generation = match left {
            Some(left) if left > 2 => left.next_multiple_of(2) + 2,
            _ => 2,
        };
        // Both slots, so that from now on neither is ever empty.
        slots[..USED].copy_from_slice(&encode(generation, tip));
        slots[SLOT..][..USED].copy_from_slice(&encode(generation - 1, tip));
        write_full(&*file, &slots, 0)?;
        Ok(Self { file, generation })
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
        let newest = match (read(even), read(odd)) {
            (Some(even), Some(odd)) if even.0 > odd.0 => Some(even),
            (Some(_), Some(odd)) => Some(odd),
            (Some(even), None) => torn(odd, even.0).map(|begun| (begun - 1, even.1)),
            (None, Some(odd)) => torn(even, odd.0).map(|begun| (begun - 1, odd.1)),
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
        // that failed, and what is read may be in the system's memory alone. Each with one generation: were
        // there still two in a slot, its next write, torn too, might leave none that fits.
        let mut slots = [0; 2 * SLOT];
        read_full(&*self.file, &mut slots, 0)?;
        for slot in slots.chunks_mut(SLOT) {
            if let Some((generation, tip)) = read(slot) {
                slot[..USED].copy_from_slice(&encode(generation, &tip));
            }
        }
        write_full(&*self.file, &slots, 0)?;
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

/// What a slot holds. If its generation is not the one under its checksum, the one with which it ends may be:
/// then a write was torn within the generation, or that was damaged, and what is behind it is whole.
fn read(slot: &[u8]) -> Option<(u64, Tip)> {
    let ends = number(slot, SUMMED + 4)?;
    decode(slot, number(slot, MAGIC.len())?).or_else(|| decode(slot, ends))
}

/// The generation of a write that was torn behind it, beside a whole slot of generation `other`: its slot ends
/// with the one before. Nobody was told of it yet, so the other slot counts, and it is written again: were
/// it another one, torn once more, the slot might end with the generation that it begins with, as one
/// that was damaged does.
///
/// What was written is taken to be a beginning of the bytes: a process was killed within a copy, or a
/// sector's transfer ended.
fn torn(slot: &[u8], other: u64) -> Option<u64> {
    let (begins, ends) = (number(slot, MAGIC.len())?, number(slot, SUMMED + 4)?);
    // Which slot it is decides whether its generations are even; after a power loss some are missing.
    let is_own = |generation: u64| generation % 2 != other % 2;
    let follows = begins > other && begins > ends && begins <= GENERATION_MAX;
    let torn = slot.starts_with(MAGIC) && ends > 0 && is_own(begins) && is_own(ends);
    (torn && follows).then_some(begins)
}

fn number(slot: &[u8], from: usize) -> Option<u64> {
    let bytes = slot.get(from..from + 8)?.try_into().ok()?;
    Some(u64::from_le_bytes(bytes))
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

fn decode(slot: &[u8], generation: u64) -> Option<(u64, Tip)> {
    let mut fields = Reading(slot.get(MAGIC.len() + 8..)?);
    let tip = Tip {
        seq: Seq(u64::from_le_bytes(fields.take()?)),
        position: u64::from_le_bytes(fields.take()?),
        hash: Digest::new(fields.take()?),
    };
    let sum = u32::from_le_bytes(fields.take()?);
    let is_own = slot.starts_with(MAGIC) && generation <= GENERATION_MAX;
    let known = &encode(generation, &tip)[SUMMED..][..4];
    (is_own && known == sum.to_le_bytes()).then_some((generation, tip))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::faulty::FaultyDisk;

    const PATH: &str = "/mark";

    fn tip(seq: u64) -> Tip {
        Tip {
            seq: Seq(seq),
            position: 100 * seq,
            hash: Digest::of(&seq.to_le_bytes()),
        }
    }

    /// A mark of which the slots that were written before `generation` hold that one and the one `older`
    /// before it.
    fn written(generation: u64, older: u64) -> FaultyDisk {
        let disk = FaultyDisk::new(Path::new("/"), 1);
        drop(Mark::create(&disk, Path::new(PATH), &tip(0)).unwrap());
        for generation in [generation - older, generation - 1] {
            tear(&disk, generation, USED);
        }
        disk
    }

    /// Writes no more than the first bytes of a generation into its slot.
    fn tear(disk: &FaultyDisk, generation: u64, bytes: usize) {
        let new = encode(generation, &tip(generation));
        let at = (generation % 2) as usize * SLOT;
        disk.tamper(Path::new(PATH), |file| {
            file[at..][..bytes].copy_from_slice(&new[..bytes]);
        });
    }

    /// Whether a write came as far as it matters; the bytes behind may have been alike before.
    fn is_done(disk: &FaultyDisk, generation: u64) -> bool {
        let mut done = false;
        let at = (generation % 2) as usize * SLOT;
        disk.tamper(Path::new(PATH), |file| {
            let new = encode(generation, &tip(generation));
            done = file[at..].starts_with(&new[..SUMMED + 4]);
        });
        done
    }

    fn whole(disk: &FaultyDisk, what: &str) -> (Mark, Tip) {
        match find(disk) {
            Found::Whole(mark, tip) => (mark, tip),
            found => panic!("{what}: {found:?}"),
        }
    }

    fn find(disk: &FaultyDisk) -> Found {
        Mark::find(disk, Path::new(PATH), &tip(0)).unwrap()
    }

    /// The first write is torn, the start behind it heals what it found, and some writes later one is torn
    /// again, of the same slot or the other one.
    #[test]
    fn writes_torn_at_any_byte_one_after_the_other_leave_what_was_before() {
        let generations = [
            5,
            254,
            256,
            257,
            510,
            512,
            3_073,
            65_537,
            (1 << 24) + 1,
            1 << 40,
        ];
        for (generation, older) in generations
            .into_iter()
            .flat_map(|generation| [2, 4, 254, 256, 258, 30_000].map(|older| (generation, older)))
            .filter(|(generation, older)| older + 2 <= *generation)
        {
            for torn in 0..=USED {
                let disk = written(generation, older);
                tear(&disk, generation, torn);
                let what = format!("{generation} over {older} before, torn at {torn}");
                let (mut mark, at) = whole(&disk, &what);
                let done = is_done(&disk, generation);
                assert_eq!(at, tip(generation - u64::from(!done)), "{what}");
                assert!(mark.generation >= generation - 1, "{what}");
                mark.renew(&at).unwrap();
                for more in 0..3 {
                    if more > 0 {
                        mark.write(&tip(mark.generation + 1)).unwrap();
                    }
                    let next = mark.generation + 1;
                    let (_, before) = whole(&disk, &what);
                    for again in 0..SUMMED + 4 {
                        let disk = disk.copy();
                        tear(&disk, next, again);
                        let what = format!("{what}, {more} more and {next} torn at {again}");
                        let expected = if is_done(&disk, next) {
                            tip(next)
                        } else {
                            before
                        };
                        assert_eq!(whole(&disk, &what).1, expected, "{what}");
                    }
                }
            }
        }
    }

    /// The process ends in the middle of healing, too.
    #[test]
    fn a_start_torn_at_any_byte_leaves_what_it_found() {
        for torn in 0..=USED {
            let disk = written(256, 2);
            tear(&disk, 256, torn);
            let (mut mark, at) = whole(&disk, "before");
            let mut before = Vec::new();
            disk.tamper(Path::new(PATH), |file| before = file.clone());
            mark.renew(&at).unwrap();
            let healed = mark.generation - 1;
            let mut after = Vec::new();
            disk.tamper(Path::new(PATH), |file| after = file.clone());
            // What renew wrote first: both slots without the new generation.
            let newest = (mark.generation % 2) as usize * SLOT;
            after[newest..][..SLOT].copy_from_slice(&before[newest..][..SLOT]);
            let other = SLOT - newest;
            assert_eq!(number(&after[other..], MAGIC.len()), Some(healed));
            for again in 0..2 * SLOT {
                let disk = disk.copy();
                disk.tamper(Path::new(PATH), |file| {
                    file[..again].copy_from_slice(&after[..again]);
                    file[again..].copy_from_slice(&before[again..]);
                });
                assert_eq!(
                    whole(&disk, "healing").1,
                    at,
                    "torn at {torn}, then {again}"
                );
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_told_or_harmless() {
        for generation in [7, 1_000, 3_073] {
            for bit in 0..8 * USED {
                let disk = written(generation + 1, 2);
                let at = (generation % 2) as usize * SLOT;
                disk.tamper(Path::new(PATH), |file| file[at + bit / 8] ^= 1 << (bit % 8));
                match find(&disk) {
                    Found::Whole(_, at) => assert_eq!(at, tip(generation)),
                    found => assert!(matches!(found, Found::Damaged), "{found:?}"),
                }
            }
        }
    }

    /// Of the two slots of a page, a power loss may keep one as it was before.
    #[test]
    fn a_torn_write_beside_a_lost_one_leaves_the_one_before_both() {
        for torn in 0..SUMMED + 4 {
            let disk = written(6, 2);
            tear(&disk, 7, torn);
            let found = find(&disk);
            let Found::Whole(_, at) = found else {
                panic!("torn at {torn}: {found:?}");
            };
            // The older one of the slot itself, as long as it is there.
            let before = if torn <= MAGIC.len() + 8 { 5 } else { 4 };
            assert_eq!(at, tip(before), "torn at {torn}");
        }
    }
}
