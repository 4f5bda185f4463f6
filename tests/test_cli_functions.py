"""`fuseboard functions`: what plugin authors are told of an application's functions, in text, Markdown and JSON."""

from __future__ import annotations

import importlib
import json
import re
import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Never, NoReturn

import msgspec
import pytest
from click.testing import CliRunner, Result

from fuseboard._function_sessions import Functions
from fuseboard._functions import host_function
from fuseboard.backends import AnswerCode
from fuseboard.cli import main
from fuseboard.cli._function_facts import facts_of, fields_of, type_text

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION = '''
import datetime as dt
import enum
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pydantic

import fuseboard as fb


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Address:
    """Where somebody lives."""

    street: str
    zip: Annotated[int, msgspec.Meta(ge=1, le=99999, description="the *code*")] = 1
    next: "Address | None" = None


class Point(TypedDict):
    x: float
    y: NotRequired[float]


class Stamp(pydantic.BaseModel):
    value: int = 5


class Letter(pydantic.BaseModel):
    """A | letter."""

    to: str = pydantic.Field(min_length=3, description="who")
    stamp: Stamp


class Tagged(msgspec.Struct, tag="kind"):
    numbers: list[int]


@fb.host_function("mail.send", per_invocation=2)
def send(
    to: str,
    subject: str = "none",
    *,
    colour: Colour = Colour.RED,
    address: Address,
    points: list[Point],
    letter: Letter,
    mode: Literal["a", 1],
    tagged: Tagged,
    pair: tuple[int, str],
    raw: bytes,
    code: Annotated[str, msgspec.Meta(min_length=8)],
    anything: Any,
    more: dict[str, object],
    day: dt.date | None = None,
    call: fb.Call,
) -> dict[str, Address]:
    """Queue a mail.

    It leaves \\x1b[31m when the writes last.
    """
    return {}


@fb.host_function("noop")
def noop() -> None:
    raise SystemExit("functions aren't called")


@fb.host_function("code.check", per_invocation=1)
def check(code: Annotated[str, msgspec.Meta(pattern="^[0-9]{3}$")]) -> Letter: ...


FUNCTIONS = [send, noop, check]
host = fb.Host(functions=FUNCTIONS)
asynchronous = fb.AsyncHost(functions=FUNCTIONS)
bare = fb.Host()
number = 7


def make() -> fb.Host:
    print("made")
    return host


def fail() -> fb.Host:
    raise RuntimeError("no database")
'''


@pytest.fixture(autouse=True)
def _application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the application into the working directory."""
    (tmp_path / "offering.py").write_text(APPLICATION, encoding="utf-8")
    (tmp_path / "broken.py").write_text("import missing_dependency\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("offering", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["functions", *arguments])


def told(place: str = "offering:host") -> dict[str, Any]:
    result = run("--host", place, "--format", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    return {function["name"]: function for function in found["functions"]}


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", ["offering:host", "offering:asynchronous", "offering:make"])
def test_json_has_every_function(place: str) -> None:
    """A Host, an AsyncHost and a callable that returns one tell of all functions, by name; none is called."""
    assert list(told(place)) == ["code.check", "mail.send", "noop"]


def test_json_has_the_schema_of_arguments() -> None:
    """Each argument has its JSON Schema, its default and whether it is required; `call` isn't a guest's to give."""
    arguments = told()["mail.send"]["arguments"]
    properties = arguments["properties"]
    assert "call" not in properties
    assert arguments["additionalProperties"] is False
    assert set(properties) - set(arguments["required"]) == {"subject", "colour", "day"}
    assert properties["subject"] == {"type": "string", "default": "none"}
    assert properties["colour"] == {"$ref": "#/$defs/Colour", "default": "red"}
    assert properties["address"] == {"$ref": "#/$defs/Address"}
    assert properties["letter"] == {"$ref": "#/$defs/Letter"}
    assert properties["points"] == {"type": "array", "items": {"$ref": "#/$defs/Point"}}
    assert properties["mode"] == {"enum": [1, "a"]}
    assert properties["code"] == {"type": "string", "minLength": 8}
    assert set(arguments["$defs"]) == {"Address", "Colour", "Letter", "Point", "Stamp", "Tagged"}


def test_every_reference_leads_somewhere() -> None:
    """What a schema refers to stands at its top, nested models of pydantic's too."""
    for function in told().values():
        for schema in (function["arguments"], function["result"]):
            used = set(re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(schema)))
            assert used <= set(schema.get("$defs", {}))


def test_json_has_results_limits_and_errors() -> None:
    """A result's schema, a function's own limit, and every code that it can be answered with are told."""
    functions = told()
    assert functions["noop"]["result"] == {"type": "null"}
    assert functions["code.check"]["result"]["$ref"] == "#/$defs/Letter"
    assert [functions["mail.send"][key] for key in ("limit", "per_invocation")] == ["functions.mail.send", 2]
    assert [functions["noop"][key] for key in ("limit", "per_invocation")] == [None, None]
    errors = json.loads(run("--host", "offering:host", "--format", "json").stdout)["errors"]
    assert {each["code"] for each in errors} <= {int(code) for code in AnswerCode}
    assert {"DENIED", "BAD_REQUEST", "BACKEND_FAILED", "TOO_LARGE"} == {each["name"] for each in errors}


def test_examples_are_calls_that_fit() -> None:
    """An example has what is required, and the function takes it; where none was found, none is shown."""
    functions = Functions(importlib.import_module("offering").FUNCTIONS)
    for name, function in told().items():
        example = function["example"]
        if name == "code.check":
            assert example is None
        else:
            functions._by_name[name].signature.read(json.dumps(example).encode())
            assert set(function["arguments"].get("required", ())) == set(example)


# ── text and Markdown ────────────────────────────────────────────────────────────────────────────


def test_text_says_it_in_words() -> None:
    """Types, bounds, defaults, shapes, the limit and a call are written as a person would."""
    text = run("--host", "offering:host").stdout
    for line in (
        "mail.send",
        "  Queue a mail.",
        '    subject: text (default "none")',
        "    points: list of Point (required)",
        '    mode: one of 1, "a" (required)',
        "    pair: list of whole number, then text (required)",
        "    raw: text in base64 (required)",
        "    code: text, at least 8 characters (required)",
        "    anything: any JSON (required)",
        "    more: object of any JSON (required)",
        "    day: date or null (default null)",
        "  result: object of Address",
        "  Address: Where somebody lives.",
        "    zip: whole number, at least 1, at most 99999 (default 1): the *code*",
        "    next: Address or null (default null)",
        '  Colour: one of "blue", "red"',
        "  Letter: A | letter.",
        "    to: text, at least 3 characters (required): who",
        "    y: number (optional)",
        "    value: whole number (default 5)",
        "  limit: 2 calls an invocation; the next one trips functions.mail.send",
        "  limit: 1 call an invocation; the next one trips functions.code.check",
        "  limit: no limit of its own",
        "  no arguments",
        "  result: null",
        "  call: host_call('noop', '{}')",
        '    code: text, like "^[0-9]{3}$" (required)',
        "  -2 BAD_REQUEST: the arguments don't fit; the reason names the one at fault, and nothing was called",
    ):
        assert line in text.splitlines(), line


def test_markdown_is_a_page() -> None:
    """Each function has a heading, tables and blocks; what Markdown would read as its own is escaped."""
    page = run("--host", "offering:host", "--format", "markdown").stdout
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## code.check", "## mail.send", "## noop", "## Errors",
    ]  # fmt: skip
    assert "| zip | whole number, at least 1, at most 99999 | default 1 | the \\*code\\* |" in page
    assert "A \\| letter." in page
    assert 'functions = ["mail.send"]' in page
    rows = [re.sub(r"\\.", "", line).count("|") for line in page.splitlines() if line.startswith("|")]
    assert set(rows) <= {4, 5}


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_no_words_of_an_application_reach_the_terminal_raw(form: str) -> None:
    """Control characters of docstrings are escaped, and what an application prints goes to standard error."""
    result = run("--host", "offering:make", "--format", form)
    assert "\x1b" not in result.stdout
    assert "made" not in result.stdout
    assert "made" in result.stderr


def test_an_application_without_functions() -> None:
    """That there are none is said in each form."""
    assert "offers no functions" in run("--host", "offering:bare").stdout
    assert "offers no functions" in run("--host", "offering:bare", "--format", "markdown").stdout
    assert told("offering:bare") == {}


# ── wrong usage ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "Missing option '--host'"),
        (("--host", "offering"), "must be MODULE:ATTR"),
        (("--host", "nowhere:host"), "there is no module 'nowhere'"),
        (("--host", "offering:hosts"), "module 'offering' has no 'hosts' (did you mean 'host'?)"),
        (("--host", "offering:number"), "offering:number is of type int; it must be a fuseboard.Host"),
        (("--host", "offering:noop"), "offering:noop() raised SystemExit"),
        (("--host", "offering:fail"), "offering:fail() raised RuntimeError: no database"),
        (("--host", "broken:host"), "missing_dependency"),
        (("--host", "offering:host", "--format", "html"), "'html' is not one of"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: tuple[str, ...], problem: str) -> None:
    """What can't be found or isn't a host is said, without a traceback, and exits with 2."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert problem in re.sub(r"\s+", " ", result.stderr)
    assert (result.stdout, "Traceback" in result.stderr) == ("", False)


# ── words of schemas ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (bool, "true or false"),
        (float, "number"),
        (int | str, "whole number or text"),
        (list[int], "list of whole number"),
        (list, "list of any JSON"),
        (dict[str, list[bool]], "object of list of true or false"),
        (msgspec.Raw, "any JSON"),
    ],
)
def test_types_in_words(kind: Any, text: str) -> None:
    """Every kind of type has words."""
    assert type_text(msgspec.json.schema(kind)) == text


@pytest.mark.parametrize("default", ["object()", "[float('nan')]"])
def test_defaults_that_have_no_json_are_left_out(default: str) -> None:
    """A default that no JSON can show makes the argument optional, no more."""
    namespace: dict[str, Any] = {}
    exec(dedent(f"def f(a: list[float] = {default}): ..."), namespace)
    (facts,) = facts_of(Functions([host_function("f")(namespace["f"])]))
    assert list(fields_of(facts["arguments"])) == [("a", "list of number", "optional", "")]
    assert facts["example"] == {}


@pytest.mark.parametrize("kind", [Any, object, NoReturn, Never])
def test_results_that_say_nothing_are_any_json(kind: Any) -> None:
    """A result of which the annotation says nothing is shown as any JSON, one that never comes too."""

    def f() -> Any: ...

    f.__annotations__["return"] = kind
    (facts,) = facts_of(Functions([host_function("f")(f)]))
    assert type_text(facts["result"]) == "any JSON"
