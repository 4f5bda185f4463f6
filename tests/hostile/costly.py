"""Modules whose operators cost the compiler far more than their bytes tell: seconds, or hundreds of MiB.

Rules:
* Those that break no bound of the scan cost several times what the trial's limits allow, so that these end them on a
  quick machine too.
* Those that are dearest by the byte are what the scan estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from .binary import DATA, DATA_COUNT, DROP, GLOBAL, I32, IF, TABLE, V128, code, i32, leb, module
from .binary import END as CLOSE
from .bombs import NOP, TABLE_OF_ONE, get, put
from .case import Case, End

LOAD: Final = b"\x28\2\0"
DIVIDE, ROTATE = b"\x6d", b"\x77"
CONVERT: Final = b"\x44" + bytes(8) + b"\xaa" + DROP  # to a whole number, which can fail
CALL_RUN, CALL_INDIRECT = b"\x10\0", b"\x11\0\0"
LANES: Final = b"\xfd\xf9\1"  # four numbers with fractions to whole ones without a sign
MEMORY_COPY = b"\xfc\x0a\0\0"
TABLE_GET, TABLE_COPY, TABLE_GROW = b"\x25\0", b"\xfc\x0e\0\0", b"\xfc\x0f\0"
NULL: Final = b"\xd0\x70"  # of a function


def functions(body: bytes, *groups: tuple[int, int], times: int = 1) -> bytes:
    """Return a module with so many functions of this body, a table, a global and a passive segment."""
    more = {TABLE: TABLE_OF_ONE, GLOBAL: b"\1\x7f\1\x41\0\x0b", DATA_COUNT: b"\1", DATA: b"\1\1\1x"}
    return module([code(b""), *[code(body, *groups)] * times], more=more)


def read(local: int) -> bytes:
    """Return code that gives a local a number that no compiler knows."""
    return i32(0) + b"\x28\2" + leb(4 * local) + put(local)


def write(local: int) -> bytes:
    """Return code by which a local is used."""
    return i32(0) + get(local) + b"\x36\2\0"


def chain(operator: bytes, times: int) -> bytes:
    """Return a chain of an operator: each takes the result of the one before, and a local."""
    return read(0) + get(0) + (get(0) + operator) * times + put(0) + write(0)


def spilled(locals_: int, calls: int) -> bytes:
    """Return calls over which all locals live."""
    return b"".join(map(read, range(locals_))) + CALL_RUN * calls + b"".join(map(write, range(locals_)))


def ifs(count: int, locals_: int, touched: int) -> bytes:
    """Return ifs in sequence, each of which changes some of the locals that the others read."""
    return b"".join(
        get(n % locals_) + IF + b"".join(_add(n, k, locals_) for k in range(touched)) + CLOSE for n in range(count)
    )


def _add(n: int, k: int, locals_: int) -> bytes:
    return get((n * 3 + k) % locals_) + i32(1) + b"\x6a" + put((n * 7 + k * 31) % locals_)


def padded(code: bytes, times: int, nothing: int) -> bytes:
    """Return code, so many times, each with nothing behind it: that makes it cheaper by the byte."""
    return (code + NOP * nothing) * times


def mixed(bodies: Sequence[bytes], times: int) -> bytes:
    """Return a module of functions of several kinds."""
    more = {TABLE: TABLE_OF_ONE}
    return module([code(b""), *[code(body, (4, I32)) for body in bodies] * times], more=more)


def _many_calls() -> bytes:
    return functions(padded(i32(0) + CALL_INDIRECT, 300, 15), times=5_000)


def _three_kinds() -> bytes:
    return mixed([padded(i32(0) + CALL_INDIRECT, 400, 5), chain(ROTATE, 800), (ZERO3 + MEMORY_COPY) * 300], 1_000)


ZERO3: Final = i32(0) * 3

TIME: Final = "the most that compile_limits.cpu_seconds allows"
SPACE: Final = "the most that compile_limits.memory_mb allows"


def _long(name: str, make: Callable[[], bytes]) -> Case:
    return Case(f"costly: {name}", "the compiler's time", End.LIMITS, TIME, make)


def _large(name: str, make: Callable[[], bytes]) -> Case:
    return Case(f"costly: {name}", "the compiler's memory", End.LIMITS, SPACE, make)


def _estimated(name: str, words: str, make: Callable[[], bytes]) -> Case:
    return Case(f"bomb: {name}", "the compiler's time", End.SCAN, words, make)


ESTIMATE: Final = "milliseconds of compiling"
TABLES: Final = "indirect calls and table accesses; the most is"

CASES: Final = (
    _estimated("20,000 calls through a table", TABLES, lambda: functions((i32(0) + CALL_INDIRECT) * 20_000)),
    _estimated("40,000 table reads", TABLES, lambda: functions((i32(0) + TABLE_GET + DROP) * 40_000)),
    _estimated("60,000 table copies", TABLES, lambda: functions((ZERO3 + TABLE_COPY) * 60_000)),
    _estimated("60,000 growths of a table", TABLES, lambda: functions((NULL + i32(0) + TABLE_GROW + DROP) * 60_000)),
    _estimated("100,000 memory copies", ESTIMATE, lambda: functions((ZERO3 + MEMORY_COPY) * 100_000)),
    _estimated("a chain of 340,000 loads", ESTIMATE, lambda: functions(i32(0) + LOAD * 340_000 + DROP)),
    _estimated("a chain of 200,000 divisions", ESTIMATE, lambda: functions(chain(DIVIDE, 200_000), (1, I32))),
    _estimated("90,000 conversions", ESTIMATE, lambda: functions(CONVERT * 90_000)),
    _estimated("200,000 conversions of lanes", ESTIMATE, lambda: functions(get(0) + LANES * 200_000 + DROP, (1, V128))),
    _estimated("500,000 calls", ESTIMATE, lambda: functions(CALL_RUN * 500_000)),
    _estimated("a chain of 340,000 rotations", ESTIMATE, lambda: functions(chain(ROTATE, 340_000), (1, I32))),
    _long("9,999 ifs over 500 locals", lambda: functions(ifs(9_999, 500, 8), (500, I32))),
    _estimated("3,000 functions of three kinds", ESTIMATE, _three_kinds),
    _long("5,000 functions of 300 calls through a table", _many_calls),
    _long("180 functions of 4,000 table copies", lambda: functions(padded(ZERO3 + TABLE_COPY, 4_000, 30), times=180)),
    _long("20 functions of 50,000 memory copies", lambda: functions(padded(ZERO3 + MEMORY_COPY, 50_000, 10), times=20)),
    _large("300,000 calls", lambda: functions(padded(CALL_RUN, 300_000, 1))),
    _large("45,000 conversions", lambda: functions(padded(CONVERT, 45_000, 11))),
    _large("100,000 calls over 5,000 living locals", lambda: functions(spilled(5_000, 100_000), (5_000, I32))),
    _large("a chain of 120,000 loads", lambda: functions(i32(0) + padded(LOAD, 120_000, 5) + DROP)),
)
