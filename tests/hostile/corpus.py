"""All cases, in the order of their families; beside them, flipped bits and random modules, which are many of a kind."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from . import bombs, costly, crowds, files, imports, names, proposals, sections, space
from .case import Case

ROOT: Final = Path(__file__).resolve().parent.parent.parent
SMITH_SEED: Final = 7
SMITH_MODULES: Final = 200
FLIPS: Final = 700

CASES: Final[tuple[Case, ...]] = (
    *files.CASES,
    *sections.CASES,
    *proposals.CASES,
    *imports.CASES,
    *names.CASES,
    *space.CASES,
    *bombs.CASES,
    *crowds.CASES,
    *costly.CASES,
)


class SmithMissingError(Exception):
    """The maker of random modules isn't built; `make test` builds it first."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} isn't there: `make test` builds it before it runs these tests")


def flipped() -> Iterator[tuple[str, bytes]]:
    """Yield modules in which one or several bits are others than they should be, and which ones."""
    chosen = random.Random(1)
    originals = {
        "every section": sections.whole(),
        "hostile": (ROOT / "plugins/hostile/plugin.wasm").read_bytes(),
    }
    for number in range(FLIPS):
        name = ("every section", "hostile")[number % 4 == 3]
        module = bytearray(originals[name])
        places = [chosen.randrange(8 * 8, len(module) * 8) for _ in range(chosen.choice((1, 1, 1, 2, 8)))]
        for place in places:
            module[place // 8] ^= 1 << place % 8
        yield f"{name} with bits {places} flipped", bytes(module)


def random_modules(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield modules that wasm-smith makes of a seed, with their names.

    Raises:
        SmithMissingError: its binary isn't built.
    """
    smith = _target() / "release" / "smith"
    if not smith.exists():
        raise SmithMissingError(smith)
    order = ["--seed", str(SMITH_SEED), "--count", str(SMITH_MODULES), "--out", str(folder)]
    subprocess.run([smith, *order], check=True, timeout=60)
    for path in sorted(folder.glob("smith-*.wasm")):
        yield path.stem, path.read_bytes()


def _target() -> Path:
    """Return where Cargo builds, as the Makefile has it."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CARGO_TARGET_DIR") or Path(cache) / "fuseboard" / "target")
