"""Fork where the backends of a host hold something; a script with a scenario for each name, like `forks.py`."""

import os
import sys
import time
from functools import partial

import fuseboard as fb
from fuseboard.backends import (
    Answer,
    DbChanged,
    DbExec,
    DbRows,
    HostCall,
    HttpResponse,
    Identity,
    KvDone,
    KvIncrement,
    KvNumber,
    KvValue,
)
from fuseboard.backends.memory import MemoryHttp
from sites import Site, exit_status, forked, perform


def memory_backends() -> None:
    """Fork where sessions of the backends in memory hold their locks, with writes that aren't committed."""
    site = Site()
    site.serve()
    identity = Identity("hostile", "any", None, "any", fb.Grants(db="write", kv=True))
    kv, db, soon = site.kv.session(identity), site.db.session(identity), time.monotonic() + 60
    assert kv.answer(KvIncrement(b"count", 7), soon) == KvNumber(7)
    assert db.answer(DbExec("INSERT INTO traces VALUES (2)"), soon) == DbChanged(1)

    def check() -> None:
        assert site.kv.items("hostile") == {b"trace": b"x"}
        assert site.db.rows("hostile", "SELECT count(*) FROM traces") == [(0,)]
        site.serve(2)
        assert site.db.rows("hostile", "SELECT n FROM traces") == [(1,), (1,)]

    assert exit_status(forked(check, sys.exit)) == 0
    db.commit(soon)
    kv.commit(soon)
    assert site.kv.items("hostile") == {b"trace": b"x", b"count": b"7"}
    assert site.db.rows("hostile", "SELECT n FROM traces") == [(1,), (2,)]
    site.serve()


class Store:
    """A backend that holds nothing and knows in which processes it was made anew; its own session, too."""

    def __init__(self) -> None:
        self.made_anew_in: list[int] = []

    def after_fork_in_child(self) -> None:
        self.made_anew_in.append(os.getpid())

    def session(self, identity: Identity) -> "Store":  # noqa: ARG002  nothing is anybody's
        return self

    def answer(self, call: HostCall, deadline: float) -> Answer:  # noqa: ARG002  it never waits
        answers: tuple[Answer, ...] = (KvValue(None), KvDone(), DbRows((), ()), DbChanged(0))
        return next(answer for answer in answers if isinstance(answer, call.answered_by))

    def commit(self, deadline: float) -> None:
        """Do nothing."""

    def rollback(self) -> None:
        """Do nothing."""


def custom_backend() -> None:
    """Fork, and fork again, with one backend object for two kinds of calls."""
    store = Store()
    site = Site(backends=fb.Backends(http=MemoryHttp(lambda _: HttpResponse(200)), db=store, kv=store))

    def live(ancestors: list[int]) -> None:
        assert store.made_anew_in == [*ancestors, os.getpid()]
        site.serve()
        if not ancestors:
            assert exit_status(forked(partial(live, store.made_anew_in[:]))) == 0
        assert store.made_anew_in == [*ancestors, os.getpid()]

    site.serve()
    assert exit_status(forked(partial(live, []))) == 0
    assert store.made_anew_in == []
    site.serve()


if __name__ == "__main__":
    perform(memory_backends, custom_backend)
