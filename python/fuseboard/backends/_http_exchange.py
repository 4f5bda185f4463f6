"""One request and its reply: what is sent, what is taken, and what a failure is called. Does no I/O.

Rules:
* An exchange travels where httpcore2 expects a timeout, down to our own streams: each single wait asks it how many
  seconds are left, so that no wait begins anew what another has used up.
* What is sent is written from the checked parts of the call, never from text that is parsed again.
* Everything that comes in is counted before it is kept: the head, the bytes on the wire, the decoded body.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Final, Protocol

import httpcore2
import httpx2

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends import AnswerCode, HttpRequest, HttpResponse
from fuseboard.backends._addresses import refusal
from fuseboard.backends._http_fields import Fields, HttpCaps, hidden_names, request_fields, too_large

KEY: Final = "fuseboard.exchange"
"""Where a request's extensions carry its exchange."""

_READ_BYTES: Final = 16 << 10
_HEAD_READ_BYTES: Final = 4 << 10
"""So little at once that what is parsed between two looks at the clock takes a few milliseconds at most."""

_HEADS: Final = 4
"""Informational ones come before the reply's own. All lines are parsed at once, when the last is there."""

_TURN_SECONDS: Final = 0.001
_NOTHING: Final = httpx2.ByteStream(b"")


class Held(Protocol):
    """A connection that an exchange waits on."""

    def hang_up(self) -> None:
        """End all waiting on it, from any thread."""


class Exchange:
    """One request on its way, and what has come of its reply.

    Args:
        call: the request.
        plugin: whose it is.
        agent: what `User-Agent` says.
        caps: sizes not to exceed.
        deadline: when all waiting ends, in monotonic seconds.
        is_opened: the operator's word opens the origin, though it leads inside.

    Raises:
        BackendError: the request is larger than the caps allow, or can't be written.
    """

    __slots__ = (
        "__weakref__", "_body", "_caps", "_deadline", "_fields", "_held", "_is_stopped", "_lines", "_lock", "_status",
        "_turn_began", "_wire_bytes", "_wire_cap", "call", "fields", "is_opened", "plugin",
    )  # fmt: skip

    def __init__(
        self, call: HttpRequest, plugin: str, agent: str, caps: HttpCaps, deadline: float, *, is_opened: bool
    ) -> None:
        self.call = call
        self.plugin = plugin
        self.is_opened = is_opened
        self.fields = request_fields(call, agent, caps)
        self._caps = caps
        self._deadline = deadline
        self._lock = Lock()
        self._held: Held | None = None
        self._is_stopped = False
        self._status = 0
        self._fields: Fields = []
        self._lines = 0
        self._body = bytearray()
        self._wire_bytes = 0
        self._wire_cap = caps.head_bytes
        self._turn_began = time.monotonic()

    # ── time ─────────────────────────────────────────────────────────────────────────────────────

    def seconds_left(self) -> float:
        """Return how long the next wait may take.

        Raises:
            BackendTimeout: no time is left.
        """
        left = self._deadline - time.monotonic()
        if left <= 0 or self._is_stopped:
            raise BackendTimeout("there was no answer before the deadline")
        return left

    def keeps_others_waiting(self) -> bool:
        """Return whether an event loop's other tasks should have their turn, which then begins one of ours."""
        now = time.monotonic()
        if now - self._turn_began < _TURN_SECONDS:
            return False
        self._turn_began = now
        return True

    @contextmanager
    def waiting_on(self, held: Held) -> Iterator[float]:
        """Give the seconds for one wait, which `stop` ends."""
        with self._lock:
            self._held = held
        try:
            yield self.seconds_left()
        finally:
            with self._lock:
                self._held = None

    def stop(self) -> None:
        """End the waiting: nobody wants the reply any more."""
        self._is_stopped = True
        with self._lock:
            if self._held is not None:
                self._held.hang_up()

    # ── where to ─────────────────────────────────────────────────────────────────────────────────

    def checked(self, addresses: Iterable[str]) -> tuple[str, ...]:
        """Return what a host's name stands for, where plugins may reach all of it.

        Raises:
            BackendError: an address lies inside, or there is none.
        """
        found = tuple(dict.fromkeys(addresses))
        host = self.call.url.origin.host
        for address in found:
            if reason := refusal(address, is_opened=self.is_opened):
                text = f"{host} stands for an address that plugins don't reach, one that is {reason}"
                raise BackendError(text, code=AnswerCode.DENIED)
        if not found:
            raise BackendError(f"{host} has no address")
        return found

    def request(self) -> httpx2.Request:
        """Return the request as the client takes it, and logs it; our transport sends what stands here."""
        url = _logged_url(str(self.call.url.origin))
        return httpx2.Request(self.call.method, url, stream=_NOTHING, extensions={KEY: self})

    def core_request(self) -> httpcore2.Request:
        """Return the request as it goes on the wire."""
        call, origin = self.call, self.call.url.origin
        url = httpcore2.URL(
            scheme=origin.scheme.encode(),
            host=origin.host.encode(),
            port=origin.port,
            target=call.url.target.encode(),
        )
        times = {"connect": self, "read": self, "write": self, "pool": self.seconds_left()}
        return httpcore2.Request(
            call.method, url, headers=self.fields, content=call.body, extensions={"timeout": times}
        )

    # ── the reply ────────────────────────────────────────────────────────────────────────────────

    def most_at_once(self, wanted: int) -> int:
        """Return how many bytes to read at once."""
        return min(wanted, _READ_BYTES if self._status else _HEAD_READ_BYTES)

    def received(self, data: bytes) -> bytes:
        """Count what came off the wire, and return it."""
        self._wire_bytes += len(data)
        if self._wire_bytes > self._wire_cap:
            raise too_large("the reply" if self._status else "the head of the reply", self._wire_cap)
        if self._lines > _HEADS * self._caps.fields:  # of what came before this: no piece of a body was in it
            where = "trailer" if self._status else "head"
            raise BackendError(f"the {where} of the reply has too many lines", code=AnswerCode.TOO_LARGE)
        self._lines += data.count(b"\n")
        return data

    def begin(self, status: int, fields: Fields) -> None:
        """Take the reply's head.

        Raises:
            BackendError: it is too large, or says two things about the body's length.
        """
        self._status, self._fields = status, fields
        self._wire_cap += self._caps.head_bytes + 2 * self._caps.response_bytes  # chunks have their own framing
        if len(fields) > self._caps.fields:
            raise BackendError(f"the reply has more than {self._caps.fields} headers", code=AnswerCode.TOO_LARGE)
        names = {name.lower() for name, _ in fields}
        if {b"content-length", b"transfer-encoding"} <= names:
            raise BackendError("the reply has two lengths: Content-Length and Transfer-Encoding")
        if status < httpx2.codes.OK:
            raise BackendError("the server switches to a protocol that nobody asked for")

    def goes_on(self) -> None:
        """Note that a piece of the body has come, whether it can be decoded to something or not.

        Raises:
            BackendTimeout: no time is left.
        """
        self._lines = 0
        self.seconds_left()

    def take(self, chunk: bytes) -> None:
        """Take a piece of the decoded body.

        Raises:
            BackendError: the body is larger than the cap allows, or no time is left.
        """
        self.seconds_left()
        if len(self._body) + len(chunk) > self._caps.response_bytes:
            raise too_large("the reply", self._caps.response_bytes)
        self._body += chunk

    def response(self) -> HttpResponse:
        """Return the whole reply, as the guest sees it."""
        hidden = hidden_names(self._fields, is_head=self.call.method == "HEAD")
        fields = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in self._fields)
        shown = tuple((name, value) for name, value in fields if name.lower() not in hidden)
        return HttpResponse(self._status, shown, bytes(self._body))


@lru_cache(maxsize=256)
def _logged_url(origin: str) -> httpx2.URL:
    """The client logs each URL; what guests write into paths and queries is nobody's to read there."""
    return httpx2.URL(origin)
