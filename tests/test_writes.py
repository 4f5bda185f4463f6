"""A trapped invocation leaves nothing but its record; a completed one leaves all it wrote."""

from collections.abc import Iterator
from typing import NoReturn

import pytest

import fuseboard as fb
from drivers import MakeHost
from fuseboard import Cause
from fuseboard.backends import HttpResponse, Identity, Session
from fuseboard.backends.memory import MemoryDb, MemoryHttp, MemoryKv
from guests import HOSTILE, TEXT, Application, manifest


@pytest.fixture
def app(driver: MakeHost) -> Iterator[Application]:
    """A fresh application."""
    app = Application(driver)
    yield app
    app.host.close()


def rows(db: MemoryDb, *, scope: str | None = None) -> list[tuple[object, ...]]:
    """Return what lasts in the traces table."""
    return db.rows("hostile", "SELECT n FROM traces", scope=scope)


def test_completed_writes_last(app: Application) -> None:
    """What a completed invocation wrote is there."""
    app.load("write_and_finish")
    app.host.apply_filter(TEXT, "x")

    assert app.kv.items("hostile") == {b"trace": b"x"}
    assert rows(app.db) == [(1,)]


@pytest.mark.parametrize(
    ("export", "cause"),
    [
        ("write_then_loop", Cause.LIMIT),
        ("write_then_crash", Cause.CRASH),
        ("write_then_fail", Cause.FAILED),
        ("write_then_bad_json", Cause.BAD_OUTPUT),
    ],
)
def test_trapped_writes_are_gone(app: Application, export: str, cause: Cause) -> None:
    """What a trapped invocation wrote is gone, whatever ended it, bad output too."""
    app.load(export, server={"invocation_timeout_ms": 50, "fuel_per_invocation": 1_000_000_000})
    outcome = app.host.invoke("hostile", TEXT, "x")

    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.cause is cause
    assert app.kv.items("hostile") == {}
    assert rows(app.db) == []


def test_scopes_keep_their_own_data(app: Application) -> None:
    """Two scopes see neither each other's KV nor each other's database."""
    app.load("write_and_finish")
    app.host.apply_filter(TEXT, "x", scope="site-1")

    assert app.kv.items("hostile", scope="site-1") == {b"trace": b"x"}
    assert rows(app.db, scope="site-1") == [(1,)]
    assert app.kv.items("hostile", scope="site-2") == app.kv.items("hostile") == {}
    assert rows(app.db, scope="site-2") == []


@fb.host_function("mail.send")
def send_mail(to: str, subject: str) -> None:
    """Send nothing."""


class BrokenKv(MemoryKv):
    """A store that takes writes and can't commit them."""

    def session(self, identity: Identity) -> "BrokenSession":  # type: ignore[override]
        """Return a session that fails at its end."""
        return BrokenSession(super().session(identity))


class BrokenSession:
    """A session whose commit fails."""

    def __init__(self, inner: Session) -> None:
        self.answer = inner.answer
        self.rollback = inner.rollback
        self.reason = "the disk is full"

    def commit(self, deadline: float) -> NoReturn:  # noqa: ARG002  the protocol's signature
        """Fail."""
        raise fb.BackendError(self.reason)


def test_commit_failure_is_told(driver: MakeHost) -> None:
    """A commit that fails gives `Trapped(cause=COMMIT)` with the backend's reason."""
    app = Application()
    broken = driver(
        hooks=[TEXT],
        functions=[send_mail],
        backends=fb.Backends(http=app.http, db=app.db, kv=BrokenKv()),
    )
    with broken, app.host:
        broken.load_bytes(HOSTILE, manifest("write_and_finish", "text", "hostile", {}), grants="as-requested")
        outcome = broken.invoke("hostile", TEXT, "x")

    assert isinstance(outcome, fb.Trapped)
    assert (outcome.trap.cause, outcome.trap.limit) == (Cause.COMMIT, None)
    assert outcome.trap.detail == "kv: the disk is full"


class NoisyKv(BrokenKv):
    """A store whose reason for not committing would forge log lines."""

    def session(self, identity: Identity) -> "BrokenSession":  # type: ignore[override]
        """Return a session that fails at its end."""
        session = super().session(identity)
        session.reason = "full\n\x1b[31m" + "x" * 5_000
        return session


class CoroutineKv(MemoryKv):
    """A store whose commit is a coroutine function, which nobody would await."""

    def session(self, identity: Identity) -> "CoroutineSession":  # type: ignore[override]
        """Return a session with a coroutine for its end."""
        return CoroutineSession(super().session(identity))


class CoroutineSession:
    """A session whose commit does nothing unless it is awaited."""

    def __init__(self, inner: Session) -> None:
        self.answer = inner.answer
        self.rollback = inner.rollback

    async def commit(self, deadline: float) -> None:
        """Commit, if anybody waits for it."""


def committed_by(kv: MemoryKv) -> fb.Outcome:
    """Return the outcome of writes that a store is to commit."""
    backends = fb.Backends(http=MemoryHttp(lambda _: HttpResponse(200)), db=MemoryDb(), kv=kv)
    with fb.Host(hooks=[TEXT], functions=[send_mail], backends=backends) as host:
        host.load_bytes(HOSTILE, manifest("write_and_finish", "text", "hostile", {}), grants="as-requested")
        return host.invoke("hostile", TEXT, "x")


def test_commit_reason_is_cut_and_printable() -> None:
    """What a store says of its failure can't write lines of its own into the log, nor fill it."""
    outcome = committed_by(NoisyKv())

    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.detail.startswith(r"kv: full\n\x1b[31mx")
    assert len(outcome.trap.detail) < 1_100


def test_commit_that_nobody_awaits_is_no_commit() -> None:
    """A coroutine function where a plain method must be is a failed commit, not a lost one."""
    outcome = committed_by(CoroutineKv())

    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.cause is Cause.COMMIT
