"""`fuseboard functions`: what an application's functions take and give, for those who write plugins.

Rules:
* Nothing is called. The host is imported, and its functions' annotations and docstrings are read.
* Text, Markdown and JSON show the same facts, gathered once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import click
import msgspec

from fuseboard._text import printable
from fuseboard.cli._application import host_at
from fuseboard.cli._function_facts import ERRORS, facts_of, fields_of, type_text
from fuseboard.cli._terminal import host_option, print_json

_HOST_HELP: Final = "The application's Host or AsyncHost, or a callable that returns one."
_NONE: Final = "The application offers no functions."
_INDENT: Final = "  "


@click.command()
@host_option(_HOST_HELP, required=True)
@click.option(
    "--format", "form", type=click.Choice(["text", "markdown", "json"]), default="text", help="How it is written."
)
def functions(host: str, form: str) -> None:
    """Tell plugin authors of the application's functions: what each does, takes and gives, and how it is called.

    Made of the functions' annotations and docstrings; JSON has their JSON Schemas. None is called.
    """
    facts = facts_of(host_at(host)._functions)
    if form == "json":
        print_json({"functions": facts, "errors": [_error(*each) for each in ERRORS.items()]})
        return
    written = _text(facts) if form == "text" else _markdown(facts)
    click.echo("\n".join(written).rstrip())


def _error(code: Any, says: str) -> dict[str, Any]:
    return {"code": int(code), "name": code.name, "says": says}


# ── what both say ────────────────────────────────────────────────────────────────────────────────


def _doc_lines(function: dict[str, Any]) -> list[str]:
    return [printable(line) for line in function["doc"].splitlines()]


def _limit(function: dict[str, Any]) -> str:
    count = function["per_invocation"]
    if count is None:
        return "no limit of its own"
    return f"{count} {'call' if count == 1 else 'calls'} an invocation; the next one trips {function['limit']}"


def _shapes(function: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects that arguments and result are made of, by name."""
    yield from sorted((function["arguments"].get("$defs", {}) | function["result"].get("$defs", {})).items())


def _rows(schema: dict[str, Any], clean: Callable[[str], str]) -> Iterator[tuple[str, ...]]:
    for row in fields_of(schema):
        yield tuple(map(clean, row))


def _example(function: dict[str, Any]) -> str | None:
    example = function["example"]
    return None if example is None else printable(msgspec.json.encode(example).decode())


# ── text ─────────────────────────────────────────────────────────────────────────────────────────


def _text(facts: list[dict[str, Any]]) -> Iterator[str]:
    if not facts:
        yield _NONE
        return
    for function in facts:
        yield from _text_of(function)
        yield ""
    yield "Errors, as host_call returns them:"
    for code, says in ERRORS.items():
        yield f"{_INDENT}{int(code)} {code.name}: {says}"


def _text_of(function: dict[str, Any]) -> Iterator[str]:
    yield function["name"]
    yield from (f"{_INDENT}{line}".rstrip() for line in _doc_lines(function))
    yield f"{_INDENT}arguments:" if function["arguments"].get("properties") else f"{_INDENT}no arguments"
    yield from (f"{_INDENT * 2}{line}" for line in _field_lines(function["arguments"]))
    yield f"{_INDENT}result: {printable(type_text(function['result']))}"
    for name, shape in _shapes(function):
        yield f"{_INDENT}{printable(name)}: {_shape_text(shape)}".rstrip()
        yield from (f"{_INDENT * 2}{line}" for line in _field_lines(shape))
    yield f"{_INDENT}limit: {_limit(function)}"
    if (example := _example(function)) is not None:
        yield f"{_INDENT}call: host_call({function['name']!r}, {example!r})"


def _field_lines(schema: dict[str, Any]) -> Iterator[str]:
    for name, kind, need, description in _rows(schema, printable):
        yield f"{name}: {kind} ({need}){': ' if description else ''}{description}"


def _shape_text(shape: dict[str, Any]) -> str:
    """Return what a shape is: words on it where it is an object, else its type."""
    described = printable(str(shape.get("description", "")))
    return described if "properties" in shape else printable(type_text({**shape, "title": ""}))


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────


def _markdown(facts: list[dict[str, Any]]) -> Iterator[str]:
    yield "# Functions\n"
    if not facts:
        yield _NONE
        return
    yield "A plugin requests them in its manifest, under `[server.capabilities]`, and calls them with `host_call`.\n"
    for function in facts:
        yield from _markdown_of(function)
    yield "## Errors\n"
    yield from _table(("code", "name", "says"), [(str(int(code)), f"`{code.name}`", ERRORS[code]) for code in ERRORS])


def _markdown_of(function: dict[str, Any]) -> Iterator[str]:
    yield f"## {function['name']}\n"
    if function["doc"]:
        yield "\n".join(map(_escaped, _doc_lines(function))) + "\n"
    yield from _fields_table("argument", function["arguments"])
    yield f"Result: {_escaped(type_text(function['result']))}.\n"
    for name, shape in _shapes(function):
        yield f"### {_escaped(name)}\n"
        if words := _shape_text(shape):
            yield f"{_escaped(words)}\n"
        yield from _fields_table("field", shape)
    yield f"Limit: {_limit(function)}.\n"
    yield f'```toml\nfunctions = ["{function["name"]}"]\n```\n'
    if (example := _example(function)) is not None:
        yield f"```json\n{example}\n```\n"


def _fields_table(what: str, schema: dict[str, Any]) -> Iterator[str]:
    rows = list(_rows(schema, _escaped))
    if rows:
        yield from _table((what, "type", "", "is"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(row)} |"
    yield ""


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    cleaned = printable(text)
    return "".join(f"\\{each}" if each in "\\`*_[]<>|#" else each for each in cleaned)
