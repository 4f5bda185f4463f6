"""What the flow asks of its driver: the only ways in which an invocation touches the world.

Rules:
* The flow yields an effect and is sent its result, or thrown the exception that performing it raised.
* What can't wait needn't be an effect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fuseboard._hostcalls import HostCall, Reply, Trip
from fuseboard._outcome import Outcome

if TYPE_CHECKING:
    from fuseboard._core import Execution
    from fuseboard._slots import Ticket
    from fuseboard.backends import Session
else:
    Execution = Session = Ticket = Any

T = TypeVar("T")


class Acquire(msgspec.Struct, frozen=True):
    """Wait until the ticket is held, or the deadline. Result: `None`."""

    ticket: Ticket
    deadline: float


class Resume(msgspec.Struct, frozen=True):
    """Begin the guest, or move it on with the reply that it waits for, or the trip that ends it. Result: a step."""

    execution: Execution
    reply: Reply | Trip | None = None


class Continue(msgspec.Struct, frozen=True):
    """Move on a guest whose slice was over. Result: a step."""

    execution: Execution


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


class Report(msgspec.Struct, frozen=True):
    """Log a settled outcome and tell the application. Result: `None`."""

    outcome: Outcome


Effect = Acquire | Resume | Continue | Open | Ask | Commit | Rollback | Report
Flow = Generator[Effect, Any, T]
