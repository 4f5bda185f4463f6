"""The page of the docs: what was measured stands between two marks, the words around it are kept."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.benches._results import Row
from benchmarks.benches._table import bar_of, shown, verdict

_BEGIN: Final = "<!-- measured: begin -->"
_END: Final = "<!-- measured: end -->"
_PEERS: Final = ("fuseboard", "extism", "extism-sys", "wasmtime", "pluggy")


def write(page: Path, rows: Sequence[Row]) -> None:
    """Put a table of these rows into a page.

    Raises:
        SystemExit: the page has no place for it.
    """
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise SystemExit(f"✗ {page} has no {_BEGIN} and {_END}")
    table = "\n".join(_lines(rows))
    page.write_text(f"{before}{begin}\n{table}\n{end}{after}")


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    yield f"{_machine()}; {', '.join(f'{name} {version(name)}' for name in _PEERS)}."
    yield ""
    yield f"{verdict(rows)}."
    for row in rows:
        yield ""
        yield f"### {row.name}"
        yield ""
        yield "| contestant | minimum | median |"
        yield "|---|---:|---:|"
        for one in row.figures:
            yield f"| {one.contestant} | {shown(one.minimum)} {one.unit} | {shown(one.median)} {one.unit} |"
        yield from _ratio_lines(row)
        if row.note:
            yield ""
            yield row.note


def _ratio_lines(row: Row) -> Iterator[str]:
    if not row.ratios:
        return
    yield ""
    yield "| ratio | | bar |"
    yield "|---|---:|---|"
    for one in row.ratios:
        why = f": {one.why_not}" if one.why_not and not one.is_reached else ""
        yield f"| {one.name} | {shown(one.value)} {one.unit} | {bar_of(one)}{why} |"


def _machine() -> str:
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{os.cpu_count()} processors ({platform.machine()}), {system}, Python {platform.python_version()}"
