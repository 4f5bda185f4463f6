"""The built test plugins, and a host that serves them everything they ask for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fuseboard as fb
from fuseboard.backends import HttpRequest, HttpResponse
from fuseboard.backends.memory import MemoryDb, MemoryHttp, MemoryKv
from tables import migrations_of

if TYPE_CHECKING:
    from drivers import MakeHost

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = (ROOT / "plugins/hostile/plugin.wasm").read_bytes()
ORIGIN = "https://api.example.com"

TEXT = fb.Filter("text", str)
CLOSED = fb.Filter("text.closed", str, on_trap="raise")
NUMBER = fb.Filter("number", int)
EVENT = fb.Action("event", str)


def module(name: str) -> bytes:
    """Return a module of tests/plugins."""
    return (ROOT / "tests/plugins" / name / "plugin.wasm").read_bytes()


class Application:
    """A host with memory backends, one function, and everything that was reported."""

    def __init__(self, make_host: MakeHost = fb.Host, **arguments: Any) -> None:
        self.http = MemoryHttp(_served)
        self.db = MemoryDb()
        self.kv = MemoryKv()
        self.mails: list[str] = []
        self.outcomes: list[fb.Outcome] = []

        @fb.host_function("mail.send", per_invocation=2)
        def send_mail(to: str, subject: str) -> None:
            self.mails.append(f"{to}: {subject}")

        self.host = make_host(
            hooks=[TEXT, CLOSED, NUMBER, EVENT],
            functions=[send_mail],
            backends=fb.Backends(http=self.http, db=self.db, kv=self.kv),
            on_outcome=self.outcomes.append,
            **arguments,
        )

    def load(
        self,
        export: str,
        *,
        hook: str = "text",
        wasm: bytes = HOSTILE,
        slug: str = "hostile",
        server: Mapping[str, object] | None = None,
    ) -> fb.Plugin:
        """Load an export of a module for one hook, with keys of `[server]`."""
        self.db.prepare(slug, migrations_of("hostile"))
        return self.host.load_bytes(wasm, manifest(export, hook, slug, server or {}), grants="as-requested")


def manifest(export: str, hook: str, slug: str, server: Mapping[str, object]) -> dict[str, object]:
    """Return a manifest that requests everything."""
    capabilities = {"http": [ORIGIN], "db": "write", "kv": True, "functions": ["mail.send"]}
    return {
        "manifest": 1,
        "slug": slug,
        "version": "1",
        "hooks": [{"name": hook, "export": export}],
        "server": {"capabilities": capabilities, **server},
    }


def _served(request: HttpRequest) -> HttpResponse:
    if request.url.target == "/slow":
        time.sleep(0.15)
    if request.url.target == "/redirect":
        return HttpResponse(302, (("Location", f"{ORIGIN}/page"),))
    return HttpResponse(200, (("X-Asked", request.url.target),), b"hello")
