"""SQLite files: one commit for rows and keys, whose file it is, what is out of reach, migrations, connections, faults.

Rules:
* What all databases have in common is tested by `test_db_contract`, and what is of the end of a process by
  `test_sqlite_killed`.
* Time is real here, as SQLite's own waiting is the subject.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from db_contract import ENDLESS, soon
from fuseboard._errors import BackendError
from fuseboard._grants import Grants
from fuseboard.backends import (
    AnswerCode,
    DbExec,
    DbQuery,
    Identity,
    KvDelete,
    KvGet,
    KvIncrement,
    KvNumber,
    KvSet,
    KvValue,
)
from fuseboard.backends.db import Sqlite
from tables import migrations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuseboard.backends import HostCall
    from fuseboard.backends._sqlite_session import SqliteSession

MIB = 1 << 20
NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);"
BAD, CONFLICT, FAILED, TOO_LARGE = (
    AnswerCode.BAD_REQUEST,
    AnswerCode.CONFLICT,
    AnswerCode.BACKEND_FAILED,
    AnswerCode.TOO_LARGE,
)


class Store(Sqlite):
    """A folder of files with shorter words for tests; `blog` and `shop` have a table `notes`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.folder = folder
        for plugin in ("blog", "shop"):
            self.prepare(plugin, migrations(NOTES))

    def open(
        self, plugin: str = "blog", scope: str | None = None, db: Literal["read", "write"] = "write"
    ) -> SqliteSession:
        grants = Grants(db=db, kv=True)
        return self.session(Identity(plugin=plugin, hook="any", scope=scope, request_id="r", grants=grants))

    def write(self, *calls: HostCall, plugin: str = "blog", scope: str | None = None) -> None:
        """Do these in one session, and commit."""
        session = self.open(plugin, scope)
        for call in calls:
            session.answer(call, soon())
        session.commit(soon())

    def texts(self) -> list[str]:
        return [text for (text,) in self.rows("blog", "SELECT text FROM notes ORDER BY id")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A folder with nothing but tables."""
    with Store(tmp_path / "data") as made:
        yield made


def insert(text: str) -> DbExec:
    return DbExec("INSERT INTO notes (text) VALUES ($1)", (text,))


def get(session: SqliteSession, key: bytes) -> bytes | None:
    answer = session.answer(KvGet(key), soon())
    assert isinstance(answer, KvValue)
    return answer.value


def increment(session: SqliteSession, key: bytes, deadline: float | None = None) -> int:
    answer = session.answer(KvIncrement(key, 1), deadline or soon())
    assert isinstance(answer, KvNumber)
    return answer.number


def refusal(session: SqliteSession, call: HostCall, deadline: float | None = None) -> BackendError:
    with pytest.raises(BackendError) as caught:
        session.answer(call, deadline or soon())
    return caught.value


def handles(folder: Path) -> int:
    """Return how many of this process's file handles lead into a folder."""
    links = Path("/proc/self/fd")
    return sum(str(link.readlink()).startswith(f"{folder}{os.sep}") for link in links.iterdir() if link.is_symlink())


# ── one commit ───────────────────────────────────────────────────────────────────────────────────


def test_rows_and_keys_are_committed_as_one(store: Store) -> None:
    """What one session wrote to both is seen by others only after its commit, all of it."""
    session = store.open()
    session.answer(insert("a"), soon())
    session.answer(KvSet(b"k", b"1"), soon())
    assert (get(session, b"k"), get(store.open(), b"k"), store.items("shop")) == (b"1", None, {})
    session.commit(soon())
    assert (store.texts(), store.items("blog")) == (["a"], {b"k": b"1"})


def test_a_rollback_leaves_neither(store: Store) -> None:
    """Rows and keys of a session that is rolled back are gone, and so is what it removed."""
    store.write(insert("a"), KvSet(b"k", b"1"), KvSet(b"n", b"5"))
    session = store.open()
    session.answer(DbExec("DELETE FROM notes"), soon())
    session.answer(KvDelete(b"k"), soon())
    assert increment(session, b"n") == 6
    session.rollback()
    assert (store.texts(), store.items("blog")) == (["a"], {b"k": b"1", b"n": b"5"})


def test_a_failing_commit_leaves_neither(tmp_path: Path) -> None:
    """Where rows can't be committed, the keys aren't either."""
    with Store(tmp_path / "data") as store:
        store.rows("blog", "CREATE TABLE child (note REFERENCES notes (id) DEFERRABLE INITIALLY DEFERRED)")
        session = store.open()
        session.answer(KvSet(b"k", b"1"), soon())
        session.answer(DbExec("INSERT INTO child VALUES (99)"), soon())
        with pytest.raises(BackendError, match="FOREIGN KEY"):
            session.commit(soon())
        session.rollback()
        assert (store.items("blog"), store.rows("blog", "SELECT * FROM child")) == ({}, [])


def test_no_room_for_keys_undoes_the_rows(tmp_path: Path) -> None:
    """Where others have filled the room for keys meanwhile, the commit is TOO_LARGE, and nothing is written."""
    with Store(tmp_path / "data", max_kv_bytes=100) as store:
        session = store.open()
        session.answer(KvSet(b"k", b"x" * 60), soon())
        store.write(KvSet(b"other", b"x" * 60))
        session.answer(insert("a"), soon())
        with pytest.raises(BackendError) as caught:
            session.commit(soon())
        assert caught.value.code == TOO_LARGE
        assert (store.texts(), list(store.items("blog"))) == ([], [b"other"])


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT OR ROLLBACK INTO notes (id) VALUES (1)",
        f"INSERT INTO notes (text) {ENDLESS}",
    ],
    ids=["or rollback", "interrupted"],
)
def test_a_transaction_that_ended_early_takes_the_keys_along(store: Store, sql: str) -> None:
    """After an error that made SQLite end the transaction, nothing is written any more, and the commit is refused."""
    store.write(DbExec("INSERT INTO notes (id, text) VALUES (1, 'first')"))
    session = store.open()
    session.answer(KvSet(b"k", b"1"), soon())
    session.answer(insert("a"), soon())
    refusal(session, DbExec(sql), soon(0.1))
    assert {refusal(session, call).code for call in (insert("b"), KvSet(b"l", b"1"), KvGet(b"k"))} == {CONFLICT}
    with pytest.raises(BackendError, match="undid"):
        session.commit(soon())
    assert (store.texts(), store.items("blog")) == (["first"], {})


# ── conflicts ────────────────────────────────────────────────────────────────────────────────────


def test_keys_do_not_conflict_with_readers_of_rows(store: Store) -> None:
    """Who has read rows and sets a key commits, though others have set keys and rows since."""
    session = store.open()
    session.answer(DbQuery("SELECT * FROM notes"), soon())
    session.answer(KvSet(b"k", b"mine"), soon())
    store.write(insert("a"), KvSet(b"k", b"other"), KvSet(b"l", b"other"))
    session.commit(soon())
    assert store.items("blog") == {b"k": b"mine", b"l": b"other"}


def test_a_stale_reader_who_writes_has_a_conflict_and_holds_nothing(store: Store) -> None:
    """Its write, and its increment, are CONFLICTs; others write meanwhile, and what it reads is still one state."""
    session = store.open()
    assert session.answer(DbQuery("SELECT count(*) FROM notes"), soon()).rows == ((0,),)  # type: ignore[union-attr]
    store.write(insert("a"))
    assert refusal(session, insert("b")).code == CONFLICT
    assert refusal(session, KvIncrement(b"n", 1)).code == CONFLICT
    store.write(insert("c"))
    assert session.answer(DbQuery("SELECT count(*) FROM notes"), soon()).rows == ((0,),)  # type: ignore[union-attr]
    session.commit(soon())
    assert store.texts() == ["a", "c"]


def test_increments_on_threads_are_distinct(store: Store) -> None:
    """Increments of committing sessions on 8 threads get different numbers, without a gap."""

    def once(_: int) -> int:
        session = store.open()
        number = increment(session, b"n")
        session.commit(soon())
        return number

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(once, range(200))) == list(range(1, 201))


INCREMENTING = """
import sys, time
from fuseboard import Grants
from fuseboard.backends import Identity, KvIncrement
from fuseboard.backends.db import Sqlite

with Sqlite(sys.argv[1]) as store:
    for _ in range(100):
        session = store.session(Identity("blog", "any", None, "r", Grants(db="write", kv=True)))
        print(session.answer(KvIncrement(b"n", 1), time.monotonic() + 60).number)
        session.commit(time.monotonic() + 60)
"""


def test_increments_in_processes_are_distinct(store: Store, tmp_path: Path) -> None:
    """Increments of three processes at once get different numbers, without a gap."""
    command = [sys.executable, "-c", INCREMENTING, str(tmp_path / "data")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    numbers = [int(line) for process in processes for line in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(numbers) == list(range(1, 301))
    assert store.items("blog") == {b"n": b"300"}


# ── keys and values ──────────────────────────────────────────────────────────────────────────────


def test_keys_that_expire(store: Store) -> None:
    """A key whose time is over isn't there; a plain set ends an expiry, an increment keeps it."""
    later = time.time() + 3600
    calls = [KvSet(key, b"1", 3600) for key in (b"gone", b"stays", b"counted", b"deleted")]
    store.write(*calls, KvSet(b"stays", b"2"), KvIncrement(b"counted", 1), KvDelete(b"deleted"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: later + 10)
        session = store.open()
        keys = (b"gone", b"stays", b"counted", b"deleted")
        assert [get(session, key) for key in keys] == [None, b"2", None, None]
        assert increment(session, b"counted") == 1
        session.rollback()
        assert store.items("blog") == {b"stays": b"2"}
        store.write(KvSet(b"new", b"1"))
    assert store.rows("blog", "SELECT key FROM fuseboard_kv ORDER BY key") == [(b"new",), (b"stays",)]


def test_a_key_expires_within_its_session_too(store: Store) -> None:
    """What a session has set itself isn't there any more when its time is over."""
    session = store.open()
    session.answer(KvSet(b"k", b"1", 5), soon())
    now = time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now + 10)
        assert get(session, b"k") is None
        assert increment(session, b"k") == 1


@pytest.mark.parametrize(
    "call",
    [
        KvGet(b"k" * 1025),
        KvSet(b"k" * 1025, b""),
        KvDelete(b"k" * 1025),
        KvIncrement(b"k" * 1025, 1),
        KvSet(b"k", b"x" * (MIB + 1)),
    ],
    ids=["get", "set", "delete", "increment", "value"],
)
def test_keys_and_values_are_capped(store: Store, call: HostCall) -> None:
    """Keys over 1 KiB and values over 1 MiB are TOO_LARGE."""
    assert refusal(store.open(), call).code == TOO_LARGE


def test_largest_key_and_value_are_kept(store: Store) -> None:
    """A key of 1 KiB with a value of 1 MiB comes back whole."""
    store.write(KvSet(b"k" * 1024, b"\xff" * MIB))
    assert get(store.open(), b"k" * 1024) == b"\xff" * MIB


def test_all_keys_together_are_capped(tmp_path: Path) -> None:
    """A set that doesn't fit any more is TOO_LARGE; what is written over, removed or over makes room."""
    with Store(tmp_path / "data", max_kv_bytes=1000) as store:
        store.write(KvSet(b"a", b"x" * 499), KvSet(b"b", b"x" * 399, 1000))
        session = store.open()
        assert refusal(session, KvSet(b"c", b"x" * 100)).code == TOO_LARGE
        session.answer(KvSet(b"a", b"x" * 550), soon())
        assert refusal(session, KvSet(b"c", b"x" * 100)).code == TOO_LARGE
        session.answer(KvDelete(b"a"), soon())
        session.answer(KvSet(b"c", b"x" * 500), soon())
        session.commit(soon())
        later = time.time() + 2000
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: later)
            store.write(KvSet(b"d", b"x" * 498))
        assert set(store.items("blog")) == {b"c", b"d"}
        assert store.rows("blog", "SELECT total FROM fuseboard_kv_bytes") == [(1000,)]


def test_deletes_fit_where_nothing_else_does(tmp_path: Path) -> None:
    """Where the caps were lowered below what is kept, keys can still be removed."""
    with Store(tmp_path / "data") as store:
        store.write(KvSet(b"a", b"x" * 500), KvSet(b"b", b"x" * 500))
    with Store(tmp_path / "data", max_kv_bytes=100) as store:
        store.write(KvDelete(b"a"))
        assert list(store.items("blog")) == [b"b"]
