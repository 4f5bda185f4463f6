"""What can be said with a dispatch, and the request that becomes of it."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict

from fuseboard._errors import UsageError
from fuseboard._invocation import Request
from fuseboard._nesting import stack_of
from fuseboard._text import SURROGATE
from fuseboard._values import encode_context

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")
_DRAWN_AT_ONCE: Final = 256
_SEED_BYTES: Final = 32


class About(TypedDict, total=False):
    """What can be said with a dispatch.

    Attributes:
        context: what plugins may know beside the value; a mapping that becomes a JSON object.
        request_id: 1 to 200 printable ASCII characters without spaces; 128 random bits in hex by default.
        scope: whose data the plugins work on, e.g. a tenant.
        timeout_ms: a deadline that the plugins share, in milliseconds.
    """

    context: Mapping[str, Any] | None
    request_id: str | None
    scope: str | None
    timeout_ms: float | None


class RequestIds:
    """Makes request ids of 128 random bits.

    The bits of many are drawn at once from a seed of the system's, by SHAKE128. Asking the system each time would give
    the GIL up for a moment, too short for whoever waits for it to take it, and begin their wait anew: a thread that
    asked every few milliseconds could keep the others waiting for seconds.
    """

    def __init__(self) -> None:
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Take another seed: the parent goes on with the old one."""
        self._seed = os.urandom(_SEED_BYTES)
        self._batches = itertools.count()
        self._drawn: list[str] = []

    def next(self) -> str:
        """Return an id, in hex."""
        try:
            return self._drawn.pop()
        except IndexError:
            batch = next(self._batches).to_bytes(_SEED_BYTES, "little")
            digits = hashlib.shake_128(self._seed + batch).hexdigest(16 * _DRAWN_AT_ONCE)
            self._drawn = [digits[place : place + 32] for place in range(32, len(digits), 32)]
            return digits[:32]


def request_of(hook: str, era: object, clock: Callable[[], float], ids: RequestIds, about: About) -> Request:
    """Return the request of a dispatch; one that is nested has no more time than what is around it.

    Raises:
        UsageError: something that was said can't be used.
        HookTypeError: the context can't be written as JSON.
    """
    stack = stack_of(era)
    if not about and not stack:
        return Request(ids.next())
    check_about(about)
    timeout_ms = about.get("timeout_ms")
    deadlines = [one.deadline for one in stack]
    if timeout_ms is not None:
        deadlines.append(clock() + timeout_ms / 1e3)
    return Request(
        about.get("request_id") or ids.next(),
        about.get("scope"),
        encode_context(hook, about.get("context")),
        min(deadlines, default=None),
        stack,
    )


def check_about(about: About) -> None:
    """Refuse what no dispatch can be told; the context is looked at where it is written."""
    if unknown := about.keys() - About.__annotations__.keys():
        raise UsageError(f"unknown argument {min(unknown)!r}; there are {', '.join(About.__annotations__)}")
    request_id, scope, timeout_ms = about.get("request_id"), about.get("scope"), about.get("timeout_ms")
    if request_id is not None and not (isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id)):
        raise UsageError(f"request_id={request_id!r} must be 1 to 200 printable ASCII characters without spaces")
    if scope is not None and not (isinstance(scope, str) and scope and SURROGATE.search(scope) is None):
        raise UsageError(f"scope={scope!r} must be text that UTF-8 can hold, or None")
    if timeout_ms is not None and not (_is_number(timeout_ms) and 0 <= timeout_ms <= sys.float_info.max):
        raise UsageError(f"timeout_ms={timeout_ms!r} must be a number of milliseconds, 0 or more")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
