"""A lock that knows who holds it.

Rule: whoever may hold it gives it back, and giving back what one doesn't hold does nothing. So an interrupt
between taking a lock and noting that one has it loses no lock. Nor may one come inside of a condition's own `with`,
which is Python code: it would leave the condition locked for all other threads. An `RLock`'s is not.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition, RLock


class OwnedLock:
    """A lock that is held by an object, from whichever threads that is used."""

    __slots__ = ("_freed", "_lock", "_owner")

    def __init__(self) -> None:
        self._lock = RLock()
        self._freed = Condition(self._lock)
        self._owner: object | None = None

    def take(self, owner: object, seconds: float, gives_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the lock, at most this long, or until who wants it gives up, and return whether it is theirs now."""
        with self._lock:
            if self._owner is owner:
                return True
            self._freed.wait_for(lambda: self._owner is None or gives_up(), seconds)
            if self._owner is None and not gives_up():
                self._owner = owner
            return self._owner is owner

    def pause(self, seconds: float, gives_up: Callable[[], bool]) -> None:
        """Wait this long for what isn't ours to know of, or until who waits gives up."""
        with self._lock:
            self._freed.wait_for(gives_up, seconds)

    def look_again(self) -> None:
        """Have all that wait look whether they give up."""
        with self._lock:
            self._freed.notify_all()

    def is_held_by(self, owner: object) -> bool:
        """Return whether it is the owner's."""
        return self._owner is owner

    def while_held_by(self, owner: object, action: Callable[[], None]) -> None:
        """Do something quick where it is the owner's, which it stays meanwhile."""
        with self._lock:
            if self._owner is owner:
                action()

    def give_back(self, owner: object) -> None:
        """Free the lock where it is the owner's."""
        with self._lock:
            if self._owner is owner:
                self._owner = None
                self._freed.notify_all()  # one alone might be about to give up
