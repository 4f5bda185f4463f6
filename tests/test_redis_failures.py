"""Redis that is slow, down, reset, full or speaks rubbish: an error in time, never another exception, and a sound pool.

Rules:
* The stores run against a server that misbehaves as it is told (redis_rubbish.py), or a real one that is stopped.
* Time is real: a deadline is held where the best of three tries ends within 20 ms after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import redis as redis_py
from redis.asyncio import Connection as AsyncConnection

import fuseboard as fb
from conftest import guest, manifest
from drivers import awaited
from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends import AnswerCode, KvGet, KvIncrement, KvSet
from fuseboard.backends._kv import KvCaps
from fuseboard.backends._redis_effects import Space
from fuseboard.backends._redis_flow import MOST_WRITTEN, Invocation
from fuseboard.backends._redis_names import Names
from fuseboard.backends.kv import AsyncRedisKv, RedisKv
from kv_contract import Kv, identity, settled, soon
from redis_rubbish import FAILING, SLOW, in_turn, rubbish, says
from servers import Server, free_port, redis, redis_server

__all__ = ["redis_server"]

STORES: Final[dict[str, type[RedisKv | AsyncRedisKv]]] = {"sync": RedisKv, "async": AsyncRedisKv}
LATE_SECONDS: Final = 0.020

MakeKv = Callable[..., Kv]


@pytest.fixture(params=STORES)
def make_kv(request: pytest.FixtureRequest) -> Iterator[MakeKv]:
    """Return what makes stores of one kind, which are closed after the test; then none may have a place taken."""
    made: list[Kv] = []

    def make(url: str, **arguments: Any) -> Kv:
        made.append(Kv(STORES[request.param](url, **arguments)))
        return made[-1]

    yield make
    for kv in made:
        assert _places_taken(kv) == 0
        kv.close()


def _places_taken(kv: Kv) -> int:
    pool = kv.store.pool
    is_async = isinstance(kv.store, AsyncRedisKv)
    return kv.store._max_connections - pool._places._value if is_async else len(pool._taken)


def best_of_three(lateness: Callable[[], float]) -> float:
    """Return the least late of three tries: the machine may be busy."""
    return min(lateness() for _ in range(3))


def open_sockets() -> set[str]:
    awaited(asyncio.sleep(0))  # the tests' event loop has some of its own, once it is there
    found = set()
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(file.readlink()))
    return {name for name in found if name.startswith("socket:")}


def closed_since(before: set[str]) -> bool:
    """Wait until no socket is open that wasn't before: servers' threads close theirs when they find out."""
    ends = time.monotonic() + 5
    while open_sockets() - before and time.monotonic() < ends:
        time.sleep(0.01)
    return not open_sockets() - before


# ── rubbish ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", FAILING)
def test_rubbish_is_an_error(make_kv: MakeKv, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a server answers, a guest is told that the store failed, and nothing of the server."""
    before = open_sockets()
    with rubbish(FAILING[name]) as server, caplog.at_level(logging.ERROR, "fuseboard"):
        kv = make_kv(server.url, max_connections=1)
        for call in (KvGet(b"k"), KvIncrement(b"n", 1), KvSet(b"k", b"v")):
            error = kv.session().refusal(call, 1)
            assert error.code in {AnswerCode.BACKEND_FAILED, AnswerCode.TOO_LARGE}
            assert error.code != AnswerCode.TOO_LARGE or name in {
                "too many", "more than there is room for", "a line without end",
            }  # fmt: skip
            assert not any(word in error.reason for word in ("secret", "10.0.0.7", "127.0.0.1", "user"))
        assert "secret-password" not in caplog.text
        kv.close()
    assert closed_since(before)


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_server_is_left_at_the_deadline(make_kv: MakeKv, name: str) -> None:
    """Whether it says nothing or drops of something, who asks goes on within 20 ms after the deadline."""
    with rubbish(SLOW[name]) as server:
        kv = make_kv(server.url, max_connections=1)

        def lateness() -> float:
            began = time.monotonic()
            with pytest.raises(BackendTimeout, match="didn't answer"):
                kv.session().answer(KvGet(b"k"), 0.2)
            return time.monotonic() - began - 0.2

        assert 0 <= best_of_three(lateness) < LATE_SECONDS


def test_a_promised_length_takes_no_memory(make_kv: MakeKv) -> None:
    """A reply that claims gigabytes, and begins to send them, is left before it takes more than what may come."""
    with rubbish(FAILING["more than there is room for"]) as server:
        kv = make_kv(server.url, max_value_bytes=1 << 16)
        tracemalloc.start()
        try:
            assert kv.session().refusal(KvGet(b"k"), 5).code == AnswerCode.TOO_LARGE
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


def test_a_reply_to_nobody_is_not_the_next_ones(make_kv: MakeKv) -> None:
    """A server that answers twice is left: the second answer never becomes another invocation's."""
    answers = iter((b"$5\r\nfirst\r\n$6\r\nsecond\r\n", b"$5\r\nthird\r\n"))
    with rubbish(lambda connection: connection.sendall(next(answers))) as server:
        kv = make_kv(server.url, max_connections=1)
        assert kv.session("one").get(b"k") == b"first"
        assert kv.session("two").get(b"k") == b"third"


VERDICTS: Final = {
    "held": b"*3\r\n$4\r\nheld\r\n$1\r\n5\r\n:-1\r\n",
    "fits": b"*2\r\n$4\r\nfits\r\n:0\r\n",
    "free": b"*2\r\n$4\r\nfree\r\n:1\r\n",
}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_an_answer_to_another_question_is_no_commit(make_kv: MakeKv, verdict: str) -> None:
    """What another script answers doesn't tell that the writes are lasting: nobody knows."""
    with rubbish(in_turn(says(VERDICTS["fits"]), says(VERDICTS[verdict]))) as server:
        session = make_kv(server.url).session()
        session.set(b"k", b"v")
        with pytest.raises(BackendError, match="is not known"):
            session.commit(1)
        session.rollback()


@pytest.mark.parametrize("answer", ["closed at once", "reset", "closed in the middle", "random bytes"])
def test_a_commit_without_an_answer_is_told_as_such(make_kv: MakeKv, answer: str) -> None:
    """Where the connection is lost after the commit was sent, nobody knows, as the reason says; it isn't repeated."""
    answers = (says(b"*2\r\n$4\r\nfits\r\n:0\r\n"), FAILING[answer])
    with rubbish(in_turn(*answers)) as server:
        session = make_kv(server.url).session()
        session.set(b"k", b"v")
        with pytest.raises(BackendError, match="whether this invocation's writes last is not known"):
            session.commit(1)
        assert len(server.asked) == 2
        session.rollback()


def test_a_commit_that_is_late_is_told_as_such(make_kv: MakeKv) -> None:
    """Where no answer comes until the deadline, nobody knows either."""
    answers = (says(b"*2\r\n$4\r\nfits\r\n:0\r\n"), SLOW["silence"])
    with rubbish(in_turn(*answers)) as server:
        session = make_kv(server.url).session()
        session.set(b"k", b"v")
        with pytest.raises(BackendTimeout, match="is not known"):
            session.commit(0.2)
        session.rollback()


@pytest.mark.parametrize("answer", ["loading", "read only", "no memory", "moved", "not allowed", "an error"])
def test_a_commit_that_was_refused_is_no_doubt(make_kv: MakeKv, answer: str) -> None:
    """Where the server answers that it won't, nothing was written, and the reason doesn't say that it may have been."""
    answers = (says(b"*2\r\n$4\r\nfits\r\n:0\r\n"), FAILING[answer])
    with rubbish(in_turn(*answers)) as server:
        session = make_kv(server.url).session()
        session.set(b"k", b"v")
        with pytest.raises(BackendError) as caught:
            session.commit()
        assert "not known" not in caught.value.reason
        session.rollback()


# ── no server ────────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_is_not_there(make_kv: MakeKv) -> None:
    """A refused connection is an error at once; a rollback has nothing to give back, and asks nobody."""
    session = make_kv(f"redis://127.0.0.1:{free_port()}").session()
    began = time.monotonic()
    assert "can't be reached" in session.refusal(KvIncrement(b"n", 1)).reason
    session.rollback()
    assert time.monotonic() - began < 1


def test_a_server_that_takes_no_connection(make_kv: MakeKv) -> None:
    """A server whose queue is full is left at the deadline."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        kv = make_kv(f"redis://127.0.0.1:{port}")

        def lateness() -> float:
            began = time.monotonic()
            with pytest.raises(BackendTimeout):
                kv.session().answer(KvGet(b"k"), 0.2)
            return time.monotonic() - began - 0.2

        assert 0 <= best_of_three(lateness) < LATE_SECONDS
        for one in waiting:
            one.close()


@pytest.fixture
def _silent_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the resolver say nothing of redis.invalid, until the test is over."""
    usual, over = socket.getaddrinfo, threading.Event()

    def slow(host: Any, *arguments: Any, **named: Any) -> Any:
        if host != "redis.invalid" or named.get("flags") == socket.AI_NUMERICHOST:
            return usual(host, *arguments, **named)
        over.wait(10)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield
    over.set()


@pytest.mark.usefixtures("_silent_resolver")
def test_a_name_that_takes_long_to_look_up(make_kv: MakeKv) -> None:
    """A resolver that says nothing is left at the deadline."""
    kv = make_kv("redis://redis.invalid/0")

    def lateness() -> float:
        began = time.monotonic()
        with pytest.raises(BackendTimeout):
            kv.session().answer(KvGet(b"k"), 0.2)
        return time.monotonic() - began - 0.2

    assert 0 <= best_of_three(lateness) < LATE_SECONDS


@pytest.mark.usefixtures("_silent_resolver")
def test_look_ups_that_nobody_waits_for_are_counted(make_kv: MakeKv) -> None:
    """However many ask while the resolver says nothing, no more threads wait for it than there is a bound for."""
    kv, before = make_kv("redis://redis.invalid/0", max_connections=4), threading.active_count()
    for _ in range(60):
        kv.session().refusal(KvGet(b"k"), 0.01)
    assert threading.active_count() - before <= 4 + 32  # for an event loop, as many as its own executor has


# ── a server that is stopped ─────────────────────────────────────────────────────────────────────

GETS = guest('(func (export "run") (drop (call $host_kv_get (i32.const 0) (i32.const 1))))')
COUNTS = guest(
    """(data (i32.const 0) "n")
    (func (export "run")
      (if (i32.lt_s (call $host_kv_increment (i32.const 0) (i32.const 1) (i64.const 1)) (i32.const 0))
        (then unreachable)))"""
)
COUNTS_AND_CRASHES = guest(
    """(data (i32.const 0) "n")
    (func (export "run")
      (drop (call $host_kv_set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))
      (drop (call $host_kv_increment (i32.const 0) (i32.const 1) (i64.const 1)))
      unreachable)"""
)
KV: Final = {"capabilities": {"kv": True}, "invocation_timeout_ms": 300}


@contextmanager
def hosted(driver: Callable[..., fb.Host], url: str, *modules: bytes, **server: Any) -> Iterator[tuple[Kv, fb.Host]]:
    """Run a host of either kind with plugins `plugin-0` ... and a store of its kind, with one connection."""
    is_async = driver is not fb.Host
    kv = Kv((AsyncRedisKv if is_async else RedisKv)(url, max_connections=1))
    hook = fb.Filter("text", str)
    host = driver(hooks=[hook], backends=fb.Backends(kv=kv.store), ceilings=fb.Limits(memory_limit_mb=4))
    try:
        for place, module in enumerate(modules):
            host.load_bytes(module, manifest(f"plugin-{place}", **(KV | server)), grants="as-requested")
        yield kv, host
    finally:
        host.close()
        kv.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """Return a server that this test may stop."""
    with redis(tmp_path) as server:
        yield server


def test_an_invocation_ends_at_its_deadline(driver: Callable[..., fb.Host], own_server: Server) -> None:
    """While the server stands still a call trips TIMEOUT within 20 ms after the deadline; then all goes on."""
    with hosted(driver, own_server.url, COUNTS) as (kv, host):
        assert isinstance(host.invoke("plugin-0", "text", "x"), fb.Completed)
        own_server.pause()

        def lateness() -> float:
            began = time.monotonic()
            outcome = host.invoke("plugin-0", "text", "x")
            took = time.monotonic() - began
            assert isinstance(outcome, fb.Trapped)
            assert (outcome.trap.limit, outcome.trap.host_call) == (fb.Limit.TIMEOUT, "host_kv_increment")
            return took - 0.3

        late = best_of_three(lateness)
        own_server.go_on()
        assert 0 <= late < LATE_SECONDS
        waiting = kv.session("plugin-0")
        waiting.increment(b"n")  # what was asked meanwhile may have taken the lock, which ends by itself
        waiting.rollback()
        assert isinstance(host.invoke("plugin-0", "text", "x"), fb.Completed)
        assert (kv.items("plugin-0"), _places_taken(kv)) == ({b"n": b"2"}, 0)


def test_a_commit_ends_at_its_deadline(driver: Callable[..., fb.Host], own_server: Server) -> None:
    """A commit that gets no answer is a COMMIT trap that says that the writes may last."""
    paused = threading.Event()

    @fb.host_function("pause")
    def pause() -> None:
        own_server.pause()
        paused.set()

    pauses = guest(
        """(data (i32.const 0) "npause")
        (func (export "run")
          (drop (call $host_kv_increment (i32.const 0) (i32.const 1) (i64.const 1)))
          (drop (call $host_call (i32.const 1) (i32.const 5) (i32.const 0) (i32.const 0))))"""
    )
    kv = Kv((RedisKv if driver is fb.Host else AsyncRedisKv)(own_server.url))
    host = driver(
        hooks=[fb.Filter("text", str)], functions=[pause], backends=fb.Backends(kv=kv.store), commit_timeout_ms=200,
        ceilings=fb.Limits(memory_limit_mb=4),
    )  # fmt: skip
    host.load_bytes(pauses, manifest(capabilities={"kv": True, "functions": ["pause"]}), grants="as-requested")
    outcome = host.invoke("guest", "text", "x")
    own_server.go_on()
    assert paused.is_set()
    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.cause == fb.Cause.COMMIT
    assert "not known" in (outcome.trap.detail or "")
    host.close()
    kv.close()


def test_a_trapped_invocation_leaves_nothing(driver: Callable[..., fb.Host], own_server: Server) -> None:
    """After a crash neither a number nor a lock is in Redis."""
    with hosted(driver, own_server.url, COUNTS_AND_CRASHES) as (_, host):
        assert isinstance(host.invoke("plugin-0", "text", "x"), fb.Trapped)
        with redis_py.Redis(port=own_server.port) as admin:
            assert admin.keys("*") == []


def test_invocations_count_one_after_the_other(driver: Callable[..., fb.Host], own_server: Server) -> None:
    """Through a host with a single connection, 60 invocations on 6 threads count to 60."""
    with hosted(driver, own_server.url, COUNTS, invocation_timeout_ms=10_000) as (kv, host):
        with ThreadPoolExecutor(6) as pool:
            outcomes = list(pool.map(lambda _: host.invoke("plugin-0", "text", "x"), range(60)))
        assert all(isinstance(outcome, fb.Completed) for outcome in outcomes)
        assert kv.items("plugin-0") == {b"n": b"60"}


def test_a_server_without_memory_keeps_nothing_of_a_commit(make_kv: MakeKv, own_server: Server) -> None:
    """A commit that a full server refuses leaves neither a key nor a lock; once there is room, all goes on."""
    kv = make_kv(own_server.url)
    kv.put({b"k": b"1"})
    session = kv.session()
    session.set(b"new", b"1")
    session.increment(b"n")
    with redis_py.Redis(port=own_server.port) as admin:
        admin.config_set("maxmemory", 1000)
        with pytest.raises(BackendError, match="no memory left"):
            session.commit()
        session.rollback()
        assert sorted(admin.keys("*")) == [b"fuseboard:{blog}:total", b"fuseboard:{blog}:value:k"]
        assert "no memory left" in kv.session().refusal(KvIncrement(b"n", 1)).reason
        admin.config_set("maxmemory", 0)
    assert kv.session().increment(b"n") == 1


# ── pools ────────────────────────────────────────────────────────────────────────────────────────


def test_a_connection_that_the_server_closed_is_replaced(make_kv: MakeKv, own_server: Server) -> None:
    """A connection that was closed while nobody used it is no error: another takes its place."""
    kv = make_kv(own_server.url)
    kv.put({b"k": b"1"})
    with redis_py.Redis(port=own_server.port) as admin:
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    time.sleep(0.05)
    assert kv.session().get(b"k") == b"1"


def test_scripts_that_the_server_forgot_are_sent_again(make_kv: MakeKv, own_server: Server) -> None:
    """After a restart or SCRIPT FLUSH commits go on."""
    kv = make_kv(own_server.url)
    kv.put({b"k": b"1"})
    with redis_py.Redis(port=own_server.port) as admin:
        admin.script_flush()
    kv.put({b"k": b"2"})
    assert kv.items() == {b"k": b"2"}


def test_a_pool_has_an_end(make_kv: MakeKv, own_server: Server) -> None:
    """Of 12 that ask at once, with two connections, all are served; while both stand still, others wait in vain."""
    kv = make_kv(own_server.url, max_connections=2)
    kv.put({b"k": b"1"})
    with ThreadPoolExecutor(12) as threads:
        assert set(threads.map(lambda _: kv.session().get(b"k"), range(200))) == {b"1"}
        with redis_py.Redis(port=own_server.port) as admin:
            assert len(admin.client_list()) <= 3
        own_server.pause()
        refused = list(threads.map(lambda _: _reason(kv), range(12)))
        own_server.go_on()
    assert sum("in use" in reason for reason in refused) >= 1
    assert kv.session().get(b"k") == b"1"


def _reason(kv: Kv) -> str:
    with pytest.raises(BackendTimeout) as caught:
        kv.session().answer(KvGet(b"k"), 0.3)
    return caught.value.reason


def test_a_closed_store_answers_errors(make_kv: MakeKv, redis_server: Server) -> None:
    """After its end a store is closed, says so, and has no connection left."""
    before = open_sockets()
    kv = make_kv(redis_server.url)
    session = kv.session()
    session.get(b"k")
    kv.close()
    kv.close()
    assert "closed" in session.refusal(KvGet(b"k")).reason
    assert closed_since(before)


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_takes_no_place() -> None:
    """An interrupt while the server is silent passes through, and the only place of the pool is free again."""
    answers = (SLOW["silence"], says(b"$1\r\nv\r\n"))
    with rubbish(in_turn(*answers)) as server, RedisKv(server.url, max_connections=1) as kv:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        session = kv.session(identity())
        with pytest.raises(KeyboardInterrupt):
            session.answer(KvGet(b"k"), soon())
        session.rollback()
        assert Kv(kv).session().get(b"k") == b"v"


def test_cancellation_takes_no_place(own_server: Server) -> None:
    """However far a call has got when it is cancelled, its place is free again, and no reply becomes another's."""
    kv = AsyncRedisKv(own_server.url, max_connections=1)

    async def cancel_all() -> None:
        for turn in range(60):
            session = kv.session(identity(f"p{turn}"))
            task = asyncio.ensure_future(session.answer(KvIncrement(b"n", turn), soon()))
            for _ in range(turn % 20):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await session.rollback()
            other = kv.session(identity(f"q{turn}"))
            await other.answer(KvSet(b"k", b"%d" % turn), soon())
            await other.commit(soon())
            assert await kv.items(f"q{turn}") == {b"k": b"%d" % turn}

    awaited(cancel_all())
    assert kv.pool._places._value == 1
    with redis_py.Redis(port=own_server.port) as admin:
        assert len(admin.client_list()) <= 2
        assert admin.keys("*lock*") == []
    awaited(kv.aclose())


def test_a_large_commit_is_not_put_together_on_the_event_loop(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit of 10,000 writes, 50 ms of computing, is put together on a thread; small commands are at once."""
    usual, threads = AsyncConnection.pack_command, dict[bool, set[str]]()

    def pack(connection: AsyncConnection, *words: Any) -> list[bytes]:
        threads.setdefault(len(words) > MOST_WRITTEN, set()).add(threading.current_thread().name)
        return usual(connection, *words)

    monkeypatch.setattr(AsyncConnection, "pack_command", pack)
    kv = Kv(AsyncRedisKv(redis_server.url, prefix="large:"))
    kv.put({b"%d" % number: b"" for number in range(MOST_WRITTEN)})
    settled(kv.store.clear("blog"))
    kv.close()
    (loops,) = threads[False]
    assert loops not in threads[True]


@pytest.mark.parametrize("was_held", [0, 1])
def test_a_lock_that_may_yet_be_taken_is_given_back_twice(was_held: int) -> None:
    """Redis may read a question for the lock, broken off, after what gives it back; so that is sent once more."""
    invocation = Invocation(Space(Names.of("p:", "blog", None), queue=None), KvCaps())
    asking = invocation.answer(KvIncrement(b"n", 1), soon())
    next(asking)
    asking.close()
    giving_back, answers = invocation.free(), iter((was_held, 1))
    next(giving_back)
    with contextlib.suppress(StopIteration):
        while True:
            giving_back.send([b"free", next(answers)])
    assert list(answers) == [1] * was_held


def test_a_rollback_from_another_thread_ends_a_wait(redis_server: Server) -> None:
    """A call that was given up ends when its session is rolled back, and takes no lock afterwards."""
    with RedisKv(redis_server.url, prefix="given-up:") as store:
        kv = Kv(store)
        holder, waiting = kv.session(), kv.session()
        holder.increment(b"n")
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(waiting.increment, b"n")
            time.sleep(0.1)
            began = time.monotonic()
            waiting.rollback()
            with pytest.raises(BackendError, match="ended"):
                answer.result(5)
        assert time.monotonic() - began < 1
        holder.commit()
        last = kv.session()
        assert last.increment(b"n", seconds=1) == 2
        last.rollback()
        store.clear("blog")
