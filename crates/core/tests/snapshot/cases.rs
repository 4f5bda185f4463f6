//! Modules with all that a snapshot can get wrong. `run` shows what was left behind: `$show` outputs the whole memory.

const IMPORTS: &str = r#"
  (import "fuseboard" "host_log" (func $log (param i32 i32 i32)))
  (import "fuseboard" "output_write" (func $output (param i32 i32)))
  (import "fuseboard" "buffer_length" (func $length (param i32) (result i32)))
  (import "fuseboard" "buffer_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "fail" (func $fail (param i32 i32)))
  (import "fuseboard" "meter_remaining" (func $meter (param i32) (result i64)))
  (import "fuseboard" "host_kv_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
const SHOW: &str = "(func $show (call $output (i32.const 0) (i32.mul (memory.size) (i32.const 65536))))";

/// Returns a module of a text, with imports before it, and a memory where it has none.
pub(crate) fn module(text: &str) -> Vec<u8> {
    let memory =
        if text.contains("(memory") && !text.contains("(memory.") { "" } else { r#"(memory (export "memory") 1)"# };
    let memory = if text.contains(r#"(export "memory")"#) { "" } else { memory };
    wat::parse_str(format!("(module {IMPORTS} {memory} {text} {SHOW})"))
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Those that wizer refuses, or would need an import for.
pub(crate) const ONLY_OURS: &[&str] = &["data.drop of an active segment", "elem.drop of an active segment"];

/// Those of which something is computed while an instance is made, after the snapshot too.
pub(crate) const COMPUTES: &[&str] = &[
    "globals that change among others",
    "a constant reference to a function",
    "several tables, elements of all kinds",
];

/// Modules that are frozen.
pub(crate) const FROZEN: &[(&str, &str)] = &[
    (
        "an i32",
        r#"(global $g (mut i32) (i32.const 1)) (func (export "_initialize") (global.set $g (i32.const -5)))
        (func (export "run") (i32.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "the least i32",
        r#"(global $g (mut i32) (i32.const 1)) (func (export "_initialize") (global.set $g (i32.const 0x80000000)))
        (func (export "run") (i32.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "the least i64",
        r#"(global $g (mut i64) (i64.const 1)) (func (export "_initialize") (global.set $g (i64.const 0x8000000000000000)))
        (func (export "run") (i64.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "an f32",
        r#"(global $g (mut f32) (f32.const 1)) (func (export "_initialize") (global.set $g (f32.const -0)))
        (func (export "run") (f32.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "an f64",
        r#"(global $g (mut f64) (f64.const 1)) (func (export "_initialize") (global.set $g (f64.const -inf)))
        (func (export "run") (f64.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "an f32 that is no number",
        r#"(global $g (mut f32) (f32.const 1)) (func (export "_initialize") (global.set $g (f32.const -nan:0x12345)))
        (func (export "run") (f32.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "an f64 that signals",
        r#"(global $g (mut f64) (f64.const 1)) (func (export "_initialize") (global.set $g (f64.const nan:0x4000000000001)))
        (func (export "run") (f64.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "a v128",
        r#"(global $g (mut v128) (v128.const i64x2 0 0))
        (func (export "_initialize") (global.set $g (v128.const i64x2 0x8000000000000001 0xfedcba9876543210)))
        (func (export "run") (v128.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "globals that change among others",
        r#"(global $a i32 (i32.const 7)) (global $b (mut i64) (i64.const 0))
        (global $c f64 (f64.const nan:0x123)) (global $d (mut i32) (i32.const 3)) (global $e i32 (i32.add (i32.const 2) (i32.const 3)))
        (func (export "_initialize") (global.set $b (i64.const 11)) (global.set $d (global.get $e)))
        (func (export "run") (i32.store (i32.const 0) (global.get $a)) (i64.store (i32.const 8) (global.get $b))
          (f64.store (i32.const 16) (global.get $c)) (i32.store (i32.const 24) (global.get $d))
          (i32.store (i32.const 28) (global.get $e)) (call $show))"#,
    ),
    (
        "a global that is exported and changes",
        r#"(global $g (export "g") (mut i32) (i32.const 1))
        (func (export "_initialize") (global.set $g (i32.const 300)))
        (func (export "run") (i32.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "a constant reference to a function",
        r#"(type $t (func (result i32))) (table 1 funcref) (elem declare func $f)
        (global $g funcref (ref.func $f)) (func $f (result i32) (i32.const 9))
        (func (export "_initialize") (i32.store (i32.const 0) (ref.is_null (global.get $g))))
        (func (export "run") (i32.store (i32.const 4) (ref.is_null (global.get $g))) (call $show))"#,
    ),
    (
        "a start function",
        r#"(func $start (i32.store (i32.const 100) (i32.const 42))) (start $start)
        (func (export "run") (i32.store (i32.const 0) (i32.load (i32.const 100))) (call $show))"#,
    ),
    (
        "start, _initialize and another, in order",
        r#"(global $g (mut i32) (i32.const 1))
        (func $by (param i32) (global.set $g (i32.add (i32.mul (global.get $g) (i32.const 10)) (local.get 0))))
        (func $start (call $by (i32.const 2))) (start $start) (func (export "boot") (call $by (i32.const 4)))
        (func (export "_initialize") (call $by (i32.const 3)))
        (func (export "run") (i32.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "only an export of the author's",
        r#"(global $g (mut i32) (i32.const 1)) (func (export "boot") (global.set $g (i32.const 2)))
        (func (export "run") (i32.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "one function that is start and _initialize",
        r#"(global $g (mut i32) (i32.const 1))
        (func $f (export "_initialize") (global.set $g (i32.add (global.get $g) (i32.const 1)))) (start $f)
        (func (export "run") (i32.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "a hook that initialises too",
        r#"(global $g (mut i32) (i32.const 1))
        (func $f (export "_initialize") (export "again") (global.set $g (i32.add (global.get $g) (i32.const 1))))
        (func (export "run") (call $f) (i32.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
    (
        "data that is changed and cleared",
        r#"(data (i32.const 8) "hello world") (data (i32.const 5000) "again")
        (func (export "_initialize") (i32.store8 (i32.const 8) (i32.const 74)) (i64.store (i32.const 5000) (i64.const 0)))
        (func (export "run") (call $show))"#,
    ),
    (
        "data that overlaps",
        r#"(data (i32.const 8) "aaaaaaaa") (data (i32.const 10) "bb") (data (i32.const 9) "\00")
        (func (export "_initialize")) (func (export "run") (call $show))"#,
    ),
    (
        "data at the end of the memory",
        r#"(data (i32.const 65535) "z")
        (func (export "_initialize") (i32.store8 (i32.const 65534) (i32.const 1))) (func (export "run") (call $show))"#,
    ),
    (
        "data at a computed place",
        r#"(data (offset (i32.add (i32.const 8) (i32.const 8))) "computed")
        (func (export "_initialize") (i32.store8 (i32.const 0) (i32.const 1))) (func (export "run") (call $show))"#,
    ),
    (
        "no data at all",
        r#"(func (export "_initialize") (i32.store8 (i32.const 40000) (i32.const 1))) (func (export "run") (call $show))"#,
    ),
    (
        "a memory that stays empty",
        r#"(data (i32.const 1) "gone") (func (export "_initialize") (i32.store (i32.const 1) (i32.const 0)))
        (func (export "run") (call $show))"#,
    ),
    (
        "a memory that grows",
        r#"(memory (export "memory") 1 4)
        (func (export "_initialize") (drop (memory.grow (i32.const 2))) (i32.store8 (i32.const 196607) (i32.const 1)))
        (func (export "run") (i32.store (i32.const 0) (memory.grow (i32.const 2))) (i32.store (i32.const 4) (memory.grow (i32.const 1))) (call $show))"#,
    ),
    (
        "a memory that grows to its most",
        r#"(memory (export "memory") 1 2) (func (export "_initialize") (drop (memory.grow (i32.const 1))))
        (func (export "run") (i32.store (i32.const 0) (memory.grow (i32.const 1))) (call $show))"#,
    ),
    (
        "a memory without pages",
        r#"(memory (export "memory") 0) (func (export "_initialize")) (func (export "run") (call $show))"#,
    ),
    (
        "a memory without pages that grows",
        r#"(memory (export "memory") 0) (func (export "_initialize") (drop (memory.grow (i32.const 1)))
          (i32.store (i32.const 0) (i32.const -1))) (func (export "run") (call $show))"#,
    ),
    (
        "a memory that can't grow",
        r#"(memory (export "memory") 0 0) (global $g (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $g (memory.grow (i32.const 1))))
        (func (export "run") (if (i32.ne (global.get $g) (i32.const -1)) (then unreachable)) (call $show))"#,
    ),
    (
        "bulk operations",
        r#"(data (i32.const 0) "0123456789") (func (export "_initialize")
          (memory.copy (i32.const 20) (i32.const 0) (i32.const 10)) (memory.fill (i32.const 3) (i32.const 0) (i32.const 4)))
        (func (export "run") (memory.copy (i32.const 100) (i32.const 0) (i32.const 40)) (call $show))"#,
    ),
    (
        "a passive segment",
        r#"(data $p "passive") (func (export "_initialize") (memory.init $p (i32.const 0) (i32.const 0) (i32.const 7)))
        (func (export "run") (memory.init $p (i32.const 20) (i32.const 1) (i32.const 6)) (call $show))"#,
    ),
    (
        "a passive segment among active ones",
        r#"(data (i32.const 0) "one") (data $p "passive") (data (i32.const 8) "two")
        (func (export "_initialize") (i32.store8 (i32.const 0) (i32.const 79)))
        (func (export "run") (memory.init $p (i32.const 20) (i32.const 0) (i32.const 7)) (call $show))"#,
    ),
    (
        "memory.init of a segment that is spent",
        r#"(data $a (i32.const 0) "active") (data "other")
        (func (export "_initialize") (i32.store8 (i32.const 0) (i32.const 79)))
        (func (export "run") (memory.init $a (i32.const 20) (i32.const 0) (i32.const 0))
          (memory.init $a (i32.const 20) (i32.const 0) (i32.const 1)) (call $show))"#,
    ),
    (
        "data.drop of an active segment",
        r#"(data $a (i32.const 0) "active")
        (func (export "_initialize") (data.drop $a) (i32.store8 (i32.const 0) (i32.const 79)))
        (func (export "run") (data.drop $a) (call $show))"#,
    ),
    (
        "a passive segment that nobody names",
        r#"(data "nobody") (data (i32.const 0) "x") (func (export "_initialize"))
        (func (export "run") (call $show))"#,
    ),
    (
        "a table of functions",
        r#"(type $t (func (result i32))) (table 4 funcref) (elem (i32.const 1) $one $two)
        (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2)) (global $which (mut i32) (i32.const 1))
        (func (export "_initialize") (global.set $which (call_indirect (type $t) (i32.const 2))))
        (func (export "run") (i32.store (i32.const 0) (call_indirect (type $t) (global.get $which))) (call $show))"#,
    ),
    (
        "an empty place in a table",
        r#"(type $t (func (result i32))) (table 4 funcref) (elem (i32.const 1) $one)
        (func $one (result i32) (i32.const 1)) (global $which (mut i32) (i32.const 1))
        (func (export "_initialize") (global.set $which (i32.const 3)))
        (func (export "run") (drop (call_indirect (type $t) (global.get $which))))"#,
    ),
    (
        "several tables, elements of all kinds",
        r#"(type $t (func (result i32))) (table $a 4 funcref) (table $b 3 8 funcref)
        (elem (table $a) (i32.const 0) func $one) (elem (table $b) (i32.const 1) func $two $one) (elem func $one) (elem declare func $two)
        (elem (table $b) (offset (i32.add (i32.const 0) (i32.const 0))) funcref (ref.func $two))
        (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2))
        (func (export "_initialize") (i32.store (i32.const 0) (call_indirect $a (type $t) (i32.const 0))))
        (func (export "run") (i32.store (i32.const 4) (call_indirect $b (type $t) (i32.const 1)))
          (i32.store (i32.const 8) (call_indirect $b (type $t) (i32.const 0))) (i32.store (i32.const 12) (table.size $b)) (call $show))"#,
    ),
    (
        "elem.drop of an active segment",
        r#"(table 4 funcref) (elem $e (i32.const 1) $one) (func $one)
        (func (export "_initialize") (elem.drop $e) (i32.store (i32.const 0) (i32.const 1)))
        (func (export "run") (call_indirect (i32.const 1)) (call $show))"#,
    ),
    (
        "a log",
        r#"(data (i32.const 0) "setting up") (func (export "_initialize") (call $log (i32.const 1) (i32.const 0) (i32.const 10)))
        (func (export "run") (call $log (i32.const 3) (i32.const 0) (i32.const 7)) (call $show))"#,
    ),
    (
        "printed lines",
        r#"(data (i32.const 0) "setting up\n") (data (i32.const 16) "\00\00\00\00\0b\00\00\00")
        (func $print (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
        (func (export "_initialize") (call $print)) (func (export "run") (call $print) (i32.store (i32.const 24) (i32.const 0)) (call $show))"#,
    ),
    (
        "an import that isn't called",
        r#"(func (export "_initialize") (if (i32.load (i32.const 64)) (then (drop (call $get (i32.const 0) (i32.const 1)))))
          (i32.store8 (i32.const 1) (i32.const 2)))
        (func (export "run") (i32.store (i32.const 0) (call $length (i32.const 0))) (call $show))"#,
    ),
    (
        "a trap afterwards",
        r#"(func $inner (drop (i32.div_u (i32.const 1) (i32.load (i32.const 4)))))
        (func (export "_initialize") (i32.store (i32.const 4) (i32.const 3)))
        (func (export "run") (i32.store (i32.const 4) (i32.const 0)) (call $inner))"#,
    ),
    (
        "many turns",
        r#"(global $sum (mut i64) (i64.const 0)) (func (export "_initialize") (local $i i32)
          (loop $again (i32.store (i32.mul (local.get $i) (i32.const 4)) (local.get $i))
            (global.set $sum (i64.add (global.get $sum) (i64.extend_i32_u (local.get $i))))
            (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 16000)))))
        (func (export "run") (i64.store (i32.const 65528) (global.get $sum)) (call $show))"#,
    ),
    (
        "bytes here and there",
        r#"(func (export "_initialize") (local $i i32)
          (loop $again (i32.store8 (local.get $i) (i32.const 255))
            (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 13))) (i32.const 65536)))))
        (func (export "run") (call $show))"#,
    ),
    (
        "a memory full of ones",
        r#"(func (export "_initialize") (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)))
        (func (export "run") (call $show))"#,
    ),
    (
        "results of many values and tail calls",
        r#"(func $two (result i32 i64) (i32.const 3) (i64.const 4)) (global $g (mut i64) (i64.const 0))
        (func $last (global.set $g (i64.const 8))) (func (export "_initialize") (drop (global.set $g (call $two))) (return_call $last))
        (func (export "run") (i64.store (i32.const 0) (global.get $g)) (call $show))"#,
    ),
];

/// Modules that aren't: the kind of refusal, and what it says.
pub(crate) const REFUSED: &[(&str, &str, &str)] = &[
    (
        "instruction",
        r#"(table 4 funcref) (elem declare func $f) (func $f) (func (export "_initialize") (table.set (i32.const 0) (ref.func $f)))
        (func (export "boot")) (func (export "run"))"#,
        "function 12 has table.set",
    ),
    (
        "instruction",
        r#"(table 4 funcref) (func (export "boot")) (func (export "run") (drop (table.grow (ref.null func) (i32.const 1))))"#,
        "table.grow",
    ),
    (
        "instruction",
        r#"(table 4 funcref) (func (export "boot")) (func (export "run") (table.fill (i32.const 0) (ref.null func) (i32.const 1)))"#,
        "table.fill",
    ),
    (
        "instruction",
        r#"(table 4 funcref) (func (export "boot")) (func (export "run") (table.copy (i32.const 0) (i32.const 1) (i32.const 1)))"#,
        "table.copy",
    ),
    (
        "instruction",
        r#"(table 4 funcref) (elem $e func $f) (func $f) (func (export "boot")) (func (export "run") (table.init $e (i32.const 0) (i32.const 0) (i32.const 1)))"#,
        "table.init",
    ),
    (
        "instruction",
        r#"(table 4 funcref) (elem $e func $f) (func $f) (func (export "boot") (elem.drop $e)) (func (export "run"))"#,
        "elem.drop",
    ),
    ("instruction", r#"(data $p "passive") (func (export "boot") (data.drop $p)) (func (export "run"))"#, "data.drop"),
    (
        "reference_global",
        r#"(global $g (mut funcref) (ref.null func)) (func (export "boot")) (func (export "run"))"#,
        "global 0 can change",
    ),
    (
        "asks",
        r#"(func (export "boot") (drop (call $length (i32.const 0)))) (func (export "run"))"#,
        "calls buffer_length",
    ),
    (
        "asks",
        r#"(func (export "boot") (drop (call $read (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 9)))) (func (export "run"))"#,
        "calls buffer_read",
    ),
    (
        "asks",
        r#"(func (export "boot") (call $output (i32.const 0) (i32.const 0))) (func (export "run"))"#,
        "calls output_write",
    ),
    (
        "asks",
        r#"(func (export "boot") (drop (call $meter (i32.const 1)))) (func (export "run"))"#,
        "calls meter_remaining",
    ),
    ("asks", r#"(func (export "boot") (call $fail (i32.const 0) (i32.const 0))) (func (export "run"))"#, "calls fail"),
    (
        "asks",
        r#"(func $start (drop (call $get (i32.const 0) (i32.const 1)))) (start $start) (func (export "boot")) (func (export "run"))"#,
        "calls host_kv_get",
    ),
    (
        "asks",
        r#"(func (export "boot") (i32.store8 (i32.const 24) (i32.const 255)) (i32.store8 (i32.const 16) (i32.const 1)) (i32.store8 (i32.const 28) (i32.const 9))
          (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))) (func (export "run"))"#,
        "calls poll_oneoff",
    ),
    ("ended", r#"(func (export "boot") unreachable) (func (export "run"))"#, "ends: wasm trap: wasm `unreachable`"),
    ("ended", r#"(func (export "boot") (call $exit (i32.const 0))) (func (export "run"))"#, "exit"),
    ("ended", r#"(func $deep (export "boot") (call $deep)) (func (export "run"))"#, "stack"),
    ("ended", r#"(data (i32.const 65536) "x") (func (export "boot")) (func (export "run"))"#, "out of bounds"),
    ("not_accepted", r#"(func (export "run"))"#, "boot"),
    (
        "not_accepted",
        r#"(func $f (export "boot")) (func (export "run") (drop (ref.func $f)))"#,
        "undeclared function reference",
    ),
    ("not_accepted", r#"(func (export "boot") (param i32)) (func (export "run"))"#, "boot"),
    ("not_accepted", r#"(func (export "boot") (result i32) (i32.const 1)) (func (export "run"))"#, "boot"),
];
