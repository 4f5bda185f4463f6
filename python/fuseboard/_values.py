"""Values on their way to plugins and back: JSON against a hook's declared type, or raw bytes.

Rules:
* What the application passes is checked against the type as strictly as what a plugin returns.
* NaN and infinities have no JSON: they are refused, never written as null.
* msgspec reads and writes; a type that holds pydantic models goes through pydantic as a whole.
* Every field of a dataclass crosses, those at their defaults too.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from fuseboard._errors import HookTypeError, UsageError

UNWRITABLE: Final = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What encoders and decoders raise for a value that isn't theirs."""

WRITTEN_AS_TEXT: Final = (
    bytes, bytearray, memoryview, dt.datetime, dt.date, dt.time, dt.timedelta,
    uuid.UUID, decimal.Decimal,
)  # fmt: skip
"""What JSON shows as text: where the type says text, none of these may pass as such."""


class Codec(NamedTuple):
    """Writes and reads the values of one hook.

    Attributes:
        encode: value → bytes; raises one of `UNWRITABLE`.
        decode: bytes → value; raises one of `UNWRITABLE`.
    """

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def codec_for(hook: str, value_type: Any) -> Codec:
    """Return the codec for a hook's declared type.

    Raises:
        UsageError: neither msgspec nor pydantic knows the type.
    """
    if value_type is bytes:
        return Codec(_raw, bytes)
    try:
        decoder = msgspec.json.Decoder(value_type)
        described = list(_described(msgspec.inspect.type_info(value_type), set()))
    except (TypeError, RuntimeError, NameError) as error:
        raise UsageError(f"hook {hook!r}: values of type {value_type!r} can't be sent as JSON: {error}") from None
    if any(isinstance(node, msgspec.inspect.CustomType) for node in described):
        return _pydantic_codec(hook, value_type)
    has_dataclasses = any(isinstance(node, msgspec.inspect.DataclassType) for node in described)
    return _msgspec_codec(value_type, decoder.decode, has_dataclasses=has_dataclasses)


def encode_context(hook: str, context: Mapping[str, Any] | None) -> bytes:
    """Return a dispatch's context as a JSON object.

    Raises:
        HookTypeError: it isn't a mapping of text keys to values that JSON can hold.
    """
    if context is None:
        return b"{}"
    if not isinstance(context, Mapping) or not all(isinstance(key, str) for key in context):
        raise HookTypeError(hook, "context", "it must be a mapping with text keys")
    try:
        return write_json(dict(context))
    except UNWRITABLE as error:
        raise HookTypeError(hook, "context", str(error)) from None


def write_json(value: object, enc_hook: Callable[[Any], Any] | None = None) -> bytes:
    """Return a value of the application's as JSON; raises one of `UNWRITABLE`, for NaN too."""
    encoded = msgspec.json.encode(value, enc_hook=enc_hook)
    if b"null" in encoded and _has_non_finite(msgspec.to_builtins(value, enc_hook=enc_hook)):
        raise ValueError("NaN and infinities have no JSON form")
    return encoded


def _raw(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"expected bytes, got {type(value).__name__}")
    return value


def _msgspec_codec(value_type: Any, decode: Callable[[bytes], Any], *, has_dataclasses: bool) -> Codec:
    write = msgspec.json.Encoder().encode
    is_plain = value_type in (str, bool, int)

    def encode(value: Any) -> bytes:
        if is_plain and type(value) is value_type:
            return write(value)
        if has_dataclasses:
            _fill_in(value)
        encoded = write_json(value)
        decode(encoded)
        msgspec.convert(msgspec.to_builtins(value, builtin_types=WRITTEN_AS_TEXT), value_type)
        return encoded

    return Codec(encode, decode)


def _has_non_finite(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(_has_non_finite(item) for item in value.values())
    return isinstance(value, list | tuple | set | frozenset) and any(_has_non_finite(item) for item in value)


def _fill_in(value: object) -> None:
    """Give dataclasses what msgspec leaves to their class: it sets no field at its default, and writes none."""
    for part in _parts(value):
        _fill_in(part)
    kind: Any = type(value)
    if dataclasses.is_dataclass(kind) and hasattr(value, "__dict__"):
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING:
                vars(value).setdefault(field.name, field.default)


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, list | tuple | set | frozenset):
        return value
    kind = type(value)
    names = getattr(kind, "__struct_fields__", getattr(kind, "__dataclass_fields__", None))
    if names is None:
        names = [attribute.name for attribute in getattr(kind, "__attrs_attrs__", ())]
    return [getattr(value, name, None) for name in names]


def _described(node: object, seen: set[object]) -> Iterator[msgspec.Struct]:
    """Yield a type's description and all that it holds, each class once."""
    if isinstance(node, list | tuple):
        for item in node:
            yield from _described(item, seen)
    if not isinstance(node, msgspec.Struct):
        return
    described = getattr(node, "cls", None)
    if described not in seen:
        seen.update({described} - {None})
        yield node
        for name in node.__struct_fields__:
            yield from _described(getattr(node, name), seen)


def _pydantic_codec(hook: str, value_type: Any) -> Codec:
    try:
        from pydantic import PydanticUserError, TypeAdapter  # noqa: PLC0415  optional, and slow to import
    except ImportError:
        raise UsageError(
            f"hook {hook!r}: values of type {value_type!r} can't be sent as JSON; for pydantic models "
            "install pydantic, else use builtins, dataclasses, TypedDicts, attrs classes or msgspec Structs"
        ) from None
    try:
        adapter = TypeAdapter(value_type)
        adapter.json_schema()  # a type that JSON can't hold fails here, and not at each dispatch
    except (PydanticUserError, NameError) as error:
        raise UsageError(f"hook {hook!r}: values of type {value_type!r} can't be sent as JSON: {error}") from None

    def encode(value: Any) -> bytes:
        check_finite(value)
        encoded = adapter.dump_json(value, by_alias=True, round_trip=True, warnings="error")
        adapter.validate_json(encoded)
        return encoded

    def decode(encoded: bytes) -> Any:
        value = adapter.validate_json(encoded)
        check_finite(value)  # pydantic reads NaN, and 1e999 as an infinity
        return value

    def check_finite(value: Any) -> None:
        if _has_non_finite(adapter.dump_python(value, warnings="error")):
            raise ValueError("NaN and infinities have no JSON form")

    return Codec(encode, decode)
