"""Cancellation and Ctrl-C: wherever they come, the guest ends, its writes are undone, and nothing is kept."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import fuseboard as fb
from cancelling import COOLDOWN_SECONDS, Place, Scene, best_of_five
from conftest import SMALL, TEXT, guest, manifest, writes
from fuseboard import _async_driver
from fuseboard._grants import Grants
from fuseboard.backends import DbExec, HostCall, Identity, KvIncrement
from fuseboard.backends.memory import MemoryDb, MemoryKv
from tables import migrations

SOON_SECONDS = 0.050

ENDED_WHOLE: dict[type[fb.Outcome] | None, tuple[fb.BreakerState, float | None]] = {
    fb.Completed: (fb.BreakerState.CLOSED, None),
    fb.Trapped: (fb.BreakerState.OPEN, 2 * COOLDOWN_SECONDS),
}
PLACES = [
    Place("an awaited function", "work", "work", awaited=True),
    Place("a function on a thread", "work", "work"),
    Place("an awaited session", "", "session", awaited=True),
    Place("an awaited answer", "", "answer", awaited=True),
    Place("an answer on a thread", "", "answer"),
    Place("a guest that computes", "loop", awaited=True),
    Place("a queue for a thread", "loop", "worker", awaited=True),
    Place("a queue for a slot", "", "slot"),
    Place("an awaited commit", "", "commit", awaited=True, ends_as=fb.Completed),
    Place("a commit on a thread", "", "commit", ends_as=fb.Completed),
    Place("the end of an awaited commit", "", "committed", awaited=True, ends_as=fb.Completed),
    Place("the end of a commit on a thread", "", "committed", ends_as=fb.Completed),
    Place("an awaited rollback", "crash", "rollback", awaited=True, ends_as=fb.Trapped),
    Place("a rollback on a thread", "crash", "rollback", ends_as=fb.Trapped),
]

COMMITS = [place for place in PLACES if place.ends_as is fb.Completed]


# ── ways to cancel ───────────────────────────────────────────────────────────────────────────────


async def cancelled_by(scene: Scene, cancel: Callable[[], object]) -> float:
    """Cancel once the call is at its place, and return when that was."""
    await scene.until_reached()
    now = time.monotonic()
    cancel()
    if scene.place.ends_as:
        asyncio.get_running_loop().call_later(0.01, scene.go.set)
    return now


async def by_cancel(scene: Scene, *later_seconds: float) -> float:
    """Cancel the task, and again at these times."""
    task = asyncio.create_task(scene.call_async())

    def cancel() -> None:
        task.cancel()
        for seconds in later_seconds:
            asyncio.get_running_loop().call_later(seconds, task.cancel)

    began = await cancelled_by(scene, cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    return began


async def by_cancelling_twice(scene: Scene) -> float:
    return await by_cancel(scene, 0)


async def by_cancelling_often(scene: Scene) -> float:
    return await by_cancel(scene, *(0.0005 * times for times in range(20)))


async def by_timeout(scene: Scene) -> float:
    loop, began = asyncio.get_running_loop(), 0.0

    async def call() -> None:
        nonlocal began
        async with asyncio.timeout(None) as timer:
            trigger = asyncio.create_task(cancelled_by(scene, lambda: timer.reschedule(loop.time())))
            try:
                await scene.call_async()
            finally:
                began = trigger.result()

    with pytest.raises(TimeoutError):
        await call()
    return began


async def by_wait_for(scene: Scene) -> float:
    expires = time.monotonic() + 0.25
    if scene.place.ends_as:
        asyncio.get_running_loop().call_later(0.26, scene.go.set)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scene.call_async(), 0.25)
    assert scene.reached.is_set()
    return expires


async def by_task_group(scene: Scene) -> float:
    began = 0.0

    async def fail_when_reached() -> None:
        nonlocal began
        began = await cancelled_by(scene, lambda: None)
        raise OSError("a sibling failed")

    async def call_beside() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(scene.call_async())
            group.create_task(fail_when_reached())

    with pytest.raises(ExceptionGroup) as caught:
        await call_beside()
    assert [type(error) for error in caught.value.exceptions] == [OSError]
    return began


WAYS: list[Callable[[Scene], Coroutine[Any, Any, float]]] = [
    by_cancel, by_cancelling_twice, by_cancelling_often, by_timeout, by_wait_for, by_task_group,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_a_cancelled_call_leaves_nothing(place: Place, way: Callable[[Scene], Coroutine[Any, Any, float]]) -> None:
    """It raises within 50 ms, all is given back; a commit or rollback that has begun is carried through, and told."""

    def seconds() -> float:
        scene = Scene(place, fb.AsyncHost)
        return asyncio.run(cancelled(scene, way))

    assert best_of_five(seconds, SOON_SECONDS) <= SOON_SECONDS


async def cancelled(scene: Scene, way: Callable[[Scene], Coroutine[Any, Any, float]]) -> float:
    await scene.prepare_async()
    began = await way(scene)
    took = time.monotonic() - began
    scene.check_nothing_is_held()
    check_what_came_of_it(scene)
    scene.free()
    await check_usable(scene)
    await scene.host.aclose()
    return took


def check_what_came_of_it(scene: Scene) -> None:
    ends_as, breaker = scene.place.ends_as, scene.breaker
    if ends_as is None:
        scene.check_nothing_came_of_it()
        return
    assert scene.written == ({b"key": b"work"} if ends_as is fb.Completed else {})
    assert [type(outcome) for outcome in scene.outcomes] == [ends_as]
    assert (breaker.state, breaker.retry_seconds) == ENDED_WHOLE[ends_as]


async def check_usable(scene: Scene) -> None:
    scene.clock.advance(10 * COOLDOWN_SECONDS)
    assert isinstance(await scene.host.invoke("obedient", TEXT, ""), fb.Completed)
    assert scene.breaker.state is fb.BreakerState.CLOSED


# ── other moments ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", [PLACES[0], PLACES[1]], ids=["awaited", "on threads"])
def test_a_cancellation_at_any_turn_leaves_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever other tasks get a turn, a call can be cancelled: nothing is held, and nothing is forgotten unawaited."""
    monkeypatch.setattr(_async_driver, "_TURN_SECONDS", 0)  # a turn before each effect

    async def cancelled_at_turn(turn: int) -> bool:
        task = asyncio.create_task(scene.call_async())
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        scene.check_nothing_is_held()
        return task.cancelled()

    async def main() -> int:
        await scene.prepare_async()
        scene.host.breakers.reset()
        scene.go.set()
        turns = 0
        while await cancelled_at_turn(turns):
            turns += 1
        await scene.host.aclose()
        gc.collect()
        return turns

    scene = Scene(place, fb.AsyncHost)
    assert asyncio.run(main()) > 5


def test_a_call_that_never_began_can_be_cancelled() -> None:
    """A task that is cancelled before its first step asks for nothing."""
    scene = Scene(PLACES[0], fb.AsyncHost)

    async def main() -> None:
        await scene.prepare_async()
        task = asyncio.create_task(scene.call_async())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        scene.check_nothing_is_held()
        scene.check_nothing_came_of_it()
        await scene.host.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("second", ["loop", "work"])
def test_between_two_plugins_the_second_is_ended(second: str) -> None:
    """What cancels the task when the first plugin has completed leaves its writes, and none of the next one's."""
    tasks: list[asyncio.Task[str]] = []
    told: list[fb.Outcome] = []

    def cancel(outcome: fb.Outcome) -> None:
        told.append(outcome)
        for task in tasks:
            task.cancel()

    scene = Scene(Place("", second, "work", awaited=True), fb.AsyncHost, on_outcome=cancel)

    async def main() -> None:
        await scene.prepare_async()
        first = manifest("first", {"name": "text", "priority": 1})
        await scene.host.load_bytes(writes(f'"{second}"'), first)
        told.clear()
        tasks.append(asyncio.create_task(scene.call_async()))
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        assert [(outcome.plugin, type(outcome)) for outcome in told] == [("first", fb.Completed)]
        scene.check_nothing_is_held()
        scene.check_nothing_came_of_it()
        await scene.host.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("awaited", [True, False], ids=["awaited", "on a thread"])
def test_a_cancellation_during_a_commit_keeps_the_next_plugin_from_its_turn(*, awaited: bool) -> None:
    """The commit is carried through and told; the plugin behind it never begins."""
    scene = Scene(Place("", "", "commit", awaited=awaited, ends_as=fb.Completed), fb.AsyncHost)

    async def main() -> None:
        await scene.prepare_async()
        await scene.host.load_bytes(writes('"x"'), manifest("last", {"name": "text", "priority": 99}))
        await by_cancel(scene)
        scene.check_nothing_is_held()
        check_what_came_of_it(scene)
        await scene.host.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("way", [by_cancel, by_timeout], ids=lambda way: way.__name__)
def test_a_hook_that_fails_closed_hides_no_cancellation(way: Callable[[Scene], Coroutine[Any, Any, float]]) -> None:
    """The plugin has trapped, its writes are being undone, the task is cancelled: that comes out, not `HookFailed`."""
    closed = fb.Filter("text", str, on_trap="raise")
    scene = Scene(Place("", "crash", "rollback", awaited=True, ends_as=fb.Trapped), fb.AsyncHost, hooks=[closed])

    async def main() -> None:
        await scene.prepare_async()
        await way(scene)
        check_what_came_of_it(scene)
        with pytest.raises(fb.HookFailed):
            await scene.call_async()
        await scene.host.aclose()

    asyncio.run(main())


IDENTITY = Identity("waits", "text", None, "r", Grants(db="write", kv=True))
INCREMENTS = guest(
    """(data (i32.const 0) "key")
    (func (export "run") (drop (call $host_kv_increment (i32.const 0) (i32.const 3) (i64.const 1))))"""
)
EXECUTES = guest(
    """(data (i32.const 0) "DELETE FROM notes")
    (func (export "run") (drop (call $host_db_exec (i32.const 0) (i32.const 17) (i32.const 0) (i32.const 0))))"""
)


@pytest.mark.parametrize(
    ("kind", "backend", "module", "call"),
    [
        ("kv", MemoryKv, INCREMENTS, KvIncrement(b"key", 1)),
        ("db", MemoryDb, EXECUTES, DbExec("DELETE FROM notes", ())),
    ],
    ids=["kv", "db"],
)
def test_waiting_for_another_writer_can_be_cancelled(
    kind: str, backend: type[MemoryKv | MemoryDb], module: bytes, call: HostCall
) -> None:
    """A call that waits for the lock of a store in memory is given up within 50 ms too, and never gets that lock."""
    capabilities = {"kv": True} if kind == "kv" else {"db": "write"}

    async def main() -> float:
        store = backend()
        if isinstance(store, MemoryDb):
            store.prepare("waits", migrations("CREATE TABLE notes (n BIGINT)"))
        other = store.session(IDENTITY)
        other.answer(call, time.monotonic() + 10)
        host = fb.AsyncHost(hooks=[TEXT], backends=fb.Backends(**{kind: store}), ceilings=SMALL)
        await host.load_bytes(module, manifest("waits", capabilities=capabilities), grants="as-requested")
        task = asyncio.create_task(host.apply_filter(TEXT, "x"))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        took = time.monotonic() - began
        assert host._services.slots.held == 0
        other.rollback()
        await host.aclose()
        return took

    assert best_of_five(lambda: asyncio.run(main()), SOON_SECONDS) <= SOON_SECONDS


# ── the end of the event loop ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", COMMITS, ids=lambda place: place.name)
def test_the_end_of_the_loops_runner_cuts_no_commit(place: Place) -> None:
    """`asyncio.run` cancels all tasks at its end: a commit that has begun is carried through and told even so."""
    scene = Scene(place, fb.AsyncHost)

    async def main() -> asyncio.Task[str]:
        await scene.prepare_async()
        task = asyncio.create_task(scene.call_async())
        await cancelled_by(scene, lambda: None)
        return task

    assert asyncio.run(main()).cancelled()
    scene.check_nothing_is_held()
    check_what_came_of_it(scene)
    asyncio.run(scene.host.aclose())


def close_loop_during(scene: Scene) -> None:
    """Begin the call on a loop that is closed before it ends, and have the call's coroutine closed."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(scene.prepare_async())
    call = scene.call_async()
    task = loop.create_task(call)
    loop.run_until_complete(scene.until_reached())
    loop.close()
    call.close()
    del task
    gc.collect()


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_a_loop_that_is_closed_meanwhile_holds_nothing(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """No slot and no probe is kept; plain sessions are rolled back, and of others it is told that they can't be."""
    scene = Scene(place, fb.AsyncHost)
    close_loop_during(scene)
    scene.check_nothing_is_held()
    if place.halted != "committed":
        scene.check_nothing_came_of_it()
    has_open_session = place.awaited and place.halted != "session"
    lines = [line for line in caplog.messages if "the event loop was gone" in line and "AwaitedStore" in line]
    assert len(lines) == has_open_session
    scene.free()
    asyncio.run(check_usable(scene))
    asyncio.run(scene.host.aclose())


def test_a_rollback_that_fails_after_the_loop_holds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What a session's rollback raises when the loop is gone is logged, and the slot and the probe are given back."""

    def fail() -> None:
        raise OSError("the disk is gone")

    scene = Scene(Place("", "work", "work"), fb.AsyncHost)
    scene.before_rollback = fail
    close_loop_during(scene)
    scene.check_nothing_is_held()
    scene.check_nothing_came_of_it()
    assert "the disk is gone" in caplog.text
    scene.free()
    asyncio.run(scene.host.aclose())


# ── Ctrl-C ───────────────────────────────────────────────────────────────────────────────────────

PRESSED = [
    Place("a guest that computes", "loop"),
    Place("a function that waits", "work", "work"),
    Place("an answer", "", "answer"),
    Place("a queue for a slot", "", "slot"),
    Place("a commit", "", "commit"),
    Place("a rollback", "crash", "rollback"),
]


def pressed(scene: Scene, work: Callable[[], object]) -> float:
    """Press Ctrl-C once the call is at its place, and return when that was; it must come out."""
    main, out, when = threading.main_thread(), threading.Event(), 0.0
    assert threading.current_thread() is main
    assert main.ident is not None

    def press() -> None:
        nonlocal when
        assert scene.reached.wait(10)
        time.sleep(0.01)  # a signal that comes right before a thread waits is seen only after that
        when = time.monotonic()
        signal.pthread_kill(main.ident or 0, signal.SIGINT)
        if scene.place.ends_as and not out.wait(0.01):
            scene.go.set()
        while not out.wait(1):
            signal.pthread_kill(main.ident or 0, signal.SIGINT)

    def work_until_pressed() -> None:
        presser.start()
        try:
            work()
        finally:
            out.set()
            presser.join()

    presser = threading.Thread(target=press)
    with pytest.raises(KeyboardInterrupt):
        work_until_pressed()
    return when


def keep_awake(loop: asyncio.AbstractEventLoop) -> None:
    """Keep an event loop from waiting for long."""
    loop.call_later(0.005, keep_awake, loop)


@pytest.mark.usefixtures("_ctrl_c_interrupts")
@pytest.mark.parametrize("place", PRESSED, ids=lambda place: place.name)
def test_ctrl_c_leaves_nothing(place: Place) -> None:
    """It comes out of a `Host` within 50 ms, wherever the call is; writes are undone, all is given back."""

    def seconds() -> float:
        scene = Scene(place, fb.Host)
        scene.prepare()
        began = pressed(scene, scene.call)
        took = time.monotonic() - began
        scene.check_nothing_is_held()
        scene.check_nothing_came_of_it()
        scene.free()
        assert isinstance(scene.host.invoke("obedient", TEXT, ""), fb.Completed)
        assert scene.breaker.state is fb.BreakerState.CLOSED
        scene.host.close()
        return took

    assert best_of_five(seconds, SOON_SECONDS) <= SOON_SECONDS


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_a_second_ctrl_c_leaves_nothing_either() -> None:
    """Who presses again while the writes are being undone gets them undone all the same."""

    def press_again() -> None:
        scene.before_rollback = lambda: None
        signal.raise_signal(signal.SIGINT)

    scene = Scene(Place("", "work", "work"), fb.Host)
    scene.prepare()
    scene.before_rollback = press_again
    pressed(scene, scene.call)
    scene.check_nothing_is_held()
    scene.check_nothing_came_of_it()
    scene.host.close()


@pytest.mark.usefixtures("_ctrl_c_interrupts")
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_ctrl_c_under_asyncio_is_a_cancellation(place: Place) -> None:
    """`asyncio.run` cancels its main task at Ctrl-C: a call in it ends as any that is cancelled, within 50 ms."""

    def seconds() -> float:
        scene, ended = Scene(place, fb.AsyncHost), 0.0

        async def main() -> None:
            nonlocal ended
            await scene.prepare_async()
            keep_awake(asyncio.get_running_loop())
            try:
                await scene.call_async()
            finally:
                ended = time.monotonic()
                scene.go.set()

        began = pressed(scene, lambda: asyncio.run(main()))
        scene.check_nothing_is_held()
        check_what_came_of_it(scene)
        scene.free()
        asyncio.run(check_usable(scene))
        asyncio.run(scene.host.aclose())
        return ended - began

    assert best_of_five(seconds, SOON_SECONDS) <= SOON_SECONDS
