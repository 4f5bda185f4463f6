"""What is the same in all databases: which statements guests may write, what parameters and rows may hold.

Rules:
* A plugin that was tested on one engine works on another: what only one of them could do is refused in all.
* Tables are made by migrations; a guest's statements read and change rows.
* Nothing here knows an engine: text and values in, values or a `BackendError` out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, Final

from fuseboard._errors import BackendError
from fuseboard._limits import MIB
from fuseboard._text import SURROGATE
from fuseboard.backends import AnswerCode, DbExec, DbQuery

LARGEST_REPLY: Final = 4 * MIB
"""The most that the rows of one query may hold, in bytes."""

MOST_ROWS: Final = 10_000
"""The most rows that one query may give."""

VALUE_OVERHEAD: Final = 16
"""What a value counts beside its text or bytes, in bytes."""

LONGEST_STATEMENT: Final = MIB // 16
"""How long the text of a statement may be, in bytes: SQLite isn't interrupted while it compiles one."""

MOST_PARAMETERS: Final = 1_000
READING_KINDS: Final = frozenset({"SELECT", "VALUES", "WITH"})
WRITING_KINDS: Final = READING_KINDS | {"INSERT", "UPDATE", "DELETE"}

_BEFORE_THE_KIND: Final = re.compile(r"(?:[\s(]+|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*", re.DOTALL)
_WORD: Final = re.compile(r"[A-Za-z]+")

Parameter = None | bool | int | float | str | bytes


def check_statement(call: DbQuery | DbExec) -> None:
    """Refuse a statement whose kind guests may not use, and parameters that no database can keep.

    Raises:
        BackendError: `BAD_REQUEST`, with what to do; `TOO_LARGE` for a text that is.
    """
    if len(call.sql.encode(errors="replace")) > LONGEST_STATEMENT:
        raise too_large(f"a statement has {LONGEST_STATEMENT} bytes at most: give what is long as parameters")
    kind = statement_kind(call.sql)
    if isinstance(call, DbQuery) and kind in WRITING_KINDS - READING_KINDS:
        raise _bad_request(f"{kind} changes rows: use exec")
    if kind not in WRITING_KINDS:
        allowed = ", ".join(sorted(WRITING_KINDS))
        advice = "tables are made and changed by the plugin's migrations"
        raise _bad_request(f"a statement begins with one of {allowed}, not {kind or 'this'!r}; {advice}")
    if len(call.parameters) > MOST_PARAMETERS:
        raise _bad_request(f"a statement has {MOST_PARAMETERS} parameters at most")
    for place, value in enumerate(call.parameters, 1):
        problem = _problem(value)
        if problem is not None:
            raise _bad_request(f"parameter ${place} {problem}")


def statement_kind(sql: str) -> str:
    """Return the word that a statement begins with, in capitals, after spaces, comments and brackets; or nothing."""
    start = _BEFORE_THE_KIND.match(sql)
    word = _WORD.match(sql, start.end() if start else 0)
    return word.group().upper() if word else ""


def bounded_rows(
    rows: Iterable[tuple[Any, ...]], most_rows: int = MOST_ROWS, largest_reply: int = LARGEST_REPLY
) -> tuple[tuple[Any, ...], ...]:
    """Return rows, of which no more are read than a reply can hold.

    Raises:
        BackendError: `TOO_LARGE` for too many or too large ones, `BAD_REQUEST` for a number that JSON can't hold.
    """
    kept: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        size += row_size(row)
        if size > largest_reply:
            raise too_large(f"the rows are over {largest_reply} bytes; ask for less")
        if len(kept) >= most_rows:
            raise too_large(f"there are more than {most_rows} rows; add a LIMIT")
        kept.append(row)
    return tuple(kept)


def row_size(row: tuple[Any, ...]) -> int:
    """Return what a row counts in a reply, in bytes.

    Raises:
        BackendError: `BAD_REQUEST` for a number that JSON can't hold.
    """
    return sum(map(_size, row))


def too_large(reason: str) -> BackendError:
    """Return what is answered for something too large."""
    return BackendError(reason, code=AnswerCode.TOO_LARGE)


def _size(value: object) -> int:
    if isinstance(value, str | bytes):
        return VALUE_OVERHEAD + len(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _bad_request("a row has an infinite number or one that is none, which JSON can't hold")
    return VALUE_OVERHEAD


def _problem(value: Parameter) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "is no finite number"
    if isinstance(value, str) and "\0" in value:
        return "is text with a zero character, which PostgreSQL can't keep; use bytes"
    if isinstance(value, str) and SURROGATE.search(value):
        return "is text with half a character"
    return None


def _bad_request(reason: str) -> BackendError:
    return BackendError(reason, code=AnswerCode.BAD_REQUEST)
