"""The servers that other tests run against: they are real, and answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import redis as redis_py

if TYPE_CHECKING:
    from servers import Server


def test_postgres_is_there(postgres_server: Server) -> None:
    """A PostgreSQL server answers its superuser."""
    with psycopg.connect(postgres_server.dsn) as connection:
        row = connection.execute("SELECT current_user, version()").fetchone()
    assert row is not None
    assert row[0] == "postgres"
    assert row[1].startswith("PostgreSQL ")


def test_redis_is_there(redis_server: Server) -> None:
    """A Redis or Valkey server keeps what it is given."""
    client: Any = redis_py.Redis.from_url(redis_server.url)
    with client:
        client.set("a", "1")
        assert client.getdel("a") == b"1"
