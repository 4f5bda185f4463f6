"""`fuseboard cache`: what is kept, and the way to be rid of it; and what other commands tell of compiling."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

import fuseboard as fb
from conftest import ECHO, SILENT, TEXT, manifest
from fuseboard._artifacts import FOLDER_VARIABLE, ArtifactCache, Artifacts, Facts
from fuseboard._compile_process import anonymous_file
from fuseboard.cli import main
from test_compiling import script

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the default cache one of the test's own and return its folder."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def _loaded() -> Iterator[None]:
    with fb.Host(hooks=[TEXT], max_concurrent_invocations=1) as host:
        host.load_bytes(ECHO, manifest("first"))
        host.load_bytes(SILENT, manifest("second"))
        yield


def fuseboard(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, terminal_width=100)


@pytest.mark.usefixtures("_loaded")
@pytest.mark.parametrize("arguments", [["cache"], ["cache", "list"]])
def test_what_is_kept_is_listed(folder: Path, arguments: list[str]) -> None:
    """A line has plugin, module, sizes, what compiling took, and when it was used; the last sums up."""
    result = fuseboard(*arguments)
    assert result.exit_code == 0
    _, *rows, total = result.stdout.splitlines()
    assert {row.split()[0] for row in rows} == {"first", "second"}
    assert all(re.search(r"\w{12} +\d+ +[\d,]+ +\d\.\d s +\d+ s ago", row) for row in rows), rows
    size = sum(each.stat().st_size for each in folder.glob("*.artifact"))
    assert total == f"2 modules, {size:,} bytes, in {folder}"


@pytest.mark.usefixtures("_loaded")
def test_what_is_kept_as_json(folder: Path) -> None:
    """The same as data, also of another folder."""
    data = json.loads(fuseboard("cache", "list", "--json", "--folder", str(folder)).stdout)
    assert (data["folder"], len(data["entries"])) == (str(folder), 2)
    assert {each["plugin"] for each in data["entries"]} == {"first", "second"}
    assert {each["wasm_bytes"] for each in data["entries"]} == {len(ECHO), len(SILENT)}
    assert data["bytes"] == sum(each["bytes"] for each in data["entries"])


@pytest.mark.usefixtures("_loaded")
def test_it_is_cleared(folder: Path) -> None:
    """All entries go; the next load makes them anew."""
    size = sum(each.stat().st_size for each in folder.glob("*.artifact"))
    assert fuseboard("cache", "clear").stdout == f"removed 2 modules, {size:,} bytes, from {folder}\n"
    assert fuseboard("cache", "clear", "--folder", str(folder)).stdout == f"removed 0 modules, 0 bytes, from {folder}\n"
    assert fuseboard("cache").stdout == f"0 modules, 0 bytes, in {folder}\n"


@pytest.mark.parametrize("command", ["list", "clear"])
def test_a_folder_that_is_no_cache(folder: Path, command: str) -> None:
    """One that is open to others is refused with what to do, and left alone; exit code 2."""
    folder.mkdir()
    folder.chmod(0o755)
    result = fuseboard("cache", command)
    assert result.exit_code == 2
    assert "is open to other users (mode 0755)" in " ".join(result.stderr.split())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


@pytest.mark.parametrize("command", ["list", "clear"])
def test_looking_makes_and_takes_nothing(folder: Path, command: str) -> None:
    """Where there is no folder none is made, and what isn't a cache's stays as it is."""
    assert "0 modules, 0 bytes" in fuseboard("cache", command).stdout
    assert not folder.exists()
    folder.mkdir(mode=0o700)
    for name in ("secret", "mine.txt", f"{'a' * 63}.artifact"):
        (folder / name).write_text("precious")
    assert "0 modules, 0 bytes" in fuseboard("cache", command).stdout
    assert {each.read_text() for each in folder.iterdir()} == {"precious"}
    assert len(list(folder.iterdir())) == 3


def test_listing_leaves_what_is_wrong(folder: Path) -> None:
    """An entry that can be read by others is listed, and not removed: only a load judges it."""
    with Artifacts(ArtifactCache()) as artifacts, anonymous_file("test") as file:
        artifacts.store("a" * 64, file, Facts("a", "c" * 64, 1, "1", 1.0, 1.0))
    entry = folder / f"{'a' * 64}.artifact"
    entry.chmod(0o644)
    assert "1 module, " in fuseboard("cache").stdout
    assert entry.exists()


def test_words_of_an_entry_are_shown_as_they_are(folder: Path) -> None:
    """Nothing that a file says of itself is markup or moves the cursor, and one that says nothing is listed."""
    facts = Facts("[red]\x1b[31m\u202e", "c" * 64, 1, "1", 90.0, 1.0)
    with Artifacts(ArtifactCache()) as artifacts, anonymous_file("test") as file:
        artifacts.store("a" * 64, file, facts)
        artifacts.store("b" * 64, file, facts)
    os.truncate(folder / f"{'b' * 64}.artifact", 3)
    for days, key in enumerate("ab"):
        used = (folder / f"{key * 64}.artifact").stat().st_mtime - days * 90_000
        os.utime(folder / f"{key * 64}.artifact", (used, used))
    output = fuseboard("cache").stdout
    assert r"[red]\x1b[31m\u202e" in output
    assert output.isascii()
    assert re.search(r"^unknown +b{12} +3 +1 d ago$", output, re.MULTILINE)


def test_check_tells_that_it_compiles(folder: Path) -> None:
    """The first check says what compiling takes, on standard error; the second has nothing to compile."""
    first, second = (fuseboard("check", "plugins/title-case") for _ in range(2))
    assert first.exit_code == second.exit_code == 0
    assert "plugin title-case: compiled, in " in first.stderr
    assert second.stderr == ""
    assert first.stdout == second.stdout
    assert len(list(folder.glob("*.artifact"))) == 1


def test_check_without_an_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't compile is the machine's problem, not the plugin's: exit code 2."""
    monkeypatch.setattr("sys.executable", str(script(tmp_path / "python", "exit 1")))
    result = fuseboard("check", "plugins/title-case")
    assert result.exit_code == 2
    assert "the process that compiles failed" in result.stderr
