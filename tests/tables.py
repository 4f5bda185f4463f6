"""Migrations for plugins that tests load from bytes: who has no folder is prepared by the application."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

from fuseboard._migrations import read_migrations
from fuseboard.backends import Migration

_PLUGINS: Final = Path(__file__).resolve().parent.parent / "plugins"


def migrations(*texts: str) -> tuple[Migration, ...]:
    """Return migrations of these texts, called `0001_step.sql` and so on."""
    return tuple(
        Migration(number, "step", text, sha256(text.encode()).hexdigest()) for number, text in enumerate(texts, 1)
    )


def migrations_of(plugin: str) -> tuple[Migration, ...]:
    """Return the migrations of an example plugin."""
    found, problems = read_migrations(_PLUGINS / plugin)
    assert found
    assert not problems
    return found
