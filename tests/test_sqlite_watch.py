"""The watch on SQLite's statements: what is late is stopped, what has ended isn't, and no thread stays for nothing."""

from __future__ import annotations

import threading
import time

import pytest

from fuseboard.backends import _sqlite_watch
from fuseboard.backends._sqlite_watch import Watch


class Running:
    """Writes down when it is stopped."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.when = 0.0

    def stop(self) -> None:
        self.when = time.monotonic()
        self.stopped.set()


def test_each_is_stopped_at_its_deadline() -> None:
    """Whatever the order in which they come, each is stopped at its own, and not before."""
    watch, began = Watch(), time.monotonic()
    running = {seconds: Running() for seconds in (0.3, 0.1, 0.2, 30.0)}
    for seconds, one in running.items():
        watch.begin(one, began + seconds)
    for seconds in (0.1, 0.2, 0.3):
        assert running[seconds].stopped.wait(5)
        assert seconds <= running[seconds].when - began < seconds + 1
    assert not running[30.0].stopped.is_set()
    watch.end(running[30.0])


def test_what_has_ended_is_left_alone() -> None:
    """Its deadline passes without a stop, also where it has begun another time."""
    watch, one, other = Watch(), Running(), Running()
    watch.begin(one, time.monotonic() + 0.05)
    watch.end(one)
    watch.begin(one, time.monotonic() + 30)
    watch.begin(other, time.monotonic() + 0.1)
    assert other.stopped.wait(5)
    assert not one.stopped.is_set()
    watch.end(one)
    watch.end(one)


def test_the_thread_ends_and_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to watch it is gone after a while; the next statement has another."""
    monkeypatch.setattr(_sqlite_watch, "IDLE_SECONDS", 0.05)
    watch = Watch()
    for _ in range(2):
        one = Running()
        watch.begin(one, time.monotonic() + 0.02)
        assert one.stopped.wait(5)
        thread = watch._thread
        if thread is not None:
            thread.join(5)
        assert watch._thread is None


def test_many_threads_begin_and_end_at_once() -> None:
    """Statements of 8 threads, of which every tenth is late: those are stopped, and no other."""
    watch = Watch()
    wrong: list[str] = []

    def work() -> None:
        for turn in range(200):
            one, is_late = Running(), turn % 10 == 0
            watch.begin(one, time.monotonic() + (0.001 if is_late else 60))
            if one.stopped.wait(5 if is_late else 0) != is_late:
                wrong.append(f"turn {turn}")
            watch.end(one)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert watch._watched == {}
