"""The guests below `benchmarks/languages`: the same work in each language, by our library for it and by Extism's.

Rules:
* Each is built as its library's documentation says, with the flags of `fuseboard build`.
* Extism's library for Go can't be had from where the others come: its guest has the same imports and loops by hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_SOURCES: Final = _ROOT / "benchmarks" / "languages"
_TARGET: Final = "wasm32-wasip1"


class Pair(NamedTuple):
    """The same guest for both hosts."""

    ours: bytes
    extism: bytes


def c() -> Pair:
    """Build the guest in C: nothing runs before its call."""
    flags = ("cc", "-std=c17", "-target", "wasm32-freestanding", "-nostdlib", "-Wl,--no-entry")
    return Pair(*(_by_zig("capitals.c", abi, *flags) for abi in ("FUSEBOARD", "EXTISM")))


def cpp() -> Pair:
    """Build the guest in C++, whose constructor fills a dictionary of 5,000 words."""
    flags = ("c++", "-std=c++20", "-target", "wasm32-wasi", "-mexec-model=reactor", "-fno-exceptions")
    return Pair(*(_by_zig("capitals.cpp", abi, *flags) for abi in ("FUSEBOARD", "EXTISM")))


def rust() -> Pair:
    """Build the guest in Rust: nothing runs before its call."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or _cache() / "target") / "languages"
    _run(["cargo", "build", "--quiet", "--locked", "--release", "--target", _TARGET], _SOURCES / "rust", target=target)
    return Pair(*((target / _TARGET / "release" / f"{name}.wasm").read_bytes() for name in ("ours", "extism")))


def go() -> Pair:
    """Build the guest in Go, whose runtime starts before the call."""
    return Pair(*(_by_go(_SOURCES / "go" / name) for name in ("ours", "extism")))


LANGUAGES: Final[dict[str, tuple[str, Callable[[], Pair]]]] = {
    "C": (sys.executable, c),
    "C++ with constructors": (sys.executable, cpp),
    "Rust": ("cargo", rust),
    "Go": ("go", go),
}
"""What builds each, and the program that it takes."""


@cache
def pair(language: str) -> Pair | None:
    """Return a language's guests, or `None` where its compiler isn't installed."""
    program, build = LANGUAGES[language]
    return build() if shutil.which(program) else None


def _by_zig(source: str, abi: str, *flags: str) -> bytes:
    includes = (f"-I{_ROOT / 'benchmarks' / 'guests'}", f"-I{_ROOT / 'guest' / 'c'}")
    target = _scratch() / f"{source}-{abi}.wasm"
    common = ("-Os", "-s", "-fno-sanitize=all", "-Wl,-z,stack-size=65536", f"-D{abi}", *includes)
    _run([sys.executable, "-m", "ziglang", *flags, *common, "-o", str(target), source], _SOURCES)
    return target.read_bytes()


def _by_go(folder: Path) -> bytes:
    target = _scratch() / f"{folder.name}-go.wasm"
    words = ["go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", str(target), "."]
    _run(words, folder, GOOS="wasip1", GOARCH="wasm", CGO_ENABLED="0")
    return target.read_bytes()


def _run(command: list[str], folder: Path, *, target: Path | None = None, **variables: Any) -> None:
    if target is not None:
        variables["CARGO_TARGET_DIR"] = str(target)
    subprocess.run(command, cwd=folder, check=True, env=os.environ | variables)  # noqa: S603  our own sources


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fuseboard"


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuseboard-languages-")


def _scratch() -> Path:
    return Path(_folder().name)
