"""`fuseboard new`: a folder with a plugin that builds, passes its check and its own test at once.

Rules:
* The templates are a plugin called `my-plugin`, "My Plugin": nothing else in them is replaced.
* Nothing that is there is overwritten, and what can't be made whole isn't left behind.
* A plugin has its own copy of its language's SDK, as it was when the plugin was made.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

import fuseboard
from fuseboard._building import CannotBuildError, builder_for
from fuseboard._manifest import SLUG, SLUG_FORM
from fuseboard._toolchains import TOOLCHAINS, Language, Toolchain
from fuseboard.cli._terminal import CannotRun, notices, output, plain, say

_PACKAGE: Final = Path(fuseboard.__file__).parent
_TEMPLATES: Final = _PACKAGE / "_templates"
_SDKS: Final = _PACKAGE / "_guest"
_SLUG: Final = "my-plugin"
_NAME: Final = "My Plugin"


@click.command("new")
@click.argument("slug", metavar="SLUG")
@click.option("--lang", type=click.Choice(list(map(str, Language))), required=True, help="What it is written in.")
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder to make, or one that is empty; by default it is called SLUG.",
)
def new(slug: str, lang: str, folder: Path | None) -> None:
    """Make a folder with a plugin that is called SLUG: manifest, source, its language's SDK, and a test.

    It builds, passes its check and its own test at once. Nothing that is there is overwritten.
    """
    if not SLUG.fullmatch(slug):
        raise CannotRun(f"slug {slug!r} must be {SLUG_FORM}{_proposal(slug)}")
    folder, toolchain = folder or Path(slug), TOOLCHAINS[Language(lang)]
    with _made(folder):
        _copy_sdk(toolchain, folder)
        for template in ("common", lang):
            _copy_template(_TEMPLATES / template, folder, slug)
    say(output(), plain(f"made {folder}, a plugin in {toolchain.title}; next:", "bold"))
    for command in _next_commands(folder):
        say(output(), plain(f"  {command}"))
    _tell_what_is_missing(folder)


def _proposal(slug: str) -> str:
    proposed = re.sub(r"[^a-z0-9]+", "-", slug.lower()).strip("-").lstrip("0123456789-")[:63]
    return f"; write e.g. {proposed!r}" if SLUG.fullmatch(proposed) else ""


# ── the folder ───────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, or take one that is empty; where what follows fails, it is as it was."""
    was_there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CannotRun(f"{folder} is there already, and isn't empty: choose another by --dir, or remove it first")
        try:
            yield
        except BaseException:
            _empty(folder)
            if not was_there:
                folder.rmdir()
            raise
    except FileExistsError:
        raise CannotRun(f"{folder} is there already, and is no folder: choose another by --dir") from None
    except OSError as error:
        raise CannotRun(f"{folder} can't be made: {error.strerror or error}") from None


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _copy_sdk(toolchain: Toolchain, folder: Path) -> None:
    sdk = _SDKS / toolchain.sdk
    for source, target in _copies(sdk, folder / toolchain.sdk_place):
        shutil.copyfile(source, target)
    if toolchain.sdk_lock:
        shutil.copyfile(sdk / toolchain.sdk_lock, folder / toolchain.sdk_lock)


def _copy_template(template: Path, folder: Path, slug: str) -> None:
    for source, target in _copies(template, folder):
        text = source.read_text(encoding="utf-8").replace(_SLUG, slug).replace(_NAME, _name(slug))
        target.write_text(text, encoding="utf-8")


def _copies(template: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each file below a folder, and where its copy goes below another, in a folder that is there."""
    for source in sorted(template.rglob("*")):
        if source.is_file() and source.parent.name != "__pycache__":
            target = folder / source.relative_to(template)
            target.parent.mkdir(parents=True, exist_ok=True)
            yield source, target


def _name(slug: str) -> str:
    return " ".join(word.capitalize() for word in slug.split("-") if word)


# ── what comes next ──────────────────────────────────────────────────────────────────────────────


def _next_commands(folder: Path) -> Iterator[str]:
    if folder.resolve() != Path.cwd():
        yield f"cd {shlex.quote(str(folder))}"
    yield "fuseboard build ."
    yield "python -m unittest"


def _tell_what_is_missing(folder: Path) -> None:
    try:
        builder_for(folder)
    except CannotBuildError as error:
        for line in error.args:
            say(notices(), plain(line, "yellow"))
