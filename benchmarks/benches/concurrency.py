"""What a call costs in company: on an event loop, on several threads, and beside a thread that computes in Python.

Rules:
* Each contestant's result is checked before its race.
* One host serves all threads. The peers' instances can't be shared, so each thread has one of its own.
* Of several threads, the time until all have ended, over all calls: half of one thread's is twice its throughput.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from statistics import fmean
from typing import Any, Final, NamedTuple

from benchmarks.benches import _peers
from benchmarks.benches._bench import Bench, main
from benchmarks.benches._guests import Abi, module
from benchmarks.benches._ours import closed_filter, host_with, manifest
from benchmarks.benches._race import Work, race
from benchmarks.benches._results import Figure, Row, each_of, ratio
from benchmarks.benches.calls import EXTISM, OURS, WASMTIME, against, checked
from benchmarks.soaks._measures import percentile

import fuseboard as fb

_VALUE: Final = b"e" * 200
_TASKS: Final = 100
_TURN_SECONDS: Final = 0.03
_HOOK: Final = closed_filter("echo", bytes)
_THREADS: Final = (1, 2, 4)
_QUIET_SECONDS: Final = 0.05
_BUSY_SECONDS: Final = 0.4
_BRIEF_SECONDS: Final = 0.15
_ASYNC_NOTE: Final = (
    "On the loop, a call of Extism's blocks it for as long as the guest runs; a thread keeps it free. A guest of "
    "Fuseboard's that is quick runs on the loop, one that isn't moves to a thread."
)
_BUSY_NOTE: Final = (
    "A call that gives up the GIL gets it back when Python next switches threads, 5 ms later. Fuseboard's keeps it, "
    "and only the call waits in which its thread's turn ends: what the mean shows, half of the time being the other's."
)


def measure(bench: Bench) -> Iterator[Row]:
    """Measure all rows, one after the other."""
    yield from _asyncio_rows(bench)
    for guest, calls in (("echo", 300), ("checksum", 12)):
        for threads in _THREADS:
            yield _threads_row(bench, guest, threads, calls)
    yield from _busy_rows(bench)


# ── an event loop ────────────────────────────────────────────────────────────────────────────────


async def _called_on_the_loop(call: _peers.Call, value: bytes) -> bytes:
    return call(value)


def _asyncio_rows(bench: Bench) -> Iterator[Row]:
    extism = _peers.extism_warm(module("echo", Abi.EXTISM))
    with host_with(_HOOK, "echo") as host, asyncio.Runner() as runner:
        async_host = runner.run(_async_host())
        plain = "Host, on no loop"
        contestants: dict[str, Work] = {
            plain: lambda: [host.apply_filter(_HOOK, _VALUE) for _ in range(_TASKS)],
            "AsyncHost, one after the other": lambda: runner.run(_in_turn(partial(async_host.apply_filter, _HOOK))),
            "AsyncHost, 100 tasks": lambda: runner.run(_at_once(partial(async_host.apply_filter, _HOOK))),
            "Extism, warm, on the loop": lambda: runner.run(_in_turn(partial(_called_on_the_loop, extism))),
            "Extism, warm, asyncio.to_thread": lambda: runner.run(
                _in_turn(lambda value: asyncio.to_thread(extism, value))
            ),
        }
        figures = race(checked(contestants, [_VALUE] * _TASKS), rounds=bench.rounds, turn_seconds=_TURN_SECONDS)
        runner.run(async_host.aclose())
    base, in_turn, at_once, on_loop, thread = (each_of(figure, _TASKS) for figure in figures.values())
    ratios = (ratio(in_turn, base), against(in_turn, on_loop), against(in_turn, thread))
    yield Row("asyncio, one after the other", (base, in_turn, on_loop, thread), ratios, _ASYNC_NOTE)
    yield Row("asyncio, 100 tasks at once", (base, at_once), (ratio(at_once, base),))


async def _async_host() -> fb.AsyncHost:
    host = fb.AsyncHost(hooks=[_HOOK])
    await host.load_bytes(module("echo"), manifest(_HOOK))
    return host


async def _in_turn(call: Callable[[bytes], Any]) -> list[bytes]:
    return [await call(_VALUE) for _ in range(_TASKS)]


async def _at_once(call: Callable[[bytes], Any]) -> list[bytes]:
    return list(await asyncio.gather(*(call(_VALUE) for _ in range(_TASKS))))


# ── threads ──────────────────────────────────────────────────────────────────────────────────────


def _threads_row(bench: Bench, guest: str, threads: int, calls: int) -> Row:
    with host_with(_HOOK, guest) as host, ThreadPoolExecutor(threads) as pool:
        ours = partial(host.apply_filter, _HOOK)
        each_ones: dict[str, list[_peers.Call]] = {
            OURS: [ours] * threads,
            EXTISM: [_peers.extism_warm(module(guest, Abi.EXTISM)) for _ in range(threads)],
            WASMTIME: [_peers.wasmtime_warm(module(guest, Abi.PLAIN)) for _ in range(threads)],
        }
        contestants: dict[str, Work] = {
            name: partial(_all_threads, pool, own, calls) for name, own in each_ones.items()
        }
        expected = [ours(_VALUE)] * threads
        figures = race(checked(contestants, expected), rounds=bench.rounds, turn_seconds=_TURN_SECONDS)
    shown = {name: each_of(figure, threads * calls) for name, figure in figures.items()}
    ratios = (against(shown[OURS], shown[EXTISM]), ratio(shown[OURS], shown[WASMTIME], is_guarded=threads == 1))
    work = "200-byte echo" if guest == "echo" else "half a millisecond of computing"
    return Row(f"{threads} thread{'s' * (threads > 1)}, {work}", tuple(shown.values()), ratios)


def _all_threads(pool: ThreadPoolExecutor, own: list[_peers.Call], calls: int) -> list[bytes]:
    """Let each thread make its calls, all at the same time, and return what each got last."""
    return list(pool.map(partial(_calls_of, threading.Barrier(len(own)), calls), own))


def _calls_of(start: threading.Barrier, calls: int, call: _peers.Call) -> bytes:
    start.wait()
    for _ in range(calls):
        result = call(_VALUE)
    return bytes(result)


# ── beside a busy thread ─────────────────────────────────────────────────────────────────────────


_Statistic = Callable[[list[float]], float]


class _Times(NamedTuple):
    """What each call took in each round, in µs."""

    quiet: list[list[float]]
    busy: list[list[float]]


def _busy_rows(bench: Bench) -> Iterator[Row]:
    with host_with(_HOOK, "echo") as host:
        calls: dict[str, _peers.Call] = {
            OURS: partial(host.apply_filter, _HOOK),
            EXTISM: _peers.extism_warm(module("echo", Abi.EXTISM)),
            WASMTIME: _peers.wasmtime_warm(module("echo", Abi.PLAIN)),
        }
        checked({name: partial(call, _VALUE) for name, call in calls.items()}, _VALUE)
        times = {name: _Times([], []) for name in calls}
        seconds = _BRIEF_SECONDS if bench.is_quick else _BUSY_SECONDS
        for name, call in list(calls.items()) * bench.rounds:
            times[name].quiet.append(_timed_calls(call, _QUIET_SECONDS))
            with _busy_thread():
                times[name].busy.append(_timed_calls(call, seconds))
    yield _busy_row("p50", times, partial(percentile, percent=50), bar=2.0)
    yield _busy_row("p99", times, partial(percentile, percent=99))
    yield _busy_row("mean", times, fmean)


def _busy_row(statistic: str, times: Mapping[str, _Times], of: _Statistic, *, bar: float | None = None) -> Row:
    quiet = {name: _figure(f"{name}, quiet", own.quiet, of) for name, own in times.items()}
    busy = {name: _figure(f"{name}, busy", own.busy, of) for name, own in times.items()}
    ratios = (
        ratio(busy[OURS], quiet[OURS], bar=bar, is_guarded=bar is not None),
        *(ratio(busy[name], quiet[name], is_guarded=False) for name in (EXTISM, WASMTIME)),
    )
    return Row(f"beside a busy Python thread, {statistic}", (*quiet.values(), *busy.values()), ratios, _BUSY_NOTE)


def _figure(contestant: str, rounds: list[list[float]], of: _Statistic) -> Figure:
    return Figure(contestant, tuple(of(each) for each in rounds))


def _timed_calls(call: _peers.Call, seconds: float) -> list[float]:
    """Return what each call took, in µs."""
    took: list[float] = []
    now = time.perf_counter_ns()
    until = now + seconds * 1e9
    while now < until:
        began = now
        call(_VALUE)
        now = time.perf_counter_ns()
        took.append((now - began) / 1e3)
    return took


@contextmanager
def _busy_thread() -> Iterator[None]:
    """Have another thread compute in Python, as a worker of the same application does."""
    over = threading.Event()
    thread = threading.Thread(target=_compute, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _compute(over: threading.Event) -> None:
    total = 0
    while not over.is_set():
        for number in range(1000):
            total += number * number


if __name__ == "__main__":
    main(measure)
