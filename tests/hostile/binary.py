"""WebAssembly put together byte by byte: what no assembler would write, and what text would be too slow for.

Rules:
* Sections are put in the order of the standard; a module that breaks it is cut up and joined by hand.
* Function 0 is exported as `run`, memory 0 as `memory`, type 0 is `() -> ()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

HEADER: Final = b"\0asm\1\0\0\0"

TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA, DATA_COUNT, TAG = range(1, 14)
ORDER: Final = (TYPE, IMPORT, FUNCTION, TABLE, MEMORY, TAG, GLOBAL, EXPORT, START, ELEMENT, DATA_COUNT, CODE, DATA)
CUSTOM: Final = 0

I32, I64, F32, F64, V128, FUNCREF, EXTERNREF = 0x7F, 0x7E, 0x7D, 0x7C, 0x7B, 0x70, 0x6F
BLOCK, LOOP, IF, ELSE, END = b"\x02\x40", b"\x03\x40", b"\x04\x40", b"\x05", b"\x0b"
UNREACHABLE, DROP, SELECT = b"\x00", b"\x1a", b"\x1b"


def leb(number: int, width: int = 0) -> bytes:
    """Return an unsigned number as WebAssembly writes it, in at least `width` bytes."""
    out = bytearray()
    while number > 0x7F or len(out) + 1 < width:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    return bytes((*out, number))


def sleb(number: int) -> bytes:
    """Return a number as signed LEB128."""
    low, rest = number & 0x7F, number >> 7
    if (rest == 0 and not low & 0x40) or (rest == -1 and low & 0x40):
        return bytes([low])
    return bytes([low | 0x80]) + sleb(rest)


def section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + leb(len(content)) + content


def vector(items: Sequence[bytes]) -> bytes:
    return leb(len(items)) + b"".join(items)


def text(name: str | bytes) -> bytes:
    """Return a name as modules have it."""
    encoded = name.encode() if isinstance(name, str) else name
    return leb(len(encoded)) + encoded


def custom(name: str | bytes, content: bytes) -> bytes:
    return section(CUSTOM, text(name) + content)


def function_type(parameters: Iterable[int] = (), results: Iterable[int] = ()) -> bytes:
    return b"\x60" + vector([bytes([one]) for one in parameters]) + vector([bytes([one]) for one in results])


def code(body: bytes, *groups: tuple[int, int]) -> bytes:
    """Return a function's code; groups are so many locals of a type."""
    content = vector([leb(count) + bytes([kind]) for count, kind in groups]) + body + END
    return leb(len(content)) + content


def export(name: str | bytes, kind: int, index: int) -> bytes:
    return text(name) + bytes([kind]) + leb(index)


def i32(number: int) -> bytes:
    """Return `i32.const`."""
    return b"\x41" + sleb(number)


def join(sections: Mapping[int, bytes]) -> bytes:
    """Return a module of these sections' contents."""
    return HEADER + b"".join(section(kind, sections[kind]) for kind in ORDER if kind in sections)


RUN: Final = export("run", 0, 0)
EXPORTS: Final = (RUN, export("memory", 2, 0))


def module(
    codes: Sequence[bytes] = (code(b""),),
    *,
    types: Sequence[bytes] = (),
    of: Sequence[int] = (),
    exports: Sequence[bytes] = EXPORTS,
    more: Mapping[int, bytes] | None = None,
) -> bytes:
    """Return a module of functions.

    Args:
        codes: the functions' code; the first is `run`.
        types: those after `() -> ()`.
        of: the types' numbers of all functions but the first; those that aren't said are of type 0.
        exports: what is exported.
        more: further sections' contents, over those that are made here.
    """
    numbers = [0, *of, *[0] * (len(codes) - 1 - len(of))]
    made = {
        TYPE: vector([function_type(), *types]),
        FUNCTION: vector([leb(number) for number in numbers]),
        MEMORY: b"\1\0\1",
        EXPORT: vector(exports),
        CODE: vector(codes),
    }
    return join(made | dict(more or {}))
