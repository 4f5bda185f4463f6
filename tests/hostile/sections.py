"""Modules whose sections are cut, lie about their size, come twice, out of order, or are of no known kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from .binary import (
    CODE,
    CUSTOM,
    DATA,
    DATA_COUNT,
    ELEMENT,
    EXPORT,
    EXPORTS,
    FUNCTION,
    GLOBAL,
    HEADER,
    IMPORT,
    MEMORY,
    START,
    TABLE,
    TYPE,
    code,
    custom,
    export,
    function_type,
    i32,
    leb,
    section,
    text,
    vector,
)
from .binary import END as CLOSE
from .case import Case, End

KINDS: Final = {
    "type": TYPE,
    "import": IMPORT,
    "function": FUNCTION,
    "table": TABLE,
    "memory": MEMORY,
    "global": GLOBAL,
    "export": EXPORT,
    "start": START,
    "element": ELEMENT,
    "data count": DATA_COUNT,
    "code": CODE,
    "data": DATA,
    "custom": CUSTOM,
}
CONTENTS: Final[Mapping[str, bytes]] = {
    "type": vector([function_type(), function_type([0x7F], [0x7F])]),
    "import": vector([text("fuseboard") + text("buffer_length") + b"\0\1"]),
    "function": vector([b"\0", b"\0"]),
    "table": b"\1\x70\0\2",
    "memory": b"\1\0\1",
    "global": vector([b"\x7f\1" + i32(7) + CLOSE]),
    "export": vector([export("run", 0, 1), *EXPORTS[1:]]),
    "start": leb(2),
    "element": vector([b"\0" + i32(0) + CLOSE + vector([b"\1", b"\2"])]),
    "data count": b"\1",
    "code": vector([code(i32(0) + b"\x10\0\x1a"), code(b"\x01")]),
    "data": vector([b"\0" + i32(8) + CLOSE + text("hello")]),
    "custom": text("producers") + b"\0",
}
COUNTED: Final = tuple(name for name in KINDS if name not in {"start", "custom", "data count"})

UNREADABLE: Final = (End.SCAN, "cannot be read")
Expected = tuple[End, str]


def whole() -> bytes:
    """Return a module that has every kind of section."""
    return joined(section(KINDS[name], content) for name, content in CONTENTS.items())


def joined(sections: Iterator[bytes]) -> bytes:
    return HEADER + b"".join(sections)


def changed(name: str, new: Callable[[int, bytes], bytes]) -> bytes:
    """Return the module with one section made anew, from its kind and content."""
    return joined(new(KINDS[each], c) if each == name else section(KINDS[each], c) for each, c in CONTENTS.items())


def cut(name: str, part: float) -> bytes:
    """Return the module up to a place in a section: 0 is before it, 1 before its last byte."""
    before = 0
    for each, content in CONTENTS.items():
        length = len(section(KINDS[each], content))
        if each == name:
            return whole()[: len(HEADER) + before + int(part * (length - 1))]
        before += length
    raise KeyError(name)


def too_large(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + leb(len(content) + 1) + content


def too_small(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + leb(len(content) - 1) + content


def of_4_billion(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + leb(0xFFFFFFFF) + content


def padded(kind: int, content: bytes) -> bytes:
    """Return a section whose size is written in five bytes, which the standard allows."""
    return bytes([kind]) + leb(len(content), 5) + content


def overlong(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + leb(len(content), 9) + content


def emptied(kind: int, _: bytes) -> bytes:
    return section(kind, b"")


def counting_4_billion(kind: int, content: bytes) -> bytes:
    return section(kind, leb(0xFFFFFFFF) + content[1:])


def counting_one_more(kind: int, content: bytes) -> bytes:
    return section(kind, leb(content[0] + 1) + content[1:])


def twice(kind: int, content: bytes) -> bytes:
    return section(kind, content) * 2


def left_out(_: int, __: bytes) -> bytes:
    return b""


def last(name: str) -> bytes:
    """Return the module with a section moved to its end."""
    return changed(name, left_out) + section(KINDS[name], CONTENTS[name])


def first(name: str) -> bytes:
    """Return the module with a section moved to its beginning."""
    rest = changed(name, left_out)[len(HEADER) :]
    return HEADER + section(KINDS[name], CONTENTS[name]) + rest


def unknown(kind: int, length: int) -> bytes:
    return whole() + section(kind, bytes(length))


def custom_sections(count: int, length: int) -> bytes:
    return whole() + custom("x" * 8, bytes(length)) * count


CHANGES: Final[Mapping[str, Callable[[int, bytes], bytes]]] = {
    "size too large": too_large,
    "size too small": too_small,
    "size of 4 billion": of_4_billion,
    "size in five bytes": padded,
    "size in nine bytes": overlong,
    "empty": emptied,
    "twice": twice,
    "left out": left_out,
}
COUNTS: Final = {"count of 4 billion": counting_4_billion, "count of one more": counting_one_more}
WORKS: Final = (End.WORKS, "completed")
NO_MEMORY: Final = (End.SCAN, 'exports no memory named "memory"')


def _unknown(what: str) -> Expected:
    return (End.REFUSED, f"does not compile: failed to parse WebAssembly module: {what}")


EXCEPTIONS: Final[Mapping[str, Expected]] = {
    **dict.fromkeys((f"cut before {name}" for name in ("type", "import", "function")), NO_MEMORY),
    "cut before custom": WORKS,
    **dict.fromkeys((f"{name} size in five bytes" for name in KINDS), WORKS),
    **dict.fromkeys((f"{name} left out" for name in ("global", "start", "element", "data count", "custom")), WORKS),
    "type left out": _unknown("unknown type"),
    "import left out": _unknown("unknown function"),
    "table left out": _unknown("unknown table"),
    "memory left out": _unknown("unknown memory"),
    "export left out": NO_MEMORY,
    "type at the beginning": WORKS,
    "data at the end": WORKS,
    **dict.fromkeys((f"custom {where}" for where in ("twice", "at the end", "at the beginning")), WORKS),
    **{
        f"{name} count of 4 billion": (End.SCAN, f"4294967295 {counted}; the most is")
        for name, counted in {
            "type": "types",
            "import": "imports",
            "function": "functions",
            "table": "tables",
            "memory": "memories",
            "global": "globals",
            "export": "exports",
            "element": "element segments",
        }.items()
    },
    "memory count of one more": (End.SCAN, "2 memories; the most is 1"),
    **{f"unknown {kind}": _unknown(f"malformed section id: {kind}") for kind in (14, 15, 64, 127)},
    "custom 100,000 times": (End.SCAN, "custom sections; the most is"),
    "custom 900 times": WORKS,
    "custom of 16 MiB": WORKS,
}
"""What isn't found unreadable by the scan, and why that is right: a count is bounded before what it counts is read, a
size may be padded, and what is left out may not be missed."""


def _cases() -> Iterator[Case]:
    for name in KINDS:
        for place, part in {"before": 0.0, "in the middle of": 0.5, "before the end of": 1.0}.items():
            yield _case(f"cut {place} {name}", "a reader that trusts sizes", partial(cut, name, part))
        for change, new in CHANGES.items():
            yield _case(f"{name} {change}", "a reader that trusts sizes", partial(changed, name, new))
        yield _case(f"{name} at the end", "a reader that trusts the order", partial(last, name))
        yield _case(f"{name} at the beginning", "a reader that trusts the order", partial(first, name))
    for name in COUNTED:
        for change, new in COUNTS.items():
            yield _case(f"{name} {change}", "a reader that trusts counts", partial(changed, name, new))
    for kind in (14, 15, 64, 127, 128, 255):
        yield _case(f"unknown {kind}", "a reader that skips", partial(unknown, kind, 5))
    yield _case("custom 100,000 times", "the scan's time", partial(custom_sections, 100_000, 0))
    yield _case("custom 900 times", "the scan's time", partial(custom_sections, 900, 0))
    yield _case("custom of 16 MiB", "memory", partial(custom_sections, 1, 16 << 20))


def _case(what: str, attacks: str, make: Callable[[], bytes]) -> Case:
    return Case(f"section: {what}", attacks, *EXCEPTIONS.get(what, UNREADABLE), make)


CASES: Final = tuple(_cases())
