"""SQLite for statements that a guest wrote: what it may do, for how long, and what its errors mean.

Rules:
* An authorizer allows a list of actions while a statement is compiled, and nothing at all between statements.
* Names that begin with `fuseboard_` or `sqlite_` are out of a guest's reach. The authorizer alone can't see to that:
  SQLite doesn't ask it what `INSERT INTO a SELECT * FROM b` reads, where both tables are alike. So no statement and no
  migration may have such a name in it, and no view or trigger has one then. SQL has no other way to write a name.
* No fork cuts a statement in two.
* A statement ends at its deadline where a loop of its program begins again. What comes between is bounded: functions
  whose time grows with the square of their input are replaced or refused, and `_sqlite_bounds` sees to the rest.
"""

from __future__ import annotations

import math
import re
import sqlite3
import time
from typing import Final

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends import AnswerCode
from fuseboard.backends._database import LONGEST_STATEMENT, too_large
from fuseboard.backends._fork_gate import fork_gate
from fuseboard.backends._sqlite_bounds import LARGEST_VALUE
from fuseboard.backends._sqlite_functions import replace_functions

INNER_PREFIX: Final = "fuseboard_"
"""How the names of our own tables begin."""

_OPCODES_BETWEEN_LOOKS: Final = 10_000
"""How often we are asked whether a statement is late: where an interrupt came too soon to be seen, and for Ctrl-C."""

_MOST_OPCODES: Final = 11_000

READING: Final = frozenset({
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
})  # fmt: skip
WRITING: Final = READING | {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
MIGRATING: Final = WRITING | {
    sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_REINDEX,
    sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_DROP_VIEW,
    sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_DROP_TRIGGER,
}  # fmt: skip
_OUT_OF_REACH: Final = {
    READING: (INNER_PREFIX, "sqlite_", "pragma_"),
    WRITING: (INNER_PREFIX, "sqlite_", "pragma_"),
    MIGRATING: (INNER_PREFIX, "pragma_"),  # SQLite writes tables of its own for them, which it lets nobody else write
}
_NO_TO_A_FUNCTION: Final = "not authorized to use function"
"""What SQLite says where the authorizer refused a function; the code is that of any mistake."""

_ADVICE: Final = {
    READING: "a query only reads; use exec to write",
    WRITING: "guests change rows of their tables, no more",
    MIGRATING: "migrations make and change tables, indexes, views and triggers, no more",
}
_NOT_TO_BE_WRITTEN: Final = re.compile(f"{INNER_PREFIX}|sqlite_", re.IGNORECASE)
_REFUSED_TABLES: Final = frozenset({"dbstat", "sqlite_dbpage", "sqlite_stmt", "bytecode", "tables_used"})
_REFUSED_FUNCTIONS: Final = frozenset({
    "load_extension", "fts3_tokenizer", "sqlite_log", "json_patch", "glob", "regexp", "match", "printf", "format",
})  # fmt: skip
_SIZES: Final = {
    sqlite3.SQLITE_LIMIT_LENGTH: LARGEST_VALUE,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: LONGEST_STATEMENT + 64,  # with a mark before it
    sqlite3.SQLITE_LIMIT_VDBE_OP: _MOST_OPCODES,
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
ERRORS: Final = (sqlite3.Error, sqlite3.Warning, UnicodeError, OverflowError, MemoryError)
"""What running a statement can raise: `MemoryError` is SQLite's word for a program over the limit of its length."""


class Guard:
    """What SQLite asks us: while it compiles, whether a statement may do this; while it runs, whether it is late."""

    __slots__ = ("_allowed", "_deadline", "refused", "stopped")

    def __init__(self) -> None:
        self._allowed: frozenset[int] | None = None
        self._deadline = math.inf
        self.refused = False
        self.stopped = False

    def allow(self, work: object, actions: frozenset[int] | None, deadline: float) -> None:
        """Allow these of SQLite's actions until the deadline, `None` for all; who calls forbids them afterwards."""
        fork_gate().begin(work)
        self._allowed, self._deadline, self.refused, self.stopped = actions, deadline, False, False

    def forbid(self, work: object) -> None:
        """Allow nothing any more."""
        self._allowed, self._deadline = frozenset(), -math.inf
        fork_gate().end(work)

    def authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        """Answer SQLite's question; `first` is mostly a table's name, `second` a function's, or a table's too."""
        if self._allowed is None or (action in self._allowed and self._may_name(action, first, second)):
            return sqlite3.SQLITE_OK
        self.refused = True
        return sqlite3.SQLITE_DENY

    def is_late(self) -> bool:
        """Return whether the statement must stop."""
        self.stopped = time.monotonic() > self._deadline
        return self.stopped

    def stop(self) -> None:
        """Have the statement that runs end at once."""
        self._deadline, self.stopped = -math.inf, True

    def missed_interrupt(self, error: Exception) -> bool:
        """Return whether Ctrl-C came while SQLite was asking: it takes the exception for a no, and drops it."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            return not self.stopped
        is_no = code == sqlite3.SQLITE_AUTH or str(error).startswith(_NO_TO_A_FUNCTION)
        return is_no and not self.refused

    def _may_name(self, action: int, first: str | None, second: str | None) -> bool:
        if action == sqlite3.SQLITE_FUNCTION:
            return self._may_call((second or "").lower())
        return all(self._may_reach(name.lower()) for name in (first, second) if name)

    def _may_call(self, name: str) -> bool:
        if self._allowed is MIGRATING:
            return name not in _REFUSED_FUNCTIONS or name == "printf"  # SQLite's own, where a table is altered
        return name not in _REFUSED_FUNCTIONS

    def _may_reach(self, name: str) -> bool:
        return not name.startswith(_OUT_OF_REACH[self._allowed or READING]) and name not in _REFUSED_TABLES


def check_text(sql: str) -> None:
    """Refuse a statement that is too long to be looked at, or has a name that is ours or SQLite's own, be it in a text.

    Raises:
        BackendError: `TOO_LARGE` or `BAD_REQUEST`.
    """
    if len(sql) > LONGEST_STATEMENT:
        raise too_large(f"a statement has {LONGEST_STATEMENT} bytes at most")
    found = _NOT_TO_BE_WRITTEN.search(sql)
    if found is not None:
        reason = f"not authorized: no statement has {found.group()!r} in it; give a text that has as a parameter"
        raise BackendError(reason, code=AnswerCode.BAD_REQUEST)


def set_guard(connection: sqlite3.Connection, guard: Guard) -> None:
    """Bound the sizes of a connection, have it use our functions, and set its guard, which allows all so far."""
    connection.execute("SELECT * FROM json_each('1'), json_tree('1')")  # made now: to make them later isn't allowed
    for category, size in _SIZES.items():
        connection.setlimit(category, size)
    replace_functions(connection, LARGEST_VALUE)
    connection.set_authorizer(guard.authorize)
    connection.set_progress_handler(guard.is_late, _OPCODES_BETWEEN_LOOKS)


def refusal(error: Exception, actions: frozenset[int] | None) -> BackendError:
    """Return what a guest is answered for a statement that the authorizer refused."""
    return BackendError(f"{error}: {_ADVICE[actions or WRITING]}", code=AnswerCode.BAD_REQUEST)


def as_backend_error(error: Exception) -> BackendError:
    """Return what a guest is answered for an error of SQLite's."""
    if isinstance(error, MemoryError):
        return BackendError("the statement is too long", code=AnswerCode.TOO_LARGE)
    without_code = sqlite3.SQLITE_TOOBIG if isinstance(error, sqlite3.DataError) else sqlite3.SQLITE_ERROR
    code: int = getattr(error, "sqlite_errorcode", without_code)
    if code == sqlite3.SQLITE_TOOBIG:
        reason = f"{error}: a value holds {LARGEST_VALUE} bytes, and less where a statement computes much"
        return BackendError(reason, code=AnswerCode.TOO_LARGE)
    if code == sqlite3.SQLITE_BUSY_SNAPSHOT:
        reason = "another invocation has written since this one began to read; do it again"
        return BackendError(reason, code=AnswerCode.CONFLICT)
    if code & 0xFF == sqlite3.SQLITE_INTERRUPT:
        return BackendTimeout("the statement was still running at the deadline")
    return BackendError(str(error), code=_CODES.get(code & 0xFF, AnswerCode.BACKEND_FAILED))


def is_busy(error: Exception) -> bool:
    """Return whether another connection, mostly of another process, has to be waited for."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_BUSY and code != sqlite3.SQLITE_BUSY_SNAPSHOT
