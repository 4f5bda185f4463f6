"""The command line: what it shows, in text and JSON, its exit codes, and that no plugin's word comes out raw."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner, Result
from wasmtime import wat2wasm

from fuseboard._limits import LIMITS
from fuseboard._text import printable
from fuseboard.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GUEST = r"""
(module
  (import "fuseboard" "output_write" (func $output (param i32 i32)))
  (import "fuseboard" "buffer_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_log" (func $log (param i32 i32 i32)))
  (import "fuseboard" "fail" (func $fail (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\"[red]Hi\"")
  (data (i32.const 16) "[bold]log \1b[31m")
  (data (i32.const 48) "[red]failed\1b[0m")
  (data (i32.const 80) "\ff\fe")
  (func (export "hello") (call $log (i32.const 2) (i32.const 16) (i32.const 15))
                         (call $output (i32.const 0) (i32.const 9)))
  (func (export "quiet"))
  (func $crash (export "crash") unreachable)
  (func (export "spin") (loop (br 0)))
  (func (export "failing") (call $fail (i32.const 48) (i32.const 15)))
  (func (export "bad") (call $output (i32.const 0) (i32.const 3)))
  (func (export "raw") (call $output (i32.const 80) (i32.const 2)))
  (func (export "settings") (call $output (i32.const 256)
    (call $read (i32.const 4) (i32.const 0) (i32.const 256) (i32.const 999))))
  (func (export "context") (call $output (i32.const 256)
    (call $read (i32.const 1) (i32.const 0) (i32.const 256) (i32.const 999))))
)
"""
CALLER = r"""
(module
  (import "fuseboard" "host_call" (func $call (param i32 i32 i32 i32) (result i32)))
  (import "fuseboard" "host_http_request" (func $http (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "mail.send")
  (data (i32.const 16) "{}")
  (data (i32.const 32) "{\"method\":\"GET\",\"url\":\"https://a.example/\",\"headers\":[]}")
  (func (export "mail") (loop (drop (call $call (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 2))) (br 0)))
  (func (export "fetch") (drop (call $http (i32.const 32) (i32.const 56) (i32.const 0) (i32.const 0))) unreachable)
)
"""
APPLICATION = """
import fuseboard as fb
from fuseboard.backends import HttpResponse

class Http:
    def session(self, identity): return self
    def answer(self, call, deadline): return HttpResponse(200)
    def commit(self, deadline): pass
    def rollback(self): pass

@fb.host_function("mail.send", per_invocation=1)
def send_mail():
    raise RuntimeError("no [red]server \\x1b[31m")

def make():
    return fb.Host(
        hooks=[fb.Filter("post.title", str), fb.Filter("post.body", bytes), fb.Action("post.published"),
               fb.Filter("post.meta", dict)],
        functions=[send_mail], backends=fb.Backends(http=Http()), ceilings=fb.Limits(memory_limit_mb=16),
    )

def make_async():
    return fb.AsyncHost(hooks=[fb.Filter("post.title", str)])

print("printed by the application")
host = make()
number = 7
def wrong(): return number
def raising(): raise AttributeError("[red]broken \\x1b[31m")
"""
CALLS = """
[server.capabilities]
functions = ["mail.send"]
http = ["https://a.example"]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a directory with a plugin's folder `plugin` and an application `app.py`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "plugin").mkdir()
    plugin(tmp_path / "plugin", "post.title")
    yield tmp_path / "plugin"
    for name in ("app", "other"):
        sys.modules.pop(name, None)


def plugin(folder: Path, hook: str, export: str = "hello", more: str = "", *, guest: str = GUEST) -> None:
    manifest = f"""
        manifest = 1
        slug = "hi"
        name = "[red]Hi[/red]"
        version = "1.0.0"
        [[hooks]]
        name = "{hook}"
        export = "{export}"
    """
    (folder / "plugin.toml").write_text(dedent(manifest) + dedent(more))
    (folder / "plugin.wasm").write_bytes(wat2wasm(guest))


def fuseboard(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "\x1b" not in result.output
    return result


def check(*arguments: str) -> Result:
    return fuseboard("check", "plugin", *arguments)


def run(hook: str, *arguments: str) -> Result:
    return fuseboard("run", "plugin", "--host", "app:host", "--hook", hook, *arguments)


def run_json(hook: str, *arguments: str) -> dict[str, Any]:
    result = run(hook, *arguments, "--json")
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def problems(*arguments: str) -> list[str]:
    """Return the problems' texts, and hold text and JSON to say the same."""
    data = json.loads(check(*arguments, "--json").stdout)
    result = check(*arguments)
    shown = [line.removeprefix("problem: ") for line in result.stdout.splitlines() if line.startswith("problem: ")]
    texts = [problem["text"] for problem in data["problems"]]
    assert shown == [printable(text) for text in texts]
    assert result.exit_code == (1 if texts else 0)
    assert data["ok"] == (not texts)
    return texts


# ── check ────────────────────────────────────────────────────────────────────────────────────────


def test_check_tells_what_a_plugin_is() -> None:
    """A plugin without problems is described, and the command ends well."""
    result = check()
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "hi 1.0.0  [red]Hi[/red]"
    assert result.stdout.splitlines()[-1] == "no problems"
    for said in ("post.title → hello (priority 10)", "memory_limit_mb = 64 (default)", "host_log", "quiet"):
        assert said in result.stdout


def test_check_gives_the_same_as_json(folder: Path) -> None:
    """The JSON has hooks, limits in their keys' units, capabilities, module size, imports and further exports."""
    plugin(folder, "post.title", more='[server]\nmemory_limit_mb = 3\n[server.capabilities]\ndb = "read"\n')
    data = json.loads(check("--json").stdout)
    assert data["plugin"]["hooks"] == [{"name": "post.title", "export": "hello", "priority": 10}]
    assert list(data["plugin"]["limits"]) == [spec.key for spec in LIMITS]
    assert data["plugin"]["limits"]["memory_limit_mb"] == {"value": 3, "requested": True}
    assert data["plugin"]["limits"]["fuel_per_invocation"] == {"value": 50_000_000, "requested": False}
    assert data["plugin"]["capabilities"] == {"db": "read"}
    assert data["module"]["bytes"] == len(wat2wasm(GUEST))
    assert "output_write" in data["module"]["imports"]
    assert "quiet" in data["module"]["other_exports"]
    assert "hello" not in data["module"]["other_exports"]


def test_check_shows_what_the_host_would_give() -> None:
    """Where a manifest is silent, a host's lower ceiling is what the plugin gets."""
    limits = json.loads(check("--host", "app:host", "--json").stdout)["plugin"]["limits"]
    assert limits["memory_limit_mb"] == {"value": 16, "requested": False}


def test_check_advises_to_request_less(folder: Path) -> None:
    """A capability that no import uses is named, and is no problem."""
    plugin(folder, "post.title", more="[server.capabilities]\nkv = true\n")
    result = check()
    assert "requests kv, but the module imports nothing that uses it" in result.stdout
    assert result.exit_code == 0


def test_check_takes_the_manifests_path() -> None:
    """DIR may be the plugin.toml too."""
    assert fuseboard("check", "plugin/plugin.toml").exit_code == 0


def test_check_names_every_problem_of_a_manifest(folder: Path) -> None:
    """Several problems are several lines, and their number is the result."""
    (folder / "plugin.toml").write_text('manifest = 2\nslug = "X"\nhook = 1\n')
    found = problems()
    assert len(found) == 5
    assert "slug = 'X'" in found[1]
    assert check().stdout.splitlines()[-1] == "5 problems"


def test_check_without_a_manifest(folder: Path) -> None:
    """A folder that is no plugin has that problem."""
    (folder / "plugin.toml").unlink()
    (found,) = problems()
    assert "there is no such file" in found


def test_check_holds_names_to_the_application(folder: Path) -> None:
    """With a host, hooks and functions that it hasn't, backends that it hasn't, and its ceilings are problems."""
    capabilities = '[server.capabilities]\nfunctions = ["mail.sent"]\nkv = true\n'
    plugin(folder, "post.titel", more=capabilities)
    hook, kv, function = problems("--host", "app:host")
    assert "did you mean 'post.title'" in hook
    assert "no kv backend" in kv
    assert "did you mean 'mail.send'" in function
    assert problems() == []
    plugin(folder, "post.title", more="[server]\nmemory_limit_mb = 17\n")
    (ceiling,) = problems("--host", "app:host")
    assert "allowed: 1 to 16" in ceiling


def test_check_treats_requests_as_granted(folder: Path) -> None:
    """What a manifest requests of a host's services is no problem."""
    plugin(folder, "post.title", "mail", CALLS, guest=CALLER)
    assert problems("--host", "app:host") == []


def test_check_names_imports_without_a_request(folder: Path) -> None:
    """An import that needs a capability which isn't requested is a problem, each on its own line."""
    plugin(folder, "post.title", "mail", guest=CALLER)
    assert [text.split("imports ")[1].split(",")[0] for text in problems()] == ["host_call", "host_http_request"]


def test_check_names_a_missing_export(folder: Path) -> None:
    """A hook whose export isn't there is a problem, with the nearest export."""
    plugin(folder, "post.title", "helo")
    (found,) = problems()
    assert "did you mean 'hello'" in found


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("Cargo.toml", "in Rust a hook is exported by #[filter] or #[action] right above fn hello"),
        (
            "go.mod",
            "in Go a hook is exported by //go:wasmexport hello right above a function, without a space after the //",
        ),
        ("plugin.c", "in C a hook is exported by FUSEBOARD_EXPORT(hello) before the function's body"),
        ("plugin.cpp", "in C++ a hook is exported by FUSEBOARD_EXPORT(hello) before the function's body"),
        ("plugin.zig", 'in Zig a hook is exported by fb.hook("hello", function) in a comptime block'),
    ],
)
def test_check_says_how_a_language_exports(folder: Path, marker: str, words: str) -> None:
    """A hook whose export isn't there comes with what exports it, in the language of the source."""
    (folder / marker).touch()
    for guest, said in ((GUEST, []), (GUEST.replace('"hello"', '"other"'), [words])):
        plugin(folder, "post.title", guest=guest)
        assert json.loads(check("--json").stdout)["advice"] == said


def test_check_names_every_problem_of_a_module(folder: Path) -> None:
    """What the core refuses a module for is one line each."""
    plugin(
        folder,
        "post.title",
        guest='(module (import "env" "a" (func)) (import "env" "b" (func)) (func (export "_start")))',
    )
    found = problems()
    assert len(found) == len(set(found)) > 2
    assert any("_start" in text for text in found)


def test_check_refuses_what_is_no_module(folder: Path) -> None:
    """Bytes that aren't WebAssembly, and a module that isn't there, are problems."""
    (folder / "plugin.wasm").write_bytes(b"\x7fELF")
    assert len(problems()) == 1
    (folder / "plugin.wasm").unlink()
    (found,) = problems()
    assert "can't be read" in found


def test_check_of_a_folder_that_is_not_there() -> None:
    """A path that leads nowhere is wrong usage."""
    assert fuseboard("check", "nowhere").exit_code == 2


def test_markup_and_controls_of_a_plugin_are_shown_as_text(folder: Path) -> None:
    """Names with markup come out as they are, control characters and turned text as escapes."""
    guest = (
        '(module (memory (export "memory") 1) (func (export "[red]x\\e2\\80\\ae\\1b[31m")) (func (export "[link]y")))'
    )
    plugin(folder, "post.title", "[red]x", guest=guest)
    (found,) = problems()
    assert "[red]x" in found
    result = check()
    assert "[link]y" in result.stdout
    assert not set(result.output) & set("\x7f\u202e\x9b")
    assert check("--json").stdout.isascii()
    (folder / "plugin.toml").write_text('slug = "a\\u001b[31m"\n"\\u001b[31m" = 1\n"[red]" = 1')
    assert any("[red]" in text for text in problems())


def test_long_names_are_shown_whole(folder: Path) -> None:
    """A name that is longer than a line goes on on the next one."""
    name = "long" * 60
    plugin(folder, "post.title", name, guest=f'(module (memory (export "memory") 1) (func (export "{name}")))')
    assert name in "".join(line.strip() for line in check().stdout.splitlines())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[red]x", "[red]x"),
        ("a\x1b[0m\n", r"a\x1b[0m\n"),
        ("\u202ex\x9b", r"\u202ex\x9b"),
        ("\ud800", r"\ud800"),
        ("é字", "é字"),
    ],
)
def test_printable_escapes_controls_only(text: str, shown: str) -> None:
    """Everything printable stays, everything else is written as its escape."""
    assert printable(text) == shown


# ── the application ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("app", "must be MODULE:ATTR"),
        (":host", "must be MODULE:ATTR"),
        ("nowhere:host", "there is no module 'nowhere'"),
        ("app.below:host", "there is no module 'app.below'"),
        ("app:hots", "did you mean 'host'"),
        ("app:number", "app:number is of type int; it must be a fuseboard.Host or AsyncHost"),
        ("app:wrong", "app:wrong returns something of type int"),
        ("app:raising", r"app:raising() raised AttributeError: [red]broken \x1b[31m ("),
        ("other:host", "importing other raised ZeroDivisionError: division by zero ("),
    ],
)
@pytest.mark.parametrize("command", [["check", "plugin"], ["run", "plugin", "--hook", "post.title"]])
def test_wrong_hosts(command: list[str], place: str, told: str, tmp_path: Path) -> None:
    """Whatever keeps a host from being found is wrong usage and told in one sentence."""
    (tmp_path / "other.py").write_text("1 / 0")
    result = fuseboard(*command, "--host", place)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.output


def test_a_module_that_the_application_misses(tmp_path: Path) -> None:
    """An application that can't import something of its own isn't taken for a missing application."""
    (tmp_path / "other.py").write_text("import elsewhere_nowhere")
    result = fuseboard("check", "plugin", "--host", "other:host")
    assert "importing other raised ModuleNotFoundError: No module named 'elsewhere_nowhere'" in result.stderr
    assert result.exit_code == 2


@pytest.mark.parametrize("code", ["raise SystemExit(0)", "import sys; sys.exit('bye')"])
def test_an_application_that_exits(tmp_path: Path, code: str) -> None:
    """An application that ends the process on import isn't taken for success."""
    (tmp_path / "other.py").write_text(code)
    assert fuseboard("check", "plugin", "--host", "other:host").exit_code == 2


def test_a_callable_makes_the_host() -> None:
    """A callable without arguments is called, and what the application prints isn't in the output."""
    result = fuseboard("run", "plugin", "--host", "app:make", "--hook", "post.title", "--value", '"a"', "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["value_after"] == "[red]Hi"
    assert "printed by the application" in result.stderr


def test_an_asynchronous_host() -> None:
    """An application with an `AsyncHost` is checked and run like any other."""
    command = ("plugin", "--host", "app:make_async")
    assert fuseboard("check", *command).exit_code == 0
    result = fuseboard("run", *command, "--hook", "post.title", "--value", '"a"', "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["value_after"] == "[red]Hi"


# ── run ──────────────────────────────────────────────────────────────────────────────────────────


def test_run_shows_a_completed_invocation() -> None:
    """The value before and after, every meter, and the plugin's log on standard error; exit code 0."""
    result = run("post.title", "--value", '"hello"', "--scope", "site-1", "--request-id", "r-1")
    assert result.exit_code == 0
    assert result.stdout.startswith("completed: plugin hi on hook post.title in ")
    for said in ('"hello"', '"[red]Hi"', "site-1", "r-1", *(spec.limit for spec in LIMITS)):
        assert said in result.stdout
    assert "warning  [bold]log " in result.stderr


def test_run_as_json() -> None:
    """One JSON object has the outcome, the values, every meter and the log; nothing else is shown."""
    result = run("post.title", "--value", '"hello"', "--request-id", "r-1", "--json")
    data = json.loads(result.stdout)
    assert data["outcome"] == "completed"
    assert (data["plugin"], data["hook"], data["request_id"], data["scope"]) == ("hi", "post.title", "r-1", None)
    assert (data["value_before"], data["value_after"], data["changed"]) == ("hello", "[red]Hi", True)
    assert list(data["meters"]) == [spec.limit for spec in LIMITS]
    assert data["meters"]["memory"] == {"used": 65536, "ceiling": 16 << 20, "unit": "bytes", "exact": True}
    assert data["log"][0]["level"] == "warning"
    assert data["replaced"] is None
    assert "log" not in result.stderr


def test_run_says_that_nothing_changed(folder: Path) -> None:
    """A value that the plugin left alone is told to be unchanged."""
    plugin(folder, "post.title", "quiet")
    assert "unchanged" in run("post.title", "--value", '"a"').stdout


def test_run_without_a_value_takes_null(folder: Path) -> None:
    """A missing value is null, which an action without a value takes and a text hook refuses."""
    plugin(folder, "post.published", "quiet")
    assert run_json("post.published")["value_before"] is None
    assert run("post.published").exit_code == 0
    plugin(folder, "post.title")
    result = run("post.title")
    assert result.exit_code == 2
    assert "doesn't fit hook 'post.title'" in result.stderr


def test_run_takes_plain_text_for_bytes_hooks(folder: Path, tmp_path: Path) -> None:
    """A bytes hook's value is text as it stands, empty when missing, or a file's bytes; others are shown as base64."""
    plugin(folder, "post.body", "raw")
    data = run_json("post.body", "--value", "é")
    assert (data["value_before"], data["value_after"]) == ("é", {"base64": "//4="})
    assert run_json("post.body")["value_before"] == ""
    (tmp_path / "value").write_bytes(b"\xff")
    assert run_json("post.body", "--value-file", "value")["value_before"] == {"base64": "/w=="}


def test_run_takes_a_value_from_a_file(tmp_path: Path) -> None:
    """A value's file holds JSON for a hook that isn't of bytes, and excludes --value."""
    (tmp_path / "value.json").write_text('"from a file"')
    assert run_json("post.title", "--value-file", "value.json")["value_before"] == "from a file"
    assert run("post.title", "--value-file", "value.json", "--value", "1").exit_code == 2


def test_run_shortens_a_long_value_for_people_only() -> None:
    """A long value is cut in the text and whole in the JSON."""
    value = json.dumps("x" * 5000)
    assert "--json shows all" in run("post.title", "--value", value).stdout.replace("\n", " ")
    assert run_json("post.title", "--value", value)["value_before"] == "x" * 5000


def test_run_gives_settings_and_context(folder: Path) -> None:
    """Settings go over the manifest's, key by key, and the context reaches the plugin."""
    plugin(folder, "post.meta", "settings", '[settings]\nstyle = "ap"\nkeep = 1\n')
    settings = run_json("post.meta", "--value", "{}", "--setting", 'style="x"', "--setting", "list=[1]")
    assert settings["value_after"] == {"style": "x", "keep": 1, "list": [1]}
    plugin(folder, "post.meta", "context")
    assert run_json("post.meta", "--value", "{}", "--context", '{"id": 7}')["value_after"] == {"id": 7}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--setting", "style"],
        ["--setting", "style=ap"],
        ["--context", "[]"],
        ["--context", "{"],
        ["--value", "hello"],
        ["--value", "1"],
        ["--value", "[" * 100_000],
        ["--request-id", "with space"],
        ["--scope", ""],
        ["--timeout-ms", "-1"],
        ["--grant", "all"],
        ["--value-file", "nowhere"],
        ["--hook", "post.titel"],
        ["--hook", "post.body"],
    ],
)
def test_run_refuses_wrong_usage(arguments: list[str]) -> None:
    """Options that can't be used end with exit code 2, a sentence on standard error, and nothing on standard output."""
    result = run("post.title", "--value", '"a"', *arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("missing", "arguments"), [("--hook", ["--host", "app:host"]), ("--host", ["--hook", "a"])])
def test_run_needs_host_and_hook(missing: str, arguments: list[str]) -> None:
    """Host and hook must be said."""
    result = fuseboard("run", "plugin", *arguments)
    assert result.exit_code == 2
    assert missing in result.stderr


def test_run_tells_why_a_plugin_cannot_be_loaded(folder: Path) -> None:
    """A plugin with problems isn't run; all of them are told, and the exit code is 2."""
    plugin(folder, "post.title", "helo", "[server]\nmemory_limit_mb = 17\nfuel = 1\n")
    result = run("post.title", "--value", '"a"')
    assert result.exit_code == 2
    assert "server.memory_limit_mb = 17" in result.stderr
    assert "also: " in result.stderr


def test_run_without_grants(folder: Path) -> None:
    """With --grant none, a plugin that requests something isn't loaded."""
    plugin(folder, "post.title", "mail", CALLS, guest=CALLER)
    result = run("post.title", "--value", '"a"', "--grant", "none")
    assert result.exit_code == 2
    assert "server.capabilities.http[0] = 'https://a.example': is requested but not granted" in result.stderr


def test_run_shows_a_tripped_limit(folder: Path) -> None:
    """A trip is told with its limit and every meter; exit code 1."""
    plugin(folder, "post.title", "spin", "[server]\nfuel_per_invocation = 1000\n")
    result = run("post.title", "--value", '"a"')
    assert result.exit_code == 1
    assert result.stdout.startswith("trapped: ")
    assert "fuel (tripped)" in result.stdout
    assert "━" in result.stdout
    data = run_json("post.title", "--value", '"a"')
    assert (data["trap"]["cause"], data["trap"]["limit"]) == ("limit", "fuel")
    assert data["meters"]["fuel"]["ceiling"] == 1000
    assert "value_after" not in data


@pytest.mark.parametrize(
    ("export", "cause", "told"),
    [("crash", "crash", "crash @ 0x"), ("failing", "failed", "[red]failed"), ("bad", "bad_output", "can't be read")],
)
def test_run_shows_a_fault(folder: Path, export: str, cause: str, told: str) -> None:
    """A crash shows its backtrace, a plugin's own failure its words as plain text, bad output what is wrong."""
    plugin(folder, "post.title", export)
    result = run("post.title", "--value", '"a"')
    assert result.exit_code == 1
    assert told in result.stdout
    assert run_json("post.title", "--value", '"a"')["trap"]["cause"] == cause
    assert "WARNING" not in result.stderr


def test_run_shows_the_host_call_in_flight(folder: Path) -> None:
    """A function's own limit is a meter, its trip names the call, and what the function raised is shown."""
    plugin(folder, "post.title", "mail", CALLS, guest=CALLER)
    result = run("post.title", "--value", '"a"')
    assert result.exit_code == 1
    assert "functions.mail.send" in result.stdout
    assert "host_call" in result.stdout
    assert r"RuntimeError: no [red]server \x1b[31m" in result.stderr
    data = run_json("post.title", "--value", '"a"')
    assert (data["trap"]["limit"], data["trap"]["host_call"]) == ("functions.mail.send", "host_call")
    assert any("RuntimeError" in line["text"] for line in data["log"])


def test_run_lists_http_requests_that_were_sent(folder: Path) -> None:
    """What can't be undone after a trap is listed."""
    plugin(folder, "post.title", "fetch", CALLS, guest=CALLER)
    assert "GET https://a.example/" in run("post.title", "--value", '"a"').stdout
    (sent,) = run_json("post.title", "--value", '"a"')["trap"]["http_requests"]
    assert sent.startswith("GET https://a.example/")


def test_run_shows_a_skip() -> None:
    """Without any time the plugin is skipped; exit code 3."""
    result = run("post.title", "--value", '"a"', "--timeout-ms", "0")
    assert result.exit_code == 3
    assert "deadline" in result.stdout
    assert run_json("post.title", "--value", '"a"', "--timeout-ms", "0")["reason"] == "deadline"


def test_run_tells_of_a_deadline_that_cut_the_plugins_own(folder: Path) -> None:
    """A timeout that --timeout-ms caused is told apart from the plugin's own."""
    plugin(folder, "post.title", "spin", "[server]\nfuel_per_invocation = 1000000000\ninvocation_timeout_ms = 10000\n")
    result = run("post.title", "--value", '"a"', "--timeout-ms", "5")
    assert result.exit_code == 1
    assert "--timeout-ms cut the time" in result.stdout


def test_run_replaces_a_loaded_plugin() -> None:
    """A plugin of the same slug that the application loaded makes room, and that is said."""
    assert run_json("post.title", "--value", '"a"')["replaced"] is None
    result = run("post.title", "--value", '"a"')
    assert result.exit_code == 0
    assert "unloaded the application's own hi 1.0.0" in result.stderr
    assert run_json("post.title", "--value", '"a"')["replaced"] == "1.0.0"


def test_run_leaves_logging_as_it_was() -> None:
    """Neither handlers nor levels of a run stay behind."""
    ours, plugins = logging.getLogger("fuseboard"), logging.getLogger("fuseboard.plugin")
    before = (list(ours.handlers), ours.propagate, plugins.level)
    run("post.title", "--value", '"a"')
    assert (list(ours.handlers), ours.propagate, plugins.level) == before


def test_interrupt_has_its_own_exit_code(tmp_path: Path) -> None:
    """Ctrl-C during an invocation isn't taken for a trap."""
    (tmp_path / "other.py").write_text(
        "from app import *\n"
        "class Interrupted(fb.Host):\n"
        "    def invoke(self, *args, **about): raise KeyboardInterrupt\n"
        "host = Interrupted(hooks=[fb.Filter('post.title', str)])\n"
    )
    result = fuseboard("run", "plugin", "--host", "other:host", "--hook", "post.title", "--value", '"a"')
    assert result.exit_code == 130


# ── the commands themselves ──────────────────────────────────────────────────────────────────────


def commands() -> list[click.Command]:
    groups = [main, *(each for each in main.commands.values() if isinstance(each, click.Group))]
    return [main, *(each for group in groups for each in group.commands.values())]


@pytest.mark.parametrize("command", commands(), ids=lambda command: str(command.name))
def test_everything_has_help(command: click.Command) -> None:
    """Every command and every option says what it is for, in a sentence."""
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.help.rstrip("]").endswith("."), option.name


def test_help_is_short_to_ask_for() -> None:
    """-h and --help both answer."""
    assert fuseboard("run", "-h").stdout == fuseboard("run", "--help").stdout


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_module_runs_as_a_program(encoding: str) -> None:
    """`python -m fuseboard` is the command line, whatever the terminal's encoding can hold."""
    command = [sys.executable, "-m", "fuseboard", "check", "plugin"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"no problems" in done.stdout
