"""Fork while threads or event loops run guests; a script with a scenario for each name, like `forks.py`."""

import asyncio
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from multiprocessing import Pipe
from typing import Any

import fuseboard as fb
from guests import module
from sites import Site, busy_site, exit_status, forked, manifest, perform, repeating

# ── threads ──────────────────────────────────────────────────────────────────────────────────────


def beside_threads() -> None:
    """Fork at least 100 times while 8 threads run and load guests; every other child leaves as any program does."""
    sys.setswitchinterval(0.0005)  # all threads are to get on in a short time
    site = busy_site()
    site.serve()

    def serve() -> None:
        assert site.host._services.slots.held == 0
        site.serve(6)
        site.check_all_slots_free()

    trapping = [partial(ends, site, hook, fb.Trapped) for hook in ("spin", "spin", "touch", "touch", "crash")]
    calling = [partial(ends, site, hook, fb.Completed) for hook in ("call", "write")]
    leaving: tuple[Callable[[int], object], ...] = (os._exit, sys.exit)
    end = time.monotonic() + 2
    with repeating(*trapping, *calling, partial(load_new, site)) as at_work:
        for count in itertools.count():
            if count >= 100 and time.monotonic() >= end:
                break
            at_work.set()
            pause(random.uniform(0.0, 0.002))
            child = forked(serve, leaving[count % 2])
            at_work.clear()  # the child is to have the processors
            assert exit_status(child) == 0, f"fork {count}"
    site.serve()
    site.check_all_slots_free()
    site.host.close()


def ends(site: Site, hook: str, kind: type[fb.Completed[str] | fb.Trapped]) -> None:
    """Run a plugin, and look at how it ended; where the machine paused the thread, it may have come too late."""
    outcome = site.run(hook)
    assert isinstance(outcome, kind | fb.Skipped), outcome


def load_new(site: Site) -> None:
    """Load a plugin, run it, and unload it."""
    site.load(module("exact"), manifest("new", {"new": "grow"}))
    site.run("new")
    site.host.unload("new")


def pause(seconds: float) -> None:
    """Let other threads run for a while."""
    threading.Event().wait(seconds)


def from_two_threads() -> None:
    """Fork from two threads at the same time, while others compute."""
    site = busy_site()
    site.serve()
    forks = itertools.count()

    def fork() -> None:
        assert exit_status(forked(site.serve)) == 0
        next(forks)

    with repeating(fork, fork, *[partial(ends, site, "spin", fb.Trapped)] * 3):
        pause(1)
    assert next(forks) > 1
    site.serve()
    site.check_all_slots_free()


def with_a_lock() -> None:
    """Fork where the application takes a lock of its own for each fork, as it does for its calls."""
    lock = threading.Lock()
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    site = busy_site()

    def call() -> None:
        with lock:
            ends(site, "spin", fb.Trapped)

    with repeating(call, call):
        for _ in range(20):
            assert exit_status(forked(site.serve)) == 0
    site.serve()
    site.check_all_slots_free()


# ── a server ─────────────────────────────────────────────────────────────────────────────────────


class Worker:
    """A process that serves from 4 threads whenever it is told to."""

    def __init__(self, site: Site) -> None:
        self._here, self._there = Pipe()
        self.pid = forked(partial(self._work, site))

    def _work(self, site: Site) -> None:
        while self._there.recv():
            with repeating(*[partial(site.serve, 2)] * 4):
                pause(0.02)
            site.check_all_slots_free()
            self._there.send("served")

    def begin(self, *, to_serve: bool = True) -> None:
        self._here.send(to_serve)

    def has_served(self) -> bool:
        return bool(self._here.recv() == "served")


def preloading_server() -> None:
    """Load plugins, fork 4 workers, kill one of them at work, and put another in its place."""
    site = Site()
    workers = [Worker(site) for _ in range(4)]
    for worker in workers:
        worker.begin()
    os.kill(workers[0].pid, signal.SIGKILL)
    assert exit_status(workers[0].pid) == -signal.SIGKILL
    workers[0] = Worker(site)
    workers[0].begin()
    assert all(worker.has_served() for worker in workers)
    for worker in workers:
        worker.begin()
    site.serve()
    assert all(worker.has_served() for worker in workers)
    for worker in workers:
        worker.begin(to_serve=False)
    assert [exit_status(worker.pid) for worker in workers] == [0] * 4
    site.serve()
    site.check_all_slots_free()


# ── event loops ──────────────────────────────────────────────────────────────────────────────────


def between_event_loops() -> None:
    """Use an `AsyncHost` on an event loop, fork, and use it on a loop of their own in both processes."""
    site = Site(fb.AsyncHost)
    asyncio.run(loaded(site))
    asyncio.run(use(site))
    child = forked(lambda: asyncio.run(use(site, closing=True)), sys.exit)
    asyncio.run(use(site, closing=True))
    assert exit_status(child) == 0


async def loaded(site: Site) -> None:
    """Load the plugins, one of which computes for longer than a moment."""
    await site.loaded
    await site.load(module("exact"), manifest("new", {"new": "count"}, fuel_per_invocation=50_000_000))


async def use(site: Site, *, closing: bool = False) -> None:
    """Serve from several tasks at once."""
    async with asyncio.TaskGroup() as tasks:
        for _ in range(6):
            tasks.create_task(site.serve_async(3))
    site.check_all_slots_free()
    if closing:
        await site.host.aclose()


def serve_anew(site: Site) -> None:
    """Do what a child does that has no event loop yet."""
    site.on_mail = bool
    asyncio.run(use(site, closing=True))


def beside_tasks(fork: Callable[[Site], Coroutine[Any, Any, object]]) -> None:
    """Fork in some way while the tasks of an event loop serve."""
    site = Site(fb.AsyncHost)

    async def main() -> None:
        await loaded(site)
        serving = [asyncio.create_task(site.serve_async(5)) for _ in range(4)]
        for _ in range(5):
            await fork(site)
        await asyncio.gather(*serving)
        await use(site, closing=True)

    asyncio.run(main())


def in_a_worker_thread() -> None:
    """Fork in a worker thread of a running event loop."""

    async def fork(site: Site) -> None:
        child = await asyncio.to_thread(forked, partial(serve_anew, site))
        assert await asyncio.to_thread(exit_status, child) == 0

    beside_tasks(fork)


def in_a_task() -> None:
    """Fork in a task, on the event loop's own thread."""

    async def fork(site: Site) -> None:
        child = forked(partial(serve_anew, site))
        assert await asyncio.to_thread(exit_status, child) == 0

    beside_tasks(fork)


def in_a_function_of_a_task() -> None:
    """Fork in a function that a guest calls, on a thread of the host's."""

    async def fork(site: Site) -> None:
        children: list[int] = []
        site.on_mail = lambda: children.append(forked(partial(serve_anew, site)))
        dispatched = await site.host.dispatch("call_function_2", "x")
        site.on_mail = bool
        assert isinstance(dispatched.outcomes[0], fb.Completed)
        for child in children:
            assert await asyncio.to_thread(exit_status, child) == 0

    beside_tasks(fork)


if __name__ == "__main__":
    perform(
        beside_threads, from_two_threads, with_a_lock, preloading_server, between_event_loops,
        in_a_worker_thread, in_a_task, in_a_function_of_a_task,
    )  # fmt: skip
