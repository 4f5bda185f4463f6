"""SQLite for statements that a guest wrote: what it may do, for how long, and how large things get.

Rules:
* An authorizer allows a list of actions while a statement is compiled, and nothing at all between statements.
* No fork cuts a statement in two.
* The deadline is looked at between SQLite's opcodes only. What a single opcode can cost is bounded by sizes, and
  functions whose time grows with the square of their input are replaced or refused.
"""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard._limits import MIB
from fuseboard.backends import AnswerCode
from fuseboard.backends._fork_gate import fork_gate
from fuseboard.backends._locks import OwnedLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE_BYTES: Final = 4096
_LARGEST_REPLY: Final = 4 * MIB
_LARGEST_VALUE: Final = MIB
_VALUE_OVERHEAD: Final = 16
_OPCODES_BETWEEN_LOOKS: Final = 1000
_MOST_TRIMMED: Final = 256

READING: Final = frozenset({
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
})  # fmt: skip
WRITING: Final = READING | {
    sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_REINDEX,
    sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_DROP_VIEW,
    sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_DROP_TRIGGER,
}  # fmt: skip
_REFUSED_FUNCTIONS: Final = frozenset({"load_extension", "fts3_tokenizer", "sqlite_log", "json_patch"})
_REFUSED_TABLES: Final = frozenset({"sqlite_dbpage"})
_SIZES: Final = {
    sqlite3.SQLITE_LIMIT_LENGTH: _LARGEST_VALUE,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: MIB // 4,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 50,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_CODES: Final = {
    sqlite3.SQLITE_ERROR: AnswerCode.BAD_REQUEST,
    sqlite3.SQLITE_AUTH: AnswerCode.BAD_REQUEST,
    sqlite3.SQLITE_MISMATCH: AnswerCode.BAD_REQUEST,
    sqlite3.SQLITE_RANGE: AnswerCode.BAD_REQUEST,
    sqlite3.SQLITE_CONSTRAINT: AnswerCode.CONFLICT,
    sqlite3.SQLITE_TOOBIG: AnswerCode.TOO_LARGE,
    sqlite3.SQLITE_FULL: AnswerCode.TOO_LARGE,
}


class Guard:
    """What SQLite asks us: while it compiles, whether a statement may do this; while it runs, whether it is late."""

    __slots__ = ("_allowed", "_deadline", "refused", "stopped")

    def __init__(self) -> None:
        self._allowed: frozenset[int] | None = None
        self._deadline = math.inf
        self.refused = False
        self.stopped = False

    @contextmanager
    def allowing(self, actions: frozenset[int] | None, deadline: float) -> Iterator[None]:
        """Allow these of SQLite's actions until the deadline, `None` for all; nothing runs unguarded afterwards."""
        with fork_gate().working():
            self._allowed, self._deadline, self.refused, self.stopped = actions, deadline, False, False
            try:
                yield
            finally:
                self._allowed, self._deadline = frozenset(), -math.inf

    def authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        """Answer SQLite's question; `first` is a table's name, `second` a function's."""
        if self._allowed is None:
            return sqlite3.SQLITE_OK
        named = second if action == sqlite3.SQLITE_FUNCTION else first
        refused_names = _REFUSED_FUNCTIONS if action == sqlite3.SQLITE_FUNCTION else _REFUSED_TABLES
        if action in self._allowed and (named or "").lower() not in refused_names:
            return sqlite3.SQLITE_OK
        self.refused = True
        return sqlite3.SQLITE_DENY

    def is_late(self) -> bool:
        """Return whether the statement must stop."""
        self.stopped = time.monotonic() > self._deadline
        return self.stopped

    def stop(self) -> None:
        """Have the statement that runs end at once."""
        self._deadline = -math.inf

    def missed_interrupt(self, error: Exception) -> bool:
        """Return whether Ctrl-C came while SQLite was asking: it takes the exception for a no, and drops it."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        said_no = self.stopped if code == sqlite3.SQLITE_INTERRUPT else self.refused
        return code in {sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_AUTH} and not said_no


@dataclass(frozen=True, slots=True)
class Database:
    """One namespace's database, the guard on it, and the lock of whoever writes."""

    connection: sqlite3.Connection
    guard: Guard
    lock: OwnedLock = field(default_factory=OwnedLock)


def open_database(pages: int) -> Database:
    """Return a database in memory that may grow to `pages` pages."""
    with fork_gate().working():
        return _opened(pages)


def _opened(pages: int) -> Database:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=0)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute(f"PRAGMA max_page_count = {pages}")
    for category, size in _SIZES.items():
        connection.setlimit(category, size)
    for name, arguments, function in _LINEAR_FUNCTIONS:
        connection.create_function(name, arguments, function, deterministic=True)
    guard = Guard()
    connection.set_authorizer(guard.authorize)
    connection.set_progress_handler(guard.is_late, _OPCODES_BETWEEN_LOOKS)
    return Database(connection, guard)


def refusal(error: Exception, *, reads_only: bool) -> str:
    """Return the advice that goes with a statement that the authorizer refused."""
    advice = "a query only reads; use exec to write" if reads_only else "guests change tables and their rows, no more"
    return f"{error}: {advice}"


def as_backend_error(error: Exception) -> BackendError:
    """Return what a guest is answered for an error of SQLite's."""
    without_code = sqlite3.SQLITE_TOOBIG if isinstance(error, sqlite3.DataError) else sqlite3.SQLITE_ERROR
    code = getattr(error, "sqlite_errorcode", without_code) & 0xFF
    if code == sqlite3.SQLITE_INTERRUPT:
        return BackendTimeout("the statement was still running at the deadline")
    return BackendError(str(error), code=_CODES.get(code, AnswerCode.BACKEND_FAILED))


def fetched(cursor: sqlite3.Cursor) -> tuple[tuple[Any, ...], ...]:
    """Return a cursor's rows, of which no more are read than a reply can hold."""
    rows, size = [], 0
    for row in cursor:
        size += sum(_VALUE_OVERHEAD + (len(value) if isinstance(value, str | bytes) else 0) for value in row)
        if size > _LARGEST_REPLY:
            raise BackendError(f"the rows are over {_LARGEST_REPLY} bytes; ask for less", code=AnswerCode.TOO_LARGE)
        rows.append(row)
    return tuple(rows)


# SQLite's own forms of these compare every place with the whole pattern: seconds in one opcode for 1 MiB of text.


def _instr(text: object, part: object) -> int | None:
    if text is None or part is None:
        return None
    if isinstance(text, bytes) and isinstance(part, bytes):
        return text.find(part) + 1
    return _as_text(text).find(_as_text(part)) + 1


def _replace(*values: object) -> str | None:
    if None in values:
        return None
    text, old, new = map(_as_text, values)
    if not old:
        return text
    if len(text) + text.count(old) * (len(new) - len(old)) > _LARGEST_VALUE:
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


_LINEAR_FUNCTIONS: Final[tuple[tuple[str, int, Callable[..., Any]], ...]] = (
    ("instr", 2, _instr),
    ("replace", 3, _replace),
    ("trim", 2, _trimming(str.strip)),
    ("ltrim", 2, _trimming(str.lstrip)),
    ("rtrim", 2, _trimming(str.rstrip)),
)
