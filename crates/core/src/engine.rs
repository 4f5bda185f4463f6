//! The compiler and the pool, configured so that fuel counts everything and no signal is needed.

use std::num::NonZeroUsize;

use wasmparser::WasmFeatures;
use wasmtime as wt;

use crate::abi;
use crate::guest::Guest;
use crate::limits::{GROW_PAGE_FUEL, TABLE_ELEMENTS, TABLES};

const WASM_STACK_BYTES: usize = 256 << 10;
const FIBER_STACK_BYTES: usize = 512 << 10;
const KEEP_RESIDENT_BYTES: usize = 1 << 20;
const BACKTRACE_FRAMES: usize = 32;

/// What an engine is made for.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// The most memory that an instance can have, in bytes.
    pub memory_ceiling_bytes: usize,
    /// How many instances can live at once.
    pub slots: u32,
}

/// The platform can't run guests.
#[derive(Debug)]
pub struct EngineError(String);

impl std::fmt::Display for EngineError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for EngineError {}

/// Compiles modules and lends them memory.
pub struct Engine {
    pub(crate) inner: wt::Engine,
    pub(crate) linker: wt::Linker<Guest>,
    config: EngineConfig,
    pooled: bool,
}

impl Engine {
    /// Makes an engine, with a pool where the address space allows it and without where it doesn't.
    ///
    /// # Errors
    /// The platform has no compiler, or the ABI can't be linked.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let (inner, pooled) = match wt::Engine::new(&pooling(config)) {
            Ok(inner) => (inner, true),
            Err(_) => (wt::Engine::new(&on_demand()).map_err(described)?, false),
        };
        let mut linker = wt::Linker::new(&inner);
        abi::link(&mut linker).map_err(described)?;
        Ok(Self { inner, linker, config, pooled })
    }

    /// What the engine was made for.
    pub fn config(&self) -> EngineConfig {
        self.config
    }

    /// Whether instances come from the pool. Without it each costs some 10 µs more, and nothing but
    /// memory bounds how many there are.
    pub fn is_pooled(&self) -> bool {
        self.pooled
    }
}

fn described(error: wt::Error) -> EngineError {
    EngineError(format!("{error:#}"))
}

fn on_demand() -> wt::Config {
    let mut config = base();
    config.memory_reservation(0).memory_may_move(true);
    config
}

fn pooling(engine: EngineConfig) -> wt::Config {
    let mut pool = wt::PoolingAllocationConfig::default();
    pool.total_core_instances(engine.slots)
        .total_memories(engine.slots)
        .total_tables(engine.slots.saturating_mul(TABLES))
        .total_stacks(engine.slots)
        .max_memory_size(engine.memory_ceiling_bytes)
        .max_tables_per_module(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .max_core_instance_size(4 << 20)
        .decommit_batch_size(1)
        .pagemap_scan(wt::Enabled::Auto);
    // Without the kernel's scan for dirty pages, keeping pages means to clear all of them each time.
    if wt::PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.linear_memory_keep_resident(KEEP_RESIDENT_BYTES).table_keep_resident(KEEP_RESIDENT_BYTES);
    }
    let mut config = base();
    config.memory_reservation(engine.memory_ceiling_bytes as u64).memory_may_move(false).allocation_strategy(pool);
    config
}

fn base() -> wt::Config {
    let mut cost = wt::OperatorCost::default();
    cost.variable.memory_grow_per_page = GROW_PAGE_FUEL;
    let mut config = wt::Config::new();
    config
        .consume_fuel(true)
        .operator_cost(cost)
        // Python programs install and remove signal handlers as they like (faulthandler, crash
        // reporters): guests are checked by compiled code instead, which needs no guard pages.
        .signals_based_traps(false)
        .memory_guard_size(0)
        .native_unwind_info(false)
        .concurrency_support(false)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .wasm_backtrace_details(wt::WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES));
    config.gc_support(false).wasm_features(PROPOSALS_OFF, false);
    config
}

/// More than plugins need; through some of them, fuel can be spent without being counted.
const PROPOSALS_OFF: WasmFeatures = WasmFeatures::GC
    .union(WasmFeatures::GC_TYPES)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::LEGACY_EXCEPTIONS)
    .union(WasmFeatures::THREADS)
    .union(WasmFeatures::SHARED_EVERYTHING_THREADS)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::STACK_SWITCHING)
    .union(WasmFeatures::CUSTOM_PAGE_SIZES)
    .union(WasmFeatures::WIDE_ARITHMETIC);
