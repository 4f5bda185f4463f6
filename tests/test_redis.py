"""Redis and Valkey: what is where in the server, locks that outlive nobody, the operator's access, and settings.

Rules:
* The server is a real one; other clients look at it through redis-py alone.
* What all key-value stores do alike is in test_kv_contract.py; what goes wrong is in test_redis_failures.py.
"""

from __future__ import annotations

import re
import secrets
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis as redis_py
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from fuseboard._errors import BackendError, BackendTimeout, UsageError
from fuseboard.backends import AnswerCode, KvDelete, KvGet, KvIncrement, KvSet
from fuseboard.backends._redis_flow import LOCK_GRACE_SECONDS, MOST_WRITTEN
from fuseboard.backends._redis_names import Names
from fuseboard.backends.kv import AsyncRedisKv, RedisKv
from kv_contract import BYTES, Kv, settled
from servers import Server, free_port, redis, redis_server

__all__ = ["redis_server"]

STORES: Final[dict[str, type[RedisKv | AsyncRedisKv]]] = {"sync": RedisKv, "async": AsyncRedisKv}
SCRIPT: Final = Path(__file__).with_name("redis_processes.py")


@pytest.fixture
def admin(redis_server: Server) -> Iterator[redis_py.Redis]:
    """Return another client of the server."""
    with redis_py.Redis(port=redis_server.port) as client:
        yield client


@pytest.fixture(params=STORES)
def kv(request: pytest.FixtureRequest, redis_server: Server) -> Iterator[Kv]:
    """Return an empty store."""
    kv = Kv(STORES[request.param](redis_server.url, prefix=f"{secrets.token_hex(8)}:"))
    yield kv
    kv.close()


def keys(admin: redis_py.Redis, kv: Kv) -> list[bytes]:
    """Return what the server holds of a store."""
    found: list[bytes] = sorted(admin.scan_iter(f"{kv.store._settings.prefix}*", 1000))
    return found


# ── what is where ────────────────────────────────────────────────────────────────────────────────


def test_keys_are_where_the_page_says(kv: Kv, admin: redis_py.Redis) -> None:
    """A key is at PREFIX{PLUGIN/SCOPE}:value:KEY, as it is, with its time to live; beside it stand the sums."""
    session = kv.session("blog", "site 1")
    session.set(b"a\0b", b"1")
    session.set(b"c", b"22", 100)
    session.commit()
    start = kv.store._settings.prefix.encode() + b"{blog/site%201}:"
    assert keys(admin, kv) == [
        start + b"expiries",
        start + b"sizes",
        start + b"total",
        start + b"value:a\0b",
        start + b"value:c",
    ]
    assert (admin.get(start + b"value:a\0b"), admin.get(start + b"total")) == (b"1", b"7")
    assert (admin.ttl(start + b"value:a\0b"), admin.ttl(start + b"value:c") in {99, 100}) == (-1, True)


def test_a_namespace_is_in_one_slot_of_a_cluster(kv: Kv, admin: redis_py.Redis) -> None:
    """All keys of a plugin and scope hash to one slot, whatever braces a guest's keys have."""
    for key in BYTES:
        kv.put({key: b"1"}, scope="{}}{")
    kv.session(scope="{}}{").increment(b"n")
    assert len({key_slot(key) for key in keys(admin, kv)}) == 1
    names = Names.of("p:", "blog", "{}}{")
    assert {key_slot(name) for name in (names.lock, *names.bookkeeping, *map(names.value, BYTES))} == {
        key_slot(names.lock)
    }


def test_nothing_is_left_of_what_is_deleted(kv: Kv, admin: redis_py.Redis) -> None:
    """A namespace whose keys are deleted leaves nothing in the server, locks and sums neither."""
    session = kv.session()
    session.set(b"a", b"1", 100)
    session.increment(b"n")
    session.commit()
    session = kv.session()
    session.delete(b"a")
    session.delete(b"n")
    session.commit()
    assert keys(admin, kv) == []


STEPS: Final = st.lists(
    st.tuples(st.sampled_from([b"a", b"bb", b"\0"]), st.binary(max_size=4) | st.none(), st.sampled_from([None, 1, 60])),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(STEPS, max_size=6), st.sampled_from(["expires", "stays"]))
def test_the_sum_is_what_is_there(redis_server: Server, commits: list[list[Any]], what: str) -> None:
    """After any sets, deletes and expiries the sum of a namespace is that of its keys and values, to the byte."""
    with RedisKv(redis_server.url, prefix=f"{secrets.token_hex(8)}:") as store:
        kv = Kv(store)
        with redis_py.Redis(port=redis_server.port) as admin:
            for steps in commits:
                session = kv.session()
                for key, value, seconds in steps:
                    session.delete(key) if value is None else session.set(key, value, seconds)
                session.commit()
                if what == "expires":
                    _end_expiring(admin, kv)
            kv.put({b"last": b""})
            total = admin.get(f"{store._settings.prefix}{{blog}}:total")
        assert total == b"%d" % sum(len(key) + len(value) for key, value in kv.items().items())


def _end_expiring(admin: redis_py.Redis, kv: Kv) -> None:
    """Have what was to expire in a second be gone now, as if that had passed."""
    start = kv.store._settings.prefix.encode() + b"{blog}:"
    for key in admin.hkeys(start + b"sizes"):
        if 0 < admin.pttl(start + b"value:" + key) <= 1000:
            admin.delete(start + b"value:" + key)
            admin.eval("redis.call('ZADD', KEYS[1], 1, ARGV[1])", 1, start + b"expiries", key)


# ── locks ────────────────────────────────────────────────────────────────────────────────────────


def test_who_has_lost_the_lock_writes_nothing(kv: Kv, admin: redis_py.Redis) -> None:
    """A session whose lock ended can't commit, whether another took it meanwhile or not: no count is lost."""
    lock = kv.store._settings.prefix + "{blog}:lock"
    late = kv.session()
    late.increment(b"n")
    late.set(b"k", b"late")
    admin.delete(lock)
    other = kv.session()
    assert other.increment(b"n") == 1
    other.commit()
    for _ in range(2):
        with pytest.raises(BackendError, match="lost its claim") as caught:
            late.commit()
        assert caught.value.code == AnswerCode.CONFLICT
        late.rollback()
        late = kv.session()
        late.increment(b"n")
        admin.delete(lock)
    late.rollback()
    assert kv.items() == {b"n": b"1"}


def test_a_lost_lock_is_not_taken_again(kv: Kv, admin: redis_py.Redis) -> None:
    """A session that has counted and lost its lock is told so at the next count, and can't commit after it either."""
    session = kv.session()
    session.increment(b"a")
    admin.delete(kv.store._settings.prefix + "{blog}:lock")
    assert session.refusal(KvIncrement(b"b", 1)).code == AnswerCode.CONFLICT
    with pytest.raises(BackendError, match="lost its claim"):
        session.commit()
    session.rollback()
    assert kv.items() == {}


def test_a_rollback_frees_no_other_lock(kv: Kv, admin: redis_py.Redis) -> None:
    """Who has lost the lock doesn't give back the one that another has taken."""
    late, other = kv.session(), kv.session()
    late.increment(b"n")
    admin.delete(kv.store._settings.prefix + "{blog}:lock")
    other.increment(b"n")
    late.rollback()
    with pytest.raises(BackendTimeout):
        kv.session().increment(b"n", seconds=0.1)
    other.commit()
    assert kv.items() == {b"n": b"1"}


def script(name: str, server: Server) -> subprocess.Popen[str]:
    """Run a scenario of redis_processes.py."""
    command = [sys.executable, "-W", "error", str(SCRIPT), name, server.url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_count_together(redis_server: Server) -> None:
    """Of 180 increments by 9 threads in 3 processes, each that was committed has a number of its own, without a gap."""
    processes = [script("count", redis_server) for _ in range(3)]
    told = [process.communicate(timeout=60) for process in processes]
    assert [error for _, error in told] == ["", "", ""]
    numbers = sorted(int(number) for output, _ in told for number in output.split())
    assert numbers == list(range(1, 121))
    with RedisKv(redis_server.url, prefix="count:") as store:
        assert store.items("blog") == {b"n": b"120"}
        store.clear("blog")


def test_a_process_that_dies_keeps_the_lock_for_a_moment(redis_server: Server) -> None:
    """After kill -9 of who counts, others go on when its deadline and the grace are over; nothing was counted."""
    process = script("hold", redis_server)
    with process, RedisKv(redis_server.url, prefix="hold:") as store:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
        began = time.monotonic()
        session = Kv(store).session()
        assert session.increment(b"n", seconds=20) == 1
        assert time.monotonic() - began < LOCK_GRACE_SECONDS + 2
        session.rollback()


def test_forks_have_connections_of_their_own(redis_server: Server) -> None:
    """A child uses new connections, leaves its parent's sessions alone, and the parent goes on as before."""
    output, error = script("fork", redis_server).communicate(timeout=30)
    assert (output, error) == ("", "")


def test_interrupts_hold_up_no_other_thread(redis_server: Server) -> None:
    """However an interrupt hits an increment, no lock and no place stay taken: another thread counts on."""
    process = script("interrupts", redis_server)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 0, error  # Python tells of interrupts that hit finalizers, on the same stream


# ── the operator's access ────────────────────────────────────────────────────────────────────────


def test_items_and_clear_take_many_pages(kv: Kv, admin: redis_py.Redis) -> None:
    """All of 1,500 keys are read and removed, those of similar names left alone."""
    many = {b"key %d" % number: b"%d" % number for number in range(1500)}
    kv.put(many, "blog", "a*")
    kv.put({b"other": b"1"}, "blog", "ab")
    kv.put({b"other": b"1"}, "blog", None)
    assert kv.items("blog", "a*") == many
    settled(kv.store.clear("blog", scope="a*"))
    assert kv.items("blog", "a*") == {}
    assert kv.items("blog", "ab") == kv.items("blog") == {b"other": b"1"}
    assert not any(b"{blog/a%2A}" in key for key in keys(admin, kv))


@pytest.mark.parametrize(("prefix", "other"), [("a*:", "a1:"), ("a?:", "a1:"), ("a[0-9]:", "a1:"), ("a\\1:", "a1:")])
@pytest.mark.parametrize("store", STORES.values())
def test_a_prefix_is_no_pattern(redis_server: Server, store: Callable[..., Any], prefix: str, other: str) -> None:
    """A prefix with characters that SCAN reads as a pattern finds its own keys, and no other application's."""
    own, another = Kv(store(redis_server.url, prefix=prefix)), Kv(store(redis_server.url, prefix=other))
    own.put({b"k": b"own"})
    another.put({b"k": b"another"})
    assert own.items() == {b"k": b"own"}
    settled(own.store.clear("blog"))
    assert (own.items(), another.items()) == ({}, {b"k": b"another"})
    settled(another.store.clear("blog"))
    own.close()
    another.close()


def test_an_invocation_writes_so_many_keys(kv: Kv) -> None:
    """An invocation that has written 10,000 keys writes no other; those that it has it may change, and all are kept."""
    session = kv.session()
    for number in range(MOST_WRITTEN):
        session.set(b"%d" % number, b"")
    for call in (KvSet(b"more", b""), KvDelete(b"more"), KvIncrement(b"more", 1)):
        assert session.refusal(call).code == AnswerCode.TOO_LARGE
    session.set(b"0", b"changed")
    session.commit()
    assert len(kv.items()) == MOST_WRITTEN
    settled(kv.store.clear("blog"))


def test_clear_waits_for_who_counts(kv: Kv) -> None:
    """Nothing is removed from under an invocation that counts; at the end of the patience that is an error."""
    session = kv.session()
    session.increment(b"n")
    with pytest.raises(BackendTimeout):
        settled(kv.store.clear("blog", timeout_seconds=0.1))
    session.commit()
    assert kv.items() == {b"n": b"1"}
    settled(kv.store.clear("blog", timeout_seconds=5))
    assert kv.items() == {}


# ── settings ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("store", STORES.values())
@pytest.mark.parametrize(
    "url",
    [
        "", "localhost", "http://localhost", "unix:///run/redis.sock", "redis://", "redis://host:99999", "redis://host:0",
        "redis://user:secret@host:port/0", "redis://host/zero", "redis://host/0?socket_timeout=5", "redis://host/0#x",
        7, None,         "redis://[::1", b"redis://host",
    ],
)  # fmt: skip
def test_bad_urls_are_refused(store: Callable[..., Any], url: Any) -> None:
    """A URL that isn't whole, or has what isn't understood, is refused, without its password."""
    with pytest.raises(UsageError, match="url") as caught:
        store(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("store", STORES.values())
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"prefix": "a{b"}, "prefix='a{b'"),
        ({"prefix": "a}"}, "prefix='a}'"),
        ({"prefix": "a\n"}, "prefix="),
        ({"prefix": 7}, "prefix=7"),
        ({"max_connections": 0}, "max_connections=0"),
        ({"max_kv_bytes": 0}, "max_kv_bytes=0"),
        ({"tls": "yes"}, "tls='yes'"),
        ({"tls": ssl.create_default_context()}, "rediss://"),
    ],
)
def test_bad_settings_are_refused(store: Callable[..., Any], arguments: dict[str, Any], problem: str) -> None:
    """An argument that can't be used is refused by name."""
    with pytest.raises(UsageError, match=problem.replace("{", r"\{")):
        store("redis://localhost", **arguments)


@pytest.mark.parametrize("store", STORES.values())
def test_passwords_are_shown_nowhere(
    store: Callable[..., Any], redis_server: Server, admin: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """A user gets in by a password; a wrong one is refused, and neither is in a repr, a reason or the log."""
    admin.acl_setuser("writer", enabled=True, passwords=["+right-password"], keys=["*"], categories=["+@all"])
    wrong, right = (
        Kv(store(f"redis://writer:{word}-password@127.0.0.1:{redis_server.port}/3", prefix="acl:"))
        for word in ("wrong", "right")
    )
    right.put({b"k": b"1"})
    error = wrong.session().refusal(KvGet(b"k"))
    assert "refuses the application" in error.reason
    assert repr(right.store) == f"{store.__name__}(redis://127.0.0.1:{redis_server.port}/3)"
    assert not re.search("(wrong|right)-password", f"{right.store!r} {wrong.store!r} {error!r} {caplog.text}")
    with redis_py.Redis(port=redis_server.port, db=3) as database:
        assert database.get("acl:{blog}:value:k") == b"1"
        database.flushdb()
    right.close()
    wrong.close()


COMMANDS: Final = (
    "EVAL", "EVALSHA", "GET", "SET", "DEL", "PTTL", "EXISTS", "STRLEN", "MGET", "SCAN", "TIME", "HGET", "HSET", "HDEL",
    "ZADD", "ZREM", "ZRANGEBYSCORE",
)  # fmt: skip


@pytest.mark.parametrize("store", STORES.values())
def test_few_powers_suffice(store: Callable[..., Any], redis_server: Server, admin: redis_py.Redis) -> None:
    """An account that may do what the page says, on keys with the prefix, and nothing else, is enough."""
    page = Path(__file__).parent.parent.joinpath("docs/concepts/key-values.md").read_text(encoding="utf-8")
    assert all(f"`{command}`" in page for command in COMMANDS)
    commands = [f"+{command}" for command in COMMANDS]
    admin.acl_setuser("few", enabled=True, reset=True, passwords=["+few"], keys=["few:*"], commands=commands)
    kv = Kv(store(f"redis://few:few@127.0.0.1:{redis_server.port}/0", prefix="few:"))
    session = kv.session()
    session.set(b"k", b"1", 1)
    session.increment(b"n")
    session.commit()
    session = kv.session()
    session.increment(b"n")
    session.rollback()
    time.sleep(1.05)
    kv.put({b"k": b"1"})
    assert kv.items() == {b"k": b"1", b"n": b"1"}
    settled(kv.store.clear("blog"))
    kv.close()
    elsewhere = Kv(store(f"redis://few:few@127.0.0.1:{redis_server.port}/0", prefix="another:"))
    assert "refuses the application" in elsewhere.session().refusal(KvGet(b"k")).reason
    elsewhere.close()


@pytest.mark.parametrize("store", STORES.values())
def test_tls(store: Callable[..., Any], tmp_path: Path) -> None:
    """`rediss` is encrypted, to the host of that name only, and to nobody whom the certificates don't vouch for."""
    authority, port = trustme.CA(), free_port()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    options = ["--tls-port", f"{port}", "--tls-cert-file", "server.pem", "--tls-key-file", "server.pem"]
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    with redis(tmp_path, *options, "--tls-ca-cert-file", "ca.pem", "--tls-auth-clients", "no"):
        kv = Kv(store(f"rediss://localhost:{port}", tls=trusting))
        kv.put({b"k": b"1" * 100_000})
        assert kv.session().get(b"k") == b"1" * 100_000
        assert repr(kv.store) == f"{store.__name__}(rediss://localhost:{port}/0)"
        kv.close()
        for url, tls in ((f"rediss://localhost:{port}", None), (f"rediss://127.0.0.1:{port}", trusting)):
            refused = Kv(store(url, tls=tls))
            assert "can't be reached" in refused.session().refusal(KvGet(b"k"), 5).reason
            refused.close()


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)


def test_redis_is_imported_by_who_uses_it() -> None:
    """Neither Fuseboard nor its backends import redis-py; where it is missing, the error says what to install."""
    assert python("import sys, fuseboard.backends.memory; sys.exit('redis' in sys.modules)").returncode == 0
    missing = python("import sys; sys.modules['redis'] = None; import fuseboard.backends.kv")
    assert "pip install 'fuseboard[redis]'" in missing.stderr.splitlines()[-1]
