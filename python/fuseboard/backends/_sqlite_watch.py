"""Interrupts statements at their deadlines, from a thread that sleeps until the first of them.

Rules:
* SQLite looks at an interrupt whenever a loop of its program begins again, and takes no time for it. To ask Python
  instead, every few opcodes, would wait for the GIL each time: beside a busy thread, 5 ms.
* What has ended isn't interrupted: who watches and who ends a statement hold one lock.
* The thread ends when there was nothing to watch for a while.
"""

from __future__ import annotations

import time
from functools import cache
from threading import Condition, Thread
from typing import Final, Protocol

from fuseboard.backends._fork_gate import fork_gate

IDLE_SECONDS: Final = 1.0


class Stoppable(Protocol):
    """What runs one statement at a time."""

    def stop(self) -> None:
        """End it at once."""


class Watch:
    """The statements that run in this process and have a deadline."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._changed = Condition()
        self._watched: dict[Stoppable, float] = {}
        self._thread: Thread | None = None
        self._wakes = 0.0

    def begin(self, running: Stoppable, deadline: float) -> None:
        """Have a statement stopped at its deadline, unless it has ended."""
        with self._changed:
            self._watched[running] = deadline
            if self._thread is None:
                self._thread = Thread(target=self._run, name="fuseboard-sqlite-watch", daemon=True)
                self._thread.start()
            elif deadline < self._wakes:
                self._changed.notify()

    def end(self, running: Stoppable) -> None:
        """Leave alone what has ended."""
        with self._changed:
            self._watched.pop(running, None)

    def before_fork(self) -> None:
        """Do nothing: a thread stays where it is."""

    def after_fork_in_child(self) -> None:
        """Begin anew: the thread isn't here."""
        self._begin()

    def _run(self) -> None:
        changed = self._changed
        with changed:
            while True:
                now = time.monotonic()
                self._stop_late(now)
                is_idle = not self._watched
                self._wakes = min(self._watched.values(), default=now + IDLE_SECONDS)
                changed.wait(min(self._wakes - now, IDLE_SECONDS))
                if is_idle and not self._watched:
                    self._thread = None
                    return

    def _stop_late(self, now: float) -> None:
        for running in [running for running, deadline in self._watched.items() if deadline <= now]:
            del self._watched[running]
            running.stop()


@cache
def watch() -> Watch:
    """Return the watch of this process."""
    made = Watch()
    fork_gate().watch(made)
    return made
