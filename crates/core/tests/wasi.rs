//! WASI preview 1: what each function answers, prints, waits for, and does about bad pointers.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuseboard_core::limits::{Caps, FUEL, IMPORT_FUEL, Limits};
use fuseboard_core::{
    Answer, Cause, Engine, EngineConfig, Entry, Input, LogLine, Module, SLEEP, Step, StepKind, Surroundings, Trap,
    wasi_functions,
};

const CAPS: Caps = Caps { output_bytes: 1 << 20, request_bytes: 1 << 20, log_bytes: 100 };
const LIMITS: Limits = Limits { memory_bytes: 1 << 20, fuel: 1_000_000 };
const BADF: i32 = 8;
const INVAL: i32 = 28;
const SECOND: u64 = 1_000_000_000;

/// A clock that stands still at 12.3456789 s, and random bytes that count.
struct Still;

impl Surroundings for Still {
    fn wall_clock(&self) -> Duration {
        Duration::from_nanos(1_700_000_000_999_999_999)
    }

    fn monotonic_clock(&self) -> Duration {
        Duration::from_nanos(12_345_678_900)
    }

    fn fill_random(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        if bytes.len() == 13 {
            return Err(std::io::Error::other("no luck"));
        }
        (0..=u8::MAX).cycle().zip(bytes).for_each(|(number, byte)| *byte = number);
        Ok(())
    }
}

/// Every function with the types of its parameters, as its specification has them.
const SIGNATURES: &str = "
    args_get:ii args_sizes_get:ii environ_get:ii environ_sizes_get:ii clock_res_get:ii clock_time_get:iIi
    fd_advise:iIIi fd_allocate:iII fd_close:i fd_datasync:i fd_fdstat_get:ii fd_fdstat_set_flags:ii
    fd_fdstat_set_rights:iII fd_filestat_get:ii fd_filestat_set_size:iI fd_filestat_set_times:iIIi fd_pread:iiiIi
    fd_prestat_get:ii fd_prestat_dir_name:iii fd_pwrite:iiiIi fd_read:iiii fd_readdir:iiiIi fd_renumber:ii
    fd_seek:iIii fd_sync:i fd_tell:ii fd_write:iiii path_create_directory:iii path_filestat_get:iiiii
    path_filestat_set_times:iiiiIIi path_link:iiiiiii path_open:iiiiiIIii path_readlink:iiiiii
    path_remove_directory:iii path_rename:iiiiii path_symlink:iiiii path_unlink_file:iii poll_oneoff:iiii
    proc_exit:i proc_raise:i sched_yield: random_get:ii sock_accept:iii sock_recv:iiiiii sock_send:iiiii
    sock_shutdown:ii";

fn signatures() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    SIGNATURES.split_whitespace().map(|signature| {
        let (name, letters) = signature.split_once(':').unwrap();
        (name, letters.chars().map(|letter| if letter == 'I' { "i64" } else { "i32" }).collect())
    })
}

/// A module that imports every function, does what `body` says, and gives bytes 0 to 1023 of its memory.
fn module(body: &str) -> String {
    let mut text = String::from("(module");
    for (name, types) in signatures() {
        let result = if name == "proc_exit" { "" } else { "(result i32)" };
        write!(
            text,
            r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {}) {result}))"#,
            types.join(" ")
        )
        .unwrap();
    }
    text + r#"(import "fuseboard" "output_write" (func $output (param i32 i32)))
        (import "fuseboard" "host_log" (func $log (param i32 i32 i32)))
        (memory (export "memory") 1)
        (func $show (call $output (i32.const 0) (i32.const 1024)))"#
        + body
        + ")"
}

fn entry(wat: &str) -> Entry {
    let engine = Engine::new(EngineConfig { memory_ceiling_bytes: 1 << 20, slots: 2 }).unwrap();
    let module = Arc::new(Module::new(&engine, &wat::parse_str(wat).unwrap()).unwrap());
    Entry::new(module, "run", b"{}", LIMITS, CAPS).unwrap()
}

struct Ran {
    step: Step,
    slept: Vec<u64>,
    logs: Vec<LogLine>,
}

fn ran(wat: &str) -> Ran {
    let execution = entry(wat).begin_in(Input::default(), Instant::now() + Duration::from_secs(5), Arc::new(Still));
    let turn = execution.turn().unwrap();
    let (mut slept, mut logs) = (Vec::new(), Vec::new());
    loop {
        let mut step = turn.slice();
        logs.append(&mut step.logs);
        match step.kind {
            StepKind::Running => {}
            StepKind::Suspended(call) => {
                assert_eq!((call.import, call.parts.len()), (SLEEP, 0));
                slept.push(call.number as u64);
                turn.answer(Answer::default()).unwrap();
            }
            _ => return Ran { step, slept, logs },
        }
    }
}

fn memory(ran: Ran) -> Vec<u8> {
    match ran.step.kind {
        StepKind::Completed(Some(output), _) => output,
        other => panic!("{other:?}"),
    }
}

fn trap(ran: Ran) -> Trap {
    match ran.step.kind {
        StepKind::Trapped(trap, _) => trap,
        other => panic!("{other:?}"),
    }
}

/// Calls functions, keeps what each returns from byte 0 on, 4 bytes each, and shows memory.
fn called(data: &str, calls: &[&str]) -> Ran {
    let mut body = format!(r#"{data} (func (export "run")"#);
    for (place, call) in calls.iter().enumerate() {
        write!(body, "(i32.store (i32.const {}) (call {call}))", place * 4).unwrap();
    }
    ran(&module(&(body + "(call $show))")))
}

fn returned(data: &str, calls: &[&str]) -> Vec<i32> {
    let memory = memory(called(data, calls));
    memory.chunks(4).take(calls.len()).map(|number| i32::from_le_bytes(number.try_into().unwrap())).collect()
}

fn long(memory: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(memory[at..at + 8].try_into().unwrap())
}

fn printed(ran: &Ran) -> Vec<(u8, String)> {
    ran.logs.iter().map(|line| (line.level, line.text.clone())).collect()
}

fn expected(lines: &[(u8, &str)]) -> Vec<(u8, String)> {
    lines.iter().map(|(level, text)| (*level, (*text).to_owned())).collect()
}

/// The table has every function of the specification, with its types: a guest that imports all of them is linked.
#[test]
fn every_function_is_there() {
    assert!(wasi_functions().map(|(name, _)| name).eq(signatures().map(|(name, _)| name)));
    assert!(matches!(ran(&module(r#"(func (export "run"))"#)).step.kind, StepKind::Completed(None, _)));
}

/// Whatever takes a descriptor answers EBADF to one that isn't a stream, and touches no memory.
#[test]
fn other_descriptors_are_bad() {
    for (name, types) in signatures() {
        if name.starts_with("fd_") || name.starts_with("path_") || name.starts_with("sock_") {
            let arguments: String = types.iter().map(|ty| format!("({ty}.const -1)")).collect();
            assert_eq!(returned("", &[&format!("${name} {arguments}")]), [BADF], "{name}");
        }
    }
}

/// A function that writes or reads memory ends the guest where a pointer lies outside of it.
#[test]
fn bad_pointers_end_the_guest() {
    for call in [
        "$args_sizes_get (i32.const 65533) (i32.const 0)",
        "$args_sizes_get (i32.const 0) (i32.const 65533)",
        "$environ_sizes_get (i32.const 65533) (i32.const 0)",
        "$environ_sizes_get (i32.const 0) (i32.const -1)",
        "$clock_res_get (i32.const 0) (i32.const 65529)",
        "$clock_time_get (i32.const 1) (i64.const 0) (i32.const 65529)",
        "$random_get (i32.const 65535) (i32.const 2)",
        "$random_get (i32.const 0) (i32.const -1)",
        "$fd_fdstat_get (i32.const 1) (i32.const 65513)",
        "$fd_filestat_get (i32.const 1) (i32.const 65473)",
        "$fd_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 65533)",
        "$fd_write (i32.const 1) (i32.const 65529) (i32.const 1) (i32.const 0)",
        "$fd_write (i32.const 1) (i32.const 500) (i32.const 1) (i32.const 0)",
        "$fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 65533)",
        "$poll_oneoff (i32.const 65489) (i32.const 0) (i32.const 1) (i32.const 0)",
        "$poll_oneoff (i32.const 0) (i32.const 65505) (i32.const 1) (i32.const 0)",
        "$poll_oneoff (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 65533)",
    ] {
        let ran = called(r#"(data (i32.const 500) "\ff\ff\00\00\02\00\00\00")"#, &[call]);
        assert!(ran.logs.is_empty(), "{call}");
        let trap = trap(ran);
        assert_eq!(trap.cause, Cause::BadPointer, "{call}");
        assert!(trap.detail.starts_with(call[1..].split(' ').next().unwrap()), "{}", trap.detail);
    }
}

/// There are no arguments and no variables; the streams are character devices that can't be sought.
#[test]
fn there_is_nothing_to_find() {
    let numbers = returned(
        r#"(data (i32.const 100) "\ff\ff\ff\ff\ff\ff\ff\ff")"#,
        &[
            "$args_sizes_get (i32.const 100) (i32.const 104)",
            "$args_get (i32.const -1) (i32.const -1)",
            "$fd_fdstat_get (i32.const 0) (i32.const 200)",
            "$fd_fdstat_get (i32.const 2) (i32.const 224)",
            "$fd_filestat_get (i32.const 1) (i32.const 248)",
            "$fd_seek (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 0)",
            "$fd_prestat_get (i32.const 0) (i32.const 0)",
            "$fd_close (i32.const 1)",
            "$sched_yield",
            "$fd_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 312)",
            "$sock_send (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)",
            "$path_unlink_file (i32.const 0) (i32.const 0) (i32.const 0)",
        ],
    );
    assert_eq!(numbers, [0, 0, 0, 0, 0, 70, BADF, 0, 0, 0, 57, 54]);
    let memory = memory(called(
        r#"(data (i32.const 100) "\ff\ff\ff\ff\ff\ff\ff\ff")"#,
        &[
            "$args_sizes_get (i32.const 100) (i32.const 104)",
            "$fd_fdstat_get (i32.const 0) (i32.const 200)",
            "$fd_fdstat_get (i32.const 2) (i32.const 224)",
        ],
    ));
    assert_eq!(memory[100..108], [0; 8]);
    assert_eq!((memory[200], memory[208], memory[224], memory[232]), (2, 2, 2, 64));
}

/// Both clocks are read in whole milliseconds, from the execution's surroundings; a processor's clock isn't there.
#[test]
fn clocks_are_coarse() {
    let memory = memory(called(
        "",
        &[
            "$clock_time_get (i32.const 0) (i64.const 1) (i32.const 100)",
            "$clock_time_get (i32.const 1) (i64.const 1) (i32.const 108)",
            "$clock_res_get (i32.const 1) (i32.const 116)",
            "$clock_time_get (i32.const 2) (i64.const 1) (i32.const 124)",
            "$clock_res_get (i32.const 9) (i32.const 124)",
        ],
    ));
    assert_eq!(memory[12..20], [28, 0, 0, 0, 28, 0, 0, 0]);
    let times = [100, 108, 116, 124].map(|at| long(&memory, at));
    assert_eq!(times, [1_700_000_000_999_000_000, 12_345_000_000, 1_000_000, 0]);
}

/// Random bytes come from the execution's surroundings, to the last byte asked for; where there are none, EIO says so.
#[test]
fn random_bytes_are_the_surroundings() {
    let ran =
        called("", &["$random_get (i32.const 100) (i32.const 300)", "$random_get (i32.const 600) (i32.const 13)"]);
    let memory = memory(ran);
    assert_eq!(memory[..8], [0, 0, 0, 0, 29, 0, 0, 0]);
    assert_eq!(memory[100..400], (0..=u8::MAX).cycle().take(300).collect::<Vec<_>>());
    assert_eq!(memory[400..404], [0; 4]);
}

/// Prints the data of a module, which lies from byte 0 on, piece by piece.
fn printing(data: &str, pieces: &[(u32, usize, usize)], end: &str) -> Ran {
    let print = |(stream, at, length): &(u32, usize, usize)| {
        format!(
            "(i32.store (i32.const 2000) (i32.const {at})) (i32.store (i32.const 2004) (i32.const {length}))
             (drop (call $fd_write (i32.const {stream}) (i32.const 2000) (i32.const 1) (i32.const 2008)))"
        )
    };
    let prints: String = pieces.iter().map(print).collect();
    ran(&module(&format!(r#"(data (i32.const 0) "{data}") (func (export "run") {prints} {end})"#)))
}

/// A line that is printed is logged where it ends, each stream's at its level, whatever is printed or logged between.
#[test]
fn printing_is_logged_by_lines() {
    let log = "(call $log (i32.const 3) (i32.const 0) (i32.const 1))";
    let ran = printing(r"a\nb\n\nc\r\nxyz", &[(1, 0, 6), (2, 9, 1), (1, 6, 2), (1, 8, 3)], log);
    assert_eq!(printed(&ran), expected(&[(1, "a"), (1, "b"), (1, ""), (1, "c"), (3, "a"), (1, "xyz"), (2, "y")]));
}

/// One call prints several pieces, and tells how many bytes it took; more than 1,024 are too many.
#[test]
fn a_call_prints_several_pieces() {
    let ran = called(
        r#"(data (i32.const 500) "\64\00\00\00\02\00\00\00\66\00\00\00\03\00\00\00") (data (i32.const 100) "ab\nde")"#,
        &[
            "$fd_write (i32.const 1) (i32.const 500) (i32.const 2) (i32.const 40)",
            "$fd_write (i32.const 1) (i32.const 500) (i32.const 1025) (i32.const 44)",
            "$fd_write (i32.const 0) (i32.const 500) (i32.const 2) (i32.const 44)",
            "$fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 48)",
        ],
    );
    assert_eq!(printed(&ran), expected(&[(1, "ab"), (1, "de")]));
    let memory = memory(ran);
    assert_eq!(memory[..16], [0, 0, 0, 0, 28, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(memory[40..52], [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// Printing shares the log's cap: the line that reaches it is cut, and a notice says so, once.
#[test]
fn printing_ends_at_the_cap_of_the_log() {
    let ran = printing(&"y".repeat(120), &[(1, 0, 60), (2, 0, 60), (1, 0, 60), (2, 0, 5)], "");
    let lines = printed(&ran);
    let notice = "the log is full: what goes beyond 100 bytes or 1024 lines in this invocation is dropped";
    let (line, rest) = ("y".repeat(60), "y".repeat(40));
    assert_eq!(lines, expected(&[(2, &rest), (2, notice), (1, &line)]));
}

/// Lines are no way round the cap of lines either.
#[test]
fn so_does_the_number_of_lines() {
    let again = "(loop (drop (call $fd_write (i32.const 1) (i32.const 2000) (i32.const 1) (i32.const 2008)))
        (i32.store (i32.const 2012) (i32.add (i32.load (i32.const 2012)) (i32.const 1)))
        (br_if 0 (i32.lt_u (i32.load (i32.const 2012)) (i32.const 1200))))";
    let lines = printed(&printing(r"\n", &[(1, 0, 1)], again));
    assert_eq!(lines.len(), 1_025);
    assert_eq!(lines.last().map(|(level, _)| *level), Some(2));
}

/// What a guest printed before it trapped is logged, to the last byte.
#[test]
fn a_trapped_guest_has_said_its_last() {
    for end in ["unreachable", "(loop (br 0))", "(call $proc_exit (i32.const 2))"] {
        let ran = printing("panic: oh no", &[(2, 0, 12)], end);
        assert_eq!(printed(&ran), expected(&[(2, "panic: oh no")]), "{end}");
        trap(ran);
    }
}

/// An exit with code 0 in a hook is its end, with the output so far; with another it is a failure, as is any before it.
#[test]
fn exits_are_outcomes() {
    let run = |body: &str| ran(&module(body));
    let fine = run(r#"(func (export "run") (call $show) (call $proc_exit (i32.const 0)) unreachable)"#);
    assert!(matches!(fine.step.kind, StepKind::Completed(Some(_), _)));
    for (body, detail) in [
        (r#"(func (export "run") (call $proc_exit (i32.const 7)))"#, "the guest exited with code 7"),
        (r#"(func (export "run") (call $proc_exit (i32.const -1)))"#, "the guest exited with code -1"),
        (
            r#"(func (export "_initialize") (call $proc_exit (i32.const 0))) (func (export "run") (call $show))"#,
            "the guest exited with code 0",
        ),
        (
            r#"(func $go (call $proc_exit (i32.const 0))) (start $go) (func (export "run") (call $show))"#,
            "the guest exited with code 0",
        ),
    ] {
        let trap = trap(run(body));
        assert_eq!((trap.cause, trap.detail.as_str()), (Cause::Failed, detail));
    }
}

/// To raise a signal is to crash.
#[test]
fn signals_are_crashes() {
    let trap = trap(called("", &["$proc_raise (i32.const 6)"]));
    assert_eq!((trap.cause, trap.detail.as_str()), (Cause::Crash, "the guest raised signal 6"));
}

/// The data of a subscription to a clock at some place.
fn to_clock(at: usize, name: u8, clock: u8, nanoseconds: u64, is_absolute: bool) -> String {
    let time: String =
        nanoseconds.to_le_bytes().iter().fold(String::new(), |text, byte| text + &format!("\\{byte:02x}"));
    let zeros = |count: usize| "\\00".repeat(count);
    format!(
        r#"(data (i32.const {at}) "\{name:02x}{}\{clock:02x}{}{time}{}\{:02x}")"#,
        zeros(15),
        zeros(7),
        zeros(8),
        u8::from(is_absolute),
    )
}

/// A subscription to a stream at some place.
fn to_stream(at: usize, name: u8, kind: u8, descriptor: u8) -> String {
    let zeros = |count: usize| "\\00".repeat(count);
    format!(r#"(data (i32.const {at}) "\{name:02x}{}\{kind:02x}{}\{descriptor:02x}")"#, zeros(7), zeros(7))
}

fn poll(data: &str, count: usize) -> Ran {
    called(data, &[&format!("$poll_oneoff (i32.const 500) (i32.const 800) (i32.const {count}) (i32.const 16)")])
}

/// The events that a poll gave: name, error and kind of each.
fn events(ran: Ran) -> Vec<(u64, u8, u8)> {
    let memory = memory(ran);
    let count = usize::from(memory[16]);
    (0..count).map(|place| 800 + place * 32).map(|at| (long(&memory, at), memory[at + 8], memory[at + 10])).collect()
}

/// A sleep parks the guest for as long as a reader of whole milliseconds must wait: the clock stands at 12.345_678_9 s.
#[test]
fn sleeps_are_waited_for_outside() {
    for (clock, nanoseconds, is_absolute, slept) in [
        (1, 10_000_000, false, vec![10_321_100]),
        (1, 10_000_001, false, vec![10_321_100]),
        (1, 1, false, vec![321_100]),
        (1, 0, false, vec![]),
        (1, 12_345_000_000, true, vec![]),
        (1, 12_345_000_001, true, vec![321_100]),
        (1, 13_345_678_900, true, vec![SECOND + 321_100]),
        (1, u64::MAX, false, vec![i64::MAX as u64]),
        (0, 1_700_000_001_000_000_000, true, vec![1]),
    ] {
        let ran = poll(&to_clock(500, 7, clock, nanoseconds, is_absolute), 1);
        assert_eq!(ran.slept, slept, "{nanoseconds}");
        assert_eq!(events(ran), [(7, 0, 0)]);
    }
}

/// The first of several clocks ends the sleep, and all that are due by then are told; streams are ready at once.
#[test]
fn what_is_due_first_is_told() {
    let three = to_clock(500, 1, 1, 30_000_000, false)
        + &to_clock(548, 2, 1, 10_000_000, false)
        + &to_clock(596, 3, 1, 10_000_000, false);
    let ran = poll(&three, 3);
    assert_eq!(ran.slept, [10_321_100]);
    assert_eq!(events(ran), [(2, 0, 0), (3, 0, 0)]);
    let ran = poll(&(to_clock(500, 1, 1, 30_000_000, false) + &to_stream(548, 2, 2, 1) + &to_stream(596, 3, 1, 0)), 3);
    assert!(ran.slept.is_empty());
    assert_eq!(events(ran), [(2, 0, 2), (3, 0, 1)]);
}

/// What can't be waited for is told as an event with its error; a poll for nothing, or for too much, is refused.
#[test]
fn what_cannot_be_waited_for_is_told() {
    let wrong = to_clock(500, 1, 3, 5, false) + &to_stream(548, 2, 1, 9) + &to_stream(596, 3, 9, 0);
    assert_eq!(events(poll(&wrong, 3)), [(1, 28, 0), (2, 8, 1), (3, 28, 9)]);
    assert_eq!(returned("", &["$poll_oneoff (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16)"]), [INVAL]);
    assert_eq!(returned("", &["$poll_oneoff (i32.const 0) (i32.const 0) (i32.const 257) (i32.const 16)"]), [INVAL]);
}

/// Each function is charged as an import, and a loop over any ends at the fuel limit.
#[test]
fn every_call_is_charged() {
    for (name, types) in signatures().filter(|(name, _)| !name.starts_with("proc_")) {
        let zeros: String = types.iter().map(|ty| format!("({ty}.const 0)")).collect();
        let ran = ran(&module(&format!(
            r#"(global $count (mut i32) (i32.const 0))
               (func (export "run") (loop (drop (call ${name} {zeros}))
                 (global.set $count (i32.add (global.get $count) (i32.const 1)))
                 (br_if 0 (i32.le_u (global.get $count) (i32.const {})))))"#,
            LIMITS.fuel / IMPORT_FUEL,
        )));
        assert_eq!(trap(ran).limit.as_deref(), Some(FUEL), "{name}");
    }
}
