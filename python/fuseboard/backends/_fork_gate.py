"""Keeps forks and SQLite's work apart: SQLite's own locks, taken at a fork, stay taken in the child for ever.

Rules:
* A fork waits for what runs, and what would begin waits for the fork.
* Nobody waits for long: an application whose own fork handlers wait for a thread that waits here must not hang. After
  `PATIENCE_SECONDS` it goes on, as it would without this.
* Whoever works may begin more work inside of it: only the outermost waits for a fork. A fork doesn't wait for itself.
* Whoever begins says with what, and ends the same: so Ctrl-C between beginning and noting that leaves nothing begun.
* What a child must not inherit is closed before the fork, when nobody works any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Condition, get_ident
from typing import Final, Protocol
from weakref import WeakSet

PATIENCE_SECONDS: Final = 1.0


class Watched(Protocol):
    """What has open files that a child must not have."""

    def before_fork(self) -> None:
        """Close them; nobody works."""

    def after_fork_in_child(self) -> None:
        """Begin anew."""


class ForkGate:
    """How many forks and how many pieces of work there are in this process; never both, but for who lost patience."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._forks = 0
        self._working: dict[object, int] = {}
        self._watched: WeakSet[Watched] = WeakSet()

    def watch(self, watched: Watched) -> None:
        """Have this called at forks, as long as it lives."""
        self._watched.add(watched)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Do what a fork must not cut in two."""
        work = object()
        try:
            self.begin(work)
            yield
        finally:
            self.end(work)

    def begin(self, work: object) -> None:
        """Begin what a fork must not cut in two."""
        with self._changed:
            if get_ident() not in self._working.values():
                self._changed.wait_for(self._is_open, PATIENCE_SECONDS)
            self._working[work] = get_ident()

    def end(self, work: object) -> None:
        """End what has begun, if it has; in a child that was forked from inside it hasn't."""
        with self._changed:
            if self._working.pop(work, None) is not None and self._forks:
                self._changed.notify_all()

    def _is_open(self) -> bool:
        return not self._forks

    def before_fork(self) -> None:
        """Wait until nobody works, and keep it so."""
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: {get_ident()}.issuperset(self._working.values()), PATIENCE_SECONDS)
        for watched in tuple(self._watched):
            watched.before_fork()

    def after_fork_in_parent(self) -> None:
        """Let all go on."""
        with self._changed:
            self._forks = max(0, self._forks - 1)  # a fork that had begun when the gate was made only ends here
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Begin anew: nobody who worked or waited is here."""
        self._changed = Condition()
        self._forks = 0
        self._working = {}
        for watched in tuple(self._watched):
            watched.after_fork_in_child()


@cache
def fork_gate() -> ForkGate:
    """Return the gate of this process: SQLite has one set of locks for all of its databases."""
    gate = ForkGate()
    os.register_at_fork(
        before=gate.before_fork,
        after_in_parent=gate.after_fork_in_parent,
        after_in_child=gate.after_fork_in_child,
    )
    return gate
