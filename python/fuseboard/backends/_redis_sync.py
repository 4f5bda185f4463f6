"""Redis for a `Host`: the loop that performs an invocation's flow on its thread, and `RedisKv`.

Rule: the calls, the commit and the rollback of a session exclude each other, whichever threads they come from; each of
them ends by itself at its deadline. What belongs to a parent process is left alone in its children.
"""

from __future__ import annotations

import ssl
import time
from threading import Lock
from typing import Any, Self, TypeVar

from fuseboard._errors import BackendError
from fuseboard.backends import Answer, HostCall, Identity
from fuseboard.backends._kv import MAX_KEY_BYTES, MAX_KV_BYTES, MAX_VALUE_BYTES, KvCaps
from fuseboard.backends._locks import OwnedLock
from fuseboard.backends._owned_session import ENDED
from fuseboard.backends._redis_effects import Effect, Flow, Pause, Send, Space, StoreFailure, Turn, late
from fuseboard.backends._redis_flow import ROLLBACK_SECONDS, Invocation
from fuseboard.backends._redis_operator import OPERATOR_SECONDS, clear, items
from fuseboard.backends._redis_pool import Pool
from fuseboard.backends._redis_store import DEFAULT_CONNECTIONS, DEFAULT_PREFIX, RedisStore, seconds_until

T = TypeVar("T")


class _Driver:
    """Performs the flows of one session, or of the operator."""

    def __init__(self, pool: Pool, space: Space) -> None:
        self.pool = pool
        self._queue: OwnedLock = space.queue
        self._is_stopped = False

    def run(self, flow: Flow[T], deadline: float) -> T:
        """Run a flow to its end.

        Raises:
            BackendError: what it comes to.
        """
        try:
            effect = next(flow)
            while True:
                try:
                    result = self._perform(effect, deadline)
                except StoreFailure as failure:
                    effect = flow.throw(failure)
                else:
                    effect = flow.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value
        except StoreFailure as failure:
            raise failure.error from failure
        finally:
            flow.close()

    def stop(self) -> None:
        """End a wait for the lock, from another thread."""
        self._is_stopped = True
        self._queue.look_again()

    def leave_queue(self) -> None:
        """Let others have their turn."""
        self._queue.give_back(self)

    def _perform(self, effect: Effect, deadline: float) -> Any:
        match effect:
            case Send():
                return self.pool.exchange(effect, deadline)
            case Turn():
                is_over = not self._queue.take(self, seconds_until(deadline), self._gives_up)
            case Pause(seconds):
                self._queue.pause(min(seconds, seconds_until(deadline)), self._gives_up)
                is_over = not seconds_until(deadline)
        if self._is_stopped:
            raise StoreFailure(BackendError(ENDED))
        if is_over:
            raise late()
        return None

    def _gives_up(self) -> bool:
        return self._is_stopped


class RedisKv(RedisStore):
    """Keys and values in Redis 6.2 or newer, or in Valkey; for a `Host`.

    Args:
        url: `redis://` or, with TLS, `rediss://user:password@host:6379/0`.
        prefix: what all keys in Redis begin with; two applications that share a server have two.
        tls: how the server is checked, where it isn't against the system's certificates and by its name.
        max_connections: how many connections there may be; who finds all in use waits, until the deadline.
        max_key_bytes: the most that a key may have; a longer one is answered `TOO_LARGE`.
        max_value_bytes: the same for a value.
        max_kv_bytes: the same for all keys and values of one plugin and scope together.

    Raises:
        UsageError: an argument can't be used.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        tls: ssl.SSLContext | None = None,
        max_connections: int = DEFAULT_CONNECTIONS,
        max_key_bytes: int = MAX_KEY_BYTES,
        max_value_bytes: int = MAX_VALUE_BYTES,
        max_kv_bytes: int = MAX_KV_BYTES,
    ) -> None:
        caps = KvCaps(max_key_bytes=max_key_bytes, max_value_bytes=max_value_bytes, max_kv_bytes=max_kv_bytes)
        super().__init__(url, prefix=prefix, tls=tls, max_connections=max_connections, caps=caps, queue=OwnedLock)
        self.pool = Pool(self._settings, max_connections)
        self._inherited: list[Pool] = []

    def session(self, identity: Identity) -> _Session:
        """Return a session on the identity's namespace."""
        return _Session(self, self._space(identity.plugin, identity.scope), self._caps)

    def items(
        self, plugin: str, *, scope: str | None = None, timeout_seconds: float = OPERATOR_SECONDS
    ) -> dict[bytes, bytes]:
        """Return all keys and values of a plugin in a scope. What changes meanwhile may be in it or not.

        Raises:
            BackendError: the server failed, or didn't do it in time.
        """
        space = self._space(plugin, scope)
        return self._perform(space, items(space.names, self._caps), time.monotonic() + timeout_seconds)

    def clear(self, plugin: str, *, scope: str | None = None, timeout_seconds: float = OPERATOR_SECONDS) -> None:
        """Remove all keys of a plugin in a scope; invocations that run meanwhile commit before or after it.

        Raises:
            BackendError: the server failed, or didn't do it in time; some keys may be gone.
        """
        space, deadline = self._space(plugin, scope), time.monotonic() + timeout_seconds
        self._perform(space, clear(space, self._caps, deadline), deadline)

    def close(self) -> None:
        """Close the connections; what comes later is answered an error."""
        self.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def after_fork_in_child(self) -> None:
        """Begin with new connections. The inherited ones stay as they are: what is said on them, the parent hears."""
        self._inherited.append(self.pool)
        self._begin()
        self.pool = Pool(self._settings, self._max_connections)

    def _perform(self, space: Space, flow: Flow[T], deadline: float) -> T:
        driver = _Driver(self.pool, space)
        try:
            return driver.run(flow, deadline)
        finally:
            driver.leave_queue()


class _Session:
    def __init__(self, store: RedisKv, space: Space, caps: KvCaps) -> None:
        self._store = store
        self._driver = _Driver(store.pool, space)
        self._invocation = Invocation(space, caps)
        self._turn = Lock()
        self._has_ended = False

    def answer(self, call: HostCall, deadline: float) -> Answer:
        with self._turn:
            self._check_open()
            return self._driver.run(self._invocation.answer(call, deadline), deadline)

    def commit(self, deadline: float) -> None:
        with self._turn:
            self._check_open()
            try:
                self._driver.run(self._invocation.commit(deadline), deadline)
            finally:
                self._has_ended = True
                self._driver.leave_queue()

    def rollback(self) -> None:
        self._has_ended = True
        if self._is_inherited():
            return
        self._driver.stop()
        with self._turn:
            try:
                self._driver.run(self._invocation.free(), time.monotonic() + ROLLBACK_SECONDS)
            finally:
                self._driver.leave_queue()

    def _check_open(self) -> None:
        if self._has_ended or self._is_inherited():
            raise BackendError(ENDED)

    def _is_inherited(self) -> bool:
        """Return whether this session is a parent process's."""
        return self._driver.pool is not self._store.pool
