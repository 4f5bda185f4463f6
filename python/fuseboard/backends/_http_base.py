"""What `Http` and `AsyncHttp` have in common: the operator's settings, checked, and each plugin's client."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

import httpx2

from fuseboard import _core
from fuseboard._arguments import check_kind, check_whole
from fuseboard._errors import BackendError, UsageError
from fuseboard._grants import GRANT_CHECKS
from fuseboard._limits import MIB
from fuseboard._urls import OriginPattern
from fuseboard.backends import HostCall, HttpRequest, Identity
from fuseboard.backends._host_names import Names, Resolve, system_addresses
from fuseboard.backends._http_exchange import Exchange
from fuseboard.backends._http_fields import HttpCaps
from fuseboard.backends._http_pools import Pools

C = TypeVar("C")

_MOST_BYTES: Final = 1 << 30
_MOST: Final = 100_000
_DAY_SECONDS: Final = 86_400
_NOT_IN_TOKENS: Final = re.compile(r"[^!#$%&'*+.^_`|~0-9A-Za-z-]")


class HttpBase(Generic[C]):
    """Clients for plugins; the arguments are told of at `Http`."""

    def __init__(
        self,
        *,
        inner: Sequence[str] = (),
        ssl_context: ssl.SSLContext | None = None,
        resolver: Resolve | None = None,
        max_connections: int = 16,
        max_idle_connections: int = 4,
        idle_seconds: int = 15,
        max_pools: int = 128,
        max_lookups: int = 64,
        max_request_bytes: int = MIB,
        max_response_bytes: int = 4 * MIB,
        max_head_bytes: int = 64 << 10,
    ) -> None:
        check_kind("ssl_context", ssl_context, ssl.SSLContext)
        if resolver is not None and not callable(resolver):
            raise UsageError(f"resolver={resolver!r} must be a function that gives the addresses of a host name")
        check_whole("max_connections", max_connections, _MOST)
        check_whole("max_idle_connections", max_idle_connections, _MOST, least=0)
        check_whole("idle_seconds", idle_seconds, _DAY_SECONDS)
        check_whole("max_pools", max_pools, _MOST)
        check_whole("max_lookups", max_lookups, _MOST)
        self._inner = _patterns(inner)
        self._caps = _caps(max_request_bytes, max_response_bytes, max_head_bytes)
        self._names = Names(resolver or system_addresses, max_lookups)
        self._of_connections: dict[str, Any] = {
            "ssl_context": ssl_context or httpx2.create_ssl_context(trust_env=False),
            "max_connections": max_connections,
            "max_keepalive_connections": max_idle_connections,
            "keepalive_expiry": idle_seconds,
        }
        self._pools: Pools[C] = Pools(self._client, self._close_client, max_pools, idle_seconds)

    def after_fork_in_child(self) -> None:
        """Begin with no connections: those that were inherited are the parent's."""
        self._names.after_fork_in_child()
        self._pools.after_fork_in_child()

    def _client(self) -> C:
        """Make a client, without I/O."""
        raise NotImplementedError

    def _close_client(self, client: C) -> None:
        """Close a client, or begin to."""
        raise NotImplementedError

    def _exchange(self, call: HostCall, identity: Identity, deadline: float) -> Exchange:
        if not isinstance(call, HttpRequest):
            raise TypeError(f"{type(self).__name__} doesn't serve {type(call).__name__}")
        agent = f"fuseboard/{_core.VERSION} {identity.plugin}/{_NOT_IN_TOKENS.sub('_', identity.version)}"
        is_opened = any(pattern.matches(call.url.origin) for pattern in self._inner)
        return Exchange(call, identity.plugin, agent, self._caps, deadline, is_opened=is_opened)


class HttpSession(Generic[C]):
    """One invocation's requests, which can't be taken back."""

    def __init__(self, backend: HttpBase[C], identity: Identity) -> None:
        self._backend = backend
        self._clients = backend._pools  # noqa: SLF001  it is the backend's session
        self._identity = identity
        self._owner = (identity.plugin, identity.scope)
        self._exchange: Exchange | None = None
        self._has_ended = False

    def commit(self, deadline: float) -> None:
        """Do nothing: what was sent was sent."""

    def rollback(self) -> None:
        """End the waiting for a reply; what was sent can't be taken back."""
        self._has_ended = True
        if self._exchange is not None:
            self._exchange.stop()

    def _begun(self, call: HostCall, deadline: float) -> Exchange:
        self._exchange = exchange = self._backend._exchange(call, self._identity, deadline)  # noqa: SLF001  as above
        if self._has_ended:
            raise BackendError("this session has ended")
        return exchange


def _patterns(inner: Sequence[str]) -> tuple[OriginPattern, ...]:
    for where, value, problem in GRANT_CHECKS["http"](inner):
        raise UsageError(f"inner{where}={value!r}: {problem}")
    return tuple(map(OriginPattern.parse, inner))


def _caps(request_bytes: int, response_bytes: int, head_bytes: int) -> HttpCaps:
    check_whole("max_request_bytes", request_bytes, _MOST_BYTES, least=0)
    check_whole("max_response_bytes", response_bytes, _MOST_BYTES)
    check_whole("max_head_bytes", head_bytes, MIB, least=1 << 10)
    return HttpCaps(request_bytes=request_bytes, response_bytes=response_bytes, head_bytes=head_bytes)
