"""Extism in a process of its own: see `_footprint_child.py`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import extism  # type: ignore[import-not-found,import-untyped,unused-ignore]  # a peer, only where the benchmarks run
import msgspec
from benchmarks.benches._footprint_child import HELD, Call, Import, Job
from extism.extism import (  # type: ignore[import-not-found,import-untyped,unused-ignore]  # documented, not exported
    CompiledPlugin,
)


def loader(job: Job) -> Callable[[bytes], object]:
    """Return what makes a plugin of a module, or compiles it for plugins."""
    os.environ["EXTISM_CACHE_CONFIG"] = job.cache
    functions = [_stub(each) for each in job.imports]
    make = CompiledPlugin if job.is_only_compiled else extism.Plugin
    return lambda wasm: make(wasm, functions=functions)


def caller(job: Job, hold: Callable[[], object]) -> Call:
    """Return calls of a plugin that each thread keeps until it traps, made from what is compiled once."""
    os.environ["EXTISM_CACHE_CONFIG"] = ""
    compiled = CompiledPlugin(job.wasm, functions=[_lookup(hold)])
    kept = threading.local()

    def call(value: bytes) -> bytes | None:
        if getattr(kept, "plugin", None) is None:
            kept.plugin = extism.Plugin(compiled)
        try:
            return bytes(kept.plugin.call("run", value))
        except extism.Error:
            kept.plugin = None
            return None

    return call


def _lookup(hold: Callable[[], object]) -> object:
    pointer = [extism.ValType.PTR]

    @extism.host_fn(name="lookup", signature=(pointer, pointer))  # type: ignore[untyped-decorator,unused-ignore]
    def lookup(plugin: Any, _arguments: list[Any], results: list[Any]) -> None:
        hold()
        plugin.return_bytes(results[0], msgspec.json.encode(HELD))

    return lookup


def _stub(imported: Import) -> object:
    """Return a function that a module needs to be linked and that nobody calls."""
    kinds = {"i32": extism.ValType.I32, "i64": extism.ValType.I64}
    parameters, results = ([kinds[each] for each in side] for side in (imported.parameters, imported.results))

    @extism.host_fn(name=imported.name, namespace=imported.module, signature=(parameters, results))  # type: ignore[untyped-decorator,unused-ignore]
    def stub(*_: Any) -> None:
        raise NotImplementedError(imported.name)

    return stub
