"""One hostile file: its name, what it attacks, and how offering it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class End(StrEnum):
    """What becomes of an offer."""

    SCAN = "refused by the scan"
    REFUSED = "refused"
    LIMITS = "ended by the limits"
    WORKS = "works"


@dataclass(frozen=True, slots=True)
class Case:
    """A hostile file.

    Attributes:
        name: unique, `family: what it is`.
        attacks: what it is aimed at.
        words: a part of the sentence that refuses it; of one that works, its outcome (`told`).
        make: makes the bytes.
    """

    name: str
    attacks: str
    end: End
    words: str
    make: Callable[[], bytes]

    @property
    def family(self) -> str:
        return self.name.partition(":")[0]

    def is_told_by(self, words: str) -> bool:
        """Whether a sentence, or an outcome, is the one that is expected."""
        return self.words == words if self.end is End.WORKS else self.words in words
