"""Asks a PostgreSQL server to stop what a connection runs, on a thread: it may take longer than anybody waits.

Rules:
* Few are asked at once; the time limit of a statement ends it, too.
* A libpq before 17 isn't asked: it holds the GIL meanwhile.
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
    """How many servers are being asked to stop something, in this process."""

    def __init__(self) -> None:
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Begin with none: threads aren't inherited."""
        self.places = BoundedSemaphore(_MOST)


cancelling = _Cancelling()


def cancel(pgconn: pq.abc.PGconn) -> Signal | None:
    """Begin to ask, and return what happens when the server has been told; `None` where it isn't asked."""
    if not capabilities.has_cancel_safe() or not cancelling.places.acquire(blocking=False):
        return None
    told = Signal()
    try:
        start_new_thread(_ask, (pgconn.cancel_conn(), told))
    except (psycopg.Error, RuntimeError):  # it never was connected, or there are no more threads
        cancelling.places.release()
        return None
    return told


def _ask(asking: pq.abc.PGcancelConn, told: Signal) -> None:
    try:
        with suppress(psycopg.Error, BackendError):
            run(_asked(asking), time.monotonic() + _SECONDS)
    finally:
        cancelling.places.release()
        told.happen()


def _asked(asking: pq.abc.PGcancelConn) -> Flow[None]:
    asking.start()
    while (step := asking.poll()) not in {pq.PollingStatus.OK, pq.PollingStatus.FAILED}:
        yield Io(asking.socket, reads=step == pq.PollingStatus.READING, writes=step == pq.PollingStatus.WRITING)
