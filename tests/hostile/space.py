"""Memories, tables, globals, data and elements: huge, overlapping, out of bounds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from .binary import (
    DATA,
    DATA_COUNT,
    ELEMENT,
    EXPORTS,
    MEMORY,
    START,
    TABLE,
    code,
    export,
    i32,
    leb,
    module,
    text,
    vector,
)
from .binary import END as CLOSE
from .case import Case, End
from .crowds import computed_data, data_segments, element_segments, globals_of, many_exports

MEMORY_LIMIT: Final = "memory"
HOST_MEMORY: Final = "the host's memory"
INSTANCE: Final = "the time of instantiation"

WORKS: Final = (End.WORKS, "completed")
TRIPS: Final = (End.WORKS, "memory")
BURNS: Final = (End.WORKS, "fuel")
CRASHES: Final = (End.WORKS, "crash")


def memory(initial: int, maximum: int | None = None, body: bytes = b"") -> bytes:
    """Return a module with a memory of so many pages."""
    limits = b"\0" + leb(initial) if maximum is None else b"\1" + leb(initial) + leb(maximum)
    return module([code(body)], more={MEMORY: b"\1" + limits})


def tables(*initial: int, kind: int = 0x70, body: bytes = b"") -> bytes:
    """Return a module with tables of so many elements."""
    return module([code(body)], more={TABLE: vector([bytes([kind]) + b"\0" + leb(each) for each in initial])})


def table_up_to(initial: int, maximum: int) -> bytes:
    return module(more={TABLE: b"\1\x70\1" + leb(initial) + leb(maximum)})


def data(*segments: tuple[int, bytes], pages: int = 1) -> bytes:
    """Return a module with data at these offsets."""
    written = [b"\0" + i32(offset) + CLOSE + text(content) for offset, content in segments]
    return module(more={MEMORY: b"\1\0" + leb(pages), DATA: vector(written)})


def passive(length: int, body: bytes = b"") -> bytes:
    """Return a module with a passive segment of so many bytes."""
    return module([code(body)], more={DATA_COUNT: b"\1", DATA: b"\1\1" + text(bytes(length))})


def data_of_a_global(value: int) -> bytes:
    """Return a module with data at what a global says."""
    made = globals_of(1, i32(value))
    return made + b"\x0b" + text(b"\1\0\x23\0\x0b\1x")


def data_count(count: int) -> bytes:
    """Return a module that announces so many data segments and has one."""
    return module(more={DATA_COUNT: leb(count), DATA: b"\1\0" + i32(0) + CLOSE + b"\1x"})


def elements(offset: int, count: int, size: int = 10) -> bytes:
    """Return a module with function 0, so many times, in its table from an offset on."""
    segment = b"\0" + i32(offset) + CLOSE + vector([b"\0"] * count)
    return module(more={TABLE: b"\1\x70\0" + leb(size), ELEMENT: vector([segment])})


def element_of(function: int) -> bytes:
    segment = b"\0" + i32(0) + CLOSE + b"\1" + leb(function)
    return module(more={TABLE: b"\1\x70\0\1", ELEMENT: vector([segment])})


def started(body: bytes, *, initialize: bool = False) -> bytes:
    """Return a module whose start function, or `_initialize`, has this body."""
    if initialize:
        return module([code(b""), code(body)], exports=[*EXPORTS, export("_initialize", 0, 1)])
    return module([code(b""), code(body)], more={START: leb(1)})


GROW: Final = b"\x40\0"
GROW_FOREVER: Final = b"\x03\x40" + i32(1) + GROW + b"\x1a\x0c\0\x0b"
GROW_4_GIB: Final = i32(65_535) + GROW + b"\x1a"
GROW_TABLE: Final = b"\xd0\x70" + i32(1 << 24) + b"\xfc\x0f\0\x1a"
FOREVER: Final = b"\x03\x40\x0c\0\x0b"
RECURSE: Final = b"\x10\1"
FILL: Final = b"\x03\x40" + i32(0) * 2 + i32(65_536) + b"\xfc\x0b\0\x0c\0\x0b"


def _case(name: str, attacks: str, expected: tuple[End, str], make: Callable[[], bytes]) -> Case:
    return Case(f"space: {name}", attacks, *expected, make)


OVER: Final = (End.SCAN, "bytes of initial memory under the operator's ceiling")
OUT: Final = (End.WORKS, "crash")
LIES: Final = (End.SCAN, "inconsistent lengths")
INVALID: Final = (End.REFUSED, "does not compile")
TABLE_SIZE: Final = (End.SCAN, "initial elements of a table; the most is")

CASES: Final = (
    _case("a memory just over the ceiling", HOST_MEMORY, OVER, partial(memory, 65)),
    _case("a memory of 4 GiB", HOST_MEMORY, OVER, partial(memory, 65_536)),
    _case("a memory beyond 4 GiB", HOST_MEMORY, OVER, partial(memory, 65_537)),
    _case("a memory of 4 billion pages", HOST_MEMORY, OVER, partial(memory, 0xFFFFFFFF)),
    _case("a memory at the ceiling", HOST_MEMORY, WORKS, partial(memory, 64)),
    _case("a memory of nothing", INSTANCE, WORKS, partial(memory, 0)),
    _case("a maximum of 4 GiB", HOST_MEMORY, WORKS, partial(memory, 1, 65_536)),
    _case("a maximum beyond 4 GiB", HOST_MEMORY, INVALID, partial(memory, 1, 65_537)),
    _case("a maximum below the initial size", HOST_MEMORY, INVALID, partial(memory, 2, 1)),
    _case("growing to 4 GiB", HOST_MEMORY, BURNS, partial(memory, 1, None, GROW_4_GIB)),
    _case("growing forever", HOST_MEMORY, TRIPS, partial(memory, 1, None, GROW_FOREVER)),
    _case("growing beyond its own maximum", HOST_MEMORY, WORKS, partial(memory, 1, 2, i32(9) + GROW + b"\x1a")),
    _case("a table at the bound", HOST_MEMORY, TRIPS, partial(tables, 1 << 20)),
    _case("a table over the bound", HOST_MEMORY, TABLE_SIZE, partial(tables, (1 << 20) + 1)),
    _case("a table of 4 billion", HOST_MEMORY, TABLE_SIZE, partial(tables, 0xFFFFFFFF)),
    _case("five tables", HOST_MEMORY, (End.SCAN, "5 tables; the most is 4"), partial(tables, 1, 1, 1, 1, 1)),
    _case("100,000 tables", HOST_MEMORY, (End.SCAN, "tables; the most is 4"), partial(tables, *[1] * 100_000)),
    _case("four tables that don't fit", HOST_MEMORY, TRIPS, partial(tables, *[200_000] * 4)),
    _case("a table of references to the host", HOST_MEMORY, INVALID, partial(tables, 10, kind=0x6F)),
    _case("a table that grows by 16 million", HOST_MEMORY, BURNS, partial(tables, 1, body=GROW_TABLE)),
    _case("a table of up to 4 billion", HOST_MEMORY, WORKS, partial(table_up_to, 1, 0xFFFFFFFF)),
    _case("a table with a maximum below its size", HOST_MEMORY, INVALID, partial(table_up_to, 2, 1)),
    _case("data of 4 MiB", HOST_MEMORY, WORKS, partial(data, (0, bytes(4 << 20)), pages=64)),
    _case("data of 16 MiB", HOST_MEMORY, BURNS, partial(data, (0, bytes(16 << 20)), pages=64)),
    _case("data that overlaps", INSTANCE, WORKS, partial(data, *[(n, b"x" * 99) for n in range(999)])),
    _case("data at the last byte", INSTANCE, WORKS, partial(data, (65_535, b"x"))),
    _case("data past the end", INSTANCE, OUT, partial(data, (65_536, b"x"))),
    _case("data of nothing at the end", INSTANCE, WORKS, partial(data, (65_536, b""))),
    _case("data of nothing past the end", INSTANCE, OUT, partial(data, (65_537, b""))),
    _case("data at -1", INSTANCE, OUT, partial(data, (-1, b"xx"))),
    _case("data at both ends of 4 GiB", HOST_MEMORY, OUT, partial(data, (0, b"x"), (-9, b"x"))),
    _case("data for a memory of nothing", INSTANCE, OUT, partial(data, (0, b"x"), pages=0)),
    _case("data at a global", INSTANCE, INVALID, partial(data_of_a_global, 7)),
    _case("data at 999 sums", INSTANCE, WORKS, partial(computed_data, 999)),
    _case("data of 16 MiB for nothing", HOST_MEMORY, WORKS, partial(passive, 16 << 20)),
    _case(
        "data copied past the end", INSTANCE, CRASHES, partial(passive, 9, i32(0) + i32(8) + i32(2) + b"\xfc\x08\0\0")
    ),
    _case("data announced and not there", "a reader", LIES, partial(data_count, 2)),
    _case("4 billion data announced", HOST_MEMORY, LIES, partial(data_count, 0xFFFFFFFF)),
    _case("1,999 scattered data", "the compiler", WORKS, partial(data_segments, 1_999, 2_000)),
    _case("99,999 data", "the compiler", WORKS, partial(data_segments, 99_999, 1)),
    _case("elements at the end of the table", INSTANCE, WORKS, partial(elements, 9, 1)),
    _case("elements past the end", INSTANCE, OUT, partial(elements, 9, 2)),
    _case("elements at -1", INSTANCE, OUT, partial(elements, -1, 1)),
    _case("elements of no function", INSTANCE, INVALID, partial(element_of, 99)),
    _case("999 element segments", INSTANCE, OUT, partial(element_segments, 999, 10)),
    _case("9,999 globals", INSTANCE, WORKS, partial(globals_of, 9_999)),
    _case("9,998 exports", "the table of exports", WORKS, partial(many_exports, 9_998)),
    *(
        _case(f"{what} that {does}", "what runs before the fuses are in", expected, partial(started, body, **said))
        for what, said in {"a start function": {}, "_initialize": {"initialize": True}}.items()
        for does, body, expected in (
            ("does nothing", b"", WORKS),
            ("crashes", b"\0", CRASHES),
            ("never ends", FOREVER, BURNS),
            ("calls itself", RECURSE, CRASHES),
            ("eats memory", GROW_FOREVER, TRIPS),
            ("asks for 4 GiB", GROW_4_GIB, BURNS),
            ("fills memory forever", FILL, BURNS),
        )
    ),
)
