"""The contract of databases: every engine keeps to it, so that a plugin tested on one works on another.

Rules:
* What only one engine has is tested in that engine's own module.
* SQL here is what all engines know.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from db_contract import ENDLESS, ENGINES, NAMESPACES, SERIAL, Engine, Parameter, settled, soon
from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends import AnswerCode, DbExec, DbQuery, FunctionCall, KvGet
from fuseboard.backends._database import LONGEST_STATEMENT
from fuseboard.backends.db import Sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BAD, CONFLICT, TOO_LARGE = AnswerCode.BAD_REQUEST, AnswerCode.CONFLICT, AnswerCode.TOO_LARGE
MANY = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < $1) SELECT n FROM r"
LONG_ROWS = (
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < $1) SELECT CAST($2 AS TEXT) FROM r"
)


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """One engine after the other, with the contract's tables."""
    with ENGINES[request.param](request, tmp_path) as made:
        yield made


@pytest.fixture(params=[name for name in ENGINES if name not in SERIAL])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """One engine after the other of those on which sessions read beside one that writes."""
    with ENGINES[request.param](request, tmp_path) as made:
        yield made


# ── types ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("column", "value", "read"),
    [
        ("flag", True, 1),
        ("flag", False, 0),
        ("whole", (1 << 63) - 1, (1 << 63) - 1),
        ("whole", -(1 << 63), -(1 << 63)),
        ("whole", 0, 0),
        ("real", 0.1, 0.1),
        ("real", -1e300, -1e300),
        ("real", 2.0, 2.0),
        ("real", 5e-324, 5e-324),
        ("words", "", ""),
        ("words", 'it\'s; "so" -- $1 🦔', 'it\'s; "so" -- $1 🦔'),
        ("words", "12", "12"),
        ("raw", b"", b""),
        ("raw", b"\x00\xff'\\", b"\x00\xff'\\"),
        ("day", "2026-02-28", "2026-02-28"),
        *[(column, None, None) for column in ("flag", "whole", "real", "words", "raw", "day")],
    ],
)
def test_values_round_trip(engine: Engine, column: str, value: Parameter, read: object) -> None:
    """A value comes back from its column as it went in; a boolean as 1 or 0, bytes as bytes."""
    with engine.session() as db:
        assert db.exec(f"INSERT INTO things ({column}) VALUES ($1)", value) == 1
        ((found,),) = db.rows(f"SELECT {column} FROM things")
        assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize("value", ["x" * 900_000, b"x" * 700_000], ids=["text", "bytes"])
def test_large_values_round_trip(engine: Engine, value: str | bytes) -> None:
    """A parameter of nearly a megabyte, as large as a call holds, is kept and read."""
    column = "words" if isinstance(value, str) else "raw"
    with engine.session() as db:
        assert db.exec(f"INSERT INTO things ({column}) VALUES ($1)", value) == 1
        assert db.rows(f"SELECT {column} FROM things") == [(value,)]


def test_statements_have_a_length(engine: Engine) -> None:
    """A text as long as one may be is served; a longer one is TOO_LARGE, and the session goes on."""
    longest = "SELECT 1 -- " + "x" * (LONGEST_STATEMENT - 12)
    with engine.session() as db:
        assert db.rows(longest) == [(1,)]
        assert db.refusal(DbQuery(f"{longest}x")).code == AnswerCode.TOO_LARGE
        assert db.rows("SELECT 1") == [(1,)]


def test_columns_have_names(engine: Engine) -> None:
    """A query gives its columns' names, also where it has no rows."""
    with engine.session() as db:
        answer = db.query("SELECT id, text AS words FROM notes")
        assert (answer.columns, answer.rows) == (("id", "words"), ())


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), "a\0b", "\ud800"])
def test_values_that_not_all_can_keep_are_refused(engine: Engine, value: Parameter) -> None:
    """Numbers that aren't finite, zero characters and halves of characters are refused by all, with their place."""
    with engine.session() as db:
        error = db.refusal(DbExec("INSERT INTO things (whole, words) VALUES ($1, $2)", (1, value)))
        assert (error.code, "$2" in error.reason) == (BAD, True), error.reason
        assert db.rows("SELECT * FROM things") == []


# ── parameters ───────────────────────────────────────────────────────────────────────────────────


def test_parameters_go_by_number(engine: Engine) -> None:
    """`$2` before `$1`, and a number used twice, get the values of their numbers."""
    with engine.session() as db:
        db.exec("INSERT INTO notes (text, id, stars) VALUES ($2, $1, $1)", 1, "one")
        assert db.rows("SELECT id, text, stars FROM notes WHERE text = $2 AND stars = $1", 1, "one") == [(1, "one", 1)]


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT id FROM notes WHERE id = $1", ()),
        ("SELECT id FROM notes WHERE id = $2", (1,)),
        ("SELECT id FROM notes WHERE id = $1", (1, 2)),
        ("SELECT id FROM notes", (1,)),
    ],
    ids=["none", "too few", "too many", "needless"],
)
def test_parameters_must_fit(engine: Engine, sql: str, parameters: tuple[Parameter, ...]) -> None:
    """A parameter that is missing, and one that isn't used, are refused."""
    with engine.session() as db:
        assert db.refusal(DbQuery(sql, parameters)).code == BAD


def test_parameters_are_no_sql(engine: Engine) -> None:
    """What is in a parameter is never read as SQL."""
    attack = "x'); DELETE FROM notes; --"
    with engine.session() as db:
        db.exec("INSERT INTO notes (id, text) VALUES (1, $1)", attack)
        assert db.rows("SELECT text FROM notes WHERE text = $1", attack) == [(attack,)]


# ── statements ───────────────────────────────────────────────────────────────────────────────────

REFUSED = {
    "syntax": "SELEC 1",
    "no such table": "SELECT * FROM nowhere",
    "no such column": "SELECT nothing FROM notes",
    "two statements": "SELECT 1; SELECT 2",
    "a second that writes": "SELECT 1; DELETE FROM notes",
    "nothing": "-- nothing",
    "begin": "BEGIN",
    "commit": "COMMIT",
    "hidden commit": "/* SELECT */ COMMIT",
    "end": "END",
    "rollback": "ROLLBACK",
    "savepoint": "SAVEPOINT s",
    "release": "RELEASE s",
    "create": "CREATE TABLE more (a BIGINT)",
    "create temporary": "CREATE TEMP TABLE more (a BIGINT)",
    "drop": "DROP TABLE notes",
    "alter": "ALTER TABLE notes ADD COLUMN more BIGINT",
    "index": "CREATE INDEX more ON notes (stars)",
    "view": "CREATE VIEW more AS SELECT * FROM notes",
    "reindex": "REINDEX",
    "analyze": "ANALYZE",
    "vacuum": "VACUUM",
    "explain": "EXPLAIN SELECT 1",
}


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("kind", [DbQuery, DbExec])
def test_statements_are_refused(engine: Engine, kind: type[DbQuery | DbExec], sql: str) -> None:
    """What is no single statement on rows is refused, and the session goes on with all it wrote."""
    with engine.session() as db:
        db.exec("INSERT INTO notes (id, text) VALUES (1, 'a')")
        assert db.refusal(kind(sql)).code == BAD
        assert db.rows("SELECT text FROM notes") == [("a",)]
        db.commit()
    assert engine.read("SELECT text FROM notes") == [("a",)]


WRITES = {
    "insert": "INSERT INTO notes (id) VALUES (2)",
    "insert returning": "INSERT INTO notes (id) VALUES (2) RETURNING id",
    "update": "UPDATE notes SET text = 'x'",
    "delete": "DELETE FROM notes",
}


@pytest.mark.parametrize("granted", ["read", "write"])
@pytest.mark.parametrize("sql", WRITES.values(), ids=WRITES)
def test_queries_do_not_write(engine: Engine, sql: str, granted: Any) -> None:
    """A query that would write is refused, also where writing is granted, with the advice to use exec."""
    engine.write("INSERT INTO notes (id, text) VALUES (1, 'a')")
    with engine.session(db=granted) as db:
        error = db.refusal(DbQuery(sql))
        assert (error.code, "use exec" in error.reason) == (BAD, True), error.reason
        db.commit()
    assert engine.read("SELECT id, text FROM notes") == [(1, "a")]


def test_exec_needs_the_grant_to_write(engine: Engine) -> None:
    """A session under `db = "read"` denies exec by itself too."""
    with engine.session(db="read") as db:
        assert db.refusal(DbExec("DELETE FROM notes")).code == AnswerCode.DENIED


@pytest.mark.parametrize(
    ("sql", "changed"),
    [
        ("UPDATE notes SET stars = 2", 3),
        ("UPDATE notes SET stars = 2 WHERE id = 99", 0),
        ("INSERT INTO notes (id) VALUES (8), (9)", 2),
        ("INSERT INTO notes (id) VALUES (8), (9) RETURNING id", 2),
        ("INSERT INTO notes (id) VALUES (1), (9) ON CONFLICT (id) DO NOTHING", 1),
        ("WITH w AS (SELECT 8 AS n UNION SELECT 9) INSERT INTO notes (id) SELECT n FROM w", 2),
        ("DELETE FROM notes WHERE id > 1", 2),
        ("SELECT * FROM notes", 0),
    ],
)
def test_changed_rows_are_counted(engine: Engine, sql: str, changed: int) -> None:
    """An exec tells how many rows it changed itself, 0 where none, whatever was changed before."""
    with engine.session() as db:
        db.exec("INSERT INTO notes (id) VALUES (1), (2), (3), (4)")
        db.exec("DELETE FROM notes WHERE id = 4")
        assert db.exec(sql) == changed


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO notes (id) VALUES (1)",
        "INSERT INTO notes (id, text) VALUES (2, 'taken')",
        "INSERT INTO notes (id, stars) VALUES (2, NULL)",
        "INSERT INTO notes (id, stars) VALUES (2, 6)",
        "INSERT INTO strict_replies (note) VALUES (99)",
    ],
    ids=["primary key", "unique", "not null", "check", "foreign key"],
)
def test_constraints_are_conflicts(engine: Engine, sql: str) -> None:
    """A violated constraint is a CONFLICT; what the session wrote before stays, and it goes on."""
    with engine.session() as db:
        db.exec("INSERT INTO notes (id, text) VALUES (1, 'taken')")
        assert db.refusal(DbExec(sql)).code == CONFLICT
        db.exec("INSERT INTO notes (id, text) VALUES (3, 'after')")
        db.commit()
    assert engine.read("SELECT id FROM notes ORDER BY id") == [(1,), (3,)]


def test_failed_statement_leaves_nothing_of_itself(engine: Engine) -> None:
    """A statement that fails at its second row has not written its first."""
    with engine.session() as db:
        assert db.refusal(DbExec("INSERT INTO notes (id) VALUES (1), (1)")).code == CONFLICT
        assert db.rows("SELECT id FROM notes") == []


# ── sizes and time ───────────────────────────────────────────────────────────────────────────────


def test_rows_are_capped(engine: Engine) -> None:
    """10,000 rows are answered, one more is TOO_LARGE, and the session goes on."""
    with engine.session() as db:
        assert len(db.rows(MANY, 10_000)) == 10_000
        assert db.refusal(DbQuery(MANY, (10_001,))).code == TOO_LARGE
        assert db.rows("SELECT 1") == [(1,)]


def test_replies_are_capped(engine: Engine) -> None:
    """Rows of over 4 MiB in all are TOO_LARGE, and the session goes on."""
    with engine.session() as db:
        assert len(db.rows(LONG_ROWS, 40, "x" * 100_000)) == 40
        assert db.refusal(DbQuery(LONG_ROWS, (45, "x" * 100_000))).code == TOO_LARGE
        assert db.rows("SELECT 1") == [(1,)]


def test_endless_query_ends_at_the_deadline(engine: Engine) -> None:
    """A query that would run for minutes ends within 20 ms after its deadline, at the best of five times."""
    late = []
    for _ in range(5):
        with engine.session() as db:
            deadline = soon(0.1)
            with pytest.raises(BackendTimeout):
                db.query(ENDLESS, deadline=deadline)
            late.append(time.monotonic() - deadline)
    assert -0.005 < min(late) < 0.020, late
    assert engine.read("SELECT count(*) FROM notes") == [(0,)]


def test_deadline_that_is_over_runs_nothing(engine: Engine) -> None:
    """A statement whose deadline is over already is a timeout."""
    with engine.session() as db, pytest.raises(BackendTimeout):
        db.query(ENDLESS, deadline=soon(-1))


# ── transactions ─────────────────────────────────────────────────────────────────────────────────


def test_commit_leaves_all(engine: Engine) -> None:
    """What a session wrote is seen by itself at once, and by others after its commit."""
    with engine.session() as db:
        db.exec("INSERT INTO notes (id, text) VALUES ($1, $2)", 1, "a")
        db.exec("UPDATE notes SET stars = 3")
        assert db.rows("SELECT * FROM notes") == [(1, "a", 3)]
        if engine.name not in SERIAL:
            assert engine.read("SELECT * FROM notes") == []
        db.commit()
    assert engine.read("SELECT * FROM notes") == [(1, "a", 3)]


def test_rollback_leaves_nothing(engine: Engine) -> None:
    """A rollback undoes all that a session wrote, may come twice, and does nothing after a commit."""
    with engine.session() as db:
        db.exec("INSERT INTO notes (id) VALUES (1)")
        db.rollback()
        db.rollback()
    assert engine.read("SELECT * FROM notes") == []
    with engine.session() as db:
        db.exec("INSERT INTO notes (id) VALUES (2)")
        db.commit()
        db.rollback()
    assert engine.read("SELECT id FROM notes") == [(2,)]


def test_ended_session_answers_nothing(engine: Engine) -> None:
    """After its end a session refuses calls and commits."""
    db = engine.open()
    db.exec("INSERT INTO notes (id) VALUES (1)")
    db.rollback()
    assert "ended" in db.refusal(DbQuery("SELECT 1")).reason
    with pytest.raises(BackendError, match="ended"):
        db.commit()
    assert engine.read("SELECT * FROM notes") == []


def test_session_without_statements_ends(engine: Engine) -> None:
    """A session that was never asked commits and rolls back without an error."""
    with engine.session() as db:
        db.commit()


def test_failing_commit_writes_nothing(engine: Engine) -> None:
    """A commit that a deferred foreign key refuses is a CONFLICT, and leaves nothing and nobody waiting."""
    with engine.session() as db:
        db.exec("INSERT INTO notes (id) VALUES (1)")
        db.exec("INSERT INTO replies (note) VALUES (99)")
        with pytest.raises(BackendError) as caught:
            db.commit()
        assert caught.value.code == CONFLICT
    assert engine.read("SELECT id FROM notes") == []
    engine.write("INSERT INTO notes (id) VALUES (2)")


def test_reads_do_not_wait_for_writers(shared: Engine) -> None:
    """While one session has written and not ended, another reads what was committed before, at once."""
    shared.write("INSERT INTO notes (id) VALUES (1)")
    with shared.session() as writer, shared.session() as reader:
        writer.exec("DELETE FROM notes")
        assert reader.query("SELECT id FROM notes", deadline=soon(2)).rows == ((1,),)


def test_a_session_reads_one_state(shared: Engine) -> None:
    """What others commit meanwhile isn't seen by a session that has begun to read."""
    with shared.session() as reader:
        assert reader.rows("SELECT id FROM notes") == []
        shared.write("INSERT INTO notes (id) VALUES (1)")
        assert reader.rows("SELECT id FROM notes") == []
    assert shared.read("SELECT id FROM notes") == [(1,)]


def test_stale_reads_are_conflicts(shared: Engine) -> None:
    """Who has read a row that another changed since, and now changes it, has a CONFLICT: no update is lost."""
    shared.write("INSERT INTO notes (id, stars) VALUES (1, 0)")
    with shared.session() as first, shared.session() as second:
        assert first.rows("SELECT stars FROM notes") == second.rows("SELECT stars FROM notes") == [(0,)]
        first.exec("UPDATE notes SET stars = 1 WHERE id = 1")
        first.commit()
        assert second.refusal(DbExec("UPDATE notes SET stars = 1 WHERE id = 1")).code == CONFLICT
    assert shared.read("SELECT stars FROM notes") == [(1,)]


def test_parallel_sessions_lose_nothing(engine: Engine) -> None:
    """Read-then-write sessions from 4 threads, tried again after a CONFLICT, lose no update; half roll back."""
    engine.write("INSERT INTO things (whole) VALUES (0)")

    def add(place: int) -> None:
        for _ in range(1_000):
            try:
                with engine.session() as db:
                    ((number,),) = db.rows("SELECT whole FROM things")
                    db.exec("UPDATE things SET whole = $1", number + 1)
                    db.rollback() if place % 2 else db.commit()
            except BackendError as error:
                if error.code != CONFLICT:
                    raise
            else:
                return
        pytest.fail("never without a conflict")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(40)))
    assert engine.read("SELECT whole FROM things") == [(20,)]


def test_writer_is_waited_for_until_the_deadline(engine: Engine) -> None:
    """Who would change a row that another has changed waits, until 20 ms after the deadline at the best of five."""
    engine.write("INSERT INTO notes (id, stars) VALUES (1, 0)")
    late = []
    for _ in range(5):
        with engine.session() as holder, engine.session() as waiting:
            holder.exec("UPDATE notes SET stars = 1")
            deadline = soon(0.1)
            with pytest.raises(BackendTimeout):
                waiting.exec("UPDATE notes SET stars = 2", deadline=deadline)
            late.append(time.monotonic() - deadline)
    assert -0.005 < min(late) < 0.020, late
    engine.write("UPDATE notes SET stars = 3")
    assert engine.read("SELECT stars FROM notes") == [(3,)]


# ── whose data ───────────────────────────────────────────────────────────────────────────────────


def test_namespaces_are_apart(engine: Engine) -> None:
    """Another plugin, and the same one in another scope, have tables of their own."""
    for number, (plugin, scope) in enumerate(NAMESPACES):
        engine.write("INSERT INTO notes (id) VALUES ($1)", number, plugin=plugin, scope=scope)
    for number, (plugin, scope) in enumerate(NAMESPACES):
        assert engine.read("SELECT id FROM notes", plugin, scope) == [(number,)]


def test_calls_of_another_kind_are_type_errors(engine: Engine) -> None:
    """A call that the backend doesn't serve is a TypeError that names it."""
    call = FunctionCall("mail.send") if isinstance(engine.backend, Sqlite) else KvGet(b"k")
    with engine.session() as db, pytest.raises(TypeError, match=r"doesn't serve (KvGet|FunctionCall)"):
        settled(db.session.answer(call, soon()))
