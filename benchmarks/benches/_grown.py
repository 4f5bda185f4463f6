"""A large module out of a real one: its functions, again and again, behind each other.

Rule: calls lead to the first of each, so that the module does what it did; the rest is there to be compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from typing import Final

_HEADER_BYTES: Final = 8
_FUNCTION, _CODE = 3, 10


def grown(wasm: bytes, size: int) -> bytes:
    """Return the module with copies of its functions, of about so many bytes."""
    sections = dict(_sections(wasm))
    types, bodies = _types(sections[_FUNCTION]), list(_bodies(sections[_CODE]))
    copies = max(0, size - len(wasm)) * len(bodies) // len(sections[_CODE])
    sections[_FUNCTION] = _vector(islice(cycle(types), len(types) + copies))
    sections[_CODE] = _vector(islice(cycle(bodies), len(bodies) + copies))
    written = (bytes([kind]) + _number(len(content)) + content for kind, content in sections.items())
    return wasm[:_HEADER_BYTES] + b"".join(written)


def _sections(wasm: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield all but custom sections, which may name functions."""
    place = _HEADER_BYTES
    while place < len(wasm):
        kind = wasm[place]
        length, place = _read(wasm, place + 1)
        if kind:
            yield kind, wasm[place : place + length]
        place += length


def _types(section: bytes) -> list[bytes]:
    count, place = _read(section, 0)
    types = []
    for _ in range(count):
        number, place = _read(section, place)
        types.append(_number(number))
    return types


def _bodies(section: bytes) -> Iterator[bytes]:
    count, place = _read(section, 0)
    for _ in range(count):
        length, begin = _read(section, place)
        yield section[place : begin + length]
        place = begin + length


def _vector(items: Iterable[bytes]) -> bytes:
    each = list(items)
    return _number(len(each)) + b"".join(each)


def _read(data: bytes, place: int) -> tuple[int, int]:
    """Return the number at a place, as LEB128 writes it, and the place behind it."""
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004  the bit that says that more follow
            return number, place


def _number(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low]) if not rest else bytes([low | 0x80]) + _number(rest)
