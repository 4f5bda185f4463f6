"""Scopes: what one tenant's plugins keep, and how often they trap, is nothing to another's."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

import fuseboard as fb
from conftest import FakeClock, guest, manifest, shows
from fuseboard.backends import Backends
from fuseboard.backends.memory import MemoryDb, MemoryKv
from tables import migrations

if TYPE_CHECKING:
    from collections.abc import Callable

    MakeHost = Callable[..., fb.Host]

VISIT = fb.Filter("visit", dict)
LEAVE = fb.Filter("leave", dict)
GOOD: Final[dict[str, Any]] = {}
BAD: Final = {"bad": True}
CLOSED, OPEN = fb.BreakerState.CLOSED, fb.BreakerState.OPEN

TABLES = migrations("CREATE TABLE visits (n BIGINT)")
INSERT = "INSERT INTO visits VALUES (1)"
COUNT = "SELECT count(*) FROM visits"


def sql(call: str, place: int, text: str) -> str:
    return f"(drop (call ${call} (i32.const {place}) (i32.const {len(text)}) (i32.const 0) (i32.const 0)))"


VISITS = guest(
    f"""(data (i32.const 0) "n")
    (data (i32.const 200) "{INSERT}") (data (i32.const 300) "{COUNT}")
    (func (export "run") (local $length i32)
      (drop (call $host_kv_increment (i32.const 0) (i32.const 1) (i64.const 1)))
      {sql("host_db_exec", 200, INSERT)}
      (if (i32.gt_s (call $buffer_length (i32.const 0)) (i32.const 2)) (then unreachable))
      {sql("host_db_query", 300, COUNT)}
      (local.set $length (call $buffer_read (i32.const 3) (i32.const 0) (i32.const 1000) (i32.const 1000)))
      (call $output_write (i32.const 1000) (local.get $length)))"""
)
"""Counts each visit in the KV and in the database, crashes for a value that isn't `{}`, else outputs the rows."""

ODD_SCOPES: Final = (
    None, "None", "null", "0", "a", "A", "a ", " a", "ａ", "a:b", "a::b", "a/b", "a\\b", "a|b", "a,b",  # noqa: RUF001
    "a\0", "a\0b", "a\n", "a\r\n", "\0", "\x7f", ".", "..", "../a", "./a", "a/", "/a", "a%2Fb", "a%00", "a;b", "'", '"',
    "'; DROP TABLE visits; --", "caf\u00e9", "cafe\u0301", "CAF\u00c9", "stra\u00dfe", "strasse", "\u017f", "s",
    "\u212b", "\u00c5", "A\u030a", "\u0130", "i", "I", "\u0131", "a\u200b", "\ufeffa", "\ud7ff", "\uffff", "🦊",
    "x" * 10_000, "x" * 10_001, "visits", "visit",
)  # fmt: skip
"""Each of them is easily taken for another: by a separator, a path, a terminator, case, or normalisation."""


class Site:
    """A host with `VISITS` on both hooks as `visits`, its stores, and what it told."""

    def __init__(self, make_host: MakeHost, *slugs: str, **arguments: Any) -> None:
        self.kv, self.db = MemoryKv(), MemoryDb()
        self.changes: list[fb.BreakerChange] = []
        self.host = make_host(
            VISIT,
            LEAVE,
            backends=Backends(kv=self.kv, db=self.db),
            on_breaker_change=self.changes.append,
            **arguments,
        )
        said = {"capabilities": {"kv": True, "db": "write"}}
        for slug in slugs or ("visits",):
            self.db.prepare(slug, TABLES)
            self.host.load_bytes(VISITS, manifest(slug, "visit", "leave", **said), grants="as-requested")

    def visit(self, scope: str | None, value: dict[str, Any] = GOOD, *, slug: str = "visits") -> fb.Outcome:
        return self.host.invoke(slug, VISIT, value, scope=scope)

    def kept(self, scope: str | None, slug: str = "visits") -> tuple[int, int]:
        """Return how many visits the KV knows of, and how many the database."""
        (count,) = self.db.rows(slug, COUNT, scope=scope)[0]
        return int(self.kv.items(slug, scope=scope).get(b"n", b"0")), count

    def trip(self, scope: str | None, *, hook: fb.Filter[Any] = VISIT, slug: str = "visits") -> None:
        """Have a breaker opened by traps."""
        for _ in range(5):
            assert isinstance(self.host.invoke(slug, hook, BAD, scope=scope), fb.Trapped)
        assert self.host.breakers.get(slug, hook.name, scope).state is OPEN


def rows(outcome: fb.Outcome) -> int:
    """Return how many rows the guest itself saw."""
    assert isinstance(outcome, fb.Completed), outcome
    count: int = outcome.value["rows"][0][0]
    return count


def is_open(outcome: fb.Outcome) -> bool:
    return isinstance(outcome, fb.Skipped) and outcome.reason is fb.SkipReason.BREAKER_OPEN


# ── data ─────────────────────────────────────────────────────────────────────────────────────────


def test_two_tenants_see_nothing_of_each_other(make_host: MakeHost) -> None:
    """A guest counts its own scope's visits only, in the KV and in the database; without a scope is a third."""
    site = Site(make_host)
    assert [rows(site.visit(scope)) for scope in ("a", "b", "a", None, "a", "b", None)] == [1, 1, 2, 1, 3, 2, 2]
    assert [site.kept(scope) for scope in ("a", "b", None, "c")] == [(3, 3), (2, 2), (2, 2), (0, 0)]


def test_two_plugins_of_a_scope_see_nothing_of_each_other(make_host: MakeHost) -> None:
    """A scope is whose data it is, not which plugin's: each plugin has its own of it."""
    site = Site(make_host, "one", "two")
    assert [rows(site.visit("a", slug=slug)) for slug in ("one", "two", "one")] == [1, 1, 2]
    assert (site.kept("a", "one"), site.kept("a", "two")) == ((2, 2), (1, 1))


def test_what_is_rolled_back_in_one_scope_stays_in_another(make_host: MakeHost) -> None:
    """A trap undoes what its own invocation has written, and nothing in other scopes."""
    site = Site(make_host)
    for scope in ("a", "b", None):
        site.visit(scope)
    assert isinstance(site.visit("a", BAD), fb.Trapped)
    assert [site.kept(scope) for scope in ("a", "b", None)] == [(1, 1)] * 3


def test_a_dispatch_inside_of_another_has_the_scope_that_it_names(make_host: MakeHost) -> None:
    """A function may work for another tenant: what is written there is that tenant's, the rest the caller's."""
    name = "visit.other"

    @fb.host_function(name)
    def visit_other(*, call: fb.Call) -> None:
        assert call.scope == "outer"
        assert rows(site.visit("inner")) == 1

    module = guest(f"""(data (i32.const 0) "{name}") (func (export "run") {sql("host_call", 0, name)})""")
    site = Site(make_host, functions=[visit_other])
    said = {"capabilities": {"functions": [name]}}
    site.host.load_bytes(module, manifest("caller", "visit", **said), grants="as-requested")
    assert isinstance(site.host.invoke("caller", VISIT, GOOD, scope="outer"), fb.Completed)
    assert [site.kept(scope) for scope in ("outer", "inner", None)] == [(0, 0), (1, 1), (0, 0)]


@pytest.mark.usefixtures("_crowded")
def test_twenty_scopes_at_once(make_host: MakeHost) -> None:
    """Two threads a scope, twenty scopes: no visit is lost, none counted elsewhere, and each saw the next number."""
    site = Site(make_host)
    scopes = [f"site-{number}" for number in range(20)]
    start = threading.Barrier(40)

    def visiting(scope: str) -> list[int]:
        start.wait(10)
        return [rows(site.visit(scope)) for _ in range(15)]

    with ThreadPoolExecutor(40) as pool:
        seen = list(pool.map(visiting, scopes * 2))
    for number, scope in enumerate(scopes):
        assert sorted(seen[number] + seen[number + 20]) == list(range(1, 31))
        assert site.kept(scope) == (30, 30)
    assert site.kept(None) == (0, 0)


# ── odd scopes ───────────────────────────────────────────────────────────────────────────────────


def test_odd_scopes_are_apart(make_host: MakeHost) -> None:
    """Separators, paths, NUL, case, normal forms, length: two scopes that aren't equal share nothing."""
    assert len(set(ODD_SCOPES)) == len(ODD_SCOPES)
    site = Site(make_host)
    for number, scope in enumerate(ODD_SCOPES, 1):
        assert [rows(site.visit(scope)) for _ in range(number % 5 + 1)] == list(range(1, number % 5 + 2))
    for number, scope in enumerate(ODD_SCOPES, 1):
        assert site.kept(scope) == (number % 5 + 1, number % 5 + 1)


def test_odd_scopes_have_breakers_of_their_own(make_host: MakeHost) -> None:
    """Every second one's breaker is open: exactly these are skipped, and told so."""
    site = Site(make_host)
    for scope in ODD_SCOPES[::2]:
        site.trip(scope)
    for number, scope in enumerate(ODD_SCOPES):
        assert is_open(site.visit(scope)) == (number % 2 == 0)
    assert {one.scope for one in site.host.breakers if one.state is OPEN} == {*ODD_SCOPES[::2]}
    assert [change.scope for change in site.changes] == [*ODD_SCOPES[::2]]


def test_a_guest_is_told_its_scope_as_it_is(make_host: MakeHost) -> None:
    """Nothing is cut, escaped or normalised on the way to the guest."""
    host = make_host(VISIT)
    host.load_bytes(shows(5), manifest("info", "visit"))
    told = [host.apply_filter(VISIT, GOOD, scope=scope)["scope"] for scope in ODD_SCOPES]
    assert told == [*ODD_SCOPES]


# ── breakers ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tripped", ["a", None])
def test_an_open_breaker_skips_its_own_scope_only(make_host: MakeHost, tripped: str | None) -> None:
    """One tenant's bad input switches the plugin off for that tenant, not for others; no scope is a scope too."""
    site = Site(make_host)
    site.trip(tripped)
    for scope in ("a", "b", None):
        assert is_open(site.visit(scope)) == (scope == tripped)
        assert site.host.breakers.get("visits", "visit", scope).state is (OPEN if scope == tripped else CLOSED)
    assert site.kept(tripped) == (0, 0)


def test_traps_of_scopes_are_not_added_up(make_host: MakeHost) -> None:
    """Four traps in each of five scopes, one short of opening, open none."""
    site = Site(make_host)
    scopes = ["a", "b", "c", "d", None]
    for _ in range(4):
        assert all(isinstance(site.visit(scope, BAD), fb.Trapped) for scope in scopes)
    assert not any(is_open(site.visit(scope)) for scope in scopes)
    assert [site.host.breakers.get("visits", "visit", scope).traps for scope in scopes] == [4] * 5


def test_an_open_breaker_skips_its_own_hook_only(make_host: MakeHost) -> None:
    """A plugin that fails on one hook is still run on its others, in the same scope."""
    site = Site(make_host)
    site.trip("a", hook=LEAVE)
    assert is_open(site.host.dispatch(LEAVE, GOOD, scope="a").outcomes[0])
    assert rows(site.host.dispatch(VISIT, GOOD, scope="a").outcomes[0]) == 1


def test_an_open_breaker_skips_its_own_plugin_only(make_host: MakeHost) -> None:
    """The next plugin on the hook is run in that scope as if nothing were."""
    site = Site(make_host, "one", "two")
    site.trip("a", slug="one")
    skipped, ran = site.host.dispatch(VISIT, GOOD, scope="a").outcomes
    assert is_open(skipped)
    assert rows(ran) == 1


def test_each_scope_is_probed_on_its_own(make_host: MakeHost, clock: FakeClock) -> None:
    """After the cooldown each scope has its own probe: one closes, the other opens again for longer."""
    site = Site(make_host, clock=clock)
    site.trip("a")
    site.trip("b")
    clock.advance(31)
    assert rows(site.visit("a")) == 1
    assert isinstance(site.visit("b", BAD), fb.Trapped)
    assert (is_open(site.visit("a")), is_open(site.visit("b"))) == (False, True)
    assert site.host.breakers.get("visits", "visit", "b").cooldown_seconds == 60


def test_the_operator_works_on_one_scope(make_host: MakeHost) -> None:
    """Open, close and reset with a scope concern that one; resetting a plugin concerns all of its scopes."""
    site = Site(make_host)
    for scope in ("a", "b", None):
        site.host.breakers.open("visits", "visit", scope)
    site.host.breakers.close("visits", "visit", "a")
    assert [is_open(site.visit(scope)) for scope in ("a", "b", None)] == [False, True, True]
    site.host.breakers.reset("visits", "visit", "b")
    assert [is_open(site.visit(scope)) for scope in ("a", "b", None)] == [False, False, True]
    site.host.breakers.open("visits", "visit", "a")
    site.host.breakers.reset("visits")
    assert [is_open(site.visit(scope)) for scope in ("a", "b", None)] == [False] * 3


@pytest.mark.usefixtures("_crowded")
def test_a_tripping_scope_beside_nineteen_others(make_host: MakeHost) -> None:
    """While one scope does nothing but trap, from several threads, no other is skipped, trapped or miscounted."""
    site = Site(make_host)
    start = threading.Barrier(23)

    def visiting(scope: str | None, value: dict[str, Any]) -> list[fb.Outcome]:
        start.wait(10)
        return [site.visit(scope, value) for _ in range(15)]

    with ThreadPoolExecutor(23) as pool:
        bad = [pool.submit(visiting, "bad", BAD) for _ in range(4)]
        good = [pool.submit(visiting, f"site-{number}", GOOD) for number in range(19)]
        for each in good:
            assert [rows(outcome) for outcome in each.result(10)] == list(range(1, 16))
        outcomes = [outcome for each in bad for outcome in each.result(10)]
    assert {is_open(outcome) for outcome in outcomes if not isinstance(outcome, fb.Trapped)} == {True}
    assert 5 <= sum(isinstance(outcome, fb.Trapped) for outcome in outcomes) < 60
    assert [(change.scope, change.after) for change in site.changes] == [("bad", OPEN)]
    assert site.kept("bad") == (0, 0)


def test_an_open_breaker_stays_open_while_scopes_come_and_go(make_host: MakeHost) -> None:
    """A thousand scopes that are seen once make none forgotten that is open."""
    site = Site(make_host)
    site.trip("bad")
    for number in range(1_100):
        site.visit(f"site-{number}")
    assert is_open(site.visit("bad"))


def test_a_trap_counts_however_many_scopes_came_meanwhile(make_host: MakeHost) -> None:
    """The first invocation of a scope is still running while a thousand others pass: its trap opens its breaker."""
    inside, leave = threading.Event(), threading.Event()

    @fb.host_function("wait")
    def wait(*, call: fb.Call) -> None:
        if call.scope == "slow":
            inside.set()
            assert leave.wait(15)

    module = guest(
        f"""(data (i32.const 0) "wait") (func (export "run") {sql("host_call", 0, "wait")}
          (if (i32.gt_s (call $buffer_length (i32.const 0)) (i32.const 2)) (then unreachable)))"""
    )
    host = make_host(VISIT, functions=[wait], breaker=fb.BreakerPolicy(min_traps=1, trap_ratio=0.1))
    host.load_bytes(module, manifest("slow", "visit", capabilities={"functions": ["wait"]}), grants="as-requested")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.invoke, "slow", VISIT, BAD, scope="slow")
        assert inside.wait(10)
        for number in range(1_100):
            host.apply_filter(VISIT, GOOD, scope=f"site-{number}")
        leave.set()
        assert isinstance(running.result(10), fb.Trapped)
    assert host.breakers.get("slow", "visit", "slow").state is OPEN


# ── what is told ─────────────────────────────────────────────────────────────────────────────────


def test_whatever_is_told_names_the_scope(make_host: MakeHost, caplog: pytest.LogCaptureFixture) -> None:
    """Outcomes, traps, log records and changes of breakers say whose they are; without a scope they say `None`."""
    caplog.set_level(logging.INFO, "fuseboard")
    outcomes: list[fb.Outcome] = []
    site = Site(make_host, on_outcome=outcomes.append, breaker=fb.BreakerPolicy(min_traps=1, trap_ratio=0.5))
    for scope in ("sité-42", None):
        trapped, skipped = site.visit(scope, BAD), site.visit(scope, BAD)
        assert isinstance(trapped, fb.Trapped)
        assert trapped.trap.scope == trapped.scope == skipped.scope == scope
        assert is_open(skipped)
    assert [outcome.scope for outcome in outcomes] == ["sité-42", "sité-42", None, None]
    assert [change.scope for change in site.changes] == ["sité-42", None]
    assert ["scope 'sité-42'" in str(change) for change in site.changes] == [True, False]
    told: list[Any] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.scope for record in told] == ["sité-42", "sité-42", None, None]  # each a trap, and a breaker
