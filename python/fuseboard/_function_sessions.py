"""The application's functions as a backend: how a guest's call reaches one, and what happens once the writes last.

Rules:
* Arguments are decoded against the annotations, all by name; nothing of another shape reaches a function.
* A result crosses as JSON that fits the annotation, or not at all: anything else is the function's error.
* Callbacks run once the writes are lasting: nothing that one raises keeps the others from running.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fuseboard._errors import BackendError
from fuseboard._function_values import Signature
from fuseboard._functions import INJECTED, Call, HostFunction, is_async, usage_error
from fuseboard._hostcalls import AnswerCode, FunctionCall, FunctionResult, function_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fuseboard._hostcalls import Answer, HostCall
    from fuseboard._threads import Threads
    from fuseboard.backends import Identity

_log = logging.getLogger("fuseboard")


class Functions:
    """The functions of one host, as the backend that serves `FunctionCall`.

    Attributes:
        declared: they themselves, in their order.
        names: what they are called.
        ceilings: by the limit's name (`functions.<name>`), for those declared with `per_invocation`.
        async_names: those that are coroutine functions; only an asynchronous host can call them.

    Raises:
        UsageError: two have the same name, one isn't declared with `@host_function`, or its annotations can't be used.
    """

    def __init__(self, functions: Iterable[HostFunction[..., Any]]) -> None:
        declared = [_declared(function) for function in functions]
        _check_unique(function.name for function in declared)
        self.declared = tuple(declared)
        self._by_name = {function.name: _Callable.of(function) for function in declared}
        self.names = frozenset(self._by_name)
        self.ceilings = {
            function_limit(function.name): function.per_invocation
            for function in declared
            if function.per_invocation is not None
        }
        self.async_names = frozenset(function.name for function in declared if is_async(function))

    def session(self, identity: Identity) -> _FunctionsSession:
        """Return a session for one invocation."""
        return _FunctionsSession(identity, self._by_name)


class AsyncFunctions(Functions):
    """The functions of an asynchronous host: coroutine functions are awaited, others run on its threads.

    Args:
        functions: as for `Functions`.
        threads: where plain functions run.
    """

    def __init__(self, functions: Iterable[HostFunction[..., Any]], threads: Threads) -> None:
        super().__init__(functions)
        self._threads = threads
        self._background: set[asyncio.Task[None]] = set()

    async def finish(self, seconds: float) -> bool:
        """Wait for callbacks that outlived their commit, at most this long, and return whether they have ended."""
        if not self._background:
            return True
        _, running = await asyncio.wait(self._background, timeout=seconds)
        return not running

    def is_callback(self, task: object) -> bool:
        """Return whether a task runs callbacks."""
        return task in self._background

    def after_fork_in_child(self) -> None:
        """Forget the tasks of the parent's event loop."""
        self._background.clear()

    def session(self, identity: Identity) -> _AsyncFunctionsSession:  # type: ignore[override]
        """Return a session for one invocation, with coroutines for methods."""
        return _AsyncFunctionsSession(identity, self._by_name, self._threads, self._background)


class _Calls:
    """What sessions of both kinds share: reading a call, and what is to happen once the writes last."""

    is_async = False

    def __init__(self, identity: Identity, functions: dict[str, _Callable]) -> None:
        self._identity = identity
        self._functions = functions
        self._callbacks: list[Callable[[], object]] = []

    def _read(self, call: HostCall, deadline: float) -> tuple[_Callable, dict[str, Any]]:
        if not isinstance(call, FunctionCall):
            raise TypeError(f"functions don't serve {type(call).__name__}")
        function = self._functions.get(call.name)
        if function is None:
            raise BackendError(f"there is no function {call.name!r}", code=AnswerCode.NOT_FOUND)
        arguments = function.signature.read(call.arguments)
        if function.signature.wants_call:
            arguments[INJECTED] = self._call(deadline)
        return function, arguments

    def _call(self, deadline: float) -> Call:
        return Call(
            **self._identity.names(), deadline=deadline, _callbacks=self._callbacks, _takes_coroutines=self.is_async
        )

    def _taken_callbacks(self) -> tuple[Callable[[], object], ...]:
        callbacks = tuple(self._callbacks)
        self._callbacks.clear()
        return callbacks

    def _log_failure(self, error: Exception) -> None:
        """Log what a callback raised: the writes are lasting, nothing can be undone, and the others must still run."""
        who = self._identity
        _log.error("on_commit of plugin %s on %s failed", who.plugin, who.hook, extra=who.names(), exc_info=error)


class _FunctionsSession(_Calls):
    def answer(self, call: HostCall, deadline: float) -> Answer:
        function, arguments = self._read(call, deadline)
        return FunctionResult(function.signature.write(function.function(**arguments)))

    def commit(self, deadline: float) -> None:  # noqa: ARG002  what was asked for is done, however late
        for callback in self._taken_callbacks():
            try:
                _check_done(callback())
            except Exception as error:  # noqa: BLE001  it may raise anything; it is logged
                self._log_failure(error)

    def rollback(self) -> None:
        self._callbacks.clear()


class _AsyncFunctionsSession(_Calls):
    is_async = True

    def __init__(
        self,
        identity: Identity,
        functions: dict[str, _Callable],
        threads: Threads,
        background: set[asyncio.Task[None]],
    ) -> None:
        super().__init__(identity, functions)
        self._threads = threads
        self._background = background

    async def answer(self, call: HostCall, deadline: float) -> Answer:
        function, arguments = self._read(call, deadline)
        result = await self._threads.result(functools.partial(function.function, **arguments))
        return FunctionResult(function.signature.write(result))

    async def commit(self, deadline: float) -> None:  # noqa: ARG002  what was asked for is done, however late
        callbacks = self._taken_callbacks()
        if not callbacks:
            return
        running = self._threads.carried_through(self._run_all(callbacks))
        self._background.add(running)
        running.add_done_callback(self._background.discard)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:  # the commit's time is over: the writes are lasting all the same
            who = self._identity
            _log.warning("on_commit of plugin %s on %s takes long", who.plugin, who.hook, extra=who.names())

    async def rollback(self) -> None:
        self._callbacks.clear()

    async def _run_all(self, callbacks: tuple[Callable[[], object], ...]) -> None:
        for callback in callbacks:
            try:
                await self._threads.result(callback)
            except Exception as error:  # noqa: BLE001  it may raise anything; it is logged
                self._log_failure(error)


@dataclass(frozen=True, slots=True)
class _Callable:
    """A declared function with what reads its arguments and writes its result."""

    function: Callable[..., object]
    signature: Signature

    @classmethod
    def of(cls, declared: HostFunction[..., Any]) -> _Callable:
        return cls(declared.function, Signature(declared))


def _check_done(result: object) -> None:
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("the callback gave a coroutine, and a Host awaits none")


def _declared(function: object) -> HostFunction[..., Any]:
    if not isinstance(function, HostFunction):
        raise usage_error(function, 'it is not declared; decorate it with @host_function("some.name")')
    return function


def _check_unique(names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise usage_error(name, f"{count} functions have this name; give each its own")
