//! Random modules are valid, can load where they are made to, and are the same again from the same seed.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::HashSet;

use fuseboard_core::{Engine, EngineConfig, Module};
use fuseboard_fuzz::smith::{RECIPES, module};
use wasmparser::{Validator, WasmFeatures};

const COUNT: u64 = 100;

fn modules(seed: u64) -> Vec<Vec<u8>> {
    (0..COUNT).map(|number| module(seed, number).unwrap()).collect()
}

/// Each module is WebAssembly, if with proposals that the engine leaves off.
#[test]
fn modules_are_valid() {
    for (number, module) in modules(1).iter().enumerate() {
        let validated = Validator::new_with_features(WasmFeatures::all()).validate_all(module);
        assert!(validated.is_ok(), "module {number}: {:?}", validated.err());
    }
}

/// Every module of a recipe that loads does, and so comes to the compiler, some with imports of the ABI; the others
/// are not all refused for one reason.
#[test]
fn half_of_the_recipes_load() {
    let engine = Engine::new(EngineConfig { memory_ceiling_bytes: 16 << 20, slots: 1 }).unwrap();
    let (mut reasons, mut imports) = (HashSet::new(), HashSet::new());
    for (number, wasm) in modules(1).iter().enumerate() {
        let recipe = &RECIPES[number % RECIPES.len()];
        match Module::new(&engine, wasm) {
            Ok(module) => {
                assert!(!recipe.loads || module.export_problem("run").is_none(), "module {number}");
                imports.extend(module.imports().into_iter().map(str::to_owned));
            }
            Err(error) => {
                assert!(!recipe.loads, "module {number}, {}: {error}", recipe.name);
                reasons.insert(error.to_string());
            }
        }
    }
    assert_eq!(RECIPES.iter().filter(|recipe| recipe.loads).count() * 2, RECIPES.len());
    assert!(reasons.len() > 10, "{reasons:?}");
    assert!(imports.len() >= 5, "{imports:?}");
}

/// A seed's modules are the same each time, differ from each other, and from another seed's.
#[test]
fn a_seed_gives_the_same_modules_again() {
    let (first, again, other) = (modules(1), modules(1), modules(2));
    assert_eq!(first, again);
    let different: HashSet<&Vec<u8>> = first.iter().chain(&other).collect();
    assert_eq!(different.len() as u64, 2 * COUNT);
}
