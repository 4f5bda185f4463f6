"""PostgreSQL for plugins: each plugin and scope logs in as a role of its own, over connections of its own.

Rules:
* Roles, schemas and tables are made by the operator's command, `fuseboard db provision`. Here nothing can make them:
  this process knows the operator's secret and no superuser's password.
* A namespace is looked at once in a process, at the first of its connections: whether its migrations are the plugin's.
* Both classes are one backend with one set of rules; they differ in how they wait.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Generic, Self, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from fuseboard._arguments import check_whole
from fuseboard._errors import BackendError, UsageError
from fuseboard.backends import Identity, Migration
from fuseboard.backends._host_names import Names, system_addresses
from fuseboard.backends._postgres_cancel import cancelling
from fuseboard.backends._postgres_connection import Command, Connection, LostError
from fuseboard.backends._postgres_login import connected
from fuseboard.backends._postgres_names import Namespace, Secret, namespace
from fuseboard.backends._postgres_pool import Pool
from fuseboard.backends._postgres_session import AsyncPostgresSession, PostgresSession
from fuseboard.backends._postgres_transaction import Holder, Transaction
from fuseboard.backends._postgres_waits import Flow, Until, run

__all__ = ["AsyncPostgres", "Postgres"]

S = TypeVar("S")
Applied = tuple[tuple[int, str], ...]

_PREPARE_SECONDS: Final = 10.0
_MOST_CONNECTIONS: Final = 10_000
_MOST_IDLE_SECONDS: Final = 86_400
_MOST_LOOK_UPS: Final = 4
_READ_MIGRATIONS: Final = Command(b"SELECT number, checksum FROM fuseboard_migrations ORDER BY number")
_PROVISION: Final = "`fuseboard db provision`"
_SET_AT_LOGIN: Final = (
    "standard_conforming_strings=on", "DateStyle=ISO", "TimeZone=UTC", "bytea_output=hex", "extra_float_digits=1",
    "idle_in_transaction_session_timeout=60000",
)  # fmt: skip

_log = logging.getLogger("fuseboard")


class _Backend(Generic[S]):
    _session_of: Callable[[Transaction], S]

    def __init__(
        self,
        conninfo: str,
        *,
        secret: str | bytes,
        max_connections: int = 32,
        max_connections_per_plugin: int = 8,
        max_idle_seconds: int = 300,
    ) -> None:
        check_whole("max_connections", max_connections, _MOST_CONNECTIONS)
        check_whole("max_connections_per_plugin", max_connections_per_plugin, _MOST_CONNECTIONS)
        check_whole("max_idle_seconds", max_idle_seconds, _MOST_IDLE_SECONDS)
        self._settings = _settings(conninfo)
        self._secret = Secret(secret)
        self._pool: Pool[Connection] = Pool(max_connections, max_connections_per_plugin, max_idle_seconds)
        self._names = Names(system_addresses, _MOST_LOOK_UPS)
        self._all: WeakSet[Connection] = WeakSet()
        self._migrations: dict[str, Applied] = {}
        self._looked_at: dict[str, Applied] = {}

    def session(self, identity: Identity) -> S:
        """Return a session on the identity's namespace, without I/O."""
        owned = namespace(self._settings["dbname"], identity.plugin, identity.scope)
        lender = _Lender(self, owned)
        return self._session_of(Transaction(lender, identity.names(), writes=identity.grants.db == "write"))

    def prepare(self, plugin: str, migrations: tuple[Migration, ...]) -> None:
        """See that a plugin is provisioned, with all of its migrations and no others. Waits 10 seconds at most.

        A plugin without migrations, such as one that is loaded from bytes, is held to none.

        Raises:
            BackendError: it isn't, with the command to run; or the server can't be reached.
        """
        applied = tuple((migration.number, migration.checksum) for migration in migrations)
        owned = namespace(self._settings["dbname"], plugin, None)
        made: list[Connection] = []
        try:
            found = run(self._applied(owned, made.append), time.monotonic() + _PREPARE_SECONDS)
        except LostError as error:
            raise BackendError(str(error)) from None
        finally:
            for connection in made:
                connection.close()
        problem = _difference(found, applied) if applied else None
        if problem is not None:
            raise BackendError(f"{problem}: run {_PROVISION} with the plugin's folder")
        if applied:
            self._migrations[plugin] = self._looked_at[owned.role] = applied

    def after_fork_in_child(self) -> None:
        """Begin with no connections. The inherited ones are the parent's: they are let go, without a word."""
        cancelling.after_fork_in_child()
        self._names.after_fork_in_child()
        for connection in tuple(self._all):
            connection.forget()
        self._all = WeakSet()
        self._pool.after_fork_in_child()

    def _applied(self, owned: Namespace, register: Callable[[Connection], None]) -> Flow[Applied]:
        connection = yield from self._made(owned, register)
        return (yield from _read_applied(connection))

    def _made(self, owned: Namespace, register: Callable[[Connection], None]) -> Flow[Connection]:
        options = " ".join(f"-c {setting}" for setting in (f"search_path={owned.role},pg_temp", *_SET_AT_LOGIN))
        settings = self._settings | {
            "user": owned.role, "password": self._secret.password(owned.role), "options": options,
            "application_name": "fuseboard", "connect_timeout": "10", "client_encoding": "UTF8",
        }  # fmt: skip
        try:
            return (yield from connected(owned.role, settings, self._names, partial(self._register, register)))
        except LostError as error:
            problem = " ".join(str(error).split())
            raise LostError(f"{owned}: {owned.role} can't log in; {_PROVISION} makes the role: {problem}") from None

    def _register(self, register: Callable[[Connection], None], connection: Connection) -> None:
        self._all.add(connection)
        register(connection)

    def lent(self, owned: Namespace, owner: Holder) -> Flow[Connection]:
        """Return a connection of a namespace's role, idle or new."""
        while True:
            ticket = self._pool.ask(owner, owned.role)
            yield Until(ticket.called)
            if not ticket.is_held:
                raise BackendError("this session has ended")
            connection = ticket.taken()
            if connection is None:
                connection = yield from self._made(owned, owner.hold)
                yield from self._look_at(owned, connection)
                return connection
            owner.hold(connection)
            if (yield from connection.is_alive()):
                yield from self._look_at(owned, connection)
                return connection
            owner.let_go()

    def _look_at(self, owned: Namespace, connection: Connection) -> Flow[None]:
        """Read which migrations a namespace has, where this process hasn't yet since its plugin was loaded."""
        wanted = self._migrations.get(owned.plugin, ())
        if self._looked_at.get(owned.role) == wanted:
            return
        problem = _difference((yield from _read_applied(connection))[: len(wanted)], wanted)
        if problem is not None:
            raise LostError(f"{owned}: {problem}: run {_PROVISION}")
        self._looked_at[owned.role] = wanted

    @property
    def pool(self) -> Pool[Connection]:
        """Who has connections."""
        return self._pool

    def connections(self) -> dict[str, int]:
        """Return how many connections are `in_use` and `idle`, and how many invocations are `waiting` for one."""
        return self._pool.counts()


class _Lender:
    """Lends the connections of one namespace."""

    __slots__ = ("_backend", "_owned")

    def __init__(self, backend: _Backend[Any], owned: Namespace) -> None:
        self._backend = backend
        self._owned = owned

    def lent(self, owner: Holder) -> Flow[Connection]:
        return self._backend.lent(self._owned, owner)

    def withdraw(self, owner: Holder) -> None:
        self._backend.pool.withdraw(owner)

    def give_back(self, owner: Holder, connection: Connection | None) -> None:
        self._backend.pool.give_back(owner, connection)


class Postgres(_Backend[PostgresSession]):
    """A PostgreSQL database for the plugins of a `Host`.

    Each plugin and scope logs in as a role of its own, which `fuseboard db provision` makes, over at most
    `max_connections_per_plugin` connections that are never another's.

    Args:
        conninfo: where the database is, as libpq reads it: `host=db.example dbname=plugins sslmode=verify-full`, or
            a URI. It names one host and the database, and no user or password.
        secret: the operator's, from which the roles' passwords are derived; the same as for the command.
        max_connections: how many connections there are at once, in use and idle, 32 by default.
        max_connections_per_plugin: how many of them one plugin in one scope has, 8 by default.
        max_idle_seconds: how long a connection is kept that nobody uses, 300 by default.

    Raises:
        UsageError: an argument can't be used.
    """

    _session_of = PostgresSession

    def close(self) -> None:
        """Close the connections; what sessions still hold is closed when they end."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncPostgres(_Backend[AsyncPostgresSession]):
    """A PostgreSQL database for the plugins of an `AsyncHost`: as `Postgres`, waiting on the event loop.

    Args:
        conninfo: as for `Postgres`.
        secret: as for `Postgres`.
        max_connections: as for `Postgres`.
        max_connections_per_plugin: as for `Postgres`.
        max_idle_seconds: as for `Postgres`.

    Raises:
        UsageError: an argument can't be used.
    """

    _session_of = AsyncPostgresSession

    async def aclose(self) -> None:
        """Close the connections; what sessions still hold is closed when they end."""
        self._pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _read_applied(connection: Connection) -> Flow[Applied]:
    (result,) = yield from connection.exchange([_READ_MIGRATIONS])
    if result.state:
        raise LostError(f"the migrations of {connection.role} can't be read: {result.message}")
    return tuple((int(number or 0), (checksum or b"").decode()) for number, checksum in result.rows)


def _difference(found: Applied, wanted: Applied) -> str | None:
    if found == wanted:
        return None
    if found == wanted[: len(found)]:
        return f"{len(wanted) - len(found)} of its {len(wanted)} migrations aren't applied"
    if found[: len(wanted)] == wanted:
        return f"its database has {len(found)} migrations and this version {len(wanted)}: load a later one"
    return "a migration was changed after it was applied"


def _settings(conninfo: str) -> dict[str, str]:
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    except (psycopg.Error, TypeError, AttributeError):  # whose text might show a password
        raise UsageError("conninfo can't be read: write key=value pairs, or postgresql://...") from None
    given = _place_in_environment() | given
    for name in ("user", "password", "passfile", "service", "options"):
        if name in given:
            raise UsageError(f"conninfo has {name!r}: each plugin logs in as itself; leave it out")
    if not given.get("dbname"):
        raise UsageError("conninfo must name the database: dbname=...")
    if "," in given.get("host", "") or "," in given.get("hostaddr", ""):
        raise UsageError("conninfo must name one host")
    return {"gssencmode": "disable"} | given


def _place_in_environment() -> dict[str, str]:
    """Return where libpq would go when nothing else is said (`PGHOST` ...): it is to be told what we have looked up."""
    options = {option.keyword.decode(): option.val for option in pq.Conninfo.get_defaults()}
    return {name: value.decode() for name in ("host", "hostaddr") if (value := options.get(name))}
