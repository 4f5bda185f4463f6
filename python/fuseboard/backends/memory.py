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
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard._limits import MIB
from fuseboard.backends import (
    Answer,
    AnswerCode,
    DbExec,
    DbQuery,
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
    MAX_KEY_BYTES,
    MAX_KV_BYTES,
    MAX_VALUE_BYTES,
    KvCaps,
    Written,
    incremented,
    weight,
)
from fuseboard.backends._locks import OwnedLock
from fuseboard.backends._owned_session import OwnedSession, unserved
from fuseboard.backends._sqlite_connection import PAGE_BYTES, Connection, check_unbroken
from fuseboard.backends._sqlite_migrations import run, try_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fuseboard.backends import HostCall, Identity, Migration
    from fuseboard.backends._database import Parameter

_Namespace = tuple[str, str | None]

_PATIENCE_SECONDS: Final = 5.0
_NOT_THERE: Final = Written(None)


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
            raise unserved("MemoryHttp", call)
        return self._backend.send(call)

    def commit(self, deadline: float) -> None:
        """Do nothing: what was sent was sent."""

    def rollback(self) -> None:
        """Do nothing: what was sent can't be taken back."""


# ── DB ───────────────────────────────────────────────────────────────────────────────────────────


class MemoryDb:
    """SQLite in memory: one database for each plugin and scope.

    It keeps the contract of databases, so that what is tested with it runs on files too; tables are made by migrations,
    or by `rows`. A session is one transaction, from its first statement on, alone in its namespace. Foreign keys are
    enforced. A value holds at most 1 MiB.

    Args:
        max_bytes: the most that one namespace's database may grow to; more is answered `TOO_LARGE`.
    """

    def __init__(self, *, max_bytes: int = 64 * MIB) -> None:
        self._pages = max(1, max_bytes // PAGE_BYTES)
        self._databases: dict[_Namespace, _Database] = {}
        self._migrations: dict[str, tuple[Migration, ...]] = {}
        self._inherited: list[dict[_Namespace, _Database]] = []
        self._lock = Lock()
        fork_gate()

    def session(self, identity: Identity) -> _DbSession:
        """Return a session on the identity's namespace."""
        return _DbSession(self._database(identity.plugin, identity.scope), writes=identity.grants.db == "write")

    def prepare(self, plugin: str, migrations: tuple[Migration, ...]) -> None:
        """Apply a plugin's migrations to its databases, and to those that begin later; none change nothing.

        Raises:
            BackendError: one fails, or an invocation held a database for 5 seconds.
        """
        if not migrations:
            return
        deadline = time.monotonic() + _PATIENCE_SECONDS
        try_out(migrations, deadline)
        with self._lock:
            self._migrations[plugin] = migrations
            existing = [database for (owner, _), database in self._databases.items() if owner == plugin]
        for database in existing:
            with _alone(database, plugin):
                database.bring_up(migrations, deadline)

    def rows(
        self, plugin: str, sql: str, parameters: Sequence[Parameter] = (), *, scope: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement of the application's own outside any session, unrestricted, and return its rows.

        Raises:
            BackendTimeout: an invocation held the database for 5 seconds.
            sqlite3.Error: the statement failed.
        """
        values = {str(place): value for place, value in enumerate(parameters, 1)}
        database = self._database(plugin, scope)
        with _alone(database, plugin):
            return database.connection.operators(sql, values)

    def close(self) -> None:
        """Forget all data and close the connections; no session may be open."""
        with self._lock:
            for database in self._databases.values():
                database.connection.close()
            self._databases.clear()

    def after_fork_in_child(self) -> None:
        """Begin with empty databases. The inherited connections stay open: a thread that isn't here may hold them."""
        self._inherited.append(self._databases)
        self._databases = {}
        self._lock = Lock()

    def _database(self, plugin: str, scope: str | None) -> _Database:
        with self._lock:
            found = self._databases.get((plugin, scope))
            if found is None:
                found = _Database(_memory(self._pages))
                found.bring_up(self._migrations.get(plugin, ()), time.monotonic() + _PATIENCE_SECONDS)
                self._databases[plugin, scope] = found
            return found


@dataclass(slots=True)
class _Database:
    """One namespace's database, the lock of whoever writes, and how many migrations were applied."""

    connection: Connection
    lock: OwnedLock = field(default_factory=OwnedLock)
    applied: int = 0

    def bring_up(self, migrations: tuple[Migration, ...], deadline: float) -> None:
        run(self.connection, migrations[self.applied :], deadline)
        self.applied = max(self.applied, len(migrations))


def _memory(pages: int) -> Connection:
    connection = Connection(":memory:")
    for pragma in ("foreign_keys = ON", f"page_size = {PAGE_BYTES}", f"max_page_count = {pages}"):
        connection.ours(f"PRAGMA {pragma}")
    return connection


@contextmanager
def _alone(database: _Database, plugin: str) -> Iterator[None]:
    owner = object()
    if not database.lock.take(owner, _PATIENCE_SECONDS):
        raise BackendTimeout(f"an invocation of {plugin!r} has held its database for {_PATIENCE_SECONDS} seconds")
    database.connection.is_given_up = False  # which a session before may have been
    try:
        yield
    finally:
        database.lock.give_back(owner)


class _DbSession(OwnedSession):
    def __init__(self, database: _Database, *, writes: bool) -> None:
        super().__init__(database.lock)
        self._connection = database.connection
        self._writes = writes

    def _answer(self, call: HostCall, deadline: float) -> Answer:
        match call:
            case DbQuery():
                self._begin(deadline)
                return self._connection.query(call, deadline)
            case DbExec() if self._writes:
                self._begin(deadline)
                return self._connection.exec(call, deadline)
            case DbExec():
                raise BackendError("writing to the database is not granted", code=AnswerCode.DENIED)
            case _:
                raise unserved("MemoryDb", call)

    def _stop(self) -> None:
        super()._stop()
        self._lock.while_held_by(self, self._connection.give_up)  # else it might be the next session's statement

    def _begin(self, deadline: float) -> None:
        if self._lock.is_held_by(self):
            check_unbroken(self._connection)
            return
        self._take_lock(deadline)
        self._connection.is_given_up = False  # which a session before may have been
        self._connection.ours("BEGIN IMMEDIATE")

    def _commit(self, deadline: float) -> None:
        if self._lock.is_held_by(self):
            check_unbroken(self._connection)
            self._connection.ours("COMMIT", deadline=deadline)

    def _forget(self) -> None:
        if self._lock.is_held_by(self):
            self._connection.undo()


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


class _KvSession(OwnedSession):
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
                raise unserved("MemoryKv", call)

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
