"""What the flow asks of its driver: the only ways in which an invocation touches the world.

Rules:
* The flow yields an effect and is sent its result, or thrown the exception that performing it raised.
* What can't wait needn't be an effect.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fuseboard._hostcalls import HostCall, Reply
from fuseboard._outcome import Outcome

if TYPE_CHECKING:
    from fuseboard._core import Execution
    from fuseboard.backends import Session
else:
    Execution = Session = Any

T = TypeVar("T")


class Resume(msgspec.Struct, frozen=True):
    """Move the guest on, with the reply that it waits for if it waits. Result: a step."""

    execution: Execution
    reply: Reply | None = None


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


class Report(msgspec.Struct, frozen=True):
    """Log a settled outcome and tell the application. Result: `None`."""

    outcome: Outcome


Effect = Resume | Ask | Commit | Rollback | Report
Flow = Generator[Effect, Any, T]
