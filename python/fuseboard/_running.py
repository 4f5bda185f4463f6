"""Counts the calls that run, so that closing a host can refuse new ones and wait for these.

Rule: an interrupt may come between any two instructions. A call is noted inside of the `try` that removes
it, and removed by one operation.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from threading import Condition, Lock, get_ident
from typing import Any, TypeVar

from fuseboard._effects import Flow
from fuseboard._errors import HostClosed, UsageError
from fuseboard._sessions import Services

T = TypeVar("T")


class RunningCalls:
    """The calls of one host."""

    def __init__(self) -> None:
        self._is_closed = False
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Begin with no calls: those that run, run in the parent."""
        self._lock = Lock()
        self._ended = Condition(self._lock)
        self._callers: dict[object, object] = {}

    def check_open(self) -> None:
        """Raise `HostClosed` where the host is closed."""
        if self._is_closed:
            raise HostClosed

    def run(self, drive: Callable[[Flow[T], Services], T], flow: Flow[T], services: Services) -> T:
        """Drive the flow of a call, and return what it gives.

        Raises:
            HostClosed: the host is closed.
        """
        try:
            self._callers[flow] = get_ident()
            if self._is_closed:  # not before: closing must see the call, or the call that it is closed
                raise HostClosed
            return drive(flow, services)
        finally:
            self._callers.pop(flow, None)
            if self._is_closed:
                self._tell_closing()

    async def run_async(self, work: Coroutine[Any, Any, T], task: object) -> T:
        """Make a call in a task, and return what it gives. Errors are those of `run`."""
        call = object()
        try:
            self._callers[call] = task
            self.check_open()
            return await work
        finally:
            work.close()  # where it never began
            self._callers.pop(call, None)
            if self._is_closed:
                self._tell_closing()

    def _tell_closing(self) -> None:
        with self._lock:
            self._ended.notify_all()

    def is_running(self, caller: object) -> bool:
        """Return whether a thread, by its number, or a task is in a call."""
        return caller in self._callers.values()

    def close(self, seconds: float, *, is_inside: bool) -> bool:
        """Refuse new calls, wait for the running ones, at most this long, and return whether they have ended.

        Raises:
            UsageError: called from inside of a call: as the caller says, or on a thread that makes one.
        """
        if is_inside or self.is_running(get_ident()):
            raise UsageError("a host can't be closed from inside of one of its calls: it would wait for itself")
        with self._lock:
            self._is_closed = True
            return self._ended.wait_for(lambda: not self._callers, seconds)
