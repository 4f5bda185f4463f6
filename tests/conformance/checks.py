"""What came of a scenario, held to what must come of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .notation import data, difference, read, shown
from .scenario import Scenario, Trap

LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class Seen:
    """How a guest ended.

    Attributes:
        output: what it wrote, raw; `None` where it left the value unchanged or trapped.
        logs: level and text.
    """

    output: bytes | None
    trap: Trap | None
    logs: list[tuple[str, str]]


def problems(scenario: Scenario, seen: Seen) -> Iterator[str]:
    """Say what isn't as the scenario has it."""
    if scenario.or_fails and seen.trap is not None and seen.trap.cause == "failed":
        return
    yield from filter(None, (_trap_problem(scenario.trap, seen.trap), _log_problem(scenario, seen.logs)))
    if scenario.trap is None and seen.trap is None:
        yield from filter(None, [_output_problem(scenario, seen.output)])


def _trap_problem(expected: Trap | None, seen: Trap | None) -> str | None:
    if seen is None or expected is None:
        return None if seen is expected else f"it trapped: {seen}" if seen else f"it didn't trap: {expected}"
    if expected.detail not in seen.detail:
        return f"the trap's detail is {shown(seen.detail)}, without {expected.detail!r}"
    is_same = (expected.cause, expected.limit) == (seen.cause, seen.limit)
    is_during = expected.host_call is None or expected.host_call == seen.host_call
    return None if is_same and is_during else f"it trapped otherwise: {seen}"


def _log_problem(scenario: Scenario, logs: list[tuple[str, str]]) -> str | None:
    if scenario.logs is None:
        return f"it logged {shown(logs)}" if logs and scenario.trap is None else None
    return difference(read(scenario.logs), [list(record) for record in logs], "the log")


def _output_problem(scenario: Scenario, output: bytes | None) -> str | None:
    if scenario.unchanged or output is None:
        return None if scenario.unchanged and output is None else f"the output is {shown(output)}"
    if scenario.output_bytes is not None:
        expected = data(scenario.output_bytes)
        return None if output == expected else f"the output is {shown(output)}, not {shown(expected)}"
    expected_json = {"results": read(scenario.results)} if scenario.results else read(scenario.output or "")
    try:
        found: Any = json.loads(output)
    except ValueError as error:
        return f"the output is no JSON ({error}): {shown(output)}"
    return difference(expected_json, found)
