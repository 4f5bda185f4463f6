"""The contract of key-value stores: what each store under test is made by, and the words in which tests speak to it.

To put a store under the contract, give `STORES` a function that makes one with caps. Plain and asynchronous stores go
through the same tests: `settled` awaits what has to be awaited.
"""

from __future__ import annotations

import inspect
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from drivers import awaited
from fuseboard._errors import BackendError
from fuseboard._grants import Grants
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
from fuseboard.backends.db import Sqlite
from fuseboard.backends.kv import AsyncRedisKv, RedisKv
from fuseboard.backends.memory import MemoryKv
from servers import Server

if TYPE_CHECKING:
    from pathlib import Path

BYTES: Final = (
    b"k", b" ", b"\0", b"\xff\xfe", b"\r\n", b"$3\r\nfoo\r\n", b"{}", b"{other}", b"}", b"*", b"[a-z]", b"\\*", b"a?b",
    b"%2F", b":", b"lock", b"total", b"value:k", "ключ".encode(), b"x" * 1024,
)  # fmt: skip
"""Keys and values of every kind that has a meaning somewhere."""


def soon(seconds: float = 10.0) -> float:
    """Return a deadline."""
    return time.monotonic() + seconds


def identity(plugin: str = "blog", scope: str | None = None) -> Identity:
    """Return on whose behalf a session works."""
    return Identity(plugin, "post.title", scope, "request-1", Grants(kv=True), "1.0.0")


def settled(value: Any) -> Any:
    """Return a value, awaited on the tests' event loop where it has to be."""
    return awaited(_awaiting(value)) if inspect.isawaitable(value) else value


async def _awaiting(value: Any) -> Any:
    return await value


@dataclass(frozen=True, slots=True)
class Session:
    """One session of a store under test, with plain calls."""

    session: Any

    def answer(self, call: HostCall, seconds: float = 10.0) -> Answer:
        answer: Answer = settled(self.session.answer(call, soon(seconds)))
        assert isinstance(answer, call.answered_by)
        return answer

    def get(self, key: bytes) -> bytes | None:
        answer = self.answer(KvGet(key))
        assert isinstance(answer, KvValue)
        return answer.value

    def set(self, key: bytes, value: bytes, seconds: int | None = None) -> None:
        assert self.answer(KvSet(key, value, seconds)) == KvDone()

    def delete(self, key: bytes) -> None:
        assert self.answer(KvDelete(key)) == KvDone()

    def increment(self, key: bytes, by: int = 1, seconds: float = 10.0) -> int:
        answer = self.answer(KvIncrement(key, by), seconds)
        assert isinstance(answer, KvNumber)
        return answer.number

    def refusal(self, call: HostCall, seconds: float = 10.0) -> BackendError:
        with pytest.raises(BackendError) as caught:
            self.answer(call, seconds)
        return caught.value

    def commit(self, seconds: float = 10.0) -> None:
        assert settled(self.session.commit(soon(seconds))) is None

    def rollback(self) -> None:
        assert settled(self.session.rollback()) is None


@dataclass(frozen=True, slots=True)
class Kv:
    """A store under test, with plain calls."""

    store: Any

    def session(self, plugin: str = "blog", scope: str | None = None) -> Session:
        return Session(self.store.session(identity(plugin, scope)))

    def items(self, plugin: str = "blog", scope: str | None = None) -> dict[bytes, bytes]:
        items: dict[bytes, bytes] = settled(self.store.items(plugin, scope=scope))
        return items

    def put(self, values: dict[bytes, bytes], plugin: str = "blog", scope: str | None = None) -> None:
        """Commit these in one session."""
        session = self.session(plugin, scope)
        for key, value in values.items():
            session.set(key, value)
        session.commit()

    def close(self) -> None:
        ends = getattr(self.store, "aclose", None) or getattr(self.store, "close", None)
        if ends is not None:
            settled(ends())


@dataclass(frozen=True, slots=True)
class Place:
    """What a store may use: a folder, and a Redis server where one can be had."""

    folder: Path
    redis: Callable[[], Server]


Maker = Callable[..., Any]


def _memory(place: Place, **caps: Any) -> MemoryKv:  # noqa: ARG001  one signature for all
    return MemoryKv(**caps)


def _redis(place: Place, **caps: Any) -> RedisKv:
    return RedisKv(place.redis().url, prefix=f"{secrets.token_hex(8)}:", **caps)


def _async_redis(place: Place, **caps: Any) -> AsyncRedisKv:
    return AsyncRedisKv(place.redis().url, prefix=f"{secrets.token_hex(8)}:", **caps)


def _sqlite(place: Place, **caps: Any) -> Sqlite:
    return Sqlite(place.folder / secrets.token_hex(8), **caps)


STORES: Final[dict[str, Maker]] = {
    "memory": _memory,
    "redis": _redis,
    "async-redis": _async_redis,
    "sqlite": _sqlite,
}
