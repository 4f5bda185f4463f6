"""Rows as text: every contestant's minimum and median, then the ratios with their bars, then the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.benches._results import Figure, Ratio, Row

_WIDTH = 46


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """Return the table of some rows, and the verdict as its last line."""
    yield f"{'':{_WIDTH}} {'minimum':>12} {'median':>12}"
    for row in rows:
        yield row.name
        yield from (_figure_line(figure) for figure in row.figures)
        for one in row.ratios:
            yield from _ratio_lines(one)
        if row.note:
            yield f"    {row.note}"
    yield ""
    yield verdict(rows)


def verdict(rows: Iterable[Row]) -> str:
    """Return how many bars were reached, and which were not."""
    bars = [(row, one) for row in rows for one in row.ratios if one.bar is not None]
    missed = [f"{row.name}, {one.name}" for row, one in bars if not one.is_reached]
    reached = f"{len(bars) - len(missed)} of {len(bars)} bars were reached"
    return f"✗ {reached}, not: {'; '.join(missed)}" if missed else f"✓ {reached}"


def shown(number: float) -> str:
    """Return a number with three digits that say something."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"  # noqa: PLR2004  three digits


def bar_of(one: Ratio) -> str:
    """Return what a ratio is held to, and whether it is within."""
    if one.bar is None:
        return ""
    return f"{'✓' if one.is_reached else '✗'} at most {one.bar:g} {one.unit}"


def _figure_line(figure: Figure) -> str:
    minimum, median = (f"{shown(value)} {figure.unit}" for value in (figure.minimum, figure.median))
    return f"  {figure.contestant:{_WIDTH - 2}} {minimum:>12} {median:>12}"


def _ratio_lines(one: Ratio) -> Iterator[str]:
    value = f"{shown(one.value)} {one.unit}"
    yield f"    {one.name:{_WIDTH - 4}} {'':12} {value:>12}  {bar_of(one)}".rstrip()
    if not one.is_reached:
        yield f"      because {one.why_not}" if one.why_not else "      because of something that isn't known"
