"""How each peer is used: as its documentation says, its best way included.

Rules:
* A contestant takes a value's bytes and gives the bytes that the guest made of them.
* *Warm* keeps one instance for all calls: the fastest way, in which a guest's memory outlives the call. *Fresh* makes
  an instance for each call, as Fuseboard does, from what was compiled and linked once.
* *Limited* has the limits that the peer offers. None has all of Fuseboard's: Extism for Python offers no fuel, and
  nothing stops a guest of wasmtime-py in time but a thread of one's own.
* An instance of either serves one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final

import extism  # type: ignore[import-not-found,import-untyped,unused-ignore]  # a peer, only where the benchmarks run
import pluggy
import wasmtime
from extism.extism import (  # type: ignore[import-not-found,import-untyped,unused-ignore]  # documented, not exported
    CompiledPlugin,
)

Call = Callable[[bytes], bytes]

MEMORY_BYTES: Final = 64 << 20
FUEL: Final = 50_000_000
TIMEOUT_MS: Final = 250
_PAGE_BYTES: Final = 65536
_RESERVED_BYTES: Final = 256 << 20
"""What Fuseboard reserves for a guest's memory, by the default ceiling."""
_PROJECT: Final = "fuseboard-benchmarks"

# ── Extism ───────────────────────────────────────────────────────────────────────────────────────


def extism_warm(wasm: bytes, functions: Iterable[object] = (), *, wasi: bool = False) -> Call:
    """Return calls of one plugin, without limits."""
    plugin = extism.Plugin(wasm, wasi=wasi, functions=list(functions))
    return lambda value: plugin.call("run", value)


def extism_limited(wasm: bytes) -> Call:
    """Return calls of one plugin with a limit of memory and a timeout, Fuseboard's defaults."""
    manifest = {
        "wasm": [{"data": wasm}],
        "memory": {"max_pages": MEMORY_BYTES // _PAGE_BYTES},
        "timeout_ms": TIMEOUT_MS,
    }
    plugin = extism.Plugin(manifest, functions=[])
    return lambda value: plugin.call("run", value)


def extism_fresh(wasm: bytes, *, wasi: bool = False) -> Call:
    """Return calls that make a plugin each, from one that is compiled."""
    compiled = CompiledPlugin(wasm, wasi=wasi, functions=[])
    return lambda value: extism.Plugin(compiled).call("run", value)


def extism_timed(wasm: bytes, timeout_ms: int) -> Callable[[], Call]:
    """Return what makes a plugin with this timeout, from one that is compiled."""
    compiled = CompiledPlugin({"wasm": [{"data": wasm}], "timeout_ms": timeout_ms}, functions=[])

    def make() -> Call:
        plugin = extism.Plugin(compiled)
        return lambda value: plugin.call("run", value)

    return make


def extism_function(name: str, function: Call) -> object:
    """Return a host function with an explicit signature, which costs less than one from annotations."""
    pointer = [extism.ValType.PTR]

    @extism.host_fn(name=name, signature=(pointer, pointer))  # type: ignore[untyped-decorator,unused-ignore]
    def serve(plugin: Any, arguments: list[Any], results: list[Any]) -> None:
        plugin.return_bytes(results[0], function(plugin.input_bytes(arguments[0])))

    return serve


def extism_json_function(name: str, function: Callable[[dict[str, Any]], dict[str, Any]]) -> object:
    """Return a host function that takes and gives JSON, by annotations."""

    @extism.host_fn(name=name)  # type: ignore[untyped-decorator,unused-ignore]
    def serve(arguments: Annotated[dict[str, Any], extism.Json]) -> Annotated[dict[str, Any], extism.Json]:
        return function(arguments)

    return serve


# ── wasmtime-py ──────────────────────────────────────────────────────────────────────────────────


class _Instance:
    """An instance of a guest with the ABI `PLAIN`, in a store of its own."""

    def __init__(self, store: wasmtime.Store, instance: wasmtime.Instance, buffer: int | None = None) -> None:
        self.store = store
        exports = instance.exports(store)
        self.memory: Any = exports["memory"]
        self._run: Any = exports["run"]
        self._buffer = self._address(exports["buffer"]) if buffer is None else buffer

    @property
    def buffer(self) -> int:
        """Where values cross; the same in each instance of a module."""
        return self._buffer

    def call(self, value: bytes) -> bytes:
        """Write a value, run the guest and read what it made of it."""
        start, store, memory = self._buffer, self.store, self.memory
        memory.write(store, value, start)
        length = self._run(store, len(value))
        return memory.read(store, start, start + length)  # type: ignore[no-any-return]  # a bytearray is as good

    def _address(self, function: Any) -> int:
        return int(function(self.store))


class _Linked:
    """A module with its imports resolved, for any number of instances."""

    def __init__(self, wasm: bytes, *, consume_fuel: bool = False, is_checked_by_code: bool = False) -> None:
        config = wasmtime.Config()
        config.consume_fuel = consume_fuel
        if is_checked_by_code:
            config.signals_based_traps = False
            config.memory_guard_size = 0
            config.memory_reservation = _RESERVED_BYTES
            config.memory_may_move = False
        self.engine = wasmtime.Engine(config)
        module = wasmtime.Module(self.engine, wasm)
        self._ready = wasmtime.Linker(self.engine).instantiate_pre(module)

    def instance(self, *, buffer: int | None = None, is_limited: bool = False) -> _Instance:
        """Return a new instance in a new store."""
        store = wasmtime.Store(self.engine)
        if is_limited:
            store.set_limits(memory_size=MEMORY_BYTES)
            store.set_fuel(FUEL)
        return _Instance(store, self._ready.instantiate(store), buffer)


def wasmtime_warm(wasm: bytes) -> Call:
    """Return calls of one instance, without limits."""
    return _Linked(wasm).instance().call


def wasmtime_limited(wasm: bytes, fuel: int = FUEL, *, is_checked_by_code: bool = False) -> Call:
    """Return calls of one instance with a limit of memory, and its fuel filled up before each.

    With `is_checked_by_code`, compiled code checks each access to memory, not a signal handler.
    """
    linked = _Linked(wasm, consume_fuel=True, is_checked_by_code=is_checked_by_code)
    instance = linked.instance(is_limited=True)

    def call(value: bytes) -> bytes:
        instance.store.set_fuel(fuel)
        return instance.call(value)

    return call


def wasmtime_fresh(wasm: bytes, *, is_limited: bool = False) -> Call:
    """Return calls that make a store and an instance each, from what is linked; `is_limited` with memory and fuel."""
    linked = _Linked(wasm, consume_fuel=is_limited)
    buffer = linked.instance(is_limited=is_limited).buffer

    def call(value: bytes) -> bytes:
        instance = linked.instance(buffer=buffer, is_limited=is_limited)
        try:
            return instance.call(value)
        finally:
            instance.store.close()

    return call


def wasmtime_with(wasm: bytes, name: str, function: Call) -> Call:
    """Return calls of one instance that may call a host function, which reads and writes its memory."""
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    memories: list[Any] = []
    number = wasmtime.ValType.i32()
    type_ = wasmtime.FuncType([number] * 4, [number])
    linker.define_func("host", name, type_, _wasmtime_function(function, memories), access_caller=True)
    store = wasmtime.Store(engine)
    instance = _Instance(store, linker.instantiate(store, wasmtime.Module(engine, wasm)))
    memories.append(instance.memory)
    return instance.call


def _wasmtime_function(function: Call, memories: list[Any]) -> Callable[..., int]:
    def serve(caller: wasmtime.Caller, start: int, length: int, to: int, room: int) -> int:
        (memory,) = memories  # kept: looking it up among the caller's exports costs more
        result = function(bytes(memory.read(caller, start, start + length)))[:room]
        memory.write(caller, result, to)
        return len(result)

    return serve


# ── pluggy ───────────────────────────────────────────────────────────────────────────────────────


def pluggy_hook(functions: int, function: Callable[[str], str]) -> Callable[[str], list[str]]:
    """Return calls of a hook with so many implementations: plain Python, not sandboxed, not chained."""
    specification, implementation = pluggy.HookspecMarker(_PROJECT), pluggy.HookimplMarker(_PROJECT)

    class Specification:
        @specification
        def change(self, value: str) -> str:
            """Change a value."""
            raise NotImplementedError

    class Plugin:
        @implementation
        def change(self, value: str) -> str:
            return function(value)

    manager = pluggy.PluginManager(_PROJECT)
    manager.add_hookspecs(Specification)
    for _ in range(functions):
        manager.register(Plugin())
    hook = manager.hook
    return lambda value: hook.change(value=value)
