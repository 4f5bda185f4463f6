"""The host: what is declared and loaded, and the calls that an application makes.

Rule: no decision is taken here. A call looks its hook up, builds the flow and hands it to the driver.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from fuseboard import _loading
from fuseboard._about import About
from fuseboard._base_host import BaseHost
from fuseboard._drivers import drive
from fuseboard._errors import UsageError
from fuseboard._function_sessions import Functions
from fuseboard._functions import HostFunction
from fuseboard._hooks import Action, Filter, Hook
from fuseboard._loading import GrantsOrWord, TermsArguments
from fuseboard._outcome import Dispatch, Outcome
from fuseboard._plugin import Plugin

if TYPE_CHECKING:
    from fuseboard.backends import Backend

T = TypeVar("T")

_log = logging.getLogger("fuseboard")


class Host(BaseHost):
    """Runs plugins inside this process, each invocation behind a fuse for each resource. Any thread may call it.

    Args:
        hooks: the filters and actions that plugins can subscribe to.
        functions: what plugins can be granted to call, declared with `@host_function`.
        backends: what serves the plugins' HTTP, database and key-value calls; none by default.
        ceilings: the most that manifests may ask for; the limits table's ceilings by default.
        caps: sizes that are answered, cut or refused.
        breaker: when a plugin that keeps trapping is left alone; `None` for never.
        max_concurrent_invocations: how many instances live at once; one more waits, inside its deadline. Address
            space for as many times the memory ceiling is reserved, and for 16 that nested invocations share.
        max_concurrency: how many invocations of one plugin run at once.
        max_guest_memory_mb: what the memory limits of all that run may add up to, in MiB.
        commit_timeout_ms: what a commit may take, outside the invocation's own time.
        compile: where plugins are compiled: by a process of its own under limits, or `"inline"`, here and without.
        compile_limits: what that process may take.
        cache: where compiled modules are kept; `None` for nowhere.
        python: the interpreter that compiles, where `sys.executable` isn't one (in a program that embeds Python).
        on_outcome: called once per invocation, after it is settled, on the calling thread (the event loop's under an
            `AsyncHost`); what it raises is logged.
        on_breaker_change: called for every change of a breaker's state; what it raises is logged.
        clock: monotonic seconds; replaced in tests only.

    Raises:
        UsageError: an argument can't be used; a function is a coroutine function, or a backend asynchronous.
    """

    # ── hooks and plugins ────────────────────────────────────────────────────────────────────────

    def declare(self, *hooks: Hook) -> None:
        """Add hooks.

        Raises:
            UsageError: something is no hook, or another hook of that name is declared.
            HostClosed: the host is closed.
        """
        self._registry.declare(*hooks)

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
        return self._registry.load(_loading.from_folder(Path(path), self._ceilings), said)

    def load_bytes(
        self, wasm: bytes | bytearray | memoryview, manifest: Mapping[str, Any], **terms: Unpack[TermsArguments]
    ) -> Plugin:
        """Load a plugin from memory; the arguments and errors are those of `load`."""
        said = _loading.terms_of(**terms)
        return self._registry.load(_loading.from_bytes(wasm, manifest, self._ceilings), said)

    def load_all(self, directory: str | os.PathLike[str], *, grants: GrantsOrWord = None) -> tuple[Plugin, ...]:
        """Load every folder with a `plugin.toml` below a directory, in the order of their names.

        Raises:
            ExceptionGroup: of a `LoadError` for each plugin that can't be loaded; the others are loaded.
            UsageError: it is no directory.
        """
        return self._registry.load_all(Path(directory), _loading.terms_of(grants=grants))

    def reload(self, slug: str) -> Plugin:
        """Read a plugin's folder again, and put what is there in its place, under the terms of its load.

        The swap is atomic: what runs ends on the old module, what begins afterwards runs the new one. The plugin's
        breakers begin anew. Where the load fails, the old plugin stays.

        Raises:
            UnknownPlugin: there is none of that slug.
            UsageError: it was loaded from bytes.
            ManifestError, ModuleError, HostClosed: as for `load`; the slug must be the same.
        """
        return self._registry.reload(slug)

    def unload(self, slug: str) -> None:
        """Remove a plugin; what runs of it runs on.

        Raises:
            UnknownPlugin: there is none of that slug.
            HostClosed: the host is closed.
        """
        self._registry.unload(slug)

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
        return self._dispatch(self._registry.hook(hook, Filter), value, about).value

    @overload
    def do_action(self, hook: Action[T], value: T, **about: Unpack[About]) -> None: ...
    @overload
    def do_action(self, hook: Action[None] | str, value: Any = None, **about: Unpack[About]) -> None: ...
    def do_action(self, hook: Action[Any] | str, value: Any = None, **about: Unpack[About]) -> None:
        """Tell every subscriber of an action of an event. Arguments and errors are those of `apply_filter`."""
        self._dispatch(self._registry.hook(hook, Action), value, about)

    def dispatch(self, hook: Filter[T] | Action[T] | str, value: T, **about: Unpack[About]) -> Dispatch[T]:
        """Do what `apply_filter` or `do_action` does, and return what happened too."""
        return self._dispatch(self._registry.hook(hook, Filter | Action), value, about)

    def invoke(self, slug: str, hook: Filter[T] | Action[T] | str, value: T, **about: Unpack[About]) -> Outcome:
        """Run one plugin on a hook and return its outcome; a hook that fails closed doesn't raise here.

        Raises:
            UnknownPlugin: there is none of that slug, or it doesn't subscribe to the hook.
            UnknownHook, HookTypeError, HostClosed, UsageError: as for `apply_filter`.
        """
        flow = self._invoke_flow(slug, hook, value, about)
        return self._running.run(drive, flow, self._services)

    def close(self) -> None:
        """Refuse new work, wait for what runs (bounded by the longest timeout), and let the plugins go.

        Raises:
            UsageError: called from inside of a call, by a function or `on_outcome`: it would wait for itself.
        """
        if not self._running.close(self._longest_seconds(), is_inside=bool(self._stack())):
            _log.warning("the host is closed, but calls that no deadline can stop are still running")
        self._registry.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _dispatch(self, hook: Hook, value: T, about: About) -> Dispatch[T]:
        flow = self._dispatch_flow(hook, value, about)
        if flow is None:
            return Dispatch(value)
        return self._running.run(drive, flow, self._services)

    # ── what is synchronous about it ─────────────────────────────────────────────────────────────

    def _functions_of(self, functions: Iterable[HostFunction[..., Any]]) -> Functions:
        found = Functions(functions)
        if found.async_names:
            names = ", ".join(sorted(found.async_names))
            raise UsageError(f"Host calls no coroutine functions: {names}; make them plain functions, or use AsyncHost")
        return found

    def _check_backend(self, kind: str, backend: Backend) -> None:
        if inspect.iscoroutinefunction(backend.session):
            raise UsageError(f"Backends({kind}={backend!r}) is asynchronous: its session is a coroutine; use AsyncHost")
