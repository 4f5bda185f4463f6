"""The table of ways in: it has what an attacker would try first, and enough of it."""

from __future__ import annotations

from ways import WAYS, table


def test_there_are_ways_of_every_kind() -> None:
    """By address, redirect, rebinding and TLS name, by SQL in both engines, by `set_config`, functions, and keys."""
    shown = table()
    for kind in (
        "redirect",
        "rebinding",
        "set_config",
        "function",
        "another name",
        "SQL in SQLite",
        "SQL in PostgreSQL",
    ):
        assert kind in shown, kind


def test_there_are_at_least_sixty() -> None:
    """No table is empty, and no two ways of one table have a name in common."""
    assert all(WAYS.values())
    assert sum(len(set(ways)) for ways in WAYS.values()) >= 60
