"""The guard: no ratio to a peer may grow by a third against the committed baseline.

Rules:
* Ratios only: the numbers of a machine say nothing on another.
* What looks worse is measured again: the best of a few tries counts. Noise goes away, a slow path stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from benchmarks.benches._results import Row

BASELINE: Final = Path(__file__).resolve().parent.parent / "baseline.json"
_TRIES: Final = 3
_MOST_GROWTH: Final = 4 / 3

Ratios = dict[str, float]


def guarded(rows: Iterable[Row]) -> Ratios:
    """Return the ratios that the guard watches, by row and name."""
    return {f"{row.name}: {one.name}": one.value for row in rows for one in row.ratios if one.is_guarded}


def keep(rows: Iterable[Row]) -> None:
    """Make the ratios of these rows the baseline; what they don't have stays."""
    kept = _baseline() | {key: round(value, 3) for key, value in guarded(rows).items()}
    text = msgspec.json.format(msgspec.json.encode(dict(sorted(kept.items()))), indent=2)
    BASELINE.write_bytes(text + b"\n")


def judge(names: Sequence[str], measured: Callable[[str], Iterable[Row]], *, is_complete: bool) -> int:
    """Measure groups, again where a ratio has grown, print what came of it and return the exit code.

    Where these are all groups (`is_complete`), a ratio of the baseline that nobody has measured is a problem too.
    """
    baseline = _baseline()
    unmeasured = set(baseline)
    problems = [problem for name in names for problem in _problems(baseline, unmeasured, partial(measured, name))]
    if is_complete:
        problems += [f"{key} isn't measured any more: take it out of {BASELINE.name}" for key in sorted(unmeasured)]
    for problem in problems:
        print(f"  ✗ {problem}")
    print("✗ not as the baseline says" if problems else "✓ no ratio has grown by a third against the baseline")
    return 1 if problems else 0


def _problems(baseline: Ratios, unmeasured: set[str], measured: Callable[[], Iterable[Row]]) -> list[str]:
    best = guarded(measured())
    unmeasured.difference_update(best)
    if unknown := best.keys() - baseline.keys():
        return [f"{key} isn't in {BASELINE.name}: add it with --baseline" for key in sorted(unknown)]
    for _ in range(_TRIES - 1):
        if not _grown(baseline, best):
            break
        again = guarded(measured())
        best = {key: min(value, again.get(key, value)) for key, value in best.items()}
    return _grown(baseline, best)


def _grown(baseline: Ratios, ratios: Ratios) -> list[str]:
    return [
        f"{key} is {value:.3g}, the baseline {baseline[key]:.3g}"
        for key, value in ratios.items()
        if value > baseline[key] * _MOST_GROWTH
    ]


def _baseline() -> Ratios:
    return msgspec.json.decode(BASELINE.read_bytes(), type=Ratios) if BASELINE.exists() else {}
