"""What tests share: guests from inline WAT, manifests, hosts of both kinds, a clock that tests move."""

from __future__ import annotations

import signal
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import wasmtime

import fuseboard as fb
from drivers import DRIVERS, blocked
from fuseboard._artifacts import FOLDER_VARIABLE
from servers import postgres_server, redis_server

__all__ = ["postgres_server", "redis_server"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from drivers import MakeHost

MIB = 1 << 20
SMALL = fb.Limits(memory_limit_mb=4)

SIGNATURES = {
    "buffer_length": "(param i32) (result i32)",
    "buffer_read": "(param i32 i32 i32 i32) (result i32)",
    "output_write": "(param i32 i32)",
    "fail": "(param i32 i32)",
    "host_log": "(param i32 i32 i32)",
    "meter_remaining": "(param i32) (result i64)",
    "host_http_request": "(param i32 i32 i32 i32) (result i32)",
    "host_db_query": "(param i32 i32 i32 i32) (result i32)",
    "host_db_exec": "(param i32 i32 i32 i32) (result i32)",
    "host_kv_get": "(param i32 i32) (result i32)",
    "host_kv_set": "(param i32 i32 i32 i32) (result i32)",
    "host_kv_set_for": "(param i32 i32 i32 i32 i64) (result i32)",
    "host_kv_delete": "(param i32 i32) (result i32)",
    "host_kv_increment": "(param i32 i32 i64) (result i32)",
    "host_call": "(param i32 i32 i32 i32) (result i32)",
}


@cache
def wasm(wat: str) -> bytes:
    """Return a whole module's text as bytes."""
    return bytes(wasmtime.wat2wasm(wat))


@cache
def guest(body: str) -> bytes:
    """Return a plugin's module: one page of memory and the imports that the body calls are put before it."""
    imports = "".join(
        f'(import "fuseboard" "{name}" (func ${name} {signature}))'
        for name, signature in SIGNATURES.items()
        if f"call ${name}" in body or f"call ${name})" in body
    )
    memory = "" if "(memory" in body else '(memory (export "memory") 1)'
    return wasm(f"(module {imports} {memory} {body})")


@cache
def writes(output: str | bytes, export: str = "run") -> bytes:
    """Return a guest that outputs this, whatever it gets."""
    data = output.encode() if isinstance(output, str) else output
    pages = -(-len(data) // (64 << 10)) or 1
    text = "".join(f"\\{byte:02x}" for byte in data)
    return guest(
        f'(memory (export "memory") {pages}) (data (i32.const 0) "{text}")'
        f'(func (export "{export}") (call $output_write (i32.const 0) (i32.const {len(data)})))'
    )


def shows(buffer: int) -> bytes:
    """Return a guest that outputs one of its buffers."""
    return guest(
        f"""(func (export "run") (local $length i32)
          (local.set $length (call $buffer_read (i32.const {buffer}) (i32.const 0) (i32.const 0) (i32.const 65536)))
          (call $output_write (i32.const 0) (local.get $length)))"""
    )


ECHO = shows(0)
SILENT = guest('(func (export "run"))')
CRASH = guest('(func (export "run") unreachable)')
SPIN = guest('(func (export "run") (loop $again (br $again)))')
FAIL = guest('(data (i32.const 0) "not today") (func (export "run") (call $fail (i32.const 0) (i32.const 9)))')


def manifest(slug: str = "guest", *hooks: str | dict[str, Any], **server: Any) -> dict[str, Any]:
    """Return a manifest; hooks are names or tables (`"text"` by default), `run` is the export of them all.

    `settings`, `module` and `version` go to the top level, everything else below `[server]`; there, the timeout
    is long unless said, so that a busy machine trips nothing, and `None` leaves a key out.
    """
    entries = [{"name": hook} if isinstance(hook, str) else hook for hook in hooks or ("text",)]
    top: dict[str, Any] = {key: server.pop(key) for key in ("settings", "module", "version") if key in server}
    server = {"invocation_timeout_ms": 10_000} | server
    return {
        "manifest": 1,
        "slug": slug,
        "version": "1.0.0",
        "hooks": [{"export": "run", **entry} for entry in entries],
        "server": {key: value for key, value in server.items() if value is not None},
        **top,
    }


class FakeClock:
    """Monotonic seconds that only a test moves.

    They begin a day ahead: what else has a clock of its own, as SQLite's watch, must not find a deadline passed.
    """

    def __init__(self, now: float | None = None) -> None:
        self.now = float(int(time.monotonic()) + 86_400) if now is None else now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that only the test moves."""
    return FakeClock()


TEXT = fb.Filter("text", str)
NOTED = fb.Action("noted", str)


@pytest.fixture(scope="session", autouse=True)
def _compiled_modules_are_kept_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have all hosts, those in other processes too, keep compiled modules in a folder of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("artifacts") / "cache"))
        yield


@pytest.fixture(autouse=True)
def _event_loops_go_on() -> Iterator[None]:
    """Fail a test in which an event loop was held up for over 20 ms."""
    blocked.clear()
    yield
    assert not blocked, f"the event loop was held up: {blocked}"


@pytest.fixture
def _ctrl_c_interrupts() -> Iterator[None]:
    """Have Ctrl-C raise `KeyboardInterrupt`, also where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def _crowded() -> Iterator[None]:
    """Have Python change threads after microseconds, so that what isn't atomic is seen half-done.

    How soon the event loop gets its turn in such a crowd isn't judged.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)
    blocked.clear()


@pytest.fixture(params=DRIVERS, scope="session")
def driver(request: pytest.FixtureRequest) -> MakeHost:
    """Return what makes a host: a `Host`, and an `AsyncHost` that looks like one."""
    return DRIVERS[request.param]


only_sync = pytest.mark.parametrize("driver", ["sync"], indirect=True)
"""For what can only be told of a `Host`: what its calling thread does, or is interrupted in."""


@pytest.fixture
def make_host(driver: MakeHost) -> Iterator[Callable[..., fb.Host]]:
    """Return a factory of small hosts with the hooks `text` and `noted`, which are closed after the test."""
    hosts: list[fb.Host] = []

    def make(*hooks: fb.Filter[Any] | fb.Action[Any], **arguments: Any) -> fb.Host:
        arguments.setdefault("ceilings", SMALL)
        arguments.setdefault("max_concurrent_invocations", 8)
        host = driver(hooks=(*hooks, TEXT, NOTED), **arguments)
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.close()


@pytest.fixture
def load(make_host: Callable[..., fb.Host]) -> Callable[..., fb.Host]:
    """Return a function that loads modules, in their order, into a new host, as `plugin-0`, `plugin-1` ..."""

    def load(
        *modules: bytes,
        hook: fb.Filter[Any] | fb.Action[Any] = TEXT,
        server: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> fb.Host:
        host = make_host(*(() if hook in (TEXT, NOTED) else (hook,)), **arguments)
        for place, module in enumerate(modules):
            host.load_bytes(module, manifest(f"plugin-{place}", hook.name, **(server or {})), grants="as-requested")
        return host

    return load
