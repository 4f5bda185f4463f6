"""Snapshots: what initialises a module runs once at load, and each invocation begins where that ended."""

from __future__ import annotations

import json
import logging
import os
import re
import time
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import fuseboard as fb
from conftest import ECHO, SIGNATURES, guest, manifest, wasm
from fuseboard import ArtifactCache, SnapshotRefusal, SnapshotState, _compile_snapshot, _core
from fuseboard._compile import Order, make
from fuseboard.backends import Backends
from fuseboard.backends.memory import MemoryKv
from fuseboard.cli import main
from guests import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


GO = ROOT / "plugins" / "comment-score"

COUNT = """(func $count (local $turn i32)
  (loop $again (br_if $again (i32.lt_u (local.tee $turn (i32.add (local.get $turn) (i32.const 1))) (i32.const 100000))))
  (i32.store8 (i32.const 1) (i32.add (i32.load8_u (i32.const 1)) (i32.const 1))))"""
"""Takes some 600,000 fuel, and counts how often it was called in the text at 0."""
SHOW = '(func (export "run") (call $output_write (i32.const 0) (i32.const 3)))'
TEXT = '(data (i32.const 0) "\\"0\\"")'
COUNTED = guest(f'{COUNT} {TEXT} {SHOW} (export "_initialize" (func $count))')
BOOTED = guest(f'{COUNT} {TEXT} {SHOW} (export "boot" (func $count))')


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    """Return a cache of the test's own."""
    return ArtifactCache(folder=tmp_path / "artifacts")


def said(**top: Any) -> dict[str, Any]:
    """Return a manifest with keys at its top."""
    return manifest() | top


def fuel_of(host: fb.Host, value: str = "x") -> float:
    outcome = host.invoke("guest", "text", value)
    assert isinstance(outcome, fb.Completed), outcome
    return outcome.meters[fb.Limit.FUEL].used


def snapshot_of(host: fb.Host) -> fb.Snapshot:
    found = host.plugins["guest"].snapshot
    assert found is not None
    return found


def notices(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.message for record in caplog.records if record.name == "fuseboard.load" and record.levelno > logging.INFO
    ]


# ── taken ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("module", "top"),
    [
        (COUNTED, {}),
        (guest(f"{COUNT} {TEXT} {SHOW} (start $count)"), {}),
        (BOOTED, {"initialize": "boot"}),
        (COUNTED, {"initialize": "_initialize"}),
    ],
    ids=["_initialize", "start function", "an export of the author's", "_initialize by name"],
)
@pytest.mark.parametrize("where", ["subprocess", "inline"])
def test_initialisation_runs_once(make_host: Callable[..., fb.Host], module: bytes, top: Any, where: str) -> None:
    """What initialises a module is charged to no invocation, and leaves the same behind in each."""
    host = make_host(cache=None, compile=where)
    host.load_bytes(module, said(**top))
    assert snapshot_of(host).state is SnapshotState.TAKEN
    assert 500_000 < snapshot_of(host).fuel < 800_000
    assert snapshot_of(host).frozen_bytes == 3
    assert host.apply_filter("text", "x") == "1"
    assert fuel_of(host) < 1_000
    without = make_host(cache=None, compile=where)
    without.load_bytes(module, said(**top, snapshot=False))
    assert without.plugins["guest"].snapshot is None
    assert without.apply_filter("text", "x") == "1"
    assert fuel_of(without) == fuel_of(host) + snapshot_of(host).fuel


def test_all_initialisation_runs_in_order(make_host: Callable[..., fb.Host]) -> None:
    """Start function, `_initialize`, then the manifest's export, with a snapshot and without."""
    step = "(func $digit (param i32) (i32.store8 (i32.const 1) (i32.add (i32.load8_u (i32.const 1)) (local.get 0))))"
    module = guest(
        f"""{COUNT} (data (i32.const 0) "\\"aa\\"") {step}
        (func $write (param i32) (i32.store8 (i32.load (i32.const 8)) (local.get 0))
          (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1))))
        (func $start (call $count) (i32.store (i32.const 8) (i32.const 1)) (call $write (i32.const 50)))
        (func (export "_initialize") (call $write (i32.const 51)))
        (func (export "boot") (call $write (i32.const 34)))
        (start $start) {SHOW.replace("(i32.const 3)", "(i32.const 4)")}"""
    )
    for snapshot in (True, False):
        host = make_host(cache=None)
        host.load_bytes(module, said(initialize="boot", snapshot=snapshot))
        assert host.apply_filter("text", "x") == "23"


def test_fuel_is_the_same_in_each_call(make_host: Callable[..., fb.Host]) -> None:
    """A thousand invocations take the same fuel."""
    host = make_host()
    host.load_bytes(COUNTED, said())
    assert len({fuel_of(host, str(number)) for number in range(1_000)}) == 1


def test_fuel_is_the_same_in_each_call_of_go(make_host: Callable[..., fb.Host]) -> None:
    """So they do where a runtime draws random seeds and reads the clock; without a snapshot they do not."""
    score = fb.Filter("comment.score", dict[str, Any])
    for snapshot, calls, amounts in ((True, 1_000, {1}), (False, 50, set(range(2, 51)))):
        host = make_host(score, backends=Backends(kv=MemoryKv()), ceilings=fb.Limits(memory_limit_mb=32))
        text = (GO / "plugin.toml").read_text(encoding="utf-8")
        plugin = tomllib.loads(text) | {"snapshot": snapshot}
        host.load_bytes((GO / "plugin.wasm").read_bytes(), plugin, grants="as-requested")
        comments = [{"author": f"author {number:04}", "text": "hello", "score": 0.5} for number in range(calls)]
        outcomes = [host.invoke("comment-score", score, comment) for comment in comments]
        assert all(isinstance(outcome, fb.Completed) for outcome in outcomes)
        assert len({outcome.meters[fb.Limit.FUEL].used for outcome in outcomes}) in amounts


def test_what_is_printed_meanwhile_is_told_with_the_load(
    make_host: Callable[..., fb.Host], cache: ArtifactCache, caplog: pytest.LogCaptureFixture
) -> None:
    """What an initialisation logs reaches the plugin's logger once, when the snapshot is taken."""
    caplog.set_level(logging.DEBUG)
    module = guest(
        f"""{COUNT} {TEXT} {SHOW} (data (i32.const 100) "set up")
        (func (export "_initialize") (call $count) (call $host_log (i32.const 2) (i32.const 100) (i32.const 6)))"""
    )
    for _ in range(2):
        host = make_host(cache=cache)
        host.load_bytes(module, said())
        host.apply_filter("text", "x")
        lines = [each for each in caplog.records if each.name == "fuseboard.plugin.guest"]
        assert [(each.levelname, each.message) for each in lines] == [("WARNING", "set up")]
        assert (lines[0].__dict__["plugin"], lines[0].__dict__["hook"]) == ("guest", None)


def test_what_is_taken_is_told(
    make_host: Callable[..., fb.Host], cache: ArtifactCache, caplog: pytest.LogCaptureFixture
) -> None:
    """Each load says at INFO that a plugin starts initialised, also where the artifact was kept; nothing louder."""
    caplog.set_level(logging.INFO)
    for _ in range(2):
        caplog.clear()
        make_host(cache=cache).load_bytes(COUNTED, said())
        told = [each.message for each in caplog.records if "starts" in each.message]
        assert len(told) == 1
        assert re.fullmatch(r"plugin guest: starts initialised: \d{3},\d{3} fuel once, 3 bytes frozen", told[0])
    assert notices(caplog) == []


def test_backtraces_tell_the_file_as_it_was(make_host: Callable[..., fb.Host]) -> None:
    """A plugin that traps after its initialisation names its functions and their places in the author's file."""
    module = guest(
        f"""{COUNT} {TEXT} (global $g (mut i64) (i64.const 0))
        (func (export "_initialize") (call $count) (global.set $g (i64.const 0x7fffffffffffffff)))
        (func $inner unreachable) (func $outer (export "run") (call $inner))"""
    )
    traps = []
    for snapshot in (True, False):
        host = make_host(cache=None)
        host.load_bytes(module, said(snapshot=snapshot))
        outcome = host.invoke("guest", "text", "x")
        assert isinstance(outcome, fb.Trapped)
        traps.append(outcome.trap)
    assert [frame.function for frame in traps[0].backtrace] == ["inner", "outer"]
    assert traps[0].backtrace == traps[1].backtrace
    assert traps[0].cause is fb.Cause.CRASH


def test_clocks_do_not_go_back(make_host: Callable[..., fb.Host]) -> None:
    """The monotonic clock that an initialisation reads has hardly begun; an invocation's is later."""
    imports = '(import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))'
    module = guest_with(
        imports,
        f"""{COUNT} (data (i32.const 16) "true ") (data (i32.const 40) "false")
        (func (export "_initialize") (call $count) (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 64))))
        (func (export "run") (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 72)))
          (if (i32.or (i64.ge_u (i64.load (i32.const 64)) (i64.load (i32.const 72)))
                      (i64.ge_u (i64.load (i32.const 64)) (i64.const 1000000000)))
            (then (memory.copy (i32.const 16) (i32.const 40) (i32.const 5))))
          (call $output_write (i32.const 16) (i32.const 5)))""",
    )
    flag = fb.Filter("flag", bool)
    host = make_host(flag)
    host.load_bytes(module, manifest("guest", "flag"))
    assert snapshot_of(host).is_taken
    assert host.apply_filter("flag", False) is True


def guest_with(imports: str, body: str) -> bytes:
    """Return a guest with imports that are not of the ABI's."""
    output = f'(import "fuseboard" "output_write" (func $output_write {SIGNATURES["output_write"]}))'
    return wasm(f'(module {imports} {output} (memory (export "memory") 1) {body})')


# ── not taken ────────────────────────────────────────────────────────────────────────────────────


def test_without_initialisation_there_is_nothing(make_host: Callable[..., fb.Host]) -> None:
    """A module that has none has no snapshot, and nothing is said."""
    host = make_host(cache=None)
    host.load_bytes(ECHO, said())
    assert host.plugins["guest"].snapshot is None


def test_cheap_initialisation_runs_in_each(make_host: Callable[..., fb.Host], caplog: pytest.LogCaptureFixture) -> None:
    """What is cheap isn't frozen, and no notice is given."""
    module = guest(f'{TEXT} (func (export "_initialize") (i32.store8 (i32.const 1) (i32.const 57))) {SHOW}')
    host = make_host(cache=None)
    host.load_bytes(module, said())
    assert snapshot_of(host).state is SnapshotState.CHEAP
    assert 0 < snapshot_of(host).fuel < _core.CHEAP_FUEL
    assert host.apply_filter("text", "x") == "9"
    assert notices(caplog) == []


DEAR = f'{COUNT} {TEXT} {SHOW} (func (export "_initialize") (call $count) '
REFUSED: dict[str, tuple[str, SnapshotRefusal, str]] = {
    "changes a table": (
        f"(table 1 funcref) (func (table.set (i32.const 0) (ref.null func))) {DEAR})",
        SnapshotRefusal.INSTRUCTION,
        r"function 1 has table\.set, whose effects can't be written down",
    ),
    "drops a segment": (
        f'(data $p "x") (func (data.drop $p)) {DEAR})',
        SnapshotRefusal.INSTRUCTION,
        r"function 1 has data\.drop",
    ),
    "a reference that can change": (
        f"(global (mut funcref) (ref.null func)) {DEAR})",
        SnapshotRefusal.REFERENCE_GLOBAL,
        "global 0 can change and holds a reference",
    ),
    "reads its settings": (
        f"{DEAR} (drop (call $buffer_length (i32.const 4))))",
        SnapshotRefusal.ASKS,
        "its initialisation calls buffer_length, which it can do in an invocation only",
    ),
    "leaves too much behind": (
        f"""(memory (export "memory") 21) {DEAR}
        (memory.fill (i32.const 65536) (i32.const 1) (i32.const 1048576)))""",
        SnapshotRefusal.TOO_LARGE,
        r"its initialisation leaves 1048579 bytes in memory; the most is 1048576",
    ),
}


@pytest.mark.parametrize(("body", "refusal", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_frozen_runs_in_each(
    make_host: Callable[..., fb.Host],
    cache: ArtifactCache,
    caplog: pytest.LogCaptureFixture,
    body: str,
    refusal: SnapshotRefusal,
    words: str,
) -> None:
    """Each such module loads and works as without a snapshot, and each load says why, from the cache too."""
    for _ in range(2):
        caplog.clear()
        host = make_host(cache=cache, compile_limits=fb.CompileLimits(snapshot_mb=1))
        host.load_bytes(guest(body), said())
        assert (snapshot_of(host).state, snapshot_of(host).refusal) == (SnapshotState.REFUSED, refusal)
        [notice] = notices(caplog)
        assert re.fullmatch(rf"plugin guest: starts anew in each invocation, as {words}.*", notice)
        assert host.apply_filter("text", "x") == "1"
        assert fuel_of(host) > 500_000


ENDLESS = '(func (export "_initialize") (loop $again (br $again)))'
HOSTILE: dict[str, tuple[str, SnapshotRefusal]] = {
    "an endless loop": (ENDLESS, SnapshotRefusal.FUEL),
    "a loop over an import": (
        """(func (export "_initialize")
        (loop $again (call $host_log (i32.const 1) (i32.const 0) (i32.const 60000)) (br $again)))""",
        SnapshotRefusal.FUEL,
    ),
    "endless memory": (
        """(memory (export "memory") 1)
        (func (export "_initialize") (loop $again (drop (memory.grow (i32.const 1))) (br $again)))""",
        SnapshotRefusal.MEMORY,
    ),
    "full memory": (
        """(memory (export "memory") 1) (func (export "_initialize") (drop (memory.grow (i32.const 1000)))
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 65600000)))""",
        SnapshotRefusal.TOO_LARGE,
    ),
    "scattered memory": (
        """(memory (export "memory") 1) (func (export "_initialize") (local $at i32)
        (drop (memory.grow (i32.const 1000)))
        (loop $again (i32.store8 (local.get $at) (i32.const 1))
          (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 9))) (i32.const 65600000)))))""",
        SnapshotRefusal.TOO_LARGE,
    ),
    "a full stack": ('(func $deep (export "_initialize") (call $deep))', SnapshotRefusal.ENDED),
    "a crash": ('(func (export "_initialize") unreachable)', SnapshotRefusal.ENDED),
    "a host call": (
        '(func (export "_initialize") (drop (call $host_kv_get (i32.const 0) (i32.const 1))))',
        SnapshotRefusal.ASKS,
    ),
}


@pytest.mark.parametrize(("body", "refusal"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_initialisation_is_ended(
    make_host: Callable[..., fb.Host], caplog: pytest.LogCaptureFixture, body: str, refusal: SnapshotRefusal
) -> None:
    """It ends at the budget of the load, in little memory; the plugin loads, and trips its own limits when it runs."""
    ceilings = fb.Limits(memory_limit_mb=64)
    limits = fb.CompileLimits(init_fuel=200_000_000, memory_mb=512)
    host = make_host(cache=None, compile_limits=limits, ceilings=ceilings, backends=Backends(kv=MemoryKv()))
    began = time.monotonic()
    capabilities = {"kv": True} if "host_kv_get" in body else {}
    host.load_bytes(guest(f'{body} (func (export "run"))'), manifest(capabilities=capabilities), grants="as-requested")
    assert time.monotonic() - began < 30
    assert (snapshot_of(host).refusal, len(notices(caplog))) == (refusal, 1)
    host.load_bytes(ECHO, manifest("good", "noted"))


def test_initialisation_over_the_budget_of_time(make_host: Callable[..., fb.Host]) -> None:
    """One that takes more time than half of what a load may take is ended; the module is compiled in the rest."""
    host = make_host(cache=None, compile_limits=fb.CompileLimits(timeout_seconds=6, init_fuel=10**15))
    host.load_bytes(guest(f'{ENDLESS} (func (export "run"))'), said())
    assert snapshot_of(host).refusal is SnapshotRefusal.TIME
    assert re.fullmatch(r".*takes more than [23] s", snapshot_of(host).reason)


def test_initialisation_over_the_budget_of_a_processor(make_host: Callable[..., fb.Host]) -> None:
    """The time of a processor is its own: what it spends is not taken from the compiler."""
    host = make_host(cache=None, compile_limits=fb.CompileLimits(cpu_seconds=1, init_fuel=10**15))
    host.load_bytes(guest(f'{ENDLESS} (func (export "run"))'), said())
    assert snapshot_of(host).refusal is SnapshotRefusal.TIME
    assert snapshot_of(host).reason.endswith("takes more than 1 s of a processor")


@pytest.mark.parametrize(
    ("code", "refusal", "words"),
    [
        (-9, SnapshotRefusal.ENDED, "was ended by signal 9"),
        (-6, SnapshotRefusal.MEMORY, "takes more than 2048 MiB of memory"),
        (2, SnapshotRefusal.MEMORY, "takes more than 2048 MiB of memory"),
        (1, SnapshotRefusal.ENDED, "failed"),
    ],
)
def test_a_process_that_ends_without_a_word(code: int, refusal: SnapshotRefusal, words: str) -> None:
    """However the process that initialises ends, there is a sentence for it."""
    found = _compile_snapshot._ended(Order(4 << 20, True, 60, 2_048, 120), code, 60.0).snapshot
    assert found is not None
    assert (found.refusal, found.reason) == (refusal, f"compiling and running its initialisation {words}")


def test_a_lack_of_processes_is_no_fact_about_a_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where none can be begun now, nothing is compiled: it would be kept, and the module be slow for good."""

    def refuse() -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "pipe", lambda: (-1, -1))
    monkeypatch.setattr(os, "fork", refuse)
    order = Order(4 << 20, True, 60, 2_048, 120, snapshots=True, init_fuel=10**9, snapshot_mb=1)
    with (tmp_path / "artifact").open("wb") as file:
        reply = make(order, COUNTED, file.fileno(), _compile_snapshot.frozen_apart)
    assert (reply.end, reply.problems) == ("failed", ["no more processes"])


# ── the manifest and the operator ────────────────────────────────────────────────────────────────


def test_the_cache_tells_them_apart(make_host: Callable[..., fb.Host], cache: ArtifactCache, tmp_path: Path) -> None:
    """An artifact is for what was asked: with a snapshot or without, of which export, under which budget."""
    module = guest(f'{COUNT} {TEXT} {SHOW} (export "_initialize" (func $count)) (export "boot" (func $count))')
    loads: list[tuple[dict[str, Any], fb.CompileLimits, str]] = [
        ({}, fb.CompileLimits(), "1"),
        ({"snapshot": False}, fb.CompileLimits(), "1"),
        ({"initialize": "boot"}, fb.CompileLimits(), "2"),
        ({"initialize": "boot", "snapshot": False}, fb.CompileLimits(), "2"),
        ({}, fb.CompileLimits(init_fuel=100_000), "1"),
        ({}, fb.CompileLimits(snapshot_mb=1), "1"),
    ]
    for _ in range(2):
        for top, limits, value in loads:
            host = make_host(cache=cache, compile_limits=limits)
            host.load_bytes(module, said(**top))
            assert host.apply_filter("text", "x") == value
    # Without a snapshot the artifact is the same, whatever export runs.
    assert len(list((tmp_path / "artifacts").glob("*.artifact"))) == len(loads) - 1


@pytest.mark.parametrize("snapshot", [True, False])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('(func (export "boots"))', r'exports no "boot" \(did you mean .boots.\?\) \(initialize\)'),
        ('(func (export "boot") (param i32))', 'exports "boot" as something else than a function without param'),
        ('(global (export "boot") i32 (i32.const 1))', 'exports "boot" as something else than a function'),
    ],
)
def test_an_export_that_cannot_initialise(
    make_host: Callable[..., fb.Host], body: str, words: str, *, snapshot: bool
) -> None:
    """The load fails, with the manifest's key."""
    with pytest.raises(fb.ModuleError, match=words):
        make_host(cache=None).load_bytes(
            guest(f'{body} (func (export "run"))'), said(initialize="boot", snapshot=snapshot)
        )


def test_a_reload_takes_another_snapshot(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """What a reload loads is initialised anew, and told so."""
    host = make_host()
    folder = plugin_folder(tmp_path / "plugin", COUNTED)
    host.load(folder)
    assert snapshot_of(host).is_taken
    said = (folder / "plugin.toml").read_text()
    (folder / "plugin.toml").write_text(said.replace("[[", "snapshot = false\n[["))
    host.reload("guest")
    assert host.plugins["guest"].snapshot is None
    assert host.apply_filter("text", "x") == "1"


def test_refusals_are_the_cores() -> None:
    """Each reason of the core has its name here."""
    assert list(SnapshotRefusal) == _core.SNAPSHOT_REFUSALS


# ── the command line ─────────────────────────────────────────────────────────────────────────────


def shown(command: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """Return what a command shows of a folder, as text and as JSON."""
    text, data = (CliRunner().invoke(main, [command, str(folder), *more]) for more in ([], ["--json"]))
    assert (text.exit_code, data.exit_code) == (0, 0), text.output
    return re.sub(r"\s+", " ", text.stdout), json.loads(data.stdout)


def plugin_folder(folder: Path, module: bytes, line: str = "") -> Path:
    """Write a plugin's folder, with a line more in its manifest."""
    folder.mkdir()
    (folder / "plugin.wasm").write_bytes(module)
    hook = '[[hooks]]\nname = "text"\nexport = "run"\n'
    (folder / "plugin.toml").write_text(f'manifest = 1\nslug = "guest"\nversion = "1"\n{line}\n{hook}')
    return folder


def test_check_tells_what_becomes_of_it(tmp_path: Path) -> None:
    """The fuel and the bytes where a snapshot is taken, the reason where it isn't, and nothing where none is wanted."""
    text, data = shown("check", plugin_folder(tmp_path / "taken", BOOTED, 'initialize = "boot"'))
    assert re.search(r"initialisation starts initialised: \d{3},\d{3} fuel once, 3 bytes frozen", text)
    assert (data["snapshot"]["state"], data["snapshot"]["frozen_bytes"]) == ("taken", 3)
    assert data["module"]["other_exports"] == []
    text, data = shown("check", plugin_folder(tmp_path / "refused", guest(REFUSED["changes a table"][0])))
    assert "initialisation starts anew in each invocation, as function 1 has table.set" in text
    assert (data["snapshot"]["state"], data["snapshot"]["refusal"]) == ("refused", "instruction")
    text, data = shown("check", plugin_folder(tmp_path / "off", COUNTED, "snapshot = false"))
    assert "initialisation" not in text
    assert data["snapshot"] is None


def test_inspect_tells_what_can_be_seen(tmp_path: Path) -> None:
    """Whether there is something to freeze, and what of the module's shape is in the way, without running it."""
    text, data = shown("inspect", plugin_folder(tmp_path / "frozen", COUNTED))
    assert "initialisation can run once for all invocations; fuseboard check tells" in text
    assert (data["module"]["initialises"], data["module"]["snapshot_refusal"]) == (True, None)
    text, data = shown("inspect", plugin_folder(tmp_path / "refused", guest(REFUSED["changes a table"][0])))
    assert "initialisation runs in each invocation unless it is cheap, as function 1 has table.set" in text
    assert data["module"]["snapshot_refusal"].startswith("function 1 has table.set")
    text, data = shown("inspect", plugin_folder(tmp_path / "none", ECHO))
    assert (data["module"]["initialises"], "initialisation" in text) == (False, False)
