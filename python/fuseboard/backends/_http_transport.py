"""The way through httpcore2: sends exchanges on a pool's connections, and gives out their bodies piece by piece.

Rules:
* Between two pieces the clock is looked at, and an event loop's other tasks have their turn: a server decides how many
  pieces there are, and what each costs to decode.
* A connection on which more came than a reply isn't used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpcore2
import httpx2

from fuseboard.backends._http_exchange import KEY, Exchange
from fuseboard.backends._http_fields import shown_to_client


def _has_more(stream: Any) -> bool:
    """Return whether a server sent more than its reply: the connection's next reply would begin with it."""
    for name in ("_stream", "_connection", "_h11_state"):
        stream = getattr(stream, name, None)
    return bool(getattr(stream, "trailing_data", (b"who knows", False))[0])


class _Body(httpx2.SyncByteStream):
    def __init__(self, reply: httpcore2.Response, exchange: Exchange) -> None:
        self._stream: Any = reply.stream
        self._connection: Any = reply.extensions["network_stream"]
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            self._exchange.goes_on()
            yield part
        if _has_more(self._stream):
            self._connection.is_spoiled = True

    def close(self) -> None:
        self._stream.close()


class Transport(httpx2.BaseTransport):
    """Sends an exchange through a pool of connections of its own."""

    def __init__(self, pool: httpcore2.ConnectionPool) -> None:
        self.pool = pool

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the exchange that the request carries; the reply's whole head is among its extensions."""
        exchange: Exchange = request.extensions[KEY]
        reply = self.pool.handle_request(exchange.core_request())
        shown, extensions = shown_to_client(reply.headers), {KEY: reply.headers}
        return httpx2.Response(reply.status, headers=shown, stream=_Body(reply, exchange), extensions=extensions)

    def close(self) -> None:
        """Close all connections."""
        self.pool.close()


class _AsyncBody(httpx2.AsyncByteStream):
    def __init__(self, reply: httpcore2.Response, exchange: Exchange) -> None:
        self._stream: Any = reply.stream
        self._connection: Any = reply.extensions["network_stream"]
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            self._exchange.goes_on()
            if self._exchange.keeps_others_waiting():
                await asyncio.sleep(0)
            yield part
        if _has_more(self._stream):
            self._connection.is_spoiled = True

    async def aclose(self) -> None:
        await self._stream.aclose()


class AsyncTransport(httpx2.AsyncBaseTransport):
    """Sends an exchange through a pool of connections of its own, as `Transport`."""

    def __init__(self, pool: httpcore2.AsyncConnectionPool) -> None:
        self.pool = pool

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the exchange that the request carries; the reply's whole head is among its extensions."""
        exchange: Exchange = request.extensions[KEY]
        reply = await self.pool.handle_async_request(exchange.core_request())
        shown, extensions = shown_to_client(reply.headers), {KEY: reply.headers}
        return httpx2.Response(reply.status, headers=shown, stream=_AsyncBody(reply, exchange), extensions=extensions)

    async def aclose(self) -> None:
        """Close all connections."""
        await self.pool.aclose()
