"""Ways to reach another plugin's data, or the keys below a plugin's own rows, by SQL, migrations, scopes and keys.

Rules:
* Each is refused, and leaves everything as it was.
* Each would work without the protection: that is shown too, on a copy of the file that nobody guards.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import pytest

from db_contract import Db, soon
from fuseboard._errors import BackendError
from fuseboard._grants import Grants
from fuseboard.backends import AnswerCode, DbExec, DbQuery, Identity, KvGet, KvIncrement, KvSet, KvValue
from fuseboard.backends._sqlite_files import file_name
from fuseboard.backends._sqlite_migrations import statements
from fuseboard.backends.db import Sqlite
from tables import migrations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuseboard.backends._sqlite_session import SqliteSession

TABLES: Final = """
CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT);
CREATE TABLE keys (key BLOB, value BLOB, expires REAL);
"""
"""A plugin's tables; one is made like that of the keys, which SQLite copies without asking an authorizer."""


@dataclass(frozen=True, slots=True)
class Way:
    """One statement; `{other}` is the file of another plugin, `{new}` one that isn't there."""

    sql: str
    by: Literal["statement", "migration"] = "statement"
    first: str = ""
    """What the unguarded copy needs before."""


def migration(sql: str) -> Way:
    return Way(sql, "migration")


WAYS: Final = {
    # the keys, by a guest's statement
    "read the keys": Way("SELECT key, value FROM fuseboard_kv"),
    "read them by another case": Way('SELECT * FROM "FUSEBOARD_KV"'),
    "read them by the schema's name": Way("SELECT * FROM main.fuseboard_kv"),
    "count them": Way("SELECT count(*) FROM fuseboard_kv"),
    "ask whether one is there": Way("SELECT 1 WHERE EXISTS (SELECT 1 FROM fuseboard_kv WHERE key = x'6b')"),
    "join them": Way("SELECT * FROM notes JOIN fuseboard_kv"),
    "read them in a CTE": Way("WITH mine AS (SELECT * FROM fuseboard_kv) SELECT * FROM mine"),
    "copy them unasked": Way("INSERT INTO keys SELECT * FROM fuseboard_kv"),
    "copy them unasked by a string": Way("INSERT INTO keys SELECT * FROM 'fuseboard_kv'"),
    "copy them unasked by another case": Way("INSERT OR REPLACE INTO keys SELECT * FROM [Fuseboard_KV] AS other"),
    "give them back by RETURNING": Way(
        "INSERT INTO notes (text) VALUES ('x') RETURNING (SELECT hex(value) FROM fuseboard_kv)"
    ),
    "write a key": Way("INSERT INTO fuseboard_kv VALUES (x'00', x'00', NULL)"),
    "change a value": Way("UPDATE fuseboard_kv SET value = x'00'"),
    "remove the keys": Way("DELETE FROM fuseboard_kv"),
    "raise the room for keys": Way("UPDATE fuseboard_kv_bytes SET total = -1000000"),
    "forget the migrations": Way("DELETE FROM fuseboard_migrations"),
    "read whose file it is": Way("SELECT * FROM fuseboard_about"),
    "read the schema": Way("SELECT name, sql FROM sqlite_schema"),
    "read the schema by its old name": Way("SELECT sql FROM main.sqlite_master"),
    "list the tables": Way("SELECT * FROM pragma_table_list"),
    "list a table's columns": Way("SELECT * FROM pragma_table_info('fuseboard_kv')"),
    "count the pages": Way("SELECT * FROM dbstat"),
    "turn back the numbers": Way("UPDATE sqlite_sequence SET seq = 0"),
    # other files, by a guest's statement
    "attach another plugin's file": Way("ATTACH '{other}' AS other"),
    "attach it by a URI": Way("ATTACH 'file:{other}?mode=ro' AS other"),
    "copy the whole file": Way("VACUUM INTO '{new}'"),
    "make a file": Way("ATTACH '{new}' AS other"),
    "detach": Way("DETACH other", first="ATTACH ':memory:' AS other"),
    # the engine, by a guest's statement
    "see what isn't committed": Way("PRAGMA read_uncommitted = ON"),
    "write the schema": Way("PRAGMA writable_schema = ON"),
    "grow past the cap": Way("PRAGMA max_page_count = 1000000000"),
    "keep others out": Way("PRAGMA locking_mode = EXCLUSIVE"),
    "leave the log": Way("PRAGMA journal_mode = DELETE"),
    "put temporary files elsewhere": Way("PRAGMA temp_store_directory = '/'"),
    "begin": Way("BEGIN IMMEDIATE"),
    "commit early": Way("COMMIT", first="BEGIN"),
    "commit behind a comment": Way("/* SELECT */ -- SELECT\n COMMIT", first="BEGIN"),
    "undo early": Way("ROLLBACK", first="BEGIN"),
    "keep a savepoint": Way("SAVEPOINT s"),
    "keep a temporary table": Way("CREATE TEMP TABLE t AS SELECT 1"),
    "make a table": Way("CREATE TABLE mine (a)"),
    "drop the keys": Way("DROP TABLE fuseboard_kv"),
    # by a migration
    "copy the keys in a migration": migration("CREATE TABLE mine AS SELECT * FROM fuseboard_kv"),
    "copy them unasked in a migration": migration("INSERT INTO keys SELECT * FROM fuseboard_kv"),
    "lay a view over them": migration("CREATE VIEW a_view AS SELECT value FROM fuseboard_kv"),
    "lay in wait to copy them": migration(
        "CREATE TRIGGER t AFTER UPDATE ON notes BEGIN INSERT INTO keys SELECT * FROM fuseboard_kv; END"
    ),
    "lay in wait to remove them": migration(
        "CREATE TRIGGER t AFTER UPDATE ON keys BEGIN DELETE FROM fuseboard_kv; END"
    ),
    "tie a foreign key to them": migration("CREATE TABLE child (key REFERENCES fuseboard_kv (key) ON DELETE CASCADE)"),
    "copy the schema unasked": migration(
        "CREATE TABLE s (a TEXT, b TEXT, c TEXT, d INT, e TEXT); INSERT INTO s SELECT * FROM sqlite_schema"
    ),
    "insert into them in a migration": migration("INSERT INTO fuseboard_kv VALUES (x'00', x'00', NULL)"),
    "drop them in a migration": migration("DROP TABLE fuseboard_kv"),
    "rename them": migration("ALTER TABLE fuseboard_kv RENAME TO mine"),
    "rename a column of theirs": migration("ALTER TABLE fuseboard_kv RENAME COLUMN value TO worth"),
    "add a column to them": migration("ALTER TABLE fuseboard_kv ADD COLUMN mine"),
    "watch them by a trigger": migration(
        "CREATE TRIGGER t AFTER INSERT ON fuseboard_kv BEGIN INSERT INTO keys VALUES (NEW.key, NEW.value, 1); END"
    ),
    "stop them by an index": migration("CREATE UNIQUE INDEX i ON fuseboard_kv (length(value))"),
    "drop their trigger": migration("DROP TRIGGER fuseboard_kv_inserted"),
    "drop their index": migration("DROP INDEX fuseboard_kv_expires"),
    "take a name of ours": migration("CREATE TABLE fuseboard_more (a)"),
    "attach in a migration": migration("ATTACH '{other}' AS other"),
    "copy the file in a migration": migration("VACUUM INTO '{new}'"),
    "commit in a migration": Way("COMMIT", "migration", first="BEGIN"),
    "write the schema in a migration": migration("PRAGMA writable_schema = ON"),
    "a virtual table": migration("CREATE VIRTUAL TABLE t USING fts5(a)"),
    "a temporary trigger": migration("CREATE TEMP TRIGGER t AFTER INSERT ON notes BEGIN DELETE FROM keys; END"),
}


class Scene:
    """Two plugins' files; `blog` has a key, and `shop` a row that is nobody else's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "data"
        self.new = folder / "new.sqlite"
        self.store = Sqlite(self.folder)
        for plugin in ("blog", "shop"):
            self.store.prepare(plugin, migrations(TABLES))
        self.before = self.contents()
        for plugin in ("blog", "shop"):
            session = self.open(plugin)
            session.answer(KvSet(b"k", b"secret"), soon())
            session.answer(DbExec("INSERT INTO notes (text) VALUES ($1)", (plugin,)), soon())
            session.answer(DbExec("INSERT INTO keys VALUES (1, 1, 1)"), soon())
            session.commit(soon())
        self.before = self.contents()

    def open(self, plugin: str = "blog", scope: str | None = None) -> SqliteSession:
        grants = Grants(db="write", kv=True)
        return self.store.session(Identity(plugin=plugin, hook="any", scope=scope, request_id="r", grants=grants))

    def sql(self, way: Way) -> str:
        return way.sql.format(other=self.folder / file_name("shop", None), new=self.new)

    def contents(self) -> list[object]:
        """Return all that both files hold."""
        return [
            (name, self.store.rows(plugin, f"SELECT * FROM {name}"))
            for plugin in ("blog", "shop")
            for (name,) in [
                ("sqlite_schema",),
                *self.store.rows(plugin, "SELECT name FROM sqlite_schema WHERE type = 'table'"),
            ]
        ]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Two plugins with data."""
    made = Scene(tmp_path)
    yield made
    made.store.close()


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.by == "statement"])
def test_statements_that_reach_further_are_refused(scene: Scene, name: str) -> None:
    """Neither as a query nor as an exec is it run; both files stay as they were, and the session goes on."""
    for kind in (DbQuery, DbExec):
        session = Db(scene.open())
        error = session.refusal(kind(scene.sql(WAYS[name])))
        assert error.code == AnswerCode.BAD_REQUEST, error.reason
        assert session.rows("SELECT text FROM notes") == [("blog",)]
        session.commit()
    assert scene.contents() == scene.before
    assert not scene.new.exists()


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.by == "migration"])
def test_migrations_that_reach_further_are_refused(scene: Scene, name: str) -> None:
    """The plugin isn't loaded, and both files stay as they were."""
    with pytest.raises(BackendError, match=r"migration 0002_step\.sql"):
        scene.store.prepare("blog", migrations(TABLES, scene.sql(WAYS[name])))
    assert scene.contents() == scene.before
    assert not scene.new.exists()


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.by == "migration"])
def test_migrations_are_refused_by_files_too(scene: Scene, name: str) -> None:
    """What an empty database that it is tried on would let pass, a file with keys in it doesn't."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fuseboard.backends.db.try_out", lambda *_: None)
        test_migrations_that_reach_further_are_refused(scene, name)


@pytest.mark.parametrize("name", WAYS)
def test_all_of_them_work_unguarded(scene: Scene, name: str) -> None:
    """On a connection without a guard, each does what it is meant to do."""
    way = WAYS[name]
    scene.store.close()
    with closing(sqlite3.connect(scene.folder / file_name("blog", None), isolation_level=None)) as plain:
        for statement in filter(None, (way.first, *statements(scene.sql(way)))):
            plain.execute(statement).fetchall()


UNASKED: Final = {name for name in WAYS if "unasked" in name or "lay " in name or "foreign key" in name}
"""What the authorizer doesn't see, at least not when it is said."""


@pytest.mark.parametrize("name", sorted(WAYS.keys() - UNASKED))
def test_the_authorizer_sees_it_too(scene: Scene, name: str) -> None:
    """Where names aren't looked for in the text, SQLite's authorizer refuses the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fuseboard.backends._sqlite_connection.check_text", lambda _: None)
        if WAYS[name].by == "migration":
            test_migrations_are_refused_by_files_too(scene, name)
        else:
            test_statements_that_reach_further_are_refused(scene, name)


# ── whose file ───────────────────────────────────────────────────────────────────────────────────

VICTIMS: Final = (("blog", None), ("blog", "site-1"))
NAMES: Final = {
    "the empty scope": ("blog", ""),
    "the scope None": ("blog", "None"),
    "another case": ("blog", "SITE-1"),
    "a space": ("blog", "site-1 "),
    "a dot at the end": ("blog", "site-1."),
    "a zero character": ("blog", "site-1\0"),
    "a separator": ("blog", "x/../site-1"),
    "the folder above": ("blog", "../blog.site-1"),
    "a whole path": ("blog", "/etc/passwd"),
    "a device's name": ("blog", "NUL"),
    "another form of a letter": ("blog", "ｓite-1"),  # noqa: RUF001
    "the file's own name": ("blog", file_name("blog", "site-1").removeprefix("blog.").removesuffix(".sqlite")),
    "the plugin in the scope": ("bl", "og.site-1"),
    "the scope in the plugin": ("blog.site-1", None),
    "half a character": ("blog", "\udc00"),
    "a long scope": ("blog", "x" * 10_000),
    "the same beginning": ("blog", "x" * 9_999),
    "a query of a URI": ("blog", "site-1?vfs=unix-none"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_look_alike_are_apart(scene: Scene, name: str) -> None:
    """What looks like another's name has a file of its own, also where file systems fold letters, and in the folder."""
    plugin, scope = NAMES[name]
    for victim in VICTIMS:
        session = scene.open(*victim)
        session.answer(KvSet(b"k", b"secret"), soon())
        session.commit(soon())
    scene.store.prepare(plugin, migrations(TABLES))
    session = scene.open(plugin, scope)
    assert session.answer(KvGet(b"k"), soon()) == KvValue(None)
    session.answer(KvSet(b"k", b"taken"), soon())
    session.commit(soon())
    files = [file_name(*namespace).casefold() for namespace in (*VICTIMS, *NAMES.values())]
    assert len(set(files)) == len(files)
    assert all(Path(file).name == file and file.isascii() and len(file) < 200 for file in files)
    assert sorted(scene.folder.parent.iterdir()) == [scene.folder]
    assert [scene.store.items(*victim[:1], scope=victim[1]) for victim in VICTIMS] == [{b"k": b"secret"}] * 2
    assert scene.store.items(plugin, scope=scope) == {b"k": b"taken"}


KEYS: Final = {
    "SQL": b"k' OR '1'='1",
    "a wildcard": b"%",
    "another case": b"K",
    "a zero byte": b"k\0",
    "another type": b"1",
    "no UTF-8": b"\xffk",
    "a space": b"k ",
    "a parameter": b"$1",
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_are_bytes_and_nothing_else(scene: Scene, name: str) -> None:
    """A key is itself only, whatever it looks like in SQL or as text."""
    session = scene.open()
    assert session.answer(KvGet(KEYS[name]), soon()) == KvValue(None)
    session.answer(KvIncrement(KEYS[name], 1), soon())
    session.commit(soon())
    assert scene.store.items("blog") == {b"k": b"secret", KEYS[name]: b"1"}
