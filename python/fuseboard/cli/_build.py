"""`fuseboard build`: a plugin's source into its module, by the author's own compiler, and then what `check` shows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from fuseboard._building import Builder, Built, CannotBuildError, CompilerFailedError, build, builder_for
from fuseboard._manifest import manifest_path, read_manifest
from fuseboard.cli._check import shown_problems
from fuseboard.cli._terminal import INTERRUPTED, CannotRun, notices, output, plain, plugin_argument, say


@click.command("build")
@plugin_argument
@click.argument("arguments", nargs=-1, metavar="[-- ARGUMENTS]", type=click.UNPROCESSED)
@click.pass_context
def build_plugin(context: click.Context, folder: Path, arguments: tuple[str, ...]) -> None:
    """Compile the plugin in DIR, a folder with a plugin.toml, then name every problem with it, as check does.

    A Cargo.toml there tells Rust, go.mod Go, plugin.c C, plugin.cpp C++, plugin.zig Zig. The language's own compiler
    makes the manifest's module, and is heard as it goes; what follows -- goes to it. Where it fails, the old module
    stays.

    Exits with 0 where there is no problem, 1 where there are or the source doesn't compile, 2 where it can't be built.
    """
    manifest, problems = read_manifest(folder)
    if manifest is None or problems:
        context.exit(shown_problems(folder))
    place = manifest_path(folder).parent
    with _failures_told(manifest.module):
        builder = builder_for(place)
        built = build(place, place / manifest.module, builder, arguments, _show_command)
    say(output(), plain(_told(manifest.module, builder, built), "bold"))
    context.exit(shown_problems(folder))


class _NotCompiled(CannotRun):
    exit_code = 1


@contextmanager
def _failures_told(module: str) -> Iterator[None]:
    try:
        yield
    except CannotBuildError as error:
        raise CannotRun(*error.args) from None
    except CompilerFailedError as error:
        raise _NotCompiled(f"{error}; {module} wasn't touched") from None
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None


def _show_command(command: list[str]) -> None:
    say(notices(), plain(shlex.join(command), "dim"))


def _told(module: str, builder: Builder, built: Built) -> str:
    compiler = f"{builder.compiler.tool.name} {builder.version}".rstrip()
    return f"{module}: {built.size:,} bytes, from {builder.toolchain.title} by {compiler} in {built.seconds:.1f} s"
