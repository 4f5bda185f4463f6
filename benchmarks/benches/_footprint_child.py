"""A process of its own in which one contestant is measured: a `Job` comes in as JSON, numbers go out as JSON.

Rules:
* Only the contestant of the job is imported: what the others take isn't in its resident memory.
* The modules of a job differ in a custom section only, so that none finds another's compiled code.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from statistics import median
from typing import Any, Final, Protocol, cast

import msgspec
from benchmarks.soaks._measures import resident_mib

Call = Callable[[bytes], bytes | None]
"""Gives what the guest gave, or `None` where it trapped; each thread may call."""
Numbers = dict[str, float]

HELD: Final = 1
"""What the application's function returns, as JSON."""

_MORE_LOADS: Final = 5
_WARM_UP_LOADS: Final = 8
_PATIENCE_SECONDS: Final = 10
_ECHO: Final = (b"e" * 200, b"e" * 200)
_CRASH: Final = (b"x" * 200, None)


class Import(msgspec.Struct, frozen=True):
    """A function that a module imports, with its parameters and results as `i32` or `i64`."""

    module: str
    name: str
    parameters: tuple[str, ...]
    results: tuple[str, ...]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be measured.

    Attributes:
        contestant: `ours`, `extism` or `wasmtime`.
        task: a key of `_TASKS`.
        wasm: the module, built for the contestant.
        manifest: Fuseboard's, where the contestant is Fuseboard.
        count: how many plugins, slots or calls.
        mib: how much memory each guest touches.
        cache: where compiled modules are kept, for a peer the file that says it; without one nowhere.
        is_inline: whether Fuseboard compiles in the process itself.
        is_only_compiled: whether a peer that makes an instance with each plugin only makes what it is made from.
        imports: what the module imports, for a peer that must be given all of it.
    """

    contestant: str
    task: str
    wasm: bytes
    manifest: Mapping[str, Any] = {}
    count: int = 0
    mib: int = 0
    cache: str = ""
    is_inline: bool = False
    is_only_compiled: bool = False
    imports: Sequence[Import] = ()


class Contestant(Protocol):
    """What a contestant's module offers."""

    def loader(self, job: Job) -> Callable[[bytes], object]:
        """Return what loads a module, with everything made that serves all modules."""

    def caller(self, job: Job, hold: Callable[[], object]) -> Call:
        """Return calls of the job's module, in which the application's function holds the guest, and gives `HELD`."""


def copy_of(wasm: bytes, number: int) -> bytes:
    """Return the same module with a number in a custom section."""
    section = b"\x04copy" + number.to_bytes(4, "little")
    return wasm + b"\x00" + bytes([len(section)]) + section


# ── the tasks ────────────────────────────────────────────────────────────────────────────────────


def _load(contestant: Contestant, job: Job) -> Numbers:
    """Time what is made once, the first load, and further loads, in ms."""
    began = time.perf_counter()
    load = contestant.loader(job)
    made = time.perf_counter() - began
    took = []
    kept = []
    for number in range(1 + _MORE_LOADS):
        wasm = copy_of(job.wasm, number)
        began = time.perf_counter()
        kept.append(load(wasm))
        took.append(time.perf_counter() - began)
    return {"made": made * 1e3, "first": took[0] * 1e3, "another": median(took[1:]) * 1e3}


def _plugins(contestant: Contestant, job: Job) -> Numbers:
    """Measure how much a loaded plugin adds, in KiB."""
    load = contestant.loader(job)
    kept = [load(copy_of(job.wasm, number)) for number in range(_WARM_UP_LOADS)]
    before = resident_mib()
    kept += [load(copy_of(job.wasm, _WARM_UP_LOADS + number)) for number in range(job.count)]
    return {"each": (resident_mib() - before) * 1024 / job.count}


def _slots(contestant: Contestant, job: Job) -> Numbers:
    """Measure guests that are held in the application's function, all at once, and what stays of them, in MiB."""
    there, inside = threading.Semaphore(0), threading.Semaphore(0)
    start, over = threading.Event(), threading.Event()

    def hold() -> None:
        inside.release()
        over.wait(_PATIENCE_SECONDS)

    call = contestant.caller(job, hold)

    def work(_: int) -> bytes | None:
        there.release()
        start.wait(_PATIENCE_SECONDS)
        return call(bytes([job.mib]))

    with ThreadPoolExecutor(job.count) as pool:
        results = pool.map(work, range(job.count))
        _all_of(there, job.count)
        ready = resident_mib()
        start.set()
        _all_of(inside, job.count)
        during = resident_mib()
        over.set()
        if any(result != msgspec.json.encode(HELD) for result in results):
            raise ValueError(f"{job.contestant} gave something else than what the application gave")
        after = resident_mib()
    return {"ready": ready, "during": during, "after": after}


def _all_of(semaphore: threading.Semaphore, count: int) -> None:
    for _ in range(count):
        if not semaphore.acquire(timeout=_PATIENCE_SECONDS):
            raise TimeoutError("not all guests could be held at once")


def _calls(contestant: Contestant, job: Job) -> Numbers:
    """Measure by how much many calls make resident memory grow, every second one trapped, in MiB."""
    call = contestant.caller(job, lambda: None)
    _call_often(call, job.count // 5)
    before = resident_mib()
    _call_often(call, job.count)
    return {"before": before, "growth": resident_mib() - before}


def _call_often(call: Call, count: int) -> None:
    for number in range(count):
        value, expected = _ECHO if number % 2 else _CRASH
        if call(value) != expected:
            raise ValueError(f"a call with {value!r} didn't give {expected!r}")


_TASKS: Final = {"load": _load, "plugins": _plugins, "slots": _slots, "calls": _calls}


def _main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    contestant = cast("Contestant", import_module(f"benchmarks.benches._footprint_{job.contestant}"))
    sys.stdout.buffer.write(msgspec.json.encode(_TASKS[job.task](contestant, job)))


if __name__ == "__main__":
    _main()
