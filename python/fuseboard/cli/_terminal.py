"""What reaches the terminal, and what all commands have in common there.

Rules:
* No word of a plugin, of its manifest or of an application is markup or a control character: all text goes
  through `plain` or `printable`, JSON is ASCII.
* The result goes to standard output, whatever comes before it to standard error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from fuseboard._text import printable

F = TypeVar("F", bound=Callable[..., Any])

NOTHING: Final = "none"
INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as shells have it."""


class CannotRun(click.ClickException):
    """What was asked for can't be done; each line says why. Exits like wrong usage does."""

    exit_code = 2

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(map(printable, lines)))


def wrong_option(option: str, problem: str) -> click.BadParameter:
    """Return the error for an option's value."""
    return click.BadParameter(printable(problem), param_hint=option)


def plain(text: object, style: str = "") -> Text:
    """Return text by anyone as one line that is shown as it is."""
    return Text(printable(str(text)), style, overflow="fold")


def lines(texts: Iterable[object]) -> Text:
    """Return one line for each text, or the word for nothing."""
    return Text("\n", overflow="fold").join(map(plain, texts)) or plain(NOTHING, "dim")


def names(texts: Iterable[object]) -> Text:
    """Return all texts on one line, or the word for nothing."""
    return Text(", ", overflow="fold").join(map(plain, texts)) or plain(NOTHING, "dim")


def say(console: Console, text: Text) -> None:
    """Print one line that isn't broken, however long it is."""
    console.print(text, soft_wrap=True)


def output() -> Console:
    """Return the console for results."""
    return Console(markup=False, emoji=False, highlight=False)


def notices() -> Console:
    """Return the console for what comes before the result."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def facts(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    """Return a table of names and what is said of them."""
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(Text(f"  {name}", "bold"), value)
    return table


def print_json(data: object) -> None:
    """Print one JSON object, in ASCII."""
    click.echo(json.dumps(data, indent=2))


def plugin_argument(command: F) -> F:
    """Give a command its argument DIR."""
    return click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))(command)


def json_option(command: F) -> F:
    """Give a command its option --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")(command)


def host_option(help_text: str, *, required: bool = False) -> Callable[[F], F]:
    """Return what gives a command its option --host."""
    return click.option("--host", metavar="MODULE:ATTR", required=required, help=help_text)
