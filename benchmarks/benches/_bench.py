"""How a group of rows is started, and what it tells while it works."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmarks.benches._results import Row, written

_BOUND_SECONDS: Final = 600
_ROUNDS: Final = 21
_QUICK_ROUNDS: Final = 7


class Bench:
    """The form that the command line asks for.

    Attributes:
        is_quick: whether seconds must do, for each group.
        rounds: how often everyone gets a turn in a race.
    """

    def __init__(self, *, is_quick: bool) -> None:
        self.is_quick = is_quick
        self.rounds = _QUICK_ROUNDS if is_quick else _ROUNDS
        self._started = time.perf_counter()

    def tell(self, text: str) -> None:
        """Print a line of progress."""
        print(f"  {time.perf_counter() - self._started:6.1f} s  {text}", flush=True)


def main(measure: Callable[[Bench], Iterator[Row]]) -> None:
    """Measure a group's rows in the form that the command line asks for, and write them to a JSON file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    said = parser.parse_args()
    logging.getLogger("fuseboard").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="fuseboard-artifacts-") as scratch:
        os.environ["FUSEBOARD_CACHE_DIR"] = str(Path(scratch, "cache"))  # what is measured finds nothing of the user's
        said.json.write_bytes(written(list(_measured(measure, said.quick))))


def _measured(measure: Callable[[Bench], Iterator[Row]], is_quick: bool) -> Iterator[Row]:  # noqa: FBT001  a word
    faulthandler.dump_traceback_later(_BOUND_SECONDS, exit=True, file=sys.stderr)
    bench = Bench(is_quick=is_quick)
    for row in measure(bench):
        yield row
        bench.tell(row.name)
