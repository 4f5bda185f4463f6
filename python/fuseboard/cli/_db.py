"""`fuseboard db`: what the operator does in PostgreSQL for plugins: roles, schemas, rights and migrations.

Rules:
* psycopg is imported when one of these commands is run, and by none else.
* No password and no secret is shown, nor what can't be read and might hold one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from rich.table import Table

from fuseboard._errors import UsageError
from fuseboard._limits import Limits
from fuseboard._loading import Candidate, from_folder
from fuseboard.cli._terminal import (
    NOTHING,
    CannotRun,
    json_option,
    output,
    plain,
    plugin_argument,
    print_json,
    say,
    wrong_option,
)

if TYPE_CHECKING:
    from fuseboard.backends._postgres_provision import Provisioned, Provisioning
    from fuseboard.backends._postgres_rights import Level

F = TypeVar("F", bound=Callable[..., Any])

DSN_VARIABLE: Final = "FUSEBOARD_DB_DSN"
SECRET_VARIABLE: Final = "FUSEBOARD_DB_SECRET"  # noqa: S105  a variable's name


def _dsn_option(command: F) -> F:
    help_text = f"How a superuser gets into the plugins' database, as libpq reads it; by default {DSN_VARIABLE}."
    return click.option("--dsn", metavar="DSN", required=True, envvar=DSN_VARIABLE, help=help_text)(command)


def _secret_option(command: F) -> F:
    help_text = f"A file with the secret that the application's Postgres has too; by default {SECRET_VARIABLE} is it."
    return click.option("--secret-file", metavar="FILE", type=click.Path(path_type=Path), help=help_text)(command)


def _dry_run_option(command: F) -> F:
    return click.option("--dry-run", is_flag=True, help="Only say what would be done.")(command)


def _scope_option(help_text: str) -> Callable[[F], F]:
    return click.option("--scope", "scopes", metavar="SCOPE", multiple=True, help=help_text)


@click.group("db")
def db() -> None:
    """Prepare a PostgreSQL database for plugins. SQLite needs none of this."""


@db.command()
@plugin_argument
@_dsn_option
@_secret_option
@_scope_option("A scope that the plugin works in, beside none; may be given often.")
@_dry_run_option
def provision(folder: Path, dsn: str, secret_file: Path | None, scopes: tuple[str, ...], *, dry_run: bool) -> None:
    """Make what the plugin in DIR needs, or bring it up to date: its roles, schemas, rights and tables.

    Applies the migrations that aren't yet, in all scopes that the plugin has and in new ones. The database is the
    plugins' alone: the first time, all that is open to everybody there is closed. Doing it again changes nothing.
    """
    candidate = _candidate(folder)
    manifest = candidate.manifest
    if manifest is None or manifest.capabilities.db is None:
        raise CannotRun(f"{candidate.path}: the plugin requests no db")
    may: Level = manifest.capabilities.db
    with _provisioning(dsn, _secret(secret_file), dry_run=dry_run) as session:
        done = session.provision(manifest.slug, candidate.migrations, may, scopes)
        if not _said(done, dry_run=dry_run):
            say(output(), plain(f"{manifest.slug} is up to date"))


@db.command()
@_dsn_option
@json_option
def status(dsn: str, *, as_json: bool) -> None:
    """List which plugins and scopes are provisioned, what they may do, and how many migrations they have."""
    with _provisioning(dsn, None) as session:
        found = session.provisioned()
    if as_json:
        print_json({"namespaces": [_data(each) for each in found]})
    elif found:
        output().print(_table(found))
    else:
        say(output(), plain(NOTHING, "dim"))


@db.command()
@click.argument("plugin", metavar="PLUGIN")
@_dsn_option
@_scope_option("Only this scope; may be given often.")
@_dry_run_option
@click.option("--yes", is_flag=True, help="Don't ask.")
def drop(plugin: str, dsn: str, scopes: tuple[str, ...], *, dry_run: bool, yes: bool) -> None:
    """Remove the data of the plugin whose slug is PLUGIN, its schemas and its roles."""
    if not yes and not dry_run:
        click.confirm(f"Remove all data of {plugin!r}?", abort=True, err=True)
    with _provisioning(dsn, None, dry_run=dry_run) as session:
        if not _said(session.drop(plugin, scopes or None), dry_run=dry_run):
            raise CannotRun(f"nothing of {plugin!r} is provisioned")


@contextmanager
def _provisioning(dsn: str, secret: bytes | None, *, dry_run: bool = False) -> Iterator[Provisioning]:
    try:
        from fuseboard.backends import _postgres_provision as postgres  # noqa: PLC0415  it imports psycopg
    except ImportError as error:
        raise CannotRun(f"psycopg can't be used ({error}): pip install 'fuseboard[postgres]'") from None
    try:
        with postgres.provisioning(dsn, secret, dry_run=dry_run) as session:
            yield session
    except (postgres.ProvisionError, UsageError) as error:
        raise CannotRun(*str(error).splitlines()) from None


def _candidate(folder: Path) -> Candidate:
    candidate = from_folder(folder, Limits())
    if candidate.problems:
        raise CannotRun(*map(str, candidate.problems))
    return candidate


def _secret(file: Path | None) -> bytes:
    if file is None:
        if SECRET_VARIABLE not in os.environ:
            raise click.UsageError(f"the secret is missing: give --secret-file, or set {SECRET_VARIABLE}")
        return os.environ[SECRET_VARIABLE].encode()
    try:
        return file.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise wrong_option("--secret-file", f"{file} can't be read: {error.strerror}") from None


def _said(done: Iterator[str], *, dry_run: bool) -> bool:
    """Say what is done, as it is done, and return whether there was anything."""
    said = False
    for each in done:
        said = True
        say(output(), plain(f"would have {each}" if dry_run else each))
    return said


def _data(each: Provisioned) -> dict[str, Any]:
    owned = each.namespace
    return {
        "plugin": owned.plugin,
        "scope": owned.scope,
        "role": owned.role,
        "may": each.may,
        "migrations": each.migrations,
    }


def _table(found: list[Provisioned]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("plugin", "scope", "may", "migrations", "role"):
        table.add_column(name, justify="right" if name == "migrations" else "left")
    for each in found:
        owned = each.namespace
        scope = "" if owned.scope is None else owned.scope
        table.add_row(*map(plain, (owned.plugin, scope, each.may, each.migrations, owned.role)))
    return table
