"""How a plugin's SQLite file is opened: as a WAL, with our own tables in it, and the plugin's migrations applied.

Rules:
* A file is whole at every moment: what is made in it, is made in one transaction.
* Another process that is busy with it is waited for, until the deadline; no fork comes between the steps.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Final, TypeVar

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends import _sqlite_kv, _sqlite_migrations
from fuseboard.backends._fork_gate import fork_gate
from fuseboard.backends._sqlite import is_busy
from fuseboard.backends._sqlite_connection import PAGE_BYTES, Connection

if TYPE_CHECKING:
    from pathlib import Path

    from fuseboard.backends import Migration
    from fuseboard.backends._sqlite_files import File, Namespace

T = TypeVar("T")

FORMAT: Final = 1
"""The version of our own tables, kept as `user_version`."""

_ROOM_IN_A_ROW: Final = 4096
_LARGEST_LOG: Final = 16 << 20
_PAUSES: Final = (0.0005, 0.001, 0.002, 0.005)
_LONGEST_PAUSE: Final = 0.01
_ABOUT: Final = "CREATE TABLE fuseboard_about (namespace TEXT NOT NULL)"


@dataclass(frozen=True, slots=True)
class Settings:
    """How files are kept.

    Attributes:
        max_bytes: the most that a file may grow to.
        largest_of_ours: the most that a key with its value holds, in bytes.
        survives_power_loss: whether each commit waits for the disk.
    """

    max_bytes: int
    largest_of_ours: int
    survives_power_loss: bool

    def pragmas(self) -> tuple[str, ...]:
        """Return what a connection begins with."""
        return (
            "PRAGMA foreign_keys = ON",
            f"PRAGMA synchronous = {'FULL' if self.survives_power_loss else 'NORMAL'}",
            f"PRAGMA max_page_count = {max(1, self.max_bytes // PAGE_BYTES)}",
            f"PRAGMA journal_size_limit = {_LARGEST_LOG}",
        )


def opened(file: File, settings: Settings, migrations: Sequence[Migration], deadline: float) -> Connection:
    """Open a file; make it where it isn't there, and apply the migrations that are missing.

    Raises:
        BackendError: it can't be used.
    """
    return patiently(lambda: _opened(file, settings, migrations, deadline), deadline, time.sleep)


def patiently(work: Callable[[], T], deadline: float, pause: Callable[[float], None]) -> T:
    """Do what another process may be in the way of, until the deadline, with pauses in between.

    SQLite tells nobody when a file is free: whoever waits for another process has to look again.

    Raises:
        BackendTimeout: the other was in the way until the deadline.
    """
    for seconds in chain(_PAUSES, repeat(_LONGEST_PAUSE)):
        try:
            return work()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
        left = deadline - time.monotonic()
        if left <= 0:
            break
        pause(min(seconds, left))
    raise BackendTimeout("somebody else was using the database until the deadline")


def _opened(file: File, settings: Settings, migrations: Sequence[Migration], deadline: float) -> Connection:
    with fork_gate().working():
        connection = Connection(str(file.path), largest_of_ours=settings.largest_of_ours + _ROOM_IN_A_ROW)
        try:
            _set_up(connection, file, settings, deadline)
            _migrate(connection, migrations, deadline)
        except BaseException:
            connection.close()
            raise
        return connection


def _set_up(connection: Connection, file: File, settings: Settings, deadline: float) -> None:
    version = connection.ours("PRAGMA user_version", deadline=deadline)[0][0]
    if version > FORMAT:
        raise BackendError("the database was made by a newer version of Fuseboard")
    if version == 0:
        connection.ours(f"PRAGMA page_size = {PAGE_BYTES}")
    if connection.ours("PRAGMA journal_mode = WAL") != [("wal",)]:
        raise BackendError("the database's file system doesn't have what a write-ahead log needs")
    for pragma in settings.pragmas():
        connection.ours(pragma)
    if version == 0:
        with _transaction(connection):
            if connection.ours("PRAGMA user_version") == [(0,)]:
                _make(connection, file)


def _make(connection: Connection, file: File) -> None:
    for statement in (_ABOUT, _sqlite_migrations.SCHEMA, *_sqlite_kv.SCHEMA):
        connection.ours(statement)
    connection.ours("INSERT INTO fuseboard_about VALUES ($1)", {"1": json.dumps(file.namespace)})
    connection.ours(f"PRAGMA user_version = {FORMAT}")


def bring_up(connection: Connection, migrations: Sequence[Migration], deadline: float) -> None:
    """Apply the migrations that are missing to an open file, and see that no others were applied.

    Raises:
        BackendError: one fails, or others were applied.
    """
    _sqlite_migrations.check_applied(connection, migrations)
    patiently(lambda: _migrate(connection, migrations, deadline), deadline, time.sleep)


def namespace(path: Path, deadline: float) -> Namespace | None:
    """Return whose file this is, or `None` where it isn't made yet.

    Raises:
        BackendError: it can't be read.
    """
    return patiently(lambda: _namespace(path), deadline, time.sleep)


def _namespace(path: Path) -> Namespace | None:
    with fork_gate().working():
        connection = Connection(str(path))
        try:
            if connection.ours("PRAGMA user_version") == [(0,)]:
                return None
            plugin, scope = json.loads(connection.ours("SELECT namespace FROM fuseboard_about")[0][0])
            return plugin, scope
        finally:
            connection.close()


def _migrate(connection: Connection, migrations: Sequence[Migration], deadline: float) -> None:
    with fork_gate().working():
        if not _sqlite_migrations.missing(connection, migrations):
            return
        with _transaction(connection):
            _sqlite_migrations.apply(connection, _sqlite_migrations.missing(connection, migrations), deadline)


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    """One transaction that writes, from its beginning on; undone where it is left by an exception."""
    connection.ours("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.undo()
        raise
    connection.ours("COMMIT")
