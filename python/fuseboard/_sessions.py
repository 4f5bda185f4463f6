"""The backends' sessions of one invocation: each opened at its first call, all ended together.

Rules:
* One session for each distinct backend object: a store that serves the database and KV commits once.
* Commit in `COMMIT_ORDER`; the first that fails ends it, and the rest is rolled back.
* A session is forgotten only when it has ended: an end that was interrupted is made again.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from fuseboard._breakers import Breakers
from fuseboard._effects import Commit, Flow, Open, Rollback
from fuseboard._errors import BackendError
from fuseboard._hostcalls import BackendKind
from fuseboard._limits import Caps
from fuseboard._outcome import Outcome
from fuseboard._slots import Slots
from fuseboard._text import printable
from fuseboard.backends import Backend, Identity, Session

MAX_DETAIL: Final = 1024
COMMIT_ORDER: Final[tuple[BackendKind, ...]] = ("db", "kv", "http", "functions")

_log = logging.getLogger("fuseboard")


class Services(NamedTuple):
    """What all invocations of a host share.

    Attributes:
        backends: who serves each kind of host call.
        caps: the operator's caps.
        clock: monotonic time in seconds.
        commit_seconds: what a commit may take, outside the invocation's own time.
        slots: who may run now.
        breakers: whom to leave alone.
        report: told every outcome, once it is settled.
    """

    backends: Mapping[BackendKind, Backend]
    caps: Caps
    clock: Callable[[], float]
    commit_seconds: float
    slots: Slots
    breakers: Breakers
    report: Callable[[Outcome], None]


class Sessions:
    """What one invocation has open."""

    __slots__ = ("_identity", "_open", "_services")

    def __init__(self, identity: Identity, services: Services) -> None:
        self._identity = identity
        self._services = services
        self._open: dict[int, Session] = {}

    def get(self, kind: BackendKind) -> Session | None:
        """Return the session that serves a kind of host call, where it is open."""
        return self._open.get(id(self._services.backends[kind]))

    def opened(self, kind: BackendKind, deadline: float) -> Flow[Session]:
        """Open the session that serves a kind of host call."""
        backend = self._services.backends[kind]
        session = backend.session(self._identity)
        if inspect.isawaitable(session):
            session = yield from self._awaited(session, deadline)
        self._open[id(backend)] = session
        return session

    def _awaited(self, opening: Awaitable[Session], deadline: float) -> Flow[Session]:
        try:
            session: Session = yield Open(opening, deadline)
        except BaseException:
            if inspect.iscoroutine(opening):
                opening.close()  # it may never have begun
            raise
        return session

    def commit(self) -> Flow[str | None]:
        """Commit all, and return what went wrong, or `None`. What isn't committed then is still open."""
        for kind in COMMIT_ORDER:
            backend = id(self._services.backends.get(kind))
            session = self._open.get(backend)
            if session is None:
                continue
            try:
                yield Commit(session, self._commit_deadline())
            except Exception as error:  # noqa: BLE001  a backend may raise anything; it is logged
                _log.exception("the %s backend can't commit", kind, extra=self._identity.names())
                reason = error.reason if isinstance(error, BackendError) else "the service failed"
                return printable(f"{kind}: {reason}", MAX_DETAIL)
            del self._open[backend]
        return None

    def roll_back_for_sure(self) -> Flow[None]:
        """Roll back all that is open, once more where that is interrupted too."""
        try:
            yield from self.roll_back()
        except BaseException:
            yield from self.roll_back()
            raise

    def roll_back(self) -> Flow[None]:
        """Roll back all that is open, in the order opposite to their opening."""
        for backend, session in reversed(tuple(self._open.items())):
            try:
                yield Rollback(session, self._commit_deadline())
            except Exception:  # noqa: BLE001  a backend may raise anything; it is logged
                _log.exception("a backend can't roll back", extra=self._identity.names())
            del self._open[backend]

    def _commit_deadline(self) -> float:
        return self._services.clock() + self._services.commit_seconds
