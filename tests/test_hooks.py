"""Hooks: how they are declared, and which types their values can have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pydantic
import pytest

from fuseboard import Action, Filter, HookTypeError, UsageError


class Unfinished(pydantic.BaseModel):
    """A model with an annotation that can't be resolved."""

    other: "Nowhere"  # type: ignore[name-defined]  # noqa: F821, UP037  that is the point


@dataclasses.dataclass
class Unresolved:
    """A dataclass with an annotation that can't be resolved."""

    other: Nowhere  # type: ignore[name-defined]  # noqa: F821  that is the point


# ── names ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a", "post.title", "a-b_c.d0", "x" * 128])
@pytest.mark.parametrize("kind", [Filter, Action])
def test_good_names(kind: type[Filter[str] | Action[str]], name: str) -> None:
    """A name is a lower-case letter, then at most 127 of `a-z 0-9 _ . -`."""
    assert kind(name, str).name == name


@pytest.mark.parametrize(
    "name", ["", "Title", "1a", ".a", "-a", "a b", "a/b", "a\n", "ä", "x" * 129, None, 7, b"a", ["a"]]
)
@pytest.mark.parametrize("kind", [Filter, Action])
def test_bad_names_are_refused(kind: Any, name: Any) -> None:
    """A name that manifests couldn't hold is refused when it is declared, with the pattern."""
    with pytest.raises(UsageError, match=r"hook name .* must match \[a-z\]"):
        kind(name, str)


@pytest.mark.parametrize("on_trap", ["Raise", "", None, True, ["raise"], "ignore"])
def test_bad_on_trap_is_refused(on_trap: Any) -> None:
    """`on_trap` is one of two words; another could leave a sanitiser open."""
    with pytest.raises(UsageError, match="must be 'neutral' or 'raise'"):
        Filter("html", str, on_trap=on_trap)


def test_on_trap_says_whether_a_hook_fails_closed() -> None:
    """Hooks are neutral unless they are declared to raise."""
    assert not Filter("html", str).fails_closed
    assert not Action("done").fails_closed
    assert Filter("html", str, on_trap="raise").fails_closed
    assert Action("done", on_trap="raise").fails_closed


def test_on_trap_must_be_named() -> None:
    """A third positional argument is refused, as nobody could read it."""
    with pytest.raises(TypeError):
        Filter("html", str, "raise")  # type: ignore[call-arg]


# ── identity ─────────────────────────────────────────────────────────────────────────────────────


def test_equal_hooks_are_the_same_declaration() -> None:
    """Two declarations with the same words are equal; a filter is never an action."""
    assert Filter("a", str) == Filter("a", str)
    assert hash(Filter("a", str)) == hash(Filter("a", str))
    others: list[object] = [Filter("a", int), Filter("a", str, on_trap="raise"), Filter("b", str), Action("a", str)]
    assert Filter("a", str) not in others


def test_hooks_can_not_be_changed() -> None:
    """A declared hook stays what it is."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Filter("a", str).name = "b"  # type: ignore[misc]


# ── types ────────────────────────────────────────────────────────────────────────────────────────


def a_function() -> None:
    """Be something that is no type."""


class NoJson:
    """A class that neither msgspec nor pydantic can read."""


@pytest.mark.parametrize(
    "value_type",
    [
        NoJson, list[NoJson], dict[str, NoJson], Iterator[int], Callable[[], int], type, 5, "str", a_function,
        ["str"], Exception, list["Nowhere"], Unresolved, Unfinished, list[Unfinished],  # type: ignore[name-defined]  # noqa: F821
        dict[tuple[int, int], dict[NoJson, int]],
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kind", [Filter, Action])
def test_unsupported_types_are_refused_at_declaration(kind: Any, value_type: Any) -> None:
    """A type whose values can't cross is refused where it is declared, not at the first dispatch."""
    with pytest.raises(UsageError, match=r"hook 'h': values of type .* can't be sent as JSON"):
        kind("h", value_type)


def test_a_filter_needs_a_type() -> None:
    """A filter without a type is no filter."""
    with pytest.raises(TypeError):
        Filter("h")  # type: ignore[call-arg]


def test_an_action_without_a_type_has_no_value() -> None:
    """Such an action takes `None` only."""
    action: Action[None] = Action("ping")
    assert action.encode(None) == b"null"
    others: list[Any] = [0, "", False, {}]
    for value in others:
        with pytest.raises(HookTypeError, match="hook 'ping': the value can't be sent"):
            action.encode(value)


def test_an_encoded_value_is_json_of_the_type() -> None:
    """What a hook writes, any JSON parser reads."""
    assert msgspec.json.decode(Filter("h", dict).encode({"a": [1, None, "ü"]})) == {"a": [1, None, "ü"]}
