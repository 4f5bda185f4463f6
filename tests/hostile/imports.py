"""What a module may import or export, and what it must not."""

from __future__ import annotations

from functools import partial
from typing import Final

from .case import Case, End
from .proposals import MEMORY, RUN, assembled

POWER: Final = "powers that nobody granted"
TYPES: Final = "a host function called with another signature"


def _case(name: str, attacks: str, end: End, words: str, fields: str) -> Case:
    return Case(f"import: {name}", attacks, end, words, partial(assembled, f"(module {fields})"))


def _imported(name: str, words: str, what: str, *, memory: str = MEMORY) -> Case:
    return _case(name, POWER, End.SCAN, words, f"{what} {memory} {RUN}")


def _signature(name: str, signature: str) -> Case:
    fields = f'(import "fuseboard" "{name}" (func {signature})) {MEMORY} {RUN}'
    shown = signature or "nothing"
    return _case(f"{name} of {shown}", TYPES, End.REFUSED, "types incompatible", fields)


def _exported(name: str, end: End, words: str, fields: str) -> Case:
    return _case(name, "the audit of exports", end, words, fields)


OTHER: Final = "as something else than a function"
ITS_MEMORY: Final = '(export "memory" (memory 0))'
WASI: Final = "wasi_snapshot_preview1"
NO_MEMORY: Final = 'exports no memory named "memory"'
NOT_A_MEMORY: Final = 'exports "memory" as something else than a memory'
NOT_A_HOOK: Final = 'exports "run" as something else than a function without parameters and results'

CASES: Final = (
    _imported("another module", 'imports "puts" from "env"', '(import "env" "puts" (func (param i32)))'),
    _imported("an unknown function", "which ABI 1 does not have", '(import "fuseboard" "host_exec" (func))'),
    _imported("no name at all", 'imports "" from ""', '(import "" "" (func))'),
    _imported("a name of the ABI in capitals", "which ABI 1 does not have", '(import "fuseboard" "FAIL" (func))'),
    _imported("the ABI's module in capitals", 'from "FUSEBOARD"', '(import "FUSEBOARD" "fail" (func))'),
    _imported("a name with NUL behind it", "which ABI 1 does not have", '(import "fuseboard" "fail\\00" (func))'),
    _imported("a function that WASI lacks", "no such function", f'(import "{WASI}" "proc_exec" (func (param i32)))'),
    _case(
        "WASI's files", TYPES, End.REFUSED, "types incompatible", f'(import "{WASI}" "path_open" (func)) {MEMORY} {RUN}'
    ),
    _imported("a later WASI", 'from "wasi:cli/exit@0.2.0"', '(import "wasi:cli/exit@0.2.0" "exit" (func (param i32)))'),
    _imported("a memory of WASI's", OTHER, f'(import "{WASI}" "fd_write" (memory 1)) {ITS_MEMORY}', memory=""),
    _imported("Extism's", 'from "extism:host/env"', '(import "extism:host/env" "alloc" (func))'),
    _imported("a memory", 'imports "m" from "env"', f'(import "env" "m" (memory 1)) {ITS_MEMORY}', memory=""),
    _imported("a memory of the ABI", OTHER, f'(import "fuseboard" "fail" (memory 1)) {ITS_MEMORY}', memory=""),
    _imported("a shared memory", 'from "env"', f'(import "env" "m" (memory 1 2 shared)) {ITS_MEMORY}', memory=""),
    _imported("a table", 'imports "t" from "env"', '(import "env" "t" (table 1 funcref))'),
    _imported("a table of the ABI", OTHER, '(import "fuseboard" "fail" (table 1 funcref))'),
    _imported("a global", 'imports "g" from "env"', '(import "env" "g" (global (mut i32)))'),
    _imported("a global of the ABI", OTHER, '(import "fuseboard" "fail" (global i32))'),
    _imported("a tag", 'imports "t" from "env"', '(import "env" "t" (tag))'),
    _imported("a tag of the ABI", OTHER, '(import "fuseboard" "fail" (tag))'),
    _signature("fail", ""),
    _signature("fail", "(param i64 i64)"),
    _signature("fail", "(param i32 i32) (result i32)"),
    _signature("buffer_read", "(param i32 i32 i32) (result i32)"),
    _signature("buffer_length", "(param funcref) (result i32)"),
    _signature("output_write", "(param f32 f64)"),
    _signature("output_write", "(param i32 i32 i32)"),
    _signature("meter_remaining", "(param i32) (result i32)"),
    _signature("host_log", "(param v128 i32 i32)"),
    _case(
        "one function 999 times",
        "the linker",
        End.WORKS,
        "completed",
        '(import "fuseboard" "fail" (func (param i32 i32)))' * 999 + MEMORY + RUN,
    ),
    _exported("a program", End.SCAN, 'is a program (it exports "_start")', f'{MEMORY} {RUN} (func (export "_start"))'),
    _exported("a memory called _start", End.SCAN, "is a program", f'{MEMORY} {RUN} (export "_start" (memory 0))'),
    _exported("no memory", End.SCAN, NO_MEMORY, RUN),
    _exported("a memory of another name", End.SCAN, NO_MEMORY, f'(memory (export "Memory") 1) {RUN}'),
    _exported("a function called memory", End.SCAN, NOT_A_MEMORY, f'{RUN} (func (export "memory"))'),
    _exported("a table called memory", End.SCAN, NOT_A_MEMORY, f'{RUN} (table (export "memory") 1 funcref)'),
    _exported("a global called memory", End.SCAN, NOT_A_MEMORY, f'{RUN} (global (export "memory") i32 (i32.const 0))'),
    _exported("no function for the hook", End.REFUSED, 'the module exports no "run"', MEMORY),
    _exported("a near miss", End.REFUSED, "did you mean 'rum'?", f'{MEMORY} (func (export "rum"))'),
    _exported("a memory called run", End.REFUSED, NOT_A_HOOK, f'{MEMORY} (export "run" (memory 0))'),
    _exported("run with a parameter", End.REFUSED, NOT_A_HOOK, f'{MEMORY} (func (export "run") (param i32))'),
    _exported("run with a result", End.REFUSED, NOT_A_HOOK, f'{MEMORY} (func (export "run") (result i32) i32.const 0)'),
    _exported(
        "an import as the hook's function",
        End.REFUSED,
        NOT_A_HOOK,
        f'(import "fuseboard" "fail" (func (param i32 i32))) (export "run" (func 0)) {MEMORY}',
    ),
)
