"""How values cross between guests and PostgreSQL, and what its errors mean to a guest: two tables.

Rules:
* Values go as text, but for bytes; types that have no place in the table are a `BAD_REQUEST`: "cast it to text".
* What an error means is told by its SQLSTATE, never by its text.
* A reason shows the guest its own mistakes as the server words them, and nothing of what is wrong with the server.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NamedTuple

from psycopg import pq

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends import AnswerCode
from fuseboard.backends._database import Parameter

_TEXT, _BINARY = pq.Format.TEXT, pq.Format.BINARY
_INT4, _INT8, _FLOAT8, _BOOL, _BYTEA, _UNKNOWN = 23, 20, 701, 16, 17, 0


class Sent(NamedTuple):
    """A statement's parameters as libpq takes them."""

    values: list[bytes | None]
    types: list[int]
    formats: list[int]


def sent(parameters: tuple[Parameter, ...]) -> Sent:
    """Return parameters as they are sent; text has the type that its place wants."""
    rows = [_sent(value) for value in parameters]
    return Sent([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def _sent(value: Parameter) -> tuple[bytes | None, int, int]:
    match value:
        case None:
            return None, _UNKNOWN, _TEXT
        case bool():
            return (b"t" if value else b"f"), _BOOL, _TEXT
        case int():
            return str(value).encode(), (_INT4 if -(1 << 31) <= value < 1 << 31 else _INT8), _TEXT
        case float():
            return repr(value).encode(), _FLOAT8, _TEXT
        case str():
            return value.encode(), _UNKNOWN, _TEXT
        case bytes():
            return value, _BYTEA, _BINARY


# ── what comes back ──────────────────────────────────────────────────────────────────────────────


def _number(text: bytes) -> int | float:
    number = Decimal(text.decode())
    if number.is_finite() and number == number.to_integral_value() and -(1 << 63) <= number < 1 << 63:
        return int(number)
    return float(number)


def _moment(text: bytes) -> str:
    """Return a time stamp as ISO 8601 has it; the server's time zone is UTC."""
    day, space, rest = text.decode().partition(" ")
    whole = f"{day}T{rest}" if space else day
    return f"{whole}:00" if whole.endswith("+00") else whole


def _time(text: bytes) -> str:
    whole = text.decode()
    return f"{whole}:00" if whole[-3:-2] in {"+", "-"} else whole


Load = Callable[[bytes], Any]

LOADS: Final[dict[int, Load]] = {
    16: lambda text: 1 if text == b"t" else 0,
    17: lambda text: bytes.fromhex(text[2:].decode()),
    **dict.fromkeys((20, 21, 23, 26), int),
    **dict.fromkeys((700, 701), float),
    1700: _number,
    **dict.fromkeys((18, 19, 25, 114, 705, 1042, 1043, 1082, 1083, 2950, 3802), bytes.decode),
    1266: _time,
    **dict.fromkeys((1114, 1184), _moment),
}
"""By type: bool; bytea; int8, int2, int4, oid; float4, float8; numeric; char, name, text, json, unknown, bpchar,
varchar, date, time, uuid, jsonb; timetz; timestamp, timestamptz."""


def loads(types: list[int], columns: tuple[str, ...]) -> tuple[Load, ...]:
    """Return how each column is read.

    Raises:
        BackendError: `BAD_REQUEST` for a type that isn't in the table.
    """
    for type_, column in zip(types, columns, strict=True):
        if type_ not in LOADS:
            reason = f"column {column!r} is of a type that has no JSON form: cast it to text"
            raise BackendError(reason, code=AnswerCode.BAD_REQUEST)
    return tuple(LOADS[type_] for type_ in types)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────

READ_ONLY: Final = "25006"
CANCELED: Final = "57014"

_CODES: Final[dict[str, AnswerCode]] = {
    "0A": AnswerCode.BAD_REQUEST,
    "21": AnswerCode.BAD_REQUEST,
    "22": AnswerCode.BAD_REQUEST,
    "23": AnswerCode.CONFLICT,
    "25": AnswerCode.BAD_REQUEST,
    "2B": AnswerCode.CONFLICT,
    "40": AnswerCode.CONFLICT,
    "42": AnswerCode.BAD_REQUEST,
    "42501": AnswerCode.DENIED,
    "42809": AnswerCode.BAD_REQUEST,
    "44": AnswerCode.CONFLICT,
    "53400": AnswerCode.TOO_LARGE,
    "54": AnswerCode.TOO_LARGE,
    "54001": AnswerCode.BAD_REQUEST,
    "54011": AnswerCode.BAD_REQUEST,
    "54023": AnswerCode.BAD_REQUEST,
    "55000": AnswerCode.BAD_REQUEST,
    "55P03": AnswerCode.CONFLICT,
}
"""By SQLSTATE, or by its class; all others are the server's own trouble."""


_UNTOLD: Final = {"42501": "permission denied", "42809": "that isn't of the kind that is wanted here"}
"""Said instead of what the server says: it names what a guest has guessed the number of (`nextval('16434')`)."""


def as_backend_error(state: str, message: str) -> BackendError:
    """Return what a guest is answered for an error of the server's."""
    if state == CANCELED:
        return BackendTimeout("the statement was still running at the deadline")
    if state in _UNTOLD:
        return BackendError(_UNTOLD[state], code=_CODES[state])
    code = _CODES.get(state, _CODES.get(state[:2], AnswerCode.BACKEND_FAILED))
    if code == AnswerCode.BACKEND_FAILED:
        return BackendError("the database failed")
    if state == READ_ONLY:
        return BackendError(f"{message}: a query only reads; use exec to write", code=code)
    return BackendError(message, code=code)
