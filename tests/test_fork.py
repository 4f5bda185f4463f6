"""Forks: child and parent both serve, whatever runs meanwhile. Each scenario has a process of its own: it may hang."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from guests import ROOT

SECONDS = 80
SCENARIOS = {
    "forks": (
        "at_rest", "generations", "request_ids", "clean_memory", "clean_image", "executions_at_work",
        "executions_dropped", "inside_function", "returning_from_function", "probe",
    ),
    "backend_forks": ("memory_backends", "custom_backend"),
    "sqlite_forks": ("beside_each_other", "in_use", "beside_threads"),
    "busy_forks": (
        "beside_threads", "from_two_threads", "with_a_lock", "preloading_server", "between_event_loops",
        "in_a_worker_thread", "in_a_task", "in_a_function_of_a_task",
    ),
    "processes": ("fork", "spawn", "forkserver", "sending_a_host"),
}  # fmt: skip


@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.parametrize(("script", "scenario"), [(script, one) for script, all_ in SCENARIOS.items() for one in all_])
def test_child_and_parent_serve(script: str, scenario: str) -> None:
    """The scenario, which its function in the script describes, ends well and in time."""
    returncode, output, errors = run(str(ROOT / "tests" / f"{script}.py"), scenario)

    assert (returncode, output) == (0, "served\n"), errors


def run(*command: str) -> tuple[int, str, str]:
    """Run a script with all its children; where they hang, each says where it is, and is ended."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)
        output, errors = process.communicate(timeout=10)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output, errors
