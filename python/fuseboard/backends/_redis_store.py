"""What `RedisKv` and `AsyncRedisKv` have in common: their settings, their namespaces, and what errors are told as.

Rules:
* A guest is told nothing of the server: no address, no user, no text of its errors. The log tells the operator.
* A command whose reply isn't there, for whatever reason, may have been done. Only a server that answers with an error
  hasn't done it.
* Every wait ends at the deadline, and no reply is read further than its command allows.
"""

from __future__ import annotations

import logging
import math
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import TIMEOUT_MAX, Lock
from typing import Any, Final
from urllib.parse import urlsplit

from redis import exceptions as redis_errors
from redis.connection import parse_url

from fuseboard._arguments import check_kind, check_whole
from fuseboard._errors import BackendError, BackendTimeout, UsageError
from fuseboard._text import printable
from fuseboard.backends._database import too_large
from fuseboard.backends._kv import KvCaps
from fuseboard.backends._redis_effects import Space, StoreFailure
from fuseboard.backends._redis_names import Names, check_prefix

DEFAULT_PREFIX: Final = "fuseboard:"
DEFAULT_CONNECTIONS: Final = 16
_MOST_SPACES: Final = 10_000
_MOST_CONNECTIONS: Final = 10_000
_EXAMPLE: Final = "e.g. redis://localhost:6379/0 or rediss://user:password@cache.example.com/0"

_log = logging.getLogger("fuseboard")


class OversizedReply(Exception):
    """A reply is larger than its command allows."""


class MisfitReply(Exception):
    """A reply is not of the shape that its command has."""


class Bounds:
    """Until when one command may take, and how much of a reply is read.

    Attributes:
        deadline: a time of `time.monotonic()`.
        bytes_left: how much more may come.
    """

    __slots__ = ("bytes_left", "deadline")

    def __init__(self) -> None:
        self.deadline = -math.inf
        self.bytes_left = 0

    def seconds_left(self) -> float:
        """Return how long a wait may take.

        Raises:
            TimeoutError: the deadline is over.
        """
        seconds = seconds_until(self.deadline)
        if not seconds:
            raise TimeoutError
        return seconds

    def count(self, size: int) -> None:
        """Note that so many bytes came.

        Raises:
            OversizedReply: they are too many.
        """
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise OversizedReply


def seconds_until(deadline: float) -> float:
    """Return how long it is until then, as waits take it."""
    return min(max(0.0, deadline - time.monotonic()), TIMEOUT_MAX)


class Settings:
    """Where the server is, and how one gets in.

    Args:
        url: `redis://` or `rediss://`, with user, password, host, port and database.
        prefix: what all keys begin with.
        tls: how a `rediss` server is checked; by default against the system's certificates, by name.

    Raises:
        UsageError: they can't be used.
    """

    def __init__(self, url: str, prefix: str, tls: ssl.SSLContext | None) -> None:
        check_prefix(prefix)
        check_kind("tls", tls, ssl.SSLContext)
        self.arguments = _arguments_of(url)
        self.prefix = prefix
        is_encrypted = self.arguments.pop("connection_class", None) is not None
        if tls is not None and not is_encrypted:
            raise UsageError("tls= is for a URL that begins with rediss://")
        self.tls = (tls or ssl.create_default_context()) if is_encrypted else None

    def __repr__(self) -> str:
        scheme = "redis" if self.tls is None else "rediss"
        host, port = self.arguments.get("host", "localhost"), self.arguments.get("port", 6379)
        return f"{scheme}://{host}:{port}/{self.arguments.get('db', 0)}"


def _arguments_of(url: str) -> dict[str, Any]:
    if not isinstance(url, str):
        raise UsageError(f"url must be text, {_EXAMPLE}; not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
        database = parts.path.strip("/")
        if not is_whole or parts.query or parts.fragment or not (database.isdecimal() or not database):
            raise ValueError("it is incomplete, or has what isn't understood")
        return {**parse_url(url)}
    except ValueError:  # its text may quote the password
        problem = (
            f"url can't be used: it must be {_EXAMPLE}, without a query; it isn't shown, for it may hold a password"
        )
        raise UsageError(problem) from None


class RedisStore:
    """The base of both: knows namespaces by plugin and scope."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        tls: ssl.SSLContext | None,
        max_connections: int,
        caps: KvCaps,
        queue: Callable[[], Any],
    ) -> None:
        check_whole("max_connections", max_connections, _MOST_CONNECTIONS)
        self._settings = Settings(url, prefix, tls)
        self._max_connections = max_connections
        self._caps = caps
        self._make_queue = queue
        self._begin()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings!r})"

    def _begin(self) -> None:
        self._spaces: OrderedDict[tuple[str, str | None], Space] = OrderedDict()
        self._spaces_lock = Lock()

    def _space(self, plugin: str, scope: str | None) -> Space:
        with self._spaces_lock:
            found = self._spaces.get((plugin, scope))
            if found is None:
                found = self._spaces[plugin, scope] = Space(
                    Names.of(self._settings.prefix, plugin, scope), self._make_queue()
                )
                if len(self._spaces) > _MOST_SPACES:
                    self._spaces.popitem(last=False)
            return found


# ── errors ───────────────────────────────────────────────────────────────────────────────────────

_TIMES_OUT: Final = "the key-value store didn't answer before the deadline"
_FAILS: Final = "the key-value store can't be reached, or has broken off"
_ANSWERS: Final[tuple[tuple[tuple[type[Exception], ...], str], ...]] = (
    ((redis_errors.OutOfMemoryError,), "the key-value store has no memory left"),
    ((redis_errors.ReadOnlyError,), "the key-value store takes no writes at present"),
    ((redis_errors.BusyLoadingError,), "the key-value store is starting"),
    (
        (redis_errors.AuthenticationError, redis_errors.AuthorizationError, redis_errors.NoPermissionError),
        "the key-value store refuses the application",
    ),
    (
        (redis_errors.AskError, redis_errors.ClusterError, redis_errors.RedisClusterException),
        "the key-value store has moved these keys elsewhere",
    ),
)
"""What a server answers instead of doing what it was told, the first that fits."""


def failure(error: Exception, *, was_sent: bool) -> StoreFailure:
    """Return what a command's error means for who sent it, and tell the operator of it."""
    if isinstance(error, redis_errors.NoScriptError):
        return StoreFailure(BackendError(_FAILS), is_unknown_script=True)
    if isinstance(error, TimeoutError | redis_errors.TimeoutError):
        return StoreFailure(BackendTimeout(_TIMES_OUT), may_be_done=was_sent)
    if isinstance(error, OversizedReply):
        return StoreFailure(too_large("the value is larger than what may be read"), may_be_done=was_sent)
    _log.error("the Redis server failed: %s", printable(f"{type(error).__name__}: {error}", 500))
    for kinds, reason in _ANSWERS:
        if isinstance(error, kinds):
            return StoreFailure(BackendError(reason))
    if isinstance(error, redis_errors.ResponseError):
        return StoreFailure(BackendError("the key-value store failed"))
    return StoreFailure(BackendError(_FAILS), may_be_done=was_sent)


def closed() -> StoreFailure:
    """Return the failure of who comes after the end."""
    return StoreFailure(BackendError("the key-value store is closed"))


def all_in_use() -> StoreFailure:
    """Return the failure of who got no connection before the deadline."""
    return StoreFailure(BackendTimeout("all connections to the key-value store were in use until the deadline"))
