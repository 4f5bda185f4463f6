"""Who may have a connection: one bound over all roles, one for each role, idle connections kept for their own role.

Rules:
* A connection is of one role for as long as it lives, and is lent to that role's sessions only.
* What is lent belongs to an owner, and giving back what one doesn't hold does nothing: an interrupt between being lent
  a place and noting it loses none.
* Who waits is served in the order of coming, but for those whose role has all that it may have.
* For a new connection an idle one of another role makes room, the longest unused first. Idle ones end when they are
  old, which is looked at whenever somebody comes or goes.
* Nothing here waits: a ticket is called when its turn has come.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, Protocol, TypeVar

from fuseboard.backends._postgres_waits import Signal


class Lent(Protocol):
    """A connection, as far as the pool knows it."""

    @property
    def role(self) -> str:
        """Who is logged in."""

    def close(self) -> None:
        """End it, without waiting."""


C = TypeVar("C", bound=Lent)


@dataclass(slots=True, eq=False)
class Ticket(Generic[C]):
    """One owner's wish for a connection.

    Attributes:
        owner: whose.
        role: of which role.
        called: happens when the owner has a place, or when the wish was withdrawn.
        is_held: whether the owner has a place.
        connection: an idle one to use, which the owner takes, or `None`: the owner makes one.
    """

    owner: object
    role: str
    called: Signal = field(default_factory=Signal)
    is_held: bool = False
    connection: C | None = None

    def taken(self) -> C | None:
        """Return the idle connection, which isn't the ticket's any more."""
        connection, self.connection = self.connection, None
        return connection


class Pool(Generic[C]):
    """The connections of one backend.

    Args:
        most: how many there are at once, in use and idle.
        most_of_role: how many of them are one role's.
        idle_seconds: how long one is kept that nobody uses.
    """

    def __init__(self, most: int, most_of_role: int, idle_seconds: float) -> None:
        self._most = most
        self._most_of_role = most_of_role
        self._idle_seconds = idle_seconds
        self._lock = Lock()
        self._held: dict[object, Ticket[C]] = {}
        self._waiting: deque[Ticket[C]] = deque()
        self._idle: dict[C, float] = {}
        self._is_closed = False

    def ask(self, owner: object, role: str) -> Ticket[C]:
        """Return a ticket, which is called now or later."""
        ticket: Ticket[C] = Ticket(owner, role)
        with self._lock:
            self._waiting.append(ticket)
        self._look()
        return ticket

    def give_back(self, owner: object, connection: C | None = None) -> None:
        """End an owner's wish, or its use of a place; a connection that can be used again comes along."""
        self.withdraw(owner)
        with self._lock:
            held = self._held.pop(owner, None)
            if connection is None and held is not None:
                connection = held.taken()  # who was served, and had given up
            keeps = held is not None and connection is not None and not self._is_closed
            if keeps and connection is not None:
                self._idle[connection] = time.monotonic()
        if connection is not None and not keeps:
            connection.close()
        self._look()

    def withdraw(self, owner: object) -> None:
        """End an owner's wish, where it waits."""
        with self._lock:
            waiting = next((ticket for ticket in self._waiting if ticket.owner is owner), None)
            if waiting is not None:
                self._waiting.remove(waiting)
        if waiting is not None:
            waiting.called.happen()

    def close(self) -> None:
        """End all idle connections; those in use end when they are given back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = tuple(self._idle), {}
        for connection in idle:
            connection.close()

    def counts(self) -> dict[str, int]:
        """Return how many connections are in use and idle, and how many owners wait."""
        with self._lock:
            return {"in_use": len(self._held), "idle": len(self._idle), "waiting": len(self._waiting)}

    def after_fork_in_child(self) -> None:
        """Begin with none; the parent goes on with those that there are."""
        self._lock = Lock()
        self._held, self._idle = {}, {}
        self._waiting.clear()

    def _look(self) -> None:
        """Serve who can be served, and end what is too old or in the way."""
        served: list[Ticket[C]] = []
        with self._lock:
            ended = self._too_old()
            in_use = Counter(ticket.role for ticket in self._held.values())
            for ticket in tuple(self._waiting):
                if in_use[ticket.role] < self._most_of_role and self._has_room(ticket.role, ended):
                    in_use[ticket.role] += 1
                    self._waiting.remove(ticket)
                    self._held[ticket.owner] = ticket
                    ticket.connection, ticket.is_held = self._taken_idle(ticket.role), True
                    served.append(ticket)
        for connection in ended:
            connection.close()
        for ticket in served:
            ticket.called.happen()

    def _too_old(self) -> list[C]:
        oldest = time.monotonic() - self._idle_seconds
        ended = [connection for connection, since in self._idle.items() if since < oldest]
        for connection in ended:
            del self._idle[connection]
        return ended

    def _has_room(self, role: str, ended: list[C]) -> bool:
        if any(connection.role == role for connection in self._idle):
            return True
        if len(self._held) + len(self._idle) < self._most:
            return True
        if self._idle:
            longest_unused = next(iter(self._idle))
            del self._idle[longest_unused]
            ended.append(longest_unused)
            return True
        return False

    def _taken_idle(self, role: str) -> C | None:
        """Take the one that was used last, so that those not needed grow old."""
        for connection in reversed(self._idle):
            if connection.role == role:
                del self._idle[connection]
                return connection
        return None
