"""Where breakers' states are kept: the protocol, and this process's memory.

Rules:
* A store is asked at each invocation and never waits: one that is shared by processes answers from a copy of its own.
* A breaker of which no invocation asked for the length of a window, and which lets one through since then, is as good
  as none. It is dropped when there are many: scopes come and go.
* A window is a few buckets: its memory doesn't grow with the invocations in it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from threading import Lock
from typing import Final, Protocol

import msgspec

from fuseboard._breaker import BreakerKey, Counts, Status

_BUCKETS: Final = 10
_FEW: Final = 1_024


class BreakerStore(Protocol):
    """Where breakers' states are kept."""

    def status(self, key: BreakerKey, now: float) -> Status | None:
        """Return a breaker's status to an invocation, if there is one."""

    def begin(self, key: BreakerKey, now: float, initial: Status) -> Status:
        """Give a breaker its first status, and return that; or the one that somebody gave it meanwhile."""

    def find(self, key: BreakerKey) -> Status | None:
        """Return a breaker's status, if there is one; to be looked at keeps none alive."""

    def swap(self, key: BreakerKey, old: Status, new: Status | None) -> bool:
        """Replace a status where it is still `old`, by none to forget it; empty its window; return whether it was."""

    def count(self, key: BreakerKey, status: Status, now: float, *, trapped: bool) -> Counts | None:
        """Count one invocation in where the status is still this one; return what is in the window if it trapped."""

    def counts(self, key: BreakerKey, now: float) -> Counts:
        """Return what is in the window."""

    def known(self) -> Collection[BreakerKey]:
        """Return whose breakers there are."""

    def after_fork_in_child(self) -> None:
        """Make the store usable in a process that was just forked: who held its lock may not be there."""


class MemoryBreakerStore:
    """Keeps the breakers of one host."""

    def __init__(self, window_seconds: float) -> None:
        self._bucket_seconds = window_seconds / _BUCKETS
        self._lock = Lock()
        self._cells: dict[BreakerKey, _Cell] = {}
        self._sweep_above = _FEW

    def status(self, key: BreakerKey, now: float) -> Status | None:
        """Return a breaker's status to an invocation, if there is one."""
        cell = self._cells.get(key)
        if cell is None:
            return None
        cell.asked_at = now
        return cell.status

    def begin(self, key: BreakerKey, now: float, initial: Status) -> Status:
        """Give a breaker its first status, and return that; or the one that somebody gave it meanwhile."""
        with self._lock:
            if len(self._cells) >= self._sweep_above:
                self._sweep(now)
            cell = self._cells.setdefault(key, _Cell(initial, self._bucket_seconds))
            cell.asked_at = now
            return cell.status

    def find(self, key: BreakerKey) -> Status | None:
        """Return a breaker's status, if there is one; to be looked at keeps none alive."""
        cell = self._cells.get(key)
        return None if cell is None else cell.status

    def swap(self, key: BreakerKey, old: Status, new: Status | None) -> bool:
        """Replace a status where it is still `old`, by none to forget it; empty its window; return whether it was."""
        with self._lock:
            cell = self._cells.get(key)
            if cell is None or cell.status is not old:
                return False
            if new is None:
                del self._cells[key]
            else:
                self._cells[key] = _Cell(new, self._bucket_seconds)
                self._cells[key].asked_at = cell.asked_at
            return True

    def count(self, key: BreakerKey, status: Status, now: float, *, trapped: bool) -> Counts | None:
        """Count one invocation in where the status is still this one; return what is in the window if it trapped."""
        cell = self._cells.get(key)
        if cell is None or cell.status is not status:
            return None
        if not trapped and now < cell.until:  # no lock: a race between two threads would cost one count
            cell.newest.invocations += 1
            return None
        with self._lock:
            cell.add(now, trapped=trapped)
            return cell.counts(now) if trapped else None

    def counts(self, key: BreakerKey, now: float) -> Counts:
        """Return what is in the window."""
        with self._lock:
            cell = self._cells.get(key)
            return Counts(0, 0) if cell is None else cell.counts(now)

    def known(self) -> tuple[BreakerKey, ...]:
        """Return whose breakers there are."""
        with self._lock:
            return tuple(self._cells)

    def after_fork_in_child(self) -> None:
        """Take a new lock: who held the old one may not be in this process."""
        self._lock = Lock()

    def _sweep(self, now: float) -> None:
        oldest = now - _BUCKETS * self._bucket_seconds
        for key, cell in tuple(self._cells.items()):
            if cell.asked_at < oldest and cell.status.until < oldest:
                del self._cells[key]
        self._sweep_above = max(_FEW, 2 * len(self._cells))


class _Cell:
    """A status with its window."""

    __slots__ = ("_bucket_seconds", "_buckets", "asked_at", "newest", "status", "until")

    def __init__(self, status: Status, bucket_seconds: float) -> None:
        self.status = status
        self.asked_at = math.inf
        self._bucket_seconds = bucket_seconds
        self.newest = _Bucket(0)
        self.until = -math.inf
        self._buckets: deque[_Bucket] = deque(maxlen=_BUCKETS)

    def add(self, now: float, *, trapped: bool) -> None:
        if now >= self.until:  # whoever looked at the clock earlier may come later
            self._begin_bucket(int(now / self._bucket_seconds))
        self.newest.invocations += 1
        if trapped:
            self.newest.traps += 1

    def counts(self, now: float) -> Counts:
        oldest = int(now / self._bucket_seconds) - _BUCKETS
        seen = [bucket for bucket in self._buckets if bucket.number > oldest]
        return Counts(sum(bucket.invocations for bucket in seen), sum(bucket.traps for bucket in seen))

    def _begin_bucket(self, number: int) -> None:
        self.newest = _Bucket(number)
        self._buckets.append(self.newest)
        self.until = (number + 1) * self._bucket_seconds


class _Bucket(msgspec.Struct):
    """A tenth of a window."""

    number: int
    invocations: int = 0
    traps: int = 0
