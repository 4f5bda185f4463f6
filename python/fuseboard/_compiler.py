"""From a module's bytes to a module: out of the cache, or compiled under limits.

Rules:
* What a plugin's author sent is never compiled in this process unless the operator says so: it can take any time and
  memory.
* Where the cache can't be used, that is said once, and modules are compiled anew each time.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any, Final, Literal, NamedTuple, get_args
from weakref import WeakSet

from fuseboard import _compile, _core
from fuseboard._arguments import check_kind, check_path, lasting_path
from fuseboard._artifacts import ArtifactCache, Artifacts, Facts, entry_name, facts_in
from fuseboard._compile import Order, Reply
from fuseboard._compile_process import CompileLimits, anonymous_file, compile_in_process, content, out_of_memory
from fuseboard._compile_snapshot import Logs
from fuseboard._errors import ModuleRefused, UsageError
from fuseboard._private_folder import FolderUnusableError
from fuseboard._snapshot import Snapshot, Wish

Where = Literal["subprocess", "inline"]

LOAD_LOGGER: Final = "fuseboard.load"
"""Where a load tells what it takes."""

_log = logging.getLogger(LOAD_LOGGER)


class Loaded(NamedTuple):
    """A module that can run.

    Attributes:
        snapshot: what became of its initialisation; `None` where it has none, or isn't to have a snapshot.
        logs: what it logged while it was initialised for all invocations, where that was just done.
    """

    module: _core.Module
    snapshot: Snapshot | None
    logs: Logs


class Compiler:
    """Makes modules for an engine.

    Args:
        where: in a process of its own, or in this one, without limits.
        limits: the defaults unless said.
        cache: `None` for none.
        python: the interpreter that the process runs; `None` for this one's.

    Raises:
        UsageError: one of them can't be used.
    """

    def __init__(
        self,
        engine: _core.Engine,
        where: Where = "subprocess",
        limits: CompileLimits | None = None,
        cache: ArtifactCache | None = ArtifactCache(),  # noqa: B008  frozen
        python: str | os.PathLike[str] | None = None,
    ) -> None:
        if where not in get_args(Where):
            raise UsageError(f"compile={where!r} must be 'subprocess' or 'inline'")
        check_kind("compile_limits", limits, CompileLimits)
        check_kind("cache", cache, ArtifactCache)
        check_path("python", python)
        self.engine = engine
        self._where = where
        self._limits = limits or CompileLimits()
        self._cache = cache
        self._python = None if python is None else _lasting(os.fspath(python))
        self._circumstances = _circumstances(engine)
        self._locks: set[int] = set()
        self._files: WeakSet[IO[bytes]] = WeakSet()
        self._said: set[str] = set()

    def after_fork_in_child(self) -> None:
        """Let go of what stays the parent's: it may end without giving locks back, and files take memory."""
        for lock in self._locks:
            os.close(lock)
        for file in self._files:
            file.close()
        self._locks = set()
        self._files = WeakSet()

    def module(self, wasm: bytes, plugin: str, wish: Wish) -> Loaded:
        """Return a module; `plugin` is the slug that is told of it.

        Raises:
            ModuleRefused: it can't be a plugin, or compiling takes more than the limits.
            UsageError: the interpreter can't be run, or this process can't load what was compiled.
        """
        key = self._key(wasm, wish)
        with ExitStack() as stack:
            artifacts = self._opened(stack)
            found = self._found(artifacts, key)
            if found is not None:
                return found
            _core.scan(wasm, self.engine.memory_ceiling_bytes)
            try:
                return self._made(artifacts, key, wasm, plugin, wish)
            except (OSError, ValueError) as error:
                raise UsageError(f"modules can't be compiled and loaded here: {error}") from error

    # ── the cache ────────────────────────────────────────────────────────────────────────────────

    def _key(self, wasm: bytes, wish: Wish) -> str:
        """Return the name of all that an artifact depends on: where it has a snapshot, also what that may take."""
        start = repr((wish, self._limits)).encode() if wish.snapshot else b""
        return hashlib.sha256(self._circumstances + hashlib.sha256(wasm).digest() + start).hexdigest()

    def _opened(self, stack: ExitStack) -> Artifacts | None:
        if self._cache is None:
            return None
        try:
            return stack.enter_context(Artifacts(self._cache))
        except FolderUnusableError as error:
            self._say_not_kept(str(error))
            return None

    def _found(self, artifacts: Artifacts | None, key: str) -> Loaded | None:
        if artifacts is None:
            return None
        try:
            file = artifacts.find(key)
            if file is None:
                return None
            with file:
                facts = facts_in(file)
                module = None if facts is None else self._loaded(artifacts, key, file)
                return None if facts is None or module is None else Loaded(module, facts.snapshot, [])
        except OSError as error:
            self._say_not_kept(f"{artifacts.folder.path} can't be read: {error}")
            return None

    def _loaded(self, artifacts: Artifacts, key: str, file: IO[bytes]) -> _core.Module | None:
        """Map an entry; where its file may not be run, copy it; where that doesn't fit either, it is none."""
        try:
            return _core.Module.from_file(self.engine, file.fileno())
        except ValueError as error:
            try:
                module = _core.Module.from_artifact(self.engine, content(file))
            except ValueError:
                artifacts.discard(key, file)
                return None
            self._say_once(
                f"compiled modules are copied, not shared, as {artifacts.folder.path} can't be run from: {error}"
            )
            return module

    def _made(self, artifacts: Artifacts | None, key: str, wasm: bytes, plugin: str, wish: Wish) -> Loaded:
        with self._file("artifact") as output:
            with self._locked(artifacts, key, wish) as order:
                reply = self._compile(order, wasm, output, plugin)
                if artifacts is not None and reply.end == "made":
                    self._keep(artifacts, key, output, _facts(wasm, plugin, reply))
            found = self._found(artifacts, key)  # mapped from there, its pages are shared with other processes
            if found is not None:
                return found._replace(logs=reply.logs)
            if reply.end == "there":  # it was removed at once, or isn't right
                reply = self._compile(self._order(wish), wasm, output, plugin)
            return Loaded(_core.Module.from_artifact(self.engine, content(output)), reply.snapshot, reply.logs)

    @contextmanager
    def _locked(self, artifacts: Artifacts | None, key: str, wish: Wish) -> Iterator[Order]:
        """Yield the order to compile, or to wait for another process that does."""
        with ExitStack() as stack:
            waiting: dict[str, Any] = {}
            if artifacts is not None:
                try:
                    lock = stack.enter_context(artifacts.lock(key))
                    self._locks.add(lock)
                    stack.callback(self._locks.discard, lock)
                    waiting = {
                        "lock": lock,
                        "patience_seconds": 0.0 if self._where == "inline" else self._limits.timeout_seconds / 2,
                        "folder": artifacts.folder.descriptor,
                        "entry": entry_name(key),
                    }
                except OSError as error:
                    self._say_not_kept(f"{artifacts.folder.path} can't be written: {error}")
            yield self._order(wish, **waiting)

    def _order(self, wish: Wish, **waiting: Any) -> Order:
        engine, limits = self.engine, self._limits
        return Order(
            engine.memory_ceiling_bytes,
            engine.pool_problem is None,
            limits.cpu_seconds,
            limits.memory_mb,
            limits.timeout_seconds,
            wish.snapshot,
            wish.initialize,
            limits.init_fuel,
            limits.snapshot_mb,
            **waiting,
        )

    def _keep(self, artifacts: Artifacts, key: str, output: IO[bytes], facts: Facts) -> None:
        try:
            artifacts.store(key, output, facts)
        except OSError as error:
            self._say_not_kept(f"{artifacts.folder.path} can't be written: {error}")

    def _file(self, name: str) -> IO[bytes]:
        file = anonymous_file(name)
        self._files.add(file)
        return file

    # ── to compile ───────────────────────────────────────────────────────────────────────────────

    def _compile(self, order: Order, wasm: bytes, output: IO[bytes], plugin: str) -> Reply:
        _log.info("plugin %s: compiling %s bytes", plugin, f"{len(wasm):,}")
        if self._where == "inline":
            reply = _compile.make(order, wasm, output.fileno())
        else:
            reply = compile_in_process(
                order, wasm, output, python=self._python, open_file=self._file, told=_Progress(plugin)
            )
        if reply.lacking:
            self._say_once(f"this platform has no limits for {' and '.join(reply.lacking)} of the compiler")
        if reply.end == "refused":
            raise ModuleRefused(reply.problems)
        if reply.end == "memory":
            is_limited = self._where == "subprocess"
            raise out_of_memory(order) if is_limited else ModuleRefused(["takes more memory to compile than there is"])
        if reply.end == "failed":
            raise OSError("; ".join(reply.problems))
        if reply.end == "made":
            _log.info("plugin %s: compiled, in %.1f s and %.0f MiB", plugin, reply.cpu_seconds, reply.peak_mb)
        return reply

    def _say_not_kept(self, why: str) -> None:
        self._say_once(f"compiled modules aren't kept: {why}")

    def _say_once(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            _log.warning("%s", what)


def _circumstances(engine: _core.Engine) -> bytes:
    """Return what an artifact depends on beside the module: the scan too, as what is found isn't scanned again."""
    all_of_them = (engine.fingerprint, engine.memory_ceiling_bytes, _core.VERSION, _core.BOUNDS)
    return hashlib.sha256(repr(all_of_them).encode()).digest()


def _lasting(python: str) -> str:
    """Return a path that means the same wherever the process goes; a mere name is looked for on `PATH`."""
    return lasting_path(python) if os.sep in python else python


class _Progress:
    """Tells of a plugin that is still being compiled."""

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin

    def __call__(self, seconds: float) -> None:
        _log.info("plugin %s: still compiling after %.0f s", self._plugin, seconds)


def _facts(wasm: bytes, plugin: str, reply: Reply) -> Facts:
    digest, took = hashlib.sha256(wasm).hexdigest(), (reply.cpu_seconds, reply.peak_mb)
    return Facts(plugin, digest, len(wasm), _core.VERSION, *took, reply.snapshot)
