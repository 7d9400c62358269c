//! The numbers that decide outcomes beside the manifest's limits. All of them are in the engine id, so
//! that two hosts that differ in one are never compared.

use hearth_wire::{Hasher, TaskLimits};

/// Raised when a rule changes that is code and not a number here.
pub(crate) const REVISION: u64 = 3;

/// Fuel for instantiation, apart from the task's: enough to copy the data of the largest component and
/// for a start function that prepares something, half a second at most. What is left of it is lost.
pub(crate) const START_FUEL: u64 = 1 << 30;
/// Fuel for each call into the host, about what the crossing costs in time.
pub(crate) const CALL_FUEL: u64 = 100;
/// Bytes that one call may carry out of a guest, unless its limits ask for more.
const CARRY_BYTES_MIN: u64 = 8 << 20;
/// Text and framing beside an output or a checkpoint in one call.
const CARRY_BYTES_EXTRA: u64 = 64 << 10;
/// Component handles of one attempt; the tables of WASI as well.
pub(crate) const HANDLES_MAX: usize = 1_000;
/// Fuel for each random byte: a hash gives 32 of them.
pub(crate) const RANDOM_BYTE_FUEL: u64 = 8;
/// Random bytes in one call.
pub(crate) const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// Core instances in one component. A Python component with the WASI adapter has about twenty.
pub(crate) const CORE_INSTANCES_MAX: u32 = 64;
/// Memories in one component: each reserves 4 GiB of address space.
pub(crate) const MEMORIES_MAX: u32 = 4;
/// Tables in one component.
pub(crate) const TABLES_MAX: u32 = 32;
/// Elements of one table, the most that a manifest may ask for in all.
pub(crate) const TABLE_ELEMENTS_MAX: u32 = 1_000_000;
/// Attempts at once in one process, running and parked.
pub(crate) const ATTEMPTS_MAX: u32 = 1_024;

/// Bytes that one call may carry out of a guest: `Exhausted(Output)` beyond it.
pub(crate) fn carry_bytes_max(limits: &TaskLimits) -> u64 {
    limits
        .output_bytes
        .max(limits.checkpoint_bytes)
        .saturating_add(CARRY_BYTES_EXTRA)
        .max(CARRY_BYTES_MIN)
}

/// Fuel above which what a resumed guest does before its first save is not restoring any more, and which
/// it must have left at its end to be believed: far more than restoring a state can cost or save.
pub(crate) fn restoring_fuel_max(limits: &TaskLimits) -> u64 {
    limits.fuel / 16
}

/// Adds every rule to the engine id.
pub(crate) fn add_to(hasher: Hasher) -> Hasher {
    [
        REVISION,
        START_FUEL,
        CALL_FUEL,
        CARRY_BYTES_MIN,
        CARRY_BYTES_EXTRA,
        HANDLES_MAX as u64,
        RANDOM_BYTE_FUEL,
        RANDOM_BYTES_MAX,
        CORE_INSTANCES_MAX.into(),
        MEMORIES_MAX.into(),
        TABLES_MAX.into(),
        TABLE_ELEMENTS_MAX.into(),
    ]
    .into_iter()
    .fold(hasher, Hasher::number)
}
