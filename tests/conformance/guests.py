"""The guests that scenarios run on: one an SDK, compiled by `make guests`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Final

import pytest
from tools.compiling import LackingError
from tools.guests import GUESTS


@dataclass(frozen=True, slots=True)
class Sdk:
    """What an SDK's guest has of what scenarios may need."""

    tags: frozenset[str]

    def has(self, needs: list[str]) -> bool:
        return self.tags.issuperset(needs)


SDKS: Final = {
    "rust": Sdk(frozenset({"wasi"})),
    "go": Sdk(frozenset({"wasi"})),
    "c": Sdk(frozenset({"wasi"})),
    "cpp": Sdk(frozenset({"wasi"})),
    "zig": Sdk(frozenset()),
}


@cache
def module_or_reason(sdk: str) -> bytes | str:
    """Return an SDK's guest, or why it isn't here."""
    try:
        kept = GUESTS[sdk].kept_at()
    except LackingError as error:
        return str(error)
    return kept.read_bytes() if kept.exists() else "it isn't compiled: make guests"


def module(sdk: str) -> bytes:
    """Return an SDK's guest; where there is none, skip the test, and on CI fail it."""
    found = module_or_reason(sdk)
    if isinstance(found, bytes):
        return found
    reason = f"no guest for the SDK {sdk!r}: {found}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
