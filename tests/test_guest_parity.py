"""The SDKs' numbers and imports, read out of their sources and held to the host's tables, by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from conformance.guests import SDKS, module
from conformance.scripted import loaded
from fuseboard import _core
from fuseboard._hostcalls import AnswerCode
from fuseboard._limits import LIMITS

ROOT: Final = Path(__file__).resolve().parent.parent
ZIG_FLAGS: Final = re.DOTALL | re.MULTILINE
Numbers = dict[str, dict[str, int]]
"""By table: the number of each name, in capitals."""


# ── the host's ───────────────────────────────────────────────────────────────────────────────────


def host_numbers() -> Numbers:
    """Return the tables as the host has them; buffers and levels have names in the ABI's page alone."""
    page = _source("docs/reference/abi.md")
    levels = re.findall(r"levels 0 to 4: ([a-z]+(?:, [a-z]+)*)", page)[0].split(", ")
    buffers = re.findall(
        r"^\| (\d) ([a-z ]+) \|", page.partition("\n## Buffers\n")[2].partition("\n## ")[0], re.MULTILINE
    )
    return {
        "buffer": {name.replace(" ", "_").upper(): int(number) for number, name in buffers},
        "answer": {code.name: code.value for code in AnswerCode if code is not AnswerCode.OK},
        "level": {name.upper(): number for number, name in enumerate(levels)},
        "limit": {spec.limit.name: number for number, spec in enumerate(LIMITS)},
    }


# ── the SDKs' ────────────────────────────────────────────────────────────────────────────────────


def rust_numbers() -> Numbers:
    """Read `mod buffer { const VALUE: i32 = 0; ... }`."""
    modules = re.findall(r"mod (\w+) \{(.*?)\n\}", _source("guest/rust/src/abi.rs"), re.DOTALL)
    return {name: _constants(r"const (\w+): i32 = (-?\d+);", body) for name, body in modules}


def go_numbers() -> Numbers:
    """Read `bufferReplyHead = 2`: the table's name, and what follows in capitals."""
    found: Numbers = {"buffer": {}, "code": {}, "level": {}, "limit": {}}
    lines = re.findall(r"^\t(buffer|code|level|limit)(\w+) += (-?\d+)$", _source("guest/go/abi.go"), re.MULTILINE)
    for table, name, number in lines:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
        found[table][words.upper()] = int(number)
    return {"answer": found.pop("code"), **found}


def c_numbers() -> Numbers:
    """Read `enum fb_buffer { FB_VALUE = 0, ... }`."""
    enums = re.findall(r"enum fb_(\w+) \{(.*?)\n\}", _source("guest/c/fuseboard.h"), re.DOTALL)
    tables = {name: _constants(r"^\s*FB_(\w+) = (-?\d+),", body) for name, body in enums}
    return {name: tables[name] for name in ("buffer", "answer", "level", "limit")}


def zig_numbers() -> Numbers:
    """Read `pub const Buffer = enum(i32) { value = 0, ... }`."""
    enums = re.findall(r"^pub const (\w+) = enum\(i32\) \{(.*?)\n\}", _source("guest/zig/fuseboard.zig"), ZIG_FLAGS)
    tables = {name.lower(): _constants(r'^    (?:@")?(\w+)"? = (-?\d+),', body) for name, body in enums}
    return {table: {name.upper(): number for name, number in names.items()} for table, names in tables.items()}


def _constants(pattern: str, text: str) -> dict[str, int]:
    return {name: int(number) for name, number in re.findall(pattern, text, re.MULTILINE)}


def _named(path: str, pattern: str) -> list[str]:
    return re.findall(pattern, _source(path), re.MULTILINE)


def _source(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


NUMBERS: Final[dict[str, Callable[[], Numbers]]] = {
    "rust": rust_numbers, "go": go_numbers, "c": c_numbers, "zig": zig_numbers,
}  # fmt: skip
IMPORTS: Final[dict[str, Callable[[], list[str]]]] = {
    "rust": partial(_named, "guest/rust/src/imports.rs", r"^        pub\(super\) (?:safe )?fn (\w+)\("),
    "go": partial(_named, "guest/go/imports_wasip1.go", rf"^//go:wasmimport {_core.IMPORT_MODULE} (\w+)$"),
    "c": partial(_named, "guest/c/fuseboard.h", r"^FB_IMPORT\((\w+)\)"),
    "zig": partial(_named, "guest/zig/fuseboard.zig", rf'^    extern "{_core.IMPORT_MODULE}" fn (\w+)\('),
}


@pytest.mark.parametrize("sdk", NUMBERS)
@pytest.mark.parametrize("table", ["buffer", "answer", "level", "limit"])
def test_an_sdk_has_the_hosts_numbers(sdk: str, table: str) -> None:
    """Each name of a table has the host's number in the SDK, none is missing and none is more."""
    found, expected = NUMBERS[sdk]().get(table, {}), host_numbers()[table]
    wrong = {
        name: (found.get(name), expected.get(name))
        for name in found | expected
        if found.get(name) != expected.get(name)
    }

    assert wrong == {}, "by name: the SDK's number, and the host's"


@pytest.mark.parametrize("sdk", IMPORTS)
def test_an_sdk_has_the_hosts_imports(sdk: str) -> None:
    """Each import of the host is declared in the SDK once, and no other is."""
    found = IMPORTS[sdk]()

    assert sorted(found) == sorted(_core.IMPORTS)


@pytest.mark.parametrize("sdk", SDKS)
def test_a_guest_imports_what_the_host_has(sdk: str) -> None:
    """The conformance guest loads, so its imports have the host's types; and it has all of them."""
    assert set(loaded(module(sdk)).imports) - set(_core.WASI_FUNCTIONS) == set(_core.IMPORTS)


def test_the_hosts_tables_are_read() -> None:
    """What everything is held to has as many names as the host has things."""
    assert {table: len(names) for table, names in host_numbers().items()} == {
        "buffer": 6, "answer": len(AnswerCode) - 1, "level": 5, "limit": len(LIMITS),
    }  # fmt: skip
