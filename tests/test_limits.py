"""The limits table, what operators may say, and that the Rust core says the same."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import MIB, SIGNATURES
from fuseboard import _core
from fuseboard._errors import UsageError
from fuseboard._hostcalls import HOST_CALLS
from fuseboard._limits import LIMIT_BY_KEY, LIMITS, Caps, Limit, Limits, LimitSpec, ceiling_of, effective, range_problem

KEYS = [spec.key for spec in LIMITS]
by_key = pytest.mark.parametrize("spec", LIMITS, ids=KEYS)


# ── one table ────────────────────────────────────────────────────────────────────────────────────


def test_the_table_is_the_contract() -> None:
    """Names, keys, defaults, ceilings and units are those that DESIGN §2 promises to plugin authors."""
    assert [(s.limit.value, s.key, s.default, s.ceiling, s.unit, s.scale) for s in LIMITS] == [
        ("memory", "memory_limit_mb", 64, 256, "bytes", MIB),
        ("fuel", "fuel_per_invocation", 50_000_000, 10**9, "fuel", 1),
        ("timeout", "invocation_timeout_ms", 250, 10_000, "ms", 1),
        ("http_fetches", "http_fetches_per_invocation", 8, 64, "count", 1),
        ("db_queries", "db_queries_per_invocation", 32, 512, "count", 1),
        ("kv_write_bytes", "kv_write_bytes_per_invocation", MIB, 16 * MIB, "bytes", 1),
    ]


def test_the_core_has_the_same_limits() -> None:
    """A limit's number in the ABI is its place in both tables."""
    assert list(_core.LIMIT_NAMES) == [spec.limit.value for spec in LIMITS] == list(Limit)


def test_the_core_has_the_same_host_calls() -> None:
    """What suspends a guest is what Python can parse, no more and no less."""
    assert list(_core.HOST_CALLS) == list(HOST_CALLS)


def test_the_core_has_the_abis_imports() -> None:
    """The imports are those of ABI 1, all from one module; host calls are among them."""
    assert _core.IMPORT_MODULE == "fuseboard"
    assert list(_core.IMPORTS) == list(SIGNATURES)
    assert set(_core.HOST_CALLS) < set(_core.IMPORTS)


def test_the_core_has_the_prices() -> None:
    """The prices are those that DESIGN §2 promises."""
    assert (_core.BYTE_FUEL, _core.IMPORT_FUEL, _core.HOST_CALL_FUEL) == (1, 100, 1_000)


def test_limits_has_the_keys_as_fields() -> None:
    """`Limits` says each limit by its manifest key, in the table's order."""
    assert [field.name for field in fields(Limits)] == KEYS == list(LIMIT_BY_KEY)


@by_key
def test_rows_are_sound(spec: LimitSpec) -> None:
    """A default lies under its ceiling, and both are values that the key can hold."""
    assert spec.minimum <= spec.default <= spec.ceiling <= spec.maximum
    assert spec.counts


# ── what a key can hold ──────────────────────────────────────────────────────────────────────────


@by_key
def test_bounds_are_allowed(spec: LimitSpec) -> None:
    """The least and the most that a key can hold are accepted."""
    for value in (spec.minimum, spec.maximum):
        assert getattr(Limits(**{spec.key: value}), spec.key) == value


@by_key
@pytest.mark.parametrize("value", [-1, 1.0, True, "8", float("nan"), [1]])
def test_other_values_are_refused(spec: LimitSpec, value: Any) -> None:
    """What isn't a whole number in the key's range is refused, naming key, value and range."""
    with pytest.raises(UsageError) as caught:
        Limits(**{spec.key: value})
    text = str(caught.value)
    assert text.startswith(f"Limits({spec.key}={value!r}): must be ")
    assert f"from {spec.minimum} to {spec.maximum}" in text


@by_key
def test_just_outside_is_refused(spec: LimitSpec) -> None:
    """One less than the least and one more than the most are refused."""
    for value in (spec.minimum - 1, spec.maximum + 1):
        with pytest.raises(UsageError, match=f"must be from {spec.minimum} to {spec.maximum}"):
            Limits(**{spec.key: value})


def test_memory_time_and_fuel_cannot_be_zero() -> None:
    """What a guest can't start without has a least of 1; the counted limits can be 0."""
    assert [spec.minimum for spec in LIMITS] == [1, 1, 1, 0, 0, 0]


def test_unknown_limits_are_refused() -> None:
    """A misspelt limit isn't taken silently."""
    with pytest.raises(TypeError, match="memory_mb"):
        Limits(memory_mb=5)  # type: ignore[call-arg]


# ── ceilings ─────────────────────────────────────────────────────────────────────────────────────


@by_key
def test_a_request_above_the_ceiling_is_named_as_such(spec: LimitSpec) -> None:
    """A value that the key can hold but the operator doesn't allow is told apart from a value that can't be."""
    assert range_problem(spec, spec.ceiling, spec.ceiling) is None
    above = range_problem(spec, spec.ceiling + 1, spec.ceiling)
    assert above == f"is above the operator's ceiling; allowed: {spec.minimum} to {spec.ceiling}"
    beyond = range_problem(spec, spec.maximum + 1, spec.ceiling)
    assert beyond == f"must be from {spec.minimum} to {spec.ceiling}"


@st.composite
def requests(draw: st.DrawFn) -> tuple[dict[str, int | None], dict[str, int | None]]:
    """Draw ceilings, and requests under them."""
    ceilings, requested = {}, {}
    for spec in LIMITS:
        ceilings[spec.key] = draw(st.none() | st.integers(spec.minimum, spec.maximum))
        most = spec.ceiling if ceilings[spec.key] is None else ceilings[spec.key]
        requested[spec.key] = draw(st.none() | st.integers(spec.minimum, most))
    return requested, ceilings


@given(requests())
def test_effective_limits(drawn: tuple[dict[str, int | None], dict[str, int | None]]) -> None:
    """A request is taken as it is; what isn't named takes the smaller of default and ceiling, never more."""
    requested, ceilings = drawn
    values = effective(Limits(**requested), Limits(**ceilings))
    for spec, value in zip(LIMITS, values, strict=True):
        asked = requested[spec.key]
        ceiling = ceiling_of(spec, Limits(**ceilings))
        assert ceiling == (spec.ceiling if ceilings[spec.key] is None else ceilings[spec.key])
        assert value == spec.scale * (min(spec.default, ceiling) if asked is None else asked)
        assert value <= spec.scale * ceiling


# ── caps ─────────────────────────────────────────────────────────────────────────────────────────


def test_caps_defaults_are_the_contract() -> None:
    """The caps are those that DESIGN §2 promises."""
    caps = Caps()
    assert (caps.output_bytes, caps.request_bytes, caps.reply_bytes) == (MIB, MIB, 4 * MIB)
    assert (caps.log_bytes, caps.module_bytes) == (64 << 10, 32 * MIB)


@pytest.mark.parametrize("cap", [field.name for field in fields(Caps)])
@pytest.mark.parametrize("value", [0, -1, (1 << 30) + 1, 1.5, True, None, "1"])
def test_other_caps_are_refused(cap: str, value: Any) -> None:
    """A cap that isn't a whole number from 1 to 1 GiB is refused, named."""
    with pytest.raises(UsageError, match=rf"Caps\({cap}=.*whole number from 1 to 1073741824"):
        Caps(**{cap: value})
    assert getattr(Caps(**{cap: 1 << 30}), cap) == 1 << 30
