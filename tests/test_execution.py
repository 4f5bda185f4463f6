"""The core's execution, as the host's drivers use it: one mover at a time, interrupt, close, misuse."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from fuseboard import InstanceBusy, UsageError, _core
from fuseboard._limits import LIMITS
from guests import HOSTILE, ROOT

AMPLE = 10**12


@pytest.fixture(scope="module")
def module() -> _core.Module:
    """The hostile module, compiled once."""
    return _core.Module(_core.Engine(256 << 20, 4), HOSTILE)


def begin(module: _core.Module, export: str, *, seconds: float = 5.0, fuel: int = AMPLE) -> _core.Execution:
    """Begin an execution with ample limits."""
    entry = _core.Entry(
        module, export, settings=b"{}", memory_bytes=64 << 20, fuel=fuel,
        output_bytes=1 << 20, request_bytes=1 << 20, log_bytes=64 << 10,
    )  # fmt: skip
    return entry.begin(b'"x"', b"{}", b"{}", seconds)


def finish(execution: _core.Execution) -> _core.Completed | _core.Trapped | _core.Suspended:
    """Resume until something else than the end of a slice happens."""
    step = execution.resume()
    while isinstance(step, _core.Running):
        step = execution.resume()
    return step


def test_two_threads_resuming_one_execution(module: _core.Module) -> None:
    """One thread moves an execution on; the other gets `InstanceBusy` at once, and neither waits."""
    execution = begin(module, "loop_forever")
    assert isinstance(execution.resume(), _core.Running)
    started, stop, busy = threading.Event(), threading.Event(), []

    def resume() -> None:
        while not stop.is_set():
            started.set()
            try:
                execution.resume()
            except InstanceBusy as error:
                busy.append(error)

    other = threading.Thread(target=resume)
    other.start()
    started.wait()
    deadline = time.monotonic() + 2
    while not busy and time.monotonic() < deadline:
        try:
            execution.resume()
        except InstanceBusy as error:
            busy.append(error)
    stop.set()
    other.join()
    execution.close()

    assert busy
    assert "one caller at a time" in str(busy[0])


def test_slices_are_as_many_as_asked_for(module: _core.Module) -> None:
    """One slice is the first alone, of some 200 µs; each of the others takes 5 ms."""
    execution = begin(module, "loop_forever", seconds=0.1)
    started = time.perf_counter()
    assert isinstance(execution.resume(slices=1), _core.Running)
    assert time.perf_counter() - started < 0.05
    assert isinstance(execution.resume(slices=4), _core.Running)
    assert time.perf_counter() - started > 0.02
    step = execution.resume(slices=1_000)

    assert isinstance(step, _core.Trapped)
    assert (step.limit, time.perf_counter() - started > 0.09) == ("timeout", True)


def test_no_slice_but_one_that_is_known_to_be_quick() -> None:
    """Asked for none, an execution runs where that takes no longer than a moment, and else doesn't move."""
    module = _core.Module(_core.Engine(256 << 20, 4), HOSTILE)
    first = begin(module, "fail_with_message")
    assert isinstance(first.resume(slices=0), _core.Running)
    assert isinstance(first.resume(slices=0), _core.Running)
    assert isinstance(first.resume(slices=1), _core.Trapped)
    for _ in range(1_000):  # whatever the machine has interrupted is forgotten then
        begin(module, "fail_with_message").resume(slices=1)
    assert isinstance(begin(module, "fail_with_message").resume(slices=0), _core.Trapped)

    second = begin(module, "loop_forever", fuel=30_000)
    assert isinstance(second.resume(slices=0), _core.Running)  # the first pulse comes before
    for _ in range(5):
        assert isinstance(second.resume(slices=0), _core.Running)  # later slices are never quick
    assert isinstance(second.resume(slices=1), _core.Trapped)


def test_a_slice_ends(module: _core.Module) -> None:
    """A guest that goes on and on gives the driver a turn every few milliseconds."""
    execution = begin(module, "loop_forever")
    turns = []
    for _ in range(10):
        assert isinstance(execution.resume(), _core.Running)
        turns.append(time.perf_counter())
    execution.close()

    assert sorted(after - before for before, after in pairwise(turns))[4] < 0.05


def test_interrupt_ends_a_running_guest(module: _core.Module) -> None:
    """`interrupt` from another thread ends the guest at its next pulse, with a cause of its own."""
    execution = begin(module, "loop_forever")
    timer = threading.Timer(0.05, execution.interrupt)
    timer.start()
    step = finish(execution)
    timer.join()

    assert isinstance(step, _core.Trapped)
    assert (step.cause, step.limit) == ("interrupted", None)


def test_close_gives_the_slot_back(module: _core.Module) -> None:
    """A closed execution frees its slot at once: more can begin than there are slots."""
    for _ in range(20):
        execution = begin(module, "wait_in_host_call")
        assert isinstance(finish(execution), _core.Suspended)
        execution.close()


def test_no_slot_is_saturated_not_an_error(module: _core.Module) -> None:
    """Where every slot is taken, a fifth execution ends as saturated, and nothing of it ran."""
    held = [begin(module, "wait_in_host_call") for _ in range(4)]
    for execution in held:
        finish(execution)
    step = finish(begin(module, "wait_in_host_call"))
    for execution in held:
        execution.close()

    assert isinstance(step, _core.Trapped)
    assert (step.cause, step.fuel) == ("saturated", 0)


def test_misuse_is_refused_in_words(module: _core.Module) -> None:
    """Answering what wasn't asked, resuming what waits or has ended: `UsageError`, and nothing is lost."""
    execution = begin(module, "wait_in_host_call")
    with pytest.raises(UsageError, match="waits for no answer"):
        execution.answer(0, b"{}", b"")
    step = execution.resume()
    assert isinstance(step, _core.Suspended)
    assert step.call == "host_http_request"
    with pytest.raises(UsageError, match="waits for an answer"):
        execution.resume()
    assert isinstance(execution.answer(0, b"{}", b"body"), _core.Completed)
    moves: tuple[Callable[[], object], ...] = (
        execution.resume,
        lambda: execution.answer(0, b"", b""),
        lambda: execution.trip("fuel"),
    )
    for move in moves:
        with pytest.raises(UsageError, match="has ended"):
            move()


def test_deadline_in_the_past_runs_nothing(module: _core.Module) -> None:
    """An execution whose time is up before it begins trips without a unit of fuel."""
    for seconds in (0.0, -1.0, float("nan")):
        step = finish(begin(module, "loop_forever", seconds=seconds))
        assert isinstance(step, _core.Trapped)
        assert (step.limit, step.fuel) == ("timeout", 0)


def test_tables_agree() -> None:
    """Python's limits stand in the order that the core numbers them."""
    assert [spec.limit for spec in LIMITS] == list(_core.LIMIT_NAMES)


def longest_gap(module: _core.Module, export: str) -> float:
    """Return a ticking sibling thread's longest pause, in seconds, beside 0.4 s of a hostile guest."""
    stop, gaps = threading.Event(), [0.0]

    def tick() -> None:
        last = time.perf_counter()
        while not stop.is_set():
            time.sleep(0.0005)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    sibling = threading.Thread(target=tick)
    sibling.start()
    for _ in range(2):
        finish(begin(module, export, seconds=0.2))
    stop.set()
    sibling.join()
    return max(gaps)


@pytest.mark.parametrize("export", ["loop_forever", "loop_over_import", "loop_over_log", "touch_pages", "bulk_fill"])
def test_sibling_thread_is_not_held_up(module: _core.Module, export: str) -> None:
    """Beside each hostile loop a sibling thread's longest gap is at most 10 ms, in the best of five tries.

    The best, as the machine itself may pause a thread for longer; a guest that held the GIL would do so in
    every try, by its whole deadline of 200 ms.
    """
    assert min(longest_gap(module, export) for _ in range(5)) <= 0.010


@pytest.mark.parametrize("when", ["never", "before", "after", "on and off"])
def test_faulthandler_changes_nothing(when: str) -> None:
    """Crashing guests trap the same with `faulthandler` enabled before or after the first load, or disabled again."""
    run_signal_script("faulthandler", when)


def test_thread_with_blocked_signals() -> None:
    """Crashing guests trap the same on a thread that blocks every signal."""
    run_signal_script("blocked", "always")


def run_signal_script(*arguments: str) -> None:
    """Run tests/signals.py in a process of its own: what goes wrong there kills it."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "signals.py"), *arguments], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "4 crashes, 4 traps\n"), done.stderr


def test_small_address_space_is_said_and_works() -> None:
    """Where no pool can be reserved, the host says so once and everything works, limits included."""
    script = ROOT / "tests" / "small_address_space.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "Completed None\nTrapped fuel\nTrapped memory\n"), done.stderr
    assert done.stderr.count("no pool for 80 instances of 256 MiB") == 1


def test_interrupts_leave_nothing_behind() -> None:
    """Ctrl-C at any moment of a dispatch leaves no lock taken, no call counted, and a host that closes at once."""
    script = ROOT / "tests" / "interrupts.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
