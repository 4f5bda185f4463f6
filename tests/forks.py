"""Fork a process with a host; a script with a scenario for each name, as what goes wrong here hangs processes."""

import os
import sys
import threading
from collections.abc import Callable
from functools import partial

import pytest

import fuseboard as fb
from conftest import FakeClock, guest
from fuseboard import _core
from fuseboard._slots import RESERVE
from sites import SLOTS, Site, busy_site, exit_status, forked, manifest, perform, suspended


def at_rest() -> None:
    """Fork where nothing runs, from the main thread; the child leaves as any program does."""
    site = Site()
    site.serve()

    def serve() -> None:
        site.serve(5)
        site.check_all_slots_free()
        site.hold_all()
        site.host.close()

    child = forked(serve, sys.exit)
    site.serve(5)
    site.hold_all()
    assert exit_status(child) == 0
    site.check_all_slots_free()
    site.host.close()


def generations() -> None:
    """Fork in a child, and again in its child."""
    site = Site()

    def live(descendants: int) -> None:
        site.serve()
        child = forked(partial(live, descendants - 1)) if descendants else None
        site.serve()
        site.check_all_slots_free()
        assert child is None or exit_status(child) == 0

    live(3)


def request_ids() -> None:
    """Fork twice, and dispatch without ids of the application's own everywhere."""
    outcomes: list[fb.Outcome] = []
    site = Site(on_outcome=outcomes.append)
    reading, writing = os.pipe()

    def dispatch() -> None:
        outcomes.clear()
        for _ in range(20):
            site.host.dispatch("echo_context", "x")
        os.write(writing, "".join(outcome.request_id for outcome in outcomes).encode())

    dispatch()
    children = [forked(dispatch), forked(dispatch)]
    dispatch()
    assert [exit_status(child) for child in children] == [0, 0]
    ids = os.read(reading, 1 << 16).decode()
    assert len({ids[at : at + 32] for at in range(0, len(ids), 32)}) == 4 * 20


# ── what a guest leaves in memory ────────────────────────────────────────────────────────────────


def clean_memory() -> None:
    """Let guests stain the whole pool, where the parent has touched no page of it, and where it has."""
    check_stains(stainer('(memory (export "memory") 40)', last="0"))


def clean_image() -> None:
    """Do the same with a guest whose memory begins with data."""
    check_stains(stainer('(memory (export "memory") 40) (data (i32.const 2621432) "abcdefgh")', "0x6867666564636261"))


def stainer(memory: str, last: str) -> bytes:
    """Return a guest that crashes where its memory isn't as it must be at first; it stains it, then asks for a key."""
    return guest(
        f"""{memory} (func (export "count") (local $at i32)
          (loop $next
            (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
            (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 2621432))))
          (if (i64.ne (i64.load (i32.const 2621432)) (i64.const {last})) (then unreachable))
          (memory.fill (i32.const 0) (i32.const 170) (i32.const 2621440))
          (drop (call $host_kv_get (i32.const 0) (i32.const 8))))"""
    )


def check_stains(wasm: bytes) -> None:
    """Run a stainer in every slot of the pool again and again, in children and the parent."""
    site = Site(ceilings=fb.Limits(memory_limit_mb=4))
    site.load(wasm, manifest("new", {"new": "count"}))
    entry = site.entry("new", "new")

    def stain() -> list[_core.Execution]:
        return [suspended(entry) for _ in range(SLOTS + RESERVE)]

    def stain_again(executions: list[_core.Execution]) -> None:
        for _ in range(3):
            for execution in executions:
                execution.close()
            executions = stain()
        for execution in executions:
            execution.close()
        site.serve()

    untouched = forked(partial(stain_again, []))
    executions = stain()
    stained = forked(partial(stain_again, executions))
    stain_again(executions)
    assert (exit_status(untouched), exit_status(stained)) == (0, 0)


# ── what is at work at the fork ──────────────────────────────────────────────────────────────────


def executions_at_work() -> None:
    """Fork where one execution waits for an answer, and another has had its first slices."""
    site = busy_site()
    waiting, spinning = site.suspended(), site.entry("spin", "spin").begin(b'"x"', b"{}", b"{}", 60.0)
    assert isinstance(spinning.resume(), _core.Running)

    def check() -> None:
        for _ in range(2):  # before they are closed, and afterwards
            check_refused(partial(waiting.answer, 0, b"{}", b""))
            check_refused(partial(waiting.trip, "fuel"))
            check_refused(spinning.resume)
            waiting.close()
            spinning.close()
        site.check_all_slots_free()
        site.serve()

    child = forked(check)
    assert isinstance(waiting.answer(0, b"{}", b""), _core.Completed)
    assert isinstance(spinning.resume(), _core.Running)
    spinning.close()
    assert exit_status(child) == 0
    site.check_all_slots_free()
    site.serve()


def executions_dropped() -> None:
    """Fork where executions wait, which the child lets go without closing them."""
    site = Site()
    executions = [site.suspended() for _ in range(SLOTS + RESERVE)]

    def check() -> None:
        executions.clear()
        site.check_all_slots_free()
        site.serve()

    assert exit_status(forked(check)) == 0
    assert all(isinstance(one.answer(0, b"{}", b""), _core.Completed) for one in executions)
    site.check_all_slots_free()


def check_refused(call: Callable[[], object]) -> None:
    """Call what only the parent can do."""
    with pytest.raises(fb.UsageError, match="it goes on in the parent only"):
        call()


def inside_function() -> None:
    """Fork in a function that a guest calls, and dispatch again in the child, long after the parent's deadline."""
    clock = FakeClock()
    site = Site(clock=clock)
    children: list[int] = []

    def serve() -> None:
        site.on_mail = bool
        clock.advance(60)
        site.serve()  # the plugin that waits in the parent
        site.check_all_slots_free()
        site.host.close()

    site.on_mail = lambda: children.append(forked(serve))
    site.serve()
    site.on_mail = bool
    assert [exit_status(child) for child in children] == [0] * 4
    site.serve()
    site.check_all_slots_free()
    site.host.close()


def returning_from_function() -> None:
    """Fork in a function that a guest calls, and return from it in both processes."""
    site, parent = Site(), os.getpid()
    children: list[int] = []
    site.on_mail = lambda: children.append(os.fork())
    try:
        became = type(site.run("call_function_2")).__name__
    except fb.UsageError as error:
        became = str(error).rpartition("; ")[2]
    assert became == ("Completed" if os.getpid() == parent else "it goes on in the parent only")
    site.on_mail = bool
    site.serve()
    site.check_all_slots_free()
    if os.getpid() != parent:
        sys.exit()
    assert [exit_status(child) for child in children] == [0, 0]


def demanding() -> bytes:
    """Return a guest that calls the function, and crashes where that fails."""
    call = "(call $host_call (i32.const 0) (i32.const 9) (i32.const 9) (i32.const 24))"
    return guest(
        rf"""(data (i32.const 0) "mail.send{{\22to\22:\22a\22,\22subject\22:\22b\22}}")
        (func (export "count") (if (i32.lt_s {call} (i32.const 0)) (then unreachable)))"""
    )


def probe() -> None:
    """Fork while a breaker's probe is at work."""
    clock, has_begun, may_end = FakeClock(), threading.Event(), threading.Event()
    site = Site(clock=clock, breaker=fb.BreakerPolicy(min_traps=1))
    site.load(demanding(), manifest("new", {"new": "count"}))

    def wait() -> None:
        has_begun.set()
        may_end.wait()

    site.on_mail = lambda: 1 / 0
    assert isinstance(site.run("new"), fb.Trapped)
    clock.advance(31)
    site.on_mail = wait
    probing = threading.Thread(target=site.run, args=("new",), daemon=True)
    probing.start()
    has_begun.wait()

    def breaker() -> fb.Breaker:
        found: fb.Breaker = site.host.breakers.get("new", "new")
        return found

    def probe_anew() -> None:
        site.on_mail = bool
        assert (breaker().state, breaker().retry_seconds) == ("open", 0)
        assert isinstance(site.run("new"), fb.Completed)
        assert breaker().state == "closed"
        site.serve()
        site.check_all_slots_free()

    assert exit_status(forked(probe_anew)) == 0
    assert breaker().state == "half_open"
    assert isinstance(site.run("new"), fb.Skipped)
    may_end.set()
    probing.join()
    assert breaker().state == "closed"
    site.serve()
    site.check_all_slots_free()


if __name__ == "__main__":
    perform(
        at_rest, generations, request_ids, clean_memory, clean_image, executions_at_work, executions_dropped,
        inside_function, returning_from_function, probe,
    )  # fmt: skip
