"""What became of a module's initialisation when it was compiled: it ran once for all invocations, or runs in each."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class SnapshotState(StrEnum):
    """What became of a plugin's initialisation."""

    TAKEN = "taken"
    CHEAP = "cheap"
    REFUSED = "refused"


class SnapshotRefusal(StrEnum):
    """Why a plugin's initialisation has to run in each invocation."""

    INSTRUCTION = "instruction"
    REFERENCE_GLOBAL = "reference_global"
    ASKS = "asks"
    ENDED = "ended"
    FUEL = "fuel"
    TIME = "time"
    MEMORY = "memory"
    TOO_LARGE = "too_large"
    SPREAD = "spread"
    NOT_ACCEPTED = "not_accepted"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What became of a plugin's initialisation when its module was compiled.

    Attributes:
        state: whether it ran once for all invocations, is cheap and runs in each, or has to run in each.
        fuel: what it took; 0 where it is refused.
        frozen_bytes: the memory that it left behind, without zeros; 0 unless it is taken.
        refusal: why it has to run in each, or `None`.
        reason: the same as a sentence; empty unless it is refused.
    """

    state: SnapshotState
    fuel: int = 0
    frozen_bytes: int = 0
    refusal: SnapshotRefusal | None = None
    reason: str = ""
    code_shift: int = field(default=0, repr=False)

    @property
    def is_taken(self) -> bool:
        """Whether it ran once for all invocations."""
        return self.state is SnapshotState.TAKEN

    def __str__(self) -> str:
        """Say it in words, as of a plugin."""
        match self.state:
            case SnapshotState.TAKEN:
                return f"starts initialised: {self.fuel:,} fuel once, {self.frozen_bytes:,} bytes frozen"
            case SnapshotState.CHEAP:
                return f"starts anew in each invocation, which is cheap: {self.fuel:,} fuel"
            case SnapshotState.REFUSED:
                return f"starts anew in each invocation, as {self.reason}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a plugin's manifest says of its initialisation.

    Attributes:
        snapshot: whether it may run once for all invocations.
        initialize: an export that runs after `_initialize`, or `None`.
    """

    snapshot: bool = True
    initialize: str | None = None
