"""The manifest, `plugin.toml`: what a plugin declares and requests, read with every problem named at once.

Rules:
* One table for each table of the file says which keys there are and how each is read.
* A problem names field, value and what is allowed. Problems stand in the file's order, missing keys at the end
  of their table. There is a `Manifest` only where there is no problem.
* Manifests come from strangers: none makes the parser raise, and none keeps it busy for long.
* What a manifest requests is held to the operator's ceilings here, to the operator's grants elsewhere.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from fuseboard._errors import MISSING, ManifestError, near_miss
from fuseboard._grants import GRANT_CHECKS, Grants
from fuseboard._limits import LIMITS, Limits, LimitSpec, ceiling_of, range_problem
from fuseboard._settings import INT64, below, kind_of, plain_settings, settings_problems
from fuseboard._text import DOTTED_NAME

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST_NAME: Final = "plugin.toml"
MANIFEST_VERSION: Final = 1
INITIALIZE: Final = "_initialize"
"""The export that initialises a module where it has it."""
ABI_VERSION: Final = 1
DEFAULT_MODULE: Final = "plugin.wasm"
DEFAULT_PRIORITY: Final = 10
MAX_PRIORITY: Final = 1000
MAX_MANIFEST_BYTES: Final = 1 << 20
MAX_PROBLEMS: Final = 100
MAX_KEY_PARTS: Final = 32

SLUG: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
SLUG_FORM: Final = "a lower-case letter, then at most 62 of a-z, 0-9, '-'"


@dataclass(frozen=True, slots=True)
class HookEntry:
    """One subscription of a plugin.

    Attributes:
        name: the hook.
        export: the module's function that serves it.
        priority: lower runs first.
    """

    name: str
    export: str
    priority: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A plugin's declaration, free of problems.

    Attributes:
        slug: the plugin's name in a host.
        name: its name for people.
        module: the path of its module below the manifest's folder, with `/`.
        abi: the version of the guest ABI that the module is built for.
        initialize: an export that initialises the module, after `_initialize`, or `None`.
        snapshot: whether the module may be initialised once for all invocations.
        limits: what it requests; every value lies under the operator's ceilings.
        capabilities: what it requests; not yet held against the operator's grants.
        settings: plain JSON values, the manifest's own copy.
    """

    slug: str
    name: str
    version: str
    module: str
    abi: int
    initialize: str | None
    snapshot: bool
    hooks: tuple[HookEntry, ...]
    limits: Limits
    capabilities: Grants
    settings: dict[str, Any]


_TABLE_CEILINGS: Final = Limits()


def manifest_path(path: Path) -> Path:
    """Return the manifest's path for a plugin's folder or its `plugin.toml`."""
    return path if path.name == MANIFEST_NAME else path / MANIFEST_NAME


def read_manifest(
    path: Path, *, ceilings: Limits = _TABLE_CEILINGS, folder: Path | None = None
) -> tuple[Manifest | None, list[ManifestError]]:
    """Return the manifest of a plugin's folder, or at the path of its `plugin.toml`, or every problem with it.

    It is read in `folder`, where that is given, and called by its path all the same.
    """
    path = manifest_path(path)
    try:
        data = _toml(_content(path if folder is None else folder / MANIFEST_NAME))
    except (OSError, ValueError, RecursionError) as error:
        return None, [ManifestError(MANIFEST_NAME, _file_problem(error), path=str(path))]
    return parse_manifest(data, path=str(path), ceilings=ceilings)


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError
    with path.open("rb") as file:
        content = file.read(MAX_MANIFEST_BYTES + 1)
    if len(content) > MAX_MANIFEST_BYTES:
        raise ValueError(f"is larger than {MAX_MANIFEST_BYTES} bytes, the most that a manifest may have")
    return content


_KEY_PART: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*"""
# tomllib takes quadratic time for a dotted key: minutes for one that fills a file.
_LONG_KEY: Final = re.compile(rf"(?:^|[{{,\[])[ \t]*(?:{_KEY_PART}\.[ \t]*){{{MAX_KEY_PARTS}}}", re.MULTILINE)


def _toml(content: bytes) -> dict[str, Any]:
    text = content.decode("utf-8-sig")
    if long_key := _LONG_KEY.search(text):
        line = text.count("\n", 0, long_key.start()) + 1
        raise ValueError(f"has a key of more than {MAX_KEY_PARTS} dotted parts (at line {line})")
    return tomllib.loads(text)


def _file_problem(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such file: a plugin is a folder with a plugin.toml"
        case OSError():
            return f"can't be read: {error.strerror or error}"
        case UnicodeDecodeError():
            line = error.object.count(b"\n", 0, error.start) + 1
            return f"isn't UTF-8 text (at line {line})"
        case tomllib.TOMLDecodeError():
            return f"isn't TOML: {error}"
        case RecursionError():
            return "is nested too deeply"
        case _:
            return str(error)


def parse_manifest(
    data: Mapping[str, object],
    *,
    path: str | None = None,
    ceilings: Limits = _TABLE_CEILINGS,
) -> tuple[Manifest | None, list[ManifestError]]:
    """Return the manifest that the data stands for, or every problem with it (the first `MAX_PROBLEMS`).

    Never raises for what the data holds.
    """
    slug = data.get("slug") if isinstance(data, Mapping) else None
    report = _Report(slug if isinstance(slug, str) and SLUG.fullmatch(slug) else None, path, ceilings)
    values = _read_table(_TOP, report, "", data)
    if not report.problems:
        _check_exports(report, values)
    return (None, report.named()) if report.problems else (_manifest(values), [])


def _check_exports(report: _Report, values: dict[str, Any]) -> None:
    """Report each hook whose export is run before hooks are: a snapshot would leave nothing to call."""
    for index, hook in enumerate(values["hooks"]):
        if hook.export in (INITIALIZE, values.get("initialize")):
            problem = "initialises the module, before any hook is called: name another function"
            report.add(f"hooks[{index}].export", problem, hook.export)


def _manifest(values: dict[str, Any]) -> Manifest:
    server = values.get("server", {})
    capabilities = server.pop("capabilities", {})
    return Manifest(
        slug=values["slug"],
        name=values.get("name", values["slug"]),
        version=values["version"],
        module=values.get("module", DEFAULT_MODULE),
        abi=values.get("abi", ABI_VERSION),
        initialize=values.get("initialize"),
        snapshot=values.get("snapshot", True),
        hooks=tuple(values["hooks"]),
        limits=Limits(**server),
        capabilities=Grants(**capabilities),
        settings=values.get("settings", {}),
    )


@dataclass(frozen=True, slots=True)
class _Report:
    slug: str | None
    path: str | None
    ceilings: Limits
    problems: list[ManifestError] = field(default_factory=list)

    def is_full(self) -> bool:
        return len(self.problems) >= MAX_PROBLEMS

    def add(self, field: str, problem: str, value: object = MISSING) -> None:
        if not self.is_full():
            shown = value if _is_short_to_show(value) else MISSING
            self.problems.append(ManifestError(field, problem, value=shown, slug=self.slug, path=self.path))

    def named(self) -> list[ManifestError]:
        rest = f"only the first {MAX_PROBLEMS} problems are named; there may be more"
        more = [ManifestError(MANIFEST_NAME, rest, slug=self.slug, path=self.path)]
        return self.problems + (more if self.is_full() else [])


def _is_short_to_show(value: object) -> bool:
    """Whether `repr` can neither fail nor take long, as it can for containers, huge numbers and foreign objects."""
    if isinstance(value, int):
        return -INT64 <= value < INT64
    return isinstance(value, str | float | date | time | None)


_Reader = Callable[[_Report, str, object], Any]
"""Reports what is wrong with the value of a field; returns the value that the manifest takes."""


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of the file: where it stands, how each key is read, and an example of each required key."""

    place: str
    readers: Mapping[str, _Reader]
    required: Mapping[str, str] = field(default_factory=dict)


def _read_table(table: _Table, report: _Report, field: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        report.add(field or MANIFEST_NAME, f"must be a table, not {kind_of(value)}", value)
        return {}
    values = {}
    for key, item in value.items():
        if report.is_full():
            break
        if key in table.readers:
            values[key] = table.readers[key](report, below(field, key), item)
        else:
            _report_unknown(table, report, field, key)
    for key, example in table.required.items():
        if key not in value:
            report.add(below(field, key), f"is missing: write e.g. {example}")
    return values


def _report_unknown(table: _Table, report: _Report, field: str, key: object) -> None:
    if not isinstance(key, str):
        report.add(field or MANIFEST_NAME, f"has a key that is {kind_of(key)}; keys must be text")
        return
    elsewhere = next((f"; it belongs {other.place}" for other in _TABLES if key in other.readers), "")
    advice = elsewhere or near_miss(key, table.readers) or f"; known here: {', '.join(table.readers)}"
    report.add(below(field, key), f"unknown key{advice}")


def _read_hooks(report: _Report, field: str, value: object) -> list[HookEntry]:
    if not isinstance(value, list | tuple) or not value:
        report.add(field, "must be at least one [[hooks]] table with a name", value)
        return []
    seen: dict[str, HookEntry] = {}
    for index, item in enumerate(value):
        entry = _hook_entry(_read_table(_HOOK, report, f"{field}[{index}]", item))
        if entry and seen.setdefault(entry.name, entry) is not entry:
            report.add(f"{field}[{index}].name", "is subscribed to above: one entry for each hook", entry.name)
    return list(seen.values())


def _hook_entry(values: dict[str, Any]) -> HookEntry | None:
    name = values.get("name")
    if not isinstance(name, str):
        return None
    export = values.get("export", re.sub(r"[.-]", "_", name))
    return HookEntry(name, export, values.get("priority", DEFAULT_PRIORITY))


def _read_limit(spec: LimitSpec, report: _Report, field: str, value: object) -> object:
    if problem := range_problem(spec, value, ceiling_of(spec, report.ceilings)):
        report.add(field, problem, value)
    return value


def _read_capability(name: str, report: _Report, field: str, value: object) -> object:
    for where, item, problem in GRANT_CHECKS[name](value):
        report.add(f"{field}{where}", problem, item)
    return value


def _read_settings(report: _Report, field: str, value: object) -> dict[str, Any]:
    problems = list(islice(settings_problems(value, field), MAX_PROBLEMS))
    for inner, item, problem in problems:
        report.add(inner, problem, item)
    return plain_settings(value) if isinstance(value, Mapping) and not problems else {}


def _checked(problem_of: Callable[[object], str | None]) -> _Reader:
    def read(report: _Report, field: str, value: object) -> object:
        if problem := problem_of(value):
            report.add(field, problem, value)
        return value

    return read


def _named(pattern: re.Pattern[str], allowed: str) -> _Reader:
    return _checked(lambda value: None if isinstance(value, str) and pattern.fullmatch(value) else f"must be {allowed}")


def _text(most: int) -> _Reader:
    return _checked(
        lambda value: None if _is_printable(value, most) else f"must be text of 1 to {most} printable characters"
    )


def _only(number: int, advice: str) -> _Reader:
    return _checked(lambda value: None if _is_whole(value) and value == number else advice)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_printable(value: object, most: int) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= most and value.isprintable() and not value.isspace() and value != ""


def _module_problem(value: object) -> str | None:
    if _is_printable(value, 256) and _is_inside(value):
        return None
    return "must be a .wasm file's relative path inside the plugin's folder, with / and without '.' and '..'"


def _is_inside(path: str) -> bool:
    # Windows drops dots and spaces at the end of a name, so that ".. " is "..".
    is_plain = all(part and part[-1] not in ". " for part in path.split("/"))
    return is_plain and path.endswith(".wasm") and not set(path) & set("\\:")


def _priority_problem(value: object) -> str | None:
    if _is_whole(value) and -MAX_PRIORITY <= value <= MAX_PRIORITY:
        return None
    return f"must be a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}"


_CAPABILITIES: Final = _Table(
    "under [server.capabilities]",
    {name: partial(_read_capability, name) for name in GRANT_CHECKS},
)
_SERVER: Final = _Table(
    "under [server]",
    {spec.key: partial(_read_limit, spec) for spec in LIMITS} | {"capabilities": partial(_read_table, _CAPABILITIES)},
)
_HOOK: Final = _Table(
    "under [[hooks]]",
    {
        "name": _named(DOTTED_NAME, "a lower-case letter, then at most 127 of a-z, 0-9, '_', '.', '-'"),
        "export": _text(256),
        "priority": _checked(_priority_problem),
    },
    required={"name": 'name = "post.title"'},
)
_TOP: Final = _Table(
    "at the file's top level, before the first [table]",
    {
        "manifest": _only(MANIFEST_VERSION, f"this Fuseboard reads manifest version {MANIFEST_VERSION}"),
        "slug": _named(SLUG, SLUG_FORM),
        "name": _text(200),
        "version": _text(64),
        "module": _checked(_module_problem),
        "initialize": _text(256),
        "snapshot": _checked(lambda value: None if isinstance(value, bool) else "must be true or false"),
        "abi": _only(ABI_VERSION, f"this Fuseboard offers guest ABI {ABI_VERSION}: build the module for it"),
        "hooks": _read_hooks,
        "server": partial(_read_table, _SERVER),
        "settings": _read_settings,
    },
    required={
        "manifest": f"manifest = {MANIFEST_VERSION}",
        "slug": 'slug = "title-case"',
        "version": 'version = "1.0.0"',
        "hooks": "a [[hooks]] table with a name",
    },
)
_TABLES: Final = (_TOP, _HOOK, _SERVER, _CAPABILITIES)
