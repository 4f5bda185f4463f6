"""Invocations leave no memory behind."""

import subprocess
import sys

from fuseboard import Cause, Limit
from guests import ROOT


def test_memory_stays_flat() -> None:
    """20,000 invocations, half of them trapped, by each limit and cause in turn, leave the process as it was."""
    script = ROOT / "benchmarks" / "memory.py"
    command = [sys.executable, str(script), "--invocations", "20000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20,000 invocations, 10,000 trapped" in done.stdout
    for name in (*Limit, "functions.mail.send", Cause.CRASH, Cause.FAILED, Cause.BAD_OUTPUT, Cause.BAD_POINTER):
        assert f"{name} " in done.stdout
