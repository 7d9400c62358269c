//! Tasks of ended jobs as rows: so many in each, packed.

use std::ops::Range;

use hearth_store::{INDEX_ROW_BYTES_MAX, Index, IndexError, IndexStep, Position};
use hearth_wire::{JobId, TaskIndex};

use crate::views::{Stage, TaskView};

/// Tasks in one row. A page of results reads few rows, and the worst of them fits.
pub(super) const CHUNK: u32 = 128;
/// The most that a task takes: flags, position, node and two counts.
const TASK_BYTES_MAX: usize = 1 + 10 + 5 + 3 + 1;
const _: () = assert!(CHUNK as usize * TASK_BYTES_MAX <= INDEX_ROW_BYTES_MAX);

/// In front of each key, so that there is room for rows of another kind.
const KIND: u8 = 1;

const OUTCOME: u8 = 1 << 3;
const NODE: u8 = 1 << 4;
const VERIFIED: u8 = 1 << 5;
const LIVE: u8 = 1 << 6;
const STAGE: u8 = OUTCOME - 1;

/// The key of the row with the tasks from `chunk * CHUNK` on: rows of a job lie together, in order.
fn key(job: JobId, chunk: u32) -> Vec<u8> {
    let mut key = vec![KIND];
    key.extend(job.0.to_be_bytes());
    key.extend(chunk.to_be_bytes());
    key
}

/// The job and the chunk of a key.
pub(super) fn parse(key: &[u8]) -> Option<(JobId, u32)> {
    let (job, chunk) = key.strip_prefix(&[KIND])?.split_first_chunk()?;
    let chunk = chunk.try_into().ok()?;
    Some((JobId(u64::from_be_bytes(*job)), u32::from_be_bytes(chunk)))
}

/// How many rows so many tasks have.
pub(super) fn chunks(tasks: u32) -> Range<u32> {
    0..tasks.div_ceil(CHUNK)
}

/// Adds the rows of a table from `chunk` on until the step is full; gives where it goes on.
pub(super) fn write(
    step: &mut IndexStep,
    full: usize,
    job: JobId,
    table: &[TaskView],
    chunk: u32,
) -> Option<u32> {
    let rows = table.chunks(CHUNK as usize).zip(0..);
    for (tasks, number) in rows.skip(chunk as usize) {
        if step.bytes() >= full {
            return Some(number);
        }
        step.put(key(job, number), pack(tasks));
    }
    None
}

/// Removes the rows of a table from `chunk` on, likewise.
pub(super) fn remove(
    step: &mut IndexStep,
    full: usize,
    job: JobId,
    tasks: u32,
    chunk: u32,
) -> Option<u32> {
    for number in chunks(tasks).skip(chunk as usize) {
        if step.bytes() >= full {
            return Some(number);
        }
        step.remove(key(job, number));
    }
    None
}

/// Tasks of a job; `None` if a row of them is not there.
pub(super) fn read(
    index: &Index,
    job: JobId,
    tasks: Range<u32>,
) -> Result<Option<Vec<(TaskIndex, TaskView)>>, IndexError> {
    let mut found = Vec::with_capacity(tasks.len());
    let chunks = tasks.start / CHUNK..tasks.end.div_ceil(CHUNK);
    for chunk in chunks {
        let Some(row) = index.get(&key(job, chunk))? else {
            return Ok(None);
        };
        let unpacked = unpack(&row).ok_or_else(|| IndexError::Damaged {
            path: index.path().to_owned(),
            problem: format!("row {chunk} of {job} cannot be read"),
        })?;
        let indexes = (chunk * CHUNK..).map(TaskIndex);
        let indexed = indexes.zip(unpacked);
        found.extend(indexed.filter(|(index, _)| tasks.contains(&index.0)));
    }
    Ok((found.len() == tasks.len()).then_some(found))
}

/// Positions as differences: neighbours are often in one record, or in records near to each other.
fn pack(tasks: &[TaskView]) -> Vec<u8> {
    let mut row = Vec::with_capacity(tasks.len() * 8);
    let mut before = 0;
    for task in tasks {
        let (outcome, node) = (task.outcome(), task.node());
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        row.push(
            task.stage() as u8
                | flag(outcome.is_some(), OUTCOME)
                | flag(node.is_some(), NODE)
                | flag(task.verified, VERIFIED)
                | flag(task.live > 0, LIVE),
        );
        if let Some(Position(position)) = outcome {
            let ahead = position.wrapping_sub(before) as i64;
            put(&mut row, ((ahead << 1) ^ (ahead >> 63)) as u64);
            before = position;
        }
        if let Some(node) = node {
            put(&mut row, node.into());
        }
        put(&mut row, task.attempts.into());
        if task.live > 0 {
            row.push(task.live);
        }
    }
    row
}

/// The tasks of a row; `None` if it is none.
pub(super) fn unpack(mut row: &[u8]) -> Option<Vec<TaskView>> {
    let mut tasks = Vec::with_capacity(CHUNK as usize);
    let mut before = 0u64;
    while let Some((flags, rest)) = row.split_first() {
        row = rest;
        let mut task = TaskView::NEW;
        task.set_stage(stage(flags & STAGE)?);
        let (mut position, mut node) = (None, None);
        if flags & OUTCOME != 0 {
            let coded = take(&mut row)?;
            let ahead = (coded >> 1) ^ (coded & 1).wrapping_neg();
            before = before.wrapping_add(ahead);
            position = Some(Position(before));
        }
        if flags & NODE != 0 {
            node = Some(u32::try_from(take(&mut row)?).ok()?);
        }
        task.restore(position, node);
        task.attempts = u16::try_from(take(&mut row)?).ok()?;
        task.verified = flags & VERIFIED != 0;
        if flags & LIVE != 0 {
            let (live, rest) = row.split_first()?;
            (task.live, row) = (*live, rest);
        }
        tasks.push(task);
    }
    (!tasks.is_empty() && tasks.len() <= CHUNK as usize).then_some(tasks)
}

fn stage(number: u8) -> Option<Stage> {
    let all = [
        Stage::Waiting,
        Stage::Provisional,
        Stage::Settled,
        Stage::Failed,
        Stage::Cancelled,
        Stage::Expired,
    ];
    all.into_iter().find(|stage| *stage as u8 == number)
}

/// Seven bits in each byte, the lowest first.
fn put(row: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        row.push(number as u8 | 0x80);
        number >>= 7;
    }
    row.push(number as u8);
}

fn take(row: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = row.split_first()?;
        *row = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> Vec<TaskView> {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            random ^= random >> 12;
            random ^= random << 25;
            random ^= random >> 27;
            random
        };
        let mut tasks = vec![TaskView::NEW];
        for kind in 0..=255 {
            let mut task = TaskView::NEW;
            task.set_stage(stage(kind % 6).unwrap());
            let width = next() % 64;
            let position = (kind % 4 != 0).then(|| Position(next() >> width));
            let node = (kind % 5 != 0).then(|| next() as u32 >> (next() % 32));
            // The two values that stand for none.
            let position = position.filter(|position| position.0 != u64::MAX);
            task.restore(position, node.filter(|node| *node != u32::MAX));
            task.attempts = next() as u16 >> (next() % 16);
            task.verified = next() % 2 == 0;
            task.live = if next() % 7 == 0 { next() as u8 } else { 0 };
            tasks.push(task);
        }
        tasks
    }

    #[test]
    fn a_table_is_the_same_behind_packing() {
        for tasks in tasks().chunks(CHUNK as usize) {
            let row = pack(tasks);
            assert!(row.len() <= INDEX_ROW_BYTES_MAX);
            assert_eq!(unpack(&row).unwrap(), tasks);
            for len in 0..row.len() {
                assert!(unpack(&row[..len]).is_none_or(|short| short.len() < tasks.len()));
            }
        }
    }

    #[test]
    fn usual_tasks_take_few_bytes() {
        // Reports of sixteen tasks each, from a few nodes, in any order.
        let tasks: Vec<_> = (0..CHUNK)
            .map(|n| {
                let mut task = TaskView::NEW;
                let position = Position(u64::from(1_000_000_000 + n * 37 % 8 * 3_000));
                task.set_outcome(Stage::Settled, position, n % 100);
                task.attempts = 1;
                task
            })
            .collect();
        let bytes = pack(&tasks).len();
        assert!(bytes <= 7 * tasks.len(), "{bytes} bytes");
    }

    #[test]
    fn keys_are_in_order_and_read_back() {
        let jobs = [1, 255, 256, 1 << 40].map(JobId);
        let keys: Vec<_> = jobs
            .iter()
            .flat_map(|job| [0, 1, 255, 256, 70_000].map(|chunk| key(*job, chunk)))
            .collect();
        assert!(keys.is_sorted());
        assert_eq!(parse(&keys[7]), Some((JobId(255), 255)));
        assert_eq!(parse(&keys[7][..12]), None);
        assert_eq!(parse(b"\x02123456781234"), None);
    }
}
