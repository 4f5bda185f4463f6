"""A network that can't be relied on: a proxy on loopback that delays, stalls, cuts and garbles what passes through.

Rule: nothing that passes is changed unseen. Rubbish comes in an answer's place, and ends the connection.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum
from random import Random
from typing import Final, Self

_CHUNK: Final = 1 << 16
_PAUSE_SECONDS: Final = 0.03
_STALL_SECONDS: Final = 0.8
_RUBBISH_BYTES: Final = 64
_RESET: Final = struct.pack("ii", 1, 0)


class Fault(StrEnum):
    """What becomes of a piece that was to pass."""

    PAUSE = "pause"
    STALL = "stall"
    CUT = "cut"
    RUBBISH = "rubbish"


_ON_THE_WAY: Final = (Fault.PAUSE, Fault.STALL, Fault.CUT)


class Proxy:
    """Passes connections on to a port of 127.0.0.1, and lets a fault happen to some of what passes.

    Args:
        target: the port.
        share: how much of what passes meets a fault, 0 to 1.
        choices: for when, and which.

    Attributes:
        port: where it listens.
        faults: how many of each kind there were.
    """

    def __init__(self, target: int, share: float, choices: Random) -> None:
        self.faults: Counter[Fault] = Counter()
        self.share = share
        self._target = target
        self._choices = choices
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._pass, sock=self._listener))
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.create_task(self._copy(reader, there_writer, _ON_THE_WAY)),
            asyncio.create_task(self._copy(there_reader, writer, (*_ON_THE_WAY, Fault.RUBBISH))),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            return  # the proxy ends
        finally:
            for way in ways:
                way.cancel()
            for end in (writer, there_writer):
                end.transport.abort()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: tuple[Fault, ...]
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(_CHUNK):
                if await self._meets_fault(writer, faults):
                    return
                writer.write(piece)
                await writer.drain()

    async def _meets_fault(self, writer: asyncio.StreamWriter, faults: tuple[Fault, ...]) -> bool:
        """Let a fault happen, or not; return whether the connection is done with."""
        if self._choices.random() >= self.share:
            return False
        fault = self._choices.choice(faults)
        self.faults[fault] += 1
        return await _FAULTS[fault](writer, self._choices)


async def _pause(_: asyncio.StreamWriter, choices: Random) -> bool:
    await asyncio.sleep(choices.uniform(0, _PAUSE_SECONDS))
    return False


async def _stall(_: asyncio.StreamWriter, __: Random) -> bool:
    await asyncio.sleep(_STALL_SECONDS)
    return True


async def _cut(writer: asyncio.StreamWriter, _: Random) -> bool:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return True


async def _rubbish(writer: asyncio.StreamWriter, choices: Random) -> bool:
    writer.write(choices.randbytes(_RUBBISH_BYTES))
    await writer.drain()
    return True


_FAULTS: Final[dict[Fault, Callable[[asyncio.StreamWriter, Random], Awaitable[bool]]]] = {
    Fault.PAUSE: _pause,
    Fault.STALL: _stall,
    Fault.CUT: _cut,
    Fault.RUBBISH: _rubbish,
}
