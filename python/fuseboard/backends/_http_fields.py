"""Header lines: those of a request, as they are sent, and which of a reply's are shown to whom. Does no I/O.

Rules:
* The host's own lines come first, then the guest's; each was checked, and none is parsed again.
* The client is shown of a reply's head only how its body is encoded: so it keeps no cookie, builds no redirect, asks
  for no password. The guest is shown the whole head, but for what belonged to the connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fuseboard._errors import BackendError
from fuseboard._limits import MIB
from fuseboard.backends import AnswerCode, HttpRequest

_WITH_LENGTH: Final = frozenset({"POST", "PUT", "PATCH"})
_DECODED: Final = frozenset({b"gzip", b"deflate"})
_OF_THE_CONNECTION: Final = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade",
})  # fmt: skip

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCaps:
    """Sizes that a request and its reply don't exceed.

    Attributes:
        request_bytes: of a request's body.
        response_bytes: of a reply's body, decoded.
        head_bytes: of a request's header, and of all that a server sends before the body.
        fields: how many header lines either has.
    """

    request_bytes: int = MIB
    response_bytes: int = 4 * MIB
    head_bytes: int = 64 << 10
    fields: int = 128


def shown_to_client(fields: Fields) -> Fields:
    """Return what the client reads of a reply's head: the body's encoding, where it is one that was asked for."""
    encoding = _encoding(fields)
    return [(b"Content-Encoding", encoding)] if encoding in _DECODED else []


def _encoding(fields: Fields) -> bytes:
    return b",".join(value.strip().lower() for name, value in fields if name.lower() == b"content-encoding")


def hidden_names(fields: Fields, *, is_head: bool) -> set[str]:
    """Return the names of what belonged to the connection, and of lengths and encodings that the body has no more."""
    hidden = set(_OF_THE_CONNECTION)
    for name, value in fields:
        if name.lower() == b"connection":
            hidden.update(option.strip().lower() for option in value.decode("latin-1").split(","))
    if not is_head:
        hidden.add("content-length")
        if _encoding(fields) in _DECODED:
            hidden.add("content-encoding")
    return hidden


# ── the request ──────────────────────────────────────────────────────────────────────────────────


def request_fields(call: HttpRequest, agent: str, caps: HttpCaps) -> Fields:
    """Return a request's header lines.

    Raises:
        BackendError: they, or the body, are larger than the caps allow, or can't be written.
    """
    if len(call.body) > caps.request_bytes:
        raise too_large("the request's body", caps.request_bytes)
    own = [("Host", str(call.url.origin).partition("://")[2]), ("User-Agent", agent)]
    own.append(("Accept-Encoding", "gzip, deflate"))
    if call.body or call.method in _WITH_LENGTH:
        own.append(("Content-Length", str(len(call.body))))
    if call.method == "HEAD":
        own.append(("Connection", "close"))  # some send a body all the same, which the next reply would begin with
    try:
        fields = [(name.encode(), value.strip(" \t").encode("latin-1")) for name, value in (*own, *call.headers)]
    except UnicodeError:
        raise BackendError("a header has characters that HTTP can't carry", code=AnswerCode.BAD_REQUEST) from None
    if len(fields) > caps.fields:
        raise BackendError(f"the request has more than {caps.fields} headers", code=AnswerCode.TOO_LARGE)
    if sum(len(name) + len(value) + len(": \r\n") for name, value in fields) > caps.head_bytes:
        raise too_large("the request's header", caps.head_bytes)
    return fields


def too_large(what: str, most: int) -> BackendError:
    """Return what to raise where a cap is exceeded."""
    return BackendError(f"{what} is larger than {most} bytes", code=AnswerCode.TOO_LARGE)
