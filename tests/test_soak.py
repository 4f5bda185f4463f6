"""The long runs, in their short form: each holds its bars, and says so."""

import subprocess
import sys

import pytest

from fuseboard import Cause, Limit
from guests import ROOT

SOAK = ROOT / "benchmarks" / "soak.py"
NAMES = sorted(file.stem for file in (SOAK.parent / "soaks").glob("[!_]*.py"))


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, and show what it prints."""
    command = [sys.executable, "-X", "utf8", str(SOAK), *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=200, check=False)
    sys.stdout.write(done.stdout + done.stderr)
    return done


def test_names() -> None:
    """There is a run for each thing that only many invocations, or many at once, can show."""
    assert NAMES == ["cancellation", "crowd", "faults", "memory", "reloads", "siblings"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", NAMES)
def test_run_holds(name: str) -> None:
    """A run in its short form holds its bars: it exits with 0, and its verdict says what it reached."""
    done = soak("--short", name)

    assert done.returncode == 0
    *_, verdict, result = done.stdout.splitlines()
    assert verdict.startswith(f"✓ {name}: ")
    assert result == "✓ all 1 runs held"
    if name == "memory":
        assert_all_trip(done.stdout)


def assert_all_trip(told: str) -> None:
    """Every limit has tripped, and guests have crashed, failed and given bad output."""
    assert "20,000 invocations, 10,000 trapped" in told
    for name in (*Limit, "functions.mail.send", Cause.CRASH, Cause.FAILED, Cause.BAD_OUTPUT, Cause.BAD_POINTER):
        assert f" {name} " in told


def test_unknown_run_is_refused() -> None:
    """A run that isn't there is named, with those that are."""
    done = soak("--short", "no-such-run")

    assert done.returncode == 2
    assert "there is no run 'no-such-run'; there are cancellation, " in done.stderr
