//! Snapshots hold what initialisation leaves behind: against another implementation, and against running it each time.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod cases;
mod wizer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fuseboard_core::limits::{Caps, Limits};
use fuseboard_core::{
    Budget, Engine, EngineConfig, Entry, Input, LogLine, Module, Refusal, Snapshot, StepKind, Taken, Trap, Usage,
    snapshot,
};

use cases::{COMPUTES, FROZEN, REFUSED, module};

const MIB: usize = 1 << 20;
const BUDGET: Budget = Budget {
    fuel: 10_000_000,
    time: Duration::from_secs(20),
    memory_bytes: 64 * MIB,
    snapshot_bytes: 16 * MIB as u64,
    cheap_fuel: 0,
};
const NAMED: Option<&str> = Some("boot");

/// What an invocation of `run` gave.
#[derive(Debug)]
struct Ran {
    result: Result<Option<Vec<u8>>, Trap>,
    usage: Usage,
    logs: Vec<LogLine>,
}

fn engine() -> Engine {
    Engine::new(EngineConfig { memory_ceiling_bytes: BUDGET.memory_bytes, slots: 4 }).unwrap()
}

fn frozen(wasm: &[u8], named: Option<&str>) -> Taken {
    match snapshot(wasm, named, &BUDGET) {
        Snapshot::Taken(taken) => taken,
        other => panic!("not taken: {other:?}"),
    }
}

fn refusal(wasm: &[u8], named: Option<&str>, budget: &Budget) -> Refusal {
    match snapshot(wasm, named, budget) {
        Snapshot::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// Runs a module's `run` once, after `named`.
fn run(engine: &Engine, wasm: &[u8], named: Option<&str>, code_shift: i64) -> Ran {
    let module = Arc::new(Module::new(engine, wasm).unwrap());
    let limits = Limits { memory_bytes: BUDGET.memory_bytes, fuel: 1_000_000_000 };
    let caps = Caps { output_bytes: BUDGET.memory_bytes, request_bytes: 1 << 10, log_bytes: 1 << 10 };
    let mut entry = Entry::new(module, "run", b"{}", limits, caps).unwrap().shifted_by(code_shift);
    if let Some(named) = named {
        entry = entry.initialised_by(named).unwrap();
    }
    let execution = entry.begin(Input::default(), Instant::now() + Duration::from_secs(60));
    let turn = execution.turn().unwrap();
    let mut logs = Vec::new();
    loop {
        let mut step = turn.slice();
        logs.append(&mut step.logs);
        match step.kind {
            StepKind::Running => {}
            StepKind::Completed(output, usage) => return Ran { result: Ok(output), usage, logs },
            StepKind::Trapped(trap, usage) => return Ran { result: Err(trap), usage, logs },
            StepKind::Suspended(call) => panic!("asks {}", call.import),
        }
    }
}

/// The same output and memory, traps in the same places, and all but the fuel of the initialisation.
fn assert_same(name: &str, anew: &Ran, after: &Ran, taken: &Taken) {
    match (&anew.result, &after.result) {
        (Ok(anew), Ok(after)) => assert!(anew == after, "{name}: another output"),
        (Err(anew), Err(after)) => {
            assert_eq!((anew.cause, &anew.detail), (after.cause, &after.detail), "{name}");
            let places = |trap: &Trap| trap.backtrace.iter().map(|frame| format!("{frame:?}")).collect::<Vec<_>>();
            assert_eq!(places(anew), places(after), "{name}");
        }
        (anew, after) => panic!("{name}: {anew:?} became {after:?}"),
    }
    assert_eq!(anew.usage.memory_bytes, after.usage.memory_bytes, "{name}");
    if anew.usage.fuel_is_exact {
        // What is computed while an instance is made is so in each.
        let again = if COMPUTES.contains(&name) { 1..10 } else { 0..1 };
        let more = taken.fuel + after.usage.fuel - anew.usage.fuel;
        assert!(again.contains(&more), "{name}: {more} fuel more");
    }
    let lines = |logs: &[LogLine]| logs.iter().map(|line| (line.level, line.text.clone())).collect::<Vec<_>>();
    let (before, after) = (lines(&taken.logs), lines(&after.logs));
    assert_eq!(lines(&anew.logs), [before, after].concat(), "{name}");
}

/// Each module does the same with a snapshot as without, for less fuel, and so often as it is called.
#[test]
fn snapshots_change_nothing_but_the_fuel() {
    let engine = engine();
    for (name, text) in FROZEN {
        let wasm = module(text);
        let named = text.contains(r#"(export "boot")"#).then_some("boot");
        let taken = frozen(&wasm, named);
        let anew = run(&engine, &wasm, named, 0);
        for _ in 0..2 {
            assert_same(name, &anew, &run(&engine, &taken.wasm, None, taken.code_shift), &taken);
        }
    }
}

/// Wizer's snapshots of the modules that it takes do the same as ours.
#[test]
fn snapshots_are_as_another_implementation_makes_them() {
    let engine = engine();
    let mut compared = 0;
    for (name, text) in FROZEN {
        let wasm = module(text);
        let named = text.contains(r#"(export "boot")"#).then_some("boot");
        let theirs = match wizer::snapshot(&wasm, named) {
            Ok(theirs) => theirs,
            Err(error) => {
                assert!(cases::ONLY_OURS.contains(name), "{name} is refused by wizer: {error:#}");
                continue;
            }
        };
        assert!(!cases::ONLY_OURS.contains(name), "{name} is taken by wizer");
        let ours = frozen(&wasm, named);
        let (theirs, after) = (run(&engine, &theirs, None, 0), run(&engine, &ours.wasm, None, 0));
        assert!(theirs.result.as_ref().ok() == after.result.as_ref().ok(), "{name}: another output");
        assert_eq!(theirs.result.is_ok(), after.result.is_ok(), "{name}");
        assert_eq!(theirs.usage.memory_bytes, after.usage.memory_bytes, "{name}");
        compared += 1;
    }
    assert!(compared >= 34, "{compared} modules");
}

/// What can't be frozen is refused for its own reason, in words.
#[test]
fn refused_shapes() {
    for (name, text, words) in REFUSED {
        let refusal = refusal(&module(text), NAMED, &BUDGET);
        assert_eq!(&refusal.name(), name, "{text}");
        assert!(refusal.to_string().contains(words), "{name}: {refusal}");
    }
}

/// Without anything that runs first there is nothing to freeze; `_start` is none of it.
#[test]
fn modules_without_initialisation() {
    let wasm = module(r#"(func (export "run"))"#);
    assert!(matches!(snapshot(&wasm, None, &BUDGET), Snapshot::Nothing));
}

/// What is cheap runs each time, whatever else would be in the way.
#[test]
fn cheap_initialisation_is_left_alone() {
    for text in ["", "(func (export \"other\") (table.set (i32.const 0) (ref.null func))) (table 1 funcref)"] {
        let wasm = module(&format!(r#"{text} (func (export "_initialize") (nop)) (func (export "run"))"#));
        let budget = Budget { cheap_fuel: 100, ..BUDGET };
        let Snapshot::Cheap { fuel } = snapshot(&wasm, None, &budget) else { panic!("not cheap") };
        assert!((1..10).contains(&fuel), "{fuel}");
    }
}

/// Each part of the budget holds, and is named.
#[test]
fn budgets_hold() {
    let spins = module(r#"(func (export "_initialize") (loop (br 0))) (func (export "run"))"#);
    let grows = module(
        r#"(func (export "_initialize") (loop (drop (memory.grow (i32.const 16))) (br 0))) (func (export "run"))"#,
    );
    let logs = module(
        r#"(func (export "_initialize") (loop (call $log (i32.const 1) (i32.const 0) (i32.const 60000)) (br 0)))
        (func (export "run"))"#,
    );
    let fills = module(
        r#"(func (export "_initialize") (memory.fill (i32.const 0) (i32.const 7) (i32.const 60000)))
        (func (export "run"))"#,
    );
    assert_eq!(refusal(&spins, None, &BUDGET), Refusal::Fuel { most: BUDGET.fuel });
    assert_eq!(refusal(&logs, None, &BUDGET), Refusal::Fuel { most: BUDGET.fuel });
    assert_eq!(refusal(&grows, None, &BUDGET), Refusal::Memory { most: BUDGET.memory_bytes });
    let time = Duration::from_millis(20);
    for wasm in [&spins, &logs] {
        let soon = Budget { fuel: u64::MAX - 1, time, ..BUDGET };
        assert_eq!(refusal(wasm, None, &soon), Refusal::Time { most: time });
    }
    let small = Budget { snapshot_bytes: 59_999, ..BUDGET };
    assert_eq!(refusal(&fills, None, &small), Refusal::TooLarge { bytes: 60_000, most: 59_999 });
    assert!(matches!(
        snapshot(&fills, None, &Budget { snapshot_bytes: 60_000, ..BUDGET }),
        Snapshot::Taken(taken) if taken.bytes == 60_000
    ));
}

/// A module's exports are its own, whatever they are called, but for those that initialised it.
#[test]
fn exports_stay() {
    let wasm = module(
        r#"(global (export "snapshot0-0") (mut i32) (i32.const 1)) (global (export "snapshot1-") (mut i64) (i64.const 1))
        (func (export "_initialize") (global.set 0 (i32.const 5))) (func (export "boot")) (func (export "run"))"#,
    );
    let engine = engine();
    let exports = |wasm: &[u8]| {
        let names = fuseboard_core::inspect(wasm, BUDGET.memory_bytes).exports;
        names.into_iter().map(|export| export.name).collect::<Vec<_>>()
    };
    assert_eq!(exports(&frozen(&wasm, NAMED).wasm), ["memory", "snapshot0-0", "snapshot1-", "run"]);
    assert_eq!(exports(&frozen(&wasm, None).wasm), ["memory", "snapshot0-0", "snapshot1-", "boot", "run"]);
    assert!(run(&engine, &frozen(&wasm, NAMED).wasm, None, 0).result.is_ok());
}

/// Custom sections are kept, and functions keep their names; segments that are gone have none.
#[test]
fn names_stay() {
    let text = r#"(func $setup (export "_initialize") (i32.store (i32.const 64) (i32.const 1)))
        (func $fails (export "run") unreachable) (data $text (i32.const 0) "x") (@custom "other" "kept")"#;
    let (wasm, engine) = (module(text), engine());
    let taken = frozen(&wasm, None);
    let report = fuseboard_core::inspect(&taken.wasm, BUDGET.memory_bytes);
    let customs: Vec<_> = report.sections.iter().filter_map(|section| section.name.clone()).collect();
    assert_eq!(customs, ["other", "name"]);
    assert!(report.problems.is_empty());
    let holds = |wasm: &[u8], text: &[u8]| wasm.windows(text.len()).any(|window| window == text);
    assert!(holds(&wasm, b"\x04text") && !holds(&taken.wasm, b"\x04text"));
    let trap = run(&engine, &taken.wasm, None, taken.code_shift).result.unwrap_err();
    assert_eq!(trap.backtrace[0].function.as_deref(), Some("fails"));
    let anew = run(&engine, &wasm, None, 0).result.unwrap_err();
    assert_eq!(trap.backtrace[0].offset, anew.backtrace[0].offset);
}

/// A line that was begun while the snapshot was taken ends with it, and is no part of an invocation's first.
#[test]
fn lines_end_with_the_snapshot() {
    let wasm = module(
        r#"(data (i32.const 0) "half") (data (i32.const 16) "\00\00\00\00\04\00\00\00")
        (func $print (drop (call $write (i32.const 2) (i32.const 16) (i32.const 1) (i32.const 24))))
        (func (export "_initialize") (call $print)) (func (export "run") (call $print))"#,
    );
    let taken = frozen(&wasm, None);
    let after = run(&engine(), &taken.wasm, None, 0);
    for logs in [taken.logs, after.logs] {
        assert_eq!(logs.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["half"]);
    }
}

/// Memory that is far apart is copied into each instance, at a price: only where that is less than the initialisation's.
#[test]
fn far_memory() {
    let far = |turns: u32| {
        module(&format!(
            r#"(func (export "_initialize") (local $turn i32) (drop (memory.grow (i32.const 512)))
              (i32.store8 (i32.const 1) (i32.const 1)) (i32.store8 (i32.const 0x1800000) (i32.const 2))
              (loop $again (local.set $turn (i32.add (local.get $turn) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $turn) (i32.const {turns})))))
            (func (export "run") (call $output (i32.const 0x1800000) (i32.const 1)))"#
        ))
    };
    let engine = engine();
    let taken = frozen(&far(10), None);
    let (anew, after) = (run(&engine, &far(10), None, 0), run(&engine, &taken.wasm, None, 0));
    assert_eq!((anew.result.unwrap(), after.result.unwrap()), (Some(vec![2]), Some(vec![2])));
    assert!(after.usage.fuel < anew.usage.fuel);
    let budget = Budget { cheap_fuel: taken.fuel - 1, ..BUDGET };
    assert!(matches!(refusal(&far(10), None, &budget), Refusal::Spread { bytes: 2 }));
}

/// Whatever a guest leaves in its memory, it takes little more than that and the snapshot to look at it.
#[test]
fn scattered_memory_is_few_segments() {
    let wasm = module(
        r#"(func (export "_initialize") (local $place i32) (drop (memory.grow (i32.const 200)))
          (loop $again (i32.store8 (local.get $place) (i32.const 1))
            (local.set $place (i32.add (local.get $place) (i32.const 100)))
            (br_if $again (i32.lt_u (local.get $place) (i32.const 13000000)))))
        (func (export "run") (call $output (i32.const 6500000) (i32.const 1)))"#,
    );
    let taken = frozen(&wasm, None);
    let report = fuseboard_core::inspect(&taken.wasm, BUDGET.memory_bytes);
    assert!(report.data.0 <= 1_000 && report.data.1 <= 13_000_000, "{:?}", report.data);
    assert_eq!(run(&engine(), &taken.wasm, None, 0).result.unwrap(), Some(vec![1]));
}
