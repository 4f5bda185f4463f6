"""The guests below `benchmarks/guests`: one C source each, built for every contestant's ABI and as a native library.

Rule: a guest is built once in a process, into a folder that ends with it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_SOURCES: Final = _ROOT / "benchmarks" / "guests"
_FLAGS: Final = (
    "-std=c17", "-O2", "-g0", "-nostdlib", "-fno-sanitize=all", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function",
    f"-I{_SOURCES}", f"-I{_ROOT / 'guest' / 'c'}",
)  # fmt: skip
_WASM_FLAGS: Final = (
    "-target", "wasm32-freestanding", "-mbulk-memory", "-mreference-types",
    "-Wl,--no-entry", "-Wl,-z,stack-size=16384",
)  # fmt: skip
_NATIVE_FLAGS: Final = ("-shared", "-fPIC", "-mcpu=baseline")
"""For any processor of its kind, as distributions build their libraries."""


class Abi(StrEnum):
    """Whose guest a source becomes: see `abi.h`."""

    FUSEBOARD = "FUSEBOARD"
    EXTISM = "EXTISM"
    PLAIN = "PLAIN"


@cache
def module(name: str, abi: Abi = Abi.FUSEBOARD) -> bytes:
    """Return the WebAssembly module of `<name>.c` for an ABI; its function is exported as `run`."""
    return _built(name, abi, f"{name}-{abi}.wasm", _WASM_FLAGS).read_bytes()


@cache
def library(name: str) -> Path:
    """Return the native shared library of `<name>.c`, with the ABI `PLAIN`: `buffer()` and `run(length)`."""
    return _built(name, Abi.PLAIN, f"{name}.so", _NATIVE_FLAGS)


def _built(name: str, abi: Abi, target: str, flags: tuple[str, ...]) -> Path:
    path = Path(_scratch().name) / target
    source = str(_SOURCES / f"{name}.c")
    command = [sys.executable, "-m", "ziglang", "cc", *_FLAGS, *flags, f"-D{abi}", "-o", str(path), source]
    subprocess.run(command, check=True)  # noqa: S603  fixed words and our own sources
    return path


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuseboard-guests-")
