"""Run the corpus and print its table: `python -m tests.hostile [--write] [a part of names]`.

Rules:
* Each case is offered to a host of a process of its own, so that what is measured is its own.
* `--write` puts the table of all into the page beside this file; the test holds the page to the corpus.
"""

from __future__ import annotations

import logging
import multiprocessing
import re
import resource
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from . import costly
from .case import Case, End
from .corpus import CASES
from .trial import SHORT, SMALL, Verdict, new_host, offer, status_mb

PAGE: Final = Path(__file__).parent / "README.md"
REGION: Final = re.compile(r"(<!-- begin: corpus -->\n)(.*)(<!-- end: corpus -->)", re.DOTALL)
HEAD: Final = ("name", "what it attacks", "end", "told by", "ms", "host MB", "compiler MB")
TOLD_CHARACTERS: Final = 100


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of a case, and what it took.

    Attributes:
        host_mb: by how much the host's process grew at its peak, the module's own bytes apart.
        compiler_mb: the peak of the process that compiled, or 0 where none began; no less than its beginner's.
    """

    verdict: Verdict
    host_mb: float
    compiler_mb: float


def measured(number: int) -> Measured:
    """Offer a case to a new host, in this process."""
    case = CASES[number]
    limits = {costly.TIME: SHORT, costly.SPACE: SMALL}.get(case.words)
    with new_host(compile_limits=limits) as host:
        offer(host, b"")  # what is imported late isn't the case's
        wasm = case.make()
        Path("/proc/self/clear_refs").write_text("5")  # makes the peak what is resident now
        before = status_mb("VmRSS")
        verdict = offer(host, wasm)
        grown = status_mb("VmHWM") - before
    return Measured(verdict, max(grown, 0.0), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1.024e-3)


def row(case: Case, found: Measured) -> tuple[str, ...]:
    """Return a line of the table."""
    told = found.verdict.words
    shown = told if len(told) <= TOLD_CHARACTERS else f"{told[:TOLD_CHARACTERS]}…"
    took = (f"{found.verdict.milliseconds:,.0f}", f"{found.host_mb:,.0f}", f"{found.compiler_mb:,.0f}")
    return case.name, case.attacks, str(case.end), shown, *took


def line(cells: Iterable[str]) -> str:
    """Return a line of a table, in which nothing of a cell's text is taken for markup."""
    escaped = (re.sub(r"([\\|<>*_`\[\]])", r"\\\1", cell) for cell in cells)
    return f"| {' | '.join(escaped)} |\n"


def listed(page: str) -> list[tuple[str, str, str]]:
    """Return the name, target and end of all cases of a page's table."""
    region = REGION.search(page)
    lines = region[2].splitlines()[2:] if region else []
    cells = ([re.sub(r"\\(.)", r"\1", cell) for cell in re.split(r"(?<!\\) \| ", each[2:-2])] for each in lines)
    return [(name, attacks, end) for name, attacks, end, *_ in cells]


def summary(found: Iterable[Verdict]) -> str:
    """Return how many ended how."""
    ends = [each.end for each in found]
    return ", ".join(f"{ends.count(end)} {end}" for end in End)


def main(*arguments: str) -> int:
    """Measure the cases that are asked for, print their table, and return 1 where one ended otherwise."""
    asked = [each for each in arguments if each != "--write"]
    numbers = [n for n, case in enumerate(CASES) if all(part in case.name for part in asked)]
    lines, verdicts, wrong = [line(HEAD), f"|{'---|' * len(HEAD)}\n"], [], 0
    sys.stdout.writelines(lines)
    for number, found in zip(numbers, _in_processes(numbers), strict=True):
        case = CASES[number]
        is_right = found.verdict.end is case.end and case.is_told_by(found.verdict.words)
        wrong += not is_right
        lines.append(line(row(case, found)))
        sys.stdout.write(lines[-1] if is_right else f"✗ {lines[-1]}")
        verdicts.append(found.verdict)
    print(f"\n{len(verdicts)} cases: {summary(verdicts)}; {wrong} otherwise than expected")
    if "--write" in arguments and not asked and not wrong:
        _write("".join(lines))
    return int(wrong > 0)


def _in_processes(numbers: list[int]) -> Iterator[Measured]:
    with multiprocessing.get_context("fork").Pool(1, partial(logging.disable, logging.CRITICAL), (), 1) as pool:
        yield from pool.imap(measured, numbers)


def _write(table: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(REGION.sub(lambda found: found[1] + table + found[3], page), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
