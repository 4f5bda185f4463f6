"""Answers HTTP requests from memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuseboard.backends import Answer, HostCall, HttpRequest, HttpResponse, Identity
from fuseboard.backends._owned_session import unserved


class MemoryHttp:
    """Answers HTTP requests with a function; a `BackendError` that it raises is passed on.

    Attributes:
        requests: what was sent, in order: a call that was refused or that tripped is not among it.
    """

    def __init__(self, handler: Callable[[HttpRequest], HttpResponse]) -> None:
        self.requests: list[HttpRequest] = []
        self._handler = handler

    def session(self, identity: Identity) -> _HttpSession:  # noqa: ARG002  the protocol's signature
        """Return a session; all of them record into `requests`."""
        return _HttpSession(self)

    def send(self, request: HttpRequest) -> HttpResponse:
        """Record a request and return the function's response.

        Raises:
            TypeError: the function returned something else.
        """
        self.requests.append(request)
        response: object = self._handler(request)
        if not isinstance(response, HttpResponse):
            raise TypeError(f"MemoryHttp's handler must return an HttpResponse, not {type(response).__name__}")
        return response


@dataclass(frozen=True, slots=True)
class _HttpSession:
    _backend: MemoryHttp

    def answer(self, call: HostCall, deadline: float) -> Answer:  # noqa: ARG002  a handler can't be stopped
        if not isinstance(call, HttpRequest):
            raise unserved("MemoryHttp", call)
        return self._backend.send(call)

    def commit(self, deadline: float) -> None:
        """Do nothing: what was sent was sent."""

    def rollback(self) -> None:
        """Do nothing: what was sent can't be taken back."""
