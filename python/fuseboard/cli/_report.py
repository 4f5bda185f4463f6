"""What `fuseboard run` tells of an invocation: the outcome, the value before and after, and every meter."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec
from rich.console import Console, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fuseboard._errors import HookTypeError
from fuseboard._hooks import Hook
from fuseboard._outcome import Completed, Meter, Outcome, Skipped, Trap, Trapped
from fuseboard._plugin import Plugin
from fuseboard.cli._log import LogLine
from fuseboard.cli._terminal import facts, lines, plain, say

_BAR_WIDTH: Final = 20
_LONGEST_SHOWN: Final = 2_000
_WORDS: Final = {Completed: ("completed", "green"), Trapped: ("trapped", "red"), Skipped: ("skipped", "yellow")}


class Report(NamedTuple):
    """One invocation, told.

    Attributes:
        hook: what the plugin was run on.
        value: the hook's value before.
        outcome: what became of it.
        replaced: the application's own plugin of that slug, which was unloaded.
        log: what was logged, where it wasn't shown as it came.
    """

    hook: Hook
    value: Any
    outcome: Outcome
    replaced: Plugin | None
    log: list[LogLine]

    def data(self) -> dict[str, Any]:
        """Return the JSON object."""
        outcome = self.outcome
        names = ("plugin", "hook", "request_id", "scope", "elapsed_ms")
        return {
            "outcome": _WORDS[type(outcome)][0],
            **{name: getattr(outcome, name) for name in names},
            "value_before": _value_data(self.hook, self.value),
            **_ending_data(self.hook, outcome),
            "meters": {name: meter._asdict() for name, meter in outcome.meters.items()},
            "replaced": None if self.replaced is None else self.replaced.version,
            "log": [line._asdict() for line in self.log],
        }

    def show(self, console: Console) -> None:
        """Print it for people."""
        word, style = _WORDS[type(self.outcome)]
        about = f": plugin {self.outcome.plugin} on hook {self.outcome.hook} in {self.outcome.elapsed_ms:,.2f} ms"
        say(console, Text.assemble((word, f"bold {style}"), plain(about)))
        console.print(facts(self._rows()))
        console.print(_meter_table(self.outcome))

    def _rows(self) -> Iterator[tuple[str, RenderableType]]:
        yield "request", plain(self.outcome.request_id)
        if self.outcome.scope is not None:
            yield "scope", plain(self.outcome.scope)
        match self.outcome:
            case Trapped(trap=trap):
                yield from _trap_rows(trap)
            case Skipped(reason=reason):
                yield "reason", plain(reason)
        yield "value before", _value_text(self.hook, self.value)
        if isinstance(self.outcome, Completed):
            yield (
                "value after",
                _value_text(self.hook, self.outcome.value) if self.outcome.changed else plain("unchanged"),
            )


# ── the end ──────────────────────────────────────────────────────────────────────────────────────


def _ending_data(hook: Hook, outcome: Outcome) -> dict[str, Any]:
    match outcome:
        case Completed(value=value, changed=changed):
            return {"value_after": _value_data(hook, value), "changed": changed}
        case Trapped(trap=trap):
            return {"trap": _trap_data(trap)}
        case Skipped(reason=reason):
            return {"reason": reason}


def _trap_data(trap: Trap) -> dict[str, Any]:
    names = ("limit", "cause", "detail", "host_call", "http_requests", "deadline_shared")
    frames = [frame._asdict() for frame in trap.backtrace]
    return {**{name: getattr(trap, name) for name in names}, "backtrace": frames}


def _trap_rows(trap: Trap) -> Iterator[tuple[str, RenderableType]]:
    yield "cause", plain(trap.cause)
    if trap.limit is not None:
        yield "limit", plain(trap.limit)
    if trap.deadline_shared:
        yield "deadline", plain("--timeout-ms cut the time below the plugin's own limit")
    if trap.detail:
        yield "detail", plain(trap.detail)
    if trap.host_call is not None:
        yield "in flight", plain(trap.host_call)
    if trap.http_requests:
        yield "sent already", lines(trap.http_requests)
    if trap.backtrace:
        yield "backtrace", lines(trap.backtrace)


# ── values ───────────────────────────────────────────────────────────────────────────────────────


def _value_data(hook: Hook, value: Any) -> Any:
    if isinstance(value, bytes) and hook.value_type is bytes:
        return _bytes_data(value)
    try:
        return None if value is None else msgspec.json.decode(hook.encode(value))
    except (HookTypeError, msgspec.DecodeError):
        return repr(value)


def _bytes_data(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def _value_text(hook: Hook, value: Any) -> Text:
    text = json.dumps(_value_data(hook, value), ensure_ascii=False)
    if len(text) <= _LONGEST_SHOWN:
        return plain(text)
    rest = f" … ({len(text):,} characters; --json shows all)"
    return Text.assemble(plain(text[:_LONGEST_SHOWN]), (rest, "dim"), overflow="fold")


# ── meters ───────────────────────────────────────────────────────────────────────────────────────


def _meter_table(outcome: Outcome) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=True)
    table.add_column("limit")
    table.add_column("used", justify="right")
    table.add_column("ceiling", justify="right")
    table.add_column("unit")
    table.add_column("", width=_BAR_WIDTH)
    tripped = outcome.trap.limit if isinstance(outcome, Trapped) else None
    for name, meter in outcome.meters.items():
        table.add_row(*_meter_cells(name, meter, tripped=name == tripped))
    return table


def _meter_cells(name: str, meter: Meter, *, tripped: bool) -> tuple[RenderableType, ...]:
    used = f"{meter.used:,.2f}" if meter.unit == "ms" else f"{meter.used:,.0f}"
    return (
        plain(f"{name} (tripped)" if tripped else name, "bold red" if tripped else ""),
        plain(used if meter.exact else f"≥ {used}"),
        plain(f"{meter.ceiling:,}"),
        plain(meter.unit),
        _bar(meter, "red" if tripped else "cyan"),
    )


def _bar(meter: Meter, style: str) -> ProgressBar:
    total = max(meter.ceiling, 1)
    return ProgressBar(total, meter.used, _BAR_WIDTH, style="dim", complete_style=style, finished_style=style)
