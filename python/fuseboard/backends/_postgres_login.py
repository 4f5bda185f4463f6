"""How a connection to PostgreSQL begins.

Rules:
* A host's address is asked for before libpq is told of it: libpq would wait for it, whatever the deadline.
* What a socket buffers is small, so that what a server sends is seen before it fills this process.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from fuseboard._limits import MIB
from fuseboard.backends._postgres_connection import Connection, LostError
from fuseboard.backends._postgres_waits import Address, Flow, Io

_RECEIVE_BUFFER: Final = MIB // 4


def connected(role: str, settings: dict[str, str], register: Callable[[Connection], None]) -> Flow[Connection]:
    """Return a connection that has just been made; `register` is given it before anything is waited for.

    Raises:
        LostError: the server refuses it, or isn't there.
    """
    try:
        host = settings.get("host", "")
        if host and not host.startswith("/") and "hostaddr" not in settings:
            settings = settings | {"hostaddr": (yield Address(host))}
        pgconn = pq.PGconn.connect_start(make_conninfo("", **settings).encode())
        connection = Connection(role, pgconn)
        register(connection)
        yield from _log_in(pgconn)
    except (psycopg.Error, OSError) as error:
        raise LostError(str(error)) from None
    return connection


def _log_in(pgconn: pq.abc.PGconn) -> Flow[None]:
    while True:
        if pgconn.status == pq.ConnStatus.BAD:
            raise LostError(pgconn.get_error_message())
        step = pgconn.connect_poll()
        if step == pq.PollingStatus.OK:
            break
        if step == pq.PollingStatus.FAILED:
            raise LostError(pgconn.get_error_message())
        yield Io(pgconn.socket, reads=step == pq.PollingStatus.READING, writes=step == pq.PollingStatus.WRITING)
    pgconn.nonblocking = 1
    pgconn.enter_pipeline_mode()
    with socket.socket(fileno=os.dup(pgconn.socket)) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
