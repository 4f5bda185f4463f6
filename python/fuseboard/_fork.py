"""Forks of the process: the child begins with nothing of what runs in the parent. The core waits for guests at work.

Rules:
* What has locks, threads or connections has `after_fork_in_child`, which replaces them without touching the old:
  whoever held a lock isn't in the child, and what a connection says, the parent hears too.
* Nothing is registered before there is a host.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from threading import Lock
from typing import Final, Protocol, runtime_checkable
from weakref import WeakSet


@runtime_checkable
class Forkable(Protocol):
    """What must be made anew in a child."""

    def after_fork_in_child(self) -> None:
        """Make it usable in a process that was just forked."""


_log = logging.getLogger("fuseboard")
_registering: Final = Lock()
_watched: Final[WeakSet[Forkable]] = WeakSet()


def watch(forkable: Forkable) -> None:
    """Have this called in children, as long as it lives."""
    with _registering:  # the cache alone lets two threads register twice
        _register_once()
    _watched.add(forkable)


@cache
def _register_once() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_in_child)


def _after_in_child() -> None:
    for forkable in tuple(_watched):
        make_anew(forkable)


def make_anew(forkable: Forkable) -> None:
    """Make one thing usable in the child; what it raises is logged, and the others still get their turn."""
    try:
        forkable.after_fork_in_child()
    except Exception:  # noqa: BLE001  an application's own may raise anything; it is logged
        _log.exception("after a fork, %r can't be made anew", forkable)
