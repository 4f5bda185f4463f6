"""The contract of databases: what each engine under test gives, and the words in which the tests speak to it.

To put an engine under the contract, give `ENGINES` a context manager that yields a backend where `SCHEMA` is in place,
empty, for each of `NAMESPACES`. Plain and asynchronous backends go through the same tests: `settled` awaits what has to
be awaited.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

from drivers import awaited
from fuseboard._errors import BackendError
from fuseboard._grants import Grants
from fuseboard.backends import DbChanged, DbExec, DbQuery, DbRows, Identity, Migration
from fuseboard.backends.db import AsyncPostgres, Postgres, Sqlite
from fuseboard.backends.memory import MemoryDb
from postgres_databases import SECRET, contract_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA: Final = """
CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT UNIQUE, stars BIGINT NOT NULL DEFAULT 0 CHECK (stars <= 5));
CREATE TABLE replies (note BIGINT REFERENCES notes (id) DEFERRABLE INITIALLY DEFERRED, text TEXT);
CREATE TABLE strict_replies (note BIGINT REFERENCES notes (id));
CREATE TABLE things (flag BOOLEAN, whole BIGINT, real DOUBLE PRECISION, words TEXT, raw BYTEA, day DATE);
CREATE INDEX by_stars ON notes (stars);
"""
"""What the plugins' migration makes, in words that all engines know."""

NAMESPACES: Final = (("blog", None), ("blog", "site-1"), ("shop", None))
"""Plugins and scopes that have the tables."""

ENDLESS: Final = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
"""A query that never ends, in both engines: PostgreSQL stops where the number overflows, after minutes."""

SERIAL: Final = frozenset({"memory"})
"""Engines on which a session waits, at its first statement, until the one before it has ended."""

Parameter = None | bool | int | float | str | bytes


def soon(seconds: float = 10.0) -> float:
    """Return a deadline."""
    return time.monotonic() + seconds


def settled(value: Any) -> Any:
    """Return a value, awaited on the tests' event loop where it has to be."""
    return awaited(_awaiting(value)) if inspect.isawaitable(value) else value


async def _awaiting(value: Any) -> Any:
    return await value


@dataclass(frozen=True, slots=True)
class Db:
    """One session on a database under test, with plain calls."""

    session: Any

    def query(self, sql: str, *parameters: Parameter, deadline: float | None = None) -> DbRows:
        """Run a query and return its rows with the columns' names."""
        answer = settled(self.session.answer(DbQuery(sql, parameters), deadline or soon()))
        assert isinstance(answer, DbRows)
        return answer

    def rows(self, sql: str, *parameters: Parameter) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        return list(self.query(sql, *parameters).rows)

    def exec(self, sql: str, *parameters: Parameter, deadline: float | None = None) -> int:
        """Run a statement and return how many rows it changed."""
        answer = settled(self.session.answer(DbExec(sql, parameters), deadline or soon()))
        assert isinstance(answer, DbChanged)
        return answer.rows_changed

    def refusal(self, call: DbQuery | DbExec, deadline: float | None = None) -> BackendError:
        """Return the error that a call is answered with."""
        with pytest.raises(BackendError) as caught:
            settled(self.session.answer(call, deadline or soon()))
        return caught.value

    def commit(self) -> None:
        """Commit."""
        settled(self.session.commit(soon()))

    def rollback(self) -> None:
        """Roll back."""
        settled(self.session.rollback())


@dataclass(frozen=True, slots=True)
class Engine:
    """A database under test.

    Attributes:
        name: which one.
        backend: the backend, where `SCHEMA` is in place.
    """

    name: str
    backend: Any

    def open(self, plugin: str = "blog", scope: str | None = None, *, db: Literal["read", "write"] = "write") -> Db:
        """Open a session; whoever opens it ends it."""
        identity = Identity(
            plugin=plugin, version="1.0.0", hook="any", scope=scope, request_id="r", grants=Grants(db=db)
        )
        return Db(settled(self.backend.session(identity)))

    @contextmanager
    def session(
        self, plugin: str = "blog", scope: str | None = None, *, db: Literal["read", "write"] = "write"
    ) -> Iterator[Db]:
        """Open a session, and roll it back at the end."""
        opened = self.open(plugin, scope, db=db)
        try:
            yield opened
        finally:
            opened.rollback()

    def write(self, sql: str, *parameters: Parameter, plugin: str = "blog", scope: str | None = None) -> None:
        """Run one statement in a session of its own, and commit."""
        with self.session(plugin, scope) as db:
            db.exec(sql, *parameters)
            db.commit()

    def read(self, sql: str, plugin: str = "blog", scope: str | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query in a session of its own: what is committed."""
        with self.session(plugin, scope) as db:
            return db.rows(sql)


MakeEngine = Callable[[pytest.FixtureRequest, "Path"], AbstractContextManager[Engine]]

ENGINES: Final[dict[str, MakeEngine]] = {}
"""The engines under test by name: made from the request, for fixtures of their own, and a folder; closed at the end."""


def _migrations() -> tuple[Migration, ...]:
    return (Migration(1, "tables", SCHEMA, sha256(SCHEMA.encode()).hexdigest()),)


@contextmanager
def _memory(_: pytest.FixtureRequest, __: Path) -> Iterator[Engine]:
    backend = MemoryDb()
    for plugin in {plugin for plugin, _ in NAMESPACES}:
        backend.prepare(plugin, _migrations())
    yield Engine("memory", backend)
    backend.close()


@contextmanager
def _sqlite(_: pytest.FixtureRequest, folder: Path) -> Iterator[Engine]:
    with Sqlite(folder / "data") as backend:
        for plugin in {plugin for plugin, _ in NAMESPACES}:
            backend.prepare(plugin, _migrations())
        yield Engine("sqlite", backend)


@contextmanager
def _postgres(request: pytest.FixtureRequest, _: Path) -> Iterator[Engine]:
    with (
        contract_database(request.getfixturevalue("postgres_server"), SCHEMA, NAMESPACES) as database,
        Postgres(database.conninfo, secret=SECRET) as backend,
    ):
        for plugin in {plugin for plugin, _ in NAMESPACES}:
            backend.prepare(plugin, _migrations())
        yield Engine("postgres", backend)


@contextmanager
def _async_postgres(request: pytest.FixtureRequest, _: Path) -> Iterator[Engine]:
    with contract_database(request.getfixturevalue("postgres_server"), SCHEMA, NAMESPACES) as database:
        backend = AsyncPostgres(database.conninfo, secret=SECRET)
        yield Engine("postgres-async", backend)
        settled(backend.aclose())


ENGINES.update({"memory": _memory, "sqlite": _sqlite, "postgres": _postgres, "postgres-async": _async_postgres})
