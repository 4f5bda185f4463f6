"""The named extension points that an application declares: filters change a value, actions are told of an event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, cast

from fuseboard._errors import HookTypeError, UsageError
from fuseboard._text import DOTTED_NAME
from fuseboard._values import UNWRITABLE, Codec, codec_for

T = TypeVar("T")
OnTrap = Literal["neutral", "raise"]


@dataclass(frozen=True, slots=True)
class _Hook(Generic[T]):
    name: str
    value_type: type[T]
    on_trap: OnTrap = field(default="neutral", kw_only=True)
    codec: Codec = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not DOTTED_NAME.fullmatch(self.name):
            raise UsageError(f"hook name {self.name!r} must match {DOTTED_NAME.pattern}")
        if self.on_trap not in ("neutral", "raise"):
            raise UsageError(f"hook {self.name!r}: on_trap={self.on_trap!r} must be 'neutral' or 'raise'")
        object.__setattr__(self, "codec", codec_for(self.name, self.value_type))

    @property
    def fails_closed(self) -> bool:
        """Whether a plugin that traps or is skipped fails the hook."""
        return self.on_trap == "raise"

    def encode(self, value: T) -> bytes:
        """Return a value as it crosses to a guest.

        Raises:
            HookTypeError: the value doesn't fit the hook's type, or JSON can't hold it.
        """
        try:
            return self.codec.encode(value)
        except UNWRITABLE as error:
            raise HookTypeError(self.name, "value", str(error)) from None


@dataclass(frozen=True, slots=True)
class Filter(_Hook[T]):
    """A hook that lets plugins change a value, one after the other.

    Args:
        name: what manifests call it: lower-case letters, digits and `_.-`, beginning with a letter.
        value_type: the value's type: builtins, dataclasses, TypedDicts, attrs classes, msgspec Structs and
            pydantic models cross as JSON, `bytes` as they are.
        on_trap: `"neutral"`: a plugin that traps or is skipped leaves the value as it was; `"raise"`: it
            fails the hook with `HookFailed`, for what must not let its input through, e.g. a sanitiser.

    Raises:
        UsageError: the name, the type or `on_trap` can't be used.
    """


@dataclass(frozen=True, slots=True)
class Action(_Hook[T]):
    """A hook that tells plugins of an event; what they output is ignored.

    Args:
        name: as for `Filter`.
        value_type: the event's type, as for `Filter`; `None`, the default, for an event without a value.
        on_trap: `"neutral"`: a plugin that traps or is skipped is logged; `"raise"`: it fails the hook.

    Raises:
        UsageError: the name, the type or `on_trap` can't be used.
    """

    value_type: type[T] = cast("Any", None)  # noqa: RUF009  a cast does nothing


Hook = Filter[Any] | Action[Any]
