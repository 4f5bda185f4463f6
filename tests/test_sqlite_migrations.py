"""SQLite files: a plugin's migrations in all of its files, and what is answered where a file can't be used.

Rule: what goes wrong is told to the operator with the path, and to the guest without.
"""

from __future__ import annotations

import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from db_contract import soon
from fuseboard._errors import BackendError
from fuseboard.backends import AnswerCode, DbExec, DbQuery, KvGet, KvSet
from fuseboard.backends.db import Sqlite
from tables import migrations
from test_sqlite import NOTES, Store, handles, insert, refusal
from test_sqlite_files import path_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAILED, TOO_LARGE = AnswerCode.BACKEND_FAILED, AnswerCode.TOO_LARGE


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A folder with nothing but tables."""
    with Store(tmp_path / "data") as made:
        yield made


# ── migrations ───────────────────────────────────────────────────────────────────────────────────

TAGS = "-- a comment; with a semicolon\nCREATE TABLE tags (name TEXT); INSERT INTO tags VALUES ('a;b');"
TRIGGER = "CREATE TRIGGER t AFTER INSERT ON notes BEGIN INSERT INTO tags VALUES (NEW.text); END"


def test_migrations_reach_all_files(store: Store) -> None:
    """Files that are there have them at once, those that come have them from the start, each of them once."""
    store.write(insert("a"))
    store.write(insert("b"), scope="site-1")
    for _ in range(2):
        store.prepare("blog", migrations(NOTES, TAGS, TRIGGER))
        store.prepare("blog", ())
    for scope in (None, "site-1", "new"):
        store.write(insert("c"), scope=scope)
        assert store.rows("blog", "SELECT name FROM tags", scope=scope) == [("a;b",), ("c",)]
    assert store.rows("shop", "SELECT name FROM sqlite_schema WHERE name = 'tags'") == []
    assert store.rows("blog", "SELECT number, name FROM fuseboard_migrations") == [
        (1, "step"),
        (2, "step"),
        (3, "step"),
    ]


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ((NOTES, "CREATE TABLE a (b); SELEC 1;"), r"migration 0002_step\.sql: near"),
        ((NOTES, "INSERT INTO notes (id) VALUES (1);"), r"migration 0002_step\.sql: UNIQUE"),
        ((NOTES + " ",), r"migration 0001_step\.sql was changed after it was applied"),
    ],
    ids=["syntax", "data", "changed"],
)
def test_a_migration_that_fails_changes_nothing(store: Store, texts: tuple[str, ...], problem: str) -> None:
    """Its name is told, no part of it stays, and what is there goes on as before."""
    store.write(DbExec("INSERT INTO notes (id, text) VALUES (1, 'a')"))
    before = store.rows("blog", "SELECT * FROM sqlite_schema")
    with pytest.raises(BackendError, match=problem):
        store.prepare("blog", migrations(*texts))
    assert store.rows("blog", "SELECT * FROM sqlite_schema") == before
    store.write(insert("b"))
    store.write(insert("c"), scope="new")
    assert store.texts() == ["a", "b"]


def test_an_older_version_is_refused_by_newer_data(store: Store) -> None:
    """A plugin with fewer migrations than were applied isn't loaded."""
    store.prepare("blog", migrations(NOTES, TAGS))
    store.write(insert("a"))
    with pytest.raises(BackendError, match="load the newer version"):
        store.prepare("blog", migrations(NOTES))


def test_files_made_while_a_plugin_is_loaded_have_its_migrations(store: Store) -> None:
    """Sessions that open files on threads, while migrations come, never meet a file without them."""
    texts = [NOTES]

    def use(scope: int) -> None:
        store.write(insert("a"), scope=str(scope))

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(use, scope) for scope in range(60)]
        for number in range(10):
            texts.append(f"CREATE TABLE t{number} (a)")
            store.prepare("blog", migrations(*texts))
        for job in jobs:
            job.result(30)
    for scope in range(60):
        assert store.rows("blog", "SELECT count(*) FROM fuseboard_migrations", scope=str(scope)) == [(11,)]


# ── faults ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("content", [b"rubbish " * 1000, b"SQLite format 3\0" + b"\xff" * 8000], ids=["text", "header"])
def test_a_file_that_is_none_is_an_answer(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """The guest isn't told the path, the operator is; other files go on, and no handle is left."""
    path = path_of(tmp_path)
    path.write_bytes(content)
    with caplog.at_level(logging.ERROR, "fuseboard"):
        for call in (KvGet(b"k"), DbQuery("SELECT 1"), insert("a")):
            error = refusal(store.open(), call)
            assert (error.code, str(tmp_path) in error.reason) == (FAILED, False)
    assert str(path) in caplog.text
    store.write(insert("a"), plugin="shop")
    store.close()
    assert handles(tmp_path / "data") == 0


def test_a_page_that_is_spoilt_is_an_answer(store: Store, tmp_path: Path) -> None:
    """A query that meets it is answered BACKEND_FAILED, and its connection isn't used again."""
    for number in range(200):
        store.write(insert(f"{number}" * 500))
    store.close()
    path = path_of(tmp_path)
    content = bytearray(path.read_bytes())
    content[-20 * 4096 : -10 * 4096] = b"\xff" * (10 * 4096)
    path.write_bytes(content)
    with Sqlite(tmp_path / "data") as again:
        session = Store.open(again)  # type: ignore[arg-type]
        assert refusal(session, DbQuery("SELECT sum(length(text)) FROM notes")).code == FAILED
        session.rollback()
        assert handles(tmp_path / "data") == 0


def test_a_full_file_is_too_large(tmp_path: Path) -> None:
    """Rows and keys that don't fit `max_bytes` are TOO_LARGE, and the file goes on where it was."""
    with Store(tmp_path / "data", max_bytes=1 << 20) as store:
        store.write(insert("first"))
        session = store.open()
        session.answer(insert("x" * 500_000), soon())
        assert refusal(session, insert("x" * 600_000)).code == TOO_LARGE
        session.rollback()
        session = store.open()
        session.answer(KvSet(b"a", b"x" * 900_000), soon())
        session.answer(KvSet(b"b", b"x" * 900_000), soon())
        with pytest.raises(BackendError) as caught:
            session.commit(soon())
        assert caught.value.code == TOO_LARGE
        store.write(insert("second"))
        assert (store.texts(), store.items("blog")) == (["first", "second"], {})


def test_a_folder_that_is_gone_is_an_answer(store: Store, tmp_path: Path) -> None:
    """Where no file can be made, calls are answered BACKEND_FAILED; it is used again when it is back."""
    (tmp_path / "data").rmdir()
    assert refusal(store.open(), insert("a")).code == FAILED
    (tmp_path / "data").mkdir(0o700)
    store.write(insert("a"))
    assert store.texts() == ["a"]


def test_a_newer_format_is_refused(store: Store, tmp_path: Path) -> None:
    """A file of a later version of Fuseboard's isn't touched."""
    store.write(insert("a"))
    store.close()
    with closing(sqlite3.connect(path_of(tmp_path))) as plain:
        plain.execute("PRAGMA user_version = 99")
    with Sqlite(tmp_path / "data") as again:
        assert "newer version" in refusal(Store.open(again), KvGet(b"k")).reason  # type: ignore[arg-type]
