"""Which roles and which schema a plugin and scope have in PostgreSQL, and the roles' passwords.

Rules:
* A name has a digest of database, plugin and scope: no two namespaces meet in one, whatever plugins and scopes are
  called, and however long. Roles belong to a whole server, so the database is in it too.
* A role's password is derived from the operator's secret and its name: nothing else has to be kept.
* Nothing here does I/O.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from fuseboard._errors import UsageError

_LEAST_SECRET_BYTES: Final = 16
_DIGEST_LETTERS: Final = 24
_SLUG_LETTERS: Final = 20
_PURPOSE: Final = b"fuseboard postgresql password\0"


@dataclass(frozen=True, slots=True)
class Namespace:
    """Where a plugin's tables are, in one scope.

    Attributes:
        plugin: the plugin's slug.
        scope: the scope, or `None`.
        role: who logs in to serve the plugin's calls; the schema has the same name.
    """

    plugin: str
    scope: str | None
    role: str

    @property
    def owner(self) -> str:
        """The role that runs migrations and owns the tables."""
        return f"{self.role}_owner"

    def __str__(self) -> str:
        """Return what an operator calls it."""
        return self.plugin if self.scope is None else f"{self.plugin} in scope {self.scope!r}"


def namespace(database: str, plugin: str, scope: str | None) -> Namespace:
    """Return the namespace of a plugin and scope in a database."""
    whole = json.dumps([database, plugin, scope]).encode()
    readable = plugin.replace("-", "_")[:_SLUG_LETTERS]
    return Namespace(plugin, scope, f"fb_{readable}_{sha256(whole).hexdigest()[:_DIGEST_LETTERS]}")


class Secret:
    """The operator's secret, from which roles' passwords come; it shows itself nowhere.

    Raises:
        UsageError: it is too short.
    """

    __slots__ = ("_key",)

    def __init__(self, secret: str | bytes) -> None:
        if not isinstance(secret, str | bytes):
            raise UsageError(f"secret must be text or bytes, not {type(secret).__name__}")
        key = secret.encode() if isinstance(secret, str) else secret
        if len(key) < _LEAST_SECRET_BYTES:
            raise UsageError(f"secret has {len(key)} bytes; it must be random, and have {_LEAST_SECRET_BYTES} at least")
        self._key = key

    def password(self, role: str) -> str:
        """Return a role's password (HMAC-SHA256, in hex)."""
        return hmac.digest(self._key, _PURPOSE + role.encode(), "sha256").hex()
