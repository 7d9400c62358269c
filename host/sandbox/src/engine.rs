//! One wasmtime configuration: what is on, what is off, and why.

use std::hash::Hash as _;

use hearth_wire::{Digest, EngineId, Hasher, limits};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OperatorCost, PoolingAllocationConfig, Strategy,
    WasmFeatures,
};

use crate::rules;

/// What executes a component. Both give the same outcomes and burn the same fuel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// Machine code by Cranelift.
    #[default]
    Native,
    /// Portable byte code in an interpreter: slow, and free of everything that differs between CPUs.
    /// The third opinion when two CPUs disagree.
    Pulley,
}

/// Where memories, tables and stacks of guests come from. Changes no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Allocation {
    /// Pooled if the address space allows it, on demand otherwise.
    #[default]
    Auto,
    /// Reserved once for all slots: fast, needs address space for each of them.
    Pooled,
    /// Reserved for each attempt.
    OnDemand,
}

/// No engine can be made on this machine. The environment is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no engine on this machine: {0}. Free address space (`ulimit -v unlimited`), or use another machine"
)]
pub struct EngineError(pub(crate) String);

/// The WebAssembly that guests may use; everything else is refused by the validator.
///
/// Left out: threads and shared memories, garbage collection, exceptions, stack switching, 64-bit
/// memories and asynchronous components, each a surface without a task that needs it; relaxed SIMD,
/// whose results differ between CPUs.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::BULK_MEMORY_OPT)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::COMPONENT_MODEL);

/// wasmtime's version; a test compares it with the lock file.
pub(crate) const WASMTIME: [u16; 3] = [48, 0, 8];

/// Stack of a guest. Its exact use differs between CPUs, so its end is never a result.
const WASM_STACK_BYTES: usize = 512 << 10;
/// A guest's stack and the host's frames above it.
const ASYNC_STACK_BYTES: usize = 2 << 20;
/// State of one core instance; static counts keep it far below.
const INSTANCE_BYTES_MAX: usize = 16 << 20;

/// What outcomes of this build depend on: wasmtime's version and our semantic settings. The same on
/// every CPU and for both profiles.
pub fn engine_id() -> EngineId {
    let hasher = Hasher::with_domain("hearth.engine.v1")
        .field(format!("{FEATURES:?}").as_bytes())
        .field(b"nan-canonicalization")
        .field(format!("{:?}", operator_cost()).as_bytes());
    EngineId {
        version: WASMTIME,
        semantics: rules::add_to(hasher).finish(),
    }
}

/// Names the machine code that `engine` can load: compiler, target, CPU features and settings. For caches
/// alone; outcomes depend on [`engine_id`].
pub(crate) fn code(engine: &Engine) -> Digest {
    /// Takes down what is hashed, since the standard hashers promise nothing between builds.
    #[derive(Default)]
    struct Bytes(Vec<u8>);
    impl std::hash::Hasher for Bytes {
        fn write(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut bytes = Bytes::default();
    engine.precompile_compatibility_hash().hash(&mut bytes);
    Digest::of(&bytes.0)
}

/// Fuel of each operator, pinned so that an update of wasmtime cannot change it unseen.
fn operator_cost() -> OperatorCost {
    let mut cost = OperatorCost::new();
    // A page is 64 KiB that the kernel must find and clear; wasmtime charges nothing for it.
    cost.variable.memory_grow_per_page = u8::MAX;
    cost
}

/// An engine of the profile, for `attempts` at once, and whether it is pooled.
pub(crate) fn make(
    profile: Profile,
    allocation: Allocation,
    attempts: u32,
) -> Result<(Engine, bool), EngineError> {
    let attempts = attempts.clamp(1, rules::ATTEMPTS_MAX);
    let build = |pooled: bool| {
        let mut config = config(profile).map_err(|error| EngineError(format!("{error:#}")))?;
        if pooled {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(attempts)));
        }
        Engine::new(&config)
            .map(|engine| (engine, pooled))
            .map_err(|error| EngineError(format!("{error:#}")))
    };
    match allocation {
        Allocation::Pooled => build(true),
        Allocation::OnDemand => build(false),
        // The pool reserves its address space when the engine is made, so trying is the probe.
        Allocation::Auto => build(true).or_else(|_| build(false)),
    }
}

fn config(profile: Profile) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    if profile == Profile::Pulley {
        config.target("pulley64")?;
    }

    // What a guest can observe. All of it is in the engine id.
    config
        .strategy(Strategy::Cranelift)
        .wasm_features(WasmFeatures::all().difference(FEATURES), false)
        .wasm_features(FEATURES, true)
        .cranelift_nan_canonicalization(true)
        // Off by the feature set; if that should ever fail, the slow and equal form is taken.
        .relaxed_simd_deterministic(true)
        .consume_fuel(true)
        .operator_cost(operator_cost())
        // With copy-on-write, the cost of data segments depends on the system (wasmtime #14331).
        .memory_init_cow(false)
        // Only the synchronous ABI: the smaller and faster call path.
        .concurrency_support(false);

    // Scheduling, which decides no result.
    config.epoch_interruption(true);

    // Walls and sizes. A memory that never moves and is reserved whole needs no bounds checks.
    config
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(ASYNC_STACK_BYTES)
        .async_stack_zeroing(true)
        .memory_may_move(false)
        .memory_reservation(4 << 30);

    // Nothing walks the stack of a guest: traps are told by kind.
    config
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .native_unwind_info(false);
    Ok(config)
}

/// Room for `attempts` of the largest components that are admitted.
fn pool(attempts: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(attempts)
        .total_core_instances(attempts * rules::CORE_INSTANCES_MAX)
        .total_memories(attempts * rules::MEMORIES_MAX)
        .total_tables(attempts * rules::TABLES_MAX)
        .total_stacks(attempts)
        .max_core_instances_per_component(rules::CORE_INSTANCES_MAX)
        .max_memories_per_component(rules::MEMORIES_MAX)
        .max_tables_per_component(rules::TABLES_MAX)
        .max_memories_per_module(rules::MEMORIES_MAX)
        .max_tables_per_module(rules::TABLES_MAX)
        .table_elements(rules::TABLE_ELEMENTS_MAX as usize)
        .max_memory_size(limits::MEMORY_BYTES_MAX as usize)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_unused_warm_slots(attempts)
        // Small tasks touch a few pages: clearing those is cheaper than giving them back.
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(16 << 10)
        .async_stack_keep_resident(16 << 10);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_that_of_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        let [major, minor, patch] = WASMTIME;
        let locked = format!("name = \"wasmtime\"\nversion = \"{major}.{minor}.{patch}\"");
        assert!(lock.contains(&locked), "{locked} is not in Cargo.lock");
    }

    #[test]
    fn both_profiles_and_both_allocations_make_an_engine() {
        for profile in [Profile::Native, Profile::Pulley] {
            let (_, pooled) = make(profile, Allocation::Auto, 4).unwrap();
            assert!(pooled, "a test machine has address space for four attempts");
            make(profile, Allocation::OnDemand, 4).unwrap();
        }
    }

    #[test]
    fn engine_id_changes_only_by_intent() {
        // Results of two engine ids are never compared. If this fails, a semantic setting changed:
        // raise `rules::REVISION` if that was meant, and take the new value.
        assert_eq!(engine_id().version, WASMTIME);
        let semantics = engine_id().semantics.to_string();
        assert_eq!(
            semantics,
            "7a4356b7da0d981a2681581af1c756d4d6d950b47c79c8efe6f664329c3d44df"
        );
    }

    #[test]
    fn code_is_named_by_what_can_load_it() {
        let named = |profile, allocation| code(&make(profile, allocation, 1).unwrap().0);
        let native = named(Profile::Native, Allocation::OnDemand);
        // A compile process pools nothing, and its runners load what it made.
        assert_eq!(native, named(Profile::Native, Allocation::Auto));
        assert_ne!(native, named(Profile::Pulley, Allocation::OnDemand));
    }
}
