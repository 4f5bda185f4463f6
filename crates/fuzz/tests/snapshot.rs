//! Random modules do the same with a snapshot as without, and freezing them in two steps is freezing them in one.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use fuseboard_core::limits::{Caps, Limits};
use fuseboard_core::{Budget, Cause, Engine, EngineConfig, Entry, Input, Module, Snapshot, StepKind, Taken, snapshot};
use fuseboard_fuzz::smith::{RECIPES, module};
use wasm_encoder as we;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasmparser::{DataKind, Operator, Parser, Payload};

const SEED: u64 = 8;
const COUNT: u64 = 1_000;
const CEILING: usize = 16 << 20;
const BUDGET: Budget = Budget {
    fuel: 1_000_000,
    time: Duration::from_secs(20),
    memory_bytes: CEILING,
    snapshot_bytes: CEILING as u64,
    cheap_fuel: 0,
};
/// What making an instance costs again: constants that are computed.
const MAKING_FUEL: u64 = 10_000;

/// Returns a module of a recipe that loads, with its `run` exported as `_initialize` and as `boot` too.
fn initialising(number: u64) -> Option<Vec<u8>> {
    if !RECIPES[number as usize % RECIPES.len()].loads {
        return None;
    }
    let wasm = module(SEED, number).unwrap();
    let mut more = we::Module::new();
    for payload in Parser::new(0).parse_all(&wasm) {
        let payload = payload.unwrap();
        if let Payload::ExportSection(section) = payload {
            let run = section.clone().into_iter().map(Result::unwrap).find(|export| export.name == "run").unwrap();
            let mut exports = we::ExportSection::new();
            RoundtripReencoder.parse_export_section(&mut exports, section).unwrap();
            exports.export("_initialize", we::ExportKind::Func, run.index);
            exports.export("boot", we::ExportKind::Func, run.index);
            more.section(&exports);
        } else if let Some((id, range)) = payload.as_section() {
            more.section(&we::RawSection { id, data: &wasm[range] });
        }
    }
    Some(more.finish())
}

fn taken(wasm: &[u8], named: Option<&str>) -> Option<Taken> {
    match snapshot(wasm, named, &BUDGET) {
        Snapshot::Taken(taken) => Some(taken),
        Snapshot::Refused(_) => None,
        other => panic!("neither taken nor refused: {other:?}"),
    }
}

/// What a module begins with: its globals' values and its memory.
fn beginning(wasm: &[u8]) -> (Vec<String>, Vec<u8>) {
    let (mut globals, mut memory) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.unwrap() {
            Payload::MemorySection(section) => {
                memory.resize(section.into_iter().next().unwrap().unwrap().initial as usize * 65_536, 0);
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let value = global.unwrap().init_expr;
                    globals.push(format!("{:?}", value.get_operators_reader().read().unwrap()));
                }
            }
            Payload::DataSection(section) => {
                for data in section {
                    let data = data.unwrap();
                    if let DataKind::Active { offset_expr, .. } = data.kind {
                        let Operator::I32Const { value } = offset_expr.get_operators_reader().read().unwrap() else {
                            panic!("a computed place")
                        };
                        let start = value.cast_unsigned() as usize;
                        memory[start..start + data.data.len()].copy_from_slice(data.data);
                    }
                }
            }
            _ => {}
        }
    }
    (globals, memory)
}

/// Runs `run`, after `boot` where that is there; returns how it ended and what memory it had.
fn ran(engine: &Engine, wasm: &[u8]) -> (String, usize) {
    let module = Arc::new(Module::new(engine, wasm).unwrap());
    let boots = module.export_problem("boot").is_none();
    let limits = Limits { memory_bytes: CEILING, fuel: 10_000_000 };
    let caps = Caps { output_bytes: 1 << 20, request_bytes: 1 << 10, log_bytes: 1 << 16 };
    let mut entry = Entry::new(module, "run", b"{}", limits, caps).unwrap();
    if boots {
        entry = entry.initialised_by("boot").unwrap();
    }
    let execution = entry.begin(Input::default(), Instant::now() + Duration::from_secs(20));
    let turn = execution.turn().unwrap();
    loop {
        match turn.slice().kind {
            StepKind::Running => {}
            StepKind::Suspended(call) => return (format!("{call:?}"), 0),
            StepKind::Completed(output, usage) => return (format!("{output:?}"), usage.memory_bytes),
            StepKind::Trapped(trap, usage) => {
                // How much of the stack is left depends on nothing that a snapshot holds, but not on it alone.
                let detail = if trap.cause == Cause::Crash { trap.detail } else { String::new() };
                return (format!("{:?} {detail}", trap.cause), usage.memory_bytes);
            }
        }
    }
}

#[test]
fn snapshots_change_nothing() {
    let engine = Engine::new(EngineConfig { memory_ceiling_bytes: CEILING, slots: 1 }).unwrap();
    let (mut frozen, mut changed) = (0, 0);
    for number in 0..COUNT {
        let Some(wasm) = initialising(number) else { continue };
        let Some(both) = taken(&wasm, Some("boot")) else { continue };
        let first = taken(&wasm, None).unwrap_or_else(|| panic!("module {number} can be frozen after two steps only"));
        let second =
            taken(&first.wasm, Some("boot")).unwrap_or_else(|| panic!("module {number} can't be frozen again"));
        assert!(beginning(&both.wasm) == beginning(&second.wasm), "module {number}: one step is not two");
        let again = first.fuel + second.fuel - both.fuel;
        assert!(again < MAKING_FUEL, "module {number}: {again} fuel more");
        assert_eq!(ran(&engine, &wasm), ran(&engine, &both.wasm), "module {number}");
        frozen += 1;
        changed += u32::from(beginning(&both.wasm).0 != beginning(&without_data(&wasm)).0);
    }
    assert!(frozen > 100 && changed > 10, "{frozen} frozen, {changed} changed");
}

/// Returns a module without its data, parts of which may stand at computed places.
fn without_data(wasm: &[u8]) -> Vec<u8> {
    let mut module = we::Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.unwrap();
        if let Some((id, range)) = payload.as_section()
            && !matches!(payload, Payload::DataSection(_) | Payload::DataCountSection { .. })
        {
            module.section(&we::RawSection { id, data: &wasm[range] });
        }
    }
    module.finish()
}
