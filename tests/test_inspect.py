"""`fuseboard inspect`: what it tells of a file, in text and JSON, its exit codes, and that no name comes out raw."""

from __future__ import annotations

import hashlib
import json
import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

import fuseboard as fb
from conftest import TEXT, manifest, wasm
from fuseboard import _core
from fuseboard.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GUEST = r"""
(module $guest
  (import "fuseboard" "fail" (func $fail (param i32 i32)))
  (memory (export "memory") 1 16)
  (table 3 funcref)
  (global $mode (export "mode") (mut i32) (i32.const 0))
  (elem (i32.const 0) $small)
  (func $small (export "run"))
  (func $large (loop (if (i32.const 1) (then (call $fail (i32.const 0) (i32.const 0))))))
  (start $small)
  (data (i32.const 0) "hello")
)
"""
DEEP = f'(module (memory (export "memory") 1) (func (export "render") {"(block " * 5_001}{")" * 5_001}))'
CEILING = 256 << 20


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "plugin.wasm").write_bytes(wasm(GUEST))


def inspect(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["inspect", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert all(line.isprintable() for line in result.output.split("\n"))
    return result


def inspected(path: Path, content: bytes, exit_code: int) -> dict[str, Any]:
    """Return the JSON of a file, and hold the text to it."""
    path.write_bytes(content)
    text, result = inspect(str(path)), inspect(str(path), "--json")
    assert (text.exit_code, result.exit_code) == (exit_code, exit_code)
    data: dict[str, Any] = json.loads(result.stdout)
    assert data["ok"] == (not data["problems"]) == (exit_code == 0)
    assert text.stdout.count("problem: ") == len(data["problems"])
    assert all(problem in text.stdout for problem in data["problems"])
    return data


def test_a_module_is_described(tmp_path: Path) -> None:
    """Size and digest, imports, exports, memory, tables, data, sections and functions are told; exit code 0."""
    module = wasm(GUEST)
    data = inspected(tmp_path / "plugin.wasm", module, 0)
    assert (data["kind"], data["bytes"]) == ("WebAssembly module", len(module))
    assert data["sha256"] == hashlib.sha256(module).hexdigest()
    facts = data["module"]
    assert facts["imports"] == [{"module": "fuseboard", "name": "fail", "kind": "function", "type": "(i32, i32) -> ()"}]
    assert [(each["name"], each["kind"], each["type"]) for each in facts["exports"]] == [
        ("memory", "memory", "1 to 16 pages"),
        ("mode", "global", "i32, mutable"),
        ("run", "function", "() -> ()"),
    ]
    assert facts["memories"] == [{"initial_pages": 1, "maximum_pages": 16}]
    assert facts["tables"] == [{"initial_elements": 3, "maximum_elements": None}]
    assert (facts["data"], facts["elements"]) == ({"segments": 1, "bytes": 5}, {"segments": 1, "elements": 1})
    assert (facts["globals"], facts["start_function"]) == (1, 1)
    assert [each["kind"] for each in facts["sections"] if each["kind"] != "custom"] == [
        *("type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data")
    ]
    assert [each["name"] for each in data["functions"]] == ["large", "small"]


def leaves(data: Any, key: str = "") -> Iterator[tuple[str, str | int]]:
    """Yield every text and number of JSON, with the key that it stands under."""
    if isinstance(data, dict):
        for inner, value in data.items():
            yield from leaves(value, inner)
    elif isinstance(data, list):
        for value in data:
            yield from leaves(value, key)
    elif isinstance(data, str | int) and not isinstance(data, bool):
        yield key, data


def test_the_text_says_the_same() -> None:
    """Every text and number of the JSON is in the text, sizes and places in their lines; shares are rounded there."""
    said = inspect("plugin.wasm").stdout
    data = json.loads(inspect("plugin.wasm", "--json").stdout)
    wanted = [f"{value:,}" if isinstance(value, int) else value for _, value in leaves(data)]
    wanted += ["fuseboard.fail: function (i32, i32) -> ()", "memory: memory 1 to 16 pages", "no problems"]
    wanted += ["1 pages, at most 16", "3 elements, no maximum", "1 segments, 5 bytes", "function 1 runs first"]
    wanted += [f"{each['kind']}: {each['bytes']:,} bytes" for each in data["module"]["sections"] if not each["name"]]
    assert [words for words in wanted if words not in said] == []


def test_every_bound_has_a_figure() -> None:
    """All bounds of the look before compiling are there, and the module's size and first memory; the nearest first."""
    figures = json.loads(inspect("plugin.wasm", "--json").stdout)["figures"]
    assert {figure["what"] for figure in figures} > {name for name, _, _ in _core.BOUNDS}
    assert {"bytes of the module"} < {figure["what"] for figure in figures}
    shares = [figure["share"] for figure in figures]
    assert shares == sorted(shares, reverse=True)
    found = {figure["what"]: figure for figure in figures}
    assert found["bytes of initial memory under the operator's ceiling"]["found"] == 1 << 16
    assert found["nested blocks of a function"] == {
        "what": "nested blocks of a function",
        "found": 2,
        "most": 5_000,
        "share": 0.0004,
        "function": {"index": 2, "name": "large"},
    }


def test_a_broken_bound_comes_first(tmp_path: Path) -> None:
    """What is refused is named as a load names it, the worst figure stands first with its place; exit code 1."""
    deep = wasm(DEEP)
    data = inspected(tmp_path / "deep.wasm", deep, 1)
    assert data["problems"] == ['function 0 ("render"): 5001 nested blocks; the most is 5000']
    assert data["figures"][0]["function"] == {"index": 0, "name": "render"}
    assert "100% over" in inspect("deep.wasm").stdout
    with pytest.raises(fb.ModuleError, match="5001 nested blocks") as caught:
        fb.Host(hooks=[TEXT]).load_bytes(deep, manifest("a", "text"))
    assert data["problems"][0] in str(caught.value)


@pytest.mark.parametrize(
    ("content", "kind", "problem"),
    [
        (b"", "empty", "is empty"),
        (b"\x7fELF\2\1\1", "native code (ELF)", "perhaps precompiled; only WebAssembly modules are loaded"),
        (b"\0asm\x0d\0\1\0", "WebAssembly component", "build a core module instead"),
        (b"\0asm\2\0\0\0", "WebAssembly of another version", "does not know"),
        (b"\0asm", "beginning of WebAssembly", "is cut"),
        (b"\0asm\1\0\0", "beginning of WebAssembly", "is cut"),
        (b"(module)", "WebAssembly text", "translate it first"),
        (b"\n;; a guest\n(module)", "WebAssembly text", "translate it first"),
        (b"(; a guest ;) (module)", "WebAssembly text", "translate it first"),
        (b"PK\3\4", "something else", "is not a WebAssembly module"),
    ],
)
def test_files_that_are_no_module(tmp_path: Path, content: bytes, kind: str, problem: str) -> None:
    """What they are is told in one sentence, with size and digest and without figures."""
    data = inspected(tmp_path / "file", content, 1)
    assert data["kind"] == kind
    (found,) = data["problems"]
    assert problem in found
    assert (data["module"], data["figures"]) == (None, [])
    assert data["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_file_over_the_cap(tmp_path: Path) -> None:
    """A file that is larger than a host takes is not read on."""
    with (tmp_path / "large.wasm").open("wb") as file:
        file.write(b"\0asm\1\0\0\0")
        file.truncate(fb.Caps().module_bytes + 1)
    result = inspect("large.wasm")
    assert result.exit_code == 1
    assert "has 33554433 bytes; the most that a host takes is 33554432" in result.stdout
    assert json.loads(inspect("large.wasm", "--json").stdout)["sha256"] is None


def test_a_plugins_folder(tmp_path: Path) -> None:
    """Of a folder with a plugin.toml, the module that the manifest names is inspected."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    result = inspect("plugin")
    assert (result.exit_code, "without a plugin.toml; name the module" in result.stderr) == (2, True)
    (folder / "plugin.toml").write_text("manifest = 2\n")
    result = inspect("plugin")
    assert (result.exit_code, "run fuseboard check" in result.stderr) == (2, True)
    (folder / "plugin.toml").write_text(
        'manifest = 1\nslug = "a"\nversion = "1"\nmodule = "a.wasm"\n[[hooks]]\nname = "a"\n'
    )
    (folder / "a.wasm").write_bytes(wasm(GUEST))
    result = inspect("plugin")
    assert (result.exit_code, "a.wasm  WebAssembly module" in result.stdout) == (0, True)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """A file that isn't there and a pipe are one sentence, without waiting; exit code 2."""
    os.mkfifo(tmp_path / "pipe")
    for name, sentence in (("nowhere", "can't be read: No such file"), ("pipe", "is no file (a pipe")):
        result = inspect(name)
        assert result.exit_code == 2
        assert sentence in result.stderr
        assert result.stdout == ""


@pytest.mark.parametrize(("count", "shown"), [("0", 0), ("1", 1), ("20", 20), ("all", 30)])
def test_the_number_of_functions(tmp_path: Path, count: str, shown: int) -> None:
    """The largest functions are shown, 20 by default, as many as there are for `all`."""
    functions = "".join(f"(func {'nop ' * size})" for size in range(30))
    text = f'(module (memory (export "memory") 1) {functions})'
    (tmp_path / "many.wasm").write_bytes(wasm(text))
    data = json.loads(inspect("many.wasm", "--json", "--functions", count).stdout)
    assert len(data["functions"]) == shown
    assert [each["index"] for each in data["functions"]] == list(range(29, 29 - shown, -1))
    assert data["module"]["functions"]["count"] == 30


def test_functions_are_named_as_their_authors_wrote_them(tmp_path: Path) -> None:
    """What compilers of Rust and C++ make of a name is undone, as in backtraces."""
    functions = "(func $_ZN5board4fuse17h0123456789abcdefE nop nop) (func $_Z3runi nop)"
    data = inspected(tmp_path / "mangled.wasm", wasm(f'(module (memory (export "memory") 1) {functions})'), 0)
    assert [each["name"] for each in data["functions"]] == ["board::fuse", "run(int)"]


@pytest.mark.parametrize("count", ["-1", "many", "1.5", "²", "1" * 5_000])
def test_a_wrong_number_of_functions(count: str) -> None:
    """Anything but a number of some digits or `all` is wrong usage, and told in short."""
    result = inspect("plugin.wasm", f"--functions={count}")
    assert result.exit_code == 2
    assert "must be a whole number of at most 9 digits, or 'all'" in result.stderr
    assert len(result.stderr) < 500


def test_hostile_names(tmp_path: Path) -> None:
    """Names that move the cursor, turn the direction, are markup or are very long come out harmless everywhere."""
    name = r"\1b[2J\e2\80\ae[red]\0a" + "x" * 5_000
    text = f"""(module (import "{name}" "{name}" (func)) (memory (export "memory") 1)
      (func (export "{name}") nop) (@custom "{name}" "x"))"""
    data = inspected(tmp_path / "names.wasm", wasm(text), 1)
    shown = r"\u{1b}[2J\u{202e}[red]\n" + "x"
    names = [data["module"]["imports"][0]["module"], data["module"]["exports"][1]["name"], data["functions"][0]["name"]]
    assert all(each.startswith(shown) and len(each) < 200 for each in names), names
    assert "[red]" in inspect("names.wasm").stdout


def test_a_broken_module_is_shown_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    """A file that was cut still shows what came before, and the problem."""
    data = inspected(tmp_path / "cut.wasm", wasm(GUEST)[:-40], 1)
    assert data["problems"][0].startswith("cannot be read: ")
    assert data["module"]["imports"][0]["name"] == "fail"


def test_random_changes_never_break_the_look() -> None:
    """Whatever bits of a module are flipped, the look ends with a report that agrees with itself."""
    whole = wasm(GUEST)
    chance = random.Random(7)
    for _ in range(2_000):
        changed = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            changed[chance.randrange(8, len(changed))] ^= 1 << chance.randrange(8)
        seen = _core.inspect(bytes(changed), CEILING)
        over = [what for what, most, found, _ in seen.figures if found > most]
        assert not over or seen.problems


def test_the_counts_of_too_many_are_true(tmp_path: Path) -> None:
    """Of too many globals and functions the first are listed, and all are counted."""
    text = f'(module (memory (export "memory") 1) {"(global i32 (i32.const 0))" * 10_002} {"(func)" * 20_003})'
    facts = inspected(tmp_path / "many.wasm", wasm(text), 1)["module"]
    assert (facts["globals"], facts["functions"]) == (10_002, {"count": 20_003, "bytes": 2 * 20_003})


def test_sections_after_too_many_custom_ones(tmp_path: Path) -> None:
    """However many custom sections come first, the others are listed."""
    header, rest = wasm(GUEST)[:8], wasm(GUEST)[8:]
    data = inspected(tmp_path / "custom.wasm", header + b"\0\2\1x" * 1_002 + rest, 1)
    kinds = [section["kind"] for section in data["module"]["sections"]]
    assert kinds.count("custom") == 1_000
    assert [kind for kind in kinds if kind != "custom"][-2:] == ["code", "data"]
    assert data["problems"] == ["1003 custom sections; the most is 1000"]
