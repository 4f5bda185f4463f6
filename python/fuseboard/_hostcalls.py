"""What a guest can ask of the host, and what it can be answered: one table, `HOST_CALLS`.

Rules:
* Refuse, charge, ask. `parse` refuses what is malformed, `denial` what lies outside the grants; `limit`
  and `cost` say what is charged; only then a backend sees the call.
* Backends get and give typed values; the ABI's JSON and codes are written here and nowhere else.
* Every call names the answer that fits it (`answered_by`), so that a backend's mistake can't reach a guest.
"""

from __future__ import annotations

import re
from base64 import b64decode
from enum import IntEnum
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Self

import msgspec

from fuseboard._grants import Grants
from fuseboard._limits import Limit
from fuseboard._urls import Url, parse_url

BackendKind = Literal["http", "db", "kv", "functions"]
Scalar = None | bool | int | float | str | bytes

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,8192}")
_HOSTS_OWN_HEADERS: Final = frozenset({
    "accept-encoding", "connection", "content-length", "expect", "forwarded", "host", "http2-settings", "keep-alive",
    "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "via", "x-real-ip", "x-request-id",
})  # fmt: skip
_HOSTS_OWN_PREFIXES: Final = ("proxy-", "x-forwarded-")
"""With those above: what belongs to a connection, how a message is framed, and who speaks for whom."""

_MOST_HEADERS: Final = 256
"""So many that to look at each takes no time to speak of; backends may take fewer."""

_MAX_REASON: Final = 1024
_CROSSES_ORIGINS: Final = frozenset({
    "accept", "accept-language", "cache-control", "content-encoding", "content-language", "content-type",
    "if-modified-since", "if-none-match", "pragma", "range",
})  # fmt: skip
"""What a redirect to another origin takes along: of any other header, nobody knows that it is no credential."""

MAX_EXPIRY_SECONDS: Final = 315_360_000
_BODY_HEADERS: Final = frozenset({"content-encoding", "content-language", "content-type"})


class AnswerCode(IntEnum):
    """What a host call returns when it isn't the length of the reply's body."""

    OK = 0
    DENIED = -1
    BAD_REQUEST = -2
    NOT_FOUND = -3
    BACKEND_FAILED = -4
    TOO_LARGE = -5
    CONFLICT = -6


class Reply(NamedTuple):
    """An answer as the guest sees it: a code, buffer 2 (head) and buffer 3 (body)."""

    code: int = AnswerCode.OK
    head: bytes = b"{}"
    body: bytes = b""


class Trip(NamedTuple):
    """Instead of a reply: the call would go over this limit."""

    limit: str


def error_reply(code: int, reason: str) -> Reply:
    """Return the reply for an error: the code, and `{"reason": ...}`, cut at 1,024 characters, as its head."""
    return Reply(code, msgspec.json.encode({"reason": reason[:_MAX_REASON]}))


class BadRequestError(Exception):
    """A host call is malformed; the guest is answered `BAD_REQUEST` with this text. Never leaves the flow."""


# ── answers ──────────────────────────────────────────────────────────────────────────────────────


class HttpResponse(msgspec.Struct, frozen=True):
    """The answer to `HttpRequest`. Redirects are answered like any other status; the flow follows them."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def reply(self) -> Reply:
        """Return the reply: the head has status and headers, the body is the response's."""
        return Reply(head=msgspec.json.encode({"status": self.status, "headers": self.headers}), body=self.body)

    def location(self) -> str | None:
        """Return where a redirect leads, or `None` where this is none."""
        if self.status not in {301, 302, 303, 307, 308}:
            return None
        return next((value for name, value in self.headers if name.lower() == "location"), None)


class DbRows(msgspec.Struct, frozen=True):
    """The answer to `DbQuery`: column names, and rows of JSON scalars or `bytes` (sent as base64 text)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def reply(self) -> Reply:
        """Return the reply: the body is `{"columns": [...], "rows": [[...]]}`."""
        return Reply(body=msgspec.json.encode({"columns": self.columns, "rows": self.rows}))


class DbChanged(msgspec.Struct, frozen=True):
    """The answer to `DbExec`: how many rows were changed; 0 for statements that change none."""

    rows_changed: int

    def reply(self) -> Reply:
        """Return the reply: the head is `{"rows_changed": n}`."""
        return Reply(head=msgspec.json.encode({"rows_changed": self.rows_changed}))


class KvValue(msgspec.Struct, frozen=True):
    """The answer to `KvGet`; `None` where the key isn't there."""

    value: bytes | None

    def reply(self) -> Reply:
        """Return the reply: the body is the value; `NOT_FOUND` for `None`."""
        if self.value is None:
            return error_reply(AnswerCode.NOT_FOUND, "no such key")
        return Reply(body=self.value)


class KvDone(msgspec.Struct, frozen=True):
    """The answer to `KvSet` and `KvDelete`; deleting a key that isn't there is no error."""

    def reply(self) -> Reply:
        """Return the reply: nothing but the code."""
        return Reply()


class KvNumber(msgspec.Struct, frozen=True):
    """The answer to `KvIncrement`: the new number."""

    number: int

    def reply(self) -> Reply:
        """Return the reply: the body is the number as decimal text."""
        return Reply(body=str(self.number).encode())


class FunctionResult(msgspec.Struct, frozen=True):
    """The answer to `FunctionCall`: the function's result as JSON."""

    json: bytes

    def reply(self) -> Reply:
        """Return the reply: the body is the JSON."""
        return Reply(body=self.json)


Answer = HttpResponse | DbRows | DbChanged | KvValue | KvDone | KvNumber | FunctionResult


# ── calls ────────────────────────────────────────────────────────────────────────────────────────


class _Call(msgspec.Struct, frozen=True):
    kind: ClassVar[BackendKind]
    limit: ClassVar[str | None] = None
    answered_by: ClassVar[type[Answer]]

    @property
    def charged_to(self) -> str | None:
        """The limit that the call is charged to."""
        return self.limit

    def cost(self) -> int:
        """What the call spends of its limit, in the limit's unit."""
        return 1

    def denial(self, grants: Grants) -> str | None:  # noqa: ARG002  calls without a target have nothing to deny
        """Why the grants don't cover this call's target, or `None`."""
        return None


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    method: str
    url: str
    headers: Annotated[list[tuple[str, str]], msgspec.Meta(max_length=_MOST_HEADERS)] = []


class HttpRequest(_Call, frozen=True):
    """One HTTP request, as it is to be sent: never followed, never retried by a backend."""

    kind: ClassVar[BackendKind] = "http"
    limit: ClassVar[str | None] = Limit.HTTP_FETCHES
    answered_by: ClassVar[type[Answer]] = HttpResponse

    method: str
    url: Url
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @classmethod
    def parse(cls, parts: tuple[bytes, ...], number: int) -> Self:  # noqa: ARG003  one signature in the table
        """Read `{"method", "url", "headers"}` and the body."""
        head = _decoded(parts[0], _Head, "the head")
        if head.method not in _METHODS:
            raise BadRequestError(f"method must be one of {', '.join(sorted(_METHODS))}")
        for name, value in head.headers:
            _check_header(name, value)
        return cls(head.method, _url(head.url), tuple(head.headers), parts[1])

    def denial(self, grants: Grants) -> str | None:
        """Name the origin where it isn't granted."""
        origin = self.url.origin
        return None if grants.allows_origin(origin) else f"origin {origin} is not granted"

    def with_header(self, name: str, value: str) -> HttpRequest:
        """Return this request with one more header."""
        return msgspec.structs.replace(self, headers=(*self.headers, (name, value)))

    def redirected(self, status: int, location: str) -> HttpRequest:
        """Return the request that follows a redirect (RFC 9110, 15.4).

        303 turns all but HEAD into GET, 301 and 302 turn POST into GET; a body that is dropped takes its
        headers along, and what may be a credential stays with its origin.

        Raises:
            BadRequestError: the location isn't a URL, or gives up TLS.
        """
        url = _url(location, base=self.url)
        if (self.url.origin.scheme, url.origin.scheme) == ("https", "http"):
            raise BadRequestError("a redirect from https to http isn't followed")
        becomes_get = (status == 303 and self.method != "HEAD") or (  # noqa: PLR2004  an HTTP status
            status in {301, 302} and self.method == "POST"
        )
        headers = self.headers
        if url.origin != self.url.origin:
            headers = tuple((name, value) for name, value in headers if name.lower() in _CROSSES_ORIGINS)
        if becomes_get:
            headers = tuple((name, value) for name, value in headers if name.lower() not in _BODY_HEADERS)
        method, body = ("GET", b"") if becomes_get else (self.method, self.body)
        return HttpRequest(method, url, headers, body)


_Parameters = Annotated[tuple[Any, ...], msgspec.Meta(max_length=1_000)]
"""More than any statement needs, and few enough to be read without being noticed on an event loop."""


class _DbCall(_Call, frozen=True):
    kind: ClassVar[BackendKind] = "db"
    limit: ClassVar[str | None] = Limit.DB_QUERIES

    sql: str
    parameters: tuple[Scalar, ...] = ()

    @classmethod
    def parse(cls, parts: tuple[bytes, ...], number: int) -> Self:  # noqa: ARG003  one signature in the table
        """Read the SQL text and the JSON array of `$1...` parameters, at most 1,000; no bytes are none.

        Bytes are written `{"base64": "..."}`.
        """
        sql = _text(parts[0], "the SQL")
        if not sql.strip():
            raise BadRequestError("the SQL is empty")
        parameters = _decoded(parts[1] or b"[]", _Parameters, "the parameters")
        return cls(sql, tuple(_parameter(place, value) for place, value in enumerate(parameters, 1)))


class DbQuery(_DbCall, frozen=True):
    """One statement that gives rows, with its parameters `$1...`."""

    answered_by: ClassVar[type[Answer]] = DbRows


class DbExec(_DbCall, frozen=True):
    """One statement that changes something, with its parameters `$1...`."""

    answered_by: ClassVar[type[Answer]] = DbChanged

    def denial(self, grants: Grants) -> str | None:
        """Refuse where only reading is granted."""
        return None if grants.db == "write" else "writing to the database is not granted"


class _KvCall(_Call, frozen=True):
    kind: ClassVar[BackendKind] = "kv"

    key: bytes

    @classmethod
    def parse(cls, parts: tuple[bytes, ...], number: int) -> Self:  # noqa: ARG003  one signature in the table
        """Read the key."""
        return cls(_key(parts[0]))


class KvGet(_KvCall, frozen=True):
    """Read a key. The session's own writes are seen."""

    answered_by: ClassVar[type[Answer]] = KvValue


class KvDelete(_KvCall, frozen=True):
    """Remove a key."""

    limit: ClassVar[str | None] = Limit.KV_WRITE_BYTES
    answered_by: ClassVar[type[Answer]] = KvDone

    def cost(self) -> int:
        """The key's bytes."""
        return len(self.key)


class KvSet(_KvCall, frozen=True):
    """Write a key; one that had an expiry has none any more.

    Attributes:
        seconds: how long it is kept from now on, 1 to 315,360,000 (ten years), or `None`: until it is deleted.
    """

    limit: ClassVar[str | None] = Limit.KV_WRITE_BYTES
    answered_by: ClassVar[type[Answer]] = KvDone

    value: bytes
    seconds: int | None = None

    @classmethod
    def parse(cls, parts: tuple[bytes, ...], number: int) -> Self:  # noqa: ARG003  one signature in the table
        """Read key and value."""
        return cls(_key(parts[0]), parts[1])

    def cost(self) -> int:
        """The key's and the value's bytes."""
        return len(self.key) + len(self.value)


class KvSetFor(KvSet, frozen=True):
    """How a guest asks for a `KvSet` with an expiry."""

    @classmethod
    def parse(cls, parts: tuple[bytes, ...], number: int) -> Self:
        """Read key, value and seconds."""
        if not 1 <= number <= MAX_EXPIRY_SECONDS:
            raise BadRequestError(f"seconds must be from 1 to {MAX_EXPIRY_SECONDS}, not {number}")
        return cls(_key(parts[0]), parts[1], number)


class KvIncrement(_KvCall, frozen=True):
    """Add to a number kept as decimal text; a key that isn't there counts as 0. Atomic across invocations.

    The key keeps its expiry.
    """

    limit: ClassVar[str | None] = Limit.KV_WRITE_BYTES
    answered_by: ClassVar[type[Answer]] = KvNumber

    by: int

    @classmethod
    def parse(cls, parts: tuple[bytes, ...], number: int) -> Self:
        """Read the key and what is added."""
        return cls(_key(parts[0]), number)

    def cost(self) -> int:
        """The key's bytes and 8 for the number, the size in which it crosses."""
        return len(self.key) + 8


class FunctionCall(_Call, frozen=True):
    """A call of one of the application's functions; `arguments` is a JSON object of keyword arguments."""

    kind: ClassVar[BackendKind] = "functions"
    answered_by: ClassVar[type[Answer]] = FunctionResult

    name: str
    arguments: bytes = b"{}"

    @classmethod
    def parse(cls, parts: tuple[bytes, ...], number: int) -> Self:  # noqa: ARG003  one signature in the table
        """Read the function's name and its arguments."""
        return cls(_text(parts[0], "the function's name"), parts[1] or b"{}")

    @property
    def charged_to(self) -> str | None:
        """The limit of this function; charged where it is declared with `per_invocation`."""
        return function_limit(self.name)

    def denial(self, grants: Grants) -> str | None:
        """Name the function where it isn't granted."""
        return None if self.name in grants.functions else f"function {self.name!r} is not granted"


HostCall = HttpRequest | DbQuery | DbExec | KvGet | KvSet | KvDelete | KvIncrement | FunctionCall

HOST_CALLS: Final[dict[str, type[HostCall]]] = {
    "host_http_request": HttpRequest,
    "host_db_query": DbQuery,
    "host_db_exec": DbExec,
    "host_kv_get": KvGet,
    "host_kv_set": KvSet,
    "host_kv_set_for": KvSetFor,
    "host_kv_delete": KvDelete,
    "host_kv_increment": KvIncrement,
    "host_call": FunctionCall,
}


def function_limit(name: str) -> str:
    """Return the name of a function's own limit, as traps and meters show it."""
    return f"functions.{name}"


# ── reading what a guest wrote ───────────────────────────────────────────────────────────────────


def _decoded(data: bytes, shape: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(f"{what} can't be read: {error}") from None


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadRequestError(f"{what} is not UTF-8") from None


def _key(data: bytes) -> bytes:
    if not data:
        raise BadRequestError("the key is empty")
    return data


def _url(text: str, *, base: Url | None = None) -> Url:
    try:
        return base.join(text) if base else parse_url(text)
    except ValueError as error:
        raise BadRequestError(f"the URL can't be used: {error}") from None


def _check_header(name: str, value: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise BadRequestError("a header's name is not an HTTP token")
    hyphenated = name.lower().replace("_", "-")  # servers' gateways take one for the other
    if hyphenated in _HOSTS_OWN_HEADERS or hyphenated.startswith(_HOSTS_OWN_PREFIXES):
        raise BadRequestError(f"header {name!r} is the host's to set")
    if not _HEADER_VALUE.fullmatch(value):
        raise BadRequestError(f"header {name!r} has a value with control or non-Latin-1 characters, or over 8 KiB")


def _parameter(place: int, value: object) -> Scalar:
    if isinstance(value, dict) and value.keys() == {"base64"} and isinstance(value["base64"], str):
        return _from_base64(place, value["base64"])
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise BadRequestError(f"parameter ${place} doesn't fit 64 bits")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise BadRequestError(f'parameter ${place} must be null, a boolean, a number, a string or {{"base64": text}}')


def _from_base64(place: int, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise BadRequestError(f"parameter ${place} is not base64") from None
