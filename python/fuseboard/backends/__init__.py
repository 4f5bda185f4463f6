"""The seam to everything outside: what serves a guest's HTTP, database and key-value calls.

Rules:
* `backend.session(identity)` does no I/O; a session lives for one invocation and opens at its first call.
* One backend object gives one session an invocation: a store that serves `db` and `kv` commits once.
* A session's writes are seen by its own reads at once, and by others only after `commit`.
* `answer` gets calls that were already checked against the grants and charged. It returns the answer that
  the call names in `answered_by`, or raises `BackendError`; anything else it raises is logged and answered
  `BACKEND_FAILED` without its text.
* `deadline` is a time of `time.monotonic()`, in seconds. An answer that comes later is thrown away.
* Redirects are answers; a backend never follows one.
* Sessions of different invocations are used from different threads at the same time, one session never is.
* An `AsyncHost` takes coroutine functions in the place of any of these methods, and runs plain ones on threads, but for
  `session`, which it calls on the event loop. There, a plain `answer` that is late is given up: `rollback` can come
  before it has ended.
* A backend that has `after_fork_in_child()` has it called in forked children, to get new locks and connections without
  touching the inherited ones.
* A database that has `prepare(...)` is told each plugin that requests it, with its migrations, before that is loaded.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import msgspec

from fuseboard._grants import Grants
from fuseboard._hostcalls import (
    Answer,
    AnswerCode,
    DbChanged,
    DbExec,
    DbQuery,
    DbRows,
    FunctionCall,
    FunctionResult,
    HostCall,
    HttpRequest,
    HttpResponse,
    KvDelete,
    KvDone,
    KvGet,
    KvIncrement,
    KvNumber,
    KvSet,
    KvValue,
)
from fuseboard._migrations import Migration

__all__ = [
    "Answer",
    "AnswerCode",
    "AsyncBackend",
    "AsyncSession",
    "Backend",
    "Backends",
    "DbChanged",
    "DbExec",
    "DbQuery",
    "DbRows",
    "FunctionCall",
    "FunctionResult",
    "HostCall",
    "HttpRequest",
    "HttpResponse",
    "Identity",
    "KvDelete",
    "KvDone",
    "KvGet",
    "KvIncrement",
    "KvNumber",
    "KvSet",
    "KvValue",
    "Migration",
    "Preparable",
    "Session",
]


class Identity(msgspec.Struct, frozen=True):
    """On whose behalf a session works.

    Attributes:
        plugin: the plugin's slug; with `scope` the namespace of its data.
        hook: the hook's name.
        scope: the tenant, or `None`.
        request_id: the request's id, sent along and logged.
        grants: what the plugin may do, e.g. `grants.db` is `"read"` or `"write"`.
        version: the plugin's version.
    """

    plugin: str
    hook: str
    scope: str | None
    request_id: str
    grants: Grants
    version: str = ""

    def names(self) -> dict[str, Any]:
        """Return what it is about, by name: what log records carry, and what a guest reads of its call."""
        return {"plugin": self.plugin, "hook": self.hook, "request_id": self.request_id, "scope": self.scope}


class Session(Protocol):
    """One invocation's use of a backend."""

    def answer(self, call: HostCall, deadline: float) -> Answer:
        """Serve one call.

        Raises:
            BackendError: the call can't be served; the guest is answered the error's code and reason.
        """

    def commit(self, deadline: float) -> None:
        """Make the session's writes lasting and visible, all or none, and end it.

        Raises:
            BackendError: nothing was written.
        """

    def rollback(self) -> None:
        """Forget the session's writes and end it.

        Called after a failed commit too, and again where it was interrupted; after a commit that succeeded it
        does nothing.
        """


class Backend(Protocol):
    """A service that plugins can be granted."""

    def session(self, identity: Identity) -> Session:
        """Return a session for one invocation, without I/O."""


@runtime_checkable
class Preparable(Protocol):
    """A database backend, of either kind of host, that gets ready for a plugin's migrations."""

    def prepare(self, plugin: str, migrations: tuple[Migration, ...]) -> None:
        """Apply a plugin's migrations, or see that they are applied. May do I/O: it runs on the thread that loads.

        Args:
            plugin: the plugin's slug.
            migrations: all of them in order; none for a plugin loaded from bytes.

        Raises:
            BackendError: the plugin can't be loaded; the reason becomes a `LoadError`.
        """


class AsyncSession(Protocol):
    """One invocation's use of a backend under an `AsyncHost`: each method may be a coroutine function, or plain."""

    def answer(self, call: HostCall, deadline: float) -> Answer | Awaitable[Answer]:
        """Serve one call, as `Session.answer`."""

    def commit(self, deadline: float) -> Awaitable[None] | None:
        """Make the session's writes lasting, as `Session.commit`."""

    def rollback(self) -> Awaitable[None] | None:
        """Forget the session's writes, as `Session.rollback`."""


class AsyncBackend(Protocol):
    """A service that plugins can be granted by an `AsyncHost`."""

    def session(self, identity: Identity) -> AsyncSession | Awaitable[AsyncSession]:
        """Return a session for one invocation: at once and without I/O, or by a coroutine, which may wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """The services of one host; a plugin that requests one that isn't there fails to load.

    One object may serve as both `db` and `kv`: then both commit as one. Asynchronous ones are for an `AsyncHost`.
    """

    http: Backend | AsyncBackend | None = None
    db: Backend | AsyncBackend | None = None
    kv: Backend | AsyncBackend | None = None
