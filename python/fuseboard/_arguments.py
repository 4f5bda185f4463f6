"""What is said where an argument can't be used."""

from __future__ import annotations

from typing import Any

from fuseboard._errors import UsageError


def check_kind(name: str, value: object, kind: Any) -> None:
    """Refuse an argument of another kind; `None` is one that wasn't given."""
    if value is not None and not isinstance(value, kind):
        raise UsageError(f"{name}={value!r} must be {kind.__name__}, not {type(value).__name__}")


def check_whole(name: str, value: object, most: int) -> None:
    """Refuse what is no whole number from 1 to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise UsageError(f"{name}={value!r} must be a whole number from 1 to {most}")
