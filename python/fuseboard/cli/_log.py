"""What is logged while a plugin is run: its own lines, and the host's word on services that failed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from rich.text import Text

from fuseboard._compiler import LOAD_LOGGER
from fuseboard._outcome import Completed, Skipped, Trap
from fuseboard.cli._terminal import notices, plain, say

_STYLES: Final = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}


class LogLine(NamedTuple):
    """One record.

    Attributes:
        level: the level's name in lower case.
        text: the message, and below it the traceback of what an application's service raised.
    """

    level: str
    text: str


class _Handler(logging.Handler):
    def __init__(self, take: Callable[[LogLine], object]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        if not _tells_outcome(record):
            self._take(LogLine(record.levelname.lower(), self.format(record)))


@contextmanager
def watched_log(take: Callable[[LogLine], object]) -> Iterator[None]:
    """Hand each line to `take` as it comes, and to none of the root's handlers."""
    with _taken("fuseboard", take), _level("fuseboard.plugin", logging.DEBUG):
        yield


@contextmanager
def shown_loads() -> Iterator[None]:
    """Show on standard error what loads take that compile."""
    with _taken(LOAD_LOGGER, show_line), _level(LOAD_LOGGER, logging.INFO):
        yield


@contextmanager
def _taken(name: str, take: Callable[[LogLine], object]) -> Iterator[None]:
    """Hand what a logger gets to `take`, and to nobody above it."""
    logger, handler = logging.getLogger(name), _Handler(take)
    was = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = was


@contextmanager
def _level(name: str, level: int) -> Iterator[None]:
    logger = logging.getLogger(name)
    was = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(was)


def show_line(line: LogLine) -> None:
    """Print a record to standard error."""
    console = notices()
    first, *rest = line.text.split("\n")
    say(console, Text.assemble((f"{line.level:<8} ", _STYLES.get(line.level, "")), plain(first)))
    for each in rest:
        say(console, plain(f"         {each}", "dim"))


def _tells_outcome(record: logging.LogRecord) -> bool:
    """Whether the host tells what the command is about to show."""
    return isinstance(record.args, tuple) and any(isinstance(each, Completed | Skipped | Trap) for each in record.args)
