"""50 reloads a second during load lose no call, and no call sees two builds of a plugin mixed.

Two builds of one plugin on two hooks take turns in its folder, and after each change the host reloads it, while 4
threads call a `Host`, and then 100 tasks an `AsyncHost`. Each call tells the build of its module, then waits for the
application for a moment, in which a reload may come, then tells the build in the manifest's settings; its meters have
the ceiling of fuel that the build's manifest asks for. Every third call invokes the plugin by name, the others
dispatch to the hook.

Bars:
* Every call completes: no exception, no `UnknownPlugin`, no dispatch without a subscriber.
* All that a call shows is of one build, and of the hook that was called; both builds are seen on both hooks, and some
  calls were running when the build changed.
* At least 40 reloads a second, of the 50 that are due.
* All slots are back.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.soaks._guests import wasm
from benchmarks.soaks._measures import slots_taken
from benchmarks.soaks._report import Report, main

import fuseboard as fb

THREADS: Final = 4
TASKS: Final = 100
RELOADS_PER_SECOND: Final = 50
LEAST_PER_SECOND: Final = 40
HOOKS: Final = (fb.Filter("page.head", bytes), fb.Filter("page.foot", bytes))
FUEL: Final = {"a": 1_000_000, "b": 2_000_000}
"""The builds, and the fuel that each asks for."""

_MANIFEST: Final = """
manifest = 1
slug = "changing"
version = "{build}"
module = "{build}.wasm"
[[hooks]]
name = "page.head"
export = "head"
[[hooks]]
name = "page.foot"
export = "foot"
[server]
memory_limit_mb = 1
invocation_timeout_ms = 10_000
fuel_per_invocation = {fuel}
[server.capabilities]
functions = ["page.wait"]
[settings]
build = "{build}"
"""


def module(build: str) -> bytes:
    """Return a module that outputs its build and the hook's initial, waits, and outputs the settings."""
    return wasm(f"""(module
      (import "fuseboard" "buffer_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (import "fuseboard" "output_write" (func $write (param i32 i32)))
      (import "fuseboard" "host_call" (func $call (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "{build}h{build}fpage.wait{{}}")
      (func $say (param $at i32)
        (call $write (local.get $at) (i32.const 2))
        (drop (call $call (i32.const 4) (i32.const 9) (i32.const 13) (i32.const 2)))
        (call $write (i32.const 16)
          (call $read (i32.const 4) (i32.const 0) (i32.const 16) (i32.const 1000))))
      (func (export "head") (call $say (i32.const 0)))
      (func (export "foot") (call $say (i32.const 2))))""")


class Folder:
    """The plugin's folder, in which the builds take turns.

    Attributes:
        changes: how often the build was changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changes = 0
        for build in FUEL:
            (path / f"{build}.wasm").write_bytes(module(build))
        self.change()

    def change(self) -> None:
        """Put the other build there, at once."""
        build = list(FUEL)[self.changes % len(FUEL)]
        new = self.path / "plugin.toml.new"
        new.write_text(_MANIFEST.format(build=build, fuel=FUEL[build]))
        new.replace(self.path / "plugin.toml")
        self.changes += 1


class Seen:
    """What callers have seen.

    Attributes:
        builds: calls by hook and build.
        wrong: what must not be.
        overlapping: how many calls ran while the build was changed.
    """

    def __init__(self) -> None:
        self.builds: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.overlapping = 0

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Note what a call raises."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  whatever it is, it must not be
            self.wrong.append(repr(error))

    def look_at(self, hook: fb.Filter[bytes], outcomes: tuple[fb.Outcome, ...], *, overlaps: bool) -> None:
        """Note whose work a call's outcome is."""
        build = build_of(hook, outcomes)
        if build is None:
            self.wrong.append(f"{hook.name}: {outcomes}")
            return
        self.builds[f"{hook.name} {build}"] += 1
        self.overlapping += overlaps

    def add(self, other: Seen) -> None:
        """Add what another caller has seen."""
        self.builds.update(other.builds)
        self.wrong += other.wrong
        self.overlapping += other.overlapping


def build_of(hook: fb.Filter[bytes], outcomes: tuple[fb.Outcome, ...]) -> str | None:
    """Return the build that did all the work of a call, or `None` where that can't be said."""
    for build, fuel in FUEL.items():
        expected = f'{build}{hook.name[5]}{{"build":"{build}"}}'.encode()
        match outcomes:
            case (fb.Completed(value=value, meters=meters),):
                if value == expected and meters[fb.Limit.FUEL].ceiling == fuel:
                    return build
    return None


class Pace:
    """When the next reload is due.

    Attributes:
        rate: how many there were a second.
    """

    def __init__(self, seconds: float) -> None:
        self.rate = 0.0
        self._reloads = 0
        self._began = time.monotonic()
        self._seconds = seconds

    def is_over(self) -> bool:
        """Return whether time is over."""
        return time.monotonic() - self._began > self._seconds

    def pause(self) -> float:
        """Count a reload, and return how long to wait before the next."""
        self._reloads += 1
        elapsed = time.monotonic() - self._began
        self.rate = self._reloads / max(elapsed, self._reloads / RELOADS_PER_SECOND)
        return max(0.0, self._reloads / RELOADS_PER_SECOND - elapsed)


@dataclass(frozen=True, slots=True)
class Load:
    """One host under load: who calls, how fast it was reloaded, what was seen, how many slots are still taken."""

    who: str
    pace: Pace
    seen: Seen
    slots: int


def under_threads(folder: Folder, seconds: float) -> Load:
    """Reload a host while threads call it."""

    @fb.host_function("page.wait")
    def wait() -> None:
        time.sleep(0.001)

    def call(seen: Seen) -> None:
        for number in itertools.count():
            hook, before = HOOKS[number % len(HOOKS)], folder.changes
            with seen.errors():
                outcomes = host.dispatch(hook, b"").outcomes if number % 3 else (host.invoke("changing", hook, b""),)
                seen.look_at(hook, outcomes, overlaps=folder.changes != before)
            if over.is_set():
                return

    over, pace, all_seen = threading.Event(), Pace(seconds), [Seen() for _ in range(THREADS)]
    with fb.Host(hooks=HOOKS, functions=[wait]) as host:
        host.load(folder.path, grants="as-requested")
        with ThreadPoolExecutor(THREADS) as threads:
            calling = [threads.submit(call, seen) for seen in all_seen]
            try:
                while not pace.is_over():
                    folder.change()
                    host.reload("changing")
                    time.sleep(pace.pause())
            finally:
                over.set()
        for one in calling:
            one.result()
        return Load(f"{THREADS} threads", pace, total(all_seen), slots_taken(host))


async def under_tasks(folder: Folder, seconds: float) -> Load:
    """Reload a host while tasks call it."""

    @fb.host_function("page.wait")
    async def wait() -> None:
        await asyncio.sleep(0.050)

    async def call(seen: Seen) -> None:
        for number in itertools.count():
            hook, before = HOOKS[number % len(HOOKS)], folder.changes
            with seen.errors():
                if number % 3:
                    outcomes = (await host.dispatch(hook, b"")).outcomes
                else:
                    outcomes = (await host.invoke("changing", hook, b""),)
                seen.look_at(hook, outcomes, overlaps=folder.changes != before)
            if over.is_set():
                return

    over, pace, all_seen = asyncio.Event(), Pace(seconds), [Seen() for _ in range(TASKS)]
    async with fb.AsyncHost(hooks=HOOKS, functions=[wait], max_concurrency=TASKS) as host:
        await host.load(folder.path, grants="as-requested")
        tasks = [asyncio.create_task(call(seen)) for seen in all_seen]
        while not pace.is_over():
            folder.change()
            await host.reload("changing")
            await asyncio.sleep(pace.pause())
        over.set()
        await asyncio.gather(*tasks)
        return Load(f"{TASKS} tasks", pace, total(all_seen), slots_taken(host))


def total(each: list[Seen]) -> Seen:
    """Return what all callers have seen together."""
    together = Seen()
    for seen in each:
        together.add(seen)
    return together


def judge(report: Report, load: Load) -> None:
    """Say what was seen."""
    who, pace, seen = load.who, load.pace, load.seen
    report.at_least(f"{who}:", pace.rate, LEAST_PER_SECOND, "reloads a second")
    report.tell(f"{who}: " + ", ".join(f"{name} {times:,}" for name, times in sorted(seen.builds.items())))
    for problem in seen.wrong[:10]:
        report.tell(problem)
    report.at_most(f"{who}: of {seen.builds.total():,} calls,", len(seen.wrong), 0, "lost or mixed")
    all_builds = len(HOOKS) * len(FUEL)
    report.hold(f"{who}: {len(seen.builds)} of {all_builds} builds seen", held=len(seen.builds) == all_builds)
    report.hold(f"{who}: {seen.overlapping:,} calls ran during a change", held=seen.overlapping > 0)
    report.hold(f"{who}: {load.slots} slots not given back", held=load.slots == 0)


def run(report: Report) -> None:
    """Make the run."""
    seconds = 2.0 if report.is_short else 20.0
    with tempfile.TemporaryDirectory() as path:
        judge(report, under_threads(Folder(Path(path)), seconds))
        judge(report, asyncio.run(under_tasks(Folder(Path(path)), seconds)))


if __name__ == "__main__":
    main("reloads", __doc__, run, bound_seconds=180)
