"""Fork where SQLite files are open; a script with a scenario for each name, like `forks.py`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from db_contract import ENDLESS, soon
from fuseboard import BackendTimeout
from fuseboard.backends import AnswerCode, DbQuery, KvGet, KvIncrement
from sites import exit_status, forked, perform, repeating
from test_sqlite import Store, handles, insert, refusal


@contextmanager
def opened() -> Iterator[tuple[Store, Path]]:
    """Give a folder with files that were used; a child that leaves from here removes nothing."""
    folder, owner = mkdtemp(), os.getpid()
    store = Store(Path(folder) / "data")
    try:
        for plugin in ("blog", "shop"):
            store.write(KvIncrement(b"n", 1), plugin=plugin)
        assert handles(store.folder) > 0
        yield store, store.folder
    finally:
        if os.getpid() == owner:
            store.close()
            rmtree(folder)


def beside_each_other() -> None:
    """Children have no handle of their parent's and open their own; nobody's increment is lost, and no row."""
    with opened() as (store, folder):

        def child() -> None:
            assert handles(folder) == 0
            assert isinstance(refusal(store.open(), DbQuery(ENDLESS), soon(0.1)), BackendTimeout)
            for _ in range(50):
                store.write(KvIncrement(b"n", 1), insert("child"))

        children = [forked(child) for _ in range(3)]
        for _ in range(50):
            store.write(KvIncrement(b"n", 1), insert("parent"))
        assert [exit_status(pid) for pid in children] == [0, 0, 0]
        assert store.items("blog") == {b"n": b"201"}
        assert len(store.texts()) == 200
        assert store.rows("blog", "PRAGMA integrity_check") == [("ok",)]


def in_use() -> None:
    """A child leaves alone the file that a session was using, and says so; it uses others; the session goes on."""
    with opened() as (store, _):
        session = store.open()
        session.answer(insert("a"), soon())

        def child() -> None:
            assert "forked" in refusal(store.open(), KvGet(b"n")).reason
            assert refusal(session, insert("child")).code == AnswerCode.BACKEND_FAILED
            session.rollback()
            store.write(insert("child"), plugin="shop")

        assert exit_status(forked(child, sys.exit)) == 0
        session.answer(insert("b"), soon())
        session.commit(soon())
        assert store.texts() == ["a", "b"]
        assert store.rows("shop", "SELECT text FROM notes") == [("child",)]


def beside_threads() -> None:
    """Where threads are writing at the fork, the child uses another file at once, and they lose nothing."""
    with opened() as (store, _):

        def child() -> None:
            store.write(KvIncrement(b"n", 1), plugin="shop")

        written: list[int] = []

        def write() -> None:
            store.write(KvIncrement(b"n", 1))
            written.append(1)

        with repeating(write):
            children = [forked(child) for _ in range(20)]
        assert [exit_status(pid) for pid in children] == [0] * 20
        assert store.items("blog") == {b"n": b"%d" % (len(written) + 1)}
        assert store.items("shop") == {b"n": b"21"}


if __name__ == "__main__":
    perform(beside_each_other, in_use, beside_threads)
