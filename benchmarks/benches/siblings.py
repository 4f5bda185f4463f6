"""What a plugin that traps all the time does to the calls of another one on the same host.

Rules:
* Rounds alternate: the quiet plugin alone, then beside two threads that invoke the hostile one, in all ways to trap.
* With breakers the hostile plugin is soon left alone: what is left beside is two busy Python threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from statistics import median
from typing import Final

from benchmarks.benches._bench import Bench, main
from benchmarks.benches._results import Figure, Ratio, Row
from benchmarks.soaks._measures import percentile
from benchmarks.soaks.siblings import RATIO, Neighbours

import fuseboard as fb

_SEED: Final = 7
_WHY_NOT: Final = (
    "three threads share two processors and one GIL here; a call that the machine interrupts in its first half "
    "millisecond has to wait for the GIL at its module's next eight"
)


def measure(bench: Bench) -> Iterator[Row]:
    """Measure without breakers, so that the hostile plugin really runs each time, then with the default one."""
    yield _row(bench, "calls beside a plugin that traps", None)
    yield _row(bench, "calls beside a plugin that traps, with the default breaker", fb.BreakerPolicy())


def _row(bench: Bench, name: str, breaker: fb.BreakerPolicy | None) -> Row:
    rounds, seconds = (3, 0.4) if bench.is_quick else (9, 1.0)
    neighbours = Neighbours(breaker, Random(_SEED))  # noqa: S311  no secret
    with neighbours.host:
        neighbours.beside(seconds)  # caches, and breakers
        taken = [(neighbours.alone(seconds), neighbours.beside(seconds)) for _ in range(rounds)]
    figures = tuple(
        Figure(f"{who}, {what}", tuple(percentile(each[place], percent) * 1e6 for each in taken))
        for place, who in enumerate(("alone", "beside"))
        for what, percent in (("median", 50), ("99th percentile", 99))
    )
    growth = median(percentile(beside, 99) / percentile(alone, 99) for alone, beside in taken)
    foreign = neighbours.quiet_ends.total() - neighbours.quiet_ends["Completed"]
    ratios = (
        Ratio("99th percentile, beside / alone", growth, bar=RATIO, why_not=_WHY_NOT),
        Ratio("calls that didn't complete", foreign, unit="calls", bar=0),
    )
    return Row(name, figures, ratios)


if __name__ == "__main__":
    main(measure)
