"""Contestants in alternating rounds: what one of them takes is compared with what the others took at the same time.

Rules:
* A round gives each contestant its turn, in an order that moves on by one with each round.
* Everyone warms up first, so that the first round finds caches, pools and code as the last one does.
* The garbage collector runs between the turns, not inside: how long it takes depends on what else is alive.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Final

from benchmarks.benches._results import Figure

Work = Callable[[], object]
_TURN_SECONDS: Final = 0.02


def race(contestants: Mapping[str, Work], *, rounds: int, turn_seconds: float = _TURN_SECONDS) -> dict[str, Figure]:
    """Return what a call of each contestant took in each round, in µs.

    Args:
        contestants: what each does, once, by its name.
        rounds: how often everyone gets a turn.
        turn_seconds: how long a turn takes, about: as many calls as fit, at least one.
    """
    calls = {name: _calls_in(work, turn_seconds) for name, work in contestants.items()}
    names = list(contestants)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            taken[name].append(timed(contestants[name], calls[name]))
    return {name: Figure(name, tuple(each)) for name, each in taken.items()}


def timed(work: Work, calls: int) -> float:
    """Return what one of so many calls took, in µs."""
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter_ns()
        for _ in range(calls):
            work()
        return (time.perf_counter_ns() - started) / calls / 1e3
    finally:
        gc.enable()


def _calls_in(work: Work, seconds: float) -> int:
    work()
    calls = 1
    while (took := timed(work, calls) * calls / 1e6) < seconds / 4:
        calls *= 2
    return max(1, round(calls * seconds / took))
