//! The target `fuzz-load`: a module is loaded and run. Bytes that don't begin as a module are dice for one.
//!
//! What must hold: what the pre-scan says yes to compiles or is refused in plain words, soon, and nothing else loads;
//! what loads has exports that run, end for a reason that has a type, and keep to their limits. What its snapshot is, if
//! it has one, loads too.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use fuseboard_core::limits::{Caps, Limits};
use fuseboard_core::{
    Budget, Cause, Engine, EngineConfig, Entry, Input, Module, Snapshot, StepKind, Usage, scan, snapshot,
};

use crate::calling::assert_is_printable;
use crate::scanning::{self, CEILING_BYTES, check_words};
use crate::smith;

const LIMITS: Limits = Limits { memory_bytes: CEILING_BYTES, fuel: 200_000 };
const CAPS: Caps = Caps { output_bytes: 1 << 10, request_bytes: 1 << 10, log_bytes: 1 << 10 };
const BUDGET: Budget = Budget {
    fuel: LIMITS.fuel,
    time: RUN_TIME,
    memory_bytes: CEILING_BYTES,
    snapshot_bytes: CEILING_BYTES as u64,
    cheap_fuel: 0,
};
/// What is compiled. The pre-scan keeps the compiler's time in proportion to a module's size.
const SMALL_BYTES: usize = 4 << 10;
/// Finds compiles that hang, on slow and busy machines too: some hundred times what so little takes. What is only dear for
/// its size, the corpus of hostile files looks for.
const COMPILE_TIME: Duration = Duration::from_secs(5);
const RUN_TIME: Duration = Duration::from_secs(10);
const MOST_EXPORTS: usize = 4;

/// Runs the target on an input's bytes.
///
/// # Panics
/// A rule was broken.
pub fn target(bytes: &[u8]) {
    if let Some(module) = module(bytes).filter(|module| module.len() <= SMALL_BYTES) {
        load(&module);
    }
}

fn module(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    if bytes.starts_with(b"\0asm") { Some(bytes.into()) } else { smith::from_bytes(bytes).map(Into::into) }
}

fn load(bytes: &[u8]) {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
        let config = EngineConfig { memory_ceiling_bytes: CEILING_BYTES, slots: 1 };
        Engine::new(config).unwrap_or_else(|error| panic!("no engine: {error}"))
    });
    let started = Instant::now();
    let loaded = Module::new(&ENGINE, bytes);
    let time = started.elapsed();
    assert!(time < COMPILE_TIME, "{} bytes took {time:?} to load", bytes.len());
    match loaded {
        Err(error) => check_words(&error),
        Ok(module) => {
            assert!(scan(bytes, CEILING_BYTES).is_ok(), "loaded, though the scan refuses it");
            let (name, has_run) = ("run", module.export_problem("run").is_none());
            run(&Arc::new(module));
            if let Snapshot::Taken(taken) = snapshot(bytes, has_run.then_some(name), &BUDGET) {
                assert!(Module::new(&ENGINE, &taken.wasm).is_ok(), "its snapshot doesn't load");
            }
        }
    }
}

fn run(module: &Arc<Module>) {
    for export in module.hook_exports().iter().take(MOST_EXPORTS) {
        // Names that can't be printed come out in other words, which are no export's.
        if let Ok(entry) = Entry::new(module.clone(), export, b"{}", LIMITS, CAPS) {
            run_entry(&entry);
        }
    }
}

/// Runs an export to its end, or to its first host call, where it is dropped.
fn run_entry(entry: &Entry) {
    let execution = entry.begin(Input::default(), Instant::now() + RUN_TIME);
    let turn = execution.turn().unwrap_or_else(|error| panic!("no turn: {error:?}"));
    loop {
        let step = turn.slice();
        assert!(step.logs.iter().map(|line| line.text.len()).sum::<usize>() < 1 << 20, "the log is large");
        step.logs.iter().for_each(|line| assert_is_printable(&line.text));
        match step.kind {
            StepKind::Running => {}
            StepKind::Suspended(_) => return,
            StepKind::Completed(output, usage) => {
                assert!(output.map_or(0, |bytes| bytes.len()) <= CAPS.output_bytes, "the output is over its cap");
                return check_usage(usage);
            }
            StepKind::Trapped(trap, usage) => {
                assert_is_printable(&trap.detail);
                assert!(trap.cause != Cause::Saturated, "no slot was free: {}", trap.detail);
                assert!(trap.limit.is_some() == (trap.cause == Cause::Limit), "a limit without its cause: {trap:?}");
                assert!(trap.limit.as_deref() != Some("timeout"), "ran until its time was up");
                return check_usage(usage);
            }
        }
    }
}

fn check_usage(usage: Usage) {
    assert!(usage.fuel <= LIMITS.fuel, "spent {} fuel", usage.fuel);
    assert!(usage.memory_bytes <= LIMITS.memory_bytes, "held {} bytes", usage.memory_bytes);
}

/// Says what an input means: the size of the module that it is or gives, and the scan's word on it.
#[must_use]
pub fn explained(bytes: &[u8]) -> String {
    module(bytes).map_or_else(|| "dice that give no module".into(), |module| scanning::explained(&module))
}
