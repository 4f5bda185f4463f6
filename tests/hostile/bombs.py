"""Compile bombs that the scan knows: each breaks a bound, most of them by a little, some by as much as fits."""

from __future__ import annotations

from typing import Final

from .binary import (
    BLOCK,
    DROP,
    ELSE,
    END,
    F64,
    I32,
    I64,
    IF,
    LOOP,
    V128,
    code,
    i32,
    leb,
    module,
)
from .case import Case, End

SCAN: Final = End.SCAN
TIME: Final = "the compiler's time"
SPACE: Final = "the compiler's memory"

TABLE_OF_ONE: Final = b"\1\x70\0\1"
NOP: Final = b"\x01"


def get(local: int) -> bytes:
    """Return `local.get`."""
    return b"\x20" + leb(local)


def put(local: int) -> bytes:
    """Return `local.set`."""
    return b"\x21" + leb(local)


def one(body: bytes, *groups: tuple[int, int]) -> bytes:
    """Return a module whose second function has this body; the first is `run` and does nothing."""
    return module([code(b""), code(body, *groups)])


def branch_table(targets: int) -> bytes:
    return b"\x0e" + leb(targets) + b"\0" * (targets + 1)


def select_phis(depth: int) -> bytes:
    """Return a function whose value is chosen anew, so many times, by an `if` over many locals."""
    step = get(0) + b"\x04\x7f" + get(1) + ELSE + get(2) + END + put(0)
    return one(step * depth, (10, I32), (10, V128), (10, F64))


CASES: Final = (
    Case("bomb: nested blocks", TIME, SCAN, "5001 nested blocks", lambda: one(BLOCK * 5_001 + END * 5_001)),
    Case(
        "bomb: 500,000 nested blocks",
        "the stack of a recursive reader",
        SCAN,
        "nested blocks",
        lambda: one(BLOCK * 340_000 + END * 340_000),
    ),
    Case("bomb: nested ifs", TIME, SCAN, "nested blocks", lambda: one((i32(0) + IF) * 5_001 + END * 5_001)),
    Case(
        "bomb: nested loops",
        TIME,
        SCAN,
        "nested loops",
        lambda: one(LOOP * 101 + END * 101, (5_000, I32)),
    ),
    Case(
        "bomb: nested loops over 10,000 locals",
        TIME,
        SCAN,
        "loops times locals",
        lambda: one(LOOP * 90 + END * 90, (10_000, I64)),
    ),
    Case(
        "bomb: 30 KB of nested loops over locals",
        TIME,
        SCAN,
        "4000 nested loops",
        lambda: one(LOOP * 4_000 + NOP * 22_000 + END * 4_000, (2_000, I32)),
    ),
    Case(
        "bomb: loops in sequence over locals",
        TIME,
        SCAN,
        "loops times locals",
        lambda: one((LOOP + END) * 1_000, (1_000, I32)),
    ),
    Case(
        "bomb: loops over 128-bit locals",
        SPACE,
        SCAN,
        "loops times locals",
        lambda: one((LOOP + END) * 101, (1_000, V128)),
    ),
    Case(
        "bomb: blocks over locals",
        TIME,
        SCAN,
        "blocks times locals",
        lambda: one((BLOCK + END) * 12_001, (1_000, F64)),
    ),
    Case(
        "bomb: ifs with many locals",
        TIME,
        SCAN,
        "blocks times locals",
        lambda: one((get(0) + IF + END) * 9_999, (1_201, I32)),
    ),
    Case(
        "bomb: a chain of ifs that choose",
        TIME,
        SCAN,
        "branches",
        lambda: select_phis(10_001),
    ),
    Case(
        "bomb: conditional branches",
        TIME,
        SCAN,
        "branches",
        lambda: one(BLOCK + (get(0) + b"\x0d\0") * 10_001 + END, (1, I32)),
    ),
    Case(
        "bomb: a giant branch table",
        SPACE,
        SCAN,
        "branch table targets",
        lambda: one(i32(0) + branch_table(100_001)),
    ),
    Case(
        "bomb: many branch tables",
        SPACE,
        SCAN,
        "branch table targets",
        lambda: one((i32(0) + branch_table(1_000)) * 101),
    ),
    Case(
        "bomb: a branch table of 4 billion",
        SPACE,
        SCAN,
        "cannot be read",
        lambda: one(i32(0) + b"\x0e" + leb(0xFFFFFFFF)),
    ),
    Case("bomb: many locals", SPACE, SCAN, "10001 parameters and locals", lambda: one(b"", (10_001, I32))),
    Case(
        "bomb: 50,000 locals in one group",
        SPACE,
        SCAN,
        "parameters and locals",
        lambda: one(b"", (50_000, V128)),
    ),
    Case(
        "bomb: 4 billion locals", SPACE, SCAN, "4294967295 parameters and locals", lambda: one(b"", (0xFFFFFFFF, I64))
    ),
    Case("bomb: locals beyond all numbers", SPACE, SCAN, "too many locals", lambda: one(b"", *[(0xFFFFFFFF, I64)] * 9)),
    Case(
        "bomb: locals in 10,001 groups",
        TIME,
        SCAN,
        "parameters and locals",
        lambda: one(b"", *[(1, I32), (1, I64)] * 5_001),
    ),
    Case("bomb: a huge straight line", TIME, SCAN, " bytes", lambda: one(NOP * (1 << 20))),
    Case("bomb: 30 MiB in one function", SPACE, SCAN, " bytes", lambda: one((i32(0) + DROP) * (10 << 20))),
)
