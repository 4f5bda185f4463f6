"""Databases for plugins: SQLite, which is embedded, and PostgreSQL.

Rules:
* Both keep one contract, so that a plugin that runs on one runs on the other: docs/concepts/databases.md.
* `Sqlite` needs nothing beside Python. `Postgres` and `AsyncPostgres` need psycopg, which is imported with them only.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from fuseboard._arguments import check_kind, check_path, check_whole, lasting_path
from fuseboard._errors import BackendError, BackendTimeout, UsageError
from fuseboard._limits import MIB
from fuseboard._private_folder import FolderUnusableError, PrivateFolder
from fuseboard.backends import _sqlite_kv
from fuseboard.backends._kv import MAX_KEY_BYTES, MAX_KV_BYTES, MAX_VALUE_BYTES, KvCaps
from fuseboard.backends._sqlite_files import Files
from fuseboard.backends._sqlite_migrations import try_out
from fuseboard.backends._sqlite_opening import Settings, bring_up, namespace, opened, patiently
from fuseboard.backends._sqlite_session import SqliteSession

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fuseboard.backends import Identity, Migration
    from fuseboard.backends._database import Parameter
    from fuseboard.backends._postgres import AsyncPostgres, Postgres
    from fuseboard.backends._sqlite_connection import Connection
    from fuseboard.backends._sqlite_files import File

__all__ = ["AsyncPostgres", "Postgres", "Sqlite"]

_PATIENCE_SECONDS: Final = 5.0
_MIGRATION_SECONDS: Final = 60.0
_MOST_BYTES: Final = 1 << 40
_MOST_CONNECTIONS: Final = 10_000


class Sqlite:
    """SQLite files in one folder: one for each plugin and scope, for its tables and for its keys and values.

    Pass the same object as `db` and `kv`: what an invocation wrote to both is committed as one. Any number of processes
    may use a folder, on one machine. A commit outlives the process, whatever ends it.

    Args:
        folder: where the files are; made where it isn't there, for this user alone.
        max_bytes: the most that one file grows to, 256 MiB by default; more is answered `TOO_LARGE`.
        max_key_bytes: the most that a key holds.
        max_value_bytes: the most that the value of a key holds.
        max_kv_bytes: the most that all keys and values of one plugin and scope hold, 64 MiB by default.
        max_connections: how many connections are open at once, of up to three file handles each; more than
            invocations run at once, or some wait. Those that nobody uses are closed for others, longest unused first.
        survives_power_loss: have each commit wait for the disk. Without it, the last commits before a power loss may be
            gone, whole ones; never after the end of a process.

    Raises:
        UsageError: an argument is out of range, or the folder is another user's, or open to others.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        max_bytes: int = 256 * MIB,
        max_key_bytes: int = MAX_KEY_BYTES,
        max_value_bytes: int = MAX_VALUE_BYTES,
        max_kv_bytes: int = MAX_KV_BYTES,
        max_connections: int = 128,
        survives_power_loss: bool = False,
    ) -> None:
        check_whole("max_bytes", max_bytes, _MOST_BYTES, MIB)
        check_whole("max_connections", max_connections, _MOST_CONNECTIONS)
        check_kind("survives_power_loss", survives_power_loss, bool)
        self._caps = KvCaps(max_key_bytes=max_key_bytes, max_value_bytes=max_value_bytes, max_kv_bytes=max_kv_bytes)
        self._settings = Settings(max_bytes, max_key_bytes + max_value_bytes, survives_power_loss)
        self._migrations: dict[str, tuple[Migration, ...]] = {}
        self._files = Files(_usable(folder), max_connections, self._opened)

    def session(self, identity: Identity) -> SqliteSession:
        """Return a session on the identity's file, without I/O."""
        file = self._files.file(identity.plugin, identity.scope)
        return SqliteSession(self._files, file, self._caps, writes=identity.grants.db == "write")

    def prepare(self, plugin: str, migrations: tuple[Migration, ...]) -> None:
        """Apply a plugin's migrations to all of its files; files that are made later get them when they are made.

        Each file gets all that it is missing, or nothing. Where one fails, those before it have theirs. No migrations
        change nothing: a plugin that is loaded from bytes has those that it was prepared with before.

        Raises:
            BackendError: a migration fails, was changed after it was applied, or isn't among these any more.
        """
        if not migrations:
            return
        try_out(migrations, time.monotonic() + _MIGRATION_SECONDS)
        before = self._migrations.get(plugin, ())
        self._migrations[plugin] = migrations
        try:
            for scope in self.scopes(plugin):
                with self._alone(self._files.file(plugin, scope), plugin) as connection:
                    bring_up(connection, migrations, time.monotonic() + _MIGRATION_SECONDS)
        except BaseException:
            self._migrations[plugin] = before
            raise

    def rows(
        self, plugin: str, sql: str, parameters: Sequence[Parameter] = (), *, scope: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement of the application's own outside any session, unrestricted, and return its rows.

        Args:
            plugin: whose database.
            sql: the statement; what it writes is committed. Its parameters are `$1`, `$2` and so on.
            parameters: their values.
            scope: the scope.

        Raises:
            BackendTimeout: it writes, and others were writing for 5 seconds.
            BackendError: the file can't be used.
            sqlite3.Error: the statement failed.
        """
        values = {str(place): value for place, value in enumerate(parameters, 1)}
        deadline = time.monotonic() + _PATIENCE_SECONDS
        with self._lent(self._files.file(plugin, scope), deadline) as connection:
            return patiently(lambda: connection.operators(sql, values), deadline, time.sleep)

    def items(self, plugin: str, *, scope: str | None = None) -> dict[bytes, bytes]:
        """Return a copy of all keys and values that are committed.

        Raises:
            BackendError: the file can't be used.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        with self._lent(self._files.file(plugin, scope), deadline) as connection:
            return patiently(lambda: _sqlite_kv.items(connection), deadline, time.sleep)

    def scopes(self, plugin: str) -> tuple[str | None, ...]:
        """Return the scopes that a plugin has a file for, in the order of their files' names.

        Raises:
            BackendError: a file can't be read.
        """
        deadline = time.monotonic() + _MIGRATION_SECONDS
        namespaces = [namespace(path, deadline) for path in self._files.existing(plugin)]
        return tuple(found[1] for found in namespaces if found is not None and found[0] == plugin)

    def delete(self, plugin: str, *, scope: str | None = None) -> None:
        """Remove the file of a plugin and scope, where it is there. No other process may be using it.

        Raises:
            BackendError: a session is using it, or it can't be removed.
        """
        file = self._files.file(plugin, scope)
        try:
            with self._files.closed_off(file):
                for ending in ("-wal", "-shm", ""):  # a log that were left would be read into the next file
                    Path(f"{file.path}{ending}").unlink(missing_ok=True)
        except OSError as error:
            raise BackendError(f"the file can't be removed: {error.strerror}") from error

    def close(self) -> None:
        """Close the connections; what sessions still hold is closed when they end. Nothing is answered any more."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self, file: File, deadline: float) -> Connection:
        while True:
            migrations = self._migrations.get(file.namespace[0], ())
            connection = opened(file, self._settings, migrations, deadline)
            if migrations is self._migrations.get(file.namespace[0], ()):
                return connection
            connection.close()  # the plugin was loaded anew meanwhile

    @contextmanager
    def _lent(self, file: File, deadline: float) -> Iterator[Connection]:
        owner = object()
        try:
            yield self._files.lend(owner, file, deadline, lambda: False)
        finally:
            self._files.take_back(owner)

    @contextmanager
    def _alone(self, file: File, plugin: str) -> Iterator[Connection]:
        """Lend a connection while no session of this process writes."""
        owner = object()
        if not file.lock.take(owner, _MIGRATION_SECONDS):
            raise BackendTimeout(f"an invocation of {plugin!r} has been writing for {_MIGRATION_SECONDS} seconds")
        try:
            with self._lent(file, time.monotonic() + _MIGRATION_SECONDS) as connection:
                yield connection
        finally:
            file.lock.give_back(owner)


def _usable(folder: str | os.PathLike[str]) -> Path:
    check_path("folder", folder)
    path = Path(lasting_path(folder))
    try:
        PrivateFolder(path, makes=True).close()
    except FolderUnusableError as error:
        raise UsageError(f"folder={str(folder)!r} can't be used: {error}") from error
    return path


def __getattr__(name: str) -> Any:
    if name not in {"AsyncPostgres", "Postgres"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from fuseboard.backends import _postgres  # noqa: PLC0415  it imports psycopg
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "psycopg":
            raise
        raise ImportError(f"{name} needs psycopg: pip install 'fuseboard[postgres]'") from None
    return getattr(_postgres, name)
