"""The application's own functions: how they are declared, what they are told, and how a guest's call reaches them.

Rules:
* Everything about a function is checked before a guest can call it: its signature when it is declared, its
  annotations when a host gets it. Every mistake is a `UsageError` that names the function.
* Arguments are decoded against the annotations, all by name; nothing of another shape reaches a function.
* A result crosses as JSON or not at all: NaN and infinities, which JSON can't hold, are the function's error.
* Functions aren't rolled back. `call.on_commit` is for what must only happen when the invocation's writes last.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, get_type_hints

import msgspec

from fuseboard._errors import BackendError, UsageError
from fuseboard._hostcalls import AnswerCode, FunctionCall, FunctionResult, function_limit
from fuseboard._text import DOTTED_NAME
from fuseboard._values import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fuseboard._hostcalls import Answer, HostCall
    from fuseboard._threads import Threads
    from fuseboard.backends import Identity

P = ParamSpec("P")
R = TypeVar("R")

_INJECTED: Final = "call"
_REFUSED_KINDS: Final[dict[object, str]] = {
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only, but guests pass arguments by name; remove the '/'",
    inspect.Parameter.VAR_POSITIONAL: "takes any number of arguments, but guests pass them by name; use a list",
    inspect.Parameter.VAR_KEYWORD: "takes any name; declare each argument, or one dict",
}
_logger: Final = logging.getLogger("fuseboard")


@dataclass(frozen=True, slots=True)
class HostFunction(Generic[P, R]):
    """A function of the application that plugins can be granted; called by the application, it is the plain function.

    Attributes:
        name: what manifests, grants and guests call it.
        per_invocation: how often one invocation may call it, or `None`; a limit `functions.<name>` of its own.
        function: the plain function.

    Raises:
        UsageError: the name, the limit or the function's signature can't be used.
    """

    name: str
    per_invocation: int | None
    function: Callable[P, R]

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_per_invocation(self.name, self.per_invocation)
        _check_signature(self.name, self.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain function."""
        return self.function(*args, **kwargs)


def host_function(name: str, *, per_invocation: int | None = None) -> Callable[[Callable[P, R]], HostFunction[P, R]]:
    """Declare a function that plugins can be granted; pass it in `Host(functions=[...])`.

    Its parameters are decoded by their annotations (none: any JSON). A keyword-only parameter `call` gets a `Call`.

    Args:
        name: `[a-z][a-z0-9_.-]{0,127}`, e.g. `mail.send`.
        per_invocation: how often one invocation may call it; the next call trips `functions.<name>`.

    Raises:
        UsageError: the name, the limit or the function's signature can't be used.
    """
    _check_name(name)
    return lambda function: HostFunction(name, per_invocation, function)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """On whose behalf a function of the application is called.

    Attributes:
        plugin: the plugin's slug.
        hook: the hook's name.
        request_id: the request's id.
        scope: the tenant, or `None`.
        deadline: until when the answer is of use, in seconds of `time.monotonic()`.
    """

    plugin: str
    hook: str
    request_id: str
    scope: str | None
    deadline: float
    _callbacks: list[Callable[[], object]] = field(default_factory=list, repr=False, compare=False)
    _takes_coroutines: bool = field(default=False, repr=False, compare=False)

    def on_commit(self, callback: Callable[[], object]) -> None:
        """Run this after the invocation's writes are committed; not when it is rolled back.

        Callbacks run in order; an exception of one is logged and the others still run. An `AsyncHost` takes coroutine
        functions too.

        Raises:
            UsageError: it can't be called, or nobody would await it.
        """
        if not callable(callback):
            raise UsageError(f"call.on_commit needs a function without arguments, not {callback!r}")
        if is_async(callback) and not self._takes_coroutines:
            raise UsageError(f"call.on_commit of a Host can't await {callback!r}; pass a plain function")
        self._callbacks.append(callback)


class Functions:
    """The functions of one host, as the backend that serves `FunctionCall`.

    Attributes:
        names: what they are called.
        ceilings: by the limit's name (`functions.<name>`), for those declared with `per_invocation`.
        async_names: those that are coroutine functions; only an asynchronous host can call them.

    Raises:
        UsageError: two have the same name, one isn't declared with `@host_function`, or its annotations can't be used.
    """

    def __init__(self, functions: Iterable[HostFunction[..., Any]]) -> None:
        declared = [_declared(function) for function in functions]
        _check_unique(function.name for function in declared)
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
        arguments = function.arguments(call.arguments)
        if function.wants_call:
            arguments[_INJECTED] = self._call(deadline)
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
        _logger.error("on_commit of plugin %s on %s failed", who.plugin, who.hook, extra=who.names(), exc_info=error)


class _FunctionsSession(_Calls):
    def answer(self, call: HostCall, deadline: float) -> Answer:
        function, arguments = self._read(call, deadline)
        return FunctionResult(write_json(function.function(**arguments)))

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
        return FunctionResult(write_json(await self._threads.result(functools.partial(function.function, **arguments))))

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
            _logger.warning("on_commit of plugin %s on %s takes long", who.plugin, who.hook, extra=who.names())

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
    """A declared function with what reads its arguments."""

    function: Callable[..., object]
    decoder: msgspec.json.Decoder[msgspec.Struct]
    parameters: tuple[str, ...]
    wants_call: bool

    @classmethod
    def of(cls, declared: HostFunction[..., Any]) -> _Callable:
        parameters = inspect.signature(declared.function).parameters
        names = tuple(name for name in parameters if name != _INJECTED)
        hints = _hints(declared)
        # A default is the function's own business: what a guest leaves out isn't passed.
        fields = [
            (name, hints.get(name, Any), msgspec.field(default=msgspec.UNSET))
            if parameters[name].default is not inspect.Parameter.empty
            else (name, hints.get(name, Any))
            for name in names
        ]
        return cls(declared.function, _decoder(declared.name, fields), names, _INJECTED in parameters)

    def arguments(self, data: bytes) -> dict[str, Any]:
        try:
            decoded = self.decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BackendError(f"the arguments don't fit: {error}", code=AnswerCode.BAD_REQUEST) from error
        values = ((name, getattr(decoded, name)) for name in self.parameters)
        return {name: value for name, value in values if value is not msgspec.UNSET}


def _check_done(result: object) -> None:
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("the callback gave a coroutine, and a Host awaits none")


def is_async(function: Callable[..., object]) -> bool:
    """Return whether calling this gives something to await or to iterate asynchronously, not a result."""
    plain = _plain(function)
    candidates = (plain, type(plain).__call__)
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in candidates)


def _plain(function: Callable[..., object]) -> Callable[..., object]:
    """Take declarations and partials off a function."""
    while True:
        match function:
            case HostFunction():
                function = function.function
            case functools.partial():
                function = function.func
            case _:
                return function


def _hints(declared: HostFunction[..., Any]) -> dict[str, Any]:
    plain = _plain(declared)
    annotated = plain if inspect.isroutine(plain) else type(plain).__call__
    try:
        return get_type_hints(annotated, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        advice = "the names must exist at run time, so import them outside `if TYPE_CHECKING:`"
        raise _usage_error(declared.name, f"its annotations can't be resolved ({error}); {advice}") from error


def _decoder(name: str, fields: list[Any]) -> msgspec.json.Decoder[msgspec.Struct]:
    try:
        arguments = msgspec.defstruct("Arguments", fields, forbid_unknown_fields=True, kw_only=True)
        msgspec.json.schema(arguments)  # a type that JSON can't hold fails here, and not at each call
        return msgspec.json.Decoder(arguments)
    except TypeError as error:
        raise _usage_error(name, f"its arguments can't be read from JSON: {error}") from error


# ── checks ───────────────────────────────────────────────────────────────────────────────────────


def _usage_error(name: object, problem: str) -> UsageError:
    return UsageError(f"host function {name!r}: {problem}")


def _check_name(name: object) -> None:
    if callable(name):
        raise _usage_error(name, 'it has no name; declare it with @host_function("some.name")')
    if not isinstance(name, str) or not DOTTED_NAME.fullmatch(name):
        raise _usage_error(name, f"the name must match {DOTTED_NAME.pattern}")


def _check_per_invocation(name: str, count: object) -> None:
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise _usage_error(name, f"per_invocation={count!r} must be a whole number from 0, or None for no limit")


def _check_signature(name: str, function: object) -> None:
    if not callable(function):
        raise _usage_error(name, f"{function!r} can't be called")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise _usage_error(name, f"its signature can't be read ({error}); wrap it in a function") from error
    for parameter in parameters:
        _check_parameter(name, parameter)


def _check_parameter(name: str, parameter: inspect.Parameter) -> None:
    problem = _REFUSED_KINDS.get(parameter.kind)
    if problem is None and parameter.name == _INJECTED and parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        problem = "gets the Call and must be keyword-only; put a '*' before it"
    if problem:
        raise _usage_error(name, f"parameter {parameter.name!r} {problem}")


def _declared(function: object) -> HostFunction[..., Any]:
    if not isinstance(function, HostFunction):
        raise _usage_error(function, 'it is not declared; decorate it with @host_function("some.name")')
    return function


def _check_unique(names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise _usage_error(name, f"{count} functions have this name; give each its own")
