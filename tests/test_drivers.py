"""The watch over event loops: what holds a loop up for over 20 ms is written down, whichever way it does."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from drivers import blocked

if TYPE_CHECKING:
    from collections.abc import Callable


def compute() -> None:
    """Compute for 30 ms of this thread's time."""
    end = time.thread_time() + 0.03
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize("hold_up", [compute, lambda: time.sleep(0.06)], ids=["computing", "sleeping"])
def test_what_holds_up_a_loop_is_noted(hold_up: Callable[[], None]) -> None:
    """A callback that computes, and one that waits, is noted with how long it took."""

    async def main() -> None:
        hold_up()

    for _ in range(3):  # a busy machine may be to blame for once
        asyncio.run(main())
    notes = [*blocked]
    blocked.clear()
    assert notes
    assert " ms, " in notes[0]


def test_what_lets_a_loop_go_on_is_not_noted() -> None:
    """Waiting by awaiting holds nobody up."""
    asyncio.run(asyncio.sleep(0.06))
    assert blocked == []
