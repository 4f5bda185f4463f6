"""Proposals of the standard that are off: through some of them, work could be done that no fuse counts."""

from __future__ import annotations

from functools import partial
from typing import Final

import wasmtime

from .binary import HEADER, TYPE, code, function_type, leb, module, section
from .bombs import SPACE
from .case import Case, End

MEMORY: Final = '(memory (export "memory") 1)'
RUN: Final = '(func (export "run"))'


def assembled(wat: str) -> bytes:
    return bytes(wasmtime.wat2wasm(wat))


def _off(name: str, words: str, fields: str, *, memory: str = MEMORY, end: End = End.REFUSED) -> Case:
    wat = f"(module {memory} {fields} {RUN})"
    return Case(f"proposal: {name}", "a proposal that is off", end, words, partial(assembled, wat))


def type_groups(groups: int, types: int) -> bytes:
    """Return a module with so many recursion groups of so many types each, and nothing else."""
    group = b"\x4e" + leb(types) + function_type() * types
    return HEADER + section(TYPE, leb(groups) + group * groups)


def _old_exceptions() -> bytes:
    return module([code(b"\x06\x40\x0b")])


V: Final = "(v128.const i64x2 0 0)"
_WAIT: Final = "(func (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))"
_CALL_REF: Final = "(type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0)))"
_WIDE: Final = "(func (param i64 i64) (result i64 i64) (i64.mul_wide_u (local.get 0) (local.get 1)))"
_TAIL: Final = f'(module {MEMORY} (func $again (export "run") (return_call $again)))'
_SIMD: Final = f'(module {MEMORY} (func (export "run") (drop (i8x16.swizzle {V} {V}))))'

CASES: Final = (
    _off("memory64", "memory64 must be enabled", "", memory='(memory (export "memory") i64 1)'),
    _off("a table of 64 bits", "memory64 must be enabled", "(table i64 1 funcref)"),
    _off("two memories", "2 memories; the most is 1", "(memory 1)", end=End.SCAN),
    _off("a thousand memories", "1000 memories; the most is 1", "(memory 0)" * 999, end=End.SCAN),
    Case(
        "proposal: types in groups", SPACE, End.SCAN, "10001 types; the most is 10000", partial(type_groups, 1, 10_001)
    ),
    Case(
        "proposal: a thousand groups of types",
        SPACE,
        End.SCAN,
        "20000 types; the most is 10000",
        partial(type_groups, 1_000, 10_000),
    ),
    _off("a shared memory", "threads must be enabled", "", memory='(memory (export "memory") 1 2 shared)'),
    _off("atomics", "threads support is not enabled", "(func (drop (i32.atomic.load (i32.const 0))))"),
    _off("waiting for another thread", "threads support is not enabled", _WAIT),
    _off("a fence", "threads support is not enabled", "(func atomic.fence)"),
    _off("structs", "without the gc feature", "(type (struct (field i32)))"),
    _off("arrays", "without the gc feature", "(type (array (mut i8)))"),
    _off("small integers as references", "gc", "(func (drop (ref.i31 (i32.const 1))))"),
    _off("recursive types", "gc", "(rec (type $a (func)) (type (func)))"),
    _off("subtypes", "gc", "(type $a (sub (func))) (type (sub $a (func)))"),
    _off("typed references", "function references required", _CALL_REF),
    _off("calls of references", "function references required", "(type $f (func)) (func (call_ref $f (ref.null $f)))"),
    _off("tags", "exceptions", "(tag)"),
    _off("throwing", "exceptions", "(tag $t) (func (throw $t))"),
    _off("catching", "exceptions", "(func (try_table))"),
    Case("proposal: old exceptions", "a proposal that is off", End.REFUSED, "exceptions", _old_exceptions),
    _off("relaxed SIMD", "relaxed SIMD support is not enabled", f"(func (drop (i8x16.relaxed_swizzle {V} {V})))"),
    _off("pages of a byte", "custom page sizes", "", memory='(memory (export "memory") 1 (pagesize 1))'),
    _off("wide arithmetic", "wide arithmetic", _WIDE),
    _off("continuations", "stack switching", "(type $f (func)) (type (cont $f))"),
    _off("suspending", "stack switching", "(type $f (func)) (type $c (cont $f)) (tag $t) (func (suspend $t))"),
    Case("proposal: tail calls are on", "the meter", End.WORKS, "fuel", partial(assembled, _TAIL)),
    Case("proposal: SIMD is on", "the compiler", End.WORKS, "completed", partial(assembled, _SIMD)),
)
