"""Grants: the powers that a manifest requests and the operator allows, in one vocabulary.

Rules:
* What was requested but not granted fails the load, named; nothing is cut silently.
* At run time a denial is for a target outside the granted set: an origin, or a function's name.
* `GRANT_CHECKS` is the one place that says what a capability's value may be; `Grants` and the manifest parser
  both read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from fuseboard._errors import UsageError
from fuseboard._text import DOTTED_NAME
from fuseboard._urls import OriginPattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fuseboard._text import DOTTED_NAME
from fuseboard._urls import Origin

AS_REQUESTED: Final = "as-requested"
"""The operator's word that all that a manifest requests is granted."""

CAPABILITIES: Final = "server.capabilities"

_DB_LEVELS: Final = {None: 0, "read": 1, "write": 2}

Finding = tuple[str, object, str]
"""Where in a capability's value (`""` or `"[1]"`), the value there, and one sentence on what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """Powers of a plugin: requested in its manifest, or allowed by the operator. None by default.

    Attributes:
        http: origins such as `https://api.example.com`, or `https://*.example.org:8443` for all hosts below one.
        db: `"read"`, `"write"` (which includes reading), or `None`.
        kv: whether the plugin may use its key-value store.
        functions: names of the application's functions that the plugin may call.

    Raises:
        UsageError: a value isn't one of these; the sentence names field, value and what is allowed.
    """

    http: Sequence[str] = ()
    db: Literal["read", "write"] | None = None
    kv: bool = False
    functions: Sequence[str] = ()
    _origins: tuple[OriginPattern, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, check in GRANT_CHECKS.items():
            for where, value, problem in check(getattr(self, name)):
                raise UsageError(f"Grants({name}{where}={value!r}): {problem}")
        object.__setattr__(self, "http", tuple(self.http))
        object.__setattr__(self, "functions", tuple(self.functions))
        object.__setattr__(self, "_origins", tuple(map(OriginPattern.parse, self.http)))

    def allows_origin(self, origin: Origin) -> bool:
        """Return whether HTTP requests to an origin are granted."""
        return any(pattern.matches(origin) for pattern in self._origins)

    def covers_origins(self, pattern: OriginPattern) -> bool:
        """Return whether one of the granted patterns covers all origins of another pattern."""
        return any(granted.covers(pattern) for granted in self._origins)


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A power that is requested but not granted.

    Attributes:
        field: its dotted path in the manifest, e.g. `server.capabilities.http[1]`.
        value: what the manifest requests there.
        problem: one sentence with what the operator can do.
    """

    field: str
    value: object
    problem: str


def uncovered(requested: Grants, granted: Grants) -> list[Uncovered]:
    """Return every requested power that the operator hasn't granted."""
    return [
        Uncovered(f"{CAPABILITIES}.{name}{where}", value, problem)
        for name, compare in _COMPARISONS.items()
        for where, value, problem in compare(requested, granted)
    ]


def _uncovered_http(requested: Grants, granted: Grants) -> Iterator[Finding]:
    for index, text in enumerate(requested.http):
        if not granted.covers_origins(OriginPattern.parse(text)):
            yield f"[{index}]", text, _not_granted(f"http=[{text!r}]")


def _uncovered_db(requested: Grants, granted: Grants) -> Iterator[Finding]:
    if _DB_LEVELS[requested.db] > _DB_LEVELS[granted.db]:
        yield "", requested.db, _not_granted(f"db={requested.db!r}")


def _uncovered_kv(requested: Grants, granted: Grants) -> Iterator[Finding]:
    if requested.kv and not granted.kv:
        yield "", True, _not_granted("kv=True")


def _uncovered_functions(requested: Grants, granted: Grants) -> Iterator[Finding]:
    for index, name in enumerate(requested.functions):
        if name not in granted.functions:
            yield f"[{index}]", name, _not_granted(f"functions=[{name!r}]")


def _not_granted(argument: str) -> str:
    return f"is requested but not granted; to allow it, load the plugin with Grants({argument})"


def _http_findings(value: object) -> Iterator[Finding]:
    yield from _list_findings(value, "origins such as 'https://api.example.com'", _origin_problem)


def _functions_findings(value: object) -> Iterator[Finding]:
    yield from _list_findings(value, "function names such as 'mail.send'", _function_problem)


def _list_findings(value: object, of_what: str, problem_of: Callable[[object], str | None]) -> Iterator[Finding]:
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Sequence):
        yield "", value, f"must be a list of {of_what}"
        return
    for index, item in enumerate(value):
        if problem := problem_of(item):
            yield f"[{index}]", item, problem


def _origin_problem(value: object) -> str | None:
    if not isinstance(value, str):
        return "must be text such as 'https://api.example.com'"
    try:
        OriginPattern.parse(value)
    except ValueError as error:
        return f"isn't an origin: {error}"
    return None


def _function_problem(value: object) -> str | None:
    if isinstance(value, str) and DOTTED_NAME.fullmatch(value):
        return None
    return "must be a function's name: a lower-case letter, then at most 127 of a-z, 0-9, '_', '.', '-'"


def _db_findings(value: object) -> Iterator[Finding]:
    if value is not None and not (isinstance(value, str) and value in _DB_LEVELS):
        yield "", value, 'must be "read" or "write"'


def _kv_findings(value: object) -> Iterator[Finding]:
    if not isinstance(value, bool):
        yield "", value, "must be true or false"


GRANT_CHECKS: Final[Mapping[str, Callable[[object], Iterator[Finding]]]] = {
    "http": _http_findings,
    "db": _db_findings,
    "kv": _kv_findings,
    "functions": _functions_findings,
}
_COMPARISONS: Final[Mapping[str, Callable[[Grants, Grants], Iterator[Finding]]]] = {
    "http": _uncovered_http,
    "db": _uncovered_db,
    "kv": _uncovered_kv,
    "functions": _uncovered_functions,
}
