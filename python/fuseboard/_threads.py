"""The worker threads of an asynchronous host: for guests that compute, and for calls that may block.

Rules:
* Guests have threads of their own, as many as there are processors: they compute, and more at once would only keep
  the event loop from its turn. A guest goes to the back of the queue after each slice.
* Work runs in a copy of its caller's context, so that nested dispatches know where they are.
* A guest whose time is over before its turn has come is ended on a thread of those that end sessions.
* A call can't be stopped. One that nobody waits for any more keeps its thread until it ends. The ends of sessions
  have threads of their own, so that such calls can't keep a session from its end.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from fuseboard._errors import BackendError
from fuseboard._functions import is_async

T = TypeVar("T")

_log = logging.getLogger("fuseboard")


class Threads:
    """Three pools of threads, which grow as they are needed.

    Args:
        most_calls: how many calls run at once, and how many ends of sessions.
    """

    def __init__(self, most_calls: int) -> None:
        self._most_calls = most_calls
        self._start()

    def _start(self) -> None:
        self._guests = ThreadPoolExecutor(_processors(), "fuseboard-guest")
        self._calls = ThreadPoolExecutor(self._most_calls, "fuseboard-call")
        self._ends = ThreadPoolExecutor(self._most_calls, "fuseboard-end")

    def run_guest(self, work: Callable[[], T]) -> Future[T]:
        """Begin to move a guest on, on a thread."""
        return self._guests.submit(work)

    def end_guest(self, work: Callable[[], T]) -> Future[T]:
        """Begin to move a guest on that is to end at once; it waits for no guest that computes."""
        return self._ends.submit(work)

    async def result(self, work: Callable[[], Any]) -> Any:
        """Await what a coroutine function gives; run a plain one on a thread, and await what it gives, if it can be.

        Who stops waiting takes back what hasn't begun, and leaves alone what has.
        """
        return await _awaited(work() if is_async(work) else _begun(self._calls, work))

    async def committed(self, work: Callable[[], Any]) -> Any:
        """Do as `result` with the commit of a session."""
        return await _awaited(work() if is_async(work) else _begun(self._ends, work))

    async def rolled_back(self, work: Callable[[], Any]) -> Any:
        """Do as `result` with the rollback of a session, which isn't taken back: it may hold what others wait for."""
        return await _awaited(work() if is_async(work) else asyncio.shield(_begun(self._ends, work)))

    @staticmethod
    def carried_through(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task that the end of the event loop's runner doesn't cancel: whoever waits for it is waited for."""
        task = asyncio.get_running_loop().create_task(work)
        asyncio.tasks._unregister_task(task)  # noqa: SLF001  what extensions of asyncio are told to use
        return task

    def close(self) -> None:
        """Let the threads end once they have nothing to do."""
        self._guests.shutdown(wait=False)
        self._calls.shutdown(wait=False)
        self._ends.shutdown(wait=False)

    def after_fork_in_child(self) -> None:
        """Begin with new pools: threads aren't inherited."""
        self._start()


def _begun(pool: ThreadPoolExecutor, work: Callable[[], T]) -> asyncio.Future[T]:
    job = pool.submit(copy_context().run, _without_stop_iteration, work)
    future = asyncio.wrap_future(job)
    job.add_done_callback(partial(_log_if_abandoned, future))
    return future


async def _awaited(begun: Awaitable[Any]) -> Any:
    result = await begun
    return await result if inspect.isawaitable(result) else result


def _processors() -> int:
    can_tell = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if can_tell else os.cpu_count() or 1


def _without_stop_iteration(work: Callable[[], T]) -> T:
    try:
        return work()
    except StopIteration as error:  # no future can hold one
        raise RuntimeError("a call raised StopIteration") from error


def _log_if_abandoned(future: asyncio.Future[T], job: Future[T]) -> None:
    if not future.cancelled() or job.cancelled():
        return
    match job.exception():
        case None:
            pass
        case BackendError() as error:  # an honest end, mostly that of its time
            _log.debug("a call that was given up has ended: %s", error)
        case error:
            _log.error("a call that was given up has failed", exc_info=error)
