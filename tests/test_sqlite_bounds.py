"""What SQLite does without a look at the clock: statements that would compile, or compute, for seconds are bounded.

Rule: without the bound, each of these outlives its deadline by a fifth of a second, up to hours; time is real, so the
best of three is judged.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from db_contract import Db, soon
from fuseboard._errors import BackendError
from fuseboard._limits import MIB
from fuseboard.backends import AnswerCode, DbExec, DbQuery
from fuseboard.backends._sqlite_bounds import LARGEST_VALUE, MOST_WORDS, views_words, words
from fuseboard.backends._sqlite_migrations import statements
from fuseboard.backends.db import Sqlite
from tables import migrations
from test_sqlite import NOTES, Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LATEST_SECONDS: Final = 0.1
DIGITS: Final = "1" * (MIB - 8)
LETTERS: Final = "a" * (MIB - 8)


def listed(*columns: str, times: int) -> str:
    return ", ".join(columns * times)


def chained(body: str, times: int = 22) -> str:
    """Return a statement whose common tables each name the one before, as often as `body` does."""
    tables = (f"c{number} AS (SELECT {body.format(before=f'c{number - 1}')} AS a)" for number in range(1, times))
    return f"WITH c0 AS (SELECT 1 AS a), {', '.join(tables)} SELECT a FROM c{times - 1}"


COMPUTING: Final = {
    "results": f"SELECT {listed('$1', times=200)}",
    "sums of a parameter": f"SELECT {listed('+'.join(['id', *['$1'] * 30]), times=100)} FROM (SELECT 1 AS id)",
    "sums of a column": f"SELECT {listed('+'.join(['a'] * 30), times=100)} FROM "
    "(SELECT $1 AS a FROM notes UNION ALL SELECT $1 LIMIT 1)",
    "texts put together": f"SELECT {listed('length($1 || id)', times=150)} FROM (SELECT 1 AS id)",
    "long patterns": "SELECT " + listed(f"$1 LIKE '%{'1' * 47}b'", times=32),
    "checks": "INSERT INTO checked (a) SELECT $1",
}
COMPILING: Final = {
    "scalars": chained("(SELECT a FROM {before}) + (SELECT a FROM {before})"),
    "joins": chained("x.a FROM {before} AS x, {before} AS y LIMIT 5; --").replace("; -- AS a", ""),
    "quoted names": chained("(SELECT a FROM [{before}]) + (SELECT a FROM `{before}`)"),
    "many": chained("+".join(["(SELECT a FROM {before})"] * 60), times=5),
    "one name": "WITH c AS (WITH c AS (SELECT 1 AS a) SELECT x.a FROM c x, c y) SELECT a FROM c",
    "comments": chained("(SELECT a FROM {before}) + (SELECT a FROM {before})").replace("AS (", "AS/**/--(\n("),
    "columns": chained("(SELECT a FROM {before}) + (SELECT a FROM {before})").replace(
        " AS (", "(a) AS NOT MATERIALIZED ("
    ),
}
CHECKS: Final = "CREATE TABLE checked (a TEXT, CHECK (" + " AND ".join(["upper(a) <> 'x'"] * 100) + "));"
"""A table whose conditions SQLite computes in a row."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A folder with nothing but tables."""
    with Store(tmp_path / "data") as made:
        made.prepare("blog", migrations(NOTES, CHECKS))
        yield made


@pytest.mark.parametrize("name", COMPUTING)
def test_what_computes_much_may_hold_less(store: Store, name: str) -> None:
    """It ends soon after its deadline, whatever it is answered; with small values it runs."""
    session, late = store.open(), []
    kind = DbExec if name == "checks" else DbQuery
    for _ in range(3):
        deadline = soon(0.005)
        with pytest.raises(BackendError):
            session.answer(kind(COMPUTING[name], (DIGITS,)), deadline)
        late.append(time.monotonic() - deadline)
    assert min(late) < LATEST_SECONDS, late
    session.rollback()
    session = store.open()
    session.answer(kind(COMPUTING[name], ("1",)), soon())
    session.rollback()


@pytest.mark.parametrize("name", COMPILING)
def test_what_is_written_out_may_not_be_long(store: Store, name: str) -> None:
    """Common tables that name each other are counted as SQLite writes them out."""
    session, began = store.open(), time.monotonic()
    for kind in (DbQuery, DbExec):
        error = Db(session).refusal(kind(COMPILING[name]))
        assert (error.code, "written out" in error.reason) == (AnswerCode.TOO_LARGE, True), error.reason
    assert time.monotonic() - began < 1
    session.rollback()


VIEWS: Final = "CREATE VIEW v0 AS SELECT 1 AS a;" + "".join(
    f"CREATE VIEW v{number} AS SELECT x.a FROM v{number - 1} AS x, v{number - 1} AS y;" for number in range(1, 22)
)
TRIGGERS: Final = "".join(
    f"CREATE TRIGGER t{number} AFTER INSERT ON notes BEGIN {'UPDATE notes SET id = id + 0 + 0 + 0;' * 100} END;"
    for number in range(30)
)


@pytest.mark.parametrize("sql", [VIEWS, "".join(reversed([f"{s};" for s in VIEWS.split(";") if s])), TRIGGERS])
def test_views_and_triggers_may_not_be_long(store: Store, sql: str) -> None:
    """Migrations that make them so are refused, in whichever order."""
    with pytest.raises(BackendError, match="written out"):
        store.prepare("blog", migrations(NOTES, CHECKS, sql))


def test_statements_count_what_views_have(store: Store) -> None:
    """A view that is long in itself can't be named many times."""
    view = f"CREATE VIEW v AS SELECT {'+'.join(['1'] * 100)} AS a"
    store.prepare("blog", migrations(NOTES, CHECKS, view))
    session = Db(store.open())
    assert session.rows("SELECT a FROM v") == [(100,)]
    assert session.refusal(DbQuery(f"SELECT {listed('(SELECT a FROM V)', times=120)}")).code == AnswerCode.TOO_LARGE
    session.rollback()


def test_connections_notice_what_another_changed(store: Store) -> None:
    """A view of a newer version counts on connections that were opened before it, in whatever process it was made."""
    first, second = Db(store.open()), Db(store.open())
    for session in (first, second):
        session.rows("SELECT 1")
    for session in (first, second):
        session.rollback()
    view = f"CREATE VIEW v AS SELECT {'+'.join(['1'] * 100)} AS a"
    with Sqlite(store.folder) as other:
        other.prepare("blog", migrations(NOTES, CHECKS, view))
    for session in (Db(store.open()), Db(store.open())):
        sql = f"SELECT {listed('(SELECT a FROM v)', times=120)}"
        assert session.refusal(DbQuery(sql)).code == AnswerCode.TOO_LARGE


def test_usual_statements_hold_the_largest_values(store: Store) -> None:
    """Rows of the largest size are written, read and compared, with the functions that are usual."""
    text = "a" * (LARGEST_VALUE - 100)
    session = Db(store.open())
    session.exec("INSERT INTO notes (id, text) VALUES ($1, $2)", 1, text)
    session.exec("UPDATE notes SET text = $2 WHERE id = $1 AND text <> $2", 1, text[1:])
    session.exec("INSERT INTO notes (id, text) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET text = $2", 1, text)
    assert session.rows("SELECT n.id, n.text FROM notes n JOIN notes m ON n.id = m.id ORDER BY n.id DESC LIMIT 9")
    assert session.rows("WITH w AS (SELECT * FROM notes) SELECT id FROM w WHERE lower(text) = lower($1)", text) == [
        (1,)
    ]
    values = ", ".join(f"(${2 * place + 1}, ${2 * place + 2})" for place in range(500))
    parameters = [value for place in range(500) for value in (place + 2, text if place == 7 else "b")]
    assert session.exec(f"INSERT INTO notes (id, text) VALUES {values}", *parameters) == 500
    session.rollback()


def test_texts_of_128_kib_are_searched(store: Store) -> None:
    """What LIKE looks through may be that long, with the longest pattern; what is longer is TOO_LARGE."""
    session = Db(store.open())
    for size in (MIB // 8, MIB // 4):
        session.exec("INSERT INTO notes (text) VALUES ($1)", "a" * size)
        if size == MIB // 8:
            assert session.rows("SELECT id FROM notes WHERE text LIKE $1", f"%{'a' * 48}%") == [(1,)]
    assert session.refusal(DbQuery("SELECT id FROM notes WHERE text LIKE '%b%'")).code == AnswerCode.TOO_LARGE
    session.rollback()


def test_generated_columns_are_no_common_tables(store: Store) -> None:
    """Two of them, which have `AS (...)` behind the same word, are a table like any other."""
    table = "CREATE TABLE g (a INT, b INT AS (a + 1), c INT AS (a + 2))"
    store.prepare("blog", migrations(NOTES, CHECKS, table))
    session = Db(store.open())
    session.exec("INSERT INTO g (a) VALUES (1)")
    assert session.rows("SELECT * FROM g") == [(1, 2, 3)]
    session.rollback()


def test_words_of_views_that_name_each_other_are_counted_once() -> None:
    """A circle, which SQLite refuses, has a number too; too many views have too many words."""
    assert views_words({"A": "CREATE VIEW A AS SELECT * FROM b", "b": "SELECT * FROM a"}).keys() == {"a", "b"}
    assert min(views_words({str(number): "SELECT 1" for number in range(200)}).values()) > MOST_WORDS
    assert words("SELECT a FROM v", {"v": 5}) == 8


def test_semicolons_do_not_take_their_square() -> None:
    """A text of semicolons is read in no time, and a trigger with too many is refused."""
    began = time.monotonic()
    assert list(statements(f"SELECT '{';' * MIB}' /* ; */ -- ;\n")) == [f"SELECT '{';' * MIB}' /* ; */ -- ;\n"]
    with pytest.raises(BackendError, match="semicolons"):
        list(statements(f"CREATE TRIGGER t AFTER INSERT ON notes BEGIN {'SELECT 1;' * 200_000}"))
    assert time.monotonic() - began < 2
