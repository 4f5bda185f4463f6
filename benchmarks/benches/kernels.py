"""What metering costs a guest that computes: seven kernels in C, behind all fuses, in the bare engine, and native.

Rules:
* One source for all, by the same compiler with the same flags; each result is checked before the race.
* Fuseboard's limits of fuel and time are raised so that the work fits; nothing else is.
* The peers' instances stay: what they compute is measured, not how they begin.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from statistics import geometric_mean
from typing import Final

from benchmarks.benches import _peers
from benchmarks.benches._bench import Bench, main
from benchmarks.benches._guests import Abi, library, module
from benchmarks.benches._ours import closed_filter, manifest
from benchmarks.benches._race import Work, race
from benchmarks.benches._results import Ratio, Row, ratio
from benchmarks.benches.calls import checked

import fuseboard as fb

SIZES: Final = {
    "matmul": 256, "sha256": 20_000, "tokens": 50_000, "quicksort": 250_000, "hashmap": 1_000_000, "nbody": 160_000,
    "matches": 180_000,
}  # fmt: skip
"""What each kernel is told: some 10 ms of native work, as far as fuel and the sources' memory allow."""
_FUEL: Final = 1_000_000_000
_TIMEOUT_MS: Final = 10_000
_HOOK: Final = closed_filter("kernel", bytes)
_OURS: Final = "Fuseboard, all limits"
_BARE: Final = "wasmtime-py, no limits"
_FUELLED: Final = "wasmtime-py, with fuel"
_CHECKED: Final = "wasmtime-py, with fuel, memory checked by code"
_NATIVE: Final = "native"
_COMPARED: Final = (
    (_OURS, _BARE), (_OURS, _FUELLED), (_OURS, _CHECKED), (_OURS, _NATIVE), (_FUELLED, _BARE), (_CHECKED, _BARE),
)  # fmt: skip
_BARS: Final = {(_OURS, _BARE): 1.5}
_WHY_NOT_LESS: Final = (
    "most of it is what the engine itself takes to count fuel and to check memory by code, worst where a check of fuel "
    "makes a tight loop keep its numbers in memory; the rest is mostly the pulses, at which deadline and interrupt are "
    "looked at: fewer would cost less and make deadlines later"
)
_VERSIONS: Final = (
    "wasmtime-py has a newer wasmtime than Fuseboard's core, thus another version of the compiler. It checks memory by "
    "signals unless told otherwise; Fuseboard leaves signals to Python. Guests have no SIMD, native code uses what any "
    "processor of its kind has."
)


def measure(bench: Bench) -> Iterator[Row]:
    """Measure each kernel, then all in one number."""
    rows = [_kernel_row(bench, name, size) for name, size in SIZES.items()]
    yield from rows
    yield _mean_row(rows)


def _kernel_row(bench: Bench, name: str, size: int) -> Row:
    said = struct.pack("<I", size)
    limits = fb.Limits(fuel_per_invocation=_FUEL, invocation_timeout_ms=_TIMEOUT_MS)
    with closing(fb.Host(hooks=[_HOOK], ceilings=limits)) as host:
        host.load_bytes(module(name), manifest(_HOOK), grants="as-requested", limits=limits)
        native = _native(name)
        contestants: dict[str, Work] = {
            _OURS: lambda: host.apply_filter(_HOOK, said),
            _BARE: partial(_peers.wasmtime_warm(module(name, Abi.PLAIN)), said),
            _FUELLED: partial(_peers.wasmtime_limited(module(name, Abi.PLAIN), _FUEL), said),
            _CHECKED: partial(_peers.wasmtime_limited(module(name, Abi.PLAIN), _FUEL, is_checked_by_code=True), said),
            _NATIVE: partial(native, said),
        }
        figures = race(checked(contestants, native(said)), rounds=max(5, bench.rounds // 2))
        fuel = host.dispatch(_HOOK, said).outcomes[0].meters[fb.Limit.FUEL].used
    ratios = tuple(ratio(figures[one], figures[to], is_guarded=(one, to) in _BARS) for one, to in _COMPARED)
    return Row(f"kernel {name}", tuple(figures.values()), ratios, f"{fuel:,.0f} fuel.")


def _mean_row(rows: list[Row]) -> Row:
    ratios = tuple(_mean(rows, place, pair) for place, pair in enumerate(_COMPARED))
    return Row("seven kernels", (), ratios, _VERSIONS)


def _mean(rows: list[Row], place: int, pair: tuple[str, str]) -> Ratio:
    """Return the geometric mean of a ratio that all rows have at the same place."""
    return Ratio(
        f"{rows[0].ratios[place].name}, geometric mean",
        geometric_mean(row.ratios[place].value for row in rows),
        bar=_BARS.get(pair),
        is_guarded=pair in _BARS,
        why_not=_WHY_NOT_LESS if pair in _BARS else "",
    )


def _native(name: str) -> _peers.Call:
    """Return calls of the kernel as a shared library."""
    loaded = ctypes.CDLL(str(library(name)))
    loaded.buffer.restype = ctypes.c_void_p
    crossing: int = loaded.buffer()

    def call(said: bytes) -> bytes:
        ctypes.memmove(crossing, said, len(said))
        return ctypes.string_at(crossing, loaded.run(len(said)))

    return call


if __name__ == "__main__":
    main(measure)
