"""Run the long runs below `soaks/` one after the other, each in a process of its own, and say which of them held.

Each run prints what it does and ends with one line that says whether it held its bars, within bounded time. The exit
code is 0 where all did. `--short` is the form for `make test`: a few seconds each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVERS = HERE.parent / "tests"
"""Where `servers` is, which begins real ones."""
NAMES = sorted(file.stem for file in (HERE / "soaks").glob("[!_]*.py"))


def main() -> int:
    """Run what was asked for and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a few seconds for each")
    parser.add_argument("--seed", type=int, help="make the random choices of an earlier run again")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which runs, all by default: {', '.join(NAMES)}")
    said = parser.parse_args()
    for name in said.names:
        if name not in NAMES:
            parser.error(f"there is no run {name!r}; there are {', '.join(NAMES)}")
    options = [*(["--short"] if said.short else []), *([f"--seed={said.seed}"] if said.seed is not None else [])]
    verdicts = [verdict_of(name, options) for name in said.names or NAMES]
    broken = sum(not verdict.startswith("✓") for verdict in verdicts)
    print("", *verdicts, sep="\n")
    print(f"✗ {broken} of {len(verdicts)} runs did not hold" if broken else f"✓ all {len(verdicts)} runs held")
    return 1 if broken else 0


def verdict_of(name: str, options: list[str]) -> str:
    """Run one and return the line that it ends with, or one that says how it ended without."""
    command = [sys.executable, "-X", "utf8", "-m", f"benchmarks.soaks.{name}", *options]
    line = ""
    environment = os.environ | {"PYTHONPATH": str(SERVERS)}
    with subprocess.Popen(  # noqa: S603  our own modules
        command, cwd=HERE.parent, env=environment, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
    expected = "✗" if process.returncode else "✓"
    if line.startswith(f"{expected} {name}: "):
        return line.strip()
    return f"✗ {name}: its process ended with {process.returncode} and no verdict"


if __name__ == "__main__":
    sys.exit(main())
