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
    "matmul": 160, "sha256": 20_000, "tokens": 20_000, "quicksort": 150_000, "hashmap": 400_000, "nbody": 100_000,
    "matches": 60_000,
}  # fmt: skip
"""What each kernel is told: some ms of native work."""
_FUEL: Final = 1_000_000_000
_TIMEOUT_MS: Final = 10_000
_HOOK: Final = closed_filter("kernel", bytes)
_OURS: Final = "Fuseboard, all limits"
_BARE: Final = "wasmtime-py, no limits"
_FUELLED: Final = "wasmtime-py, with fuel"
_NATIVE: Final = "native"
_WHY_NOT_LESS: Final = (
    "the bare engine of the core's version takes 1.5 times as long too with fuel counted and memory checked by code, "
    "most of it in matmul's tight loop; pulses every 20,000 fuel and fresh pages in each call come on top"
)
_VERSIONS: Final = (
    "wasmtime-py has a newer wasmtime than Fuseboard's core, and checks memory accesses by signals, which Fuseboard "
    "leaves to Python."
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
            _NATIVE: partial(native, said),
        }
        figures = race(checked(contestants, native(said)), rounds=max(5, bench.rounds // 2))
        fuel = host.dispatch(_HOOK, said).outcomes[0].meters[fb.Limit.FUEL].used
    ratios = tuple(ratio(figures[_OURS], figures[peer], is_guarded=False) for peer in (_BARE, _FUELLED, _NATIVE))
    return Row(f"kernel {name}", tuple(figures.values()), ratios, f"{fuel:,.0f} fuel.")


def _mean_row(rows: list[Row]) -> Row:
    ratios = tuple(
        Ratio(
            f"{_OURS} / {peer}, geometric mean",
            geometric_mean(one.value for row in rows for one in row.ratios if one.name.endswith(peer)),
            bar=1.5 if peer == _BARE else None,
            is_guarded=peer == _BARE,
            why_not=_WHY_NOT_LESS if peer == _BARE else "",
        )
        for peer in (_BARE, _FUELLED, _NATIVE)
    )
    return Row("seven kernels", (), ratios, _VERSIONS)


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
