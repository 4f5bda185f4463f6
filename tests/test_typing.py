"""What type checkers know of the public names: an application checks under --strict, and its mistakes are found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fuseboard

API = Path(__file__).parent / "typing" / "api.py"


def test_an_application_checks_under_strict(tmp_path: Path) -> None:
    """`Filter[str]` gives `str` back, every outcome is matched, and wrong calls are errors and no `Any`."""
    package = Path(fuseboard.__file__).parent.parent
    path = "" if package.name == "site-packages" else f"mypy_path = {package}\n"  # an installed one is found by itself
    config = tmp_path / "mypy.ini"
    config.write_text(f"[mypy]\nstrict = true\nwarn_unreachable = true\n{path}")
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(tmp_path), str(API)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path)
    assert done.stdout.strip() == "Success: no issues found in 1 source file", done.stdout + done.stderr
