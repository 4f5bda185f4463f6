"""Counts the calls that run, so that closing a host can refuse new ones and wait for these."""

from __future__ import annotations

import threading
from types import TracebackType

from fuseboard._errors import HostClosed, UsageError


class RunningCalls:
    """The calls of one host; a context manager around each of them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._is_closed = False
        self._own = threading.local()

    def check_open(self) -> None:
        """Raise `HostClosed` where the host is closed."""
        if self._is_closed:
            raise HostClosed

    def __enter__(self) -> None:
        with self._changed:
            self.check_open()
            self._count += 1
        self._own.depth = getattr(self._own, "depth", 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._own.depth -= 1
        with self._changed:
            self._count -= 1
            if self._is_closed:
                self._changed.notify_all()

    def close(self, seconds: float) -> bool:
        """Refuse new calls, wait for the running ones, at most this long, and return whether they have ended.

        Raises:
            UsageError: called from inside of a call.
        """
        if getattr(self._own, "depth", 0):
            raise UsageError("a host can't be closed from inside of one of its calls: it would wait for itself")
        with self._changed:
            self._is_closed = True
            return self._changed.wait_for(lambda: self._count == 0, seconds)
