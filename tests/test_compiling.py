"""Compiling: in which process, under which limits, how it ends, and that a module is compiled once."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import fuseboard as fb
from conftest import ECHO, SILENT, TEXT, manifest, writes
from fuseboard import _compile, _compile_process, _compiler, _core
from fuseboard._artifacts import ArtifactCache, Artifacts, Facts
from fuseboard._compile_process import anonymous_file
from fuseboard._private_folder import SECRET_NAME
from hostile.binary import I32
from hostile.costly import CALL_RUN, functions, ifs, padded
from test_loading import binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def heavy(ifs_: int) -> bytes:
    """Return a module that passes the scan; 9,999 ifs take the compiler over 10 s, and half of them a quarter of it."""
    return functions(ifs(ifs_, 500, 8), (500, I32))


def script(path: Path, body: str) -> Path:
    """Write what stands in for an interpreter."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    """Return a cache of the test's own."""
    return ArtifactCache(folder=tmp_path / "cache")


def entries(cache: ArtifactCache) -> list[str]:
    return sorted(each.name for each in cache.path().glob("*.artifact"))


def load_two(host: fb.Host) -> None:
    """Load a module under two slugs, and see that both work."""
    for slug in ("a", "b"):
        host.load_bytes(ECHO, manifest(slug))
    assert host.apply_filter("text", "x") == "x"


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def refuse_to_compile(*_: object) -> bytes:
    raise AssertionError("this process was to compile")


# ── where ────────────────────────────────────────────────────────────────────────────────────────


def test_plugins_are_compiled_by_another_process(
    make_host: Callable[..., fb.Host], cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default this process compiles nothing, and the plugin works."""
    monkeypatch.setattr(_core, "compile", refuse_to_compile)
    host = make_host(cache=cache)
    host.load_bytes(ECHO, manifest())
    assert host.apply_filter("text", "x") == "x"


def test_inline_starts_no_process(
    make_host: Callable[..., fb.Host], cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`compile="inline"` compiles here, and keeps what it compiled as well."""
    monkeypatch.setattr(subprocess, "Popen", refuse_to_compile)
    host = make_host(cache=cache, compile="inline")
    host.load_bytes(ECHO, manifest())
    assert host.apply_filter("text", "x") == "x"
    assert len(entries(cache)) == 1


def test_a_module_that_compiles_to_too_much(
    make_host: Callable[..., fb.Host], cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An artifact over the bound is refused, and not kept."""
    monkeypatch.setattr(_compile, "LARGEST_ARTIFACT", 1_000)
    with pytest.raises(fb.ModuleError, match=r"compiles to [\d,]+ bytes; the most is 1,000"):
        make_host(cache=cache, compile="inline").load_bytes(ECHO, manifest())
    assert entries(cache) == []


@pytest.mark.parametrize("where", ["subprocess", "inline"])
def test_what_the_compiler_refuses(make_host: Callable[..., fb.Host], cache: ArtifactCache, where: str) -> None:
    """Invalid code is a `ModuleError` in the compiler's words, wherever it runs, and nothing is kept."""
    with pytest.raises(
        fb.ModuleError, match=r"does not compile: .*type mismatch: expected a type but nothing on stack"
    ):
        make_host(cache=cache, compile=where).load_bytes(binary(b"\x1a"), manifest())
    assert entries(cache) == []


def test_the_process_is_isolated(
    make_host: Callable[..., fb.Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the environment's path nor the current folder can put other code into it."""
    for name in ("json.py", "sitecustomize.py", "fuseboard.py", "resource.py"):
        (tmp_path / name).write_text("raise SystemExit('not ours')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert make_host(cache=None).load_bytes(ECHO, manifest()).slug == "guest"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"compile": "here"}, "^compile='here' must be 'subprocess' or 'inline'"),
        ({"compile_limits": {}}, "^compile_limits={} must be CompileLimits"),
        ({"cache": "folder"}, "^cache='folder' must be ArtifactCache"),
        ({"python": 3}, "^python=3 must be "),
    ],
)
def test_arguments_that_cannot_be_used(make_host: Callable[..., fb.Host], said: Any, words: str) -> None:
    """Each is a `UsageError` when the host is made."""
    with pytest.raises(fb.UsageError, match=words):
        make_host(**said)


@pytest.mark.parametrize(
    "said",
    [{"cpu_seconds": 0}, {"memory_mb": 127}, {"timeout_seconds": 1.5}, {"cpu_seconds": True}, {"memory_mb": None}],
)
def test_limits_that_cannot_be_used(said: Any) -> None:
    """Each is a `UsageError` that names the field, its value, and the range."""
    [(name, value)] = said.items()
    with pytest.raises(fb.UsageError, match=rf"^{name}={value!r} must be a whole number from \d+ to "):
        fb.CompileLimits(**said)


# ── limits ───────────────────────────────────────────────────────────────────────────────────────


def load_refused(host: fb.Host, wasm: bytes, words: str) -> None:
    """Load what is refused, beside a plugin that goes on."""
    host.load_bytes(writes('"works"'), manifest("good"))
    with pytest.raises(fb.ModuleError, match=rf"^bad: {words}"):
        host.load_bytes(wasm, manifest("bad"))
    assert list(host.plugins) == ["good"]
    assert host.apply_filter("text", "x") == "works"


def test_too_much_processor_time(make_host: Callable[..., fb.Host]) -> None:
    """A module that the scan lets through ends at the limit of processor time, named."""
    host = make_host(compile_limits=fb.CompileLimits(cpu_seconds=1))
    words = (
        r"compiling takes more than 1 s of a processor, the most that compile_limits\.cpu_seconds allows; it was ended"
    )
    load_refused(host, heavy(9_999), words)


def test_too_much_memory(make_host: Callable[..., fb.Host]) -> None:
    """One that takes more memory ends at that limit, named."""
    host = make_host(compile_limits=fb.CompileLimits(memory_mb=128))
    calls = functions(padded(CALL_RUN, 300_000, 1))
    load_refused(host, calls, r"compiling takes more than 128 MiB of memory, .* compile_limits\.memory_mb allows")


def test_too_much_time(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """One that doesn't end is ended by the clock, whatever it does, and with it all that it began."""
    reply = """echo begun; echo '{"end": "there"}'"""
    sleeper = script(
        tmp_path / "python", f"{reply}; echo $$ > {tmp_path}/pids; sleep 100 & echo $! >> {tmp_path}/pids; wait"
    )
    host = make_host(compile_limits=fb.CompileLimits(timeout_seconds=3), python=sleeper, cache=None)
    began = time.monotonic()
    with pytest.raises(fb.ModuleError, match=r"compiling takes more than 3 s, the most that compile_limits\.timeout_"):
        host.load_bytes(SILENT, manifest("bad"))
    assert time.monotonic() - began < 10
    assert gone(tmp_path)


def gone(folder: Path) -> bool:
    """Return whether the processes in the folder's list end at once."""
    pids = (folder / "pids").read_text().split()
    assert len(pids) == 2
    wait_until(lambda: not any(map(is_running, pids)))
    return True


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that other threads and processes bring about."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_limits_hold_where_signals_are_blocked(make_host: Callable[..., fb.Host]) -> None:
    """A thread that blocks or ignores signals hands that down to its children; the limits hold all the same."""
    signals = {signal.SIGXCPU, signal.SIGALRM}
    was = [signal.signal(each, signal.SIG_IGN) for each in signals]
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        host = make_host(compile_limits=fb.CompileLimits(cpu_seconds=1))
        load_refused(host, heavy(9_998), "compiling takes more than 1 s of a processor")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        for each, handler in zip(signals, was, strict=True):
            signal.signal(each, handler)


def test_a_limit_of_the_process_itself_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the whole process may have less than the limit, the smaller one is set."""

    class Resource:
        RLIM_INFINITY = -1
        had = (50, 100)

        def getrlimit(self, _: int) -> tuple[int, int]:
            return self.had

        def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
            assert limits[1] <= self.had[1]
            self.had = limits

    resource = Resource()
    monkeypatch.setattr(_compile, "resource", resource)
    assert _compile._set(0, 70, 200)
    assert resource.had == (70, 100)
    assert _compile._set(0, 200, 201)
    assert resource.had == (99, 100)


def test_a_platform_without_a_limit_says_so(
    make_host: Callable[..., fb.Host], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it lacks is one warning for each host."""
    lacking = f"""exec {sys.executable} -I -S -c '
import resource, sys
def setrlimit(*_): raise ValueError("current limit exceeds maximum limit")
resource.setrlimit = setrlimit
boot = sys.argv[4]
sys.argv = ["-c", *sys.argv[5:]]
exec(boot)
' "$@" """
    host = make_host(python=script(tmp_path / "python", lacking), cache=None)
    for slug in ("a", "b"):
        host.load_bytes(ECHO, manifest(slug))
    assert warnings_in(caplog) == ["this platform has no limits for cpu_seconds and memory_mb of the compiler"]


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("kill -SEGV $$", r"the compiler was ended by signal 11 \(SIGSEGV\)"),
        ("kill -KILL $$", r"the compiler was ended by signal 9 \(SIGKILL\)"),
        ("kill -35 $$", r"the compiler was ended by signal 35$"),
        ("kill -ABRT $$", r"compiling takes more than 2048 MiB of memory"),
        ("kill -ALRM $$", r"compiling takes more than 120 s,"),
        ("exit 1", "the compiler ended without a reply; compile_limits has what it may take"),
        ("echo rubbish", "the compiler ended without a reply"),
        ("""echo '{"end": "sold"}'""", "the compiler ended without a reply"),
        ("""echo '{"end": "refused", "problems": 5}'""", "the compiler ended without a reply"),
        ("""echo '{"end": "there"}'; kill -SEGV $$""", "ended by signal 11"),
    ],
)
def test_a_compiler_that_crashes(make_host: Callable[..., fb.Host], tmp_path: Path, body: str, words: str) -> None:
    """Whatever ends the process, the load fails with a sentence."""
    with pytest.raises(fb.ModuleError, match=words):
        make_host(python=script(tmp_path / "python", f"echo begun; {body}"), cache=None).load_bytes(SILENT, manifest())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("kill -SEGV $$", "the process that compiles failed: it said nothing; pass python= "),
        ('echo begun; echo \'{"end": "made"}\'', "modules can't be compiled and loaded here: failed to parse"),
        ('echo begun; echo \'{"end": "failed", "problems": ["No space left"]}\'', "loaded here: No space left"),
        ("exit 0", "the process that compiles failed: it said nothing; pass python= "),
        ("echo; echo 'no module _core' >&2; exit 1", "the process that compiles failed: no module _core; pass python="),
        ("echo hello", "the process that compiles failed: hello; pass python= "),
        ("echo '{}'", "the process that compiles failed: {}; pass python= "),
        (r"printf '\033[31mred' >&2", r"the process that compiles failed: \\x1b\[31mred; "),
    ],
)
def test_an_interpreter_that_is_none(make_host: Callable[..., fb.Host], tmp_path: Path, body: str, words: str) -> None:
    """What `python=` names must be able to compile: a `UsageError` has its last words, and what to do."""
    with pytest.raises(fb.UsageError, match=words):
        make_host(python=script(tmp_path / "python", body), cache=None).load_bytes(SILENT, manifest())


def test_an_interpreter_that_is_not_there(
    make_host: Callable[..., fb.Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where it can't be begun, and where there is none."""
    with pytest.raises(fb.UsageError, match=r"the interpreter '.*/none' can't be run: .*No such file .*; pass python="):
        make_host(python=tmp_path / "none", cache=None).load_bytes(SILENT, manifest())
    with pytest.raises(fb.UsageError, match=r"the interpreter 'a\\x00b' can't be run: .*null byte; pass python="):
        make_host(python="a\0b", cache=None).load_bytes(SILENT, manifest())
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(fb.UsageError, match="this interpreter doesn't know its own path; pass python= "):
        make_host(cache=None).load_bytes(SILENT, manifest())


def test_an_application_that_ignores_its_children(make_host: Callable[..., fb.Host]) -> None:
    """Where nobody can wait for a child, its reply is read all the same, and its silence is the module's doing."""
    was = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        host = make_host(cache=None, compile_limits=fb.CompileLimits(cpu_seconds=1))
        load_refused(host, heavy(9_999), "the compiler ended without a reply; compile_limits has what it may take")
    finally:
        signal.signal(signal.SIGCHLD, was)


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_ends_the_process(tmp_path: Path) -> None:
    """A load that is interrupted leaves no process behind, and the host serves the next one."""
    sleeper = script(tmp_path / "python", f"echo $$ > {tmp_path}/pids; sleep 100 & echo $! >> {tmp_path}/pids; wait")
    with fb.Host(hooks=[TEXT], python=sleeper, cache=None, max_concurrent_invocations=1) as host:
        interrupt = threading.Thread(target=interrupt_when_it_runs, args=(tmp_path,))
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            host.load_bytes(SILENT, manifest())
        interrupt.join()
        assert dict(host.plugins) == {}
    assert gone(tmp_path)


def interrupt_when_it_runs(folder: Path) -> None:
    wait_until(lambda: (folder / "pids").exists() and len((folder / "pids").read_text().split()) == 2)
    os.kill(os.getpid(), signal.SIGINT)


def test_an_application_that_closed_its_streams(cache: ArtifactCache, tmp_path: Path) -> None:
    """A daemon's descriptors 0 to 2 are free, and may become our files: none of them is taken for a stream."""
    code = f"""
import os
import fuseboard as fb
for stream in range(3):
    os.close(stream)
said = []
for cache in (fb.ArtifactCache(folder={str(cache.path())!r}), None):
    with fb.Host(hooks=[fb.Filter("text", str)], cache=cache, max_concurrent_invocations=1) as host:
        host.load_bytes({ECHO!r}, {manifest()!r})
        said.append(host.apply_filter("text", "x"))
open({str(tmp_path / "said")!r}, "w").write("".join(said))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert (tmp_path / "said").read_text() == "xx"
    assert len(entries(cache)) == 1


@pytest.mark.parametrize("has_descriptors", [True, False])
def test_a_system_without_process_descriptors(
    make_host: Callable[..., fb.Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_descriptors: bool
) -> None:
    """Where the system has none, the end is waited for in another way: one that comes, and one that doesn't."""
    if not has_descriptors:
        monkeypatch.delattr(os, "pidfd_open")
        monkeypatch.delattr(os, "memfd_create")
    assert make_host(cache=None).load_bytes(ECHO, manifest()).slug == "guest"
    sleeper, limits = script(tmp_path / "python", "exec sleep 100"), fb.CompileLimits(timeout_seconds=1)
    with pytest.raises(fb.ModuleError, match="compiling takes more than 1 s"):
        make_host(cache=None, python=sleeper, compile_limits=limits).load_bytes(SILENT, manifest())


def test_what_the_operator_is_told(
    make_host: Callable[..., fb.Host],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A load says that it compiles, that it still does, and what it took."""
    caplog.set_level(logging.INFO, "fuseboard")
    monkeypatch.setattr(_compile_process, "_PROGRESS_SECONDS", 0.05)
    slow = script(tmp_path / "python", f'sleep 0.3; exec {sys.executable} "$@"')
    make_host(python=slow, cache=None).load_bytes(ECHO, manifest("slow"))
    first, *still, last = [record.message for record in caplog.records if "plugin slow" in record.message]
    assert first == f"plugin slow: compiling {len(ECHO)} bytes"
    assert still
    assert all(line.startswith("plugin slow: still compiling after ") for line in still)
    assert last.startswith("plugin slow: compiled, in 0.")
    peak = float(last.rpartition(" in ")[2].split()[3])
    assert 10 < peak < 200, last


# ── the cache ────────────────────────────────────────────────────────────────────────────────────


def test_a_module_is_compiled_once(
    make_host: Callable[..., fb.Host], cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under another slug, in another host, the same module comes out of the cache."""
    make_host(cache=cache).load_bytes(ECHO, manifest("a"))
    monkeypatch.setattr(_compiler, "compile_in_process", refuse_to_compile)
    monkeypatch.setattr(_core, "scan", refuse_to_compile)
    host = make_host(cache=cache)
    host.load_bytes(ECHO, manifest("b"))
    assert host.apply_filter("text", "x") == "x"
    assert len(entries(cache)) == 1
    with Artifacts(cache) as artifacts:
        [kept] = artifacts.kept()
    assert kept.facts is not None
    assert (kept.facts.plugin, kept.facts.wasm_bytes) == ("a", len(ECHO))
    assert kept.facts.peak_mb > 10


def test_what_an_artifact_depends_on(
    make_host: Callable[..., fb.Host], cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another module, another memory ceiling, other bounds, another version: each is compiled by itself."""
    make_host(cache=cache).load_bytes(ECHO, manifest("a"))
    make_host(cache=cache).load_bytes(SILENT, manifest("b"))
    make_host(cache=cache, ceilings=fb.Limits(memory_limit_mb=5)).load_bytes(ECHO, manifest("c"))
    assert len(entries(cache)) == 3
    with monkeypatch.context() as patch:
        patch.setattr(_core, "BOUNDS", _core.BOUNDS[1:])
        make_host(cache=cache).load_bytes(ECHO, manifest("d"))
    assert len(entries(cache)) == 4
    with monkeypatch.context() as patch:
        patch.setattr(_core, "VERSION", "another")
        make_host(cache=cache).load_bytes(ECHO, manifest("e"))
    assert len(entries(cache)) == 5


def test_an_entry_that_does_not_fit(make_host: Callable[..., fb.Host], cache: ArtifactCache) -> None:
    """What has a right seal and is no artifact of this engine is compiled anew."""
    host = make_host(cache=cache)
    host.load_bytes(ECHO, manifest("a"))
    [name] = entries(cache)
    with Artifacts(cache) as artifacts, anonymous_file("test") as file:
        file.write(b"\x7fELF" + b"\0" * 1_000)
        artifacts.store(name.partition(".")[0], file, Facts("a", "", 0, "", 0, 0))
    assert (cache.path() / name).stat().st_size < 2_000
    host.load_bytes(ECHO, manifest("b"))
    assert (cache.path() / name).stat().st_size > 2_000
    assert host.apply_filter("text", "x") == "x"


def test_an_entry_that_goes_is_missed_by_nobody(make_host: Callable[..., fb.Host], cache: ArtifactCache) -> None:
    """A plugin that is loaded goes on when the cache is cleared."""
    host = make_host(cache=cache)
    host.load_bytes(ECHO, manifest("a"))
    with Artifacts(cache) as artifacts:
        assert artifacts.clear()[0] == 1
    assert [host.apply_filter("text", "x") for _ in range(3)] == ["x"] * 3


def test_a_cache_that_cannot_be_used(
    make_host: Callable[..., fb.Host], cache: ArtifactCache, caplog: pytest.LogCaptureFixture
) -> None:
    """Plugins are loaded without it, one warning says why, and nothing is put there."""
    cache.path().mkdir()
    cache.path().chmod(0o777)
    host = make_host(cache=cache)
    load_two(host)
    [warning] = warnings_in(caplog)
    assert warning.startswith(f"compiled modules aren't kept: {cache.path()} is open to other users (mode 0777)")
    assert list(cache.path().iterdir()) == []


@pytest.mark.parametrize("what", ["lock", "store"])
def test_a_cache_that_is_full(
    make_host: Callable[..., fb.Host],
    cache: ArtifactCache,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """Where nothing can be written, plugins are loaded all the same, and one warning says so."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Artifacts, what, full)
    host = make_host(cache=cache)
    load_two(host)
    [warning] = warnings_in(caplog)
    assert warning.endswith(f"{cache.path()} can't be written: [Errno 28] No space left on device")


def test_a_cache_that_is_only_read(
    make_host: Callable[..., fb.Host], cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is used where nothing can be written, not even when it was used."""

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    make_host(cache=cache).load_bytes(ECHO, manifest("a"))
    monkeypatch.setattr(_compiler, "compile_in_process", refuse_to_compile)
    monkeypatch.setattr(os, "utime", read_only)
    assert make_host(cache=cache).load_bytes(ECHO, manifest("b")).slug == "b"


def test_a_cache_whose_files_may_not_be_run(
    make_host: Callable[..., fb.Host],
    cache: ArtifactCache,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a file system that is mounted with noexec, what is kept is copied, and one warning says so."""

    def from_file(*_: object) -> _core.Module:
        raise ValueError("unable to make memory executable: Permission denied")

    module = SimpleNamespace(from_file=from_file, from_artifact=_core.Module.from_artifact)
    monkeypatch.setattr(_compiler, "_core", SimpleNamespace(**{**vars(_core), "Module": module}))
    host = make_host(cache=cache)
    load_two(host)
    [warning] = warnings_in(caplog)
    assert warning.startswith(
        f"compiled modules are copied, not shared, as {cache.path()} can't be run from: unable to"
    )
    assert len(entries(cache)) == 1


# ── many at once ─────────────────────────────────────────────────────────────────────────────────


@contextmanager
def held(cache: ArtifactCache, name: str) -> Iterator[None]:
    """Hold the lock of an entry, as a process that compiles does."""
    with Artifacts(cache) as artifacts, artifacts.lock(name) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_told(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return words in caplog.text


def key_of(cache: ArtifactCache) -> str:
    [name] = entries(cache)
    return name.partition(".")[0]


def test_who_waits_finds_what_was_compiled(
    cache: ArtifactCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A load whose module is being compiled waits, and takes what the other kept."""
    caplog.set_level(logging.INFO, "fuseboard")
    with fb.Host(hooks=[TEXT], cache=cache, max_concurrent_invocations=1) as host:
        host.load_bytes(ECHO, manifest("a"))
        entry, aside = cache.path() / entries(cache)[0], tmp_path / "aside"
        key = key_of(cache)
        entry.rename(aside)
        waiter = threading.Thread(target=host.load_bytes, args=(ECHO, manifest("b")))
        with held(cache, key):
            waiter.start()
            wait_until(lambda: "plugin b: compiling" in caplog.text)
            time.sleep(0.3)
            assert "b" not in host.plugins
            aside.rename(entry)
        waiter.join(20)
        assert list(host.plugins) == ["a", "b"]
        assert "plugin b: compiled" not in caplog.text


def test_who_waits_in_vain_compiles(cache: ArtifactCache, caplog: pytest.LogCaptureFixture) -> None:
    """Where the other failed, or what it kept isn't right, the next one compiles."""
    caplog.set_level(logging.INFO, "fuseboard")
    with fb.Host(hooks=[TEXT], cache=cache, max_concurrent_invocations=1) as host:
        host.load_bytes(ECHO, manifest("a"))
        key, [name] = key_of(cache), entries(cache)
        for slug, left in (("b", None), ("c", b"rubbish")):
            (cache.path() / name).unlink()
            waiter = threading.Thread(target=host.load_bytes, args=(ECHO, manifest(slug)))
            with held(cache, key):
                waiter.start()
                wait_until(partial(is_told, caplog, f"plugin {slug}: compiling"))
                if left is not None:
                    (cache.path() / name).write_bytes(left)
            waiter.join(20)
            assert slug in host.plugins
            assert f"plugin {slug}: compiled" in caplog.text
            if left is not None:
                assert host.apply_filter("text", "x") == "x"
                assert entries(cache) == []


@pytest.mark.parametrize("where", ["subprocess", "inline"])
def test_waiting_has_an_end(make_host: Callable[..., fb.Host], cache: ArtifactCache, where: str) -> None:
    """A load doesn't wait for long for a process that hangs: it compiles, and works."""
    make_host(cache=cache).load_bytes(ECHO, manifest("a"))
    key = key_of(cache)
    (cache.path() / entries(cache)[0]).unlink()
    host = make_host(cache=cache, compile=where, compile_limits=fb.CompileLimits(timeout_seconds=6))
    with held(cache, key):
        host.load_bytes(ECHO, manifest("b"))
    assert host.apply_filter("text", "x") == "x"
    assert len(entries(cache)) == 1


def test_a_system_without_locks(
    make_host: Callable[..., fb.Host], cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file system has no locks, modules are compiled and kept all the same."""

    def flock(_: int, kind: int) -> None:
        if kind != fcntl.LOCK_UN:
            raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    make_host(cache=cache, compile="inline").load_bytes(ECHO, manifest("a"))
    assert len(entries(cache)) == 1


MANY = """
import logging, sys, time
import fuseboard as fb
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
sys.stdin.readline()
with fb.Host(hooks=[fb.Filter("text", str)], max_concurrent_invocations=1) as host:
    host.load_bytes(open(sys.argv[1], "rb").read(), {manifest!r})
    print("value", host.apply_filter("text", "x"))
"""


def test_processes_that_start_together_compile_once(cache: ArtifactCache, tmp_path: Path) -> None:
    """Of eight processes that load a module at the same time, one compiles it, and it works in all."""
    (tmp_path / "plugin.wasm").write_bytes(heavy(2_000))
    environment = os.environ | {"FUSEBOARD_CACHE_DIR": str(cache.path())}
    command = [sys.executable, "-c", MANY.replace("{manifest!r}", repr(manifest())), str(tmp_path / "plugin.wasm")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(8)
    ]
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    said = "".join(each.communicate(timeout=60)[0] for each in processes)
    assert said.count("value x\n") == 8
    assert said.count("plugin guest: compiled, in ") == 1
    assert {each.name for each in cache.path().iterdir()} == {entries(cache)[0], SECRET_NAME}


def is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_forked_child_lets_go_of_locks(cache: ArtifactCache, tmp_path: Path) -> None:
    """A child of a process that compiled, and was killed, keeps neither its lock nor its files."""
    compiler = script(
        tmp_path / "python",
        f"""exec {sys.executable} -c '
import fcntl, json, os, sys, time
order = json.loads(sys.argv[6])
fcntl.flock(order["lock"], fcntl.LOCK_EX)
open("{tmp_path}/runs", "w").write(str(os.getpid()))
time.sleep(60)
' "$@" """,
    )
    code = f"""
import os, signal, sys, threading, time
import fuseboard as fb
host = fb.Host(hooks=[fb.Filter("text", str)], python={str(compiler)!r}, max_concurrent_invocations=1)
threading.Thread(target=host.load_bytes, args=({ECHO!r}, {manifest()!r}), daemon=True).start()
while not (os.path.exists({str(tmp_path / "runs")!r}) and open({str(tmp_path / "runs")!r}).read()):
    time.sleep(0.01)
child = os.fork()
if child == 0:
    links = [os.path.realpath(f"/proc/self/fd/{{each}}") for each in os.listdir("/proc/self/fd")]
    held = sum("memfd:fuseboard" in link or ".lock" in link for link in links)
    os.write(1, b"%d\\n" % held)  # a line at once, whoever else writes
    time.sleep(60)
    os._exit(0)
os.write(1, b"%d\\n" % child)
time.sleep(60)
"""
    environment = os.environ | {"FUSEBOARD_CACHE_DIR": str(cache.path())}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as killed:
        assert killed.stdout is not None
        child, held_files = sorted((int(killed.stdout.readline()) for _ in range(2)), reverse=True)
        for each in (killed.pid, int((tmp_path / "runs").read_text())):
            os.kill(each, signal.SIGKILL)
    try:
        assert held_files == 0
        [lock] = cache.path().glob("*.lock")
        wait_until(partial(is_free, lock))
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_process_ends_with_its_host(cache: ArtifactCache, tmp_path: Path) -> None:
    """Where a host is killed while it compiles, so is the process that compiles."""
    (tmp_path / "plugin.wasm").write_bytes(heavy(9_999))
    environment = os.environ | {"FUSEBOARD_CACHE_DIR": str(cache.path())}
    command = [sys.executable, "-c", MANY.replace("{manifest!r}", repr(manifest())), str(tmp_path / "plugin.wasm")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as host:
        assert host.stdin is not None
        host.stdin.write("\n")
        host.stdin.flush()
        children = Path(f"/proc/{host.pid}/task/{host.pid}/children")
        wait_until(lambda: bool(children.read_text().split()))
        [compiler] = children.read_text().split()
        wait_until(lambda: "fuseboard" in Path(f"/proc/{compiler}/maps").read_text())  # it has begun
        host.kill()
    wait_until(lambda: not is_running(compiler))


def test_nothing_of_the_environment_goes_along(
    make_host: Callable[..., fb.Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads a stranger's bytes has none of the application's secrets, and a large environment is no problem."""
    monkeypatch.setenv("TOKEN", "hunter2")
    monkeypatch.setenv("LARGE", "x" * 200_000)
    told = script(tmp_path / "python", f'env > {tmp_path}/env; exec {sys.executable} "$@"')
    make_host(python=told, cache=None).load_bytes(ECHO, manifest())
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names <= {"PATH", "LD_LIBRARY_PATH", "PWD", "OLDPWD", "SHLVL", "_"}  # the last four are the shell's


def test_one_bomb_does_not_keep_others_from_loading(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """`load_all` loads what comes after a plugin that its limits end."""
    for slug, wasm in (("a-bomb", heavy(9_999)), ("b-good", ECHO)):
        (tmp_path / slug).mkdir()
        (tmp_path / slug / "plugin.wasm").write_bytes(wasm)
        (tmp_path / slug / "plugin.toml").write_text(
            f'manifest = 1\nslug = "{slug}"\nversion = "1"\n[[hooks]]\nname = "text"\nexport = "run"\n'
        )
    host = make_host(compile_limits=fb.CompileLimits(cpu_seconds=1), cache=None)
    with pytest.raises(ExceptionGroup) as caught:
        host.load_all(tmp_path)
    assert [type(each) for each in caught.value.exceptions] == [fb.ModuleError]
    assert list(host.plugins) == ["b-good"]
