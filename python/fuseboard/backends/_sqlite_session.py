"""One invocation's use of a plugin's SQLite file: its statements, its keys and values, one commit for both.

Rules:
* A transaction begins with the first statement and reads one state from then on. Readers wait for nobody.
* Who writes rows, or increments, takes the file's lock and holds it to the end. Where somebody has written since this
  session began to read, that is a CONFLICT, and nobody's update is lost.
* Sets and deletes of keys are kept until the commit. Where rows were only read, they are written in a transaction of
  their own: no reader of rows can be in their way.
* Outside of a transaction a connection is borrowed for one key and given back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

from fuseboard._errors import BackendError
from fuseboard.backends import (
    AnswerCode,
    DbExec,
    DbQuery,
    KvDelete,
    KvDone,
    KvGet,
    KvIncrement,
    KvNumber,
    KvSet,
    KvValue,
)
from fuseboard.backends._kv import KvCaps, Written
from fuseboard.backends._owned_session import OwnedSession, unserved
from fuseboard.backends._sqlite_connection import check_unbroken
from fuseboard.backends._sqlite_kv import KvWrites, stored
from fuseboard.backends._sqlite_opening import patiently

if TYPE_CHECKING:
    from fuseboard.backends import Answer, HostCall
    from fuseboard.backends._sqlite_connection import Connection
    from fuseboard.backends._sqlite_files import File, Files

T = TypeVar("T")

_FIRST_WRITE: Final = "DELETE FROM fuseboard_kv WHERE key IS NULL"


class SqliteSession(OwnedSession):
    """A session on one file.

    Args:
        files: who lends connections.
        file: the namespace's.
        caps: what keys and values may hold.
        writes: whether writing to the database is granted.
    """

    def __init__(self, files: Files, file: File, caps: KvCaps, *, writes: bool) -> None:
        super().__init__(file.lock)
        self._files = files
        self._file = file
        self._caps = caps
        self._may_write = writes
        self._kv = KvWrites(caps)
        self._holding = Lock()
        self._connection: Connection | None = None
        self._has_asked = False

    def _answer(self, call: HostCall, deadline: float) -> Answer:
        match call:
            case KvGet(key=key):
                self._caps.check(key, b"")
                return KvValue(self._found(key, deadline).at(time.time()))
            case DbQuery():
                return self._reading(deadline).query(call, deadline)
            case DbExec():
                return self._writing_rows(deadline).exec(call, deadline)
            case _:
                return self._write_key(call, deadline)

    def _write_key(self, call: HostCall, deadline: float) -> Answer:
        match call:
            case KvSet():
                with self._borrowed(deadline) as connection:
                    self._kv.set(call, connection)
                return KvDone()
            case KvDelete(key=key):
                self._caps.check(key, b"")
                self._check_unbroken()
                self._kv.delete(key)
                return KvDone()
            case KvIncrement(key=key):
                self._caps.check(key, b"")
                connection = self._writing(deadline)
                return KvNumber(self._kv.increment(call, self._found(key, deadline), connection))
            case _:
                raise unserved("Sqlite", call)

    def _found(self, key: bytes, deadline: float) -> Written:
        self._check_unbroken()
        written = self._kv.get(key)
        if written is not None:
            return written
        with self._borrowed(deadline) as connection:
            return self._patiently(lambda: stored(connection, key), deadline)

    # ── the transaction ──────────────────────────────────────────────────────────────────────────

    def _reading(self, deadline: float) -> Connection:
        if self._connection is not None:
            self._check_unbroken()
            return self._connection
        connection = self._lent(deadline)
        try:
            connection.ours("BEGIN")  # it reads nothing yet, the next statement does
            self._patiently(lambda: connection.bounds.look_again(connection.ours), deadline)
        except BaseException:
            self._end_reading()
            raise
        return connection

    def _writing_rows(self, deadline: float) -> Connection:
        if not self._may_write:
            raise BackendError("writing to the database is not granted", code=AnswerCode.DENIED)
        return self._writing(deadline)

    def _writing(self, deadline: float) -> Connection:
        self._check_unbroken()
        if self._connection is not None and self._lock.is_held_by(self):
            return self._connection
        self._take_lock(deadline)
        try:
            return self._begun(deadline)
        except BaseException:
            self._lock.give_back(self)
            raise

    def _begun(self, deadline: float) -> Connection:
        """Begin to write, or go on to it from reading."""
        connection, first = self._connection, _FIRST_WRITE
        if connection is None:
            connection, first = self._lent(deadline), "BEGIN IMMEDIATE"
        try:
            self._patiently(lambda: connection.ours(first), deadline)
            connection.bounds.look_again(connection.ours)
        except BaseException:
            if not connection.in_transaction:
                self._give_back()
            raise
        return connection

    def _check_unbroken(self) -> None:
        if self._connection is not None:
            check_unbroken(self._connection)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def _commit(self, deadline: float) -> None:
        self._check_unbroken()
        if self._kv and not self._lock.is_held_by(self):
            self._end_reading()
            self._writing(deadline)
        if self._connection is None or not self._lock.is_held_by(self):
            return
        connection = self._connection
        self._kv.apply(connection, deadline)
        connection.ours("COMMIT")

    def _end_reading(self) -> None:
        if self._connection is not None:
            self._connection.undo()
            self._give_back()

    def _forget(self) -> None:
        self._kv.clear()
        if not self._has_asked:
            return
        try:
            if self._connection is not None and not self._connection.is_of_another_process:
                self._connection.undo()
        finally:
            self._give_back()

    def _stop(self) -> None:
        super()._stop()
        self._files.look_again()
        with self._holding:  # what was given back, another session may be using
            if self._connection is not None and not self._connection.is_of_another_process:
                self._connection.give_up()

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    def _lent(self, deadline: float) -> Connection:
        self._has_asked = True
        connection = self._files.lend(self, self._file, deadline, self._gives_up)
        with self._holding:
            self._connection = connection
            connection.is_given_up = self._has_ended
        return connection

    def _give_back(self) -> None:
        with self._holding:
            if self._connection is not None:
                self._connection.is_given_up = False
            self._connection = None
        self._files.take_back(self)

    @contextmanager
    def _borrowed(self, deadline: float) -> Iterator[Connection]:
        """The transaction's connection, or one for a moment, which sees what is committed now."""
        self._check_unbroken()
        if self._connection is not None:
            yield self._connection
            return
        connection = self._lent(deadline)
        try:
            yield connection
        finally:
            self._give_back()

    def _patiently(self, work: Callable[[], T], deadline: float) -> T:
        return patiently(work, deadline, self._pause)

    def _pause(self, seconds: float) -> None:
        self._lock.pause(seconds, self._gives_up)
        self._check_open()

    def _gives_up(self) -> bool:
        return self._has_ended
