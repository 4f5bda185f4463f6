"""An HTTP server on loopback that does to a client what servers shouldn't: drips, floods, bombs, lies, hangs up.

Rules:
* It listens on loopback addresses only, and a thread serves each connection.
* `BEHAVIOURS` is the one table of what it can do: by path, a function that has the connection to itself. Any other
  path says hello.
* Whoever is still being tormented when it is closed is let go at once.
"""

from __future__ import annotations

import gzip
import re
import socket
import ssl
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Final, Never, Self
from urllib.parse import unquote

MIB: Final = 1 << 20
NOTHING_PACKED: Final = gzip.compress(b"")
GZIP_BEGINS: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
REPLY: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
TLS_HANDSHAKE: Final = 22
EMPTY_BLOCK: Final = b"\x00\x00\x00\xff\xff"


@dataclass(frozen=True)
class Asked:
    """What a client sent, to the byte."""

    method: str
    target: str
    head: bytes
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return unquote(self.target.partition("?")[2])

    def header(self, name: str) -> list[str]:
        """Return the values of all header lines of a name."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return [value.strip() for each, _, value in pairs if each.lower() == name.lower()]


class Talk:
    """One connection, as behaviours use it: each step gives it back for the next."""

    def __init__(self, connection: socket.socket, closing: Event) -> None:
        self.connection = connection
        self._closing = closing

    def send(self, *parts: bytes) -> Self:
        self.connection.sendall(b"".join(parts))
        return self

    def reply(self, body: bytes = b"", *fields: str, status: str = "200 OK", length: int | None = None) -> Self:
        lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body) if length is None else length}"]
        self.send("\r\n".join(lines).encode("latin-1"), b"\r\n\r\n", body)
        return self

    def begin_chunks(self, *fields: str) -> Self:
        lines = ["HTTP/1.1 200 OK", *fields, "Transfer-Encoding: chunked"]
        self.send("\r\n".join(lines).encode(), b"\r\n\r\n")
        return self

    def chunk(self, data: bytes) -> Self:
        self.send(b"%x\r\n%s\r\n" % (len(data), data))
        return self

    def drip(self, data: bytes, seconds: float = 0.02) -> Self:
        for place in range(len(data)):
            self.send(data[place : place + 1])
            self.wait(seconds)
        return self

    def flood(self, data: bytes) -> Self:
        while not self._closing.is_set():
            self.send(data)
        return self

    def wait(self, seconds: float = 60.0) -> Self:
        self._closing.wait(seconds)
        return self

    def hang_up(self) -> Never:
        raise ConnectionAbortedError

    def reset(self) -> Never:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionAbortedError


def _bomb(talk: Talk, encoding: str, wbits: int) -> Talk:
    """Send 1 GiB of zeros, packed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    talk.begin_chunks(f"Content-Encoding: {encoding}")
    for _ in range(1024):
        if data := packer.compress(bytes(MIB)):
            talk.chunk(data)
    return talk


def _crumbs(data: bytes) -> bytes:
    """Return chunks of a byte each."""
    return b"".join(b"1\r\n%c\r\n" % each for each in data)


BEHAVIOURS: Final[dict[str, Callable[[Talk, Asked], Talk]]] = {
    "/": lambda talk, _: talk.reply(b"hello"),
    "/echo": lambda talk, asked: talk.reply(asked.head + b"|" + asked.body),
    "/redirect": lambda talk, asked: talk.reply(b"moved", f"Location: {asked.query}", status="302 Found"),
    "/redirect-307": lambda talk, asked: talk.reply(b"moved", f"Location: {asked.query}", status="307 Again"),
    "/redirect-last": lambda talk, asked: talk.reply(
        b"", f"Location: {asked.query}", "Connection: close", status="302 Found"
    ).hang_up(),
    "/last": lambda talk, _: talk.reply(b"bye", "Connection: close").hang_up(),
    "/sized": lambda talk, asked: talk.reply(b"x" * int(asked.query)),
    "/cookie": lambda talk, _: talk.reply(b"", "Set-Cookie: a=b; Path=/", "Set-Cookie: c=d"),
    "/of-the-connection": lambda talk, _: talk.reply(
        b"", "Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Upgrade: h2c", "X-Kept: 1"
    ),
    # slow
    "/never": lambda talk, _: talk.wait(),
    "/slowly": lambda talk, _: talk.wait(0.03).reply(b"hello"),
    "/drip-head": lambda talk, _: talk.drip(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 3_000),
    "/drip-headers": lambda talk, _: talk.drip(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500),
    "/drip-body": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n").drip(b"x" * 9999),
    "/drip-chunks": lambda talk, _: talk.begin_chunks().drip(b"1\r\nx\r\n" * 9999),
    "/drip-extension": lambda talk, _: talk.begin_chunks().drip(b"1;" + b"x" * 9999),
    "/drip-gzip": lambda talk, _: talk.begin_chunks("Content-Encoding: gzip").drip(
        b"%x\r\n%s\r\n" % (len(NOTHING_PACKED), NOTHING_PACKED) * 99
    ),
    "/slow-end": lambda talk, _: talk.begin_chunks().chunk(b"hello").wait(),
    "/informs": lambda talk, _: talk.flood(b"HTTP/1.1 100 \r\n\r\n" * 8_000),
    "/drip-informs": lambda talk, _: talk.drip(b"HTTP/1.1 103 Early\r\n\r\n" * 99),
    "/hollow-crumbs": lambda talk, _: (
        talk.begin_chunks("Content-Encoding: gzip").chunk(GZIP_BEGINS).flood(_crumbs(EMPTY_BLOCK * 1_000))
    ),
    "/junk-behind-gzip": lambda talk, _: (
        talk.begin_chunks("Content-Encoding: gzip")
        .chunk(NOTHING_PACKED)
        .chunk(bytes(4 * MIB))
        .send(_crumbs(b"x" * 20_000))
        .wait()
    ),
    # large
    "/endless-head": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\n").flood(b"X: y\r\n" * 1_000),
    "/many-lines": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\n", b"X:\r\n" * 12_000, b"\r\n").wait(),
    "/many-trailers": lambda talk, _: talk.begin_chunks().send(b"0\r\n", b"X:\r\n" * 12_000, b"\r\n").wait(),
    "/endless-line": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\nX: ").flood(b"y" * 10_000),
    "/endless-reason": lambda talk, _: talk.send(b"HTTP/1.1 200 ").flood(b"y" * 10_000),
    "/many-fields": lambda talk, _: talk.reply(b"", *[f"X-{number}: y" for number in range(200)]),
    "/endless-body": lambda talk, _: talk.begin_chunks().flood(b"4000\r\n" + b"x" * 0x4000 + b"\r\n"),
    "/endless-crumbs": lambda talk, _: talk.begin_chunks().flood(b"1\r\nx\r\n" * 10_000),
    "/endless-extension": lambda talk, _: talk.begin_chunks().send(b"1;").flood(b"x" * 10_000),
    "/endless-trailer": lambda talk, _: talk.begin_chunks().send(b"0\r\n").flood(b"X: y\r\n" * 1_000),
    "/huge": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n").flood(b"x" * 9999),
    "/until-closed": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\n\r\n").flood(b"x" * 9999),
    "/bomb-gzip": lambda talk, _: _bomb(talk, "gzip", 31),
    "/bomb-deflate": lambda talk, _: _bomb(talk, "deflate", 15),
    "/bomb-bare-deflate": lambda talk, _: _bomb(talk, "deflate", -15),
    "/hollow-gzip": lambda talk, _: (
        talk.begin_chunks("Content-Encoding: gzip")
        .chunk(GZIP_BEGINS)
        .flood(b"1388\r\n" + EMPTY_BLOCK * 1_000 + b"\r\n")
    ),
    # encoded
    "/gzip": lambda talk, _: talk.reply(gzip.compress(b"hello" * 99), "Content-Encoding: gzip", "X-Kept: 1"),
    "/deflate": lambda talk, _: talk.reply(zlib.compress(b"hello" * 99), "Content-Encoding: deflate"),
    "/gzip-twice": lambda talk, _: talk.reply(
        gzip.compress(gzip.compress(b"hello")), "Content-Encoding: gzip", "Content-Encoding: gzip"
    ),
    "/brotli": lambda talk, _: talk.reply(b"\x0b\x02\x80hello\x03", "Content-Encoding: br"),
    "/bad-gzip": lambda talk, _: talk.reply(b"no gzip at all", "Content-Encoding: gzip"),
    # broken
    "/hang-up": lambda talk, _: talk.hang_up(),
    "/hang-up-in-head": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\nX: ").hang_up(),
    "/hang-up-in-body": lambda talk, _: talk.reply(b"x" * 10, length=100).hang_up(),
    "/hang-up-in-chunk": lambda talk, _: talk.begin_chunks().send(b"10\r\nx").hang_up(),
    "/reset": lambda talk, _: talk.reset(),
    "/reset-in-head": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\nX: ").wait(0.02).reset(),
    "/reset-in-body": lambda talk, _: talk.reply(b"x" * 10, length=100).wait(0.02).reset(),
    "/rubbish": lambda talk, _: talk.send(bytes(range(256)) * 40).hang_up(),
    "/no-status": lambda talk, _: talk.send(b"HTTP/1.1 ok\r\n\r\n"),
    "/other-protocol": lambda talk, _: talk.send(b"220 mail.example ESMTP\r\n"),
    "/http2": lambda talk, _: talk.send(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)),
    "/bad-field": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
    "/nul-field": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n"),
    "/bad-chunk": lambda talk, _: talk.begin_chunks().send(b"zz\r\nhello\r\n"),
    "/negative-length": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    "/vast-length": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n"),
    "/vast-chunk": lambda talk, _: talk.begin_chunks().send(b"f" * 5_000 + b"\r\n"),
    "/two-lengths": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    "/both-lengths": lambda talk, _: talk.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"
    ),
    "/odd-encoding": lambda talk, _: talk.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabcd"),
    "/switch": lambda talk, _: talk.send(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    # more than was asked for
    "/leftover": lambda talk, _: talk.reply(b"asked").reply(b"unasked"),
    "/leftover-at-once": lambda talk, _: talk.send(REPLY % (5, b"asked"), REPLY % (7, b"unasked")),
    "/leftover-beyond-a-read": lambda talk, _: talk.send(REPLY % (4_055, b"x" * 4_055), REPLY % (7, b"unasked")),
    "/goodbye": lambda talk, _: talk.reply(b"hello").wait(0.05).reply(b"", status="408 Request Timeout").hang_up(),
}  # fmt: skip


class Web:
    """The server.

    Args:
        address: where it listens.
        tls: makes it speak TLS.
        silent: never says a word to a client, TLS handshake included.
        reads: whether it reads what clients send; where not, it takes a few bytes now and then.

    Attributes:
        asked: every request that it read whole.
        connections: how many it accepted.
    """

    def __init__(
        self, address: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None, silent: bool = False, reads: bool = True
    ) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self._tls = tls
        self._silent = silent
        self._reads = reads
        self._open: set[socket.socket] = set()
        self._lock = Lock()
        self._closing = Event()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=128)
        if not reads:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self.port: int = self._listener.getsockname()[1]
        host = f"[{address}]" if ":" in address else address
        self.origin = f"{'https' if tls else 'http'}://{host}:{self.port}"
        self._threads = [Thread(target=self._accept, name="web", daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def open_connections(self) -> int:
        """How many are open as far as it can tell."""
        return len(self._open)

    def named(self, host: str) -> str:
        """Return the origin under another name."""
        return f"{self.origin.partition('://')[0]}://{host}:{self.port}"

    def close(self) -> None:
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self.connections += 1
                    self._open.add(connection)
                thread = Thread(target=self._serve, args=(connection,), name="web connection", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        serving = connection
        try:
            if self._silent:
                self._closing.wait()
            if self._tls:
                serving = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                with self._lock:
                    self._open = (self._open - {connection}) | {serving}
                serving.do_handshake()
            if not self._reads:
                self._sip(connection)
            self._answer_all(serving)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(serving)
            serving.close()

    def _sip(self, connection: socket.socket) -> None:
        while not self._closing.wait(0.02) and connection.recv(16_000):
            pass

    def _answer_all(self, connection: socket.socket) -> None:
        talk, buffered = Talk(connection, self._closing), b""
        while not self._closing.is_set():
            while b"\r\n\r\n" not in buffered:
                buffered += _read(connection)
            head, _, buffered = buffered.partition(b"\r\n\r\n")
            length = int((re.search(rb"\r\nContent-Length: (\d+)", head) or [b"", b"0"])[1])
            while len(buffered) < length:
                buffered += _read(connection)
            method, target, _ = head.decode("latin-1").split("\r\n")[0].split(" ")
            asked = Asked(method, target, head, buffered[:length])
            buffered = buffered[length:]
            self.asked.append(asked)
            BEHAVIOURS.get(asked.path, BEHAVIOURS["/"])(talk, asked)


def _read(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    if not data or data[0] == TLS_HANDSHAKE:
        raise ConnectionAbortedError
    return data
