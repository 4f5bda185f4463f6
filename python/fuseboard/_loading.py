"""From a folder or bytes to a plugin: every check that comes before anything of a guest runs.

Rules:
* Problems are collected, not raised: a load raises the first and notes the others, the command line
  prints them all. What one stage refuses, the next doesn't see: manifest, then grants, then module.
* Nothing that was requested is left out: a capability that isn't granted, or that the host can't serve,
  fails the load.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, TypedDict, Unpack

import msgspec

from fuseboard import _core
from fuseboard._compiler import LOAD_LOGGER, Compiler, Loaded
from fuseboard._errors import BackendError, LoadError, ManifestError, ModuleError, ModuleRefused, UsageError, near_miss
from fuseboard._function_sessions import Functions
from fuseboard._grants import AS_REQUESTED, CAPABILITIES, Grants, uncovered
from fuseboard._hooks import Hook
from fuseboard._hostcalls import HOST_CALLS, BackendKind, function_limit
from fuseboard._limits import LIMITS, Caps, Limit, Limits, ceiling_of, effective, range_problem
from fuseboard._manifest import (
    HookEntry,
    Manifest,
    manifest_path,
    parse_manifest,
    read_manifest,
)
from fuseboard._migrations import MIGRATIONS_FOLDER, Migration, read_migrations
from fuseboard._plugin import LOG_LEVELS, Plugin, Subscriber
from fuseboard._settings import plain_settings, settings_problems
from fuseboard._snapshot import SnapshotState, Wish

_log: Final = logging.getLogger(LOAD_LOGGER)

GrantsOrWord = Grants | Literal["as-requested"] | None


@dataclass(frozen=True, slots=True)
class Policy:
    """What a host allows all plugins.

    Attributes:
        compiler: makes modules for the host's engine.
        hooks: the declared hooks, or `None` where any will do (checking without an application).
        functions: the application's functions, or `None` where any will do.
        served: the kinds of host call that there is a backend for.
        max_concurrency: how many invocations of a plugin run at once unless the operator says otherwise.
        prepare: tells the database of a plugin and its migrations, where it wants to be told.
    """

    compiler: Compiler
    ceilings: Limits
    caps: Caps
    hooks: Mapping[str, Hook] | None
    functions: Functions | None
    served: frozenset[BackendKind]
    max_concurrency: int = 1
    prepare: Callable[[str, tuple[Migration, ...]], None] | None = None


class TermsArguments(TypedDict, total=False):
    """The operator's word for one plugin.

    Attributes:
        grants: what it may do; a request that isn't covered fails the load. `None`, the default, grants
            nothing, `"as-requested"` all that it requests.
        limits: over the manifest's limits, under the host's ceilings.
        settings: merged over the manifest's settings, key by key.
        enabled: whether it is run; `True` by default.
        priority: for all its hooks, over the manifest's.
        max_concurrency: how many of its invocations run at once, over the host's.
    """

    grants: GrantsOrWord
    limits: Limits | None
    settings: Mapping[str, Any] | None
    enabled: bool
    priority: int | None
    max_concurrency: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`TermsArguments`, checked.

    Raises:
        UsageError: one of them can't be used.
    """

    grants: GrantsOrWord = None
    limits: Limits | None = None
    settings: Mapping[str, Any] | None = None
    enabled: bool = True
    priority: int | None = None
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        if self.grants is not None and self.grants != AS_REQUESTED and not isinstance(self.grants, Grants):
            raise UsageError(f"grants={self.grants!r} must be Grants(...), 'as-requested' or None")
        if self.limits is not None and not isinstance(self.limits, Limits):
            raise UsageError(f"limits={self.limits!r} must be Limits(...) or None")
        if self.priority is not None and (not isinstance(self.priority, int) or isinstance(self.priority, bool)):
            raise UsageError(f"priority={self.priority!r} must be a whole number or None")
        if self.max_concurrency is not None and not _is_count(self.max_concurrency):
            raise UsageError(f"max_concurrency={self.max_concurrency!r} must be a whole number from 1, or None")
        if not isinstance(self.enabled, bool):
            raise UsageError(f"enabled={self.enabled!r} must be True or False")
        for where, _, problem in settings_problems({} if self.settings is None else self.settings):
            raise UsageError(f"{where} {problem}")
        if self.settings is not None:  # a reload reads them again, whatever has become of the operator's own
            object.__setattr__(self, "settings", plain_settings(self.settings))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def terms_of(**said: Unpack[TermsArguments]) -> Terms:
    """Return the operator's word, checked.

    Raises:
        UsageError: an argument is unknown or can't be used.
    """
    known = TermsArguments.__annotations__
    for name in said:
        if name not in known:
            raise UsageError(f"unknown argument {name!r}{near_miss(name, known)}; there are {', '.join(known)}")
    return Terms(**said)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is offered as a plugin: a manifest without problems, or the problems, and where it came from.

    Attributes:
        folder: where its files are read, without links: one that is moved meanwhile mixes no two versions.
        migrations: the SQL that makes its tables, in order.
    """

    manifest: Manifest | None
    problems: list[LoadError]
    path: str | None
    wasm: bytes | None = None
    folder: Path | None = None
    migrations: tuple[Migration, ...] = ()


def from_folder(path: Path, ceilings: Limits) -> Candidate:
    """Read a plugin's folder, or its `plugin.toml`."""
    shown = manifest_path(path)
    folder = Path(os.path.realpath(shown.parent))
    manifest, problems = read_manifest(shown, ceilings=ceilings, folder=folder)
    migrations, findings = read_migrations(folder)
    if manifest is not None and migrations and manifest.capabilities.db is None:
        findings = [(MIGRATIONS_FOLDER, f"are there, but the manifest doesn't request db under {CAPABILITIES}")]
    slug = None if manifest is None else manifest.slug
    unreadable = (LoadError(what, slug=slug, path=str(shown.parent / where)) for where, what in findings)
    return Candidate(manifest, [*problems, *unreadable], str(shown), folder=folder, migrations=migrations)


def from_bytes(wasm: bytes | bytearray | memoryview, manifest: Mapping[str, Any], ceilings: Limits) -> Candidate:
    """Take a module and a manifest from memory.

    Raises:
        UsageError: the module is given as something else than bytes.
    """
    if not isinstance(wasm, bytes | bytearray | memoryview):
        raise UsageError(f"wasm must be bytes, not {type(wasm).__name__}; host.load takes a path")
    parsed, problems = parse_manifest(manifest, ceilings=ceilings)
    return Candidate(parsed, list(problems), None, bytes(wasm))


def load(candidate: Candidate, policy: Policy, terms: Terms) -> tuple[Plugin, tuple[Subscriber, ...]]:
    """Return the plugin and its subscriptions.

    Raises:
        LoadError: the first problem; the others are its notes.
        UsageError: `terms` has a limit above the host's ceiling.
    """
    if terms.limits is not None:
        _check_operators_limits(terms.limits, policy.ceilings)
    loaded, problems = examine(candidate, policy, terms)
    if candidate.manifest is None or loaded is None or problems:
        _refuse(problems)
    try:
        installed = _installed(candidate, candidate.manifest, loaded, policy, terms)
    except ModuleRefused as refused:
        raise ModuleError("; ".join(refused.args[0]), slug=candidate.manifest.slug, path=candidate.path) from None
    _prepare(candidate, candidate.manifest, policy)
    _tell(installed[0], loaded)
    return installed


def _tell(plugin: Plugin, loaded: Loaded) -> None:
    """Say what became of the plugin's initialisation, and what it said itself; from then on it says nothing more."""
    names = {"plugin": plugin.slug, "hook": None, "request_id": None, "scope": None}
    for level, text in loaded.logs:
        plugin.logger.log(LOG_LEVELS[level], "%s", text, extra=names)
    if plugin.snapshot is not None:
        is_slow = plugin.snapshot.state is SnapshotState.REFUSED
        _log.log(logging.WARNING if is_slow else logging.INFO, "plugin %s: %s", plugin.slug, plugin.snapshot)


def _prepare(candidate: Candidate, manifest: Manifest, policy: Policy) -> None:
    if policy.prepare is None or manifest.capabilities.db is None:
        return
    try:
        policy.prepare(manifest.slug, candidate.migrations)
    except BackendError as error:
        problem = f"its database can't be prepared: {error.reason}"
        raise LoadError(problem, slug=manifest.slug, path=candidate.path) from error


def _refuse(problems: list[LoadError]) -> NoReturn:
    first, *others = problems
    for other in others:
        first.add_note(f"also: {other}")
    try:
        raise first
    finally:  # a frame that holds the error which holds the frame would keep the module's bytes
        del first, others, problems[:]


def examine(candidate: Candidate, policy: Policy, terms: Terms) -> tuple[Loaded | None, list[LoadError]]:
    """Return the compiled module and every problem with a candidate."""
    manifest = candidate.manifest
    if manifest is None:
        return None, candidate.problems
    problems: list[LoadError] = [*candidate.problems, *_policy_problems(candidate, manifest, policy, terms)]
    try:
        loaded = _compiled(candidate, manifest, policy)
    except ModuleError as error:
        return None, [*problems, error]
    except ModuleRefused as refused:
        path = _module_path(candidate, manifest)
        return None, [*problems, *(ModuleError(each, slug=manifest.slug, path=path) for each in refused.args[0])]
    return loaded, [*problems, *_fit_problems(candidate, manifest, loaded)]


def _check_operators_limits(limits: Limits, ceilings: Limits) -> None:
    for spec in LIMITS:
        value = getattr(limits, spec.key)
        problem = None if value is None else range_problem(spec, value, ceiling_of(spec, ceilings))
        if problem:
            raise UsageError(f"limits.{spec.key} = {value}: {problem}")


# ── the manifest under the host's policy ─────────────────────────────────────────────────────────


def _policy_problems(candidate: Candidate, manifest: Manifest, policy: Policy, terms: Terms) -> Iterator[ManifestError]:
    findings = (
        *_hook_problems(manifest, policy),
        *_grant_problems(manifest, terms),
        *_unserved(manifest, policy),
    )
    for field, value, problem in findings:
        yield ManifestError(field, problem, value=value, slug=manifest.slug, path=candidate.path)


def _hook_problems(manifest: Manifest, policy: Policy) -> Iterator[tuple[str, object, str]]:
    if policy.hooks is None:
        return
    for place, hook in enumerate(manifest.hooks):
        if hook.name not in policy.hooks:
            declared = ", ".join(sorted(policy.hooks)) or "none"
            problem = f"the application declares no such hook{near_miss(hook.name, policy.hooks)}; declared: {declared}"
            yield f"hooks[{place}].name", hook.name, problem


def _grant_problems(manifest: Manifest, terms: Terms) -> Iterator[tuple[str, object, str]]:
    if isinstance(terms.grants, str):
        return
    for missing in uncovered(manifest.capabilities, terms.grants or Grants()):
        yield missing.field, missing.value, missing.problem


def _unserved(manifest: Manifest, policy: Policy) -> Iterator[tuple[str, object, str]]:
    requested: Mapping[BackendKind, object] = requests_of(manifest.capabilities)
    for kind, value in requested.items():
        if kind != "functions" and kind not in policy.served:
            yield f"{CAPABILITIES}.{kind}", value, f"this host has no {kind} backend; pass Backends({kind}=...)"
    if policy.functions is None:
        return
    names = policy.functions.names
    for place, name in enumerate(manifest.capabilities.functions):
        if name not in names:
            problem = f"the application has no such function{near_miss(name, names)}"
            yield f"{CAPABILITIES}.functions[{place}]", name, problem


def requests_of(capabilities: Grants) -> dict[BackendKind, object]:
    """Return the capabilities that are requested at all, by the kind of host call that they open."""
    requested: dict[BackendKind, object] = {
        "http": capabilities.http,
        "db": capabilities.db,
        "kv": capabilities.kv,
        "functions": capabilities.functions,
    }
    return {kind: value for kind, value in requested.items() if value}


# ── the module ───────────────────────────────────────────────────────────────────────────────────


def _compiled(candidate: Candidate, manifest: Manifest, policy: Policy) -> Loaded:
    wasm = candidate.wasm if candidate.wasm is not None else _read_module(candidate, manifest, policy.caps)
    if len(wasm) > policy.caps.module_bytes:
        problem = f"the module has more than {policy.caps.module_bytes} bytes, the most that the host takes"
        raise ModuleError(problem, slug=manifest.slug, path=_module_path(candidate, manifest))
    return policy.compiler.module(wasm, manifest.slug, Wish(manifest.snapshot, manifest.initialize))


def _read_module(candidate: Candidate, manifest: Manifest, caps: Caps) -> bytes:
    path = _module_path(candidate, manifest)
    folder = candidate.folder or Path()
    try:
        resolved = (folder / manifest.module).resolve(strict=True)
        if not resolved.is_relative_to(folder):
            raise ModuleError("the module lies outside of the plugin's folder", slug=manifest.slug, path=path)
        if not resolved.is_file():  # opening a pipe would wait for its writer
            raise ModuleError("the module is no file", slug=manifest.slug, path=path)
        with resolved.open("rb") as opened:
            return opened.read(caps.module_bytes + 1)
    except (OSError, RuntimeError) as error:  # until Python 3.13, a symlink that leads to itself is a RuntimeError
        reason = getattr(error, "strerror", None) or error
        problem = f"the module can't be read: {reason}; build it (fuseboard build), or name it in the manifest's module"
        raise ModuleError(problem, slug=manifest.slug, path=path) from None


def _module_path(candidate: Candidate, manifest: Manifest) -> str | None:
    return None if candidate.path is None else str(Path(candidate.path).parent / manifest.module)


def _fit_problems(candidate: Candidate, manifest: Manifest, loaded: Loaded) -> Iterator[LoadError]:
    module = loaded.module
    requested = requests_of(manifest.capabilities)
    path = _module_path(candidate, manifest)
    for name in module.imports:
        call = HOST_CALLS.get(name)
        if call is not None and call.kind not in requested:
            problem = f"the module imports {name}, but the manifest doesn't request {call.kind} under {CAPABILITIES}"
            yield ModuleError(problem, slug=manifest.slug, path=path)
    named = {f"hooks[{place}].export": hook.export for place, hook in enumerate(manifest.hooks)}
    initialize = _initialize(manifest, loaded)
    if initialize is not None:
        named["initialize"] = initialize
    others = [name for name in module.hook_exports if name not in named.values()]
    for field, export in named.items():
        wrong = module.export_problem(export)
        if wrong is not None:
            advice = f"{near_miss(export, others)} ({field})"
            yield ModuleError(f"the module {wrong}{advice}", slug=manifest.slug, path=path)


def _initialize(manifest: Manifest, loaded: Loaded) -> str | None:
    """Return the manifest's export that is still to run in each invocation."""
    return None if loaded.snapshot is not None and loaded.snapshot.is_taken else manifest.initialize


# ── the plugin ───────────────────────────────────────────────────────────────────────────────────


def _installed(
    candidate: Candidate, manifest: Manifest, loaded: Loaded, policy: Policy, terms: Terms
) -> tuple[Plugin, tuple[Subscriber, ...]]:
    functions = policy.functions.ceilings if policy.functions else {}
    granted = {function_limit(name) for name in manifest.capabilities.functions}
    plugin = Plugin(
        slug=manifest.slug,
        name=manifest.name,
        version=manifest.version,
        path=candidate.path,
        hooks=tuple(hook.name for hook in manifest.hooks),
        grants=manifest.capabilities,
        limits=effective(_merged(manifest.limits, terms.limits), policy.ceilings),
        enabled=terms.enabled,
        max_concurrency=policy.max_concurrency if terms.max_concurrency is None else terms.max_concurrency,
        function_limits={name: most for name, most in functions.items() if name in granted},
        snapshot=loaded.snapshot,
    )
    settings = msgspec.json.encode({**manifest.settings, **(terms.settings or {})})
    hooks = policy.hooks or {}
    return plugin, tuple(
        Subscriber(
            plugin,
            hooks[hook.name],
            _entry(loaded, hook, plugin, settings, policy.caps, _initialize(manifest, loaded)),
            hook.priority if terms.priority is None else terms.priority,
        )
        for hook in manifest.hooks
    )


def _merged(requested: Limits, said: Limits | None) -> Limits:
    keys = [spec.key for spec in LIMITS]
    values = {key: getattr(said, key, None) for key in keys}
    return Limits(**{key: getattr(requested, key) if value is None else value for key, value in values.items()})


def _entry(
    loaded: Loaded, hook: HookEntry, plugin: Plugin, settings: bytes, caps: Caps, initialize: str | None
) -> _core.Entry:
    return _core.Entry(
        loaded.module,
        hook.export,
        settings=settings,
        memory_bytes=plugin.ceilings[Limit.MEMORY][0],
        fuel=plugin.ceilings[Limit.FUEL][0],
        output_bytes=caps.output_bytes,
        request_bytes=caps.request_bytes,
        log_bytes=caps.log_bytes,
        initialize=initialize,
        code_shift=0 if loaded.snapshot is None else loaded.snapshot.code_shift,
    )
