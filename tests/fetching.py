"""Hosts whose plugins speak HTTP: a guest that sends what it is told, and each backend in each host that takes it."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

import httpcore2

import fuseboard as fb
from conftest import guest, manifest
from drivers import DRIVERS, awaited
from fuseboard.backends import Identity
from fuseboard.backends.http import AsyncHttp, Http

FETCH: Final = fb.Filter("fetch", bytes)
FETCHES: Final = guest(
    """(memory (export "memory") 120)
      (func (export "run") (local $n i32) (local $head i32)
        (local.set $n (call $buffer_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 4000000)))
        (local.set $head (i32.load (i32.const 0)))
        (i32.store (i32.const 4000000)
          (call $host_http_request (i32.const 4) (local.get $head)
            (i32.add (i32.const 4) (local.get $head))
            (i32.sub (local.get $n) (i32.add (i32.const 4) (local.get $head)))))
        (i32.store (i32.const 4000004) (call $buffer_length (i32.const 2)))
        (call $output_write (i32.const 4000000) (i32.const 8))
        (call $output_write (i32.const 0)
          (call $buffer_read (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 100000)))
        (call $output_write (i32.const 0)
          (call $buffer_read (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 100000))))"""
)
"""Sends one request, and outputs code, length of the head, head and at most 100,000 bytes of the body."""

TIMEOUT_MS: Final = 10_000


class Fetched(NamedTuple):
    """What a guest got for its request; `code` is the length of the body, or an error's."""

    code: int
    head: dict[str, Any]
    body: bytes
    outcome: fb.Completed[bytes]

    @property
    def reason(self) -> str:
        return str(self.head["reason"])

    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.head["headers"]}


class Form(NamedTuple):
    """A kind of host with a kind of backend that it takes."""

    driver: str
    backend: type[Http | AsyncHttp]


FORMS: Final = {
    "sync": Form("sync", Http),
    "async": Form("async", AsyncHttp),
    "threads": Form("async", Http),
}


class Answers:
    """A resolver that tests script: each name has lists of addresses, one for each time it is asked, the last for good.

    Attributes:
        asked: the names that were looked up.
    """

    def __init__(self, names: Mapping[str, Iterable[str | Iterable[str]]] | None = None) -> None:
        self.names = {
            name: [[each] if isinstance(each, str) else [*each] for each in answers]
            for name, answers in (names or {}).items()
        }
        self.asked: list[str] = []

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        left = self.names.get(host)
        if not left:
            raise OSError(f"no such name: {host}")
        return left.pop(0) if len(left) > 1 else left[0]


@dataclass
class Net:
    """A network in place of the real one: every connection ends at a server of ours, which depends on the address.

    Attributes:
        port_of: the port, on loopback, that an address leads to.
        sends_at_once: how many bytes it takes off a client's hands; by default, what the operating system does.
        reached: the addresses that were connected to.
    """

    port_of: Callable[[str], int]
    sends_at_once: int | None = None
    reached: list[str] = field(default_factory=list)

    def port(self, address: str) -> int:
        self.reached.append(address)
        return self.port_of(address)

    def narrow(self, connected: Any) -> None:
        if self.sends_at_once is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.sends_at_once)


class SyncNet(httpcore2.SyncBackend):
    def __init__(self, net: Net) -> None:
        self._net = net

    def connect_tcp(self, host: str, port: int, *rest: Any) -> httpcore2.NetworkStream:  # noqa: ARG002
        stream = super().connect_tcp("127.0.0.1", self._net.port(host), *rest)
        self._net.narrow(stream.get_extra_info("socket"))
        return stream


class AsyncNet(httpcore2.AnyIOBackend):
    def __init__(self, net: Net) -> None:
        self._net = net

    async def connect_tcp(self, host: str, port: int, *rest: Any) -> httpcore2.AsyncNetworkStream:  # noqa: ARG002
        stream = await super().connect_tcp("127.0.0.1", self._net.port(host), *rest)
        self._net.narrow(stream.get_extra_info("socket"))
        return stream


class Scene:
    """A host with an HTTP backend, and plugins that fetch.

    Args:
        form: which kinds.
        net: what stands for the network.
        settings: the backend's arguments.
    """

    def __init__(self, form: Form, net: Net | None = None, **settings: Any) -> None:
        self.http = form.backend(**settings)
        if net is not None:
            self.http._real = SyncNet(net) if isinstance(self.http, Http) else AsyncNet(net)
        self.outcomes: list[fb.Outcome] = []
        self.host: fb.Host = DRIVERS[form.driver](
            hooks=[FETCH],
            backends=fb.Backends(http=self.http),
            ceilings=fb.Limits(memory_limit_mb=16),
            on_outcome=self.outcomes.append,
        )

    def load(self, *origins: str, slug: str = "web", **server: Any) -> Self:
        """Load the plugin, granted these origins."""
        server = {"invocation_timeout_ms": TIMEOUT_MS, "capabilities": {"http": origins}} | server
        self.host.load_bytes(FETCHES, manifest(slug, "fetch", **server), grants="as-requested")
        return self

    def fetch(self, url: str, *, slug: str = "web", scope: str | None = None, **request: Any) -> Fetched:
        """Have the plugin send a request, and return what it got."""
        outcome = self.invoke(url, slug=slug, scope=scope, **request)
        assert isinstance(outcome, fb.Completed), outcome
        code, length = struct.unpack_from("<iI", outcome.value)
        head, body = outcome.value[8 : 8 + length], outcome.value[8 + length :]
        return Fetched(code, json.loads(head), body, outcome)

    def invoke(
        self,
        url: str,
        *,
        slug: str = "web",
        scope: str | None = None,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        timeout_ms: int | None = None,
    ) -> fb.Outcome:
        """Have the plugin send a request, and return the outcome."""
        head = json.dumps({"method": method, "url": url, "headers": [*headers]}).encode()
        value = struct.pack("<I", len(head)) + head + body
        return self.host.invoke(slug, FETCH, value, scope=scope, request_id="r-1", timeout_ms=timeout_ms)

    def connections(self, slug: str = "web", scope: str | None = None) -> list[str]:
        """Return the state of each connection of a plugin."""
        pool: Any = self.http._pools._pools.get((slug, scope))
        return [each.info() for each in pool.client._transport.pool.connections] if pool else []

    def close(self) -> None:
        self.host.close()
        if isinstance(self.http, Http):
            self.http.close()
        else:
            awaited(self.http.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


MakeScene = Callable[..., Scene]


def identity(plugin: str = "web", scope: str | None = None) -> Identity:
    return Identity(plugin=plugin, hook="fetch", scope=scope, request_id="r-1", grants=fb.Grants(), version="1.2.3")
