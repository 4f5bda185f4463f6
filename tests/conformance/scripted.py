"""Run a scenario on the core alone: each host call is checked, and answered as the scenario says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from fuseboard import _core
from fuseboard._compiler import Compiler
from fuseboard._limits import memory_ceiling_bytes
from fuseboard._snapshot import Wish

from .application import SLUG
from .checks import LEVELS, Seen, problems
from .hosted import ARTIFACTS, CEILINGS, PREFIX, manifest
from .notation import data, difference, read, shown, write
from .scenario import Exchange, Scenario, Trap

MIB: Final = 1 << 20
SECONDS: Final = 20.0
_JSON_PARTS: Final = {"host_http_request": 0, "host_db_query": 1, "host_db_exec": 1, "host_call": 1}
"""Which part of a host call is JSON."""

_EMPTY: Final = {"host_db_query": "[]", "host_db_exec": "[]", "host_call": "{}"}
"""What a part without bytes says there."""


def run(scenario: Scenario, wasm: bytes) -> list[str]:
    """Run a scenario on a guest and return what isn't as the scenario has it."""
    execution = _entry(scenario, loaded(wasm)).begin(*_buffers(scenario), SECONDS)
    logs: list[tuple[int, str]] = []
    exchanges = iter(scenario.calls or ())
    step = execution.resume()
    while not isinstance(step, _core.Completed | _core.Trapped):
        logs += step.logs
        if isinstance(step, _core.Running):
            step = execution.resume()
            continue
        exchange = next(exchanges, None)
        if problem := _call_problem(exchange, step):
            execution.close()
            return [problem]
        step = execution.answer(*_answer(exchange))
    seen = _seen(step, [*logs, *step.logs])
    return [*problems(scenario, seen), *_unasked(exchanges, seen)]


@cache
def loaded(wasm: bytes) -> _core.Module:
    """Return a guest's module, for the same engine as hosts have, so that it is compiled once for both."""
    return _compiler().module(wasm, SLUG, Wish()).module


@cache
def _compiler() -> Compiler:
    return Compiler(_core.Engine(memory_ceiling_bytes(CEILINGS), 2), cache=ARTIFACTS)


def _entry(scenario: Scenario, module: _core.Module) -> _core.Entry:
    found = manifest(scenario, {})
    exports = {entry["name"]: entry["export"] for entry in found["hooks"]}
    return _core.Entry(
        module,
        exports[f"{PREFIX}{scenario.hook}"],
        settings=write(found["settings"] | read(scenario.settings)),
        memory_bytes=found["server"]["memory_limit_mb"] * MIB,
        fuel=10 * found["server"]["fuel_per_invocation"],
        output_bytes=16 * MIB,
        request_bytes=16 * MIB,
        log_bytes=MIB,
    )


def _buffers(scenario: Scenario) -> tuple[bytes, bytes, bytes]:
    info = {"hook": scenario.hook, "request_id": scenario.request_id, "scope": scenario.scope, "plugin": SLUG}
    if scenario.raw is not None:
        value = data(scenario.raw)
    else:
        value = write({"steps": read(scenario.steps)} if scenario.steps is not None else read(scenario.value or ""))
    return value, write(read(scenario.context)), write(info)


def _answer(exchange: Exchange | None) -> tuple[int, bytes, bytes]:
    assert exchange is not None
    return exchange.code, data(exchange.head), data(exchange.body)


# ── what came of it ──────────────────────────────────────────────────────────────────────────────


def _seen(step: _core.Completed | _core.Trapped, logs: list[tuple[int, str]]) -> Seen:
    named = [(LEVELS[level], text) for level, text in logs]
    if isinstance(step, _core.Completed):
        return Seen(step.output, None, named)
    return Seen(None, Trap(step.cause, step.limit, step.detail), named)


def _call_problem(expected: Exchange | None, call: _core.Suspended) -> str | None:
    if expected is None:
        return f"it calls {call.call} with {shown(call.parts)}, and no more calls are expected"
    if (expected.import_, expected.number) != (call.call, call.number):
        return f"it calls {call.call} with number {call.number}, not {expected.import_} with {expected.number}"
    if len(expected.parts) != len(call.parts):
        return f"{call.call} has {len(call.parts)} parts, not {len(expected.parts)}"
    return next(filter(None, _part_problems(expected, call)), None)


def _part_problems(expected: Exchange, call: _core.Suspended) -> Iterator[str | None]:
    for place, (written, found) in enumerate(zip(expected.parts, call.parts, strict=True)):
        where = f"part {place} of {call.call}"
        if _JSON_PARTS.get(call.call) == place:
            yield _json_problem(call.call, written if isinstance(written, str) else "", found, where)
        elif data(written) != found:
            yield f"{where} is {shown(found)}, not {shown(data(written))}"


def _json_problem(name: str, expected: str, found: bytes, where: str) -> str | None:
    try:
        value: Any = json.loads(found or _EMPTY.get(name, ""))
    except ValueError as error:
        return f"{where} is no JSON ({error}): {shown(found)}"
    if name == "host_http_request" and isinstance(value, dict):
        value.setdefault("headers", [])
    return difference(read(expected), value, where)


def _unasked(left: Iterator[Exchange], seen: Seen) -> Iterator[str]:
    if seen.trap is None and (exchange := next(left, None)) is not None:
        yield f"it never called {exchange.import_}"
