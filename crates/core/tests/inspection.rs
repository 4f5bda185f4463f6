//! The look at a module before anything compiles it: what it refuses, and what it reports.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

use fuseboard_core::{FileKind, Report, inspect, scan};

const CEILING: usize = 1 << 20;

fn problems(text: &str) -> Vec<String> {
    scan(&wat::parse_str(text).unwrap(), CEILING).err().map_or_else(Vec::new, |error| error.problems)
}

fn deep(function: &str) -> String {
    let (open, close) = ("(block ".repeat(5_001), ")".repeat(5_001));
    format!(r#"(module (memory (export "memory") 1) (func $first) (func {function} {open}{close}))"#)
}

/// A function's problem names the function: as the name section does, else as it is exported, else by number.
#[test]
fn problems_name_their_function() {
    let what = "5001 nested blocks; the most is 5000";
    assert_eq!(problems(&deep("$inner (export \"outer\")")), [format!("function 1 (\"inner\"): {what}")]);
    assert_eq!(problems(&deep("(export \"render\")")), [format!("function 1 (\"render\"): {what}")]);
    assert_eq!(problems(&deep("")), [format!("function 1: {what}")]);
}

/// A hostile name can't move the cursor, and is cut.
#[test]
fn names_in_problems_are_printable() {
    let name = format!("\\1b[2J{}", "x".repeat(1_000));
    let problem = problems(&deep(&format!("(export \"{name}\")"))).remove(0);
    assert!(problem.starts_with(r#"function 1 ("\u{1b}[2Jxxx"#), "{problem}");
    assert!(problem.len() < 250, "{problem}");
}

const WHOLE: &str = r#"(module $m (import "fuseboard" "fail" (func $fail (param i32 i32)))
  (memory (export "memory") 1 2) (table 3 funcref) (global i32 (i32.const 1)) (elem (i32.const 0) $run)
  (func $run (export "run") (param i32) (local i64) (if (local.get 0) (then (loop (br 1)))))
  (data (i32.const 8) "hello"))"#;

/// Where the sections of a report begin and end, up to a place in the file.
fn sections_before(report: &Report, place: u64) -> Vec<(&'static str, u64, u64)> {
    let all = report.sections.iter().map(|each| (each.kind, each.offset, each.offset + each.bytes));
    all.filter(|(_, _, end)| *end <= place).collect()
}

/// A module that is cut within a section, or between its functions' types and their code, is told so; what came before
/// is reported.
#[test]
fn cut_modules_are_reported() {
    let whole = wat::parse_str(WHOLE).unwrap();
    let report = inspect(&whole, CEILING);
    assert_eq!(report.problems, Vec::<String>::new());
    for place in 8..whole.len() {
        let cut = inspect(&whole[..place], CEILING);
        let sections = sections_before(&report, place as u64);
        let is_after_section = place == 8 || sections.iter().any(|(_, _, end)| *end == place as u64);
        let has = |kind| sections.iter().any(|(each, _, _)| *each == kind);
        let is_whole = is_after_section && has("function") == has("code");
        let is_told = cut.problems.iter().any(|problem| problem.starts_with("cannot be read: "));
        assert_eq!(is_told, !is_whole, "cut at {place}: {:?}", cut.problems);
        assert_eq!(sections_before(&cut, place as u64), sections, "cut at {place}");
    }
}

/// Whatever byte of a module is changed, the sections before it are reported as they were, and a load has the same
/// problems.
#[test]
fn changed_modules_are_reported() {
    let whole = wat::parse_str(WHOLE).unwrap();
    let report = inspect(&whole, CEILING);
    for place in 8..whole.len() {
        for value in [0, 0x7f, 0x80, 0xff, whole[place] ^ 1] {
            let mut bytes = whole.clone();
            bytes[place] = value;
            let changed = inspect(&bytes, CEILING);
            let before = place as u64;
            assert_eq!(sections_before(&changed, before), sections_before(&report, before), "{value} at {place}");
            assert_eq!(scan(&bytes, CEILING).err().map_or_else(Vec::new, |error| error.problems), changed.problems);
        }
    }
}

/// What stands before and after a broken section is reported all the same.
#[test]
fn the_rest_of_a_broken_module_is_reported() {
    let text = r#"(module (memory (export "memory") 1 2) (func (export "run") (drop (i32.const 77))))"#;
    let mut bytes = wat::parse_str(text).unwrap();
    let constant = bytes.windows(3).position(|three| three == [0x41, 0xcd, 0x00]).unwrap();
    bytes[constant] = 0xff;
    let report = inspect(&bytes, CEILING);
    assert_eq!(report.problems.len(), 1);
    assert!(report.problems[0].starts_with("cannot be read: "), "{:?}", report.problems);
    assert_eq!(report.memories, [(1, Some(2))]);
    assert_eq!(report.exports.len(), 2);
    assert_eq!(report.functions.len(), 1);
}

/// A report has types in words, sizes, names and what a file that is no module is.
#[test]
fn a_report_tells_what_a_module_has() {
    let text = r#"(module (import "fuseboard" "fail" (func (param i32 i32))) (memory (export "memory") 1)
      (global (export "g") (mut i64) (i64.const 1)) (func $go (export "run")) (start $go) (data "abc"))"#;
    let report = inspect(&wat::parse_str(text).unwrap(), CEILING);
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.imports[0].ty, "(i32, i32) -> ()");
    let types: Vec<_> = report.exports.iter().map(|each| (each.name.as_str(), each.kind, each.ty.as_str())).collect();
    let memory = ("memory", "memory", "1 pages or more");
    assert_eq!(types, [memory, ("g", "global", "i64, mutable"), ("run", "function", "() -> ()")]);
    assert_eq!((report.functions[0].index, report.functions[0].name.as_deref()), (1, Some("go")));
    assert_eq!((report.start, report.data, report.globals), (Some(1), (1, 3), 1));
    let elf = inspect(b"\x7fELF", CEILING);
    assert_eq!(elf.kind, FileKind::NativeCode);
    assert_eq!(elf.problems.len(), 1);
}
