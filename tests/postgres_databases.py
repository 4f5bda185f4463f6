"""Databases for plugins on the tests' PostgreSQL server: provisioned once a run, emptied for each test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psycopg
from psycopg import sql

from fuseboard.backends import Migration
from fuseboard.backends._postgres_names import Namespace, Secret, namespace
from fuseboard.backends._postgres_provision import provisioning

if TYPE_CHECKING:
    from fuseboard.backends._postgres_rights import Level
    from servers import Server

SECRET: Final = "a secret for tests only"


def migrations(*texts: str) -> tuple[Migration, ...]:
    """Return migrations of these texts."""
    return tuple(
        Migration(number, f"step_{number}", text, sha256(text.encode()).hexdigest())
        for number, text in enumerate(texts, 1)
    )


@dataclass(frozen=True, slots=True)
class Database:
    """A database of a server.

    Attributes:
        server: where it is.
        name: what it is called.
    """

    server: Server
    name: str

    @property
    def dsn(self) -> str:
        """How a superuser gets in."""
        return self.server.dsn.replace("dbname=postgres", f"dbname={self.name}")

    @property
    def conninfo(self) -> str:
        """Where it is, as an application says it."""
        return f"host=127.0.0.1 port={self.server.port} dbname={self.name}"

    def namespace(self, plugin: str, scope: str | None = None) -> Namespace:
        """Return whose roles and schema they are."""
        return namespace(self.name, plugin, scope)

    def provision(
        self, plugin: str, *texts: str, may: Level = "write", scopes: Sequence[str] = (), dry_run: bool = False
    ) -> list[str]:
        """Do what the operator's command does, and return what it says."""
        with provisioning(self.dsn, SECRET, dry_run=dry_run) as session:
            return list(session.provision(plugin, migrations(*texts), may, scopes))

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement as a superuser and return its rows."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return list(cursor.fetchall()) if cursor.description else []

    def login(self, role: str) -> psycopg.Connection[Any]:
        """Log in as one of the roles, with no rules but the server's."""
        return psycopg.connect(
            f"{self.conninfo} user={role} password={Secret(SECRET).password(role)}",
            autocommit=True,
            options=f"-c search_path={role.removesuffix('_owner')}",
        )

    def empty(self) -> None:
        """Remove all rows of all plugins."""
        listing = (
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname LIKE 'fb%%' AND tablename <> %s"
            " AND schemaname IN (SELECT role FROM fuseboard.namespaces)"
        )
        tables = [sql.Identifier(*row) for row in self.rows(listing, "fuseboard_migrations")]
        if tables:
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(sql.SQL(", ").join(tables)))


_made: dict[tuple[int, str], Database] = {}


def database(server: Server, name: LiteralString) -> Database:
    """Return a database of this name, made where it isn't there."""
    found = _made.get((server.port, name))
    if found is None:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        found = _made[server.port, name] = Database(server, name)
    return found


_provisioned: set[tuple[int, str]] = set()


@contextmanager
def contract_database(server: Server, schema: str, namespaces: Sequence[tuple[str, str | None]]) -> Iterator[Database]:
    """Yield a database with these namespaces and their tables, which are empty."""
    made = database(server, "contract")
    if (server.port, made.name) not in _provisioned:
        for plugin in {plugin for plugin, _ in namespaces}:
            scopes = [scope for owner, scope in namespaces if owner == plugin and scope is not None]
            made.provision(plugin, schema, scopes=scopes)
        _provisioned.add((server.port, made.name))
    made.empty()
    yield made
