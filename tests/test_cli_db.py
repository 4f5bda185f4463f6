"""`fuseboard db`: what the operator does for plugins in PostgreSQL, what it says, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest
from click.testing import CliRunner, Result

from conftest import SILENT
from db_contract import Engine
from fuseboard.backends.db import Postgres
from fuseboard.cli import main
from fuseboard.cli._db import DSN_VARIABLE, SECRET_VARIABLE
from postgres_databases import SECRET, Database, database

if TYPE_CHECKING:
    from servers import Server

PLUGIN: Final = """
manifest = 1
slug = "{slug}"
version = "1.0.0"
[[hooks]]
name = "text"
export = "run"
[server.capabilities]
{capabilities}
"""
NOTES: Final = "CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT); CREATE SEQUENCE numbers;"
STARS: Final = "ALTER TABLE notes ADD COLUMN stars INT; INSERT INTO notes VALUES (1, 'made', 5);"


@pytest.fixture(scope="module")
def made(postgres_server: Server) -> Database:
    """A database of these tests' own."""
    return database(postgres_server, "commands")


@pytest.fixture(autouse=True)
def _said(made: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the commands find the database and the secret in the environment."""
    monkeypatch.setenv(DSN_VARIABLE, made.dsn)
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)


@pytest.fixture
def slug(request: pytest.FixtureRequest, made: Database) -> Iterator[str]:
    """The slug of a plugin that only this test has."""
    name = "p-" + str(request.node.originalname).removeprefix("test_").replace("_", "-")[:50].strip("-")
    yield name
    fuseboard("drop", name, "--yes")
    assert made.rows("SELECT 1 FROM pg_roles WHERE rolname = %s", made.namespace(name).role) == []


def fuseboard(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["db", *map(str, arguments)], terminal_width=100)


def plugin(folder: Path, slug: str, *texts: str, capabilities: str = 'db = "write"') -> Path:
    """Write a plugin's folder with these migrations."""
    (folder / "migrations").mkdir(exist_ok=True, parents=True)
    (folder / "plugin.toml").write_text(PLUGIN.format(slug=slug, capabilities=capabilities), encoding="utf-8")
    (folder / "plugin.wasm").write_bytes(SILENT)
    for number, text in enumerate(texts, 1):
        (folder / "migrations" / f"{number:04}_step.sql").write_text(text, encoding="utf-8")
    return folder


def said(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_it_says_what_it_did_and_is_done_once(tmp_path: Path, made: Database, slug: str) -> None:
    """The first time makes all that a plugin needs, which works; the second finds nothing to do."""
    folder = plugin(tmp_path, slug, NOTES)
    owned = made.namespace(slug)
    lines = said(fuseboard("provision", folder))
    assert lines[-2:] == [
        f"made {slug}: roles {owned.role} and {owned.owner}, and a schema",
        f"applied 0001_step.sql to {slug}",
    ]
    assert said(fuseboard("provision", folder)) == [f"{slug} is up to date"]
    with Postgres(made.conninfo, secret=SECRET) as backend:
        engine = Engine("postgres", backend)
        engine.write("INSERT INTO notes VALUES (nextval('numbers'), 'x')", plugin=slug)
        assert engine.read("SELECT id, text FROM notes", slug) == [(1, "x")]


def test_later_migrations_and_scopes_follow(tmp_path: Path, made: Database, slug: str) -> None:
    """A later migration is applied to all scopes that there are, and a new scope gets all of them."""
    said(fuseboard("provision", plugin(tmp_path, slug, NOTES), "--scope", "a"))
    lines = said(fuseboard("provision", plugin(tmp_path, slug, NOTES, STARS), "--scope", "b"))
    assert [line for line in lines if line.startswith("applied")] == [
        f"applied 0002_step.sql to {slug}",
        f"applied 0002_step.sql to {slug} in scope 'a'",
        f"applied 0001_step.sql to {slug} in scope 'b'",
        f"applied 0002_step.sql to {slug} in scope 'b'",
    ]
    with Postgres(made.conninfo, secret=SECRET) as backend:
        for scope in (None, "a", "b"):
            assert Engine("postgres", backend).read("SELECT stars FROM notes", slug, scope) == [(5,)]


def test_a_dry_run_does_nothing(tmp_path: Path, made: Database, slug: str) -> None:
    """It says the same, and leaves no role, no schema and no table."""
    lines = said(fuseboard("provision", plugin(tmp_path, slug, NOTES), "--dry-run"))
    assert lines[-1] == f"would have applied 0001_step.sql to {slug}"
    assert made.rows("SELECT 1 FROM pg_roles WHERE rolname = %s", made.namespace(slug).role) == []


@pytest.mark.parametrize("text", ["CREATE TABLE notes (a INT)", f"{NOTES} "])
def test_changed_migrations_are_refused(tmp_path: Path, slug: str, text: str) -> None:
    """One that was changed after it was applied stops the command, and nothing later is applied."""
    said(fuseboard("provision", plugin(tmp_path, slug, NOTES)))
    result = fuseboard("provision", plugin(tmp_path, slug, text, STARS))
    assert (result.exit_code, "it was changed" in result.stderr) == (2, True)
    (tmp_path / "migrations" / "0002_step.sql").unlink()
    assert said(fuseboard("provision", plugin(tmp_path, slug, NOTES))) == [f"{slug} is up to date"]


def test_an_older_version_is_refused(tmp_path: Path, slug: str) -> None:
    """A plugin with fewer migrations than are applied is an older one."""
    said(fuseboard("provision", plugin(tmp_path, slug, NOTES, STARS)))
    (tmp_path / "migrations" / "0002_step.sql").unlink()
    result = fuseboard("provision", tmp_path)
    assert (result.exit_code, "it is older" in result.stderr) == (2, True)


def test_a_failing_migration_leaves_nothing_of_itself(tmp_path: Path, made: Database, slug: str) -> None:
    """It is undone whole, named with the server's word, and can be tried again when it is right."""
    result = fuseboard("provision", plugin(tmp_path, slug, NOTES, f"{STARS} SELECT 1 / 0"))
    assert (result.exit_code, "0002_step.sql fails" in result.stderr, "division by zero" in result.stderr) == (
        2,
        True,
        True,
    )
    assert said(fuseboard("provision", plugin(tmp_path, slug, NOTES, STARS))) == [f"applied 0002_step.sql to {slug}"]
    schema = made.namespace(slug).role
    assert made.rows(f"SELECT stars FROM {schema}.notes") == [(5,)]


def test_rights_follow_the_manifest(tmp_path: Path, made: Database, slug: str) -> None:
    """A later version that requests reading only can't write any more, in tables old and new."""
    said(fuseboard("provision", plugin(tmp_path, slug, NOTES)))
    role = made.namespace(slug).role
    with made.login(role) as connection:
        connection.execute("INSERT INTO notes VALUES (1, 'x')")
    said(fuseboard("provision", plugin(tmp_path, slug, NOTES, "CREATE TABLE more (a INT)", capabilities='db = "read"')))
    with made.login(role) as connection:
        assert connection.execute("SELECT text FROM notes").fetchall() == [("x",)]
        for text in ("INSERT INTO notes VALUES (2, 'y')", "INSERT INTO more VALUES (1)", "SELECT nextval('numbers')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(text)


def test_another_secret_replaces_the_passwords(tmp_path: Path, made: Database, slug: str) -> None:
    """Done again with another secret, from a file, the old one opens nothing any more; no password is in the log."""
    folder = plugin(tmp_path / "plugin", slug, NOTES)
    said(fuseboard("provision", folder))
    made.login(made.namespace(slug).role).close()
    (tmp_path / "secret").write_text("another secret that is long enough\n", encoding="ascii")
    said(fuseboard("provision", folder, "--secret-file", tmp_path / "secret"))
    with pytest.raises(psycopg.OperationalError):
        made.login(made.namespace(slug).role)
    with Postgres(made.conninfo, secret="another secret that is long enough") as backend:
        assert Engine("postgres", backend).read("SELECT id FROM notes", slug) == []


def test_status(tmp_path: Path, made: Database, slug: str) -> None:
    """It lists plugins and scopes, what they may do, and how many migrations they have; as text and as JSON."""
    said(fuseboard("provision", plugin(tmp_path, slug, NOTES, capabilities='db = "read"'), "--scope", "site 1"))
    rows = [line.split() for line in said(fuseboard("status")) if line.startswith(slug)]
    assert rows == [
        [slug, "read", "1", made.namespace(slug).role],
        [slug, "site", "1", "read", "1", made.namespace(slug, "site 1").role],
    ]
    found = json.loads(fuseboard("status", "--json").stdout)["namespaces"]
    assert [each for each in found if each["plugin"] == slug] == [
        {"plugin": slug, "scope": scope, "role": made.namespace(slug, scope).role, "may": "read", "migrations": 1}
        for scope in (None, "site 1")
    ]


def test_drop(tmp_path: Path, made: Database, slug: str) -> None:
    """It asks, and removes one scope or all: sessions, schema, data and roles; what isn't there is said."""
    said(fuseboard("provision", plugin(tmp_path, slug, NOTES), "--scope", "a"))
    assert CliRunner().invoke(main, ["db", "drop", slug], input="n\n").exit_code == 1
    assert said(fuseboard("drop", slug, "--dry-run"))[0].startswith("would have removed")
    assert len(said(fuseboard("drop", slug, "--scope", "a", "--yes"))) == 1
    with made.login(made.namespace(slug).role) as connection:
        assert said(fuseboard("drop", slug, "--yes")) == [f"removed {slug}: its schema, its data and its roles"]
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    result = fuseboard("drop", slug, "--yes")
    assert (result.exit_code, "nothing of" in result.stderr) == (2, True)


def test_what_cannot_be_done(tmp_path: Path, made: Database, monkeypatch: pytest.MonkeyPatch, slug: str) -> None:
    """Each thing that is wrong is one sentence, without a traceback or a secret; exit code 2."""
    fine = plugin(tmp_path / "fine", slug, NOTES)
    needs_none = plugin(tmp_path / "needs-none", slug, capabilities="kv = true")
    grasping = plugin(tmp_path / "grasping", slug, "CREATE EXTENSION dblink")
    made.rows("DROP ROLE IF EXISTS weak")
    made.rows("CREATE ROLE weak LOGIN PASSWORD 'weak-secret' CREATEROLE")
    made.rows("GRANT CONNECT ON DATABASE commands TO weak")
    other = database(made.server, "anothers")
    other.rows("CREATE TABLE IF NOT EXISTS accounts (a INT)")
    wrong: list[tuple[list[str | Path], str]] = [
        (["provision", needs_none], "requests no db"),
        (["provision", grasping], "a migration can't do 'CREATE EXTENSION DBLINK'"),
        (["provision", fine, "--dsn", "very-secret"], "the DSN can't be read"),
        (["provision", fine, "--dsn", "host=127.0.0.1 port=1 password=very-secret user=u"], "refused"),
        (["provision", fine, "--dsn", f"{made.conninfo} user=weak password=weak-secret"], "done by a superuser"),
        (["provision", fine, "--dsn", other.dsn], "has tables of others, such as public.accounts"),
        (["provision", fine, "--secret-file", tmp_path / "none"], "can't be read"),
    ]
    for arguments, problem in wrong:
        result = fuseboard(*arguments)
        assert (result.exit_code, problem in result.stderr) == (2, True), result.output
        assert "secret" not in result.output.replace("--secret-file", "")
        assert isinstance(result.exception, SystemExit)
    monkeypatch.delenv(SECRET_VARIABLE)
    assert "the secret is missing" in fuseboard("provision", fine).stderr
    monkeypatch.setenv(SECRET_VARIABLE, "short")
    assert "secret has 5 bytes" in fuseboard("provision", fine).stderr
    monkeypatch.delenv(DSN_VARIABLE)
    assert fuseboard("status").exit_code == 2


def test_other_encodings_are_refused(tmp_path: Path, made: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database whose texts may be no UTF-8 isn't provisioned, and the command says why."""
    made.rows("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    monkeypatch.setenv(DSN_VARIABLE, made.dsn.replace("dbname=commands", "dbname=ascii"))
    result = fuseboard("provision", plugin(tmp_path, "any", NOTES))
    assert (result.exit_code != 0, "is encoded in SQL_ASCII: plugins need UTF8" in result.stderr) == (True, True)
