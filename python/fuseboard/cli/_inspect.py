"""`fuseboard inspect`: what a module is and has, and its figures beside their bounds, before anything loads it.

Rules:
* Nothing is compiled or run, and no more of a file is read than a host would take.
* The core finds facts and problems, in one look; here they are only shown.
* JSON and text show the same facts, gathered once.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from fuseboard import _core
from fuseboard._limits import Caps, Limits, memory_ceiling_bytes
from fuseboard._manifest import manifest_path, read_manifest
from fuseboard.cli._terminal import CannotRun, facts, json_option, lines, names, output, plain, print_json, say

_ALL: Final = "all"
_SHOWN: Final = 20
_DIGITS: Final = 9
_NEAR: Final = 0.5
_SIZE: Final = "bytes of the module"
_KIND_BYTES: Final = 8


class _Count(click.ParamType[int | None]):
    """A number of lines, or `None` for all."""

    name = "count"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value == _ALL:
            return None
        text = str(value)
        if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
            shown = text if len(text) <= _DIGITS else f"{text[:_DIGITS]}…"
            self.fail(f"{shown!r} must be a whole number of at most {_DIGITS} digits, or {_ALL!r}", param, ctx)
        return int(text)


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--functions", default=_SHOWN, metavar="N", type=_Count(), help="Show the N largest functions, or all of them."
)
@json_option
@click.pass_context
def inspect(context: click.Context, path: Path, functions: int | None, as_json: bool) -> None:  # noqa: FBT001  a flag
    """Report what the module in FILE is and has, and how near it is to each bound. FILE may be a plugin's folder.

    Exits with 0 where there is no problem, 1 where there are, 2 where FILE can't be read. Nothing is compiled or run;
    what only compiling and the manifest show, check tells.
    """
    file = _module_file(path)
    data = _data(file, _content(file), functions)
    if as_json:
        print_json(data)
    else:
        _show(output(), data)
    context.exit(1 if data["problems"] else 0)


# ── the file ─────────────────────────────────────────────────────────────────────────────────────


def _module_file(path: Path) -> Path:
    """Return the file itself, or the module of a plugin's folder."""
    if not path.is_dir():
        return path
    manifest = manifest_path(path)
    if not manifest.is_file():
        raise CannotRun(f"{path} is a folder without a plugin.toml; name the module, e.g. {path / 'plugin.wasm'}")
    found, problems = read_manifest(manifest, ceilings=Limits(), folder=path)
    if found is None:
        raise CannotRun(f"{manifest} has problems: {problems[0]}; run fuseboard check, or name the module itself")
    return path / found.module


def _content(file: Path) -> bytes:
    """Return the file's bytes; of one that is larger than a host takes, one byte more than that."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for its writer
            raise CannotRun(f"{file} is no file (a pipe, a device or a socket); copy what it holds to a file")
        with file.open("rb") as opened:
            return opened.read(Caps().module_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CannotRun(f"{file} can't be read: {reason}") from None


# ── the facts ────────────────────────────────────────────────────────────────────────────────────


def _data(file: Path, wasm: bytes, functions: int | None) -> dict[str, Any]:
    if len(wasm) > Caps().module_bytes:
        return _too_large(file, wasm)
    seen = _core.inspect(wasm, memory_ceiling_bytes(Limits()))
    own = sorted(seen.functions, key=lambda function: (-function[2], function[0]))
    return {
        "file": str(file),
        "kind": seen.kind,
        "bytes": len(wasm),
        "sha256": hashlib.sha256(wasm).hexdigest(),
        "ok": not seen.problems,
        "problems": seen.problems,
        "module": _module_data(seen) if seen.is_module else None,
        "functions": [{"index": index, "name": name, "bytes": size} for index, name, size in own[:functions]],
        "figures": sorted(_figures(seen, len(wasm)), key=_by_share) if seen.is_module else [],
    }


def _too_large(file: Path, wasm: bytes) -> dict[str, Any]:
    """Return what there is to say without reading on."""
    size = file.stat().st_size
    problem = f"has {size} bytes; the most that a host takes is {Caps().module_bytes}: build it for size"
    kind = _core.inspect(wasm[:_KIND_BYTES], 0).kind
    about = {"file": str(file), "kind": kind, "bytes": size, "sha256": None}
    return {**about, "ok": False, "problems": [problem], "module": None, "functions": [], "figures": []}


def _module_data(seen: _core.Inspection) -> dict[str, Any]:
    return {
        "made_with": seen.tools,
        "imports": [dict(zip(("module", "name", "kind", "type"), each, strict=True)) for each in seen.imports],
        "exports": [dict(zip(("name", "kind", "type"), each, strict=True)) for each in seen.exports],
        "memories": [{"initial_pages": initial, "maximum_pages": maximum} for initial, maximum in seen.memories],
        "tables": [{"initial_elements": initial, "maximum_elements": maximum} for initial, maximum in seen.tables],
        "globals": seen.globals,
        "functions": dict(zip(("count", "bytes"), seen.code, strict=True)),
        "data": dict(zip(("segments", "bytes"), seen.data, strict=True)),
        "elements": dict(zip(("segments", "elements"), seen.elements, strict=True)),
        "start_function": seen.start,
        "initialises": seen.initialises,
        "snapshot_refusal": seen.snapshot_refusal,
        "sections": [dict(zip(("kind", "name", "offset", "bytes"), each, strict=True)) for each in seen.sections],
    }


def _figures(seen: _core.Inspection, size: int) -> Iterator[dict[str, Any]]:
    called = {number: name for number, name, _ in seen.functions}
    for what, most, found, function in ((_SIZE, Caps().module_bytes, size, None), *seen.figures):
        yield {
            "what": what,
            "found": found,
            "most": most,
            "share": found / most,
            "function": None if function is None else {"index": function, "name": called.get(function)},
        }


def _by_share(figure: dict[str, Any]) -> float:
    return -float(figure["share"])


# ── the facts as text ────────────────────────────────────────────────────────────────────────────


def _show(console: Console, data: dict[str, Any]) -> None:
    say(console, Text.assemble(plain(data["file"], "bold"), "  ", plain(data["kind"])))
    console.print(facts(_rows(data)))
    if data["module"] is not None:
        console.print(_function_table(data))
        console.print(_figure_table(data["figures"]))
    for problem in data["problems"]:
        say(
            console,
            Text.assemble(
                ("problem: ", "bold red"), plain(f"the file {problem}" if data["module"] is None else problem)
            ),
        )
    say(console, _result(len(data["problems"])))


def _rows(data: dict[str, Any]) -> Iterator[tuple[str, RenderableType]]:
    yield "bytes", plain(f"{data['bytes']:,}")
    if data["sha256"] is not None:
        yield "SHA-256", plain(data["sha256"])
    module = data["module"]
    if module is None:
        return
    yield "made with", names(module["made_with"])
    yield "imports", lines("{module}.{name}: {kind} {type}".format_map(each) for each in module["imports"])
    yield "exports", lines("{name}: {kind} {type}".format_map(each) for each in module["exports"])
    yield "memory", lines(_sizes("pages", *each.values()) for each in module["memories"])
    yield "tables", lines(_sizes("elements", *each.values()) for each in module["tables"])
    yield "globals", plain(f"{module['globals']:,}")
    yield "data", plain("{segments:,} segments, {bytes:,} bytes".format_map(module["data"]))
    yield "elements", plain("{segments:,} segments, {elements:,} elements".format_map(module["elements"]))
    if module["start_function"] is not None:
        yield "start", plain(f"function {module['start_function']} runs first in every instance")
    if module["initialises"]:
        yield "initialisation", plain(_initialisation(module["snapshot_refusal"]))
    yield "sections", lines(map(_section_line, module["sections"]))
    yield "functions", plain("{count:,}, {bytes:,} bytes".format_map(module["functions"]))


def _initialisation(refusal: str | None) -> str:
    if refusal is None:
        return "can run once for all invocations; fuseboard check tells what becomes of it"
    return f"runs in each invocation unless it is cheap, as {refusal}"


def _sizes(unit: str, initial: int, maximum: int | None) -> str:
    return f"{initial:,} {unit}, {'no maximum' if maximum is None else f'at most {maximum:,}'}"


def _section_line(section: dict[str, Any]) -> str:
    name = section["kind"] if section["name"] is None else f"{section['kind']} {section['name']}"
    return f"{name}: {section['bytes']:,} bytes at {section['offset']:,}"


def _function_table(data: dict[str, Any]) -> Table:
    table = Table("function", "name", "bytes", "share", title="largest functions", title_justify="left", box=None)
    total = data["module"]["functions"]["bytes"]
    for function in data["functions"]:
        share = f"{function['bytes'] / total:.1%}" if total else ""
        table.add_row(str(function["index"]), plain(function["name"] or ""), f"{function['bytes']:,}", share)
    return table


def _figure_table(figures: list[dict[str, Any]]) -> Table:
    table = Table(
        "bound", "found", "most", "share", "where", title="bounds, worst first", title_justify="left", box=None
    )
    for figure in figures:
        table.add_row(
            plain(figure["what"], _style(figure)),
            f"{figure['found']:,}",
            f"{figure['most']:,}",
            f"{figure['share']:.0%}{' over' if figure['found'] > figure['most'] else ''}",
            plain(_place(figure["function"])),
        )
    return table


def _style(figure: dict[str, Any]) -> str:
    if figure["found"] > figure["most"]:
        return "bold red"
    return "yellow" if figure["share"] > _NEAR else ""


def _place(function: dict[str, Any] | None) -> str:
    if function is None:
        return ""
    return f"function {function['index']}" + (f" ({function['name']})" if function["name"] else "")


def _result(problems: int) -> Text:
    if problems:
        return plain("1 problem" if problems == 1 else f"{problems} problems", "bold red")
    return plain("no problems", "bold green")
