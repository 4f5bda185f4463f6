"""Counts the calls that run, so that closing a host can refuse new ones and wait for these.

Rule: an interrupt may come between any two instructions. A call is noted inside of the `try` that removes
it, and removed by one operation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from fuseboard._errors import HostClosed, UsageError

T = TypeVar("T")


class RunningCalls:
    """The calls of one host."""

    def __init__(self) -> None:
        self._ended = threading.Condition()
        self._threads: dict[object, int] = {}
        self._is_closed = False

    def check_open(self) -> None:
        """Raise `HostClosed` where the host is closed."""
        if self._is_closed:
            raise HostClosed

    def run(self, work: Callable[[], T]) -> T:
        """Make a call, and return what it gives.

        Raises:
            HostClosed: the host is closed.
        """
        call = object()
        try:
            self._threads[call] = threading.get_ident()
            self.check_open()  # not before: closing must see the call, or the call that it is closed
            return work()
        finally:
            self._threads.pop(call, None)
            if self._is_closed:
                with self._ended:
                    self._ended.notify_all()

    def close(self, seconds: float) -> bool:
        """Refuse new calls, wait for the running ones, at most this long, and return whether they have ended.

        Raises:
            UsageError: called from inside of a call.
        """
        if threading.get_ident() in self._threads.values():
            raise UsageError("a host can't be closed from inside of one of its calls: it would wait for itself")
        with self._ended:
            self._is_closed = True
            return self._ended.wait_for(lambda: not self._threads, seconds)
