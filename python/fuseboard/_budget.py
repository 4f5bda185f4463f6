"""The budget of one invocation: what its counters have spent, and the meters of everything.

The core counts memory, fuel and running time; the rest is charged here, before anything is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from fuseboard._limits import LIMITS, Unit
from fuseboard._outcome import Meters

Ceilings = Mapping[str, tuple[int, Unit]]

METER_NAMES: Final = tuple(spec.limit for spec in LIMITS)
"""The names behind the numbers of `meter_remaining`."""


def ceilings_of(limits: tuple[int, ...], functions: Mapping[str, int]) -> Ceilings:
    """Return each limit's ceiling and unit, given the table's limits in its order and the functions' own."""
    table: dict[str, tuple[int, Unit]] = {
        spec.limit: (limit, spec.unit) for spec, limit in zip(LIMITS, limits, strict=True)
    }
    return table | {name: (most, "count") for name, most in functions.items()}


class Budget(msgspec.Struct):
    """Counts what an invocation spends."""

    ceilings: Ceilings
    spent: dict[str, int] = {}

    def charge(self, limit: str, amount: int) -> bool:
        """Spend `amount` of a limit where it fits, and say whether it did. What has no ceiling always fits."""
        ceiling = self.ceilings.get(limit)
        if ceiling is None:
            return True
        spent = self.spent.get(limit, 0) + amount
        if spent > ceiling[0]:
            return False
        self.spent[limit] = spent
        return True

    def remaining(self, limit: str) -> int:
        """Return what is left of a counted limit, in its unit."""
        return self.ceilings[limit][0] - self.spent.get(limit, 0)

    def meters(self, elapsed_ms: float, fuel: int = 0, memory_bytes: int = 0, *, fuel_exact: bool = True) -> Meters:
        """Return all meters, given what the core counted."""
        return Meters(self.ceilings, self.spent.copy(), (memory_bytes, fuel, elapsed_ms), fuel_exact)
