"""Kill -9 in the middle of many invocations: what completed is there, whole, and nothing of any other."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from fuseboard.backends.db import Sqlite
from killed import CRASHES, THREADS

ROUNDS: Final = 6
A_ROUND: Final = 1_000_000
SCRIPT: Final = Path(__file__).with_name("killed.py")


def killed(folder: Path, first: int, seconds: float) -> set[int]:
    """Run the process, kill it some time after its first invocation, and return the numbers that it said completed."""
    command = [sys.executable, str(SCRIPT), str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        begun = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        said = begun + process.stdout.read()
        assert process.wait() == -signal.SIGKILL
    lines = said.split(b"\n")
    return {int(line) for line in lines[:-1]}  # what follows the last line's end was cut off


@pytest.mark.timeout(120)
def test_completed_invocations_outlive_kill_9(tmp_path: Path) -> None:
    """After each of six kills, rows and keys of every completed invocation are there, and of none that didn't complete.

    Of those under way, one for each thread at most may have been committed and not yet told; they are whole too.
    """
    folder = tmp_path / "data"
    completed: set[int] = set()
    untold: set[int] = set()
    for place in range(1, 1 + ROUNDS):
        completed |= killed(folder, place * A_ROUND, random.uniform(0.05, 0.4))
        with Sqlite(folder) as store:
            halves = Counter(store.rows("writes", "SELECT number, half FROM halves"))
            keys = store.items("writes")
            assert store.rows("writes", "PRAGMA integrity_check") == [("ok",)]
        numbers = {number for number, _ in halves}
        assert halves == Counter((number, half) for number in numbers for half in (1, 2))
        assert keys.pop(b"count") == b"%d" % len(numbers)
        assert keys == {b"%d" % number: b"%d" % number for number in numbers}
        assert completed <= numbers
        assert not any(number % CRASHES == 0 for number in numbers)
        assert len(numbers - completed - untold) <= THREADS
        untold |= numbers - completed
    assert len(completed) > 20 * ROUNDS
    print(f"{len(completed):,} completed invocations in {ROUNDS} killed processes, {len(untold)} not told, none lost")
