"""20,000 invocations beside faults in all backends lose no write, mix no replies, leak nothing, are metered exactly.

Two hosts of each kind call the same plugin at the same time: one pair on SQLite, which serves database and keys, one on
PostgreSQL and Redis; all on HTTP. HTTP, PostgreSQL and Redis lie behind proxies that pause, stall, cut and garble what
passes; another process takes SQLite's lock for itself again and again. Each invocation makes a random choice of calls,
with a token of its own in each; some fail by their own word. At the end everything is read back without faults.

Bars:
* What a call is answered is what was asked for, or an error.
* An invocation that completed has written all that it was told it has; any other has written nothing, but for one whose
  commit failed: the connection was lost before the answer came, or the second of two stores failed.
* The counters of a completed invocation are those of the calls that it made.
* All slots are back; after the hosts and backends are closed, so are all file handles, and no server has a connection.
* The long form is through after 10 minutes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import psycopg
import redis
from benchmarks.soaks._measures import slots_taken
from benchmarks.soaks._plans import Ledger, Plan, kept_for, planned
from benchmarks.soaks._proxy import Fault, Proxy
from benchmarks.soaks._report import Report, main
from benchmarks.soaks._script import Call, Reply, guest, replies, script
from benchmarks.soaks._stores import echo_server, locks_taken

import fuseboard as fb
import servers
from fuseboard._migrations import read_migrations
from fuseboard.backends._postgres_provision import provisioning
from fuseboard.backends.db import AsyncPostgres, Postgres, Sqlite
from fuseboard.backends.http import AsyncHttp, Http
from fuseboard.backends.kv import AsyncRedisKv, RedisKv

BOUND_SECONDS: Final = 10 * 60.0
SHARE_OF_FAULTS: Final = 0.01
SCOPES: Final = (None, "one", "two")
SLUG: Final = "soak"

_HOOK: Final = fb.Filter("soak", bytes)
_MIGRATION: Final = "CREATE TABLE marks (token TEXT NOT NULL);\n"
_SECRET: Final = "only for this run, and of some length"  # noqa: S105  made up
_THREADS: Final = 5
_TASKS: Final = 10
_SHOWN: Final = 10


class Work:
    """The invocations on one pair of stores, from threads and tasks.

    Args:
        name: of the stores.
        url: what is fetched.
        seed: of the choices; each worker makes its own.
        until: when to give up, of `time.monotonic()`.
    """

    def __init__(self, name: str, url: str, seed: Random, until: float) -> None:
        self.name = name
        self.ledger = Ledger()
        self._url = url
        self._seed = seed
        self._until = until

    async def run(self, host: fb.Host, async_host: fb.AsyncHost, count: int) -> None:
        """Make so many invocations, half of them on either host, and return when all have ended."""
        threads = [asyncio.to_thread(self._on_thread, host, count // 2 // _THREADS, n) for n in range(_THREADS)]
        tasks = [self._in_task(async_host, count // 2 // _TASKS, _THREADS + n) for n in range(_TASKS)]
        await asyncio.gather(*threads, *tasks)

    def _on_thread(self, host: fb.Host, count: int, worker: int) -> None:
        for plan, scope in self._plans(count, worker):
            self.ledger.add(plan, host.invoke(SLUG, _HOOK, plan.value(), scope=scope))

    async def _in_task(self, host: fb.AsyncHost, count: int, worker: int) -> None:
        for plan, scope in self._plans(count, worker):
            self.ledger.add(plan, await host.invoke(SLUG, _HOOK, plan.value(), scope=scope))

    def _plans(self, count: int, worker: int) -> Iterator[tuple[Plan, str | None]]:
        choices = Random(self._seed.random())  # noqa: S311  no secret
        for number in range(count):
            if time.monotonic() > self._until:
                return
            yield planned(f"{self.name}-{worker}-{number}", self._url, choices), choices.choice(SCOPES)

    def read_back(self, host: fb.Host) -> None:
        """Hold what the stores have to what was promised, without faults."""
        for scope in SCOPES:
            ask = partial(_asked, host, scope)
            (found,) = ask([Call("host_db_query", b"SELECT token, count(*) AS n FROM marks GROUP BY token")])
            rows = Counter(dict(json.loads(found.body)["rows"]))
            tokens = sorted({token for of, token in (*self.ledger.promised, *self.ledger.nothing) if of == scope})
            answers = [ask([Call("host_kv_get", token.encode())])[0] for token in tokens]
            kept = {token for token, answer in zip(tokens, answers, strict=True) if answer.body == kept_for(token)}
            self.ledger.check_kept(scope, rows, kept.__contains__)


def _asked(host: fb.Host, scope: str | None, calls: list[Call]) -> list[Reply]:
    outcome = host.invoke(SLUG, _HOOK, script(calls), scope=scope)
    if not isinstance(outcome, fb.Completed):
        raise TypeError(f"reading back failed: {outcome}")
    return replies(outcome.value)


# ── the whole run ────────────────────────────────────────────────────────────────────────────────


class Places:
    """Where everything is: the servers, the proxies before them, and folders.

    Args:
        scratch: for all files.
        postgres, kv, http: ports of the servers.
        proxies: of HTTP, PostgreSQL and Redis, in that order.
    """

    def __init__(self, scratch: Path, server: servers.Server, kv: int, proxies: tuple[Proxy, Proxy, Proxy]) -> None:
        self.scratch = scratch
        self.server = server
        self.kv = kv
        self.proxies = proxies
        self.url = f"http://127.0.0.1:{proxies[0].port}"
        self.plugin = _plugin(scratch / "plugin", self.url)

    def conninfo(self, port: int) -> str:
        """Return how PostgreSQL is reached at a port."""
        return f"host=127.0.0.1 port={port} dbname=postgres"


async def soak(report: Report) -> None:
    """Begin the servers, make the invocations, and judge."""
    count = 1_000 if report.is_short else 20_000
    with tempfile.TemporaryDirectory(prefix="fuseboard-faults-") as folder, _places(Path(folder), report) as places:
        handles = _handles()
        works = [
            Work(name, places.url, report.random, time.monotonic() + BOUND_SECONDS) for name in ("sqlite", "servers")
        ]
        left = [await _run_on(places, work, count // 2) for work in works]
        for proxy in places.proxies:
            proxy.share = 0.0
        for work in works:
            await _read_back(places, work)
        judge(report, works, count, sum(left))
        await _judge_leaks(report, places, handles)
        _tell_faults(report, places)


async def _run_on(places: Places, work: Work, count: int) -> int:
    """Make invocations on one pair of stores and return how many slots are left behind."""
    async with AsyncExitStack() as stack:
        sync, asynchronous = await _backends(stack, places, work.name)
        stack.enter_context(locks_taken(places.scratch / "data", 1))
        host = stack.enter_context(_host(fb.Host, sync))
        async_host = await stack.enter_async_context(_host(fb.AsyncHost, asynchronous))
        host.load(places.plugin, grants="as-requested")
        await async_host.load(places.plugin, grants="as-requested")
        await work.run(host, async_host, count)
        return slots_taken(host, async_host)


async def _read_back(places: Places, work: Work) -> None:
    async with AsyncExitStack() as stack:
        sync, _ = await _backends(stack, places, work.name)
        with _host(fb.Host, sync) as host:
            host.load(places.plugin, grants="as-requested")
            await asyncio.to_thread(work.read_back, host)


async def _backends(stack: AsyncExitStack, places: Places, name: str) -> tuple[fb.Backends, fb.Backends]:
    http = stack.enter_context(Http(inner=[places.url]))
    async_http = await stack.enter_async_context(AsyncHttp(inner=[places.url]))
    if name == "sqlite":
        store = stack.enter_context(Sqlite(places.scratch / "data"))
        return fb.Backends(http=http, db=store, kv=store), fb.Backends(http=async_http, db=store, kv=store)
    _, database, keys = places.proxies
    conninfo, url = places.conninfo(database.port), f"redis://127.0.0.1:{keys.port}/0"
    sync = fb.Backends(
        http=http,
        db=stack.enter_context(Postgres(conninfo, secret=_SECRET)),
        kv=stack.enter_context(RedisKv(url)),
    )
    asynchronous = fb.Backends(
        http=async_http,
        db=await stack.enter_async_context(AsyncPostgres(conninfo, secret=_SECRET)),
        kv=await stack.enter_async_context(AsyncRedisKv(url)),
    )
    return sync, asynchronous


def _host(kind: Any, backends: fb.Backends) -> Any:
    return kind(hooks=[_HOOK], backends=backends, breaker=None)


@contextmanager
def _places(scratch: Path, report: Report) -> Iterator[Places]:
    for name in ("redis", "data"):
        (scratch / name).mkdir(mode=0o700)
    with (
        servers.postgres() as server,
        servers.redis(scratch / "redis") as kv,
        echo_server() as http,
    ):
        report.tell("PostgreSQL, Redis and an HTTP server run")
        ports = (http, server.port, kv.port)
        proxies = [Proxy(port, SHARE_OF_FAULTS, Random(report.random.random())) for port in ports]  # noqa: S311
        with proxies[0], proxies[1], proxies[2]:
            places = Places(scratch, server, kv.port, (proxies[0], proxies[1], proxies[2]))
            migrations, _ = read_migrations(places.plugin)
            with provisioning(server.dsn, _SECRET) as administration:
                for _ in administration.provision(SLUG, migrations, "write", [one for one in SCOPES if one]):
                    pass
            yield places


def _plugin(folder: Path, url: str) -> Path:
    (folder / "migrations").mkdir(parents=True)
    (folder / "migrations" / "0001_marks.sql").write_text(_MIGRATION)
    (folder / "plugin.wasm").write_bytes(guest())
    (folder / "plugin.toml").write_text(
        f"""
        manifest = 1
        slug = "{SLUG}"
        version = "1"
        [[hooks]]
        name = "{_HOOK.name}"
        export = "run"
        [server.capabilities]
        http = ["{url}"]
        db = "write"
        kv = true
        """
    )
    return folder


# ── what is judged ───────────────────────────────────────────────────────────────────────────────


def judge(report: Report, works: list[Work], count: int, slots: int) -> None:
    """Say what became of the invocations."""
    made = 0
    for work in works:
        ledger = work.ledger
        made += ledger.ends.total()
        report.tell(f"on {work.name}: " + ", ".join(f"{end} {times:,}" for end, times in sorted(ledger.ends.items())))
        report.tell("  answered with errors: " + ", ".join(f"{e} × {n:,}" for e, n in sorted(ledger.errors.items())))
        for each in ledger.wrong[:_SHOWN]:
            report.tell(f"  {each}")
    report.hold(f"{made:,} of {count:,} invocations made", held=made == count)
    wrong = sum(len(work.ledger.wrong) for work in works)
    report.hold(f"{wrong} wrong: values, meters, or writes that are lost, half or too many", held=wrong == 0)
    report.hold(f"{slots} slots not given back", held=slots == 0)


async def _judge_leaks(report: Report, places: Places, before: Counter[str]) -> None:
    """Look what is still open, once the other ends have noticed."""
    for _ in range(50):
        left = _handles() - before
        if not left:
            break
        await asyncio.sleep(0.1)
    report.hold(f"{left.total()} file handles left open {dict(left) or ''}".rstrip(), held=not left)
    with psycopg.connect(places.server.dsn) as admin:
        rows = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fuseboard'").fetchall()
    client: Any = redis.Redis(port=places.kv)
    with closing(client):
        connections = rows[0][0] + len(client.client_list()) - 1
    report.hold(f"{connections} connections that servers still have", held=connections == 0)


def _handles() -> Counter[str]:
    """Return how many handles of each kind are open; but for the engine's own one, on what this process has touched."""
    gc.collect()
    kinds: Counter[str] = Counter()
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the folder itself
            kinds[str(handle.readlink()).partition(":")[0]] += 1
    del kinds[f"/proc/{os.getpid()}/pagemap"]
    return kinds


def _tell_faults(report: Report, places: Places) -> None:
    met: Counter[Fault] = Counter()
    for proxy in places.proxies:
        met.update(proxy.faults)
    report.tell("faults of the network: " + ", ".join(f"{fault} {times:,}" for fault, times in sorted(met.items())))
    report.at_least("faults met", met.total(), 10 if report.is_short else 500, "")


def run(report: Report) -> None:
    """Make the run."""
    asyncio.run(soak(report))


if __name__ == "__main__":
    main("faults", __doc__, run, bound_seconds=BOUND_SECONDS + 60)
