"""What the operator's command does: roles, schemas and rights of plugins in PostgreSQL, and their migrations.

Rules:
* All that is made is made by a superuser, but for what a plugin's migrations make: these run as a role that has rights
  in its own schema only, logged in as such, so that there is nobody to go back to.
* Done again, it changes what isn't as it should be, and says what it changed.
* One runs at a time in a database. A migration and the record of it are one transaction.
* Passwords reach the server as SCRAM verifiers only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fuseboard._errors import BackendError
from fuseboard.backends import Migration
from fuseboard.backends import _postgres_hardening as hardening
from fuseboard.backends import _postgres_rights as rights
from fuseboard.backends._postgres_names import Namespace, Secret, namespace
from fuseboard.backends._postgres_rights import Level
from fuseboard.backends._postgres_sql import migration_statements

_ONE_AT_A_TIME: Final = 0x66757365


class ProvisionError(Exception):
    """It can't be done; the text says why."""


@dataclass(frozen=True, slots=True)
class Provisioned:
    """One namespace that there is.

    Attributes:
        namespace: whose, and its role.
        may: what its role may do.
        migrations: how many are applied.
    """

    namespace: Namespace
    may: str
    migrations: int


class Provisioning:
    """A superuser's session in the plugins' database.

    Args:
        admin: the session, in autocommit mode.
        secret: where the roles' passwords come from; needed to provision.
        dry_run: only say what would be done.
    """

    def __init__(self, admin: psycopg.Connection[Any], secret: Secret | None, *, dry_run: bool = False) -> None:
        self._admin = admin
        self._secret = secret
        self._dry_run = dry_run
        self.database = admin.info.dbname

    def provision(
        self, plugin: str, migrations: Sequence[Migration], may: Level, scopes: Sequence[str] = ()
    ) -> Iterator[str]:
        """Bring a plugin up to date, in all scopes that it has and in new ones; each change is said once it is made.

        Raises:
            ProvisionError: a migration can't be applied, or the database isn't fit.
        """
        for migration in migrations:
            _checked(migration)
        yield from self._harden()
        known = {each.namespace.scope for each in self.provisioned() if each.namespace.plugin == plugin}
        for scope in (None, *sorted(known.union(scopes) - {None}, key=str)):
            yield from self._one(namespace(self.database, plugin, scope), migrations, may)

    def provisioned(self) -> list[Provisioned]:
        """Return all namespaces that there are."""
        if not self._rows("SELECT to_regclass('fuseboard.namespaces') IS NOT NULL")[0][0]:
            return []
        found = self._rows(
            "SELECT plugin, scope, role, may FROM fuseboard.namespaces ORDER BY plugin, scope NULLS FIRST"
        )
        return [Provisioned(Namespace(*row[:3]), row[3], len(self._applied(row[2]))) for row in found]

    def drop(self, plugin: str, scopes: Sequence[str] | None = None) -> Iterator[str]:
        """Remove a plugin's roles, schemas and data, in these scopes or in all; what is removed is said."""
        for each in self.provisioned():
            owned = each.namespace
            if owned.plugin == plugin and (scopes is None or owned.scope in scopes):
                yield f"removed {owned}: its schema, its data and its roles"
                if not self._dry_run:
                    self._drop(owned)

    # ── the database ─────────────────────────────────────────────────────────────────────────────

    def _harden(self) -> Iterator[str]:
        if not self._rows("SELECT 1 FROM pg_namespace WHERE nspname = 'fuseboard'"):
            others = self._rows(hardening.OTHERS_TABLES)
            if others:
                problem = f"database {self.database!r} has tables of others, such as {others[0][0]}"
                raise ProvisionError(f"{problem}: plugins need a database of their own, where nothing is open to all")
            yield f"closed database {self.database} to all but its plugins"
        functions = self._rows(hardening.OPEN_FUNCTIONS, hardening.OPEN_FUNCTIONS_VALUES)
        languages = self._rows(hardening.OPEN_LANGUAGES)
        schemas = self._rows(hardening.OPEN_TABLES)
        if functions:
            yield f"closed {len(functions)} of PostgreSQL's own functions"
        if not self._dry_run:
            with self._admin.transaction():
                self._close(functions, languages, schemas)

    def _close(self, functions: list[Any], languages: list[Any], schemas: list[Any]) -> None:
        if functions:
            names = sql.SQL(", ").join(_trusted(name[0]) for name in functions)
            self._run(sql.SQL("REVOKE EXECUTE ON ROUTINE {} FROM PUBLIC").format(names))
        for name in languages:
            self._run(sql.SQL("REVOKE USAGE ON LANGUAGE {} FROM PUBLIC").format(sql.Identifier(name[0])))
        for name in schemas:
            self._run(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM PUBLIC").format(_trusted(name[0])))
        self._run(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(self.database)))
        self._run(sql.SQL("REVOKE ALL ON SCHEMA public FROM PUBLIC"))
        if not self._rows("SELECT to_regclass('fuseboard.namespaces') IS NOT NULL")[0][0]:
            self._run(sql.SQL("CREATE SCHEMA IF NOT EXISTS fuseboard"))
            self._run(sql.SQL(rights.CATALOG))

    # ── one namespace ────────────────────────────────────────────────────────────────────────────

    def _one(self, owned: Namespace, migrations: Sequence[Migration], may: Level) -> Iterator[str]:
        is_new = not self._rows("SELECT 1 FROM pg_namespace WHERE nspname = %s", (owned.role,))
        applied = self._applied(owned.role)
        _check_applied(owned, migrations, applied)
        if is_new:
            yield f"made {owned}: roles {owned.role} and {owned.owner}, and a schema"
        if not self._dry_run:
            with self._admin.transaction():
                self._make(owned, may)
        for migration in migrations[len(applied) :]:
            yield f"applied {migration} to {owned}"
            if not self._dry_run:
                self._apply(owned, migration)

    def _make(self, owned: Namespace, may: Level) -> None:
        for role in (owned.role, owned.owner):
            self._make_role(role)
        names = {"schema": sql.Identifier(owned.role), "role": sql.Identifier(owned.role)} | {
            "owner": sql.Identifier(owned.owner), "rights": sql.SQL(rights.RIGHTS[may]),
            "of_sequences": sql.SQL(rights.SEQUENCE_RIGHTS[may]),
        }  # fmt: skip
        for name, value in rights.SETTINGS.items():
            setting = sql.SQL("ALTER ROLE {} SET {} = {}")
            self._run(setting.format(names["role"], sql.SQL(name), sql.Literal(value)))
        for statement in rights.STATEMENTS:
            self._run(sql.SQL(statement).format(**names))
        self._admin.execute(rights.NOTE, (owned.role, owned.plugin, owned.scope, may))

    def _make_role(self, role: str) -> None:
        name, verb = sql.Identifier(role), "ALTER"
        if not self._rows("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)):
            verb = "CREATE"
        password = self._password(role).encode()
        verifier = self._admin.pgconn.encrypt_password(password, role.encode(), b"scram-sha-256").decode()
        command = sql.SQL("{} ROLE {} {} PASSWORD {}")
        self._run(command.format(_trusted(verb), name, sql.SQL(rights.ROLE), sql.Literal(verifier)))
        database = sql.Identifier(self.database)
        self._run(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, name))

    def _applied(self, role: str) -> list[tuple[int, str, str]]:
        records = sql.SQL("{}.fuseboard_migrations").format(sql.Identifier(role))
        if not self._rows("SELECT to_regclass(%s)::text", (records.as_string(self._admin),))[0][0]:
            return []
        query = sql.SQL("SELECT number, name, checksum FROM {} ORDER BY number").format(records)
        return list(self._admin.execute(query).fetchall())

    def _apply(self, owned: Namespace, migration: Migration) -> None:
        """Run one as its owner, who has logged in."""
        known = self._admin.info
        conninfo = make_conninfo(
            known.dsn, host=known.host, port=known.port, dbname=self.database, user=owned.owner,
            password=self._password(owned.owner), application_name="fuseboard db",
            options=f"-c search_path={owned.role},pg_temp -c standard_conforming_strings=on",
        )  # fmt: skip
        try:
            with psycopg.connect(conninfo, cursor_factory=psycopg.RawCursor) as connection:
                for statement in migration_statements(migration.sql):
                    connection.execute(statement.encode(), (), binary=True)  # binary: one statement a message
                record = "INSERT INTO fuseboard_migrations (number, name, checksum) VALUES ($1, $2, $3)"
                connection.execute(record, (migration.number, migration.name, migration.checksum))
        except psycopg.Error as error:
            raise ProvisionError(f"{migration} fails for {owned}: {str(error).strip()}") from None

    def _drop(self, owned: Namespace) -> None:
        with self._admin.transaction():
            for role in (owned.role, owned.owner):
                if self._rows("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)):
                    self._run(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
            ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = ANY (%s)"
            self._rows(ended, ([owned.role, owned.owner],))
            self._run(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(owned.role)))
            for role in (owned.role, owned.owner):
                if self._rows("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)):
                    self._run(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
                    self._run(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
            self._admin.execute("DELETE FROM fuseboard.namespaces WHERE role = %s", (owned.role,))

    def _password(self, role: str) -> str:
        if self._secret is None:
            raise ProvisionError("the secret is missing")
        return self._secret.password(role)

    def _rows(self, query: LiteralString, values: Sequence[object] = ()) -> list[Any]:
        return self._admin.execute(query, values).fetchall()

    def _run(self, statement: sql.SQL | sql.Composed) -> None:
        self._admin.execute(statement)


@contextmanager
def provisioning(dsn: str, secret: str | bytes | None, *, dry_run: bool = False) -> Iterator[Provisioning]:
    """Log in as a superuser, alone.

    Raises:
        ProvisionError: the database isn't there, or refuses.
        UsageError: the secret can't be used.
    """
    kept = None if secret is None else Secret(secret)
    try:
        conninfo_to_dict(dsn)
    except psycopg.Error:
        raise ProvisionError("the DSN can't be read: write key=value pairs, or postgresql://...") from None
    try:
        with closing(psycopg.connect(dsn, autocommit=True, application_name="fuseboard db")) as admin:
            if admin.info.parameter_status("is_superuser") != "on":
                raise ProvisionError("this is done by a superuser: only one can close PostgreSQL's own functions")
            encoding = admin.info.parameter_status("server_encoding")
            if encoding != "UTF8":
                raise ProvisionError(f"database {admin.info.dbname!r} is encoded in {encoding}: plugins need UTF8")
            admin.execute("SET search_path = pg_catalog, pg_temp")
            admin.execute("SET lock_timeout = '60s'")
            admin.execute("SELECT pg_advisory_lock(%s)", (_ONE_AT_A_TIME,))
            yield Provisioning(admin, kept, dry_run=dry_run)
    except psycopg.Error as error:
        raise ProvisionError(str(error).strip()) from None


def _checked(migration: Migration) -> None:
    try:
        list(migration_statements(migration.sql))
    except BackendError as error:
        raise ProvisionError(f"{migration}: {error.reason}") from None


def _check_applied(owned: Namespace, migrations: Sequence[Migration], applied: list[tuple[int, str, str]]) -> None:
    for (number, name, checksum), migration in zip(applied, migrations, strict=False):
        if (number, checksum) != (migration.number, migration.checksum):
            raise ProvisionError(
                f"{migration} isn't what was applied to {owned} as {number:04}_{name}.sql: it was changed"
            )
    if len(applied) > len(migrations):
        raise ProvisionError(f"{owned} has {len(applied)} migrations, and this version {len(migrations)}: it is older")


def _trusted(text: str) -> sql.SQL:
    """Return SQL that the server or this module wrote."""
    return sql.SQL(text)
