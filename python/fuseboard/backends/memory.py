"""Backends that live in memory: for tests, for demos, and for data that may be forgotten.

Rules:
* Data belongs to one plugin in one scope, its namespace; nothing that a guest says can name another's.
* A namespace has one lock. A DB session takes it at its first statement, a KV session at its first increment (sums
  kept until commit could answer two invocations the same number) or at its commit. Both hold it until they end.
* So writers of one plugin and scope come one after the other, and whoever waits for a lock waits until the deadline.
  DB and KV are two stores: each commits whole, not both as one, and two invocations that take the two locks in
  opposite order wait for each other until the first deadline.
* In a forked child, `MemoryKv` has what was committed before, `MemoryDb` begins empty: SQLite's connections can't be
  taken along.
* The calls, the commit and the rollback of a session exclude each other, whichever threads they come from, and a
  session that has ended does nothing any more: an abandoned call can't take the lock after its rollback.
"""

from __future__ import annotations

import math
import sqlite3
import time
from abc import ABC, abstractmethod
from contextlib import closing, contextmanager
from dataclasses import dataclass
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
from fuseboard.backends._fork_gate import fork_gate
from fuseboard.backends._kv import (
    ENDED,
    LOCKED,
    MAX_KEY_BYTES,
    MAX_KV_BYTES,
    MAX_VALUE_BYTES,
    KvCaps,
    Written,
    incremented,
    weight,
)
from fuseboard.backends._locks import OwnedLock
from fuseboard.backends._sqlite import (
    PAGE_BYTES,
    READING,
    WRITING,
    Database,
    as_backend_error,
    fetched,
    open_database,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fuseboard.backends import HostCall, Identity

_Namespace = tuple[str, str | None]

_PATIENCE_SECONDS: Final = 5.0
_NOT_THERE: Final = Written(None)


class _Session(ABC):
    """A session that may hold its namespace's lock, and gives it back however it ends."""

    def __init__(self, lock: OwnedLock) -> None:
        self._lock = lock
        self._turn = Lock()
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
        self._has_ended = True
        self._stop()  # an answer that nobody waits for any more
        with self._turn:
            self._end()

    def _stop(self) -> None:
        self._lock.look_again()

    def _check_open(self) -> None:
        if self._has_ended:
            raise BackendError(ENDED)

    def _take_lock(self, deadline: float) -> None:
        if not self._lock.take(self, _seconds_until(deadline), lambda: self._has_ended):
            raise BackendTimeout(LOCKED)

    def _end(self) -> None:
        self._has_ended = True
        try:
            self._forget()
        finally:
            self._lock.give_back(self)

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
        self._pages = max(1, max_bytes // PAGE_BYTES)
        self._databases: dict[_Namespace, Database] = {}
        self._inherited: list[dict[_Namespace, Database]] = []
        self._lock = Lock()
        fork_gate()

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
        reader = object()
        if not database.lock.take(reader, _PATIENCE_SECONDS):
            raise BackendTimeout(f"an invocation of {plugin!r} has held its database for {_PATIENCE_SECONDS} seconds")
        try:
            with database.guard.allowing(None, math.inf), closing(database.connection.execute(sql)) as cursor:
                return cursor.fetchall()
        finally:
            database.lock.give_back(reader)

    def close(self) -> None:
        """Forget all data and close the connections; no session may be open."""
        with self._lock, fork_gate().working():
            for database in self._databases.values():
                database.connection.close()
            self._databases.clear()

    def after_fork_in_child(self) -> None:
        """Begin with empty databases. The inherited connections stay open: a thread that isn't here may hold them."""
        self._inherited.append(self._databases)
        self._databases = {}
        self._lock = Lock()

    def _database(self, plugin: str, scope: str | None) -> Database:
        with self._lock:
            found = self._databases.get((plugin, scope))
            if found is None:
                found = self._databases[plugin, scope] = open_database(self._pages)
            return found


class _DbSession(_Session):
    def __init__(self, database: Database, *, writes: bool) -> None:
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

    def _stop(self) -> None:
        super()._stop()
        if self._lock.is_held_by(self):
            self._guard.stop()

    def _query(self, call: DbQuery, deadline: float) -> DbRows:
        with self._running(call, READING, deadline) as cursor:
            if cursor.description is None:
                raise BackendError("this statement gives no rows; use exec", code=AnswerCode.BAD_REQUEST)
            return DbRows(tuple(column[0] for column in cursor.description), fetched(cursor))

    def _exec(self, call: DbExec, deadline: float) -> DbChanged:
        before = self._connection.total_changes
        with self._running(call, WRITING, deadline) as cursor:
            for _ in cursor:
                pass  # a statement with RETURNING or SELECT is done when its last row was fetched
        return DbChanged(self._changes() if self._connection.total_changes != before else 0)

    def _changes(self) -> int:
        with self._errors_as_answers(reads_only=True), self._guard.allowing(None, math.inf):
            changed: int = self._connection.execute("SELECT changes()").fetchone()[0]
        return changed

    @contextmanager
    def _running(self, call: DbQuery | DbExec, actions: frozenset[int], deadline: float) -> Iterator[sqlite3.Cursor]:
        self._begin(deadline)
        names = {str(place): value for place, value in enumerate(call.parameters, 1)}
        with (
            self._errors_as_answers(reads_only=actions is READING),
            self._guard.allowing(actions, deadline),
            closing(self._connection.execute(call.sql, names)) as cursor,
        ):
            yield cursor

    def _begin(self, deadline: float) -> None:
        if self._lock.is_held_by(self):
            self._check_transaction()
            return
        self._take_lock(deadline)
        with self._errors_as_answers(reads_only=False), self._guard.allowing(None, math.inf):
            self._connection.execute("BEGIN IMMEDIATE")

    def _check_transaction(self) -> None:
        """Refuse what would run outside the transaction: `INSERT OR ROLLBACK` and interrupted writes end it."""
        if not self._connection.in_transaction:
            reason = "an earlier error undid all that this invocation had written to the database"
            raise BackendError(reason, code=AnswerCode.CONFLICT)

    def _commit(self, deadline: float) -> None:
        if not self._lock.is_held_by(self):
            return
        self._check_transaction()
        with self._errors_as_answers(reads_only=False), self._guard.allowing(None, deadline):
            self._connection.execute("COMMIT")

    def _forget(self) -> None:
        if not self._lock.is_held_by(self) or not self._connection.in_transaction:
            return
        try:
            self._undo()
        except sqlite3.Error as error:
            if not self._guard.missed_interrupt(error):
                raise
            self._undo()
            raise KeyboardInterrupt from error

    def _undo(self) -> None:
        with self._guard.allowing(None, math.inf):
            self._connection.execute("ROLLBACK")

    @contextmanager
    def _errors_as_answers(self, *, reads_only: bool) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning, UnicodeError) as error:
            if self._guard.missed_interrupt(error):
                raise KeyboardInterrupt from error
            if self._guard.refused:
                raise BackendError(refusal(error, reads_only=reads_only), code=AnswerCode.BAD_REQUEST) from error
            raise as_backend_error(error) from error


# ── KV ───────────────────────────────────────────────────────────────────────────────────────────


class MemoryKv:
    """Dictionaries in memory: one for each plugin and scope.

    Reads see what is committed and the session's own writes. A number is kept as decimal text, `-?[0-9]+`, in 64 bits.

    Args:
        initial: keys and values by plugin, without a scope.
        max_key_bytes: the most that a key may have; a longer one is answered `TOO_LARGE`.
        max_value_bytes: the same for a value.
        max_kv_bytes: the same for all keys and values of one plugin and scope together.
        clock: seconds that never go back; keys expire by it.

    Raises:
        UsageError: a cap is no whole number from 1.
    """

    def __init__(
        self,
        initial: Mapping[str, Mapping[bytes, bytes]] | None = None,
        *,
        max_key_bytes: int = MAX_KEY_BYTES,
        max_value_bytes: int = MAX_VALUE_BYTES,
        max_kv_bytes: int = MAX_KV_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._caps = KvCaps(max_key_bytes=max_key_bytes, max_value_bytes=max_value_bytes, max_kv_bytes=max_kv_bytes)
        self._clock = clock
        self._stores: dict[_Namespace, _KvStore] = {
            (plugin, None): _KvStore({key: Written(value) for key, value in values.items()})
            for plugin, values in (initial or {}).items()
        }
        self._lock = Lock()

    def session(self, identity: Identity) -> _KvSession:
        """Return a session on the identity's namespace."""
        return _KvSession(self._store(identity.plugin, identity.scope), self._caps, self._clock)

    def items(self, plugin: str, *, scope: str | None = None) -> dict[bytes, bytes]:
        """Return a copy of what is committed."""
        held, now = self._store(plugin, scope).snapshot(), self._clock()
        return {key: value for key, written in held.items() if (value := written.at(now)) is not None}

    def clear(self, plugin: str, *, scope: str | None = None) -> None:
        """Remove all keys of a plugin in a scope.

        Raises:
            BackendTimeout: an invocation held the namespace for 5 seconds.
        """
        store, cleaner = self._store(plugin, scope), object()
        if not store.lock.take(cleaner, _PATIENCE_SECONDS):
            raise BackendTimeout(f"an invocation of {plugin!r} has held its keys for {_PATIENCE_SECONDS} seconds")
        try:
            store.apply(dict.fromkeys(store.values, _NOT_THERE))
        finally:
            store.lock.give_back(cleaner)

    def after_fork_in_child(self) -> None:
        """Take new locks: who held the old ones may not be in this process."""
        self._lock = Lock()
        self._stores = {namespace: _KvStore(store.snapshot()) for namespace, store in self._stores.items()}

    def _store(self, plugin: str, scope: str | None) -> _KvStore:
        with self._lock:
            return self._stores.setdefault((plugin, scope), _KvStore({}))


class _KvStore:
    """What is committed. Writes are applied by one operation, so that a fork can't come between them.

    Attributes:
        values: by key; what has expired stays until the next commit.
        bytes: what all of them have, expired ones too.
        expiring: the keys of those that expire.
    """

    __slots__ = ("bytes", "expiring", "lock", "values")

    def __init__(self, values: dict[bytes, Written]) -> None:
        self.values = values
        self.lock = OwnedLock()
        self.bytes = sum(weight(key, written.value) for key, written in values.items())
        self.expiring = {key for key, written in values.items() if written.expires < math.inf}

    def snapshot(self) -> dict[bytes, Written]:
        return {key: written for key, written in self.values.copy().items() if written.value is not None}

    def weight(self, key: bytes) -> int:
        held = self.values.get(key)
        return 0 if held is None else weight(key, held.value)

    def has_room(self, growth: int, most: int, now: float) -> bool:
        """Return whether the values may grow by so many bytes; they may always shrink."""
        over = self.bytes + growth - most
        return growth <= 0 or over <= 0 or over <= sum(map(self.weight, self._expired(now)))

    def drop_expired(self, now: float) -> None:
        self.apply(dict.fromkeys(self._expired(now), Written(None)))

    def apply(self, writes: Mapping[bytes, Written]) -> None:
        self.bytes += sum(weight(key, written.value) - self.weight(key) for key, written in writes.items())
        self.values.update(writes)
        for key, written in writes.items():
            if written.value is None:
                self.values.pop(key, None)
            (self.expiring.add if written.expires < math.inf else self.expiring.discard)(key)

    def _expired(self, now: float) -> list[bytes]:
        return [key for key in self.expiring.copy() if self.values.get(key, _NOT_THERE).expires <= now]


class _KvSession(_Session):
    def __init__(self, store: _KvStore, caps: KvCaps, clock: Callable[[], float]) -> None:
        super().__init__(store.lock)
        self._store = store
        self._caps = caps
        self._clock = clock
        self._writes: dict[bytes, Written] = {}
        self._growth = 0

    def _answer(self, call: HostCall, deadline: float) -> Answer:
        if isinstance(call, KvGet | KvDelete):
            self._caps.check(call.key)
        match call:
            case KvGet(key=key):
                return KvValue(self._held(key).at(self._clock()))
            case KvSet(key=key, value=value, seconds=seconds):
                self._write(key, Written(value, math.inf if seconds is None else self._clock() + seconds))
                return KvDone()
            case KvDelete(key=key):
                self._write(key, _NOT_THERE)
                return KvDone()
            case KvIncrement(key=key, by=by):
                self._take_lock(deadline)
                return KvNumber(self._incremented(key, by))
            case _:
                raise _unserved("MemoryKv", call)

    def _held(self, key: bytes) -> Written:
        return self._writes.get(key) or self._store.values.get(key, _NOT_THERE)

    def _incremented(self, key: bytes, by: int) -> int:
        held = self._held(key)
        value = held.at(self._clock())
        number = incremented(value, by)
        self._write(key, Written(b"%d" % number, math.inf if value is None else held.expires))
        return number

    def _write(self, key: bytes, written: Written) -> None:
        before = weight(key, self._writes[key].value) if key in self._writes else self._store.weight(key)
        growth = self._growth + weight(key, written.value) - before
        if written.value is not None:
            self._caps.check(key, written.value)
            self._check_room(growth)
        self._writes[key], self._growth = written, growth

    def _check_room(self, growth: int) -> None:
        if not self._store.has_room(growth, self._caps.max_kv_bytes, self._clock()):
            raise self._caps.full()

    def _commit(self, deadline: float) -> None:
        if self._writes:
            self._take_lock(deadline)
            self._store.drop_expired(self._clock())
            growths = (weight(key, written.value) - self._store.weight(key) for key, written in self._writes.items())
            self._check_room(sum(growths))
            self._store.apply(self._writes)

    def _forget(self) -> None:
        self._writes.clear()
