"""The two kinds of session on PostgreSQL: both run the flows of one transaction, and hold no rule of their own."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final

from fuseboard.backends._postgres_waits import run, run_async

if TYPE_CHECKING:
    from fuseboard.backends import Answer, HostCall
    from fuseboard.backends._postgres_transaction import Transaction

_SOONER_SECONDS: Final = 0.02
"""How much sooner than the host a commit gives up: so that it can say, from a thread too, that it is in doubt."""


class PostgresSession:
    """A session of a `Host`, or a plain one of an `AsyncHost`: its calls exclude each other, whatever their threads."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._turn = Lock()

    def answer(self, call: HostCall, deadline: float) -> Answer:
        """Serve one call."""
        with self._turn:
            return run(self._transaction.answer(call, deadline), deadline)

    def commit(self, deadline: float) -> None:
        """Make the writes lasting, and end."""
        with self._turn:
            try:
                run(self._transaction.commit(deadline), deadline - _SOONER_SECONDS)
            finally:
                self._transaction.end()

    def rollback(self) -> None:
        """Forget the writes, and end."""
        if not self._turn.acquire(blocking=False):
            self._transaction.hang_up()
            self._turn.acquire()
        try:
            self._transaction.end()
        finally:
            self._turn.release()


class AsyncPostgresSession:
    """A session of an `AsyncHost`."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def answer(self, call: HostCall, deadline: float) -> Answer:
        """Serve one call."""
        return await run_async(self._transaction.answer(call, deadline), deadline)

    async def commit(self, deadline: float) -> None:
        """Make the writes lasting, and end."""
        try:
            await run_async(self._transaction.commit(deadline), deadline - _SOONER_SECONDS)
        finally:
            self._transaction.end()

    async def rollback(self) -> None:
        """Forget the writes, and end."""
        self._transaction.end()
