"""The guests of the runs: the hostile plugin with all it asks for, and modules written in WAT."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final, NamedTuple

import wasmtime

import fuseboard as fb
from fuseboard._migrations import read_migrations
from fuseboard.backends import HttpResponse
from fuseboard.backends.memory import MemoryDb, MemoryHttp, MemoryKv

_HOSTILE: Final = Path(__file__).resolve().parent.parent.parent / "plugins" / "hostile"
ECHO: Final = "echo"
LATE: Final = "late"
TRAPS: Final = (
    "grow-memory", "loop-forever", "loop-over-import", "late:loop-over-import", "fetch-9", "query-33",
    "kv-write-one-too-many", "call-function-3", "unreachable-now", "out-of-bounds", "divide-by-zero",
    "stack-exhaustion", "bad-indirect-call", "fail-with-message", "bad-json", "bad-utf8", "too-much-output",
    "bad-pointer-kv-get", "unknown-buffer", "write-then-crash",
)  # fmt: skip
"""Hooks of the hostile plugin; `late:` for the one whose fuel is ample and whose time is 1 ms."""


class Loading(NamedTuple):
    """What `load_bytes` takes."""

    wasm: bytes
    manifest: dict[str, Any]
    terms: dict[str, Any]


def target_of(kind: str) -> tuple[str, str]:
    """Return the plugin and the hook of one of `TRAPS`."""
    slug, _, hook = kind.rpartition(":")
    return slug or "hostile", f"attack.{hook}"


def hostile_arguments() -> dict[str, Any]:
    """Return a host's arguments: the hooks of the hostile plugin, and what it is served."""

    @fb.host_function("mail.send", per_invocation=2)
    def send_mail(to: str, subject: str) -> None:
        """Send nothing."""

    http, db = MemoryHttp(lambda _: HttpResponse(200)), MemoryDb()
    for slug in ("hostile", LATE):
        db.prepare(slug, read_migrations(_HOSTILE)[0])
    return {
        "hooks": [fb.Filter(hook["name"], str) for hook in _manifest()["hooks"]],
        "functions": [send_mail],
        "backends": fb.Backends(http=http, db=db, kv=MemoryKv()),
        "on_outcome": lambda _: http.requests.clear(),
    }


def hostile_plugins() -> tuple[Loading, ...]:
    """Return the hostile plugin twice: with little fuel, and with little time."""
    wasm = (_HOSTILE / "plugin.wasm").read_bytes()
    limits = {
        "hostile": fb.Limits(fuel_per_invocation=3_000_000, invocation_timeout_ms=5_000),
        LATE: fb.Limits(fuel_per_invocation=1_000_000_000, invocation_timeout_ms=1),
    }
    return tuple(
        Loading(wasm, {**_manifest(), "slug": slug}, {"grants": "as-requested", "limits": each})
        for slug, each in limits.items()
    )


def _manifest() -> dict[str, Any]:
    return tomllib.loads((_HOSTILE / "plugin.toml").read_text())


def wasm(text: str) -> bytes:
    """Return a module's text as bytes."""
    return bytes(wasmtime.wat2wasm(text))
