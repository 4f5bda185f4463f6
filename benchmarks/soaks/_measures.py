"""Numbers of a run: percentiles, resident memory, slots.

Rule: nothing that is measured is imported here: it would count as resident.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import fuseboard as fb


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many percent of all don't exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def spread(seconds: Iterable[float]) -> str:
    """Return the median, the 99th percentile and the longest of some times, in milliseconds."""
    each = [one * 1e3 for one in seconds]
    return f"p50 {percentile(each, 50):.3g}, p99 {percentile(each, 99):.3g}, max {max(each, default=0.0):.3g} ms"


def resident_mib() -> float:
    """Return this process's resident memory in MiB, garbage apart."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024


def slots_taken(*hosts: fb.Host | fb.AsyncHost) -> int:
    """Return how many slots of hosts are held or waited for."""
    slots = [host._services.slots for host in hosts]  # noqa: SLF001  no operator needs to know
    return sum(one.held + one.waiting for one in slots)


class GarbagePauses:
    """When Python collected garbage: all threads stand still then, and the more is alive, the longer."""

    def __init__(self) -> None:
        self._pauses: list[tuple[float, float]] = []
        self._began = 0.0

    def __enter__(self) -> Self:
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note)

    @property
    def seconds(self) -> list[float]:
        """How long each was."""
        return [ended - began for began, ended in self._pauses]

    def since(self, moment: float) -> float:
        """Return how many seconds of the time since a moment of `time.monotonic()` went to pauses."""
        lost = 0.0
        for began, ended in reversed(self._pauses):
            if ended <= moment:
                break
            lost += ended - max(began, moment)
        return lost

    def _note(self, phase: str, _: object) -> None:
        now = time.monotonic()
        if phase == "stop":
            self._pauses.append((self._began, now))
        self._began = now
