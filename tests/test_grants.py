"""Grants: checked when made, and what was requested but not granted is named."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseboard._errors import UsageError
from fuseboard._grants import GRANT_CHECKS, Grants, Uncovered, uncovered
from fuseboard._urls import parse_url

ALL = Grants(
    http=["https://api.example.com", "https://*.example.org:8443"],
    db="write",
    kv=True,
    functions=["mail.send", "audit"],
)
GRANTS = st.builds(
    Grants,
    http=st.lists(
        st.sampled_from(["https://a.example.org", "https://*.example.org", "https://*.a.example.org", "http://b.c:81"]),
        max_size=3,
    ),
    db=st.sampled_from([None, "read", "write"]),
    kv=st.booleans(),
    functions=st.lists(st.sampled_from(["mail.send", "mail.read", "audit"]), max_size=3),
)


def test_nothing_is_granted_by_default() -> None:
    """Grants that say nothing allow nothing."""
    assert Grants() == Grants(http=(), db=None, kv=False, functions=())
    assert not Grants().allows_origin(parse_url("https://example.com").origin)


def test_lists_are_kept_as_tuples() -> None:
    """Grants keep their own copy of lists, so that they are hashable and can't change later."""
    origins = ["https://a.example.com"]
    grants = Grants(http=origins, functions=["audit"])
    origins.append("https://evil.com")
    assert grants.http == ("https://a.example.com",)
    assert hash(grants) == hash(Grants(http=("https://a.example.com",), functions=("audit",)))


def test_grants_are_frozen() -> None:
    """Grants can't be widened after they were checked."""
    with pytest.raises(FrozenInstanceError):
        Grants().kv = True  # type: ignore[misc]


def test_copies_and_pickles_are_equal_and_still_allow() -> None:
    """A copy of grants is equal to them and allows the same origins."""
    origin = parse_url("https://x.example.org:8443").origin
    for other in (copy.deepcopy(ALL), pickle.loads(pickle.dumps(ALL))):
        assert other == ALL
        assert other.allows_origin(origin)


@pytest.mark.parametrize(
    ("field", "value", "fragment"),
    [
        ("http", "https://example.com", "Grants(http='https://example.com'): must be a list of origins"),
        ("http", b"https://example.com", "must be a list of origins"),
        ("http", {"https://example.com"}, "must be a list of origins"),
        ("http", None, "must be a list of origins"),
        ("http", ["https://a.example.com", 7], "Grants(http[1]=7): must be text"),
        ("http", ["example.com"], "Grants(http[0]='example.com'): isn't an origin: an origin must begin with http"),
        ("http", ["https://*.com"], "at least two labels"),
        ("db", "admin", 'Grants(db=\'admin\'): must be "read" or "write"'),
        ("db", True, 'must be "read" or "write"'),
        ("db", [], 'must be "read" or "write"'),
        ("kv", 1, "Grants(kv=1): must be true or false"),
        ("kv", None, "must be true or false"),
        ("functions", "mail.send", "must be a list of function names"),
        ("functions", ["Mail"], "Grants(functions[0]='Mail'): must be a function's name"),
        ("functions", ["mail.send\n"], "must be a function's name"),
        ("functions", [None], "must be a function's name"),
    ],
)
def test_a_bad_value_is_refused(field: str, value: Any, fragment: str) -> None:
    """A value that isn't a grant is the programmer's mistake, named with field, value and what is allowed."""
    with pytest.raises(UsageError) as caught:
        Grants(**{field: value})
    assert fragment in str(caught.value)


def test_each_field_has_its_check() -> None:
    """The table of checks names exactly the fields that `Grants` takes, in their order."""
    assert list(GRANT_CHECKS) == [field.name for field in fields(Grants) if field.init]


def test_an_origin_is_allowed_by_any_pattern() -> None:
    """An origin is allowed when one of the patterns matches it."""
    assert ALL.allows_origin(parse_url("https://api.example.com/x").origin)
    assert ALL.allows_origin(parse_url("https://a.b.example.org:8443/").origin)
    assert not ALL.allows_origin(parse_url("https://example.org:8443/").origin)
    assert not ALL.allows_origin(parse_url("http://api.example.com/").origin)


def test_every_uncovered_power_is_named() -> None:
    """Each power that isn't granted is named with its place in the manifest and what would allow it."""
    found = uncovered(ALL, Grants(http=["https://api.example.com"], db="read", functions=["audit"]))
    assert [(one.field, one.value) for one in found] == [
        ("server.capabilities.http[1]", "https://*.example.org:8443"),
        ("server.capabilities.db", "write"),
        ("server.capabilities.kv", True),
        ("server.capabilities.functions[0]", "mail.send"),
    ]
    assert found[1] == Uncovered(
        "server.capabilities.db",
        "write",
        "is requested but not granted; to allow it, load the plugin with Grants(db='write')",
    )


def test_writing_includes_reading_and_not_the_reverse() -> None:
    """`read` is covered by `write`; `write` isn't covered by `read`."""
    assert uncovered(Grants(db="read"), Grants(db="write")) == []
    assert len(uncovered(Grants(db="write"), Grants(db="read"))) == 1


@given(GRANTS)
def test_grants_cover_themselves_and_nothing(grants: Grants) -> None:
    """What is granted as requested covers the request, and requesting nothing is always covered."""
    assert uncovered(grants, grants) == []
    assert uncovered(Grants(), grants) == []


@given(GRANTS, GRANTS)
def test_without_a_grant_all_is_uncovered(requested: Grants, granted: Grants) -> None:
    """Granting more never leaves more uncovered than granting nothing."""
    nothing = uncovered(requested, Grants())
    asked = len(requested.http) + len(requested.functions) + (requested.db is not None) + requested.kv
    assert len(nothing) == asked
    assert set(uncovered(requested, granted)) <= set(nothing)


@given(GRANTS, GRANTS, st.sampled_from(["a.example.org", "b.a.example.org", "z.example.org", "example.org"]))
def test_a_covered_request_opens_no_other_origin(requested: Grants, granted: Grants, host: str) -> None:
    """When a request is covered, each origin that it allows is allowed by the operator's grants."""
    origin = parse_url(f"https://{host}/").origin
    if not uncovered(requested, granted) and requested.allows_origin(origin):
        assert granted.allows_origin(origin)
