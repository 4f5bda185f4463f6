"""One invocation's use of Redis, as a flow: what is sent when, and what the replies mean. It does no I/O itself.

Rules:
* Sets and deletes are kept until the commit, which is one script: all of them or none.
* The first increment takes the namespace's lock and the end gives it back: the number that a guest is answered is its
  own. The lock ends by itself some time after the deadline; who has lost it can't commit, whatever the reason.
* Whoever finds the lock taken asks again, at growing intervals: Redis tells nobody that a key is gone. In one process
  one at a time asks for a namespace, the others wait for their turn.
* Nothing is sent twice that could be done twice. A commit whose answer is lost is told as one that may have been done.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends import (
    Answer,
    AnswerCode,
    HostCall,
    KvDelete,
    KvDone,
    KvGet,
    KvIncrement,
    KvNumber,
    KvSet,
    KvValue,
)
from fuseboard.backends._kv import LOCKED, KvCaps, Written, incremented, weight
from fuseboard.backends._redis_names import COMMIT, FREE, MOST_REAPED, TAKE, Names, Script

LOCK_GRACE_SECONDS: Final = 3.0
"""How long a lock outlives its invocation's deadline: the commit comes after it."""

ROLLBACK_SECONDS: Final = 1.0
OPERATOR_SECONDS: Final = 10.0
_SLACK_SECONDS: Final = 0.002
_LONGEST_LOCK_SECONDS: Final = 3600.0
_FIRST_PAUSE_SECONDS: Final = 0.001
_LONGEST_PAUSE_SECONDS: Final = 0.016
_KEYS_A_PAGE: Final = 500
_VALUES_AT_ONCE: Final = 8
_ENVELOPE_BYTES: Final = 64 << 10

T = TypeVar("T")


class Send(NamedTuple):
    """An effect: send one command, and give back the reply; raises `StoreFailure`.

    Attributes:
        command: its words.
        fits: tells a reply of the right shape from rubbish.
        most_bytes: the largest reply that is read.
    """

    command: tuple[bytes | str | int, ...]
    fits: Callable[[Any], bool]
    most_bytes: int


class Pause(NamedTuple):
    """An effect: wait so long."""

    seconds: float


class Turn(NamedTuple):
    """An effect: wait for one's turn among this process's invocations that want the namespace's lock."""


Effect = Send | Pause | Turn
Flow = Generator[Effect, Any, T]


class StoreFailure(Exception):
    """What became of a command that got no good reply.

    Attributes:
        error: what the guest is answered.
        may_be_done: it was sent, and no answer came.
        is_unknown_script: Redis doesn't know the script yet.
    """

    def __init__(self, error: BackendError, *, may_be_done: bool = False, is_unknown_script: bool = False) -> None:
        self.error = error
        self.may_be_done = may_be_done
        self.is_unknown_script = is_unknown_script
        super().__init__(error.reason)


@dataclass(slots=True)
class Space:
    """A namespace, as far as this process knows it.

    Attributes:
        names: its keys.
        queue: whose turn it is; of the driver's own kind.
        used: how many bytes it had when that was last heard, or `None`.
    """

    names: Names
    queue: Any
    used: int | None = None


class Invocation:
    """The writes of one session, and the lock that it may hold."""

    __slots__ = (
        "_bytes",
        "_caps",
        "_clock",
        "_has_counted",
        "_may_hold",
        "_met_silence",
        "_space",
        "_token",
        "_writes",
    )

    def __init__(self, space: Space, caps: KvCaps, clock: Callable[[], float] = time.monotonic) -> None:
        self._space = space
        self._caps = caps
        self._clock = clock
        self._token = secrets.token_hex(16).encode()
        self._writes: dict[bytes, Written] = {}
        self._bytes = 0
        self._may_hold = False
        self._has_counted = False
        self._met_silence = False

    def answer(self, call: HostCall, deadline: float) -> Flow[Answer]:
        """Serve one call."""
        with self._noting_silence(deadline):
            return (yield from self._answer(call, deadline))

    def _answer(self, call: HostCall, deadline: float) -> Flow[Answer]:
        if isinstance(call, KvGet | KvDelete | KvIncrement):
            self._caps.check(call.key)
        match call:
            case KvGet(key=key):
                return KvValue((yield from self._value(key)))
            case KvSet(key=key, value=value, seconds=seconds):
                yield from self._write(key, Written(value, math.inf if seconds is None else self._clock() + seconds))
                return KvDone()
            case KvDelete(key=key):
                yield from self._write(key, Written(None))
                return KvDone()
            case KvIncrement(key=key, by=by):
                held = self._writes.get(key) or (yield from self.hold(key, deadline))
                return KvNumber((yield from self._incremented(key, held, by)))
            case _:
                raise TypeError(f"Redis doesn't serve {type(call).__name__}")

    def commit(self, deadline: float) -> Flow[None]:
        """Apply all writes, or none."""
        with self._noting_silence(deadline):
            yield from self._commit()

    def _commit(self) -> Flow[None]:
        if self._writes:
            try:
                reply = yield from self._until_free(lambda: self._run_commit(weighs=False))
            except StoreFailure as failure:
                raise _in_doubt(failure) if failure.may_be_done else failure from failure
            if reply[0] == b"lost":
                raise _lost()
            if reply[0] == b"full":
                raise self._caps.full()
            self._space.used = reply[1]
            self._may_hold = False
        yield from self.free()

    def free(self) -> Flow[None]:
        """Give the lock back, where it may be held; a server that was silent until the deadline isn't asked again."""
        if self._may_hold and not self._met_silence:
            yield from _run(FREE, (self._space.names.lock,), (self._token,))
            self._may_hold = False

    @contextmanager
    def _noting_silence(self, deadline: float) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._met_silence = self._clock() >= deadline - _SLACK_SECONDS
            raise

    # ── values ───────────────────────────────────────────────────────────────────────────────────

    def _value(self, key: bytes) -> Flow[bytes | None]:
        if key in self._writes:
            return self._writes[key].at(self._clock())
        value: bytes | None = yield self._read("GET", self._space.names.value(key))
        return value

    def _read(self, *command: bytes | str) -> Send:
        return Send(command, _is_value, self._caps.max_value_bytes + _ENVELOPE_BYTES)

    def _incremented(self, key: bytes, held: Written, by: int) -> Flow[int]:
        value = held.at(self._clock())
        number = incremented(value, by)
        yield from self._write(key, Written(b"%d" % number, math.inf if value is None else held.expires))
        return number

    def _write(self, key: bytes, written: Written) -> Flow[None]:
        if written.value is not None:
            self._caps.check(key, written.value)
        before, bytes_before = self._writes.get(key), self._bytes
        self._bytes += weight(key, written.value) - (0 if before is None else weight(key, before.value))
        self._writes[key] = written
        try:
            if written.value is not None:
                yield from self._check_room()
        except BaseException:
            self._bytes = bytes_before
            if before is None:
                del self._writes[key]
            else:
                self._writes[key] = before
            raise

    def _check_room(self) -> Flow[None]:
        """Have Redis weigh the writes where they might not fit; the commit decides for good."""
        used = self._space.used
        if used is not None and used + self._bytes <= self._caps.max_kv_bytes:
            return
        reply = yield from self._run_commit(weighs=True)
        if reply[0] == b"full":
            raise self._caps.full()
        self._space.used = reply[1]

    def _run_commit(self, *, weighs: bool) -> Flow[Any]:
        names, now = self._space.names, self._clock()
        arguments: list[bytes | int] = [
            self._token, int(self._has_counted), int(weighs), self._caps.max_kv_bytes, MOST_REAPED,
        ]  # fmt: skip
        for key, written in self._writes.items():
            arguments += (key, written.value or b"", _milliseconds(written, now))
        keys = (names.lock, *names.bookkeeping, *map(names.value, self._writes))
        return (yield from _run(COMMIT, keys, tuple(arguments)))

    # ── the lock ─────────────────────────────────────────────────────────────────────────────────

    def hold(self, key: bytes, deadline: float) -> Flow[Written]:
        """Take the lock, or keep it, and return what is there under it."""
        asked_at = self._clock()
        reply = yield from self._until_free(lambda: self._take(key, deadline))
        if reply[0] == b"lost":
            raise _lost()
        self._has_counted = True
        _, value, left = reply
        return Written(value, asked_at + left / 1e3 if left >= 0 else math.inf)

    def _take(self, key: bytes, deadline: float) -> Flow[Any]:
        names = self._space.names
        seconds = min(max(0.0, deadline - self._clock()) + LOCK_GRACE_SECONDS, _LONGEST_LOCK_SECONDS)
        arguments = (self._token, math.ceil(seconds * 1e3), int(self._has_counted))
        most = self._caps.max_value_bytes + _ENVELOPE_BYTES
        self._may_hold = True
        try:
            reply = yield from _run(TAKE, (names.lock, names.value(key)), arguments, most)
        except StoreFailure as failure:
            self._may_hold = self._has_counted or failure.may_be_done
            raise
        self._may_hold = reply[0] == b"held"
        return reply

    def _until_free(self, ask: Callable[[], Flow[Any]]) -> Flow[Any]:
        pause = _FIRST_PAUSE_SECONDS
        while (reply := (yield from ask()))[0] == b"locked":
            yield Turn()
            yield Pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        return reply


def _milliseconds(written: Written, now: float) -> int:
    """Return how long a write is to be kept: 0 for ever, -1 not at all."""
    left = written.expires - now
    if written.value is None or left <= 0:
        return -1
    return 0 if left == math.inf else math.ceil(left * 1e3)


def _run(
    script: Script, keys: tuple[bytes, ...], arguments: tuple[bytes | int, ...], most_bytes: int = _ENVELOPE_BYTES
) -> Flow[Any]:
    words = (len(keys), *keys, *arguments)
    try:
        return (yield Send(("EVALSHA", script.digest, *words), _is_verdict, most_bytes))
    except StoreFailure as failure:
        if not failure.is_unknown_script:
            raise
    return (yield Send(("EVAL", script.text, *words), _is_verdict, most_bytes))


def late() -> StoreFailure:
    """Return the failure of who waited for the lock until the deadline."""
    return StoreFailure(BackendTimeout(LOCKED))


def _lost() -> BackendError:
    reason = "this invocation has lost its claim on the keys that it counted in, and nothing of it was written"
    return BackendError(reason, code=AnswerCode.CONFLICT)


def _in_doubt(failure: StoreFailure) -> StoreFailure:
    kind = type(failure.error)
    return StoreFailure(kind(f"{failure.error.reason}; whether this invocation's writes last is not known"))


# ── the shapes of replies ────────────────────────────────────────────────────────────────────────

_VERDICTS: Final[dict[bytes, Callable[[list[Any]], bool]]] = {
    b"held": lambda rest: len(rest) == 2 and _is_value(rest[0]) and isinstance(rest[1], int),  # noqa: PLR2004
    b"locked": lambda rest: len(rest) == 1,
    b"fits": lambda rest: len(rest) == 1 and isinstance(rest[0], int),
    b"done": lambda rest: len(rest) == 1 and isinstance(rest[0], int),
    b"lost": lambda rest: not rest,
    b"full": lambda rest: not rest,
    b"free": lambda rest: not rest,
}


def _is_value(reply: object) -> bool:
    return reply is None or isinstance(reply, bytes)


def _is_verdict(reply: object) -> bool:
    if not isinstance(reply, list) or not reply or not isinstance(reply[0], bytes):
        return False
    return reply[0] in _VERDICTS and _VERDICTS[reply[0]](reply[1:])


def _is_page(reply: object) -> bool:
    if not isinstance(reply, list) or [type(part) for part in reply] != [bytes, list]:
        return False
    return reply[0].isdigit() and all(isinstance(key, bytes) for key in reply[1])


def _are_values(reply: object) -> bool:
    return isinstance(reply, list) and all(map(_is_value, reply))


# ── the operator's own ───────────────────────────────────────────────────────────────────────────


def items(names: Names, caps: KvCaps) -> Flow[dict[bytes, bytes]]:
    """Read all keys and values of a namespace, a page at a time."""
    found: dict[bytes, bytes] = {}
    most = _VALUES_AT_ONCE * (caps.max_value_bytes + _ENVELOPE_BYTES)
    for page in (yield from _pages(names, caps)):
        for first in range(0, len(page), _VALUES_AT_ONCE):
            some = page[first : first + _VALUES_AT_ONCE]
            values = yield Send(("MGET", *some), _are_values, most)
            pairs = zip(some, values, strict=False)
            found.update((name.removeprefix(names.values), value) for name, value in pairs if value is not None)
    return found


def clear(space: Space, caps: KvCaps, deadline: float) -> Flow[None]:
    """Remove all keys of a namespace, while no invocation of it can commit."""
    names = space.names
    yield from Invocation(space, caps).hold(b"", deadline)  # given back with all else; else it ends by itself
    for page in (yield from _pages(names, caps)):
        yield Send(("DEL", *page), _is_count, _ENVELOPE_BYTES)
    yield Send(("DEL", *names.bookkeeping, names.lock), _is_count, _ENVELOPE_BYTES)
    space.used = None


def _pages(names: Names, caps: KvCaps) -> Flow[list[list[bytes]]]:
    pages: list[list[bytes]] = []
    cursor = b"0"
    most = _ENVELOPE_BYTES + 4 * _KEYS_A_PAGE * (caps.max_key_bytes + len(names.values))
    while True:
        command = ("SCAN", cursor, "MATCH", names.pattern(), "COUNT", _KEYS_A_PAGE)
        cursor, page = yield Send(command, _is_page, most)
        if page:
            pages.append(page)
        if int(cursor) == 0:
            return pages


def _is_count(reply: object) -> bool:
    return isinstance(reply, int)
