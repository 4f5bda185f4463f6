"""A quiet plugin's calls take as long beside plugins that trip and crash all the time as they take alone.

One thread dispatches to the quiet plugin, one call after the other. In every second round two more threads invoke the
hostile plugin of the same host, in all the ways in which it can trap. First without breakers, so that the hostile
plugin really runs each time; then with the default breaker, which soon leaves it alone.

Bars:
* The 99th percentile of a quiet call beside hostile ones is at most twice that of one alone: the median over the
  rounds, each compared with the round before it. The short form allows four times, in the best of its rounds.
* All quiet calls complete, and the quiet plugin's breaker stays closed.
* All hostile calls trap; with the breaker most are skipped.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from statistics import median
from typing import Any, Final

from benchmarks.soaks._guests import TRAPS, hostile_arguments, hostile_plugins, target_of
from benchmarks.soaks._measures import percentile, slots_taken, spread
from benchmarks.soaks._report import Report, main

import fuseboard as fb

RATIO: Final = 2.0
SHORT_RATIO: Final = 4.0
_THREADS: Final = 2
_QUIET: Final = fb.Filter("quiet.echo", str)
_AMPLE: Final = fb.Limits(invocation_timeout_ms=10_000)
_VALUE: Final = "a title of some length"


class Neighbours:
    """The quiet plugin and the hostile one on one host.

    Attributes:
        quiet_ends, hostile_ends: what became of their calls.
    """

    def __init__(self, breaker: fb.BreakerPolicy | None, choices: Random) -> None:
        arguments = hostile_arguments()
        self.host = fb.Host(**{**arguments, "hooks": [*arguments["hooks"], _QUIET]}, breaker=breaker)
        self.quiet_ends: Counter[str] = Counter()
        self.hostile_ends: Counter[str] = Counter()
        self._choices = choices
        for wasm, manifest, terms in hostile_plugins():
            self.host.load_bytes(wasm, manifest, **terms)
        self.host.load_bytes(wasm, _quiet(manifest), grants="as-requested", limits=_AMPLE)

    def alone(self, seconds: float) -> list[float]:
        """Return how long each quiet call took."""
        took: list[float] = []
        now = time.perf_counter()
        until = now + seconds
        while now < until:
            began = now
            outcome = self.host.dispatch(_QUIET, _VALUE).outcomes[0]
            now = time.perf_counter()
            took.append(now - began)
            self.quiet_ends[type(outcome).__name__] += 1
        return took

    def beside(self, seconds: float) -> list[float]:
        """Return how long each quiet call took beside hostile ones."""
        with self._attacked():
            return self.alone(seconds)

    @contextmanager
    def _attacked(self) -> Iterator[None]:
        over = threading.Event()
        with ThreadPoolExecutor(_THREADS) as threads:
            attackers = [threads.submit(self._attack, over) for _ in range(_THREADS)]
            try:
                yield
            finally:
                over.set()
        for attacker in attackers:
            self.hostile_ends.update(attacker.result())

    def _attack(self, over: threading.Event) -> Counter[str]:
        ends: Counter[str] = Counter()
        kinds = list(TRAPS)
        self._choices.shuffle(kinds)
        for kind in itertools.cycle(kinds):
            ends[type(self.host.invoke(*target_of(kind), _VALUE)).__name__] += 1
            if over.is_set():
                break
        return ends


def _quiet(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "slug": "quiet", "hooks": [{"name": _QUIET.name, "export": "echo"}]}


def compare(report: Report, what: str, neighbours: Neighbours, rounds: int, seconds: float) -> None:
    """Take turns between quiet rounds and hostile ones, and judge."""
    ratios: list[float] = []
    neighbours.beside(seconds / 2)  # caches, and breakers
    for _ in range(rounds):
        alone, beside = neighbours.alone(seconds), neighbours.beside(seconds)
        ratios.append(percentile(beside, 99) / percentile(alone, 99))
        report.tell(f"{what}: alone {spread(alone)} · beside {spread(beside)} · p99 {ratios[-1]:.2f} times")
    ratio, bar = (min(ratios), SHORT_RATIO) if report.is_short else (median(ratios), RATIO)
    report.at_most(f"{what}: p99 beside hostile calls", ratio, bar, "times that alone")


def judge(report: Report, what: str, neighbours: Neighbours, expected: str) -> None:
    """Say what became of all calls."""
    quiet, hostile = neighbours.quiet_ends, neighbours.hostile_ends
    report.tell(f"{what}: hostile calls: " + ", ".join(f"{times:,} {end}" for end, times in hostile.items()))
    foreign = quiet.total() - quiet["Completed"]
    report.hold(f"{what}: {quiet.total():,} quiet calls, {foreign} not completed", held=not foreign)
    usual = "skipped" if expected == "Skipped" else "trapped"
    report.hold(f"{what}: hostile calls were {usual}", held=hostile.most_common(1)[0][0] == expected)
    state = neighbours.host.breakers.get("quiet", _QUIET.name).state
    report.hold(f"{what}: the quiet plugin's breaker is {state}", held=state is fb.BreakerState.CLOSED)
    taken = slots_taken(neighbours.host)
    report.hold(f"{what}: {taken} slots not given back", held=taken == 0)


def run(report: Report) -> None:
    """Make the run."""
    rounds, seconds = (3, 0.3) if report.is_short else (6, 2.0)
    for what, breaker, expected in (
        ("without breakers", None, "Trapped"),
        ("with the default breaker", fb.BreakerPolicy(), "Skipped"),
    ):
        neighbours = Neighbours(breaker, report.random)
        with neighbours.host:
            compare(report, what, neighbours, rounds, seconds)
            judge(report, what, neighbours, expected)


if __name__ == "__main__":
    main("siblings", __doc__, run, bound_seconds=180)
