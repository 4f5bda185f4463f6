"""Connections to Redis for an event loop: each command ends at its deadline, whatever it waits for.

Rules:
* A connection goes back only after a whole reply of the right shape, and is used again only while nothing more has come
  on it; in any other case it is broken off: at once, without a farewell that could take its time.
* No more of a reply is kept than its command allows.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import redis.asyncio.connection
from redis import exceptions as redis_errors
from redis._parsers import _AsyncRESP2Parser
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fuseboard._errors import UsageError
from fuseboard.backends._redis_effects import Send
from fuseboard.backends._redis_store import (
    Bounds,
    MisfitReply,
    OversizedReply,
    Settings,
    all_in_use,
    closed,
    failure,
    seconds_until,
)

_LINES_A_TURN: Final = 500
_WORDS_A_TURN: Final = 2000


class _BoundedReader(asyncio.StreamReader):
    """A stream that breaks where more comes than is expected, and lets others have their turn."""

    def __init__(self, bounds: Bounds, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._bounds = bounds
        self._lines = 0

    def feed_data(self, data: Any) -> None:
        try:
            self._bounds.count(len(data))
        except OversizedReply as error:
            self.set_exception(error)
        else:
            super().feed_data(data)

    async def readline(self) -> bytes:
        self._lines += 1
        if self._lines % _LINES_A_TURN == 0:
            await asyncio.sleep(0)
        return await super().readline()

    def is_clean(self) -> bool:
        """Return whether it is open and holds nothing."""
        return self.exception() is None and not self._buffer and not self._eof  # type: ignore[attr-defined]


class _Connection(redis.asyncio.connection.Connection):
    """A connection of redis-py over a bounded stream, which tries everything once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.bounds = Bounds()
        self._transport: asyncio.Transport | None = None
        super().__init__(
            **settings.arguments,
            protocol=2,
            parser_class=_AsyncRESP2Parser,  # the compiled one reserves what a reply only claims to hold
            socket_timeout=None,
            retry=Retry(NoBackoff(), 0),
        )

    def is_clean(self) -> bool:
        """Return whether it is open and nothing has come that nobody asked for."""
        self.bounds.bytes_left = 0
        reader = self._reader
        return isinstance(reader, _BoundedReader) and reader.is_clean()

    def drop(self) -> None:
        """Break it off."""
        if self._transport is not None:
            self._transport.abort()
        self._parser.on_disconnect()
        self._reader = self._writer = None

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        reader = _BoundedReader(self.bounds, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, self.host, self.port, ssl=self._settings.tls)
        self._transport, self._reader = transport, reader
        self._writer = asyncio.StreamWriter(transport, protocol, reader, loop)


async def _packed(connection: _Connection, send: Send) -> list[bytes]:
    """Return what is sent; a commit of thousands of writes is put together on a thread, for it takes long."""
    if len(send.command) <= _WORDS_A_TURN:
        packed: list[bytes] = connection.pack_command(*send.command)
        return packed
    return await asyncio.to_thread(connection.pack_command, *send.command)


class AsyncPool:
    """At most so many connections, each for one command at a time, all for one event loop.

    Args:
        settings: where they lead.
        most: how many there may be.
    """

    def __init__(self, settings: Settings, most: int) -> None:
        self._settings = settings
        self._places = asyncio.Semaphore(most)
        self._idle: list[_Connection] = []
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def exchange(self, send: Send, deadline: float) -> Any:
        """Send a command and return the reply.

        Raises:
            StoreFailure: there is no good one.
            UsageError: another event loop uses this store.
        """
        self._check_loop()
        await self._take_place(deadline)
        try:
            return await self._exchange(send, deadline)
        finally:
            self._places.release()

    async def aclose(self) -> None:
        """Close what nobody uses; what is in use is closed when it comes back."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().drop()
        await asyncio.sleep(0)  # the sockets are closed in the loop's next pass

    async def _take_place(self, deadline: float) -> None:
        try:
            async with asyncio.timeout(seconds_until(deadline)):
                await self._places.acquire()
        except TimeoutError:
            raise all_in_use() from None

    async def _exchange(self, send: Send, deadline: float) -> Any:
        if self._is_closed:
            raise closed()
        connection, was_sent = self._taken(), False
        connection.bounds.bytes_left = send.most_bytes
        try:
            async with asyncio.timeout(seconds_until(deadline)):
                await connection.connect()
                packed = await _packed(connection, send)
                was_sent = True
                await connection.send_packed_command(packed, check_health=False)
                reply = await connection.read_response(disable_decoding=True)
            if not send.fits(reply):
                raise MisfitReply(f"a reply of type {type(reply).__name__}")
            self._keep(connection)
        except redis_errors.NoScriptError as error:
            self._keep(connection)
            raise failure(error, was_sent=False) from error
        except Exception as error:
            connection.drop()
            raise failure(error, was_sent=was_sent) from error
        except BaseException:
            connection.drop()
            raise
        return reply

    def _taken(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_clean():
                return connection
            connection.drop()
        return _Connection(self._settings)

    def _keep(self, connection: _Connection) -> None:
        if self._is_closed:
            connection.drop()
        else:
            self._idle.append(connection)

    def _check_loop(self) -> None:
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        if self._loop is not running:
            raise UsageError("an AsyncRedisKv belongs to the event loop that used it first; make one for each")
