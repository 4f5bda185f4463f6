"""One invocation's use of PostgreSQL: one transaction, each statement in a savepoint of its own.

Rules:
* The transaction reads one state from its first statement on (REPEATABLE READ); who would change what another has
  changed since has a CONFLICT. It begins with the first statement and costs no round trip of its own.
* A query runs read-only and is undone after it, back to the savepoint, where the next statement begins. One that fails
  leaves what was written before, and the session goes on: the next message begins with the way back.
* Each statement has the server end it shortly before the deadline, so that the connection lives, and the call waits
  for the deadline itself; where the server doesn't, we end the connection.
* A session that only read isn't committed, it is undone. Undoing, and cleaning the connection (`DISCARD ALL`), is sent
  and not waited for: who borrows the connection next reads how it went.
"""

from __future__ import annotations

import logging
import time
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Protocol

from psycopg import pq

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends import AnswerCode, DbChanged, DbExec, DbQuery, DbRows, HostCall
from fuseboard.backends._database import check_statement
from fuseboard.backends._owned_session import unserved
from fuseboard.backends._postgres_connection import Command, Connection, LostError, Result
from fuseboard.backends._postgres_rows import NoRows, Rows
from fuseboard.backends._postgres_sql import check_call
from fuseboard.backends._postgres_values import CANCELED, as_backend_error, sent
from fuseboard.backends._postgres_waits import Flow, Signal, Until

if TYPE_CHECKING:
    from fuseboard.backends import Answer

_BEGIN: Final = Command(b"BEGIN ISOLATION LEVEL REPEATABLE READ")
_BEGIN_READ_ONLY: Final = Command(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
_SAVE: Final = Command(b"SAVEPOINT fuseboard")
_READ_ONLY: Final = Command(b"SET LOCAL transaction_read_only = on")
_UNDO: Final = Command(b"ROLLBACK TO SAVEPOINT fuseboard")
_KEEP: Final = Command(b"RELEASE SAVEPOINT fuseboard")
_COMMIT: Final = Command(b"COMMIT")
_ROLLBACK: Final = Command(b"ROLLBACK")
_CLEAN: Final = Command(b"DISCARD ALL")

_SPARED_SECONDS: Final = 0.004
"""How much sooner than we the server gives up: its word is to be here by the deadline."""

_CHANGES: Final = frozenset({b"INSERT", b"UPDATE", b"DELETE"})
_IN_DOUBT: Final = "it isn't known whether the writes were kept: the answer to the commit is missing"

_log = logging.getLogger("fuseboard")


class Holder(Protocol):
    """Who uses a connection."""

    def hold(self, connection: Connection) -> None:
        """Have it, before anything is waited for on it."""

    def let_go(self) -> None:
        """End what one has, which is in doubt, and give its place back."""


class Connections(Protocol):
    """Who lends connections of one namespace."""

    def lent(self, owner: Holder) -> Flow[Connection]:
        """Return a connection, idle or new, that is the owner's until it gives it back."""

    def withdraw(self, owner: Holder) -> None:
        """Have an owner that waits for its turn learn that it is over."""

    def give_back(self, owner: Holder, connection: Connection | None) -> None:
        """End an owner's use of its place; a connection that can be used again comes along."""


class Transaction:
    """One invocation's transaction.

    Args:
        connections: the namespace's.
        names: what log records say of whose it is.
        writes: whether writing is granted.
    """

    def __init__(self, connections: Connections, names: dict[str, Any], *, writes: bool) -> None:
        self._connections = connections
        self._names = names
        self._may_write = writes
        self._has_asked = False
        self._has_begun = False
        self._is_saved = False
        self._has_written = False
        self._is_lost = False
        self._connection: Connection | None = None
        self._lock = Lock()
        self.has_ended = False

    # ── statements ───────────────────────────────────────────────────────────────────────────────

    def answer(self, call: HostCall, deadline: float) -> Flow[Answer]:
        """Serve one call."""
        if not isinstance(call, DbQuery | DbExec):
            raise unserved("Postgres", call)
        if isinstance(call, DbExec) and not self._may_write:
            raise BackendError("writing to the database is not granted", code=AnswerCode.DENIED)
        check_statement(call)
        yield from check_call(call.sql, len(call.parameters))
        self._check_open()
        connection = yield from self._borrowed()
        rows: Rows | NoRows = Rows() if isinstance(call, DbQuery) else NoRows()
        statement = Command(_encoded(call.sql), sent(call.parameters), rows)
        before = self._before(connection, deadline, reads=isinstance(call, DbQuery))
        after = [_UNDO] if isinstance(call, DbQuery) else [_KEEP]
        results = yield from self._exchanged(connection, [*before, statement, *after])
        yield from self._checked(results, len(before), rows)
        if isinstance(rows, Rows):
            return DbRows(rows.columns, rows.rows())
        self._has_written = True
        self._is_saved = False
        return DbChanged(_changed(results[len(before)].tag))

    def _before(self, connection: Connection, deadline: float, *, reads: bool) -> list[Command]:
        commands = []
        if not self._has_begun:
            commands += [_BEGIN if self._may_write else _BEGIN_READ_ONLY, _SAVE]
            self._has_begun = True
        elif connection.status == pq.TransactionStatus.INERROR:
            commands.append(_UNDO)
        elif not self._is_saved:
            commands.append(_SAVE)
        self._is_saved = True
        commands.append(_time_limit(deadline))
        return [*commands, _READ_ONLY] if reads and self._may_write else commands

    def _checked(self, results: list[Result], place: int, rows: Rows | NoRows) -> Flow[None]:
        """Raise what a statement failed by; any other command that fails is no fault of the guest's."""
        failed = next((at for at, result in enumerate(results) if result.state), None)
        if failed is not None and failed != place and results[failed].state != CANCELED:
            raise self._lost(LostError(f"{results[failed].message} ({results[failed].state})"))
        if rows.problem is not None:
            raise rows.problem
        if failed is not None and results[failed].state == CANCELED:
            yield Until(Signal())  # the server gave up a little early: the deadline is still to come
        if failed is not None:
            error = as_backend_error(results[failed].state, results[failed].message)
            if error.code == AnswerCode.BACKEND_FAILED and not isinstance(error, BackendTimeout):
                self._warn(results[failed].message)
            raise error

    def _exchanged(self, connection: Connection, commands: list[Command]) -> Flow[list[Result]]:
        try:
            results = yield from connection.exchange(commands)
        except LostError as error:
            raise self._lost(error) from None
        except BaseException:
            self._drop()
            raise
        if connection.status not in {pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR}:
            raise self._lost(LostError("the server is in no transaction any more"))
        return results

    def _borrowed(self) -> Flow[Connection]:
        if self._connection is not None:
            return self._connection
        self._has_asked = True
        try:
            connection = yield from self._connections.lent(self)
        except LostError as error:
            self._warn(str(error))
            self.let_go()
            raise BackendError("the database can't be reached") from None
        except BaseException:
            self.let_go()
            raise
        self._check_open()
        return connection

    def hold(self, connection: Connection) -> None:
        """Have a connection."""
        with self._lock:
            self._connection = connection

    def _check_open(self) -> None:
        if self.has_ended:
            raise BackendError("this session has ended")
        if self._is_lost or (self._connection is not None and self._connection.is_of_another_process):
            raise BackendError("this session's transaction is lost, with its connection to the database")

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def commit(self, deadline: float) -> Flow[None]:
        """Make the writes lasting."""
        self._check_open()
        connection = self._connection
        if connection is None or not self._has_written:
            return
        undo = [_UNDO] if connection.status == pq.TransactionStatus.INERROR else []
        try:
            *_, committed = yield from connection.exchange([*undo, _time_limit(deadline), _COMMIT])
        except LostError as error:
            self._lost(error)
            raise BackendError(_IN_DOUBT) from None
        except BackendTimeout:
            self._drop()
            raise BackendTimeout(_IN_DOUBT) from None
        except BaseException:
            self._drop()
            raise
        if committed.state:
            raise as_backend_error(committed.state, committed.message)
        if committed.tag != b"COMMIT":
            raise BackendError("nothing was written: the transaction had failed")

    def end(self) -> None:
        """Undo what isn't committed, and give the connection back; nothing is waited for."""
        self.has_ended = True
        if not self._has_asked:
            return
        with self._lock:
            connection, self._connection = self._connection, None
        cleaned = None
        try:
            if connection is not None and _cleaned(connection):
                cleaned = connection
        finally:  # an interrupt leaves it in doubt
            try:
                if connection is not None and cleaned is None:
                    connection.abandon()
            finally:
                self._connections.give_back(self, cleaned)

    def hang_up(self) -> None:
        """Have an answer that nobody waits for any more end."""
        self.has_ended = True
        if not self._has_asked:
            return
        with self._lock:
            if self._connection is not None:
                self._connection.hang_up()
        self._connections.withdraw(self)

    def _lost(self, error: LostError) -> BackendError:
        self._warn(str(error))
        self._drop()
        return BackendError("the connection to the database was lost")

    def _drop(self) -> None:
        self._is_lost = True
        self.let_go()

    def let_go(self) -> None:
        """End the connection, which is in doubt, and give its place back."""
        with self._lock:
            connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.abandon()
        finally:
            self._connections.give_back(self, None)

    def _warn(self, problem: str) -> None:
        _log.warning("the database failed: %s", problem, extra=self._names)


def _cleaned(connection: Connection) -> bool:
    """Send what makes a connection fit for the next, and return whether that went out."""
    if connection.is_of_another_process:
        return False
    try:
        if connection.status in {pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR}:
            connection.post([_ROLLBACK])
        elif connection.status != pq.TransactionStatus.IDLE:
            return False
        connection.post([_CLEAN])
    except LostError:
        return False
    return True


def _time_limit(deadline: float) -> Command:
    seconds = deadline - time.monotonic() - _SPARED_SECONDS
    return Command(b"SET LOCAL statement_timeout = %d" % max(1, int(seconds * 1e3)))


def _encoded(sql: str) -> bytes:
    try:
        return sql.encode()
    except UnicodeEncodeError:
        raise BackendError("the SQL has half a character", code=AnswerCode.BAD_REQUEST) from None


def _changed(tag: bytes) -> int:
    verb, _, numbers = tag.partition(b" ")
    return int(numbers.rpartition(b" ")[2]) if verb in _CHANGES else 0
