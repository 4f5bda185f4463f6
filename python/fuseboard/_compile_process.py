"""The process that compiles, from outside: begun, watched, ended, and its end put into words.

Rules:
* Whatever ends the wait (its end, the clock, Ctrl-C), the process is gone afterwards; where it had to be ended, with
  all that it began.
* It speaks through files that have no name, not through pipes: a process that is forked from this one meanwhile would
  hold a pipe open, and its end would not be seen.
* Its end is looked at before its words. Once it has begun to look at the module, an end without a reply is the module's
  doing, whatever is known of it: some applications collect all of their children.
* Of this process's environment it gets where programs and libraries are found, and no more.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Final

from fuseboard._arguments import check_whole
from fuseboard._compile import BEGUN, Order, Reply
from fuseboard._errors import ModuleRefused, UsageError
from fuseboard._text import printable

LARGEST_SNAPSHOT_MB: Final = 16
"""A module may have no more data than that."""

_PROGRESS_SECONDS: Final = 2.0
_SHOWN_CHARACTERS: Final = 500
_FIRST_DESCRIPTOR: Final = 3
_PASSED_VARIABLES: Final = frozenset({"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH"})
"""Some interpreters are found, and find their own library, by these."""
_ADVICE: Final = (
    "pass python= of an interpreter that can compile modules, or compile='inline' to compile in this process"
)
_BOOT: Final = """
import sys, types
package = types.ModuleType("fuseboard")
package.__path__ = [sys.argv[1]]
sys.modules["fuseboard"] = package
from fuseboard._compile import main
main(*sys.argv[2:])
"""
"""Begins `_compile.py` alone: the whole package takes three times as long, and needs the site's packages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileLimits:
    """What compiling one module, and initialising it once, may take in a process of its own. More fails the load.

    Attributes:
        cpu_seconds: time of a processor. Programs took 0.5 to 2 s a MB, a Go program of 18 MB 33 s (measured).
        memory_mb: address space in MiB, of which the process itself takes some 50.
        timeout_seconds: wall clock, up to half of it to wait for another process that compiles the same module.
        init_fuel: fuel that its initialisation may take to run once for all invocations. More fails no load: it runs in
            each of them then.
        snapshot_mb: MiB of memory, without zeros, that its initialisation may leave behind for all of them; likewise.

    Raises:
        UsageError: a limit isn't a whole number within its range.
    """

    cpu_seconds: int = 60
    memory_mb: int = 2_048
    timeout_seconds: int = 120
    init_fuel: int = 1_000_000_000
    snapshot_mb: int = LARGEST_SNAPSHOT_MB

    def __post_init__(self) -> None:
        check_whole("cpu_seconds", self.cpu_seconds, 86_400)
        check_whole("memory_mb", self.memory_mb, 1 << 20, least=128)
        check_whole("timeout_seconds", self.timeout_seconds, 86_400)
        check_whole("init_fuel", self.init_fuel, 10**15)
        check_whole("snapshot_mb", self.snapshot_mb, LARGEST_SNAPSHOT_MB)


def compile_in_process(
    order: Order,
    wasm: bytes,
    artifact: IO[bytes],
    *,
    python: str | None,
    open_file: Callable[[str], IO[bytes]],
    told: Callable[[float], object],
) -> Reply:
    """Compile a module into a file, with an interpreter (`None` for this one's), and tell every 2 s how long it takes.

    Raises:
        ModuleRefused: a limit ended it, or the compiler crashed.
        UsageError: the interpreter can't be run, or has no use of Fuseboard.
    """
    with ExitStack() as stack:
        module, reply, errors = (stack.enter_context(open_file(each)) for each in ("module", "reply", "errors"))
        with open(module.fileno(), "wb", closefd=False) as file:
            file.write(wasm)
        module.seek(0)
        process = _begun(order, python, artifact, (module, reply, errors))
        has_ended = False
        try:
            has_ended = _watched(process, order.timeout_seconds, told)
        finally:
            if not has_ended:
                _kill(process)
            process.wait()
        said, complained = content(reply), content(errors)
    has_begun = said.startswith(BEGUN)
    if has_begun and has_ended and process.returncode == 0:
        with suppress(KeyError, TypeError, ValueError):
            return Reply.of(said.removeprefix(BEGUN))
    if has_begun or not has_ended:
        raise _ended(order, process.returncode, has_ended=has_ended)
    raise _unable(complained or said)


def anonymous_file(name: str) -> IO[bytes]:
    """Return an open file that has no name and goes with its last descriptor."""
    try:
        return os.fdopen(os.memfd_create(f"fuseboard-{name}"), "w+b", buffering=0)
    except (AttributeError, OSError):  # not Linux, or a sandbox
        return tempfile.TemporaryFile(buffering=0)


def content(file: IO[bytes]) -> bytes:
    """Return all that is in a file."""
    file.seek(0)
    return file.read()


def _begun(
    order: Order, python: str | None, artifact: IO[bytes], streams: tuple[IO[bytes], IO[bytes], IO[bytes]]
) -> subprocess.Popen[bytes]:
    interpreter = python or sys.executable
    if not interpreter:
        raise UsageError(f"this interpreter doesn't know its own path; {_ADVICE}")
    module, reply, errors = streams
    with ExitStack() as stack:
        lock, folder, output = (_passed(stack, each) for each in (order.lock, order.folder, artifact.fileno()))
        words = json.dumps(asdict(replace(order, lock=lock, folder=folder, parent=os.getpid())))
        argv = [interpreter, "-I", "-S", "-c", _BOOT, str(Path(__file__).parent), words, str(output)]
        try:
            return subprocess.Popen(  # noqa: S603  the operator's interpreter and our own words
                argv,
                stdin=module,
                stdout=reply,
                stderr=errors,
                pass_fds=[each for each in (lock, folder, output) if each is not None],
                env={name: value for name, value in os.environ.items() if name in _PASSED_VARIABLES},
                process_group=0,  # not a session of its own: the kernel would give that as much time as all others have
            )
        except (OSError, ValueError) as error:
            raise UsageError(f"the interpreter {interpreter!r} can't be run: {error}; {_ADVICE}") from None


def _passed(stack: ExitStack, descriptor: int | None) -> int | None:
    """Return a descriptor for the same that is none of a process's streams: those are free where an application closed
    its own.
    """
    if descriptor is None:
        return None
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
    stack.callback(os.close, copy)
    return copy


def _watched(process: subprocess.Popen[bytes], seconds: float, told: Callable[[float], object]) -> bool:
    """Wait for the end and return whether it came in time."""
    began = time.monotonic()
    with _ending(process) as has_ended:
        while (passed := time.monotonic() - began) < seconds:
            if has_ended(min(_PROGRESS_SECONDS, seconds - passed)):
                return True
            told(time.monotonic() - began)
    return False


@contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[Callable[[float], bool]]:
    """Yield what waits for the end for some seconds, and returns whether it came."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:  # the application has collected it
        yield lambda _: True
    except (AttributeError, OSError):  # neither Linux nor new enough
        yield lambda seconds: _ends_within(process, seconds)
    else:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        try:
            yield lambda seconds: bool(poll.poll(seconds * 1e3))
        finally:
            os.close(descriptor)


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill it and what it began: its group is its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _ended(order: Order, code: int, *, has_ended: bool) -> ModuleRefused:
    """Return what is to be said of a process that ended without a reply, but had begun."""
    if not has_ended or code == -signal.SIGALRM:
        return _over("timeout_seconds", f"{order.timeout_seconds} s")
    if code == -signal.SIGXCPU:
        return _over("cpu_seconds", f"{order.cpu_seconds} s of a processor")
    if code == -signal.SIGABRT:  # what a Rust program does that gets no memory
        return out_of_memory(order)
    if code < 0:
        return ModuleRefused([f"the compiler was ended by signal {-code}{_named(-code)}"])
    return ModuleRefused(["the compiler ended without a reply; compile_limits has what it may take"])


def _named(number: int) -> str:
    return f" ({signal.Signals(number).name})" if number in set(signal.Signals) else ""


def _unable(words: bytes) -> UsageError:
    """Return what is to be said where the process could not begin; the last line of its words is the cause."""
    line = printable(words.decode(errors="replace").strip().rpartition("\n")[2], _SHOWN_CHARACTERS)
    return UsageError(f"the process that compiles failed: {line or 'it said nothing'}; {_ADVICE}")


def _over(field: str, most: str) -> ModuleRefused:
    return ModuleRefused(
        [f"compiling takes more than {most}, the most that compile_limits.{field} allows; it was ended"]
    )


def out_of_memory(order: Order) -> ModuleRefused:
    """Return what is said where there was not enough memory."""
    return _over("memory_mb", f"{order.memory_mb} MiB of memory")
