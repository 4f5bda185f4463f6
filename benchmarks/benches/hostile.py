"""What guests that never end do to others: to a thread beside them, and to their own deadline.

Rules:
* Every invocation must trap by the limit that is meant: one that ended otherwise would measure something else.
* What the machine does by itself is measured in the same rounds: a busy machine is late without any guest.
* The breaker is off, so that a hostile guest really runs each time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Final

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
_GAP_BAR_MS: Final = 10.0
_TIMEOUT_MS: Final = 20
_LATE_BARS_MS: Final = {"computing": 1.0, "touching pages": 5.0}
_OURS: Final = "Fuseboard"
_EXTISM: Final = "Extism, timeout_ms"
_BUSY: Final = "plain Python instead of a guest"
_SLEEP: Final = "time.sleep instead of a guest"
_SPIKES: Final = "what the machine takes away counts too: beside plain Python, and asleep, it shows above"
_ATTEMPTS: Final = 3

Work = Callable[[], object]


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
    beside: dict[str, Work] = {_OURS: guest, _BUSY: _python, _SLEEP: partial(time.sleep, _TIMEOUT_MS / 1e3)}
    if kind == "computing":
        beside[_EXTISM] = _extism_spin()
    gaps: dict[str, list[float]] = {name: [] for name in beside}
    for _ in range(3 if bench.is_quick else 9):
        for name, work in beside.items():
            gaps[name].append(_longest_gap(work) * 1e3)
    figures = {name: Figure(name, tuple(each), "ms") for name, each in gaps.items()}
    ratios = (Ratio("longest gap", figures[_OURS].median, unit="ms", bar=_GAP_BAR_MS, why_not=_SPIKES),)
    note = f"The longest gap of a thread that looks at the clock, in {_GAP_SECONDS} s beside."
    return Row(f"a sibling thread beside a loop {kind}", tuple(figures.values()), ratios, note)


def _longest_gap(work: Work) -> float:
    """Return a ticking thread's longest gap, in seconds, while this one works again and again."""
    has_ended = threading.Event()
    gaps: list[float] = []
    sibling = threading.Thread(target=_tick, args=(has_ended, gaps))
    sibling.start()
    end = time.perf_counter() + _GAP_SECONDS
    while time.perf_counter() < end:
        work()
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


def _late_row(bench: Bench, kind: str, guest: Callable[[], float]) -> Row:
    late: dict[str, Callable[[], float]] = {_OURS: guest, _SLEEP: _sleep_late_by}
    if kind == "computing":
        late[_EXTISM] = partial(_extism_late_by, _extism_spin())
    times = 20 if bench.is_quick else 100
    attempts = [_lateness(late, times) for _ in range(1 if bench.is_quick else _ATTEMPTS)]
    figures = tuple(
        Figure(f"{name}, {what}", tuple(percentile(each[name], percent) for each in attempts), "ms")
        for name in late
        for what, percent in (("median", 50), ("99th percentile", 99))
    )
    ours = median(percentile(each[_OURS], 99) for each in attempts)
    ratios = (Ratio("99th percentile", ours, unit="ms", bar=_LATE_BARS_MS.get(kind), why_not=_SPIKES),)
    note = f"After {_TIMEOUT_MS} ms, of {times} invocations a round."
    return Row(f"how late a loop {kind} ends", figures, ratios, note)


def _lateness(late: dict[str, Callable[[], float]], times: int) -> dict[str, list[float]]:
    """Return how late each was, each time, in ms, one after the other."""
    seen: dict[str, list[float]] = {name: [] for name in late}
    for _ in range(times):
        for name, late_by in late.items():
            seen[name].append(late_by())
    return seen


def _sleep_late_by() -> float:
    return _late_after(partial(time.sleep, _TIMEOUT_MS / 1e3))


def _extism_late_by(spin: Work) -> float:
    return _late_after(spin)


def _late_after(work: Work) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3 - _TIMEOUT_MS


def _extism_spin() -> Work:
    """Return runs of an endless loop in Extism, each in a plugin of its own: one that has timed out is used up."""
    make = _peers.extism_timed(module("spin", Abi.EXTISM), _TIMEOUT_MS)

    def spin() -> None:
        call = make()
        try:
            call(b"x")
        except Exception as error:
            if "timeout" not in str(error):
                raise
        else:
            raise TypeError("the loop has ended")

    return spin


if __name__ == "__main__":
    main(measure)
