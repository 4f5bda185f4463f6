"""The gate between forks and SQLite: neither cuts the other, and nobody waits for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from fuseboard.backends import _fork_gate
from fuseboard.backends._fork_gate import ForkGate


def begun(work: Callable[[], object]) -> tuple[threading.Thread, threading.Event]:
    """Do something on a thread and return what is set when it is done."""
    done = threading.Event()

    def run() -> None:
        work()
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, done


def work_in(gate: ForkGate) -> None:
    with gate.working():
        pass


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have waiting end by being told only."""
    monkeypatch.setattr(_fork_gate, "PATIENCE_SECONDS", 60.0)


@pytest.mark.usefixtures("_patient")
def test_a_fork_waits_for_work() -> None:
    """It goes on when the last piece of work is done."""
    gate = ForkGate()
    with gate.working():
        with gate.working():
            thread, forks = begun(gate.before_fork)
            assert not forks.wait(0.05)
        assert not forks.wait(0.05)
    assert forks.wait(10)
    thread.join()


@pytest.mark.usefixtures("_patient")
def test_work_waits_for_all_forks() -> None:
    """It begins when the last of the forks that are under way is over."""
    gate = ForkGate()
    gate.before_fork()
    gate.before_fork()
    thread, works = begun(lambda: work_in(gate))
    assert not works.wait(0.05)
    gate.after_fork_in_parent()
    assert not works.wait(0.05)
    gate.after_fork_in_parent()
    assert works.wait(10)
    thread.join()


@pytest.mark.usefixtures("_patient")
def test_work_inside_of_work_does_not_wait() -> None:
    """A fork that waits for a piece of work isn't waited for by what that begins."""
    gate = ForkGate()
    with gate.working():
        thread, forks = begun(gate.before_fork)
        assert not forks.wait(0.05)
        work_in(gate)
        assert not forks.wait(0.05)
    assert forks.wait(10)
    thread.join()


class Watched:
    """Writes down when it is called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def before_fork(self) -> None:
        self.calls.append("before")

    def after_fork_in_child(self) -> None:
        self.calls.append("child")


def test_what_is_watched_is_told_of_forks() -> None:
    """It is told before a fork, when nobody works any more, and in the child; not when it is gone."""
    gate, watched = ForkGate(), Watched()
    gate.watch(watched)
    gate.watch(Watched())
    with gate.working():
        thread, forks = begun(gate.before_fork)
        assert not forks.wait(0.05)
        assert watched.calls == []
    assert forks.wait(10)
    gate.after_fork_in_parent()
    assert watched.calls == ["before"]
    gate.after_fork_in_child()
    assert watched.calls == ["before", "child"]
    thread.join()


def test_a_fork_that_began_before_the_gate() -> None:
    """Its end is seen without its beginning, and holds nobody up."""
    gate = ForkGate()
    gate.after_fork_in_parent()
    began = time.monotonic()
    work_in(gate)
    assert time.monotonic() - began < 0.5


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork that waits for a thread which waits for the fork ends, and so does the work."""
    monkeypatch.setattr(_fork_gate, "PATIENCE_SECONDS", 0.1)
    gate = ForkGate()
    with gate.working():
        began = time.monotonic()
        forking, forks = begun(gate.before_fork)
        assert forks.wait(10)
        working, works = begun(lambda: work_in(gate))
        assert works.wait(10)
        assert 0.2 <= time.monotonic() - began < 5
        forking.join()
        working.join()
    gate.after_fork_in_parent()
    work_in(gate)


@pytest.mark.usefixtures("_patient")
def test_nobody_waits_for_themselves() -> None:
    """A thread that forks inside of its own work goes on; what wasn't begun can be ended."""
    gate = ForkGate()
    with gate.working():
        gate.before_fork()
        gate.after_fork_in_parent()
    gate.end(object())
    gate.before_fork()
    gate.after_fork_in_parent()


def test_a_child_begins_with_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the fork nor what ran is there, so that nobody waits for them."""
    gate = ForkGate()
    half_done = gate.working()
    half_done.__enter__()
    with monkeypatch.context() as patch:
        patch.setattr(_fork_gate, "PATIENCE_SECONDS", 0.0)
        gate.before_fork()
    gate.after_fork_in_child()
    half_done.__exit__(None, None, None)
    began = time.monotonic()
    work_in(gate)
    gate.before_fork()
    gate.after_fork_in_parent()
    assert time.monotonic() - began < 0.5
