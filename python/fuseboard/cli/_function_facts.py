"""What can be said of an application's functions: their schemas, in words too, and a call of each that fits.

Rules:
* The schemas are made of the annotations that arguments and results are held to, by what holds them to it.
* An example is shown only where the function's own reader takes it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from fuseboard._errors import BackendError
from fuseboard._function_sessions import Functions
from fuseboard._function_values import ARGUMENTS, UNCHECKED, Signature, schema_of
from fuseboard._functions import HostFunction
from fuseboard._hostcalls import AnswerCode, function_limit
from fuseboard._values import UNWRITABLE, write_json

Schema = Mapping[str, Any]

ERRORS: Final[dict[AnswerCode, str]] = {
    AnswerCode.DENIED: "the function isn't granted to the plugin",
    AnswerCode.BAD_REQUEST: "the arguments don't fit; the reason names the one at fault, and nothing was called",
    AnswerCode.BACKEND_FAILED: "the function failed, or was late",
    AnswerCode.TOO_LARGE: "the arguments or the result are larger than the host lets pass",
}
"""What any function can be answered with; one can have reasons of its own for any code."""

_REF: Final = "#/$defs/"
_DEPTH: Final = 6
_PLAIN: Final = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_FORMATS: Final = {
    "date-time": ("date and time", "2026-01-31T12:00:00Z"),
    "date": ("date", "2026-01-31"),
    "time": ("time", "12:00:00"),
    "duration": ("duration", "PT1H"),
    "uuid": ("UUID", "12345678-1234-5678-1234-567812345678"),
    "decimal": ("decimal number", "1.5"),
}
_BOUNDS: Final = {
    "minimum": "at least {}", "exclusiveMinimum": "more than {}", "maximum": "at most {}",
    "exclusiveMaximum": "less than {}", "multipleOf": "a multiple of {}", "minLength": "at least {} characters",
    "maxLength": "at most {} characters", "pattern": "like {}", "minItems": "at least {} items",
    "maxItems": "at most {} items",
}  # fmt: skip


def facts_of(functions: Functions) -> list[dict[str, Any]]:
    """Return what there is to say of each function, by name."""
    return [_facts(function) for function in sorted(functions.declared, key=lambda function: function.name)]


def _facts(function: HostFunction[..., Any]) -> dict[str, Any]:
    signature = Signature(function)
    arguments = _arguments(signature)
    return {
        "name": function.name,
        "doc": inspect.getdoc(function.function) or "",
        "limit": function_limit(function.name) if function.per_invocation is not None else None,
        "per_invocation": function.per_invocation,
        "arguments": arguments,
        "result": {} if signature.result in UNCHECKED else _hoisted(schema_of(signature.result)),
        "example": _example(signature, arguments),
    }


# ── schemas ──────────────────────────────────────────────────────────────────────────────────────


def _arguments(signature: Signature) -> dict[str, Any]:
    """Return the schema of all arguments as one object, with the defaults of those that have one."""
    schema = _hoisted(schema_of(signature.arguments))
    shapes = schema.get("$defs", {})
    own = {key: value for key, value in shapes.pop(ARGUMENTS).items() if key not in {"title", "$defs"}}
    for name, field in own["properties"].items():
        default = signature.parameters[name].default
        if default is not inspect.Parameter.empty and (shown := _as_json(default)) is not msgspec.UNSET:
            own["properties"][name] = {**field, "default": shown}
    return own | ({"$defs": shapes} if shapes else {})


def _as_json(value: object) -> Any:
    try:
        return msgspec.json.decode(write_json(value))
    except UNWRITABLE:
        return msgspec.UNSET


def _hoisted(schema: Any) -> dict[str, Any]:
    """Return a schema with all shapes at its top, by name: a model of pydantic's stands where it is used."""
    shapes: dict[str, Any] = {}
    top: dict[str, Any] = _without_shapes(schema, shapes)
    return {**top, "$defs": shapes} if shapes else top


def _without_shapes(schema: Any, shapes: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_without_shapes(each, shapes) for each in schema]
    if not isinstance(schema, dict):
        return schema
    for name, shape in schema.get("$defs", {}).items():
        shapes[name] = _parts_without_shapes(shape, shapes)
    parts = _parts_without_shapes(schema, shapes)
    name = parts.get("title")
    if not isinstance(name, str) or "properties" not in parts or shapes.get(name, parts) != parts:
        return parts
    shapes[name] = parts
    return {"$ref": f"{_REF}{name}"}


def _parts_without_shapes(schema: dict[str, Any], shapes: dict[str, Any]) -> dict[str, Any]:
    return {key: _without_shapes(each, shapes) for key, each in schema.items() if key != "$defs"}


# ── in words ─────────────────────────────────────────────────────────────────────────────────────


def type_text(schema: Schema) -> str:
    """Return what a schema asks for, in words; objects by their names."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REF)
    if "enum" in schema or "const" in schema:
        return "one of " + ", ".join(map(_written, schema.get("enum", [schema.get("const")])))
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(map(type_text, schema[key])))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(type_text({**schema, "type": each}) for each in kind)
    return ", ".join([_kind_text(kind, schema), *_bounds(kind, schema)])


def _kind_text(kind: object, schema: Schema) -> str:
    match kind:
        case "array":
            return _array_text(schema)
        case "object":
            return _object_text(schema)
        case "null":
            return "null"
        case "string":
            encoded = " in base64" if schema.get("contentEncoding") == "base64" else ""
            return _FORMATS.get(schema.get("format", ""), ("text",))[0] + encoded
    return _PLAIN.get(str(kind), "any JSON")


def _array_text(schema: Schema) -> str:
    if "prefixItems" in schema:
        return "list of " + ", then ".join(map(type_text, schema["prefixItems"]))
    return f"list of {type_text(schema.get('items') or {})}"


def _object_text(schema: Schema) -> str:
    if "properties" in schema:
        return str(schema.get("title", "object"))
    values = schema.get("additionalProperties")
    return f"object of {type_text(values)}" if isinstance(values, Mapping) else "object"


def _bounds(kind: object, schema: Schema) -> Iterator[str]:
    if kind == "array" and "prefixItems" in schema:
        return
    for key, words in _BOUNDS.items():
        if key in schema:
            yield words.format(_written(schema[key]))


def _written(value: object) -> str:
    return msgspec.json.encode(value).decode()


def fields_of(schema: Schema) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, whether it is required or else its default, and description of each field of an object."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        default = f"default {_written(field['default'])}" if "default" in field else "optional"
        yield name, type_text(field), "required" if name in required else default, field.get("description", "")


# ── examples ─────────────────────────────────────────────────────────────────────────────────────


def _example(signature: Signature, arguments: Schema) -> Any:
    """Return arguments that the function takes, or `None` where none were found."""
    example = _value(arguments, arguments.get("$defs", {}), "", _DEPTH)
    try:
        signature.read(msgspec.json.encode(example))
    except (BackendError, *UNWRITABLE):
        return None
    return example


def _value(schema: Schema, shapes: Schema, name: str, depth: int) -> Any:
    if "$ref" in schema:
        return _value(shapes.get(schema["$ref"].removeprefix(_REF), {}), shapes, name, depth - 1)
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            choices = [each for each in schema[key] if each.get("type") != "null"]
            return _value(choices[0], shapes, name, depth) if choices and depth > 0 else None
    return _value_of_kind(schema, shapes, name, depth)


def _value_of_kind(schema: Schema, shapes: Schema, name: str, depth: int) -> Any:
    match schema.get("type"):
        case "object":
            required = schema.get("required", ())
            fields = schema.get("properties", {}).items() if depth > 0 else ()
            return {key: _value(each, shapes, key, depth - 1) for key, each in fields if key in required}
        case "array":
            return _items(schema, shapes, name, depth)
        case "string":
            return _text(schema, name)
        case "integer" | "number":
            least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
            return min(max(1, least), schema.get("maximum", schema.get("exclusiveMaximum", least + 2) - 1))
        case "boolean":
            return True
    return None


def _items(schema: Schema, shapes: Schema, name: str, depth: int) -> list[Any]:
    if "prefixItems" in schema:
        return [_value(each, shapes, name, depth - 1) for each in schema["prefixItems"]]
    wanted = schema.get("minItems", 0) if depth <= 0 else max(1, schema.get("minItems", 0))
    most = schema.get("maxItems", wanted)
    return [_value(schema.get("items") or {}, shapes, name, depth - 1) for _ in range(min(wanted, most))]


def _text(schema: Schema, name: str) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]][1]
    if schema.get("contentEncoding") == "base64":
        return "AAECAw=="
    text = name or "text"
    return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
