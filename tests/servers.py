"""Real servers for tests: PostgreSQL, and Redis or Valkey, on loopback, with data folders and ports of their own.

Rules:
* Each is started once a run, when the first test wants it, and ended by its process id.
* Where one can't be had its tests are skipped, for a reason that says so; on CI, where `CI` is set, they fail.
* What a server is stopped or restarted by, other tests would see: such a test starts one of its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NoReturn

import pytest
import trustme

_START_SECONDS: Final = 30.0
_USER: Final = "postgres"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.

    Attributes:
        port: where it listens, on 127.0.0.1.
        process: the server's own; its children end with it.
        folder: its data and its log.
        ends_at_once_by: the signal for that.
    """

    port: int
    process: subprocess.Popen[bytes]
    folder: Path
    ends_at_once_by: signal.Signals = signal.SIGTERM

    @property
    def dsn(self) -> str:
        """How a superuser gets in, where it is PostgreSQL."""
        return f"host=127.0.0.1 port={self.port} user={_USER} password={_USER} dbname={_USER}"

    @property
    def url(self) -> str:
        """Where it is, where it is Redis."""
        return f"redis://127.0.0.1:{self.port}/0"

    def pause(self) -> None:
        """Have it, and all of its children, stand still."""
        for pid in (*_children(self.process.pid), self.process.pid):
            _send(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        for pid in (self.process.pid, *_children(self.process.pid)):
            _send(pid, signal.SIGCONT)

    def end(self) -> None:
        """End it, at once."""
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(self.ends_at_once_by)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # a child has ended meanwhile
        os.kill(pid, number)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def not_to_be_had(what: str) -> NoReturn:
    """Skip a test whose server isn't installed; on CI, fail it."""
    reason = f"{what} isn't installed here: `sh tools/servers.sh` says how to get it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _until_ready(what: str, process: subprocess.Popen[bytes], is_ready: Callable[[], bool], log: Path) -> None:
    ends = time.monotonic() + _START_SECONDS
    while not is_ready():
        if process.poll() is not None or time.monotonic() > ends:
            process.kill()
            raise RuntimeError(f"{what} didn't start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
        time.sleep(0.02)


# ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────────


def _postgres_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        not_to_be_had("PostgreSQL")
    return found[-1].parent if found else Path(on_path or "").resolve().parent


@contextmanager
def postgres(certificate: trustme.LeafCert | None = None) -> Iterator[Server]:
    """Run a PostgreSQL server with a superuser `postgres`, who comes in by a password (SCRAM), as everybody must.

    With a certificate it speaks TLS, with those who want to. Its folder isn't pytest's, which is closed to other users.
    """
    programs, port = _postgres_programs(), free_port()
    with TemporaryDirectory(prefix="fuseboard-postgres-") as scratch:
        folder, log = Path(scratch), Path(scratch, "log")
        settings = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off",
            "shared_buffers": "16MB", "max_connections": 200, **_tls(folder, certificate),
        }  # fmt: skip
        user = _unprivileged(folder)
        _make_cluster(programs, folder, user)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(programs / "postgres"), "-D", str(folder / "data"), *options],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                user=user, group=user, extra_groups=[] if user else None, cwd=folder, process_group=0,
            )  # fmt: skip
        server = Server(port, process, folder, ends_at_once_by=signal.SIGQUIT)
        try:
            asks = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            _until_ready("PostgreSQL", process, lambda: subprocess.run(asks, check=False).returncode == 0, log)
            yield server
        finally:
            server.end()


def _make_cluster(programs: Path, folder: Path, user: int | None) -> None:
    (folder / "password").write_text(_USER, encoding="ascii")
    subprocess.run(
        [
            str(programs / "initdb"), "--pgdata", str(folder / "data"), "--username", _USER, "--no-sync",
            "--auth", "scram-sha-256", "--pwfile", str(folder / "password"), "--encoding", "UTF8", "--locale", "C",
        ],
        check=True, capture_output=True, user=user, group=user, extra_groups=[] if user else None, cwd=folder,
    )  # fmt: skip


def _tls(folder: Path, certificate: trustme.LeafCert | None) -> dict[str, object]:
    if certificate is None:
        return {}
    key = folder / "server.key"
    certificate.cert_chain_pems[0].write_to_path(folder / "server.crt")
    certificate.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    return {"ssl": "on", "ssl_cert_file": folder / "server.crt", "ssl_key_file": key}


def _unprivileged(folder: Path) -> int | None:
    """Give a folder and what is in it to somebody whom PostgreSQL agrees to run as: never root."""
    if os.getuid() != 0:
        return None
    try:
        user = pwd.getpwnam(_USER)
    except KeyError:
        user = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid)
    return user.pw_uid


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """Return a PostgreSQL server that all tests share."""
    with postgres() as server:
        yield server


# ── Redis ────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def redis(folder: Path, *options: str) -> Iterator[Server]:
    """Run a Redis or Valkey server that keeps nothing on disk."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        not_to_be_had("Redis (or Valkey)")
    port, log = free_port(), folder / "redis.log"
    arguments = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *arguments, *options],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, process_group=0,
        )  # fmt: skip
    server = Server(port, process, folder)
    try:
        _until_ready("Redis", process, lambda: _says_pong(port), log)
        yield server
    finally:
        server.end()


def _says_pong(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16) == b"+PONG\r\n"
    except OSError:
        return False


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a Redis or Valkey server that all tests share."""
    with redis(tmp_path_factory.mktemp("redis")) as server:
        yield server
