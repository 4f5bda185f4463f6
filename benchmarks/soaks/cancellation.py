"""Tasks that are cancelled at any moment end soon, and leave nothing of what they were about.

Batches of tasks invoke one plugin, which writes two keys and then does what its value says; each task has a scope of
its own and is cancelled after a random time: while a coroutine function is awaited, while a plain function blocks on
a thread, while the guest computes on a worker thread, while it waits for a slot, while its writes are committed,
which takes 20 ms. One in ten is cancelled twice. Half of the tasks are probes: their breaker has opened just before.

Bars:
* From its cancellation to its end, a task takes at most 50 ms in 99 of 100 cases, in each of the five places; a plain
  function that blocks keeps its thread until it returns, but not the task.
* All slots are back.
* No probe is lost: a breaker is open with a probe due, or closed where the commit had begun, and lets the next
  invocation of its scope through.
* A cancelled task leaves no write, or both where its commit had begun.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, cast

from benchmarks.soaks._guests import wasm
from benchmarks.soaks._measures import percentile, slots_taken, spread
from benchmarks.soaks._report import Report, main

import fuseboard as fb
from fuseboard.backends import Answer, HostCall, Identity, Session
from fuseboard.backends.memory import MemoryKv

END_MS: Final = 50.0
BATCH: Final = 24
PLACES: Final = {
    "a": "a coroutine function",
    "p": "a plain function",
    "s": "the guest",
    "w": "the wait for a slot",
    "k": "the commit",
}
"""Where a task is when it is cancelled, mostly, by the first byte of its value."""

_LONGEST_SECONDS: Final = 0.030
_COMMIT_SECONDS: Final = 0.020
_MOMENT: Final = fb.Filter("moment", bytes)
_BUSY: Final = "busy"
"""The plugin that runs once at a time, and does."""

GUEST: Final = wasm("""(module
  (import "fuseboard" "buffer_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_kv_set" (func $set (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_call" (func $call (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "one" "two" "wait.async" "wait.plain" "wait.free" "{}")
  (func $is (param $letter i32) (result i32) (i32.eq (i32.load8_u (i32.const 100)) (local.get $letter)))
  (func $ask (param $at i32) (param $length i32)
    (drop (call $call (local.get $at) (local.get $length) (i32.const 35) (i32.const 2))))
  (func (export "run")
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 100) (i32.const 1)))
    (if (call $is (i32.const 99 (; c: crash ;))) (then unreachable))
    (if (call $is (i32.const 101 (; e: end ;))) (then return))
    (if (call $is (i32.const 102 (; f: free ;))) (then (call $ask (i32.const 26) (i32.const 9)) return))
    (drop (call $set (i32.const 0) (i32.const 3) (i32.const 100) (i32.const 1)))
    (drop (call $set (i32.const 3) (i32.const 3) (i32.const 100) (i32.const 1)))
    (if (call $is (i32.const 97 (; a ;))) (then (call $ask (i32.const 6) (i32.const 10))))
    (if (call $is (i32.const 112 (; p ;))) (then (call $ask (i32.const 16) (i32.const 10))))
    (if (call $is (i32.const 115 (; s ;))) (then (loop $again (br $again))))))""")


def manifest(slug: str) -> dict[str, Any]:
    """Return a manifest whose limits are ample."""
    capabilities = {"kv": True, "functions": ["wait.async", "wait.plain", "wait.free"]}
    server = {"invocation_timeout_ms": 10_000, "fuel_per_invocation": 1_000_000_000, "memory_limit_mb": 1}
    return {
        "manifest": 1,
        "slug": slug,
        "version": "1",
        "hooks": [{"name": _MOMENT.name, "export": "run"}],
        "server": {**server, "capabilities": capabilities},
    }


class SlowKv:
    """A store whose commit takes its time.

    Attributes:
        begun: the scopes whose commit has begun.
        lasting: what is committed.
    """

    def __init__(self) -> None:
        self.begun: set[str | None] = set()
        self.lasting = MemoryKv()

    def session(self, identity: Identity) -> SlowKvSession:
        """Return a session for one invocation."""
        return SlowKvSession(self, identity.scope, self.lasting.session(identity))


@dataclass(frozen=True, slots=True)
class SlowKvSession:
    """One invocation's writes."""

    store: SlowKv
    scope: str | None
    inner: Session

    def answer(self, call: HostCall, deadline: float) -> Answer:
        """Serve one call."""
        return self.inner.answer(call, deadline)

    async def commit(self, deadline: float) -> None:
        """Make the writes lasting, after a while."""
        self.store.begun.add(self.scope)
        await asyncio.sleep(_COMMIT_SECONDS)
        self.inner.commit(deadline)

    def rollback(self) -> None:
        """Forget the writes."""
        self.inner.rollback()


@dataclass(slots=True)
class Attempt:
    """One task: where it is to be cancelled, in whose scope, after how long, and whether it is a probe."""

    place: str
    scope: str
    after: float
    is_probe: bool
    is_twice: bool

    @property
    def plugin(self) -> str:
        """Which plugin it invokes."""
        return _BUSY if self.place == "w" else "free"


@dataclass(slots=True)
class Findings:
    """What was seen: by place, how long cancelled tasks took to end and how many had ended before; what was wrong."""

    took: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    ended_before: Counter[str] = field(default_factory=Counter)
    probes: int = 0
    kept: int = 0
    lost_probes: list[str] = field(default_factory=list)
    wrong_writes: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)


class Trial:
    """Batches of attempts on one host."""

    def __init__(self, choices: Random) -> None:
        self.findings = Findings()
        self._choices = choices
        self._numbers = itertools.count()
        self._kv = SlowKv()
        self._entered = asyncio.Event()
        self._freed = asyncio.Event()

        @fb.host_function("wait.async")
        async def wait_async() -> None:
            await asyncio.sleep(2 * _LONGEST_SECONDS)

        @fb.host_function("wait.plain")
        def wait_plain() -> None:
            time.sleep(2 * _LONGEST_SECONDS)

        @fb.host_function("wait.free")
        async def wait_free() -> None:
            self._entered.set()
            await self._freed.wait()

        self.host = fb.AsyncHost(
            hooks=[_MOMENT],
            functions=[wait_async, wait_plain, wait_free],
            backends=fb.Backends(kv=cast("Any", self._kv)),
            breaker=fb.BreakerPolicy(min_traps=1, cooldown_seconds=1e-6),
            max_concurrency=BATCH,
        )

    async def load(self) -> None:
        """Load the plugin, and once more as the one that is busy."""
        await self.host.load_bytes(GUEST, manifest("free"), grants="as-requested")
        await self.host.load_bytes(GUEST, manifest(_BUSY), grants="as-requested", max_concurrency=1)

    async def batch(self) -> None:
        """Make attempts in all places at the same time, and look at what they left."""
        attempts = [self._attempt(place) for place in self._choices.choices(list(PLACES), k=BATCH)]
        for attempt in attempts:
            if attempt.is_probe:
                await self._invoke(attempt, b"c")
        self._entered.clear()
        self._freed.clear()
        holder = asyncio.create_task(self.host.invoke(_BUSY, _MOMENT, b"f"))
        await self._entered.wait()
        await asyncio.gather(*map(self._cancelled, attempts))
        self._freed.set()
        await holder
        for attempt in attempts:
            await self._look_at_next(attempt)

    def _attempt(self, place: str) -> Attempt:
        choices = self._choices
        return Attempt(
            place, f"scope-{next(self._numbers)}", choices.uniform(0, _LONGEST_SECONDS), choices.random() < 1 / 2,
            choices.random() < 1 / 10,
        )  # fmt: skip

    async def _invoke(self, attempt: Attempt, value: bytes) -> fb.Outcome:
        return await self.host.invoke(attempt.plugin, _MOMENT, value, scope=attempt.scope)

    async def _cancelled(self, attempt: Attempt) -> None:
        task = asyncio.create_task(self._invoke(attempt, attempt.place.encode()))
        await asyncio.wait([task], timeout=attempt.after)
        began, was_done = time.perf_counter(), task.done()
        task.cancel()
        if attempt.is_twice:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        if was_done:
            self.findings.ended_before[attempt.place] += 1
        else:
            self.findings.took[attempt.place].append(time.perf_counter() - began)
        self._look_at(attempt, task, was_done=was_done)

    def _look_at(self, attempt: Attempt, task: asyncio.Task[fb.Outcome], *, was_done: bool) -> None:
        findings = self.findings
        completed = not task.cancelled() and isinstance(task.result(), fb.Completed)
        if completed != was_done:
            findings.unexpected.append(f"{attempt}: {'cancelled' if task.cancelled() else task.result()}")
        kept, begun = set(self._kv.lasting.items(attempt.plugin, scope=attempt.scope)), attempt.scope in self._kv.begun
        findings.kept += bool(kept) and task.cancelled()
        if kept != ({b"one", b"two"} if begun else set()):
            findings.wrong_writes.append(f"{attempt}: {kept}, commit {'had' if begun else 'had not'} begun")
        breaker = self.host.breakers.get(attempt.plugin, _MOMENT.name, attempt.scope)
        is_due = breaker.state is fb.BreakerState.OPEN and breaker.retry_seconds == 0
        is_expected = is_due if attempt.is_probe and not begun else breaker.state is fb.BreakerState.CLOSED
        findings.probes += attempt.is_probe
        if not is_expected:
            findings.lost_probes.append(f"{attempt}: {breaker}")

    async def _look_at_next(self, attempt: Attempt) -> None:
        outcome = await self._invoke(attempt, b"e")
        if not isinstance(outcome, fb.Completed):
            self.findings.lost_probes.append(f"{attempt}: next {outcome}")


async def soak(report: Report) -> None:
    """Make batches until time is over, and judge."""
    trial = Trial(report.random)
    async with trial.host:
        await trial.load()
        seconds, began, told = (4.0 if report.is_short else 40.0), time.monotonic(), 0.0
        while (passed := time.monotonic() - began) < seconds:
            await trial.batch()
            if passed - told > seconds / 8:
                told = passed
                report.tell(f"{sum(map(len, trial.findings.took.values())):,} tasks cancelled")
        judge(report, trial.findings, slots_taken(trial.host))


def judge(report: Report, findings: Findings, slots: int) -> None:
    """Say what was seen."""
    for place, name in PLACES.items():
        took = findings.took[place]
        report.tell(f"{name}: {len(took):,} cancelled, {findings.ended_before[place]:,} ended before; {spread(took)}")
    for place, name in PLACES.items():
        report.at_most(f"{name}: p99 to the end", percentile(findings.took[place], 99) * 1e3, END_MS, "ms")
    for problem in (*findings.unexpected[:5], *findings.wrong_writes[:5], *findings.lost_probes[:5]):
        report.tell(problem)
    report.hold(f"{len(findings.unexpected)} ended otherwise", held=not findings.unexpected)
    report.hold(
        f"{findings.kept:,} writes kept by a commit that had begun, {len(findings.wrong_writes)} wrongly kept or lost",
        held=not findings.wrong_writes and findings.kept > 0,
    )
    report.hold(f"{findings.probes:,} probes, {len(findings.lost_probes)} lost", held=not findings.lost_probes)
    report.hold(f"{slots} slots not given back", held=slots == 0)


def run(report: Report) -> None:
    """Make the run."""
    asyncio.run(soak(report))


if __name__ == "__main__":
    main("cancellation", __doc__, run, bound_seconds=180)
