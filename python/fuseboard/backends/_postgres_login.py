"""How a connection to PostgreSQL begins.

Rules:
* A host's address is asked for before libpq is told of it: libpq would wait for it, whatever the deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from fuseboard.backends._postgres_connection import Connection, LostError
from fuseboard.backends._postgres_waits import Address, Flow, Io


def connected(role: str, settings: dict[str, str], register: Callable[[Connection], None]) -> Flow[Connection]:
    """Return a connection that has just been made; `register` is given it before anything is waited for.

    Raises:
        LostError: the server refuses it, or isn't there.
    """
    try:
        host = settings.get("host", "")
        if host and not host.startswith("/") and "hostaddr" not in settings:
            address = host if _is_address(host) else (yield Address(host))
            settings = settings | {"hostaddr": address}
        pgconn = pq.PGconn.connect_start(make_conninfo("", **settings).encode())
        connection = Connection(role, pgconn)
        register(connection)
        yield from _log_in(pgconn)
        connection.begin()
    except (psycopg.Error, OSError) as error:
        raise LostError(str(error)) from None
    return connection


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _log_in(pgconn: pq.abc.PGconn) -> Flow[None]:
    while True:
        if pgconn.status == pq.ConnStatus.BAD:
            raise LostError(pgconn.get_error_message())
        step = pgconn.connect_poll()
        if step == pq.PollingStatus.OK:
            return
        if step == pq.PollingStatus.FAILED:
            raise LostError(pgconn.get_error_message())
        yield Io(pgconn.socket, reads=step == pq.PollingStatus.READING, writes=step == pq.PollingStatus.WRITING)
