"""Asks a server to stop what it runs for a connection, on a thread: the asking may take longer than anybody waits.

Rules:
* Few are asked at once. Who isn't asked stops by the time limit of the statement.
* A libpq before 17 would hold the GIL while it asks: with it, nobody is asked.
"""

from __future__ import annotations

import time
from _thread import start_new_thread
from contextlib import suppress
from threading import BoundedSemaphore
from typing import Final

import psycopg
from psycopg import capabilities, pq

from fuseboard._errors import BackendError
from fuseboard.backends._postgres_waits import Flow, Io, Signal, run

_SECONDS: Final = 2.0
_MOST: Final = 4


class _Cancelling:
    """How many servers are being asked, in this process."""

    def __init__(self) -> None:
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Begin with none: threads aren't inherited."""
        self._places = BoundedSemaphore(_MOST)

    def ask(self, pgconn: pq.abc.PGconn) -> Signal | None:
        """Begin to ask, and return what happens when it was asked; `None` where it isn't."""
        places = self._places
        if not capabilities.has_cancel_safe() or not places.acquire(blocking=False):
            return None
        done = Signal()
        try:
            start_new_thread(_run, (pgconn.cancel_conn(), places, done))
        except (psycopg.Error, RuntimeError):  # no memory, no thread
            places.release()
            return None
        return done


cancelling = _Cancelling()


def _run(cancel: pq.abc.PGcancelConn, places: BoundedSemaphore, done: Signal) -> None:
    try:
        with suppress(psycopg.Error, BackendError):
            run(_asked(cancel), time.monotonic() + _SECONDS)
    finally:
        places.release()
        done.happen()


def _asked(cancel: pq.abc.PGcancelConn) -> Flow[None]:
    cancel.start()
    while (step := cancel.poll()) not in {pq.PollingStatus.OK, pq.PollingStatus.FAILED}:
        yield Io(cancel.socket, reads=step == pq.PollingStatus.READING, writes=step == pq.PollingStatus.WRITING)
