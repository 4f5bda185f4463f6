"""HTTP for plugins: requests that reach nothing inside, and end at the deadline.

Rules:
* Every address is checked, and the connection made to the checked one. What lies inside is reached only at origins
  that the operator opens by name.
* Nothing of the environment is used: no proxies, no `.netrc`, no certificates but those of the system or of the
  context that is passed. No cookies are kept, no redirects followed, nothing is sent twice.
* A plugin has connections of its own in each scope.
* `Http` waits on the calling thread, `AsyncHttp` on one event loop; they differ in nothing else.
"""

from __future__ import annotations

try:
    import httpx2
except ImportError as missing:
    raise ImportError("fuseboard.backends.http needs httpx2: pip install 'fuseboard[http]'") from missing

import asyncio
from contextlib import aclosing, closing, suppress
from importlib import import_module
from threading import RLock
from typing import Any, Self

import httpcore2

from fuseboard._errors import UsageError
from fuseboard.backends import Answer, HostCall, Identity
from fuseboard.backends._http_base import HttpBase, HttpSession
from fuseboard.backends._http_errors import errors_as_answers
from fuseboard.backends._http_exchange import KEY
from fuseboard.backends._http_network import AsyncNetwork, Network
from fuseboard.backends._http_transport import AsyncTransport, Transport

__all__ = ["AsyncHttp", "Http"]

with suppress(ImportError):
    import_module("anyio._backends._asyncio")  # else the first request does, and holds the event loop up for it


class Http(HttpBase[httpx2.Client]):
    """Sends plugins' requests, for a `Host`; an `AsyncHost` runs it on threads.

    Args:
        inner: origins that may lead inside, e.g. `http://localhost:8000` or `https://*.corp.example`: there, what is
            private by design is reached (loopback, private networks); link-local addresses and metadata services
            never are. The plugin must be granted the origin too.
        ssl_context: how servers are verified; by default with the system's certificates.
        resolver: gives the addresses of a host name, on a thread; by default the operating system's. What it gives is
            checked like any.
        max_connections: open at once for one plugin in one scope; more wait.
        max_idle_connections: kept open for one plugin in one scope.
        idle_seconds: how long an unused connection is kept.
        max_pools: for how many plugins and scopes connections are kept.
        max_lookups: host names looked up at once; a quarter of them for one plugin.
        max_request_bytes: of a request's body; more is answered `TOO_LARGE`.
        max_response_bytes: of a reply's body, decoded; more is answered `TOO_LARGE`.
        max_head_bytes: of a request's or reply's headers; more is answered `TOO_LARGE`.

    Raises:
        UsageError: an argument can't be used.
    """

    _real: httpcore2.NetworkBackend = httpcore2.SyncBackend()

    def session(self, identity: Identity) -> _Session:
        """Return a session; it opens no connection."""
        return _Session(self, identity)

    def close(self) -> None:
        """Close all connections, those in use once they aren't any more; later requests are refused."""
        self._pools.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _client(self) -> httpx2.Client:
        network = Network(self._names, self._real)
        pool: Any = httpcore2.ConnectionPool(network_backend=network, **self._of_connections)
        pool._optional_thread_lock = RLock()  # noqa: SLF001  its own stays locked where Ctrl-C comes as it is entered
        return httpx2.Client(transport=Transport(pool), trust_env=False)

    def _close_client(self, client: httpx2.Client) -> None:
        client.close()


class _Session(HttpSession[httpx2.Client]):
    def answer(self, call: HostCall, deadline: float) -> Answer:
        exchange = self._begun(call, deadline)
        with (
            errors_as_answers(),
            self._clients.lent(self._owner, exchange) as client,
            closing(client.send(exchange.request(), stream=True)) as reply,
        ):
            exchange.begin(reply.status_code, reply.extensions[KEY])
            for chunk in reply.iter_bytes():
                exchange.take(chunk)
        return exchange.response()


class AsyncHttp(HttpBase[httpx2.AsyncClient]):
    """Sends plugins' requests, for an `AsyncHost`, on the event loop on which it is first used.

    Takes the arguments of `Http`.
    """

    _real: httpcore2.AsyncNetworkBackend = httpcore2.AnyIOBackend()
    _loop: asyncio.AbstractEventLoop | None = None
    _closing: frozenset[asyncio.Task[None]] = frozenset()

    def session(self, identity: Identity) -> _AsyncSession:
        """Return a session; it opens no connection.

        Raises:
            UsageError: this backend belongs to another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._loop not in {None, loop}:
            raise UsageError("this AsyncHttp belongs to another event loop; make one for each")
        self._loop = loop
        return _AsyncSession(self, identity)

    async def aclose(self) -> None:
        """Close all connections, those in use once they aren't any more; later requests are refused."""
        self._pools.close()
        await asyncio.shield(asyncio.gather(*self._closing))  # a cancellation must not end it halfway

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def after_fork_in_child(self) -> None:
        """Begin with no connections and no event loop."""
        super().after_fork_in_child()
        self._loop = None
        self._closing = frozenset()

    def _client(self) -> httpx2.AsyncClient:
        network = AsyncNetwork(self._names, self._real)
        pool = httpcore2.AsyncConnectionPool(network_backend=network, **self._of_connections)
        return httpx2.AsyncClient(transport=AsyncTransport(pool), trust_env=False)

    def _close_client(self, client: httpx2.AsyncClient) -> None:
        """Begin to: a cancellation of who was last to use it must not end that halfway."""
        if self._loop is None or self._loop.is_closed():
            return
        task = self._loop.create_task(client.aclose())
        self._closing |= {task}
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing -= {task}


class _AsyncSession(HttpSession[httpx2.AsyncClient]):
    async def answer(self, call: HostCall, deadline: float) -> Answer:
        exchange = self._begun(call, deadline)
        with errors_as_answers(), self._clients.lent(self._owner, exchange) as client:
            async with (
                aclosing(await client.send(exchange.request(), stream=True)) as reply,
                aclosing(reply.aiter_bytes()) as chunks,
            ):
                exchange.begin(reply.status_code, reply.extensions[KEY])
                async for chunk in chunks:
                    exchange.take(chunk)
                    if exchange.keeps_others_waiting():
                        await asyncio.sleep(0)
        return exchange.response()
