"""The clients of all plugins: each plugin has its own in each scope, so that a connection is never another's.

Rules:
* A client is in use while an exchange that holds it lives, however that ends: no count can be lost.
* An exchange that ended by an interrupt or a cancellation may have left its client in any state: nobody gets it again.
* Clients that were idle for long, and the longest idle where there are too many, are closed when the next exchange
  of any plugin ends; one that is in use never is.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Generic, TypeVar
from weakref import WeakSet

from fuseboard._errors import BackendError

C = TypeVar("C")
Owner = tuple[str, str | None]


class _Pool(Generic[C]):
    __slots__ = ("client", "used_at", "users")

    def __init__(self, client: C) -> None:
        self.client = client
        self.users: WeakSet[object] = WeakSet()
        self.used_at = time.monotonic()


class Pools(Generic[C]):
    """Clients by plugin and scope.

    Args:
        make: makes a client, without I/O.
        close: closes one, or begins to.
        most: how many are kept.
        idle_seconds: how long one is kept that nobody uses.
    """

    def __init__(self, make: Callable[[], C], close: Callable[[C], None], most: int, idle_seconds: float) -> None:
        self._make = make
        self._close = close
        self._most = most
        self._idle_seconds = idle_seconds
        self._is_closed = False
        self._inherited: list[object] = []
        self._start()

    def _start(self) -> None:
        self._lock = Lock()
        self._pools: OrderedDict[Owner, _Pool[C]] = OrderedDict()
        self._outgoing: list[_Pool[C]] = []

    def after_fork_in_child(self) -> None:
        """Begin with none. What was inherited is kept, so that nobody says goodbye on the parent's connections."""
        self._inherited.append((self._pools, self._outgoing))
        self._start()

    @contextmanager
    def lent(self, owner: Owner, user: object) -> Iterator[C]:
        """Lend the client of a plugin and scope to an exchange.

        Raises:
            BackendError: the backend is closed.
        """
        pool = self._of(owner, user)
        is_sound = False
        try:
            yield pool.client
            is_sound = True
        except Exception:
            is_sound = True
            raise
        finally:
            self._give_back(owner, pool, user, is_sound=is_sound)

    def close(self) -> None:
        """Close all clients; those in use once they aren't any more."""
        with self._lock:
            self._is_closed = True
            self._outgoing += self._pools.values()
            self._pools.clear()
        self._close_due()

    def __len__(self) -> int:
        """Return how many clients there are, those in use that are to be closed among them."""
        with self._lock:
            return len(self._pools) + len(self._outgoing)

    def _of(self, owner: Owner, user: object) -> _Pool[C]:
        with self._lock:
            if self._is_closed:
                raise BackendError("the HTTP backend is closed")
            pool = self._pools.get(owner)
            if pool is None:
                pool = self._pools[owner] = _Pool(self._make())
            pool.users.add(user)
            return pool

    def _give_back(self, owner: Owner, pool: _Pool[C], user: object, *, is_sound: bool) -> None:
        with self._lock:
            if self._pools.get(owner) is pool:
                pool.used_at = time.monotonic()
                self._pools.move_to_end(owner)
                if not is_sound:
                    self._outgoing.append(self._pools.pop(owner))
            pool.users.discard(user)
        self._close_due()

    def _close_due(self) -> None:
        with self._lock:
            self._retire()
            due = [pool.client for pool in self._outgoing if not pool.users]
            self._outgoing = [pool for pool in self._outgoing if pool.users]
        for client in due:
            self._close(client)

    def _retire(self) -> None:
        long_ago = time.monotonic() - self._idle_seconds
        surplus = len(self._pools) - self._most
        retiring: list[Owner] = []
        for owner, pool in self._pools.items():  # the longest idle come first
            if len(retiring) >= surplus and pool.used_at > long_ago:
                break
            if not pool.users:
                retiring.append(owner)
        self._outgoing += map(self._pools.pop, retiring)
