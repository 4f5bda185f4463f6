"""Keys and values in memory, a store for each plugin and scope.

Rules:
* A session takes its namespace's lock at its first increment (sums kept until commit could answer two invocations the
  same number) or at its commit, and holds it until it ends.
* A forked child has what was committed before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Final

from fuseboard._errors import BackendTimeout
from fuseboard.backends import (
    Answer,
    HostCall,
    Identity,
    KvDelete,
    KvDone,
    KvGet,
    KvIncrement,
    KvNumber,
    KvSet,
    KvValue,
)
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

_Namespace = tuple[str, str | None]

_PATIENCE_SECONDS: Final = 5.0
_NOT_THERE: Final = Written(None)


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
