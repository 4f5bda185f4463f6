"""What became of an invocation: `Completed`, `Trapped` or `Skipped`, each with its meters.

Rules:
* Outcomes are values inside and exceptions only at the edge (`raise_for_trap`).
* A trap names its limit or cause, the plugin, hook, request and scope, and carries every meter.
* Guest text in a trap is capped and printable; the core has made it so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from fuseboard._errors import GuestFault, LimitTripped
from fuseboard._limits import Limit, Unit

T = TypeVar("T")

_WATCHED: Final[Mapping[str, int]] = {Limit.MEMORY: 0, Limit.FUEL: 1, Limit.TIMEOUT: 2}
"""The limits that the core watches, and the places of their meters."""


class Cause(StrEnum):
    """Why an invocation trapped."""

    LIMIT = "limit"
    CRASH = "crash"
    FAILED = "failed"
    BAD_OUTPUT = "bad_output"
    BAD_POINTER = "bad_pointer"
    COMMIT = "commit"


class SkipReason(StrEnum):
    """Why an invocation didn't take place."""

    BREAKER_OPEN = "breaker_open"
    SATURATED = "saturated"
    DEADLINE = "deadline"
    REENTRANT = "reentrant"
    DISABLED = "disabled"


class Meter(NamedTuple):
    """What was used of a limit.

    Attributes:
        used: in `unit`; for a limit that tripped, what was spent before the charge that didn't fit.
        ceiling: the plugin's limit, in `unit`.
        unit: `"bytes"`, `"fuel"`, `"ms"` or `"count"`.
        exact: `False` where `used` is a lower bound: fuel after a crash, or after growth that doesn't fit the memory
            limit, lacks what was spent since the last call or loop.
    """

    used: float
    ceiling: int
    unit: Unit
    exact: bool = True


class Meters(Mapping[str, Meter]):
    """All meters of an invocation, by the names of their limits; `Limit` members are such names.

    A meter is made when it is looked at: most never are.
    """

    __slots__ = ("_parts",)

    def __init__(
        self,
        ceilings: Mapping[str, tuple[int, Unit]],
        spent: Mapping[str, int],
        watched: tuple[int, int, float] = (0, 0, 0.0),
        fuel_exact: bool = True,  # noqa: FBT001, FBT002  positional arguments are half as dear
    ) -> None:
        self._parts = ceilings, spent, watched, fuel_exact

    def __getitem__(self, limit: str) -> Meter:
        ceilings, spent, watched, fuel_exact = self._parts
        ceiling, unit = ceilings[limit]
        used = watched[_WATCHED[limit]] if limit in _WATCHED else spent.get(limit, 0)
        return Meter(used, ceiling, unit, exact=fuel_exact or limit != Limit.FUEL)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts[0])

    def __len__(self) -> int:
        return len(self._parts[0])

    def __repr__(self) -> str:
        shown = ", ".join(f"{limit}={meter.used:g}/{meter.ceiling}" for limit, meter in self.items())
        return f"Meters({shown})"


class Frame(NamedTuple):
    """One line of a guest's backtrace, innermost first: the function's name where the module has it."""

    function: str | None
    function_index: int
    offset: int | None

    def __str__(self) -> str:
        place = "" if self.offset is None else f" @ {self.offset:#x}"
        return f"{self.function or f'function {self.function_index}'}{place}"


class _Ended(msgspec.Struct, frozen=True, kw_only=True):
    plugin: str
    hook: str
    request_id: str
    scope: str | None
    elapsed_ms: float
    meters: Meters


class Trap(_Ended, frozen=True, kw_only=True):
    """Everything that is known of an abnormal end.

    Attributes:
        limit: which limit tripped: a `Limit`, or `functions.<name>`; `None` for other causes.
        cause: why.
        detail: one sentence more, or an empty string.
        backtrace: where the guest was, innermost first; empty where the clock stopped it while it computed.
        host_call: the host call in flight, e.g. `host_db_query`, or `None`.
        http_requests: requests that were already sent, as `METHOD URL`; nothing can undo them.
        deadline_shared: the time was cut below the plugin's own limit: by the dispatch's deadline, by that of the
            invocation around it, or by waiting for a slot.
    """

    limit: str | None
    cause: Cause
    detail: str = ""
    backtrace: tuple[Frame, ...] = ()
    host_call: str | None = None
    http_requests: tuple[str, ...] = ()
    deadline_shared: bool = False

    def __str__(self) -> str:
        where = f"plugin {self.plugin!r}, hook {self.hook!r}, request {self.request_id}"
        during = f" during {self.host_call}" if self.host_call else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"{where}: {self._what()}{during}{detail}"

    def _what(self) -> str:
        if self.limit is None:
            return f"the plugin trapped ({self.cause})"
        meter = self.meters[self.limit]
        if self.deadline_shared:
            return f"limit {self.limit} tripped at {meter.used:,.10g} {meter.unit}, its time cut from outside"
        return f"limit {self.limit} tripped at {meter.used:,.10g} of {meter.ceiling:,} {meter.unit}"


class Completed(_Ended, Generic[T], frozen=True, kw_only=True):
    """The plugin returned and its writes are committed.

    Attributes:
        value: a filter's new value, the caller's own object where the plugin changed nothing; `None` for actions.
        changed: whether the plugin gave another value.
    """

    value: T
    changed: bool

    def raise_for_trap(self) -> None:
        """Do nothing: there is no trap."""

    def __str__(self) -> str:
        return f"plugin {self.plugin!r}, hook {self.hook!r}: completed in {self.elapsed_ms:.3g} ms"


class Trapped(_Ended, frozen=True, kw_only=True):
    """The plugin was stopped, and its writes are undone."""

    trap: Trap

    def raise_for_trap(self) -> None:
        """Raise the trap.

        Raises:
            LimitTripped: a limit tripped.
            GuestFault: any other cause.
        """
        raise (LimitTripped if self.trap.cause is Cause.LIMIT else GuestFault)(self.trap)

    def __str__(self) -> str:
        return str(self.trap)


class Skipped(_Ended, frozen=True, kw_only=True):
    """The plugin wasn't run.

    Attributes:
        reason: why.
        detail: what was lacking, where the reason is `SATURATED`; which rule, where it is `REENTRANT`; else empty.
    """

    reason: SkipReason
    detail: str = ""

    def raise_for_trap(self) -> None:
        """Do nothing: there is no trap."""

    def __str__(self) -> str:
        detail = f": {self.detail}" if self.detail else ""
        return f"plugin {self.plugin!r}, hook {self.hook!r}: skipped ({self.reason}){detail}"


Outcome = Completed[Any] | Trapped | Skipped


class Dispatch(msgspec.Struct, Generic[T], frozen=True):
    """One hook across all its subscribers: the final value, and each plugin's outcome in order."""

    value: T
    outcomes: tuple[Outcome, ...] = ()
