"""Looks host names up, each on a thread of its own: a look-up can't be stopped, and may take half a minute.

Rules:
* Who waits for a look-up waits until its deadline, and leaves the thread to its end. So threads are counted: so many in
  all, and a part of them for each plugin. Where there is no room, the call is refused at once.
* A plugin has one look-up of one name at a time; who wants the same name meanwhile waits for it too.
* Nothing is kept once it was answered: that is the resolver's to do.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import islice
from threading import Lock, Thread
from typing import Final

from fuseboard._errors import BackendError

Addresses = tuple[str, ...]
Resolve = Callable[[str], Iterable[str]]

_MOST_ADDRESSES: Final = 32
_PART_OF_ONE_PLUGIN: Final = 4

_log = logging.getLogger("fuseboard")


def system_addresses(host: str) -> list[str]:
    """Return what the operating system's resolver says, in the order in which to try.

    Raises:
        OSError: the name isn't known, or can't be looked up.
    """
    found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Names:
    """The look-ups that are under way.

    Args:
        resolve: gives the addresses of a name; it may block.
        most: how many look-ups run at once; a plugin has a quarter of them at most.
    """

    def __init__(self, resolve: Resolve, most: int) -> None:
        self._resolve = resolve
        self._most = most
        self._most_of_one = max(1, most // _PART_OF_ONE_PLUGIN)
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Begin with none: threads aren't inherited."""
        self._lock = Lock()
        self._under_way: dict[tuple[str, str], Future[Addresses]] = {}

    def look_up(self, plugin: str, host: str) -> Future[Addresses]:
        """Begin to look a name up for a plugin, or join who does.

        Raises:
            BackendError: too many look-ups are under way.
        """
        future: Future[Addresses] = Future()
        future.set_running_or_notify_cancel()  # who stops waiting must not cancel what others wait for
        with self._lock:
            begun = self._under_way.get((plugin, host))
            if begun is not None:
                return begun
            self._check_room(plugin)
            self._under_way[plugin, host] = future
        try:
            Thread(target=self._run, args=(plugin, host, future), name="fuseboard-name", daemon=True).start()
        except BaseException as error:
            self._forget(plugin, host, future)
            if isinstance(error, RuntimeError):
                raise BackendError("no thread can be had to look a name up") from error
            raise
        return future

    def _check_room(self, plugin: str) -> None:
        of_one = sum(owner == plugin for owner, _ in self._under_way)
        if of_one >= self._most_of_one or len(self._under_way) >= self._most:
            raise BackendError("too many host names are being looked up already")

    def _run(self, plugin: str, host: str, future: Future[Addresses]) -> None:
        try:
            addresses = tuple(map(str, islice(self._resolve(host), _MOST_ADDRESSES)))
        except (OSError, UnicodeError) as error:
            self._end(plugin, host, future, error)
        except BaseException as error:  # noqa: BLE001  an application's own may raise anything; it is logged
            _log.exception("the resolver failed")
            self._end(plugin, host, future, error)
        else:
            self._forget(plugin, host, future)
            future.set_result(addresses)

    def _end(self, plugin: str, host: str, future: Future[Addresses], error: BaseException) -> None:
        self._forget(plugin, host, future)
        failure = BackendError(f"the host name {host!r} can't be resolved")
        failure.__cause__ = error
        future.set_exception(failure)

    def _forget(self, plugin: str, host: str, future: Future[Addresses]) -> None:
        with self._lock:
            if self._under_way.get((plugin, host)) is future:  # a thread of before a fork knows nothing of these
                del self._under_way[plugin, host]
