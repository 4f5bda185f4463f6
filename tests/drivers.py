"""The two drivers behind one face: a host whose calls are awaited on an event loop of its own looks like a `Host`.

That loop is watched: a callback that keeps it from its other work for over 20 ms is written down, and fails the test.
What isn't the callback's own doing doesn't count: Linux tells how long the thread waited for a processor, and Python
how long it collected garbage, and waited for a new thread to be given a processor. Where the callback computed little,
nor does it count how late a thread was that only sleeps: the machine was busy, or somebody else had the GIL.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast

import fuseboard as fb

T = TypeVar("T")

LONGEST_SECONDS: Final = 0.020
blocked: list[str] = []
"""What has held up an event loop since a test began."""

_run_handle = asyncio.events.Handle._run
_of_thread = threading.local()


def _stolen_seconds() -> float:
    """Return how long this thread has waited for a processor."""
    if not hasattr(_of_thread, "schedstat"):
        place = Path("/proc/thread-self/schedstat")
        _of_thread.schedstat = os.open(place, os.O_RDONLY) if place.exists() else None
    if _of_thread.schedstat is None:
        return 0.0
    return int(os.pread(_of_thread.schedstat, 100, 0).split()[1]) / 1e9


class _Collections:
    """How long garbage was collected, in all."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __call__(self, phase: str, _: object) -> None:
        now = time.perf_counter()
        if phase == "stop":
            self.seconds += now - self._began
        self._began = now


_collections = _Collections()
gc.callbacks.append(_collections)


_start_thread = threading.Thread.start


def _watched_start(thread: threading.Thread) -> None:
    began, stolen = time.perf_counter(), _stolen_seconds()
    _start_thread(thread)
    waited = time.perf_counter() - began - (_stolen_seconds() - stolen)
    _of_thread.starting = getattr(_of_thread, "starting", 0.0) + waited


threading.Thread.start = _watched_start  # type: ignore[assignment,method-assign]


def _others() -> float:
    """Return for how many seconds others have kept this thread from its work."""
    return _stolen_seconds() + _collections.seconds + getattr(_of_thread, "starting", 0.0)


class _Sleeper:
    """A thread that only sleeps, and notes when it woke and how late it was."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, float]] = deque(maxlen=1_000)
        threading.Thread(target=self._sleep, name="sleeper", daemon=True).start()

    def _sleep(self) -> None:
        while True:
            due = time.perf_counter() + 0.005
            time.sleep(0.005)
            now = time.perf_counter()
            self._notes.append((now, now - due))

    def late_since(self, began: float) -> float:
        """Return how late it was since then, in all; it is given a moment to note what it was late by just now."""
        time.sleep(0.01)
        return sum(late for woke, late in tuple(self._notes) if woke > began)


@cache
def _sleeper() -> _Sleeper:
    return _Sleeper()


def _watched_run(handle: asyncio.events.Handle) -> None:
    sleeper = _sleeper()
    began, others, computed = time.perf_counter(), _others(), time.thread_time() - _collections.seconds
    _run_handle(handle)
    took = time.perf_counter() - began
    if took <= LONGEST_SECONDS:
        return
    computed = time.thread_time() - _collections.seconds - computed
    own = took - (_others() - others)
    if computed > LONGEST_SECONDS or own - sleeper.late_since(began) > LONGEST_SECONDS:
        blocked.append(f"{took * 1e3:.0f} ms, {computed * 1e3:.0f} of it computing: {handle!r}")


asyncio.events.Handle._run = _watched_run  # type: ignore[assignment,method-assign]


@cache
def _loop() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="event loop", daemon=True)
    thread.start()
    return loop, thread


def awaited(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine gives, run on the event loop that the tests share."""
    loop, thread = _loop()
    assert threading.current_thread() is not thread, "a callback on the event loop can't wait for it"
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class _AwaitedHost:
    """An `AsyncHost` that looks like a `Host`."""

    def __init__(self, **arguments: Any) -> None:
        self._host = fb.AsyncHost(**arguments)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._host, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute
        return lambda *arguments, **named: awaited(attribute(*arguments, **named))

    def close(self) -> None:
        awaited(self._host.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


MakeHost = Callable[..., fb.Host]
DRIVERS: Final[dict[str, MakeHost]] = {"sync": fb.Host, "async": cast("MakeHost", _AwaitedHost)}
