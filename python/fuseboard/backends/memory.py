"""Backends that live in memory: for tests, for demos, and for data that may be forgotten.

Rules:
* Data belongs to one plugin in one scope, its namespace; nothing that a guest says can name another's.
* A namespace has one lock. A DB session takes it at its first statement, a KV session at its first increment (sums
  kept until commit could answer two invocations the same number) or at its commit. Both hold it until they end.
* So writers of one plugin and scope come one after the other, and whoever waits for a lock waits until the deadline.
  DB and KV are two stores: each commits whole, not both as one, and two invocations that take the two locks in
  opposite order wait for each other until the first deadline.
* The calls, the commit and the rollback of a session exclude each other, whichever threads they come from, and a
  session that has ended does nothing any more: an abandoned call can't take the lock after its rollback.
* The deadline is looked at between SQLite's opcodes only. What a single opcode can cost is bounded by sizes, and
  functions whose time grows with the square of their input are replaced or refused.
"""

from __future__ import annotations

import math
import re
import sqlite3
import time
from abc import ABC, abstractmethod
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from threading import TIMEOUT_MAX, Lock
from typing import TYPE_CHECKING, Any, Final

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard._limits import MIB
from fuseboard.backends import (
    Answer,
    AnswerCode,
    DbChanged,
    DbExec,
    DbQuery,
    DbRows,
    HttpRequest,
    HttpResponse,
    KvDelete,
    KvDone,
    KvGet,
    KvIncrement,
    KvNumber,
    KvSet,
    KvValue,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fuseboard.backends import HostCall, Identity

_Namespace = tuple[str, str | None]

_PATIENCE_SECONDS: Final = 5.0
_LARGEST_REPLY: Final = 4 * MIB
_LARGEST_VALUE: Final = MIB
_VALUE_OVERHEAD: Final = 16
_OPCODES_BETWEEN_LOOKS: Final = 1000
_PAGE_BYTES: Final = 4096
_MOST_TRIMMED: Final = 256
_NUMBER: Final = re.compile(rb"(-?)0*([0-9]{1,19})")

_READING: Final = frozenset({
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
})  # fmt: skip
_WRITING: Final = _READING | {
    sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_REINDEX,
    sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_DROP_VIEW,
    sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_DROP_TRIGGER,
}  # fmt: skip
_REFUSED_FUNCTIONS: Final = frozenset({"load_extension", "fts3_tokenizer", "sqlite_log", "json_patch"})
_REFUSED_TABLES: Final = frozenset({"sqlite_dbpage"})
_SIZES: Final = {
    sqlite3.SQLITE_LIMIT_LENGTH: _LARGEST_VALUE,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: MIB // 4,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 50,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_CODES: Final = {
    sqlite3.SQLITE_ERROR: AnswerCode.BAD_REQUEST,
    sqlite3.SQLITE_AUTH: AnswerCode.BAD_REQUEST,
    sqlite3.SQLITE_MISMATCH: AnswerCode.BAD_REQUEST,
    sqlite3.SQLITE_RANGE: AnswerCode.BAD_REQUEST,
    sqlite3.SQLITE_CONSTRAINT: AnswerCode.CONFLICT,
    sqlite3.SQLITE_TOOBIG: AnswerCode.TOO_LARGE,
    sqlite3.SQLITE_FULL: AnswerCode.TOO_LARGE,
}


class _Session(ABC):
    """A session that may hold its namespace's lock, and gives it back however it ends."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._turn = Lock()
        self._holds_lock = False
        self._has_ended = False

    def answer(self, call: HostCall, deadline: float) -> Answer:
        with self._turn:
            self._check_open()
            return self._answer(call, deadline)

    def commit(self, deadline: float) -> None:
        with self._turn:
            self._check_open()
            try:
                self._commit(deadline)
            finally:
                self._end()

    def rollback(self) -> None:
        with self._turn:
            self._end()

    def _check_open(self) -> None:
        if self._has_ended:
            raise BackendError("this session has ended")

    def _take_lock(self, deadline: float) -> None:
        if not self._holds_lock:
            self._holds_lock = self._lock.acquire(timeout=_seconds_until(deadline))
        if not self._holds_lock:
            raise BackendTimeout("another invocation of this plugin was writing until the deadline")

    def _end(self) -> None:
        self._has_ended = True
        try:
            self._forget()
        finally:
            if self._holds_lock:
                self._holds_lock = False
                self._lock.release()

    @abstractmethod
    def _answer(self, call: HostCall, deadline: float) -> Answer: ...

    @abstractmethod
    def _commit(self, deadline: float) -> None: ...

    @abstractmethod
    def _forget(self) -> None:
        """Undo what isn't committed; nothing to do after a commit."""


def _seconds_until(deadline: float) -> float:
    return min(max(0.0, deadline - time.monotonic()), TIMEOUT_MAX)


def _unserved(backend: str, call: HostCall) -> TypeError:
    return TypeError(f"{backend} doesn't serve {type(call).__name__}")


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────


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
            raise _unserved("MemoryHttp", call)
        return self._backend.send(call)

    def commit(self, deadline: float) -> None:
        """Do nothing: what was sent was sent."""

    def rollback(self) -> None:
        """Do nothing: what was sent can't be taken back."""


# ── DB ───────────────────────────────────────────────────────────────────────────────────────────


class MemoryDb:
    """SQLite in memory: one database for each plugin and scope.

    A session is one transaction, from its first statement on, alone in its namespace. Foreign keys are enforced.
    Guests may use tables, indexes, views and triggers; not `ATTACH`, `PRAGMA`, `VACUUM`, transactions of their own,
    temporary or virtual tables. A value holds at most 1 MiB, the rows of a query about 4 MiB.

    Args:
        max_bytes: the most that one namespace's database may grow to; more is answered `TOO_LARGE`.
    """

    def __init__(self, *, max_bytes: int = 64 * MIB) -> None:
        self._pages = max(1, max_bytes // _PAGE_BYTES)
        self._databases: dict[_Namespace, _Database] = {}
        self._lock = Lock()

    def session(self, identity: Identity) -> _DbSession:
        """Return a session on the identity's namespace."""
        return _DbSession(self._database(identity.plugin, identity.scope), writes=identity.grants.db == "write")

    def rows(self, plugin: str, sql: str, *, scope: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement of the application's own outside any session, unrestricted, and return its rows.

        Raises:
            BackendTimeout: an invocation held the database for 5 seconds.
            sqlite3.Error: the statement failed.
        """
        database = self._database(plugin, scope)
        if not database.lock.acquire(timeout=_PATIENCE_SECONDS):
            raise BackendTimeout(f"an invocation of {plugin!r} has held its database for {_PATIENCE_SECONDS} seconds")
        try:
            with database.guard.allowing(None, math.inf), closing(database.connection.execute(sql)) as cursor:
                return cursor.fetchall()
        finally:
            database.lock.release()

    def close(self) -> None:
        """Forget all data and close the connections; no session may be open."""
        with self._lock:
            for database in self._databases.values():
                database.connection.close()
            self._databases.clear()

    def _database(self, plugin: str, scope: str | None) -> _Database:
        with self._lock:
            found = self._databases.get((plugin, scope))
            if found is None:
                found = self._databases[plugin, scope] = _open_database(self._pages)
            return found


class _Guard:
    """What SQLite asks us: while it compiles, whether a statement may do this; while it runs, whether it is late."""

    __slots__ = ("_allowed", "_deadline", "refused")

    def __init__(self) -> None:
        self._allowed: frozenset[int] | None = None
        self._deadline = math.inf
        self.refused = False

    @contextmanager
    def allowing(self, actions: frozenset[int] | None, deadline: float) -> Iterator[None]:
        """Allow these of SQLite's actions until the deadline, `None` for all; nothing runs unguarded afterwards."""
        self._allowed, self._deadline, self.refused = actions, deadline, False
        try:
            yield
        finally:
            self._allowed, self._deadline = frozenset(), -math.inf

    def authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        """Answer SQLite's question; `first` is a table's name, `second` a function's."""
        if self._allowed is None:
            return sqlite3.SQLITE_OK
        named = second if action == sqlite3.SQLITE_FUNCTION else first
        refused_names = _REFUSED_FUNCTIONS if action == sqlite3.SQLITE_FUNCTION else _REFUSED_TABLES
        if action in self._allowed and (named or "").lower() not in refused_names:
            return sqlite3.SQLITE_OK
        self.refused = True
        return sqlite3.SQLITE_DENY

    def is_late(self) -> bool:
        return time.monotonic() > self._deadline


@dataclass(frozen=True, slots=True)
class _Database:
    connection: sqlite3.Connection
    guard: _Guard
    lock: Lock = field(default_factory=Lock)


def _open_database(pages: int) -> _Database:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=0)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute(f"PRAGMA max_page_count = {pages}")
    for category, size in _SIZES.items():
        connection.setlimit(category, size)
    for name, arguments, function in _LINEAR_FUNCTIONS:
        connection.create_function(name, arguments, function, deterministic=True)
    guard = _Guard()
    connection.set_authorizer(guard.authorize)
    connection.set_progress_handler(guard.is_late, _OPCODES_BETWEEN_LOOKS)
    return _Database(connection, guard)


class _DbSession(_Session):
    def __init__(self, database: _Database, *, writes: bool) -> None:
        super().__init__(database.lock)
        self._connection = database.connection
        self._guard = database.guard
        self._writes = writes

    def _answer(self, call: HostCall, deadline: float) -> Answer:
        match call:
            case DbQuery():
                return self._query(call, deadline)
            case DbExec() if self._writes:
                return self._exec(call, deadline)
            case DbExec():
                raise BackendError("writing to the database is not granted", code=AnswerCode.DENIED)
            case _:
                raise _unserved("MemoryDb", call)

    def _query(self, call: DbQuery, deadline: float) -> DbRows:
        with self._running(call, _READING, deadline) as cursor:
            if cursor.description is None:
                raise BackendError("this statement gives no rows; use exec", code=AnswerCode.BAD_REQUEST)
            return DbRows(tuple(column[0] for column in cursor.description), _fetched(cursor))

    def _exec(self, call: DbExec, deadline: float) -> DbChanged:
        before = self._connection.total_changes
        with self._running(call, _WRITING, deadline) as cursor:
            for _ in cursor:
                pass  # a statement with RETURNING or SELECT is done when its last row was fetched
        return DbChanged(self._changes() if self._connection.total_changes != before else 0)

    def _changes(self) -> int:
        with self._guard.allowing(None, math.inf):
            changed: int = self._connection.execute("SELECT changes()").fetchone()[0]
        return changed

    @contextmanager
    def _running(self, call: DbQuery | DbExec, actions: frozenset[int], deadline: float) -> Iterator[sqlite3.Cursor]:
        self._begin(deadline)
        names = {str(place): value for place, value in enumerate(call.parameters, 1)}
        with (
            self._errors_as_answers(reads_only=actions is _READING),
            self._guard.allowing(actions, deadline),
            closing(self._connection.execute(call.sql, names)) as cursor,
        ):
            yield cursor

    def _begin(self, deadline: float) -> None:
        if self._holds_lock:
            self._check_transaction()
            return
        self._take_lock(deadline)
        with self._guard.allowing(None, math.inf):
            self._connection.execute("BEGIN IMMEDIATE")

    def _check_transaction(self) -> None:
        """Refuse what would run outside the transaction: `INSERT OR ROLLBACK` and interrupted writes end it."""
        if not self._connection.in_transaction:
            reason = "an earlier error undid all that this invocation had written to the database"
            raise BackendError(reason, code=AnswerCode.CONFLICT)

    def _commit(self, deadline: float) -> None:
        if not self._holds_lock:
            return
        self._check_transaction()
        with self._errors_as_answers(reads_only=False), self._guard.allowing(None, deadline):
            self._connection.execute("COMMIT")

    def _forget(self) -> None:
        if self._holds_lock and self._connection.in_transaction:
            with self._guard.allowing(None, math.inf):
                self._connection.execute("ROLLBACK")

    @contextmanager
    def _errors_as_answers(self, *, reads_only: bool) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning, UnicodeError) as error:
            if self._guard.refused:
                raise BackendError(_refusal(error, reads_only=reads_only), code=AnswerCode.BAD_REQUEST) from error
            raise _as_backend_error(error) from error


def _refusal(error: Exception, *, reads_only: bool) -> str:
    advice = "a query only reads; use exec to write" if reads_only else "guests change tables and their rows, no more"
    return f"{error}: {advice}"


def _as_backend_error(error: Exception) -> BackendError:
    without_code = sqlite3.SQLITE_TOOBIG if isinstance(error, sqlite3.DataError) else sqlite3.SQLITE_ERROR
    code = getattr(error, "sqlite_errorcode", without_code) & 0xFF
    if code == sqlite3.SQLITE_INTERRUPT:
        return BackendTimeout("the statement was still running at the deadline")
    return BackendError(str(error), code=_CODES.get(code, AnswerCode.BACKEND_FAILED))


def _fetched(cursor: sqlite3.Cursor) -> tuple[tuple[Any, ...], ...]:
    rows, size = [], 0
    for row in cursor:
        size += sum(_VALUE_OVERHEAD + (len(value) if isinstance(value, str | bytes) else 0) for value in row)
        if size > _LARGEST_REPLY:
            raise BackendError(f"the rows are over {_LARGEST_REPLY} bytes; ask for less", code=AnswerCode.TOO_LARGE)
        rows.append(row)
    return tuple(rows)


# SQLite's own forms of these compare every place with the whole pattern: seconds in one opcode for 1 MiB of text.


def _instr(text: object, part: object) -> int | None:
    if text is None or part is None:
        return None
    if isinstance(text, bytes) and isinstance(part, bytes):
        return text.find(part) + 1
    return _as_text(text).find(_as_text(part)) + 1


def _replace(*values: object) -> str | None:
    if None in values:
        return None
    text, old, new = map(_as_text, values)
    if not old:
        return text
    if len(text) + text.count(old) * (len(new) - len(old)) > _LARGEST_VALUE:
        raise ValueError("the result is too large")
    return text.replace(old, new)


def _trimming(strip: Callable[[str, str], str]) -> Callable[[object, object], str | None]:
    def trim(text: object, characters: object) -> str | None:
        if text is None or characters is None:
            return None
        distinct = "".join(set(_as_text(characters)))
        if len(distinct) > _MOST_TRIMMED:
            raise ValueError("too many characters to trim")
        return strip(_as_text(text), distinct) if distinct else _as_text(text)

    return trim


def _as_text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


_LINEAR_FUNCTIONS: Final[tuple[tuple[str, int, Callable[..., Any]], ...]] = (
    ("instr", 2, _instr),
    ("replace", 3, _replace),
    ("trim", 2, _trimming(str.strip)),
    ("ltrim", 2, _trimming(str.lstrip)),
    ("rtrim", 2, _trimming(str.rstrip)),
)


# ── KV ───────────────────────────────────────────────────────────────────────────────────────────


class MemoryKv:
    """Dictionaries in memory: one for each plugin and scope.

    Reads see what is committed and the session's own writes. A number is kept as decimal text, `-?[0-9]+`, in 64 bits.

    Args:
        initial: keys and values by plugin, without a scope.
    """

    def __init__(self, initial: Mapping[str, Mapping[bytes, bytes]] | None = None) -> None:
        self._stores: dict[_Namespace, _KvStore] = {
            (plugin, None): _KvStore(dict(values)) for plugin, values in (initial or {}).items()
        }
        self._lock = Lock()

    def session(self, identity: Identity) -> _KvSession:
        """Return a session on the identity's namespace."""
        return _KvSession(self._store(identity.plugin, identity.scope))

    def items(self, plugin: str, *, scope: str | None = None) -> dict[bytes, bytes]:
        """Return a copy of what is committed."""
        return self._store(plugin, scope).snapshot()

    def _store(self, plugin: str, scope: str | None) -> _KvStore:
        with self._lock:
            return self._stores.setdefault((plugin, scope), _KvStore({}))


@dataclass(frozen=True, slots=True)
class _KvStore:
    values: dict[bytes, bytes]
    lock: Lock = field(default_factory=Lock)
    _touching: Lock = field(default_factory=Lock)

    def snapshot(self) -> dict[bytes, bytes]:
        with self._touching:
            return self.values.copy()

    def apply(self, writes: Mapping[bytes, bytes | None]) -> None:
        with self._touching:
            for key, value in writes.items():
                if value is None:
                    self.values.pop(key, None)
                else:
                    self.values[key] = value


class _KvSession(_Session):
    def __init__(self, store: _KvStore) -> None:
        super().__init__(store.lock)
        self._store = store
        self._writes: dict[bytes, bytes | None] = {}

    def _answer(self, call: HostCall, deadline: float) -> Answer:
        match call:
            case KvGet(key=key):
                return KvValue(self._value(key))
            case KvSet(key=key, value=value):
                self._writes[key] = value
                return KvDone()
            case KvDelete(key=key):
                self._writes[key] = None
                return KvDone()
            case KvIncrement(key=key, by=by):
                self._take_lock(deadline)
                return KvNumber(self._incremented(key, by))
            case _:
                raise _unserved("MemoryKv", call)

    def _value(self, key: bytes) -> bytes | None:
        return self._writes[key] if key in self._writes else self._store.values.get(key)

    def _incremented(self, key: bytes, by: int) -> int:
        number = _in_64_bits(_as_number(self._value(key)) + by)
        self._writes[key] = b"%d" % number
        return number

    def _commit(self, deadline: float) -> None:
        if self._writes:
            self._take_lock(deadline)
            self._store.apply(self._writes)

    def _forget(self) -> None:
        self._writes.clear()


def _as_number(value: bytes | None) -> int:
    if value is None:
        return 0
    text = _NUMBER.fullmatch(value)
    if text is None:
        raise BackendError("the value is not a 64-bit number in decimal text", code=AnswerCode.CONFLICT)
    return _in_64_bits(int(b"".join(text.groups())))


def _in_64_bits(number: int) -> int:
    if not -(1 << 63) <= number < 1 << 63:
        raise BackendError("the number doesn't fit 64 bits", code=AnswerCode.CONFLICT)
    return number
