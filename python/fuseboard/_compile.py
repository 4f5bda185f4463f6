"""The process that compiles a module: limited before it reads a byte of it, and good for nothing else.

Rules:
* It runs by itself, without the site's packages and with nothing of Fuseboard but this file, what initialises a module
  once, the errors and the core.
* It gets an order and open files: the module, where the artifact goes, a lock.
* It sets its limits itself, before it looks at the module; the clock is also watched from outside.
* It says when it begins, and replies at the end, unless a limit ends it: by a signal that tells which.
* It ends with the process that began it, where the system can.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from fuseboard import _core
from fuseboard._compile_snapshot import Frozen, Logs, frozen, frozen_apart, refused, snapshot_of
from fuseboard._errors import ModuleRefused
from fuseboard._snapshot import Snapshot, SnapshotRefusal

End = Literal["made", "there", "refused", "memory", "failed"]

BEGUN: Final = b"begun\n"
"""What it says before it looks at the module: from there on, an end without a reply is the module's doing."""

LARGEST_ARTIFACT: Final = 256 << 20
"""In bytes. Ordinary modules take some 5 times their size (measured)."""

_MIB: Final = 1 << 20
_NICENESS: Final = 5
_MAXRSS_A_MIB: Final = _MIB if sys.platform == "darwin" else 1 << 10  # bytes there, KiB elsewhere


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be compiled, and under which limits.

    Attributes:
        memory_ceiling_bytes, is_pooled: the engine that it is for.
        cpu_seconds, memory_mb, timeout_seconds: what it may take; `memory_mb` bounds the address space.
        snapshots: whether the module is initialised once, before it is compiled.
        initialize: an export that does so beside `_initialize`.
        init_fuel, snapshot_mb: what that may take, and leave behind.
        lock: a descriptor whose lock is taken first, so that one process compiles and the others wait, or `None`.
        patience_seconds: how long it is waited for; 0 where it is only tried.
        parent: the process that began this one.
        folder, entry: a descriptor and a name in it: where there is such a file once the lock is taken, another
            process was quicker, and nothing is to be done.
    """

    memory_ceiling_bytes: int
    is_pooled: bool
    cpu_seconds: int
    memory_mb: int
    timeout_seconds: float
    snapshots: bool = False
    initialize: str | None = None
    init_fuel: int = 0
    snapshot_mb: int = 0
    lock: int | None = None
    patience_seconds: float = 0.0
    parent: int = 0
    folder: int | None = None
    entry: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """How it ended.

    Attributes:
        end: the artifact was made; is there already; the module was refused; there was not enough memory; or something
            failed that isn't the module's doing.
        problems: why it was refused, or failed.
        lacking: the limits that this platform doesn't have, by their fields in `CompileLimits`.
        cpu_seconds, peak_mb: what it took; 0 where nobody measured.
        snapshot: what became of its initialisation; `None` where there is none.
        logs: what it logged meanwhile, by level, where it was taken.
    """

    end: End
    problems: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    snapshot: Snapshot | None = None
    logs: Logs = field(default_factory=list)

    @classmethod
    def of(cls, text: bytes) -> Reply:
        """Read a reply; raises `ValueError` or `TypeError` where it is none."""
        reply = cls(**json.loads(text))
        texts = (reply.end, *reply.problems, *reply.lacking)
        if reply.end not in get_args(End) or not all(isinstance(each, str) for each in texts):
            raise ValueError(reply.end)
        return replace(
            reply,
            cpu_seconds=float(reply.cpu_seconds),
            peak_mb=float(reply.peak_mb),
            snapshot=snapshot_of(cast("dict[str, Any] | None", reply.snapshot)),
            logs=[(int(level), str(text)) for level, text in reply.logs],
        )

    def text(self, **more: object) -> str:
        """Return what `of` reads."""
        return json.dumps(asdict(self) | more)


def make(order: Order, wasm: bytes, artifact: int, initialised: Callable[[Order, bytes], Frozen] = frozen) -> Reply:
    """Compile a module into the file of a descriptor, unless it is there already."""
    try:
        if order.lock is not None:
            _take_turn(order.lock, order)
            if _is_there(order):
                return Reply("there")
        found = initialised(order, wasm) if order.snapshots else Frozen(None)
        if found.wasm is not None:
            try:
                _write(_compiled(order, found.wasm), artifact)
                return Reply("made", snapshot=found.snapshot, logs=list(found.logs))
            except ModuleRefused as error:
                found = refused(SnapshotRefusal.NOT_ACCEPTED, f"a snapshot of it {'; '.join(error.args[0])}")
        _write(_compiled(order, wasm), artifact)
    except ModuleRefused as error:
        return Reply("refused", problems=error.args[0])
    except MemoryError:
        return Reply("memory")
    except (OSError, RuntimeError) as error:  # a full disk, a platform without a compiler
        return Reply("failed", problems=[str(error)])
    return Reply("made", snapshot=found.snapshot)


def _compiled(order: Order, wasm: bytes) -> bytes:
    compiled = _core.compile(wasm, order.memory_ceiling_bytes, order.is_pooled)
    if len(compiled) > LARGEST_ARTIFACT:
        raise ModuleRefused([f"compiles to {len(compiled):,} bytes; the most is {LARGEST_ARTIFACT:,}"])
    return compiled


def _write(compiled: bytes, artifact: int) -> None:
    with open(artifact, "wb", closefd=False) as file:
        file.write(compiled)


def _take_turn(lock: int, order: Order) -> None:
    """Wait until nobody else compiles the same, but not for long: who hangs must not keep others from compiling."""
    with suppress(OSError):  # it was too long, or there are no locks here
        if order.patience_seconds:
            with _alarm_in(order.patience_seconds, order.timeout_seconds):
                fcntl.flock(lock, fcntl.LOCK_EX)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _alarm_in(seconds: float, timeout_seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` after some seconds; then the clock goes on that ends this process."""

    def ring(*_: object) -> None:
        raise TimeoutError

    began = time.monotonic()
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds - (time.monotonic() - began))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _is_there(order: Order) -> bool:
    try:
        os.stat(order.entry, dir_fd=order.folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def main(order_text: str, artifact: str) -> None:
    """Compile the module on standard input into a descriptor, and write the reply to standard output."""
    order = Order(**json.loads(order_text))
    lacking = _limit(order)
    os.write(sys.stdout.fileno(), BEGUN)
    try:
        reply = make(order, sys.stdin.buffer.read(), int(artifact), frozen_apart)
    except MemoryError:
        reply = Reply("memory")
    sys.stdout.write(reply.text(lacking=lacking, **_used()))


def _limit(order: Order) -> list[str]:
    """Set the limits and return which ones this platform doesn't have."""
    _core.end_with_parent()
    if os.getppid() != order.parent:  # it ended before that
        sys.exit(1)
    for each in (signal.SIGALRM, signal.SIGXCPU, signal.SIGCHLD):  # whoever began this process may ignore or block them
        signal.signal(each, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.setitimer(signal.ITIMER_REAL, order.timeout_seconds)
    os.nice(_NICENESS)  # after the requests that this machine is there for
    _set(resource.RLIMIT_CORE, 0, 0)
    cpu = _set(resource.RLIMIT_CPU, order.cpu_seconds, order.cpu_seconds + 1)
    memory = _set(resource.RLIMIT_AS, order.memory_mb * _MIB, order.memory_mb * _MIB)
    return [*(() if cpu else ("cpu_seconds",)), *(() if memory else ("memory_mb",))]


def _set(kind: int, soft: int, hard: int) -> bool:
    """Set a limit, below the one that there is, and return whether it holds."""
    most = resource.getrlimit(kind)[1]
    if most != resource.RLIM_INFINITY:
        hard = min(hard, most)
        soft = max(1, min(soft, hard - 1))  # the signal that comes at the soft one tells which limit it is
    try:
        resource.setrlimit(kind, (soft, hard))
    except (OSError, ValueError):  # macOS has no limit of address space
        return False
    return resource.getrlimit(kind) == (soft, hard)


def _used() -> dict[str, Any]:
    used, before = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime + before.ru_utime + before.ru_stime
    return {"cpu_seconds": seconds, "peak_mb": max(_peak_mb(used.ru_maxrss), before.ru_maxrss / _MAXRSS_A_MIB)}


def _peak_mb(resident: int) -> float:
    try:
        with Path("/proc/self/status").open() as status:  # `resident` counts what the process that began this one had
            return next(int(line.split()[1]) / (1 << 10) for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resident / _MAXRSS_A_MIB
