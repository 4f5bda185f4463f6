"""Invocations inside of invocations: a function of the application, called by a guest, dispatches again."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

import pytest

import fuseboard as fb
from conftest import CRASH, ECHO, SMALL, SPIN, TEXT, guest, manifest, only_sync
from fuseboard import _nesting
from fuseboard._nesting import MAX_DEPTH, stack_of
from fuseboard.backends.memory import MemoryKv

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from conftest import FakeClock

INNER = fb.Filter("inner", str)
INNER_CLOSED = fb.Filter("inner.closed", str, on_trap="raise")
LEVELS: Final = [fb.Filter(f"level.{number}", str) for number in range(MAX_DEPTH + 2)]
CAPABILITIES: Final = {"functions": ["act"]}


def acts(then: str = "", before: str = "") -> bytes:
    """Return a guest that calls the function `act`, with something before and after."""
    return guest(
        f"""(data (i32.const 0) "act")
        (func (export "run") {before}
          (drop (call $host_call (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 0))) {then})"""
    )


WRITES: Final = "(drop (call $host_kv_increment (i32.const 0) (i32.const 1) (i64.const 1)))"


class Nest:
    """A host with the plugin `outer`, whose function `act` does what a test says, and keeps what came of it.

    What fails inside of `act` fails the test, and not only the guest's call.
    """

    def __init__(self, make_host: Callable[..., fb.Host], **arguments: Any) -> None:
        self.act: Callable[[fb.Call], object] = lambda _: None
        self.results: list[Any] = []
        self.calls = 0

        @fb.host_function("act")
        def act(*, call: fb.Call) -> None:
            self.calls += 1
            try:
                self.results.append(self.act(call))
            except Exception as error:
                self.results.append(error)
                raise

        self.host = make_host(INNER, INNER_CLOSED, *LEVELS, functions=[act], **arguments)
        self.load("outer", "text", acts())

    def load(self, slug: str, hook: str, module: bytes, **server: Any) -> None:
        server = {"capabilities": CAPABILITIES} | server
        self.host.load_bytes(module, manifest(slug, hook, **server), grants="as-requested")

    def run(self, hook: str = "text", **about: Any) -> fb.Outcome:
        """Dispatch to one plugin, with nothing left of it afterwards."""
        (outcome,) = self.host.dispatch(hook, "x", **about).outcomes
        assert self.host._services.slots.held == 0
        return outcome


@pytest.fixture
def nest(make_host: Callable[..., fb.Host]) -> Nest:
    return Nest(make_host)


def reason(outcome: fb.Outcome) -> fb.SkipReason:
    assert isinstance(outcome, fb.Skipped), outcome
    return outcome.reason


def kinds(happened: fb.Dispatch[Any]) -> list[str]:
    """Return how each plugin ended, or why it was skipped."""
    return [one.reason if isinstance(one, fb.Skipped) else type(one).__name__ for one in happened.outcomes]


# ── slots ────────────────────────────────────────────────────────────────────────────────────────


def test_it_works_while_the_callers_hold_all_slots(make_host: Callable[..., fb.Host]) -> None:
    """Nested invocations have a reserve: nobody waits for a slot that only who waits could give back."""
    nest = Nest(make_host, max_concurrent_invocations=3)
    nest.load("inner", "inner", ECHO)
    all_inside = threading.Barrier(3)

    def act(_: fb.Call) -> list[str]:
        all_inside.wait(10)
        return kinds(nest.host.dispatch(INNER, "x"))

    nest.act = act
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(nest.host.dispatch, TEXT, "x") for _ in range(3)]
        assert [kinds(each.result(10)) for each in running] == [["Completed"]] * 3
    assert nest.results == [["Completed"]] * 3
    assert nest.host._services.slots.held == 0


def test_it_never_waits_for_a_slot(make_host: Callable[..., fb.Host], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the reserve is used up too, it is SATURATED at once, however much time it had."""
    nest = Nest(make_host, max_concurrent_invocations=1)
    nest.load("inner", "inner", ECHO)
    monkeypatch.setattr(nest.host._services.slots, "_most_nested", 1)
    nest.act = lambda _: nest.host.dispatch(INNER, "x").outcomes[0]
    nest.run()
    (skipped,) = nest.results
    assert reason(skipped) is fb.SkipReason.SATURATED
    assert skipped.detail == "1 of the host's 1 slots are taken"
    assert skipped.elapsed_ms < 5_000  # of 10,000


# ── who may be inside of whom ────────────────────────────────────────────────────────────────────


def test_a_plugin_is_not_run_inside_of_itself(nest: Nest) -> None:
    """It is skipped as REENTRANT, and says why; the hook's other plugins are run."""
    nest.load("other", "text", ECHO)
    nest.act = lambda _: nest.host.dispatch(TEXT, "x")
    assert kinds(nest.host.dispatch(TEXT, "x")) == ["Completed"] * 2
    (inside,) = nest.results
    assert kinds(inside) == ["reentrant", "Completed"]
    assert inside.outcomes[0].detail == "the plugin waits for this dispatch itself"
    assert nest.host.breakers.get("outer", TEXT).invocations == 1  # being skipped is no reason to open


def test_a_plugin_is_not_run_inside_of_itself_by_way_of_another(nest: Nest) -> None:
    """All that are on the stack count, not only the innermost; `invoke` keeps to it too."""
    nest.load("inner", "inner", acts())

    def act(call: fb.Call) -> object:
        if call.plugin == "outer":
            return kinds(nest.host.dispatch(INNER, "x"))
        return reason(nest.host.invoke("outer", TEXT, "x"))

    nest.act = act
    nest.run()
    assert nest.results == ["reentrant", ["Completed"]]


def test_eight_are_as_deep_as_it_goes(nest: Nest) -> None:
    """The ninth inside of each other is REENTRANT, though it is another plugin, and says why."""
    for number, hook in enumerate(LEVELS):
        nest.load(f"level-{number}", hook.name, acts())

    def act(call: fb.Call) -> fb.Outcome:
        level = int(call.hook.removeprefix("level."))
        return nest.host.dispatch(LEVELS[level + 1], "x").outcomes[0]

    nest.act = act
    assert isinstance(nest.run("level.0"), fb.Completed)
    deepest, *others = nest.results
    assert (reason(deepest), deepest.detail) == ("reentrant", "8 invocations are inside of each other already")
    assert [type(outcome) for outcome in others] == [fb.Completed] * 7
    assert nest.calls == MAX_DEPTH == 8


def test_a_hook_that_fails_closed_fails_the_function(nest: Nest) -> None:
    """`HookFailed` goes to the function that dispatched; of the outer guest, only its call fails."""
    nest.load("inner", "inner.closed", CRASH)
    nest.act = lambda _: nest.host.dispatch(INNER_CLOSED, "x")
    assert isinstance(nest.run(), fb.Completed)
    assert isinstance(nest.results[0], fb.HookFailed)


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_remaining_time_is_inherited(make_host: Callable[..., fb.Host], clock: FakeClock) -> None:
    """What is inside has no more time than what is around it; it can have less."""
    nest = Nest(make_host, clock=clock)
    nest.load("inner", "inner", acts())
    deadlines: list[float] = []
    begun = clock.now

    def act(call: fb.Call) -> None:
        deadlines.append(call.deadline)
        if call.plugin == "outer":
            clock.advance(3)
            nest.host.dispatch(INNER, "x")
            nest.host.dispatch(INNER, "x", timeout_ms=9_000)
            nest.host.dispatch(INNER, "x", timeout_ms=500)

    nest.act = act
    nest.run()
    assert [deadline - begun for deadline in deadlines] == [10, 10, 10, 3.5]


def test_where_no_time_is_left_it_is_skipped(make_host: Callable[..., fb.Host], clock: FakeClock) -> None:
    """Nothing is begun inside of what is over."""
    nest = Nest(make_host, clock=clock)
    nest.load("inner", "inner", ECHO)

    def act(_: fb.Call) -> list[str]:
        clock.advance(10)
        return kinds(nest.host.dispatch(INNER, "x"))

    nest.act = act
    outer = nest.run()
    assert nest.results == [["deadline"]]
    assert isinstance(outer, fb.Trapped)
    assert (outer.trap.limit, outer.trap.deadline_shared) == (fb.Limit.TIMEOUT, False)


def test_a_timeout_inside_is_shared(make_host: Callable[..., fb.Host]) -> None:
    """Who is stopped because of what is around it is told so, and its breaker doesn't count it."""
    told: dict[str, fb.Outcome] = {}
    both = threading.Event()

    def note(outcome: fb.Outcome) -> None:
        told[outcome.plugin] = outcome
        if len(told) == 2:
            both.set()

    nest = Nest(make_host, on_outcome=note)
    nest.host.unload("outer")
    nest.load("outer", "text", acts(), invocation_timeout_ms=50)
    nest.load("inner", "inner", SPIN, fuel_per_invocation=10**9)
    nest.act = lambda _: nest.host.dispatch(INNER, "x")
    began = time.monotonic()
    nest.host.dispatch(TEXT, "x")
    assert both.wait(10)  # a worker thread that was given up may come last
    assert time.monotonic() - began < 5
    inner, outer = told["inner"], told["outer"]
    assert isinstance(inner, fb.Trapped)
    assert isinstance(outer, fb.Trapped)
    assert (inner.trap.limit, inner.trap.deadline_shared) == (fb.Limit.TIMEOUT, True)
    assert (outer.trap.limit, outer.trap.deadline_shared) == (fb.Limit.TIMEOUT, False)
    assert [nest.host.breakers.get(*key).traps for key in (("inner", INNER), ("outer", TEXT))] == [0, 1]


# ── writes ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("outer_end", "inner_end"), [("unreachable", ""), ("", "unreachable")], ids=["outer", "inner"])
def test_writes_are_committed_apart(make_host: Callable[..., fb.Host], outer_end: str, inner_end: str) -> None:
    """What was written inside lasts even if the outer traps, and the other way round."""
    kv = MemoryKv()
    nest = Nest(make_host, backends=fb.Backends(kv=kv))
    nest.host.unload("outer")
    capabilities = {"functions": ["act"], "kv": True}
    nest.load("outer", "text", acts(before=WRITES, then=outer_end), capabilities=capabilities)
    nest.load("inner", "inner", acts(before=WRITES, then=inner_end), capabilities=capabilities)

    def act(call: fb.Call) -> dict[bytes, bytes]:
        if call.plugin == "outer":
            nest.host.dispatch(INNER, "x")
        return dict(kv.items("inner"))

    nest.act = act
    outer = nest.run()
    assert isinstance(outer, fb.Trapped if outer_end else fb.Completed)
    written = {b"a": b"1"}
    assert nest.results == [{}, {} if inner_end else written]  # not committed while it ran, and then at once
    assert [kv.items(slug) for slug in ("inner", "outer")] == [{} if end else written for end in (inner_end, outer_end)]


def test_what_runs_after_the_commit_is_inside_too(nest: Nest) -> None:
    """`call.on_commit` runs while its invocation holds its slot: it can dispatch, but not to its own plugin."""
    nest.load("inner", "inner", ECHO)
    seen: list[list[str]] = []

    def act(call: fb.Call) -> None:
        call.on_commit(lambda: seen.extend(kinds(nest.host.dispatch(hook, "x")) for hook in (INNER, TEXT)))

    nest.act = act
    assert isinstance(nest.run(), fb.Completed)
    assert seen == [["Completed"], ["reentrant"]]


# ── the stack ────────────────────────────────────────────────────────────────────────────────────


def test_the_stack_goes_along_with_a_copy_of_the_context(nest: Nest) -> None:
    """A thread of the application's own is inside where it runs in its caller's context."""

    def act(_: fb.Call) -> list[str]:
        with ThreadPoolExecutor(1) as pool:
            return kinds(pool.submit(copy_context().run, nest.host.dispatch, TEXT, "x").result(10))

    nest.act = act
    nest.run()
    assert nest.results == [["reentrant"]]


def test_a_thread_without_the_context_begins_anew(nest: Nest) -> None:
    """It isn't known to be inside: it waits for a slot of its own, and runs any plugin."""

    def act(_: fb.Call) -> list[str] | None:
        if nest.calls > 1:
            return None
        with ThreadPoolExecutor(1) as pool:
            return kinds(pool.submit(nest.host.dispatch, TEXT, "x").result(10))

    nest.act = act
    nest.run()
    assert nest.results == [None, ["Completed"]]


def test_a_thread_that_outlives_the_invocation_begins_anew(nest: Nest) -> None:
    """What has ended isn't on the stack, though the thread still has the context."""
    is_over = threading.Event()
    with ThreadPoolExecutor(1) as pool:

        def later() -> list[str]:
            assert is_over.wait(10)
            return kinds(nest.host.dispatch(TEXT, "x"))

        nest.act = lambda _: pool.submit(copy_context().run, later) if nest.calls == 1 else None
        nest.run()
        is_over.set()
        assert nest.results[0].result(10) == ["Completed"]


@only_sync
@pytest.mark.parametrize("end", ["", "unreachable", "interrupt"])
def test_the_stack_is_empty_afterwards(make_host: Callable[..., fb.Host], end: str) -> None:
    """Whatever an invocation comes to, the thread that made it can make the next."""
    nest = Nest(make_host)
    nest.load("inner", "inner", acts(then=end.replace("interrupt", "")))

    def act(_: fb.Call) -> int:
        if end == "interrupt":
            raise KeyboardInterrupt
        return len(stack_of(nest.host._services.slots.era))

    nest.act = act
    for _ in range(2):
        try:
            nest.run("inner")
        except KeyboardInterrupt:
            assert end == "interrupt"
        assert _nesting._STACK.get() == ()
    assert nest.results == ([] if end == "interrupt" else [1, 1])


def test_the_stacks_of_hosts_are_apart(make_host: Callable[..., fb.Host], clock: FakeClock) -> None:
    """A plugin of the same slug in another host is another, with its own time; the way back is seen."""
    here, there = Nest(make_host, clock=clock), Nest(make_host, clock=clock)
    deadlines: list[float] = []
    begun = clock.now

    def go(call: fb.Call) -> list[str]:
        deadlines.append(call.deadline)
        clock.advance(3)
        return kinds(there.host.dispatch(TEXT, "x"))

    def come_back(call: fb.Call) -> list[str]:
        deadlines.append(call.deadline)
        return kinds(here.host.dispatch(TEXT, "x"))

    here.act, there.act = go, come_back
    here.run()
    assert (here.results, there.results) == ([["Completed"]], [["reentrant"]])
    assert [deadline - begun for deadline in deadlines] == [10, 13]


# ── closing ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("deep", [False, True], ids=["outer", "nested"])
def test_closing_from_inside_is_refused(nest: Nest, *, deep: bool) -> None:
    """It would wait for itself; the host isn't closed."""
    nest.load("inner", "inner", acts())

    def act(call: fb.Call) -> object:
        if deep and call.plugin == "outer":
            return nest.host.dispatch(INNER, "x")
        with pytest.raises(fb.UsageError, match="from inside of one of its calls: it would wait for itself"):
            nest.host.close()
        return "refused"

    nest.act = act
    assert isinstance(nest.run(), fb.Completed)
    assert nest.results[0] == "refused"
    assert isinstance(nest.run(), fb.Completed)


def test_closing_on_a_thread_of_a_function_is_refused(nest: Nest) -> None:
    """A thread that has the function's context is inside, though another thread made the call."""

    def act(_: fb.Call) -> str:
        with ThreadPoolExecutor(1) as pool, pytest.raises(fb.UsageError, match="it would wait for itself"):
            pool.submit(copy_context().run, nest.host.close).result(5)
        return "refused"

    nest.act = act
    nest.run()
    assert nest.results == ["refused"]


def test_another_host_can_be_closed_from_inside(make_host: Callable[..., fb.Host]) -> None:
    """It doesn't wait for this call."""
    here, there = Nest(make_host), Nest(make_host)
    here.act = lambda _: there.host.close()
    here.run()
    assert here.results == [None]
    with pytest.raises(fb.HostClosed):
        there.host.dispatch(TEXT, "x")


# ── coroutine functions ──────────────────────────────────────────────────────────────────────────


class AsyncNest:
    """An asynchronous host with one slot, with the plugins `outer` and `inner`; `act` awaits what a test says."""

    def __init__(self) -> None:
        self.act: Callable[[fb.Call], Awaitable[object]]
        self.results: list[Any] = []

        @fb.host_function("act")
        async def act(*, call: fb.Call) -> None:
            self.results.append(await self.act(call))

        self.host = fb.AsyncHost(hooks=[TEXT, INNER], functions=[act], ceilings=SMALL, max_concurrent_invocations=1)

    async def run(self) -> None:
        """Dispatch to `outer`, which completes."""
        assert kinds(await self.host.dispatch(TEXT, "x")) == ["Completed"]

    def run_all(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run a test on an event loop of its own."""

        async def load_and_run() -> None:
            async with self.host as host:
                for slug, hook in (("outer", "text"), ("inner", "inner")):
                    said = manifest(slug, hook, capabilities=CAPABILITIES)
                    await host.load_bytes(acts() if slug == "outer" else ECHO, said, grants="as-requested")
                await main()

        asyncio.run(load_and_run())


def test_a_coroutine_function_dispatches_again() -> None:
    """With the only slot taken, another plugin runs; its own doesn't."""
    nest = AsyncNest()

    async def act(_: fb.Call) -> list[str]:
        return [*kinds(await nest.host.dispatch(INNER, "x")), *kinds(await nest.host.dispatch(TEXT, "x"))]

    nest.act = act
    nest.run_all(nest.run)
    assert nest.results == [["Completed", "reentrant"]]


def test_the_stack_goes_along_into_tasks_and_threads() -> None:
    """Tasks that a function waits for are inside, side by side, and don't disturb what is around them."""
    nest = AsyncNest()

    async def act(_: fb.Call) -> list[str]:
        inside = await asyncio.gather(*[nest.host.dispatch(hook, "x") for hook in (INNER, TEXT, INNER)])
        depth = await asyncio.to_thread(lambda: len(stack_of(nest.host._services.slots.era)))
        return [*(kinds(each)[0] for each in inside), str(depth), *kinds(await nest.host.dispatch(TEXT, "x"))]

    nest.act = act
    nest.run_all(nest.run)
    assert nest.results == [["Completed", "reentrant", "Completed", "1", "reentrant"]]


def test_a_task_that_is_left_behind_begins_anew() -> None:
    """As long as its invocation runs it is inside; then it runs any plugin, in a slot of its own."""
    nest = AsyncNest()
    left_behind: list[asyncio.Task[list[str]]] = []

    async def main() -> None:
        is_over, was_inside = asyncio.Event(), asyncio.Event()

        async def later() -> list[str]:
            inside = kinds(await nest.host.dispatch(TEXT, "x"))
            was_inside.set()
            await is_over.wait()
            assert stack_of(nest.host._services.slots.era) == ()
            return [*inside, *kinds(await nest.host.dispatch(TEXT, "x"))]

        async def act(_: fb.Call) -> None:
            if not left_behind:
                left_behind.append(asyncio.create_task(later()))
                await was_inside.wait()

        nest.act = act
        await nest.run()
        is_over.set()
        assert await left_behind[0] == ["reentrant", "Completed"]

    nest.run_all(main)


def test_tasks_that_leave_tasks_behind_pile_nothing_up() -> None:
    """What has ended is forgotten, however long the chain of tasks that came of it."""
    nest = AsyncNest()
    depths: list[int] = []

    async def main() -> None:
        ends = [asyncio.Event()]
        tasks: list[asyncio.Task[None]] = []

        async def link(before: asyncio.Event) -> None:
            await before.wait()
            ends.append(asyncio.Event())
            await nest.run()
            ends[-1].set()

        async def act(_: fb.Call) -> None:
            depths.append(len(_nesting._STACK.get()))
            if len(depths) < 20:
                tasks.append(asyncio.create_task(link(ends[-1])))

        nest.act = act
        ends[0].set()
        await link(ends[0])
        for task in tasks:  # it grows meanwhile
            await task

    nest.run_all(main)
    assert len(depths) == 20
    assert max(depths) < 4


def test_closing_from_inside_of_a_coroutine_function_is_refused() -> None:
    """`aclose` would wait for itself there, in a task of the function's too."""
    nest = AsyncNest()

    async def act(_: fb.Call) -> str:
        for closing in (nest.host.aclose(), asyncio.create_task(nest.host.aclose())):
            with pytest.raises(fb.UsageError, match="it would wait for itself"):
                await closing
        return "refused"

    nest.act = act
    nest.run_all(nest.run)
    assert nest.results == ["refused"]
