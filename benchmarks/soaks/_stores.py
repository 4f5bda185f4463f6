"""The services beside which invocations run: an HTTP server that echoes, and who takes SQLite's lock for itself.

Rule: all listen on loopback, and end with the block that begins them.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

_LOCK_TAKER: Final = """
import random, sqlite3, sys, time
choices, folder = random.Random(int(sys.argv[2])), __import__("pathlib").Path(sys.argv[1])
while not sys.stdin.closed:
    for file in sorted(folder.glob("*.sqlite")):
        connection = sqlite3.connect(file, timeout=0, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(choices.uniform(0, 0.05))
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            pass
        finally:
            connection.close()
    time.sleep(choices.uniform(0, 0.1))
"""


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece

    def do_POST(self) -> None:
        """Send the body back."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Say nothing of connections that were cut."""


@contextmanager
def echo_server() -> Iterator[int]:
    """Serve HTTP, and give the port."""
    with _QuietServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="echo", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def locks_taken(folder: Path, seed: int) -> Iterator[None]:
    """Have another process take the write locks of the SQLite files below a folder, for up to 50 ms each."""
    command = [sys.executable, "-c", _LOCK_TAKER, str(folder), str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # noqa: S603  our own words
        try:
            yield
            if process.poll() is not None:
                raise RuntimeError("who takes the locks has ended")
        finally:
            process.kill()
