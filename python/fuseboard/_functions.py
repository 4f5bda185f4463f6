"""The application's own functions: how they are declared, and what they are told.

Rules:
* Everything about a function is checked before a guest can call it: its signature when it is declared, its
  annotations when a host gets it. Every mistake is a `UsageError` that names the function.
* Functions aren't rolled back. `call.on_commit` is for what must only happen when the invocation's writes last.
"""

from __future__ import annotations

import functools
import inspect
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, ParamSpec, TypeVar

from fuseboard._errors import UsageError
from fuseboard._text import DOTTED_NAME

if TYPE_CHECKING:
    from collections.abc import Callable


P = ParamSpec("P")
R = TypeVar("R")

INJECTED: Final = "call"
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


def is_async(function: Callable[..., object]) -> bool:
    """Return whether calling this gives something to await or to iterate asynchronously, not a result."""
    innermost = plain(function)
    candidates = (innermost, type(innermost).__call__)
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in candidates)


def plain(function: Callable[..., object]) -> Callable[..., object]:
    """Take declarations and partials off a function."""
    while True:
        match function:
            case HostFunction():
                function = function.function
            case functools.partial():
                function = function.func
            case _:
                return function


# ── checks ───────────────────────────────────────────────────────────────────────────────────────


def usage_error(name: object, problem: str) -> UsageError:
    """Return the error for a function that can't be used."""
    return UsageError(f"host function {name!r}: {problem}")


def _check_name(name: object) -> None:
    if callable(name):
        raise usage_error(name, 'it has no name; declare it with @host_function("some.name")')
    if not isinstance(name, str) or not DOTTED_NAME.fullmatch(name):
        raise usage_error(name, f"the name must match {DOTTED_NAME.pattern}")


def _check_per_invocation(name: str, count: object) -> None:
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise usage_error(name, f"per_invocation={count!r} must be a whole number from 0, or None for no limit")


def _check_signature(name: str, function: object) -> None:
    if not callable(function):
        raise usage_error(name, f"{function!r} can't be called")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise usage_error(name, f"its signature can't be read ({error}); wrap it in a function") from error
    for parameter in parameters:
        _check_parameter(name, parameter)


def _check_parameter(name: str, parameter: inspect.Parameter) -> None:
    problem = _REFUSED_KINDS.get(parameter.kind)
    if problem is None and parameter.name == INJECTED and parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        problem = "gets the Call and must be keyword-only; put a '*' before it"
    if problem:
        raise usage_error(name, f"parameter {parameter.name!r} {problem}")
