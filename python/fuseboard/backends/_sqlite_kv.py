"""Keys and values in a table of a plugin's SQLite file: the table, and what a session has written so far.

Rules:
* A guest's SQL can't reach the table; its triggers are ours.
* Writes are kept until the commit. The last commit wins a key whole, and who only sets waits for nobody before.
* What an increment has read isn't changed by another before its session ends: it is the only writer from then on.
* A key whose time is over isn't there. It is removed at a later commit, and counts no more where room is short.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from fuseboard.backends._kv import KvCaps, Written, incremented, weight

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
GONE: Final = Written(None)


class KvWrites:
    """What one session has written."""

    __slots__ = ("_bytes", "_caps", "_held", "_replaced", "_writes")

    def __init__(self, caps: KvCaps) -> None:
        self._caps = caps
        self._writes: dict[bytes, Written] = {}
        self._bytes = 0
        self._held: int | None = None
        self._replaced: dict[bytes, int] = {}

    def __bool__(self) -> bool:
        return bool(self._writes)

    def get(self, key: bytes) -> Written | None:
        """Return what was written of a key, or `None` where nothing was."""
        return self._writes.get(key)

    def set(self, call: KvSet, connection: Connection) -> None:
        """Note a value."""
        expires = math.inf if call.seconds is None else time.time() + call.seconds
        self._note(call.key, Written(call.value, expires), connection)

    def delete(self, key: bytes) -> None:
        """Note that a key goes."""
        self._bytes -= self._weight(key)
        self._writes[key] = GONE

    def increment(self, call: KvIncrement, found: Written, connection: Connection) -> int:
        """Note a number that was added to, and return it; the key keeps its expiry."""
        value = found.at(time.time())
        number = incremented(value, call.by)
        self._note(call.key, Written(b"%d" % number, math.inf if value is None else found.expires), connection)
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
            if kept.at(now) is None:
                connection.ours(_DELETE, {"1": key}, deadline)
            else:
                expires = None if kept.expires == math.inf else kept.expires
                connection.ours(_SET, {"1": key, "2": kept.value, "3": expires}, deadline)
        if self._bytes and _total(connection) > self._caps.max_kv_bytes < _living(connection, now):
            raise self._caps.full()

    def _note(self, key: bytes, written: Written, connection: Connection) -> None:
        self._caps.check(key, written.value or b"")
        added = weight(key, written.value) - self._weight(key)
        self._check_room(key, added, connection)
        self._bytes += added
        self._writes[key] = written

    def _weight(self, key: bytes) -> int:
        written = self._writes.get(key)
        return 0 if written is None else weight(key, written.value)

    def _check_room(self, key: bytes, added: int, connection: Connection) -> None:
        """Refuse what doesn't fit, now; others may still be quicker, which the commit finds."""
        if self._held is None:
            self._held = _total(connection)
        if self._held + self._bytes + added <= self._caps.max_kv_bytes:
            return
        now = time.time()
        for written in (key, *self._writes):
            if written not in self._replaced:
                self._replaced[written] = weight(written, stored(connection, written).value)
        replaced = sum(self._replaced[written] for written in {key, *self._writes})
        if _living(connection, now) - replaced + self._bytes + added > self._caps.max_kv_bytes:
            raise self._caps.full()


def stored(connection: Connection, key: bytes) -> Written:
    """Return what is committed of a key, as the connection's transaction sees it."""
    for value, expires in connection.ours(_GET, {"1": key, "2": time.time()}):
        return Written(value, math.inf if expires is None else expires)
    return GONE


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
