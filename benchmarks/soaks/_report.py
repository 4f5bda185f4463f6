"""How a run is started, what it tells while it works, and the line that it ends with.

Rules:
* A run never takes longer than its bound: what hangs is ended, and the stacks of its threads are written out.
* A bar that isn't reached is said with its number.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import random
import secrets
import sys
import time
from collections.abc import Callable
from typing import Final

_SHORT_BOUND_SECONDS: Final = 100


class Report:
    """What a run tells of itself.

    Attributes:
        is_short: whether a few seconds must do.
        random: the run's own choices; its seed is printed.
    """

    def __init__(self, name: str, *, is_short: bool, seed: int) -> None:
        self.is_short = is_short
        self.random = random.Random(seed)  # noqa: S311  no secret
        self._name = name
        self._reached: list[str] = []
        self._broken: list[str] = []
        self._started = time.perf_counter()

    def tell(self, text: str) -> None:
        """Print a line of progress."""
        print(f"  {time.perf_counter() - self._started:6.1f} s  {text}", flush=True)

    def hold(self, text: str, *, held: bool) -> None:
        """Print what must be so, and keep it for the verdict where it isn't."""
        if not held:
            self._broken.append(text)
        self.tell(f"{'✓' if held else '✗'} {text}")

    def at_most(self, what: str, value: float, bar: float, unit: str) -> None:
        """Hold a number to its bar, and keep it for the verdict."""
        self._reach(f"{what} {value:,.4g} {unit}", f"at most {bar:g}", held=value <= bar)

    def at_least(self, what: str, value: float, bar: float, unit: str) -> None:
        """Hold a number to its bar, and keep it for the verdict."""
        self._reach(f"{what} {value:,.4g} {unit}", f"at least {bar:g}", held=value >= bar)

    def _reach(self, text: str, bar: str, *, held: bool) -> None:
        self.hold(f"{text}, {bar}", held=held)
        self._reached.append(text)

    def end(self) -> int:
        """Print the verdict and return the exit code."""
        mark, what = ("✗", self._broken) if self._broken else ("✓", self._reached)
        print(f"{mark} {self._name}: {'; '.join(what)}")
        return 1 if self._broken else 0


def main(name: str, purpose: str | None, run: Callable[[Report], object], *, bound_seconds: float) -> None:
    """Make a run of the form that the command line asks for, and exit with its code."""
    summary = (purpose or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog=name, description=summary)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    said = parser.parse_args()
    logging.getLogger("fuseboard").setLevel(logging.CRITICAL)
    faulthandler.dump_traceback_later(_SHORT_BOUND_SECONDS if said.short else bound_seconds, exit=True)
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    print(f"→ {name}: {summary} Seed {said.seed}, {load} before.", flush=True)
    report = Report(name, is_short=said.short, seed=said.seed)
    run(report)
    sys.exit(report.end())
