"""`fuseboard cache`: what is kept of compiled modules, and the way to be rid of it.

Rule: what the files say of themselves is shown, and not believed: only a load looks at their seals.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from rich.table import Table

from fuseboard._artifacts import ArtifactCache, Artifacts, Kept
from fuseboard._errors import UsageError
from fuseboard.cli._terminal import CannotRun, json_option, output, plain, print_json, say

F = TypeVar("F", bound=Callable[..., Any])

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def _folder_option(command: F) -> F:
    help_text = "The folder; by default the one that a Host uses that isn't told of another."
    return click.option("--folder", metavar="DIR", type=click.Path(path_type=Path), help=help_text)(command)


@click.group("cache", invoke_without_command=True)
@click.pass_context
def cache(context: click.Context) -> None:
    """List the compiled modules that are kept, or remove them; without a command, list them."""
    if context.invoked_subcommand is None:
        context.invoke(list_kept)


@cache.command("list")
@_folder_option
@json_option
def list_kept(folder: Path | None = None, *, as_json: bool = False) -> None:
    """List the compiled modules that are kept, those that were used last first."""
    path = _path(folder)
    with _opened(path) as artifacts:
        kept = artifacts.kept() if artifacts else []
    size = sum(each.size for each in kept)
    if as_json:
        print_json({"folder": str(path), "bytes": size, "entries": [_data(each) for each in kept]})
        return
    console = output()
    if kept:
        console.print(_table(kept))
    say(console, plain(f"{_counted(len(kept))}, {size:,} bytes, in {path}", "bold"))


@cache.command()
@_folder_option
def clear(folder: Path | None) -> None:
    """Remove all of them. What is loaded goes on; the next load compiles."""
    path = _path(folder)
    with _opened(path) as artifacts:
        count, size = artifacts.clear() if artifacts else (0, 0)
    say(output(), plain(f"removed {_counted(count)}, {size:,} bytes, from {path}", "bold"))


def _path(folder: Path | None) -> Path:
    try:
        return ArtifactCache(folder=folder).path()
    except (RuntimeError, UsageError) as error:
        raise CannotRun(str(error)) from None


@contextmanager
def _opened(path: Path) -> Iterator[Artifacts | None]:
    """Yield the cache, or `None` where nothing was ever kept: looking makes no folder."""
    if not os.path.lexists(path):
        yield None
        return
    try:
        with Artifacts(ArtifactCache(folder=path), makes=False) as artifacts:
            yield artifacts
    except OSError as error:
        raise CannotRun(str(error)) from None


def _counted(modules: int) -> str:
    return "1 module" if modules == 1 else f"{modules} modules"


def _data(kept: Kept) -> dict[str, Any]:
    facts = kept.facts
    return {
        "file": kept.name,
        "bytes": kept.size,
        "used": kept.used,
        "plugin": facts and facts.plugin,
        "wasm_sha256": facts and facts.wasm_sha256,
        "wasm_bytes": facts and facts.wasm_bytes,
        "made_by": facts and facts.made_by,
        "cpu_seconds": facts and facts.cpu_seconds,
        "peak_mb": facts and facts.peak_mb,
    }


def _table(kept: list[Kept]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("plugin", "module"):
        table.add_column(name)
    for name in ("bytes", "compiled", "in", "used"):
        table.add_column(name, justify="right")
    now = time.time()
    for each in kept:
        facts = each.facts
        table.add_row(
            plain(facts.plugin if facts else "unknown"),
            plain(facts.wasm_sha256[:12] if facts else each.name[:12]),
            plain(f"{facts.wasm_bytes:,}" if facts else ""),
            plain(f"{each.size:,}"),
            plain(f"{facts.cpu_seconds:.1f} s" if facts else ""),
            plain(f"{_ago(now - each.used)} ago"),
        )
    return table


def _ago(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
