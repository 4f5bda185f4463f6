"""The budget: a charge fits or it doesn't, and what is spent is told exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fuseboard._budget import METER_NAMES, Budget, ceilings_of
from fuseboard._limits import LIMITS, Limit
from fuseboard._outcome import Meter

COUNTED = [Limit.HTTP_FETCHES, Limit.DB_QUERIES, Limit.KV_WRITE_BYTES, "functions.mail.send"]
counted = st.sampled_from(COUNTED)
amounts = st.integers(0, 30) | st.integers(0, 1 << 62)
ceilings = st.integers(0, 50) | st.integers(0, 1 << 62)


class BudgetMachine(RuleBasedStateMachine):
    """A budget beside a plain model of it: what was spent, and what is left."""

    @initialize(limits=st.tuples(*[ceilings] * 6), function=ceilings)
    def begin(self, limits: tuple[int, ...], function: int) -> None:
        self.ceilings = ceilings_of(limits, {"functions.mail.send": function})
        self.budget = Budget(self.ceilings)
        self.left = {name: self.ceilings[name][0] for name in COUNTED}

    @rule(limit=counted, amount=amounts)
    def charge(self, limit: str, amount: int) -> None:
        """A charge is spent where it fits, whole; where it doesn't, nothing is."""
        fits = amount <= self.left[limit]
        assert self.budget.charge(limit, amount) is fits
        if fits:
            self.left[limit] -= amount

    @rule(limit=counted)
    def charge_what_is_left(self, limit: str) -> None:
        """All that is left can be spent, and then no more."""
        assert self.budget.charge(limit, self.left[limit])
        self.left[limit] = 0
        assert not self.budget.charge(limit, 1)

    @rule(amount=amounts)
    def charge_what_has_no_ceiling(self, amount: int) -> None:
        """A function without `per_invocation` can be called without end, and has no meter."""
        assert self.budget.charge("functions.free", amount)
        assert "functions.free" not in self.budget.meters(elapsed_ms=0)

    @invariant()
    def tells_what_is_left(self) -> None:
        """What is left and what was spent are told, and add up to the ceiling."""
        meters = self.budget.meters(elapsed_ms=1.5, fuel=2, memory_bytes=3)
        for name, left in self.left.items():
            assert self.budget.remaining(name) == left >= 0
            assert meters[name].used + left == meters[name].ceiling == self.ceilings[name][0]


TestBudget = BudgetMachine.TestCase


def test_meter_names_are_the_abis_numbers() -> None:
    """`meter_remaining(3)` asks for the fourth row of the table."""
    assert tuple(spec.limit for spec in LIMITS) == METER_NAMES


def test_ceilings_have_the_tables_units() -> None:
    """Each limit has its unit; a function's own is a count."""
    table = ceilings_of((1, 2, 3, 4, 5, 6), {"functions.f": 7})
    assert [unit for _, unit in table.values()] == ["bytes", "fuel", "ms", "count", "count", "bytes", "count"]
    assert [ceiling for ceiling, _ in table.values()] == [1, 2, 3, 4, 5, 6, 7]


def test_ceilings_must_be_complete() -> None:
    """A table with a limit too few is a defect, not a budget with one limit less."""
    with pytest.raises(ValueError, match="shorter"):
        ceilings_of((1, 2, 3), {})


@given(fuel=st.integers(0, 1 << 62), memory=st.integers(0, 1 << 32), elapsed=st.floats(0, 1e9), exact=st.booleans())
def test_meters_show_what_the_core_counted(fuel: int, memory: int, elapsed: float, *, exact: bool) -> None:
    """Memory, fuel and time come from the core and the clock; only fuel can be inexact."""
    meters = Budget(ceilings_of((1, 2, 3, 4, 5, 6), {})).meters(
        elapsed_ms=elapsed, fuel=fuel, memory_bytes=memory, fuel_exact=exact
    )
    assert meters[Limit.MEMORY] == Meter(memory, 1, "bytes")
    assert meters[Limit.FUEL] == Meter(fuel, 2, "fuel", exact)
    assert meters[Limit.TIMEOUT] == Meter(elapsed, 3, "ms")
    assert meters["db_queries"] == Meter(0, 5, "count")
    assert list(meters) == list(METER_NAMES)
    assert len(meters) == len(LIMITS)
    with pytest.raises(KeyError):
        meters["memory_limit_mb"]


def test_meters_do_not_change_afterwards() -> None:
    """Meters that were taken stay as they were, whatever is charged later."""
    budget = Budget(ceilings_of((1, 2, 3, 4, 5, 6), {}))
    before = budget.meters(elapsed_ms=0)
    assert budget.charge(Limit.DB_QUERIES, 2)
    assert before[Limit.DB_QUERIES].used == 0


def test_budgets_of_two_invocations_are_apart() -> None:
    """What one invocation spends, another still has."""
    ceilings = ceilings_of((1, 2, 3, 4, 5, 6), {})
    first, second = Budget(ceilings), Budget(ceilings)
    assert first.charge(Limit.HTTP_FETCHES, 4)
    assert not first.charge(Limit.HTTP_FETCHES, 1)
    assert second.remaining(Limit.HTTP_FETCHES) == 4
