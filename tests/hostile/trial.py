"""Offering a file to a host, and what became of it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fuseboard as fb
from fuseboard import _core
from fuseboard._errors import ModuleRefused

from .case import End

HOOK: Final = fb.Filter("text", str)
SLUG: Final = "offered"
MEMORY_MB: Final = 4
SHORT: Final = fb.CompileLimits(cpu_seconds=1, memory_mb=1_024, timeout_seconds=60)
SMALL: Final = fb.CompileLimits(cpu_seconds=30, memory_mb=128, timeout_seconds=60)
"""Limits for what costs more than they allow: one bounds the time, the other the memory."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an offer.

    Attributes:
        words: the sentence that refused it, with its notes, or the outcome: `completed`, a skip's reason, or a trap's
            limit or cause.
        milliseconds: of the load, without the invocation.
    """

    end: End
    words: str
    milliseconds: float


def grown_mb(before: float) -> float:
    """Return by how much this process has grown since it had so much memory by itself, in MB.

    Garbage is collected first where that could matter, and the C library told to give back what is free: most of it
    comes from making the case.
    """
    if own_mb() - before > 1:
        gc.collect()
        with contextlib.suppress(AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)
    return own_mb() - before


def own_mb() -> float:
    """Return what this process has in memory by itself, without mapped files, in MB."""
    return status_mb("RssAnon")


def status_mb(field: str) -> float:
    """Return what the kernel says of this process, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1.024e-3 for line in status.splitlines() if line.startswith(f"{field}:"))


def manifest(slug: str) -> dict[str, Any]:
    """Return a manifest that requests nothing: `run` serves the hook, with little fuel."""
    return {
        "manifest": 1,
        "slug": slug,
        "version": "1",
        "hooks": [{"name": HOOK.name, "export": "run"}],
        "server": {"memory_limit_mb": MEMORY_MB, "fuel_per_invocation": 5_000_000, "invocation_timeout_ms": 2_000},
    }


def new_host(**arguments: Any) -> fb.Host:
    """Return a host of small guests that keeps no compiled modules."""
    return fb.Host(
        hooks=[HOOK],
        ceilings=fb.Limits(memory_limit_mb=MEMORY_MB),
        max_concurrent_invocations=2,
        cache=None,
        **arguments,
    )


def offer(host: fb.Host, wasm: bytes) -> Verdict:
    """Load a file as a plugin, invoke it where that works, and unload it."""
    began = time.perf_counter()
    try:
        host.load_bytes(wasm, manifest(SLUG))
    except fb.ModuleError as error:
        words = "; ".join((str(error), *getattr(error, "__notes__", ()))).removeprefix(f"{SLUG}: ")
        return Verdict(_end_of(wasm, words), words, (time.perf_counter() - began) * 1e3)
    taken = (time.perf_counter() - began) * 1e3
    try:
        return Verdict(End.WORKS, told(host.invoke(SLUG, HOOK, "x")), taken)
    finally:
        with contextlib.suppress(fb.UnknownPlugin):
            host.unload(SLUG)


def told(outcome: fb.Outcome) -> str:
    """Return an outcome as a word."""
    match outcome:
        case fb.Completed():
            return "completed"
        case fb.Trapped(trap=trap):
            return str(trap.limit or trap.cause)
        case fb.Skipped():
            return str(outcome.reason)


def _end_of(wasm: bytes, words: str) -> End:
    if words.startswith("compiling takes more than"):
        return End.LIMITS
    if words.startswith("the module has more than"):
        return End.REFUSED
    try:
        _core.scan(wasm, MEMORY_MB << 20)
    except ModuleRefused:
        return End.SCAN
    return End.REFUSED
