"""The committed modules come from the sources beside them."""

import subprocess
import sys
import tomllib
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


def test_ci_compiles_with_the_recorded_versions() -> None:
    """CI has the Rust and the Go that made the committed modules, which it couldn't hold to their sources by others."""
    recorded = tomllib.loads((ROOT / "plugins" / "compilers.toml").read_text(encoding="utf-8"))
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")

    assert f"rustup toolchain install {recorded['rust']} " in workflow
    assert f'go-version: "{recorded["go"]}"' in workflow
