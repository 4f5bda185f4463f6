"""All ways to an inner address or another plugin's data that tests try, in one table.

`PYTHONPATH=tests python tests/ways.py` prints it. Each way is tried, and refused, in the module that has it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import test_addresses
import test_http
import test_kv_ways
import test_postgres_ways
import test_sqlite_ways

if TYPE_CHECKING:
    from collections.abc import Iterable

WAYS: Final[dict[str, Iterable[str]]] = {
    "an inner address": test_addresses.WAYS,
    "an inner address, in another spelling": test_addresses.SPELLINGS,
    "a URL that says one host and means another": test_addresses.UNUSABLE,
    "a server that isn't who it says": test_http.IMPOSTORS,
    "a request that another one hides in": test_http.SPLITTING,
    "SQL in SQLite": test_sqlite_ways.WAYS,
    "a scope's name, in SQLite": test_sqlite_ways.NAMES,
    "a key, in SQLite": test_sqlite_ways.KEYS,
    "SQL in PostgreSQL": test_postgres_ways.WAYS,
    "a migration in PostgreSQL": test_postgres_ways.HOSTILE,
    "a plugin's, a scope's or a key's name": test_kv_ways.WAYS,
}


def table() -> str:
    """Return the table, as Markdown."""
    rows = [(by, way) for by, ways in WAYS.items() for way in ways]
    lines = [f"| {by} | {_printable(way)} |" for by, way in rows]
    return "\n".join(["| by way of | which |", "|---|---|", *lines, "", f"{len(rows)} ways"])


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
