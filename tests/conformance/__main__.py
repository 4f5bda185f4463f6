"""Run the conformance suite and print SDK × scenario: `PYTHONPATH=tests python -m conformance [a part of names]`.

`✓` holds, `✗` doesn't (what, stands below), `-` isn't for this SDK, `?` has no guest on this machine.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from typing import Final

import fuseboard as fb

from . import hosted, scripted
from .guests import SDKS, module_or_reason
from .scenario import Scenario, read_all

HOLDS, FAILS, NOT_FOR_IT, NO_GUEST = "✓✗-?"
_WIDTH: Final = 6


def main(*parts: str) -> int:
    """Print the table of the scenarios that are asked for, and return 1 where one doesn't hold."""
    logging.getLogger("fuseboard").addHandler(logging.NullHandler())
    logging.getLogger("fuseboard").propagate = False  # scenarios trap, and that is said below
    scenarios = [each for each in read_all() if all(part in each.name for part in parts)]
    longest = max((len(scenario.name) for scenario in scenarios), default=0)
    counts: Counter[str] = Counter()
    told: list[str] = []
    hosts = hosted.Hosts(fb.Host, {})
    print(" " * longest + "".join(f"{sdk:>{_WIDTH}}" for sdk in SDKS))
    for scenario in scenarios:
        cells = [_cell(sdk, scenario, hosts, told) for sdk in SDKS]
        counts.update(cells)
        print(f"{scenario.name:{longest}}" + "".join(f"{cell:>{_WIDTH}}" for cell in cells))
    print(
        f"\n{len(scenarios)} scenarios: "
        + ", ".join(f"{counts[cell]} {cell}" for cell in (HOLDS, FAILS, NOT_FOR_IT, NO_GUEST))
    )
    print("".join(f"✗ {line}\n" for line in told) + "".join(_missing()), end="")
    hosts.close()
    return int(counts[FAILS] > 0)


def _cell(sdk: str, scenario: Scenario, hosts: hosted.Hosts, told: list[str]) -> str:
    guest = module_or_reason(sdk)
    if not SDKS[sdk].has(scenario.needs):
        return NOT_FOR_IT
    if isinstance(guest, str):
        return NO_GUEST
    found = scripted.run(scenario, guest) if scenario.is_scripted else hosted.run(scenario, guest, hosts)
    told += [f"{sdk}, {scenario.name}: {problem}" for problem in found]
    return FAILS if found else HOLDS


def _missing() -> list[str]:
    reasons = {sdk: module_or_reason(sdk) for sdk in SDKS}
    return [f"? {sdk}: {reason}\n" for sdk, reason in reasons.items() if isinstance(reason, str)]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
