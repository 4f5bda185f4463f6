"""SQLite's text functions whose own forms take the square of their input, or a time that nothing ends.

Rules:
* They give what SQLite's own give, for text, blobs and NULL.
* Each takes time in proportion to its input, as it runs in one opcode, between two looks at the deadline.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

_MOST_TRIMMED: Final = 256


def replace_functions(connection: sqlite3.Connection, largest_value: int) -> None:
    """Have a connection use our functions; none makes a text longer than `largest_value` bytes."""

    def replace(*values: object) -> str | None:
        return _replace(*values, largest=largest_value)

    for name, arguments, function in (("replace", 3, replace), *_FUNCTIONS):
        connection.create_function(name, arguments, function, deterministic=True)


def _instr(text: object, part: object) -> int | None:
    if text is None or part is None:
        return None
    if isinstance(text, bytes) and isinstance(part, bytes):
        return text.find(part) + 1
    return _as_text(text).find(_as_text(part)) + 1


def _replace(*values: object, largest: int) -> str | None:
    if None in values:
        return None
    text, old, new = map(_as_text, values)
    if not old:
        return text
    if len(text) + text.count(old) * (len(new) - len(old)) > largest:
        raise ValueError("the result is too large")
    return text.replace(old, new)


def _trimming(strip: Callable[[str, str], str]) -> Callable[[object, object], str | None]:
    def trim(text: object, characters: object) -> str | None:
        if text is None or characters is None:
            return None
        distinct = "".join(set(_as_text(characters)))
        if len(distinct) > _MOST_TRIMMED:
            raise ValueError("too many characters to trim")
        return strip(_as_text(text), distinct) if distinct else _as_text(text)

    return trim


def _as_text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


_FUNCTIONS: Final[tuple[tuple[str, int, Callable[..., Any]], ...]] = (
    ("instr", 2, _instr),
    ("trim", 2, _trimming(str.strip)),
    ("ltrim", 2, _trimming(str.lstrip)),
    ("rtrim", 2, _trimming(str.rstrip)),
)
