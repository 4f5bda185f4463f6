"""Ways out of a plugin's own schema in PostgreSQL, each refused: by SQL, functions, catalogs, roles and migrations.

Rules:
* Each way is taken by a superuser first, with nothing of ours between, and leads somewhere: else its refusal shows
  nothing.
* It is then taken by a guest, in a query and in an exec. Where rights alone refuse it, it is taken a third time by
  somebody who is logged in as the plugin's role with a client of his own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from db_contract import Engine
from fuseboard._errors import BackendError
from fuseboard.backends import AnswerCode, DbExec, DbQuery
from fuseboard.backends._postgres_names import Secret
from fuseboard.backends._postgres_provision import ProvisionError
from fuseboard.backends.db import Postgres
from postgres_databases import SECRET, Database, database, migrations

if TYPE_CHECKING:
    from servers import Server

TABLES: Final = "CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT); CREATE TABLE lines (line TEXT)"
REFUSED: Final = {AnswerCode.BAD_REQUEST, AnswerCode.DENIED}


@dataclass(frozen=True, slots=True)
class Way:
    """A statement that would lead out: `{shop}` is another plugin's schema, `{site}` another scope's, `{blog}` its own.

    Attributes:
        sql: the statement.
        by_rights: whether the server's rights alone refuse it; else it is refused before it is sent.
    """

    sql: str
    by_rights: bool = True


WAYS: Final[dict[str, Way]] = {
    # other plugins' data
    "another plugin's table": Way("SELECT * FROM {shop}.notes"),
    "another scope's table": Way("SELECT * FROM {site}.notes"),
    "another plugin's table, quoted": Way('SELECT * FROM "{shop}"."notes"'),
    "another plugin's table in a subquery": Way("SELECT (SELECT max(text) FROM {shop}.notes)"),
    "another plugin's table in a CTE": Way("WITH o AS (SELECT * FROM {shop}.notes) SELECT * FROM o"),
    "another plugin's row as JSON": Way("SELECT row_to_json(n) FROM {shop}.notes n"),
    "another plugin's migrations": Way("SELECT * FROM {shop}.fuseboard_migrations"),
    "the operator's list of plugins": Way("SELECT * FROM fuseboard.namespaces"),
    "the public schema": Way("SELECT * FROM public.accounts"),
    "insert into another's": Way("INSERT INTO {shop}.notes VALUES (7, 'x')"),
    "update another's": Way("UPDATE {shop}.notes SET text = 'x'"),
    "delete another's": Way("DELETE FROM {shop}.notes"),
    "delete another's in a CTE": Way("WITH d AS (DELETE FROM {shop}.notes RETURNING *) SELECT * FROM d"),
    "a table as XML": Way("SELECT table_to_xml('{shop}.notes', true, false, '')"),
    "SQL run by query_to_xml": Way("SELECT query_to_xml('SELECT * FROM notes', true, false, '')"),
    "SQL run by ts_stat": Way("SELECT * FROM ts_stat('SELECT to_tsvector(text) FROM notes')"),
    # settings and roles
    "search_path by set_config": Way("SELECT set_config('search_path', '{shop}', false)"),
    "role by set_config": Way("SELECT set_config('role', '{shop}', false)"),
    "session authorization by set_config": Way("SELECT set_config('session_authorization', '{shop}', false)"),
    "time limit by set_config": Way("SELECT set_config('statement_timeout', '0', false)"),
    "set_config by its whole name": Way("SELECT pg_catalog.set_config('statement_timeout', '0', true)"),
    "set_config in quotes": Way("SELECT \"set_config\"('statement_timeout', '0', true)"),
    "search_path by SET": Way("SET search_path = {shop}", by_rights=False),
    "time limit by SET": Way("SET statement_timeout = 0", by_rights=False),
    "SET ROLE": Way("SET ROLE {shop}"),
    "SET ROLE of one's owner": Way("SET ROLE {blog}_owner"),
    "SET SESSION AUTHORIZATION": Way("SET SESSION AUTHORIZATION {shop}"),
    "RESET ALL": Way("RESET ALL", by_rights=False),
    "a new password": Way("ALTER ROLE CURRENT_USER PASSWORD 'x'", by_rights=False),
    "a grant of one's own": Way("GRANT SELECT ON notes TO PUBLIC", by_rights=False),
    "the server's folder": Way("SELECT current_setting('data_directory')"),
    "SHOW": Way("SHOW data_directory"),
    "the server's address": Way("SELECT inet_server_addr()"),
    # catalogs
    "names of tables": Way("SELECT relname FROM pg_class"),
    "names of tables, whole name": Way("SELECT relname FROM pg_catalog.pg_class"),
    "names of schemas": Way("SELECT nspname FROM pg_namespace"),
    "names of roles": Way("SELECT rolname FROM pg_roles"),
    "names of users": Way("SELECT usename FROM pg_user"),
    "passwords": Way("SELECT rolpassword FROM pg_authid"),
    "names of databases": Way("SELECT datname FROM pg_database"),
    "others' sessions": Way("SELECT usename, query FROM pg_stat_activity"),
    "others' sessions, by the function": Way("SELECT * FROM pg_stat_get_activity(NULL)"),
    "others' columns": Way("SELECT attname FROM pg_attribute"),
    "others' statistics": Way("SELECT * FROM pg_stats"),
    "others' locks": Way("SELECT * FROM pg_locks"),
    "the information schema": Way("SELECT table_name FROM information_schema.tables"),
    "settings": Way("SELECT * FROM pg_settings"),
    "who may log in": Way("SELECT * FROM pg_hba_file_rules"),
    "names of tables by number": Way("SELECT n::oid::regclass::text FROM generate_series(1, 20000) n", by_rights=False),
    "names of roles by number": Way("SELECT n::oid::regrole::text FROM generate_series(1, 20000) n", by_rights=False),
    "names of schemas by number": Way('SELECT n::oid::"regnamespace" FROM generate_series(1, 9) n', by_rights=False),
    "tables by their type's function": Way("SELECT CAST(regclassout(n) AS text) FROM generate_series(1, 20000) n"),
    "roles by their type's function": Way("SELECT CAST(regroleout(n) AS text) FROM generate_series(1, 20000) n"),
    "schemas by their type's function": Way("SELECT CAST(regnamespaceout(n) AS text) FROM generate_series(1, 9) n"),
    "names of tables by their rows' type": Way("SELECT format_type(n::oid, NULL) FROM generate_series(1, 20000) n"),
    "whether there is a role": Way("SELECT CAST(to_regrole('{shop}') AS text)"),
    "whether there is a schema": Way("SELECT has_schema_privilege('{shop}', 'USAGE')"),
    "what the server is": Way("SELECT version()"),
    "how busy the server is": Way("SELECT txid_current()"),
    "definitions by number": Way("SELECT pg_get_indexdef(n::oid) FROM generate_series(1, 20000) n", by_rights=False),
    "names of tables by format_type": Way("SELECT format_type(n::oid, NULL) FROM generate_series(1, 20000) n"),
    "names of tables by oidvectortypes": Way("SELECT oidvectortypes('1 2'::oidvector)"),
    "names of tables by regclassout": Way("SELECT textin(regclassout(n::oid)) FROM generate_series(1, 20000) n"),
    "names of roles by regroleout": Way("SELECT regroleout(n::oid)::text FROM generate_series(1, 20000) n"),
    "names of tables by to_regclass": Way("SELECT coalesce(to_regclass('nothing'), {number})::text"),
    "names of roles in an array": Way("SELECT (ARRAY[to_regrole('nobody')] || 10::oid)::text"),
    "names of roles by acldefault": Way("SELECT acldefault('r', n::oid)::text FROM generate_series(1, 20000) n"),
    "names of roles by makeaclitem": Way("SELECT makeaclitem(10, 10, 'SELECT', false)::text"),
    "names of columns by record_in": Way("SELECT row_to_json(record_in('(1,)', {type}, -1))"),
    "whether a role is there": Way("SELECT to_regrole('{shop}')::text"),
    "whether a schema is there": Way("SELECT has_schema_privilege('{shop}', 'USAGE')"),
    "columns by has_column_privilege": Way("SELECT has_column_privilege({number}::oid, 'id', 'SELECT')"),
    "a name's owner by number": Way("SELECT pg_get_userbyid(10)", by_rights=False),
    "a catalog in escapes": Way('SELECT relname FROM U&"\\0070g_class"'),
    # files, programs, large objects
    "read a file": Way("SELECT pg_read_file('PG_VERSION')"),
    "list a folder": Way("SELECT pg_ls_dir('.')"),
    "look at a file": Way("SELECT pg_stat_file('PG_VERSION')"),
    "import a file": Way("SELECT lo_import('/etc/hostname')"),
    "make a large object": Way("SELECT lo_create(0)"),
    "write a large object": Way("SELECT lo_from_bytea(0, 'x')"),
    "run a program": Way("COPY notes TO PROGRAM 'cat > /dev/null'"),
    "read a file into a table": Way("COPY {blog}.lines FROM '/etc/hostname'"),
    "write a file": Way("COPY notes TO '/dev/null'"),
    # what stays beyond the transaction, or reaches other sessions
    "LISTEN": Way("LISTEN news", by_rights=False),
    "NOTIFY": Way("NOTIFY news", by_rights=False),
    "notify by function": Way("SELECT pg_notify('news', 'x')"),
    "an advisory lock": Way("SELECT pg_advisory_lock(1)"),
    "an advisory lock of the transaction": Way("SELECT pg_try_advisory_xact_lock(1)"),
    "end a session": Way("SELECT pg_terminate_backend(1)"),
    "stop a statement": Way("SELECT pg_cancel_backend(1)"),
    "reload the server": Way("SELECT pg_reload_conf()"),
    "write to the log of writes": Way("SELECT pg_logical_emit_message(true, 'x', 'y')"),
    "lend a snapshot": Way("SELECT pg_export_snapshot()"),
    "a temporary table": Way("CREATE TEMP TABLE t (a int)"),
    "a temporary table by SELECT": Way("SELECT 1 AS a INTO TEMP t"),
    "a table": Way("CREATE TABLE t (a int)"),
    "a table by SELECT": Way("SELECT 1 AS a INTO t"),
    "a table in public": Way("CREATE TABLE public.t (a int)"),
    "a schema": Way("CREATE SCHEMA s"),
    "a function": Way("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    "a function of the owner's": Way("CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'"),
    "a block of code": Way("DO $$ BEGIN PERFORM 1; END $$"),
    "an extension": Way("CREATE EXTENSION IF NOT EXISTS plpgsql", by_rights=False),
    "a cursor": Way("DECLARE c CURSOR FOR SELECT 1", by_rights=False),
    "a prepared statement": Way("PREPARE p AS SELECT 1", by_rights=False),
    "a lock on a table": Way("LOCK TABLE {shop}.notes"),
    "TRUNCATE": Way("TRUNCATE notes"),
    "DROP": Way("DROP TABLE notes"),
    "EXPLAIN ANALYZE": Way("EXPLAIN ANALYZE DELETE FROM notes", by_rights=False),
    "MERGE": Way("MERGE INTO notes n USING notes v ON n.id = v.id WHEN MATCHED THEN DELETE", by_rights=False),
    "a setting of the transaction's": Way("SET TRANSACTION READ WRITE", by_rights=False),
    "hidden by a nested comment": Way("/* /* */ SELECT 1 */ SET statement_timeout = 0", by_rights=False),
    "hidden by brackets": Way("SELECT 1; (((SELECT * FROM {shop}.notes)))"),
}  # fmt: skip

HOSTILE: Final = {
    "read another's": "CREATE TABLE stolen AS SELECT * FROM {shop}.notes",
    "view another's": "CREATE VIEW seen AS SELECT * FROM {shop}.notes",
    "refer to another's": "CREATE TABLE t (a bigint REFERENCES {shop}.notes (id))",
    "drop another's": "DROP TABLE {shop}.notes",
    "alter another's": "ALTER TABLE {shop}.notes ADD COLUMN a int",
    "the operator's list": "CREATE TABLE stolen AS SELECT * FROM fuseboard.namespaces",
    "back to the superuser": "RESET ROLE; DROP TABLE {shop}.notes",
    "another role": "SET ROLE postgres",
    "another role's password": "ALTER ROLE {shop} PASSWORD 'x'",
    "superuser": "ALTER ROLE CURRENT_USER SUPERUSER",
    "out of the transaction": "SELECT 1; COMMIT; SELECT 1",
    "a function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a procedure": "CREATE PROCEDURE f() LANGUAGE sql AS 'SELECT 1'",
    "a block of code": "DO $$ BEGIN PERFORM 1; END $$",
    "a rule": "CREATE RULE r AS ON INSERT TO notes DO ALSO NOTIFY news",
    "an extension": "CREATE EXTENSION dblink",
    "a schema": "CREATE SCHEMA s",
    "a table elsewhere": "CREATE TABLE public.t (a int)",
    "a program": "COPY notes TO PROGRAM 'cat > /dev/null'",
    "a catalog": "CREATE VIEW seen AS SELECT relname FROM pg_class",
    "names by number": "CREATE VIEW seen AS SELECT n::oid::regclass::text FROM generate_series(1, 20000) n",
    "set_config": "SELECT set_config('search_path', '{shop}', false)",
    "a default of PostgreSQL's own": "CREATE TABLE t (a int DEFAULT pg_backend_pid())",
    "rights for all": "GRANT SELECT ON notes TO PUBLIC",
    "rights for another": "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {shop}",
    "its schema": "ALTER SCHEMA {blog} RENAME TO mine",
    "names by to_regclass": "CREATE TABLE t AS SELECT to_regclass('notes') AS a",
    "a record too many": "INSERT INTO fuseboard_migrations VALUES (7, 'x', 'x')",
    "a view of its records": 'CREATE VIEW seen AS SELECT * FROM "fuseboard_migrations"',
    "its records": "DELETE FROM fuseboard_migrations",
    "its records' table": "DROP TABLE fuseboard_migrations",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Site:
    """Two plugins, one of them in a scope too, and what a superuser keeps beside them.

    Attributes:
        database: where they are.
        engine: what serves their calls.
        numbers: PostgreSQL's own for `shop`'s table of notes, and for the type of its rows.
    """

    database: Database
    engine: Engine
    numbers: tuple[int, int]

    def filled(self, text: str) -> str:
        """Return a way's SQL with the schemas' names."""
        names = {"blog": ("blog", None), "site": ("blog", "site-1"), "shop": ("shop", None)}
        for name, (plugin, scope) in names.items():
            text = text.replace(f"{{{name}}}", self.database.namespace(plugin, scope).role)
        return text.replace("{number}", str(self.numbers[0])).replace("{type}", str(self.numbers[1]))

    def taken_by(self, connection: psycopg.Connection, text: str) -> None:
        """Run a way on a bare connection, and undo it."""
        connection.autocommit = False
        try:
            cursor = connection.execute(self.filled(text))
            while cursor.nextset():
                pass
        finally:
            connection.rollback()


@pytest.fixture(scope="module")
def site(postgres_server: Server) -> Iterator[Site]:
    """A database where plugin `shop` has a secret."""
    made = database(postgres_server, "ways")
    made.provision("blog", TABLES, scopes=["site-1"])
    made.provision("shop", TABLES)
    made.rows("CREATE TABLE public.accounts (secret text)")
    for plugin, scope in (("blog", None), ("blog", "site-1"), ("shop", None)):
        made.rows(f"INSERT INTO {made.namespace(plugin, scope).role}.notes VALUES (1, 'secret of {plugin} {scope}')")
    with Postgres(made.conninfo, secret=SECRET) as backend:
        backend.prepare("blog", migrations(TABLES))
        numbers = "SELECT oid::int, reltype::int FROM pg_class WHERE oid = %s::regclass"
        yield Site(made, Engine("postgres", backend), made.rows(numbers, f"{made.namespace('shop').role}.notes")[0])


@pytest.mark.parametrize("text", [*(way.sql for way in WAYS.values()), *HOSTILE.values()], ids=[*WAYS, *HOSTILE])
def test_ways_lead_somewhere(site: Site, text: str) -> None:
    """Control: a superuser without our checks gets there, so that what refuses it is ours."""
    with psycopg.connect(site.database.dsn, options=site.filled("-c search_path={blog}")) as superuser:
        site.taken_by(superuser, text)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_ways_are_closed_to_guests(site: Site, way: Way) -> None:
    """A guest is refused, in a query and in an exec, and its session goes on with what it wrote."""
    with site.engine.session() as db:
        db.exec("INSERT INTO notes VALUES (2, 'mine')")
        for call in (DbQuery(site.filled(way.sql)), DbExec(site.filled(way.sql))):
            error = db.refusal(call)
            assert error.code in REFUSED, error.reason
            assert "secret" not in error.reason
        assert db.rows("SELECT text FROM notes ORDER BY id") == [("secret of blog None",), ("mine",)]


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.by_rights])
def test_ways_are_closed_by_rights(site: Site, name: str) -> None:
    """Whoever is logged in as the plugin's role with a client of his own is refused by the server."""
    with site.database.login(site.filled("{blog}")) as plugin, pytest.raises(psycopg.Error) as refused:
        site.taken_by(plugin, WAYS[name].sql)
    assert isinstance(refused.value, psycopg.errors.InsufficientPrivilege | psycopg.errors.InvalidParameterValue)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_migrations_reach_no_further(site: Site, text: str) -> None:
    """A migration that wants more than its schema's tables fails whole, and isn't recorded."""
    before = site.database.rows("SELECT count(*) FROM pg_class")
    with pytest.raises(ProvisionError):
        site.database.provision("blog", TABLES, "CREATE TABLE first (a int);" + site.filled(text))
    assert site.database.rows("SELECT count(*) FROM pg_class") == before
    assert site.database.provision("blog", TABLES) == []


ORDINARY: Final = (
    "CAST(7 AS text)", "CAST(CAST('7' AS text) AS bigint)", "now()::text", "'x'::bytea::text", "ARRAY[1, 2]::text",
    "ROW(1, 2)::text", "array_to_string(string_to_array('a,b', ','), ' ')", "regexp_replace('a', 'a', 'b')",
    "to_tsvector('english', 'two words') @@ to_tsquery('english', 'word')", "jsonb_path_query('[1]', '$[*]')",
    "to_json(1)::text", "format('%s', 1)", "to_char(now(), 'YYYY')", "date_trunc('day', now())", "gen_random_uuid()",
    "extract(year FROM now())", "md5('x')", "sha256('x')", "hashtext('x')", "'a' LIKE 'a%'", "random()",
    "(SELECT jsonb_agg(text)::text FROM notes)", "(SELECT avg(id) + stddev(id) FROM notes)",
    "(SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY id) FROM notes)", "rank() OVER (ORDER BY 1)",
    "(SELECT count(*) FROM notes TABLESAMPLE bernoulli (10))", "(SELECT row_to_json(n)::text FROM notes n)",
)  # fmt: skip


@pytest.mark.parametrize("expression", ORDINARY)
def test_ordinary_functions_stay_open(site: Site, expression: str) -> None:
    """What is closed is nothing that plugins compute with, nor the casts, which call types' own functions."""
    with site.engine.session() as db:
        assert len(db.rows(f"SELECT {expression}")) == 1


@pytest.mark.parametrize(
    "call", ["nextval({number}::oid)", "nextval('{number}')", "setval({number}::oid, 1)", "domain_in('x', {type}, -1)"]
)
def test_errors_do_not_tell_names_by_number(site: Site, call: str) -> None:
    """Whoever guesses the number of another's table learns no name by the error; the server would tell it."""
    with psycopg.connect(site.database.dsn) as superuser, pytest.raises(psycopg.Error, match="notes"):
        site.taken_by(superuser, f"SELECT {call}")
    with site.engine.session() as db:
        error = db.refusal(DbExec(site.filled(f"SELECT {call}")))
        assert error.code in REFUSED
        assert "notes" not in error.reason


def test_owners_have_no_way_back(site: Site) -> None:
    """Who runs migrations is logged in as the owner: RESET ROLE leads nowhere, and others' tables stay closed."""
    owner = site.filled("{blog}_owner")
    with site.database.login(owner) as connection:
        connection.execute("RESET ROLE")
        connection.execute("RESET SESSION AUTHORIZATION")
        assert connection.execute("SELECT current_user, session_user").fetchall() == [(owner, owner)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(site.filled("SELECT * FROM {shop}.notes"))


def test_roles_have_passwords_of_their_own(site: Site) -> None:
    """One role's password, and another secret's, open no other role."""
    shop, blog = site.filled("{shop}"), site.filled("{blog}")
    site.database.login(shop).close()
    for password in (Secret(SECRET).password(blog), Secret("another secret of operators").password(shop), ""):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(f"{site.database.conninfo} user={shop} password='{password}'")


def test_strangers_get_into_no_plugins_database(site: Site) -> None:
    """A role that isn't a plugin's can't connect: nothing of the database is open to all."""
    site.database.rows("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
    psycopg.connect(f"{site.database.conninfo} user=stranger password=stranger dbname=postgres").close()
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(f"{site.database.conninfo} user=stranger password=stranger")


def test_readers_only_read_by_rights(site: Site) -> None:
    """The role of a plugin that requests reading can't write, whatever is asked of it."""
    site.database.provision("reader", TABLES, may="read")
    role = site.database.namespace("reader").role
    with site.database.login(role) as plugin:
        assert plugin.execute("SELECT * FROM notes").fetchall() == []
        for text in ("INSERT INTO notes VALUES (1, 'x')", "UPDATE notes SET id = 1", "DELETE FROM notes"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                plugin.execute(text)


@pytest.mark.parametrize(
    "sql",
    [
        "WITH d AS (DELETE FROM notes RETURNING *) SELECT * FROM d",
        "SELECT * FROM notes FOR UPDATE",
        "SELECT nextval('numbers')",
    ],
)
def test_queries_write_in_no_way(site: Site, sql: str) -> None:
    """A query that would write, or lock rows, is refused with the advice to use exec, and an exec of it is not."""
    site.database.provision("counter", f"{TABLES}; CREATE SEQUENCE numbers")
    with site.engine.session("counter") as db:
        error = db.refusal(DbQuery(sql))
        assert (error.code, "use exec" in error.reason) == (AnswerCode.BAD_REQUEST, True)
        db.exec(sql)


def test_nothing_of_a_session_is_met_by_the_next(site: Site) -> None:
    """What a session leaves on its connection is gone for the next, on the same connection."""
    with site.engine.session("counter") as db:
        db.exec("SELECT nextval('numbers')")
        assert len(db.rows("SELECT currval('numbers')")) == 1
        db.commit()
    with site.engine.session("counter") as db, pytest.raises(BackendError, match="not yet defined"):
        db.query("SELECT currval('numbers')")
