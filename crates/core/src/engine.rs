//! The compiler and the pool, configured so that fuel counts everything and no signal is needed.

use std::num::NonZeroUsize;

use wasmparser::WasmFeatures;
use wasmtime as wt;

use crate::abi;
use crate::fork;
use crate::guest::Guest;
use crate::limits::{GROW_PAGE_FUEL, TABLE_ELEMENTS, TABLES};
use crate::wasi;

const WASM_STACK_BYTES: usize = 256 << 10;
const FIBER_STACK_BYTES: usize = 512 << 10;
/// What a slot keeps of its memory's pages for the next instance, and of each of its tables'. With the default of 80 slots
/// that is at most 45 MiB in all, which are in nobody's memory limit: (512 + [`TABLES`] * 16) KiB a slot.
const MEMORY_KEPT_BYTES: usize = 512 << 10;
const TABLE_KEPT_BYTES: usize = 16 << 10;
/// What a memory without a pool reserves to grow into before it moves.
const GROWTH_BYTES: u64 = 8 << 20;
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
    pool_problem: Option<String>,
}

impl Engine {
    /// Makes an engine, with a pool where the address space allows it and without where it doesn't.
    ///
    /// # Errors
    /// The platform has no compiler, the ABI can't be linked, or forks can't be watched.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        fork::watch().map_err(|problem| EngineError(problem.to_owned()))?;
        let (inner, pool_problem) = match wt::Engine::new(&pooling(config)) {
            Ok(inner) => (inner, None),
            Err(error) => (wt::Engine::new(&on_demand()).map_err(described)?, Some(format!("{error:#}"))),
        };
        let linker = linker(&inner).map_err(described)?;
        Ok(Self { inner, linker, config, pool_problem })
    }

    /// What the engine was made for.
    pub fn config(&self) -> EngineConfig {
        self.config
    }

    /// What modules are compiled for to run in this engine.
    pub fn target(&self) -> Target {
        Target { memory_ceiling_bytes: self.config.memory_ceiling_bytes, is_pooled: self.pool_problem.is_none() }
    }

    /// Why instances don't come from a pool, or `None` where they do. Without it each costs some 10 µs
    /// more, and nothing but memory bounds how many there are.
    pub fn pool_problem(&self) -> Option<&str> {
        self.pool_problem.as_deref()
    }
}

/// What code that is compiled elsewhere must fit: an engine of this kind, in a process on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The most memory that an instance can have, in bytes.
    pub memory_ceiling_bytes: usize,
    /// Whether instances come from a pool.
    pub is_pooled: bool,
}

impl Target {
    /// Returns an engine that compiles for this target, and has no room for instances.
    ///
    /// # Errors
    /// The platform has no compiler.
    pub(crate) fn compiler(self) -> Result<wt::Engine, EngineError> {
        let config = if self.is_pooled { in_slots(self.memory_ceiling_bytes) } else { on_demand() };
        wt::Engine::new(&config).map_err(described)
    }
}

fn described(error: wt::Error) -> EngineError {
    EngineError(format!("{error:#}"))
}

/// Returns all that guests can import.
pub(crate) fn linker(engine: &wt::Engine) -> wt::Result<wt::Linker<Guest>> {
    let mut linker = wt::Linker::new(engine);
    abi::link(&mut linker)?;
    wasi::link(&mut linker)?;
    Ok(linker)
}

/// Returns an engine for a single instance, with room for its memory and for no other. What runs once is compiled in half
/// the time, and runs a few times slower; fuel is the same. Such code takes more of the stack, so there is more of it.
pub(crate) fn for_one(memory_bytes: usize) -> wt::Result<wt::Engine> {
    let mut config = in_slots(memory_bytes);
    config
        .cranelift_opt_level(wt::OptLevel::None)
        .cranelift_regalloc_algorithm(wt::RegallocAlgorithm::SinglePass)
        .max_wasm_stack(WASM_STACK_BYTES * 4)
        .async_stack_size(FIBER_STACK_BYTES * 4);
    wt::Engine::new(&config)
}

fn on_demand() -> wt::Config {
    let mut config = base();
    config.memory_reservation(0).memory_may_move(true).memory_reservation_for_growth(GROWTH_BYTES);
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
        pool.linear_memory_keep_resident(MEMORY_KEPT_BYTES).table_keep_resident(TABLE_KEPT_BYTES);
    }
    let mut config = in_slots(engine.memory_ceiling_bytes);
    config.allocation_strategy(pool);
    config
}

/// Code for memories that lie where they are, in room for the largest.
fn in_slots(memory_ceiling_bytes: usize) -> wt::Config {
    let mut config = base();
    config.memory_reservation(memory_ceiling_bytes as u64).memory_may_move(false);
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// A fill is charged before it runs: with less fuel than its bytes, nothing is written.
    #[test]
    fn bulk_fill_above_the_fuel_left_writes_nothing() {
        let engine = wt::Engine::new(&base()).unwrap();
        let module = wat::parse_str(
            r#"(module (memory (export "memory") 1)
                 (func (export "fill") (memory.fill (i32.const 0) (i32.const 7) (i32.const 60000))))"#,
        );
        let module = wt::Module::from_binary(&engine, &module.unwrap()).unwrap();
        for (fuel, first_byte) in [(100_000, 7), (59_999, 0)] {
            let mut store = wt::Store::new(&engine, ());
            store.set_fuel(fuel).unwrap();
            let instance = wt::Instance::new(&mut store, &module, &[]).unwrap();
            let fill = instance.get_typed_func::<(), ()>(&mut store, "fill").unwrap();
            assert_eq!(fill.call(&mut store, ()).is_ok(), first_byte == 7);
            assert_eq!(instance.get_memory(&mut store, "memory").unwrap().data(&store)[0], first_byte);
        }
    }

    /// Fuel counts along tail calls, which have no loop header to look at the meter.
    #[test]
    fn tail_calls_are_metered() {
        let engine = wt::Engine::new(&base()).unwrap();
        let module = wat::parse_str(r#"(module (func $again (export "run") (return_call $again)))"#);
        let module = wt::Module::from_binary(&engine, &module.unwrap()).unwrap();
        let mut store = wt::Store::new(&engine, ());
        store.set_fuel(1_000_000).unwrap();
        store.fuel_async_yield_interval(Some(10_000)).unwrap();
        let run = async {
            let instance = wt::Instance::new_async(&mut store, &module, &[]).await?;
            instance.get_typed_func::<(), ()>(&mut store, "run")?.call_async(&mut store, ()).await
        };
        let mut run = pin!(run);
        let mut pulses = 0;
        let error = loop {
            match run.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => break result.unwrap_err(),
                Poll::Pending => pulses += 1,
            }
        };
        assert_eq!(error.downcast_ref::<wt::Trap>(), Some(&wt::Trap::OutOfFuel));
        assert!(pulses >= 90, "{pulses} pulses");
    }

    /// Each proposal that is off stays off: through some of them fuel could be spent uncounted.
    #[test]
    fn proposals_are_refused() {
        let engine = wt::Engine::new(&base()).unwrap();
        for module in [
            "(module (memory i64 1))",
            "(module (memory 1) (memory 1))",
            "(module (memory 1 1 shared))",
            "(module (memory 1 (pagesize 1)))",
            "(module (tag $t) (func (throw $t)))",
            "(module (func (try_table)))",
            "(module (type $t (struct (field i32))))",
            "(module (type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0))))",
            "(module (func (param v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))",
            "(module (func (param i64 i64 i64 i64) (result i64 i64)
               (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3))))",
            "(module (type $f (func)) (type $c (cont $f)))",
        ] {
            let bytes = wat::parse_str(module).unwrap();
            assert!(wt::Module::from_binary(&engine, &bytes).is_err(), "{module}");
        }
    }
}
