"""What is closed, once, in a database for plugins: everything of PostgreSQL's own that is open to everybody.

Rules:
* The database is the plugins' alone: what is closed here is closed for all roles but superusers.
* Functions are closed by rules first: whatever isn't stable acts on something, but for the few in `_HARMLESS`; whatever
  makes names of numbers, by types for it (`regclass` ..., `aclitem`), tells of what is others'. So a later PostgreSQL's
  new ones are closed too, when the command is run again. `_TELLING` has what no rule catches.
* A cast may call the functions that write and read a type, so those of ordinary types stay open.
* No language is open: neither invocations nor migrations can bring code, and so no SQL that wasn't read.
"""

from __future__ import annotations

from typing import Final, LiteralString

_HARMLESS: Final = (
    "clock_timestamp", "currval", "gen_random_uuid", "lastval", "nextval", "pg_sleep", "random", "random_normal",
    "setval", "statement_timestamp", "timeofday",
)  # fmt: skip
_TELLING: Final = (
    "aclexplode", "col_description", "current_query", "current_schemas", "current_setting", "domain_in", "format_type",
    "getpgusername", "mxid_age", "obj_description", "oidvectortypes", "record_in", "record_recv", "row_security_active",
    "satisfies_hash_partition", "shobj_description", "version",
    "inet_client_addr", "inet_client_port", "inet_server_addr", "inet_server_port",
    "pg_stat_get_activity", "schema_to_xml", "table_to_xml", "database_to_xml", "database_to_xmlschema",
    "schema_to_xmlschema", "table_to_xmlschema", "schema_to_xml_and_xmlschema", "table_to_xml_and_xmlschema",
    "database_to_xml_and_xmlschema",
)  # fmt: skip
"""Functions that tell of what isn't a plugin's, and change nothing."""

OPEN_FUNCTIONS: Final[LiteralString] = """
    SELECT p.oid::regprocedure::text FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'p')
      AND (p.provolatile = 'v' AND p.proname <> ALL (%s) OR p.proname = ANY (%s)
        OR p.proname ~ '^(has_.*_privilege|txid_.*)$' OR p.prorettype::regtype::text ~ '^reg[a-z]+$'
        OR p.prorettype IN ('cstring'::regtype, 'bytea'::regtype) AND p.proargtypes[0]::regtype::text ~ '^reg[a-z]+$'
        OR EXISTS (SELECT FROM unnest(p.proargtypes::oid[] || p.prorettype) t WHERE t::regtype::text ~ '^aclitem'))
      AND has_function_privilege('public', p.oid, 'EXECUTE')
"""
OPEN_FUNCTIONS_VALUES: Final = (list(_HARMLESS), list(_TELLING))

OPEN_LANGUAGES: Final[LiteralString] = """
    SELECT lanname FROM pg_language
    WHERE lanpltrusted AND (lanacl IS NULL OR EXISTS (
        SELECT FROM aclexplode(lanacl) a WHERE a.grantee = 0 AND a.privilege_type = 'USAGE'))
"""

OPEN_TABLES: Final[LiteralString] = """
    SELECT DISTINCT c.relnamespace::regnamespace::text FROM pg_class c
    WHERE c.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
      AND c.relkind IN ('r', 'v')
      AND (has_table_privilege('public', c.oid, 'SELECT') OR has_any_column_privilege('public', c.oid, 'SELECT'))
"""

OTHERS_TABLES: Final[LiteralString] = """
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f', 'm', 'v') AND n.nspname !~ '^(pg_|information_schema$)'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    LIMIT 1
"""
