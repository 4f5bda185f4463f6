"""Measure Fuseboard beside its peers, everything in one run, and print one table with what each bar says.

Each group of rows below `benches/` runs in a process of its own, and its contestants in alternating rounds. All
numbers go to a JSON file too. `--guard` compares the ratios with those of `baseline.json` instead, and fails where one
has grown by a third.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.benches import _guard, _page, _table  # noqa: E402  the folder above is put on the path first
from benchmarks.benches._results import Row, read, written  # noqa: E402

BARS_ONLY = {"backends", "hostile", "languages", "loading", "siblings"}
"""Groups whose numbers hang on the machine and its noise: they have bars, and nothing for the guard."""
NAMES = sorted(file.stem for file in (HERE / "benches").glob("[!_]*.py"))


def main() -> int:
    """Measure what was asked for and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute for all, with fewer rounds")
    parser.add_argument("--json", type=Path, default=HERE / "last.json", help="where the numbers go; %(default)s")
    parser.add_argument("--page", type=Path, help="put the table into this page of the docs")
    parser.add_argument("--guard", action="store_true", help="compare with the baseline, in the quick form")
    parser.add_argument("--baseline", action="store_true", help="make these ratios the baseline")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which groups, all by default: {', '.join(NAMES)}")
    said = parser.parse_args()
    for name in said.names:
        if name not in NAMES:
            parser.error(f"there is no group {name!r}; there are {', '.join(NAMES)}")
    names = said.names or NAMES
    if said.guard:
        names = [name for name in names if name not in BARS_ONLY]
        return _guard.judge(names, lambda name: measured(name, is_quick=True), is_complete=not said.names)
    rows = [row for name in names for row in measured(name, is_quick=said.quick)]
    said.json.write_bytes(written(rows))
    print("", *_table.lines(rows), sep="\n")
    if said.page:
        _page.write(said.page, rows)
    if said.baseline:
        _guard.keep(rows)
    return 0


def measured(name: str, *, is_quick: bool) -> list[Row]:
    """Measure a group in a process of its own and return its rows.

    Raises:
        SystemExit: the process failed.
    """
    print(f"→ {name}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch, "rows.json")
        options = ["--quick"] if is_quick else []
        command = [sys.executable, "-m", f"benchmarks.benches.{name}", *options, "--json", str(place)]
        if subprocess.run(command, cwd=HERE.parent, check=False).returncode:  # noqa: S603  our own modules
            raise SystemExit(f"✗ {name} could not be measured")
        return read(place.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
