"""PostgreSQL behind the fuses of a whole host, and its connections: deadlines, pools, restarts, interrupts, forks.

Rules:
* Time is real, so the best of five is judged.
* A server that is stopped or restarted is a test's own.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import fuseboard as fb
from conftest import SMALL, TEXT, guest, manifest
from db_contract import ENDLESS, Engine, settled, soon
from drivers import DRIVERS, awaited
from fuseboard import Cause, Limit, UsageError
from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends import AnswerCode, DbQuery
from fuseboard.backends._postgres_transaction import Transaction
from fuseboard.backends._postgres_waits import Flow, Signal, Until
from fuseboard.backends.db import AsyncPostgres, Postgres
from postgres_databases import SECRET, Database, database, migrations
from servers import free_port, postgres

if TYPE_CHECKING:
    from servers import Server

TIMEOUT_MS: Final = 150
LATEST_MS: Final = 20
TABLES: Final = """
CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT);
CREATE TABLE kinds (n NUMERIC, r REAL, s SMALLINT, d DATE, t TIME, tz TIMETZ, ts TIMESTAMP, tstz TIMESTAMPTZ,
    u UUID, j JSON, jb JSONB, c CHAR(3), v VARCHAR(9), a BIGINT[], i INTERVAL);
INSERT INTO notes VALUES (1, 'first');
"""
KINDS: Final[dict[str, tuple[str, Any]]] = {
    "sync": ("sync", Postgres),
    "async": ("async", AsyncPostgres),
    "threads": ("async", Postgres),
}
"""Drivers, and the backend that each is given: an `AsyncHost` takes both."""

Backend = Any


@pytest.fixture(scope="module")
def made(postgres_server: Server) -> Database:
    """A database where plugin `blog` has a row."""
    found = database(postgres_server, "behaviour")
    found.provision("blog", TABLES)
    found.provision("shop", TABLES)
    return found


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each driver with each backend that it takes."""
    return str(request.param)


@contextmanager
def backend_of(kind: str, conninfo: str, **arguments: Any) -> Iterator[Backend]:
    backend: Backend = KINDS[kind][1](conninfo, secret=SECRET, **arguments)
    try:
        yield backend
    finally:
        awaited(backend.aclose()) if isinstance(backend, AsyncPostgres) else backend.close()


@contextmanager
def hosted(kind: str, backend: Backend, body: str, **server: Any) -> Iterator[Callable[[], fb.Outcome]]:
    """Yield what invokes a guest on a host with this backend."""
    host = DRIVERS[KINDS[kind][0]](
        hooks=[TEXT], backends=fb.Backends(db=backend), ceilings=SMALL, max_concurrent_invocations=8, breaker=None
    )
    said = {"capabilities": {"db": "write"}, "invocation_timeout_ms": TIMEOUT_MS} | server
    try:
        host.load_bytes(guest(body), manifest("blog", **said), grants="as-requested")
        yield lambda: host.invoke("blog", TEXT, "x")
    finally:
        host.close()


def statement(call: str, sql: str) -> str:
    """Return a guest that runs one statement, and says whether it was answered."""
    return f"""(data (i32.const 0) "\\22ok\\22\\22no\\22") (data (i32.const 100) "{sql}") (func (export "run")
      (call $output_write
        (select (i32.const 4) (i32.const 0) (i32.lt_s
          (call ${call} (i32.const 100) (i32.const {len(sql)}) (i32.const 0) (i32.const 0)) (i32.const 0)))
        (i32.const 4)))"""


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    ends = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.01)


def is_at_rest(backend: Backend) -> bool:
    """Whether nobody has a connection, or waits for one."""
    counts = backend.connections()
    return (counts["in_use"], counts["waiting"]) == (0, 0)


def is_served(outcome: fb.Outcome) -> bool:
    """Whether a guest that runs one statement was answered with no error."""
    return isinstance(outcome, fb.Completed) and outcome.value == "ok"


def check_timeout(outcome: fb.Outcome, call: str) -> float:
    assert isinstance(outcome, fb.Trapped), outcome
    assert (outcome.trap.cause, outcome.trap.limit, outcome.trap.host_call) == (Cause.LIMIT, Limit.TIMEOUT, call)
    return outcome.elapsed_ms


SELECT_1: Final = statement("host_db_query", "VALUES (text(1))")


# ── deadlines ────────────────────────────────────────────────────────────────────────────────────

LONG: Final = {
    "sleep": ("host_db_query", "SELECT pg_sleep(10)::text"),
    "sleep in an exec": ("host_db_exec", "SELECT pg_sleep(10)"),
    "endless": ("host_db_query", ENDLESS),
    "endless rows": ("host_db_exec", "SELECT generate_series(1, 1000000000000)"),
    "long sort": ("host_db_query", "SELECT n FROM generate_series(1, 9000000) n ORDER BY n DESC LIMIT 1"),
    "row lock": ("host_db_exec", "UPDATE notes SET text = 'guest'"),
}


@pytest.mark.parametrize("name", LONG)
def test_what_takes_long_ends_with_the_invocation(made: Database, kind: str, name: str) -> None:
    """It trips TIMEOUT within 20 ms after the deadline, names the call, and ends on the server; the pool is healthy."""
    call, sql = LONG[name]
    with (
        backend_of(kind, made.conninfo) as backend,
        backend_of("sync", made.conninfo) as others,
        hosted(kind, backend, statement(call, sql)) as invoke,
    ):
        elapsed = []
        for _ in range(5):
            with Engine("postgres", others).session() as holder:
                holder.exec("UPDATE notes SET text = 'first'")
                elapsed.append(check_timeout(invoke(), call))
        assert min(elapsed) < TIMEOUT_MS + LATEST_MS, elapsed
        until(lambda: is_at_rest(backend))
        running = (
            "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state = 'active' AND pid <> pg_backend_pid()"
        )
        until(lambda: made.rows(running, made.namespace("blog").role) == [(0,)])
        assert Engine("postgres", backend).read("SELECT text FROM notes") == [("first",)]


@contextmanager
def deaf() -> Iterator[int]:
    """Yield a port where connections are taken by nobody, and never answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield listener.getsockname()[1]


def test_a_server_that_never_answers(made: Database, kind: str) -> None:
    """Connecting ends with the deadline, and leaves no connection."""
    with (
        deaf() as port,
        backend_of(kind, f"host=127.0.0.1 port={port} dbname={made.name}") as backend,
        hosted_unprepared(kind, backend) as invoke,
    ):
        elapsed = [check_timeout(invoke(), "host_db_query") for _ in range(5)]
        assert min(elapsed) < TIMEOUT_MS + LATEST_MS, elapsed
        until(lambda: backend.connections() == {"in_use": 0, "idle": 0, "waiting": 0})


@contextmanager
def hosted_unprepared(kind: str, backend: Backend, **server: Any) -> Iterator[Callable[[], fb.Outcome]]:
    """Do as `hosted`, where no server is there that could say that the plugin is provisioned."""
    prepare = backend.prepare
    backend.prepare = lambda *_: None
    with hosted(kind, backend, SELECT_1, **server) as invoke:
        backend.prepare = prepare
        yield invoke


def test_a_server_that_is_not_there(made: Database, kind: str) -> None:
    """A refused connection is answered BACKEND_FAILED, at once, and the guest learns no address."""
    conninfo = f"host=127.0.0.1 port={free_port()} dbname={made.name}"
    with backend_of(kind, conninfo) as backend, hosted_unprepared(kind, backend) as invoke:
        outcome = invoke()
        assert isinstance(outcome, fb.Completed)
        assert outcome.value == "no"
        assert outcome.elapsed_ms < TIMEOUT_MS
        error = Engine("postgres", backend).open().refusal(DbQuery("SELECT 1"))
        assert (error.code, error.reason) == (AnswerCode.BACKEND_FAILED, "the database can't be reached")
        until(lambda: is_at_rest(backend))


@pytest.mark.parametrize("name", ["localhost", "name.that.never.is.invalid"])
def test_hosts_have_names(made: Database, kind: str, name: str) -> None:
    """A host's name is resolved, and one that isn't known is answered BACKEND_FAILED."""
    with backend_of(kind, made.conninfo.replace("127.0.0.1", name)) as backend:
        session = Engine("postgres", backend).open()
        if name == "localhost":
            assert session.rows("SELECT 1") == [(1,)]
        else:
            error = session.refusal(DbQuery("SELECT 1"))
            assert (error.code, error.reason) == (AnswerCode.BACKEND_FAILED, "the database can't be reached")
        session.rollback()
        assert is_at_rest(backend)


@pytest.mark.parametrize("says", ["conninfo", "environment"])
def test_all_addresses_of_a_host_are_tried(
    made: Database, kind: str, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    """Where nobody listens on the first, the next serves; it is we who look up, wherever libpq has the name from."""
    asked = []

    def found(host: bytes, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        return [(0, 0, 0, "", (address, 0)) for address in ("::1", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    conninfo = made.conninfo.replace("127.0.0.1", "db.test")
    if says == "environment":
        monkeypatch.setenv("PGHOST", "db.test")
        conninfo = conninfo.removeprefix("host=db.test")
    with backend_of(kind, conninfo) as backend:
        assert Engine("postgres", backend).read("SELECT 1") == [(1,)]
    assert asked == [b"db.test"]


def test_look_ups_that_hang_pile_up_no_threads(made: Database, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a look-up takes forever, calls end with their deadlines, and one thread waits for all of them."""
    ends = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ends.wait(30) and [])
    before = len(list(Path("/proc/self/task").iterdir()))
    with backend_of(kind, made.conninfo.replace("127.0.0.1", "db.test")) as backend:
        engine = Engine("postgres", backend)
        try:
            for _ in range(10):
                with engine.session() as db, pytest.raises(BackendTimeout):
                    db.query("SELECT 1", deadline=soon(0.02))
            assert len(list(Path("/proc/self/task").iterdir())) <= before + 1
            assert is_at_rest(backend)
        finally:
            ends.set()


# ── a server that stops, and comes back ──────────────────────────────────────────────────────────


@pytest.fixture
def own() -> Iterator[Database]:
    """A server of the test's own, with plugin `blog`."""
    with postgres() as server:
        found = database(server, "own")
        found.provision("blog", TABLES)
        yield found


def test_a_server_that_stands_still(own: Database, kind: str) -> None:
    """Calls end with the deadline while it does, and when it goes on all is as it was."""
    with backend_of(kind, own.conninfo) as backend, hosted(kind, backend, SELECT_1) as invoke:
        assert is_served(invoke())
        own.server.pause()
        try:
            elapsed = [check_timeout(invoke(), "host_db_query") for _ in range(5)]
        finally:
            own.server.go_on()
        assert min(elapsed) < TIMEOUT_MS + LATEST_MS, elapsed
        until(lambda: is_at_rest(backend))
        until(lambda: is_served(invoke()))
        assert backend.connections()["idle"] == 1


def test_a_server_that_is_restarted(own: Database, kind: str) -> None:
    """A connection that the server has ended is replaced before anything is sent on it."""
    with backend_of(kind, own.conninfo) as backend:
        engine = Engine("postgres", backend)
        opened = [engine.open() for _ in range(3)]
        for session in opened:
            session.rows("SELECT 1")
        for session in opened:
            session.rollback()
        assert backend.connections()["idle"] == 3
        ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename LIKE 'fb_blog%%'"
        assert len(own.rows(ended)) == 3
        assert engine.read("SELECT text FROM notes") == [("first",)]
        assert is_at_rest(backend)


def test_a_session_whose_connection_is_lost(made: Database, kind: str) -> None:
    """Its calls and its commit are answered BACKEND_FAILED, nothing is written, and the next session is served."""
    with backend_of(kind, made.conninfo) as backend:
        engine = Engine("postgres", backend)
        db = engine.open()
        db.exec("INSERT INTO notes VALUES (2, 'lost')")
        made.rows("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename LIKE 'fb_blog%%'")
        assert db.refusal(DbQuery("SELECT 1")).reason == "the connection to the database was lost"
        assert "lost" in db.refusal(DbQuery("SELECT 1")).reason
        with pytest.raises(BackendError, match="lost"):
            db.commit()
        assert engine.read("SELECT id FROM notes") == [(1,)]
        assert is_at_rest(backend)


def test_a_commit_without_an_answer(own: Database, kind: str) -> None:
    """Where the server stands still while it commits, the reason says that it isn't known what became of the writes."""
    with backend_of(kind, own.conninfo) as backend:
        db = Engine("postgres", backend).open()
        db.exec("INSERT INTO notes VALUES (2, 'doubtful')")
        own.server.pause()
        try:
            began = time.monotonic()
            with pytest.raises(BackendTimeout, match="isn't known whether"):
                settled(db.session.commit(soon(0.1)))
            assert time.monotonic() - began < 1
        finally:
            own.server.go_on()
        until(lambda: is_at_rest(backend))


def test_a_trap_tells_that_a_commit_is_in_doubt(own: Database, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's own limit for commits doesn't come first, on threads either: the trap says what isn't known."""
    commit = Transaction.commit

    def pausing(transaction: Transaction, deadline: float) -> Flow[None]:
        own.server.pause()
        stands_still = Signal()
        threading.Timer(0.05, stands_still.happen).start()
        yield Until(stands_still)
        yield from commit(transaction, deadline)

    monkeypatch.setattr(Transaction, "commit", pausing)
    body = statement("host_db_exec", "INSERT INTO notes VALUES (2, 'doubtful')")
    with backend_of(kind, own.conninfo) as backend, hosted(kind, backend, body) as invoke:
        try:
            outcome = invoke()
        finally:
            own.server.go_on()
        assert isinstance(outcome, fb.Trapped)
        assert (outcome.trap.cause, "isn't known whether" in str(outcome.trap)) == (Cause.COMMIT, True)
        until(lambda: is_at_rest(backend))


# ── connections ──────────────────────────────────────────────────────────────────────────────────


def test_connections_are_used_again_by_their_own_role_only(made: Database, kind: str) -> None:
    """Two plugins that take turns have a connection each, and each is its role's from first to last."""
    with backend_of(kind, made.conninfo) as backend:
        engine = Engine("postgres", backend)
        seen: dict[str, set[str]] = {"blog": set(), "shop": set()}
        for plugin in ("blog", "shop", "blog", "shop"):
            with engine.session(plugin) as db:
                seen[plugin].add(db.rows("SELECT current_user::text || ' ' || session_user::text")[0][0])
        assert seen == {name: {f"{made.namespace(name).role} {made.namespace(name).role}"} for name in seen}
        assert backend.connections()["idle"] == 2


def test_idle_connections_make_room_for_others(made: Database, kind: str) -> None:
    """With room for one connection, an idle one of another plugin ends for it."""
    with backend_of(kind, made.conninfo, max_connections=1) as backend:
        engine = Engine("postgres", backend)
        for plugin in ("blog", "shop", "blog"):
            assert engine.read("SELECT id FROM notes", plugin) == [(1,)]
            assert backend.connections() == {"in_use": 0, "idle": 1, "waiting": 0}


@pytest.mark.parametrize("bound", [{"max_connections": 1}, {"max_connections_per_plugin": 1}])
def test_a_place_is_waited_for(made: Database, kind: str, bound: dict[str, int]) -> None:
    """Who finds all places taken waits until one is free, or until its deadline, and then waits no more."""
    with backend_of(kind, made.conninfo, **bound) as backend:
        engine = Engine("postgres", backend)
        with engine.session() as holder:
            holder.rows("SELECT 1")
            late = []
            for _ in range(5):
                deadline = soon(0.05)
                with engine.session() as waiting, pytest.raises(BackendTimeout):
                    waiting.query("SELECT 1", deadline=deadline)
                late.append(time.monotonic() - deadline)
            assert min(late) < 0.020, late
            assert backend.connections() == {"in_use": 1, "idle": 0, "waiting": 0}
            with ThreadPoolExecutor(1) as pool:
                waiting_thread = pool.submit(engine.read, "SELECT id FROM notes")
                until(lambda: backend.connections()["waiting"] == 1)
                holder.rollback()
                assert waiting_thread.result(10) == [(1,)]
        assert is_at_rest(backend)


def test_a_connection_for_somebody_who_gave_up_is_kept(made: Database) -> None:
    """Who is served in the moment in which the wait is given up leaves the connection for the next."""
    with backend_of("sync", made.conninfo, max_connections=1) as backend:
        engine = Engine("postgres", backend)
        assert engine.read("SELECT id FROM notes") == [(1,)]
        owner = object()
        assert backend.pool.ask(owner, made.namespace("blog").role).is_held
        backend.pool.give_back(owner, None)
        assert backend.connections() == {"in_use": 0, "idle": 1, "waiting": 0}
        assert engine.read("SELECT id FROM notes") == [(1,)]


def test_one_plugin_cannot_take_all_places(made: Database, kind: str) -> None:
    """While one plugin has all that it may have, and waits for more, another is served."""
    with backend_of(kind, made.conninfo, max_connections=2, max_connections_per_plugin=1) as backend:
        engine = Engine("postgres", backend)
        with engine.session() as holder, ThreadPoolExecutor(1) as pool:
            holder.rows("SELECT 1")
            waiting = pool.submit(engine.read, "SELECT id FROM notes")
            until(lambda: backend.connections()["waiting"] == 1)
            assert engine.read("SELECT id FROM notes", "shop") == [(1,)]
            holder.rollback()
            assert waiting.result(10) == [(1,)]


def test_old_idle_connections_end(made: Database, kind: str) -> None:
    """A connection that nobody has used for as long as was said ends when the next comes."""
    with backend_of(kind, made.conninfo, max_idle_seconds=1) as backend:
        engine = Engine("postgres", backend)
        engine.read("SELECT id FROM notes")
        time.sleep(1.1)
        engine.read("SELECT id FROM notes", "shop")
        assert backend.connections()["idle"] == 1


def test_closing_ends_connections(made: Database, kind: str) -> None:
    """After `close`, idle connections are gone, and what a session holds goes when it ends."""
    role = made.namespace("blog").role
    with backend_of(kind, made.conninfo) as backend:
        engine = Engine("postgres", backend)
        held = engine.open()
        held.rows("SELECT 1")
        engine.read("SELECT id FROM notes")
    assert backend.connections() == {"in_use": 1, "idle": 0, "waiting": 0}
    held.rollback()
    assert backend.connections() == {"in_use": 0, "idle": 0, "waiting": 0}
    until(lambda: made.rows("SELECT 1 FROM pg_stat_activity WHERE usename = %s", role) == [])


def test_a_rollback_ends_an_answer_that_nobody_waits_for(made: Database) -> None:
    """A rollback from another thread ends a plain call at once, and its place is free."""
    with backend_of("sync", made.conninfo) as backend, ThreadPoolExecutor(1) as pool:
        db = Engine("postgres", backend).open()
        db.rows("SELECT 1")
        running = pool.submit(db.query, ENDLESS, deadline=soon(60))
        time.sleep(0.1)
        began = time.monotonic()
        db.rollback()
        assert time.monotonic() - began < 1
        assert isinstance(running.exception(10), BackendError)
        assert is_at_rest(backend)


def test_a_rollback_ends_a_wait_for_a_place(made: Database) -> None:
    """The same while it waits for its turn."""
    with backend_of("sync", made.conninfo, max_connections=1) as backend, ThreadPoolExecutor(1) as pool:
        engine = Engine("postgres", backend)
        with engine.session() as holder:
            holder.rows("SELECT 1")
            db = engine.open()
            waiting = pool.submit(db.query, "SELECT 1", deadline=soon(60))
            until(lambda: backend.connections()["waiting"] == 1)
            db.rollback()
            assert "ended" in str(waiting.exception(10))
        assert is_at_rest(backend)


def test_cancelled_tasks_lose_nothing(made: Database) -> None:
    """Tasks cancelled at any moment lose no place and mix up no replies."""

    async def one(backend: AsyncPostgres, number: int, seconds: float) -> None:
        session = Engine("postgres", backend).open().session
        try:
            async with asyncio.timeout(seconds):
                answer = await session.answer(DbQuery("SELECT $1 + pg_sleep(0.002)::text::integer", (number,)), soon())
                assert answer.rows == ((number,),)
        except (TimeoutError, BackendError):
            pass
        finally:
            await session.rollback()

    async def crowd() -> None:
        async with AsyncPostgres(made.conninfo, secret=SECRET, max_connections=4) as backend:
            for round_ in range(6):
                async with asyncio.TaskGroup() as group:
                    for number in range(30):
                        group.create_task(one(backend, number, 0.001 * (number + round_)))
            assert is_at_rest(backend)
            for number in range(10):
                session = Engine("postgres", backend).open().session
                answer = await session.answer(DbQuery("SELECT $1", (number,)), soon())
                assert answer.rows == ((number,),)
                await session.rollback()

    asyncio.run(crowd())


INTERRUPTS: Final = """
import random, signal, sys, time
from fuseboard import Grants
from fuseboard.backends import DbQuery, DbExec, Identity
from fuseboard.backends.db import Postgres
signal.signal(signal.SIGALRM, signal.default_int_handler)
backend = Postgres(sys.argv[1], secret=sys.argv[2], max_connections=2)
identity = Identity("blog", "h", None, "r", Grants(db="write"))
interrupts, end, number = 0, time.monotonic() + 2, 0
while time.monotonic() < end:
    session = None
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.003))
        for _ in range(200):
            number += 1
            session = backend.session(identity)
            answer = session.answer(DbQuery("SELECT $1", (number,)), time.monotonic() + 5)
            assert answer.rows == ((number,),), answer
            session.rollback()
    except KeyboardInterrupt:
        interrupts += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    if session is not None:
        session.rollback()
    counts = backend.connections()
    if counts["in_use"] or counts["waiting"]:
        sys.exit(f"something was left behind by interrupt {interrupts}: {counts}")
print(f"{interrupts} interrupts")
sys.exit(interrupts < 50)
"""


def script(text: str, made: Database) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text, made.conninfo, SECRET],
        capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_interrupts_lose_nothing(made: Database) -> None:
    """Ctrl-C at random moments loses no place and mixes up no replies."""
    script(INTERRUPTS, made)


FORKS: Final = """
import os, sys, time
from fuseboard import Grants
from fuseboard.backends import DbQuery, DbExec, Identity
from fuseboard._errors import BackendError
from fuseboard.backends.db import Postgres
backend = Postgres(sys.argv[1], secret=sys.argv[2])
identity = Identity("blog", "h", None, "r", Grants(db="write"))
soon = lambda: time.monotonic() + 10
def pid(session):
    return session.answer(DbQuery("SELECT text FROM notes"), soon())
idle, held = backend.session(identity), backend.session(identity)
pid(idle); pid(held); held.answer(DbExec("INSERT INTO notes VALUES (77, 'held')"), soon()); idle.rollback()
before = len(os.listdir("/proc/self/fd"))
child = os.fork()
if child == 0:
    backend.after_fork_in_child()
    assert backend.connections() == {"in_use": 0, "idle": 0, "waiting": 0}
    assert len(os.listdir("/proc/self/fd")) == before - 6
    try:
        pid(held)
        os._exit(3)
    except BackendError:
        held.rollback()
    own = backend.session(identity)
    assert pid(own).rows == (("first",),)
    own.rollback()
    backend.close()
    del idle, held, own, backend
    import gc; gc.collect()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert len(pid(held).rows) == 2
held.commit(soon())
assert backend.connections()["idle"] == 2
last = backend.session(identity)
assert last.answer(DbExec("DELETE FROM notes WHERE id = 77"), soon()).rows_changed == 1
last.commit(soon())
"""


def test_forks(made: Database) -> None:
    """A child begins with no connections and has none of the parent's open; the parent's transactions go on."""
    script(FORKS, made)


# ── rows and types ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("column", "written", "read"),
    [
        ("n", "12", 12),
        ("n", "-9223372036854775808", -(1 << 63)),
        ("n", "9223372036854775808", 9223372036854775808.0),
        ("n", "0.5", 0.5),
        ("n", "12.00", 12),
        ("r", "0.1", 0.1),
        ("s", "-3", -3),
        ("d", "2026-02-28", "2026-02-28"),
        ("t", "12:30", "12:30:00"),
        ("tz", "12:30+02", "12:30:00+02:00"),
        ("ts", "2026-02-28 12:30:00.25", "2026-02-28T12:30:00.25"),
        ("tstz", "2026-02-28 12:30:00+02", "2026-02-28T10:30:00+00:00"),
        ("u", "0123456789abcdef0123456789abcdef", "01234567-89ab-cdef-0123-456789abcdef"),
        ("j", '{"a": 1}', '{"a": 1}'),
        ("jb", '{"a":1}', '{"a": 1}'),
        ("c", "ab", "ab "),
        ("v", "é", "é"),
    ],
)
def test_types_of_its_own(made: Database, kind: str, column: str, written: str, read: object) -> None:
    """PostgreSQL's other types are written as text, and read as the docs say."""
    with backend_of(kind, made.conninfo) as backend, Engine("postgres", backend).session() as db:
        db.exec(f"INSERT INTO kinds ({column}) VALUES ($1)", written)
        ((found,),) = db.rows(f"SELECT {column} FROM kinds")
        assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize("value", ["a", "i", "ROW(1, 2)", "int4range(1, 2)", "'1.2.3.4'::inet"])
def test_types_without_a_json_form(made: Database, kind: str, value: str) -> None:
    """Others are refused with what to do, and that helps; the session goes on."""
    with backend_of(kind, made.conninfo) as backend, Engine("postgres", backend).session() as db:
        error = db.refusal(DbQuery(f"SELECT {value} FROM kinds"))
        assert (error.code, "cast it to text" in error.reason) == (AnswerCode.BAD_REQUEST, True)
        assert db.rows(f"SELECT ({value})::text FROM kinds") == []


@pytest.mark.parametrize("value", ["'infinity'::float8", "'nan'::float4", "'nan'::numeric"])
def test_numbers_that_json_cannot_hold(made: Database, kind: str, value: str) -> None:
    """Infinities and what is no number are a BAD_REQUEST, and the session goes on."""
    with backend_of(kind, made.conninfo) as backend, Engine("postgres", backend).session() as db:
        assert db.refusal(DbQuery(f"SELECT {value}")).code == AnswerCode.BAD_REQUEST
        assert db.rows("SELECT 1") == [(1,)]


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT generate_series(1, 1000000000)",
        "SELECT repeat('x', 1000000) FROM generate_series(1, 100000)",
        "SELECT repeat('x', 200000000)",
    ],
    ids=["rows", "large rows", "a large value"],
)
def test_rows_do_not_fill_the_host(made: Database, kind: str, sql: str) -> None:
    """What is too large is TOO_LARGE soon, and takes no memory of this process."""
    with backend_of(kind, made.conninfo) as backend:
        engine = Engine("postgres", backend)
        engine.read("SELECT 1")
        gc.collect()
        before, highest, ends = rss_mb(), [0.0], threading.Event()

        def watch() -> None:
            while not ends.wait(0.002):
                highest[0] = max(highest[0], rss_mb())

        watcher = threading.Thread(target=watch)
        watcher.start()
        with engine.session() as db:
            error = db.refusal(DbQuery(sql))
        ends.set()
        watcher.join()
        assert error.code == AnswerCode.TOO_LARGE
        assert highest[0] - before < 48, highest
        assert is_at_rest(backend)
        assert engine.read("SELECT id FROM notes") == [(1,)]


# ── prepare ──────────────────────────────────────────────────────────────────────────────────────


def test_prepare_looks_whether_it_is_provisioned(made: Database, kind: str) -> None:
    """All is well with the migrations that are applied; anything else fails, with the command to run."""
    made.provision("many", TABLES, "CREATE TABLE more (a int)")
    with backend_of(kind, made.conninfo) as backend:
        backend.prepare("blog", migrations(TABLES))
        backend.prepare("blog", ())
        for plugin, texts, reason in (
            ("blog", (f"{TABLES} ",), "was changed"),
            ("blog", (TABLES, "CREATE TABLE more (a int)"), "1 of its 2 migrations aren't applied"),
            ("many", (TABLES,), "has 2 migrations and this version 1"),
            ("nobody", (TABLES,), "can't log in"),
            ("nobody", (), "can't log in"),
        ):
            with pytest.raises(BackendError, match=reason) as caught:
                backend.prepare(plugin, migrations(*texts))
            assert "fuseboard db provision" in caught.value.reason
        with backend_of(kind, made.conninfo) as other:
            other._secret = type(other._secret)("another secret that is long enough")
            with pytest.raises(BackendError, match="can't log in"):
                other.prepare("blog", migrations(TABLES))


def test_a_scope_that_is_not_provisioned(made: Database, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its calls are answered BACKEND_FAILED; the log has the scope and the command, the guest neither."""
    with backend_of(kind, made.conninfo) as backend:
        backend.prepare("blog", migrations(TABLES))
        error = Engine("postgres", backend).open(scope="site-9").refusal(DbQuery("SELECT 1"))
        assert (error.code, error.reason) == (AnswerCode.BACKEND_FAILED, "the database can't be reached")
    assert "blog in scope 'site-9'" in caplog.text
    assert "fuseboard db provision" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("conninfo", "problem"),
    [
        ("host=h", "must name the database"),
        ("host=h dbname=d user=u", "has 'user'"),
        ("postgresql://u:very-secret@h/d", "has 'user'"),
        ("host=a,b dbname=d", "one host"),
        ("very-secret", "can't be read"),
        (None, "can't be read"),
    ],
)
@pytest.mark.parametrize("make", [Postgres, AsyncPostgres])
def test_arguments_are_checked(make: Any, conninfo: Any, problem: str) -> None:
    """What can't be used is named, and no password shown."""
    with pytest.raises(UsageError, match=problem) as caught:
        make(conninfo, secret=SECRET)
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize("named", [{"secret": "short"}, {"max_connections": 0}, {"max_idle_seconds": 0.5}])
def test_settings_are_checked(named: dict[str, Any]) -> None:
    """A secret that is too short, and numbers out of range, are refused."""
    with pytest.raises(UsageError, match=next(iter(named))):
        Postgres("dbname=d", **({"secret": SECRET} | named))
