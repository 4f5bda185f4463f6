"""What a `Host` and an `AsyncHost` have in common: how they are made, what they hold, what they report."""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from fuseboard import _core
from fuseboard._about import About, RequestIds, check_about, request_of
from fuseboard._arguments import check_kind, check_whole
from fuseboard._artifacts import ArtifactCache
from fuseboard._breaker import BreakerChange, BreakerPolicy, BreakerState
from fuseboard._breaker_store import MemoryBreakerStore
from fuseboard._breakers import Breakers
from fuseboard._compile_process import CompileLimits
from fuseboard._compiler import Compiler, Where
from fuseboard._dispatch import dispatch
from fuseboard._errors import UsageError
from fuseboard._fork import Forkable, make_anew, watch
from fuseboard._functions import is_async
from fuseboard._hooks import Action, Filter, Hook
from fuseboard._invocation import Invocation
from fuseboard._limits import MIB, SPEC_OF, Caps, Limit, Limits, ceiling_of, memory_ceiling_bytes
from fuseboard._loading import Policy
from fuseboard._nesting import Enclosing, stack_of
from fuseboard._outcome import Dispatch, Outcome, Skipped, Trapped
from fuseboard._registry import Registry
from fuseboard._running import RunningCalls
from fuseboard._sessions import Services
from fuseboard._slots import RESERVE, Slots
from fuseboard.backends import Backends, Preparable

if TYPE_CHECKING:
    from fuseboard._effects import Flow
    from fuseboard._function_sessions import Functions
    from fuseboard._functions import HostFunction
    from fuseboard._hostcalls import BackendKind
    from fuseboard._plugin import Plugin
    from fuseboard.backends import Backend

T = TypeVar("T")
Told = TypeVar("Told", Outcome, BreakerChange)
_MOST_CONCURRENT = 10_000

_log = logging.getLogger("fuseboard")


class BaseHost(ABC):
    """A host without its calls."""

    def __init__(
        self,
        *,
        hooks: Iterable[Hook] = (),
        functions: Iterable[HostFunction[..., Any]] = (),
        backends: Backends | None = None,
        ceilings: Limits | None = None,
        caps: Caps | None = None,
        breaker: BreakerPolicy | None = BreakerPolicy(),  # noqa: B008  frozen
        max_concurrent_invocations: int = 64,
        max_concurrency: int = 16,
        max_guest_memory_mb: int = 2_048,
        commit_timeout_ms: int = 1_000,
        compile: Where = "subprocess",  # noqa: A002  what is said of it: compile="inline"
        compile_limits: CompileLimits | None = None,
        cache: ArtifactCache | None = ArtifactCache(),  # noqa: B008  frozen
        python: str | os.PathLike[str] | None = None,
        on_outcome: Callable[[Outcome], object] | None = None,
        on_breaker_change: Callable[[BreakerChange], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_kind("ceilings", ceilings, Limits)
        check_kind("caps", caps, Caps)
        check_kind("backends", backends, Backends)
        check_kind("breaker", breaker, BreakerPolicy)
        check_kind("hooks", hooks, Iterable)
        check_kind("functions", functions, Iterable)
        check_kind("clock", clock, Callable)
        _check_callback("on_outcome", on_outcome)
        _check_callback("on_breaker_change", on_breaker_change)
        check_whole("max_concurrent_invocations", max_concurrent_invocations, _MOST_CONCURRENT)
        check_whole("max_concurrency", max_concurrency, _MOST_CONCURRENT)
        check_whole("max_guest_memory_mb", max_guest_memory_mb, 1 << 30)
        check_whole("commit_timeout_ms", commit_timeout_ms, 600_000)
        self._max_concurrent_invocations = max_concurrent_invocations
        self._max_concurrency = max_concurrency
        self._ceilings = _within_memory(ceilings or Limits(), max_guest_memory_mb)
        self._caps = caps or Caps()
        self._on_outcome = on_outcome
        self._on_breaker_change = on_breaker_change
        self._running = RunningCalls()
        self._request_ids = RequestIds()
        self._functions = self._functions_of(functions)
        backends_by_kind = self._by_kind(backends or Backends())
        engine = _engine(self._ceilings, max_concurrent_invocations + RESERVE)
        self._compiler = Compiler(engine, compile, compile_limits, cache, python)
        self._registry = Registry(self._policy, self._ceilings, self._running.check_open, self._plugin_changed)
        slots = Slots(max_concurrent_invocations, max_guest_memory_mb * MIB)
        breakers = self._breakers_of(breaker, clock)
        self._services = Services(
            backends_by_kind, self._caps, clock, commit_timeout_ms / 1e3, slots, breakers, self._report
        )
        self._registry.declare(*hooks)
        watch(self)

    @property
    def plugins(self) -> Mapping[str, Plugin]:
        """The loaded plugins by slug, in load order: a view of this moment."""
        return self._registry.plugins

    @property
    def breakers(self) -> Breakers:
        """The circuit breakers, one for each plugin, hook and scope: to read, open, close and reset."""
        return self._services.breakers

    def after_fork_in_child(self) -> None:
        """Begin with nothing running, in a process that was just forked; what is loaded stays."""
        self._running.after_fork_in_child()
        self._request_ids.after_fork_in_child()
        self._registry.after_fork_in_child()
        self._compiler.after_fork_in_child()
        self._services.slots.after_fork_in_child()
        for backend in {id(one): one for one in self._services.backends.values()}.values():
            if isinstance(backend, Forkable):
                make_anew(backend)
        self._services.breakers.after_fork_in_child()  # last: it tells the application

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} can't be sent to another process; make one there")

    # ── what the two do differently ──────────────────────────────────────────────────────────────

    @abstractmethod
    def _functions_of(self, functions: Iterable[HostFunction[..., Any]]) -> Functions: ...

    @abstractmethod
    def _check_backend(self, kind: str, backend: Backend) -> None: ...

    # ── the parts of a call ──────────────────────────────────────────────────────────────────────

    def _dispatch_flow(self, hook: Hook, value: T, about: About) -> Flow[Dispatch[T]] | None:
        """Return the flow of a dispatch, or `None` where nobody subscribes."""
        subscribers = self._registry.subscribers(hook.name)
        if not subscribers:
            self._running.check_open()
            if about:
                check_about(about)
            return None
        services = self._services
        request = request_of(hook.name, services.slots.era, services.clock, self._request_ids, about)
        return dispatch(hook, subscribers, value, request, services)

    def _invoke_flow(self, slug: str, hook: Hook | str, value: Any, about: About) -> Flow[Outcome]:
        self._running.check_open()
        found = self._registry.hook(hook, Filter | Action)
        subscriber = self._registry.subscriber(slug, found.name)
        services = self._services
        request = request_of(found.name, services.slots.era, services.clock, self._request_ids, about)
        return Invocation(subscriber, request, value, found.encode(value), services).run()

    def _stack(self) -> tuple[Enclosing, ...]:
        return stack_of(self._services.slots.era)

    def _longest_seconds(self) -> float:
        """Return how long a dispatch can take that keeps to its plugins' deadlines."""
        invocation = ceiling_of(SPEC_OF[Limit.TIMEOUT], self._ceilings) / 1e3 + self._services.commit_seconds
        return invocation * max(1, self._registry.longest_dispatch())

    # ── reports ──────────────────────────────────────────────────────────────────────────────────

    def _report(self, outcome: Outcome) -> None:
        if isinstance(outcome, Trapped):
            trap = outcome.trap
            extra = {name: getattr(trap, name) for name in ("limit", "cause", "plugin", "hook", "request_id", "scope")}
            _log.warning("%s", trap, extra=extra)
        elif isinstance(outcome, Skipped):
            _log.info("%s", outcome)
        if self._on_outcome is not None:
            _tell("on_outcome", self._on_outcome, outcome)

    def _report_breaker(self, change: BreakerChange) -> None:
        level = logging.WARNING if change.after is BreakerState.OPEN else logging.INFO
        extra = {name: getattr(change, name) for name in ("plugin", "hook", "scope", "before", "after", "event")}
        _log.log(level, "%s", change, extra=extra)
        if self._on_breaker_change is not None:
            _tell("on_breaker_change", self._on_breaker_change, change)

    # ── loading ──────────────────────────────────────────────────────────────────────────────────

    def _policy(self, hooks: Mapping[str, Hook]) -> Policy:
        backends = self._services.backends
        return Policy(
            compiler=self._compiler,
            ceilings=self._ceilings,
            caps=self._caps,
            hooks=hooks,
            functions=self._functions,
            served=frozenset(backends),
            max_concurrency=self._max_concurrency,
            prepare=database.prepare if isinstance(database := backends.get("db"), Preparable) else None,
        )

    def _plugin_changed(self, slug: str) -> None:
        self._services.breakers.forget(slug)

    def _breakers_of(self, policy: BreakerPolicy | None, clock: Callable[[], float]) -> Breakers:
        store = MemoryBreakerStore((policy or BreakerPolicy()).window_seconds)
        return Breakers(policy, store, clock, roster=self._registry, notify=self._report_breaker)

    def _by_kind(self, backends: Backends) -> Mapping[BackendKind, Backend]:
        given = {"http": backends.http, "db": backends.db, "kv": backends.kv}
        kinds = cast("dict[BackendKind, Backend | None]", given)  # the drivers see which kind each method is
        for kind, backend in kinds.items():
            if backend is None:
                continue
            if not callable(getattr(backend, "session", None)) or isinstance(backend, type):
                raise UsageError(f"Backends({kind}={backend!r}) is no backend: it needs a method session(identity)")
            self._check_backend(kind, backend)
        served = {kind: backend for kind, backend in kinds.items() if backend is not None}
        return {**served, "functions": self._functions}


def _engine(ceilings: Limits, slots: int) -> _core.Engine:
    memory_ceiling = memory_ceiling_bytes(ceilings)
    engine = _core.Engine(memory_ceiling, slots)
    if engine.pool_problem:
        _log.warning(
            "no pool for %d instances of %d MiB (%s): each invocation costs some 10 µs more; "
            "lower max_concurrent_invocations or the memory ceiling",
            slots,
            memory_ceiling // MIB,
            engine.pool_problem,
        )
    return engine


def _within_memory(ceilings: Limits, max_guest_memory_mb: int) -> Limits:
    """Return the ceilings with one of memory that fits what all guests may have together."""
    said = ceilings.memory_limit_mb
    if said is not None and said > max_guest_memory_mb:
        raise UsageError(
            f"ceilings.memory_limit_mb={said} is above max_guest_memory_mb={max_guest_memory_mb}: "
            "a plugin with so much could never run"
        )
    most = min(ceiling_of(SPEC_OF[Limit.MEMORY], ceilings), max_guest_memory_mb)
    return replace(ceilings, memory_limit_mb=most)


def _tell(name: str, callback: Callable[[Told], object], what: Told) -> None:
    try:
        callback(what)
    except Exception:  # noqa: BLE001  the application's callback may raise anything; it is logged
        _log.exception("%s failed for plugin %s on hook %s", name, what.plugin, what.hook)


def _check_callback(name: str, callback: object) -> None:
    check_kind(name, callback, Callable)
    if callback is not None and is_async(callback):  # type: ignore[arg-type]
        raise UsageError(f"{name}={callback!r} must be a plain function: nobody awaits it")
