"""What the flows of a key-value store in Redis yield and are thrown, and what the replies to scripts look like.

Rules:
* A flow says what is sent, how long it waits, and for whose turn; a driver does it and knows no more.
* A reply that hasn't the shape of its command's is rubbish, and the connection that it came on is closed.
* A script is sent by its digest; Redis answers that it doesn't know it before anything was done, so it is sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends._owned_session import LOCKED
from fuseboard.backends._redis_names import Names, Script

ENVELOPE_BYTES: Final = 64 << 10
"""How large a reply gets beside the values that it holds."""

T = TypeVar("T")


class Send(NamedTuple):
    """An effect: send one command, and give back the reply; raises `StoreFailure`.

    Attributes:
        command: its words.
        fits: tells a reply of the right shape from rubbish.
        most_bytes: the largest reply that is read.
    """

    command: tuple[bytes | str | int, ...]
    fits: Callable[[Any], bool]
    most_bytes: int


class Pause(NamedTuple):
    """An effect: wait so long."""

    seconds: float


class Turn(NamedTuple):
    """An effect: wait for one's turn among this process's invocations that want the namespace's lock."""


Effect = Send | Pause | Turn
Flow = Generator[Effect, Any, T]


class StoreFailure(Exception):
    """What became of a command that got no good reply.

    Attributes:
        error: what the guest is answered.
        may_be_done: it was sent, and no answer came.
        is_unknown_script: Redis doesn't know the script yet.
    """

    def __init__(self, error: BackendError, *, may_be_done: bool = False, is_unknown_script: bool = False) -> None:
        self.error = error
        self.may_be_done = may_be_done
        self.is_unknown_script = is_unknown_script
        super().__init__(error.reason)


@dataclass(slots=True)
class Space:
    """A namespace, as far as this process knows it.

    Attributes:
        names: its keys.
        queue: whose turn it is; of the driver's own kind.
        used: how many bytes it had when that was last heard, or `None`.
    """

    names: Names
    queue: Any
    used: int | None = None


def run(
    script: Script,
    keys: tuple[bytes, ...],
    arguments: tuple[bytes | int, ...],
    verdicts: Container[bytes],
    most_bytes: int = ENVELOPE_BYTES,
) -> Flow[Any]:
    """Have a script run, and return its verdict, which is one of these, and what comes with it."""
    words, fits = (len(keys), *keys, *arguments), partial(is_verdict, among=verdicts)
    try:
        return (yield Send(("EVALSHA", script.digest, *words), fits, most_bytes))
    except StoreFailure as failure:
        if not failure.is_unknown_script:
            raise
    return (yield Send(("EVAL", script.text, *words), fits, most_bytes))


def late() -> StoreFailure:
    """Return the failure of who waited for the lock until the deadline."""
    return StoreFailure(BackendTimeout(LOCKED))


# ── the shapes of replies ────────────────────────────────────────────────────────────────────────

_VERDICTS: Final[dict[bytes, Callable[[list[Any]], bool]]] = {
    b"held": lambda rest: len(rest) == 2 and is_value(rest[0]) and isinstance(rest[1], int),  # noqa: PLR2004
    b"locked": lambda rest: len(rest) == 1,
    b"fits": lambda rest: len(rest) == 1 and isinstance(rest[0], int),
    b"done": lambda rest: len(rest) == 1 and isinstance(rest[0], int),
    b"lost": lambda rest: not rest,
    b"full": lambda rest: not rest,
    b"free": lambda rest: len(rest) == 1 and isinstance(rest[0], int),
}


def is_value(reply: object) -> bool:
    """Return whether this is a value, or none."""
    return reply is None or isinstance(reply, bytes)


def is_verdict(reply: object, among: Container[bytes]) -> bool:
    """Return whether a script can have answered this, asked for one of these verdicts."""
    if not isinstance(reply, list) or not reply or not isinstance(reply[0], bytes):
        return False
    return reply[0] in among and _VERDICTS[reply[0]](reply[1:])
