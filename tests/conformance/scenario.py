"""Scenarios: what a conformance guest is given, and what must come of it. Read from guest/conformance/scenarios.

A scenario with `calls` is scripted: the core alone runs it, and each host call is checked and answered as it says
there. Any other is hosted: a whole host runs it, with backends in memory.

With `cases`, one scenario stands for several: in each of them, `<key>` in a string is the case's value of that key, and
a string that is nothing else becomes it. `cases` names a list under `[cases]` of the same file, or is one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from .notation import Written

SUITE: Final = Path(__file__).resolve().parent.parent.parent / "guest" / "conformance"
_PLACE: Final = re.compile(r"<([a-z_]+)>")


class Exchange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"import_": "import"}):
    """A host call as the guest must make it, and how it is answered.

    Attributes:
        import_: the import's name.
        parts: its byte arguments; where one is JSON, its value counts and not how it is written.
        number: its number argument.
        code, head, body: the answer; where the code isn't negative, the body's length is what the guest gets, and for
            `meter_remaining` the code.
    """

    import_: str
    parts: list[Written] = []
    number: int = 0
    code: int = 0
    head: Written = "{}"
    body: Written = ""


class HttpAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the HTTP backend answers."""

    status: int = 200
    headers: list[tuple[str, str]] = []
    body: Written = ""


class Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request that must have reached the HTTP backend; of its headers, those that the host adds aren't told."""

    method: str
    url: str
    headers: list[tuple[str, str]] = []
    body: Written = ""


class Trap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How it must trap; `detail` is a part of the trap's."""

    cause: str
    limit: str | None = None
    detail: str = ""
    host_call: str | None = None


class Rows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the database must hold in the end: a statement of the application's own, and its rows as JSON."""

    sql: str
    rows: str


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One scenario. JSON is text, bytes are in the notation; all but `name` can be left out.

    Attributes:
        hook: the hook of the manifest, without its `conformance.`.
        needs: what not all guests have: `wasi`.
        steps: JSON, the steps for `run`; or `value`, JSON for another hook; or `raw`, bytes as they are.
        limits: keys of `[server]` over the manifest's.
        capabilities: keys of `[server.capabilities]` over the manifest's.
        caps: the host's, where they aren't what they are by default.
        kv, sql: what the stores hold before: values by key, and statements.
        http: what the HTTP backend answers, one after the other; then status 404.
        fails: backends, by kind, that answer every call with this code, `reason` as theirs.
        slow_ms: backends, by kind, that take so long.
        commit_fails: whether nothing can be committed.
        results: JSON, the results of `steps`; or `output`, JSON, or `output_bytes`, or `unchanged`, or `trap`.
        or_fails: whether a guest may end by `fail` instead.
        logs: JSON, level and text of each record; unless said, none where it doesn't trap.
        requests: what must have been sent.
        called: JSON, name and arguments of each call that reached a function.
        asked: how many calls reached each kind of backend; unless said, that isn't looked at.
        kv_after, rows_after: what the stores must hold.
    """

    name: str
    hook: str = "run"
    needs: list[str] = []
    steps: str | None = None
    value: str | None = None
    raw: Written | None = None
    context: str = "{}"
    settings: str = "{}"
    scope: str | None = None
    request_id: str = "0123456789abcdef0123456789abcdef"
    limits: dict[str, int] = {}
    capabilities: dict[str, Any] = {}
    caps: dict[str, int] = {}
    kv: dict[str, Written] = {}
    sql: list[str] = []
    http: list[HttpAnswer] = []
    fails: dict[str, str] = {}
    slow_ms: dict[str, int] = {}
    commit_fails: bool = False
    calls: list[Exchange] | None = None

    results: str | None = None
    output: str | None = None
    output_bytes: Written | None = None
    unchanged: bool = False
    trap: Trap | None = None
    or_fails: bool = False
    logs: str | None = None
    requests: list[Sent] | None = None
    called: str | None = None
    asked: dict[str, int] | None = None
    kv_after: dict[str, Written] | None = None
    rows_after: Rows | None = None

    def __post_init__(self) -> None:
        inputs = (self.steps, self.value, self.raw)
        ends = (self.results, self.output, self.output_bytes, self.trap, self.unchanged or None)
        if sum(each is not None for each in inputs) != 1:
            raise ValueError(f"scenario {self.name!r} needs one of steps, value and raw")
        if sum(each is not None for each in ends) != 1:
            raise ValueError(f"scenario {self.name!r} needs one of results, output, output_bytes, unchanged and trap")

    @property
    def is_as_usual(self) -> bool:
        """Whether the host and the manifest are as they are for most."""
        return not (self.limits or self.capabilities or self.caps) and self.settings == "{}"

    @property
    def is_scripted(self) -> bool:
        return self.calls is not None


def read_all() -> tuple[Scenario, ...]:
    """Return all scenarios, in the order of files and within them.

    Raises:
        ValueError: one can't be read, or two have one name.
    """
    scenarios = [scenario for path in sorted((SUITE / "scenarios").glob("*.toml")) for scenario in _of_file(path)]
    names = [scenario.name for scenario in scenarios]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two scenarios have one name: {sorted(twice)}")
    return tuple(scenarios)


def _of_file(path: Path) -> Iterator[Scenario]:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    lists = content.get("cases", {})
    for written in content["scenario"]:
        cases = written.pop("cases", [{}])
        for case in lists[cases] if isinstance(cases, str) else cases:
            try:
                yield msgspec.convert(_filled(written, case), Scenario)
            except (msgspec.ValidationError, KeyError) as error:
                raise ValueError(f"{path.name}, scenario {written.get('name')!r}: {error}") from error


def _filled(written: Any, case: dict[str, Any]) -> Any:
    match written:
        case str():
            whole = _PLACE.fullmatch(written)
            if whole and whole[1] in case:
                return case[whole[1]]
            return _PLACE.sub(lambda place: str(case.get(place[1], place[0])), written)
        case list():
            return [_filled(item, case) for item in written]
        case dict():
            return {key: _filled(item, case) for key, item in written.items()}
    return written
