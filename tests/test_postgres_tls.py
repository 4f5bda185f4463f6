"""PostgreSQL over TLS: the same as without, and only with the server that it should be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from db_contract import Engine, settled
from fuseboard._errors import BackendError
from fuseboard.backends import AnswerCode, DbQuery
from fuseboard.backends.db import AsyncPostgres, Postgres
from postgres_databases import SECRET, Database, database
from servers import postgres

TABLES: Final = "CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT)"
ENCRYPTED: Final = """
SELECT ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE application_name = 'fuseboard'
"""
LARGE: Final = "SELECT repeat('x', $1), n FROM generate_series(1, 3) AS n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who issued the server's certificate."""
    return trustme.CA()


@pytest.fixture(scope="module")
def made(authority: trustme.CA) -> Iterator[Database]:
    """A database of a server that is called `localhost`."""
    with postgres(authority.issue_cert("localhost")) as server:
        found = database(server, "encrypted")
        found.provision("blog", TABLES)
        yield found


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> Path:
    """The authority's certificate, in a file."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


@pytest.fixture(params=[Postgres, AsyncPostgres])
def kind(request: pytest.FixtureRequest) -> Any:
    """Each of the two."""
    return request.param


def engine(kind: Any, made: Database, host: str, trusted: Path) -> Engine:
    """Return a backend that verifies the server's certificate, and its name."""
    conninfo = made.conninfo.replace("127.0.0.1", host)
    return Engine("postgres", kind(f"{conninfo} sslmode=verify-full sslrootcert={trusted}", secret=SECRET))


def ended(found: Engine) -> None:
    """Close a backend of either kind."""
    settled(found.backend.aclose() if isinstance(found.backend, AsyncPostgres) else found.backend.close())


def test_all_is_the_same_over_tls(kind: Any, made: Database, trusted: Path) -> None:
    """Writes, rows, rows of a megabyte, and one that is too large, after which the session goes on."""
    found = engine(kind, made, "localhost", trusted)
    session = found.open()
    session.exec("DELETE FROM notes")
    assert session.exec("INSERT INTO notes VALUES ($1, $2)", 1, "é" * 10_000) == 1
    assert session.rows("SELECT id, text FROM notes") == [(1, "é" * 10_000)]
    assert [len(text) for text, _ in session.rows(LARGE, 1 << 20)] == [1 << 20] * 3
    assert session.refusal(DbQuery(LARGE, (3 << 20,))).code == AnswerCode.TOO_LARGE
    assert session.rows("SELECT count(*) FROM notes") == [(1,)]
    assert made.rows(ENCRYPTED) == [(True,)]
    session.commit()
    ended(found)


def test_a_server_of_another_name_is_refused(kind: Any, made: Database, trusted: Path) -> None:
    """Nothing is sent to a server whose certificate is for another name."""
    found = engine(kind, made, "127.0.0.1", trusted)
    session = found.open()
    with pytest.raises(BackendError) as caught:
        session.rows("SELECT 1")
    assert caught.value.code == AnswerCode.BACKEND_FAILED
    session.rollback()
    ended(found)
