"""A plugin's migrations: the SQL that makes its tables, in the order in which it is applied.

Rules:
* They are files `migrations/0001_name.sql`, `0002_...` of the plugin's folder, numbered without a gap.
* Once applied, one is never changed: its checksum is kept beside it. What changes a table again is the next one.
* They come from strangers, as manifests do: every problem is named, none raises, none is read without bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

MIGRATIONS_FOLDER: Final = "migrations"
MAX_MIGRATIONS: Final = 1_000
MAX_MIGRATION_BYTES: Final = 1 << 20

_NAME: Final = re.compile(r"([0-9]{4})_([a-z0-9_]{1,64})\.sql")


class Migration(NamedTuple):
    """One step of a plugin's tables.

    Attributes:
        number: its place, from 1.
        name: the file's name without number and ending.
        sql: one or more statements.
        checksum: the SHA-256 of the file's bytes, in hex.
    """

    number: int
    name: str
    sql: str
    checksum: str

    def __str__(self) -> str:
        """Return the file's name."""
        return f"{self.number:04}_{self.name}.sql"


MigrationProblem = tuple[str, str]
"""A file or folder below the plugin's, and one sentence on what is wrong with it."""


def read_migrations(plugin_folder: Path) -> tuple[tuple[Migration, ...], list[MigrationProblem]]:
    """Return the migrations of a plugin's folder, none where it has no such folder, and every problem with them."""
    folder = plugin_folder / MIGRATIONS_FOLDER
    if not folder.exists():
        return (), []
    read = tuple(_read(folder))
    problems = [(f"{MIGRATIONS_FOLDER}/{one[0]}".rstrip("/"), one[1]) for one in read if not isinstance(one, Migration)]
    return () if problems else tuple(one for one in read if isinstance(one, Migration)), problems


def _read(folder: Path) -> Iterator[Migration | MigrationProblem]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        yield "", f"can't be read: {error.strerror or error}"
        return
    if len(names) > MAX_MIGRATIONS:
        yield "", f"has {len(names)} files, of at most {MAX_MIGRATIONS}"
        return
    for place, name in enumerate(names, 1):
        match = _NAME.fullmatch(name)
        if match is None:
            yield name, "a migration is called like 0001_create_notes.sql: four digits, then a-z, 0-9 and _"
        elif int(match[1]) != place:
            yield name, f"migrations are numbered without a gap: this one must be {place:04}"
        else:
            yield _migration(folder / name, place, match[2])


def _migration(path: Path, number: int, name: str) -> Migration | MigrationProblem:
    try:
        content = _content(path)
        return Migration(number, name, content.decode(), sha256(content).hexdigest())
    except OSError as error:
        return path.name, f"can't be read: {error.strerror or error}"
    except UnicodeDecodeError:
        return path.name, "isn't UTF-8 text"
    except ValueError as error:
        return path.name, str(error)


def _content(path: Path) -> bytes:
    if not path.resolve(strict=True).is_relative_to(path.parent.parent) or not path.is_file():
        raise ValueError("must be a file inside of the plugin's folder")
    with path.open("rb") as file:
        content = file.read(MAX_MIGRATION_BYTES + 1)
    if len(content) > MAX_MIGRATION_BYTES:
        raise ValueError(f"is larger than {MAX_MIGRATION_BYTES} bytes, the most that a migration may have")
    if not content.strip():
        raise ValueError("is empty")
    return content
