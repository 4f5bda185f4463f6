"""Outcomes as rows: what became of each invocation, and every meter against its ceiling as a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from rich.table import Table
from rich.text import Text

import fuseboard as fb
from fuseboard import Limit

INDENT: Final = 3
ATTACK: Final = "attack."
METERS: Final = {
    Limit.MEMORY: "mem",
    Limit.FUEL: "fuel",
    Limit.TIMEOUT: "time",
    Limit.HTTP_FETCHES: "http",
    Limit.DB_QUERIES: "db",
    Limit.KV_WRITE_BYTES: "kv",
    "functions.mail.send": "mail",
}
"""The limits in the order of their bars, with their headings."""

_NARROW: Final = 100
_WIDE: Final = 116
_BAR_WIDTHS: Final = range(2, 9)
_SECOND: Final = 1_000
_WORDS_FIT: Final = 4
_ELAPSED_WIDTH: Final = 4
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_KIB: Final = 1 << 10
_MIB: Final = 1 << 20


def bar(meter: fb.Meter, width: int, style: str) -> Text:
    """Return what was used of a ceiling as a bar, in eighths of a character; anything above zero shows."""
    share = min(meter.used / meter.ceiling, 1) if meter.ceiling else 1.0
    eighths = max(int(share * width * 8), 1 if meter.used else 0)
    full, rest = divmod(eighths, 8)
    drawn = "█" * full + (_EIGHTHS[rest] if rest else "")
    return Text.assemble((drawn, style), ("·" * (width - len(drawn)), "dim"))


def quantity(meter: fb.Meter) -> str:
    """Return a ceiling for people, e.g. `64 MiB`."""
    match meter.unit:
        case "bytes" if meter.ceiling % _MIB == 0:
            return f"{meter.ceiling // _MIB} MiB"
        case "bytes" if meter.ceiling % _KIB == 0:
            return f"{meter.ceiling // _KIB} KiB"
        case "ms":
            return f"{meter.ceiling:,} ms"
        case _:
            return f"{meter.ceiling:,}"


def ending(outcome: fb.Outcome) -> str:
    """Return which limit tripped, or why the plugin ended otherwise; nothing where all is well."""
    match outcome:
        case fb.Trapped(trap=fb.Trap(limit=str(limit))):
            return limit
        case fb.Trapped(trap=trap):
            return str(trap.cause)
        case fb.Skipped(reason=reason):
            return str(reason)
        case _:
            return ""


def board(outcomes: Iterable[fb.Outcome], width: int) -> Table:
    """Return the table of some outcomes for a terminal of this width, less the indent.

    Under 100 columns the plugin's column is left out, and under 116 the prefix that all attacks have.
    """
    shown = list(outcomes)
    columns = _columns(width, has_attacks=any(each.hook.startswith(ATTACK) for each in shown))
    cells = [[cell(outcome) for cell in columns.values()] for outcome in shown]
    bar_width = _bar_width(width, columns, cells)

    table = Table.grid(padding=(0, 1))
    for _ in columns:
        table.add_column(no_wrap=True)
    for _ in METERS:
        table.add_column(no_wrap=True, width=bar_width)
    table.add_column(no_wrap=True, justify="right")
    table.add_row(*(Text(heading, "dim") for heading in (*columns, *_bar_headings(bar_width), "ms")))
    for outcome, row in zip(shown, cells, strict=True):
        table.add_row(*row, *_bars(outcome, bar_width), Text(elapsed(outcome.elapsed_ms)))
    return table


def elapsed(milliseconds: float) -> str:
    """Return milliseconds in at most four characters, up to ten seconds."""
    return f"{milliseconds:.2f}"[:4].removesuffix(".") if milliseconds < _SECOND else f"{milliseconds:.0f}"


_Cell = Callable[[fb.Outcome], Text]


def _columns(width: int, *, has_attacks: bool) -> dict[str, _Cell]:
    is_short = has_attacks and width < _WIDE
    columns: dict[str, _Cell] = {
        f"hook {ATTACK}" if is_short else "hook": lambda o: Text(o.hook.removeprefix(ATTACK) if is_short else o.hook),
        "plugin": lambda outcome: Text(outcome.plugin),
        "outcome": _outcome_cell,
        "tripped": _tripped_cell,
    }
    if width < _NARROW:
        del columns["plugin"]
    return columns


def _outcome_cell(outcome: fb.Outcome) -> Text:
    name = type(outcome).__name__.lower()
    return Text(name, "green" if isinstance(outcome, fb.Completed) else "red")


def _tripped_cell(outcome: fb.Outcome) -> Text:
    what = ending(outcome)
    if what not in outcome.meters:
        return Text(what or "-", "yellow" if what else "dim")
    return Text.assemble((what, "bold red"), f" {quantity(outcome.meters[what])}")


def _bars(outcome: fb.Outcome, width: int) -> list[Text]:
    tripped = ending(outcome)
    return [
        bar(outcome.meters[limit], width, "bold red" if limit == tripped else "cyan")
        if limit in outcome.meters
        else Text()
        for limit in METERS
    ]


def _bar_headings(width: int) -> list[str]:
    return [heading if width >= _WORDS_FIT else heading[:2] for heading in METERS.values()]


def _bar_width(width: int, columns: Iterable[str], cells: list[list[Text]]) -> int:
    longest = [max(map(len, column)) + 1 for column in zip(columns, *cells, strict=True)]
    taken = INDENT + sum(longest) + len(METERS) + _ELAPSED_WIDTH
    return min(max((width - taken) // len(METERS), _BAR_WIDTHS[0]), _BAR_WIDTHS[-1])
