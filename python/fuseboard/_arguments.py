"""What is said where an argument can't be used."""

from __future__ import annotations

import os
from typing import Any

from fuseboard._errors import UsageError


def check_kind(name: str, value: object, kind: Any) -> None:
    """Refuse an argument of another kind; `None` is one that wasn't given."""
    if value is not None and not isinstance(value, kind):
        raise UsageError(f"{name}={value!r} must be {kind.__name__}, not {type(value).__name__}")


def check_whole(name: str, value: object, most: int, least: int = 1) -> None:
    """Refuse what is no whole number from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UsageError(f"{name}={value!r} must be a whole number from {least} to {most}")


def lasting_path(path: str | os.PathLike[str]) -> str:
    """Return a path that means the same wherever the process goes."""
    return os.path.abspath(path)  # noqa: PTH100  `resolve` follows links: an environment's interpreter is one


def check_path(name: str, value: object) -> None:
    """Refuse what is no path; `None` is one that wasn't given."""
    if value is not None and (not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str)):
        raise UsageError(f"{name}={value!r} must be a path or None")
    if value is not None and not os.fspath(value):
        raise UsageError(f"{name}={value!r} is no path: it is empty")
