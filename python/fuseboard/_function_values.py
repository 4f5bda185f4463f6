"""What an application's function takes and gives: JSON, held to its annotations.

Rules:
* Arguments are decoded by name. What a guest leaves out isn't passed: a default is the function's own business.
* A result is held to its annotation as strictly as an argument; without one it is any JSON.
* msgspec reads and writes; a pydantic model, wherever it stands, is read and written by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Never, NoReturn, get_args, get_origin, get_type_hints

import msgspec

from fuseboard._errors import BackendError
from fuseboard._functions import INJECTED, plain, usage_error
from fuseboard._hostcalls import AnswerCode
from fuseboard._values import UNWRITABLE, WRITTEN_AS_TEXT, write_json

if TYPE_CHECKING:
    from fuseboard._functions import HostFunction

ARGUMENTS: Final = "Arguments"
UNCHECKED: Final = (Any, object, NoReturn, Never)
"""Annotations of a result that say nothing of its JSON."""

_EXACT: Final = (str, bool, int, type(None))


def _awaited(hint: Any) -> Any:
    """Return what an annotation promises in the end: a plain function may hand back what is awaited."""
    return get_args(hint)[-1] if get_origin(hint) in {Awaitable, Coroutine} else hint


class Signature:
    """A declared function's arguments and result.

    Attributes:
        parameters: what guests can pass, by name.
        wants_call: whether it takes a `Call`.
        arguments: the type that arguments are read as; a parameter is a field.
        result: the type that results are held to.

    Raises:
        UsageError: an annotation doesn't exist, or is of a type that JSON can't hold.
    """

    __slots__ = ("_is_exact", "_name", "_reader", "_result_reader", "arguments", "parameters", "result", "wants_call")

    def __init__(self, declared: HostFunction[..., Any]) -> None:
        parameters = inspect.signature(declared.function).parameters
        hints = _hints(declared)
        self._name = declared.name
        self.wants_call = INJECTED in parameters
        self.parameters = {name: each for name, each in parameters.items() if name != INJECTED}
        fields = [_field(parameter, hints.get(name, Any)) for name, parameter in self.parameters.items()]
        try:
            self.arguments = msgspec.defstruct(ARGUMENTS, fields, forbid_unknown_fields=True, kw_only=True)
            self._reader = _reader(self.arguments)
        except TypeError as error:
            raise usage_error(declared.name, f"its arguments can't be read from JSON: {error}") from error
        self.result = _awaited(hints.get("return", Any))
        self._is_exact = self.result in _EXACT
        try:
            self._result_reader = None if self.result in UNCHECKED else _reader(self.result)
        except TypeError as error:
            raise usage_error(declared.name, f"its result can't be written as JSON: {error}") from error

    def read(self, data: bytes) -> dict[str, Any]:
        """Return the arguments that a guest passes.

        Raises:
            BackendError: they don't fit; the reason names the argument.
        """
        try:
            decoded = self._reader.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BackendError(f"the arguments don't fit: {error}", code=AnswerCode.BAD_REQUEST) from error
        values = ((name, getattr(decoded, name)) for name in self.parameters)
        return {name: value for name, value in values if value is not msgspec.UNSET}

    def write(self, result: object) -> bytes:
        """Return a result as JSON.

        Raises:
            TypeError: it doesn't fit the annotation.
            ValueError: it holds NaN or an infinity; or another of `UNWRITABLE`.
        """
        encoded = write_json(result, _encoded)
        if self._result_reader is None or (self._is_exact and type(result) is self.result):
            return encoded
        try:
            self._result_reader.decode(encoded)
            builtins = msgspec.to_builtins(result, builtin_types=WRITTEN_AS_TEXT, enc_hook=_encoded)
            msgspec.convert(builtins, self.result, dec_hook=_decoded)
        except UNWRITABLE as error:
            raise TypeError(f"host function {self._name!r}: its result doesn't fit its annotation: {error}") from error
        return encoded


def schema_of(kind: Any) -> dict[str, Any]:
    """Return a type's JSON Schema; raises TypeError for one that JSON can't hold."""
    return msgspec.json.schema(kind, schema_hook=_schema)


def _field(parameter: inspect.Parameter, hint: Any) -> Any:
    if parameter.default is inspect.Parameter.empty:
        return parameter.name, hint
    return parameter.name, hint, msgspec.field(default=msgspec.UNSET)


def _hints(declared: HostFunction[..., Any]) -> dict[str, Any]:
    innermost = plain(declared)
    annotated = innermost if inspect.isroutine(innermost) else type(innermost).__call__
    try:
        return get_type_hints(annotated, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        advice = "the names must exist at run time, so import them outside `if TYPE_CHECKING:`"
        raise usage_error(declared.name, f"its annotations can't be resolved ({error}); {advice}") from error


def _reader(kind: Any) -> msgspec.json.Decoder[Any]:
    schema_of(kind)  # a type that JSON can't hold fails here, and not at each call
    return msgspec.json.Decoder(kind, dec_hook=_decoded)


# ── types that msgspec doesn't know ──────────────────────────────────────────────────────────────


def _is_model(kind: Any) -> bool:
    """Return whether this is a pydantic model, which only an application that has pydantic can have."""
    return isinstance(kind, type) and hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_validate")


def _decoded(kind: Any, value: Any) -> Any:
    if kind is object:
        return value
    if _is_model(kind):
        return kind.model_validate(value)
    raise NotImplementedError


def _encoded(value: Any) -> Any:
    if _is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True)
    raise TypeError(f"objects of type {type(value).__name__} have no JSON form")


def _schema(kind: Any) -> dict[str, Any]:
    if kind is object:
        return {"description": "any JSON"}  # an empty one counts as none
    if _is_model(kind):
        schema: dict[str, Any] = kind.model_json_schema()
        return schema
    raise TypeError(f"{kind!r} has no JSON form")
