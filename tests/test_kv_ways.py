"""Ways to another plugin's keys, or another scope's, or out of a key's place: each is shown to lead there, and doesn't.

Rule: every way is tried on a naming, or a way to send a key, that falls for it; only then on the stores.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import pytest
import redis as redis_py

from fuseboard._errors import BackendTimeout
from fuseboard.backends.kv import AsyncRedisKv, RedisKv
from fuseboard.backends.memory import MemoryKv
from kv_contract import Kv, settled
from servers import Server, redis_server

__all__ = ["redis_server"]


class Way(NamedTuple):
    """How another's key could be reached, and the names under which it would be.

    Attributes:
        owner: plugin and scope of whom the key `secret` belongs to.
        plugin: who tries, with `scope`, by `key`.
        naive: what a store would call a key that fell for it.
    """

    owner: tuple[str, str | None]
    plugin: str
    scope: str | None
    key: bytes
    naive: Callable[[str, str | None, bytes], bytes]


def joined(separator: str, none: str = "") -> Callable[[str, str | None, bytes], bytes]:
    """Return what joins the three without escaping them."""
    return lambda plugin, scope, key: separator.join((plugin, none if scope is None else scope, "")).encode() + key


def through(change: Callable[[bytes], bytes]) -> Callable[[str, str | None, bytes], bytes]:
    """Return what joins the three by colons and changes the whole."""
    return lambda plugin, scope, key: change(joined(":")(plugin, scope, key))


WAYS: Final[dict[str, Way]] = {
    "a colon in the key": Way(("blog", "s:1"), "blog", "s", b"1:secret", joined(":")),
    "a slash in the key": Way(("blog", "s/1"), "blog", "s", b"1/secret", joined("/")),
    "a colon in the scope": Way(
        ("blog", "a"), "blog", "a:", b"secret", through(lambda name: name.replace(b"::", b":"))
    ),
    "the plugin's name in the scope": Way(("a", "b:c"), "a:b", "c", b"secret", joined(":")),
    "an empty scope for none": Way(("blog", None), "blog", "", b"secret", joined(":")),
    "a scope that is called None": Way(("blog", None), "blog", "None", b"secret", joined(":", "None")),
    "a plugin that begins alike": Way(
        ("blog", None), "blo", None, b"gsecret", lambda plugin, _, key: plugin.encode() + key
    ),
    "a scope in capitals": Way(("blog", "site"), "blog", "SITE", b"secret", through(bytes.lower)),
    "a scope with spaces": Way(
        ("blog", "site"), "blog", " site ", b"secret", through(lambda name: name.replace(b" ", b""))
    ),
    "NUL ends the scope": Way(
        ("blog", "a"), "blog", "a\0b", b"secret", lambda p, s, k: f"{p}:{(s or '').partition(chr(0))[0]}:".encode() + k
    ),
    "NUL ends the key": Way(("blog", None), "shop", None, b"secret\0", lambda _, __, key: key.partition(b"\0")[0]),
    "a scope in percents": Way(
        ("blog", "a/b"), "blog", "a%2Fb", b"secret", through(lambda name: name.replace(b"%2F", b"/"))
    ),
    "one scope composed, one not": Way(
        ("blog", "é"),
        "blog",
        "e\u0301",
        b"secret",
        through(lambda name: name.replace("e\u0301".encode(), "é".encode())),
    ),
    "a long scope that is cut": Way(
        ("blog", "x" * 300), "blog", "x" * 299 + "y", b"secret", lambda p, s, k: joined(":")(p, s, k)[:250] + k
    ),
    "up by dots": Way(
        ("blog", "a"),
        "blog",
        "b",
        b"../a/secret",
        lambda p, s, k: f"{p}/{s}/".encode() + k if b".." not in k else f"{p}/".encode() + k[3:],
    ),
    "no scope at all": Way(("blog", "a"), "blog", "b", b"secret", lambda plugin, _, key: plugin.encode() + key),
    "no plugin at all": Way(("blog", "a"), "shop", "a", b"secret", lambda _, scope, key: f"{scope}".encode() + key),
    "the hash tag in the key": Way(
        ("blog", "a"),
        "shop",
        "a",
        b"{blog/a}:value:secret",
        lambda p, s, k: k if k[:1] == b"{" else f"{{{p}/{s}}}:value:".encode() + k,
    ),
    "a brace that ends the tag": Way(
        ("a", "b"), "a", "b}:value:x", b"secret", lambda p, s, k: f"{{{p}/{s}".partition("}")[0].encode() + b"}" + k
    ),
    "a surrogate that is dropped": Way(
        ("blog", "a"), "blog", "a\udc80", b"secret", lambda p, s, k: f"{p}:{s}:".encode(errors="ignore") + k
    ),
}
"""Two namespaces or keys that some way to name keys takes for one."""


def fresh(kind: str, server: Server) -> Kv:
    """Return an empty store."""
    if kind == "memory":
        return Kv(MemoryKv())
    make: Any = RedisKv if kind == "redis" else AsyncRedisKv
    return Kv(make(server.url, prefix=f"{secrets.token_hex(8)}:"))


KINDS: Final = ("memory", "redis", "async-redis")


@pytest.fixture
def admin(redis_server: Server) -> Iterator[redis_py.Redis]:
    """Return another client of the server."""
    with redis_py.Redis(port=redis_server.port) as client:
        yield client


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WAYS)
def test_no_way_leads_to_anothers_keys(name: str, kind: str, redis_server: Server) -> None:
    """What a careless naming takes for the owner's key is another one: not read, written, counted or removed."""
    way = WAYS[name]
    assert way.naive(way.plugin, way.scope, way.key) == way.naive(*way.owner, b"secret")  # so it would be reached
    kv = fresh(kind, redis_server)
    kv.put({b"secret": b"7"}, *way.owner)
    session = kv.session(way.plugin, way.scope)
    assert session.get(way.key) is None
    assert session.increment(way.key) == 1
    session.set(way.key, b"mine")
    session.commit()
    assert kv.items(*way.owner) == {b"secret": b"7"}
    settled(kv.store.clear(way.plugin, scope=way.scope))
    assert kv.items(*way.owner) == {b"secret": b"7"}
    kv.close()


WORDS: Final = {
    "a command after line ends": b"x\r\nSET {victim} stolen\r\n",
    "a command after a line feed": b"x\nSET {victim} stolen\n",
    "a script after a quote": b"x'); redis.call('SET', '{victim}', 'stolen') --",
}
"""Keys that are commands where somebody writes them into text."""


@pytest.mark.parametrize("name", WORDS)
def test_no_key_is_a_command(name: str, redis_server: Server, admin: redis_py.Redis) -> None:
    """A key with line ends or quotes is a key: sent as text it would change another's value, which is shown first."""
    victim = f"{secrets.token_hex(8)}:{{victim}}:value:k".encode()
    key = WORDS[name].replace(b"{victim}", victim)
    admin.set(victim, b"7")
    if "script" in name:
        admin.eval("redis.call('GET', '" + key.decode() + "')", 0)
    else:
        with socket.create_connection(("127.0.0.1", redis_server.port), 5) as careless:
            careless.sendall(b"GET " + key)
            while careless.recv(100).count(b"\n") < 1 or admin.get(victim) == b"7":
                pass
    assert admin.getdel(victim) == b"stolen"
    admin.set(victim, b"7")
    with RedisKv(redis_server.url, prefix=victim.decode().partition("{")[0], max_key_bytes=1 << 16) as store:
        kv = Kv(store)
        session = kv.session("shop")
        assert session.get(key) is None
        session.increment(key)
        session.commit()
        assert kv.items("shop") == {key: b"1"}
    assert admin.get(victim) == b"7"


@pytest.mark.parametrize("key", [b"lock", b"total", b"sizes", b"expiries", b":lock", b"value:", b"../total"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_key_is_the_stores_own(kind: str, key: bytes, redis_server: Server) -> None:
    """What a guest calls like the lock or the sums is a key like others: neither is changed."""
    kv = fresh(kind, redis_server)
    session = kv.session()
    session.set(key, b"9999999999", 100)
    session.increment(b"n")
    with pytest.raises(BackendTimeout):
        kv.session().increment(b"n", seconds=0.1)
    session.commit()
    kv.put({b"k": b"1"})
    assert kv.items() == {key: b"9999999999", b"n": b"1", b"k": b"1"}
    kv.close()
