"""One connection to SQLite, on which statements of guests, of migrations and of our own run under its guard.

Rules:
* Statements of guests and our own are never the same text: what was compiled with more rights isn't found again by
  its text with fewer.
* Sizes of values are a guest's while its statement runs, and larger for our own.
"""

from __future__ import annotations

import ctypes
import logging
import math
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends import AnswerCode, DbChanged, DbExec, DbQuery, DbRows
from fuseboard.backends._database import WRITING_KINDS, bounded_rows, check_statement, statement_kind
from fuseboard.backends._fork_gate import fork_gate
from fuseboard.backends._sqlite import (
    ERRORS,
    MIGRATING,
    READING,
    WRITING,
    Guard,
    as_backend_error,
    check_text,
    is_busy,
    refusal,
    set_guard,
)
from fuseboard.backends._sqlite_bounds import LARGEST_VALUE, Bounds, largest_value
from fuseboard.backends._sqlite_parameters import bound
from fuseboard.backends._sqlite_watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

PAGE_BYTES: Final = 4096
_STATEMENTS_KEPT: Final = 16
_MOST_ATTACHED: Final = 10
_log = logging.getLogger("fuseboard")
_MARKS: Final = {READING: "/* r */ ", WRITING: "/* w */ ", MIGRATING: "/* m */ "}
"""What a guest's statements begin with, by what they may do."""


class Connection:
    """A connection and its guard.

    Attributes:
        bounds: how much its statements may compute.
        is_sound: whether its file could be read and written so far, and the operator has changed no setting of it.
        is_given_up: whether its session is being rolled back: it runs nothing more until that is done.
        is_of_another_process: whether it came by a fork: it is left alone.

    Args:
        place: the file, or `:memory:`.
        largest_of_ours: the most that our own statements' values and rows hold, in bytes.
    """

    __slots__ = (
        "__weakref__",
        "_largest_of_ours",
        "bounds",
        "guard",
        "is_given_up",
        "is_of_another_process",
        "is_sound",
        "place",
        "raw",
    )

    def __init__(self, place: str, *, largest_of_ours: int = LARGEST_VALUE) -> None:
        self._largest_of_ours = largest_of_ours
        self.bounds = Bounds()
        self.place = place
        self.guard = Guard()
        self.is_sound = True
        self.is_of_another_process = False
        self.is_given_up = False
        with fork_gate().working():
            self.raw = self._connected(place)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.raw.in_transaction

    @property
    def is_as_new(self) -> bool:
        """Whether another session may use it."""
        return self.is_sound and not self.raw.in_transaction

    def query(self, call: DbQuery, deadline: float) -> DbRows:
        """Run a guest's query.

        Raises:
            BackendError: it can't be run, or is late.
        """
        return self._run_guests(call, READING, deadline, _rows)

    def exec(self, call: DbExec, deadline: float) -> DbChanged:
        """Run a guest's statement that writes.

        Raises:
            BackendError: it can't be run, or is late.
        """
        before = self.raw.total_changes
        self._run_guests(call, WRITING, deadline, _to_the_end)
        if self.raw.total_changes == before:
            return DbChanged(0)
        return DbChanged(self.ours("SELECT changes()")[0][0])

    def migrate(self, sql: str, deadline: float) -> None:
        """Run one statement of a migration.

        Raises:
            BackendError: it can't be run, or is late.
        """
        check_text(sql)
        self.bounds.check_words(sql, self.ours)
        try:
            self._run(_MARKS[MIGRATING] + sql, {}, MIGRATING, deadline, _to_the_end)
        finally:
            self.bounds.forget()

    def check_schema(self) -> None:
        """See that what migrations have made doesn't take too long to compile, views and triggers.

        Raises:
            BackendError: it does.
        """
        self.bounds.check_schema(self.ours)

    def ours(self, sql: str, values: Mapping[str, object] | None = None, deadline: float = math.inf) -> list[Any]:
        """Run a statement of our own, unrestricted, and return its rows.

        Raises:
            BackendError: it failed, or is late; not where the database is busy.
            sqlite3.OperationalError: the database is busy.
        """
        self.raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._largest_of_ours)
        try:
            return self._run(sql, values or {}, None, deadline, _all)
        finally:
            self.raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)

    def operators(self, sql: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Run a statement of the operator's, unrestricted, and return its rows.

        Raises:
            sqlite3.Error: it failed.
        """
        self.is_sound &= statement_kind(sql) in WRITING_KINDS
        work = object()
        try:
            self.guard.allow(work, None, math.inf)
            self._set_limits(self._largest_of_ours, _MOST_ATTACHED)
            with closing(self.raw.execute(sql, values)) as cursor:
                return _all(cursor)
        finally:
            self._set_limits(LARGEST_VALUE, 0)
            self.guard.forbid(work)

    def undo(self) -> None:
        """Roll back what isn't committed."""
        if not self.raw.in_transaction:
            return
        try:
            self._undo()
        except sqlite3.Error as error:
            if not self.guard.missed_interrupt(error):
                raise
            self._undo()
            raise KeyboardInterrupt from error

    def stop(self) -> None:
        """Have what runs end at once, from whichever thread."""
        self.guard.stop()
        self.raw.interrupt()

    def give_up(self) -> None:
        """Have what runs end at once, and run nothing that would begin; from whichever thread."""
        self.is_given_up = True
        self.stop()

    def keep_for_ever(self) -> None:
        """Never close it, not even at the end of the process: it is another's."""
        self.is_of_another_process = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.raw))

    def close(self) -> None:
        """Close it; what isn't committed is gone."""
        with fork_gate().working():
            self.raw.close()

    def _set_limits(self, length: int, attached: int) -> None:
        self.raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, length)
        self.raw.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, attached)

    def _connected(self, place: str) -> sqlite3.Connection:
        raw = None
        try:
            raw = sqlite3.connect(
                place, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS_KEPT
            )
            set_guard(raw, self.guard)
        except BaseException as error:
            if raw is not None:
                raw.close()
            if not isinstance(error, ERRORS) or is_busy(error):
                raise
            raise self._answer(error, None) from error
        return raw

    def _undo(self) -> None:
        work = object()
        try:
            self.guard.allow(work, None, math.inf)
            self.raw.execute("ROLLBACK")
        finally:
            self.guard.forbid(work)

    def _run_guests(
        self, call: DbQuery | DbExec, actions: frozenset[int], deadline: float, read: Callable[[sqlite3.Cursor], T]
    ) -> T:
        check_text(call.sql)
        check_statement(call)
        values = bound(call.sql, call.parameters)

        def looked_at() -> int:
            self.bounds.check_words(call.sql, self.ours)
            return self._run(f"{_MARKS[actions]}EXPLAIN {call.sql}", values, actions, math.inf, largest_value)

        self.raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self.bounds.largest_value(call.sql, looked_at))
        try:
            return self._run(_MARKS[actions] + call.sql, values, actions, deadline, read)
        finally:
            self.raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)

    def _run(
        self,
        sql: str,
        values: Mapping[str, object],
        actions: frozenset[int] | None,
        deadline: float,
        read: Callable[[sqlite3.Cursor], T],
    ) -> T:
        cursor, work = None, object()
        try:
            self.guard.allow(work, actions, deadline)
            if self.is_given_up:
                raise BackendTimeout("nobody waits for the answer any more")
            if deadline < math.inf:
                watch().begin(self, deadline)
            cursor = self.raw.execute(sql, values)
            return read(cursor)
        except ERRORS as error:
            if is_busy(error):
                raise
            raise self._answer(error, actions) from error
        finally:
            self.guard.forbid(work)
            if deadline < math.inf:
                watch().end(self)
            if cursor is not None:
                cursor.close()

    def _answer(self, error: Exception, actions: frozenset[int] | None) -> BaseException:
        """Return what is raised for an error; what is nobody's fault here, the operator is told."""
        if self.guard.missed_interrupt(error):
            return KeyboardInterrupt()
        if self.guard.refused:
            return refusal(error, actions)
        answer = as_backend_error(error)
        if answer.code == AnswerCode.BACKEND_FAILED and not isinstance(answer, BackendTimeout):
            self.is_sound = False
            _log.error("the database %s can't be used: %s", self.place, error)
        return answer


def _rows(cursor: sqlite3.Cursor) -> DbRows:
    if cursor.description is None:
        raise BackendError("this statement gives no rows; use exec", code=AnswerCode.BAD_REQUEST)
    return DbRows(tuple(column[0] for column in cursor.description), bounded_rows(cursor))


def _to_the_end(cursor: sqlite3.Cursor) -> None:
    for _ in cursor:
        pass  # a statement with RETURNING or SELECT is done when its last row was fetched


def _all(cursor: sqlite3.Cursor) -> list[Any]:
    return cursor.fetchall()


def check_unbroken(connection: Connection) -> None:
    """Refuse what would run outside a transaction that was begun: `INSERT OR ROLLBACK` and interrupted writes end it.

    Raises:
        BackendError: `CONFLICT`; where the transaction is another process's, `BACKEND_FAILED`.
    """
    if connection.is_of_another_process:
        raise BackendError("this process was forked from the one that began this transaction")
    if not connection.in_transaction:
        reason = "an earlier error undid all that this invocation had written to the database"
        raise BackendError(reason, code=AnswerCode.CONFLICT)
