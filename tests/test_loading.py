"""Loading: what is refused, with which words, and that a refused load leaves the host as it was."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import wasmtime

import fuseboard as fb
from conftest import ECHO, SILENT, TEXT, guest, manifest, wasm, writes
from fuseboard import _core
from fuseboard._compiler import Compiler
from fuseboard._loading import Policy, Terms, examine, from_bytes
from fuseboard.backends import Backends
from fuseboard.backends.memory import MemoryKv
from hostile.binary import BLOCK, END, I32, LOOP, leb, section, sleb, vector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

RUN = '(func (export "run"))'
MEMORY = '(memory (export "memory") 1)'


def binary(
    body: bytes, *, local_groups: tuple[tuple[int, int], ...] = (), exports: int = 0, types: int = 1, globals_: int = 0
) -> bytes:
    """Return a module with one function `run` of this body, made by hand where text would take too long."""
    code = vector([leb(count) + bytes([kind]) for count, kind in local_groups]) + body + b"\x0b"
    named = [b"\x03run\x00\x00", b"\x06memory\x02\x00"]
    named += [leb(len(f"x{n}")) + f"x{n}".encode() + b"\x00\x00" for n in range(exports)]
    return b"".join(
        [
            b"\0asm\1\0\0\0",
            section(1, vector([b"\x60\0\0"] * types)),
            section(3, vector([b"\0"])),
            section(5, vector([b"\0\1"])),
            section(6, vector([b"\x7f\x00\x41\x00\x0b"] * globals_)) if globals_ else b"",
            section(7, vector(named)),
            section(10, vector([leb(len(code)) + code])),
        ]
    )


def functions(count: int, locals_: bytes = b"\0", code: bytes = b"") -> bytes:
    """Return a module with so many functions, all with these locals and this code."""
    body = locals_ + code + b"\x0b"
    return b"".join(
        [
            b"\0asm\1\0\0\0",
            section(1, vector([b"\x60\0\0"])),
            section(3, vector([b"\0"] * count)),
            section(5, vector([b"\0\1"])),
            section(7, vector([b"\x03run\x00\x00", b"\x06memory\x02\x00"])),
            section(10, vector([leb(len(body)) + body] * count)),
        ]
    )


def data(segments: Iterable[tuple[int, bytes]], pages: int = 64) -> bytes:
    """Return a module with data at these offsets of a memory of so many pages."""
    written = [
        b"\0\x41" + sleb(offset) + b"\x0b" + vector([bytes([byte]) for byte in bytes_]) for offset, bytes_ in segments
    ]
    return (
        b"\0asm\1\0\0\0"
        + section(5, vector([b"\0" + leb(pages)]))
        + section(7, vector([b"\x06memory\x02\0"]))
        + section(11, vector(written))
    )


@dataclass(frozen=True)
class Bad:
    """A module that is refused, and a part of the sentence that says why."""

    wasm: bytes
    problem: str
    server: dict[str, Any] = field(default_factory=dict)
    hooks: tuple[Any, ...] = ("text",)


BAD: dict[str, Bad] = {
    # what it is
    "empty": Bad(b"", "is empty"),
    "random bytes": Bad(b"\x89PNG\r\n\x1a\n" * 10, r"is not a WebAssembly module: it does not begin with \\0asm"),
    "zip": Bad(b"PK\x03\x04" + b"x" * 100, "is not a WebAssembly module"),
    "ELF": Bad(b"\x7fELF\x02\x01\x01" + b"\0" * 100, r"is native code \(ELF\), perhaps precompiled"),
    "component": Bad(b"\0asm\x0d\0\x01\0", "is a WebAssembly component; build a core module instead"),
    "a component's text": Bad(wasm("(component)"), "is a WebAssembly component"),
    "another version": Bad(b"\0asm\2\0\0\0", "is of a WebAssembly version that Fuseboard does not know"),
    "text": Bad(b'(module (func (export "run")))', "is WebAssembly text; translate it first"),
    "text after blanks": Bad(b"\n  (module)", "is WebAssembly text"),
    "magic only": Bad(b"\0asm", "is cut: it ends within the 8 bytes"),
    "header only": Bad(b"\0asm\1\0\0\0", 'exports no memory named "memory"'),
    "truncated": Bad(SILENT[:-3], "cannot be read"),
    "truncated in a section": Bad(SILENT[:12], "cannot be read"),
    "bytes after the end": Bad(SILENT + b"\xff\xff", "cannot be read"),
    "sections out of order": Bad(SILENT + SILENT[8:20], "cannot be read: section out of order"),
    "invalid code": Bad(binary(b"\x1a"), "does not compile: .*Invalid input WebAssembly code"),
    # what it imports
    "another import module": Bad(
        wasm(f'(module (import "env" "puts" (func (param i32))) {MEMORY} {RUN})'),
        'imports "puts" from "env"; plugins import from "fuseboard" and "wasi_snapshot_preview1" only',
    ),
    "a function that WASI lacks": Bad(
        wasm(f'(module (import "wasi_snapshot_preview1" "proc_exec" (func (param i32))) {MEMORY} {RUN})'),
        'imports "proc_exec" from "wasi_snapshot_preview1", which has no such function',
    ),
    "an unknown import": Bad(
        wasm(f'(module (import "fuseboard" "host_exec" (func)) {MEMORY} {RUN})'),
        'imports "host_exec", which ABI 1 does not have',
    ),
    "an import with other parameters": Bad(
        wasm(f'(module (import "fuseboard" "buffer_length" (func (param i64) (result i32))) {MEMORY} {RUN})'),
        "fuseboard::buffer_length`: types incompatible",
    ),
    "an import with another result": Bad(
        wasm(f'(module (import "fuseboard" "output_write" (func (param i32 i32) (result i32))) {MEMORY} {RUN})'),
        "fuseboard::output_write`: types incompatible",
    ),
    "an imported memory": Bad(
        wasm(f'(module (import "fuseboard" "memory" (memory 1)) (export "memory" (memory 0)) {RUN})'),
        'imports "memory", which ABI 1 does not have',
    ),
    "an import of the ABI as a memory": Bad(
        wasm(f'(module (import "fuseboard" "fail" (memory 1)) (export "memory" (memory 0)) {RUN})'),
        'imports "fail" as something else than a function',
    ),
    "an imported table": Bad(
        wasm(f'(module (import "env" "table" (table 1 funcref)) {MEMORY} {RUN})'), 'imports "table" from "env"'
    ),
    "an imported global": Bad(
        wasm(f'(module (import "env" "base" (global i32)) {MEMORY} {RUN})'), 'imports "base" from "env"'
    ),
    "an import that prints": Bad(
        wasm(f'(module (import "a\\0ab\\e2\\80\\aec" "x" (func)) {MEMORY} {RUN})'), r'from "a\\+nb\\+u\{202e\}c"'
    ),
    # capabilities
    "HTTP without its capability": Bad(
        guest(f"{RUN} (func (drop (call $host_http_request {'(i32.const 0) ' * 4})))"),
        "imports host_http_request, but the manifest doesn't request http under server.capabilities",
    ),
    "KV without its capability": Bad(
        guest(f"{RUN} (func (drop (call $host_kv_get {'(i32.const 0) ' * 2})))"),
        "imports host_kv_get, but the manifest doesn't request kv",
    ),
    "the database without its capability": Bad(
        guest(f"{RUN} (func (drop (call $host_db_query {'(i32.const 0) ' * 4})))"),
        "imports host_db_query, but the manifest doesn't request db",
        {"capabilities": {"kv": True}},
    ),
    "functions without their capability": Bad(
        guest(f"{RUN} (func (drop (call $host_call {'(i32.const 0) ' * 4})))"),
        "imports host_call, but the manifest doesn't request functions",
        {"capabilities": {"functions": []}},
    ),
    # exports
    "no such export": Bad(guest('(func (export "other"))'), r'exports no "run" \(hooks\[0\]\.export\)'),
    "a near miss": Bad(
        guest('(func (export "post_titel"))'),
        r"""exports no "post_title" \(did you mean 'post_titel'\?\) \(hooks\[0\]\.export\)""",
        hooks=({"name": "text", "export": "post_title"},),
    ),
    "a near miss that is another hook's": Bad(
        guest('(func (export "post_saved"))'),
        r'exports no "post_saves" \(hooks\[1\]\.export\)',
        hooks=({"name": "text", "export": "post_saved"}, {"name": "noted", "export": "post_saves"}),
    ),
    "the second hook's export": Bad(
        SILENT, r'exports no "noted" \(hooks\[1\]\.export\)', hooks=("text", {"name": "noted", "export": "noted"})
    ),
    "an export with parameters": Bad(
        guest('(func (export "run") (param i32))'),
        'exports "run" as something else than a function without parameters and results',
    ),
    "an export with a result": Bad(
        guest('(func (export "run") (result i32) (i32.const 0))'),
        'exports "run" as something else than a function without parameters',
    ),
    "an export that is no function": Bad(
        guest('(global (export "run") i32 (i32.const 0))'), 'exports "run" as something else than a function'
    ),
    "a program": Bad(
        guest(f'{RUN} (func (export "_start"))'), r'is a program \(it exports "_start"\); build a reactor'
    ),
    "an _initialize with parameters": Bad(
        guest(f'{RUN} (func (export "_initialize") (param i32))'),
        'exports "_initialize" as something else than a function without',
    ),
    "no memory": Bad(wasm(f"(module {RUN})"), 'exports no memory named "memory"'),
    "a memory of another name": Bad(wasm(f'(module (memory (export "mem") 1) {RUN})'), "exports no memory"),
    "a memory that isn't exported": Bad(wasm(f"(module (memory 1) {RUN})"), "exports no memory"),
    "a memory that is a function": Bad(
        wasm(f'(module (memory 1) (func (export "memory")) {RUN})'), 'exports "memory" as something else than a memory'
    ),
    # sizes
    "initial memory over the ceiling": Bad(
        guest(f'(memory (export "memory") 65) {RUN}'), "4259840 bytes of initial memory .* the most is 4194304"
    ),
    "too many tables": Bad(guest(f"{'(table 1 funcref)' * 5} {RUN}"), "5 tables; the most is 4"),
    "a table that is too large": Bad(
        guest(f"(table 1048577 funcref) {RUN}"), "1048577 initial elements of a table; the most is 1048576"
    ),
    # proposals that are off
    "two memories": Bad(wasm(f"(module {MEMORY} (memory 1) {RUN})"), "2 memories; the most is 1"),
    "memory64": Bad(
        wasm(f'(module (memory (export "memory") i64 1) {RUN})'), "does not compile: .*memory64 must be enabled"
    ),
    "a shared memory": Bad(
        wasm(f'(module (memory (export "memory") 1 2 shared) {RUN})'), "does not compile: .*threads must be enabled"
    ),
    "atomics": Bad(wasm(f"(module {MEMORY} {RUN} (func (drop (i32.atomic.load (i32.const 0)))))"), "does not compile"),
    "exceptions": Bad(
        wasm(f"(module {MEMORY} (tag $t) {RUN} (func (throw $t)))"),
        "does not compile: .*exceptions proposal not enabled",
    ),
    "garbage collection": Bad(
        wasm(f"(module {MEMORY} (type (struct (field i32))) {RUN})"), "does not compile: .*without the gc feature"
    ),
    "function references": Bad(
        wasm(f"(module {MEMORY} (type $f (func)) {RUN} (func (param (ref $f)) (call_ref $f (local.get 0))))"),
        "does not compile: .*function references required",
    ),
    "relaxed SIMD": Bad(
        wasm(
            f"""(module {MEMORY} {RUN} (func (drop (i8x16.relaxed_swizzle
              (v128.const i64x2 0 0) (v128.const i64x2 0 0)))))"""
        ),
        "does not compile",
    ),
    "a page of another size": Bad(
        wasm(f'(module (memory (export "memory") 1 (pagesize 1)) {RUN})'), "does not compile: .*custom page sizes"
    ),
    # bombs
    "deep blocks": Bad(
        binary(BLOCK * 5_001 + END * 5_001), r'function 0 \("run"\): 5001 nested blocks; the most is 5000'
    ),
    "loops over many locals": Bad(
        binary((LOOP + END) * 1_000, local_groups=((1_000, I32),)),
        "1000000 loops times locals; the most is 100000",
    ),
    "nested loops over many locals": Bad(
        binary(LOOP * 101 + END * 101, local_groups=((5_000, I32),)), "101 nested loops; the most is 100"
    ),
    "blocks over many locals": Bad(
        binary((BLOCK + END) * 2_500, local_groups=((5_000, I32),)), "blocks times locals; the most is 12000000"
    ),
    "many locals": Bad(binary(b"", local_groups=((10_001, I32),)), "10001 parameters and locals; the most is 10000"),
    "more locals than there are numbers": Bad(
        binary(b"", local_groups=((0xFFFFFFFF, I32), (0xFFFFFFFF, I32))), "cannot be read: too many locals"
    ),
    "a function that is too large": Bad(
        binary(b"\x01" * (1 << 20)), r'function 0 \("run"\): 1048578 bytes; the most is 1048576'
    ),
    "branch tables": Bad(
        binary(b"\x41\x00\x0e" + vector([b"\0"] * 100_001) + b"\0"), "100001 branch table targets; the most is 65535"
    ),
    "many types": Bad(binary(b"", types=10_001), "10001 types; the most is 10000"),
    "many exports": Bad(binary(b"", exports=10_000), "10002 exports; the most is 10000"),
    "many globals": Bad(binary(b"", globals_=10_001), "10001 globals; the most is 10000"),
    "many functions": Bad(functions(20_001), "20001 functions; the most is 20000"),
    "conditional branches": Bad(
        binary((BLOCK + b"\x41\x00\x0d\x00" + END) * 10_001), "10001 branches; the most is 10000"
    ),
    "a wide type": Bad(
        guest(f"(type (func (param {'i64 ' * 201}))) {RUN}"), "201 parameters and results of a type; the most is 200"
    ),
    "calls that pass much": Bad(
        guest(f"(func $f (result {'i64 ' * 100}) unreachable) {RUN} (func {'(call $f) unreachable ' * 1_001} )"),
        "100100 values passed by blocks, branches and calls; the most is 100000",
    ),
    "much data": Bad(data((n, b"") for n in range(100_001)), "100001 data segments; the most is 100000"),
    "spread data": Bad(
        data(((n * 9_000, b"x") for n in range(2_001)), 300), r"(?s:.*)2001 data segments spread over 16 MiB or more"
    ),
    "data at computed offsets": Bad(
        guest(f"{'(data (i32.add (i32.const 0) (i32.const 0)))' * 1_001} {RUN}"),
        "1001 data segments with one at a computed offset or past the memory; the most is 1000",
    ),
    "many element segments": Bad(
        guest(f"(table 1 funcref) {'(elem (i32.const 0) func)' * 1_001} {RUN}"), "1001 element segments"
    ),
    "elements for every instance": Bad(
        guest(f"{RUN} (func $f) (elem func {'$f ' * 10_001})"), "10001 elements that start-up code copies"
    ),
    "a long constant expression": Bad(
        guest(f"(global i32 (i32.const 0) {'i32.const 0 i32.add ' * 50}) {RUN}"),
        "101 operators in a constant expression; the most is 100",
    ),
    "indirect calls": Bad(
        guest(f"(table 1 funcref) {RUN} (func {'(drop (table.get (i32.const 0)))' * 5_001})"),
        "5001 indirect calls and table accesses; the most is 5000",
    ),
    "loops without locals": Bad(binary((LOOP + END) * 50_000), "estimated milliseconds of compiling"),
    "jumps": Bad(binary((BLOCK + b"\x0c\x00" + END) * 10_001), "10001 branches; the most is 10000"),
    "locals of many functions": Bad(
        functions(20_000, leb(1) + leb(10_000) + b"\x7f"),
        "estimated milliseconds of compiling a MiB of code; the most is 6500",
    ),
    "branches over locals in many functions": Bad(
        functions(300, leb(1) + leb(10_000) + b"\x7f", (BLOCK + b"\x20\x00\x0d\x00" + END) * 500),
        "estimated milliseconds of compiling",
    ),
    "divisions under many values": Bad(
        functions(1, leb(1) + leb(9_000) + b"\x7f", b"\x20\x00\x20\x01\x6e\x21\x02" * 80_000),
        "estimated milliseconds of compiling",
    ),
    "loads": Bad(
        functions(1, leb(1) + leb(1) + b"\x7f", b"\x20\x00" + b"\x28\x00\x00" * 340_000 + b"\x1a"),
        "estimated milliseconds of compiling",
    ),
    "many custom sections": Bad(SILENT + section(0, b"\x01x") * 1_001, "1001 custom sections; the most is 1000"),
    "a long name": Bad(
        guest(f'{RUN} (global (export "{"n" * 50_001}") i32 (i32.const 0))'),
        "50001 bytes in the name of an import, an export or a function; the most is 50000",
    ),
    "much data in bytes": Bad(
        b"\0asm\1\0\0\0"
        + section(5, vector([b"\0\1"]))
        + section(7, vector([b"\x06memory\x02\0"]))
        + section(11, vector([b"\1" + leb((16 << 20) + 1) + b"x" * ((16 << 20) + 1)])),
        "16777217 bytes of data; the most is 16777216",
    ),
    "many imports": Bad(
        wasm(f'(module {"".join(f"""(import "fuseboard" "x{n}" (func))""" for n in range(1_001))} {MEMORY} {RUN})'),
        "1001 imports; the most is 1000",
    ),
}


@fb.host_function("f")
def a_function() -> None:
    """Be there."""


@pytest.fixture(scope="module")
def loaded() -> fb.Host:
    """Return a host with a plugin that works, to which all bad modules are offered in turn."""
    host = fb.Host(
        hooks=[TEXT, fb.Action("noted", str)],
        functions=[a_function],
        backends=Backends(kv=MemoryKv()),
        ceilings=fb.Limits(memory_limit_mb=4),
        max_concurrent_invocations=2,
    )
    host.load_bytes(writes('"works"'), manifest("good", "text"))
    return host


@pytest.mark.parametrize("name", BAD)
def test_a_bad_module_is_refused(loaded: fb.Host, name: str) -> None:
    """It is a `ModuleError` that says why, soon, and the plugin that was there works as before."""
    bad = BAD[name]
    started = time.monotonic()
    with pytest.raises(fb.ModuleError, match=f"^bad: .*(?:{bad.problem})") as caught:
        loaded.load_bytes(bad.wasm, manifest("bad", *bad.hooks, **bad.server), grants="as-requested")
    assert time.monotonic() - started < 2
    assert (caught.value.slug, caught.value.path) == ("bad", None)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2_000
    assert list(loaded.plugins) == ["good"]
    assert loaded.apply_filter("text", "x") == "works"


def test_every_bound_of_the_look_before_compiling_is_broken_once() -> None:
    """The table has a module for each bound."""
    sentences = " ".join(f"{bad.problem};" for bad in BAD.values())
    unbroken = [name for name, _, _ in _core.BOUNDS if name.removesuffix(" of a function") not in sentences]
    assert unbroken == []


def test_all_problems_of_a_module_are_told(make_host: Callable[..., fb.Host]) -> None:
    """The first problem is raised, and its notes have the others."""
    module = wasm(f'(module (import "env" "a" (func)) (import "env" "b" (func)) (func (export "_start")) {RUN})')
    with pytest.raises(fb.ModuleError, match='imports "a" from "env"') as caught:
        make_host().load_bytes(module, manifest("bad"))
    notes = " ".join(getattr(caught.value, "__notes__", []))
    everything = f"{caught.value} {notes}"
    for words in ('imports "b" from "env"', "exports no memory", "is a program"):
        assert words in everything


@pytest.mark.parametrize("size", [len(SILENT) - 1, len(SILENT)])
def test_a_module_over_the_cap(make_host: Callable[..., fb.Host], size: int) -> None:
    """The cap counts the module's bytes; a module of exactly so many is loaded."""
    host = make_host(caps=fb.Caps(module_bytes=size))
    if size == len(SILENT):
        host.load_bytes(SILENT, manifest("a"))
        return
    with pytest.raises(fb.ModuleError, match=f"the module has more than {size} bytes"):
        host.load_bytes(SILENT, manifest("a"))


def test_bounds_are_not_too_tight(make_host: Callable[..., fb.Host]) -> None:
    """A module at the bounds, where each is cheap, loads and runs."""
    host = make_host()
    at_the_bounds = [
        binary(BLOCK * 200 + END * 200, local_groups=((400, I32),)),
        binary((LOOP + END) * 100, local_groups=((1_000, I32),)),
        guest(f"{'(table 10 funcref)' * 4} {RUN}"),
        guest(f'(memory (export "memory") 64) {RUN}'),
    ]
    for place, module in enumerate(at_the_bounds):
        host.load_bytes(module, manifest(f"p-{place}"))
    assert all(isinstance(outcome, fb.Completed) for outcome in host.dispatch("text", "x").outcomes)


# ── the folder ───────────────────────────────────────────────────────────────────────────────────


def folder(path: Path, module: bytes | None = SILENT, extra: str = "") -> Path:
    """Write a plugin's folder and return it."""
    path.mkdir(parents=True)
    text = f'manifest = 1\nslug = "bad"\nversion = "1"\n{extra}\n[[hooks]]\nname = "text"\nexport = "run"\n'
    (path / "plugin.toml").write_text(text)
    if module is not None:
        (path / "plugin.wasm").write_bytes(module)
    return path


def refusal(host: fb.Host, path: Path, error: type[fb.LoadError] = fb.ModuleError) -> fb.LoadError:
    with pytest.raises(error) as caught:
        host.load(path)
    assert type(caught.value) is error
    assert dict(host.plugins) == {}
    return caught.value


def test_a_module_that_is_not_there(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """It is named by its path, with what to do."""
    error = refusal(make_host(), folder(tmp_path / "p", None))
    path = str(tmp_path / "p" / "plugin.wasm")
    assert str(error) == (
        f"{path}: the module can't be read: No such file or directory; "
        "build it (fuseboard build), or name it in the manifest's module"
    )
    assert (error.slug, error.path) == ("bad", path)


def test_a_bad_module_of_a_folder_is_named_by_its_path(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """What is wrong with a module is told with the module's path, not the manifest's."""
    error = refusal(make_host(), folder(tmp_path / "p", b"\x7fELF"))
    assert str(error).startswith(f"{tmp_path / 'p' / 'plugin.wasm'}: ")


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_module_outside_of_the_folder_by_symlink(
    make_host: Callable[..., fb.Host], tmp_path: Path, linked: str
) -> None:
    """A link can't lead out of the plugin's folder, and what lies there isn't read."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x.wasm").write_bytes(SILENT)
    path = folder(tmp_path / "p", None, 'module = "lib/x.wasm"')
    if linked == "file":
        (path / "lib").mkdir()
        (path / "lib" / "x.wasm").symlink_to(tmp_path / "secret" / "x.wasm")
    else:
        (path / "lib").symlink_to(tmp_path / "secret")
    assert "the module lies outside of the plugin's folder" in str(refusal(make_host(), path))


def test_a_link_inside_of_the_folder(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """A link that stays inside is followed, and so is one that leads to the folder itself."""
    path = folder(tmp_path / "p", None)
    (path / "build").mkdir()
    (path / "build" / "x.wasm").write_bytes(SILENT)
    (path / "plugin.wasm").symlink_to("build/x.wasm")
    (tmp_path / "link").symlink_to(path)
    assert make_host().load(path).slug == "bad"
    assert make_host().load(tmp_path / "link").slug == "bad"


def test_a_link_to_itself(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """A link without an end is a module that can't be read."""
    path = folder(tmp_path / "p", None)
    (path / "plugin.wasm").symlink_to("plugin.wasm")
    assert "the module can't be read" in str(refusal(make_host(), path))


def test_a_module_that_is_no_file(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """A folder isn't read, and a pipe, which would wait for its writer, isn't opened."""
    (folder(tmp_path / "p", None) / "plugin.wasm").mkdir()
    os.mkfifo(folder(tmp_path / "q", None) / "plugin.wasm")
    for name in "pq":
        assert "the module is no file" in str(refusal(make_host(), tmp_path / name))


def test_a_large_file_is_not_read_whole(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """A file over the cap is refused without taking its size in memory."""
    path = folder(tmp_path / "p")
    os.truncate(path / "plugin.wasm", 1 << 40)
    started = time.monotonic()
    assert "more than 1000 bytes" in str(refusal(make_host(caps=fb.Caps(module_bytes=1_000)), path))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("module", ["../x.wasm", "/x.wasm", "lib/../x.wasm", "x.so", ".", "", "C:/x.wasm", "a\\b.wasm"])
def test_modules_that_manifests_may_not_name(make_host: Callable[..., fb.Host], tmp_path: Path, module: str) -> None:
    """A path out of the folder, or to another kind of file, is the manifest's problem."""
    escaped = module.replace("\\", "\\\\")
    error = refusal(make_host(), folder(tmp_path / "p", SILENT, f'module = "{escaped}"'), fb.ManifestError)
    assert "module" in str(error)


@pytest.mark.parametrize(
    "what", ["nothing", "a file", "an empty folder"],
)  # fmt: skip
def test_a_folder_that_is_none(make_host: Callable[..., fb.Host], tmp_path: Path, what: str) -> None:
    """A folder without a `plugin.toml` is a `ManifestError` that says what a plugin is."""
    path = tmp_path / "p"
    if what == "a file":
        path.write_bytes(SILENT)
    elif what == "an empty folder":
        path.mkdir()
    assert "a plugin is a folder with a plugin.toml" in str(refusal(make_host(), path, fb.ManifestError))


# ── manifest and host ────────────────────────────────────────────────────────────────────────────

POWERS = {"http": ["https://a.example"], "db": "write", "kv": True, "functions": ["f", "g"]}


@pytest.mark.parametrize(
    ("said", "grants", "words"),
    [
        (
            manifest("bad", "post.titel"),
            "as-requested",
            r"hooks\[0\]\.name = 'post\.titel': .*did you mean 'post\.title'",
        ),
        (manifest("bad", "zzz"), "as-requested", r"hooks\[0\]\.name = 'zzz': .*declared: noted, post\.title, text"),
        (
            manifest("bad", memory_limit_mb=5),
            None,
            r"server\.memory_limit_mb = 5: is above the operator's ceiling; allowed: 1 to 4",
        ),
        (manifest("bad", capabilities={"kv": True}), None, r"server\.capabilities\.kv = True: .*Grants\(kv=True\)"),
        (manifest("bad", capabilities={"kv": True}), fb.Grants(db="write"), r"server\.capabilities\.kv = True"),
        (
            manifest("bad", capabilities={"functions": ["f", "g"]}),
            fb.Grants(functions=["f"]),
            r"functions\[1\] = 'g': is requested but not granted",
        ),
        (manifest("bad", capabilities={"db": "write"}), fb.Grants(db="read"), r"capabilities\.db = 'write'"),
        (
            manifest("bad", capabilities={"db": "read"}),
            "as-requested",
            r"capabilities\.db = 'read': this host has no db backend; pass Backends\(db=\.\.\.\)",
        ),
        (
            manifest("bad", capabilities={"http": ["https://a.example"]}),
            "as-requested",
            "this host has no http backend",
        ),
        (
            manifest("bad", capabilities={"functions": ["ff"]}),
            "as-requested",
            r"functions\[0\] = 'ff': the application has no such function",
        ),
        (manifest("bad") | {"slug": "Bad"}, None, "slug = 'Bad': must be"),
        (manifest("bad") | {"hooks": []}, None, "hooks: must be at least one"),
        (manifest("bad") | {"hook": []}, None, r"hook: unknown key \(did you mean 'hooks'\?\)"),
        (manifest("bad") | {"abi": 2}, None, "abi = 2: this Fuseboard offers guest ABI 1"),
        ([], None, "must be a table, not an array"),
        (None, None, "must be a table, not null"),
    ],
    ids=range(16),
)
def test_a_bad_manifest_is_refused(make_host: Callable[..., fb.Host], said: Any, grants: Any, words: str) -> None:
    """What is wrong with a manifest in this host is a `ManifestError` with field, value and what to do."""
    functions = [a_function, fb.host_function("g")(lambda: None)]
    host = make_host(fb.Filter("post.title", str), functions=functions, backends=Backends(kv=MemoryKv()))
    with pytest.raises(fb.ManifestError, match=words):
        host.load_bytes(SILENT, said, grants=grants)
    assert dict(host.plugins) == {}


def test_all_problems_are_told_at_once(make_host: Callable[..., fb.Host]) -> None:
    """The first is raised, the others are its notes, whatever stage found them."""
    said = manifest("bad", "nope", "text", capabilities={"kv": True, "db": "read"})
    with pytest.raises(fb.ManifestError, match="declares no such hook") as caught:
        make_host().load_bytes(b"\x7fELF", said)
    notes = "\n".join(caught.value.__notes__)
    for words in ("capabilities.kv", "capabilities.db", "is native code"):
        assert f"also: bad: {words}" in notes or words in notes
    assert all(note.startswith("also: ") for note in caught.value.__notes__)


def test_what_is_granted_is_what_was_requested(make_host: Callable[..., fb.Host]) -> None:
    """Granting more than is requested gives a plugin no more."""
    host = make_host(backends=Backends(kv=MemoryKv()), functions=[a_function])
    generous = fb.Grants(kv=True, db="write", functions=["f"], http=["https://a.example"])
    plugin = host.load_bytes(SILENT, manifest("a", capabilities={"kv": True}), grants=generous)
    assert plugin.grants == fb.Grants(kv=True)
    assert host.load_bytes(SILENT, manifest("b"), grants="as-requested").grants == fb.Grants()


def test_examine_without_an_application() -> None:
    """Where there is no application, any hook and function will do; what the module itself lacks is still found."""
    limits = fb.Limits()
    policy = Policy(Compiler(_core.Engine(4 << 20, 1)), limits, fb.Caps(), None, None, frozenset({"http", "db", "kv"}))
    said = manifest("a", "any.hook", capabilities=POWERS)
    module, problems = examine(from_bytes(ECHO, said, limits), policy, Terms(grants="as-requested"))
    assert (module is not None, problems) == (True, [])
    lacking = {**said, "hooks": [{"name": "other"}]}
    module, problems = examine(from_bytes(ECHO, lacking, limits), policy, Terms(grants="as-requested"))
    assert module is not None
    assert [str(problem) for problem in problems] == ['a: the module exports no "other" (hooks[0].export)']
    module, problems = examine(from_bytes(b"", said, limits), policy, Terms(grants="as-requested"))
    assert (module, len(problems)) == (None, 1)


@pytest.mark.parametrize("length", range(0, len(ECHO), 7))
def test_no_beginning_of_a_module_is_a_module(loaded: fb.Host, length: int) -> None:
    """Cut anywhere, a module is refused in words, and nothing panics."""
    with pytest.raises(fb.ModuleError):
        loaded.load_bytes(ECHO[:length], manifest("bad"))


def test_no_changed_byte_breaks_the_loader(loaded: fb.Host) -> None:
    """Whatever byte of a module is another, it loads or is refused in words."""
    for place in range(8, len(ECHO)):
        changed = bytearray(ECHO)
        changed[place] ^= 0xFF
        try:
            loaded.load_bytes(changed, manifest("bad"))
        except fb.ModuleError:
            continue
        loaded.unload("bad")
    assert loaded.apply_filter("text", "x") == "works"


def test_modules_made_by_hand_are_modules() -> None:
    """One that breaks no bound is valid, so that the others are refused for their bound alone."""
    wasmtime.Module.validate(wasmtime.Engine(), binary(LOOP + END, exports=3, types=2, globals_=2))
