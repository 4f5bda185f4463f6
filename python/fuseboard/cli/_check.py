"""`fuseboard check`: what a plugin's folder holds, and every problem with it at once.

Rules:
* Nothing of the plugin runs here, and nothing but its initialisation in the process that compiles it.
* The loader finds the problems; here they are only shown.
* JSON and text show the same facts, gathered once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import click
from rich.console import Console, RenderableType
from rich.text import Text

from fuseboard import _core
from fuseboard._compiler import Compiler, Loaded
from fuseboard._errors import LoadError, ManifestError, UsageError
from fuseboard._grants import AS_REQUESTED
from fuseboard._hostcalls import HOST_CALLS, BackendKind
from fuseboard._limits import LIMITS, Caps, Limits, effective, memory_ceiling_bytes
from fuseboard._loading import Policy, Terms, examine, from_folder, requests_of
from fuseboard._manifest import Manifest
from fuseboard._snapshot import Snapshot
from fuseboard._toolchains import TOOLCHAINS, languages_in
from fuseboard.cli._application import host_at
from fuseboard.cli._log import shown_loads
from fuseboard.cli._terminal import (
    CannotRun,
    facts,
    host_option,
    json_option,
    lines,
    names,
    output,
    plain,
    plugin_argument,
    print_json,
    say,
)

_HOST_HELP: Final = (
    "The application's Host or AsyncHost, or a callable that returns one: hooks, functions, backends and ceilings "
    "are held to it. Without it any hook and function will do, under the default ceilings."
)


@click.command()
@plugin_argument
@host_option(_HOST_HELP)
@json_option
@click.pass_context
def check(context: click.Context, folder: Path, host: str | None, as_json: bool) -> None:  # noqa: FBT001  a flag
    """Name every problem of the plugin in DIR, a folder with a plugin.toml, and say what the plugin is.

    Exits with 0 where there is no problem, 1 where there are, 2 for wrong usage. Nothing of the plugin runs but its
    initialisation, in the process that compiles it.
    """
    with shown_loads():
        checked = _checked(folder, _any_application() if host is None else host_at(host)._registry.policy())
    if as_json:
        print_json(_data(checked))
    else:
        _show(output(), checked)
    context.exit(_exit_code(checked))


def shown_problems(folder: Path) -> int:
    """Show what the command shows of a plugin's folder for any application, and return its exit code."""
    with shown_loads():
        checked = _checked(folder, _any_application())
    _show(output(), checked)
    return _exit_code(checked)


def _exit_code(checked: _Checked) -> int:
    return 1 if checked.problems else 0


@dataclass(frozen=True, slots=True)
class _Checked:
    """A plugin's folder, looked at; `manifest` and `loaded` only as far as they could be read."""

    path: Path
    ceilings: Limits
    manifest: Manifest | None
    loaded: Loaded | None
    problems: list[LoadError]


def _checked(folder: Path, policy: Policy) -> _Checked:
    candidate = from_folder(folder, policy.ceilings)
    try:
        loaded, problems = examine(candidate, policy, Terms(grants=AS_REQUESTED))
    except UsageError as error:
        raise CannotRun(str(error)) from None
    return _Checked(Path(candidate.path or folder), policy.ceilings, candidate.manifest, loaded, problems)


def _any_application() -> Policy:
    limits = Limits()
    compiler = Compiler(_core.Engine(memory_ceiling_bytes(limits), 1))
    return Policy(compiler, limits, Caps(), hooks=None, functions=None, served=frozenset(get_args(BackendKind)))


# ── the facts ────────────────────────────────────────────────────────────────────────────────────


def _data(checked: _Checked) -> dict[str, Any]:
    manifest, module = checked.manifest, None if checked.loaded is None else checked.loaded.module
    return {
        "path": str(checked.path),
        "ok": not checked.problems,
        "problems": [_problem_data(problem) for problem in checked.problems],
        "plugin": None if manifest is None else _manifest_data(manifest, checked.ceilings),
        "module": None if manifest is None or module is None else _module_data(checked.path, manifest, module),
        "snapshot": None if checked.loaded is None else _snapshot_data(checked.loaded.snapshot),
        "advice": [] if manifest is None or module is None else list(_advice(checked.path.parent, manifest, module)),
    }


def _problem_data(problem: LoadError) -> dict[str, Any]:
    field = problem.field if isinstance(problem, ManifestError) else None
    return {"text": str(problem), "path": problem.path, "field": field}


def _manifest_data(manifest: Manifest, ceilings: Limits) -> dict[str, Any]:
    return {
        "slug": manifest.slug,
        "name": manifest.name,
        "version": manifest.version,
        "abi": manifest.abi,
        "hooks": [{"name": each.name, "export": each.export, "priority": each.priority} for each in manifest.hooks],
        "limits": _limits_data(manifest.limits, ceilings),
        "capabilities": requests_of(manifest.capabilities),
    }


def _limits_data(requested: Limits, ceilings: Limits) -> dict[str, Any]:
    """Return what the plugin gets of each limit, in the key's unit, and whether it asked for that."""
    values = zip(LIMITS, effective(requested, ceilings), strict=True)
    return {
        spec.key: {"value": value // spec.scale, "requested": getattr(requested, spec.key) is not None}
        for spec, value in values
    }


def _module_data(path: Path, manifest: Manifest, module: _core.Module) -> dict[str, Any]:
    served = {hook.export for hook in manifest.hooks}
    return {
        "file": manifest.module,
        "bytes": (path.parent / manifest.module).stat().st_size,
        "imports": list(dict.fromkeys(module.imports)),
        "other_exports": [name for name in module.hook_exports if name not in {*served, manifest.initialize}],
    }


def _snapshot_data(snapshot: Snapshot | None) -> dict[str, Any] | None:
    if snapshot is None:
        return None
    facts = {name: getattr(snapshot, name) for name in ("state", "fuel", "frozen_bytes", "refusal", "reason")}
    return {**facts, "text": str(snapshot)}


def _advice(folder: Path, manifest: Manifest, module: _core.Module) -> Iterator[str]:
    used = {HOST_CALLS[name].kind for name in module.imports if name in HOST_CALLS}
    for kind in requests_of(manifest.capabilities):
        if kind not in used:
            yield f"the manifest requests {kind}, but the module imports nothing that uses it: request less"
    missing = {hook.export for hook in manifest.hooks} - set(module.hook_exports)
    for language in languages_in(folder) if missing else ():
        toolchain = TOOLCHAINS[language]
        yield f"in {toolchain.title} a hook is exported by {toolchain.exporting.format(export=min(missing))}"


# ── the facts as text ────────────────────────────────────────────────────────────────────────────


def _show(console: Console, checked: _Checked) -> None:
    data = _data(checked)
    if data["plugin"] is not None:
        say(console, _title(data["plugin"]))
        console.print(facts(_rows(data)))
    for problem in data["problems"]:
        say(console, Text.assemble(("problem: ", "bold red"), plain(problem["text"])))
    say(console, _result(len(data["problems"])))


def _title(plugin: dict[str, Any]) -> Text:
    return Text.assemble(plain(f"{plugin['slug']} {plugin['version']}", "bold"), "  ", plain(plugin["name"]))


def _rows(data: dict[str, Any]) -> Iterator[tuple[str, RenderableType]]:
    plugin, module = data["plugin"], data["module"]
    yield "hooks", lines("{name} → {export} (priority {priority})".format_map(hook) for hook in plugin["hooks"])
    yield "limits", lines(_limit_line(key, limit) for key, limit in plugin["limits"].items())
    yield "capabilities", lines(_capability_line(*capability) for capability in plugin["capabilities"].items())
    if module is not None:
        yield "module", plain(f"{module['file']}, {module['bytes']:,} bytes")
        yield "imports", names(module["imports"])
        yield "other exports", names(module["other_exports"])
    if data["snapshot"] is not None:
        yield "initialisation", plain(data["snapshot"]["text"])
    if data["advice"]:
        yield "advice", lines(data["advice"])


def _limit_line(key: str, limit: dict[str, Any]) -> str:
    return f"{key} = {limit['value']:,}{'' if limit['requested'] else ' (default)'}"


def _capability_line(kind: str, value: object) -> str:
    shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
    return kind if value is True else f"{kind}: {shown}"


def _result(problems: int) -> Text:
    if problems:
        return plain("1 problem" if problems == 1 else f"{problems} problems", "bold red")
    return plain("no problems", "bold green")
