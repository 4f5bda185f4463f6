"""Run a scenario through a whole host: backends, functions, limits, grants, log, commit."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
from tools.compiling import CACHE

import fuseboard as fb
from fuseboard.backends import HttpRequest

from .application import SLUG, Application, Stage
from .checks import Seen, problems
from .notation import data, difference, read, shown, write
from .scenario import SUITE, Scenario, Sent, Trap

if TYPE_CHECKING:
    from drivers import MakeHost

PREFIX: Final = "conformance."
HOOKS: Final[tuple[fb.Filter[Any] | fb.Action[Any], ...]] = (
    fb.Filter(f"{PREFIX}run", Any),
    fb.Filter(f"{PREFIX}typed", Any),
    fb.Filter(f"{PREFIX}echo", Any),
    fb.Filter(f"{PREFIX}echo_bytes", bytes),
    fb.Filter(f"{PREFIX}empty", bytes),
    fb.Filter(f"{PREFIX}empty_json", str),
    fb.Filter(f"{PREFIX}keep", Any),
    fb.Filter(f"{PREFIX}failing", str),
    fb.Action(f"{PREFIX}note", Any),
)
CEILINGS: Final = fb.Limits(fuel_per_invocation=1 << 60)
ARTIFACTS: Final = fb.ArtifactCache(folder=CACHE / "artifacts")
"""Beside the guests: Go's takes seconds to compile, and is the same until its sources change."""

NEVER_OPENS: Final = fb.BreakerPolicy(min_traps=1_000_000)
_HOSTS_HEADERS: Final = {"x-request-id"}


# ── running ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Loaded:
    """A host with a guest in it."""

    host: fb.Host
    stage: Stage

    def invoke(self, scenario: Scenario, application: Application) -> fb.Outcome:
        """Invoke the guest as the scenario has it."""
        self.stage.application = application
        return self.host.invoke(
            SLUG, f"{PREFIX}{scenario.hook}", value(scenario), context=read(scenario.context),
            scope=scenario.scope, request_id=scenario.request_id,
        )  # fmt: skip


class Hosts:
    """Hosts of one kind, with keys over the manifest's: one for a guest, and for a scenario with limits its own."""

    def __init__(self, make_host: MakeHost, manifest_keys: dict[str, Any]) -> None:
        self._make_host = make_host
        self._keys = manifest_keys
        self._shared: dict[bytes, Loaded] = {}

    @contextmanager
    def loaded(self, scenario: Scenario, wasm: bytes) -> Iterator[Loaded]:
        """Give a host in which the guest is loaded."""
        if scenario.is_as_usual:
            if wasm not in self._shared:
                self._shared[wasm] = self._load(scenario, wasm)
            yield self._shared[wasm]
        else:
            own = self._load(scenario, wasm)
            try:
                yield own
            finally:
                own.host.close()

    def close(self) -> None:
        while self._shared:
            self._shared.popitem()[1].host.close()

    def _load(self, scenario: Scenario, wasm: bytes) -> Loaded:
        stage = Stage()
        host = self._make_host(
            hooks=list(HOOKS), functions=stage.functions(), backends=stage.backends(), ceilings=CEILINGS,
            caps=fb.Caps(**scenario.caps), breaker=NEVER_OPENS, max_concurrent_invocations=2, cache=ARTIFACTS,
        )  # fmt: skip
        settings = read(scenario.settings)
        host.load_bytes(wasm, manifest(scenario, self._keys), grants="as-requested", settings=settings)
        return Loaded(host, stage)


def run(scenario: Scenario, wasm: bytes, hosts: Hosts) -> list[str]:
    """Run a scenario on a guest and return what isn't as the scenario has it."""
    application = Application(scenario)
    try:
        with hosts.loaded(scenario, wasm) as loaded, _logged() as logs:
            outcome = loaded.invoke(scenario, application)
        return [*problems(scenario, _seen(scenario, outcome, logs)), *_traces(scenario, application)]
    finally:
        application.db.close()


def manifest(scenario: Scenario, keys: dict[str, Any]) -> dict[str, Any]:
    """Return the suite's manifest with a scenario's limits and capabilities, and other keys, in it."""
    found = _manifest()
    server = found["server"] | scenario.limits
    server["capabilities"] = server["capabilities"] | scenario.capabilities
    return found | {"server": server} | keys


@cache
def _manifest() -> dict[str, Any]:
    return tomllib.loads((SUITE / "plugin.toml").read_text(encoding="utf-8"))


def value(scenario: Scenario) -> Any:
    """Return the hook's value as an application has it."""
    if scenario.raw is not None:
        return data(scenario.raw)
    return {"steps": read(scenario.steps)} if scenario.steps is not None else read(scenario.value or "")


@contextmanager
def _logged() -> Iterator[list[tuple[str, str]]]:
    """Collect what the plugin logs, at any level."""
    logs: list[tuple[str, str]] = []
    logger, handler = logging.getLogger(f"fuseboard.plugin.{SLUG}"), _Collecting(logs)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield logs
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Collecting(logging.Handler):
    def __init__(self, logs: list[tuple[str, str]]) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        self._logs.append((record.levelname.lower(), record.getMessage()))


# ── what came of it ──────────────────────────────────────────────────────────────────────────────


def _seen(scenario: Scenario, outcome: fb.Outcome, logs: list[tuple[str, str]]) -> Seen:
    match outcome:
        case fb.Trapped(trap=trap):
            found = Trap(trap.cause, trap.limit, trap.detail, trap.host_call)
            return Seen(None, found, logs)
        case fb.Completed(value=given, changed=changed):
            is_unchanged = scenario.unchanged and not changed
            return Seen(None if is_unchanged else given if isinstance(given, bytes) else write(given), None, logs)
        case fb.Skipped():
            return Seen(None, Trap("skipped", None, str(outcome)), logs)


def _traces(scenario: Scenario, application: Application) -> Iterator[str]:
    """Say what a scenario's backends and functions saw or hold otherwise than they must."""
    if scenario.called is not None:
        yield from _told(difference(read(scenario.called), application.called, "of the functions' calls, it"))
    if scenario.asked is not None and scenario.asked != dict(application.asked):
        yield f"the backends were asked {dict(application.asked)}, not {scenario.asked}"
    if scenario.requests is not None:
        yield from _told(_request_problem(scenario.requests, [*map(_sent, application.http.requests)]))
    if scenario.kv_after is not None:
        expected = {key.encode(): data(held) for key, held in scenario.kv_after.items()}
        if (held := application.kv.items(SLUG, scope=scenario.scope)) != expected:
            yield f"the key-value store holds {shown(held)}, not {shown(expected)}"
    if scenario.rows_after is not None:
        rows = [list(row) for row in application.db.rows(SLUG, scenario.rows_after.sql, scope=scenario.scope)]
        yield from _told(difference(read(scenario.rows_after.rows), rows, "of the rows, it"))


def _told(problem: str | None) -> list[str]:
    return [problem] if problem else []


def _sent(request: HttpRequest) -> Sent:
    headers = [header for header in request.headers if header[0].lower() not in _HOSTS_HEADERS]
    return Sent(request.method, str(request.url), headers, request.body.decode(errors="replace"))


def _request_problem(expected: list[Sent], found: list[Sent]) -> str | None:
    wanted = [msgspec.structs.replace(one, body=data(one.body).decode()) for one in expected]
    return None if wanted == found else f"sent was {shown(found)}, not {shown(wanted)}"
