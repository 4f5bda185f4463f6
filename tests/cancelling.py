"""A host with one plugin whose call is halted at a chosen place, to be cancelled or interrupted there.

The call that is halted is a probe, and has written a key by then.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import fuseboard as fb
from conftest import SMALL, TEXT, FakeClock, guest, manifest
from fuseboard._slots import Ticket
from fuseboard.backends.memory import MemoryKv

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fuseboard.backends import Answer, HostCall, Identity, Session

COOLDOWN_SECONDS = 30
OBEYS = guest(
    """(data (i32.const 0) "keyworkbegan")
    (func (export "run") (local $order i32)
      (drop (call $host_kv_set (i32.const 0) (i32.const 3) (i32.const 3) (i32.const 4)))
      (drop (call $buffer_read (i32.const 0) (i32.const 1) (i32.const 100) (i32.const 1)))
      (local.set $order (i32.load8_u (i32.const 100)))
      (if (i32.eq (local.get $order) (i32.const 99)) (then unreachable))
      (if (i32.eq (local.get $order) (i32.const 119))
        (then (drop (call $host_call (i32.const 3) (i32.const 4) (i32.const 0) (i32.const 0)))))
      (if (i32.eq (local.get $order) (i32.const 108))
        (then (drop (call $host_call (i32.const 7) (i32.const 5) (i32.const 0) (i32.const 0)))
          (loop $again (br $again)))))"""
)
"""Writes a key and does what its value says: crash, work (a function), loop (after telling of it), or nothing else."""


class Place(NamedTuple):
    """Where a call is halted.

    Attributes:
        order: what the plugin is told.
        halted: a method of the store, `work`, `slot` or `worker`; nothing is for a guest that computes.
        awaited: whether functions and store are coroutines.
        ends_as: the outcome that is reported all the same, since the end of the call had begun.
    """

    name: str
    order: str
    halted: str = ""
    awaited: bool = False
    ends_as: type[fb.Outcome] | None = None


class Scene:
    """A host, made by `make_host`, and what is known of it.

    Attributes:
        reached: set when the call is at its place.
        go: lets it go on.
        before_rollback: done before each rollback of a plain store.
    """

    def __init__(self, place: Place, make_host: Callable[..., Any], **arguments: Any) -> None:
        self.place = place
        self.reached, self.go = threading.Event(), threading.Event()
        self.clock = FakeClock(time.monotonic())
        self.outcomes: list[fb.Outcome] = []
        self.store = (AwaitedStore if place.awaited else Store)(self)
        self.halted = ""
        self._ticket = Ticket("another", 1, 0)
        self.before_rollback: Callable[[], None] = lambda: None
        arguments.setdefault("on_outcome", self.outcomes.append)
        arguments.setdefault("hooks", [TEXT])
        self.host = make_host(
            functions=_awaited_functions(self) if place.awaited else _functions(self),
            backends=fb.Backends(kv=self.store),
            breaker=fb.BreakerPolicy(min_traps=1, cooldown_seconds=COOLDOWN_SECONDS),
            ceilings=SMALL,
            max_concurrent_invocations=1,
            clock=self.clock,
            **arguments,
        )

    # ── before ───────────────────────────────────────────────────────────────────────────────────

    def prepare(self) -> None:
        """Load the plugin into a `Host`, and have its breaker wait for a probe."""
        self.host.load_bytes(OBEYS, MANIFEST, grants="as-requested")
        self.host.invoke("obedient", "text", "crash")
        self._halt()

    async def prepare_async(self) -> None:
        """Do that with an `AsyncHost`."""
        await self.host.load_bytes(OBEYS, MANIFEST, grants="as-requested")
        await self.host.invoke("obedient", "text", "crash")
        self._halt()

    def _halt(self) -> None:
        self.clock.advance(COOLDOWN_SECONDS)
        self.outcomes.clear()
        self.halted = self.place.halted
        if self.halted == "slot":
            slots = self.host._services.slots
            assert slots.ask(self._ticket)
            tell_of(slots, "call_when_held", self.reached)
        if self.halted == "worker":
            for _ in range(len(os.sched_getaffinity(0))):
                self.host._threads.run_guest(self.go.wait)

    # ── the call ─────────────────────────────────────────────────────────────────────────────────

    def call(self) -> Any:
        """Make the call that is halted."""
        return self.host.apply_filter("text", self.place.order)

    def call_async(self) -> Coroutine[Any, Any, str]:
        """Make that of an `AsyncHost`."""
        call: Coroutine[Any, Any, str] = self.call()
        return call

    def pass_by(self, place: str) -> None:
        """Halt the first who comes by the place."""
        if place == self.halted and not self.reached.is_set():
            self.reached.set()
            self.go.wait(10)

    async def pass_by_awaiting(self, place: str) -> None:
        """Do that on an event loop."""
        if place == self.halted and not self.reached.is_set():
            self.reached.set()
            await asyncio.to_thread(self.go.wait, 10)

    async def until_reached(self) -> None:
        """Wait for the call to be at its place: it is the probe."""
        assert await asyncio.to_thread(self.reached.wait, 10)
        assert self.breaker.state is fb.BreakerState.HALF_OPEN

    # ── after ────────────────────────────────────────────────────────────────────────────────────

    @property
    def breaker(self) -> fb.Breaker:
        """The plugin's breaker."""
        breaker: fb.Breaker = self.host.breakers.get("obedient", "text")
        return breaker

    @property
    def written(self) -> dict[bytes, bytes]:
        """What is committed."""
        return self.store.kv.items("obedient")

    def free(self) -> None:
        """Let all go that was halted."""
        self.go.set()
        self.host._services.slots.give_back(self._ticket)

    def check_nothing_is_held(self) -> None:
        """Slots, calls and locks are all given back."""
        slots = self.host._services.slots
        assert (slots.held, slots.waiting) == (self.halted == "slot", 0)
        assert not self.host._running._callers
        assert [store.lock._owner for store in self.store.kv._stores.values()] == [None]

    def check_nothing_came_of_it(self) -> None:
        """The writes are undone, nothing is reported, and the next call is the probe."""
        assert self.written == {}
        assert self.outcomes == []
        breaker = self.breaker
        assert (breaker.state, breaker.retry_seconds) == (fb.BreakerState.OPEN, 0)


MANIFEST = manifest("obedient", capabilities={"kv": True, "functions": ["work", "began"]}, fuel_per_invocation=10**9)


def _functions(scene: Scene) -> list[fb.HostFunction[..., Any]]:
    @fb.host_function("work")
    def work() -> None:
        scene.pass_by("work")

    @fb.host_function("began")
    def began() -> None:
        scene.reached.set()

    return [work, began]


def _awaited_functions(scene: Scene) -> list[fb.HostFunction[..., Any]]:
    @fb.host_function("work")
    async def work() -> None:
        await scene.pass_by_awaiting("work")

    @fb.host_function("began")
    async def began() -> None:
        scene.reached.set()

    return [work, began]


class Store:
    """A key-value store in memory whose sessions pass by a scene's places."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.kv = MemoryKv()

    def session(self, identity: Identity) -> Any:
        return _StoreSession(self.scene, self.kv.session(identity))


class AwaitedStore(Store):
    """Such a store with coroutines for methods."""

    async def session(self, identity: Identity) -> Any:
        await self.scene.pass_by_awaiting("session")
        return _AwaitedStoreSession(self.scene, self.kv.session(identity))


class _StoreSession(NamedTuple):
    scene: Scene
    session: Session

    def answer(self, call: HostCall, deadline: float) -> Answer:
        self.scene.pass_by("answer")
        return self.session.answer(call, deadline)

    def commit(self, deadline: float) -> None:
        self.scene.pass_by("commit")
        self.session.commit(deadline)
        self.scene.pass_by("committed")

    def rollback(self) -> None:
        self.scene.pass_by("rollback")
        self.scene.before_rollback()
        self.session.rollback()


class _AwaitedStoreSession(NamedTuple):
    scene: Scene
    session: Session

    async def answer(self, call: HostCall, deadline: float) -> Answer:
        await self.scene.pass_by_awaiting("answer")
        return self.session.answer(call, deadline)

    async def commit(self, deadline: float) -> None:
        await self.scene.pass_by_awaiting("commit")
        self.session.commit(deadline)
        await self.scene.pass_by_awaiting("committed")

    async def rollback(self) -> None:
        await self.scene.pass_by_awaiting("rollback")
        self.session.rollback()


def tell_of(owner: object, name: str, called: threading.Event) -> None:
    """Set an event after each call of a method."""
    method = getattr(owner, name)

    def told(*arguments: Any) -> Any:
        result = method(*arguments)
        called.set()
        return result

    setattr(owner, name, told)


def best_of_five(seconds: Callable[[], float], bar: float) -> float:
    """Return the first time within the bar, or the shortest of five: a busy machine takes its time."""
    times: list[float] = []
    while len(times) < 5 and min(times, default=bar + 1) > bar:
        times.append(seconds())
    return min(times)
