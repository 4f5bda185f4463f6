"""The host: what is declared and loaded, and the calls that an application makes.

Rules:
* No decision is taken here: a call looks its hook up, builds the flow and hands it to the driver.
* Registries are replaced, never changed in place: a dispatch goes on with the subscribers that it began with.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType, UnionType
from typing import Any, Final, Self, TypedDict, TypeVar, Unpack, overload

from fuseboard import _core, _loading
from fuseboard._dispatch import dispatch, invoke
from fuseboard._drivers import drive
from fuseboard._errors import LoadError, ManifestError, UnknownHook, UnknownPlugin, UsageError, near_miss
from fuseboard._functions import Functions, HostFunction
from fuseboard._hooks import Action, Filter, Hook
from fuseboard._hostcalls import BackendKind
from fuseboard._invocation import Invocation, Request
from fuseboard._limits import SPEC_OF, Caps, Limit, Limits, ceiling_of
from fuseboard._loading import Candidate, GrantsOrWord, Policy, Terms, TermsArguments
from fuseboard._manifest import MANIFEST_NAME
from fuseboard._outcome import Completed, Dispatch, Outcome, Trapped
from fuseboard._plugin import Plugin, Subscriber
from fuseboard._running import RunningCalls
from fuseboard._sessions import Services
from fuseboard._values import encode_context
from fuseboard.backends import Backend, Backends

T = TypeVar("T")


class About(TypedDict, total=False):
    """What can be said with a dispatch.

    Attributes:
        context: what plugins may know beside the value; a mapping that becomes a JSON object.
        request_id: 1 to 200 printable ASCII characters without spaces; 128 random bits in hex by default.
        scope: whose data the plugins work on, e.g. a tenant.
        timeout_ms: a deadline that the plugins share, in milliseconds.
    """

    context: Mapping[str, Any] | None
    request_id: str | None
    scope: str | None
    timeout_ms: float | None


_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")

_log = logging.getLogger("fuseboard")


class Host:
    """Runs plugins inside this process, each invocation behind a fuse for each resource. Any thread may call it.

    Args:
        hooks: the filters and actions that plugins can subscribe to.
        functions: what plugins can be granted to call, declared with `@host_function`.
        backends: what serves the plugins' HTTP, database and key-value calls; none by default.
        ceilings: the most that manifests may ask for; the limits table's ceilings by default.
        caps: sizes that are answered, cut or refused.
        max_concurrent_invocations: how many instances live at once; one more is `Skipped(SATURATED)`.
            Address space for as many times the memory ceiling is reserved.
        commit_timeout_ms: what a commit may take, outside the invocation's own time.
        on_outcome: called once per invocation, after it is settled, on the calling thread; what it raises
            is logged.
        clock: monotonic seconds; replaced in tests only.

    Raises:
        UsageError: an argument can't be used; a function is a coroutine function.
    """

    def __init__(
        self,
        *,
        hooks: Iterable[Hook] = (),
        functions: Iterable[HostFunction[..., Any]] = (),
        backends: Backends | None = None,
        ceilings: Limits | None = None,
        caps: Caps | None = None,
        max_concurrent_invocations: int = 64,
        commit_timeout_ms: int = 1_000,
        on_outcome: Callable[[Outcome], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_kind("ceilings", ceilings, Limits)
        _check_kind("caps", caps, Caps)
        _check_kind("backends", backends, Backends)
        _check_kind("hooks", hooks, Iterable)
        _check_kind("functions", functions, Iterable)
        _check_kind("on_outcome", on_outcome, Callable)
        _check_kind("clock", clock, Callable)
        _check_whole("max_concurrent_invocations", max_concurrent_invocations, 10_000)
        _check_whole("commit_timeout_ms", commit_timeout_ms, 600_000)
        self._functions = _sync_functions(functions)
        self._ceilings = ceilings or Limits()
        memory_ceiling = ceiling_of(SPEC_OF[Limit.MEMORY], self._ceilings) * SPEC_OF[Limit.MEMORY].scale
        self._engine = _core.Engine(memory_ceiling, max_concurrent_invocations)
        if self._engine.pool_problem:
            _log.warning(
                "no pool for %d instances of %d MiB (%s): each invocation costs some 10 µs more, and memory alone "
                "bounds how many there are; lower max_concurrent_invocations or the memory ceiling",
                max_concurrent_invocations,
                memory_ceiling >> 20,
                self._engine.pool_problem,
            )
        self._caps = caps or Caps()
        self._on_outcome = on_outcome
        self._services = Services(
            _by_kind(backends or Backends(), self._functions), self._caps, clock, commit_timeout_ms / 1e3
        )
        self._registry = threading.Lock()
        self._hooks: dict[str, Hook] = {}
        self._plugins: dict[str, Plugin] = {}
        self._subscribers: dict[str, tuple[Subscriber, ...]] = {}
        self._running = RunningCalls()
        self.declare(*hooks)

    # ── hooks and plugins ────────────────────────────────────────────────────────────────────────

    def declare(self, *hooks: Hook) -> None:
        """Add hooks.

        Raises:
            UsageError: something is no hook, or another hook of that name is declared.
            HostClosed: the host is closed.
        """
        with self._registry:
            self._running.check_open()
            declared = dict(self._hooks)
            for hook in hooks:
                if not isinstance(hook, Filter | Action):
                    raise UsageError(f"{hook!r} is no hook; make one with Filter(name, type) or Action(name, type)")
                if declared.setdefault(hook.name, hook) != hook:
                    raise UsageError(f"hook {hook.name!r} is declared already, as {declared[hook.name]!r}")
            self._hooks = declared

    def load(self, path: str | os.PathLike[str], **terms: Unpack[TermsArguments]) -> Plugin:
        """Load a plugin from its folder or its `plugin.toml`.

        Args:
            path: the folder or the manifest.
            terms: the operator's word, see `TermsArguments`.

        Raises:
            ManifestError: a field is missing, unknown, wrong, above a ceiling or not granted.
            ModuleError: the module can't be a plugin, or doesn't fit the manifest.
            UsageError: an argument can't be used.
            HostClosed: the host is closed.
        """
        said = _loading.terms_of(**terms)
        return self._install(_loading.from_folder(Path(path), self._ceilings), said)

    def load_bytes(
        self, wasm: bytes | bytearray | memoryview, manifest: Mapping[str, Any], **terms: Unpack[TermsArguments]
    ) -> Plugin:
        """Load a plugin from memory; the arguments and errors are those of `load`."""
        if not isinstance(wasm, bytes | bytearray | memoryview):
            raise UsageError(f"wasm must be bytes, not {type(wasm).__name__}; host.load takes a path")
        said = _loading.terms_of(**terms)
        return self._install(_loading.from_bytes(bytes(wasm), manifest, self._ceilings), said)

    def load_all(self, directory: str | os.PathLike[str], *, grants: GrantsOrWord = None) -> tuple[Plugin, ...]:
        """Load every folder with a `plugin.toml` below a directory, in the order of their names.

        Raises:
            ExceptionGroup: of a `LoadError` for each plugin that can't be loaded; the others are loaded.
            UsageError: it is no directory.
        """
        root = Path(directory)
        if not root.is_dir():
            raise UsageError(f"{root} is no directory")
        loaded, errors = [], []
        for manifest in sorted(root.glob(f"*/{MANIFEST_NAME}")):
            try:
                loaded.append(self.load(manifest, grants=grants))
            except LoadError as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup(f"{len(errors)} plugins in {root} can't be loaded", errors)
        return tuple(loaded)

    def unload(self, slug: str) -> None:
        """Remove a plugin; what runs of it runs on.

        Raises:
            UnknownPlugin: there is none of that slug.
            HostClosed: the host is closed.
        """
        with self._registry:
            self._running.check_open()
            plugin = self._plugin(slug)
            self._plugins = {name: other for name, other in self._plugins.items() if name != slug}
            self._subscribers = {
                hook: tuple(other for other in subscribers if other.plugin is not plugin)
                for hook, subscribers in self._subscribers.items()
            }

    @property
    def plugins(self) -> Mapping[str, Plugin]:
        """The loaded plugins by slug, in load order: a view of this moment."""
        return MappingProxyType(self._plugins)

    # ── calls ────────────────────────────────────────────────────────────────────────────────────

    @overload
    def apply_filter(self, hook: Filter[T], value: T, **about: Unpack[About]) -> T: ...
    @overload
    def apply_filter(self, hook: str, value: T, **about: Unpack[About]) -> T: ...
    def apply_filter(self, hook: Filter[T] | str, value: T, **about: Unpack[About]) -> T:
        """Pass a value through every subscriber of a filter and return the last value.

        Without subscribers, and where no plugin changed it, that is the same object. A plugin that traps
        or is skipped leaves the value as it was.

        Args:
            hook: the filter, or its name.
            value: of the filter's type.
            about: see `About`.

        Raises:
            HookFailed: a plugin trapped or was skipped, and the filter is declared `on_trap="raise"`.
            UnknownHook, HookTypeError, HostClosed, UsageError: the caller's own mistakes.
        """
        result: Dispatch[T] = self._dispatch(self._declared(hook, Filter), value, **about)
        return result.value

    @overload
    def do_action(self, hook: Action[T], value: T, **about: Unpack[About]) -> None: ...
    @overload
    def do_action(self, hook: Action[None] | str, value: Any = None, **about: Unpack[About]) -> None: ...
    def do_action(self, hook: Action[Any] | str, value: Any = None, **about: Unpack[About]) -> None:
        """Tell every subscriber of an action of an event. Arguments and errors are those of `apply_filter`."""
        self._dispatch(self._declared(hook, Action), value, **about)

    def dispatch(self, hook: Filter[T] | Action[T] | str, value: T, **about: Unpack[About]) -> Dispatch[T]:
        """Do what `apply_filter` or `do_action` does, and return what happened too."""
        return self._dispatch(self._declared(hook, Filter | Action), value, **about)

    def invoke(self, slug: str, hook: Filter[T] | Action[T] | str, value: T, **about: Unpack[About]) -> Outcome:
        """Run one plugin on a hook and return its outcome; a hook that fails closed doesn't raise here.

        Raises:
            UnknownPlugin: there is none of that slug, or it doesn't subscribe to the hook.
            UnknownHook, HookTypeError, HostClosed, UsageError: as for `apply_filter`.
        """
        found = self._declared(hook, Filter | Action)
        plugin = self._plugin(slug)
        subscriber = next((s for s in self._subscribers.get(found.name, ()) if s.plugin is plugin), None)
        if subscriber is None:
            raise UnknownPlugin(slug, f"doesn't subscribe to hook {found.name!r}; it does to {', '.join(plugin.hooks)}")
        request = self._request(found, **about)
        invocation = Invocation(subscriber, request, value, found.encode(value), self._services)
        return self._running.run(lambda: drive(invoke(invocation), self._report))

    def close(self) -> None:
        """Refuse new work, wait for what runs (bounded by the longest timeout), and let the plugins go.

        Raises:
            UsageError: called from inside of a call, by a function or `on_outcome`: it would wait for itself.
        """
        longest_ms = ceiling_of(SPEC_OF[Limit.TIMEOUT], self._ceilings)
        if not self._running.close(longest_ms / 1e3 + self._services.commit_seconds):
            _log.warning("the host is closed, but calls that no deadline can stop are still running")
        with self._registry:
            self._plugins, self._subscribers = {}, {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ── the parts of a call ──────────────────────────────────────────────────────────────────────

    def _dispatch(self, hook: Hook, value: Any, **about: Unpack[About]) -> Dispatch[Any]:
        subscribers = self._subscribers.get(hook.name)
        if not subscribers:
            self._running.check_open()
            if about:
                _check_about(about)
            return Dispatch(value)
        request = self._request(hook, **about)
        flow = dispatch(hook, subscribers, value, request, self._services)
        return self._running.run(lambda: drive(flow, self._report))

    def _declared(self, hook: Hook | str, kind: type[Hook] | UnionType) -> Hook:
        found = self._hooks.get(hook if isinstance(hook, str) else getattr(hook, "name", ""))
        if found is None or not (found is hook or isinstance(hook, str) or found == hook):
            raise UnknownHook(hook if isinstance(hook, str) else getattr(hook, "name", repr(hook)), self._hooks)
        if not isinstance(found, kind):
            raise UsageError(f"hook {found.name!r} is {'a filter' if isinstance(found, Filter) else 'an action'}")
        return found

    def _plugin(self, slug: str) -> Plugin:
        try:
            return self._plugins[slug]
        except (KeyError, TypeError):
            hint = near_miss(slug, self._plugins) if isinstance(slug, str) else ""
            raise UnknownPlugin(str(slug), f"isn't loaded in this host{hint}") from None

    def _request(self, hook: Hook, **about: Unpack[About]) -> Request:
        _check_about(about)
        timeout_ms = about.get("timeout_ms")
        return Request(
            about.get("request_id") or os.urandom(16).hex(),
            about.get("scope"),
            encode_context(hook.name, about.get("context")),
            None if timeout_ms is None else self._services.clock() + timeout_ms / 1e3,
        )

    def _report(self, outcome: Outcome) -> None:
        if isinstance(outcome, Trapped):
            trap = outcome.trap
            extra = {name: getattr(trap, name) for name in ("limit", "cause", "plugin", "hook", "request_id", "scope")}
            _log.warning("%s", trap, extra=extra)
        elif not isinstance(outcome, Completed):
            _log.info("%s", outcome)
        if self._on_outcome is None:
            return
        try:
            self._on_outcome(outcome)
        except Exception:  # noqa: BLE001  the application's callback may raise anything; it is logged
            _log.exception("on_outcome failed for plugin %s on hook %s", outcome.plugin, outcome.hook)

    # ── loading ──────────────────────────────────────────────────────────────────────────────────

    def _install(self, candidate: Candidate, terms: Terms) -> Plugin:
        self._running.check_open()
        self._check_free(candidate)
        plugin, subscribers = _loading.load(candidate, self._policy(), terms)
        with self._registry:
            self._running.check_open()
            self._check_free(candidate)
            self._plugins = {**self._plugins, plugin.slug: plugin}
            added = dict(self._subscribers)
            for subscriber in subscribers:
                both = (*added.get(subscriber.hook.name, ()), subscriber)
                added[subscriber.hook.name] = tuple(sorted(both, key=lambda each: each.priority))
            self._subscribers = added
        return plugin

    def _check_free(self, candidate: Candidate) -> None:
        manifest = candidate.manifest
        if manifest is not None and manifest.slug in self._plugins:
            problem = "a plugin of this slug is loaded already; unload it first"
            raise ManifestError("slug", problem, value=manifest.slug, slug=manifest.slug, path=candidate.path)

    def _policy(self) -> Policy:
        served = frozenset(self._services.backends)
        return Policy(self._engine, self._ceilings, self._caps, self._hooks, self._functions, served)


def _sync_functions(functions: Iterable[HostFunction[..., Any]]) -> Functions:
    found = Functions(functions)
    if found.async_names:
        names = ", ".join(sorted(found.async_names))
        raise UsageError(f"Host calls no coroutine functions: {names}; make them plain functions")
    return found


def _by_kind(backends: Backends, functions: Functions) -> Mapping[BackendKind, Backend]:
    kinds: dict[BackendKind, Backend | None] = {
        "http": backends.http, "db": backends.db, "kv": backends.kv, "functions": functions,
    }  # fmt: skip
    for kind, backend in kinds.items():
        session = getattr(backend, "session", None)
        is_usable = callable(session) and not inspect.iscoroutinefunction(session) and not isinstance(backend, type)
        if backend is not None and not is_usable:
            raise UsageError(f"Backends({kind}={backend!r}) is no backend: it needs a method session(identity)")
    return {kind: backend for kind, backend in kinds.items() if backend is not None}


def _check_kind(name: str, value: object, kind: Any) -> None:
    if value is not None and not isinstance(value, kind):
        raise UsageError(f"{name}={value!r} must be {kind.__name__}, not {type(value).__name__}")


def _check_whole(name: str, value: object, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise UsageError(f"{name}={value!r} must be a whole number from 1 to {most}")


def _check_about(about: About) -> None:
    """Refuse what no dispatch can be told; the context is looked at where it is written."""
    if unknown := about.keys() - About.__annotations__.keys():
        raise UsageError(f"unknown argument {min(unknown)!r}; there are {', '.join(About.__annotations__)}")
    request_id, scope, timeout_ms = about.get("request_id"), about.get("scope"), about.get("timeout_ms")
    if request_id is not None and not (isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id)):
        raise UsageError(f"request_id={request_id!r} must be 1 to 200 printable ASCII characters without spaces")
    if scope is not None and not (isinstance(scope, str) and scope and _SURROGATE.search(scope) is None):
        raise UsageError(f"scope={scope!r} must be text that UTF-8 can hold, or None")
    if timeout_ms is not None and not (_is_number(timeout_ms) and 0 <= timeout_ms <= sys.float_info.max):
        raise UsageError(f"timeout_ms={timeout_ms!r} must be a number of milliseconds, 0 or more")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
