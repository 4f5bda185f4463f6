"""A million invocations, half of them trapped, leave nothing behind, and the same work is metered the same.

Two threads call a `Host`; a tenth of the invocations run on an `AsyncHost`, at the same time. Every second one traps,
in a way chosen at random: each limit trips, and guests crash, fail and give bad output. No breaker opens. The process
is measured when all are at rest, after each tenth.

Bars:
* Since the first tenth, in which pools and caches fill, resident memory has grown by at most 5 MiB. In the short form,
  of 20,000 invocations, they take half of all to fill.
* All slots are back.
* Of each kind of invocation, all end as the first did, with the same meters: fuel, memory and counters. Fuel isn't
  compared where its meter isn't exact, and neither fuel nor memory where time ends the guest, however far it has come.
* The long form is through after 12 minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from random import Random
from typing import Final

from benchmarks.soaks._guests import ECHO, TRAPS, hostile_arguments, hostile_plugins, target_of
from benchmarks.soaks._measures import resident_mib, slots_taken
from benchmarks.soaks._report import Report, main

import fuseboard as fb

GROWTH_MIB: Final = 5.0
BOUND_SECONDS: Final = 12 * 60.0
ENDS_OF_TIME: Final = frozenset({
    fb.Limit.TIMEOUT, f"skipped: {fb.SkipReason.DEADLINE}", f"skipped: {fb.SkipReason.SATURATED}",
})  # fmt: skip
"""How an invocation with 1 ms ends: mostly while it runs, on a busy machine before it has begun."""

_VALUE: Final = "a value of some length"
_THREADS: Final = 2
_TASKS: Final = 5
_TENTHS: Final = 10

_Shown = dict[str, float | str]


class Ledger:
    """What became of all invocations, held against the first of each kind."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.differences: list[str] = []
        self._firsts: dict[str, _Shown] = {}

    def add(self, kind: str, outcome: fb.Outcome, ends: Counter[str]) -> None:
        """Compare one outcome, and count it among those of its worker."""
        shown = shown_by(outcome)
        first = self._firsts.setdefault(kind, shown)
        if shown != first:
            self.differences.append(f"{kind}: {shown} and not {first}")
        ends[end_of(outcome)] += 1


def end_of(outcome: fb.Outcome) -> str:
    """Return the limit that tripped, the trap's cause, why it was skipped, or `completed`."""
    match outcome:
        case fb.Trapped(trap=trap):
            return str(trap.limit or trap.cause)
        case fb.Skipped(reason=reason):
            return f"skipped: {reason}"
        case _:
            return "completed"


def shown_by(outcome: fb.Outcome) -> _Shown:
    """Return how an invocation ended, and its meters as far as they must be the same each time."""
    end, varying = end_of(outcome), {fb.Limit.TIMEOUT}
    if end in ENDS_OF_TIME:
        end, varying = fb.Limit.TIMEOUT, {fb.Limit.TIMEOUT, fb.Limit.FUEL, fb.Limit.MEMORY}
    used = {str(name): meter.used for name, meter in outcome.meters.items() if meter.exact and name not in varying}
    return {"end": str(end), **used}


class Work:
    """The invocations of one run.

    Args:
        seed: of the choices; each worker makes its own.
        until: when to give up, of `time.monotonic()`.
    """

    def __init__(self, seed: Random, until: float) -> None:
        self.ledger = Ledger()
        self._seed = seed
        self._until = until

    async def tenth(self, host: fb.Host, async_host: fb.AsyncHost, count: int) -> None:
        """Make so many invocations, and return when all have ended."""
        asynchronous = count // 10
        each = (count - asynchronous) // _THREADS
        threads = [asyncio.to_thread(self._on_thread, host, each, self._choices()) for _ in range(_THREADS)]
        tasks = [self._in_task(async_host, asynchronous // _TASKS, self._choices()) for _ in range(_TASKS)]
        for ends in await asyncio.gather(*threads, *tasks):
            self.ledger.ends.update(ends)

    def _on_thread(self, host: fb.Host, count: int, choices: Random) -> Counter[str]:
        ends: Counter[str] = Counter()
        for number in range(count):
            kind = chosen(number, choices)
            self.ledger.add(kind, host.invoke(*target_of(kind), _VALUE), ends)
            if self.is_late():
                break
        return ends

    async def _in_task(self, host: fb.AsyncHost, count: int, choices: Random) -> Counter[str]:
        ends: Counter[str] = Counter()
        for number in range(count):
            kind = chosen(number, choices)
            self.ledger.add(kind, await host.invoke(*target_of(kind), _VALUE), ends)
            if self.is_late():
                break
        return ends

    def _choices(self) -> Random:
        return Random(self._seed.random())  # noqa: S311  no secret

    def is_late(self) -> bool:
        """Return whether time is over."""
        return time.monotonic() > self._until


def chosen(number: int, choices: Random) -> str:
    """Return a friendly kind for even numbers, and one that traps for odd."""
    return choices.choice(TRAPS) if number % 2 else ECHO


async def soak(report: Report) -> None:
    """Make the invocations, tenth by tenth, and judge."""
    count = 20_000 if report.is_short else 1_000_000
    work = Work(report.random, time.monotonic() + BOUND_SECONDS)
    at_rest: list[float] = []
    with fb.Host(**hostile_arguments(), breaker=None) as host:
        async with fb.AsyncHost(**hostile_arguments(), breaker=None) as async_host:
            for wasm, manifest, terms in hostile_plugins():
                host.load_bytes(wasm, manifest, **terms)
                await async_host.load_bytes(wasm, manifest, **terms)
            for _ in range(_TENTHS):
                await work.tenth(host, async_host, count // _TENTHS)
                at_rest.append(resident_mib())
                report.tell(f"{work.ledger.ends.total():>9,} invocations, {at_rest[-1]:7.1f} MiB resident")
            judge(report, work, count, slots_taken(host, async_host))
    filled = at_rest[_TENTHS // 2 - 1 if report.is_short else 0]
    report.at_most("since the warm-up, memory grew by", at_rest[-1] - filled, GROWTH_MIB, "MiB")


def judge(report: Report, work: Work, count: int, slots: int) -> None:
    """Say what became of the invocations."""
    ends, differences = work.ledger.ends, work.ledger.differences
    trapped = ends.total() - ends["completed"]
    early = sum(times for name, times in ends.items() if name.startswith("skipped"))
    report.tell("by limit or cause: " + ", ".join(f"{name} {times:,}" for name, times in sorted(ends.items())))
    for difference in differences[:10]:
        report.tell(difference)
    if work.is_late():
        report.hold(f"the time was over after {ends.total():,} of {count:,} invocations", held=False)
    text = f"{ends.total():,} invocations, {trapped:,} trapped"
    report.hold(
        f"{text}, {early} of them before they ran" if early else text, held=ends.total() == count == 2 * trapped
    )
    report.hold(f"{len(differences)} metered otherwise than the first of their kind", held=not differences)
    report.hold(f"{slots} slots not given back", held=slots == 0)


def run(report: Report) -> None:
    """Make the run."""
    asyncio.run(soak(report))


if __name__ == "__main__":
    main("memory", __doc__, run, bound_seconds=BOUND_SECONDS + 60)
