"""Names that attack whoever reads them: terminals, logs, eyes, and readers that take them for UTF-8 or for short."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from .binary import END as CLOSE
from .binary import EXPORT, EXPORTS, GLOBAL, IMPORT, code, custom, export, i32, leb, module, text, vector
from .case import Case, End

READERS: Final = "whoever reads the sentence"
MIB: Final = 1 << 20
LONGEST: Final = 50_000

NAMES: Final = {
    "colours of a terminal": (b"\x1b[31mred\x1b[0m", r"\u{1b}[31mred\u{1b}[0m"),
    "a cleared screen": (b"\x1b[2J\x1b[H", r"\u{1b}[2J\u{1b}[H"),
    "a terminal's title": (b"\x1b]0;owned\x07", r"\u{1b}]0;owned\u{7}"),
    "a control of eight bits": ("\x9b31m".encode(), r"\u{9b}31m"),
    "backspaces": (b"good\b\b\b\bevil", r"good\u{8}\u{8}\u{8}\u{8}evil"),
    "a line of its own": (b"x\n2026-01-01 INFO all is well", r"x\n2026-01-01"),
    "a return": (b"x\rok", r"x\rok"),
    "NUL": (b"fail\0", r"fail\u{0}"),
    "a right-to-left override": ("a\u202eb".encode(), r"a\u{202e}b"),
    "an isolate": ("a\u2066b\u2069".encode(), r"a\u{2066}b\u{2069}"),
    "an Arabic letter mark": ("a\u061cb".encode(), r"a\u{61c}b"),
    "no width": ("fa\u200bil".encode(), r"fa\u{200b}il"),
    "a byte order mark": ("\ufefffail".encode(), r"\u{feff}fail"),
    "a line separator": ("a\u2028b".encode(), r"a\u{2028}b"),
    "tags": ("a\U000e0041b".encode(), r"a\u{e0041}b"),
    "an annotation": ("a\ufff9b".encode(), r"a\u{fff9}b"),
    "a soft hyphen": ("fa\u00adil".encode(), r"fa\u{ad}il"),
    "a private character": ("a\ue000b".encode(), r"a\u{e000}b"),
    "a character of no meaning": ("a\u0378b".encode(), r"a\u{378}b"),
    "a filler": ("fail\u3164".encode(), r"fail\u{3164}"),
    "a quote": (b'x" from "fuseboard', r'"x" from "fuseboard"'),
    "50 KB of letters": (b"A" * LONGEST, "AAAA…"),
    "50 KB of escapes": (b"\x1b" * LONGEST, r"\u{1b}…"),
    "50 KB of marks": ("\u0301".encode() * (LONGEST // 2), "…"),
}


def imported(name: bytes) -> bytes:
    """Return a module that imports a function of this name."""
    imports = vector([text("fuseboard") + text(name) + b"\0\0"])
    return module(exports=[export("run", 0, 1), *EXPORTS[1:]], more={IMPORT: imports})


def imported_from(name: bytes) -> bytes:
    """Return a module that imports a function from a module of this name."""
    imports = vector([text(name) + text("f") + b"\0\0"])
    return module(exports=[export("run", 0, 1), *EXPORTS[1:]], more={IMPORT: imports})


def exported(*names: bytes) -> bytes:
    """Return a module that exports its function under these names too."""
    return module(more={EXPORT: vector([*EXPORTS, *(export(name, 0, 0) for name in names)])})


def crashing(function: bytes) -> bytes:
    """Return a module that crashes in a function of this name, as its name section has it."""
    names = custom("name", b"\1" + _sized(b"\1\0" + text(function)))
    return module([code(b"\0")]) + names


def lying_names(count: int, content: bytes) -> bytes:
    """Return a module that crashes, with a name section that says it has so many names."""
    return module([code(b"\0")]) + custom("name", b"\1" + _sized(leb(count) + content))


def named(kind: int, content: bytes) -> bytes:
    """Return a module that crashes, with a subsection of names."""
    return module([code(b"\0")]) + custom("name", bytes([kind]) + _sized(content))


def with_custom(name: bytes, content: bytes) -> bytes:
    return module() + custom(name, content)


def long_name(length: int) -> bytes:
    """Return a module with an import whose name says that it is longer than the section."""
    name = leb(length) + b"x"
    return module(more={IMPORT: b"\1" + text("fuseboard") + name + b"\0\0"})


def near_misses(count: int) -> bytes:
    """Return a module without `run` that exports many names like it, each of them long."""
    names = (export(f"run{n:04}" + "n" * 4_000, 0, 0) for n in range(count))
    return module(exports=[*EXPORTS[1:], *names])


def lone_global(name: bytes) -> bytes:
    """Return a module that exports a global of this name, and no function `run`."""
    more = {GLOBAL: vector([b"\x7f\0" + i32(0) + CLOSE])}
    return module(exports=[*EXPORTS[1:], export(name, 3, 0)], more=more)


def _sized(content: bytes) -> bytes:
    return leb(len(content)) + content


def _case(name: str, attacks: str, expected: tuple[End, str], make: Callable[[], bytes]) -> Case:
    return Case(f"name: {name}", attacks, *expected, make)


BAD_UTF8: Final = (End.SCAN, "malformed UTF-8")
OVER: Final = (End.SCAN, "bytes in the name of an import, an export or a function; the most is")
TOO_LONG: Final = (End.SCAN, "string size out of bounds")
WORKS: Final = (End.WORKS, "completed")
CRASHES: Final = (End.WORKS, "crash")

CASES: Final = (
    *(
        _case(f"imported, {what}", READERS, (End.SCAN, shown), partial(imported, name))
        for what, (name, shown) in NAMES.items()
    ),
    *(
        _case(f"imported from, {what}", READERS, (End.SCAN, shown), partial(imported_from, name))
        for what, (name, shown) in NAMES.items()
    ),
    *(
        _case(f"of a function that crashes, {what}", READERS, CRASHES, partial(crashing, name))
        for what, (name, _) in NAMES.items()
    ),
    _case("exported, all of these", READERS, WORKS, partial(exported, *(name for name, _ in NAMES.values()))),
    _case("imported, no UTF-8", "a reader that takes it for UTF-8", BAD_UTF8, partial(imported, b"\xff\xfe")),
    _case("imported, a cut character", "a reader of UTF-8", BAD_UTF8, partial(imported, b"\xe2\x82")),
    _case("imported, a surrogate", "a reader of UTF-8", BAD_UTF8, partial(imported, b"\xed\xa0\x80")),
    _case("imported, an overlong NUL", "a reader of UTF-8", BAD_UTF8, partial(imported, b"\xc0\x80")),
    _case("exported, no UTF-8", "a reader of UTF-8", BAD_UTF8, partial(exported, b"\xff\xfe")),
    _case("imported, 50,001 bytes", READERS, OVER, partial(imported, b"A" * (LONGEST + 1))),
    _case("exported, 50,001 bytes", READERS, OVER, partial(exported, b"A" * (LONGEST + 1))),
    _case("of a function, 50,001 bytes", READERS, OVER, partial(crashing, b"A" * (LONGEST + 1))),
    _case("imported, 1 MB", "memory", TOO_LONG, partial(imported, b"A" * MIB)),
    _case("imported from, 1 MB", "memory", TOO_LONG, partial(imported_from, b"A" * MIB)),
    _case("exported, 1 MB", "memory", TOO_LONG, partial(exported, b"A" * MIB)),
    _case("exported twice", "a table of exports", (End.REFUSED, "duplicate export name"), partial(exported, b"run")),
    _case("exported 500 times, long", "the near miss", (End.REFUSED, 'exports no "run"'), partial(near_misses, 500)),
    _case("longer than its section", "a reader", (End.SCAN, "cannot be read"), partial(long_name, 0xFFFF)),
    _case("longer than memory", "memory", (End.SCAN, "cannot be read"), partial(long_name, 0xFFFFFFFF)),
    _case("of a global like run", READERS, (End.REFUSED, 'exports no "run"'), partial(lone_global, b"ru\x1b[n")),
    _case("section, no UTF-8", "the backtrace", CRASHES, partial(crashing, b"\xff\xfe")),
    _case("section, 4 billion names", "memory", CRASHES, partial(lying_names, 0xFFFFFFFF, b"")),
    _case("section, of no function", "the backtrace", CRASHES, partial(lying_names, 1, b"\xff\x01\1x")),
    _case("section, cut", "the backtrace", CRASHES, partial(lying_names, 3, b"\0\5ab")),
    _case("section, unknown part", "the backtrace", CRASHES, partial(named, 99, b"abc")),
    _case("section, of locals", "the backtrace", CRASHES, partial(named, 2, b"\1\0\1\0\4\x1b[2J")),
    _case("section of 16 MiB", "memory", CRASHES, partial(lying_names, 1, b"\0\1x" + bytes(16 * MIB))),
    _case("custom, no UTF-8", "a reader of UTF-8", BAD_UTF8, partial(with_custom, b"\xff", b"")),
    _case("custom, of nothing", "a reader", WORKS, partial(with_custom, b"", b"")),
    _case("custom, DWARF that lies", "the backtrace", WORKS, partial(with_custom, b".debug_info", b"\xff" * 999)),
    _case("custom, a source map", "the backtrace", WORKS, partial(with_custom, b"sourceMappingURL", b"\7file://")),
    _case("custom, features", "the compiler", WORKS, partial(with_custom, b"target_features", b"\1+\7memory64")),
    _case("custom, linking", "the compiler", WORKS, partial(with_custom, b"linking", b"\2\xff\xff\xff")),
    _case(
        "custom, branch hints that lie",
        "the compiler",
        WORKS,
        partial(with_custom, b"metadata.code.branch_hint", b"\xff" * 99),
    ),
    _case("custom, the engine's own", "the loader", WORKS, partial(with_custom, b".wasmtime.engine", b"\xff" * 99)),
    _case("custom, 16 MiB", "memory", WORKS, partial(with_custom, b"x", bytes(16 * MIB))),
)
