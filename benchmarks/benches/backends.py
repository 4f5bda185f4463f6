"""What a call to a real store or server costs through the whole path, beside what its bare client takes.

Rules:
* A call is one of a guest's, in an invocation of its own: refused, charged, asked, rolled into its commit.
* The bare client does the same request, checks nothing and is told no deadline.
* The HTTP server and Redis are processes of their own, on loopback; SQLite's files are in a temporary folder.
"""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
import redis
from benchmarks.benches._bench import Bench, main
from benchmarks.benches._http_child import BODY
from benchmarks.benches._ours import closed_filter
from benchmarks.benches._race import Work, race
from benchmarks.benches._results import Row, difference, each_of, ratio
from benchmarks.soaks._script import Call, guest, replies, script

import fuseboard as fb
from fuseboard.backends import HttpResponse, Identity, KvSet, Migration
from fuseboard.backends.db import Sqlite
from fuseboard.backends.http import Http
from fuseboard.backends.kv import RedisKv
from fuseboard.backends.memory import MemoryDb, MemoryHttp, MemoryKv

_HOOK: Final = closed_filter("ask", bytes)
_SLUG: Final = "asks"
_KEY: Final = b"session:0123456789"
_QUERY: Final = "SELECT id, title FROM notes WHERE id = $1"
_MIGRATION: Final = "CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO notes VALUES (1, 'a note');"
_MANY: Final = 10
_NOTE: Final = (
    "What the rules cost: a fresh instance, the charge, the deadline at each wait, a transaction, the commit."
)


def measure(bench: Bench) -> Iterator[Row]:
    """Measure all rows, one after the other."""
    with tempfile.TemporaryDirectory(prefix="fuseboard-stores-") as scratch:
        yield from _sqlite_rows(bench, Path(scratch))
        with _redis_server(Path(scratch)) as port:
            if port is None:
                bench.tell("KV get, Redis: left out, as no server is installed")
            else:
                yield _redis_row(bench, port)
        with _http_server() as port:
            yield _http_row(bench, port)


def _sqlite_rows(bench: Bench, scratch: Path) -> Iterator[Row]:
    with ExitStack() as stack:
        store = stack.enter_context(Sqlite(scratch / "data"))
        store.prepare(_SLUG, (Migration(1, "notes", _MIGRATION, ""),))
        _keep(store)
        host = stack.enter_context(_host(db=store, kv=store))
        bare = stack.enter_context(_bare_sqlite(scratch / "bare.db"))
        yield _row(
            bench,
            "KV get, SQLite",
            host,
            Call("host_kv_get", _KEY),
            {"sqlite3": lambda: bare.execute("SELECT value FROM kept WHERE key = ?", (_KEY,)).fetchone()[0]},
            BODY,
        )
        query = Call("host_db_query", _QUERY.encode(), b"[1]")
        rows = b'{"columns":["id","title"],"rows":[[1,"a note"]]}'
        yield _row(
            bench, "query, SQLite", host, query, {"sqlite3": lambda: bare.execute(_QUERY, {"1": 1}).fetchall()}, rows
        )


def _redis_row(bench: Bench, port: int) -> Row:
    url = f"redis://127.0.0.1:{port}/0"
    client: Any = redis.Redis.from_url(url)
    with client, RedisKv(url) as store:
        _keep(store)
        client.set(_KEY, BODY)
        with _host(kv=store) as host:
            call = Call("host_kv_get", _KEY)
            return _row(bench, "KV get, Redis", host, call, {"redis-py": partial(client.get, _KEY)}, BODY)


def _http_row(bench: Bench, port: int) -> Row:
    origin = f"http://127.0.0.1:{port}"
    call = Call("host_http_request", f'{{"method":"GET","url":"{origin}/"}}'.encode())
    with Http(inner=[origin]) as http, _host(origin, http=http) as host, httpx2.Client(trust_env=False) as client:
        return _row(bench, "HTTP GET on loopback", host, call, {"httpx2": lambda: client.get(origin).content}, BODY)


def _row(bench: Bench, name: str, host: fb.Host, call: Call, bare: dict[str, Work], expected: bytes) -> Row:
    """Race invocations that ask never, once and ten times with the bare client."""
    (client,) = bare
    ours = {_asking(times): partial(host.apply_filter, _HOOK, script([call] * times)) for times in (0, 1, _MANY)}
    answered = replies(host.apply_filter(_HOOK, script([call])))
    if [answer.body for answer in answered] != [expected]:
        raise ValueError(f"{name}: the guest was answered {answered}")
    figures = race({**ours, **bare}, rounds=bench.rounds)
    none, one, many = (figures[_asking(times)] for times in (0, 1, _MANY))
    first = difference("the first call of an invocation", one, none)
    another = each_of(difference("another call", many, one), _MANY - 1)
    return Row(
        name,
        (one, first, another, figures[client]),
        (ratio(first, figures[client], is_guarded=False), ratio(another, figures[client], is_guarded=False)),
        _NOTE,
    )


def _asking(times: int) -> str:
    return (
        f"Fuseboard, an invocation with {times} calls" if times != 1 else "Fuseboard, a whole invocation with the call"
    )


def _keep(store: Sqlite | RedisKv) -> None:
    session = store.session(Identity(_SLUG, _HOOK.name, None, "bench", fb.Grants(kv=True)))
    deadline = time.monotonic() + 10
    session.answer(KvSet(_KEY, BODY), deadline)
    session.commit(deadline)


def _host(origin: str = "http://127.0.0.1", **backends: Any) -> fb.Host:
    """Return a host with the guest that asks for everything, and backends in memory for what isn't measured."""
    in_memory: dict[str, Any] = {"http": MemoryHttp(lambda _: HttpResponse(200)), "db": MemoryDb(), "kv": MemoryKv()}
    host = fb.Host(hooks=[_HOOK], backends=fb.Backends(**(in_memory | backends)))
    server = {
        "http_fetches_per_invocation": 64,
        "invocation_timeout_ms": 2_000,
        "capabilities": {"http": [origin], "db": "write", "kv": True},
    }
    said = {
        "manifest": 1, "slug": _SLUG, "version": "1", "hooks": [{"name": _HOOK.name, "export": "run"}], "server": server
    }  # fmt: skip
    host.load_bytes(guest(), said, grants="as-requested")
    return host


@contextmanager
def _bare_sqlite(file: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE kept (key BLOB PRIMARY KEY, value BLOB)")
        connection.execute("INSERT INTO kept VALUES (?, ?)", (_KEY, BODY))
        connection.executescript(_MIGRATION)
        yield connection
    finally:
        connection.close()


@contextmanager
def _http_server() -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.benches._http_child"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own module
        try:
            yield int((process.stdout or sys.stdin).readline())
        finally:
            process.kill()


@contextmanager
def _redis_server(scratch: Path) -> Iterator[int | None]:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(scratch)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603  from the system's own packages
        try:
            _until_it_listens(port)
            yield port
        finally:
            process.terminate()


def _until_it_listens(port: int) -> None:
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
    raise TimeoutError("Redis doesn't listen after 5 seconds")


if __name__ == "__main__":
    main(measure)
