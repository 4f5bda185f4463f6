"""How a connection to PostgreSQL begins.

Rules:
* A host's addresses are asked for before libpq is told of it: libpq would wait for them, whatever the deadline. It
  tries one after the other, as a server may listen on one only.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends._host_names import Names
from fuseboard.backends._postgres_connection import Connection, LostError
from fuseboard.backends._postgres_waits import Addresses, Flow, Io

_FOR_ALL: Final = ""
"""All plugins have one server: who wants its addresses waits for the look-up that is under way."""


def connected(
    role: str, settings: dict[str, str], names: Names, register: Callable[[Connection], None]
) -> Flow[Connection]:
    """Return a connection that has just been made; `register` is given it before anything is waited for.

    Raises:
        LostError: the server refuses it, or isn't there.
    """
    try:
        settings = settings | (yield from _place(settings, names))
        pgconn = pq.PGconn.connect_start(make_conninfo("", **settings).encode())
        connection = Connection(role, pgconn)
        register(connection)
        yield from _log_in(pgconn)
        connection.begin()
    except (psycopg.Error, OSError) as error:
        raise LostError(str(error)) from None
    return connection


def _place(settings: dict[str, str], names: Names) -> Flow[dict[str, str]]:
    host = settings.get("host", "")
    if not host or host.startswith(("/", "@")) or "hostaddr" in settings or _is_address(host):
        return {}
    try:
        addresses = yield Addresses(names.look_up(_FOR_ALL, host))
    except BackendTimeout:
        raise
    except BackendError as error:
        raise LostError(error.reason) from None
    return {"host": ",".join([host] * len(addresses)), "hostaddr": ",".join(addresses)}


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
