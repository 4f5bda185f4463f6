"""What the flows of PostgreSQL wait for, and the two loops that wait: on a thread, and on an event loop.

Rules:
* A flow is a generator with all the rules; it does no waiting of its own. It yields what it waits for, and is told of
  the deadline, and of whatever else ends the wait, by an exception.
* No single wait is longer than what is left, and a flow that never has to wait looks at the time with `Breath`.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock
from typing import Any, Final, TypeVar

from fuseboard._errors import BackendTimeout

T = TypeVar("T")

_LATE: Final = "the database didn't answer before the deadline"


@dataclass(frozen=True, slots=True)
class Io:
    """Until a socket can be read, or written."""

    fd: int
    reads: bool = True
    writes: bool = False


class Signal:
    """Something that happens once, for one who waits."""

    __slots__ = ("_has_happened", "_lock", "_wake")

    def __init__(self) -> None:
        self._lock = Lock()
        self._has_happened = False
        self._wake: Callable[[], object] | None = None

    def call(self, wake: Callable[[], object]) -> None:
        """Have `wake` called when it happens, or now where it has; from any thread."""
        with self._lock:
            self._wake = wake
            has_happened = self._has_happened
        if has_happened:
            wake()

    def happen(self) -> None:
        """Let it have happened."""
        with self._lock:
            self._has_happened = True
            wake = self._wake
        if wake is not None:
            wake()


@dataclass(frozen=True, slots=True)
class Until:
    """Until something has happened."""

    signal: Signal


@dataclass(frozen=True, slots=True)
class Addresses:
    """Until the addresses of a host are known, which are sent."""

    found: Future[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Breath:
    """Until others had their turn."""


Wait = Io | Until | Addresses | Breath
Flow = Generator[Wait, Any, T]


def _seconds_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise BackendTimeout(_LATE)
    return left


# ── on a thread ──────────────────────────────────────────────────────────────────────────────────


def run(flow: Flow[T], deadline: float) -> T:
    """Run a flow to its end, on this thread."""
    _seconds_left(deadline)
    with contextlib.closing(flow):
        try:
            wait = next(flow)
            while True:
                try:
                    result = _wait(wait, _seconds_left(deadline))
                except Exception as error:  # noqa: BLE001  the flow decides
                    wait = flow.throw(error)
                else:
                    wait = flow.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value


def _wait(wait: Wait, seconds: float) -> Any:
    match wait:
        case Io(fd, reads, writes):
            poll = select.poll()
            poll.register(fd, (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0))
            _in_time(poll.poll(seconds * 1e3))
        case Until(signal):
            happened = Event()
            signal.call(happened.set)
            _in_time(happened.wait(seconds))
        case Addresses(found):
            return _looked_up(found, seconds)
        case Breath():
            pass
    return None


def _in_time(happened: object) -> None:
    if not happened:
        raise BackendTimeout(_LATE)


def _looked_up(found: Future[tuple[str, ...]], seconds: float) -> tuple[str, ...]:
    try:
        return found.result(seconds)
    except TimeoutError:
        raise BackendTimeout(_LATE) from None


# ── on an event loop ─────────────────────────────────────────────────────────────────────────────


async def run_async(flow: Flow[T], deadline: float) -> T:
    """Run a flow to its end, on the event loop that runs."""
    _seconds_left(deadline)
    with contextlib.closing(flow):
        try:
            wait = next(flow)
            while True:
                try:
                    async with asyncio.timeout(_seconds_left(deadline)):
                        result = await _awaited(wait)
                except TimeoutError:
                    wait = flow.throw(BackendTimeout(_LATE))
                except Exception as error:  # noqa: BLE001  the flow decides
                    wait = flow.throw(error)
                else:
                    wait = flow.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value


async def _awaited(wait: Wait) -> Any:
    loop = asyncio.get_running_loop()
    match wait:
        case Io():
            await _ready(loop, wait)
        case Until(signal):
            happened = loop.create_future()
            signal.call(partial(_finish_from_anywhere, loop, happened))
            await happened
        case Addresses(found):
            return await asyncio.wrap_future(found)
        case Breath():
            await asyncio.sleep(0)
    return None


async def _ready(loop: asyncio.AbstractEventLoop, wait: Io) -> None:
    ready = loop.create_future()
    if wait.reads:
        loop.add_reader(wait.fd, _finish, ready)
    if wait.writes:
        loop.add_writer(wait.fd, _finish, ready)
    try:
        await ready
    finally:
        loop.remove_reader(wait.fd)
        loop.remove_writer(wait.fd)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _finish_from_anywhere(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(_finish, future)
