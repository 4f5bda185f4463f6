"""A plugin's migrations: read with every problem named, and told to the database before the plugin is loaded."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

import fuseboard as fb
from conftest import ECHO, manifest
from fuseboard._migrations import MAX_MIGRATION_BYTES, MAX_MIGRATIONS, Migration, read_migrations
from fuseboard.backends import AnswerCode, Backends, Identity, Preparable, Session
from fuseboard.backends.memory import MemoryDb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOTES = "CREATE TABLE notes (text TEXT);\n"
TAGS = "CREATE TABLE tags (name TEXT);\n"


def written(folder: Path, **files: str | bytes) -> Path:
    """Write migrations into a plugin's folder."""
    (folder / "migrations").mkdir(exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / "migrations" / name.replace("__sql", ".sql").removeprefix("n")).write_bytes(data)
    return folder


def a_plugin(folder: Path, *, db: str | None = "write") -> Path:
    """Write a plugin that echoes."""
    said = f'[server.capabilities]\ndb = "{db}"\n' if db else ""
    (folder / "plugin.toml").write_text(
        f'manifest = 1\nslug = "notes"\nversion = "1.0.0"\n[[hooks]]\nname = "text"\nexport = "run"\n{said}',
        encoding="utf-8",
    )
    (folder / "plugin.wasm").write_bytes(ECHO)
    return folder


class Told(MemoryDb):
    """A database that writes down what it is told of."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.told: list[tuple[str, tuple[Migration, ...]]] = []
        self._error = error

    def session(self, identity: Identity) -> Any:
        return super().session(identity)

    def prepare(self, plugin: str, migrations: tuple[Migration, ...]) -> None:
        if self._error is not None:
            raise self._error
        self.told.append((plugin, migrations))


def test_migrations_are_read_in_order(tmp_path: Path) -> None:
    """Number, name, text and checksum of each."""
    written(tmp_path, n0002_tags__sql=TAGS, n0001_notes__sql=NOTES)
    found, problems = read_migrations(tmp_path)
    assert problems == []
    assert found == (
        Migration(1, "notes", NOTES, sha256(NOTES.encode()).hexdigest()),
        Migration(2, "tags", TAGS, sha256(TAGS.encode()).hexdigest()),
    )
    assert [str(one) for one in found] == ["0001_notes.sql", "0002_tags.sql"]


def test_a_plugin_needs_no_migrations(tmp_path: Path) -> None:
    """Without the folder, and with an empty one, there are none."""
    assert read_migrations(tmp_path) == ((), [])
    (tmp_path / "migrations").mkdir()
    assert read_migrations(tmp_path) == ((), [])


PROBLEMS: list[tuple[str, dict[str, str | bytes], str, str]] = [
    ("a gap", {"n0001_a__sql": NOTES, "n0003_b__sql": TAGS}, "migrations/0003_b.sql", "must be 0002"),
    ("two of a number", {"n0001_a__sql": NOTES, "n0001_b__sql": TAGS}, "migrations/0001_b.sql", "must be 0002"),
    ("another name", {"notes__sql": NOTES}, "migrations/otes.sql", "called like 0001_create_notes.sql"),
    ("no text", {"n0001_a__sql": b"\xff"}, "migrations/0001_a.sql", "isn't UTF-8 text"),
    ("nothing", {"n0001_a__sql": b" \n"}, "migrations/0001_a.sql", "is empty"),
    ("too much", {"n0001_a__sql": b"x" * (MAX_MIGRATION_BYTES + 1)}, "migrations/0001_a.sql", "larger than 1048576"),
]


@pytest.mark.parametrize(("files", "where", "what"), [row[1:] for row in PROBLEMS], ids=[row[0] for row in PROBLEMS])
def test_what_is_wrong_is_named(tmp_path: Path, files: dict[str, str | bytes], where: str, what: str) -> None:
    """The file, and one sentence."""
    found, problems = read_migrations(written(tmp_path, **files))
    assert found == ()
    assert [place for place, _ in problems] == [where]
    assert what in problems[0][1]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    """A plugin can't have the host read what lies elsewhere."""
    (tmp_path / "secret.sql").write_text(NOTES, encoding="utf-8")
    folder = tmp_path / "plugin"
    (folder / "migrations").mkdir(parents=True)
    (folder / "migrations" / "0001_a.sql").symlink_to(tmp_path / "secret.sql")
    found, problems = read_migrations(folder)
    assert found == ()
    assert problems == [("migrations/0001_a.sql", "must be a file inside of the plugin's folder")]


def test_a_file_in_the_folders_place_and_too_many_files(tmp_path: Path) -> None:
    """Both are named."""
    (tmp_path / "migrations").write_bytes(b"")
    assert read_migrations(tmp_path)[1] == [("migrations", "can't be read: Not a directory")]
    (tmp_path / "migrations").unlink()
    (tmp_path / "migrations").mkdir()
    for number in range(MAX_MIGRATIONS + 1):
        (tmp_path / "migrations" / str(number)).touch()
    assert read_migrations(tmp_path)[1] == [("migrations", "has 1001 files, of at most 1000")]


# ── and what the database is told ────────────────────────────────────────────────────────────────


def test_the_database_is_told_before_a_plugin_is_loaded(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """On load and on reload, with all migrations; a plugin from bytes has none."""
    database = Told()
    host = make_host(backends=Backends(db=database))
    host.load(written(a_plugin(tmp_path), n0001_notes__sql=NOTES), grants="as-requested")
    written(tmp_path, n0002_tags__sql=TAGS)
    host.reload("notes")
    host.load_bytes(ECHO, manifest("bytes", capabilities={"db": "read"}), grants="as-requested")
    assert [(plugin, [one.number for one in told]) for plugin, told in database.told] == [
        ("notes", [1]),
        ("notes", [1, 2]),
        ("bytes", []),
    ]


def test_a_plugin_without_a_database_is_not_told_of(make_host: Callable[..., fb.Host]) -> None:
    """Only plugins that request it are the database's business."""
    database = Told()
    make_host(backends=Backends(db=database)).load_bytes(ECHO, manifest())
    assert database.told == []


def test_a_database_that_is_not_ready_fails_the_load(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """The reason is told, and nothing is loaded."""
    failing = Told(fb.BackendError("run: fuseboard db provision", code=AnswerCode.BACKEND_FAILED))
    host = make_host(backends=Backends(db=failing))
    with pytest.raises(fb.LoadError, match="its database can't be prepared: run: fuseboard db provision"):
        host.load(a_plugin(tmp_path), grants="as-requested")
    assert list(host.plugins) == []


def test_a_reload_that_fails_keeps_what_was_loaded(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """The plugin that runs is the old one."""
    host = make_host(backends=Backends(db=Told()))
    plugin = host.load(a_plugin(tmp_path), grants="as-requested")
    written(tmp_path, n0002_tags__sql=TAGS)
    with pytest.raises(fb.LoadError, match=r"migrations/0002_tags\.sql: .* must be 0001"):
        host.reload("notes")
    assert host.plugins["notes"] is plugin


def test_migrations_without_a_database_are_a_mistake(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """A plugin whose migrations nobody would apply isn't loaded."""
    host = make_host(backends=Backends(db=Told()))
    with pytest.raises(fb.LoadError, match="the manifest doesn't request db under"):
        host.load(written(a_plugin(tmp_path, db=None), n0001_notes__sql=NOTES))


def test_a_database_that_prepares_nothing_is_fine(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """`prepare` is optional."""

    class Plain:
        def session(self, identity: Identity) -> Session:
            raise NotImplementedError(identity)

    assert not isinstance(Plain(), Preparable)
    host = make_host(backends=Backends(db=Plain()))
    assert host.load(a_plugin(tmp_path), grants="as-requested").slug == "notes"
