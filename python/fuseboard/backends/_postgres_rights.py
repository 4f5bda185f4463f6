"""What the roles of a plugin and scope are and may do in PostgreSQL: tables of SQL, filled with names by who runs them.

Rules:
* The role that serves invocations reads and changes rows; it makes nothing. The owner makes tables in its schema, which
  is a superuser's: it can't be given away, or removed.
* A record of a migration is added by the owner, in the transaction of the migration, and changed by nobody.
"""

from __future__ import annotations

from typing import Final, Literal, LiteralString

Level = Literal["read", "write"]

ROLE: Final[LiteralString] = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS"
RIGHTS: Final[dict[Level, LiteralString]] = {"read": "SELECT", "write": "SELECT, INSERT, UPDATE, DELETE"}
SEQUENCE_RIGHTS: Final[dict[Level, LiteralString]] = {"read": "SELECT", "write": "SELECT, USAGE"}

SETTINGS: Final[dict[LiteralString, str]] = {
    "client_connection_check_interval": "1s",
    "lock_timeout": "10s",
    "max_parallel_workers_per_gather": "0",
    "statement_timeout": "10s",
    "temp_file_limit": "64MB",
}
"""What holds for a role that serves invocations, where a statement says nothing else."""

STATEMENTS: Final[tuple[LiteralString, ...]] = (
    "CREATE SCHEMA IF NOT EXISTS {schema}",
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner}",
    """CREATE TABLE IF NOT EXISTS {schema}.fuseboard_migrations (
        number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied timestamptz DEFAULT now())""",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} REVOKE ALL ON TABLES FROM {role}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} REVOKE ALL ON SEQUENCES FROM {role}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT {rights} ON TABLES TO {role}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT {of_sequences} ON SEQUENCES TO {role}",
    "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}",
    "REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {role}",
    "GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "GRANT {of_sequences} ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    "REVOKE ALL ON {schema}.fuseboard_migrations FROM {role}",
    "GRANT SELECT ON {schema}.fuseboard_migrations TO {role}",
    "GRANT SELECT, INSERT ON {schema}.fuseboard_migrations TO {owner}",
)

CATALOG: Final[LiteralString] = (
    "CREATE TABLE fuseboard.namespaces (role text PRIMARY KEY, plugin text NOT NULL, scope text, may text NOT NULL)"
)
NOTE: Final[LiteralString] = (
    "INSERT INTO fuseboard.namespaces VALUES (%s, %s, %s, %s) ON CONFLICT (role) DO UPDATE SET may = excluded.may"
)
