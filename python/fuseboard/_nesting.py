"""Invocations inside of invocations: a function of the application that is called by a guest may dispatch again.

Rules:
* The stack is a context variable: it goes along into threads that are started with a copy of their caller's context,
  as the host's own are, and into tasks.
* An invocation that has ended isn't on the stack any more, whatever copies there are of it: a task that a function
  left behind begins with an empty one.
* Each host has its own stack, and an empty one in a forked child: its `era` tells them apart.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

MAX_DEPTH: Final = 8
"""How many invocations may be on the stack."""

_STACK: Final[ContextVar[tuple[Enclosing, ...]]] = ContextVar("fuseboard_stack", default=())


class Enclosing:
    """One invocation on the stack.

    Attributes:
        plugin: the plugin's slug.
        deadline: when it must end, on the host's clock.
        has_ended: whether it is off the stack.
    """

    __slots__ = ("_below", "deadline", "era", "has_ended", "plugin")

    def __init__(self, era: object, plugin: str, deadline: float) -> None:
        self.era = era
        self.plugin = plugin
        self.deadline = deadline
        self.has_ended = False
        self._below = tuple(one for one in _STACK.get() if not one.has_ended)

    def enter(self) -> None:
        """Put it on the stack."""
        _STACK.set((*self._below, self))

    def leave(self) -> None:
        """Take it off the stack; once more does nothing."""
        if self.has_ended:
            return
        self.has_ended = True
        _STACK.set(self._below)
        self._below = ()  # a copy of the stack somewhere must not keep what was below


def stack_of(era: object) -> tuple[Enclosing, ...]:
    """Return the invocations of a host's era that this code runs inside of, outermost first."""
    stack = _STACK.get()
    return stack and tuple(one for one in stack if one.era is era and not one.has_ended)
