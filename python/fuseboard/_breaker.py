"""The circuit breaker: a plugin that keeps trapping on a hook, for one scope, is left alone for a while.

A breaker is *closed* while its plugin is fine: every invocation runs, and those of the last minute are counted. When
enough of them have trapped, both in number and in proportion, it *opens*: invocations are skipped. After a cooldown
the next invocation is let through as the *probe*, and the breaker is *half-open*: all others are skipped until it has
ended. A probe that completes closes the breaker; one that traps opens it again, for twice as long; one that shows
nothing (cancelled, saturated, a commit that failed) is handed back, and the next invocation probes. The operator can
open a breaker, which then stays open until it is closed, close it, or forget all that it has seen. `TRANSITIONS` has
no more than that.

Rules:
* A breaker is one plugin's on one hook in one scope. Its state is replaced, never changed.
* Every change of state begins a new *epoch* with an empty window. What was admitted in an epoch counts in no other:
  not a late trap of the invocations that opened a breaker, nor one of a module that was reloaded since.
* Only what speaks about the plugin counts: completed invocations, and traps that are its own doing.
* The clock is injected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from fuseboard._errors import UsageError

_LONGEST_SECONDS: Final = 86_400.0 * 366


class BreakerState(StrEnum):
    """What a breaker lets through: all, nothing, or one probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerEvent(StrEnum):
    """What can change a breaker's state."""

    TRAPS = "traps"
    PROBE = "probe"
    PROBE_COMPLETED = "probe_completed"
    PROBE_TRAPPED = "probe_trapped"
    PROBE_RETURNED = "probe_returned"
    OPERATOR_OPENED = "operator_opened"
    OPERATOR_CLOSED = "operator_closed"
    RESET = "reset"


TRANSITIONS: Final[dict[tuple[BreakerState, BreakerEvent], BreakerState]] = {
    (BreakerState.CLOSED, BreakerEvent.TRAPS): BreakerState.OPEN,
    (BreakerState.OPEN, BreakerEvent.PROBE): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, BreakerEvent.PROBE): BreakerState.HALF_OPEN,  # the one before was lost
    (BreakerState.HALF_OPEN, BreakerEvent.PROBE_COMPLETED): BreakerState.CLOSED,
    (BreakerState.HALF_OPEN, BreakerEvent.PROBE_TRAPPED): BreakerState.OPEN,
    (BreakerState.HALF_OPEN, BreakerEvent.PROBE_RETURNED): BreakerState.OPEN,
    **{(state, BreakerEvent.OPERATOR_OPENED): BreakerState.OPEN for state in BreakerState},
    **{(state, BreakerEvent.OPERATOR_CLOSED): BreakerState.CLOSED for state in BreakerState},
    **{(state, BreakerEvent.RESET): BreakerState.CLOSED for state in BreakerState},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When breakers open, and for how long.

    Attributes:
        window_seconds: the time over which invocations are counted; it moves on in tenths of itself.
        min_traps: so many must have trapped in the window ...
        trap_ratio: ... and such a part of all invocations in it, above 0 and at most 1: bad input from one visitor
            must not switch a plugin off for all.
        cooldown_seconds: how long a breaker stays open before the first probe; doubled by each probe that traps.
        max_cooldown_seconds: the longest that it gets.

    Raises:
        UsageError: a value can't be used.
    """

    window_seconds: float = 60.0
    min_traps: int = 5
    trap_ratio: float = 0.5
    cooldown_seconds: float = 30.0
    max_cooldown_seconds: float = 600.0

    def __post_init__(self) -> None:
        for name in ("window_seconds", "cooldown_seconds", "max_cooldown_seconds"):
            self._check(name, is_whole=False, most=_LONGEST_SECONDS)
        self._check("trap_ratio", is_whole=False, most=1)
        self._check("min_traps", is_whole=True, most=1_000_000)
        if self.max_cooldown_seconds < self.cooldown_seconds:
            problem = f"is less than cooldown_seconds={self.cooldown_seconds!r}"
            raise UsageError(f"BreakerPolicy(max_cooldown_seconds={self.max_cooldown_seconds!r}): {problem}")

    def _check(self, name: str, *, is_whole: bool, most: float) -> None:
        value = getattr(self, name)
        kinds = (int,) if is_whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value <= most:
            kind = "whole number from 1" if is_whole else "number above 0,"
            raise UsageError(f"BreakerPolicy({name}={value!r}): must be a {kind} to {most:,.10g}")

    def is_exceeded(self, counts: Counts) -> bool:
        """Return whether so many traps open a breaker."""
        return counts.traps >= self.min_traps and counts.traps >= self.trap_ratio * counts.invocations


class BreakerKey(NamedTuple):
    """Whose breaker it is."""

    plugin: str
    hook: str
    scope: str | None


class Counts(NamedTuple):
    """The invocations in the window that speak about the plugin, and those of them that trapped."""

    invocations: int
    traps: int


class Status(NamedTuple):
    """What a breaker's state is.

    Attributes:
        epoch: unlike that of any other status.
        cooldown_seconds: of this opening, or of the next.
        until: when a probe may begin, on the clock: in half-open, when the one that runs must be lost.
    """

    state: BreakerState
    epoch: int
    cooldown_seconds: float
    until: float = -math.inf


def moved(
    old: Status, event: BreakerEvent, policy: BreakerPolicy, now: float, epoch: int, lost_at: float = -math.inf
) -> Status:
    """Return the status that an event leads to; a probe that hasn't ended at `lost_at` is taken for lost."""
    state, cooldown = TRANSITIONS[old.state, event], old.cooldown_seconds
    if state is BreakerState.CLOSED:
        return Status(state, epoch, policy.cooldown_seconds)
    if event is BreakerEvent.PROBE_TRAPPED:
        cooldown = min(2 * cooldown, policy.max_cooldown_seconds)
    until = {
        BreakerEvent.PROBE: max(now + cooldown, lost_at),
        BreakerEvent.PROBE_RETURNED: now,
        BreakerEvent.OPERATOR_OPENED: math.inf,
    }.get(event, now + cooldown)
    return Status(state, epoch, cooldown, until)


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """One breaker as it is now.

    Attributes:
        plugin, hook, scope: whose it is.
        state: `closed`, `open` or `half_open`.
        invocations: those in the window that speak about the plugin.
        traps: those of them that trapped.
        cooldown_seconds: how long the breaker is open before the next probe, or will be.
        retry_seconds: how long it is until the next probe, 0 where one may begin; `None` where the breaker is closed,
            or where it was opened by the operator.
    """

    plugin: str
    hook: str
    scope: str | None
    state: BreakerState
    invocations: int
    traps: int
    cooldown_seconds: float
    retry_seconds: float | None


class BreakerChange(msgspec.Struct, frozen=True, kw_only=True):
    """A breaker's state has changed.

    Attributes:
        plugin, hook, scope: whose it is.
        before, after: its states.
        event: what changed it.
        cooldown_seconds: where it is open now, how long until the next probe; `None` where the operator opened it.
    """

    plugin: str
    hook: str
    scope: str | None
    before: BreakerState
    after: BreakerState
    event: BreakerEvent
    cooldown_seconds: float | None = None

    def __str__(self) -> str:
        scope = f", scope {self.scope!r}" if self.scope is not None else ""
        wait = f" for {self.cooldown_seconds:g} s" if self.cooldown_seconds is not None else ""
        where = f"plugin {self.plugin!r}, hook {self.hook!r}{scope}"
        return f"{where}: the breaker is {self.after.replace('_', '-')}{wait} ({self.event.replace('_', ' ')})"
