"""200 threads, then 2,000 tasks, on 16 slots: each is served or told in time that it wasn't, in the order of asking.

All ask again and again for the one plugin, which takes a slot for 8 ms, and each says how long it can wait: some
for less than it takes until it is its turn.

Bars:
* Each call is served or `Skipped(SATURATED)`; whoever gets a slot too late for the rest of the work is cut short at
  its deadline, by a trap that says so (`deadline_shared`). At most 1 in 1,000 is `Skipped(DEADLINE)`: the interpreter
  may stop a thread for longer than it can wait, before it has asked. Some are served, and some are not.
* No call ends later than 20 ms after its deadline, pauses apart in which Python collected garbage: with thousands of
  tasks alive each takes tens of milliseconds. The short form judges the 99th percentile.
* 16 run at once, never more, and all slots are back.
* Order: of those that are served, 99 in 100 were overtaken by at most 32 later ones, twice the slots. Those that got
  their slots together reach the application in any order, and one that the machine stops meanwhile reaches it late:
  so the largest overtaking is told, not judged.

What was late altogether is told too, and how late a bare timer was, in a thread or task of its own beside them: that
is the interpreter's and the machine's doing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any, Final, NamedTuple

from benchmarks.soaks._guests import wasm
from benchmarks.soaks._measures import GarbagePauses, percentile, slots_taken, spread
from benchmarks.soaks._report import Report, main

import fuseboard as fb

SLOTS: Final = 16
THREADS: Final = 200
TASKS: Final = 2_000
LATENESS_MS: Final = 20.0
OVERTAKING: Final = 2 * SLOTS
_HOLD_SECONDS: Final = 0.008
_WORK: Final = fb.Filter("crowd.work", bytes)
_PATIENCE: Final = (0.2, 2.0)
"""How long a call can wait: at least, and at most, as parts of the time in which each would be served once."""

GUEST: Final = wasm("""(module
  (import "fuseboard" "buffer_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_call" (func $call (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "crowd.hold")
  (func (export "run") (local $count i32)
    (drop (call $call (i32.const 0) (i32.const 10) (i32.const 16)
      (call $read (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 1000))))
    (loop $again
      (local.set $count (i32.add (local.get $count) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $count) (i32.const 100000))))))""")
"""Calls the application with what it got, then computes for some 0.1 ms."""

MANIFEST: Final[dict[str, Any]] = {
    "manifest": 1,
    "slug": "crowd",
    "version": "1",
    "hooks": [{"name": "crowd.work", "export": "run"}],
    "server": {
        "invocation_timeout_ms": 10_000,
        "memory_limit_mb": 1,
        "capabilities": {"functions": ["crowd.hold"]},
    },
}


class Call(NamedTuple):
    """One call: when it asked, how long after its deadline it ended, the same without pauses, and how it ended.

    Nothing in it refers to anything else: so many outcomes would make collecting garbage take longer.
    """

    number: int
    asked: float
    lateness: float
    own_lateness: float
    end: str


def end_of(outcome: fb.Outcome) -> str:
    """Return how a call ended, in a word, or a sentence where it must not."""
    match outcome:
        case fb.Skipped(reason=reason):
            return str(reason)
        case fb.Trapped(trap=trap):
            return "cut short" if trap.deadline_shared else str(trap)
        case _:
            return "served"


class Crowd:
    """Those who ask, and what is known of their calls.

    Args:
        size: how many there are.
        choices: how long each can wait.
    """

    def __init__(self, size: int, choices: Random) -> None:
        self.size = size
        self.calls: list[Call] = []
        self.served: dict[int, int] = {}
        self.timer_lateness: list[float] = []
        self.most_at_once = 0
        self.pauses = GarbagePauses()
        self._turns = itertools.count()
        self._numbers = itertools.count()
        self._choices = choices
        self._inside: set[int] = set()

    def begin(self) -> tuple[int, float, bytes]:
        """Return a call's number, how long it can wait, in seconds, and its value."""
        number = next(self._numbers)
        round_seconds = self.size * _HOLD_SECONDS / SLOTS
        return number, self._choices.uniform(*_PATIENCE) * round_seconds, json.dumps({"number": number}).encode()

    def end(self, number: int, asked: float, patience: float, outcome: fb.Outcome) -> None:
        """Note how a call ended, just now."""
        deadline = asked + patience
        lateness = max(0.0, time.monotonic() - deadline)
        own_lateness = max(0.0, lateness - self.pauses.since(deadline))
        self.calls.append(Call(number, asked, lateness, own_lateness, end_of(outcome)))

    @contextmanager
    def inside(self, number: int) -> Iterator[None]:
        """Note that a call has a slot, until it is about to give it back."""
        self.served[number] = next(self._turns)
        self._inside.add(number)
        self.most_at_once = max(self.most_at_once, len(self._inside))
        try:
            yield
        finally:
            self._inside.discard(number)

    def overtakings(self) -> list[int]:
        """Return, for each call that was served, how many asked later and were served before it."""
        turns: list[int] = []
        found: list[int] = []
        for call in sorted(self.calls, key=lambda call: call.asked, reverse=True):
            turn = self.served.get(call.number)
            if turn is not None:
                found.append(bisect_left(turns, turn))
                insort(turns, turn)
        return found


def run_threads(crowd: Crowd, seconds: float) -> int:
    """Let threads ask a `Host`, and return how many slots are still taken."""

    @fb.host_function("crowd.hold")
    def hold(number: int) -> None:
        with crowd.inside(number):
            time.sleep(_HOLD_SECONDS)

    def ask_again_and_again() -> None:
        together.wait()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            number, patience, value = crowd.begin()
            asked = time.monotonic()
            outcome = host.invoke("crowd", _WORK, value, timeout_ms=patience * 1e3)
            crowd.end(number, asked, patience, outcome)

    def watch_a_timer() -> None:
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            time.sleep(_HOLD_SECONDS)
            crowd.timer_lateness.append(time.monotonic() - now - _HOLD_SECONDS)

    together = threading.Barrier(crowd.size)
    with fb.Host(hooks=[_WORK], functions=[hold], max_concurrent_invocations=SLOTS) as host:
        host.load_bytes(GUEST, MANIFEST, grants="as-requested")
        with ThreadPoolExecutor(crowd.size + 1) as threads:
            running = [threads.submit(watch_a_timer), *(threads.submit(ask_again_and_again) for _ in range(crowd.size))]
        for one in running:
            one.result()
        return slots_taken(host)


async def run_tasks(crowd: Crowd, seconds: float) -> int:
    """Let tasks ask an `AsyncHost`, and return how many slots are still taken."""

    @fb.host_function("crowd.hold")
    async def hold(number: int) -> None:
        with crowd.inside(number):
            await asyncio.sleep(_HOLD_SECONDS)

    async def ask_again_and_again() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            number, patience, value = crowd.begin()
            asked = time.monotonic()
            outcome = await host.invoke("crowd", _WORK, value, timeout_ms=patience * 1e3)
            crowd.end(number, asked, patience, outcome)

    async def watch_a_timer() -> None:
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            await asyncio.sleep(_HOLD_SECONDS)
            crowd.timer_lateness.append(time.monotonic() - now - _HOLD_SECONDS)

    async with fb.AsyncHost(hooks=[_WORK], functions=[hold], max_concurrent_invocations=SLOTS) as host:
        await host.load_bytes(GUEST, MANIFEST, grants="as-requested")
        await asyncio.gather(watch_a_timer(), *(ask_again_and_again() for _ in range(crowd.size)))
        return slots_taken(host)


def judge(report: Report, who: str, crowd: Crowd, slots: int) -> None:
    """Say what became of a crowd's calls."""
    ends = Counter(call.end for call in crowd.calls)
    report.tell(f"{who}: " + ", ".join(f"{times:,} {end}" for end, times in ends.most_common()))
    report.hold(f"{who}: some are served, some saturated", held=min(ends["served"], ends["saturated"]) > 0)
    report.hold(f"{who}: {ends['deadline']} were too late to ask", held=ends["deadline"] * 1_000 <= ends.total())
    others = ends.total() - sum(ends[end] for end in ("served", "saturated", "cut short", "deadline"))
    report.hold(f"{who}: {others} of {ends.total():,} calls ended otherwise", held=not others)
    report.tell(f"{who}: a bare timer was late by {spread(crowd.timer_lateness)}")
    report.tell(f"{who}: pauses took {spread(crowd.pauses.seconds)}")
    report.tell(f"{who}: calls were late by {spread(call.lateness for call in crowd.calls)}")
    lateness = [call.own_lateness for call in crowd.calls]
    report.tell(f"{who}: pauses apart, by {spread(lateness)}")
    what, percent = ("99 % late by", 99) if report.is_short else ("latest by", 100)
    report.at_most(f"{who}: {what}", percentile(lateness, percent) * 1e3, LATENESS_MS, "ms")
    overtakings = crowd.overtakings()
    report.tell(f"{who}: overtaken by {max(overtakings)} later calls at the most")
    report.at_most(f"{who}: 99 % overtaken by", percentile(overtakings, 99), OVERTAKING, "calls")
    report.hold(f"{who}: {crowd.most_at_once} at once on {SLOTS} slots", held=crowd.most_at_once == SLOTS)
    report.hold(f"{who}: {slots} slots not given back", held=slots == 0)


def run(report: Report) -> None:
    """Make the run."""
    seconds = 2.0 if report.is_short else 20.0
    threads, tasks = Crowd(THREADS, report.random), Crowd(TASKS, report.random)
    with threads.pauses:
        slots = run_threads(threads, seconds)
    judge(report, f"{THREADS} threads", threads, slots)
    with tasks.pauses:
        slots = asyncio.run(run_tasks(tasks, seconds))
    judge(report, f"{TASKS:,} tasks", tasks, slots)


if __name__ == "__main__":
    main("crowd", __doc__, run, bound_seconds=180)
