//! The target `fuzz-wasi`: a guest calls the functions of WASI with any arguments, on any memory.
//!
//! What must hold: it ends as the ABI's page says, and for no other reason; it parks for sleeps only; what it prints keeps
//! to the caps and can be shown; the meters keep to their limits; and the same surroundings give the same again.

use std::fmt::Write;
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use fuseboard_core::limits::{Caps, FUEL, LOG_LINES, Limits};
use fuseboard_core::{
    Answer, Cause, Engine, EngineConfig, Entry, Input, LogLine, Module, SLEEP, StepKind, Surroundings, Trap, Usage,
    WASI_MODULE, wasi_functions,
};

use crate::calling::assert_is_printable;
use crate::model::PAGE_BYTES;
use crate::session::AMPLE_TIME;

/// The functions that do most, which are called more often.
const FAVOURITES: [&str; 4] = ["fd_write", "poll_oneoff", "random_get", "clock_time_get"];
const MOST_ARGUMENTS: usize = 9;
const MOST_CALLS: usize = 500;
const AMPLE_FUEL: u64 = 1 << 40;
/// Where the guest reads its calls from: behind the page that the functions work on.
const SCRIPT: usize = PAGE_BYTES;
const RECORD_BYTES: usize = 8 * (1 + MOST_ARGUMENTS);

/// One input.
#[derive(Arbitrary, Debug)]
struct Session {
    fuel: Option<u16>,
    log_bytes: u16,
    /// The first bytes of the guest's memory.
    memory: Vec<u8>,
    calls: Vec<Call>,
}

#[derive(Arbitrary, Debug)]
struct Call {
    function: u8,
    arguments: [Argument; MOST_ARGUMENTS],
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Argument {
    Small(u8),
    /// So far from the memory's end.
    NearTheEnd(i8),
    Any(i64),
}

impl Call {
    fn bytes(&self) -> impl Iterator<Item = u8> {
        let function = usize::from(self.function);
        let count = wasi_functions().count();
        let favourite = FAVOURITES.get(function / count);
        let place = favourite.and_then(|favourite| wasi_functions().position(|(name, _)| name == *favourite));
        let function = place.unwrap_or(function % count) as i64;
        let arguments = self.arguments.map(|argument| match argument {
            Argument::Small(number) => number.into(),
            Argument::NearTheEnd(by) => PAGES as i64 * PAGE_BYTES as i64 + i64::from(by),
            Argument::Any(number) => number,
        });
        [function].into_iter().chain(arguments).flat_map(i64::to_le_bytes)
    }
}

const PAGES: usize = 2;

/// Runs the target on an input's bytes.
///
/// # Panics
/// A rule was broken.
pub fn target(bytes: &[u8]) {
    if let Ok(session) = Session::arbitrary_take_rest(Unstructured::new(bytes)) {
        let ran = Ran::of(&session);
        ran.check(&session);
        assert_eq!(ran.facts(), Ran::of(&session).facts(), "the same again");
    }
}

/// Says what an input means, for whoever reads a finding.
#[must_use]
pub fn explained(bytes: &[u8]) -> String {
    format!("{:#?}", Session::arbitrary_take_rest(Unstructured::new(bytes)))
}

/// Clocks that stand still, and random bytes that aren't.
struct Still;

impl Surroundings for Still {
    fn wall_clock(&self) -> Duration {
        Duration::from_nanos(1_700_000_000_123_456_789)
    }

    fn monotonic_clock(&self) -> Duration {
        Duration::from_nanos(1_123_456_789)
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(0x5a);
        Ok(())
    }
}

struct Ran {
    lines: Vec<LogLine>,
    sleeps: Vec<i64>,
    end: Result<(), Trap>,
    usage: Usage,
}

impl Ran {
    fn of(session: &Session) -> Self {
        let calls: Vec<_> = session.calls.iter().take(MOST_CALLS.min((PAGE_BYTES - 8) / RECORD_BYTES)).collect();
        let script = (calls.len() as u64).to_le_bytes().into_iter().chain(calls.iter().flat_map(|call| call.bytes()));
        let memory: Vec<u8> = session.memory.iter().copied().take(PAGE_BYTES).collect();
        let input = Input { value: script.collect(), context: memory, call_info: Vec::new() };
        let execution = entry(session).begin_in(input, Instant::now() + AMPLE_TIME, Arc::new(Still));
        let turn = execution.turn().unwrap_or_else(|error| panic!("no turn: {error:?}"));
        let (mut lines, mut sleeps) = (Vec::new(), Vec::new());
        loop {
            let step = turn.slice();
            lines.extend(step.logs);
            match step.kind {
                StepKind::Running => {}
                StepKind::Completed(_, usage) => return Self { lines, sleeps, end: Ok(()), usage },
                StepKind::Trapped(trap, usage) => return Self { lines, sleeps, end: Err(trap), usage },
                StepKind::Suspended(call) => {
                    assert!(call.import == SLEEP && call.parts.is_empty() && call.number > 0, "parked for {call:?}");
                    sleeps.push(call.number);
                    turn.answer(Answer::default()).unwrap_or_else(|error| panic!("no answer: {error:?}"));
                }
            }
        }
    }

    fn check(&self, session: &Session) {
        for line in &self.lines {
            assert_is_printable(&line.text);
            assert!((1..=2).contains(&line.level), "printed at level {}", line.level);
        }
        assert!(self.lines.len() <= LOG_LINES + 1, "{} lines", self.lines.len());
        // A byte is shown by at most eight characters.
        let shown: usize = self.lines.iter().map(|line| line.text.chars().count()).sum();
        assert!(shown <= usize::from(session.log_bytes) * 8 + 200, "{shown} characters");
        assert!(self.usage.fuel <= session.limits().fuel, "spent {} fuel", self.usage.fuel);
        assert_eq!(self.usage.memory_bytes, PAGES * PAGE_BYTES, "the meter of memory");
        let Err(trap) = &self.end else { return };
        assert_is_printable(&trap.detail);
        let is_fair = match trap.cause {
            Cause::Limit => trap.limit.as_deref() == Some(FUEL),
            Cause::BadPointer => wasi_functions().any(|(name, _)| trap.detail.starts_with(&format!("{name}: "))),
            Cause::Failed => trap.detail.starts_with("the guest exited with code "),
            Cause::Crash => trap.detail.starts_with("the guest raised signal "),
            _ => false,
        };
        assert!(is_fair, "ended by {trap:?}");
    }

    fn facts(&self) -> String {
        format!("{:?} {:?} {:?} {:?}", self.lines, self.sleeps, self.end, self.usage)
    }
}

impl Session {
    fn limits(&self) -> Limits {
        let fuel = self.fuel.map_or(AMPLE_FUEL, |fuel| u64::from(fuel) * 4);
        Limits { memory_bytes: PAGES * PAGE_BYTES, fuel }
    }
}

fn entry(session: &Session) -> Entry {
    static MODULE: LazyLock<Arc<Module>> = LazyLock::new(|| {
        let config = EngineConfig { memory_ceiling_bytes: PAGES * PAGE_BYTES, slots: 1 };
        let engine = Engine::new(config).unwrap_or_else(|error| panic!("no engine: {error}"));
        let wasm = wat::parse_str(guest()).unwrap_or_else(|error| panic!("the guest can't be translated: {error}"));
        Arc::new(Module::new(&engine, &wasm).unwrap_or_else(|error| panic!("the guest does not load: {error}")))
    });
    let caps = Caps { output_bytes: 0, request_bytes: 0, log_bytes: session.log_bytes.into() };
    Entry::new(MODULE.clone(), "run", b"{}", session.limits(), caps)
        .unwrap_or_else(|error| panic!("the guest has no export: {error}"))
}

/// A guest that reads its memory from the context, its calls from the value, and makes them one after the other.
fn guest() -> String {
    let (mut imports, mut cases) = (String::new(), String::new());
    for (name, letters) in wasi_functions() {
        let types: Vec<_> = letters.chars().map(|letter| if letter == 'l' { "i64" } else { "i32" }).collect();
        let (result, dropped) = if name == "proc_exit" { ("", "") } else { ("(result i32)", "drop") };
        let types_text = types.join(" ");
        let arguments: String = types
            .iter()
            .enumerate()
            .map(|(place, ty)| format!("({ty}.load offset={} (local.get $at))", 8 * (place + 1)))
            .collect();
        let _ = write!(imports, r#"(import "{WASI_MODULE}" "{name}" (func ${name} (param {types_text}) {result}))"#);
        let _ = write!(cases, "(call ${name} {arguments}) {dropped} (br $next))");
    }
    let count = wasi_functions().count();
    let opened = "(block ".repeat(count);
    let targets: String = (0..count).map(|place| format!("{place} ")).collect();
    format!(
        r#"(module {imports}
            (import "fuseboard" "buffer_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") {PAGES} {PAGES})
            (func (export "run") (local $at i32) (local $left i64)
              (drop (call $read (i32.const 1) (i32.const 0) (i32.const 0) (i32.const {PAGE_BYTES})))
              (drop (call $read (i32.const 0) (i32.const 0) (i32.const {SCRIPT}) (i32.const {PAGE_BYTES})))
              (local.set $left (i64.load (i32.const {SCRIPT})))
              (local.set $at (i32.const {first}))
              (loop $again
                (if (i64.eqz (local.get $left)) (then return))
                (local.set $left (i64.sub (local.get $left) (i64.const 1)))
                (block $next {opened}
                  (br_table {targets} $next (i32.load (local.get $at)))) {cases}
                (local.set $at (i32.add (local.get $at) (i32.const {RECORD_BYTES})))
                (br $again))))"#,
        first = SCRIPT + 8,
    )
}
