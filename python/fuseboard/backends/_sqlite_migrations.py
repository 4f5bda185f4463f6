"""A plugin's migrations in SQLite: which were applied, and those that are missing, one statement after the other.

Rules:
* What is missing is applied as one: all of it, or nothing.
* A migration that was applied is never another one: its checksum is looked at.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends._database import LONGEST_STATEMENT
from fuseboard.backends._sqlite_connection import Connection

if TYPE_CHECKING:
    from fuseboard.backends import Migration

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS fuseboard_migrations (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,
    applied TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
)
"""
_PART: Final = re.compile(
    r"""'(?:[^']|'')*(?:'|\Z)|"(?:[^"]|"")*(?:"|\Z)|`(?:[^`]|``)*(?:`|\Z)|\[[^\]]*(?:\]|\Z)|--[^\n]*|/\*.*?(?:\*/|\Z)|;""",
    re.DOTALL,
)
_MOST_PARTS: Final = 1_000
_LONGEST: Final = LONGEST_STATEMENT
_APPLIED: Final = "SELECT number, name, checksum FROM fuseboard_migrations ORDER BY number"
_RECORD: Final = "INSERT INTO fuseboard_migrations (number, name, checksum) VALUES ($1, $2, $3)"


def check_applied(connection: Connection, migrations: Sequence[Migration]) -> None:
    """See that a version of a plugin fits what was applied.

    Raises:
        BackendError: others were applied than these.
    """
    applied = connection.ours(_APPLIED)
    if len(applied) > len(migrations):
        raise BackendError(
            f"{len(applied)} migrations were applied, and this version of the plugin has {len(migrations)}: "
            "load the newer version, or remove its data"
        )
    for migration, (number, name, checksum) in zip(migrations, applied, strict=False):
        if checksum != migration.checksum:
            was = f"{number:04}_{name}.sql"
            raise BackendError(f"migration {was} was changed after it was applied: make the change in a new one")


def missing(connection: Connection, migrations: Sequence[Migration]) -> Sequence[Migration]:
    """Return the migrations that weren't applied yet."""
    return migrations[len(connection.ours(_APPLIED)) :]


def try_out(migrations: Sequence[Migration], deadline: float) -> None:
    """Apply migrations to an empty database, which is then forgotten.

    Raises:
        BackendError: one fails.
    """
    connection = Connection(":memory:")
    try:
        run(connection, migrations, deadline)
    finally:
        connection.close()


def apply(connection: Connection, migrations: Sequence[Migration], deadline: float) -> None:
    """Apply migrations and note that they are; who calls has begun a transaction.

    Raises:
        BackendError: one fails.
    """
    run(connection, migrations, deadline)
    for migration in migrations:
        connection.ours(_RECORD, {"1": migration.number, "2": migration.name, "3": migration.checksum})


def run(connection: Connection, migrations: Sequence[Migration], deadline: float) -> None:
    """Run migrations, and note nothing.

    Raises:
        BackendError: one fails.
    """
    for migration in migrations:
        for statement in statements(migration.sql):
            _run(connection, migration, statement, deadline)
    connection.check_schema()


def _run(connection: Connection, migration: Migration, statement: str, deadline: float) -> None:
    try:
        connection.migrate(statement, deadline)
    except BackendTimeout:
        raise BackendTimeout(f"migration {migration} was still running at the deadline") from None
    except BackendError as error:
        raise BackendError(f"migration {migration}: {error.reason}", code=error.code) from error


def statements(sql: str) -> Iterator[str]:
    """Yield the statements of a text, cut where SQLite says that one ends: not in a string, a comment or a trigger.

    Raises:
        BackendError: one has too many semicolons: to look for its end takes the square of their number.
    """
    start = parts = 0
    for found in _PART.finditer(sql):
        if found.group() != ";":
            continue
        parts += 1
        if parts > _MOST_PARTS or found.end() - start > _LONGEST:
            raise BackendError(f"a statement has {_MOST_PARTS} semicolons and {_LONGEST} characters at most")
        if sqlite3.complete_statement(sql[start : found.end()]):
            yield sql[start : found.end()]
            start, parts = found.end(), 0
    if sql[start:].strip():
        yield sql[start:]
