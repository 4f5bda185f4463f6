//! Executions end where their limits say, from whatever thread, and give their slots back.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use fuseboard_core::limits::{Caps, Limits};
use fuseboard_core::{
    Answer, Cause, Engine, EngineConfig, Entry, Execution, Input, Module, ModuleError, MoveError, Step, StepKind, Trap,
    Usage,
};

const CAPS: Caps = Caps { output_bytes: 1 << 20, request_bytes: 1 << 20, log_bytes: 1 << 10 };

fn engine() -> Engine {
    Engine::new(EngineConfig { memory_ceiling_bytes: 256 << 20, slots: 4 }).unwrap()
}

fn compile(body: &str) -> Result<Module, ModuleError> {
    Module::new(&engine(), &wat::parse_str(format!("(module {body})")).unwrap())
}

fn entry(body: &str, fuel: u64, memory_bytes: usize) -> Entry {
    let module = Arc::new(compile(&format!(r#"{body} (memory (export "memory") 1)"#)).unwrap());
    Entry::new(module, "run", b"{}", Limits { memory_bytes, fuel }, CAPS).unwrap()
}

fn begin(entry: &Entry, time: Duration) -> Execution {
    entry.begin(Input::default(), Instant::now() + time)
}

fn step(execution: &Execution) -> Step {
    let turn = execution.turn().unwrap();
    turn.go_on().unwrap();
    let mut logs = Vec::new();
    loop {
        let step = turn.slice().after(logs);
        if !matches!(step.kind, StepKind::Running) {
            return step;
        }
        logs = step.logs;
    }
}

fn run(body: &str, fuel: u64, memory_bytes: usize, time: Duration) -> Step {
    step(&begin(&entry(body, fuel, memory_bytes), time))
}

fn trap(step: Step) -> (Trap, Usage) {
    match step.kind {
        StepKind::Trapped(trap, usage) => (trap, usage),
        other => panic!("no trap but {other:?}"),
    }
}

const AMPLE: Duration = Duration::from_secs(5);
const SPIN: &str = r#"(func (export "run") (loop (br 0)))"#;
const CALL: &str = r#"(import "fuseboard" "host_kv_get" (func $get (param i32 i32) (result i32)))
    (func (export "run") (drop (call $get (i32.const 0) (i32.const 4))))"#;

#[test]
fn fuel_runs_out_exactly() {
    let (trap, usage) = trap(run(SPIN, 1_000_000, 1 << 20, AMPLE));
    assert_eq!((trap.cause, trap.limit.as_deref()), (Cause::Limit, Some("fuel")));
    assert_eq!((usage.fuel, usage.fuel_is_exact), (1_000_000, true));
}

#[test]
fn straight_line_code_can_not_overspend() {
    let body = format!(r#"(func (export "run") {})"#, "(drop (i32.const 1))".repeat(50));
    let StepKind::Completed(_, usage) = run(&body, 1_000, 1 << 20, AMPLE).kind else { panic!("not completed") };
    assert!(matches!(run(&body, usage.fuel, 1 << 20, AMPLE).kind, StepKind::Completed(..)));
    let (trap, _) = trap(run(&body, usage.fuel - 1, 1 << 20, AMPLE));
    assert_eq!(trap.limit.as_deref(), Some("fuel"));
}

#[test]
fn a_loop_over_an_import_meets_the_deadline() {
    let body = r#"(import "fuseboard" "buffer_length" (func $length (param i32) (result i32)))
        (func (export "run") (loop (drop (call $length (i32.const 0))) (br 0)))"#;
    let started = Instant::now();
    let (trap, _) = trap(run(body, u64::MAX, 1 << 20, Duration::from_millis(50)));
    assert_eq!(trap.limit.as_deref(), Some("timeout"));
    assert!(started.elapsed() < Duration::from_millis(500));
}

#[test]
fn an_import_ends_the_first_slice() {
    let body = r#"(import "fuseboard" "buffer_length" (func $length (param i32) (result i32)))
        (func (export "run") (loop (drop (call $length (i32.const 0))) (br 0)))"#;
    let execution = begin(&entry(body, u64::MAX, 1 << 20), AMPLE);
    let turn = execution.turn().unwrap();
    let started = Instant::now();
    assert!(matches!(turn.slice().kind, StepKind::Running));
    assert!(started.elapsed() < Duration::from_millis(50), "{:?}", started.elapsed());
}

#[test]
fn memory_is_refused_with_its_sizes() {
    let body = r#"(func (export "run") (loop (drop (memory.grow (i32.const 1))) (br 0)))"#;
    let (trap, usage) = trap(run(body, u64::MAX, 3 << 16, AMPLE));
    assert_eq!(trap.limit.as_deref(), Some("memory"));
    assert_eq!(trap.detail, "asked for 65536 bytes more, 0 were left");
    assert_eq!(usage.memory_bytes, 3 << 16);
}

#[test]
fn one_mover_at_a_time() {
    let execution = begin(&entry(SPIN, u64::MAX, 1 << 20), AMPLE);
    let turn = execution.turn().unwrap();
    assert!(matches!(execution.turn(), Err(MoveError::Busy)));
    drop(turn);
    assert!(execution.turn().is_ok());
}

#[test]
fn an_answer_reaches_the_guest_and_a_trip_ends_it() {
    let entry = entry(CALL, 10_000, 1 << 20);
    let answered = begin(&entry, AMPLE);
    assert!(matches!(step(&answered).kind, StepKind::Suspended(call) if call.import == "host_kv_get"));
    let turn = answered.turn().unwrap();
    assert_eq!(turn.go_on(), Err(MoveError::NeedsAnswer));
    turn.answer(Answer { code: 0, head: b"{}".to_vec(), body: b"value".to_vec() }).unwrap();
    assert!(matches!(turn.slice().kind, StepKind::Completed(None, _)));
    assert_eq!(turn.go_on(), Err(MoveError::Ended));

    let tripped = begin(&entry, AMPLE);
    step(&tripped);
    let turn = tripped.turn().unwrap();
    turn.trip("kv_reads".to_owned()).unwrap();
    let (trap, usage) = trap(turn.slice());
    assert_eq!((trap.limit.as_deref(), usage.fuel_is_exact), (Some("kv_reads"), true));
    assert_eq!(trap.backtrace.len(), 1);
}

#[test]
fn a_suspended_execution_can_be_dropped_anywhere() {
    let entry = entry(CALL, 10_000, 1 << 20);
    for _ in 0..10 {
        let execution = begin(&entry, AMPLE);
        step(&execution);
        std::thread::spawn(move || drop(execution)).join().unwrap();
    }
}

#[test]
fn the_pool_says_when_it_is_full() {
    let entry = entry(CALL, 10_000, 1 << 20);
    let held: Vec<_> = (0..4).map(|_| begin(&entry, AMPLE)).collect();
    held.iter().for_each(|execution| drop(step(execution)));
    let (trap, usage) = trap(step(&begin(&entry, AMPLE)));
    assert_eq!((trap.cause, usage.fuel), (Cause::Saturated, 0));
}

#[test]
fn interrupt_and_close_end_a_guest() {
    let execution = Arc::new(begin(&entry(SPIN, u64::MAX, 1 << 20), AMPLE));
    let other = execution.clone();
    let closer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        other.close();
    });
    let (trap, _) = trap(step(&execution));
    closer.join().unwrap();
    assert_eq!(trap.cause, Cause::Interrupted);
}

#[test]
fn logs_come_with_the_step_and_are_cut_once() {
    let body = r#"(import "fuseboard" "host_log" (func $log (param i32 i32 i32)))
        (func (export "run") (local $n i32)
          (loop (call $log (i32.const 1) (i32.const 0) (i32.const 600))
            (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 5)))))
        (data (i32.const 0) "\1b[2J")"#;
    let logs = run(body, 100_000, 1 << 20, AMPLE).logs;
    assert_eq!(logs.len(), 3);
    assert!(logs[0].text.starts_with("\\u{1b}[2J"));
    assert!(logs[2].text.starts_with("the log is full"));
}

#[test]
fn compile_bombs_are_refused_before_compiling() {
    let locals = "i32 ".repeat(200);
    let loops = "(loop ".repeat(2000) + &")".repeat(2000);
    let started = Instant::now();
    let error = compile(&format!(r#"(func (export "run") (local {locals}) {loops}) (memory (export "memory") 1)"#));
    let problems = error.err().expect("refused").problems;
    assert!(problems[0].contains(r#"function 0 ("run"): 2000 nested loops"#), "{problems:?}");
    assert!(started.elapsed() < Duration::from_millis(500));
}

#[test]
fn every_problem_of_a_module_is_named() {
    let error = compile(
        r#"(import "env" "abort" (func)) (import "fuseboard" "host_everything" (func))
           (func (export "_start")) (func (export "memory"))"#,
    );
    assert_eq!(error.err().expect("refused").problems.len(), 4);
}

#[test]
fn a_guest_that_is_late_does_not_complete() {
    // No loop and no call: the first pulse would come after the end.
    let stores: String =
        (0..2000).map(|page| format!("(i32.store (i32.const {}) (i32.const 1))", page << 12)).collect();
    let body = format!(r#"(func (export "run") (drop (memory.grow (i32.const 200))) {stores})"#);
    let (trap, _) = trap(run(&body, u64::MAX, 64 << 20, Duration::from_micros(300)));
    assert_eq!(trap.limit.as_deref(), Some("timeout"));
}

#[test]
fn an_answer_after_the_deadline_comes_too_late() {
    let execution = begin(&entry(CALL, 10_000, 1 << 20), Duration::from_millis(20));
    step(&execution);
    std::thread::sleep(Duration::from_millis(30));
    let turn = execution.turn().unwrap();
    turn.answer(Answer::default()).unwrap();
    let (trap, _) = trap(turn.slice());
    assert_eq!(trap.limit.as_deref(), Some("timeout"));
    assert_eq!(trap.backtrace.len(), 1);
}

#[test]
fn closing_beside_a_turn_that_suspends_frees_the_slot() {
    let entry = entry(CALL, 10_000, 1 << 20);
    for _ in 0..20 {
        let execution = begin(&entry, AMPLE);
        let turn = execution.turn().unwrap();
        assert!(matches!(turn.slice().kind, StepKind::Suspended(_)));
        execution.close();
        assert!(!execution.has_ended());
        drop(turn);
        assert!(execution.has_ended());
    }
}

#[test]
fn lines_are_bounded_even_when_empty() {
    let body = r#"(import "fuseboard" "host_log" (func $log (param i32 i32 i32)))
        (func (export "run") (loop (call $log (i32.const 1) (i32.const 0) (i32.const 0)) (br 0)))"#;
    let logs = run(body, 1_000_000, 1 << 20, AMPLE).logs;
    assert_eq!(logs.len(), 1_024 + 1);
    assert!(logs[1_024].text.starts_with("the log is full"));
}

#[test]
fn one_slow_first_slice_is_remembered() {
    let stores: String =
        (0..2000).map(|page| format!("(i32.store (i32.const {}) (i32.const 1))", page << 12)).collect();
    let body = format!(
        r#"(import "fuseboard" "meter_remaining" (func $meter (param i32) (result i64)))
           (func (export "run") (drop (memory.grow (i32.const 200)))
             (drop (call $meter (i32.const 3))) {stores} (drop (call $meter (i32.const 3))))"#
    );
    let entry = entry(&body, u64::MAX, 64 << 20);
    for _ in 0..3 {
        let execution = begin(&entry, AMPLE);
        let turn = execution.turn().unwrap();
        while matches!(turn.slice().kind, StepKind::Running) {}
        turn.answer(Answer::default()).unwrap();
        turn.slice();
        while turn.go_on().is_ok() {
            turn.slice();
        }
        turn.answer(Answer::default()).unwrap();
        turn.slice();
        assert!(execution.starts_detached());
    }
}

#[test]
fn a_module_that_behaves_keeps_the_lock() {
    let entry = entry(r#"(func (export "run"))"#, 1_000, 1 << 20);
    for expected in [true, false, false] {
        let execution = begin(&entry, AMPLE);
        let turn = execution.turn().unwrap();
        assert_eq!(execution.starts_detached(), expected);
        turn.slice();
    }
}

/// Returns the first problem of a module that the scan must refuse, quickly.
fn refused(body: &str) -> String {
    let bytes = wat::parse_str(format!(r#"(module (memory (export "memory") 1) {body})"#)).unwrap();
    let engine = engine();
    let started = Instant::now();
    let error = Module::new(&engine, &bytes).err().expect("refused");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    error.problems[0].clone()
}

#[test]
fn wide_types_are_refused() {
    let wide = "i64 ".repeat(1000);
    let body = format!(
        "(type $wide (func (param {wide}) (result {wide}))) (func (type $wide) {})",
        "(block (type $wide))".repeat(1000)
    );
    assert!(refused(&body).contains("2000 parameters and results of a type"));
    let medium = "i64 ".repeat(100);
    let calls = format!(
        "(func $many (result {medium}) unreachable) (func (result {medium}) {} unreachable)",
        "(call $many) unreachable ".repeat(1100)
    );
    assert!(refused(&calls).contains("values passed by blocks, branches and calls"));
}

#[test]
fn elements_that_code_copies_are_bounded() {
    let items = "$f ".repeat(10_001);
    let function = "(func $f) (table 20000 funcref)";
    for segment in [
        format!("{function} (elem func {items})"),
        format!("{function} (elem (offset (i32.add (i32.const 0) (i32.const 1))) func {items})"),
        format!("(table 20000 funcref) (elem (i32.const 0) funcref {})", "(ref.null func) ".repeat(10_001)),
        format!("{function} (elem (i32.const 10000) func {items})"),
        format!(
            "{function} (elem (i32.const 20000) func) (elem (i32.const 20001) func) (elem (i32.const 0) func {items})"
        ),
    ] {
        assert!(refused(&segment).contains("10001 elements that start-up code copies"), "{segment:.90}");
    }
    for segment in ["(elem (i32.const 0) func", "(elem (i32.const 9999) func", "(elem declare func"] {
        let kept = format!(r#"{function} {segment} {items}) (memory (export "memory") 1)"#);
        assert!(compile(&kept).is_ok(), "{segment}");
    }
}

/// One data segment that isn't at a constant offset within the memory makes code of all active ones.
#[test]
fn data_that_code_copies_is_bounded() {
    let plain = r#"(data (i32.const 0) "x") "#.repeat(1_000);
    let memory = r#"(memory (export "memory") 1)"#;
    for odd in [
        r#"(data (i32.add (i32.const 0) (i32.const 1)) "x")"#,
        r#"(data (i32.const 65535) "xx")"#,
        r#"(data (i32.const 65537) "")"#,
        r#"(data (i32.const -1) "x")"#,
    ] {
        let problem = refused(&format!("{plain} {odd}"));
        assert!(problem.starts_with("1001 data segments with one at a computed offset or past the memory"), "{odd}");
    }
    for fine in [r#"(data (i32.const 65535) "x")"#, r#"(data (i32.const 65536) "")"#, r#"(data "xx")"#] {
        assert!(compile(&format!("{memory} {plain} {fine}")).is_ok(), "{fine}");
    }
}

#[test]
fn constant_expressions_are_bounded() {
    let sum = "(i32.const 1) ".to_owned() + &"i32.const 1 i32.add ".repeat(60);
    assert!(refused(&format!("(global i32 {sum})")).contains("101 operators in a constant expression"));
}

#[test]
fn nested_loops_and_many_branches_are_refused() {
    let loops = format!("(func {}{})", "(loop ".repeat(101), ")".repeat(101));
    assert!(refused(&loops).contains("101 nested loops"));
    let branches = format!("(func (param i32) {})", "(block (br_if 0 (local.get 0)))".repeat(10_001));
    assert!(refused(&branches).contains("10001 branches"));
}
