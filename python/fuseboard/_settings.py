"""Settings: the JSON object that a plugin can read, from its manifest and from the operator.

Rules:
* What comes in is held to what JSON can say, at bounded depth and size; every problem has its path.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time
from typing import Any, Final

from fuseboard._errors import MISSING

MAX_SETTINGS_DEPTH: Final = 32
MAX_SETTINGS_VALUES: Final = 100_000
INT64: Final = 1 << 63

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (bool, "a boolean"),
    (str, "text"),
    ((int, float), "a number"),
    ((list, tuple), "an array"),
    (Mapping, "a table"),
    ((date, time), "a date or time"),
    (type(None), "null"),
)


def settings_problems(settings: object, field: str = "settings") -> Iterator[tuple[str, object, str]]:
    """Yield field, value and problem of everything that keeps settings from being a JSON object."""
    if not isinstance(settings, Mapping):
        yield field, settings, f"must be a table, not {kind_of(settings)}"
        return
    for count, (inner, value, depth) in enumerate(_walk(field, settings, 1)):
        if count > MAX_SETTINGS_VALUES:
            yield field, MISSING, f"must hold at most {MAX_SETTINGS_VALUES} values"
            return
        if problem := _json_problem(value, depth):
            yield inner, value, problem


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a deep copy, in dicts and lists, of settings without problems."""
    return {key: _plain(value) for key, value in settings.items()}


def _plain(value: object) -> object:
    match value:
        case Mapping():
            return plain_settings(value)
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def _walk(field: str, value: object, depth: int) -> Iterator[tuple[str, object, int]]:
    yield field, value, depth
    if depth > MAX_SETTINGS_DEPTH:
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(below(field, key), item, depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk(f"{field}[{index}]", item, depth + 1)


def _json_problem(value: object, depth: int) -> str | None:
    match value:
        case Mapping() | list() | tuple():
            return _container_problem(value, depth)
        case None | bool():
            return None
        case str():
            is_json, problem = _is_unicode(value), "must be text that UTF-8 can hold"
        case int():
            is_json, problem = -INT64 <= value < INT64, "must fit into 64 bits; write it as text"
        case float():
            is_json, problem = math.isfinite(value), "must be finite: JSON has no NaN and no infinities"
        case date() | time():
            is_json, problem = False, f"JSON has no dates and times: write it as text, {str(value)!r}"
        case _:
            is_json, problem = False, f"must be a JSON value, not {kind_of(value)}"
    return None if is_json else problem


def _container_problem(value: Iterable[object], depth: int) -> str | None:
    if depth > MAX_SETTINGS_DEPTH:
        return f"is nested deeper than {MAX_SETTINGS_DEPTH} levels"
    keys = value if isinstance(value, Mapping) else ()
    return next((problem for key in keys if (problem := _key_problem(key))), None)


def _key_problem(key: object) -> str | None:
    if not isinstance(key, str):
        return f"has a key that is {kind_of(key)}; keys must be text"
    return None if _is_unicode(key) else f"has a key that UTF-8 can't hold: {shown(key)}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def below(field: str, key: object) -> str:
    """Return the path of a key below a field."""
    return f"{field}.{shown(key)}" if field else shown(key)


def shown(key: object) -> str:
    """Return a key as a path shows it."""
    if not isinstance(key, str):
        return f"({kind_of(key)})"
    return key if _BARE_KEY.fullmatch(key) else repr(key[:64])


def kind_of(value: object) -> str:
    """Return what a value is, in a manifest's words."""
    return next((words for types, words in _KINDS if isinstance(value, types)), f"a {type(value).__name__}")
