"""The way to the network: connects to checked addresses only, and lets no wait outlast the deadline.

Rules:
* What httpcore2 hands down as a timeout is the exchange (`_http_exchange`); each wait asks it for what is left.
* A name is looked up once for a connection, and the connection made to one of the addresses that were checked. TLS is
  verified against the name.
* Several addresses are tried in turn; each but the last may use its share of the time that is left.
* The two halves of this file are the same steps, waited for in two ways; no step decides anything here.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import httpcore2

from fuseboard._errors import BackendTimeout
from fuseboard.backends._host_names import Names
from fuseboard.backends._http_errors import CONNECT_FAILURES
from fuseboard.backends._http_exchange import Exchange


def _is_literal(host: str) -> bool:
    with suppress(ValueError):
        ip_address(host)
        return True
    return False


def _shares(addresses: Iterable[str], exchange: Exchange) -> Iterator[tuple[str, float]]:
    """Yield each address with the seconds that connecting to it may take."""
    left = [*addresses]
    while left:
        yield left[0], exchange.seconds_left() / len(left)
        del left[0]


def _has_decrypted(secured: ssl.SSLObject | None) -> bool:
    """Return whether TLS has something to say that was received with what was read before."""
    if secured is None:
        return False
    try:
        secured.read(1)
    except ssl.SSLError as error:
        return not isinstance(error, ssl.SSLWantReadError)
    return True


# ── waited for by the calling thread ─────────────────────────────────────────────────────────────


class Stream(httpcore2.NetworkStream):
    """One connection."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self._socket: socket.socket = stream.get_extra_info("socket")
        self.is_spoiled = False
        self._is_read_full = False

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        """Read what there is."""
        exchange: Exchange = timeout
        most = exchange.most_at_once(max_bytes)
        with exchange.waiting_on(self) as seconds:
            data = self._stream.read(most, seconds)
        self._is_read_full = len(data) == most
        return exchange.received(data)

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        """Write all of it; httpcore2's own stream would wait anew for each part that the peer takes."""
        exchange: Exchange = timeout
        rest = memoryview(buffer)
        while rest:
            with exchange.waiting_on(self) as seconds:
                rest = rest[self._sent(rest, seconds) :]

    def _sent(self, rest: memoryview, seconds: float) -> int:
        try:
            self._socket.settimeout(seconds)
            return self._socket.send(rest)
        except TimeoutError as error:
            raise httpcore2.WriteTimeout(error) from error
        except OSError as error:
            raise httpcore2.WriteError(error) from error

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None
    ) -> httpcore2.NetworkStream:
        """Speak TLS from here on."""
        exchange: Exchange = timeout
        try:
            with exchange.waiting_on(self) as seconds:
                return Stream(self._stream.start_tls(ssl_context, server_hostname, seconds))
        except BaseException:
            self.close()
            raise

    def hang_up(self) -> None:
        """End all waiting on it, from any thread."""
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # that of TLS would also forget its state

    def close(self) -> None:
        """Close it."""
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        """Say that something came unasked, or may have, where this connection must not be used again."""
        return (info == "is_readable" and self._may_have_more()) or self._stream.get_extra_info(info)

    def _may_have_more(self) -> bool:
        """What filled a read may have had more behind it, which has left the socket already."""
        return self.is_spoiled or self._is_read_full


class Network(httpcore2.NetworkBackend):
    """Makes connections.

    Args:
        names: looks names up.
        real: connects to an address.
    """

    def __init__(self, names: Names, real: httpcore2.NetworkBackend) -> None:
        self._names = names
        self._real = real

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Any = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to one of the host's addresses, all of which were checked."""
        exchange: Exchange = timeout
        failure: Exception | None = None
        for address, seconds in _shares(exchange.checked(self._looked_up(host, exchange)), exchange):
            try:
                return Stream(self._real.connect_tcp(address, port, seconds, local_address, socket_options))
            except CONNECT_FAILURES as error:
                failure = error
        raise failure or httpcore2.ConnectError(host)

    def _looked_up(self, host: str, exchange: Exchange) -> tuple[str, ...]:
        if _is_literal(host):
            return (host,)
        try:
            return self._names.look_up(exchange.plugin, host).result(exchange.seconds_left())
        except TimeoutError as error:
            raise _unresolved(host) from error


# ── waited for on an event loop ──────────────────────────────────────────────────────────────────


class AsyncStream(httpcore2.AsyncNetworkStream):
    """One connection."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._socket: socket.socket = stream.get_extra_info("socket")
        self.is_spoiled = False
        self._is_read_full = False

    async def read(self, max_bytes: int, timeout: Any = None) -> bytes:  # noqa: ASYNC109  the base class's signature
        """Read what there is."""
        exchange: Exchange = timeout
        most = exchange.most_at_once(max_bytes)
        data = await self._stream.read(most, exchange.seconds_left())
        self._is_read_full = len(data) == most
        return exchange.received(data)

    async def write(self, buffer: bytes, timeout: Any = None) -> None:  # noqa: ASYNC109  as above
        """Write all of it."""
        exchange: Exchange = timeout
        await self._stream.write(buffer, exchange.seconds_left())

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: Any = None,  # noqa: ASYNC109  as above
    ) -> httpcore2.AsyncNetworkStream:
        """Speak TLS from here on."""
        exchange: Exchange = timeout
        try:
            return AsyncStream(await self._stream.start_tls(ssl_context, server_hostname, exchange.seconds_left()))
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close it; a peer that reads nothing can't keep it open, and neither can a cancellation."""
        with suppress(OSError):  # anyio 4.13 waits before it gives up what wasn't sent: a cancellation ends that
            self._socket.shutdown(socket.SHUT_RDWR)
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """Say that something came unasked, or may have, where this connection must not be used again."""
        return (info == "is_readable" and self._may_have_more()) or self._stream.get_extra_info(info)

    def _may_have_more(self) -> bool:
        """What filled a read may have had more behind it, which has left the socket already."""
        secured: ssl.SSLObject | None = self._stream.get_extra_info("ssl_object")
        return self.is_spoiled or self._is_read_full or _has_decrypted(secured)


class AsyncNetwork(httpcore2.AsyncNetworkBackend):
    """Makes connections, as `Network`."""

    def __init__(self, names: Names, real: httpcore2.AsyncNetworkBackend) -> None:
        self._names = names
        self._real = real

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Any = None,  # noqa: ASYNC109  the base class's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to one of the host's addresses, all of which were checked."""
        exchange: Exchange = timeout
        failure: Exception | None = None
        for address, seconds in _shares(exchange.checked(await self._looked_up(host, exchange)), exchange):
            try:
                return AsyncStream(await self._real.connect_tcp(address, port, seconds, local_address, socket_options))
            except CONNECT_FAILURES as error:
                failure = error
        raise failure or httpcore2.ConnectError(host)

    async def _looked_up(self, host: str, exchange: Exchange) -> tuple[str, ...]:
        if _is_literal(host):
            return (host,)
        begun = asyncio.wrap_future(self._names.look_up(exchange.plugin, host))
        try:
            return await asyncio.wait_for(begun, exchange.seconds_left())
        except TimeoutError as error:
            raise _unresolved(host) from error


def _unresolved(host: str) -> BackendTimeout:
    return BackendTimeout(f"the host name {host!r} wasn't resolved before the deadline")
