"""HTTP against a hostile server: what goes on the wire, what comes back, time, size, TLS, and whose connection it is.

Rules:
* Tests run in all kinds of hosts where the kind isn't the subject: `Http` in a `Host`, both in an `AsyncHost`.
* Servers are real and on loopback, which the operator's word opens.
* Time is real: what must end by the deadline is tried three times, and the best counts.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import trustme

import fuseboard as fb
from drivers import awaited
from fetching import FORMS, Answers, AsyncNet, Fetched, Form, Net, Scene, identity
from fuseboard import _core
from fuseboard._urls import parse_url
from fuseboard.backends import AnswerCode, HttpRequest, HttpResponse, KvGet
from fuseboard.backends._http_exchange import Exchange
from fuseboard.backends._http_fields import HttpCaps
from fuseboard.backends._http_pools import Pools
from fuseboard.backends._http_transport import _has_more
from fuseboard.backends.http import AsyncHttp, Http
from web import Web

LATEST_SECONDS: Final = 0.020
WAIT_MS: Final = 150


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with Web() as server:
        yield server


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


@pytest.fixture
def make_scene(form: Form) -> Iterator[Callable[..., Scene]]:
    """Return a factory of hosts with a plugin `web`, for which the origins given are opened and granted."""
    scenes: list[Scene] = []

    def make(*origins: str, net: Net | None = None, server: dict[str, Any] | None = None, **settings: Any) -> Scene:
        scenes.append(Scene(form, net, **{"inner": origins} | settings))
        return scenes[-1].load(*origins, **(server or {}))

    yield make
    for scene in scenes:
        scene.close()


@pytest.fixture
def scene(make_scene: Callable[..., Scene], web: Web) -> Scene:
    web.asked.clear()
    return make_scene(web.origin)


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until a condition holds, and fail where it doesn't come to."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it didn't come to hold"
        time.sleep(0.005)


# ── the request ──────────────────────────────────────────────────────────────────────────────────


def test_what_goes_on_the_wire(scene: Scene, web: Web) -> None:
    """The host's headers once each, then the guest's as they are; nothing else."""
    headers = [("X-Mine", "  ä "), ("accept", "text/plain"), ("X-Mine", "2")]
    scene.fetch(f"{web.origin}/echo?a=%20b", method="POST", headers=headers, body=b"\x00\r\n\r\n")
    [asked] = web.asked
    assert asked.head.decode("latin-1").split("\r\n") == [
        "POST /echo?a=%20b HTTP/1.1",
        f"Host: 127.0.0.1:{web.port}",
        f"User-Agent: fuseboard/{_core.VERSION} web/1.0.0",
        "Accept-Encoding: gzip, deflate",
        "Content-Length: 5",
        "X-Mine: ä",
        "accept: text/plain",
        "X-Mine: 2",
        "X-Request-ID: r-1",
    ]
    assert asked.body == b"\x00\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "length"),
    [("GET", []), ("HEAD", []), ("DELETE", []), ("OPTIONS", []), ("POST", ["0"]), ("PUT", ["0"]), ("PATCH", ["0"])],
)
def test_a_request_without_a_body(scene: Scene, web: Web, method: str, length: list[str]) -> None:
    """Methods that are expected to carry a body say that theirs is empty."""
    scene.fetch(f"{web.origin}/echo", method=method)
    assert (web.asked[0].method, web.asked[0].header("content-length"), web.asked[0].body) == (method, length, b"")


def test_a_version_is_written_as_a_token(make_scene: Callable[..., Scene], web: Web) -> None:
    """Whatever a manifest calls its version, it can't end the header or forge another."""
    scene = make_scene(web.origin, server={"slug": "odd", "version": "1 (β) evil/2"})
    scene.fetch(f"{web.origin}/", slug="odd")
    assert web.asked[-1].header("user-agent") == [f"fuseboard/{_core.VERSION} odd/1_____evil_2"]


def test_ipv6(make_scene: Callable[..., Scene]) -> None:
    """An IPv6 address stands in brackets in `Host`, and is connected to as it is."""
    with Web("::1") as web:
        scene = make_scene(web.origin)
        scene.fetch(f"{web.origin}/")
        assert web.asked[0].header("host") == [f"[::1]:{web.port}"]


HOSTS_OWN: Final = [
    "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer",
    "Upgrade", "HTTP2-Settings", "Expect", "Proxy-Authorization", "Proxy-Anything", "Accept-Encoding", "User-Agent",
    "X-Request-ID", "Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTS_OWN)
def test_a_guest_does_not_set_the_hosts_headers(scene: Scene, web: Web, name: str) -> None:
    """In whatever case, and with whatever servers take for its hyphens, nothing is sent; any other is, see above."""
    for each in (name, name.upper(), name.lower(), name.replace("-", "_")):
        got = scene.fetch(f"{web.origin}/", headers=[(each, "1")])
        assert (got.code, got.reason) == (AnswerCode.BAD_REQUEST, f"header {each!r} is the host's to set")
    assert web.asked == []


SPLITTING: Final = {
    "line break in a value": {"headers": [("X-A", "b\r\nX-Evil: 1")]},
    "line feed in a value": {"headers": [("X-A", "b\nX-Evil: 1")]},
    "carriage return in a value": {"headers": [("X-A", "b\rX-Evil: 1")]},
    "a whole request in a value": {"headers": [("X-A", "b\r\n\r\nGET /evil HTTP/1.1\r\nHost: a")]},
    "a null in a value": {"headers": [("X-A", "b\0c")]},
    "a line separator in a value": {"headers": [("X-A", "b\u2028X-Evil: 1")]},
    "a letter that ends in a line feed": {"headers": [("X-A", "b\u010aX-Evil: 1")]},
    "line break in a name": {"headers": [("X-A: b\r\nX-Evil", "1")]},
    "colon in a name": {"headers": [("X-Evil: 1", "2")]},
    "space after a name": {"headers": [("Content-Length ", "5")]},
    "an empty name": {"headers": [("", "5")]},
    "line break in a method": {"method": "GET / HTTP/1.1\r\nX-Evil: 1\r\n\r\nGET"},
    "space in a method": {"method": "GET /evil HTTP/1.1 "},
    "another method": {"method": "CONNECT"},
    "a method in small letters": {"method": "get"},
    "line break in a path": {"path": "/ HTTP/1.1\r\nX-Evil: 1\r\n\r\n"},
    "space in a path": {"path": "/ HTTP/1.1"},
}
"""Ways to write more than one request, or another one than was checked."""


@pytest.mark.parametrize("way", SPLITTING.values(), ids=SPLITTING)
def test_a_request_stays_one_request(scene: Scene, web: Web, way: dict[str, Any]) -> None:
    """Nothing is sent of what could be read as another request, or part of one."""
    request = dict(way)
    assert scene.fetch(web.origin + request.pop("path", "/"), **request).code == AnswerCode.BAD_REQUEST
    assert web.asked == []


def test_the_server_would_fall_for_splitting(web: Web) -> None:
    """What the rows above would write, were it written, are two requests."""
    web.asked.clear()
    with socket.create_connection(("127.0.0.1", web.port)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nX-A: b\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: [asked.path for asked in web.asked] == ["/", "/evil"])


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"body": b"x" * 2_001}, "the request's body is larger than 2000 bytes"),
        ({"headers": [("X-A", "b" * 1_100)]}, "the request's header is larger than 1024 bytes"),
        ({"headers": [(f"X-{number}", "") for number in range(130)]}, "the request has more than 128 headers"),
    ],
)
def test_a_request_that_is_too_large(
    make_scene: Callable[..., Scene], web: Web, request_: dict[str, Any], reason: str
) -> None:
    """It isn't sent; one that just fits is."""
    web.asked.clear()
    scene = make_scene(web.origin, max_request_bytes=2_000, max_head_bytes=1_024)
    got = scene.fetch(f"{web.origin}/", method="POST", **request_)
    assert (got.code, got.reason, web.asked) == (AnswerCode.TOO_LARGE, reason, [])
    assert scene.fetch(f"{web.origin}/", method="POST", body=b"x" * 2_000).code == 5


# ── the reply ────────────────────────────────────────────────────────────────────────────────────


def test_what_belonged_to_the_connection_is_hidden(scene: Scene, web: Web) -> None:
    """Hop-by-hop headers, those that `Connection` names, and the length, which the body has itself."""
    assert scene.fetch(f"{web.origin}/of-the-connection").head == {"status": 200, "headers": [["X-Kept", "1"]]}


@pytest.mark.parametrize("path", ["/gzip", "/deflate"])
def test_an_encoded_body_is_decoded(scene: Scene, web: Web, path: str) -> None:
    """The guest sees the body, and not how it was packed."""
    got = scene.fetch(web.origin + path)
    assert got.body == b"hello" * 99
    assert not {"content-encoding", "content-length"} & got.headers().keys()


@pytest.mark.parametrize(("path", "encodings"), [("/brotli", ["br"]), ("/gzip-twice", ["gzip", "gzip"])])
def test_what_was_not_asked_for_is_not_decoded(scene: Scene, web: Web, path: str, encodings: list[str]) -> None:
    """Such a body comes as it is, with the header that says what it is."""
    got = scene.fetch(web.origin + path)
    assert [value for name, value in got.head["headers"] if name == "Content-Encoding"] == encodings
    assert got.body != b"hello"


def test_head_has_no_body_but_its_length(scene: Scene, web: Web) -> None:
    """What a `HEAD` is for is kept; a body that is sent all the same is nobody's next reply."""
    for _ in range(2):
        got = scene.fetch(f"{web.origin}/sized?5", method="HEAD")
        assert (got.headers()["content-length"], got.body) == ("5", b"")
        assert scene.fetch(f"{web.origin}/").body == b"hello"


UNASKED: Final = pytest.mark.parametrize(
    ("path", "first"),
    [
        ("/leftover", b"asked"),
        ("/leftover-at-once", b"asked"),
        ("/leftover-beyond-a-read", b"x" * 4_055),
        ("/goodbye", b"hello"),
    ],
)


@UNASKED
def test_what_nobody_asked_for_is_no_reply(scene: Scene, web: Web, path: str, first: bytes) -> None:
    """What a server sends behind a reply, at once or later, ends the connection and reaches nobody."""
    unasked_reaches_nobody(scene, web, path, first)


def unasked_reaches_nobody(scene: Scene, web: Web, path: str, first: bytes) -> None:
    before = web.connections
    assert scene.fetch(web.origin + path).body == first
    time.sleep(0.1)
    assert scene.fetch(f"{web.origin}/echo").body.startswith(b"GET /echo")
    assert web.connections == before + 2


def test_a_connection_that_shows_nothing_is_not_used_again() -> None:
    """Where a new httpcore2 keeps what else came elsewhere, it counts as come."""
    assert _has_more(object())


def test_cookies_are_not_kept(scene: Scene, web: Web) -> None:
    """The guest sees them and may send them; nobody else does, where a client of httpx2 would."""
    got = scene.fetch(f"{web.origin}/cookie")
    assert [value for name, value in got.head["headers"]] == ["a=b; Path=/", "c=d"]
    scene.fetch(f"{web.origin}/")
    assert web.asked[-1].header("cookie") == []
    with httpx2.Client(trust_env=False) as usual:
        usual.get(f"{web.origin}/cookie")
        usual.get(f"{web.origin}/")
    assert web.asked[-1].header("cookie") == ["a=b; c=d"]


def test_redirects_are_followed_by_the_flow_alone(scene: Scene, web: Web) -> None:
    """Each hop is charged; one outside the grants is denied, and never sent."""
    got = scene.fetch(f"{web.origin}/redirect?/redirect?/")
    assert (got.body, got.outcome.meters["http_fetches"].used) == (b"hello", 3)
    assert scene.fetch(f"{web.origin}/redirect?http://127.0.0.1:1/").code == AnswerCode.DENIED


def test_five_redirects_are_the_most(scene: Scene, web: Web) -> None:
    """A server that redirects for ever is asked six times."""
    web.asked.clear()
    got = scene.fetch(f"{web.origin}/redirect?{'/redirect?' * 7}/")
    assert (got.code, len(web.asked)) == (AnswerCode.BACKEND_FAILED, 6)


# ── time ─────────────────────────────────────────────────────────────────────────────────────────

SLOW: Final = [
    "/never", "/drip-head", "/drip-headers", "/drip-informs", "/drip-body", "/drip-chunks", "/drip-extension",
    "/drip-gzip", "/slow-end", "/other-protocol", "/endless-crumbs", "/hollow-crumbs",
]  # fmt: skip


def lateness(scene: Scene, url: str, wait_ms: int = WAIT_MS, **request: Any) -> float:
    """Return by how many seconds a fetch outlasts its time; it trips, and the trap names the host call."""
    best = 10.0
    for _ in range(3):
        began = time.monotonic()
        outcome = scene.invoke(url, timeout_ms=wait_ms, **request)
        best = min(best, time.monotonic() - began - wait_ms / 1e3)
        assert isinstance(outcome, fb.Trapped), outcome
        assert (outcome.trap.limit, outcome.trap.host_call) == (fb.Limit.TIMEOUT, "host_http_request")
        if best <= LATEST_SECONDS:
            break
    return best


@pytest.mark.parametrize("path", SLOW)
def test_a_slow_server_costs_its_time_and_no_more(scene: Scene, web: Web, path: str) -> None:
    """Within 20 ms of the deadline it is over, and the plugin's next request is served."""
    assert 0 <= lateness(scene, web.origin + path) <= LATEST_SECONDS
    assert scene.fetch(f"{web.origin}/").body == b"hello"
    until(lambda: len(scene.connections()) == 1)


def test_pieces_that_cost_much_are_paid_one_by_one(make_scene: Callable[..., Scene], web: Web) -> None:
    """However long a server makes the decoding of each byte, it ends in time, and an event loop isn't held up."""
    assert lateness(make_scene(web.origin), f"{web.origin}/junk-behind-gzip", 700) <= 5 * LATEST_SECONDS


@pytest.mark.parametrize("place", ["handshake", "write", "accept", "resolver", "pool"])
def test_whatever_is_waited_for_ends(make_scene: Callable[..., Scene], web: Web, place: str) -> None:
    """A handshake, a server that reads nothing or accepts nobody, a look-up, a busy pool: all end in time."""
    if place == "handshake":
        with Web(silent=True) as other:
            origin = other.named("127.0.0.1").replace("http:", "https:")
            assert lateness(make_scene(origin), f"{origin}/") <= LATEST_SECONDS
    elif place == "write":
        with Web(reads=False) as other:
            scene = make_scene(other.origin, net=Net(lambda _: other.port, sends_at_once=16_384))
            late = lateness(scene, f"{other.origin}/", method="POST", body=bytes(900_000))
            assert late <= LATEST_SECONDS
    elif place == "accept":
        with full_listener() as port:
            origin = f"http://127.0.0.1:{port}"
            assert lateness(make_scene(origin), f"{origin}/") <= LATEST_SECONDS
    elif place == "resolver":
        scene = make_scene("http://slow.example", resolver=slow_addresses)
        assert lateness(scene, "http://slow.example/") <= LATEST_SECONDS
    else:
        pool_is_busy(make_scene(web.origin, max_connections=1), web)


def slow_addresses(_: str) -> list[str]:
    time.sleep(0.5)
    return ["127.0.0.1"]


class full_listener:  # noqa: N801  a context manager
    """A port that is listened on, and where no connection is completed any more."""

    def __enter__(self) -> int:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        port: int = self.listener.getsockname()[1]
        self.clients = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(("127.0.0.1", port))
            self.clients.append(client)
        return port

    def __exit__(self, *_: object) -> None:
        for each in (*self.clients, self.listener):
            each.close()


def pool_is_busy(scene: Scene, web: Web) -> None:
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(scene.invoke, f"{web.origin}/never", timeout_ms=1_500)
        until(lambda: bool(web.asked) and web.asked[-1].path == "/never")
        assert lateness(scene, f"{web.origin}/") <= LATEST_SECONDS
        assert isinstance(other.result(), fb.Trapped)
    assert scene.fetch(f"{web.origin}/").body == b"hello"


# ── size ─────────────────────────────────────────────────────────────────────────────────────────

TOO_LARGE: Final = {
    "/informs": "the head of the reply has too many lines",
    "/endless-head": "the head of the reply has too many lines",
    "/many-lines": "the head of the reply has too many lines",
    "/many-trailers": "the trailer of the reply has too many lines",
    "/endless-trailer": "the trailer of the reply has too many lines",
    "/endless-line": "the head of the reply is larger than 65536 bytes",
    "/endless-reason": "the head of the reply is larger than 65536 bytes",
    "/many-fields": "the reply has more than 128 headers",
    "/endless-body": "the reply is larger than 100000 bytes",
    "/endless-crumbs": "the reply is larger than",
    "/huge": "the reply is larger than 100000 bytes",
    "/until-closed": "the reply is larger than 100000 bytes",
    "/bomb-gzip": "the reply is larger than 100000 bytes",
    "/bomb-deflate": "the reply is larger than 100000 bytes",
    "/bomb-bare-deflate": "the reply is larger than 100000 bytes",
    "/hollow-gzip": "the reply is larger than",
    "/sized?100001": "the reply is larger than 100000 bytes",
}


@pytest.mark.parametrize(("path", "reason"), TOO_LARGE.items(), ids=TOO_LARGE)
def test_too_much_is_answered_so(make_scene: Callable[..., Scene], web: Web, path: str, reason: str) -> None:
    """Floods and bombs are cut off where the cap is, and the connection with them."""
    scene = make_scene(web.origin, max_response_bytes=100_000)
    got = scene.fetch(web.origin + path)
    assert (got.code, got.reason[: len(reason)]) == (AnswerCode.TOO_LARGE, reason)
    assert scene.fetch(f"{web.origin}/sized?100000").code == 100_000
    assert len(scene.connections()) == 1


# ── what is broken ───────────────────────────────────────────────────────────────────────────────

BROKEN: Final = {
    "/hang-up": "broke off", "/hang-up-in-head": "broke off", "/hang-up-in-body": "broke off",
    "/hang-up-in-chunk": "broke off", "/reset": "broke", "/reset-in-head": "broke", "/reset-in-body": "broke",
    "/rubbish": "doesn't speak HTTP", "/no-status": "doesn't speak HTTP", "/http2": "doesn't speak HTTP",
    "/bad-field": "doesn't speak HTTP", "/nul-field": "doesn't speak HTTP", "/bad-chunk": "doesn't speak HTTP",
    "/negative-length": "doesn't speak HTTP", "/vast-length": "doesn't speak HTTP", "/vast-chunk": "doesn't speak HTTP",
    "/two-lengths": "doesn't speak HTTP", "/both-lengths": "has two lengths", "/odd-encoding": "doesn't speak HTTP",
    "/switch": "doesn't speak HTTP", "/endless-extension": "doesn't speak HTTP",
    "/bad-gzip": "isn't encoded as its Content-Encoding says",
}  # fmt: skip


@pytest.mark.parametrize(("path", "reason"), BROKEN.items(), ids=BROKEN)
def test_a_broken_server_is_an_answer(
    scene: Scene, web: Web, path: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The guest is told so, and nothing raises: no error is logged, and the next request is served."""
    got = scene.fetch(web.origin + path)
    assert got.code == AnswerCode.BACKEND_FAILED
    assert reason in got.reason
    assert scene.fetch(f"{web.origin}/").body == b"hello"
    assert len(scene.connections()) == 1
    assert caplog.records == []


def test_nobody_listens(make_scene: Callable[..., Scene]) -> None:
    """A refused connection says nothing of who refused it."""
    got = make_scene("http://127.0.0.1:1").fetch("http://127.0.0.1:1/")
    assert (got.code, got.reason) == (AnswerCode.BACKEND_FAILED, "no connection can be made")


# ── whose connection ─────────────────────────────────────────────────────────────────────────────


def test_a_plugin_uses_its_connection_again(scene: Scene, web: Web) -> None:
    """Five requests, one connection."""
    before = web.connections
    for _ in range(5):
        scene.fetch(f"{web.origin}/")
    assert web.connections == before + 1
    assert scene.connections()[0].endswith("Request Count: 5")


def test_a_connection_is_never_anothers(scene: Scene, web: Web) -> None:
    """Another plugin, and the same one in another scope, make connections of their own."""
    scene.load(web.origin, slug="other")
    before = web.connections
    for _ in range(2):
        for slug, scope in [("web", None), ("other", None), ("web", "a"), ("web", "b")]:
            scene.fetch(f"{web.origin}/", slug=slug, scope=scope)
    assert web.connections == before + 4
    assert len(scene.http._pools) == 4


def test_the_longest_idle_pools_are_closed(make_scene: Callable[..., Scene]) -> None:
    """Of many scopes, the last two used keep their connections."""
    with Web() as web:
        scene = make_scene(web.origin, max_pools=2)
        for scope in ("a", "b", "a", "c"):
            scene.fetch(f"{web.origin}/", scope=scope)
        assert sorted(scope or "" for _, scope in scene.http._pools._pools) == ["a", "c"]
        until(lambda: web.open_connections == 2)


def test_a_pool_in_use_is_not_closed(make_scene: Callable[..., Scene], web: Web) -> None:
    """Though there are too many, who waits for a reply gets it; then its pool is closed."""
    scene = make_scene(web.origin, max_pools=1)
    with ThreadPoolExecutor(1) as threads:
        web.asked.clear()
        waiting = threads.submit(scene.fetch, f"{web.origin}/slowly", scope="busy")
        until(lambda: bool(web.asked))
        scene.fetch(f"{web.origin}/", scope="other")
        assert waiting.result().body == b"hello"
    scene.fetch(f"{web.origin}/", scope="other")
    assert len(scene.http._pools) == 1


def test_idle_connections_are_closed(make_scene: Callable[..., Scene]) -> None:
    """One that nobody used for long is closed at the next request of anybody, and not used again."""
    with Web() as web:
        scene = make_scene(web.origin, idle_seconds=1)
        scene.fetch(f"{web.origin}/", scope="a")
        time.sleep(1.1)
        scene.fetch(f"{web.origin}/", scope="b")
        assert [scope for _, scope in scene.http._pools._pools] == ["b"]
        until(lambda: web.open_connections == 1)


def test_no_more_idle_connections_than_said(make_scene: Callable[..., Scene], web: Web) -> None:
    """Eight at once, two of which are kept."""
    scene = make_scene(web.origin, max_idle_connections=2)
    with ThreadPoolExecutor(8) as threads:
        got = [*threads.map(lambda _: scene.fetch(f"{web.origin}/slowly"), range(8))]
    assert [each.body for each in got] == [b"hello"] * 8
    assert len(scene.connections()) <= 2


def test_replies_are_not_mixed_up(make_scene: Callable[..., Scene], web: Web) -> None:
    """In a crowd with every fault there is, each reply is that to its own request."""
    scene = make_scene(web.origin, max_connections=4, server={"invocation_timeout_ms": 5_000})
    faults = [*BROKEN, "/never", "/drip-body", "/leftover-at-once", "/informs", "/huge"]

    def ask(number: int) -> Fetched | None:
        if number % 3 == 0:
            scene.invoke(web.origin + faults[number // 3 % len(faults)], timeout_ms=50)
            return None
        return scene.fetch(f"{web.origin}/echo?{number}")

    with ThreadPoolExecutor(6) as threads:
        got = [*threads.map(ask, range(150))]
    wrong = [each for number, each in enumerate(got) if each and f"/echo?{number} ".encode() not in each.body]
    assert wrong == []
    until(lambda: all("IDLE" in each for each in scene.connections()))
    assert len(scene.connections()) <= 4


# ── the operator's word ──────────────────────────────────────────────────────────────────────────


def test_inside_only_where_it_is_opened(make_scene: Callable[..., Scene], web: Web) -> None:
    """The word is for one origin: no other port, scheme or name of the same server is opened by it."""
    names = Answers({"app.corp.example": ["127.0.0.1"], "corp.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]})
    urls = [web.named(host) for host in ("app.corp.example", "corp.example", "other.example", "127.0.0.1")]
    scene = make_scene(*urls, inner=[web.named("*.corp.example")], resolver=names)
    codes = [scene.fetch(f"{url}/").code for url in urls]
    assert codes == [5, AnswerCode.DENIED, AnswerCode.DENIED, AnswerCode.DENIED]
    https = urls[0].replace("http:", "https:")
    assert make_scene(https, inner=[urls[0]], resolver=names).fetch(f"{https}/").code == AnswerCode.DENIED
    assert make_scene(https, inner=[https], resolver=names).fetch(f"{https}/").code == AnswerCode.BACKEND_FAILED


def test_metadata_is_never_opened(make_scene: Callable[..., Scene], web: Web) -> None:
    """Neither by a name that comes to stand for it, nor by its own address."""
    names = Answers({"app.corp.example": [["10.0.0.1", "169.254.169.254"]], "ok.corp.example": ["10.0.0.1"]})
    net = Net(lambda _: web.port)
    origins = ["http://app.corp.example", "http://169.254.169.254", "http://ok.corp.example"]
    scene = make_scene(*origins, net=net, resolver=names)
    assert [scene.fetch(f"{origin}/").code for origin in origins] == [AnswerCode.DENIED, AnswerCode.DENIED, 5]
    assert net.reached == ["10.0.0.1"]


def test_the_environment_is_not_used(
    make_scene: Callable[..., Scene], web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that the environment names gets nothing, where a client of httpx2 would ask it."""
    with Web() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.origin)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert make_scene(web.origin).fetch(f"{web.origin}/").body == b"hello"
        assert proxy.asked == []
        with httpx2.Client() as usual:
            usual.get("http://outside.example/")
        assert [asked.target for asked in proxy.asked] == ["http://outside.example/"]


# ── names ────────────────────────────────────────────────────────────────────────────────────────


def test_addresses_are_tried_in_turn(make_scene: Callable[..., Scene], web: Web) -> None:
    """The first that answers is used; one that swallows everything has its share of the time, not all."""
    names = Answers({"many.example": [["127.0.0.9", "127.0.0.1"]]})
    with full_listener() as port:
        net = Net(lambda address: web.port if address == "127.0.0.1" else port)
        scene = make_scene("http://many.example", net=net, resolver=names)
        outcome = scene.invoke("http://many.example/", timeout_ms=600)
        assert isinstance(outcome, fb.Completed)
    assert net.reached == ["127.0.0.9", "127.0.0.1"]


def cancelled(_: str) -> list[str]:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("resolver", "reason"),
    [
        (Answers(), "the host name 'odd.example' can't be resolved"),
        (lambda _: [], "odd.example has no address"),
        (int, "the host name 'odd.example' can't be resolved"),
        (lambda _: ["not an address"], "odd.example stands for an address that plugins don't reach"),
        (lambda _: [int(ip_address("93.184.215.14"))], "odd.example stands for an address that plugins don't reach"),
        (lambda _: [ip_address("10.0.0.1")], "odd.example stands for an address that plugins don't reach"),
        (cancelled, "the host name 'odd.example' can't be resolved"),
    ],
)
def test_a_name_that_stands_for_nothing(make_scene: Callable[..., Scene], resolver: Any, reason: str) -> None:
    """An unknown name, one without addresses, a resolver that fails or talks nonsense: each is an answer."""
    scene = make_scene("http://odd.example", inner=[], net=Net(lambda _: 1), resolver=resolver)
    got = scene.fetch("http://odd.example/")
    assert got.code in {AnswerCode.BACKEND_FAILED, AnswerCode.DENIED}
    assert got.reason.startswith(reason)


def test_the_systems_resolver(make_scene: Callable[..., Scene], web: Web) -> None:
    """By default the operating system is asked: `localhost` is known to it, and a made-up name isn't."""
    scene = make_scene(web.named("localhost"), "http://nowhere.invalid")
    assert scene.fetch(f"{web.named('localhost')}/").body == b"hello"
    assert scene.fetch("http://nowhere.invalid/").reason == "the host name 'nowhere.invalid' can't be resolved"


def test_stuck_look_ups_do_not_pile_up(make_scene: Callable[..., Scene], web: Web) -> None:
    """A plugin has so many threads that look names up, one for a name; others still have theirs."""
    release = threading.Event()
    resolver = Answers({"fine.example": ["127.0.0.1"]})

    def resolve(host: str) -> list[str]:
        if host.endswith(".stuck.example"):
            release.wait()
        return resolver(host)

    scene = make_scene("http://*.stuck.example", resolver=resolve, max_lookups=8)
    scene.load(web.named("fine.example"), slug="other")
    scene.http._inner = (*make_patterns(web.named("fine.example")),)
    try:
        for host in ("a", "a", "b"):
            assert isinstance(scene.invoke(f"http://{host}.stuck.example/", timeout_ms=150), fb.Trapped)
        got = scene.fetch("http://c.stuck.example/")
        assert (got.code, got.reason) == (AnswerCode.BACKEND_FAILED, "too many host names are being looked up already")
        assert sum(each.name == "fuseboard-name" for each in threading.enumerate()) == 2
        assert scene.fetch(f"{web.named('fine.example')}/", slug="other").body == b"hello"
    finally:
        release.set()
    until(lambda: not any(each.name == "fuseboard-name" for each in threading.enumerate()))
    assert scene.fetch("http://c.stuck.example/").reason == "the host name 'c.stuck.example' can't be resolved"


def make_patterns(*origins: str) -> Any:
    return Http(inner=origins)._inner


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────

CA: Final = trustme.CA()


def served(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def trusting(ca: trustme.CA = CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


def trusting_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def expired() -> trustme.LeafCert:
    return CA.issue_cert(
        "secure.example", not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=datetime(2020, 2, 1, tzinfo=UTC)
    )


IMPOSTORS: Final[dict[str, Callable[[], trustme.LeafCert]]] = {
    "another name": lambda: CA.issue_cert("other.example"),
    "a name below": lambda: CA.issue_cert("www.secure.example"),
    "the parent's wildcard": lambda: CA.issue_cert("*.www.secure.example"),
    "the address only": lambda: CA.issue_cert("127.0.0.1"),
    "another authority": lambda: trustme.CA().issue_cert("secure.example"),
    "expired": expired,
    "not valid yet": lambda: CA.issue_cert("secure.example", not_before=datetime.now(UTC) + timedelta(days=1)),
    "a name in the common name only": lambda: CA.issue_cert("other.example", common_name="secure.example"),
}


def secure(
    make_scene: Callable[..., Scene], web: Web, context: ssl.SSLContext, host: str = "secure.example"
) -> Fetched:
    names = Answers({"secure.example": ["127.0.0.1"]})
    return make_scene(web.named(host), resolver=names, ssl_context=context).fetch(f"{web.named(host)}/")


def test_tls_is_verified_against_the_name(make_scene: Callable[..., Scene]) -> None:
    """The connection goes to the checked address, and the certificate is that of the name; `Host` is the name too."""
    with Web(tls=served(CA.issue_cert("secure.example"))) as web:
        assert secure(make_scene, web, trusting()).body == b"hello"
        assert web.asked[0].header("host") == [f"secure.example:{web.port}"]


def test_tls_to_an_address(make_scene: Callable[..., Scene]) -> None:
    """Where the URL has an address, the certificate must have it."""
    with Web(tls=served(CA.issue_cert("127.0.0.1"))) as web:
        assert secure(make_scene, web, trusting(), "127.0.0.1").body == b"hello"
    with Web(tls=served(CA.issue_cert("secure.example"))) as web:
        assert secure(make_scene, web, trusting(), "127.0.0.1").code == AnswerCode.BACKEND_FAILED


@pytest.mark.parametrize("impostor", IMPOSTORS.values(), ids=IMPOSTORS)
def test_an_impostor_is_told_nothing(
    make_scene: Callable[..., Scene], impostor: Callable[[], trustme.LeafCert]
) -> None:
    """Whoever can't prove the name gets no request; where nothing was verified, it would."""
    with Web(tls=served(impostor())) as web:
        got = secure(make_scene, web, trusting())
        assert (got.code, web.asked) == (AnswerCode.BACKEND_FAILED, [])
        assert got.reason.startswith("the server's certificate can't be trusted: ")
        assert secure(make_scene, web, trusting_all()).body == b"hello"


def test_by_default_the_system_is_trusted(make_scene: Callable[..., Scene]) -> None:
    """A certificate of an authority that the system doesn't know is refused without any setting."""
    with Web(tls=served(CA.issue_cert("secure.example"))) as web:
        names = Answers({"secure.example": ["127.0.0.1"]})
        got = make_scene(web.named("secure.example"), resolver=names).fetch(f"{web.named('secure.example')}/")
        assert got.reason.startswith("the server's certificate can't be trusted: ")


def test_no_tls_where_https_was_asked_for(make_scene: Callable[..., Scene], web: Web) -> None:
    """A plain server under an https URL gets nothing in the clear."""
    web.asked.clear()
    origin = web.origin.replace("http:", "https:")
    assert make_scene(origin).fetch(f"{origin}/").code == AnswerCode.BACKEND_FAILED
    assert web.asked == []


def test_slow_and_broken_tls(make_scene: Callable[..., Scene]) -> None:
    """Deadlines, caps and failures hold within TLS as without."""
    with Web(tls=served(CA.issue_cert("127.0.0.1"))) as web:
        scene = make_scene(web.origin, ssl_context=trusting(), max_response_bytes=100_000)
        assert lateness(scene, f"{web.origin}/drip-head") <= LATEST_SECONDS
        assert scene.fetch(f"{web.origin}/bomb-gzip").code == AnswerCode.TOO_LARGE
        assert scene.fetch(f"{web.origin}/reset-in-body").code == AnswerCode.BACKEND_FAILED
        assert scene.fetch(f"{web.origin}/").body == b"hello"
        assert scene.fetch(f"{web.origin}/echo", method="POST", body=b"x" * 500_000).code == AnswerCode.TOO_LARGE


@UNASKED
def test_what_nobody_asked_for_within_tls(make_scene: Callable[..., Scene], path: str, first: bytes) -> None:
    """It may have been decrypted, or received, with what was asked for, where no socket shows it."""
    with Web(tls=served(CA.issue_cert("127.0.0.1"))) as web:
        scene = make_scene(web.origin, ssl_context=trusting())
        unasked_reaches_nobody(scene, web, path, first)
        scene.fetch(f"{web.origin}/")
        scene.fetch(f"{web.origin}/")
        assert scene.connections()[0].endswith("Request Count: 3")


# ── interruption ─────────────────────────────────────────────────────────────────────────────────


def request_to(url: str) -> HttpRequest:
    return HttpRequest("GET", parse_url(url))


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def test_rollback_ends_the_waiting(web: Web) -> None:
    """What nobody waits for any more gives its thread back at once, and asks for nothing after that."""
    with Http(inner=[web.origin]) as http, ThreadPoolExecutor(1) as threads:
        session = http.session(identity())
        web.asked.clear()
        waiting = threads.submit(session.answer, request_to(f"{web.origin}/never"), soon())
        until(lambda: bool(web.asked))
        began = time.monotonic()
        session.rollback()
        with pytest.raises(fb.BackendError):
            waiting.result()
        assert time.monotonic() - began < 1
        with pytest.raises(fb.BackendError, match="this session has ended"):
            session.answer(request_to(f"{web.origin}/"), soon())
        assert http.session(identity()).answer(request_to(f"{web.origin}/"), soon()) == HttpResponse(200, (), b"hello")


def test_a_rollback_between_two_steps_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes when a wait has asked for its time, and hasn't begun, ends it all the same."""
    ended, seconds_left = list[str](), Exchange.seconds_left

    class Line:
        def hang_up(self) -> None:
            ended.append("hung up")

    def interrupted(exchange: Exchange) -> float:
        left = seconds_left(exchange)
        exchange.stop()
        return left

    monkeypatch.setattr(Exchange, "seconds_left", interrupted)
    exchange = Exchange(request_to("http://a.example/"), "web", "agent", HttpCaps(), soon(), is_opened=False)
    with exchange.waiting_on(Line()):
        assert ended == ["hung up"]


@pytest.mark.parametrize("path", ["/never", "/drip-head", "/drip-body", "/huge", "/"])
def test_cancellation_leaks_nothing(web: Web, path: str) -> None:
    """A task that is cancelled at any moment, twice, leaves no open connection, and the next request is served."""
    backend = AsyncHttp(inner=[web.origin], max_connections=1, max_response_bytes=1 << 30)

    async def run() -> None:
        async with backend as http:
            for number in range(25):
                task = asyncio.ensure_future(http.session(identity()).answer(request_to(web.origin + path), soon()))
                await asyncio.sleep(number * 0.0004)
                task.cancel()
                await asyncio.sleep(0)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                answer = await http.session(identity()).answer(request_to(f"{web.origin}/"), soon(5))
                assert answer == HttpResponse(200, (), b"hello")
            assert len(http._pools) == 1

    awaited(run())
    assert connected_to(web.port) == []


def test_what_a_peer_never_reads_keeps_no_connection_open() -> None:
    """A request that is cancelled, twice, with most of its body unsent, is gone at once."""
    with Web(reads=False) as web:
        backend = AsyncHttp(inner=[web.origin])
        backend._real = AsyncNet(Net(lambda _: web.port, sends_at_once=16_384))
        call = HttpRequest("POST", parse_url(f"{web.origin}/"), (), bytes(1_000_000))

        async def run() -> int:
            async with backend as http:
                for _ in range(5):
                    task = asyncio.ensure_future(http.session(identity()).answer(call, soon()))
                    await asyncio.sleep(0.02)
                    for _ in range(4):
                        task.cancel()
                        await asyncio.sleep(0)
                    with suppress(asyncio.CancelledError):
                        await task
                await asyncio.sleep(0.05)
                return len(await asyncio.to_thread(connected_to, web.port))

        assert awaited(run()) == 0


def test_a_close_that_is_cancelled_closes_all_the_same(web: Web) -> None:
    """Who stops waiting for it leaves no connection to the collection of garbage."""
    http = AsyncHttp(inner=[web.origin])

    async def run() -> list[str]:
        await http.session(identity()).answer(request_to(f"{web.origin}/"), soon())
        closing = asyncio.ensure_future(http.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with suppress(asyncio.CancelledError):
            await closing
        await asyncio.sleep(0.05)
        return await asyncio.to_thread(connected_to, web.port)

    assert awaited(run()) == []


def connected_to(port: int) -> list[str]:
    """Return this process's own ends of connections to a port, from what Linux tells of its sockets."""
    inodes = {match[1] for each in Path("/proc/self/fd").iterdir() if (match := _socket_of(each))}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return [line[9] for line in lines if line[2].endswith(f":{port:04X}") and line[9] in inodes]


def _socket_of(descriptor: Path) -> re.Match[str] | None:
    with suppress(OSError):
        return re.match(r"socket:\[(\d+)\]", str(descriptor.readlink()))
    return None


@pytest.mark.parametrize(
    ("error", "is_sound"),
    [(KeyboardInterrupt, False), (asyncio.CancelledError, False), (fb.BackendError, True), (ValueError, True)],
)
def test_who_was_interrupted_leaves_no_client_behind(error: type[BaseException], *, is_sound: bool) -> None:
    """After an interruption nobody gets the client again, and it is closed once its last user is gone."""
    made, closed = iter(range(9)), list[int]()
    pools = Pools(lambda: next(made), closed.append, 9, 9)
    owner, users = ("web", None), [threading.Event(), threading.Event()]
    with pools.lent(owner, users[0]) as first:
        with pytest.raises(error), pools.lent(owner, users[1]) as second:
            raise error("x")
        assert (first, second, closed) == (0, 0, [])
    assert closed == ([] if is_sound else [0])
    with pools.lent(owner, users[1]) as third:
        assert third == (0 if is_sound else 1)


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_leaks_nothing(web: Web) -> None:
    """Wherever it comes, the one connection there may be is free again."""
    with Http(inner=[web.origin], max_connections=1) as http:
        interrupted = 0
        for number in range(60):
            before = signal.signal(signal.SIGALRM, signal.default_int_handler)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0003 + number * 0.00005)
                http.session(identity()).answer(request_to(f"{web.origin}/slowly"), soon())
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
            answer = http.session(identity()).answer(request_to(f"{web.origin}/"), soon(5))
            assert answer == HttpResponse(200, (), b"hello")
        assert interrupted > 10


def test_an_interrupt_leaves_no_lock_of_a_pool_held(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """httpcore2's own lock can be interrupted when it is held, and not yet to be released: pools have another."""

    class Interrupted(BaseException):
        pass

    def interrupted(_: object) -> None:
        raise Interrupted

    monkeypatch.setattr("httpcore2._synchronization.ThreadLock.__enter__", interrupted)
    with Http(inner=[web.origin]) as http:
        assert http.session(identity()).answer(request_to(f"{web.origin}/"), soon()) == HttpResponse(200, (), b"hello")


def test_a_closed_backend_refuses(make_scene: Callable[..., Scene], web: Web) -> None:
    """After the end, a request is answered with an error, and no connection is left."""
    scene = make_scene(web.origin)
    scene.fetch(f"{web.origin}/")
    if isinstance(scene.http, Http):
        scene.http.close()
    else:
        awaited(scene.http.aclose())
    got = scene.fetch(f"{web.origin}/")
    assert (got.code, got.reason) == (AnswerCode.BACKEND_FAILED, "the HTTP backend is closed")
    assert len(scene.http._pools) == 0


def test_a_forked_child_makes_its_own_connections() -> None:
    """The parent's connections are neither used nor ended by a child, which has its own."""
    script = Path(__file__).with_name("http_forks.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "parent 1, child 1, parent again 0\n", "")


# ── the application's mistakes ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("backend", [Http, AsyncHttp])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inner": "http://a.example"}, "inner='http://a.example': must be a list of origins"),
        ({"inner": ["a.example"]}, r"inner\[0\]='a.example': isn't an origin"),
        ({"inner": ["http://a.example/x"]}, "without a path"),
        ({"ssl_context": True}, "ssl_context=True must be SSLContext"),
        ({"resolver": "8.8.8.8"}, "resolver='8.8.8.8' must be a function"),
        ({"max_connections": 0}, "max_connections=0 must be a whole number from 1 to"),
        ({"max_idle_connections": -1}, "max_idle_connections=-1 must be"),
        ({"idle_seconds": 0.5}, "idle_seconds=0.5 must be"),
        ({"max_pools": 0}, "max_pools=0 must be"),
        ({"max_lookups": 0}, "max_lookups=0 must be"),
        ({"max_request_bytes": "1"}, "max_request_bytes='1' must be"),
        ({"max_response_bytes": 0}, "max_response_bytes=0 must be"),
        ({"max_head_bytes": 10}, "max_head_bytes=10 must be a whole number from 1024 to 1048576"),
    ],
)
def test_arguments_that_can_not_be_used(
    backend: type[Http | AsyncHttp], arguments: dict[str, Any], message: str
) -> None:
    """The error names the argument, its value and what is allowed."""
    with pytest.raises(fb.UsageError, match=message):
        backend(**arguments)


@pytest.mark.parametrize("backend", [Http, AsyncHttp])
def test_the_page_tells_of_every_argument(backend: type[Http | AsyncHttp]) -> None:
    """Each stands on the page about HTTP, as code."""
    page = (Path(__file__).parent.parent / "docs/concepts/http.md").read_text(encoding="utf-8")
    assert [name for name in inspect.signature(backend).parameters if f"`{name}" not in page] == []


def test_other_calls_are_not_served() -> None:
    """A key isn't fetched."""
    with Http() as http, pytest.raises(TypeError, match="Http doesn't serve KvGet"):
        http.session(identity()).answer(KvGet(b"key"), soon())


def test_one_event_loop() -> None:
    """Another loop than the first is told so."""

    async def use(http: AsyncHttp) -> None:
        http.session(identity())

    http = AsyncHttp()
    asyncio.run(use(http))
    with pytest.raises(fb.UsageError, match="belongs to another event loop"):
        asyncio.run(use(http))


def test_httpx2_is_imported_where_it_is_needed() -> None:
    """Fuseboard itself doesn't import it, and where it isn't there, the module says what to install."""
    code = (
        "import sys, fuseboard, fuseboard.backends\n"
        "assert not {'httpx2', 'httpcore2', 'anyio'} & sys.modules.keys()\n"
        "import fuseboard.backends.http\n"
        "assert 'anyio._backends._asyncio' in sys.modules, 'the event loop would wait for this import'\n"
        "del sys.modules['fuseboard.backends.http']\n"
        "sys.modules['httpx2'] = None\n"
        "import fuseboard.backends.http"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(r"ImportError: fuseboard.backends.http needs httpx2: pip install 'fuseboard\[http\]'", last)
