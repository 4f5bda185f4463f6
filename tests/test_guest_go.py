"""The SDK for Go: its own tests, the page about it, what only a compiled guest shows, and the example plugin."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tools.compiling import LackingError, located

import fuseboard as fb
from conformance.hosted import ARTIFACTS
from fuseboard._toolchains import TOOLCHAINS, Language
from fuseboard.backends.memory import MemoryKv

ROOT: Final = Path(__file__).resolve().parent.parent
SDK: Final = ROOT / "guest/go"
PLUGIN: Final = ROOT / "plugins/comment-score"
PAGE: Final = ROOT / "docs/plugins/go.md"
FOLDERS: Final = [SDK, ROOT / "guest/conformance/go", PLUGIN]

TOOLCHAIN: Final = TOOLCHAINS[Language.GO]
GUEST: Final = TOOLCHAIN.environment

PACKAGES: Final = {
    "errors": "errors", "fmt": "fmt", "guest": "fuseboard.dev/guest", "guestslog": "fuseboard.dev/guest/guestslog",
    "slog": "log/slog", "strconv": "strconv", "testing": "testing", "time": "time",
}  # fmt: skip
"""What the page's blocks import where they don't say so, by the names they use."""

TEXT: Final = fb.Filter("text", str)
SCORE: Final = fb.Filter("comment.score", dict)

MODULE: Final = f"""
module example.com/tried

go 1.24

require fuseboard.dev/guest v0.0.0

replace fuseboard.dev/guest => {SDK}
"""

SOURCE: Final = """
package main

import (
	"os"
	"time"

	"fuseboard.dev/guest"
)

//go:wasmexport panics
func panics() { guest.FilterString(panicking) }

func panicking(value string) (string, error) {
	return string(value[len(value)]), nil
}

//go:wasmexport fails
func fails() {
	guest.FilterString(func(value string) (string, error) { guest.Fail("no " + value); return "", nil })
}

//go:wasmexport deadlocks
func deadlocks() { guest.FilterString(func(string) (string, error) { select {} }) }

//go:wasmexport escapes
func escapes() {
	guest.FilterString(func(value string) (string, error) { go panic("elsewhere"); select {} })
}

//go:wasmexport exits
func exits() { guest.FilterString(func(string) (string, error) { os.Exit(0); return "", nil }) }

//go:wasmexport exits_badly
func exitsBadly() { guest.FilterString(func(string) (string, error) { os.Exit(3); return "", nil }) }

//go:wasmexport leaves
func leaves() {
	guest.FilterString(func(value string) (string, error) {
		go func() {
			for {
				time.Sleep(time.Hour)
			}
		}()
		return value + "!", nil
	})
}

func main() {}
"""


def go(folder: Path, *arguments: str, **environment: str) -> str:
    """Run Go in a folder and return what it prints; skip the test where none will do, and on CI fail it."""
    try:
        command = located(TOOLCHAIN.compilers[0].tool)
    except LackingError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    alone = {"GOFLAGS": "", "GOPROXY": "off", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, **alone, **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def written(folder: Path, source: str, name: str = "plugin.go") -> Path:
    """Write a plugin's source and its go.mod."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(source, encoding="utf-8")
    (folder / "go.mod").write_text(MODULE, encoding="utf-8")
    return folder


# ── source ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_sources_are_in_gos_form(folder: Path) -> None:
    """Go's formatter would change nothing, and its vet finds nothing, for this machine and for a guest."""
    go(folder, "vet", "./...")
    go(folder, "vet", "./...", **GUEST)
    formatted = subprocess.run(["gofmt", "-l", "."], cwd=folder, capture_output=True, encoding="utf-8", check=True)
    assert formatted.stdout == ""


@pytest.mark.parametrize("folder", [SDK, PLUGIN], ids=["sdk", "plugin"])
def test_gos_own_tests_pass(folder: Path) -> None:
    """What needs no host is tested by `go test`."""
    go(folder, "test", "./...")


def test_the_pages_examples_compile(tmp_path: Path) -> None:
    """Each block of Go on the page is a whole file, or declarations that lack nothing but their imports."""
    blocks = re.findall(r"^```go\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for number, block in enumerate(blocks):
        folder = tmp_path / f"block{number}"
        folder.mkdir()
        name = "plugin_test.go" if "testing.T" in block else "plugin.go"
        (folder / name).write_text(whole(block), encoding="utf-8")
    written(tmp_path, "package main\n\nfunc main() {}\n")

    assert len(blocks) > 10
    go(tmp_path, "vet", "./...", **GUEST)
    go(tmp_path, "test", "./...")


def whole(block: str) -> str:
    """Return a block as a file."""
    if block.startswith("package "):
        return block
    used = [f'"{path}"' for name, path in PACKAGES.items() if re.search(rf"\b{name}\.[A-Z]", block)]
    return f"package main\n\nimport ({'; '.join(used)})\n\n{block}\nfunc main() {{}}\n"


@pytest.mark.parametrize("page", [PAGE, SDK / "doc.go"], ids=["page", "package"])
def test_the_command_is_the_one_that_build_runs(page: Path) -> None:
    """What is shown for building by hand has the variables and arguments of `fuseboard build`."""
    variables = " ".join(f"{name}={value}" for name, value in GUEST.items())
    command = TOOLCHAIN.compilers[0].command(("go",), Path("plugin.wasm"), ())

    assert f"{variables} {' '.join(command)}\n" in page.read_text(encoding="utf-8")


# ── a guest ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Compile the source above."""
    folder = written(tmp_path_factory.mktemp("guest"), SOURCE)
    go(folder, *TOOLCHAIN.compilers[0].command((), Path("plugin.wasm"), ()), **GUEST)
    return (folder / "plugin.wasm").read_bytes()


def invoked(module: bytes, export: str) -> fb.Outcome:
    """Run an export as a filter of a text."""
    manifest = {
        "manifest": 1,
        "slug": "tried",
        "version": "1.0.0",
        "hooks": [{"name": "text", "export": export}],
        "server": {"invocation_timeout_ms": 10_000},
    }
    with fb.Host(hooks=[TEXT], cache=ARTIFACTS) as host:
        host.load_bytes(module, manifest)
        return host.invoke("tried", TEXT, "text")


def test_a_panic_fails_with_its_place(module: bytes) -> None:
    """The trap's detail has the panic's message, and the first place that isn't the runtime's."""
    outcome = invoked(module, "panics")

    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.cause == fb.Cause.FAILED
    assert outcome.trap.detail == (
        "panic: runtime error: index out of range [4] with length 4 at plugin.go:15 in main.panicking"
    )


def test_fail_ends_a_hook_where_it_is_called(module: bytes) -> None:
    """`guest.Fail` doesn't return, and its message is the trap's detail."""
    outcome = invoked(module, "fails")

    assert isinstance(outcome, fb.Trapped)
    assert (outcome.trap.cause, outcome.trap.detail) == (fb.Cause.FAILED, "no text")


@pytest.mark.parametrize("export", ["deadlocks", "escapes"])
def test_what_nothing_recovers_is_a_crash(module: bytes, export: str) -> None:
    """A hook that waits for nobody ends, instead of hanging, and so does one with a goroutine that panics."""
    outcome = invoked(module, export)

    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.cause == fb.Cause.CRASH


def test_exiting_ends_a_hook(module: bytes) -> None:
    """`os.Exit(0)` leaves the value as it is, and another number is a failure."""
    well, badly = invoked(module, "exits"), invoked(module, "exits_badly")

    assert isinstance(well, fb.Completed)
    assert not well.changed
    assert isinstance(badly, fb.Trapped)
    assert badly.trap.cause == fb.Cause.FAILED


def test_what_goroutines_are_left_holds_nothing_up(module: bytes) -> None:
    """A hook that returns has ended, whatever still runs."""
    outcome = invoked(module, "leaves")

    assert isinstance(outcome, fb.Completed)
    assert outcome.value == "text!"


# ── the example plugin ───────────────────────────────────────────────────────────────────────────


@pytest.fixture
def kv() -> MemoryKv:
    return MemoryKv()


@pytest.fixture
def scored(kv: MemoryKv) -> Iterator[fb.Host]:
    """A host with the example plugin."""
    with fb.Host(hooks=[SCORE], backends=fb.Backends(kv=kv), cache=ARTIFACTS) as host:
        host.load(PLUGIN, grants="as-requested", limits=fb.Limits(invocation_timeout_ms=10_000))
        yield host


def test_comments_are_scored_by_what_they_say(scored: fb.Host) -> None:
    """Links, listed words and capitals raise a score; a comment without them keeps it."""
    texts = {
        "hello": 0.5,
        "https://a.example https://b.example": 4.5,
        "my casino, your Casino": 5.5,
        "BUY IT WHILE YOU CAN": 3.5,
    }
    scored.apply_filter(SCORE, {"author": "Zoë", "text": "the first", "score": 0})

    assert {
        text: scored.apply_filter(SCORE, {"author": "Zoë", "text": text, "score": 0.5})["score"] for text in texts
    } == texts


def test_comments_are_counted_by_author(scored: fb.Host, kv: MemoryKv) -> None:
    """An author's first comment scores more than the next, and the count is kept."""
    scores = [
        scored.apply_filter(SCORE, {"author": author, "text": "hello", "score": 0})["score"]
        for author in ("a", "b", "a")
    ]

    assert scores == [1, 1, 0]
    assert kv.items("comment-score") == {b"comments:a": b"2", b"comments:b": b"1"}
