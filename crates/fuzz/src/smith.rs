//! Random modules from dice: the same dice give the same module on every machine.
//!
//! Half of the recipes make modules that can load, so that they come past the pre-scan to the compiler: they
//! export a memory as `memory` and a function without parameters and results as `run`.

use arbitrary::Unstructured;
use wasm_smith::{Config, InstructionKind, InstructionKinds, Module};

/// The most bytes that a module is made from.
const DICE_BYTES: usize = 8 << 10;
/// Dice can run out, or lead where no module is. So many throws fail together never (measured: most need one).
const THROWS: u64 = 100;

/// A way to configure the generator.
pub struct Recipe {
    /// What its modules are like.
    pub name: &'static str,
    /// Whether its modules can load.
    pub loads: bool,
    configure: fn(&mut Config),
}

/// All recipes. Reference types stay out of those that load: with them the generator makes external references,
/// which the engine doesn't have. Number N of a seed's modules is made by the recipe N modulo their number.
pub const RECIPES: [Recipe; 10] = [
    Recipe { name: "plain", loads: true, configure: |_| {} },
    Recipe { name: "exports everything", loads: false, configure: |config| config.export_everything = true },
    Recipe { name: "vectors", loads: true, configure: |config| config.simd_enabled = true },
    Recipe { name: "foreign imports", loads: false, configure: foreign_imports },
    Recipe { name: "calls the ABI", loads: true, configure: calls_the_abi },
    Recipe { name: "every proposal that is on", loads: false, configure: proposals_on },
    Recipe { name: "tail calls and many results", loads: true, configure: calls },
    Recipe { name: "memories of other kinds", loads: false, configure: other_memories },
    Recipe { name: "tables, data and bulk operations", loads: true, configure: bulk },
    Recipe { name: "every proposal that is off", loads: false, configure: proposals_off },
];

const SHAPE: &str = r#"(module (memory (export "memory") 1 4) (func (export "run")))"#;

const ABI: &str = r#"(module
  (import "fuseboard" "buffer_length" (func (param i32) (result i32)))
  (import "fuseboard" "buffer_read" (func (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "output_write" (func (param i32 i32)))
  (import "fuseboard" "fail" (func (param i32 i32)))
  (import "fuseboard" "host_log" (func (param i32 i32 i32)))
  (import "fuseboard" "meter_remaining" (func (param i32) (result i64)))
  (import "fuseboard" "host_http_request" (func (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_kv_get" (func (param i32 i32) (result i32)))
  (import "fuseboard" "host_kv_set_for" (func (param i32 i32 i32 i32 i64) (result i32)))
  (import "fuseboard" "host_kv_increment" (func (param i32 i32 i64) (result i32)))
  (import "fuseboard" "host_call" (func (param i32 i32 i32 i32) (result i32))))"#;

/// Makes module `number` of a seed's. It is valid WebAssembly, if not of the kind that the host takes.
///
/// # Errors
/// No throw of the dice gave a module.
pub fn module(seed: u64, number: u64) -> Result<Vec<u8>, String> {
    let recipe = recipe(number);
    (0..THROWS)
        .find_map(|throw| make(recipe, &dice(mixed(mixed(mixed(seed) ^ number) ^ throw))))
        .ok_or_else(|| format!("{THROWS} throws of seed {seed} made no module {number}, {}", recipe.name))
}

/// Makes a module from bytes that somebody chose: the first is the recipe, the rest are the dice.
pub fn from_bytes(bytes: &[u8]) -> Option<Vec<u8>> {
    let (first, dice) = bytes.split_first()?;
    make(recipe((*first).into()), dice)
}

fn recipe(number: u64) -> &'static Recipe {
    &RECIPES[number as usize % RECIPES.len()]
}

fn make(recipe: &Recipe, dice: &[u8]) -> Option<Vec<u8>> {
    let mut config = plain();
    if recipe.loads {
        config.exports = wat(SHAPE);
        config.max_memories = 0; // beside that of the shape
    }
    (recipe.configure)(&mut config);
    Module::new(config, &mut Unstructured::new(dice)).ok().map(|module| module.to_bytes())
}

/// WebAssembly as it first was, without imports, small enough for any ceiling, and with something in it.
fn plain() -> Config {
    Config {
        max_imports: 0,
        min_types: 3,
        min_funcs: 4,
        max_funcs: 30,
        min_globals: 1,
        max_instructions: 300,
        max_memory32_bytes: 8 << 20,
        max_table_elements: 10_000,
        bulk_memory_enabled: false,
        exceptions_enabled: false,
        extended_const_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        multi_value_enabled: false,
        reference_types_enabled: false,
        relaxed_simd_enabled: false,
        saturating_float_to_int_enabled: false,
        sign_extension_ops_enabled: false,
        simd_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        ..Config::default()
    }
}

fn foreign_imports(config: &mut Config) {
    (config.min_imports, config.max_imports) = (1, 20);
}

fn calls_the_abi(config: &mut Config) {
    config.available_imports = wat(ABI);
    config.max_imports = 20;
}

fn proposals_on(config: &mut Config) {
    bulk(config);
    calls(config);
    config.reference_types_enabled = true;
    config.max_tables = 4;
    config.allowed_instructions = InstructionKinds::all();
    config.simd_enabled = true;
    config.saturating_float_to_int_enabled = true;
    config.sign_extension_ops_enabled = true;
}

fn calls(config: &mut Config) {
    config.tail_call_enabled = true;
    config.multi_value_enabled = true;
    (config.min_funcs, config.max_funcs) = (5, 60);
    let kinds = [InstructionKind::Control, InstructionKind::Parametric, InstructionKind::Variable];
    config.allowed_instructions = InstructionKinds::new(&[&kinds[..], &[InstructionKind::Numeric]].concat());
}

fn bulk(config: &mut Config) {
    config.bulk_memory_enabled = true;
    config.extended_const_enabled = true;
    (config.min_tables, config.min_data_segments, config.min_element_segments) = (1, 1, 1);
}

fn other_memories(config: &mut Config) {
    config.memory64_enabled = true;
    config.custom_page_sizes_enabled = true;
    config.max_imports = 5;
    (config.min_memories, config.max_memories) = (1, 4);
    config.max_memory32_bytes = 1 << 32;
}

fn proposals_off(config: &mut Config) {
    proposals_on(config);
    config.exceptions_enabled = true;
    config.gc_enabled = true;
    config.relaxed_simd_enabled = true;
    config.threads_enabled = true;
    config.wide_arithmetic_enabled = true;
}

fn wat(text: &str) -> Option<Vec<u8>> {
    Some(wat::parse_str(text).unwrap_or_else(|error| panic!("a shape is wrong: {error}")))
}

fn dice(seed: u64) -> Vec<u8> {
    (0..DICE_BYTES as u64 / 8).flat_map(|word| mixed(seed.wrapping_add(word)).to_le_bytes()).collect()
}

/// Steele, Lea and Flood's SplitMix64, one step from a state ("Fast splittable pseudorandom number generators", 2014).
fn mixed(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
