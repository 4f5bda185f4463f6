"""`fuseboard new`: what it makes, what it refuses, and that the package has what it makes it of."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import fuseboard as fb
from fuseboard._manifest import read_manifest
from fuseboard._toolchains import TOOLCHAINS, Language
from fuseboard.cli import main

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(fb.__file__).parent
NOT_SHIPPED = {"target", "tests", "__pycache__", ".zig-cache"}

every_language = pytest.mark.parametrize("language", list(Language))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["new", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files that are shipped, by their paths."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    shipped = (path for path in found if not NOT_SHIPPED & {*path.parts} and not path.name.endswith("_test.go"))
    return {str(path): (folder / path).read_bytes() for path in shipped}


# ── what it makes ────────────────────────────────────────────────────────────────────────────────


@every_language
def test_a_plugin_has_its_slug_and_name(here: Path, language: Language) -> None:
    """All that the template calls My Plugin has the new plugin's slug and name, and its manifest has no problem."""
    result = new("word-count", "--lang", language.value)

    manifest, problems = read_manifest(here / "word-count")
    assert (result.exit_code, problems) == (0, [])
    assert manifest is not None
    assert (manifest.slug, manifest.name, manifest.module) == ("word-count", "Word Count", "plugin.wasm")
    for name, content in files_in(here / "word-count").items():
        assert b"my-plugin" not in content.lower(), name
        assert b"My Plugin" not in content, name


@every_language
def test_a_plugin_has_what_its_author_needs(here: Path, language: Language) -> None:
    """Source, SDK, a test, a README and a .gitignore are there, and of the languages' markers only its own."""
    new("word-count", "--lang", language.value)

    toolchain, folder = TOOLCHAINS[language], here / "word-count"
    for name in ("plugin.toml", "test_plugin.py", "README.md", ".gitignore", toolchain.marker):
        assert (folder / name).is_file(), name
    assert [each for each in Language if (folder / TOOLCHAINS[each].marker).exists()] == [language]


@every_language
def test_a_plugin_has_its_own_copy_of_the_sdk(here: Path, language: Language) -> None:
    """The SDK in a new plugin's folder is the repository's."""
    new("word-count", "--lang", language.value)

    toolchain = TOOLCHAINS[language]
    copied = files_in(here / "word-count" / toolchain.sdk_place)
    for name, content in files_in(ROOT / "guest" / toolchain.sdk).items():
        assert copied[name] == content, name


def test_crates_are_pinned_as_the_sdk_has_them(here: Path) -> None:
    """A new plugin in Rust begins with the versions that the SDK is tested with."""
    new("word-count", "--lang", "rust")

    pinned = tomllib.loads((here / "word-count" / "Cargo.lock").read_text(encoding="utf-8"))
    assert pinned == tomllib.loads((ROOT / "guest" / "rust" / "Cargo.lock").read_text(encoding="utf-8"))


def test_it_says_what_comes_next() -> None:
    """The commands that follow are printed, to be pasted."""
    result = new("word-count", "--lang", "c", "--dir", "a b/c")

    assert result.stdout == (
        "made a b/c, a plugin in C; next:\n  cd 'a b/c'\n  fuseboard build .\n  python -m unittest\n"
    )


def test_what_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no compiler yet hears how to get it, and has the plugin all the same."""
    monkeypatch.setenv("PATH", "/nowhere")

    result = new("word-count", "--lang", "go")

    assert (result.exit_code, result.stderr) == (
        0,
        "Go needs go, which isn't on PATH: install Go from https://go.dev/dl\n",
    )


def test_an_empty_folder_is_taken(here: Path) -> None:
    """A folder that is there and empty will do, also the one that one stands in."""
    result = new("word-count", "--lang", "c", "--dir", ".")

    assert (result.exit_code, (here / "plugin.toml").is_file()) == (0, True)
    assert "cd" not in result.stdout


# ── what it refuses ──────────────────────────────────────────────────────────────────────────────


def test_nothing_is_overwritten(here: Path) -> None:
    """A folder with anything in it is refused and left as it is."""
    (here / "word-count").mkdir()
    (here / "word-count" / "notes.txt").write_text("mine")

    result = new("word-count", "--lang", "c")

    assert (result.exit_code, result.stderr) == (
        2,
        "Error: word-count is there already, and isn't empty: choose another by --dir, or remove it first\n",
    )
    assert files_in(here) == {"word-count/notes.txt": b"mine"}


def test_a_file_in_the_way_is_named(here: Path) -> None:
    """A file of the folder's name is refused and left as it is."""
    (here / "word-count").write_text("mine")

    result = new("word-count", "--lang", "c")

    assert (result.exit_code, result.stderr) == (
        2,
        "Error: word-count is there already, and is no folder: choose another by --dir\n",
    )


@pytest.mark.parametrize("was_there", [False, True])
def test_what_cannot_be_made_whole_is_not_left_behind(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    was_there: bool,  # noqa: FBT001  a parameter
) -> None:
    """Where a file can't be written, the folder goes again; one that was there stays, and is empty again."""
    copy = shutil.copyfile

    def fails_late(source: Path, target: Path) -> None:
        if target.name == "go.mod":
            raise OSError(28, "No space left on device")
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", fails_late)
    if was_there:
        (here / "word-count").mkdir()

    result = new("word-count", "--lang", "go")

    assert (result.exit_code, result.stderr) == (2, "Error: word-count can't be made: No space left on device\n")
    assert list(here.rglob("*")) == [here / "word-count"] * was_there


@pytest.mark.parametrize(
    ("slug", "proposal"),
    [
        ("Word_Count", "; write e.g. 'word-count'"),
        ("2 words!", "; write e.g. 'words'"),
        ("wörter", "; write e.g. 'w-rter'"),
        ("../up", "; write e.g. 'up'"),
        ("w" * 64, f"; write e.g. '{'w' * 63}'"),
        ("7", ""),
        ("", ""),
    ],
)
def test_a_bad_slug_is_refused_with_a_better_one(here: Path, slug: str, proposal: str) -> None:
    """The manifest's rule for slugs is told, with the nearest slug that keeps it, and nothing is made."""
    result = new("--lang", "c", "--", slug)

    assert (result.exit_code, result.stderr) == (
        2,
        f"Error: slug {slug!r} must be a lower-case letter, then at most 62 of a-z, 0-9, '-'{proposal}\n",
    )
    assert not list(here.iterdir())


def test_an_unknown_language_is_refused() -> None:
    """The languages that there are are named."""
    result = new("word-count", "--lang", "java")

    assert result.exit_code == 2
    assert "'java' is not one of 'rust', 'go', 'c', 'cpp', 'zig'" in result.stderr


# ── the package ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sdk", sorted({toolchain.sdk for toolchain in TOOLCHAINS.values()}))
def test_the_wheel_has_the_sdks(sdk: str) -> None:
    """The installed package has each SDK as the repository has it, without what is built of it and its tests."""
    installed = files_in(PACKAGE / "_guest" / sdk)

    assert installed == files_in(ROOT / "guest" / sdk)
    assert len(installed) == sum(path.is_file() for path in (PACKAGE / "_guest" / sdk).rglob("*"))


def test_the_wheel_has_no_more_than_the_sdks() -> None:
    """What tests the SDKs isn't installed."""
    assert {path.name for path in (PACKAGE / "_guest").iterdir()} == {each.sdk for each in TOOLCHAINS.values()}


def test_the_wheel_has_the_templates() -> None:
    """The installed package has the templates as the repository has them, hidden files too."""
    assert files_in(PACKAGE / "_templates") == files_in(ROOT / "python" / "fuseboard" / "_templates")
