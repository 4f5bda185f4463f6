"""The breaker: a plugin that keeps trapping is left alone for a while, probed, and let in again.

The rules are tested on an injected clock. With real hosts the guest's own time is real, and the breaker's is injected.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

import fuseboard as fb
from conftest import CRASH, ECHO, SILENT, SMALL, SPIN, TEXT, FakeClock, guest, manifest, only_sync
from fuseboard import BreakerEvent as Event
from fuseboard import BreakerPolicy, BreakerState, _breaker_store
from fuseboard._breaker import TRANSITIONS, BreakerKey
from fuseboard._breaker_store import MemoryBreakerStore
from fuseboard._breakers import Admission, Breakers
from fuseboard.backends import KvDone
from guests import Application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from drivers import MakeHost

CLOSED, OPEN, HALF_OPEN = BreakerState
KEY: Final = BreakerKey("blog", "text", None)
KEYS: Final = (KEY, BreakerKey("blog", "text", "site-1"), BreakerKey("mail", "text", None))


PLUGIN: Any = object()
"""Stands for a plugin: the roster of these tests looks at none."""


class Everyone:
    """A roster on which everyone is."""

    def is_loaded(self, _: object) -> bool:
        return True

    def check(self, slug: str, hook: str | None) -> None:
        """Refuse nobody."""


def breakers_of(
    clock: FakeClock,
    policy: BreakerPolicy | None = BreakerPolicy(),  # noqa: B008  frozen
    notify: Callable[[fb.BreakerChange], object] = lambda _: None,
) -> Breakers:
    """Return the breakers of a host in which every plugin is loaded."""
    store = MemoryBreakerStore((policy or BreakerPolicy()).window_seconds)
    return Breakers(policy, store, clock, roster=Everyone(), notify=notify)


def run(breakers: Breakers, *, trapped: bool | None, key: BreakerKey = KEY) -> bool:
    """Have a breaker see one invocation, and return whether it was let through."""
    admission = breakers.admit(PLUGIN, key, breakers._clock(), math.inf)
    if admission is not None:
        breakers.settle(admission, trapped=trapped)
    return admission is not None


def state_of(breakers: Breakers, key: BreakerKey = KEY) -> BreakerState:
    return breakers.get(*key).state


# ── against a plain model ────────────────────────────────────────────────────────────────────────


@dataclass
class Model:
    """A breaker as simple as can be: every invocation of this epoch is kept."""

    cooldown: float
    state: BreakerState = CLOSED
    until: float = -math.inf
    epoch: object = field(default_factory=object)
    seen: list[tuple[int, bool]] = field(default_factory=list)

    def counts(self, now: float, tenth: float) -> tuple[int, int]:
        """Return what is in the window: this tenth of it, and the nine before."""
        traps = [trapped for number, trapped in self.seen if number > now // tenth - 10]
        return len(traps), sum(traps)


class BreakersMachine(RuleBasedStateMachine):
    """Breakers beside their models, with everything that invocations, operator and time can do."""

    admissions: Bundle[tuple[Admission, object]] = Bundle("admissions")

    @initialize(
        min_traps=st.integers(1, 4),
        ratio=st.sampled_from([0.25, 0.5, 0.6, 1]),
        cooldown=st.sampled_from([1, 3.5, 20]),
        watching=st.integers(0, 9),
    )
    def begin(self, min_traps: int, ratio: float, cooldown: float, watching: int) -> None:
        self.policy = BreakerPolicy(
            window_seconds=80,
            min_traps=min_traps,
            trap_ratio=ratio,
            cooldown_seconds=cooldown,
            max_cooldown_seconds=5 * cooldown,
        )
        self.is_watching = watching > 0
        self.clock = FakeClock()
        self.told: list[fb.BreakerChange] = []
        self.expected: list[tuple[Any, ...]] = []
        self.breakers = breakers_of(self.clock, self.policy, self.told.append)
        self.breakers._is_watching = self.is_watching
        self.models = {key: Model(cooldown) for key in KEYS}

    def become(
        self, key: BreakerKey, state: BreakerState, event: Event, *, cooldown: float | None = None, until: float = 0.0
    ) -> None:
        """Begin a new epoch, of which everybody is told where the state is another."""
        before = self.models[key]
        if state is CLOSED:
            cooldown = self.policy.cooldown_seconds
        self.models[key] = Model(before.cooldown if cooldown is None else cooldown, state, until)
        if before.state is not state:
            self.expected.append((key, before.state, state, event))

    # ── what invocations do ──────────────────────────────────────────────────────────────────────

    @rule(target=admissions, key=st.sampled_from(KEYS), patience=st.integers(0, 60))
    def admit(self, key: BreakerKey, patience: int) -> Any:
        """A closed breaker lets all through; another one lets one through when its time has come."""
        model, now = self.models[key], self.clock.now
        admission = self.breakers.admit(PLUGIN, key, now, now + patience)
        if model.state is not CLOSED:
            assert (admission is not None) is (now >= model.until)
            if admission is None:
                return multiple()
            self.become(key, HALF_OPEN, Event.PROBE, until=now + max(model.cooldown, patience))
        assert admission is not None
        return admission, self.models[key].epoch

    @rule(admitted=consumes(admissions), trapped=st.sampled_from([True, False, None]))
    def settle(self, admitted: tuple[Admission, object], trapped: bool | None) -> None:  # noqa: FBT001
        """What was admitted counts in its own epoch only, whenever it ends."""
        admission, epoch = admitted
        model = self.models[admission.key]
        self.breakers.settle(admission, trapped=trapped)
        if model.epoch is not epoch:
            return
        if model.state is HALF_OPEN:
            self.probe_ends(admission.key, trapped=trapped)
        elif trapped is not None and self.is_watching:
            self.count(admission.key, trapped=trapped)

    def probe_ends(self, key: BreakerKey, *, trapped: bool | None) -> None:
        now, cooldown = self.clock.now, self.models[key].cooldown
        if trapped:
            cooldown = min(2 * cooldown, self.policy.max_cooldown_seconds)
            self.become(key, OPEN, Event.PROBE_TRAPPED, cooldown=cooldown, until=now + cooldown)
        elif trapped is None:
            self.become(key, OPEN, Event.PROBE_RETURNED, until=now)
        else:
            self.become(key, CLOSED, Event.PROBE_COMPLETED)

    def count(self, key: BreakerKey, *, trapped: bool) -> None:
        model, now, tenth = self.models[key], self.clock.now, self.policy.window_seconds / 10
        model.seen.append((int(now // tenth), trapped))
        invocations, traps = model.counts(now, tenth)
        if trapped and traps >= self.policy.min_traps and traps / invocations >= self.policy.trap_ratio:
            self.become(key, OPEN, Event.TRAPS, until=now + model.cooldown)

    @rule(key=st.sampled_from(KEYS), ends=st.lists(st.booleans(), max_size=8))
    def run(self, key: BreakerKey, ends: list[bool]) -> None:
        """Several invocations, one after the other."""
        for trapped in ends:
            if isinstance(admitted := self.admit(key, 0), tuple):
                self.settle(admitted, trapped)

    # ── what time and the operator do ────────────────────────────────────────────────────────────

    @rule(halves=st.integers(1, 60) | st.integers(100, 200))
    def advance(self, halves: int) -> None:
        self.clock.advance(halves / 2)

    @rule(key=st.sampled_from(KEYS))
    def wait_for_the_probe(self, key: BreakerKey) -> None:
        """At the very moment a probe may begin, and not before."""
        wait = self.models[key].until - self.clock.now
        if 0 < wait < math.inf:
            self.clock.advance(wait)

    @rule(key=st.sampled_from(KEYS), trapped=st.sampled_from([True, False, None]))
    def probe(self, key: BreakerKey, trapped: bool | None) -> None:  # noqa: FBT001
        """Wait for a probe, and have it end."""
        self.wait_for_the_probe(key)
        if isinstance(admitted := self.admit(key, 0), tuple):
            self.settle(admitted, trapped)

    @rule(key=st.sampled_from(KEYS))
    def open(self, key: BreakerKey) -> None:
        self.breakers.open(*key)
        self.become(key, OPEN, Event.OPERATOR_OPENED, until=math.inf)

    @rule(key=st.sampled_from(KEYS))
    def close(self, key: BreakerKey) -> None:
        self.breakers.close(*key)
        self.become(key, CLOSED, Event.OPERATOR_CLOSED)

    @rule(key=st.sampled_from(KEYS))
    def reset(self, key: BreakerKey) -> None:
        self.breakers.reset(*key)
        self.become(key, CLOSED, Event.RESET)

    @rule(plugin=st.sampled_from([None, "blog", "mail"]), by_operator=st.booleans())
    def forget(self, plugin: str | None, by_operator: bool) -> None:  # noqa: FBT001
        """A reload, or a reset of a whole plugin; without a plugin, a reset of them all."""
        if plugin is None or by_operator:
            self.breakers.reset(plugin)
        else:
            self.breakers.forget(plugin)
        for key in KEYS:
            if plugin in (None, key.plugin):
                self.become(key, CLOSED, Event.RESET)

    # ── what must be so ──────────────────────────────────────────────────────────────────────────

    @invariant()
    def shows_what_is_so(self) -> None:
        """Each breaker is shown as its model is."""
        now = self.clock.now
        for key, model in self.models.items():
            invocations, traps = model.counts(now, self.policy.window_seconds / 10)
            has_probe = model.state is not CLOSED and model.until < math.inf
            assert self.breakers.get(*key) == fb.Breaker(
                **key._asdict(), state=model.state, invocations=invocations, traps=traps,
                cooldown_seconds=model.cooldown,
                retry_seconds=max(0.0, model.until - now) if has_probe else None,
            )  # fmt: skip

    @invariant()
    def tells_every_change(self) -> None:
        """Every change of a state is told once, in its order, and nothing else is; each is in the table."""
        told = [((one.plugin, one.hook, one.scope), one.before, one.after, one.event) for one in self.told]
        # The order among the breakers of one reset is nobody's business.
        assert sorted(told, key=repr) == sorted(self.expected, key=repr)
        for key in KEYS:
            assert [one for one in told if one[0] == key] == [one for one in self.expected if one[0] == key]
        assert all(TRANSITIONS[one.before, one.event] is one.after for one in self.told)


TestBreakers = BreakersMachine.TestCase
TestBreakers.settings = settings(deadline=None, max_examples=80, stateful_step_count=50)


# ── the table ────────────────────────────────────────────────────────────────────────────────────


def test_the_table_says_what_the_module_says() -> None:
    """Traps open; a probe is let through, and closes, opens, or is handed back; the operator may do all; no more."""
    by_itself = {
        (CLOSED, Event.TRAPS): OPEN,
        (OPEN, Event.PROBE): HALF_OPEN,
        (HALF_OPEN, Event.PROBE): HALF_OPEN,
        (HALF_OPEN, Event.PROBE_COMPLETED): CLOSED,
        (HALF_OPEN, Event.PROBE_TRAPPED): OPEN,
        (HALF_OPEN, Event.PROBE_RETURNED): OPEN,
    }
    by_hand = {Event.OPERATOR_OPENED: OPEN, Event.OPERATOR_CLOSED: CLOSED, Event.RESET: CLOSED}
    assert by_itself | {(state, event): after for event, after in by_hand.items() for state in BreakerState} == (
        TRANSITIONS
    )


def brought_to(state: BreakerState, clock: FakeClock) -> tuple[Breakers, Admission | None, list[fb.BreakerChange]]:
    """Return breakers of which one is in a state, its probe where it has one, and what will be told from here on."""
    told: list[fb.BreakerChange] = []
    breakers = breakers_of(clock, BreakerPolicy(min_traps=1), told.append)
    if state is not CLOSED:
        run(breakers, trapped=True)
        clock.advance(30)
    probe = breakers.admit(PLUGIN, KEY, clock.now, clock.now) if state is HALF_OPEN else None
    told.clear()
    return breakers, probe, told


@pytest.mark.parametrize(("before", "event"), TRANSITIONS, ids=str)
def test_every_pair_of_the_table_can_happen(clock: FakeClock, before: BreakerState, event: Event) -> None:
    """Each line has something that causes it, and the state is told where it is another."""
    breakers, probe, told = brought_to(before, clock)
    if event is Event.PROBE:
        clock.advance(30)  # one that was let through is lost by then
    ends = {Event.PROBE_COMPLETED: False, Event.PROBE_TRAPPED: True, Event.PROBE_RETURNED: None}
    if event in ends:
        assert probe is not None
        breakers.settle(probe, trapped=ends[event])
    else:
        causes: dict[Event, Callable[[], object]] = {
            Event.TRAPS: lambda: run(breakers, trapped=True),
            Event.PROBE: lambda: breakers.admit(PLUGIN, KEY, breakers._clock(), math.inf),
            Event.OPERATOR_OPENED: lambda: breakers.open(*KEY),
            Event.OPERATOR_CLOSED: lambda: breakers.close(*KEY),
            Event.RESET: lambda: breakers.reset(*KEY),
        }
        causes[event]()
    after = TRANSITIONS[before, event]
    assert state_of(breakers) is after
    assert [(one.before, one.after, one.event) for one in told] == [(before, after, event)] * (before is not after)


# ── the policy ───────────────────────────────────────────────────────────────────────────────────

SECONDS = "must be a number above 0, to 31,622,400"
BAD_SECONDS: Final = (0, -1, math.nan, math.inf, -math.inf, True, "60", None, 31_622_401)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        *[(name, bad, SECONDS) for bad in BAD_SECONDS for name in ("window_seconds", "cooldown_seconds")],
        *[("max_cooldown_seconds", bad, SECONDS) for bad in BAD_SECONDS],
        *[("trap_ratio", bad, "must be a number above 0, to 1") for bad in (0, -0.1, 1.01, math.nan, True, "1", None)],
        *[
            ("min_traps", bad, "must be a whole number from 1 to 1,000,000")
            for bad in (0, -1, 1.0, 1_000_001, True, "5", None)
        ],
        ("max_cooldown_seconds", 29.5, "is less than cooldown_seconds=30.0"),
    ],
)
def test_bad_policies_are_refused(name: str, value: Any, problem: str) -> None:
    """Each field is named with its value and what it may be."""
    with pytest.raises(fb.UsageError) as caught:
        BreakerPolicy(**{name: value})
    assert str(caught.value) == f"BreakerPolicy({name}={value!r}): {problem}"


def test_the_extremes_of_a_policy_can_be_used() -> None:
    """What stands at the end of an allowed range is allowed, whole numbers in the place of others too."""
    most = 31_622_400
    policy = BreakerPolicy(
        window_seconds=most, min_traps=1_000_000, trap_ratio=1, cooldown_seconds=most, max_cooldown_seconds=most
    )
    assert policy.max_cooldown_seconds == policy.cooldown_seconds
    assert BreakerPolicy(window_seconds=1e-9, min_traps=1, trap_ratio=1e-9).min_traps == 1


# ── when it opens ────────────────────────────────────────────────────────────────────────────────


def test_five_of_a_thousand_keep_it_closed(clock: FakeClock) -> None:
    """Bad input now and then isn't a bad plugin, however often it comes in all."""
    breakers = breakers_of(clock)
    for number in range(3_000):
        assert run(breakers, trapped=number % 200 == 199)
        clock.advance(0.01)
    assert breakers.get(*KEY) == fb.Breaker(
        **KEY._asdict(), state=CLOSED, invocations=3_000, traps=15, cooldown_seconds=30, retry_seconds=None
    )


def test_sixty_percent_open_it(clock: FakeClock) -> None:
    """The fifth trap is enough where more than half of all have trapped; then nothing is let through."""
    breakers = breakers_of(clock)
    admitted = [run(breakers, trapped=number % 5 < 3) for number in range(100)]
    assert sum(admitted) == 7  # three, two that complete, and two more
    assert state_of(breakers) is OPEN


def test_both_number_and_ratio_must_be_reached(clock: FakeClock) -> None:
    """Four of four are too few; a half is enough, and less than that isn't."""
    breakers = breakers_of(clock)
    for _ in range(4):
        run(breakers, trapped=True)
    assert state_of(breakers) is CLOSED
    for _ in range(6):
        run(breakers, trapped=False)
    run(breakers, trapped=True)  # 5 of 11
    assert state_of(breakers) is CLOSED
    run(breakers, trapped=True)  # 6 of 12
    assert state_of(breakers) is OPEN


def test_the_window_moves_on_in_tenths(clock: FakeClock) -> None:
    """A trap counts for at least nine tenths of the window, and not after the whole of it."""
    clock.now = 6_000.0  # where a tenth begins
    breakers = breakers_of(clock)
    for _ in range(4):
        run(breakers, trapped=True)
    clock.now = 6_059.9
    assert breakers.get(*KEY).traps == 4
    clock.now = 6_060.0
    assert breakers.get(*KEY).traps == 0
    run(breakers, trapped=True)
    assert state_of(breakers) is CLOSED
    clock.now = 6_119.9
    for _ in range(4):
        run(breakers, trapped=True)
    assert state_of(breakers) is OPEN


def test_a_thread_that_is_late_takes_nothing_from_the_window(clock: FakeClock) -> None:
    """Threads that looked at the clock just before a tenth ended may count after one that looked just later."""
    breakers = breakers_of(clock)
    run(breakers, trapped=True)
    clock.advance(6)
    for number in range(40):
        clock.now = 1_008.0 - 0.001 * (number % 2)  # a tenth begins at 1,008
        run(breakers, trapped=False)
    assert breakers.get(*KEY).invocations == 41


def test_the_cooldown_doubles_to_the_longest(clock: FakeClock) -> None:
    """Each probe that traps doubles it, 600 s at the most; one that completes sets it back."""
    told: list[fb.BreakerChange] = []
    breakers = breakers_of(clock, notify=told.append)
    for _ in range(5):
        run(breakers, trapped=True)
    for seconds in (30, 60, 120, 240, 480, 600, 600):
        assert told[-1].cooldown_seconds == seconds
        clock.advance(seconds - 0.001)
        assert not run(breakers, trapped=True)
        clock.advance(0.001)
        assert run(breakers, trapped=True)
    clock.advance(600)
    assert run(breakers, trapped=False)
    assert breakers.get(*KEY).cooldown_seconds == 30


def test_a_change_tells_how_long_it_is_until_the_next_probe(clock: FakeClock) -> None:
    """Where a probe was handed back the next may begin at once, and nothing else is told."""
    breakers, probe, told = brought_to(HALF_OPEN, clock)
    assert probe is not None
    breakers.settle(probe, trapped=None)
    assert [(one.after, one.cooldown_seconds) for one in told] == [(OPEN, 0)]
    assert breakers.get(*KEY).retry_seconds == 0
    told.clear()
    breakers.open(*KEY)
    breakers.close(*KEY)
    breakers.open(*KEY)
    assert [(one.after, one.cooldown_seconds) for one in told] == [(CLOSED, None), (OPEN, None)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            fb.BreakerChange(
                plugin="p", hook="h", scope="s", before=CLOSED, after=OPEN, event=Event.TRAPS, cooldown_seconds=30.0
            ),
            "plugin 'p', hook 'h', scope 's': the breaker is open for 30 s (traps)",
        ),
        (
            fb.BreakerChange(plugin="p", hook="h", scope=None, before=OPEN, after=HALF_OPEN, event=Event.PROBE),
            "plugin 'p', hook 'h': the breaker is half-open (probe)",
        ),
        (
            fb.BreakerChange(plugin="p", hook="h", scope=None, before=CLOSED, after=OPEN, event=Event.OPERATOR_OPENED),
            "plugin 'p', hook 'h': the breaker is open (operator opened)",
        ),
    ],
)
def test_a_change_is_a_sentence(change: fb.BreakerChange, sentence: str) -> None:
    """Who, what, for how long, and why."""
    assert str(change) == sentence


# ── many scopes, many threads ────────────────────────────────────────────────────────────────────

SCOPES: Final = 100_000


@pytest.mark.parametrize(
    ("policy", "trapped"),
    [(BreakerPolicy(), False), (BreakerPolicy(), None), (None, False)],
    ids=["completed", "not counted", "no breaker"],
)
def test_idle_breakers_are_dropped(clock: FakeClock, policy: BreakerPolicy | None, *, trapped: bool | None) -> None:
    """Scopes come and go: what is kept is what the window holds, whatever became of the invocations."""
    breakers = breakers_of(clock, policy)
    most = 0
    for number in range(SCOPES):
        run(breakers, trapped=trapped, key=KEY._replace(scope=f"scope-{number}"))
        clock.advance(0.1)
        if number % 1_000 == 0:
            most = max(most, len(breakers._store.known()))
    assert most < 3_000  # 600 are in the window


def test_breakers_that_say_something_are_kept(clock: FakeClock) -> None:
    """However many scopes come, an open breaker stays open, and a trap in the window is remembered."""
    breakers = breakers_of(clock)
    breakers.open("blog", "text", "opened")
    run(breakers, trapped=True)
    for number in range(10_000):
        run(breakers, trapped=False, key=KEY._replace(scope=f"scope-{number}"))
        clock.advance(0.001)
    assert state_of(breakers, KEY._replace(scope="opened")) is OPEN
    assert breakers.get(*KEY).traps == 1


@pytest.fixture
def _threads_take_turns_often() -> Iterator[None]:
    """Have threads give each other their turn as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_scopes_come_while_others_are_dropped(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropping what is idle stands in no other thread's way, and drops nothing of what it brings meanwhile."""
    breakers = breakers_of(clock)
    others: list[threading.Thread] = []
    admissions: list[Admission | None] = []

    class Interrupted(_breaker_store._Cell):
        last: float

        @property
        def asked_at(self) -> float:
            if breakers._store._lock.locked() and len(others) < 100:  # type: ignore[attr-defined]
                key = KEY._replace(scope=f"meanwhile-{len(others)}")
                others.append(
                    threading.Thread(
                        target=lambda: admissions.append(breakers.admit(PLUGIN, key, breakers._clock(), math.inf))
                    )
                )
                others[-1].start()
                others[-1].join(0.01)
            return self.last

        @asked_at.setter
        def asked_at(self, now: float) -> None:
            self.last = now

    monkeypatch.setattr(_breaker_store, "_Cell", Interrupted)
    for number in range(1_100):
        run(breakers, trapped=False, key=KEY._replace(scope=f"scope-{number}"))
        clock.advance(1)
    for thread in others:
        thread.join(10)
    for admission in admissions:
        assert admission is not None
        breakers.settle(admission, trapped=True)
    assert len(admissions) == 100
    assert [breakers.get(*one.key).traps for one in admissions if one is not None] == [1] * 100


def test_what_runs_while_others_are_dropped_counts(clock: FakeClock) -> None:
    """An invocation that takes long isn't forgotten for it, however many scopes come and go meanwhile."""
    breakers = breakers_of(clock)
    admission = breakers.admit(PLUGIN, KEY, breakers._clock(), math.inf)
    for number in range(3_000):
        run(breakers, trapped=False, key=KEY._replace(scope=f"scope-{number}"))
    assert admission is not None
    breakers.settle(admission, trapped=True)
    assert breakers.get(*KEY).traps == 1


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_many_threads_have_one_probe(clock: FakeClock) -> None:
    """Of all that ask when the cooldown is over, one is let through, and one change is told."""
    told: list[fb.BreakerChange] = []
    breakers = breakers_of(clock, BreakerPolicy(min_traps=1, max_cooldown_seconds=30), told.append)
    run(breakers, trapped=True)
    barrier = threading.Barrier(8)

    def ask() -> Admission | None:
        barrier.wait(10)
        return breakers.admit(PLUGIN, KEY, breakers._clock(), math.inf)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(100):
            clock.advance(30)
            told.clear()
            admitted = [each.result(10) for each in [pool.submit(ask) for _ in range(8)]]
            (probe,) = [one for one in admitted if one is not None]
            assert [(one.before, one.after) for one in told] == [(OPEN, HALF_OPEN)]
            breakers.settle(probe, trapped=True)


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_many_threads_open_it_once(clock: FakeClock) -> None:
    """Traps that come together open a breaker once, and are all counted before."""
    told: list[fb.BreakerChange] = []
    breakers = breakers_of(clock, BreakerPolicy(min_traps=400), told.append)

    def trap() -> None:
        for _ in range(100):
            run(breakers, trapped=True)

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(trap) for _ in range(3)]:
            each.result(10)
        assert (breakers.get(*KEY).traps, told) == (300, [])
        for each in [pool.submit(trap) for _ in range(4)]:
            each.result(10)
    assert [one.event for one in told] == [Event.TRAPS]


# ── with real hosts ──────────────────────────────────────────────────────────────────────────────

OBEYS: Final = guest(
    """(data (i32.const 0) "act")
    (func (export "run")
      (if (i32.lt_s (call $host_call (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 0)) (i32.const 0))
        (then unreachable)))"""
)


class Mood:
    """A function of the application that does what a test says; the plugin `OBEYS` traps where it raises."""

    def __init__(self) -> None:
        self.act: Callable[[], object] = lambda: None
        self.calls = 0
        self.entered, self.leave = threading.Event(), threading.Event()

        @fb.host_function("act")
        def act() -> None:
            self.calls += 1
            self.act()

        self.function = act

    def fail(self) -> None:
        raise fb.BackendError("in a bad mood")

    def wait(self) -> None:
        self.entered.set()
        assert self.leave.wait(10)


@pytest.fixture
def mood() -> Mood:
    return Mood()


@pytest.fixture
def told() -> list[fb.BreakerChange]:
    """Return what will be told of changes of breakers, by the host `host`."""
    return []


@pytest.fixture
def host(load: Callable[..., fb.Host], clock: FakeClock, mood: Mood, told: list[fb.BreakerChange]) -> fb.Host:
    """Return a host with one plugin, which obeys `mood`."""
    server = {"capabilities": {"functions": ["act"]}}
    return load(OBEYS, functions=[mood.function], server=server, clock=clock, on_breaker_change=told.append)


def dispatched(host: fb.Host, **about: Any) -> str:
    """Return what became of one plugin: how it ended, or why it was skipped."""
    happened = host.dispatch(TEXT, "x", **about)
    assert happened.value == "x"
    outcome = happened.outcomes[0]
    return outcome.reason if isinstance(outcome, fb.Skipped) else type(outcome).__name__


def opened(host: fb.Host, mood: Mood, **about: Any) -> None:
    """Have the breaker opened by five traps."""
    mood.act = mood.fail
    assert [dispatched(host, **about) for _ in range(5)] == ["Trapped"] * 5
    assert host.breakers.get("plugin-0", "text", about.get("scope")).state is OPEN


def seen(host: fb.Host, slug: str = "plugin-0") -> tuple[int, int]:
    breaker = host.breakers.get(slug, "text")
    return breaker.invocations, breaker.traps


class Case(NamedTuple):
    """An export of the hostile plugin, and what it traps for."""

    export: str
    why: str
    server: tuple[tuple[str, int], ...] = ()


FEEDING: Final = [
    Case("loop_forever", "fuel", (("fuel_per_invocation", 100_000),)),
    Case("loop_forever", "timeout", (("fuel_per_invocation", 10**9), ("invocation_timeout_ms", 30))),
    Case("grow_memory", "memory", (("memory_limit_mb", 4),)),
    Case("fetch_9", "http_fetches"),
    Case("query_33", "db_queries"),
    Case("kv_write_one_too_many", "kv_write_bytes"),
    Case("call_function_3", "functions.mail.send"),
    Case("unreachable_now", "crash"),
    Case("fail_with_message", "failed"),
    Case("bad_json", "bad_output"),
    Case("unknown_buffer", "bad_pointer"),
]


@pytest.fixture
def app(driver: MakeHost, clock: FakeClock) -> Iterator[Application]:
    application = Application(driver, clock=clock, max_concurrent_invocations=4)
    yield application
    application.host.close()


@pytest.mark.parametrize("case", FEEDING, ids=lambda case: case.why)
def test_traps_of_the_plugins_own_doing_count(app: Application, case: Case) -> None:
    """Every limit and every other cause feeds the breaker, which the fifth trap opens."""
    app.load(case.export, server={"invocation_timeout_ms": 10_000} | dict(case.server))
    for number in range(5):
        assert seen(app.host, "hostile") == (number, number)
        outcome = app.host.invoke("hostile", TEXT, "x")
        assert isinstance(outcome, fb.Trapped)
        assert (outcome.trap.limit or outcome.trap.cause) == case.why
    outcome = app.host.invoke("hostile", TEXT, "x")
    assert isinstance(outcome, fb.Skipped)
    assert outcome.reason is fb.SkipReason.BREAKER_OPEN


def test_every_cause_is_tried() -> None:
    """The cases of the test above are all that there are, but `COMMIT`."""
    causes = {cause for cause in fb.Cause if cause not in {fb.Cause.COMMIT, fb.Cause.LIMIT}}
    assert {case.why for case in FEEDING} == {*fb.Limit, "functions.mail.send", *causes}


@pytest.mark.parametrize("export", ["denied_fetch", "missing_key", "db_bad_params"])
def test_denials_and_errors_that_a_guest_handles_do_not_count(app: Application, export: str) -> None:
    """A plugin that was refused something, and went on, has completed."""
    app.load(export, server={"invocation_timeout_ms": 10_000})
    for _ in range(6):
        assert isinstance(app.host.invoke("hostile", TEXT, "x"), fb.Completed)
    assert seen(app.host, "hostile") == (6, 0)


def test_a_backend_that_fails_does_not_count(load: Callable[..., fb.Host], mood: Mood) -> None:
    """The application's own trouble is not the plugin's."""
    ignores = guest(
        """(data (i32.const 0) "act")
        (func (export "run") (drop (call $host_call (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 0))))"""
    )
    mood.act = mood.fail
    host = load(ignores, functions=[mood.function], server={"capabilities": {"functions": ["act"]}})
    assert [dispatched(host) for _ in range(6)] == ["Completed"] * 6
    assert (mood.calls, seen(host)) == (6, (6, 0))


class RefusesToCommit:
    """A store whose commits fail."""

    def session(self, _: object) -> RefusesToCommit:
        return self

    def answer(self, _: object, __: float) -> KvDone:
        return KvDone()

    def commit(self, _: float) -> None:
        raise fb.BackendError("disk full")

    def rollback(self) -> None: ...


def test_a_commit_that_fails_does_not_count(load: Callable[..., fb.Host]) -> None:
    """A trap for `COMMIT` says nothing about the plugin, neither for nor against it."""
    writes = guest(
        """(func (export "run")
          (drop (call $host_kv_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1))))"""
    )
    host = load(writes, backends=fb.Backends(kv=RefusesToCommit()), server={"capabilities": {"kv": True}})
    for _ in range(6):
        outcome = host.dispatch(TEXT, "x").outcomes[0]
        assert isinstance(outcome, fb.Trapped)
        assert outcome.trap.cause is fb.Cause.COMMIT
    assert seen(host) == (0, 0)


def test_a_timeout_that_was_cut_short_does_not_count(load: Callable[..., fb.Host], clock: FakeClock) -> None:
    """Time that a dispatch's deadline took away says nothing about the plugin."""
    host = load(SPIN, clock=clock, server={"fuel_per_invocation": 10**9})
    for _ in range(6):
        outcome = host.dispatch(TEXT, "x", timeout_ms=10).outcomes[0]
        assert isinstance(outcome, fb.Trapped)
        assert (outcome.trap.limit, outcome.trap.deadline_shared) == ("timeout", True)
    assert seen(host) == (0, 0)


def test_other_traps_under_a_shared_deadline_count(load: Callable[..., fb.Host], clock: FakeClock) -> None:
    """A crash is the plugin's own doing, whoever was in a hurry; so is its own, shorter timeout."""
    host = load(CRASH, clock=clock)
    host.dispatch(TEXT, "x", timeout_ms=5_000)
    assert seen(host) == (1, 1)
    host = load(SPIN, clock=clock, server={"fuel_per_invocation": 10**9, "invocation_timeout_ms": 10})
    host.dispatch(TEXT, "x", timeout_ms=5_000)
    assert seen(host) == (1, 1)


def test_skips_do_not_count(make_host: Callable[..., fb.Host]) -> None:
    """Who wasn't run has shown nothing."""
    host = make_host()
    host.load_bytes(CRASH, manifest("plugin-0"), enabled=False)
    host.load_bytes(CRASH, manifest("plugin-1"))
    for _ in range(6):
        host.dispatch(TEXT, "x", timeout_ms=0)
    assert (seen(host), seen(host, "plugin-1")) == ((0, 0), (0, 0))


def test_an_open_breaker_skips_its_plugin_only(make_host: Callable[..., fb.Host], clock: FakeClock) -> None:
    """The plugin isn't run, the others are, and one that fails closed says why."""
    host = make_host(clock=clock)
    host.load_bytes(CRASH, manifest("bad", "text", "noted"))
    host.load_bytes(ECHO, manifest("good", "text"))
    for _ in range(5):
        host.apply_filter(TEXT, "x")
    bad, good = host.dispatch(TEXT, "x").outcomes
    assert isinstance(bad, fb.Skipped)
    assert (bad.reason, str(bad)) == ("breaker_open", "plugin 'bad', hook 'text': skipped (breaker_open)")
    assert isinstance(good, fb.Completed)
    assert isinstance(host.dispatch("noted", "x").outcomes[0], fb.Trapped)  # another hook, another breaker


def test_a_hook_that_fails_closed_fails_while_the_breaker_is_open(load: Callable[..., fb.Host]) -> None:
    """What a plugin must look at isn't let through because the plugin is left alone."""
    closed = fb.Filter("closed", str, on_trap="raise")
    host = load(CRASH, hook=closed)
    host.breakers.open("plugin-0", "closed")
    with pytest.raises(fb.HookFailed, match=r"skipped \(breaker_open\)"):
        host.apply_filter(closed, "x")


def test_it_is_probed_after_the_cooldown(host: fb.Host, clock: FakeClock, mood: Mood) -> None:
    """Skipped until the cooldown is over; then one runs, and if it traps, the cooldown is twice as long."""
    opened(host, mood)
    for seconds in (30, 60):
        clock.advance(seconds - 0.5)
        assert [dispatched(host) for _ in range(3)] == ["breaker_open"] * 3
        clock.advance(0.5)
        assert [dispatched(host) for _ in range(2)] == ["Trapped", "breaker_open"]
    assert mood.calls == 7
    clock.advance(120)
    mood.act = lambda: None
    assert [dispatched(host) for _ in range(3)] == ["Completed"] * 3
    assert seen(host) == (2, 0)  # the probe isn't in the new window


def test_while_one_probes_the_others_are_skipped(host: fb.Host, clock: FakeClock, mood: Mood) -> None:
    """Half-open is one invocation, and all others go on without the plugin."""
    opened(host, mood)
    clock.advance(30)
    mood.act = mood.wait
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(dispatched, host)
        assert mood.entered.wait(10)
        assert host.breakers.get("plugin-0", "text").state is HALF_OPEN
        assert [dispatched(host) for _ in range(3)] == ["breaker_open"] * 3
        mood.leave.set()
        assert probe.result(10) == "Completed"
    assert host.breakers.get("plugin-0", "text").state is CLOSED


def test_a_saturated_probe_is_handed_back(
    make_host: Callable[..., fb.Host], clock: FakeClock, mood: Mood, told: list[fb.BreakerChange]
) -> None:
    """A probe that found no slot has shown nothing: the next invocation probes."""
    host = make_host(
        clock=clock, functions=[mood.function], on_breaker_change=told.append, max_concurrent_invocations=1
    )
    wants_to_act = manifest("busy", "noted", capabilities={"functions": ["act"]})
    host.load_bytes(OBEYS, wants_to_act, grants="as-requested")
    host.load_bytes(CRASH, manifest("plugin-0"))
    for _ in range(5):
        host.dispatch(TEXT, "x")
    clock.advance(30)
    mood.act = mood.wait
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(host.dispatch, "noted", "x")
        assert mood.entered.wait(10)
        assert dispatched(host, timeout_ms=20) == "saturated"
        mood.leave.set()
        assert isinstance(busy.result(10).outcomes[0], fb.Completed)
    assert [one.event for one in told] == ["traps", "probe", "probe_returned"]
    assert [dispatched(host) for _ in range(2)] == ["Trapped", "breaker_open"]


@only_sync
def test_an_interrupted_probe_is_handed_back(host: fb.Host, clock: FakeClock, mood: Mood) -> None:
    """Ctrl-C during the probe says nothing about the plugin."""
    opened(host, mood)
    clock.advance(30)

    def interrupt() -> None:
        raise KeyboardInterrupt

    mood.act = interrupt
    with pytest.raises(KeyboardInterrupt):
        host.dispatch(TEXT, "x")
    mood.act = lambda: None
    assert dispatched(host) == "Completed"


def test_a_cancelled_probe_is_handed_back(clock: FakeClock) -> None:
    """A task that is cancelled while it probes leaves the probe to the next."""
    entered = asyncio.Event()
    forever = asyncio.Event()

    @fb.host_function("act")
    async def act() -> None:
        entered.set()
        await forever.wait()

    async def main() -> None:
        async with fb.AsyncHost(
            hooks=[TEXT], functions=[act], clock=clock, ceilings=SMALL, max_concurrent_invocations=4
        ) as host:
            wants_to_act = manifest("plugin-0", capabilities={"functions": ["act"]})
            await host.load_bytes(OBEYS, wants_to_act, grants="as-requested")
            host.breakers.open("plugin-0", "text")
            key = BreakerKey("plugin-0", "text", None)
            status = host.breakers._status(key)
            assert host.breakers._store.swap(key, status, status._replace(until=clock.now))  # as if by traps
            probing = asyncio.create_task(host.dispatch(TEXT, "x"))
            await entered.wait()
            assert host.breakers.get(*key).state is HALF_OPEN
            probing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await probing
            assert (host.breakers.get(*key).state, host.breakers.get(*key).retry_seconds) == (OPEN, 0)
            forever.set()
            assert isinstance((await host.dispatch(TEXT, "x")).outcomes[0], fb.Completed)
            assert host.breakers.get(*key).state is CLOSED

    asyncio.run(main())


def test_a_reload_mends_it(make_host: Callable[..., fb.Host], tmp_path: Path, clock: FakeClock) -> None:
    """A plugin that was reloaded begins anew, in all scopes, without waiting for the cooldown."""
    told: list[fb.BreakerChange] = []
    host = make_host(clock=clock, on_breaker_change=told.append)
    said = {key: value for key, value in manifest("plugin-0").items() if key not in ("hooks", "server")}
    lines = [f"{key} = {json.dumps(value)}" for key, value in said.items()]
    (tmp_path / "plugin.toml").write_text("\n".join([*lines, '[[hooks]]\nname = "text"\nexport = "run"']))
    (tmp_path / "plugin.wasm").write_bytes(CRASH)
    host.load(tmp_path)
    for scope in (None, "a"):
        for _ in range(5):
            host.dispatch(TEXT, "x", scope=scope)
        assert dispatched(host, scope=scope) == "breaker_open"
    (tmp_path / "plugin.wasm").write_bytes(SILENT)
    host.reload("plugin-0")
    assert [dispatched(host, scope=scope) for scope in (None, "a")] == ["Completed"] * 2
    assert [(one.scope, one.event, one.after) for one in told[2:]] == [
        (None, "reset", "closed"), ("a", "reset", "closed"),
    ]  # fmt: skip


def test_unloading_forgets_it(load: Callable[..., fb.Host]) -> None:
    """A plugin that is loaded again under the same slug begins with a closed breaker."""
    host = load(CRASH)
    for _ in range(5):
        host.dispatch(TEXT, "x")
    host.unload("plugin-0")
    host.load_bytes(SILENT, manifest("plugin-0"))
    assert dispatched(host) == "Completed"


def test_a_module_that_was_replaced_counts_for_nobody(
    make_host: Callable[..., fb.Host], mood: Mood, clock: FakeClock
) -> None:
    """A dispatch goes on with the plugins that it began with; what the old one does isn't held against the new."""
    host = make_host(functions=[mood.function], clock=clock)
    host.load_bytes(OBEYS, manifest("first", capabilities={"functions": ["act"]}), grants="as-requested")
    host.load_bytes(CRASH, manifest("second"))

    def replace() -> None:
        host.unload("second")
        host.load_bytes(SILENT, manifest("second"))

    mood.act = replace
    assert isinstance(host.dispatch(TEXT, "x").outcomes[1], fb.Trapped)
    assert seen(host, "second") == (0, 0)
    mood.act = lambda: None
    assert isinstance(host.dispatch(TEXT, "x").outcomes[1], fb.Completed)
    assert seen(host, "second") == (1, 0)


def test_scopes_are_apart(host: fb.Host, mood: Mood) -> None:
    """What traps for one tenant runs for the others, and for nobody's scope."""
    opened(host, mood, scope="a")
    mood.act = lambda: None
    assert [dispatched(host, scope=scope) for scope in ("a", "b", None)] == ["breaker_open", "Completed", "Completed"]
    assert {(one.scope, one.state, one.invocations) for one in host.breakers} == {
        ("a", "open", 0), ("b", "closed", 1), (None, "closed", 1),
    }  # fmt: skip


def test_five_of_a_thousand_keep_a_plugin_running(host: fb.Host, mood: Mood, told: list[fb.BreakerChange]) -> None:
    """A plugin that fails for a few inputs is run for all."""
    ends = []
    for number in range(1_000):
        mood.act = mood.fail if number % 200 == 100 else lambda: None
        ends.append(dispatched(host))
    assert (ends.count("Trapped"), ends.count("Completed"), told) == (5, 995, [])


# ── what an application is told ──────────────────────────────────────────────────────────────────


def test_each_change_is_told(host: fb.Host, clock: FakeClock, mood: Mood, told: list[fb.BreakerChange]) -> None:
    """`on_breaker_change` is called once for each change of state, in order."""
    opened(host, mood, scope="s")
    dispatched(host, scope="s")
    clock.advance(30)
    mood.act = lambda: None
    dispatched(host, scope="s")
    host.breakers.open("plugin-0", "text", "s")
    host.breakers.reset()
    assert [(one.before, one.after, one.event, one.cooldown_seconds) for one in told] == [
        ("closed", "open", "traps", 30),
        ("open", "half_open", "probe", None),
        ("half_open", "closed", "probe_completed", None),
        ("closed", "open", "operator_opened", None),
        ("open", "closed", "reset", None),
    ]
    assert {(one.plugin, one.hook, one.scope) for one in told} == {("plugin-0", "text", "s")}


def test_what_the_callback_raises_is_logged(load: Callable[..., fb.Host], caplog: pytest.LogCaptureFixture) -> None:
    """The application's own mistake there stops no dispatch and keeps no breaker from opening."""
    host = load(CRASH, on_breaker_change=lambda _: 1 / 0)
    for _ in range(5):
        assert dispatched(host) == "Trapped"
    assert dispatched(host) == "breaker_open"
    failed = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in failed] == ["on_breaker_change failed for plugin plugin-0 on hook text"]
    assert failed[0].exc_info is not None
    assert failed[0].exc_info[0] is ZeroDivisionError


def test_changes_are_logged(
    host: fb.Host, clock: FakeClock, mood: Mood, told: list[fb.BreakerChange], caplog: pytest.LogCaptureFixture
) -> None:
    """Opening is a WARNING, all else INFO, each with its names; the sentence is the change's own."""
    caplog.set_level(logging.INFO, "fuseboard")
    opened(host, mood, scope="s")
    clock.advance(30)
    mood.act = lambda: None
    dispatched(host, scope="s")
    records: list[Any] = [record for record in caplog.records if hasattr(record, "before")]
    assert [(record.name, record.levelname) for record in records] == [
        ("fuseboard", "WARNING"), ("fuseboard", "INFO"), ("fuseboard", "INFO"),
    ]  # fmt: skip
    assert [record.getMessage() for record in records] == [str(change) for change in told]
    names = ("plugin", "hook", "scope", "before", "after", "event")
    assert [tuple(getattr(record, name) for name in names) for record in records] == [
        ("plugin-0", "text", "s", "closed", "open", "traps"),
        ("plugin-0", "text", "s", "open", "half_open", "probe"),
        ("plugin-0", "text", "s", "half_open", "closed", "probe_completed"),
    ]


# ── the operator ─────────────────────────────────────────────────────────────────────────────────


def test_the_operator_opens_and_closes(host: fb.Host, clock: FakeClock) -> None:
    """What was opened by hand stays open, however long it takes, until it is closed by hand."""
    host.breakers.open("plugin-0", TEXT)  # the hook, or its name
    clock.advance(1e6)
    assert [dispatched(host), dispatched(host, scope="a")] == ["breaker_open", "Completed"]
    assert host.breakers.get("plugin-0", "text") == fb.Breaker(
        plugin="plugin-0", hook="text", scope=None, state=OPEN, invocations=0, traps=0,
        cooldown_seconds=30, retry_seconds=None,
    )  # fmt: skip
    host.breakers.close("plugin-0", "text")
    assert dispatched(host) == "Completed"


@pytest.mark.parametrize(
    ("reset", "left"),
    [
        (("plugin-0", "text", "a"), {("plugin-0", None), ("plugin-1", "a"), ("plugin-1", None)}),
        (("plugin-0", "text"), {("plugin-0", "a"), ("plugin-1", "a"), ("plugin-1", None)}),
        (("plugin-0",), {("plugin-1", "a"), ("plugin-1", None)}),
        ((), set()),
    ],
    ids=str,
)
def test_reset_forgets_what_was_seen(load: Callable[..., fb.Host], reset: Any, left: set[Any]) -> None:
    """One breaker, all of a plugin, or all that there are."""
    host = load(CRASH, CRASH)
    for scope in (None, "a"):
        for _ in range(6):
            host.dispatch(TEXT, "x", scope=scope)
    host.breakers.reset(*reset)
    assert {(one.plugin, one.scope) for one in host.breakers if one.state is OPEN} == left


def test_a_breaker_that_saw_nothing_is_closed(host: fb.Host) -> None:
    """It can be looked at before its first invocation; without any there are none to go through."""
    assert list(host.breakers) == []
    assert host.breakers.get("plugin-0", "text", "new") == fb.Breaker(
        plugin="plugin-0", hook="text", scope="new", state=CLOSED, invocations=0, traps=0,
        cooldown_seconds=30, retry_seconds=None,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["get", "open", "close", "reset"])
def test_unknown_breakers_are_refused(host: fb.Host, name: str) -> None:
    """A plugin that isn't there, a hook that it doesn't subscribe to, and what is no scope, are named."""
    act = getattr(host.breakers, name)
    with pytest.raises(
        fb.UnknownPlugin, match=r"plugin 'plugin-9' isn't loaded in this host \(did you mean 'plugin-0'"
    ):
        act("plugin-9", "text")
    with pytest.raises(fb.UnknownPlugin, match="doesn't subscribe to hook 'noted'; it does to text"):
        act("plugin-0", "noted")
    with pytest.raises(fb.UsageError, match="scope=5 must be text, or None"):
        act("plugin-0", "text", 5)


def test_resets_without_what_comes_before_are_refused(host: fb.Host) -> None:
    """A scope alone, or a hook alone, could mean anything."""
    for named in ({"hook": "text"}, {"scope": "a"}, {"plugin": "plugin-0", "scope": "a"}):
        with pytest.raises(fb.UsageError, match="takes a plugin, or a plugin and a hook, or these and a scope"):
            host.breakers.reset(**named)


def test_a_reset_of_an_unknown_plugin_is_refused(host: fb.Host) -> None:
    """A misspelt slug isn't taken for a plugin that has no breakers."""
    host.breakers.reset("plugin-0")
    with pytest.raises(fb.UnknownPlugin, match="plugin 'plugin-9' isn't loaded"):
        host.breakers.reset("plugin-9")


def test_without_a_policy_it_never_opens_by_itself(load: Callable[..., fb.Host], clock: FakeClock) -> None:
    """`breaker=None` lets every plugin run, however often it traps; the operator can still open one."""
    host = load(CRASH, breaker=None, clock=clock)
    assert [dispatched(host) for _ in range(20)] == ["Trapped"] * 20
    host.breakers.open("plugin-0", "text")
    assert dispatched(host) == "breaker_open"
    clock.advance(1e6)
    assert dispatched(host) == "breaker_open"
    host.breakers.close("plugin-0", "text")
    assert dispatched(host) == "Trapped"


def test_the_hosts_policy_is_used(load: Callable[..., fb.Host], clock: FakeClock) -> None:
    """Numbers and times are those of `breaker=`."""
    host = load(CRASH, clock=clock, breaker=BreakerPolicy(min_traps=2, cooldown_seconds=5))
    assert [dispatched(host) for _ in range(3)] == ["Trapped", "Trapped", "breaker_open"]
    clock.advance(5)
    assert dispatched(host) == "Trapped"


@pytest.mark.parametrize("breaker", [5, True, BreakerPolicy, {"min_traps": 5}])
def test_what_is_no_policy_is_refused(breaker: Any) -> None:
    """`breaker=` is a `BreakerPolicy` or `None`."""
    with pytest.raises(fb.UsageError, match=r"breaker=.* must be BreakerPolicy"):
        fb.Host(breaker=breaker)
