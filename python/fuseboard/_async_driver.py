"""The loop that waits on an event loop: it performs a flow's effects as `_drivers` does, and lets other tasks run.

Rules:
* A flow runs here, and with it the guests' first slices; what outlives them, and what isn't known to be quick, moves
  to a worker thread.
* Coroutines are awaited, until the deadline where there is one; plain methods run on worker threads.
* A task that is cancelled goes on until its guest has ended, then learns of it. Commit and rollback are carried
  through first, and so is what reports them.
* Whatever happens, other tasks get their turn every few milliseconds, and no flow keeps others from theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import Any, Final, Generic, TypeVar

from fuseboard import _core
from fuseboard._drivers import Abandoned, throw
from fuseboard._effects import Acquire, Ask, Commit, Continue, Effect, Flow, Open, Pause, Rollback, Sleep
from fuseboard._errors import BackendTimeout
from fuseboard._functions import is_async
from fuseboard._sessions import Services
from fuseboard._threads import Threads

T = TypeVar("T")
Step = _core.Completed | _core.Suspended | _core.Running | _core.Trapped

_TURN_SECONDS: Final = 0.002
"""How long other tasks wait at most for flows that never have to."""

_WOKEN_AT_ONCE: Final = 8
"""How many flows that waited go on in one pass of the loop: each for a first slice, of 200 µs at most."""

_log = logging.getLogger("fuseboard")


class AsyncDriver:
    """Drives the flows of one host on the running event loop.

    In each pass of the loop, flows have a turn that begins with the first that comes. Who comes when it is over, or
    when others wait, waits behind them. In each pass a few of those who wait go on, and then wait again.
    """

    def __init__(self, services: Services, threads: Threads) -> None:
        self.services = services
        self.threads = threads
        self.loop = asyncio.get_running_loop()
        self._turn_ends: float | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    def drive(self, flow: Flow[T]) -> Coroutine[Any, Any, T]:
        """Return a coroutine that runs a flow to its end and returns what it returns."""
        return _Drive(self, flow).run()

    def is_turn_over(self) -> bool:
        """Return whether other tasks must get their turn now."""
        if self._turn_ends is None:
            self._begin_turn(_TURN_SECONDS)
            return False
        return bool(self._waiting) or self.loop.time() >= self._turn_ends

    async def others_turn(self) -> None:
        """Let all other tasks have their turn, and wait for one of one's own."""
        waiter = self.loop.create_future()
        self._waiting.append(waiter)
        await waiter

    def _begin_turn(self, seconds: float) -> None:
        self._turn_ends = self.loop.time() + seconds
        self.loop.call_soon(self._next_pass)

    def _next_pass(self) -> None:
        self._turn_ends = None
        woken = 0
        while self._waiting and woken < _WOKEN_AT_ONCE:
            waiter = self._waiting.popleft()
            if not waiter.done():  # else its task was cancelled
                waiter.set_result(None)
                woken += 1
        if woken:
            self._begin_turn(_TURN_SECONDS if woken == 1 else 0.0)


class _Drive(Generic[T]):
    """One flow on its way.

    A cancellation that comes while a commit or a rollback is carried through is kept in `_cancelled` until then.
    """

    def __init__(self, driver: AsyncDriver, flow: Flow[T]) -> None:
        self._driver = driver
        self._services = driver.services
        self._threads = driver.threads
        self._loop = driver.loop
        self._flow = flow
        self._cancelled: asyncio.CancelledError | None = None

    async def run(self) -> T:
        """Run the flow to its end."""
        if self._driver.is_turn_over():
            await self._driver.others_turn()
        thrown: BaseException | None = None
        while True:
            try:
                return await self._run(thrown)
            except GeneratorExit as error:  # the loop is gone: nothing can be awaited any more
                with contextlib.suppress(Abandoned):
                    self._give_up(error)
                raise
            except BaseException as error:
                if inspect.getgeneratorstate(self._flow) == inspect.GEN_CLOSED:
                    self._raise_if_cancelled()
                    raise
                thrown = error  # the flow decides, and re-raises what isn't its own

    async def _run(self, thrown: BaseException | None) -> T:
        try:
            effect = self._flow.send(None) if thrown is None else throw(self._flow, thrown)
            while True:
                effect = self._flow.send(await self._perform(effect))
        except StopIteration as stop:
            self._raise_if_cancelled()
            value: T = stop.value
            return value

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Commit(session, deadline):
                work = self._threads.committed(partial(session.commit, deadline))
                await self._carry_through("commit", work, deadline)
            case Rollback(session, deadline):
                await self._carry_through("rollback", self._threads.rolled_back(session.rollback), deadline)
            case _:
                self._raise_if_cancelled()
                if self._driver.is_turn_over():
                    await self._driver.others_turn()
                return await self._perform_cancellable(effect)
        return None

    async def _perform_cancellable(self, effect: Pause | Acquire | Continue | Sleep | Open | Ask) -> Any:
        match effect:
            case Ask(session, call, deadline):
                return await self._in_time(self._threads.result(partial(session.answer, call, deadline)), deadline)
            case Continue():
                return await self._continue(effect)
            case Acquire():
                await self._acquire(effect)
            case Sleep(until):
                await asyncio.sleep(max(0.0, until - self._services.clock()))
            case Open(opening, deadline):
                return await self._in_time(opening, deadline)
        return None

    def _raise_if_cancelled(self) -> None:
        if self._cancelled is not None:
            error, self._cancelled = self._cancelled, None
            raise error

    # ── the guest ────────────────────────────────────────────────────────────────────────────────

    async def _continue(self, effect: Continue) -> Step:
        move = partial(effect.execution.resume, slices=1)
        job = self._threads.run_guest(move)
        try:
            await asyncio.wait([asyncio.wrap_future(job)], timeout=max(0.0, effect.deadline - self._services.clock()))
            if job.cancel():  # its time is over before its turn has come: to end it takes none
                job = self._threads.end_guest(move)
            return await asyncio.shield(asyncio.wrap_future(job))
        except asyncio.CancelledError:
            effect.execution.interrupt()
            if not job.cancel():
                await _ended(asyncio.wrap_future(job))
            raise

    async def _acquire(self, effect: Acquire) -> None:
        held = self._loop.create_future()
        wake = partial(_finish_from_anywhere, self._loop, held)
        timer = self._loop.call_later(max(0.0, effect.deadline - self._services.clock()), _finish, held)
        self._services.slots.call_when_held(effect.ticket, wake)
        try:
            await held
        finally:
            timer.cancel()

    # ── backends ─────────────────────────────────────────────────────────────────────────────────

    async def _in_time(self, awaitable: Awaitable[Any], deadline: float) -> Any:
        try:
            async with asyncio.timeout(max(0.0, deadline - self._services.clock())) as timer:
                return await awaitable
        except TimeoutError as error:
            if timer.expired():
                raise BackendTimeout("there was no answer before the deadline") from error
            raise

    async def _carry_through(self, what: str, work: Coroutine[Any, Any, Any], deadline: float) -> None:
        """Perform the end of a session, whether this task is cancelled meanwhile or not."""
        ending = self._threads.carried_through(self._in_time(work, deadline))
        while not ending.done():
            try:
                await asyncio.wait([ending])
            except asyncio.CancelledError as error:
                self._cancelled = error
        if (result := ending.result()) is not None:
            raise TypeError(f"a session's {what} must return None, not {type(result).__name__}")

    def _give_up(self, error: GeneratorExit) -> None:
        """End the flow where no loop runs any more."""
        effect = throw(self._flow, error)
        while True:
            try:
                if isinstance(effect, Rollback) and not is_async(effect.session.rollback):
                    effect.session.rollback()
                else:
                    _log.warning("the event loop was gone before this could be done: %r", effect)
                effect = self._flow.send(None)
            except StopIteration:
                return
            except Exception as failure:  # noqa: BLE001  the flow decides
                effect = throw(self._flow, failure)


async def _ended(future: asyncio.Future[Any]) -> None:
    """Wait for a future, whether this task is cancelled again or not; what came of it is of no interest."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _finish_from_anywhere(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(_finish, future)
