"""Connections to Redis for threads: each wait ends at the deadline of the command that runs.

Rules:
* A place in the pool belongs to one command: taken before it, given back after it, whatever comes in between.
* A connection goes back only after a whole reply of the right shape, and is used again only while nothing more has come
  on it; in any other case it is closed.
* A host's name is looked up on a thread of its own: nothing can stop that, so nobody waits for it past the deadline.
  Where many of these threads still run, who comes is refused at once.
"""

from __future__ import annotations

import contextlib
import socket
from queue import Empty, SimpleQueue
from threading import Condition, RLock, Thread, current_thread
from typing import Any, Final
from weakref import WeakKeyDictionary

import redis.connection
from redis import exceptions as redis_errors
from redis._parsers import _RESP2Parser
from redis.backoff import NoBackoff
from redis.retry import Retry

from fuseboard.backends._redis_effects import Send, StoreFailure
from fuseboard.backends._redis_store import (
    Bounds,
    MisfitReply,
    Settings,
    all_in_use,
    closed,
    failure,
    seconds_until,
)

_Address = tuple[socket.AddressFamily, Any]

_READ_BYTES: Final = 64 << 10
_MOST_ABANDONED: Final = 16


class _BoundedSocket:
    """A socket for redis-py whose waits end at the deadline, however often it is asked."""

    def __init__(self, inner: socket.socket, bounds: Bounds) -> None:
        self._inner = inner
        self._bounds = bounds
        self._only_looks = False

    def settimeout(self, seconds: float | None) -> None:
        """Have 0 mean: return what is there. Every other wait is bounded already."""
        self._only_looks = seconds == 0

    def recv(self, size: int) -> bytes:
        self._inner.settimeout(0 if self._only_looks else self._bounds.seconds_left())
        data = self._inner.recv(size)
        self._bounds.count(len(data))
        return data

    def sendall(self, data: bytes) -> None:
        self._inner.settimeout(self._bounds.seconds_left())
        self._inner.sendall(data)  # its timeout is for the whole

    def shutdown(self, how: int) -> None:
        self._inner.shutdown(how)

    def close(self) -> None:
        self._inner.close()


class _Connection(redis.connection.Connection):
    """A connection of redis-py over a bounded socket, which tries everything once."""

    def __init__(self, settings: Settings, look_ups: _LookUps) -> None:
        self._settings = settings
        self._look_ups = look_ups
        self.bounds = Bounds()
        super().__init__(
            **settings.arguments,
            protocol=2,
            parser_class=_RESP2Parser,  # the compiled one reserves what a reply only claims to hold
            socket_read_size=_READ_BYTES,
            socket_timeout=None,
            retry=Retry(NoBackoff(), 0),
        )

    def begin(self, deadline: float, most_bytes: int) -> None:
        """Set the bounds of the next command; a connection that isn't there yet is made."""
        self.bounds.deadline, self.bounds.bytes_left = deadline, most_bytes
        self.connect()

    def is_clean(self) -> bool:
        """Return whether it is open and nothing has come that nobody asked for."""
        self.bounds.bytes_left = _READ_BYTES
        try:
            return not self.can_read(0)
        except (OSError, redis_errors.RedisError):
            return False

    def _connect(self) -> _BoundedSocket:
        error: OSError = OSError("the host has no address")
        for family, address in self._look_ups.addresses(self.host, self.port, self.bounds):
            try:
                return _BoundedSocket(self._opened(family, address), self.bounds)
            except OSError as failed:
                error = failed
        raise error

    def _opened(self, family: socket.AddressFamily, address: Any) -> socket.socket:
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            opened.settimeout(self.bounds.seconds_left())
            opened.connect(address)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._settings.tls is None:
                return opened
            opened.settimeout(self.bounds.seconds_left())
            return self._settings.tls.wrap_socket(opened, server_hostname=self.host)
        except BaseException:
            opened.close()
            raise


class _LookUps:
    """The look-ups of the server's host: done at once where it is an address, else each on a thread.

    Args:
        most: how many may be under way, those included that nobody waits for any more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: set[Thread] = set()

    def addresses(self, host: str, port: int, bounds: Bounds) -> list[_Address]:
        with contextlib.suppress(socket.gaierror):
            return _looked_up(host, port, socket.AI_NUMERICHOST)
        if len(self._running) >= self._most:
            raise OSError("too many look-ups of the host are under way")
        found: SimpleQueue[list[_Address] | OSError] = SimpleQueue()
        thread = Thread(target=self._run, args=(host, port, found), name="fuseboard-resolve", daemon=True)
        thread.start()
        try:
            result = found.get(timeout=bounds.seconds_left())
        except Empty:
            raise TimeoutError from None
        if isinstance(result, OSError):
            raise result
        return result

    def _run(self, host: str, port: int, found: SimpleQueue[list[_Address] | OSError]) -> None:
        self._running.add(current_thread())
        try:
            found.put(_looked_up(host, port))
        except OSError as error:
            found.put(error)
        finally:
            self._running.discard(current_thread())


def _looked_up(host: str, port: int, flags: int = 0) -> list[_Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


class _Taker:
    """Whoever has a place in a pool; where it is gone, so is its claim."""

    __slots__ = ("__weakref__",)


class Pool:
    """At most so many connections, each for one command at a time.

    Args:
        settings: where they lead.
        most: how many there may be.
    """

    def __init__(self, settings: Settings, most: int) -> None:
        self._settings = settings
        self._most = most
        self._look_ups = _LookUps(most + _MOST_ABANDONED)
        self._lock = RLock()  # taken by name: an interrupt inside of a condition's own `with` would leave it locked
        self._changed = Condition(self._lock)
        self._idle: list[_Connection] = []
        self._taken: WeakKeyDictionary[_Taker, _Connection | None] = WeakKeyDictionary()
        self._is_closed = False

    def exchange(self, send: Send, deadline: float) -> Any:
        """Send a command and return the reply.

        Raises:
            StoreFailure: there is no good one.
        """
        taker, was_sent = _Taker(), False
        try:
            connection = self._take(taker, deadline)
            connection.begin(deadline, send.most_bytes)
            was_sent = True
            connection.send_packed_command(connection.pack_command(*send.command), check_health=False)
            reply = connection.read_response(disable_decoding=True)
            if not send.fits(reply):
                raise MisfitReply(f"a reply of type {type(reply).__name__}")
            self._give_back(taker)
        except redis_errors.NoScriptError as error:
            self._give_back(taker)
            raise failure(error, was_sent=False) from error
        except StoreFailure:
            raise
        except Exception as error:
            raise failure(error, was_sent=was_sent) from error
        else:
            return reply
        finally:
            self._drop(taker)

    def close(self) -> None:
        """Close what nobody uses; what is in use is closed when it comes back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for connection in idle:
            connection.disconnect()

    def _take(self, taker: _Taker, deadline: float) -> _Connection:
        with self._lock:
            has_place = self._changed.wait_for(self._has_place, seconds_until(deadline))
            if self._is_closed:
                raise closed()
            if not has_place:
                raise all_in_use()
            self._taken[taker] = None
            while self._idle:
                self._taken[taker] = connection = self._idle.pop()
                if connection.is_clean():
                    return connection
                connection.disconnect()
            self._taken[taker] = connection = _Connection(self._settings, self._look_ups)
            return connection

    def _has_place(self) -> bool:
        return self._is_closed or len(self._taken) < self._most

    def _give_back(self, taker: _Taker) -> None:
        with self._lock:
            connection = None if self._is_closed else self._taken.pop(taker)
            if connection is not None:
                self._idle.append(connection)
            self._changed.notify_all()

    def _drop(self, taker: _Taker) -> None:
        with self._lock:
            connection = self._taken.pop(taker, None)
            self._changed.notify_all()
        if connection is not None:
            connection.disconnect()
