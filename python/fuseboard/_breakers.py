"""The breakers of one host: what the flow asks them, and what the operator can do with them.

Rule: a status is replaced only where it is still the one that the change was made from. Who comes second looks again,
or has nothing to say any more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from fuseboard._breaker import (
    Breaker,
    BreakerChange,
    BreakerEvent,
    BreakerKey,
    BreakerPolicy,
    BreakerState,
    Status,
    moved,
)
from fuseboard._breaker_store import BreakerStore
from fuseboard._errors import UsageError
from fuseboard._hooks import Hook

if TYPE_CHECKING:
    from fuseboard._plugin import Plugin

_CLOSED: Final = BreakerState.CLOSED
_HALF_OPEN: Final = BreakerState.HALF_OPEN
_PROBE_ENDS: Final = {
    True: BreakerEvent.PROBE_TRAPPED,
    False: BreakerEvent.PROBE_COMPLETED,
    None: BreakerEvent.PROBE_RETURNED,
}


class Admission(msgspec.Struct, frozen=True):
    """An invocation was let through; without a status, by a plugin that was replaced, of which nothing is counted."""

    key: BreakerKey
    status: Status | None


class Roster(Protocol):
    """Who is loaded."""

    def is_loaded(self, plugin: Plugin) -> bool:
        """Return whether this very plugin is, and wasn't reloaded since."""

    def check(self, slug: str, hook: str | None) -> None:
        """Raise `UnknownPlugin` where there is no such plugin, or it doesn't subscribe to the hook."""


class Breakers:
    """The breakers of one host: to read, and for the operator to open, close and reset.

    Iterating gives a `Breaker` for each that has seen an invocation lately.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None,
        store: BreakerStore,
        clock: Callable[[], float],
        *,
        roster: Roster,
        notify: Callable[[BreakerChange], object],
    ) -> None:
        self._policy = policy or BreakerPolicy()
        self._is_watching = policy is not None
        self._store = store
        self._clock = clock
        self._roster = roster
        self._notify = notify
        self._epochs = itertools.count()

    # ── for the flow ─────────────────────────────────────────────────────────────────────────────

    def admit(self, plugin: Plugin, key: BreakerKey, now: float, lost_at: float) -> Admission | None:
        """Return an admission, which must be settled, or `None` where the breaker is open.

        A probe that isn't settled at `lost_at` is taken for lost.
        """
        status = self._store.status(key, now)
        if status is None and self._roster.is_loaded(plugin):
            status = self._store.begin(key, now, self._initial())
        if status is None or not self._roster.is_loaded(plugin):  # a reload in between has forgotten the status
            return Admission(key, None)
        if status.state is _CLOSED:
            return Admission(key, status)
        if now < status.until:
            return None
        probing = self._next(status, BreakerEvent.PROBE, now, lost_at)
        if not self._store.swap(key, status, probing):
            return None
        try:
            self._tell(key, status.state, probing, BreakerEvent.PROBE)
        except BaseException:  # nobody will settle it
            self._move(key, probing, BreakerEvent.PROBE_RETURNED)
            raise
        return Admission(key, probing)

    def settle(self, admission: Admission, *, trapped: bool | None) -> None:
        """Say what became of an admitted invocation; `None` for what says nothing about the plugin."""
        key, status = admission.key, admission.status
        if status is None:
            return
        if status.state is _HALF_OPEN:
            self._move(key, status, _PROBE_ENDS[trapped])
        elif trapped is not None and self._is_watching:
            counts = self._store.count(key, status, self._clock(), trapped=trapped)
            if counts is not None and self._policy.is_exceeded(counts):
                self._move(key, status, BreakerEvent.TRAPS)

    def forget(self, plugin: str) -> None:
        """Begin anew with a plugin that was reloaded or unloaded."""
        for key in self._store.known():
            if key.plugin == plugin:
                self._forget(key)

    def after_fork_in_child(self) -> None:
        """Hand back the probes that run on in the parent."""
        self._store.after_fork_in_child()
        for key in self._store.known():
            status = self._store.find(key)
            if status is not None and status.state is _HALF_OPEN:
                self._move(key, status, BreakerEvent.PROBE_RETURNED)

    # ── for the operator ─────────────────────────────────────────────────────────────────────────

    def __iter__(self) -> Iterator[Breaker]:
        return iter([self._shown(key) for key in self._store.known()])

    def get(self, plugin: str, hook: Hook | str, scope: str | None = None) -> Breaker:
        """Return a breaker as it is now; one that has seen nothing yet is closed.

        Raises:
            UnknownPlugin: there is no such plugin, or it doesn't subscribe to the hook.
        """
        return self._shown(self._key(plugin, hook, scope))

    def open(self, plugin: str, hook: Hook | str, scope: str | None = None) -> None:
        """Open a breaker until it is closed or reset by hand, or the plugin is reloaded. Errors are those of `get`."""
        self._operate(self._key(plugin, hook, scope), BreakerEvent.OPERATOR_OPENED)

    def close(self, plugin: str, hook: Hook | str, scope: str | None = None) -> None:
        """Close a breaker, with an empty window. Errors are those of `get`."""
        self._operate(self._key(plugin, hook, scope), BreakerEvent.OPERATOR_CLOSED)

    def reset(self, plugin: str | None = None, hook: Hook | str | None = None, scope: str | None = None) -> None:
        """Forget what was seen: of one breaker, of all of a plugin where no hook is named, or of every plugin.

        Raises:
            UsageError: a hook or a scope without what comes before it.
            UnknownPlugin: as for `get`.
        """
        if plugin is None or hook is None:
            if hook is not None or scope is not None:
                raise UsageError("breakers.reset takes a plugin, or a plugin and a hook, or these and a scope")
            if plugin is not None:
                self._roster.check(plugin, None)
            for slug in {key.plugin for key in self._store.known()} if plugin is None else {plugin}:
                self.forget(slug)
        else:
            self._forget(self._key(plugin, hook, scope))

    # ── one breaker ──────────────────────────────────────────────────────────────────────────────

    def _key(self, plugin: str, hook: Hook | str, scope: str | None) -> BreakerKey:
        name = hook if isinstance(hook, str) else getattr(hook, "name", repr(hook))
        self._roster.check(plugin, name)
        if scope is not None and not isinstance(scope, str):
            raise UsageError(f"scope={scope!r} must be text, or None")
        return BreakerKey(plugin, name, scope)

    def _initial(self) -> Status:
        return Status(BreakerState.CLOSED, next(self._epochs), self._policy.cooldown_seconds)

    def _status(self, key: BreakerKey) -> Status:
        now = self._clock()
        return self._store.status(key, now) or self._store.begin(key, now, self._initial())

    def _shown(self, key: BreakerKey) -> Breaker:
        now = self._clock()
        status, counts = self._store.find(key) or self._initial(), self._store.counts(key, now)
        retry = max(0.0, status.until - now)
        has_probe = status.state is not BreakerState.CLOSED and retry < math.inf
        return Breaker(
            **key._asdict(), state=status.state, **counts._asdict(),
            cooldown_seconds=status.cooldown_seconds, retry_seconds=retry if has_probe else None,
        )  # fmt: skip

    def _operate(self, key: BreakerKey, event: BreakerEvent) -> None:
        while not self._move(key, self._status(key), event):
            pass  # an invocation changed it meanwhile

    def _forget(self, key: BreakerKey) -> None:
        while (status := self._store.find(key)) is not None:
            if self._store.swap(key, status, None):
                self._tell(key, status.state, self._initial(), BreakerEvent.RESET)
                return

    def _move(self, key: BreakerKey, old: Status, event: BreakerEvent) -> bool:
        new = self._next(old, event, self._clock())
        if not self._store.swap(key, old, new):
            return False
        self._tell(key, old.state, new, event)
        return True

    def _next(self, old: Status, event: BreakerEvent, now: float, lost_at: float = -math.inf) -> Status:
        return moved(old, event, self._policy, now, next(self._epochs), lost_at)

    def _tell(self, key: BreakerKey, before: BreakerState, new: Status, event: BreakerEvent) -> None:
        if before is new.state:
            return
        is_timed = new.state is BreakerState.OPEN and new.until < math.inf
        wait = 0.0 if event is BreakerEvent.PROBE_RETURNED else new.cooldown_seconds
        cooldown = wait if is_timed else None
        self._notify(
            BreakerChange(**key._asdict(), before=before, after=new.state, event=event, cooldown_seconds=cooldown)
        )
