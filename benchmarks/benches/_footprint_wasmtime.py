"""wasmtime-py in a process of its own: see `_footprint_child.py`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import wasmtime
from benchmarks.benches._footprint_child import HELD, Call, Job


def loader(job: Job) -> Callable[[bytes], object]:
    """Return what compiles a module in an engine."""
    config = wasmtime.Config()
    if job.cache:
        config.cache = job.cache
    engine = wasmtime.Engine(config)
    return lambda wasm: wasmtime.Module(engine, wasm)


def caller(job: Job, hold: Callable[[], object]) -> Call:
    """Return calls of an instance that each thread keeps until it traps, made from what is linked once."""
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_func("host", "lookup", _type_of_lookup(), _lookup(hold), access_caller=True)
    ready = linker.instantiate_pre(wasmtime.Module(engine, job.wasm))
    kept = threading.local()

    def call(value: bytes) -> bytes | None:
        if getattr(kept, "instance", None) is None:
            kept.instance = _Instance(wasmtime.Store(engine), ready)
        try:
            return bytes(kept.instance.call(value))
        except wasmtime.Trap:
            kept.instance.store.close()
            kept.instance = None
            return None

    return call


class _Instance:
    def __init__(self, store: wasmtime.Store, ready: wasmtime.InstancePre) -> None:
        self.store = store
        exports: Any = ready.instantiate(store).exports(store)
        self._memory, self._run, self._buffer = exports["memory"], exports["run"], exports["buffer"](store)

    def call(self, value: bytes) -> bytearray:
        self._memory.write(self.store, value, self._buffer)
        length = self._run(self.store, len(value))
        return self._memory.read(self.store, self._buffer, self._buffer + length)  # type: ignore[no-any-return]


def _type_of_lookup() -> wasmtime.FuncType:
    number = wasmtime.ValType.i32()
    return wasmtime.FuncType([number] * 4, [number])


def _lookup(hold: Callable[[], object]) -> Callable[..., int]:
    def lookup(caller: wasmtime.Caller, _start: int, _length: int, to: int, room: int) -> int:
        hold()
        memory: Any = caller["memory"]
        result = msgspec.json.encode(HELD)[:room]
        memory.write(caller, result, to)
        return len(result)

    return lookup
