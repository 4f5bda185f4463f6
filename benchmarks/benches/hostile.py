"""What guests that never end do to others: to a thread beside them, and to their own deadline.

Rules:
* Every invocation must trap by the limit that is meant: one that ended otherwise would measure something else.
* What the machine does by itself is measured in the same rounds: a busy machine is late without any guest.
* The breaker is off, so that a hostile guest really runs each time.
* Each is late by its own timeout: Fuseboard's begins at the entry, a peer's at the call, when its guest is made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import wasmtime
from benchmarks.benches import _peers
from benchmarks.benches._bench import Bench, main
from benchmarks.benches._guests import Abi, module
from benchmarks.benches._results import Figure, Ratio, Row
from benchmarks.soaks._guests import hostile_arguments, hostile_plugins
from benchmarks.soaks._measures import percentile

import fuseboard as fb

LOOPS: Final = {
    "computing": "loop-forever",
    "over an import": "loop-over-import",
    "over the log": "loop-over-log",
    "touching pages": "touch-pages",
    "bulk fills": "bulk-fill",
}
"""Kinds of loop, and the hostile plugin's hook for each."""
_GAP_SECONDS: Final = 0.3
_QUICK_GAP_SECONDS: Final = 0.15
_GAP_BAR_MS: Final = 10.0
_TIMEOUT_MS: Final = 20
_LATE_BARS_MS: Final = {"computing": 1.0, "touching pages": 5.0}
_OURS: Final = "Fuseboard"
_EXTISM: Final = "Extism, timeout_ms"
_WASMTIME: Final = "wasmtime-py, epoch and a timer thread"
_BUSY: Final = "plain Python instead of a guest"
_SLEEP: Final = "time.sleep instead of a guest"
_MACHINE: Final = "without any guest it was more than that too, in the same rounds: the machine was busy"
_GIVEN_BACK: Final = (
    "the pages that the guest touched are given back before the outcome, which takes some 0.06 ms a MiB here, on top "
    "of a pulse in which each step finds a fresh page; it would need slots that are cleared after the outcome"
)
_WHY_LATE: Final = {"touching pages": _GIVEN_BACK}
_ATTEMPTS: Final = 3

Work = Callable[[], object]
Late = Callable[[], float]
"""Runs until time is over, and returns how late it ended, in ms."""


def measure(bench: Bench) -> Iterator[Row]:
    """Measure the gaps of a sibling thread, then the lateness, by kind of loop."""
    limits = fb.Limits(fuel_per_invocation=1_000_000_000, invocation_timeout_ms=_TIMEOUT_MS)
    arguments = hostile_arguments() | {"ceilings": limits, "breaker": None, "on_outcome": None}
    wasm, manifest, _ = hostile_plugins()[0]
    with fb.Host(**arguments) as host:
        host.load_bytes(wasm, manifest, grants="as-requested", limits=limits)
        for kind, hook in LOOPS.items():
            yield _gap_row(bench, kind, partial(_late_by, host, f"attack.{hook}"))
        for kind, hook in LOOPS.items():
            yield _late_row(bench, kind, partial(_late_by, host, f"attack.{hook}"))


def _late_by(host: fb.Host, hook: str) -> float:
    """Run a guest until its time is over, and return how late it ended, in ms."""
    (outcome,) = host.dispatch(hook, "x").outcomes
    if not isinstance(outcome, fb.Trapped) or outcome.trap.limit != fb.Limit.TIMEOUT:
        raise TypeError(f"{hook} ended otherwise: {outcome}")
    return outcome.elapsed_ms - _TIMEOUT_MS


# ── a thread beside ──────────────────────────────────────────────────────────────────────────────


def _gap_row(bench: Bench, kind: str, guest: Work) -> Row:
    seconds = _QUICK_GAP_SECONDS if bench.is_quick else _GAP_SECONDS
    asleep = partial(time.sleep, _TIMEOUT_MS / 1e3)
    beside: dict[str, Work] = {_OURS: guest, _BUSY: _python, _SLEEP: asleep, **_peers_of(kind)}
    figures = _gaps(beside, 3 if bench.is_quick else 9, seconds)
    why_not = _because_of_the_machine(max(figures[name].median for name in (_BUSY, _SLEEP)), _GAP_BAR_MS)
    ratios = (
        Ratio("longest gap", figures[_OURS].median, unit="ms", bar=_GAP_BAR_MS, why_not=why_not),
        Ratio("longest gap of all rounds", max(figures[_OURS].rounds), unit="ms"),
    )
    note = f"The longest gap of a thread that looks at the clock, in {seconds} s beside."
    return Row(f"a sibling thread beside a loop {kind}", tuple(figures.values()), ratios, note)


def _gaps(beside: dict[str, Work], rounds: int, seconds: float) -> dict[str, Figure]:
    """Return the longest gap beside each in each round, in ms; the order moves on by one with each round."""
    gaps: dict[str, list[float]] = {name: [] for name in beside}
    names = list(beside)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gaps[name].append(_longest_gap(beside[name], seconds) * 1e3)
    return {name: Figure(name, tuple(each), "ms") for name, each in gaps.items()}


def _because_of_the_machine(without_guest: float, bar: float | None) -> str:
    """Return what to say of a bar that the machine alone doesn't reach; nothing where it does."""
    return _MACHINE if bar is not None and without_guest > bar else ""


def _longest_gap(work: Work, seconds: float) -> float:
    """Return a ticking thread's longest gap, in seconds, while this one works again and again."""
    has_ended = threading.Event()
    gaps: list[float] = []
    sibling = threading.Thread(target=_tick, args=(has_ended, gaps))
    sibling.start()
    end = time.perf_counter() + seconds
    try:
        while time.perf_counter() < end:
            work()
    finally:
        has_ended.set()
        sibling.join()
    return max(gaps)


def _tick(has_ended: threading.Event, gaps: list[float]) -> None:
    last = time.perf_counter()
    longest = 0.0
    while not has_ended.is_set():
        now = time.perf_counter()
        longest = max(longest, now - last)
        last = now
    gaps.append(longest)


def _python() -> None:
    end = time.perf_counter() + _TIMEOUT_MS / 1e3
    while time.perf_counter() < end:
        pass


# ── lateness ─────────────────────────────────────────────────────────────────────────────────────


def _late_row(bench: Bench, kind: str, guest: Late) -> Row:
    asleep = partial(_late_after, partial(time.sleep, _TIMEOUT_MS / 1e3))
    late: dict[str, Late] = {_OURS: guest, _SLEEP: asleep, **_peers_of(kind)}
    times = 20 if bench.is_quick else 100
    attempts = [_lateness(late, times) for _ in range(1 if bench.is_quick else _ATTEMPTS)]
    figures = tuple(
        Figure(f"{name}, {what}", tuple(percentile(each[name], percent) for each in attempts), "ms")
        for name in late
        for what, percent in (("median", 50), ("99th percentile", 99))
    )
    ours, without = (percentile([one for each in attempts for one in each[name]], 99) for name in (_OURS, _SLEEP))
    bar = _LATE_BARS_MS.get(kind)
    why_not = _because_of_the_machine(without, bar) or _WHY_LATE.get(kind, "")
    ratios = (Ratio("99th percentile", ours, unit="ms", bar=bar, why_not=why_not),)
    note = (
        f"After {_TIMEOUT_MS} ms, of {times} invocations a round: the 99th percentile of so few is the longest. "
        "The ratio's is that of all rounds together."
    )
    return Row(f"how late a loop {kind} ends", figures, ratios, note)


def _lateness(late: dict[str, Late], times: int) -> dict[str, list[float]]:
    """Return how late each was, each time, in ms, one after the other."""
    seen: dict[str, list[float]] = {name: [] for name in late}
    for _ in range(times):
        for name, late_by in late.items():
            seen[name].append(late_by())
    return seen


def _late_after(work: Work) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3 - _TIMEOUT_MS


# ── the peers ────────────────────────────────────────────────────────────────────────────────────


def _peers_of(kind: str) -> dict[str, Late]:
    """Return the peers' runs of a loop: the computing one, which needs nothing of anybody's ABI."""
    return {_EXTISM: _extism_spin(), _WASMTIME: _wasmtime_spin()} if kind == "computing" else {}


def _extism_spin() -> Late:
    """Return runs of an endless loop in Extism, each in a plugin of its own: one that has timed out is used up."""
    make = _peers.extism_timed(module("spin", Abi.EXTISM), _TIMEOUT_MS)

    def spin() -> float:
        return _late_after(partial(_timed_out, make()))

    return spin


def _timed_out(call: _peers.Call) -> None:
    try:
        call(b"x")
    except Exception as error:
        if "timeout" not in str(error):
            raise
    else:
        raise TypeError("the loop has ended")


def _wasmtime_spin() -> Late:
    """Return runs of an endless loop in wasmtime-py, each in a store of its own, which a thread ends by the epoch."""
    config = wasmtime.Config()
    config.epoch_interruption = True
    engine = wasmtime.Engine(config)
    ready = wasmtime.Linker(engine).instantiate_pre(wasmtime.Module(engine, module("spin", Abi.PLAIN)))

    def spin() -> float:
        with wasmtime.Store(engine) as store:
            store.set_epoch_deadline(1)
            run: Any = ready.instantiate(store).exports(store)["run"]
            timer = threading.Timer(_TIMEOUT_MS / 1e3, engine.increment_epoch)
            timer.start()
            late_by = _late_after(partial(_interrupted, run, store))
            timer.join()
        return late_by

    return spin


def _interrupted(run: Any, store: wasmtime.Store) -> None:
    try:
        run(store, 1)
    except wasmtime.Trap as trap:
        if trap.trap_code != wasmtime.TrapCode.INTERRUPT:
            raise
    else:
        raise TypeError("the loop has ended")


if __name__ == "__main__":
    main(measure)
