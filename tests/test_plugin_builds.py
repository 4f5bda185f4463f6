"""The committed modules come from the sources beside them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_module_is_what_its_source_gives() -> None:
    """Building all plugins again gives the committed bytes."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "build_plugins.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
