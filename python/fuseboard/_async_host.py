"""The host of an asynchronous application: the names of `Host`, awaited, on the same flow.

Rule: no decision is taken here. A call looks its hook up, builds the flow and hands it to the driver.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from fuseboard import _loading
from fuseboard._about import About
from fuseboard._async_driver import AsyncDriver
from fuseboard._base_host import BaseHost
from fuseboard._errors import UsageError
from fuseboard._function_sessions import AsyncFunctions
from fuseboard._functions import HostFunction
from fuseboard._hooks import Action, Filter, Hook
from fuseboard._loading import GrantsOrWord, TermsArguments
from fuseboard._outcome import Dispatch, Outcome
from fuseboard._plugin import Plugin
from fuseboard._slots import RESERVE
from fuseboard._threads import Threads

if TYPE_CHECKING:
    from fuseboard._effects import Flow
    from fuseboard.backends import Backend

T = TypeVar("T")

_log = logging.getLogger("fuseboard")


class AsyncHost(BaseHost):
    """Runs plugins inside this process as `Host` does, for an event loop, which is never held up.

    The arguments and errors are those of `Host`. Backends and functions may be coroutines; what is plain, and guests
    that compute for longer than a moment, runs on threads of the host's own. A host belongs to the event loop that
    first uses it. Calls, and `declare`, `load`, `load_bytes`, `load_all`, `reload` and `unload`, are awaited;
    `plugins` and `breakers` are plain.

    A plain function or backend that is late is given up: the plugin trips, and the thread is taken until it ends.
    """

    _functions: AsyncFunctions
    _threads: Threads
    _driver: AsyncDriver | None = None

    # ── hooks and plugins ────────────────────────────────────────────────────────────────────────

    async def declare(self, *hooks: Hook) -> None:
        """Add hooks, as `Host.declare`."""
        self._registry.declare(*hooks)

    async def load(self, path: str | os.PathLike[str], **terms: Unpack[TermsArguments]) -> Plugin:
        """Load a plugin from its folder or its `plugin.toml`, as `Host.load`, on a thread."""
        said = _loading.terms_of(**terms)
        return await asyncio.to_thread(
            lambda: self._registry.load(_loading.from_folder(Path(path), self._ceilings), said)
        )

    async def load_bytes(
        self, wasm: bytes | bytearray | memoryview, manifest: Mapping[str, Any], **terms: Unpack[TermsArguments]
    ) -> Plugin:
        """Load a plugin from memory, as `Host.load_bytes`, on a thread."""
        said = _loading.terms_of(**terms)
        return await asyncio.to_thread(
            lambda: self._registry.load(_loading.from_bytes(wasm, manifest, self._ceilings), said)
        )

    async def load_all(self, directory: str | os.PathLike[str], *, grants: GrantsOrWord = None) -> tuple[Plugin, ...]:
        """Load every folder with a `plugin.toml` below a directory, as `Host.load_all`, on a thread."""
        return await asyncio.to_thread(self._registry.load_all, Path(directory), _loading.terms_of(grants=grants))

    async def reload(self, slug: str) -> Plugin:
        """Put what is in a plugin's folder now in its place, as `Host.reload`, on a thread."""
        return await asyncio.to_thread(self._registry.reload, slug)

    async def unload(self, slug: str) -> None:
        """Remove a plugin, as `Host.unload`."""
        self._registry.unload(slug)

    # ── calls ────────────────────────────────────────────────────────────────────────────────────

    @overload
    async def apply_filter(self, hook: Filter[T], value: T, **about: Unpack[About]) -> T: ...
    @overload
    async def apply_filter(self, hook: str, value: T, **about: Unpack[About]) -> T: ...
    async def apply_filter(self, hook: Filter[T] | str, value: T, **about: Unpack[About]) -> T:
        """Pass a value through every subscriber of a filter and return the last value, as `Host.apply_filter`."""
        return (await self._dispatch(self._registry.hook(hook, Filter), value, about)).value

    @overload
    async def do_action(self, hook: Action[T], value: T, **about: Unpack[About]) -> None: ...
    @overload
    async def do_action(self, hook: Action[None] | str, value: Any = None, **about: Unpack[About]) -> None: ...
    async def do_action(self, hook: Action[Any] | str, value: Any = None, **about: Unpack[About]) -> None:
        """Tell every subscriber of an action of an event, as `Host.do_action`."""
        await self._dispatch(self._registry.hook(hook, Action), value, about)

    async def dispatch(self, hook: Filter[T] | Action[T] | str, value: T, **about: Unpack[About]) -> Dispatch[T]:
        """Do what `apply_filter` or `do_action` does, and return what happened too."""
        return await self._dispatch(self._registry.hook(hook, Filter | Action), value, about)

    async def invoke(self, slug: str, hook: Filter[T] | Action[T] | str, value: T, **about: Unpack[About]) -> Outcome:
        """Run one plugin on a hook and return its outcome, as `Host.invoke`."""
        return await self._drive(self._invoke_flow(slug, hook, value, about))

    async def aclose(self) -> None:
        """Refuse new work, wait for what runs (bounded by the longest timeout), and let plugins and threads go.

        Raises:
            UsageError: called from inside of a call, by a function or `on_outcome`: it would wait for itself.
        """
        self._bound_driver()
        task = asyncio.current_task()
        is_inside = bool(self._stack()) or self._running.is_running(task) or self._functions.is_callback(task)
        seconds = self._longest_seconds()
        has_ended = await asyncio.to_thread(self._running.close, seconds, is_inside=is_inside)
        if has_ended and await self._functions.finish(seconds):
            self._threads.close()
        else:
            _log.warning("the host is closed, but calls that no deadline can stop are still running")
        self._registry.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _dispatch(self, hook: Hook, value: T, about: About) -> Dispatch[T]:
        flow = self._dispatch_flow(hook, value, about)
        return Dispatch(value) if flow is None else await self._drive(flow)

    def _drive(self, flow: Flow[T]) -> Coroutine[Any, Any, T]:
        return self._running.run_async(self._bound_driver().drive(flow), asyncio.current_task())

    def _bound_driver(self) -> AsyncDriver:
        if self._driver is None or self._driver.loop.is_closed():
            self._driver = AsyncDriver(self._services, self._threads)
        if self._driver.loop is not asyncio.get_running_loop():
            raise UsageError("this AsyncHost belongs to another event loop; make one in each")
        return self._driver

    # ── what is asynchronous about it ────────────────────────────────────────────────────────────

    def after_fork_in_child(self) -> None:
        """Begin with nothing running, on whichever event loop comes first."""
        self._threads.after_fork_in_child()
        self._driver = None
        super().after_fork_in_child()

    def _functions_of(self, functions: Iterable[HostFunction[..., Any]]) -> AsyncFunctions:
        self._threads = Threads(self._max_concurrent_invocations + RESERVE)
        return AsyncFunctions(functions, self._threads)

    def _check_backend(self, kind: str, backend: Backend) -> None:
        """Take both kinds."""
