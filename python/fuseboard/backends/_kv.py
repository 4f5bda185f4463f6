"""What all key-value stores have in common: numbers in decimal text, caps, and the writes of one invocation.

Rules:
* A number is `-?[0-9]+` in 64 bits; anything else can't be incremented, and none wraps around.
* An expiry counts from the call that asked for it, not from the commit. What has expired is as if it weren't there,
  for the invocation that wrote it too.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from fuseboard._arguments import check_whole
from fuseboard._errors import BackendError
from fuseboard._limits import MIB
from fuseboard.backends import AnswerCode
from fuseboard.backends._database import too_large

MAX_KEY_BYTES: Final = 1024
MAX_VALUE_BYTES: Final = MIB
MAX_KV_BYTES: Final = 64 * MIB
_MOST: Final = 1 << 40
_NUMBER: Final = re.compile(rb"(-?)0*([0-9]{1,19})")


class Written(NamedTuple):
    """A value, or `None` where the key was deleted, and when it expires, on the store's own clock."""

    value: bytes | None
    expires: float = math.inf

    def at(self, now: float) -> bytes | None:
        """Return what is there at this time."""
        return self.value if now < self.expires else None


def weight(key: bytes, value: bytes | None) -> int:
    """Return what counts towards a namespace's cap: the bytes of key and value, nothing for a deletion."""
    return 0 if value is None else len(key) + len(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCaps:
    """How large a key, a value, and all keys and values of one namespace may be, in bytes.

    Raises:
        UsageError: one is no whole number from 1.
    """

    max_key_bytes: int = MAX_KEY_BYTES
    max_value_bytes: int = MAX_VALUE_BYTES
    max_kv_bytes: int = MAX_KV_BYTES

    def __post_init__(self) -> None:
        check_whole("max_key_bytes", self.max_key_bytes, _MOST)
        check_whole("max_value_bytes", self.max_value_bytes, _MOST)
        check_whole("max_kv_bytes", self.max_kv_bytes, _MOST)

    def check(self, key: bytes, value: bytes = b"") -> None:
        """Refuse what is too large."""
        if len(key) > self.max_key_bytes:
            raise too_large(f"the key is larger than {self.max_key_bytes} bytes")
        if len(value) > self.max_value_bytes:
            raise too_large(f"the value is larger than {self.max_value_bytes} bytes")

    def full(self) -> BackendError:
        """Return the error for a namespace that would outgrow its cap."""
        return too_large(f"all keys and values together would be larger than {self.max_kv_bytes} bytes")


def incremented(value: bytes | None, by: int) -> int:
    """Return the number that a value becomes.

    Raises:
        BackendError: it is no number, or would leave 64 bits.
    """
    return _in_64_bits(_as_number(value) + by)


def _as_number(value: bytes | None) -> int:
    if value is None:
        return 0
    text = _NUMBER.fullmatch(value)
    if text is None:
        raise BackendError("the value is not a 64-bit number in decimal text", code=AnswerCode.CONFLICT)
    return _in_64_bits(int(b"".join(text.groups())))


def _in_64_bits(number: int) -> int:
    if not -(1 << 63) <= number < 1 << 63:
        raise BackendError("the number doesn't fit 64 bits", code=AnswerCode.CONFLICT)
    return number
