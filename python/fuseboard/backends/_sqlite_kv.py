"""Keys and values in a table of a plugin's SQLite file: the table, and what a session has written so far.

Rules:
* A guest's SQL can't reach the table; its triggers are ours.
* Writes are kept until the commit. The last commit wins a key whole, and who only sets waits for nobody before.
* What an increment has read isn't changed by another before its session ends: it is the only writer from then on.
* A key whose time is over isn't there. It is removed at a later commit, and counts no more where room is short.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from fuseboard._errors import BackendError
from fuseboard.backends import AnswerCode
from fuseboard.backends._database import too_large

if TYPE_CHECKING:
    from fuseboard.backends import KvIncrement, KvSet
    from fuseboard.backends._sqlite_connection import Connection

SCHEMA: Final = (
    "CREATE TABLE fuseboard_kv (key BLOB PRIMARY KEY, value BLOB NOT NULL, expires REAL)",
    "CREATE INDEX fuseboard_kv_expires ON fuseboard_kv (expires) WHERE expires IS NOT NULL",
    "CREATE TABLE fuseboard_kv_bytes (total INTEGER NOT NULL)",
    "INSERT INTO fuseboard_kv_bytes VALUES (0)",
    (
        "CREATE TRIGGER fuseboard_kv_inserted AFTER INSERT ON fuseboard_kv BEGIN"
        " UPDATE fuseboard_kv_bytes SET total = total + length(NEW.key) + length(NEW.value); END"
    ),
    (
        "CREATE TRIGGER fuseboard_kv_deleted AFTER DELETE ON fuseboard_kv BEGIN"
        " UPDATE fuseboard_kv_bytes SET total = total - length(OLD.key) - length(OLD.value); END"
    ),
    (
        "CREATE TRIGGER fuseboard_kv_updated AFTER UPDATE OF value ON fuseboard_kv BEGIN"
        " UPDATE fuseboard_kv_bytes SET total = total - length(OLD.value) + length(NEW.value); END"
    ),
)
_GET: Final = "SELECT value, expires FROM fuseboard_kv WHERE key = $1 AND (expires IS NULL OR expires > $2)"
_SET: Final = (
    "INSERT INTO fuseboard_kv VALUES ($1, $2, $3) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires"
)
_DELETE: Final = "DELETE FROM fuseboard_kv WHERE key = $1"
_EXPIRED: Final = "expires IS NOT NULL AND expires <= $1"
_PURGE: Final = f"DELETE FROM fuseboard_kv WHERE key IN (SELECT key FROM fuseboard_kv WHERE {_EXPIRED} LIMIT $2)"  # noqa: S608
_TOTAL: Final = "SELECT total FROM fuseboard_kv_bytes"
_OVER: Final = f"SELECT coalesce(sum(length(key) + length(value)), 0) FROM fuseboard_kv WHERE {_EXPIRED}"  # noqa: S608
_ITEMS: Final = "SELECT key, value FROM fuseboard_kv WHERE expires IS NULL OR expires > $1 ORDER BY key"
_PURGED_AT_A_COMMIT: Final = 100
_NUMBER: Final = re.compile(rb"(-?)0*([0-9]{1,19})")


class Kept(NamedTuple):
    """A value, and when it ends, in seconds of the epoch; `None` for one that stays."""

    value: bytes
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class KvCaps:
    """The most that a key, a value, and all keys and values of a namespace hold, in bytes."""

    max_key_bytes: int
    max_value_bytes: int
    max_kv_bytes: int

    def check(self, key: bytes, value: bytes = b"") -> None:
        """Refuse what is too large.

        Raises:
            BackendError: `TOO_LARGE`.
        """
        if len(key) > self.max_key_bytes:
            raise too_large(f"the key has {len(key)} bytes, of at most {self.max_key_bytes}")
        if len(value) > self.max_value_bytes:
            raise too_large(f"the value has {len(value)} bytes, of at most {self.max_value_bytes}")


class KvWrites:
    """What one session has written."""

    __slots__ = ("_bytes", "_caps", "_held", "_replaced", "_writes")

    def __init__(self, caps: KvCaps) -> None:
        self._caps = caps
        self._writes: dict[bytes, Kept | None] = {}
        self._bytes = 0
        self._held: int | None = None
        self._replaced: dict[bytes, int] = {}

    def __bool__(self) -> bool:
        return bool(self._writes)

    def __contains__(self, key: bytes) -> bool:
        return key in self._writes

    def __getitem__(self, key: bytes) -> Kept | None:
        kept = self._writes[key]
        return None if kept and kept.expires is not None and kept.expires <= time.time() else kept

    def set(self, call: KvSet, connection: Connection) -> None:
        """Note a value."""
        expires = None if call.seconds is None else time.time() + call.seconds
        self._note(call.key, Kept(call.value, expires), connection)

    def delete(self, key: bytes) -> None:
        """Note that a key goes."""
        self._bytes -= self._size(key)
        self._writes[key] = None

    def increment(self, call: KvIncrement, found: Kept | None, connection: Connection) -> int:
        """Note a number that was added to, and return it; the key keeps its expiry."""
        number = _in_64_bits(_as_number(found) + call.by)
        self._note(call.key, Kept(b"%d" % number, found.expires if found else None), connection)
        return number

    def clear(self) -> None:
        """Forget all."""
        self._writes.clear()

    def apply(self, connection: Connection, deadline: float) -> None:
        """Write all of it; who calls has begun a transaction.

        Raises:
            BackendError: there is no room, or the file can't be written.
        """
        now = time.time()
        connection.ours(_PURGE, {"1": now, "2": _PURGED_AT_A_COMMIT}, deadline)
        for key, kept in self._writes.items():
            if kept is None:
                connection.ours(_DELETE, {"1": key}, deadline)
            else:
                connection.ours(_SET, {"1": key, "2": kept.value, "3": kept.expires}, deadline)
        if self._bytes and _total(connection) > self._caps.max_kv_bytes < _living(connection, now):
            raise self._no_room()

    def _note(self, key: bytes, kept: Kept, connection: Connection) -> None:
        self._caps.check(key, kept.value)
        added = len(key) + len(kept.value) - self._size(key)
        self._check_room(key, added, connection)
        self._bytes += added
        self._writes[key] = kept

    def _size(self, key: bytes) -> int:
        kept = self._writes.get(key)
        return len(key) + len(kept.value) if kept else 0

    def _check_room(self, key: bytes, added: int, connection: Connection) -> None:
        """Refuse what doesn't fit, now; others may still be quicker, which the commit finds."""
        if self._held is None:
            self._held = _total(connection)
        if self._held + self._bytes + added <= self._caps.max_kv_bytes:
            return
        now = time.time()
        for written in (key, *self._writes):
            if written not in self._replaced:
                found = stored(connection, written)
                self._replaced[written] = len(written) + len(found.value) if found else 0
        replaced = sum(self._replaced[written] for written in {key, *self._writes})
        if _living(connection, now) - replaced + self._bytes + added > self._caps.max_kv_bytes:
            raise self._no_room()

    def _no_room(self) -> BackendError:
        return too_large(f"the plugin's keys and values hold {self._caps.max_kv_bytes} bytes at most")


def stored(connection: Connection, key: bytes) -> Kept | None:
    """Return what is committed of a key, as the connection's transaction sees it."""
    rows = connection.ours(_GET, {"1": key, "2": time.time()})
    return Kept(*rows[0]) if rows else None


def _total(connection: Connection) -> int:
    """Return how many bytes are kept, what is over among them."""
    held: int = connection.ours(_TOTAL)[0][0]
    return held


def _living(connection: Connection, now: float) -> int:
    """Return how many bytes are kept without what is over."""
    over: int = connection.ours(_OVER, {"1": now})[0][0]
    return _total(connection) - over


def items(connection: Connection) -> dict[bytes, bytes]:
    """Return all keys and values."""
    return dict(connection.ours(_ITEMS, {"1": time.time()}))


def _as_number(found: Kept | None) -> int:
    if found is None:
        return 0
    text = _NUMBER.fullmatch(found.value)
    if text is None:
        raise BackendError("the value is not a 64-bit number in decimal text", code=AnswerCode.CONFLICT)
    return _in_64_bits(int(b"".join(text.groups())))


def _in_64_bits(number: int) -> int:
    if not -(1 << 63) <= number < 1 << 63:
        raise BackendError("the number doesn't fit 64 bits", code=AnswerCode.CONFLICT)
    return number
