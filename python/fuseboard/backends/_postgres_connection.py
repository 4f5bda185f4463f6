"""One connection to PostgreSQL as libpq has it: how it begins, what goes over it, how it ends.

Rules:
* It is in pipeline mode: what belongs together is sent together and costs one round trip. Each statement is a message
  of its own in the extended protocol, which takes no second one.
* Rows come one by one, and are counted as they come. What would fill this process, the connection ends for.
* Nothing here waits: flows yield what they wait for. A connection whose flow was left in the middle is in doubt, and is
  closed; the server is asked to stop what it runs, on a thread that nobody waits for.
* A forked child neither speaks on it nor says goodbye.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

import psycopg
from psycopg import pq

from fuseboard._errors import BackendError
from fuseboard._limits import MIB
from fuseboard.backends import AnswerCode
from fuseboard.backends._postgres_cancel import cancel
from fuseboard.backends._postgres_line import Line
from fuseboard.backends._postgres_values import Sent
from fuseboard.backends._postgres_waits import Breath, Flow, Io, Signal, Until

_LARGEST_MESSAGE: Final = 9 * MIB
_BYTES_BETWEEN_BREATHS: Final = MIB // 2
_VALUES_BETWEEN_BREATHS: Final = 1_000
_NO_PARAMETERS: Final = Sent([], [], [])
_FAILED: Final = frozenset({pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.NONFATAL_ERROR, pq.ExecStatus.BAD_RESPONSE})
_ROW: Final = pq.ExecStatus.SINGLE_TUPLE
_ENDS: Final = frozenset({pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.PIPELINE_ABORTED}) | _FAILED


class LostError(Exception):
    """The connection can't be used any more; the text is for the operator."""


class Takes(Protocol):
    """Who takes a statement's rows."""

    def begin(self, result: pq.abc.PGresult) -> None:
        """See the columns."""

    def take(self, result: pq.abc.PGresult) -> bool:
        """Take one row, and return whether more are wanted."""


class Result(NamedTuple):
    """How a command ended.

    Attributes:
        state: the SQLSTATE of its error, or nothing.
        message: the error's, without details.
        tag: what the server says it did, e.g. `INSERT 0 2`.
        rows: of a command whose rows nobody takes.
    """

    state: str
    message: str
    tag: bytes
    rows: tuple[tuple[bytes | None, ...], ...] = ()

    @property
    def is_aborted(self) -> bool:
        """Whether a command before it failed."""
        return self.tag == b"aborted"


class Command(NamedTuple):
    """One statement to send."""

    sql: bytes
    parameters: Sent = _NO_PARAMETERS
    takes: Takes | None = None


class Connection:
    """A connection that is open.

    Attributes:
        role: who is logged in.
    """

    def __init__(self, role: str, pgconn: pq.abc.PGconn) -> None:
        self.role = role
        self._pgconn = pgconn
        self._pid = os.getpid()
        self._line: Line
        self._has_line = False
        self._breathed = 0
        self._unread = 0
        self._cancelled: Signal | None = None

    @property
    def status(self) -> pq.TransactionStatus:
        """Where its transaction is."""
        return pq.TransactionStatus(self._pgconn.transaction_status)

    def begin(self) -> None:
        """Go on to take statements, where the login is done."""
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()
        self._line = Line(self._pgconn.socket)
        self._has_line = True

    @property
    def is_of_another_process(self) -> bool:
        """Whether it was made before a fork."""
        return self._pid != os.getpid()

    # ── a round trip ─────────────────────────────────────────────────────────────────────────────

    def exchange(self, commands: list[Command]) -> Flow[list[Result]]:
        """Send commands as one, and return how each ended: after one that fails, the rest are aborted.

        Raises:
            LostError: the connection can't be used any more.
            BackendError: it was given up, for rows too large to be read to their end.
        """
        try:
            yield from self._settled()
            self.post(commands)
            self._unread -= 1
            results = []
            for command in commands:
                results.append((yield from self._result(command.takes)))  # noqa: PERF401  it yields
            yield from self._synced()
            if self._cancelled is not None:  # else it might meet the next statement
                yield Until(self._cancelled)
                self._cancelled = None
        except (psycopg.Error, OSError) as error:
            raise LostError(str(error)) from None
        return results

    def post(self, commands: list[Command]) -> None:
        """Send commands as one, whose results nobody waits for.

        Raises:
            LostError: they can't be sent.
        """
        try:
            for command in commands:
                self._pgconn.send_query_params(command.sql, *command.parameters)
            self._pgconn.pipeline_sync()
            self._unread += 1
            self._pgconn.flush()
            self._line.send()
        except (psycopg.Error, OSError) as error:
            raise LostError(str(error)) from None

    def is_alive(self) -> Flow[bool]:
        """Return whether it can be used: what was posted went well, and the server hasn't hung up."""
        try:
            yield from self._settled()
            while self._line.receive():  # a server's last word, and that it has hung up
                self._pgconn.consume_input()
        except (psycopg.Error, OSError, LostError):
            return False
        return self.status == pq.TransactionStatus.IDLE

    def _settled(self) -> Flow[None]:
        """Read the results of what was posted, all of which must have gone well."""
        while self._unread:
            result = yield from self._next()
            if result is not None and result.status in _FAILED:
                raise LostError(f"a connection couldn't be cleaned: {_message(result)}")
            if result is not None and result.status == pq.ExecStatus.PIPELINE_SYNC:
                self._unread -= 1

    def _result(self, takes: Takes | None) -> Flow[Result]:
        if takes is not None:
            self._pgconn.set_single_row_mode()
        wants, values, has_begun, ended = takes is not None, 0, False, Result("", "", b"")
        while (result := (yield from self._next())) is not None:
            if result.status not in _ENDS | {_ROW}:
                raise LostError(f"the server answered out of turn: {result.status}")
            if takes is not None and not has_begun and result.status in {_ROW, pq.ExecStatus.TUPLES_OK}:
                takes.begin(result)
                has_begun = True
            if result.status != _ROW:
                ended = _ended(result, keeps=takes is None)
                continue
            values += 1 + result.nfields
            if takes is not None and wants and not takes.take(result):
                wants = False
                self.cancel()
            if values > _VALUES_BETWEEN_BREATHS:
                values = 0
                yield Breath()
        return ended

    def _synced(self) -> Flow[None]:
        result = yield from self._next()
        if result is None or result.status != pq.ExecStatus.PIPELINE_SYNC:
            raise LostError("the server answered out of turn")

    def _next(self) -> Flow[pq.abc.PGresult | None]:
        pgconn, line = self._pgconn, self._line
        yield from self._sent()
        before = line.received
        while pgconn.is_busy():
            while not _readable(pgconn.socket) and not line.receive():
                yield Io(line.fileno())
            if line.received - before > _LARGEST_MESSAGE:
                raise BackendError("a row is too large to be read", code=AnswerCode.TOO_LARGE)
            if line.received - self._breathed > _BYTES_BETWEEN_BREATHS:
                self._breathed = line.received
                yield Breath()
            pgconn.consume_input()
        return pgconn.get_result()

    def _sent(self) -> Flow[None]:
        pgconn, line = self._pgconn, self._line
        while True:
            has_more = pgconn.flush()  # what the line passes on makes room for more
            if line.send() and not has_more:
                return
            yield Io(line.fileno(), reads=False, writes=True)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def cancel(self) -> None:
        """Ask the server to stop what it runs."""
        self._cancelled = cancel(self._pgconn)

    def hang_up(self) -> None:
        """Have whoever waits for the server on another thread learn that it is over."""
        if self._has_line:
            self._line.hang_up()

    def abandon(self) -> None:
        """End it in the middle of something."""
        if self.is_of_another_process:
            return
        try:
            if self.status == pq.TransactionStatus.ACTIVE:
                self.cancel()
        finally:
            self.close()

    def close(self) -> None:
        """End it."""
        if self.is_of_another_process:
            return
        self._pgconn.finish()
        if self._has_line:
            with suppress(OSError):
                self._line.send()  # its last word
            self._line.close()

    def forget(self) -> None:
        """Close this process's copies of sockets that another process goes on to use."""
        with suppress(OSError, psycopg.Error):
            os.close(self._pgconn.socket)
        if self._has_line:
            self._line.close()


def _readable(fd: int) -> int:
    """Return how many bytes wait to be read."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0])


def _ended(result: pq.abc.PGresult, *, keeps: bool) -> Result:
    if result.status == pq.ExecStatus.PIPELINE_ABORTED:
        return Result("", "", b"aborted")
    if result.status in _FAILED:
        state = result.error_field(pq.DiagnosticField.SQLSTATE) or b"08000"
        return Result(state.decode(), _message(result), b"")
    width = range(result.nfields)
    rows = tuple(tuple(result.get_value(row, at) for at in width) for row in range(result.ntuples)) if keeps else ()
    return Result("", "", result.command_status or b"", rows)


def _message(result: pq.abc.PGresult) -> str:
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    return message.decode(errors="replace").strip()
