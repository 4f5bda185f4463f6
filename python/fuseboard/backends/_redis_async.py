"""Redis for an `AsyncHost`: the loop that performs an invocation's flow on the event loop, and `AsyncRedisKv`.

Rule: a session's end is told its outcome a moment before its time is over, so that a commit without an answer is known
as such. What belongs to a parent process is left alone in its children.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any, Final, Self, TypeVar

from fuseboard._errors import BackendError
from fuseboard.backends import Answer, HostCall, Identity
from fuseboard.backends._kv import MAX_KEY_BYTES, MAX_KV_BYTES, MAX_VALUE_BYTES, KvCaps
from fuseboard.backends._owned_session import ENDED
from fuseboard.backends._redis_async_pool import AsyncPool
from fuseboard.backends._redis_effects import Effect, Flow, Pause, Send, Space, StoreFailure, late
from fuseboard.backends._redis_flow import ROLLBACK_SECONDS, Invocation
from fuseboard.backends._redis_operator import OPERATOR_SECONDS, clear, items
from fuseboard.backends._redis_store import DEFAULT_CONNECTIONS, DEFAULT_PREFIX, RedisStore, seconds_until

T = TypeVar("T")

_BEFORE_OTHERS_SECONDS: Final = 0.01


class _Driver:
    """Performs the flows of one session, or of the operator."""

    def __init__(self, pool: AsyncPool, space: Space) -> None:
        self.pool = pool
        self._queue: asyncio.Lock = space.queue
        self._has_turn = False

    async def run(self, flow: Flow[T], deadline: float) -> T:
        """Run a flow to its end.

        Raises:
            BackendError: what it comes to.
        """
        try:
            effect = next(flow)
            while True:
                try:
                    result = await self._perform(effect, deadline)
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

    def leave_queue(self) -> None:
        """Let others have their turn."""
        if self._has_turn:
            self._has_turn = False
            self._queue.release()

    async def _perform(self, effect: Effect, deadline: float) -> Any:
        if isinstance(effect, Send):
            return await self.pool.exchange(effect, deadline)
        try:
            async with asyncio.timeout(seconds_until(deadline)):
                if isinstance(effect, Pause):
                    await asyncio.sleep(effect.seconds)
                elif not self._has_turn:
                    await self._queue.acquire()
                    self._has_turn = True
        except TimeoutError:
            raise late() from None
        return None


class AsyncRedisKv(RedisStore):
    """Keys and values in Redis 6.2 or newer, or in Valkey; for an `AsyncHost`, and for its event loop alone.

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
        super().__init__(url, prefix=prefix, tls=tls, max_connections=max_connections, caps=caps, queue=asyncio.Lock)
        self.pool = AsyncPool(self._settings, max_connections)
        self._inherited: list[AsyncPool] = []

    def session(self, identity: Identity) -> _AsyncSession:
        """Return a session on the identity's namespace."""
        return _AsyncSession(self, self._space(identity.plugin, identity.scope), self._caps)

    async def items(
        self, plugin: str, *, scope: str | None = None, timeout_seconds: float = OPERATOR_SECONDS
    ) -> dict[bytes, bytes]:
        """Return all keys and values of a plugin in a scope. What changes meanwhile may be in it or not.

        Raises:
            BackendError: the server failed, or didn't do it in time.
        """
        space = self._space(plugin, scope)
        return await self._perform(space, items(space.names, self._caps), time.monotonic() + timeout_seconds)

    async def clear(self, plugin: str, *, scope: str | None = None, timeout_seconds: float = OPERATOR_SECONDS) -> None:
        """Remove all keys of a plugin in a scope; invocations that run meanwhile commit before or after it.

        Raises:
            BackendError: the server failed, or didn't do it in time; some keys may be gone.
        """
        space, deadline = self._space(plugin, scope), time.monotonic() + timeout_seconds
        await self._perform(space, clear(space, self._caps, deadline), deadline)

    async def aclose(self) -> None:
        """Close the connections; what comes later is answered an error."""
        await self.pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def after_fork_in_child(self) -> None:
        """Begin with new connections. The inherited ones stay as they are: what is said on them, the parent hears."""
        self._inherited.append(self.pool)
        self._begin()
        self.pool = AsyncPool(self._settings, self._max_connections)

    async def _perform(self, space: Space, flow: Flow[T], deadline: float) -> T:
        driver = _Driver(self.pool, space)
        try:
            return await driver.run(flow, deadline)
        finally:
            driver.leave_queue()


class _AsyncSession:
    def __init__(self, store: AsyncRedisKv, space: Space, caps: KvCaps) -> None:
        self._store = store
        self._driver = _Driver(store.pool, space)
        self._invocation = Invocation(space, caps)
        self._has_ended = False

    async def answer(self, call: HostCall, deadline: float) -> Answer:
        self._check_open()
        return await self._driver.run(self._invocation.answer(call, deadline), deadline)

    async def commit(self, deadline: float) -> None:
        self._check_open()
        ends = deadline - _BEFORE_OTHERS_SECONDS
        try:
            await self._driver.run(self._invocation.commit(ends), ends)
        finally:
            self._has_ended = True
            self._driver.leave_queue()

    async def rollback(self) -> None:
        self._has_ended = True
        if self._is_inherited():
            return
        try:
            await self._driver.run(
                self._invocation.free(), time.monotonic() + ROLLBACK_SECONDS - _BEFORE_OTHERS_SECONDS
            )
        finally:
            self._driver.leave_queue()

    def _check_open(self) -> None:
        if self._has_ended or self._is_inherited():
            raise BackendError(ENDED)

    def _is_inherited(self) -> bool:
        """Return whether this session is a parent process's."""
        return self._driver.pool is not self._store.pool
