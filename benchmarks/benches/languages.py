"""What a fresh call costs in each language, with and without a snapshot, beside Extism's calls of the same work.

Rules:
* The work is a filter of a JSON string of 200 bytes. Both sides encode it, decode the result and check its type.
* Fuseboard's calls are whole dispatches, fresh and behind all limits; of Extism's, the warm ones keep their instance.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import msgspec
from benchmarks.benches import _peers
from benchmarks.benches._bench import Bench, main
from benchmarks.benches._languages import LANGUAGES, Pair, pair
from benchmarks.benches._ours import closed_filter, manifest
from benchmarks.benches._race import Work, race
from benchmarks.benches._results import Row, ratio
from benchmarks.benches.calls import checked

import fuseboard as fb

_TEXT: Final = "a post's title, " * 12 + "in all"
_HOOK: Final = closed_filter("post.title", str)

_FRESH: Final = "Fuseboard, fresh"
_NO_SNAPSHOT: Final = "Fuseboard, fresh, without a snapshot"
_EXTISM_WARM: Final = "Extism, warm, with JSON"
_EXTISM_FRESH: Final = "Extism, fresh, with JSON"


def measure(bench: Bench) -> Iterator[Row]:
    """Measure a row for each language whose compiler is there."""
    for language in LANGUAGES:
        guests = pair(language)
        if guests is None:
            bench.tell(f"{language}: left out, as its compiler isn't installed")
        else:
            yield _row(bench, language, guests)


def _row(bench: Bench, language: str, guests: Pair) -> Row:
    with ExitStack() as stack:
        hosts = {
            name: stack.enter_context(_host(guests.ours, snapshot=snapshot))
            for name, snapshot in ((_FRESH, True), (_NO_SNAPSHOT, False))
        }
        contestants: dict[str, Work] = {name: _filtering(host) for name, host in hosts.items()}
        contestants[_EXTISM_WARM] = _crossing(_peers.extism_warm(guests.extism, wasi=True))
        contestants[_EXTISM_FRESH] = _crossing(_peers.extism_fresh(guests.extism, wasi=True))
        figures = race(checked(contestants, _TEXT.upper()), rounds=bench.rounds)
    ours = figures[_FRESH]
    ratios = (
        ratio(ours, figures[_EXTISM_WARM], bar=1.5, is_guarded=False),
        ratio(ours, figures[_EXTISM_FRESH], bar=0.1, is_guarded=False),
        ratio(ours, figures[_NO_SNAPSHOT], is_guarded=False),
    )
    return Row(f"a fresh call in {language}", tuple(figures.values()), ratios)


def _host(wasm: bytes, *, snapshot: bool) -> fb.Host:
    host = fb.Host(hooks=[_HOOK])
    host.load_bytes(wasm, manifest(_HOOK) | ({} if snapshot else {"snapshot": False}))
    return host


def _filtering(host: fb.Host) -> Work:
    return lambda: host.apply_filter(_HOOK, _TEXT)


def _crossing(call: _peers.Call) -> Work:
    def work() -> Any:
        return msgspec.json.decode(call(msgspec.json.encode(_TEXT)), type=str)

    return work


if __name__ == "__main__":
    main(measure)
