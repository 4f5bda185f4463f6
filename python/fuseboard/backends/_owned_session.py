"""A session that may hold its namespace's lock, and gives it back however it ends.

Rules:
* The calls, the commit and the rollback of a session exclude each other, whichever threads they come from.
* A session that has ended does nothing any more: a call that was given up can't take the lock after its rollback.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from threading import TIMEOUT_MAX, Lock
from typing import TYPE_CHECKING, Final

from fuseboard._errors import BackendError, BackendTimeout

if TYPE_CHECKING:
    from fuseboard.backends import Answer, HostCall
    from fuseboard.backends._locks import OwnedLock

LOCKED: Final = "another invocation of this plugin was writing until the deadline"
ENDED: Final = "this session has ended"


class OwnedSession(ABC):
    """What is the same in all sessions that write one after the other."""

    def __init__(self, lock: OwnedLock) -> None:
        self._lock = lock
        self._turn = Lock()
        self._has_ended = False

    def answer(self, call: HostCall, deadline: float) -> Answer:
        """Serve one call."""
        with self._turn:
            self._check_open()
            return self._answer(call, deadline)

    def commit(self, deadline: float) -> None:
        """Make the writes lasting, and end."""
        with self._turn:
            self._check_open()
            try:
                self._commit(deadline)
            finally:
                self._end()

    def rollback(self) -> None:
        """Forget the writes, and end."""
        self._has_ended = True
        self._stop()  # an answer that nobody waits for any more
        with self._turn:
            self._end()

    def _stop(self) -> None:
        self._lock.look_again()

    def _check_open(self) -> None:
        if self._has_ended:
            raise BackendError(ENDED)

    def _take_lock(self, deadline: float) -> None:
        if not self._lock.take(self, seconds_until(deadline), lambda: self._has_ended):
            raise BackendTimeout(LOCKED)

    def _end(self) -> None:
        self._has_ended = True
        try:
            self._forget()
        finally:
            self._lock.give_back(self)

    @abstractmethod
    def _answer(self, call: HostCall, deadline: float) -> Answer: ...

    @abstractmethod
    def _commit(self, deadline: float) -> None: ...

    @abstractmethod
    def _forget(self) -> None:
        """Undo what isn't committed; nothing to do after a commit."""


def seconds_until(deadline: float) -> float:
    """Return how long a wait until the deadline may take."""
    return min(max(0.0, deadline - time.monotonic()), TIMEOUT_MAX)


def unserved(backend: str, call: HostCall) -> TypeError:
    """Return what is raised for a call of another kind."""
    return TypeError(f"{backend} doesn't serve {type(call).__name__}")
