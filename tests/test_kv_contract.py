"""What every key-value store does alike: whose keys, what is seen when, numbers, expiries and caps.

Rules:
* The tests know no store; kv_contract.py does. What only one of them does is tested beside it.
* Time is real: an expiry is a second at least, and the server's.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseboard._errors import BackendError, BackendTimeout, UsageError
from fuseboard.backends import AnswerCode, DbQuery, KvDelete, KvGet, KvIncrement, KvSet
from kv_contract import BYTES, STORES, Kv, Place, Session
from servers import Server, redis_server

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["redis_server"]

MakeKv = Callable[..., Kv]


@pytest.fixture(params=STORES, scope="module")
def make_kv(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeKv]:
    """Return what makes empty stores of one kind, which are closed after the tests."""
    folder: Path = tmp_path_factory.mktemp("kv")
    made: list[Kv] = []

    def server() -> Server:
        found: Server = request.getfixturevalue("redis_server")
        return found

    def make(**caps: Any) -> Kv:
        made.append(Kv(STORES[request.param](Place(folder, server), **caps)))
        return made[-1]

    yield make
    for kv in made:
        kv.close()


@pytest.fixture
def kv(make_kv: MakeKv) -> Kv:
    """Return an empty store with the usual caps."""
    return make_kv()


def outlived(seconds: float = 1.0) -> None:
    """Wait until what was kept so long is gone."""
    time.sleep(seconds + 0.05)


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_applies_all(kv: Kv) -> None:
    """Sets, deletes and increments are seen by their session at once, and by others only after the commit."""
    kv.put({b"old": b"1", b"n": b"41"})
    session, other = kv.session(), kv.session()
    session.set(b"new", b"2")
    session.delete(b"old")
    session.delete(b"never")
    assert session.increment(b"n") == 42
    assert [session.get(key) for key in (b"new", b"old", b"n", b"none")] == [b"2", None, b"42", None]
    assert [other.get(key) for key in (b"new", b"old", b"n")] == [None, b"1", b"41"]
    session.commit()
    session.rollback()  # does nothing any more
    assert [other.get(key) for key in (b"new", b"old", b"n")] == [b"2", None, b"42"]
    assert kv.items() == {b"new": b"2", b"n": b"42"}
    other.rollback()


def test_a_rollback_leaves_nothing(kv: Kv) -> None:
    """A rollback forgets every write, may come twice, and keeps nobody from incrementing."""
    kv.put({b"k": b"1"})
    session = kv.session()
    session.set(b"k", b"2")
    session.increment(b"n")
    session.rollback()
    session.rollback()
    assert kv.items() == {b"k": b"1"}
    other = kv.session()
    assert other.increment(b"n", seconds=1) == 1
    other.rollback()


@pytest.mark.parametrize("end", [Session.commit, Session.rollback])
def test_an_ended_session_does_nothing(kv: Kv, end: Callable[[Session], None]) -> None:
    """After its end a session refuses calls and commits, so it can hold up nobody."""
    session = kv.session()
    end(session)
    assert "ended" in session.refusal(KvIncrement(b"n", 1)).reason
    with pytest.raises(BackendError, match="ended"):
        session.commit()
    assert kv.session().increment(b"n", seconds=1) == 1


def test_the_last_commit_wins_a_key_whole(kv: Kv) -> None:
    """Two sessions that only set wait for nobody; of each key, what was committed last is there."""
    first, second = kv.session(), kv.session()
    first.set(b"a", b"first")
    second.set(b"a", b"second", 60)
    second.delete(b"b")
    first.set(b"b", b"first")
    second.commit(1)
    first.commit(1)
    assert kv.items() == {b"a": b"first", b"b": b"first"}


def test_other_calls_are_not_served(kv: Kv) -> None:
    """A call that isn't a key-value store's is a mistake of the host's, not an answer."""
    session = kv.session()
    if hasattr(kv.store, "rows"):
        pytest.skip("this store serves databases too")
    with pytest.raises(TypeError, match="DbQuery"):
        session.answer(DbQuery("SELECT 1"))
    session.rollback()


@pytest.mark.parametrize("data", BYTES, ids=range(len(BYTES)))
def test_keys_and_values_are_any_bytes(kv: Kv, data: bytes) -> None:
    """Keys and values with any bytes come back as they were, in items too, and are nobody else's."""
    kv.put({b"n": b"other", data: data, data[:-1] + b"~": b""})
    session = kv.session()
    assert (session.get(data), session.get(data[:-1] + b"~")) == (data, b"")
    assert kv.items() == {b"n": b"other", data: data, data[:-1] + b"~": b""}
    session.delete(data)
    session.commit()
    assert kv.items() == {b"n": b"other", data[:-1] + b"~": b""}


@pytest.mark.parametrize(("plugin", "scope"), [("shop", None), ("blog", "site-1"), ("blog", ""), ("blog", "None")])
def test_namespaces_are_apart(kv: Kv, plugin: str, scope: str | None) -> None:
    """Another plugin, and the same one in another scope, have keys and locks of their own."""
    kv.put({b"n": b"5"})
    holder, other = kv.session(), kv.session(plugin, scope)
    holder.increment(b"n")
    assert other.get(b"n") is None
    assert other.increment(b"n", seconds=1) == 1
    other.commit(1)
    holder.rollback()
    assert (kv.items(plugin, scope), kv.items()) == ({b"n": b"1"}, {b"n": b"5"})


# ── increments ───────────────────────────────────────────────────────────────────────────────────


def test_parallel_increments_are_distinct(kv: Kv) -> None:
    """Increments of committing invocations on 6 threads get different numbers; rolled back ones leave no gap."""
    start = Barrier(6)

    def run(thread: int) -> list[int]:
        start.wait()
        return [number for turn in range(15) if (number := once(commits=(thread + turn) % 3 != 0))]

    def once(*, commits: bool) -> int | None:
        session = kv.session()
        number = session.increment(b"n", seconds=30)
        session.commit(30) if commits else session.rollback()
        return number if commits else None

    with ThreadPoolExecutor(6) as pool:
        numbers = sorted(number for part in pool.map(run, range(6)) for number in part)
    assert numbers == list(range(1, 61))
    assert kv.items() == {b"n": b"60"}


def test_an_increment_waits_until_the_deadline(kv: Kv) -> None:
    """While an invocation that incremented runs, another's increment waits; at the deadline it is a timeout."""
    first, second = kv.session(), kv.session()
    first.increment(b"n")
    began = time.monotonic()
    with pytest.raises(BackendTimeout):
        second.increment(b"n", seconds=0.1)
    assert 0.09 < time.monotonic() - began < 1
    first.commit()
    assert second.increment(b"n") == 2
    second.rollback()


def test_a_commit_of_sets_does_not_cut_into_an_increment(kv: Kv) -> None:
    """A set of another invocation is committed before an increment's read or after its commit, not between."""
    adding, setting = kv.session(), kv.session()
    adding.increment(b"n", 5)
    setting.set(b"n", b"100")
    with pytest.raises(BackendTimeout):
        setting.commit(0.1)
    setting.rollback()
    adding.commit()
    assert kv.items() == {b"n": b"5"}


def test_who_waits_goes_on_when_the_other_ends(kv: Kv) -> None:
    """A rollback lets the invocation that waits go on, long before its deadline."""
    first, second = kv.session(), kv.session()
    first.increment(b"n", 7)
    found: list[int] = []
    waiting = Thread(target=lambda: found.append(second.increment(b"n", seconds=30)))
    waiting.start()
    time.sleep(0.05)
    first.rollback()
    waiting.join(5)
    assert found == [1]
    second.rollback()


@pytest.mark.parametrize("value", [b"", b"-", b"1.5", b" 1", b"1 ", b"+1", b"0x1", b"1_0", b"\xd9\xa1", b"9" * 5000])
def test_an_increment_of_another_value_is_a_conflict(kv: Kv, value: bytes) -> None:
    """A value that isn't a 64-bit number in decimal text can't be incremented, and stays."""
    kv.put({b"k": value})
    session = kv.session()
    assert session.refusal(KvIncrement(b"k", 1)).code == AnswerCode.CONFLICT
    assert session.get(b"k") == value
    session.commit()
    assert kv.items() == {b"k": value}


@pytest.mark.parametrize(
    ("value", "by", "number"),
    [(b"007", 1, 8), (b"-5", 5, 0), (b"-0", 0, 0), (b"0" * 5000, 3, 3), (b"9223372036854775806", 1, (1 << 63) - 1)],
)
def test_an_increment_reads_decimal_text(kv: Kv, value: bytes, by: int, number: int) -> None:
    """Leading zeros and a minus are read, and the number is written back in its shortest form."""
    kv.put({b"k": value})
    session = kv.session()
    assert (session.increment(b"k", by), session.get(b"k")) == (number, str(number).encode())
    session.commit()
    assert kv.items() == {b"k": str(number).encode()}


@pytest.mark.parametrize(
    ("value", "by"), [(b"9223372036854775807", 1), (b"-9223372036854775808", -1), (b"9223372036854775808", -1)]
)
def test_an_increment_over_64_bits_is_a_conflict(kv: Kv, value: bytes, by: int) -> None:
    """A number that leaves 64 bits is a conflict, never wrapped around."""
    kv.put({b"k": value})
    session = kv.session()
    assert session.refusal(KvIncrement(b"k", by)).code == AnswerCode.CONFLICT
    session.rollback()


def test_an_increment_counts_on_own_writes(kv: Kv) -> None:
    """What an invocation set or deleted before is what its increment adds to."""
    kv.put({b"a": b"10", b"b": b"10"})
    session = kv.session()
    session.set(b"a", b"1")
    session.delete(b"b")
    assert (session.increment(b"a"), session.increment(b"b"), session.increment(b"b", -3)) == (2, 1, -2)
    session.commit()
    assert kv.items() == {b"a": b"2", b"b": b"-2"}


# ── expiries ─────────────────────────────────────────────────────────────────────────────────────


def test_what_has_expired_is_not_there(kv: Kv) -> None:
    """A key set for a second is there, then as if it had never been: to reads, items and increments."""
    session = kv.session()
    session.set(b"n", b"5", 1)
    session.set(b"stays", b"1", 100)
    assert session.get(b"n") == b"5"
    session.commit()
    assert kv.items() == {b"n": b"5", b"stays": b"1"}
    outlived()
    assert kv.items() == {b"stays": b"1"}
    session = kv.session()
    assert session.get(b"n") is None
    assert session.increment(b"n") == 1
    session.commit()
    outlived()
    assert kv.items() == {b"n": b"1", b"stays": b"1"}


def test_own_writes_expire_too(kv: Kv) -> None:
    """An expiry counts from the call: what is over at the commit isn't written, nor read before."""
    session = kv.session()
    session.set(b"k", b"1", 1)
    outlived()
    assert session.get(b"k") is None
    session.commit()
    assert kv.items() == {}


def test_an_increment_keeps_the_expiry(kv: Kv) -> None:
    """A number that expires still does after an increment, also where it does before the commit."""
    session = kv.session()
    session.set(b"soon", b"5", 1)
    session.set(b"later", b"5", 2)
    session.commit()
    session = kv.session()
    assert (session.increment(b"soon"), session.increment(b"later")) == (6, 6)
    outlived()
    session.commit()
    assert kv.items() == {b"later": b"6"}
    outlived()
    assert kv.items() == {}


def test_waiting_for_the_turn_takes_nothing_off_an_expiry(kv: Kv) -> None:
    """A number that expires is what is there when the wait for another invocation ends, and lives on as long."""
    session = kv.session()
    session.set(b"n", b"5", 2)
    session.commit()
    holder, waiting = kv.session(), kv.session()
    holder.increment(b"other")
    found: list[int] = []
    waits = Thread(target=lambda: found.append(waiting.increment(b"n", seconds=30)))
    waits.start()
    time.sleep(1.2)
    holder.rollback()
    waits.join(5)
    waiting.commit()
    assert (found, kv.items()) == ([6], {b"n": b"6"})
    outlived()
    assert kv.items() == {}


def test_a_plain_set_ends_the_expiry(kv: Kv) -> None:
    """A key that is set again, without seconds, stays."""
    session = kv.session()
    session.set(b"committed", b"1", 1)
    session.set(b"own", b"1", 1)
    session.set(b"own", b"2")
    session.commit()
    kv.put({b"committed": b"2"})
    outlived()
    assert kv.items() == {b"committed": b"2", b"own": b"2"}


# ── caps ─────────────────────────────────────────────────────────────────────────────────────────


def test_keys_and_values_have_caps(make_kv: MakeKv) -> None:
    """A key or a value of one byte more than its cap is answered TOO_LARGE; what was written before stays."""
    kv = make_kv(max_key_bytes=4, max_value_bytes=5)
    session = kv.session()
    session.set(b"four", b"five!")
    assert session.refusal(KvSet(b"fiver", b"")).code == AnswerCode.TOO_LARGE
    assert session.refusal(KvSet(b"four", b"sixsix")).code == AnswerCode.TOO_LARGE
    assert session.refusal(KvIncrement(b"fiver", 1)).code == AnswerCode.TOO_LARGE
    assert session.refusal(KvIncrement(b"n", 100_000)).code == AnswerCode.TOO_LARGE
    assert session.refusal(KvDelete(b"fiver")).code == AnswerCode.TOO_LARGE
    assert session.refusal(KvGet(b"fiver")).code == AnswerCode.TOO_LARGE
    session.commit()
    assert kv.items() == {b"four": b"five!"}


def test_a_namespace_has_a_cap(make_kv: MakeKv) -> None:
    """Keys and values of one namespace fill it to the byte; then they may be replaced, not outgrow it."""
    kv = make_kv(max_kv_bytes=100)
    kv.put({b"a": b"x" * 49, b"b": b"x" * 49})
    session = kv.session()
    assert session.refusal(KvSet(b"c", b"")).code == AnswerCode.TOO_LARGE
    assert session.refusal(KvSet(b"a", b"y" * 50)).code == AnswerCode.TOO_LARGE
    assert session.get(b"a") == b"x" * 49
    session.set(b"a", b"y" * 49)
    session.delete(b"b")
    session.set(b"c", b"z" * 49)
    session.commit()
    assert kv.items() == {b"a": b"y" * 49, b"c": b"z" * 49}
    kv.put({b"k": b"x" * 99}, plugin="shop")
    kv.put({b"k": b"x" * 99}, scope="site-1")


def test_what_has_expired_takes_no_room(make_kv: MakeKv) -> None:
    """Room that expired keys had is free again."""
    kv = make_kv(max_kv_bytes=100)
    session = kv.session()
    session.set(b"a", b"x" * 49, 1)
    session.set(b"b", b"x" * 49, 1)
    session.commit()
    assert kv.session().refusal(KvSet(b"c", b"")).code == AnswerCode.TOO_LARGE
    outlived()
    kv.put({b"c": b"x" * 49, b"a": b"y" * 49})
    assert kv.session().refusal(KvSet(b"d", b"")).code == AnswerCode.TOO_LARGE
    assert kv.items() == {b"c": b"x" * 49, b"a": b"y" * 49}


def test_who_commits_last_finds_no_room(make_kv: MakeKv) -> None:
    """Where two together outgrow the cap, the second commit fails, and nothing of it is written."""
    kv = make_kv(max_kv_bytes=100)
    kv.put({b"x": b""})
    first, second = kv.session(), kv.session()
    first.set(b"a", b"x" * 59)
    second.set(b"b", b"x" * 50)
    second.set(b"x", b"2")
    first.commit()
    with pytest.raises(BackendError) as caught:
        second.commit()
    assert caught.value.code == AnswerCode.TOO_LARGE
    second.rollback()
    assert kv.items() == {b"x": b"", b"a": b"x" * 59}


@pytest.mark.parametrize("name", ["max_key_bytes", "max_value_bytes", "max_kv_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1", None])
def test_bad_caps_are_refused(make_kv: MakeKv, name: str, value: object) -> None:
    """A cap that is no whole number from 1 is refused by name, with its value."""
    with pytest.raises(UsageError, match=f"{name}={value!r}"):
        make_kv(**{name: value})


# ── as a whole ───────────────────────────────────────────────────────────────────────────────────

KEYS = st.sampled_from([b"a", b"b", b"\0", b"{a}"])
CALLS = st.one_of(
    st.builds(KvGet, KEYS),
    st.builds(KvSet, KEYS, st.binary(max_size=3) | st.sampled_from([b"1", b"-7"]), st.none() | st.just(1000)),
    st.builds(KvDelete, KEYS),
    st.builds(KvIncrement, KEYS, st.integers(-3, 3)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.lists(CALLS, max_size=8), st.booleans()), max_size=6))
def test_stores_agree_with_a_dictionary(make_kv: MakeKv, invocations: list[tuple[list[Any], bool]]) -> None:
    """One after the other, sessions read and leave what a plain dictionary would, rolled back ones nothing."""
    kv, scope, committed = _shared(make_kv), secrets.token_hex(8), dict[bytes, bytes]()
    for calls, commits in invocations:
        session, model = kv.session(scope=scope), committed.copy()
        for call in calls:
            assert _answered(session, call) == _modelled(model, call)
        if commits:
            session.commit()
            committed = model
        session.rollback()
        assert kv.items(scope=scope) == committed


_stores: dict[int, Kv] = {}


def _shared(make_kv: MakeKv) -> Kv:
    if id(make_kv) not in _stores:
        _stores[id(make_kv)] = make_kv()
    return _stores[id(make_kv)]


def _answered(session: Session, call: Any) -> object:
    try:
        match call:
            case KvGet(key=key):
                return session.get(key)
            case KvIncrement(key=key, by=by):
                return session.increment(key, by)
            case _:
                session.answer(call)
                return None
    except BackendError as error:
        return error.code


def _modelled(model: dict[bytes, bytes], call: Any) -> object:
    match call:
        case KvGet(key=key):
            return model.get(key)
        case KvSet(key=key, value=value):
            model[key] = value
        case KvDelete(key=key):
            model.pop(key, None)
        case KvIncrement(key=key, by=by):
            text = model.get(key, b"0")
            if not text.removeprefix(b"-").isdigit():
                return AnswerCode.CONFLICT
            model[key] = str(int(text) + by).encode()
            return int(model[key])
    return None
