"""Modules with too many of something: functions, types, values that are passed, globals, imports, exports, segments."""

from __future__ import annotations

from typing import Final

from .binary import (
    DATA,
    DROP,
    ELEMENT,
    END,
    EXPORT,
    EXPORTS,
    FUNCTION,
    GLOBAL,
    I32,
    I64,
    IMPORT,
    MEMORY,
    TABLE,
    V128,
    code,
    export,
    function_type,
    i32,
    leb,
    module,
    text,
    vector,
)
from .bombs import SCAN, SPACE, TABLE_OF_ONE, TIME
from .case import Case, End


def passing(values: int, times: int) -> bytes:
    """Return a module with a function that calls another, so many times, for so many results."""
    types = [function_type((), [I64] * values)]
    return module([code(b""), code(b"\0"), code((b"\x10\1" + DROP * values) * times)], types=types, of=[1])


def block_passing(values: int, times: int) -> bytes:
    """Return a module whose blocks take and give so many values."""
    types = [function_type([I32] * values, [I32] * values)]
    body = i32(0) * values + (b"\x02\1" + END) * times + DROP * values
    return module([code(b""), code(body)], types=types)


def indirect_web(values: int, times: int) -> bytes:
    """Return a module with calls through a table, of a type with so many parameters."""
    types = [function_type([I32] * values)]
    body = (i32(0) * values + i32(0) + b"\x11\1\0") * times
    return module([code(b""), code(body)], types=types, more={TABLE: TABLE_OF_ONE})


def data_segments(count: int, spread: int, pages: int = 64) -> bytes:
    """Return a module with data of a byte each, so many bytes apart, in a memory of so many pages."""
    segments = [b"\0" + i32(n * spread) + END + b"\1x" for n in range(count)]
    return module(more={MEMORY: b"\1\0" + leb(pages), DATA: vector(segments)})


def computed_data(count: int) -> bytes:
    """Return a module with data at sums."""
    return module(more={DATA: vector([b"\0" + i32(0) * 2 + b"\x6a" + END + b"\1x"] * count)})


def globals_of(count: int, initial: bytes = b"\x41\0") -> bytes:
    return module(more={GLOBAL: vector([b"\x7f\0" + initial + END] * count)})


def element_segments(count: int, items: int) -> bytes:
    """Return a module with segments of function numbers, which every instance copies."""
    segment = b"\0" + i32(0) * 2 + b"\x6a" + END + vector([b"\0"] * items)
    return module(more={TABLE: TABLE_OF_ONE, ELEMENT: vector([segment] * count)})


def elements_after(first: bytes, count: int, size: int) -> bytes:
    """Return a module with so many elements at the table's beginning, in a segment of their own after another."""
    segment = b"\0" + i32(0) + END + leb(count) + b"\0" * count
    return module(more={TABLE: b"\1\x70\0" + leb(size), ELEMENT: vector([each for each in (first, segment) if each])})


def data_after(first: bytes, count: int, pages: int = 1) -> bytes:
    """Return a module with so many data segments that are one image by themselves, after another."""
    segments = [b"\0" + i32(n) + END + b"\1x" for n in range(count)]
    return module(more={MEMORY: b"\1\0" + leb(pages), DATA: vector([first, *segments])})


def element_expressions(count: int) -> bytes:
    """Return a module with a passive segment of so many expressions."""
    segment = b"\5\x70" + leb(count) + (b"\xd2\0" + END) * count
    return module(more={TABLE: TABLE_OF_ONE, ELEMENT: vector([segment])})


def many_imports(count: int) -> bytes:
    imports = vector([text("fuseboard") + text(f"x{n}") + b"\0\0" for n in range(count)])
    return module(exports=[export("run", 0, count), export("memory", 2, 0)], more={IMPORT: imports})


def many_exports(count: int) -> bytes:
    return module(more={EXPORT: vector([*EXPORTS, *(export(f"x{n}", 0, 0) for n in range(count))])})


def signatures(count: int) -> bytes:
    """Return a module with so many functions and no code: the function section lies."""
    return module(more={FUNCTION: vector([b"\0"] * count)})


def wide() -> bytes:
    return module(types=[function_type([I64] * 1_001)])


SUM: Final = i32(0) * 2 + b"\x6a" + END
WORKS: Final = End.WORKS

CASES: Final = (
    Case("crowd: many functions", SPACE, SCAN, "functions; the most is", lambda: module([code(b"")] * 20_001)),
    Case("crowd: 500,000 functions", SPACE, SCAN, "functions; the most is", lambda: module([code(b"")] * 500_000)),
    Case("crowd: a million signatures", SPACE, SCAN, "functions; the most is", lambda: signatures(1_000_000)),
    Case("crowd: many types", SPACE, SCAN, "types; the most is", lambda: module(types=[function_type()] * 10_000)),
    Case(
        "crowd: 28 MiB of types", SPACE, SCAN, "types; the most is", lambda: module(types=[function_type()] * 9_999_999)
    ),
    Case("crowd: 28 MiB of elements", TIME, SCAN, "that start-up code copies", lambda: element_expressions(9_999_999)),
    Case(
        "crowd: a type of 201 parameters",
        TIME,
        SCAN,
        "parameters and results of a type",
        lambda: module(types=[function_type([I64] * 201)]),
    ),
    Case(
        "crowd: a type of 201 results",
        TIME,
        SCAN,
        "parameters and results of a type",
        lambda: module(types=[function_type((), [V128] * 201)]),
    ),
    Case("crowd: a type of 1,001 parameters", SPACE, SCAN, "function params size is out of bounds", wide),
    Case(
        "crowd: calls that return much",
        SPACE,
        SCAN,
        "values passed by blocks, branches and calls",
        lambda: passing(200, 501),
    ),
    Case(
        "crowd: blocks that pass much",
        SPACE,
        SCAN,
        "values passed by blocks, branches and calls",
        lambda: block_passing(100, 501),
    ),
    Case(
        "crowd: a web of calls through a table",
        SPACE,
        SCAN,
        "values passed by blocks, branches and calls",
        lambda: indirect_web(200, 501),
    ),
    Case(
        "crowd: an enormous constant",
        TIME,
        SCAN,
        "operators in a constant expression",
        lambda: globals_of(1, i32(0) + (i32(1) + b"\x6a") * 100_000),
    ),
    Case(
        "crowd: 28 MiB of a constant",
        TIME,
        SCAN,
        "operators in a constant expression",
        lambda: globals_of(1, i32(0) + b"\x45" * (28 << 20)),
    ),
    Case(
        "crowd: constants of 101 operators",
        TIME,
        SCAN,
        "operators in a constant expression",
        lambda: globals_of(999, i32(0) + (i32(1) + b"\x6a") * 50),
    ),
    Case("crowd: many globals", SPACE, SCAN, "globals; the most is", lambda: globals_of(10_001)),
    Case("crowd: a million globals", SPACE, SCAN, "globals; the most is", lambda: globals_of(1_000_000)),
    Case("crowd: many imports", TIME, SCAN, "imports; the most is", lambda: many_imports(1_001)),
    Case("crowd: 100,000 imports", SPACE, SCAN, "imports; the most is", lambda: many_imports(100_000)),
    Case("crowd: many exports", TIME, SCAN, "exports; the most is", lambda: many_exports(10_000)),
    Case("crowd: 300,000 exports", SPACE, SCAN, "exports; the most is", lambda: many_exports(300_000)),
    Case("crowd: many data segments", TIME, SCAN, "data segments; the most is", lambda: data_segments(100_001, 0)),
    Case("crowd: scattered data", TIME, SCAN, "spread over 16 MiB or more", lambda: data_segments(2_001, 9_000, 300)),
    Case(
        "crowd: data at computed offsets",
        TIME,
        SCAN,
        "at a computed offset or past the memory; the most is",
        lambda: computed_data(1_001),
    ),
    Case(
        "crowd: many element segments", TIME, SCAN, "element segments; the most is", lambda: element_segments(1_001, 0)
    ),
    Case(
        "crowd: elements of every instance",
        "the time of instantiation",
        SCAN,
        "that start-up code copies",
        lambda: element_segments(1, 10_001),
    ),
    Case(
        "crowd: elements after one at a computed offset",
        TIME,
        SCAN,
        "100001 elements that start-up code copies",
        lambda: elements_after(b"\0" + SUM + b"\1\0", 100_000, 100_000),
    ),
    Case(
        "crowd: elements after one past the table",
        TIME,
        SCAN,
        "20001 elements that start-up code copies",
        lambda: elements_after(b"\0" + i32(20_000) + END + b"\1\0", 20_000, 20_000),
    ),
    Case(
        "crowd: elements up to past the table",
        TIME,
        SCAN,
        "20000 elements that start-up code copies",
        lambda: elements_after(b"", 20_000, 19_999),
    ),
    Case(
        "crowd: elements up to the table's end", TIME, WORKS, "completed", lambda: elements_after(b"", 20_000, 20_000)
    ),
    Case(
        "crowd: data beside one at a computed offset",
        TIME,
        SCAN,
        "16001 data segments with one at a computed offset or past the memory",
        lambda: data_after(b"\0" + SUM + b"\1x", 16_000),
    ),
    Case(
        "crowd: data beside one past the memory",
        TIME,
        SCAN,
        "16001 data segments with one at a computed offset or past the memory",
        lambda: data_after(b"\0" + i32(65_536) + END + b"\1x", 16_000),
    ),
    Case(
        "crowd: data that ends at 16 MiB",
        TIME,
        SCAN,
        "2001 data segments spread over 16 MiB or more",
        lambda: data_after(b"\0" + i32((16 << 20) - 1) + END + b"\1x", 2_000, 257),
    ),
)
