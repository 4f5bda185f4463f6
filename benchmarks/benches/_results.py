"""What a group of rows measured, and how it travels from its process to the table and the JSON file.

Rules:
* A figure is a cost: less is better. Figures of one row were taken in the same run, in alternating rounds.
* A ratio is the median of the rounds' own ratios, so that what disturbs a round disturbs both sides of it.
* A bar is the most that a ratio or a figure may be. What isn't reached says why.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """What one contestant took in each round, in `unit`.

    Attributes:
        contestant: who, and how it was used, e.g. `Extism, warm`.
        rounds: one number a round.
        unit: `µs`, `ms`, `MiB` or a name of what is counted.
    """

    contestant: str
    rounds: tuple[float, ...]
    unit: str = "µs"

    @property
    def minimum(self) -> float:
        """The least of all rounds."""
        return min(self.rounds)

    @property
    def median(self) -> float:
        """The median of all rounds."""
        return statistics.median(self.rounds)


class Ratio(msgspec.Struct, frozen=True):
    """How two contestants compare, or a single number that has a bar of its own.

    Attributes:
        name: what is compared, e.g. `ours / Extism, warm`; with its row's name, its key in the baseline.
        value: the median of the rounds' ratios, or the number.
        unit: `×` for a ratio, else the number's unit.
        bar: the most that it may be; `None` where there is nothing to hold.
        is_guarded: whether CI fails when it grows by a third: no numbers of a machine, no percentiles of noise.
        why_not: where the bar isn't reached, the reason and what would be needed.
    """

    name: str
    value: float
    unit: str = "×"
    bar: float | None = None
    is_guarded: bool = False
    why_not: str = ""

    @property
    def is_reached(self) -> bool:
        """Whether the value is within the bar; a value without a bar is."""
        return self.bar is None or self.value <= self.bar


class Row(msgspec.Struct, frozen=True):
    """One piece of work, and what everyone took for it."""

    name: str
    figures: tuple[Figure, ...]
    ratios: tuple[Ratio, ...] = ()
    note: str = ""


def ratio(
    of: Figure, to: Figure, *, bar: float | None = None, is_guarded: bool = True, why_not: str = "", name: str = ""
) -> Ratio:
    """Return how many times `to` takes `of`."""
    each = [one / other for one, other in zip(of.rounds, to.rounds, strict=True)]
    shown = name or f"{of.contestant} / {to.contestant}"
    return Ratio(shown, statistics.median(each), bar=bar, is_guarded=is_guarded, why_not=why_not)


def each_of(figure: Figure, count: int) -> Figure:
    """Return what one of so many takes, where a figure is for all of them."""
    return Figure(figure.contestant, tuple(taken / count for taken in figure.rounds), figure.unit)


def difference(contestant: str, more: Figure, less: Figure) -> Figure:
    """Return how much more one takes than the other, round by round."""
    return Figure(contestant, tuple(a - b for a, b in zip(more.rounds, less.rounds, strict=True)), more.unit)


def written(rows: Sequence[Row]) -> bytes:
    """Return rows as JSON."""
    return msgspec.json.encode(list(rows))


def read(data: bytes) -> list[Row]:
    """Return the rows in a JSON text of `written`."""
    return msgspec.json.decode(data, type=list[Row])
