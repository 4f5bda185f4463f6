"""SQLite in memory, one database for each plugin and scope.

Rules:
* A session takes its namespace's lock at its first statement, and holds it until it ends.
* A forked child begins empty: SQLite's connections can't be taken along.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard._limits import MIB
from fuseboard.backends import Answer, AnswerCode, DbExec, DbQuery, HostCall, Identity, Migration
from fuseboard.backends._database import Parameter
from fuseboard.backends._fork_gate import fork_gate
from fuseboard.backends._locks import OwnedLock
from fuseboard.backends._owned_session import OwnedSession, unserved
from fuseboard.backends._sqlite_connection import PAGE_BYTES, Connection, check_unbroken
from fuseboard.backends._sqlite_migrations import run, try_out

_Namespace = tuple[str, str | None]

_PATIENCE_SECONDS: Final = 5.0


class MemoryDb:
    """SQLite in memory: one database for each plugin and scope.

    It keeps the contract of databases, so that what is tested with it runs on files too; tables are made by migrations,
    or by `rows`. A session is one transaction, from its first statement on, alone in its namespace. Foreign keys are
    enforced. A value holds at most 1 MiB.

    Args:
        max_bytes: the most that one namespace's database may grow to; more is answered `TOO_LARGE`.
    """

    def __init__(self, *, max_bytes: int = 64 * MIB) -> None:
        self._pages = max(1, max_bytes // PAGE_BYTES)
        self._databases: dict[_Namespace, _Database] = {}
        self._migrations: dict[str, tuple[Migration, ...]] = {}
        self._inherited: list[dict[_Namespace, _Database]] = []
        self._lock = Lock()
        fork_gate()

    def session(self, identity: Identity) -> _DbSession:
        """Return a session on the identity's namespace."""
        return _DbSession(self._database(identity.plugin, identity.scope), writes=identity.grants.db == "write")

    def prepare(self, plugin: str, migrations: tuple[Migration, ...]) -> None:
        """Apply a plugin's migrations to its databases, and to those that begin later; none change nothing.

        Raises:
            BackendError: one fails, or an invocation held a database for 5 seconds.
        """
        if not migrations:
            return
        deadline = time.monotonic() + _PATIENCE_SECONDS
        try_out(migrations, deadline)
        with self._lock:
            self._migrations[plugin] = migrations
            existing = [database for (owner, _), database in self._databases.items() if owner == plugin]
        for database in existing:
            with _alone(database, plugin):
                database.bring_up(migrations, deadline)

    def rows(
        self, plugin: str, sql: str, parameters: Sequence[Parameter] = (), *, scope: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement of the application's own outside any session, unrestricted, and return its rows.

        Raises:
            BackendTimeout: an invocation held the database for 5 seconds.
            sqlite3.Error: the statement failed.
        """
        values = {str(place): value for place, value in enumerate(parameters, 1)}
        database = self._database(plugin, scope)
        with _alone(database, plugin):
            return database.connection.operators(sql, values)

    def close(self) -> None:
        """Forget all data and close the connections; no session may be open."""
        with self._lock:
            for database in self._databases.values():
                database.connection.close()
            self._databases.clear()

    def after_fork_in_child(self) -> None:
        """Begin with empty databases. The inherited connections stay open: a thread that isn't here may hold them."""
        self._inherited.append(self._databases)
        self._databases = {}
        self._lock = Lock()

    def _database(self, plugin: str, scope: str | None) -> _Database:
        with self._lock:
            found = self._databases.get((plugin, scope))
            if found is None:
                found = _Database(_memory(self._pages))
                found.bring_up(self._migrations.get(plugin, ()), time.monotonic() + _PATIENCE_SECONDS)
                self._databases[plugin, scope] = found
            return found


@dataclass(slots=True)
class _Database:
    """One namespace's database, the lock of whoever writes, and how many migrations were applied."""

    connection: Connection
    lock: OwnedLock = field(default_factory=OwnedLock)
    applied: int = 0

    def bring_up(self, migrations: tuple[Migration, ...], deadline: float) -> None:
        run(self.connection, migrations[self.applied :], deadline)
        self.applied = max(self.applied, len(migrations))


def _memory(pages: int) -> Connection:
    connection = Connection(":memory:")
    for pragma in ("foreign_keys = ON", f"page_size = {PAGE_BYTES}", f"max_page_count = {pages}"):
        connection.ours(f"PRAGMA {pragma}")
    return connection


@contextmanager
def _alone(database: _Database, plugin: str) -> Iterator[None]:
    owner = object()
    if not database.lock.take(owner, _PATIENCE_SECONDS):
        raise BackendTimeout(f"an invocation of {plugin!r} has held its database for {_PATIENCE_SECONDS} seconds")
    database.connection.is_given_up = False  # which a session before may have been
    try:
        yield
    finally:
        database.lock.give_back(owner)


class _DbSession(OwnedSession):
    def __init__(self, database: _Database, *, writes: bool) -> None:
        super().__init__(database.lock)
        self._connection = database.connection
        self._writes = writes

    def _answer(self, call: HostCall, deadline: float) -> Answer:
        match call:
            case DbQuery():
                self._begin(deadline)
                return self._connection.query(call, deadline)
            case DbExec() if self._writes:
                self._begin(deadline)
                return self._connection.exec(call, deadline)
            case DbExec():
                raise BackendError("writing to the database is not granted", code=AnswerCode.DENIED)
            case _:
                raise unserved("MemoryDb", call)

    def _stop(self) -> None:
        super()._stop()
        self._lock.while_held_by(self, self._connection.give_up)  # else it might be the next session's statement

    def _begin(self, deadline: float) -> None:
        if self._lock.is_held_by(self):
            check_unbroken(self._connection)
            return
        self._take_lock(deadline)
        self._connection.is_given_up = False  # which a session before may have been
        self._connection.ours("BEGIN IMMEDIATE")

    def _commit(self, deadline: float) -> None:
        if self._lock.is_held_by(self):
            check_unbroken(self._connection)
            self._connection.ours("COMMIT", deadline=deadline)

    def _forget(self) -> None:
        if self._lock.is_held_by(self):
            self._connection.undo()
