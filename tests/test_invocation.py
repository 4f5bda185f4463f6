"""The flow of one invocation, against a scripted guest, scripted backends and a clock that only the test moves.

Whatever is driven to its end is driven by both drivers.
"""

from __future__ import annotations

import asyncio
import dis
import json
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest

import fuseboard as fb
from conftest import MIB
from fuseboard import _drivers, _invocation
from fuseboard._async_driver import AsyncDriver
from fuseboard._breaker_store import MemoryBreakerStore
from fuseboard._breakers import Breakers
from fuseboard._dispatch import dispatch
from fuseboard._drivers import drive
from fuseboard._effects import Ask, Commit, Continue, Rollback
from fuseboard._errors import BackendError, BackendTimeout
from fuseboard._hostcalls import HOST_CALLS, HostCall
from fuseboard._invocation import Invocation, Request
from fuseboard._plugin import Plugin, Subscriber
from fuseboard._serving import MAX_REDIRECTS
from fuseboard._sessions import Services
from fuseboard._slots import Slots
from fuseboard._threads import Threads
from fuseboard.backends import (
    AnswerCode,
    DbChanged,
    DbRows,
    FunctionResult,
    HttpResponse,
    KvDone,
    KvGet,
    KvNumber,
    KvValue,
)

if TYPE_CHECKING:
    from conftest import FakeClock
    from fuseboard._hostcalls import BackendKind

TITLE = fb.Filter("title", str)
ALL = fb.Grants(http=["https://a.example", "https://*.b.example"], db="write", kv=True, functions=["mail.send"])
LIMITS = (MIB, 1_000, 250, 8, 4, 100)
OUTPUT: Final = b'"new"'

Event = tuple[Any, ...]


# ── the scripted guest ───────────────────────────────────────────────────────────────────────────


@dataclass
class Completed:
    """A guest's good end."""

    output: bytes | None = None
    fuel: int = 10
    memory_bytes: int = 65_536
    logs: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Trapped:
    """A guest's bad end."""

    cause: str = "crash"
    limit: str | None = None
    detail: str = ""
    backtrace: list[tuple[str | None, int, int | None]] = field(default_factory=list)
    fuel: int = 20
    fuel_exact: bool = True
    memory_bytes: int = 65_536
    logs: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Running:
    """A slice that is over."""

    logs: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Suspended:
    """A guest that waits for an answer."""

    call: str
    parts: tuple[bytes, ...] = ()
    number: int = 0
    logs: list[tuple[int, str]] = field(default_factory=list)


Step = Completed | Trapped | Running | Suspended


@pytest.fixture(autouse=True)
def scripted_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the flow know the script's steps as the core's, whose classes can't be made by hand."""
    core = SimpleNamespace(Completed=Completed, Trapped=Trapped, Running=Running, Suspended=Suspended)
    monkeypatch.setattr(_invocation, "_core", core)


class Guest:
    """An entry and its execution: gives the steps of its script and writes down what it is told."""

    def __init__(self, journal: list[Event], *script: Step | Callable[[], Step]) -> None:
        self.journal = journal
        self.script = list(script)
        self.begun: list[tuple[bytes, bytes, bytes, float]] = []

    def begin(self, value: bytes, context: bytes, call_info: bytes, seconds: float) -> Guest:
        self.begun.append((value, context, call_info, seconds))
        return self

    def resume(self, *, slices: int = 2) -> Step:  # noqa: ARG002  the core's signature
        self.journal.append(("resume",))
        return self._next()

    def answer(self, code: int, head: bytes, body: bytes, *, slices: int = 2) -> Step:  # noqa: ARG002
        assert isinstance(head, bytes)
        assert isinstance(body, bytes)
        self.journal.append(("answer", int(code), json.loads(head), body))
        return self._next()

    def trip(self, limit: str, *, slices: int = 2) -> Step:  # noqa: ARG002
        self.journal.append(("trip", limit))
        return Trapped("limit", limit)

    def close(self) -> None:
        self.journal.append(("close",))

    def _next(self) -> Step:
        step = self.script.pop(0)
        return step() if callable(step) else step


class Backend:
    """A backend whose sessions write down what happens to them, and answer with a function."""

    def __init__(self, journal: list[Event], name: str, answer: Callable[[Any], Any]) -> None:
        self.journal = journal
        self.name = name
        self.answered = answer
        self.commit_fails: BaseException | None = None
        self.rollback_fails: BaseException | None = None
        self.calls: list[Any] = []
        self.deadlines: list[float] = []
        self.identities: list[Any] = []

    def session(self, identity: Any) -> Backend:
        self.identities.append(identity)
        self.journal.append(("session", self.name))
        return self

    def answer(self, call: Any, deadline: float) -> Any:
        self.journal.append(("ask", self.name, type(call).__name__))
        self.calls.append(call)
        self.deadlines.append(deadline)
        return self.answered(call)

    def commit(self, deadline: float) -> None:
        self.journal.append(("commit", self.name))
        self.deadlines.append(deadline)
        if self.commit_fails:
            raise self.commit_fails

    def rollback(self) -> None:
        self.journal.append(("rollback", self.name))
        if self.rollback_fails:
            raise self.rollback_fails


def good_answer(call: Any) -> Any:
    """Answer every call with what fits it."""
    return {
        HttpResponse: HttpResponse(200, (("a", "b"),), b"body"),
        DbRows: DbRows(("n",), ((1,),)),
        DbChanged: DbChanged(1),
        KvValue: KvValue(b"value"),
        KvDone: KvDone(),
        KvNumber: KvNumber(7),
        FunctionResult: FunctionResult(b"true"),
    }[call.answered_by]


Drive = Callable[[Any, Services], Any]


def drive_on_a_loop(flow: Any, services: Services) -> Any:
    """Drive a flow on an event loop of its own."""
    threads = Threads(4)

    async def main() -> Any:
        return await AsyncDriver(services, threads).drive(flow)

    try:
        return asyncio.run(main())
    finally:
        threads.close()


class Everyone:
    """A roster on which everyone is."""

    def is_loaded(self, _: Plugin) -> bool:
        return True

    def check(self, slug: str, hook: str | None) -> None:
        """Refuse nobody."""


def services_of(backends: Any, caps: fb.Caps, clock: FakeClock, report: Callable[[fb.Outcome], Any]) -> Services:
    """Return what a host gives its invocations: room for one, and breakers that have seen nothing."""
    breakers = Breakers(fb.BreakerPolicy(), MemoryBreakerStore(60), clock, roster=Everyone(), notify=lambda _: None)
    return Services(backends, caps, clock, 1.5, Slots(1, MIB), breakers, report)


@dataclass
class Stage:
    """Everything around one invocation."""

    clock: FakeClock
    grants: fb.Grants = ALL
    limits: tuple[int, ...] = LIMITS
    function_limits: dict[str, int] = field(default_factory=lambda: {"functions.mail.send": 1})
    hook: fb.Filter[Any] | fb.Action[Any] = TITLE
    caps: fb.Caps = field(default_factory=fb.Caps)
    deadline: float | None = None
    enabled: bool = True
    drive: Drive = drive
    journal: list[Event] = field(default_factory=list)
    reported: list[fb.Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        names: tuple[BackendKind, ...] = ("http", "db", "kv", "functions")
        self.backends: dict[BackendKind, Any] = {name: Backend(self.journal, name, good_answer) for name in names}
        self.guest = Guest(self.journal)

    def invocation(self, *script: Step | Callable[[], Step]) -> Invocation:
        self.guest = Guest(self.journal, *script)
        plugin = Plugin(
            slug="blog", name="Blog", version="1", path=None, hooks=(self.hook.name,), grants=self.grants,
            limits=self.limits, enabled=self.enabled, max_concurrency=1, function_limits=self.function_limits,
        )  # fmt: skip
        subscriber = Subscriber(plugin, self.hook, self.guest, 10)  # type: ignore[arg-type]
        request = Request("r-1", "s-1", b'{"c":1}', self.deadline)
        self.services = services_of(self.backends, self.caps, self.clock, self.reported.append)
        return Invocation(subscriber, request, "old", b'"old"', self.services)

    def run(self, *script: Step | Callable[[], Step]) -> fb.Outcome:
        flow = self.invocation(*script).run()
        try:
            outcome: fb.Outcome = self.drive(flow, self.services)
        finally:
            assert self.services.slots.held == 0
        return outcome

    def trap(self, *script: Step | Callable[[], Step]) -> fb.Trap:
        outcome = self.run(*script)
        assert isinstance(outcome, fb.Trapped)
        assert outcome.trap.meters is outcome.meters
        return outcome.trap

    def answers(self) -> list[Event]:
        return [event[1:] for event in self.journal if event[0] == "answer"]

    def codes(self) -> list[int]:
        return [event[0] for event in self.answers()]

    def events(self, *kinds: str) -> list[Event]:
        return [event for event in self.journal if event[0] in kinds]


@pytest.fixture(params=[drive, drive_on_a_loop], ids=["sync", "async"])
def stage(clock: FakeClock, request: pytest.FixtureRequest) -> Stage:
    """Return a stage on which all is granted and all backends answer well."""
    return Stage(clock, drive=request.param)


def http(url: str = "https://a.example/x", method: str = "GET", headers: Any = (), body: bytes = b"") -> Suspended:
    head = {"method": method, "url": url, "headers": list(headers)}
    return Suspended("host_http_request", (json.dumps(head).encode(), body))


QUERY = Suspended("host_db_query", (b"SELECT $1", b"[1]"))
EXEC = Suspended("host_db_exec", (b"DELETE FROM t", b""))
GET = Suspended("host_kv_get", (b"key",))
SET = Suspended("host_kv_set", (b"key", b"value"))
SET_FOR = Suspended("host_kv_set_for", (b"key", b"value"), 60)
DELETE = Suspended("host_kv_delete", (b"key",))
INCREMENT = Suspended("host_kv_increment", (b"key",), 5)
MAIL = Suspended("host_call", (b"mail.send", b'{"to":"x"}'))
EVERY_CALL = [http(), QUERY, EXEC, GET, SET, SET_FOR, DELETE, INCREMENT, MAIL]
every_call = pytest.mark.parametrize("call", EVERY_CALL, ids=lambda call: call.call)


def test_every_host_call_is_played_here() -> None:
    """The calls that the tests below go through are all that there are."""
    assert [call.call for call in EVERY_CALL] == list(HOST_CALLS)


# ── begin and end ────────────────────────────────────────────────────────────────────────────────


def test_the_guest_gets_value_context_call_info_and_time(stage: Stage) -> None:
    """Buffers 0, 1 and 5, and the seconds to its own deadline."""
    stage.run(Completed())
    value, context, call_info, seconds = stage.guest.begun[0]
    assert (value, context) == (b'"old"', b'{"c":1}')
    assert json.loads(call_info) == {"plugin": "blog", "hook": "title", "request_id": "r-1", "scope": "s-1"}
    assert seconds == pytest.approx(0.25)


def test_a_guest_that_needs_nothing_opens_no_session(stage: Stage) -> None:
    """A plugin that asks for nothing pays nothing."""
    outcome = stage.run(Completed(OUTPUT))
    assert isinstance(outcome, fb.Completed)
    assert (outcome.value, outcome.changed) == ("new", True)
    assert stage.journal == [("resume",)]


def test_slices_that_are_over_go_on(stage: Stage) -> None:
    """`Running` is resumed, without an answer, as often as it comes, and its lines are logged as they come."""
    stage.run(Running(), Running(), GET, Running(), Completed())
    assert [event[0] for event in stage.journal] == [
        "resume", "resume", "resume", "session", "ask", "answer", "resume", "commit",
    ]  # fmt: skip


def test_lines_of_every_step_are_logged_in_order(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the step, what the guest logged in it comes first, also before a trap."""
    caplog.set_level(logging.DEBUG, "fuseboard")
    get = Suspended("host_kv_get", (b"key",), logs=[(1, "two"), (2, "three")])
    stage.run(Running(logs=[(0, "one")]), get, Trapped(logs=[(4, "four")]))
    assert [record.getMessage() for record in caplog.records] == ["one", "two", "three", "four"]


def test_a_disabled_plugin_and_a_missed_deadline_begin_nothing(stage: Stage) -> None:
    """Who isn't to be run isn't begun; the skip has its reason and all meters at 0."""
    stage.enabled = False
    disabled = stage.run()
    stage.enabled, stage.deadline = True, stage.clock()
    late = stage.run()
    assert isinstance(disabled, fb.Skipped)
    assert isinstance(late, fb.Skipped)
    assert (disabled.reason, late.reason) == (fb.SkipReason.DISABLED, fb.SkipReason.DEADLINE)
    assert (stage.guest.begun, stage.journal) == ([], [])
    assert {meter.used for meter in late.meters.values()} == {0}


def test_the_nearer_deadline_holds(stage: Stage) -> None:
    """A guest gets the smaller of its own time and what the dispatch has left."""
    stage.deadline = stage.clock() + 0.1
    stage.run(Completed())
    assert stage.guest.begun[0][3] == pytest.approx(0.1)
    stage.deadline = stage.clock() + 5
    stage.run(Completed())
    assert stage.guest.begun[0][3] == pytest.approx(0.25)


def test_saturation_is_a_skip(stage: Stage) -> None:
    """Where the pool had no room nothing ran, and nothing is told against the plugin."""
    outcome = stage.run(Trapped("saturated", detail="no room"))
    assert isinstance(outcome, fb.Skipped)
    assert outcome.reason is fb.SkipReason.SATURATED


@pytest.mark.parametrize("cause", ["crash", "failed", "bad_output", "bad_pointer"])
def test_what_the_core_says_of_a_trap_is_told(stage: Stage, cause: str) -> None:
    """Cause, detail, backtrace and what was counted go into the trap as the core gave them."""
    frames: list[tuple[str | None, int, int | None]] = [("render", 3, 0x1F), (None, 4, None)]
    trap = stage.trap(Trapped(cause, None, "why", frames, fuel=77, fuel_exact=False, memory_bytes=4))
    assert (trap.cause, trap.limit, trap.detail) == (fb.Cause(cause), None, "why")
    assert [str(frame) for frame in trap.backtrace] == ["render @ 0x1f", "function 4"]
    assert trap.meters[fb.Limit.FUEL] == fb.Meter(77, 1_000, "fuel", exact=False)
    assert trap.meters[fb.Limit.MEMORY] == fb.Meter(4, MIB, "bytes")
    assert (trap.plugin, trap.hook, trap.request_id, trap.scope) == ("blog", "title", "r-1", "s-1")
    assert (trap.host_call, trap.http_requests, trap.deadline_shared) == (None, (), False)


@pytest.mark.parametrize("limit", ["memory", "fuel", "timeout"])
def test_the_cores_trips_are_told(stage: Stage, limit: str) -> None:
    """A limit that the core watches is told by its name."""
    trap = stage.trap(Trapped("limit", limit))
    assert (trap.cause, trap.limit) == (fb.Cause.LIMIT, limit)


@pytest.mark.parametrize(("limit", "shared"), [("timeout", True), ("fuel", False)])
def test_only_time_is_shared(stage: Stage, limit: str, *, shared: bool) -> None:
    """Under a nearer deadline a TIMEOUT is the dispatch's doing; another trip is the plugin's own."""
    stage.deadline = stage.clock() + 0.1
    assert stage.trap(Trapped("limit", limit)).deadline_shared is shared


def test_a_deadline_no_nearer_than_the_plugins_own_is_not_shared(stage: Stage) -> None:
    """Where the dispatch cut nothing off the plugin's time, a TIMEOUT is the plugin's own."""
    stage.deadline = stage.clock() + 0.25
    assert not stage.trap(Trapped("limit", "timeout")).deadline_shared


def test_elapsed_and_meters(stage: Stage) -> None:
    """Meters show what was spent of everything; time is the clock's."""

    def end() -> Step:
        stage.clock.advance(0.125)
        return Completed(OUTPUT, fuel=123, memory_bytes=131_072)

    outcome = stage.run(http(), QUERY, EXEC, SET, MAIL, INCREMENT, DELETE, end)
    assert isinstance(outcome, fb.Completed)
    assert outcome.elapsed_ms == pytest.approx(125)
    assert {name: (meter.used, meter.ceiling) for name, meter in outcome.meters.items()} == {
        "memory": (131_072, MIB), "fuel": (123, 1_000), "timeout": (pytest.approx(125), 250),
        "http_fetches": (1, 8), "db_queries": (2, 4), "kv_write_bytes": (8 + 11 + 3, 100),
        "functions.mail.send": (1, 1),
    }  # fmt: skip


@pytest.mark.parametrize("end", [Completed(OUTPUT), Completed(b"not JSON"), Trapped()], ids=["good", "output", "trap"])
def test_commit_and_rollback_are_outside_the_timeout(stage: Stage, end: Step) -> None:
    """However long they take, the TIMEOUT meter shows the guest's own time, and `elapsed_ms` all of it."""
    kv = stage.backends["kv"]
    kv.commit = lambda _: stage.clock.advance(0.9)
    kv.rollback = lambda: stage.clock.advance(0.9)
    outcome = stage.run(SET, end)
    assert outcome.meters[fb.Limit.TIMEOUT].used == pytest.approx(0)
    assert outcome.elapsed_ms == pytest.approx(900)


# ── refuse, charge, ask ──────────────────────────────────────────────────────────────────────────

DENIED: list[tuple[Suspended, fb.Grants, str]] = [
    (http("https://c.example/"), ALL, "origin https://c.example is not granted"),
    (http("https://a.example:8443/"), ALL, "origin https://a.example:8443 is not granted"),
    (http("http://a.example/"), ALL, "origin http://a.example is not granted"),
    (http("https://b.example/"), ALL, "origin https://b.example is not granted"),
    (EXEC, fb.Grants(db="read"), "writing to the database is not granted"),
    (Suspended("host_call", (b"mail.read", b"")), ALL, "function 'mail.read' is not granted"),
    (MAIL, fb.Grants(kv=True), "function 'mail.send' is not granted"),
]


@pytest.mark.parametrize(("call", "grants", "reason"), DENIED, ids=[reason for _, _, reason in DENIED])
def test_a_denied_call_is_answered_and_not_charged(
    stage: Stage, call: Suspended, grants: fb.Grants, reason: str
) -> None:
    """A target outside the grants is DENIED as often as it is asked for: no charge, no trip, no session."""
    stage.grants = grants
    stage.limits = (MIB, 1_000, 250, 0, 0, 0)
    stage.function_limits = {"functions.mail.send": 0}
    outcome = stage.run(*[call] * 5, Completed(OUTPUT))
    assert isinstance(outcome, fb.Completed)
    assert stage.answers() == [(AnswerCode.DENIED, {"reason": reason}, b"")] * 5
    assert stage.events("session", "ask", "trip") == []
    assert outcome.meters[fb.Limit.HTTP_FETCHES].used == outcome.meters[fb.Limit.DB_QUERIES].used == 0


TRIPS: list[tuple[str, Suspended, int]] = [
    ("http_fetches", http(), 8),
    ("db_queries", QUERY, 4),
    ("db_queries", EXEC, 4),
    ("kv_write_bytes", Suspended("host_kv_set", (b"k" * 5, b"v" * 20)), 4),
    ("kv_write_bytes", Suspended("host_kv_set_for", (b"k" * 5, b"v" * 20), 60), 4),
    ("kv_write_bytes", Suspended("host_kv_delete", (b"k" * 50,)), 2),
    ("kv_write_bytes", Suspended("host_kv_increment", (b"k" * 12,), 1), 5),
    ("functions.mail.send", MAIL, 1),
]


@pytest.mark.parametrize(("limit", "call", "fits"), TRIPS, ids=[f"{limit} by {call.call}" for limit, call, _ in TRIPS])
def test_a_charge_that_does_not_fit_trips_and_reaches_no_backend(
    stage: Stage, limit: str, call: Suspended, fits: int
) -> None:
    """Exactly as many calls as fit are asked; the next trips its limit, is told, and undoes what was written."""
    trap = stage.trap(*[call] * fits, call)
    assert len(stage.events("ask")) == fits
    assert (trap.cause, trap.limit, trap.host_call) == (fb.Cause.LIMIT, limit, call.call)
    assert trap.meters[limit].used == trap.meters[limit].ceiling == stage.trap(*[call] * fits, call).meters[limit].used
    assert stage.events("trip")[0] == ("trip", limit)
    assert stage.events("commit") == []
    assert stage.journal[-1][0] == "rollback"


def test_one_call_that_does_not_fit_opens_no_session(stage: Stage) -> None:
    """Where the first call trips, no backend hears of the invocation."""
    trap = stage.trap(Suspended("host_kv_set", (b"key", b"v" * 98)))
    assert (trap.limit, trap.meters["kv_write_bytes"].used) == ("kv_write_bytes", 0)
    assert stage.journal == [("resume",), ("trip", "kv_write_bytes")]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (Suspended("host_db_query", (b"SELECT $1", b'[{"base64":"AP8="}]')), {"parameters": (b"\x00\xff",)}),
        (Suspended("host_kv_set", (b"k", b"v")), {"key": b"k", "value": b"v", "seconds": None}),
        (Suspended("host_kv_set_for", (b"k", b"v"), 60), {"key": b"k", "value": b"v", "seconds": 60}),
    ],
)
def test_what_a_guest_asks_for_reaches_the_backend(stage: Stage, call: Suspended, expected: dict[str, Any]) -> None:
    """Parameters of bytes, written `{"base64": ...}`, and a key's expiry."""
    backend = stage.backends[HOST_CALLS[call.call].kind]
    asked, answered = [], backend.answered

    def noting(call: HostCall) -> Any:
        asked.append(call)
        return answered(call)

    backend.answered = noting
    assert isinstance(stage.run(call, Completed()), fb.Completed)
    assert [{name: getattr(one, name) for name in expected} for one in asked] == [expected]


def test_reading_keys_is_free(stage: Stage) -> None:
    """Only writes count as KV write bytes."""
    stage.limits = (MIB, 1_000, 250, 0, 0, 0)
    assert isinstance(stage.run(*[GET] * 50, Completed()), fb.Completed)
    assert len(stage.events("ask")) == 50


def test_a_function_without_a_limit_is_never_charged(stage: Stage) -> None:
    """A function declared without `per_invocation` has no fuse and no meter."""
    stage.function_limits = {}
    outcome = stage.run(*[MAIL] * 50, Completed())
    assert isinstance(outcome, fb.Completed)
    assert "functions.mail.send" not in outcome.meters


def test_the_first_trip_is_the_one_that_is_told(stage: Stage) -> None:
    """What the guest's end brings after a trip doesn't change it, and its lines are still logged."""
    stage.limits = (MIB, 1_000, 250, 8, 0, 100)
    trap = stage.trap(QUERY, Completed(OUTPUT))
    assert (trap.limit, stage.guest.script) == ("db_queries", [Completed(OUTPUT)])


@every_call
def test_a_good_answer_reaches_the_guest(stage: Stage, call: Suspended) -> None:
    """Head and body of each answer are the ABI's."""
    stage.run(call, Completed())
    assert (
        stage.answers()
        == {
            "host_http_request": [(0, {"status": 200, "headers": [["a", "b"]]}, b"body")],
            "host_db_query": [(0, {}, b'{"columns":["n"],"rows":[[1]]}')],
            "host_db_exec": [(0, {"rows_changed": 1}, b"")],
            "host_kv_get": [(0, {}, b"value")],
            "host_kv_set": [(0, {}, b"")],
            "host_kv_set_for": [(0, {}, b"")],
            "host_kv_delete": [(0, {}, b"")],
            "host_kv_increment": [(0, {}, b"7")],
            "host_call": [(0, {}, b"true")],
        }[call.call]
    )


def test_what_backends_are_asked(stage: Stage) -> None:
    """Typed calls, with the guest's arguments, the invocation's deadline and on whose behalf."""
    began = stage.clock()
    stage.run(QUERY, Suspended("host_kv_increment", (b"k\xff",), -3), Completed())
    db, kv = stage.backends["db"], stage.backends["kv"]
    assert (db.calls[0].sql, db.calls[0].parameters) == ("SELECT $1", (1,))
    assert (kv.calls[0].key, kv.calls[0].by) == (b"k\xff", -3)
    assert db.deadlines == pytest.approx([began + 0.25, began + 1.5])  # the call's, then the commit's
    identity = db.identities[0]
    assert (identity.plugin, identity.hook, identity.scope, identity.request_id) == ("blog", "title", "s-1", "r-1")
    assert identity.grants is ALL


def test_a_missing_key_is_not_found(stage: Stage) -> None:
    """Nothing there is told by its code, with an empty body."""
    stage.backends["kv"].answered = lambda _: KvValue(None)
    stage.run(GET, Completed())
    assert stage.answers() == [(AnswerCode.NOT_FOUND, {"reason": "no such key"}, b"")]


def test_bytes_in_rows_are_base64(stage: Stage) -> None:
    """A BLOB crosses as base64 text."""
    stage.backends["db"].answered = lambda _: DbRows(("b",), ((b"\x00\xff",),))
    stage.run(QUERY, Completed())
    assert json.loads(stage.answers()[0][2]) == {"columns": ["b"], "rows": [["AP8="]]}


# ── malformed calls ──────────────────────────────────────────────────────────────────────────────


def head(**changes: Any) -> Suspended:
    said = {"method": "GET", "url": "https://a.example/", "headers": []} | changes
    return Suspended("host_http_request", (json.dumps(said).encode(), b""))


DEEP = b"[" * 200_000
MALFORMED: list[tuple[Suspended, str]] = [
    (Suspended("host_http_request", (b"", b"")), "the head can't be read"),
    (Suspended("host_http_request", (b"[]", b"")), "the head can't be read"),
    (Suspended("host_http_request", (b'{"method":"GET"', b"")), "the head can't be read"),
    (Suspended("host_http_request", (b'{"method":"GET"}', b"")), "the head can't be read: .*url"),
    (Suspended("host_http_request", (DEEP, b"")), "the head can't be read"),
    (Suspended("host_http_request", (b'{"method":"G\xff"}', b"")), "the head can't be read"),
    (head(body="x"), "the head can't be read: .*body"),
    (head(method="get"), "method must be one of DELETE, GET"),
    (head(method="CONNECT"), "method must be one of"),
    (head(method="GET\r\nX: y"), "method must be one of"),
    (head(method=5), "the head can't be read"),
    (head(url="/relative"), "the URL can't be used: a URL must begin with http"),
    (head(url="file:///etc/passwd"), "the URL can't be used: the scheme must be"),
    (head(url="https://user:pw@a.example/"), "the URL can't be used: .* user name or password"),
    (head(url="https://a.example/ x"), "the URL can't be used"),
    (head(url="https://a.example/\r\nX: y"), "the URL can't be used"),
    (head(url="https://ä.example/"), "the URL can't be used: .*punycode"),
    (head(url=""), "the URL can't be used"),
    (head(url="https://a.example/" + "x" * 9000), "the URL can't be used: .*at most 8192"),
    (head(headers={"a": "b"}), "the head can't be read"),
    (head(headers=[["a"]]), "the head can't be read"),
    (head(headers=[["a", "b", "c"]]), "the head can't be read"),
    (head(headers=[["", "b"]]), "not an HTTP token"),
    (head(headers=[["a b", "c"]]), "not an HTTP token"),
    (head(headers=[["a:", "c"]]), "not an HTTP token"),
    (head(headers=[["a\n", "c"]]), "not an HTTP token"),
    (head(headers=[["a", "b"]] * 257), "Expected `array` of length <= 256"),
    (head(headers=[["Host", "evil.example"]]), "header 'Host' is the host's to set"),
    (head(headers=[["content-LENGTH", "5"]]), "is the host's to set"),
    (head(headers=[["Transfer-Encoding", "chunked"]]), "is the host's to set"),
    (head(headers=[["X-Request-ID", "mine"]]), "is the host's to set"),
    (head(headers=[["a", "b\r\nHost: evil"]]), "control or non-Latin-1"),
    (head(headers=[["a", "\0"]]), "control or non-Latin-1"),
    (head(headers=[["a", "€"]]), "control or non-Latin-1"),
    (head(headers=[["a", "x" * 8193]]), "over 8 KiB"),
    (Suspended("host_db_query", (b"\xff", b"")), "the SQL is not UTF-8"),
    (Suspended("host_db_query", (b"", b"")), "the SQL is empty"),
    (Suspended("host_db_exec", (b" \n", b"")), "the SQL is empty"),
    (Suspended("host_db_query", (b"SELECT 1", b"{}")), "the parameters can't be read"),
    (Suspended("host_db_query", (b"SELECT 1", b"[1")), "the parameters can't be read"),
    (Suspended("host_db_query", (b"SELECT 1", DEEP)), "the parameters can't be read"),
    (Suspended("host_db_query", (b"SELECT 1", b"[NaN]")), "the parameters can't be read"),
    (Suspended("host_db_query", (b"SELECT 1", b"[1e999]")), "the parameters can't be read"),
    (Suspended("host_db_query", (b"SELECT 1", b"[" + b"1," * 1_000 + b"1]")), "the parameters can't be read: .* 1000"),
    (Suspended("host_db_query", (b"SELECT 1", b"[1,[2]]")), r"parameter \$2 must be null, a boolean"),
    (Suspended("host_db_query", (b"SELECT 1", b'[{"a":1}]')), r"parameter \$1 must be"),
    (Suspended("host_db_exec", (b"SELECT 1", b"[9223372036854775808]")), r"parameter \$1 doesn't fit 64 bits"),
    (Suspended("host_db_exec", (b"SELECT 1", b'[{"base64":"a"}]')), r"parameter \$1 is not base64"),
    (Suspended("host_db_exec", (b"SELECT 1", b'[{"base64":1}]')), r"parameter \$1 must be"),
    (Suspended("host_db_exec", (b"SELECT 1", b'[{"base64":"","b":1}]')), r"parameter \$1 must be"),
    (Suspended("host_kv_get", (b"",)), "the key is empty"),
    (Suspended("host_kv_set", (b"", b"v")), "the key is empty"),
    (Suspended("host_kv_set_for", (b"", b"v"), 1), "the key is empty"),
    (Suspended("host_kv_set_for", (b"k", b"v"), 0), "seconds must be from 1 to 315360000, not 0"),
    (Suspended("host_kv_set_for", (b"k", b"v"), 315_360_001), "seconds must be from 1 to 315360000"),
    (Suspended("host_kv_delete", (b"",)), "the key is empty"),
    (Suspended("host_kv_increment", (b"",), 1), "the key is empty"),
    (Suspended("host_call", (b"mail\xff", b"{}")), "the function's name is not UTF-8"),
]


@pytest.mark.parametrize(
    ("call", "reason"), MALFORMED, ids=[f"{place} {call.call}" for place, (call, _) in enumerate(MALFORMED)]
)
def test_a_malformed_call_is_a_bad_request(stage: Stage, call: Suspended, reason: str) -> None:
    """What can't be read is answered with why, as often as it comes: no charge, no backend, no trap."""
    stage.limits = (MIB, 1_000, 250, 0, 0, 0)
    outcome = stage.run(call, call, Completed(OUTPUT))
    assert isinstance(outcome, fb.Completed)
    assert stage.codes() == [AnswerCode.BAD_REQUEST] * 2
    assert all(re.search(reason, answer[1]["reason"], re.DOTALL) for answer in stage.answers())
    assert stage.events("session", "ask", "trip") == []


# ── HTTP and its redirects ───────────────────────────────────────────────────────────────────────


def redirecting(stage: Stage, *hops: HttpResponse) -> list[Any]:
    """Let the HTTP backend answer with these in turn, then with 200, and return the list of what it is asked."""
    left = list(hops)
    backend = stage.backends["http"]
    backend.answered = lambda _: left.pop(0) if left else HttpResponse(200, (), b"done")
    calls: list[Any] = backend.calls
    return calls


def to(location: str, status: int = 302) -> HttpResponse:
    return HttpResponse(status, (("Location", location),), b"moved")


def test_the_request_id_goes_along(stage: Stage) -> None:
    """Each request that is sent, hops too, carries the one `X-Request-ID`, and the trap lists them all."""
    calls = redirecting(stage, to("/y"))
    trap = stage.trap(http(headers=[["Accept", "*/*"]]), http("https://x.b.example/", "POST"), Trapped())
    assert all(call.headers.count(("X-Request-ID", "r-1")) == 1 for call in calls)
    assert trap.http_requests == (
        "GET https://a.example/x", "GET https://a.example/y", "POST https://x.b.example/",
    )  # fmt: skip


def test_redirects_are_followed_by_the_flow(stage: Stage) -> None:
    """Backends never follow: each hop is asked for anew, and the guest sees the last answer only."""
    calls = redirecting(stage, to("/y?z=1"), to("https://x.b.example/q", 307), to("z", 308))
    outcome = stage.run(http(), Completed())
    assert [str(call.url) for call in calls] == [
        "https://a.example/x", "https://a.example/y?z=1", "https://x.b.example/q", "https://x.b.example/z",
    ]  # fmt: skip
    assert stage.answers() == [(0, {"status": 200, "headers": []}, b"done")]
    assert outcome.meters[fb.Limit.HTTP_FETCHES].used == 4
    assert stage.events("session") == [("session", "http")]


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "GET", "GET"), (302, "GET", "GET"), (303, "GET", "GET"), (307, "GET", "GET"), (308, "GET", "GET"),
        (301, "HEAD", "HEAD"), (302, "HEAD", "HEAD"), (303, "HEAD", "HEAD"),
        (301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (307, "POST", "POST"), (308, "POST", "POST"),
        (301, "PUT", "PUT"), (302, "PATCH", "PATCH"), (303, "PUT", "GET"), (303, "DELETE", "GET"), (307, "PUT", "PUT"),
        (303, "OPTIONS", "GET"), (308, "DELETE", "DELETE"),
    ],
)  # fmt: skip
def test_methods_of_redirects(stage: Stage, status: int, method: str, then: str) -> None:
    """RFC 9110 15.4: what becomes a GET loses its body and the headers of a body; the rest is sent again whole."""
    calls = redirecting(stage, to("/y", status))
    headers = [["Content-Type", "text/plain"], ["content-encoding", "br"], ["Content-Language", "de"], ["Accept", "*"]]
    stage.run(http(method=method, headers=headers, body=b"body"), Completed())
    second = calls[1]
    assert second.method == then
    kept = {name.lower() for name, _ in second.headers} - {"x-request-id"}
    loses_body = then != method or (status, method) == (303, "GET")
    assert second.body == (b"" if loses_body else b"body")
    assert kept == ({"accept"} if loses_body else {"accept", "content-type", "content-encoding", "content-language"})


@pytest.mark.parametrize("status", [200, 204, 300, 304, 305, 306, 400, 500])
def test_other_statuses_are_answers(stage: Stage, status: int) -> None:
    """A location alone is no redirect, and neither is another 3xx."""
    calls = redirecting(stage, to("/y", status))
    stage.run(http(), Completed())
    assert len(calls) == 1
    assert stage.answers()[0][1]["status"] == status


def test_a_redirect_without_a_location_is_an_answer(stage: Stage) -> None:
    """There is nowhere to go, so the guest sees it."""
    redirecting(stage, HttpResponse(302, (), b"moved"))
    stage.run(http(), Completed())
    assert stage.answers() == [(0, {"status": 302, "headers": []}, b"moved")]


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        ("/y", True), ("https://a.example/y", True), ("https://A.example:443/y", True),
        ("https://x.b.example/y", False), ("//x.b.example/y", False),
    ],
)  # fmt: skip
def test_credentials_stay_with_their_origin(stage: Stage, location: str, *, kept: bool) -> None:
    """Of what crosses to another origin, it is known that it is no credential; and none comes back from one."""
    calls = redirecting(stage, to(location), to("https://a.example/back"))
    secrets = {"authorization", "cookie", "x-api-key", "anything"}
    stage.run(http(headers=[["Accept", "*"], *([name.upper(), "secret"] for name in secrets)]), Completed())
    for call in calls[1:]:
        names = {name.lower() for name, _ in call.headers}
        assert names == {"accept", "x-request-id"} | (secrets if kept else set())


def test_a_redirect_keeps_tls(stage: Stage) -> None:
    """From https to http nothing is followed, granted or not: that is the server's failure."""
    stage.grants = fb.Grants(http=["https://a.example", "http://a.example"])
    calls = redirecting(stage, to("http://a.example/y"))
    stage.run(http(), Completed())
    assert len(calls) == 1
    reason = "the server redirects: a redirect from https to http isn't followed"
    assert stage.answers() == [(AnswerCode.BACKEND_FAILED, {"reason": reason}, b"")]


@pytest.mark.parametrize(
    "location",
    ["https://c.example/", "https://a.example:8443/", "//evil.example/", "https://b.example/"],
)
def test_a_redirect_out_of_the_grants_is_denied(stage: Stage, location: str) -> None:
    """A hop is refused like a first request: it isn't sent, isn't charged, and its place is named."""
    calls = redirecting(stage, to(location))
    outcome = stage.run(http(), Completed())
    assert len(calls) == 1
    assert stage.codes() == [AnswerCode.DENIED]
    assert "is not granted" in stage.answers()[0][1]["reason"]
    assert outcome.meters[fb.Limit.HTTP_FETCHES].used == 1


def test_a_redirect_over_the_limit_trips(stage: Stage) -> None:
    """Each hop is charged: the ninth fetch trips, and never reaches the backend."""
    stage.limits = (MIB, 1_000, 250, 3, 4, 100)
    calls = redirecting(stage, *[to("/y")] * 9)
    trap = stage.trap(http())
    assert (trap.limit, trap.meters["http_fetches"].used, len(calls)) == ("http_fetches", 3, 3)
    assert len(trap.http_requests) == 3


def test_redirects_end(stage: Stage) -> None:
    """Five hops are followed; a sixth redirect is the server's failure, answered and not trapped."""
    calls = redirecting(stage, *[to("/y")] * MAX_REDIRECTS)
    stage.run(http(), Completed())
    assert (len(calls), stage.codes()) == (6, [0])
    calls.clear()
    stage.journal.clear()
    redirecting(stage, *[to("/y")] * 6)
    stage.run(http(), Completed())
    assert len(calls) == 6
    assert stage.answers() == [
        (AnswerCode.BACKEND_FAILED, {"reason": f"the server redirects more than {MAX_REDIRECTS} times"}, b"")
    ]


@pytest.mark.parametrize(
    "location", ["ftp://a.example/", "https://u:p@a.example/", "http://", "/ü", "/a b", "javascript:1"]
)
def test_a_location_that_is_no_url(stage: Stage, location: str) -> None:
    """A server's bad location is the server's failure, told to the guest as such."""
    calls = redirecting(stage, to(location))
    stage.run(http(), Completed())
    assert len(calls) == 1
    assert stage.codes() == [AnswerCode.BACKEND_FAILED]
    assert stage.answers()[0][1]["reason"].startswith("the server redirects: the URL can't be used: ")


@pytest.mark.parametrize(
    "headers", [None, 5, (("Location",),), ((5, "/y"),), (("Location", 5),), (("Location", None),), "ab"], ids=repr
)
def test_headers_that_are_none(stage: Stage, headers: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Headers of a backend that aren't pairs of text fail the call or are no location, and never the dispatch."""
    redirecting(stage, HttpResponse(302, headers, b""))
    outcome = stage.run(http(), Completed(OUTPUT))
    assert isinstance(outcome, fb.Completed)
    assert stage.codes() in ([AnswerCode.BACKEND_FAILED], [0])
    assert bool(caplog.records) is (stage.codes() != [0])


# ── the deadline ─────────────────────────────────────────────────────────────────────────────────


@every_call
@pytest.mark.parametrize("shared", [False, True])
def test_an_answer_that_comes_late_trips(stage: Stage, call: Suspended, *, shared: bool) -> None:
    """After each answer the deadline is looked at: a late one is thrown away, and the host call is named."""
    backend = stage.backends[HOST_CALLS[call.call].kind]
    stage.deadline = stage.clock() + 0.2 if shared else None

    def late(asked: Any) -> Any:
        stage.clock.advance(0.2 if shared else 0.25)
        return good_answer(asked)

    backend.answered = late
    trap = stage.trap(call)
    assert (trap.cause, trap.limit, trap.host_call) == (fb.Cause.LIMIT, "timeout", call.call)
    assert trap.deadline_shared is shared
    assert stage.events("answer", "commit") == []
    assert stage.journal[-2:] == [("trip", "timeout"), ("rollback", backend.name)]


@pytest.mark.parametrize("error", [BackendTimeout("late"), BackendError("down"), OSError("x")], ids=repr)
def test_a_failure_that_comes_late_trips_too(stage: Stage, error: Exception) -> None:
    """It is the time that ended the invocation, whatever the backend said last."""

    def late(_: Any) -> Any:
        stage.clock.advance(1)
        raise error

    stage.backends["kv"].answered = late
    trap = stage.trap(GET)
    assert (trap.limit, trap.host_call) == ("timeout", "host_kv_get")


def test_an_answer_just_in_time_is_one(stage: Stage) -> None:
    """Up to the deadline an answer counts."""

    def just_in_time(asked: Any) -> Any:
        stage.clock.advance(0.249)
        return good_answer(asked)

    stage.backends["kv"].answered = just_in_time
    assert isinstance(stage.run(GET, Completed()), fb.Completed)


def test_a_redirect_that_comes_late_is_not_followed(stage: Stage) -> None:
    """The deadline is looked at between hops too."""

    def late(_: Any) -> Any:
        stage.clock.advance(0.15)
        return to("/y")

    stage.backends["http"].answered = late
    trap = stage.trap(http())
    assert (trap.limit, len(stage.events("ask"))) == ("timeout", 2)


# ── backends that fail ───────────────────────────────────────────────────────────────────────────


def failing(error: BaseException) -> Callable[[Any], Any]:
    def fail(_: Any) -> Any:
        raise error

    return fail


@every_call
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BackendError("it is down"), AnswerCode.BACKEND_FAILED),
        (BackendTimeout("it is slow"), AnswerCode.BACKEND_FAILED),
        *[(BackendError("it is so", code=code), code) for code in AnswerCode if code is not AnswerCode.OK],
        *[(BackendError("odd", code=code), AnswerCode.BACKEND_FAILED) for code in (0, 5, -7, -100)],
    ],
    ids=lambda each: f"{each}",
)
def test_backend_errors_are_answered(stage: Stage, call: Suspended, error: BackendError, code: int) -> None:
    """Reason and code reach the guest; a code that the ABI doesn't have, 0 above all, is `BACKEND_FAILED`."""
    stage.backends[HOST_CALLS[call.call].kind].answered = failing(error)
    outcome = stage.run(call, Completed(OUTPUT))
    assert isinstance(outcome, fb.Completed)
    assert stage.answers() == [(code, {"reason": error.reason}, b"")]


@pytest.mark.parametrize("reason", [ValueError("why"), None, 5, "lone \udcff surrogate"], ids=ascii)
def test_odd_reasons_are_answered_too(stage: Stage, reason: Any) -> None:
    """A reason that isn't text, or isn't UTF-8, is a backend's carelessness and stops no dispatch."""
    stage.backends["kv"].answered = failing(BackendError(reason))
    assert isinstance(stage.run(GET, Completed()), fb.Completed)
    assert stage.codes() == [AnswerCode.BACKEND_FAILED]
    assert stage.answers()[0][1]["reason"] == str(reason).replace("\udcff", "?")


@every_call
@pytest.mark.parametrize(
    "error", [OSError("pw=hunter2"), KeyError("hunter2"), StopIteration("hunter2"), AssertionError]
)
def test_other_exceptions_are_logged_and_hidden(
    stage: Stage, call: Suspended, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator gets the traceback; the guest only learns that the service failed, as its text may hold secrets."""
    stage.backends[HOST_CALLS[call.call].kind].answered = failing(error)
    assert isinstance(stage.run(call, Completed()), fb.Completed)
    assert stage.answers() == [(AnswerCode.BACKEND_FAILED, {"reason": "the service failed"}, b"")]
    record: Any = caplog.records[-1]
    assert (record.levelno, record.name, record.plugin) == (logging.ERROR, "fuseboard", "blog")
    assert record.exc_info[1] is not None


ANSWERS = [None, b"bytes", "text", 0, DbRows((), ()), KvDone(), HttpResponse(200), FunctionResult(b"1"), DbChanged(1)]
MISFITS = [
    (call, answer)
    for call in EVERY_CALL
    for answer in ANSWERS
    if not isinstance(answer, HOST_CALLS[call.call].answered_by)
]


@pytest.mark.parametrize(("call", "answer"), MISFITS, ids=[f"{call.call} {answer!r}" for call, answer in MISFITS])
def test_answers_of_the_wrong_type_are_hidden(
    stage: Stage, call: Suspended, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that doesn't fit its call never reaches the guest, and is the operator's to know."""
    stage.backends[HOST_CALLS[call.call].kind].answered = lambda _: answer
    assert isinstance(stage.run(call, Completed()), fb.Completed)
    assert stage.answers() == [(AnswerCode.BACKEND_FAILED, {"reason": "the service failed"}, b"")]
    assert f"answered with {type(answer).__name__}" in caplog.records[-1].getMessage()


UNWRITABLE: list[tuple[Suspended, Any]] = [
    (QUERY, DbRows(("n",), ((object(),),))),
    (QUERY, DbRows(("n",), (("\ud800",),))),
    (EXEC, DbChanged(object())),  # type: ignore[arg-type]
    (http(), HttpResponse(200, (("a", object()),))),  # type: ignore[arg-type]
    (http(), HttpResponse(200, (), "text")),  # type: ignore[arg-type]
    (http(), HttpResponse(200, (), bytearray(b"x"))),  # type: ignore[arg-type]
    (GET, KvValue("text")),  # type: ignore[arg-type]
    (MAIL, FunctionResult("true")),  # type: ignore[arg-type]
    (MAIL, FunctionResult(None)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "answer"), UNWRITABLE, ids=[ascii(answer) for _, answer in UNWRITABLE])
def test_answers_that_cannot_be_written(
    stage: Stage, call: Suspended, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer of the right type with contents that can't cross is logged, and fails only the call."""
    stage.backends[HOST_CALLS[call.call].kind].answered = lambda _: answer
    assert isinstance(stage.run(call, Completed()), fb.Completed)
    assert stage.answers() == [(AnswerCode.BACKEND_FAILED, {"reason": "the answer can't be written"}, b"")]
    assert "can't be written" in caplog.records[-1].getMessage()


def test_a_reply_over_the_cap_is_too_large(stage: Stage) -> None:
    """Head and body together may have as many bytes as the cap says; one more is answered, not trapped."""
    stage.caps = fb.Caps(reply_bytes=100)
    for size, code in [(98, 0), (99, AnswerCode.TOO_LARGE)]:  # the head is {}
        stage.journal.clear()
        stage.backends["kv"].answered = lambda _, size=size: KvValue(b"x" * size)
        assert isinstance(stage.run(GET, Completed()), fb.Completed)
        assert stage.codes() == [code]
    assert stage.answers()[0][1:] == ({"reason": "the reply is larger than 100 bytes"}, b"")


def test_a_session_that_cannot_be_opened_fails_the_call(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """A backend that fails before it has a session is like one that fails to answer; the next call tries again."""
    backend = stage.backends["kv"]
    open_session = backend.session
    backend.session = failing(OSError("no"))
    assert isinstance(stage.run(GET, Completed()), fb.Completed)
    assert stage.codes() == [AnswerCode.BACKEND_FAILED]
    assert caplog.records
    assert stage.events("commit", "rollback") == []
    backend.session = open_session


# ── meter_remaining ──────────────────────────────────────────────────────────────────────────────


def test_what_is_left_is_told_and_costs_nothing(stage: Stage) -> None:
    """Meters 3 to 5 are answered by the flow, exactly, as often as asked, and no host call is in flight."""
    asks = [Suspended("meter_remaining", (), number) for number in (3, 4, 5)]
    trap = stage.trap(*asks, http(), QUERY, SET, *asks * 3, Trapped())
    numbers = [answer[0] for answer in stage.answers() if answer[1:] == ({}, b"")]
    assert numbers[:3] == [8, 4, 100]
    assert [code for code in stage.codes() if code > 0][3:] == [7, 3, 92] * 3
    assert trap.host_call is None


def test_nothing_left_is_zero(stage: Stage) -> None:
    """An exhausted limit has 0 left, and asking trips nothing."""
    stage.limits = (MIB, 1_000, 250, 0, 1, 0)
    stage.run(QUERY, *[Suspended("meter_remaining", (), number) for number in (3, 4, 5)], Completed())
    assert stage.codes()[1:] == [0, 0, 0]


# ── sessions, commit, rollback ───────────────────────────────────────────────────────────────────


def test_sessions_open_at_the_first_call_and_once(stage: Stage) -> None:
    """Only what is used is opened, when it is first used."""
    stage.run(GET, GET, QUERY, SET, EXEC, Completed())
    assert stage.journal[:4] == [("resume",), ("session", "kv"), ("ask", "kv", "KvGet"), stage.journal[3]]
    assert stage.events("session") == [("session", "kv"), ("session", "db")]


def test_the_commit_order(stage: Stage) -> None:
    """Database, then KV, then HTTP, then the functions' `on_commit`, whatever was opened first."""
    stage.run(MAIL, http(), SET, EXEC, Completed(OUTPUT))
    assert stage.events("commit", "rollback") == [("commit", kind) for kind in ("db", "kv", "http", "functions")]
    assert stage.journal[-4:] == stage.events("commit")


def test_one_object_for_two_kinds_has_one_session(stage: Stage) -> None:
    """A store that serves database and KV opens once and commits once."""
    stage.backends["db"] = stage.backends["kv"] = Backend(stage.journal, "store", good_answer)
    stage.run(SET, EXEC, GET, http(), Completed())
    assert stage.events("session", "commit") == [
        ("session", "store"), ("session", "http"), ("commit", "store"), ("commit", "http"),
    ]  # fmt: skip


def test_one_object_for_two_kinds_is_rolled_back_once(stage: Stage) -> None:
    """The same for a trap."""
    stage.backends["db"] = stage.backends["kv"] = Backend(stage.journal, "store", good_answer)
    stage.run(SET, EXEC, Trapped())
    assert stage.events("commit", "rollback") == [("rollback", "store")]


@pytest.mark.parametrize("end", [Trapped(), Trapped("limit", "fuel"), Completed(b"{"), Completed(b"5")], ids=repr)
def test_a_bad_end_rolls_everything_back(stage: Stage, end: Step) -> None:
    """A trap or a bad output commits nothing, and every session hears of it once."""
    stage.trap(EXEC, SET, http(), MAIL, end)
    assert stage.events("commit") == []
    assert sorted(stage.events("rollback")) == [("rollback", kind) for kind in ("db", "functions", "http", "kv")]


def test_output_is_read_before_anything_is_committed(stage: Stage) -> None:
    """A bad value is found out while all can still be undone, and told in one line."""
    trap = stage.trap(SET, Completed(b"5"))
    assert (trap.cause, trap.limit) == (fb.Cause.BAD_OUTPUT, None)
    assert trap.detail.startswith("the output can't be read: Expected `str`")
    assert trap.meters[fb.Limit.FUEL] == fb.Meter(10, 1_000, "fuel", exact=True)


@pytest.mark.parametrize("output", [None, b'"old"'])
def test_an_unchanged_value_is_committed_too(stage: Stage, output: bytes | None) -> None:
    """A plugin that only writes changes no value, and its writes are kept."""
    outcome = stage.run(SET, Completed(output))
    assert isinstance(outcome, fb.Completed)
    assert (outcome.value, outcome.changed) == ("old", False)
    assert stage.events("commit") == [("commit", "kv")]


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (BackendError("disk full"), "{}: disk full"),
        (BackendTimeout("too slow"), "{}: too slow"),
        (OSError("secret"), "{}: the service failed"),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("db", [], ["db", "kv", "http", "functions"]),
        ("kv", ["db"], ["kv", "http", "functions"]),
        ("http", ["db", "kv"], ["http", "functions"]),
        ("functions", ["db", "kv", "http"], ["functions"]),
    ],
)
def test_a_commit_that_fails(
    stage: Stage,
    caplog: pytest.LogCaptureFixture,
    kind: BackendKind,
    before: list[str],
    after: list[str],
    error: Exception,
    detail: str,
) -> None:
    """It traps as COMMIT with the value dropped; what isn't committed by then is rolled back, itself included."""
    stage.backends[kind].commit_fails = error
    trap = stage.trap(SET, EXEC, MAIL, http(), Completed(OUTPUT))
    assert (trap.cause, trap.limit, trap.detail) == (fb.Cause.COMMIT, None, detail.format(kind))
    assert stage.events("commit") == [("commit", each) for each in [*before, kind]]
    assert sorted(event[1] for event in stage.events("rollback")) == sorted(after)
    assert caplog.records[-1].exc_info is not None


def test_a_rollback_that_fails_is_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The others are still rolled back, and the trap stays what it was."""
    kinds: tuple[BackendKind, ...] = ("db", "kv")
    for kind in kinds:
        stage.backends[kind].rollback_fails = OSError(kind)
    trap = stage.trap(EXEC, SET, http(), Trapped(detail="why"))
    assert (trap.cause, trap.detail) == (fb.Cause.CRASH, "why")
    assert len(stage.events("rollback")) == 3
    assert [record.getMessage() for record in caplog.records] == ["a backend can't roll back"] * 2
    assert all(record.exc_info for record in caplog.records)


def test_deadlines_of_commits_are_their_own(stage: Stage) -> None:
    """A commit has `commit_timeout_ms` from its own beginning, even where the invocation's time is nearly over."""

    def end() -> Step:
        stage.clock.advance(0.24)
        return Completed()

    stage.run(SET, end)
    assert stage.backends["kv"].deadlines[-1] == pytest.approx(stage.clock() + 1.5)


def test_the_value_of_the_next_is_the_value_as_it_crosses(stage: Stage) -> None:
    """What the next plugin gets is the value written anew, not the guest's own bytes."""
    invocation = stage.invocation(Completed(b' "n\\u0065w" '))
    assert stage.drive(invocation.run(), stage.services).value == "new"
    assert invocation.encoded == OUTPUT


def test_a_value_that_can_be_read_but_not_sent_on_is_bad_output(stage: Stage) -> None:
    """JSON nested so deeply that the next plugin couldn't get it is the plugin's fault, and nothing is committed."""
    stage.hook = fb.Filter("list", list)
    trap = stage.trap(SET, Completed(b"[" * 700 + b"null" + b"]" * 700))
    assert trap.cause is fb.Cause.BAD_OUTPUT
    assert stage.events("commit") == []


# ── interrupts ───────────────────────────────────────────────────────────────────────────────────

INTERRUPTS = [
    KeyboardInterrupt("now"),
    SystemExit(3),
    GeneratorExit("odd"),
    type("Cancelled", (BaseException,), {})("x"),
]
LONG_SCRIPT = (Running(), EXEC, SET, http(), MAIL, Completed(OUTPUT))
TRAPPING_SCRIPT = (EXEC, SET, Trapped())
SCRIPTS = pytest.mark.parametrize("script", [LONG_SCRIPT, TRAPPING_SCRIPT], ids=["completing", "trapping"])


def interrupted_run(
    stage: Stage, script: tuple[Step, ...], place: int, error: BaseException, *, after: bool
) -> BaseException | None:
    """Drive a flow by hand, raise at one effect, before or after it is performed, and return what comes out."""
    flow = stage.invocation(*script).run()
    perform = partial(_drivers._perform, services=stage.services)
    effect: Any = flow.send(None)
    for number in range(1_000):
        assert isinstance(effect, Continue | Ask | Commit | Rollback)
        try:
            if number != place or after:
                result = perform(effect)
            effect = _drivers.throw(flow, error) if number == place else flow.send(result)
        except StopIteration:
            return None
        except BaseException as raised:  # noqa: BLE001  an interrupt is what the test is about
            return raised.args[0] if isinstance(raised, _drivers.Abandoned) else raised
    raise AssertionError("the flow doesn't end")


def check_nothing_is_left(stage: Stage) -> None:
    """The guest is ended, and every session that was asked anything has ended."""
    assert ("close",) in stage.journal
    assert stage.services.slots.held == 0
    for kind in {event[1] for event in stage.events("ask")}:
        ends = [event[0] for event in stage.events("commit", "rollback") if event[1] == kind]
        assert ends
        assert ends[-1] == "rollback" or ends == ["commit"]


@SCRIPTS
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", INTERRUPTS, ids=lambda error: type(error).__name__)
def test_an_interrupt_at_any_effect(
    clock: FakeClock, script: tuple[Step, ...], error: BaseException, *, after: bool
) -> None:
    """Whatever passes through, and wherever: the guest is ended, all sessions are rolled back, it is raised again."""
    places = 0
    while True:
        stage = Stage(clock)
        raised = interrupted_run(stage, script, places, error, after=after)
        if raised is None:
            break
        assert raised is error
        check_nothing_is_left(stage)
        places += 1
    assert places == (9 if script is LONG_SCRIPT else 4)


@SCRIPTS
@pytest.mark.parametrize("error", INTERRUPTS, ids=lambda error: type(error).__name__)
def test_an_interrupt_while_the_guest_runs(stage: Stage, script: tuple[Step, ...], error: BaseException) -> None:
    """Whichever slice it comes in: the guest is ended, all sessions are rolled back, it is raised again."""
    for place in range(len(script)):
        stage.journal.clear()
        with pytest.raises(type(error)) as caught:
            stage.run(*script[:place], partial(failing(error), None))
        assert caught.value is error
        check_nothing_is_left(stage)


@pytest.mark.parametrize("error", INTERRUPTS, ids=lambda error: type(error).__name__)
@every_call
def test_an_interrupt_from_a_backend(stage: Stage, call: Suspended, error: BaseException) -> None:
    """What a backend or a function lets through that is no `Exception` ends the dispatch, after the rollback."""
    backend = stage.backends[HOST_CALLS[call.call].kind]
    backend.answered = failing(error)
    with pytest.raises(type(error)) as caught:
        stage.run(call, Completed())
    assert caught.value is error
    assert stage.journal[-2:] == [("close",), ("rollback", backend.name)]


class CtrlC:
    """Raises `KeyboardInterrupt` in the package's own code, at the n-th place where Python looks at signals.

    It does when a function begins or a generator goes on, after a call, and when a loop goes round; not between taking
    a lock and the first instruction of its `with` block, nor in a generator that waits for an inner one.
    """

    package = str(Path(_drivers.__file__).parent)

    def __init__(self, place: int) -> None:
        self.left = place
        self.last: dict[Any, bool] = {}

    def __call__(self, frame: Any, event: str, _: object) -> CtrlC | None:
        if not frame.f_code.co_filename.startswith(self.package):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if self.last.get(frame):
                self.left -= 1
                if self.left == 0:
                    raise KeyboardInterrupt
            operation, argument = frame.f_code.co_code[frame.f_lasti : frame.f_lasti + 2]
            self.last[frame] = self.looks(dis.opname[operation], argument)
        return self

    @staticmethod
    def looks(operation: str, argument: int) -> bool:
        if operation == "RESUME":
            return argument < 2  # else the generator waits for an inner one
        return operation == "JUMP_BACKWARD" or operation.startswith("CALL")


@pytest.mark.parametrize("answered", [good_answer, failing(BackendError("down"))], ids=["answering", "failing"])
@pytest.mark.parametrize("end", [Completed(OUTPUT), Trapped()], ids=["completing", "trapping"])
def test_ctrl_c_between_any_two_instructions(clock: FakeClock, end: Step, answered: Callable[[Any], Any]) -> None:
    """No place in flow and driver is a hole: whoever was asked something is committed or rolled back."""
    traced = sys.gettrace()
    place, interrupted = 1, True
    while interrupted:
        stage = Stage(clock)
        stage.backends["kv"].answered = answered
        flow = stage.invocation(SET, end).run()
        try:
            sys.settrace(CtrlC(place))
            drive(flow, stage.services)
            interrupted = False
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(traced)
        assert stage.services.slots.held == 0, place
        for kind in {event[1] for event in stage.events("ask")}:
            assert [event for event in stage.events("commit", "rollback") if event[1] == kind], place
        place += 1
    assert place > 100  # it did go through the places


# ── reports ──────────────────────────────────────────────────────────────────────────────────────


def test_outcomes_are_reported_after_they_are_settled(stage: Stage) -> None:
    """A dispatch reports each outcome once, when its writes are committed, before the next plugin begins."""
    first = stage.invocation(SET, Completed(OUTPUT))
    second = stage.invocation(GET, Trapped())
    subscribers = (first._subscriber, second._subscriber)
    services = first._services._replace(report=lambda outcome: stage.journal.append(("report", type(outcome).__name__)))
    stage.drive(dispatch(TITLE, subscribers, "old", Request("r"), services), services)
    assert [event for event in stage.journal if event[0] in ("commit", "rollback", "report", "resume")] == [
        ("resume",), ("commit", "kv"), ("report", "Completed"), ("resume",), ("rollback", "kv"), ("report", "Trapped"),
    ]  # fmt: skip
    assert stage.guest.begun[0][0] == OUTPUT


def test_an_interrupt_while_reporting_passes_through(stage: Stage) -> None:
    """The outcome was settled by then: nothing is undone, and the interrupt goes to the caller."""
    invocation = stage.invocation(SET, Completed(OUTPUT))
    services = stage.services._replace(report=failing(KeyboardInterrupt()))
    flow = dispatch(TITLE, (invocation._subscriber,), "old", Request("r"), services)
    with pytest.raises(KeyboardInterrupt):
        stage.drive(flow, services)
    assert stage.events("commit", "rollback") == [("commit", "kv")]


def test_a_flow_that_begins_late_is_skipped(clock: FakeClock) -> None:
    """What has waited for its turn until its deadline has passed doesn't run, and says nothing about the plugin."""
    stage = Stage(clock)
    flow = stage.invocation(Completed(OUTPUT)).run()
    clock.advance(0.25)
    outcome = drive(flow, stage.services)
    assert isinstance(outcome, fb.Skipped)
    assert (outcome.reason, stage.journal) == (fb.SkipReason.DEADLINE, [])


def test_effects_say_what_they_carry() -> None:
    """Effects are plain values: two with the same contents are equal."""
    session: Any = object()
    assert Ask(session, KvGet(b"k"), 1.0) == Ask(session, KvGet(b"k"), 1.0)
    assert Commit(session, 1.0) != Commit(session, 2.0)
    assert Continue(session, 1.0) == Continue(session, 1.0)
