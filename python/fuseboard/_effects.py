"""What the flow asks of its driver: the only ways in which an invocation waits.

Rules:
* The flow yields an effect and is sent its result, or thrown the exception that performing it raised.
* What can't wait needn't be an effect: a guest's first slice, of a module that is known to be quick, is none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fuseboard._hostcalls import HostCall

if TYPE_CHECKING:
    from fuseboard._core import Execution
    from fuseboard._slots import Ticket
    from fuseboard.backends import Session
else:
    Execution = Session = Ticket = Any

T = TypeVar("T")


class Pause(msgspec.Struct, frozen=True):
    """Let others have their turn, where somebody waits for it. Result: `None`."""


class Acquire(msgspec.Struct, frozen=True):
    """Wait until the ticket is held, or the deadline. Result: `None`."""

    ticket: Ticket
    deadline: float


class Continue(msgspec.Struct, frozen=True):
    """Move on a guest whose next slice may take milliseconds. Result: a step."""

    execution: Execution
    deadline: float


class Sleep(msgspec.Struct, frozen=True):
    """Wait until a time on the services' clock. Result: `None`."""

    until: float


class Open(msgspec.Struct, frozen=True):
    """Wait for a session that is opened by a coroutine. Result: the session."""

    opening: Awaitable[Session]
    deadline: float


class Ask(msgspec.Struct, frozen=True):
    """Have a backend serve a call. Result: its answer."""

    session: Session
    call: HostCall
    deadline: float


class Commit(msgspec.Struct, frozen=True):
    """Commit a session. Result: `None`."""

    session: Session
    deadline: float


class Rollback(msgspec.Struct, frozen=True):
    """Roll a session back. Result: `None`."""

    session: Session
    deadline: float


Effect = Pause | Acquire | Continue | Sleep | Open | Ask | Commit | Rollback
Flow = Generator[Effect, Any, T]
