"""How scenarios write bytes and JSON, and how what a guest gave is held to that.

Bytes are a string (its UTF-8), `{hex = "00ff"}`, `{times = ["x", 1048576]}`, or a list of these, joined.

JSON is a text in which `{"$times": ["x", 1048576]}` stands for so long a string. Where it says what is expected,
`{"$like": "..."}` is any string that the pattern matches whole, `{"$between": [1, 5]}` any number from one to the
other, `{"$any": "string"}` anything of that kind (`"object"`, `"array"`, `"number"`), and `{"$now": 60}` the time of
day, 60 seconds more or less.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from typing import Any, Final

Written = str | dict[str, Any] | list[Any]
"""Bytes, as scenarios write them."""

_SHOWN: Final = 120
_KINDS: Final = {"string": str, "object": dict, "array": list, "number": int | float}


def data(written: Written) -> bytes:
    """Return bytes that a scenario writes."""
    match written:
        case str():
            return written.encode()
        case list():
            return b"".join(map(data, written))
        case {"hex": str() as text} if len(written) == 1:
            return bytes.fromhex(text)
        case {"times": [part, int() as count]} if len(written) == 1:
            return data(part) * count
    raise ValueError(f"{written!r} is no notation for bytes")


def read(text: str) -> Any:
    """Return the value of a JSON text, large strings written out."""
    return json.loads(text, object_hook=_expanded)


def write(value: Any) -> bytes:
    """Return a value as the JSON that a guest gets where bytes are compared."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _expanded(found: dict[str, Any]) -> Any:
    match found:
        case {"$times": [part, count]} if len(found) == 1:
            return part * count
    return found


# ── comparing ────────────────────────────────────────────────────────────────────────────────────


def difference(expected: Any, found: Any, where: str = "") -> str | None:
    """Return in words what differs, or `None`; 1 and 1.0 are the same number, 1 and true aren't the same."""
    if isinstance(expected, dict) and (matcher := next(iter(expected), "")) in _MATCHERS and len(expected) == 1:
        is_right = _MATCHERS[matcher](expected[matcher], found)
    elif isinstance(expected, dict) and isinstance(found, dict):
        return _in_object(expected, found, where)
    elif isinstance(expected, list) and isinstance(found, list):
        return _in_array(expected, found, where)
    else:
        is_right = _kind(expected) is _kind(found) and expected == found and _same_zero(expected, found)
    return None if is_right else f"{where or 'it'} is {shown(found)}, not {shown(expected)}"


def shown(value: object) -> str:
    """Return a value as messages show it, cut."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"


def _in_object(expected: dict[str, Any], found: dict[str, Any], where: str) -> str | None:
    if expected.keys() != found.keys():
        return f"{where or 'it'} has the keys {sorted(found)}, not {sorted(expected)}"
    differences = (difference(expected[key], found[key], f"{where}.{key}") for key in expected)
    return next(filter(None, differences), None)


def _in_array(expected: list[Any], found: list[Any], where: str) -> str | None:
    if len(expected) != len(found):
        return f"{where or 'it'} has {len(found)} items, not {len(expected)}: {shown(found)}"
    differences = (difference(*pair, f"{where}[{n}]") for n, pair in enumerate(zip(expected, found, strict=True)))
    return next(filter(None, differences), None)


def _kind(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if is_number else type(value)


def _same_zero(expected: object, found: object) -> bool:
    """Tell the two zeros of floats apart; `-0` is read as an integer, which has one."""
    if not (isinstance(expected, float) and isinstance(found, float)):
        return True
    return math.copysign(1, expected) == math.copysign(1, found)


def _is_like(pattern: str, found: object) -> bool:
    return isinstance(found, str) and re.fullmatch(pattern, found, re.DOTALL) is not None


def _is_between(bounds: list[float], found: object) -> bool:
    return _kind(found) == "number" and bounds[0] <= found <= bounds[1]  # type: ignore[operator]


def _is_any(kind: str, found: object) -> bool:
    return isinstance(found, _KINDS[kind]) and not isinstance(found, bool)


def _is_now(seconds: float, found: object) -> bool:
    return _is_between([time.time() - seconds, time.time() + seconds], found)


_MATCHERS: Final[dict[str, Callable[[Any, object], bool]]] = {
    "$like": _is_like,
    "$between": _is_between,
    "$any": _is_any,
    "$now": _is_now,
}
