"""What plugins cost before and beside their calls: importing, loading cold, and memory for plugins, slots and calls.

Rules:
* Each number comes from a process of its own, in which only its contestant is imported.
* The modules that are loaded beside each other differ, so that nobody can share their code.
* Whoever can keep compiled modules on disk is shown with and without; Extism does so unless it is told not to.
* Admitted memory is the sum of the memory limits of all guests that are held.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import wasmtime
from benchmarks.benches._bench import Bench, main
from benchmarks.benches._footprint_child import Import, Job, Numbers
from benchmarks.benches._guests import Abi, module
from benchmarks.benches._ours import closed_filter, manifest
from benchmarks.benches._results import Figure, Ratio, Row, ratio

_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_SANITISER: Final = _ROOT / "plugins" / "html-sanitiser"
_OURS: Final = "Fuseboard"
_EXTISM: Final = "Extism"
_WASMTIME: Final = "wasmtime-py"
_IMPORTS: Final = {
    _OURS: ("", "fuseboard"),
    f"{_OURS}, where asyncio is": ("import asyncio", "fuseboard"),
    _EXTISM: ("", "extism"),
    _WASMTIME: ("", "wasmtime"),
}
"""What is there before, and what is imported."""
_MODULES: Final = {_OURS: "ours", _EXTISM: "extism", _WASMTIME: "wasmtime"}
_ABIS: Final = {_OURS: Abi.FUSEBOARD, _EXTISM: Abi.EXTISM, _WASMTIME: Abi.PLAIN}

_SLOTS: Final = 64
"""What a host has unless it is told otherwise."""
_TOUCHED_MIB: Final = 4
_BEYOND_ADMITTED_MIB: Final = 95.0
"""100 MB."""
_GROWTH_MIB: Final = 5.0
_BOUND_SECONDS: Final = 120
_PER_CALLS: Final = 100_000

_TIMED_IMPORT: Final = """{}
import time
began = time.perf_counter()
import {}
print((time.perf_counter() - began) * 1e3)"""
_LARGER_NOTE: Final = (
    "The HTML sanitiser, the same bytes for all. Only Fuseboard could run it: Extism gets functions that nobody calls "
    "for its imports, wasmtime-py only compiles."
)
_LOAD_NOTE: Final = (
    "An engine is there before wasmtime-py compiles, a host before Fuseboard loads. Without a cache Fuseboard starts a "
    "process for each module, unless it is told to compile inline."
)
_LARGER_LOAD_NOTE: Final = (
    f"{_LARGER_NOTE} The engine takes this long on one thread, with fuel counted and memory checked by code; "
    "wasmtime-py compiles on all cores, without either."
)
_PLUGIN_NOTE: Final = (
    "Extism's plugin has an instance; a compiled one has none, as Fuseboard's and wasmtime-py's module."
)
_SLOT_NOTE: Final = (
    "What 64 guests add that are held in the application's function, over 64; their threads are there before. "
    "Fuseboard's are fresh instances, the peers' stay with their threads."
)
_WHY_KEPT: Final = (
    "the pool keeps the first pages of each of the 64 slots that were used, so that the next instances find them; the "
    "core would have to keep fewer"
)
_CALLS_NOTE: Final = (
    "Every second call crashes, which takes a fresh plugin of Extism's and a fresh instance of wasmtime-py's; theirs "
    "are a fifth of the calls, scaled. The soak `memory` has every kind of trap."
)


@dataclass(frozen=True)
class _Guest:
    """A module for each contestant, and what it needs to be loaded."""

    modules: Mapping[str, bytes]
    manifest: Mapping[str, Any]
    imports: Sequence[Import] = ()

    def job(self, contestant: str, task: str, **arguments: Any) -> Job:
        """Return what a contestant is to do with it."""
        imports = self.imports if contestant == _EXTISM else ()
        return Job(
            contestant=_MODULES[contestant],
            task=task,
            wasm=self.modules[contestant],
            manifest=self.manifest,
            imports=imports,
            **arguments,
        )


def measure(bench: Bench) -> Iterator[Row]:
    """Measure all rows, one after the other."""
    rounds, plugins = (2, 64) if bench.is_quick else (9, 256)
    small, larger = _built("echo"), _sanitiser()
    yield _import_row(rounds)
    yield from _load_rows("small module", small, _LOAD_NOTE, rounds)
    yield from _load_rows("larger module", larger, _LARGER_LOAD_NOTE, rounds)
    yield from _plugins_rows(small, larger, plugins, 1 if bench.is_quick else 3)
    yield _slots_row()
    yield _calls_row(_PER_CALLS // 5 if bench.is_quick else _PER_CALLS)


# ── importing and loading ────────────────────────────────────────────────────────────────────────


def _import_row(rounds: int) -> Row:
    taken: dict[str, list[float]] = {name: [] for name in _IMPORTS}
    for number in range(rounds + 1):
        for name, words in _IMPORTS.items():
            took = float(_output_of(["-c", _TIMED_IMPORT.format(*words)]))
            if number:  # the first finds no bytecode
                taken[name].append(took)
    figures = [Figure(name, tuple(each), "ms") for name, each in taken.items()]
    ours, _, extism, wasmtime_py = figures
    return Row("import, in a fresh process", tuple(figures), _ratios([ours, extism, wasmtime_py]))


def _load_rows(size: str, guest: _Guest, note: str, rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="fuseboard-compiled-") as scratch:
        cached = {
            f"{name}, from its cache": guest.job(name, "load", cache=_cache(Path(scratch), name)) for name in _MODULES
        }
        for job in cached.values():
            _numbers_of(job)  # fills the cache
        uncached = {f"{name}, no cache": guest.job(name, "load") for name in _MODULES}
        uncached[f"{_OURS}, inline"] = guest.job(_OURS, "load", is_inline=True)
        taken = _taken(uncached | cached, rounds)
    first, another = (_figures(taken, key, "ms") for key in ("first", "another"))
    of_cached = taken[f"{_OURS}, from its cache"]
    with_host = Figure(
        f"{_OURS}, its host and from its cache", tuple(one["made"] + one["first"] for one in of_cached), "ms"
    )
    yield Row(f"load, {size}, first in a process", (*first, with_host), _like_with_like(first), note)
    yield Row(f"load, {size}, another", tuple(another), _like_with_like(another), note)


def _like_with_like(figures: Sequence[Figure]) -> tuple[Ratio, ...]:
    """Return Fuseboard's figures over the peers' that were made in the same way."""
    by_name = {figure.contestant: figure for figure in figures}
    ways = {"no cache": "no cache", "inline": "no cache", "from its cache": "from its cache"}
    return tuple(
        ratio(by_name[f"{_OURS}, {ours}"], by_name[f"{peer}, {theirs}"], is_guarded=False)
        for ours, theirs in ways.items()
        for peer in (_EXTISM, _WASMTIME)
    )


def _cache(scratch: Path, name: str) -> str:
    """Return the folder of our cache, or a configuration of wasmtime's, with a folder of its own."""
    if name == _OURS:
        return str(scratch / name)
    path = scratch / f"{name}.toml"
    path.write_text(f"[cache]\ndirectory = '{scratch / name}'\n")
    return str(path)


def _taken(jobs: Mapping[str, Job], rounds: int) -> dict[str, list[Numbers]]:
    """Return what each gave in each round; everyone gets a turn in a round."""
    each_round = [{name: _numbers_of(job) for name, job in jobs.items()} for _ in range(rounds)]
    return {name: [numbers[name] for numbers in each_round] for name in jobs}


def _figures(taken: Mapping[str, Sequence[Numbers]], key: str, unit: str) -> list[Figure]:
    return [Figure(name, tuple(numbers[key] for numbers in each), unit) for name, each in taken.items()]


def _ratios(figures: Sequence[Figure], *, is_guarded: bool = False) -> tuple[Ratio, ...]:
    ours, *peers = figures
    return tuple(ratio(ours, peer, is_guarded=is_guarded) for peer in peers)


# ── memory ───────────────────────────────────────────────────────────────────────────────────────


def _plugins_rows(small: _Guest, larger: _Guest, count: int, rounds: int) -> Iterator[Row]:
    jobs = {name: small.job(name, "plugins", count=count, is_inline=True) for name in _MODULES}
    jobs[f"{_EXTISM}, only compiled"] = small.job(_EXTISM, "plugins", count=count, is_only_compiled=True)
    figures = _figures(_taken(jobs, rounds), "each", "KiB")
    ratios = _ratios(figures, is_guarded=True)
    yield Row("memory per loaded plugin, small module", tuple(figures), ratios, _PLUGIN_NOTE)
    jobs = {name: larger.job(name, "plugins", count=count, is_inline=True) for name in _MODULES}
    figures = _figures(_taken(jobs, rounds), "each", "KiB")
    yield Row("memory per loaded plugin, larger module", tuple(figures), _ratios(figures), _LARGER_NOTE)


def _slots_row() -> Row:
    guest = _built("hold")
    taken = {name: _numbers_of(guest.job(name, "slots", count=_SLOTS, mib=_TOUCHED_MIB)) for name in _MODULES}
    figures = [Figure(name, ((one["during"] - one["ready"]) / _SLOTS,), "MiB") for name, one in taken.items()]
    ours, admitted = taken[_OURS], _SLOTS * _TOUCHED_MIB
    ratios = (
        *_ratios(figures, is_guarded=True),
        _resident(f"resident beyond {admitted} MiB admitted, during", ours["during"] - admitted),
        _resident("resident with nothing admitted, after", ours["after"], _WHY_KEPT),
    )
    return Row(f"memory per slot, {_TOUCHED_MIB} MiB touched", tuple(figures), ratios, _SLOT_NOTE)


def _resident(name: str, mib: float, why_not: str = "") -> Ratio:
    return Ratio(name, mib, unit="MiB", bar=_BEYOND_ADMITTED_MIB, why_not=why_not)


def _calls_row(count: int) -> Row:
    guest = _built("crash")
    counts = {_OURS: count, _EXTISM: count // 5, _WASMTIME: count // 5}
    taken = {name: _numbers_of(guest.job(name, "calls", count=calls)) for name, calls in counts.items()}
    growth = {name: numbers["growth"] * (count / counts[name]) for name, numbers in taken.items()}
    figures = tuple(Figure(name, (each,), "MiB") for name, each in growth.items())
    flat = Ratio("growth of Fuseboard's memory", growth[_OURS], unit="MiB", bar=_GROWTH_MIB)
    return Row(f"memory over {count:,} calls", figures, (flat,), _CALLS_NOTE)


# ── guests and processes ─────────────────────────────────────────────────────────────────────────


@cache
def _built(name: str) -> _Guest:
    said = manifest(closed_filter("guest", bytes), capabilities={"functions": ["lookup"]})
    return _Guest({contestant: module(name, abi) for contestant, abi in _ABIS.items()}, said)


@cache
def _sanitiser() -> _Guest:
    wasm = (_SANITISER / "plugin.wasm").read_bytes()
    said = tomllib.loads((_SANITISER / "plugin.toml").read_text())
    return _Guest(dict.fromkeys(_MODULES, wasm), said, tuple(_imports(wasm)))


def _imports(wasm: bytes) -> Iterator[Import]:
    for each in wasmtime.Module(wasmtime.Engine(), wasm).imports:
        type_ = each.type
        if not isinstance(type_, wasmtime.FuncType) or each.name is None:
            raise TypeError(f"{each.module} {each.name} is no function")
        parameters, results = (tuple(str(one) for one in side) for side in (type_.params, type_.results))
        yield Import(each.module, each.name, parameters, results)


def _numbers_of(job: Job) -> Numbers:
    """Run a job in a process of its own."""
    output = _output_of(["-m", "benchmarks.benches._footprint_child"], msgspec.json.encode(job))
    return msgspec.json.decode(output, type=Numbers)


def _output_of(arguments: Sequence[str], sent: bytes = b"") -> bytes:
    command = [sys.executable, *arguments]
    return subprocess.run(  # noqa: S603  our own modules
        command, input=sent, stdout=subprocess.PIPE, check=True, cwd=_ROOT, timeout=_BOUND_SECONDS
    ).stdout


if __name__ == "__main__":
    main(measure)
