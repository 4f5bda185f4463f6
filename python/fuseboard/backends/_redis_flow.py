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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from fuseboard._errors import BackendError
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
from fuseboard.backends._database import too_large
from fuseboard.backends._kv import KvCaps, Written, incremented, weight
from fuseboard.backends._redis_effects import (
    ENVELOPE_BYTES,
    Flow,
    Pause,
    Send,
    Space,
    StoreFailure,
    Turn,
    is_value,
    run,
)
from fuseboard.backends._redis_names import COMMIT, FREE, MOST_REAPED, TAKE

LOCK_GRACE_SECONDS: Final = 3.0
"""How long a lock outlives its invocation's deadline: the commit comes after it."""

ROLLBACK_SECONDS: Final = 1.0

MOST_WRITTEN: Final = 10_000
"""How many keys one invocation may write: Redis serves nobody else while it applies them."""

_SLACK_SECONDS: Final = 0.002
_LONGEST_LOCK_SECONDS: Final = 3600.0
_FIRST_PAUSE_SECONDS: Final = 0.001
_LONGEST_PAUSE_SECONDS: Final = 0.016


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
                reply, _ = yield from self._until_free(lambda: self._run_commit(weighs=False))
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
        """Give the lock back, where it may be held; a server that was silent until the deadline isn't asked again.

        A question that was broken off may be read after this one, which comes on another connection: what wasn't there
        the first time may be there the second. Redis answers only after it has done all that had come before.
        """
        if self._may_hold and not self._met_silence:
            _, was_held = yield from self._run_free()
            if not was_held and not self._has_counted:
                yield from self._run_free()
            self._may_hold = False

    def _run_free(self) -> Flow[Any]:
        return run(FREE, (self._space.names.lock,), (self._token,), {b"free"})

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
        return Send(command, is_value, self._caps.max_value_bytes + ENVELOPE_BYTES)

    def _incremented(self, key: bytes, held: Written, by: int) -> Flow[int]:
        value = held.at(self._clock())
        number = incremented(value, by)
        yield from self._write(key, Written(b"%d" % number, math.inf if value is None else held.expires))
        return number

    def _write(self, key: bytes, written: Written) -> Flow[None]:
        if written.value is not None:
            self._caps.check(key, written.value)
        before, bytes_before = self._writes.get(key), self._bytes
        if before is None and len(self._writes) >= MOST_WRITTEN:
            raise too_large(f"an invocation may write {MOST_WRITTEN:,} keys, and has")
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
        verdicts = {b"fits", b"full"} if weighs else {b"done", b"full", b"locked", b"lost"}
        return (yield from run(COMMIT, keys, tuple(arguments), verdicts))

    # ── the lock ─────────────────────────────────────────────────────────────────────────────────

    def hold(self, key: bytes, deadline: float) -> Flow[Written]:
        """Take the lock, or keep it, and return what is there under it."""
        reply, asked_at = yield from self._until_free(lambda: self._take(key, deadline))
        if reply[0] == b"lost":
            raise _lost()
        self._has_counted = True
        _, value, left = reply
        return Written(value, asked_at + left / 1e3 if left >= 0 else math.inf)

    def _take(self, key: bytes, deadline: float) -> Flow[Any]:
        names = self._space.names
        seconds = min(max(0.0, deadline - self._clock()) + LOCK_GRACE_SECONDS, _LONGEST_LOCK_SECONDS)
        arguments = (self._token, math.ceil(seconds * 1e3), int(self._has_counted))
        most = self._caps.max_value_bytes + ENVELOPE_BYTES
        self._may_hold = True
        try:
            reply = yield from run(TAKE, (names.lock, names.value(key)), arguments, {b"held", b"locked", b"lost"}, most)
        except StoreFailure as failure:
            self._may_hold = self._has_counted or failure.may_be_done
            raise
        self._may_hold = reply[0] == b"held"
        return reply

    def _until_free(self, ask: Callable[[], Flow[Any]]) -> Flow[tuple[Any, float]]:
        """Ask until nobody else has the lock, and return the reply and when it was asked for."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            asked_at = self._clock()
            reply = yield from ask()
            if reply[0] != b"locked":
                return reply, asked_at
            yield Turn()
            yield Pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _milliseconds(written: Written, now: float) -> int:
    """Return how long a write is to be kept: 0 for ever, -1 not at all."""
    left = written.expires - now
    if written.value is None or left <= 0:
        return -1
    return 0 if left == math.inf else math.ceil(left * 1e3)


def _lost() -> BackendError:
    reason = "this invocation has lost its claim on the keys that it counted in, and nothing of it was written"
    return BackendError(reason, code=AnswerCode.CONFLICT)


def _in_doubt(failure: StoreFailure) -> StoreFailure:
    kind = type(failure.error)
    return StoreFailure(kind(f"{failure.error.reason}; whether this invocation's writes last is not known"))
