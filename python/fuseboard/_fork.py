"""Forks of the process: guests at work are waited for, and the child begins with nothing of the parent's running.

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

from fuseboard import _core


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
        os.register_at_fork(
            before=_core.before_fork,
            after_in_parent=_core.after_fork_in_parent,
            after_in_child=_after_in_child,
        )


def _after_in_child() -> None:
    _core.after_fork_in_child()
    for forkable in tuple(_watched):
        forkable.after_fork_in_child()
