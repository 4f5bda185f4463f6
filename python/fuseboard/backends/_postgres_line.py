"""The bytes between libpq and a server, which pass through our hands once the connection has begun.

Rules:
* libpq reads a message to its end, however long, as fast as it comes, and a row may have a gigabyte: it is given its
  bytes in portions, so that who counts them can stop. It can't be told to: so its socket is changed, under its file
  descriptor, for one end of a pair, and we have the other end and the server's socket. What is encrypted stays so.
* Nothing here waits.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Final

_PORTION: Final = 1 << 16


class Line:
    """The way from libpq to the server, and back.

    Args:
        fd: libpq's socket, on which it has logged in.

    Attributes:
        received: how many bytes have come from the server.
    """

    __slots__ = ("_inner", "_outer", "_unsent", "received")

    def __init__(self, fd: int) -> None:
        self.received = 0
        self._unsent = b""
        self._outer = socket.socket(fileno=os.dup(fd))
        self._outer.setblocking(False)
        self._inner, libpqs = socket.socketpair()
        self._inner.setblocking(False)
        libpqs.setblocking(False)
        os.dup2(libpqs.fileno(), fd, inheritable=False)
        libpqs.close()

    def fileno(self) -> int:
        """Return the server's socket, which is waited for."""
        return self._outer.fileno()

    def send(self) -> bool:
        """Pass on what libpq has written, and return whether all is gone.

        Raises:
            OSError: the server has hung up.
        """
        with suppress(BlockingIOError):
            while True:
                if not self._unsent:
                    self._unsent = self._inner.recv(_PORTION)
                if not self._unsent:
                    break
                self._unsent = self._unsent[self._outer.send(self._unsent) :]
        return not self._unsent

    def receive(self) -> bool:
        """Give libpq a portion, where it has read the one before, and return whether it has something to read now."""
        try:
            portion = self._outer.recv(_PORTION)
        except BlockingIOError:
            return False
        except OSError:
            portion = b""
        if portion:
            self.received += len(portion)
            self._inner.send(portion)
        else:
            self._inner.shutdown(socket.SHUT_WR)
        return True

    def hang_up(self) -> None:
        """Have whoever waits for the server learn that it is over."""
        with suppress(OSError):
            self._outer.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close our sockets; libpq's is its own."""
        self._inner.close()
        self._outer.close()
