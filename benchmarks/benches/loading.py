"""What loading a module of 2 MB costs: compiled, out of the cache, by many processes, and those who call meanwhile.

Rules:
* The module is the HTML sanitiser with copies of its own functions behind them: real code, compiled all of it.
* Each load that is to compile has a cache of its own, or a module that differs in a custom section.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import IO, Any, Final

import msgspec
from benchmarks.benches._bench import Bench, main
from benchmarks.benches._footprint_child import copy_of
from benchmarks.benches._grown import grown
from benchmarks.benches._loading_child import READY
from benchmarks.benches._ours import closed_filter, host_with
from benchmarks.benches._race import timed
from benchmarks.benches._results import Figure, Ratio, Row, ratio
from benchmarks.soaks._measures import percentile

import fuseboard as fb

_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_SANITISER: Final = _ROOT / "plugins" / "html-sanitiser"
_BYTES: Final = 2_000_000
_PROCESSES: Final = 16
_CACHED_MS: Final = 20.0
_CACHED_RATIO: Final = 1 / 50
_TRAFFIC_RATIO: Final = 2.0
_TRAFFIC_SECONDS: Final = 1.0
_TRAFFIC_NOTE: Final = (
    "Meanwhile is from the beginning of one whole load to its end, with all that it does in this process."
)
_ECHO: Final = closed_filter("post.title", str)


def measure(bench: Bench) -> Iterator[Row]:
    """Measure all rows, one after the other."""
    wasm = grown((_SANITISER / "plugin.wasm").read_bytes(), _BYTES)
    said = tomllib.loads((_SANITISER / "plugin.toml").read_text()) | {"slug": "guest-0"}
    yield _loads_row(wasm, said, 1 if bench.is_quick else 5)
    yield _processes_row(wasm, said, 1 if bench.is_quick else 3)
    yield from _traffic_rows(wasm, said, 1 if bench.is_quick else 5)


def _loads_row(wasm: bytes, said: dict[str, Any], rounds: int) -> Row:
    taken: dict[str, list[float]] = {"compiled in a process": [], "compiled inline": [], "out of the cache": []}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            another = copy_of(wasm, number)
            cache = fb.ArtifactCache(folder=Path(scratch, "cache"))
            taken["compiled in a process"].append(_load_ms(another, said, cache=cache))
            taken["out of the cache"].append(_load_ms(another, said, cache=cache))
            taken["compiled inline"].append(_load_ms(another, said, cache=None, compile="inline"))
    figures = {name: Figure(name, tuple(each), "ms") for name, each in taken.items()}
    compiled, cached = figures["compiled in a process"], figures["out of the cache"]
    ratios = (
        Ratio("out of the cache", cached.median, unit="ms", bar=_CACHED_MS),
        ratio(cached, compiled, bar=_CACHED_RATIO, is_guarded=False),
        ratio(compiled, figures["compiled inline"], is_guarded=False),
    )
    return Row(f"load, module of {len(wasm) / 1e6:.1f} MB", tuple(figures.values()), ratios)


def _load_ms(wasm: bytes, said: dict[str, Any], **arguments: Any) -> float:
    with _host(said, **arguments) as host:
        return timed(lambda: host.load_bytes(wasm, said, grants="as-requested"), 1) / 1e3


def _host(said: dict[str, Any], **arguments: Any) -> fb.Host:
    return fb.Host(hooks=[fb.Filter(hook["name"], bytes) for hook in said["hooks"]], **arguments)


# ── many processes ───────────────────────────────────────────────────────────────────────────────


def _processes_row(wasm: bytes, said: dict[str, Any], rounds: int) -> Row:
    taken: dict[str, list[float]] = {"nothing is compiled": [], "it is in the cache": []}
    compilations = 0
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            for name, each in taken.items():
                seconds, compiled = _together(copy_of(wasm, number), said, Path(scratch))
                each.append(seconds * 1e3)
                compilations += compiled if name == "nothing is compiled" else compiled * _PROCESSES
    figures = tuple(Figure(f"until the last is done, {name}", tuple(each), "ms") for name, each in taken.items())
    once = Ratio("compilations for each module", compilations / rounds, unit="", bar=1)
    return Row(f"load, the same module, {_PROCESSES} processes that start together", figures, (once,))


def _together(wasm: bytes, said: dict[str, Any], scratch: Path) -> tuple[float, int]:
    """Return how many seconds all took, and how often they compiled."""
    (scratch / "plugin.wasm").write_bytes(wasm)
    arguments = (str(scratch / "plugin.wasm"), str(scratch / "cache"), msgspec.json.encode(said).decode())
    command = [sys.executable, "-m", "benchmarks.benches._loading_child", *arguments]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT)  # noqa: S603  ours
        for _ in range(_PROCESSES)
    ]
    for each in processes:
        if _stream(each.stdout).readline().strip() != READY:
            raise RuntimeError("a process that loads could not be started")
    began = time.perf_counter()
    for each in processes:
        _stream(each.stdin).write("\n")
        _stream(each.stdin).flush()
    compiled = [int(each.communicate()[0]) for each in processes]
    return time.perf_counter() - began, sum(compiled)


def _stream(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise TypeError("the process has no pipe")
    return stream


# ── those who call meanwhile ─────────────────────────────────────────────────────────────────────


def _traffic_rows(wasm: bytes, said: dict[str, Any], rounds: int) -> Iterator[Row]:
    with host_with(_ECHO, "echo") as host, ThreadPoolExecutor() as pool:
        host.declare(*(fb.Filter(hook["name"], bytes) for hook in said["hooks"]))
        for threads in dict.fromkeys((1, os.cpu_count() or 1)):
            _calls(host, pool, threads, _after(_TRAFFIC_SECONDS))
            taken = []
            for number in range(rounds):
                alone = _calls(host, pool, threads, _after(_TRAFFIC_SECONDS))
                load = pool.submit(_load, host, copy_of(wasm, threads * 1_000 + number), said)
                taken.append((alone, _calls(host, pool, threads, load.done)))
                load.result()
            yield _traffic_row(
                f"calls on {threads} threads while a module of {len(wasm) / 1e6:.1f} MB is loaded", taken
            )


def _traffic_row(name: str, taken: Sequence[tuple[list[float], list[float]]]) -> Row:
    figures = tuple(
        Figure(f"{who}, {what}", tuple(percentile(each[place], percent) * 1e6 for each in taken))
        for place, who in enumerate(("alone", "meanwhile"))
        for what, percent in (("median", 50), ("99th percentile", 99))
    )
    growth = median(percentile(beside, 99) / percentile(alone, 99) for alone, beside in taken)
    return Row(name, figures, (Ratio("99th percentile, meanwhile / alone", growth, bar=_TRAFFIC_RATIO),), _TRAFFIC_NOTE)


def _load(host: fb.Host, wasm: bytes, said: dict[str, Any]) -> None:
    host.load_bytes(wasm, said | {"slug": "loaded"}, grants="as-requested")
    host.unload("loaded")


def _after(seconds: float) -> Callable[[], bool]:
    until = time.perf_counter() + seconds
    return lambda: time.perf_counter() >= until


def _calls(host: fb.Host, pool: ThreadPoolExecutor, threads: int, is_over: Callable[[], bool]) -> list[float]:
    """Return how long each call took, on so many threads."""
    callers = [pool.submit(_called, host, is_over) for _ in range(threads)]
    return [seconds for caller in callers for seconds in caller.result()]


def _called(host: fb.Host, is_over: Callable[[], bool]) -> list[float]:
    took: list[float] = []
    while not is_over():
        began = time.perf_counter()
        host.apply_filter(_ECHO, "a title of some length")
        took.append(time.perf_counter() - began)
    return took


if __name__ == "__main__":
    main(measure)
