"""The application that hosted scenarios run in: what it serves, as the scenario has it, and what was asked of it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import fuseboard as fb
from fuseboard.backends import (
    Answer,
    AnswerCode,
    Backend,
    HostCall,
    HttpRequest,
    HttpResponse,
    Identity,
    Migration,
    Session,
)
from fuseboard.backends.memory import MemoryDb, MemoryHttp, MemoryKv
from tables import migrations

from .notation import data
from .scenario import Scenario

SLUG: Final = "conformance"
TABLES: Final = "CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT UNIQUE, weight REAL, raw BLOB);"


@dataclass(slots=True)
class Application:
    """What one scenario's guest is served."""

    scenario: Scenario
    called: list[list[Any]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    db: MemoryDb = field(default_factory=MemoryDb)
    http: MemoryHttp = field(init=False)
    kv: MemoryKv = field(init=False)

    def __post_init__(self) -> None:
        answers = iter(self.scenario.http)

        def served(_: HttpRequest) -> HttpResponse:
            answer = next(answers, None)
            if answer is None:
                return HttpResponse(404)
            return HttpResponse(answer.status, tuple(answer.headers), data(answer.body))

        self.http = MemoryHttp(served)
        self.kv = MemoryKv({SLUG: {key.encode(): data(value) for key, value in self.scenario.kv.items()}})
        self.db.prepare(SLUG, migrations(TABLES))
        for statement in self.scenario.sql:
            self.db.rows(SLUG, statement)

    def note(self, name: str, **arguments: Any) -> None:
        self.called.append([name, arguments])


class Stage:
    """What a host serves, whichever scenario it runs at the time."""

    application: Application

    def backends(self) -> fb.Backends:
        return fb.Backends(http=_Watched("http", self), db=_WatchedDb("db", self), kv=_Watched("kv", self))

    def functions(self) -> list[Any]:
        @fb.host_function("suite.give")
        def give(value: Any) -> Any:
            self.application.note("suite.give", value=value)
            return value

        @fb.host_function("suite.sum")
        def total(numbers: list[int], note: str = "") -> dict[str, Any]:
            self.application.note("suite.sum", numbers=numbers, note=note)
            return {"sum": sum(numbers), "note": note}

        @fb.host_function("suite.twice", per_invocation=2)
        def twice() -> None:
            self.application.note("suite.twice")

        @fb.host_function("suite.refuse")
        def refuse(code: int, reason: str) -> None:
            raise fb.BackendError(reason, code=code)

        @fb.host_function("suite.secret")
        def secret() -> None:
            self.application.note("suite.secret")

        return [give, total, twice, refuse, secret]


@dataclass(frozen=True, slots=True)
class _Watched:
    """A backend that counts what it is asked, and fails or is slow where the scenario says so."""

    kind: str
    stage: Stage

    def session(self, identity: Identity) -> Session:
        application = self.stage.application
        backend: Backend = getattr(application, self.kind)
        return _WatchedSession(backend.session(identity), self.kind, application)


class _WatchedDb(_Watched):
    def prepare(self, plugin: str, migrations: tuple[Migration, ...]) -> None:
        """Do nothing: the application has made its tables."""


@dataclass(frozen=True, slots=True)
class _WatchedSession:
    session: Session
    kind: str
    application: Application

    def answer(self, call: HostCall, deadline: float) -> Answer:
        scenario = self.application.scenario
        self.application.asked[self.kind] += 1
        if self.kind in scenario.slow_ms:
            time.sleep(scenario.slow_ms[self.kind] / 1e3)
        if code := scenario.fails.get(self.kind):
            raise fb.BackendError(f"the {self.kind} backend says {code}", code=AnswerCode[code.upper()])
        return self.session.answer(call, deadline)

    def commit(self, deadline: float) -> None:
        if self.application.scenario.commit_fails:
            raise fb.BackendError("the disk is full")
        self.session.commit(deadline)

    def rollback(self) -> None:
        self.session.rollback()
