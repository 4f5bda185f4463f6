"""Who may run now: slots for instances, for the host and for each plugin, and memory for their guests.

Rules:
* A ticket is admitted when the host has a free slot, its plugin may run once more, and its memory limit fits.
* Waiting is fair: of the tickets whose plugin may run once more, the oldest is next, and none overtakes it, however
  little memory it needs. A ticket whose plugin is busy holds up its own plugin's only.
* A nested invocation's caller holds a slot, so it never waits: it is admitted at once, from a reserve if need be, or
  not at all.
* Whoever may hold a ticket gives it back, and giving back what isn't held does nothing: so an interrupt between
  asking for a slot and noting that one has it loses no slot. What is held is in `_held`; sums over it are counted
  anew where an interrupt left them half-made.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fuseboard._limits import MIB

if TYPE_CHECKING:
    from fuseboard._core import Execution
else:
    Execution = Any

RESERVE: Final = 16
"""Slots that only nested invocations get."""


class Ticket(msgspec.Struct, eq=False):
    """One invocation's wish for a slot, waiting or held.

    Attributes:
        plugin: the plugin's slug.
        most: how many invocations of the plugin may run at once.
        memory_bytes: the plugin's memory limit.
        is_nested: whether it is asked for inside of another invocation, which holds a slot already.
        execution: what runs in the slot.
    """

    plugin: str
    most: int
    memory_bytes: int
    is_nested: bool = False
    number: int = 0
    wake: Callable[[], object] | None = None
    execution: Execution | None = None


class Slots:
    """The slots of one host.

    Args:
        invocations: how many run at once.
        memory_bytes: what their memory limits may add up to.
        reserve: how many nested ones run beside them.

    Attributes:
        era: stands for the time since the host was made, or the process was forked.
    """

    def __init__(self, invocations: int, memory_bytes: int, reserve: int = RESERVE) -> None:
        self._most = invocations
        self._most_nested = invocations + reserve
        self._memory_bytes = memory_bytes
        self._start()

    def _start(self) -> None:
        self.era = object()
        self._lock = Lock()
        self._numbers = itertools.count(1)
        self._held: dict[Ticket, None] = {}
        self._waiting: dict[str, OrderedDict[Ticket, None]] = {}
        self._running: defaultdict[str, int] = defaultdict(int)
        self._memory_held = 0
        self._is_summed = True

    @property
    def held(self) -> int:
        """How many slots are taken."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """How many tickets wait."""
        return sum(map(len, tuple(self._waiting.values())))

    def ask(self, ticket: Ticket) -> bool:
        """Ask for a slot and return whether it is held now. If not, it waits, or if nested, is refused."""
        with self._lock:
            if not self._is_summed:
                self._sum_up()
            if (ticket.is_nested or not self._waiting) and self._held_if_it_fits(ticket):
                return True
            if ticket.is_nested:
                return False
            ticket.number = next(self._numbers)
            self._waiting.setdefault(ticket.plugin, OrderedDict())[ticket] = None
            self._serve()
            return ticket in self._held

    def has(self, ticket: Ticket) -> bool:
        """Return whether a ticket is held."""
        return ticket in self._held

    def call_when_held(self, ticket: Ticket, wake: Callable[[], object]) -> None:
        """Have this called when the ticket is held, from any thread: at once, if it is.

        It must not wait or raise, and twice must do no harm: an interrupt may have it called again.
        """
        with self._lock:
            if ticket in self._held:
                wake()
            else:
                ticket.wake = wake

    def give_back(self, ticket: Ticket) -> None:
        """Give a slot back, or stop waiting for one."""
        with self._lock:
            if not self._is_summed:
                self._sum_up()
            if ticket in self._held:
                self._is_summed = False
                del self._held[ticket]
                self._running[ticket.plugin] -= 1
                self._memory_held -= ticket.memory_bytes
                self._is_summed = True
            if self._waiting:
                self._leave_queue(ticket)
                self._serve()

    def lack(self, ticket: Ticket) -> str:
        """Return what there is too little of for a ticket."""
        with self._lock:
            if not self._is_summed:
                self._sum_up()
            return self._lack(ticket) or "others were first"

    def after_fork_in_child(self) -> None:
        """Begin with free slots: what runs, runs in the parent."""
        inherited = tuple(self._held)
        self._start()
        for ticket in inherited:
            if ticket.execution is not None:
                ticket.execution.close()

    # ── with the lock held ───────────────────────────────────────────────────────────────────────

    def _lack(self, ticket: Ticket) -> str | None:
        most = self._most_nested if ticket.is_nested else self._most
        if self._running[ticket.plugin] >= ticket.most:
            return f"the plugin runs {ticket.most} times already, its max_concurrency"
        if len(self._held) >= most:
            return f"{len(self._held)} of the host's {most} slots are taken"
        if self._memory_held + ticket.memory_bytes > self._memory_bytes:
            return (
                f"{self._memory_held // MIB} of {self._memory_bytes // MIB} MiB of guest memory are taken, "
                f"and the plugin may need {ticket.memory_bytes // MIB}"
            )
        return None

    def _held_if_it_fits(self, ticket: Ticket) -> bool:
        if self._lack(ticket) is not None:
            return False
        self._is_summed = False
        self._held[ticket] = None
        if self._waiting:
            self._leave_queue(ticket)
        self._running[ticket.plugin] += 1
        self._memory_held += ticket.memory_bytes
        self._wake(ticket)
        self._is_summed = True
        return True

    def _wake(self, ticket: Ticket) -> None:
        if ticket.wake is not None:
            ticket.wake()
            ticket.wake = None

    def _leave_queue(self, ticket: Ticket) -> None:
        queue = self._waiting.get(ticket.plugin)
        if queue is not None:
            queue.pop(ticket, None)
            if not queue:
                del self._waiting[ticket.plugin]

    def _serve(self) -> None:
        while self._waiting:
            heads = [next(iter(queue)) for queue in self._waiting.values() if queue]
            able = [ticket for ticket in heads if self._running[ticket.plugin] < ticket.most]
            oldest = min(able, key=lambda ticket: ticket.number, default=None)
            if oldest is None or not self._held_if_it_fits(oldest):
                return

    def _sum_up(self) -> None:
        for ticket in self._held:
            self._leave_queue(ticket)
            self._wake(ticket)
        self._running = defaultdict(int, Counter(ticket.plugin for ticket in self._held))
        self._memory_held = sum(ticket.memory_bytes for ticket in self._held)
        self._is_summed = True
