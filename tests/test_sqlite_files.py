"""SQLite files from outside: the folder, the connections, migrations, faults, and what the operator does.

Rule: what an invocation does with a file is tested by `test_sqlite`.
"""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from db_contract import ENDLESS, Db, soon
from fuseboard._errors import BackendError, BackendTimeout, UsageError
from fuseboard.backends import AnswerCode, DbExec, DbQuery, KvGet, KvSet
from fuseboard.backends._sqlite import Guard
from fuseboard.backends._sqlite_files import file_name
from fuseboard.backends.db import Sqlite
from test_sqlite import Store, get, handles, insert, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAILED, TOO_LARGE = AnswerCode.BACKEND_FAILED, AnswerCode.TOO_LARGE


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A folder with nothing but tables."""
    with Store(tmp_path / "data") as made:
        yield made


def path_of(folder: Path) -> Path:
    return folder / "data" / file_name("blog", None)


# ── the folder ───────────────────────────────────────────────────────────────────────────────────


def test_the_folder_is_made_for_its_user_alone(tmp_path: Path) -> None:
    """It is made with those above it, and nobody else may look into it."""
    Sqlite(tmp_path / "a" / "b").close()
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["open to others", "a file", "a link"])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, kind: str) -> None:
    """So is what is no folder, or a link to one."""
    place = tmp_path / "data"
    match kind:
        case "open to others":
            place.mkdir()
            place.chmod(0o755)
        case "a file":
            place.touch()
        case "a link":
            (tmp_path / "other").mkdir(0o700)
            place.symlink_to(tmp_path / "other")
    with pytest.raises(UsageError, match="can't be used"):
        Sqlite(place)


@pytest.mark.parametrize(
    "setting",
    [
        {"max_bytes": 0},
        {"max_bytes": 1.5},
        {"max_key_bytes": 0},
        {"max_value_bytes": -1},
        {"max_kv_bytes": True},
        {"max_connections": 0},
        {"survives_power_loss": 1},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(tmp_path: Path, setting: dict[str, Any]) -> None:
    """The argument is named, and no folder is made."""
    with pytest.raises(UsageError, match=next(iter(setting))):
        Sqlite(tmp_path / "data", **setting)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("survives", "level"), [(False, 1), (True, 2)])
def test_how_much_a_commit_outlives(tmp_path: Path, *, survives: bool, level: int) -> None:
    """Files have a write-ahead log, and a commit waits for the disk where that is asked for."""
    with Store(tmp_path / "data", survives_power_loss=survives) as store:
        assert store.rows("blog", "PRAGMA journal_mode") == [("wal",)]
        assert store.rows("blog", "PRAGMA synchronous") == [(level,)]


def test_a_session_makes_no_file_before_its_first_call(store: Store, tmp_path: Path) -> None:
    """To open a session and end it does nothing outside of memory."""
    store.open().commit(soon())
    store.open().rollback()
    assert list((tmp_path / "data").iterdir()) == []


# ── connections ──────────────────────────────────────────────────────────────────────────────────


def test_handles_are_bounded_however_many_scopes_there_are(tmp_path: Path) -> None:
    """200 scopes with four connections keep no more than 12 handles open, and lose nothing; none after closing."""
    store = Store(tmp_path / "data", max_connections=4)
    for scope in map(str, range(200)):
        store.write(insert(scope), KvSet(b"k", scope.encode()), scope=scope)
        assert handles(tmp_path / "data") <= 12
    assert sorted(store.scopes("blog"), key=str) == sorted(map(str, range(200)))
    assert all(store.items("blog", scope=str(number)) == {b"k": b"%d" % number} for number in range(0, 200, 20))
    store.close()
    assert handles(tmp_path / "data") == 0


def test_a_connection_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    """Where all are lent, a session waits, until 20 ms after its deadline at the best of five, or until one is back."""
    with Store(tmp_path / "data", max_connections=1) as store:
        holder, late = store.open(), []
        holder.answer(insert("a"), soon())
        for _ in range(5):
            deadline = soon(0.05)
            with pytest.raises(BackendTimeout, match="in use"):
                store.open("shop").answer(DbQuery("SELECT 1"), deadline)
            late.append(time.monotonic() - deadline)
        assert -0.005 < min(late) < 0.020, late
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(get, store.open("shop"), b"k")
            holder.commit(soon())
            assert waiting.result(10) is None


def test_a_session_that_is_given_up_stops_waiting(tmp_path: Path) -> None:
    """A rollback from another thread ends a call that waits for a connection, for a writer, or runs a statement."""
    with Store(tmp_path / "data", max_connections=2) as store, ThreadPoolExecutor(1) as pool:
        holder, other = store.open(), store.open("shop")
        holder.answer(insert("a"), soon())
        for call in (insert("b"), DbQuery(ENDLESS)):
            waiting = store.open() if isinstance(call, DbExec) else other
            running = pool.submit(waiting.answer, call, soon(60))
            with pytest.raises(TimeoutError):
                running.result(0.1)
            began = time.monotonic()
            waiting.rollback()
            assert isinstance(running.exception(10), BackendError)
            assert time.monotonic() - began < 1
        other = store.open("shop")
        other.answer(DbQuery("SELECT 1"), soon())
        third = store.open("shop", "site-1")
        running = pool.submit(third.answer, DbQuery("SELECT 1"), soon(60))
        with pytest.raises(TimeoutError):
            running.result(0.1)
        third.rollback()
        assert isinstance(running.exception(10), BackendError)
        holder.rollback()
        other.rollback()
        assert store.texts() == []


def test_a_statement_that_begins_after_it_was_given_up_does_not_run(store: Store) -> None:
    """Where a rollback comes just before a statement, that ends at once; the next session isn't concerned."""
    session = store.open()
    session.answer(DbQuery("SELECT 1"), soon())
    connection = session._connection
    assert connection is not None
    connection.give_up()  # as `rollback` does, before it waits for the call
    began = time.monotonic()
    assert isinstance(refusal(session, DbQuery(ENDLESS), soon(60)), BackendTimeout)
    assert time.monotonic() - began < 5
    session.rollback()
    session = store.open()
    assert Db(session).rows("SELECT 1") == [(1,)]
    assert session._connection is connection
    session.rollback()


def test_ctrl_c_while_a_function_is_looked_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite takes an exception of the authorizer's for a no; where that was Ctrl-C, it goes on as such."""

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    session = store.open()
    session.answer(DbQuery("SELECT 1"), soon())
    with monkeypatch.context() as patch:
        patch.setattr(Guard, "_may_call", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.answer(DbQuery("SELECT length('x')"), soon())
    assert Db(session).rows("SELECT length('x')") == [(1,)]
    session.rollback()


def test_closing_ends_what_is_left(store: Store, tmp_path: Path) -> None:
    """After `close` nothing is answered; what a session holds is closed with it."""
    session = store.open()
    session.answer(insert("a"), soon())
    store.close()
    assert "closed" in refusal(store.open("shop"), KvGet(b"k")).reason
    assert handles(tmp_path / "data") > 0
    session.rollback()
    assert handles(tmp_path / "data") == 0


def test_another_process_that_writes_is_waited_for(store: Store, tmp_path: Path) -> None:
    """A lock of another process is waited for until 20 ms after the deadline at the best of five; readers read."""
    store.write(insert("a"))
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE')"
    command = [sys.executable, "-c", f"{code}; print(); sys.stdin.read()", str(path_of(tmp_path))]
    late = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        for _ in range(5):
            deadline = soon(0.1)
            with pytest.raises(BackendTimeout, match="somebody else"):
                store.open().answer(insert("b"), deadline)
            late.append(time.monotonic() - deadline)
        assert -0.005 < min(late) < 0.020, late
        assert Db(store.open()).rows("SELECT text FROM notes") == [("a",)]
        process.communicate()
    store.write(insert("c"))
    assert store.texts() == ["a", "c"]


# ── the operator ─────────────────────────────────────────────────────────────────────────────────


def test_the_operator_reads_and_writes(store: Store) -> None:
    """`rows` runs what it is told, with parameters, and commits; its errors are SQLite's own."""
    assert store.rows("blog", "INSERT INTO notes (text) VALUES ($1) RETURNING id", ["a"]) == [(1,)]
    assert store.rows("blog", "SELECT $2, $1 FROM notes", [1, b"\xff"]) == [(b"\xff", 1)]
    with pytest.raises(sqlite3.Error, match="no such table"):
        store.rows("blog", "SELECT * FROM nowhere")
    store.rows("blog", "BEGIN")
    assert store.texts() == ["a"]


@pytest.mark.parametrize(
    "sql", ["PRAGMA foreign_keys = OFF", "CREATE TEMP TABLE notes AS SELECT 1", "ATTACH ':memory:' AS other"]
)
def test_what_the_operator_sets_is_no_guests(store: Store, sql: str) -> None:
    """A setting of `rows` ends with it: the next session has a connection on which nothing was changed."""
    store.rows("blog", "CREATE TABLE child (note REFERENCES notes (id))")
    store.rows("blog", sql)
    session = store.open()
    assert refusal(session, DbExec("INSERT INTO child VALUES (99)")).code == AnswerCode.CONFLICT
    assert Db(session).rows("SELECT text FROM notes") == []
    session.rollback()
    assert store.rows("blog", "SELECT name FROM pragma_database_list WHERE name NOT IN ('main', 'temp')") == []


def test_the_operator_copies_a_file(store: Store, tmp_path: Path) -> None:
    """`VACUUM INTO` makes a copy, with the largest values in it."""
    store.write(insert("a"), KvSet(b"k" * 1024, b"x" * (1 << 20)))
    copy = tmp_path / "copy.sqlite"
    store.rows("blog", f"VACUUM INTO '{copy}'")
    with closing(sqlite3.connect(copy)) as plain:
        assert plain.execute("SELECT text, length(value) FROM notes, fuseboard_kv").fetchall() == [("a", 1 << 20)]


def test_the_operator_waits_for_writers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rows` that write wait for the session that is writing, for 5 seconds at most; those that read don't."""
    monkeypatch.setattr("fuseboard.backends.db._PATIENCE_SECONDS", 0.1)
    session = store.open()
    session.answer(insert("a"), soon())
    assert (store.texts(), store.items("blog")) == ([], {})
    with pytest.raises(BackendTimeout, match="somebody else"):
        store.rows("blog", "DELETE FROM notes")
    session.commit(soon())
    assert store.texts() == ["a"]


def test_the_operator_removes_a_scope(store: Store, tmp_path: Path) -> None:
    """A file goes with its log, others stay; while a session uses it, it is refused; removing nothing is no error."""
    for scope in (None, "site-1"):
        store.write(insert("a"), KvSet(b"k", b"1"), scope=scope)
    session = store.open()
    session.answer(DbQuery("SELECT 1"), soon())
    with pytest.raises(BackendError, match="sessions are using"):
        store.delete("blog")
    session.rollback()
    for _ in range(2):
        store.delete("blog")
    assert store.scopes("blog") == ("site-1",)
    assert not [file for file in (tmp_path / "data").iterdir() if file.name.startswith(file_name("blog", None))]
    assert (store.texts(), store.items("blog"), store.items("blog", scope="site-1")) == ([], {}, {b"k": b"1"})
