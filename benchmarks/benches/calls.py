"""What one call costs: the core alone, a dispatch, host calls, and functions of the application.

Rules:
* Each contestant's result is checked before its race.
* Fuseboard's calls are fresh and behind all default limits, each time. What a peer's are, its name says.
* The guard holds to wasmtime-py: a warm call of Extism takes half as long again in some rounds as in others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any, Final

import msgspec
from benchmarks.benches import _peers
from benchmarks.benches._bench import Bench, main
from benchmarks.benches._guests import Abi, module
from benchmarks.benches._ours import closed_filter, core, host_with, slug
from benchmarks.benches._race import Work, race
from benchmarks.benches._results import Figure, Ratio, Row, difference, each_of, ratio

import fuseboard as fb
from fuseboard.backends.memory import MemoryKv

_TEXT: Final = "a post's title, " * 12 + "in all"
_JSON: Final = msgspec.json.encode(_TEXT)
_KEY: Final = b"session:0123456789"
_KEPT: Final = b"v" * 100
_ORDER: Final[dict[str, Any]] = {"sku": "fuse-10A", "quantity": 3, "note": "n" * 60}
_MANY: Final = 10

OURS: Final = "Fuseboard"
CORE: Final = "Fuseboard, core"
EXTISM: Final = "Extism, warm"
WASMTIME: Final = "wasmtime-py, warm"
_EXTISM_JSON: Final = "Extism, warm, with JSON"
_WASMTIME_JSON: Final = "wasmtime-py, warm, with JSON"
_PLUGGY: Final = "pluggy, plain Python"
_WHY_NOT_A_TENTH: Final = (
    "a fresh instance behind every limit takes this long, a quarter of it in the kernel's look for touched pages; "
    "a tenth of a call into one that stays would need instances that are used again"
)
_WHY_NOT_LESS: Final = (
    "some 7 µs of Python hold the rules of a dispatch (breaker, slot, request, outcome); less would need them compiled"
)
_NO_FUEL: Final = "Extism for Python can't limit fuel: its limits are memory and time."


def measure(bench: Bench) -> Iterator[Row]:
    """Measure all rows, one after the other."""
    yield _core_row(bench, "core echo, 200 B", b"e" * 200, extism_bar=0.4, wasmtime_bar=0.1)
    yield _core_row(bench, "core echo, 10 kB", b"e" * 10_000)
    yield _empty_row(bench)
    yield _one_plugin_row(bench, "dispatch, 1 plugin", "echo", _same)
    yield _one_plugin_row(bench, "dispatch, 1 plugin that changes the value", "swapcase", str.swapcase)
    yield _five_plugins_row(bench, "dispatch, 5 plugins", "echo", _same)
    yield _five_plugins_row(bench, "dispatch, 5 plugins that change the value", "swapcase", str.swapcase)
    yield from _host_call_rows(bench)
    yield _function_row(bench)


def checked(contestants: Mapping[str, Work], expected: object) -> dict[str, Work]:
    """Return the contestants, if each does the same.

    Raises:
        ValueError: one of them gives something else.
    """
    for name, work in contestants.items():
        if (got := work()) != expected:
            raise ValueError(f"{name} gave {got!r} instead of {expected!r}")
    return dict(contestants)


def against(ours: Figure, peer: Figure, *, bar: float | None = None, why_not: str = "") -> Ratio:
    """Return how a peer compares, guarded where its rounds are alike."""
    is_guarded = not peer.contestant.startswith("Extism")
    return ratio(ours, peer, bar=bar, is_guarded=is_guarded, why_not=why_not)


def _same(text: str) -> str:
    return text


# ── the core ─────────────────────────────────────────────────────────────────────────────────────


def _core_row(
    bench: Bench, name: str, value: bytes, *, extism_bar: float | None = None, wasmtime_bar: float | None = None
) -> Row:
    extism, plain = module("echo", Abi.EXTISM), module("echo", Abi.PLAIN)
    calls = {
        CORE: core(module("echo")),
        EXTISM: _peers.extism_warm(extism),
        "Extism, warm, limited": _peers.extism_limited(extism),
        "Extism, fresh": _peers.extism_fresh(extism),
        WASMTIME: _peers.wasmtime_warm(plain),
        "wasmtime-py, warm, limited": _peers.wasmtime_limited(plain),
        "wasmtime-py, fresh": _peers.wasmtime_fresh(plain),
        "wasmtime-py, fresh, limited": _peers.wasmtime_fresh(plain, is_limited=True),
    }
    contestants = {each: partial(call, value) for each, call in calls.items()}
    figures = race(checked(contestants, value), rounds=bench.rounds)
    ratios = (
        against(figures[CORE], figures[EXTISM], bar=extism_bar),
        against(figures[CORE], figures[WASMTIME], bar=wasmtime_bar, why_not=_WHY_NOT_A_TENTH),
        against(figures[CORE], figures["Extism, fresh"]),
        against(figures[CORE], figures["wasmtime-py, fresh, limited"]),
    )
    return Row(name, tuple(figures.values()), ratios, _NO_FUEL)


# ── dispatch ─────────────────────────────────────────────────────────────────────────────────────


def _empty_row(bench: Bench) -> Row:
    hook = closed_filter("post.title", str)
    with fb.Host(hooks=[hook]) as host:
        contestants: dict[str, Work] = {OURS: lambda: host.apply_filter(hook, _TEXT)}
        figures = race(checked(contestants, _TEXT) | {_PLUGGY: _pluggy(0, _same)}, rounds=bench.rounds)
    ratios = (_most(figures[OURS], OURS, bar=1.0), against(figures[OURS], figures[_PLUGGY]))
    return Row("dispatch, 0 plugins", tuple(figures.values()), ratios)


def _one_plugin_row(bench: Bench, name: str, guest: str, change: Callable[[str], str]) -> Row:
    hook = closed_filter("post.title", str)
    with host_with(hook, guest) as host:
        contestants = {
            OURS: lambda: host.apply_filter(hook, _TEXT),
            **_peers_with_json(guest, 1),
        }
        crossing: dict[str, Work] = {
            CORE: partial(core(module(guest)), _JSON),
            EXTISM: partial(_peers.extism_warm(module(guest, Abi.EXTISM)), _JSON),
        }
        figures = race(
            checked(contestants, change(_TEXT))
            | checked(crossing, msgspec.json.encode(change(_TEXT)))
            | checked({_PLUGGY: _pluggy(1, change)}, [change(_TEXT)]),
            rounds=bench.rounds,
        )
    more = difference("more than the core", figures[OURS], figures[CORE])
    ratios = (
        _most(more, "more than the core's echo", bar=8.0, why_not=_WHY_NOT_LESS),
        against(figures[OURS], figures[EXTISM], bar=0.6, why_not=_WHY_NOT_LESS),
        against(figures[OURS], figures[_EXTISM_JSON]),
        against(figures[OURS], figures[_WASMTIME_JSON]),
    )
    return Row(name, tuple(figures.values()), ratios)


def _five_plugins_row(bench: Bench, name: str, guest: str, change: Callable[[str], str]) -> Row:
    hook = closed_filter("post.title", str)
    with host_with(hook, guest, plugins=5) as host:
        contestants = {OURS: lambda: host.apply_filter(hook, _TEXT), **_peers_with_json(guest, 5)}
        figures = race(
            checked(contestants, change(_TEXT)) | checked({_PLUGGY: _pluggy(5, change)}, [change(_TEXT)] * 5),
            rounds=bench.rounds,
        )
    ratios = (against(figures[OURS], figures[_EXTISM_JSON]), against(figures[OURS], figures[_WASMTIME_JSON]))
    note = "pluggy gives each function the first value and collects the results; the others pass the value on."
    return Row(name, tuple(figures.values()), ratios, note)


def _peers_with_json(guest: str, plugins: int) -> dict[str, Work]:
    extism = [_peers.extism_warm(module(guest, Abi.EXTISM)) for _ in range(plugins)]
    wasmtime = [_peers.wasmtime_warm(module(guest, Abi.PLAIN)) for _ in range(plugins)]
    return {_EXTISM_JSON: lambda: _chained(extism, _TEXT), _WASMTIME_JSON: lambda: _chained(wasmtime, _TEXT)}


def _chained(calls: Sequence[_peers.Call], text: str) -> str:
    """Pass a text through plugins as a dispatch does: encoded, and decoded and checked after each of them."""
    value = text
    for call in calls:
        value = msgspec.json.decode(call(msgspec.json.encode(value)), type=str)
    return value


def _pluggy(functions: int, change: Callable[[str], str]) -> Work:
    return partial(_peers.pluggy_hook(functions, change), _TEXT)


def _most(figure: Figure, name: str, *, bar: float, why_not: str = "") -> Ratio:
    return Ratio(name, median(figure.rounds), unit=figure.unit, bar=bar, why_not=why_not)


# ── host calls ───────────────────────────────────────────────────────────────────────────────────


def _host_call_rows(bench: Bench) -> Iterator[Row]:
    hook = closed_filter("kv.read", bytes)
    kept = {_KEY: _KEPT}.__getitem__
    backends = fb.Backends(kv=MemoryKv({slug(): {_KEY: _KEPT}}))
    with host_with(hook, "kvget", capabilities={"kv": True}, backends=backends) as host:
        calls: dict[str, _peers.Call] = {
            OURS: partial(host.apply_filter, hook),
            "Extism": _peers.extism_warm(module("kvget", Abi.EXTISM), [_peers.extism_function("kv_get", kept)]),
            "wasmtime-py": _peers.wasmtime_with(module("kvget", Abi.PLAIN), "kv_get", kept),
        }
        contestants: dict[str, Work] = {}
        for times in (0, 1, _MANY):
            works: dict[str, Work] = {
                _asking(name, times): partial(call, bytes([times])) for name, call in calls.items()
            }
            contestants |= checked(works, _KEPT if times else b"")
        figures = race(contestants, rounds=bench.rounds)
    yield _total_row("one host call, the whole call", figures, 1)
    yield _total_row("ten host calls, the whole call", figures, _MANY)
    yield _each_row(figures)


def _asking(name: str, times: int) -> str:
    return f"{name}, host calls: {times}"


def _total_row(name: str, figures: Mapping[str, Figure], times: int) -> Row:
    ours, extism, wasmtime = (figures[_asking(each, times)] for each in (OURS, "Extism", "wasmtime-py"))
    bar = 1.5 if times == 1 else None
    return Row(name, (ours, extism, wasmtime), (against(ours, extism, bar=bar), against(ours, wasmtime)))


def _each_row(figures: Mapping[str, Figure]) -> Row:
    ours, extism, wasmtime = (
        each_of(difference(each, figures[_asking(each, _MANY)], figures[_asking(each, 0)]), _MANY)
        for each in (OURS, "Extism", "wasmtime-py")
    )
    note = "What ten cost more than none, over ten. The peers' functions run without refusing, charging or committing."
    return Row(
        "a host call more", (ours, extism, wasmtime), (against(ours, extism, bar=1.5), against(ours, wasmtime)), note
    )


# ── functions of the application ─────────────────────────────────────────────────────────────────


def lookup(sku: str, quantity: int, note: str) -> dict[str, Any]:
    """Return what an order costs."""
    return {"sku": sku, "quantity": quantity, "total": quantity * 450, "note": note}


def _lookup_bytes(arguments: bytes) -> bytes:
    return msgspec.json.encode(lookup(**msgspec.json.decode(arguments)))


def _function_row(bench: Bench) -> Row:
    hook = closed_filter("order.price", dict[str, Any])
    extism = module("lookup", Abi.EXTISM)
    inferred = _peers.extism_json_function("lookup", lambda arguments: lookup(**arguments))
    documented = _peers.extism_warm(extism, [inferred])
    explicit = _peers.extism_warm(extism, [_peers.extism_function("lookup", _lookup_bytes)])
    plain = _peers.wasmtime_with(module("lookup", Abi.PLAIN), "lookup", _lookup_bytes)
    ours = fb.host_function("lookup")(lookup)
    with host_with(hook, "lookup", capabilities={"functions": ["lookup"]}, functions=[ours]) as host:
        contestants: dict[str, Work] = {
            OURS: lambda: host.apply_filter(hook, _ORDER),
            "Extism, extism.Json": lambda: json.loads(documented(json.dumps(_ORDER).encode())),
            "Extism, msgspec": lambda: msgspec.json.decode(explicit(msgspec.json.encode(_ORDER))),
            "wasmtime-py, msgspec": lambda: msgspec.json.decode(plain(msgspec.json.encode(_ORDER))),
        }
        figures = race(checked(contestants, lookup(**_ORDER)), rounds=bench.rounds)
    ratios = tuple(against(figures[OURS], figure) for name, figure in figures.items() if name != OURS)
    note = "extism.Json is what Extism's documentation shows; with msgspec is the fastest way that was found."
    return Row("function of the application, JSON", tuple(figures.values()), ratios, note)


if __name__ == "__main__":
    main(measure)
