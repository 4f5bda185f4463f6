"""Forks of the process: the child begins with nothing of what runs in the parent. The core waits for guests at work.

Rules:
* What has locks, threads or connections has `after_fork_in_child`, which replaces them without touching the old:
  whoever held a lock isn't in the child, and what a connection says, the parent hears too.
* Nothing is registered before there is a host.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Final, Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """What must be made anew in a child."""

    def after_fork_in_child(self) -> None:
        """Make it usable in a process that was just forked."""


_watched: Final[WeakSet[Forkable]] = WeakSet()


def watch(forkable: Forkable) -> None:
    """Have this called in children, as long as it lives."""
    _register()
    _watched.add(forkable)


@cache
def _register() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_in_child)


def _after_in_child() -> None:
    for forkable in tuple(_watched):
        forkable.after_fork_in_child()
