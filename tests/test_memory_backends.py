"""The in-memory backends: whose data, what is seen when, what is refused, and that no lock outlives its session.

Rules:
* Time is real here, as SQLite's own waiting is the subject; margins are wide.
"""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from threading import Barrier, Event, Thread
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard._grants import Grants
from fuseboard._urls import parse_url
from fuseboard.backends import (
    AnswerCode,
    Backend,
    Backends,
    DbChanged,
    DbExec,
    DbQuery,
    DbRows,
    HttpRequest,
    HttpResponse,
    Identity,
    KvDelete,
    KvDone,
    KvGet,
    KvIncrement,
    KvNumber,
    KvSet,
    KvValue,
)
from fuseboard.backends.memory import MemoryDb, MemoryHttp, MemoryKv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuseboard._hostcalls import Scalar
    from fuseboard.backends import Answer, HostCall, Session

ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
MIB = 1 << 20


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def identity(
    plugin: str = "blog", *, scope: str | None = None, db: Literal["read", "write"] | None = "write"
) -> Identity:
    return Identity(plugin, "post.title", scope, "request-1", Grants(db=db, kv=True))


def exec_(session: Session, sql: str, *parameters: Scalar, deadline: float | None = None) -> int:
    answer = session.answer(DbExec(sql, parameters), deadline or soon())
    assert isinstance(answer, DbChanged)
    return answer.rows_changed


def query(session: Session, sql: str, *parameters: Scalar, deadline: float | None = None) -> DbRows:
    answer = session.answer(DbQuery(sql, parameters), deadline or soon())
    assert isinstance(answer, DbRows)
    return answer


def refusal(session: Session, call: HostCall) -> BackendError:
    with pytest.raises(BackendError) as caught:
        session.answer(call, soon())
    return caught.value


def get(session: Session, key: bytes) -> bytes | None:
    answer = session.answer(KvGet(key), soon())
    assert isinstance(answer, KvValue)
    return answer.value


def increment(session: Session, key: bytes, by: int = 1, *, deadline: float | None = None) -> int:
    answer = session.answer(KvIncrement(key, by), deadline or soon())
    assert isinstance(answer, KvNumber)
    return answer.number


@pytest.fixture
def db() -> Iterator[MemoryDb]:
    """A database where plugin `blog` has a table `notes` with one row."""
    memory = MemoryDb()
    memory.rows("blog", "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT UNIQUE)")
    memory.rows("blog", "INSERT INTO notes (text) VALUES ('first')")
    yield memory
    memory.close()


def texts(db: MemoryDb) -> list[str]:
    return [text for (text,) in db.rows("blog", "SELECT text FROM notes ORDER BY id")]


def test_backends_fit_the_protocol(db: MemoryDb) -> None:
    """All three memory backends are backends, for mypy and at run time."""
    http: Backend = MemoryHttp(lambda _: HttpResponse(200))
    assert Backends(http=http, db=db, kv=MemoryKv()).http is http


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────

REQUEST = HttpRequest("GET", parse_url("https://api.example.com/v1"))


def test_http_is_answered_and_recorded() -> None:
    """A request is answered by the handler and recorded, also across sessions and after a rollback."""
    http = MemoryHttp(lambda request: HttpResponse(200, body=str(request.url).encode()))
    session = http.session(identity())
    assert session.answer(REQUEST, soon()) == HttpResponse(200, body=b"https://api.example.com/v1")
    session.rollback()
    http.session(identity("shop")).answer(REQUEST, soon())
    assert http.requests == [REQUEST, REQUEST]


def test_http_handlers_backend_error_passes() -> None:
    """A handler's own BackendError passes on as it is, and the request counts as sent."""

    def handler(_: HttpRequest) -> HttpResponse:
        raise BackendError("the line is dead", code=AnswerCode.CONFLICT)

    http = MemoryHttp(handler)
    error = refusal(http.session(identity()), REQUEST)
    assert (error.reason, error.code, http.requests) == ("the line is dead", AnswerCode.CONFLICT, [REQUEST])


def test_http_handler_with_another_answer_is_a_type_error() -> None:
    """A handler that returns something else is the application's mistake, named by type."""
    http = MemoryHttp(lambda _: 200)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="must return an HttpResponse, not int"):
        http.session(identity()).answer(REQUEST, soon())


@pytest.mark.parametrize(
    ("backend", "call"),
    [(MemoryHttp(lambda _: HttpResponse(200)), KvGet(b"k")), (MemoryKv(), REQUEST), (MemoryDb(), REQUEST)],
    ids=["http", "kv", "db"],
)
def test_calls_of_another_kind_are_type_errors(backend: Backend, call: HostCall) -> None:
    """A call of another kind is a TypeError that names backend and call."""
    with pytest.raises(TypeError, match=r"Memory\w+ doesn't serve (KvGet|HttpRequest)"):
        backend.session(identity()).answer(call, soon())


# ── DB: transactions ─────────────────────────────────────────────────────────────────────────────


def test_db_commit_leaves_all(db: MemoryDb) -> None:
    """What a session wrote is seen by itself at once and lasts after its commit."""
    session = db.session(identity())
    assert exec_(session, "INSERT INTO notes (text) VALUES ($1), ($2)", "a", "b") == 2
    assert query(session, "SELECT text FROM notes ORDER BY id") == DbRows(("text",), (("first",), ("a",), ("b",)))
    session.commit(soon())
    assert texts(db) == ["first", "a", "b"]


def test_db_sessions_without_statements_hold_nothing(db: MemoryDb) -> None:
    """A session that was never asked takes no lock, and ends without an error."""
    idle = db.session(identity())
    exec_(db.session(identity()), "DELETE FROM notes")
    idle.commit(soon())


def test_db_writers_are_serial(db: MemoryDb) -> None:
    """A second session waits for the first to end, and reads what that committed."""
    first, second = db.session(identity()), db.session(identity())
    exec_(first, "INSERT INTO notes (text) VALUES ('a')")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(query, second, "SELECT count(*) FROM notes")
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
        first.commit(soon())
        assert waiting.result(10).rows == ((2,),)
    second.rollback()


def test_db_lock_is_waited_for_until_the_deadline(db: MemoryDb) -> None:
    """A session that can't have the lock by its deadline is answered with a timeout, and can be rolled back."""
    first, second = db.session(identity()), db.session(identity())
    exec_(first, "INSERT INTO notes (text) VALUES ('a')")
    with pytest.raises(BackendTimeout):
        query(second, "SELECT 1", deadline=soon(0.05))
    second.rollback()
    exec_(first, "INSERT INTO notes (text) VALUES ('b')")
    first.commit(soon())
    assert texts(db) == ["first", "a", "b"]


@pytest.mark.parametrize(("plugin", "scope"), [("shop", None), ("blog", "site-1")])
def test_db_namespaces_are_apart(db: MemoryDb, plugin: str, scope: str | None) -> None:
    """Another plugin, and the same one in another scope, neither wait for a session nor see its tables."""
    exec_(db.session(identity()), "INSERT INTO notes (text) VALUES ('a')")
    other = db.session(identity(plugin, scope=scope))
    assert "no such table" in refusal(other, DbQuery("SELECT * FROM notes")).reason
    other.rollback()
    db.rows(plugin, "CREATE TABLE notes (a)", scope=scope)
    assert query(db.session(identity(plugin, scope=scope)), "SELECT * FROM notes").rows == ()


def test_db_rollback_from_another_thread_releases(db: MemoryDb) -> None:
    """A rollback on another thread than the one that began gives the lock back; a second one changes nothing."""
    session = db.session(identity())
    exec_(session, "INSERT INTO notes (text) VALUES ('a')")
    for _ in range(2):
        thread = Thread(target=session.rollback)
        thread.start()
        thread.join()
    following = db.session(identity())
    assert query(following, "SELECT count(*) FROM notes", deadline=soon(1)).rows == ((1,),)
    session.rollback()
    assert exec_(following, "DELETE FROM notes") == 1
    following.commit(soon())


def test_db_failing_commit_writes_nothing_and_releases(db: MemoryDb) -> None:
    """A commit that a deferred foreign key refuses is a conflict; nothing stays, and the lock is free."""
    db.rows("blog", "CREATE TABLE child (note REFERENCES notes (id) DEFERRABLE INITIALLY DEFERRED)")
    session = db.session(identity())
    exec_(session, "INSERT INTO notes (text) VALUES ('a')")
    exec_(session, "INSERT INTO child VALUES (99)")
    with pytest.raises(BackendError, match="FOREIGN KEY") as caught:
        session.commit(soon())
    assert caught.value.code == AnswerCode.CONFLICT
    assert texts(db) == ["first"]
    session.rollback()
    exec_(db.session(identity()), "DELETE FROM notes", deadline=soon(1))


def test_db_ended_session_answers_nothing(db: MemoryDb) -> None:
    """After its end a session refuses calls and commits, so it can't take the lock again."""
    session = db.session(identity())
    session.rollback()
    assert "ended" in refusal(session, DbQuery("SELECT 1")).reason
    with pytest.raises(BackendError, match="ended"):
        session.commit(soon())
    assert texts(db) == ["first"]


def test_db_late_rollback_stops_nobody_else(db: MemoryDb) -> None:
    """Where a session has just ended, a rollback that comes late doesn't end the statement of the next."""
    first, second = db.session(identity()), db.session(identity())
    first.answer(DbQuery("SELECT 1"), soon())
    first.rollback()
    second.answer(DbQuery("SELECT 1"), soon())
    first._stop()
    assert second.answer(DbQuery("SELECT 2"), soon()) == DbRows(("2",), ((2,),))
    second.rollback()


def test_db_session_begins_where_one_was_given_up(db: MemoryDb) -> None:
    """A session that was given up at the last moment leaves nothing of that to the next, or to the application."""
    first = db.session(identity())
    first.answer(DbQuery("SELECT 1"), soon())
    forget = first._forget

    def given_up_meanwhile() -> None:
        forget()
        first._stop()

    first._forget = given_up_meanwhile  # type: ignore[method-assign]
    first.rollback()
    assert db.rows("blog", "SELECT 1") == [(1,)]
    second = db.session(identity())
    assert second.answer(DbQuery("SELECT 2"), soon()) == DbRows(("2",), ((2,),))
    second.rollback()


def test_db_abandoned_call_leaves_no_lock(db: MemoryDb) -> None:
    """A rollback during a call that waits for the lock comes after it, so that the lock isn't kept."""
    holder, abandoned = db.session(identity()), db.session(identity())
    exec_(holder, "DELETE FROM notes")
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(query, abandoned, "SELECT 1")
        rollback = pool.submit(abandoned.rollback)
        holder.rollback()
        rollback.result(10)
        call.exception(10)
    query(db.session(identity()), "SELECT 1", deadline=soon(1))


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT OR ROLLBACK INTO notes (text) VALUES ('first')",
        "INSERT INTO notes (text) VALUES ('trigger')",
    ],
)
def test_db_guest_cannot_leave_its_transaction(db: MemoryDb, sql: str) -> None:
    """Errors that make SQLite end the transaction end the session's work: nothing later can write outside it."""
    db.rows(
        "blog",
        "CREATE TRIGGER t BEFORE INSERT ON notes WHEN NEW.text = 'trigger' BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
    )
    session = db.session(identity())
    exec_(session, "INSERT INTO notes (text) VALUES ('a')")
    assert refusal(session, DbExec(sql)).code == AnswerCode.CONFLICT
    assert refusal(session, DbExec("INSERT INTO notes (text) VALUES ('escaped')")).code == AnswerCode.CONFLICT
    with pytest.raises(BackendError, match="undid"):
        session.commit(soon())
    assert texts(db) == ["first"]


def test_db_rows_waits_for_the_lock(db: MemoryDb) -> None:
    """`rows` shows committed data only: it waits for the session that is writing."""
    session = db.session(identity())
    exec_(session, "INSERT INTO notes (text) VALUES ('a')")
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(texts, db)
        with pytest.raises(TimeoutError):
            seen.result(0.05)
        session.rollback()
        assert seen.result(10) == ["first"]


def test_db_parallel_sessions_lose_nothing(db: MemoryDb) -> None:
    """Read-then-write sessions from 8 threads don't lose each other's updates, half of them rolled back."""
    db.rows("blog", "CREATE TABLE counter AS SELECT 0 AS n")

    def add(place: int) -> None:
        session = db.session(identity())
        (number,) = query(session, "SELECT n FROM counter").rows[0]
        exec_(session, "UPDATE counter SET n = $1", number + 1)
        session.rollback() if place % 2 else session.commit(soon())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(80)))
    assert db.rows("blog", "SELECT n FROM counter") == [(40,)]


# ── DB: statements ───────────────────────────────────────────────────────────────────────────────


def test_db_parameters_go_by_number(db: MemoryDb) -> None:
    """`$2` before `$1`, and a number used twice, get the values of their numbers."""
    session = db.session(identity())
    assert query(session, "SELECT $2 AS b, $1 AS a, $2 AS c", "one", "two").rows == (("two", "one", "two"),)


REALS = st.floats(allow_nan=False, allow_infinity=False)
WRITABLE = st.characters(exclude_characters="\0", exclude_categories=["Cs"])


@given(
    st.lists(
        st.none() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(WRITABLE) | REALS,
        max_size=12,
    )
)
def test_db_parameters_round_trip(values: list[Scalar]) -> None:
    """Every scalar comes back as it went in, whatever the order of the parameters."""
    memory = MemoryDb()
    places = range(len(values), 0, -1)
    session = memory.session(identity())
    sql = "SELECT " + ", ".join(["0", *(f"${place}" for place in places)])
    assert query(session, sql, *values).rows == ((0, *reversed(values)),)
    memory.close()


@pytest.mark.parametrize(
    ("sql", "parameters", "reason"),
    [
        ("SELECT FROM", (), "syntax error"),
        ("SELEC 1", (), "begins with one of"),
        ("SELECT * FROM nowhere", (), "no such table"),
        ("SELECT $1, $2", (1,), "no value for $2"),
        ("SELECT ?", (1,), "written $1"),
        ("SELECT 1; SELECT 2", (), "one statement"),
        ("SELECT '\0'", (), "null char"),
        ("-- nothing", (), "begins with one of"),
        ("SELECT CAST(x'ff' AS TEXT)", (), "UTF-8"),
    ],
)
def test_db_bad_queries(db: MemoryDb, sql: str, parameters: tuple[Scalar, ...], reason: str) -> None:
    """A query that can't be run is answered BAD_REQUEST with SQLite's own words."""
    error = refusal(db.session(identity()), DbQuery(sql, parameters))
    assert (error.code, reason in error.reason) == (AnswerCode.BAD_REQUEST, True), error.reason


def test_db_constraints_are_conflicts(db: MemoryDb) -> None:
    """A violated constraint is a CONFLICT, and the session goes on."""
    session = db.session(identity())
    error = refusal(session, DbExec("INSERT INTO notes (text) VALUES ('first')"))
    assert (error.code, "UNIQUE" in error.reason) == (AnswerCode.CONFLICT, True)
    exec_(session, "INSERT INTO notes (text) VALUES ('second')")
    session.commit(soon())
    assert texts(db) == ["first", "second"]


@pytest.mark.parametrize(
    ("sql", "changed"),
    [
        ("UPDATE notes SET text = 'x'", 1),
        ("UPDATE notes SET text = 'x' WHERE id = 99", 0),
        ("WITH w AS (SELECT 'y' AS t UNION SELECT 'z') INSERT INTO notes (text) SELECT t FROM w", 2),
        ("INSERT INTO notes (text) VALUES ('y'), ('z') RETURNING id", 2),
        ("SELECT * FROM notes", 0),
    ],
)
def test_db_changed_rows_are_counted(db: MemoryDb, sql: str, changed: int) -> None:
    """An exec tells how many rows it changed itself, 0 where none, whatever was changed before."""
    session = db.session(identity())
    exec_(session, "INSERT INTO notes (text) VALUES ('a'), ('b'), ('c')")
    exec_(session, "DELETE FROM notes WHERE text <> 'first'")
    assert exec_(session, sql) == changed


# ── DB: refusals ─────────────────────────────────────────────────────────────────────────────────

UNWANTED_FILE = Path(gettempdir()) / "fuseboard-must-not-exist.db"
REFUSED_EVERYWHERE = [
    "ATTACH ':memory:' AS other",
    "DETACH main",
    "PRAGMA query_only = OFF",
    "SELECT * FROM pragma_table_info('notes')",
    "VACUUM",
    f"VACUUM INTO '{UNWANTED_FILE}'",
    "BEGIN",
    "COMMIT",
    "END",
    "ROLLBACK",
    "SAVEPOINT s",
    "RELEASE s",
    "ANALYZE",
    "CREATE TEMP TABLE t (a)",
    "CREATE TEMP VIEW v AS SELECT 1",
    "CREATE VIRTUAL TABLE t USING fts5(a)",
    "SELECT load_extension('/tmp/x')",
    "SELECT LOAD_EXTENSION('/tmp/x')",
    "SELECT json_patch('{}', '{}')",
    "SELECT * FROM sqlite_dbpage",
    "UPDATE sqlite_schema SET sql = ''",
    "/* hidden */ COMMIT",
    "REPLACE INTO notes VALUES (1, 'x')",
    "CREATE TABLE more (a)",
    "CREATE INDEX i ON notes (text)",
    "DROP TABLE notes",
    "ALTER TABLE notes ADD COLUMN more",
    "REINDEX",
]
WRITES = [
    "INSERT INTO notes (text) VALUES ('x')",
    "INSERT INTO notes (text) VALUES ('x') RETURNING id",
    "WITH w AS (SELECT 'x') INSERT INTO notes (text) SELECT * FROM w RETURNING id",
    "UPDATE notes SET text = 'x'",
    "DELETE FROM notes",
]


@pytest.mark.parametrize("sql", REFUSED_EVERYWHERE)
@pytest.mark.parametrize("kind", [DbQuery, DbExec])
def test_db_refuses_what_reaches_further(db: MemoryDb, kind: type[DbQuery | DbExec], sql: str) -> None:
    """Nothing that reaches past the plugin's own tables or its transaction is run, neither as query nor as exec."""
    session = db.session(identity())
    exec_(session, "INSERT INTO notes (text) VALUES ('a')")
    assert refusal(session, kind(sql)).code == AnswerCode.BAD_REQUEST
    assert query(session, "SELECT count(*) FROM notes").rows == ((2,),)
    session.rollback()
    assert texts(db) == ["first"]
    assert not UNWANTED_FILE.exists()


@pytest.mark.parametrize("sql", WRITES)
@pytest.mark.parametrize("granted", ["read", "write"])
def test_db_queries_do_not_write(db: MemoryDb, granted: Literal["read", "write"], sql: str) -> None:
    """A query that would write is refused with the advice to use exec, also where writing is granted."""
    session = db.session(identity(db=granted))
    error = refusal(session, DbQuery(sql))
    assert (error.code, "use exec" in error.reason) == (AnswerCode.BAD_REQUEST, True)
    session.commit(soon())
    assert (texts(db), len(db.rows("blog", "SELECT * FROM sqlite_schema"))) == (["first"], 2)


def test_db_statement_run_as_exec_does_not_open_the_query(db: MemoryDb) -> None:
    """A statement that was run as exec is refused as query all the same: no prepared statement is kept."""
    session = db.session(identity())
    sql = "INSERT INTO notes (text) VALUES ($1) RETURNING id"
    exec_(session, sql, "a")
    assert refusal(session, DbQuery(sql, ("b",))).code == AnswerCode.BAD_REQUEST


def test_db_exec_needs_the_grant_to_write(db: MemoryDb) -> None:
    """A session under `db = "read"` denies exec by itself too."""
    assert refusal(db.session(identity(db="read")), DbExec("DELETE FROM notes")).code == AnswerCode.DENIED


# ── DB: time and size ────────────────────────────────────────────────────────────────────────────


def test_db_deadline_interrupts(db: MemoryDb) -> None:
    """An endless query ends at its deadline, and the session can go on."""
    session = db.session(identity())
    started = time.monotonic()
    with pytest.raises(BackendTimeout):
        query(session, ENDLESS, deadline=soon(0.1))
    assert 0.09 <= time.monotonic() - started < 5
    assert query(session, "SELECT count(*) FROM notes").rows == ((1,),)


def test_db_deadline_interrupts_writes_and_keeps_nothing(db: MemoryDb) -> None:
    """A write that is interrupted ends the session's work: its commit is refused and nothing lasts."""
    session = db.session(identity())
    exec_(session, "INSERT INTO notes (text) VALUES ('a')")
    with pytest.raises(BackendTimeout):
        exec_(session, f"INSERT INTO notes (text) {ENDLESS}", deadline=soon(0.1))
    with pytest.raises(BackendError, match="undid"):
        session.commit(soon())
    assert texts(db) == ["first"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT instr($1, substr($1, 1, 500000) || 'b')",
        "SELECT replace($1, substr($1, 1, 500000) || 'b', '')",
        "SELECT rtrim($1, hex(randomblob(100000)) || 'a')",
    ],
)
def test_db_one_function_cannot_outlast_the_deadline(db: MemoryDb, sql: str) -> None:
    """Text functions take linear time: SQLite's own would run for seconds in one opcode, past any deadline."""
    started = time.monotonic()
    query(db.session(identity()), sql, "a" * 750_000)
    assert time.monotonic() - started < 3


def test_db_long_like_patterns_are_refused(db: MemoryDb) -> None:
    """LIKE and GLOB with long patterns, which take the product of both lengths, are refused."""
    error = refusal(db.session(identity()), DbQuery("SELECT 'a' LIKE $1", ("%a" * 100,)))
    assert "pattern too complex" in error.reason


@given(text=st.text("ab\u00e9", max_size=8), part=st.text("ab\u00e9", max_size=3), new=st.text("ab", max_size=3))
def test_db_replaced_functions_agree_with_sqlite(text: str, part: str, new: str) -> None:
    """The replaced text functions give what SQLite's own give, for text, blobs and NULL."""
    sql = (
        "SELECT instr($1, $2), instr(CAST($1 AS BLOB), CAST($2 AS BLOB)), replace($1, $2, $3), trim($1, $2), "
        "ltrim($1, $2), rtrim($1, $2), instr(NULL, $1), replace($1, NULL, $2), trim(NULL, $1), replace(121, 2, 'x')"
    )
    memory, plain = MemoryDb(), sqlite3.connect(":memory:")
    expected = tuple(plain.execute(sql, {"1": text, "2": part, "3": new}))
    assert query(memory.session(identity()), sql, text, part, new).rows == expected
    memory.close()
    plain.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT zeroblob(1048577)",
        "SELECT hex(zeroblob(1000000))",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT zeroblob(1000000) FROM r",
        "SELECT 1 -- " + "x" * MIB,
    ],
    ids=["value", "made", "rows", "large rows", "sql"],
)
def test_db_large_replies_are_refused(db: MemoryDb, sql: str) -> None:
    """Values over 1 MiB, rows over 4 MiB and very long statements are answered TOO_LARGE."""
    assert refusal(db.session(identity()), DbQuery(sql)).code == AnswerCode.TOO_LARGE


def test_db_replacing_cannot_take_the_memory(db: MemoryDb) -> None:
    """A replacement whose result would be too large is refused before it is made."""
    error = refusal(db.session(identity()), DbQuery("SELECT replace($1, 'a', $1)", ("a" * (MIB - 10),)))
    assert error.code == AnswerCode.BAD_REQUEST


def test_db_size_is_bounded() -> None:
    """A database that would grow over `max_bytes` is answered TOO_LARGE, and nothing of it lasts."""
    memory = MemoryDb(max_bytes=MIB // 2)
    memory.rows("blog", "CREATE TABLE t (a)")
    session = memory.session(identity())
    assert refusal(session, DbExec("INSERT INTO t VALUES (zeroblob(1000000))")).code == AnswerCode.TOO_LARGE
    session.rollback()
    assert memory.rows("blog", "SELECT * FROM t") == []
    memory.close()


# ── KV ───────────────────────────────────────────────────────────────────────────────────────────


def test_kv_commit_applies_all() -> None:
    """Sets, deletes and increments are seen by their session at once, and by others only after the commit."""
    kv = MemoryKv({"blog": {b"old": b"1", b"n": b"41"}})
    session, other = kv.session(identity()), kv.session(identity())
    assert session.answer(KvSet(b"new", b"2"), soon()) == KvDone()
    assert session.answer(KvDelete(b"old"), soon()) == KvDone()
    assert session.answer(KvDelete(b"never"), soon()) == KvDone()
    assert increment(session, b"n") == 42
    assert [get(session, key) for key in (b"new", b"old", b"n")] == [b"2", None, b"42"]
    assert [get(other, key) for key in (b"new", b"old", b"n")] == [None, b"1", b"41"]
    session.commit(soon())
    assert [get(other, key) for key in (b"new", b"old", b"n")] == [b"2", None, b"42"]
    assert kv.items("blog") == {b"new": b"2", b"n": b"42"}


def test_kv_rollback_leaves_nothing() -> None:
    """A rollback forgets every write, and may come twice."""
    kv = MemoryKv({"blog": {b"k": b"1"}})
    session = kv.session(identity())
    session.answer(KvSet(b"k", b"2"), soon())
    increment(session, b"n")
    session.rollback()
    session.rollback()
    assert kv.items("blog") == {b"k": b"1"}
    assert increment(kv.session(identity()), b"n", deadline=soon(1)) == 1


@pytest.mark.parametrize(("plugin", "scope"), [("shop", None), ("blog", "site-1")])
def test_kv_namespaces_are_apart(plugin: str, scope: str | None) -> None:
    """Another plugin, and the same one in another scope, have keys and locks of their own."""
    kv = MemoryKv({"blog": {b"n": b"5"}})
    increment(kv.session(identity()), b"n")
    other = kv.session(identity(plugin, scope=scope))
    assert increment(other, b"n", deadline=soon(1)) == 1
    other.commit(soon())
    assert (kv.items(plugin, scope=scope), kv.items("blog")) == ({b"n": b"1"}, {b"n": b"5"})


def test_kv_initial_data_is_copied() -> None:
    """The mapping that a store starts from stays the application's own."""
    initial = {b"k": b"1"}
    kv = MemoryKv({"blog": initial})
    session = kv.session(identity())
    session.answer(KvDelete(b"k"), soon())
    session.commit(soon())
    kv.items("blog")[b"x"] = b""
    assert (initial, kv.items("blog")) == ({b"k": b"1"}, {})


def test_kv_parallel_increments_are_distinct() -> None:
    """Increments of committing invocations on 8 threads get different numbers; rolled back ones leave no gap."""
    kv = MemoryKv()
    start = Barrier(8)

    def run(thread: int) -> list[int]:
        start.wait()
        return [number for turn in range(50) if (number := once(commits=(thread + turn) % 3 != 0))]

    def once(*, commits: bool) -> int | None:
        session = kv.session(identity())
        number = increment(session, b"n")
        session.commit(soon()) if commits else session.rollback()
        return number if commits else None

    with ThreadPoolExecutor(8) as pool:
        numbers = sorted(number for part in pool.map(run, range(8)) for number in part)
    assert numbers == list(range(1, len(numbers) + 1))
    assert kv.items("blog") == {b"n": b"%d" % len(numbers)}


def test_kv_increment_waits_until_the_deadline() -> None:
    """While an invocation that incremented runs, another's increment waits; at the deadline it is a timeout."""
    kv = MemoryKv()
    first, second = kv.session(identity()), kv.session(identity())
    increment(first, b"n")
    with pytest.raises(BackendTimeout):
        increment(second, b"n", deadline=soon(0.05))
    first.commit(soon())
    assert increment(second, b"n") == 2


def test_kv_commit_of_sets_does_not_cut_into_an_increment() -> None:
    """A plain set of another invocation is committed before an increment's read or after its commit, not between."""
    kv = MemoryKv()
    adding, setting = kv.session(identity()), kv.session(identity())
    increment(adding, b"n", 5)
    setting.answer(KvSet(b"n", b"100"), soon())
    with pytest.raises(BackendTimeout):
        setting.commit(soon(0.05))
    setting.rollback()
    adding.commit(soon())
    assert kv.items("blog") == {b"n": b"5"}


def test_kv_rollback_from_another_thread_wakes_the_waiting() -> None:
    """A rollback on another thread gives the lock to the invocation that waits."""
    kv = MemoryKv()
    first, second = kv.session(identity()), kv.session(identity())
    increment(first, b"n")
    started = Event()

    def wait() -> int:
        started.set()
        return increment(second, b"n")

    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(wait)
        started.wait()
        pool.submit(first.rollback).result(10)
        assert waiting.result(10) == 1


@dataclass(frozen=True, slots=True)
class FailingCommit:
    """A session whose commit fails, as an application's test would write it."""

    session: Session

    def answer(self, call: HostCall, deadline: float) -> Answer:
        return self.session.answer(call, deadline)

    def commit(self, deadline: float) -> None:  # noqa: ARG002  the protocol's signature
        raise BackendError("the disk is full")

    def rollback(self) -> None:
        self.session.rollback()


def test_kv_failing_commit_releases() -> None:
    """When a commit failed, the rollback gives the lock back and leaves nothing."""
    kv = MemoryKv()
    session: Session = FailingCommit(kv.session(identity()))
    increment(session, b"n")
    with pytest.raises(BackendError, match="disk"):
        session.commit(soon())
    session.rollback()
    assert increment(kv.session(identity()), b"n", deadline=soon(1)) == 1
    assert kv.items("blog") == {}


def test_kv_ended_session_answers_nothing() -> None:
    """After its end a session refuses calls, so it can't take the lock again."""
    kv = MemoryKv()
    session = kv.session(identity())
    session.commit(soon())
    assert "ended" in refusal(session, KvIncrement(b"n", 1)).reason
    assert increment(kv.session(identity()), b"n", deadline=soon(1)) == 1


@pytest.mark.parametrize("value", [b"", b"-", b"1.5", b" 1", b"1 ", b"+1", b"0x1", b"1_0", b"\xd9\xa1", b"9" * 5000])
def test_kv_increment_of_another_value_is_a_conflict(value: bytes) -> None:
    """A value that isn't a 64-bit number in decimal text can't be incremented, and stays."""
    kv = MemoryKv({"blog": {b"k": value}})
    session = kv.session(identity())
    assert refusal(session, KvIncrement(b"k", 1)).code == AnswerCode.CONFLICT
    assert get(session, b"k") == value


@pytest.mark.parametrize(
    ("value", "by", "number"),
    [(b"007", 1, 8), (b"-5", 5, 0), (b"-0", 0, 0), (b"0" * 5000, 3, 3), (b"9223372036854775806", 1, (1 << 63) - 1)],
)
def test_kv_increment_reads_decimal_text(value: bytes, by: int, number: int) -> None:
    """Leading zeros and a minus are read, and the number is written back in its shortest form."""
    session = MemoryKv({"blog": {b"k": value}}).session(identity())
    assert (increment(session, b"k", by), get(session, b"k")) == (number, str(number).encode())


@pytest.mark.parametrize(
    ("value", "by"), [(b"9223372036854775807", 1), (b"-9223372036854775808", -1), (b"9223372036854775808", -1)]
)
def test_kv_increment_over_64_bits_is_a_conflict(value: bytes, by: int) -> None:
    """A number that leaves 64 bits is a conflict, never wrapped around."""
    session = MemoryKv({"blog": {b"k": value}}).session(identity())
    assert refusal(session, KvIncrement(b"k", by)).code == AnswerCode.CONFLICT


KEYS = st.sampled_from([b"a", b"b", b"c"])
KV_CALLS = st.one_of(
    st.builds(KvGet, KEYS),
    st.builds(KvSet, KEYS, st.binary(max_size=3) | st.sampled_from([b"1", b"-7"])),
    st.builds(KvDelete, KEYS),
    st.builds(KvIncrement, KEYS, st.integers(-3, 3)),
)


@given(st.lists(st.tuples(st.lists(KV_CALLS, max_size=8), st.booleans()), max_size=6))
def test_kv_agrees_with_a_dictionary(invocations: list[tuple[list[HostCall], bool]]) -> None:
    """One after the other, sessions read and leave what a plain dictionary would, rolled back ones nothing."""
    kv, committed = MemoryKv(), dict[bytes, bytes]()
    for calls, commits in invocations:
        session, model = kv.session(identity()), committed.copy()
        for call in calls:
            assert answered(session, call) == modelled(model, call)
        if commits:
            session.commit(soon())
            committed = model
        session.rollback()
        assert kv.items("blog") == committed


def answered(session: Session, call: HostCall) -> object:
    try:
        return session.answer(call, soon())
    except BackendError as error:
        return error.code


def modelled(model: dict[bytes, bytes], call: HostCall) -> object:
    match call:
        case KvGet(key=key):
            return KvValue(model.get(key))
        case KvSet(key=key, value=value):
            model[key] = value
        case KvDelete(key=key):
            model.pop(key, None)
        case KvIncrement(key=key, by=by):
            return incremented(model, key, by)
    return KvDone()


def incremented(model: dict[bytes, bytes], key: bytes, by: int) -> object:
    text = model.get(key, b"0")
    if not text.removeprefix(b"-").isdigit():
        return AnswerCode.CONFLICT
    model[key] = str(int(text) + by).encode()
    return KvNumber(int(text) + by)
