"""A server that answers every GET with the same 100 bytes, in a process of its own: it shares no lock of ours."""

from __future__ import annotations

import socketserver
from typing import Final

BODY: Final = b"v" * 100
_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
_END: Final = b"\r\n\r\n"


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Answer until the other side is gone."""
        begun = b""
        while piece := self.request.recv(65_536):
            *requests, begun = (begun + piece).split(_END)
            self.request.sendall(_ANSWER * len(requests))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


if __name__ == "__main__":
    with _Server(("127.0.0.1", 0), _Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
