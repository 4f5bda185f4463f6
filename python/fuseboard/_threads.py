"""The worker threads of an asynchronous host: for guests that compute, and for calls that may block.

Rules:
* Guests have threads of their own, as many as there are processors: they compute, and more at once would only keep
  the event loop from its turn. A guest goes to the back of the queue after each slice.
* Work runs in a copy of its caller's context, so that nested dispatches know where they are.
* A call can't be stopped. One that nobody waits for any more keeps its thread until it ends.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from fuseboard._functions import is_async

T = TypeVar("T")

_log = logging.getLogger("fuseboard")


class Threads:
    """Two pools of threads, which grow as they are needed.

    Args:
        most_calls: how many calls run at once.
    """

    def __init__(self, most_calls: int) -> None:
        self._most_calls = most_calls
        self._start()

    def _start(self) -> None:
        self._guests = ThreadPoolExecutor(_processors(), "fuseboard-guest")
        self._calls = ThreadPoolExecutor(self._most_calls, "fuseboard-call")

    def run_guest(self, work: Callable[[], T]) -> Future[T]:
        """Begin to move a guest on, on a thread."""
        return self._guests.submit(work)

    def run_call(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Begin a call on a thread; cancelling it takes it back where it hasn't begun, else leaves it alone."""
        job = self._calls.submit(copy_context().run, _without_stop_iteration, work)
        future = asyncio.wrap_future(job)
        job.add_done_callback(partial(_log_if_abandoned, future))
        return future

    async def result(self, work: Callable[[], Any]) -> Any:
        """Await what a coroutine function gives; run a plain one on a thread, and await what it gives, if it can be."""
        result = await (work() if is_async(work) else self.run_call(work))
        return await result if inspect.isawaitable(result) else result

    def close(self) -> None:
        """Let the threads end once they have nothing to do."""
        self._guests.shutdown(wait=False)
        self._calls.shutdown(wait=False)

    def after_fork_in_child(self) -> None:
        """Begin with new pools: threads aren't inherited."""
        self._start()


def _processors() -> int:
    can_tell = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if can_tell else os.cpu_count() or 1


def _without_stop_iteration(work: Callable[[], T]) -> T:
    try:
        return work()
    except StopIteration as error:  # no future can hold one
        raise RuntimeError("a call raised StopIteration") from error


def _log_if_abandoned(future: asyncio.Future[T], job: Future[T]) -> None:
    if future.cancelled() and not job.cancelled() and (error := job.exception()) is not None:
        _log.error("a call that was given up has failed", exc_info=error)
