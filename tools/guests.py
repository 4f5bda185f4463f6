"""Compile the guests of the conformance suite, one an SDK, and the example plugins: `make guests`.

What this machine lacks is named, and its guests are left out; on CI, where `CI` is set, that is an error.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.build_plugins import project_sources  # noqa: E402
from tools.compiling import BrokenError, LackingError, Source  # noqa: E402  the folder above is put on the path first

from fuseboard._toolchains import Language  # noqa: E402

SUITE: Final = "guest/conformance"
GUESTS: Final = {
    "rust": Source("rust", Language.RUST, f"{SUITE}/rust", ("guest/rust",)),
    "go": Source("go", Language.GO, f"{SUITE}/go", ("guest/go",)),
    "c": Source("c", Language.C, f"{SUITE}/c", ("guest/c",), ("-I../../c",)),
    "cpp": Source("cpp", Language.CPP, f"{SUITE}/cpp", ("guest/c",), ("-I../../c",)),
    "zig": Source("zig", Language.ZIG, f"{SUITE}/zig", ("guest/zig",)),
}
"""The conformance suite's guests, by their SDK."""


def main() -> int:
    """Compile all that this machine can, and return the exit code."""
    lacks, is_broken = set(), False
    for source in (*GUESTS.values(), *project_sources()):
        started = time.monotonic()
        try:
            module = source.compiled(fetches=True)
        except LackingError as error:
            lacks.add(str(error))
        except BrokenError as error:
            is_broken = True
            print(f"✗ {error}", file=sys.stderr)
        else:
            print(f"  {source.folder}: {module.stat().st_size:,} bytes, {time.monotonic() - started:.1f} s")
    for lack in sorted(lacks):
        print(f"! {lack}; the tests of guests compiled by it can't run", file=sys.stderr)
    return int(is_broken or bool(lacks and os.environ.get("CI")))


if __name__ == "__main__":
    sys.exit(main())
