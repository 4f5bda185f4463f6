//! Inputs that were findings once are none any more, and what fuzzing starts from is worth starting from.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use fuseboard_fuzz::inputs::{TARGETS, Target};

/// Every kept input, and every seed, goes through its target.
#[test]
fn kept_inputs_find_nothing() {
    for target in &TARGETS {
        assert!(!target.kept().unwrap().is_empty(), "{} keeps no input", target.name);
        for (name, bytes) in target.seeds().unwrap() {
            let found = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(found.is_ok(), "{} found something in {name} (see above)", target.name);
        }
    }
}

/// A target has one name, and another's is refused with the names that there are.
#[test]
fn targets_are_found_by_name() {
    assert_eq!(Target::named("abi").unwrap().name, "abi");
    assert!(Target::named("other").err().unwrap().contains("scan, load, abi and wasi"));
}
