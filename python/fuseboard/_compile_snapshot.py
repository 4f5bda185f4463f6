"""Initialises a module once before it is compiled, in a process of its own or in this one.

Rules:
* Whatever becomes of it, the module can be compiled: what ends the initialisation, hostile or not, ends nothing else.
* A process of its own may take as much time of a processor as the one that compiles, and half of the time that is left.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn

from fuseboard import _core
from fuseboard._snapshot import Snapshot, SnapshotRefusal, SnapshotState

if TYPE_CHECKING:
    from fuseboard._compile import Order

Logs = list[tuple[int, str]]

_MIB: Final = 1 << 20
_HEAD_BYTES: Final = 8
_FAILED: Final = 1
_LACKS_MEMORY: Final = 2


@dataclass(frozen=True, slots=True)
class Frozen:
    """What became of the initialisation.

    Attributes:
        snapshot: `None` where there is none.
        wasm: the module that begins where the initialisation ended, where it was taken.
        logs: what was logged meanwhile, by level, where it was taken.
    """

    snapshot: Snapshot | None
    wasm: bytes | None = None
    logs: tuple[tuple[int, str], ...] = ()


def refused(refusal: SnapshotRefusal, reason: str) -> Frozen:
    """Return what is said of an initialisation that has to run in each invocation."""
    return Frozen(Snapshot(SnapshotState.REFUSED, refusal=refusal, reason=reason))


def frozen(order: Order, wasm: bytes) -> Frozen:
    """Initialise a module in this process, under the order's budget."""
    taken = _core.snapshot(
        wasm,
        order.initialize,
        fuel=order.init_fuel,
        seconds=max(1, int(order.timeout_seconds / 2)),
        memory_bytes=min(order.memory_ceiling_bytes, order.memory_mb * _MIB // 2),
        snapshot_bytes=order.snapshot_mb * _MIB,
    )
    if taken.state == "nothing":
        return Frozen(None)
    refusal = None if taken.refusal is None else SnapshotRefusal(taken.refusal)
    snapshot = Snapshot(
        SnapshotState(taken.state), taken.fuel, taken.frozen_bytes, refusal, taken.reason, taken.code_shift
    )
    return Frozen(snapshot, taken.wasm, tuple(taken.logs))


def frozen_apart(order: Order, wasm: bytes) -> Frozen:
    """Initialise a module in a process that is forked for it from this one, which has a single thread.

    Raises:
        OSError: there is no room for another process now. That is no fact about the module, to be kept with it.
    """
    seconds = max(1.0, (signal.getitimer(signal.ITIMER_REAL)[0] or order.timeout_seconds) / 2)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(order, wasm, writing, seconds)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return _read(said)
    return _ended(order, code, seconds)


def _work(order: Order, wasm: bytes, writing: int, seconds: float) -> NoReturn:
    """Be the process: write what became of it, and end."""
    code = _FAILED
    try:
        _core.end_with_parent()
        signal.setitimer(signal.ITIMER_REAL, seconds)
        with os.fdopen(writing, "wb") as pipe:
            _write(pipe, frozen(order, wasm))
        code = 0
    except MemoryError:
        code = _LACKS_MEMORY
    finally:
        os._exit(code)


def _write(pipe: IO[bytes], found: Frozen) -> None:
    head = json.dumps([None if found.snapshot is None else asdict(found.snapshot), found.logs]).encode()
    pipe.write(len(head).to_bytes(_HEAD_BYTES, "little"))
    pipe.write(head)
    pipe.write(found.wasm or b"")


def _read(said: bytes) -> Frozen:
    end = _HEAD_BYTES + int.from_bytes(said[:_HEAD_BYTES], "little")
    snapshot, logs = json.loads(said[_HEAD_BYTES:end])
    return Frozen(snapshot_of(snapshot), said[end:] or None, tuple((level, text) for level, text in logs))


def snapshot_of(facts: dict[str, Any] | None) -> Snapshot | None:
    """Return the snapshot that JSON's facts stand for; raises `KeyError`, `ValueError` or `TypeError` for none."""
    if facts is None:
        return None
    refusal = facts["refusal"]
    state = SnapshotState(facts["state"])
    return Snapshot(**{**facts, "state": state, "refusal": None if refusal is None else SnapshotRefusal(refusal)})


def _ended(order: Order, code: int, seconds: float) -> Frozen:
    """Return what is to be said of a process that ended without a word."""
    doing = "compiling and running its initialisation"
    if code == -signal.SIGALRM:
        return refused(SnapshotRefusal.TIME, f"{doing} takes more than {seconds:.0f} s")
    if code == -signal.SIGXCPU:
        return refused(SnapshotRefusal.TIME, f"{doing} takes more than {order.cpu_seconds} s of a processor")
    if code in (_LACKS_MEMORY, -signal.SIGABRT):  # or what a Rust program does that gets no memory
        return refused(SnapshotRefusal.MEMORY, f"{doing} takes more than {order.memory_mb} MiB of memory")
    return refused(SnapshotRefusal.ENDED, f"{doing} {'failed' if code > 0 else f'was ended by signal {-code}'}")
