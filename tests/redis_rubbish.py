"""A server on loopback that speaks Redis's protocol badly, each time in the way that a test asks for.

It answers the handshake of redis-py as a good one would, and everything after it with what `BEHAVIOURS` says.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Final

Behaviour = Callable[[socket.socket], None]

HUGE: Final = b"$9999999999\r\n"
_DRIP_SECONDS: Final = 0.02


@dataclass(slots=True)
class Rubbish:
    """A server that runs.

    Attributes:
        port: where it listens, on 127.0.0.1.
        asked: what it was sent, but for handshakes.
    """

    port: int
    asked: list[bytes] = field(default_factory=list)
    _is_over: Event = field(default_factory=Event)

    @property
    def url(self) -> str:
        return f"redis://user:secret-password@127.0.0.1:{self.port}/0"


@contextmanager
def rubbish(behaviour: Behaviour) -> Iterator[Rubbish]:
    """Run a server that answers like this."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        server = Rubbish(listener.getsockname()[1])
        accepting = Thread(target=_accept, args=(listener, server, behaviour), daemon=True)
        accepting.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join(5)


def _accept(listener: socket.socket, server: Rubbish, behaviour: Behaviour) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        Thread(target=_serve, args=(connection, server, behaviour), daemon=True).start()


def _serve(connection: socket.socket, server: Rubbish, behaviour: Behaviour) -> None:
    with connection, contextlib.suppress(OSError):
        while asked := connection.recv(1 << 20):
            if b"AUTH" in asked or b"SETINFO" in asked:
                connection.sendall(b"+OK\r\n" * max(1, asked.count(b"SETINFO")))
            else:
                server.asked.append(asked)
                behaviour(connection)


def says(data: bytes) -> Behaviour:
    """Return what answers with this."""
    return lambda connection: connection.sendall(data)


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Return what answers each time in another way."""
    left = iter(behaviours)

    def behave(connection: socket.socket) -> None:
        next(left, _is_silent)(connection)

    return behave


def _drips(data: bytes) -> Behaviour:
    def drip(connection: socket.socket) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(_DRIP_SECONDS)

    return drip


def _floods(connection: socket.socket) -> None:
    connection.sendall(HUGE)
    while True:
        connection.sendall(b"x" * (1 << 20))


def _floods_a_line(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"+" * (1 << 20))


def _cuts(connection: socket.socket) -> None:
    connection.sendall(b"$100\r\nhalf of i")
    connection.shutdown(socket.SHUT_RDWR)


def _resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _is_silent(_: socket.socket) -> None:
    """Say nothing, for ever."""


SLOW: Final[dict[str, Behaviour]] = {
    "silence": _is_silent,
    "a reply in drops": _drips(b"$1000\r\n" + b"x" * 1000 + b"\r\n"),
    "a line in drops": _drips(b"+" + b"x" * 1000),
    "a count in drops": _drips(b"*" + b"1" * 1000),
}
"""Those that would take for ever: what tests the deadline."""

FAILING: Final[dict[str, Behaviour]] = {
    "closed in the middle": _cuts,
    "closed at once": lambda connection: connection.shutdown(socket.SHUT_RDWR),
    "reset": _resets,
    "another protocol": says(b"HTTP/1.1 400 Bad Request\r\nServer: secret-host\r\n\r\n"),
    "random bytes": says(bytes(range(255, -1, -1)) + b"\r\n"),
    "a length that is none": says(b"$many\r\nfoo\r\n"),
    "a negative length": says(b"$-5\r\nfoo\r\n"),
    "a negative count": says(b"*-5\r\n"),
    "a number that is none": says(b":one\r\n"),
    "a number": says(b":5\r\n"),
    "a list": says(b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
    "lists without end": says(b"*1\r\n" * 10_000),
    "an unknown kind": says(b"%1\r\n+a\r\n+b\r\n"),
    "an error": says(b"-ERR secret-text of 10.0.0.7\r\n"),
    "an error in a list": says(b"*1\r\n-ERR secret-text\r\n"),
    "loading": says(b"-LOADING Redis is loading the secret-dataset in memory\r\n"),
    "read only": says(b"-READONLY You can't write against a read only replica.\r\n"),
    "no memory": says(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
    "not let in": says(b"-NOAUTH Authentication required.\r\n"),
    "not allowed": says(b"-NOPERM User secret-user has no permissions to run the 'get' command\r\n"),
    "moved": says(b"-MOVED 3999 10.0.0.7:6381\r\n"),
    "ask another": says(b"-ASK 3999 10.0.0.7:6381\r\n"),
    "cluster down": says(b"-CLUSTERDOWN The cluster is down\r\n"),
    "busy": says(b"-BUSY Redis is busy running a script.\r\n"),
    "script unknown for ever": says(b"-NOSCRIPT No matching script. Please use EVAL.\r\n"),
    "master down": says(b"-MASTERDOWN Link with MASTER is down\r\n"),
    "an empty error": says(b"-\r\n"),
    "not text": says(b"-\xff\xfe\r\n"),
    "too many": says(b"*9999999999\r\n" + b":1\r\n" * 400_000),
    "more than there is room for": _floods,
    "a line without end": _floods_a_line,
}
"""Those whose answer is an error."""
