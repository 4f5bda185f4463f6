"""`fuseboard build`: new, build, check and test in each language by real compilers; every way to fail, by false ones.

Rules:
* The real compilers run in a folder outside of the repository and without the network. Where one can't be had its
  tests are skipped, for a reason that says how to get it; on CI, where `CI` is set, they fail.
* A false compiler is a script on a `PATH` of its own: what it is told, and what becomes of what it does, is looked at.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

import fuseboard as fb
from conftest import guest, wasm
from fuseboard._building import CannotBuildError, builder_for
from fuseboard._toolchains import TOOLCHAINS, Language, without_debug_sections
from fuseboard.cli import main

ROOT: Final = Path(__file__).resolve().parent.parent
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fuseboard"
OFFLINE: Final = {
    "CARGO_NET_OFFLINE": "true",
    "CARGO_TARGET_DIR": str(CACHE / "plugins"),
    "GOFLAGS": "-mod=mod",
    "GOPROXY": "off",
}
MODULE: Final = guest('(func (export "post_title"))')
MANIFEST: Final = 'manifest = 1\nslug = "word-count"\nversion = "1.0.0"\n[[hooks]]\nname = "post.title"\n'

BROKEN: Final = {
    Language.RUST: ("src/lib.rs", "fn post_title( {", "src/lib.rs:1:"),
    Language.GO: ("plugin.go", "package main\nfunc main() { nothing }", "plugin.go:2:15: undefined: nothing"),
    Language.C: ("plugin.c", "int post_title(void) { return nothing; }", "plugin.c:1:31: error: use of undeclared"),
    Language.CPP: ("plugin.cpp", "int post_title() { return nothing; }", "plugin.cpp:1:27: error: use of undeclared"),
    Language.ZIG: (
        "plugin.zig",
        "export fn post_title() void { nothing(); }",
        "plugin.zig:1:31: error: use of undeclared",
    ),
}
"""A source that doesn't compile: its file, its text, and the compiler's own words."""


def fuseboard(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuseboard", *arguments]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **OFFLINE}, capture_output=True, text=True, check=False, timeout=110
    )


def build(folder: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(main, ["build", str(folder), *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


# ── real compilers ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=list(Language))
def language(request: pytest.FixtureRequest) -> Language:
    found: Language = request.param
    return found


@pytest.fixture(scope="module")
def plugin(language: Language, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a new plugin's folder, where its compiler is there."""
    folder = tmp_path_factory.mktemp("plugins") / "word-count"
    made = fuseboard("new", "word-count", "--lang", language, "--dir", str(folder), cwd=folder.parent)
    assert made.returncode == 0, made.stderr
    try:
        builder_for(folder)
    except CannotBuildError as error:
        _not_to_be_had("\n".join(error.args))
    if language is Language.RUST and not _has_crates(folder):
        _not_to_be_had("the crates of guest/rust aren't here: cargo fetch --manifest-path guest/rust/Cargo.toml")
    return folder


def _has_crates(folder: Path) -> bool:
    return subprocess.run(("cargo", "fetch", "--offline"), cwd=folder, capture_output=True, check=False).returncode == 0


def _not_to_be_had(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def test_a_new_plugin_builds_checks_and_passes_its_test(plugin: Path, language: Language) -> None:
    """From an empty folder: new, build, check and the plugin's own test, without the network."""
    built = fuseboard("build", ".", cwd=plugin)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "no problems" in built.stdout
    assert built.stdout.startswith(f"plugin.wasm: {(plugin / 'plugin.wasm').stat().st_size:,} bytes, from ")
    assert fuseboard("check", ".", cwd=plugin).returncode == 0

    tested = subprocess.run(
        [sys.executable, "-m", "unittest"], cwd=plugin, capture_output=True, text=True, check=False, timeout=110
    )
    assert tested.returncode == 0, tested.stderr
    assert "Ran 4 tests" in tested.stderr
    ignored = {"Cargo.lock", "plugin.wasm", "__pycache__"}
    fresh = fuseboard("new", "word-count", "--lang", language, "--dir", "fresh", cwd=plugin.parent)
    assert fresh.returncode == 0
    assert {path.name for path in plugin.iterdir()} - ignored == {
        path.name for path in (plugin.parent / "fresh").iterdir()
    } - ignored


def test_a_module_keeps_the_names_of_its_functions(plugin: Path) -> None:
    """A module names its functions, so that a trap's backtrace does."""
    assert fuseboard("build", ".", cwd=plugin).returncode == 0
    inspected = json.loads(fuseboard("inspect", ".", "--json", cwd=plugin).stdout)
    assert all(function["name"] for function in inspected["functions"])


def test_a_new_plugin_runs_as_its_readme_says(plugin: Path) -> None:
    """The README's commands work as they stand there."""
    assert fuseboard("build", ".", cwd=plugin).returncode == 0
    line = next(line for line in (plugin / "README.md").read_text(encoding="utf-8").splitlines() if "--value" in line)

    command = line.strip().replace("fuseboard", f"{sys.executable} -m fuseboard", 1)
    ran = subprocess.run(["sh", "-c", command], cwd=plugin, capture_output=True, text=True, check=False, timeout=110)

    assert ran.returncode == 0, ran.stderr
    assert '"a title!"' in ran.stdout


def test_what_does_not_compile_is_told_by_the_compiler(plugin: Path, language: Language) -> None:
    """The compiler's own words are shown, the exit code is 1, and the old module stays."""
    name, text, words = BROKEN[language]
    source, module = plugin / name, plugin / "plugin.wasm"
    good = source.read_bytes()
    module.write_bytes(b"the old one")
    source.write_text(text)
    try:
        built = fuseboard("build", ".", cwd=plugin)
    finally:
        source.write_bytes(good)

    assert (built.returncode, built.stdout) == (1, "")
    assert words in built.stderr
    assert "; plugin.wasm wasn't touched\n" in built.stderr
    assert module.read_bytes() == b"the old one"


# ── false compilers ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a plugin's folder that nothing tells the language of; no compiler is on `PATH`."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("fuseboard._toolchains.importlib.util.find_spec", lambda _: None)
    (tmp_path / "bin").mkdir()
    (tmp_path / "plugin").mkdir()
    (tmp_path / "module.wasm").write_bytes(MODULE)
    (tmp_path / "plugin" / "plugin.toml").write_text(MANIFEST)
    return tmp_path / "plugin"


Tool = Callable[..., None]


@pytest.fixture
def tool(folder: Path) -> Tool:
    """Return what puts a script on `PATH` that says its version, or else does what it is told to."""

    def put(name: str, does: str, says: str = "9.9") -> None:
        script = folder.parent / "bin" / name
        head = f'PATH=/usr/bin:/bin\nhere={folder.parent}\ncase "$1" in *version) echo "{says}"; exit;; esac'
        script.write_text(f"#!/bin/sh\n{head}\n{does}\n")
        script.chmod(0o755)

    return put


TAKES_OUTPUT: Final = 'while [ "$1" != -o ]; do shift; done; '
WORKS: Final = f"{TAKES_OUTPUT}cp $here/module.wasm $2"


def mark(folder: Path, *languages: Language) -> None:
    for each in languages:
        (folder / TOOLCHAINS[each].marker).write_text("")


def refused(result: Result) -> list[str]:
    """Return the lines of an error for something that can't be built."""
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr.removeprefix("Error: ").splitlines()


def test_a_folder_without_source_is_refused(folder: Path) -> None:
    """What would tell a language is listed."""
    (line,) = refused(build(folder))
    assert line == (
        f"{folder}: there is no source to build: one of these is needed: Cargo.toml (Rust), go.mod (Go), plugin.c (C), "
        "plugin.cpp (C++), plugin.zig (Zig)"
    )


def test_a_folder_of_two_languages_is_refused(folder: Path) -> None:
    """Both are named."""
    mark(folder, Language.GO, Language.C)

    assert refused(build(folder)) == [
        f"{folder}: has go.mod (Go) and plugin.c (C): a plugin is built from one language; move the others elsewhere"
    ]


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (Language.RUST, "Rust needs cargo, which isn't on PATH: install Rust from https://rustup.rs"),
        (Language.GO, "Go needs go, which isn't on PATH: install Go from https://go.dev/dl"),
        (Language.C, "C needs zig or clang, which isn't on PATH: pip install ziglang; or install clang,"),
        (Language.CPP, "C++ needs zig or clang++, which isn't on PATH: pip install ziglang; or install clang,"),
        (Language.ZIG, "Zig needs zig, which isn't on PATH: pip install ziglang"),
    ],
)
def test_a_missing_compiler_is_named_with_the_way_to_get_it(folder: Path, language: Language, words: str) -> None:
    """Nothing is on `PATH`: the tool and where it comes from are told."""
    mark(folder, language)

    assert refused(build(folder))[0].startswith(words)


@pytest.mark.parametrize(
    ("language", "name", "says", "found", "oldest"),
    [
        (Language.RUST, "cargo", "cargo 1.84.1 (66221abde 2024-11-19)", "1.84.1", "1.85"),
        (Language.GO, "go", "go version go1.23.12 linux/amd64", "1.23.12", "1.24"),
        (Language.C, "zig", "0.13.0", "0.13.0", "0.14"),
        (Language.C, "clang", "Debian clang version 13.0.1-6", "13.0.1", "14"),
        (Language.ZIG, "zig", "0.16.0", "0.16.0", "0.17"),
    ],
)
def test_a_compiler_that_is_too_old_is_named(
    folder: Path, tool: Tool, language: Language, name: str, says: str, found: str, oldest: str
) -> None:
    """The version that is here, the oldest that will do and the way to get one are told."""
    mark(folder, language)
    tool(name, "exit 1", says)

    toolchain = TOOLCHAINS[language]
    way = next(each.tool.get for each in toolchain.compilers if each.tool.name == name)
    assert refused(build(folder)) == [
        f"{toolchain.title} needs {name} {oldest} or newer, and {folder.parent}/bin/{name} is {found}: {way}"
    ]


def test_a_compiler_without_a_version_is_taken(folder: Path, tool: Tool) -> None:
    """Who built his own compiler knows what he has."""
    mark(folder, Language.GO)
    tool("go", WORKS, "go version devel")

    result = build(folder)
    assert result.exit_code == 0, result.output
    assert "from Go by go in " in result.stdout


def test_a_compiler_that_cannot_tell_its_version_has_its_say(folder: Path, tool: Tool) -> None:
    """What it says instead is shown: a toolchain that can't be fetched, for example."""
    mark(folder, Language.GO)
    tool("go", "", "$(echo 'go: no such toolchain' >&2)\"; exit 1; \"")

    assert refused(build(folder)) == ["`go version` failed:", "go: no such toolchain"]


def test_a_missing_target_of_rust_is_named(folder: Path, tool: Tool) -> None:
    """The command that adds it is told."""
    mark(folder, Language.RUST)
    tool("cargo", "exit 1")
    tool("rustc", "echo $here/nowhere")

    assert refused(build(folder)) == [
        "Rust can't compile for wasm32-wasip1 yet: rustup target add wasm32-wasip1",
        "(without rustup: the package of your system that has Rust's standard library for it)",
    ]


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, "plugin.toml: there is no such file: a plugin is a folder with a plugin.toml"),
        (f'module = "../up.wasm"\n{MANIFEST}', "module = '../up.wasm': must be a .wasm file's relative path inside"),
        (f"modul = 1\n{MANIFEST}", "modul: unknown key (did you mean 'module'?)"),
    ],
)
def test_a_bad_manifest_is_told_as_check_tells_it(folder: Path, tool: Tool, manifest: str | None, words: str) -> None:
    """The manifest is looked at first: without it nothing is compiled, and the exit code is 1."""
    mark(folder, Language.GO)
    tool("go", "touch $here/called")
    path = folder / "plugin.toml"
    path.unlink() if manifest is None else path.write_text(manifest)

    result = build(folder)
    assert (result.exit_code, result.stderr) == (1, "")
    assert words in result.stdout
    assert result.stdout == CliRunner().invoke(main, ["check", str(folder)]).stdout
    assert not (folder.parent / "called").exists()


def test_the_module_goes_where_the_manifest_says(folder: Path, tool: Tool) -> None:
    """The manifest's `module` is made, with its folder, and nothing else is."""
    mark(folder, Language.C)
    tool("zig", WORKS)
    (folder / "plugin.toml").write_text(f'module = "out/words.wasm"\n{MANIFEST}')

    result = build(folder / "plugin.toml")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"out/words.wasm: {len(MODULE)} bytes, from C by zig 9.9 in ")
    assert (folder / "out" / "words.wasm").read_bytes() == MODULE
    assert {path.name for path in folder.rglob("*")} == {"out", "words.wasm", "plugin.c", "plugin.toml"}


def test_what_is_built_is_checked(folder: Path, tool: Tool) -> None:
    """The module is made, and that it doesn't serve the manifest's hook gives the exit code of `check`."""
    mark(folder, Language.C)
    tool("zig", WORKS)
    (folder.parent / "module.wasm").write_bytes(guest('(func (export "post_titel"))'))

    result = build(folder)
    assert result.exit_code == 1
    assert "1 problem" in result.stdout
    assert (folder / "plugin.wasm").exists()


def test_the_compiler_gets_all_sources_and_the_authors_arguments(folder: Path, tool: Tool) -> None:
    """All sources beside the marker are compiled, in one order; what follows -- goes to the compiler."""
    mark(folder, Language.C)
    (folder / "another.c").write_text("")
    (folder / "notes.txt").write_text("")
    tool("zig", f'echo "$@" > $here/told; {WORKS}')

    assert build(folder, "--", "-DX=a b", "-v").exit_code == 0
    told = (folder.parent / "told").read_text().split()
    assert told[:3] == ["cc", "-target", "wasm32-wasi"]
    assert told[-5:] == ["another.c", "plugin.c", "-DX=a", "b", "-v"]


def test_clang_compiles_where_there_is_no_zig(folder: Path, tool: Tool) -> None:
    """An author's own clang will do."""
    mark(folder, Language.CPP)
    tool("clang++", f'echo "$@" > $here/told; {WORKS}', "Debian clang version 14.0.6")

    assert build(folder).exit_code == 0
    assert (
        (folder.parent / "told")
        .read_text()
        .startswith("--target=wasm32-wasi -std=c++20 -fno-exceptions -mexec-model=reactor ")
    )


def test_go_gets_its_environment(folder: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go compiles for WASI whatever the author compiles for otherwise, and a workspace around it isn't looked at."""
    mark(folder, Language.GO)
    tool("go", f"env > $here/env; {WORKS}")
    monkeypatch.setenv("GOOS", "linux")
    monkeypatch.setenv("GOFLAGS", "-mod=vendor")
    monkeypatch.delenv("GOWORK", raising=False)

    assert build(folder).exit_code == 0
    environment = dict(line.split("=", 1) for line in (folder.parent / "env").read_text().splitlines() if "=" in line)
    expected = {"GOOS": "wasip1", "GOARCH": "wasm", "CGO_ENABLED": "0", "GOFLAGS": "-mod=vendor", "GOWORK": "off"}
    assert {name: environment[name] for name in expected} == expected


def test_a_failed_build_leaves_the_old_module(folder: Path, tool: Tool) -> None:
    """A compiler that fails halfway changes nothing in the folder."""
    mark(folder, Language.GO)
    tool("go", f"{TAKES_OUTPUT}echo half > $2; exit 3")
    (folder / "plugin.wasm").write_bytes(b"the old one")

    result = build(folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("Error: go ended with exit code 3; plugin.wasm wasn't touched\n")
    assert (folder / "plugin.wasm").read_bytes() == b"the old one"
    assert {path.name for path in folder.iterdir()} == {"go.mod", "plugin.toml", "plugin.wasm"}


def test_a_compiler_that_is_killed_is_told(folder: Path, tool: Tool) -> None:
    """A compiler that a signal ended, for want of memory say, failed."""
    mark(folder, Language.GO)
    tool("go", "kill -KILL $$")

    result = build(folder)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        1,
        "Error: go ended with signal SIGKILL; plugin.wasm wasn't touched",
    )


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("true", "the compiler left no module at "),
        (f"{TAKES_OUTPUT}echo ELF > $2", "the compiler made something else than a WebAssembly module"),
    ],
)
def test_what_is_no_module_is_refused(folder: Path, tool: Tool, does: str, words: str) -> None:
    """A compiler that was content, and made nothing or something else, isn't believed."""
    mark(folder, Language.GO)
    tool("go", does)
    (folder / "plugin.wasm").write_bytes(b"the old one")

    result = build(folder)
    assert result.exit_code == 2
    assert words in result.stderr
    assert (folder / "plugin.wasm").read_bytes() == b"the old one"


def test_a_module_that_cannot_be_put_in_its_place_is_told(folder: Path, tool: Tool) -> None:
    """A folder where the module should be is left alone."""
    mark(folder, Language.GO)
    tool("go", WORKS)
    (folder / "plugin.wasm").mkdir()

    result = build(folder)
    assert result.exit_code == 2
    assert f"{folder}/plugin.wasm can't be written: Is a directory" in result.stderr
    assert {path.name for path in folder.iterdir()} == {"go.mod", "plugin.toml", "plugin.wasm"}


def artifact(folder: Path, *files: str, kind: str = "cdylib", manifest: str = "") -> str:
    """Return the message by which Cargo tells what it made."""
    message = {
        "reason": "compiler-artifact",
        "manifest_path": manifest or str(folder / "Cargo.toml"),
        "target": {"kind": [kind]},
        "filenames": list(files),
    }
    return f"echo '{json.dumps(message)}'"


def test_cargo_says_where_the_module_is(folder: Path, tool: Tool) -> None:
    """Of what Cargo tells, only the folder's own cdylib counts; what macros print in between doesn't."""
    mark(folder, Language.RUST)
    module = str(folder.parent / "module.wasm")
    told = (
        artifact(folder, "/other.wasm", kind="bin"),
        artifact(folder, "/other.wasm", manifest="/elsewhere/Cargo.toml"),
        "echo '{not json'; echo 7",
        artifact(folder, "/libplugin.rlib", module),
    )
    tool("cargo", "; ".join(told))

    assert build(folder).exit_code == 0
    assert (folder / "plugin.wasm").read_bytes() == MODULE


@pytest.mark.parametrize(("files", "names"), [((), "none"), (("/b/b.wasm", "/a/a.wasm"), "a.wasm, b.wasm")])
def test_a_crate_makes_one_cdylib(folder: Path, tool: Tool, files: tuple[str, ...], names: str) -> None:
    """A crate that makes no module, or several, is told what it lacks."""
    mark(folder, Language.RUST)
    tool("cargo", "; ".join([artifact(folder, each) for each in files] or ["true"]))

    assert refused_after_start(build(folder)) == (
        f'{folder}/Cargo.toml: must make one cdylib, and makes {names}: a plugin has [lib] crate-type = ["cdylib"]'
    )


def refused_after_start(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr.splitlines()[-1].removeprefix("Error: ")


INTERRUPTIBLE: Final = """
import signal
from fuseboard.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
"""The command, also where the tests run in the background of a shell, which has Ctrl-C ignored."""


@pytest.mark.parametrize("stubborn", [False, True])
def test_ctrl_c_ends_the_compiler(folder: Path, tool: Tool, stubborn: bool) -> None:  # noqa: FBT001
    """After Ctrl-C the compiler and what it began are gone, the folder wasn't touched, and the exit code is 130."""
    mark(folder, Language.GO)
    ignored = "trap '' INT; " if stubborn else ""
    tool("go", f"{ignored}sleep 300 & echo $$ $! > $here/pids.part; mv $here/pids.part $here/pids; wait; sleep 300")
    pids = folder.parent / "pids"
    command = [sys.executable, "-c", INTERRUPTIBLE, "build", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(pids.exists)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)

    assert (process.returncode, stdout) == (130, b"")
    until(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()))
    assert {path.name for path in folder.iterdir()} == {"go.mod", "plugin.toml"}


def until(happens: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < ends
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# ── what is kept of a module ─────────────────────────────────────────────────────────────────────


def test_a_module_keeps_names_and_loses_the_rest_of_what_debuggers_read() -> None:
    """Of the custom sections only `name` is kept; everything else stays as it is, byte for byte."""
    debug = bytes((0, 12, 11)) + b".debug_info"
    module = wasm('(module (func $called (export "run")))')

    assert without_debug_sections(module[:8] + debug + module[8:] + debug) == module
    assert b"called" in without_debug_sections(module)


def outcome_of(plugin: Path) -> fb.Outcome:
    with fb.Host(hooks=[fb.Filter("post.title", str)]) as host:
        host.load(plugin)
        return host.dispatch("post.title", "x").outcomes[0]


@pytest.mark.parametrize("language", [Language.C], indirect=True)
def test_a_backtrace_has_the_functions_names(plugin: Path) -> None:
    """What crashed in a plugin built from C is told by name."""
    (plugin / "plugin.c").write_text(
        '#include "fuseboard.h"\n__attribute__((noinline)) static void deep(void) { __builtin_trap(); }\n'
        "FUSEBOARD_EXPORT(post_title) { deep(); }\n"
    )
    assert fuseboard("build", ".", cwd=plugin).returncode == 0

    outcome = outcome_of(plugin)
    assert isinstance(outcome, fb.Trapped)
    assert [frame.function for frame in outcome.trap.backtrace] == ["deep", "post_title"]


PANICS: Final = {
    Language.RUST: ("src/lib.rs", "return Ok(None);", 'panic!("no title");', "panic: no title at src/lib.rs:19:9"),
    Language.ZIG: ("plugin.zig", "return null;", '@panic("no title");', "panic: no title"),
}
"""By language: in which file, instead of what, a panic stands, and what it says. Go's: test_guest_go.py."""


@pytest.mark.parametrize("language", PANICS, indirect=True)
def test_a_panic_fails_with_its_message(plugin: Path, language: Language) -> None:
    """A panic in a new plugin ends the invocation by its message, with its place where the language knows it."""
    name, instead, panics, detail = PANICS[language]
    source = plugin / name
    source.write_text(source.read_text(encoding="utf-8").replace(instead, panics), encoding="utf-8")
    assert fuseboard("build", ".", cwd=plugin).returncode == 0

    with fb.Host(hooks=[fb.Filter("post.title", str)]) as host:
        host.load(plugin)
        outcome = host.dispatch("post.title", " ").outcomes[0]
    assert isinstance(outcome, fb.Trapped)
    assert (outcome.trap.cause, outcome.trap.detail) == (fb.Cause.FAILED, detail)


@pytest.mark.parametrize("language", [Language.C, Language.CPP], indirect=True)
def test_an_assertion_that_does_not_hold_is_told(
    plugin: Path, language: Language, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends the invocation, and the log says which it is: it isn't left out for speed."""
    (plugin / TOOLCHAINS[language].marker).write_text(
        '#include <assert.h>\n#include "fuseboard.h"\n'
        "FUSEBOARD_EXPORT(post_title) { assert(fb_value().text.length == 7); }\n"
    )
    assert fuseboard("build", ".", cwd=plugin).returncode == 0

    outcome = outcome_of(plugin)
    assert isinstance(outcome, fb.Trapped)
    assert "Assertion failed: fb_value().text.length == 7" in caplog.text


@pytest.mark.parametrize("language", [Language.C, Language.CPP], indirect=True)
def test_a_large_part_of_the_stack_is_warned_of(plugin: Path, language: Language) -> None:
    """A function that takes more than a quarter of the stack is named."""
    (plugin / TOOLCHAINS[language].marker).write_text(
        '#include "fuseboard.h"\nFUSEBOARD_EXPORT(post_title)\n'
        "{ char big[20000]; fb_buffer_read(FB_VALUE, 0, big, sizeof big); fb_output_write(big, sizeof big); }\n"
    )
    built = fuseboard("build", ".", cwd=plugin)
    assert built.returncode == 0
    assert "exceeds limit (16384) in 'post_title'" in built.stderr


@pytest.mark.parametrize("language", [Language.ZIG], indirect=True)
def test_a_new_plugin_in_zig_logs_and_panics_by_the_standard_library(
    plugin: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What std.log says is in the plugin's log, with its scope; a panic's message is the trap's."""
    caplog.set_level("INFO", "fuseboard.plugin.word-count")
    source = (plugin / "plugin.zig").read_text()
    body = 'std.log.scoped(.titles).info("of {d}", .{value.len}); if (value.len == 1) @panic("too short");'
    begin = "fn postTitle(value: []const u8) !?[]const u8 {"
    (plugin / "plugin.zig").write_text(source.replace(begin, f"{begin} {body}"))
    assert fuseboard("build", ".", cwd=plugin).returncode == 0

    outcome = outcome_of(plugin)
    assert isinstance(outcome, fb.Trapped)
    assert (outcome.trap.cause, outcome.trap.detail) == (fb.Cause.FAILED, "panic: too short")
    assert "titles: of 1" in caplog.messages


@pytest.mark.parametrize("language", [Language.ZIG], indirect=True)
@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("fn hook(_: []const u8, _: i64) void {}", "error: the hook post_title takes its value or nothing"),
        ("fn hook(_: *i64) void {}", "error: JSON can't be read as *i64"),
    ],
)
def test_a_hook_of_zig_that_no_value_fits_is_told(plugin: Path, hook: str, words: str) -> None:
    """The SDK says what is wrong, in place of the standard library's insides."""
    (plugin / "plugin.zig").write_text(
        f'const fb = @import("fuseboard.zig");\ncomptime {{ fb.hook("post_title", hook); }}\n{hook}\n'
    )
    built = fuseboard("build", ".", cwd=plugin)
    assert built.returncode == 1
    assert words in built.stderr
