"""WASI through a host: what a guest prints, how it sleeps, and how it ends itself."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import fuseboard as fb
from conftest import TEXT, only_sync, wasm
from fuseboard import _core

if TYPE_CHECKING:
    from collections.abc import Callable

    Load = Callable[..., fb.Host]

ABI_PAGE: Final = Path(__file__).parent.parent / "docs" / "reference" / "abi.md"


def wasi(body: str) -> bytes:
    """Return a guest with the functions of WASI that the tests use."""
    return wasm(f"""(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "fuseboard" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\\"slept\\"") (data (i32.const 100) "hello\\nthere")
        (func $print (param $stream i32)
          (i32.store (i32.const 200) (i32.const 100)) (i32.store (i32.const 204) (i32.const 11))
          (drop (call $fd_write (local.get $stream) (i32.const 200) (i32.const 1) (i32.const 208))))
        (func $sleep (param $ms i64)
          (i32.store (i32.const 316) (i32.const 1))
          (i64.store (i32.const 324) (i64.mul (local.get $ms) (i64.const 1000000)))
          (drop (call $poll (i32.const 300) (i32.const 400) (i32.const 1) (i32.const 500))))
        (func $say (call $output (i32.const 0) (i32.const 7)))
        (func (export "run") {body}))""")


def sleeper(ms: int) -> bytes:
    return wasi(f"(call $sleep (i64.const {ms})) (call $say)")


def test_what_is_printed_is_logged(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """Lines on standard output are told at level info, on standard error as warnings, with the invocation's names."""
    caplog.set_level(logging.INFO, "fuseboard.plugin")
    host = load(wasi("(call $print (i32.const 1)) (call $print (i32.const 2))"))
    host.apply_filter(TEXT, "old", request_id="r-1")
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [("INFO", "hello"), ("WARNING", "hello"), ("INFO", "there"), ("WARNING", "there")]
    assert {(record.name, vars(record)["request_id"]) for record in caplog.records} == {
        ("fuseboard.plugin.plugin-0", "r-1")
    }


def test_a_sleep_takes_its_time(load: Load) -> None:
    """A guest that sleeps goes on afterwards; it took neither fuel for it nor less time."""
    outcome = load(sleeper(60)).invoke("plugin-0", TEXT, "old")
    assert isinstance(outcome, fb.Completed)
    assert outcome.value == "slept"
    assert outcome.elapsed_ms >= 60
    assert outcome.meters[fb.Limit.FUEL].used < 2_000


def test_a_sleep_ends_at_the_deadline(load: Load) -> None:
    """A sleep of a day trips the timeout when that is over, and the trap names the sleep."""
    outcomes = []
    for _ in range(3):  # the machine may be busy
        host = load(sleeper(86_400_000), server={"invocation_timeout_ms": 100})
        began = time.monotonic()
        outcome = host.invoke("plugin-0", TEXT, "old")
        outcomes.append(time.monotonic() - began)
        assert isinstance(outcome, fb.Trapped)
        assert (outcome.trap.limit, outcome.trap.host_call) == (fb.Limit.TIMEOUT, _core.SLEEP)
    assert 0.1 <= min(outcomes) < 0.12


def test_sleepers_hold_up_nobody(load: Load) -> None:
    """Eight that sleep at once take as long as one; an event loop goes on meanwhile, or the test fails."""
    host = load(sleeper(250), max_concurrent_invocations=8)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: host.invoke("plugin-0", TEXT, "old"), range(8)))
    assert all(isinstance(each, fb.Completed) for each in outcomes)
    assert 0.25 <= time.monotonic() - began < 1


@only_sync
@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_ends_a_sleep(load: Load) -> None:
    """An interrupt comes through at once, and the slot is given back."""
    host = load(sleeper(8_000), max_concurrency=1)
    timer = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT])
    began = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        host.invoke("plugin-0", TEXT, "old")
    assert time.monotonic() - began < 4
    timer.join()


@pytest.mark.parametrize(("code", "value"), [(0, "slept"), (3, None)])
def test_an_exit_is_an_outcome(load: Load, code: int, value: str | None) -> None:
    """Code 0 ends the hook well, with what was written; any other is the guest's own failure."""
    outcome = load(wasi(f"(call $say) (call $exit (i32.const {code}))")).invoke("plugin-0", TEXT, "old")
    if isinstance(outcome, fb.Completed):
        assert outcome.value == value
    else:
        assert isinstance(outcome, fb.Trapped)
        assert (value, outcome.trap.cause) == (None, fb.Cause.FAILED)
        assert outcome.trap.detail == "the guest exited with code 3"


def test_every_function_is_documented() -> None:
    """The ABI's page names each function, and no other."""
    section = ABI_PAGE.read_text().split("\n## WASI\n")[1].split("\n## ")[0]
    assert set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", section)) - {_core.WASI_MODULE} == set(_core.WASI_FUNCTIONS)
