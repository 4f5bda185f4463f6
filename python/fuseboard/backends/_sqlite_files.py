"""The SQLite files of one folder: a file for each plugin and scope, and a bounded number of connections to them.

Rules:
* Two namespaces never share a file, whatever their names: a name has a hash of both in it, in letters that no file
  system folds together.
* A connection is lent to one session, whole, and taken back only where no transaction is open. The one that was used
  longest ago makes room for another; where all are lent, who wants one waits until its deadline.
* Before a fork, what isn't lent is closed: a child must not have what SQLite knows of open files. A file that was lent
  can't be used in the child.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import Condition
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from fuseboard._errors import BackendError, BackendTimeout
from fuseboard.backends._fork_gate import fork_gate
from fuseboard.backends._locks import OwnedLock
from fuseboard.backends._owned_session import seconds_until

if TYPE_CHECKING:
    from fuseboard.backends._sqlite_connection import Connection

Namespace = tuple[str, str | None]

SUFFIX: Final = ".sqlite"
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9-]+")
_SHOWN: Final = 64


@dataclass(eq=False, slots=True, weakref_slot=True)
class File:
    """One namespace's file.

    Attributes:
        namespace: the plugin and the scope.
        path: where it is, or will be.
        lock: of whoever writes, in this process.
        idle: connections that nobody uses.
    """

    namespace: Namespace
    path: Path
    lock: OwnedLock = field(default_factory=OwnedLock)
    idle: list[Connection] = field(default_factory=list)


class Files:
    """The files of one folder.

    Args:
        folder: where they are.
        most: how many connections are open at once.
        opened: opens a file, and makes it where it isn't there, until a deadline.
    """

    def __init__(self, folder: Path, most: int, opened: Callable[[File, float], Connection]) -> None:
        self.folder = folder
        self._most = most
        self._opened = opened
        self._begin()
        fork_gate().watch(self)

    def _begin(self) -> None:
        self._changed = Condition()
        self._files: WeakValueDictionary[Namespace, File] = WeakValueDictionary()
        self._idle: OrderedDict[Connection, File] = OrderedDict()
        self._lent: dict[object, tuple[Connection, File]] = {}
        self._opening: set[object] = set()
        self._is_closed = False
        self._unusable: dict[Namespace, str] = {}

    def file(self, plugin: str, scope: str | None) -> File:
        """Return a namespace's file, without I/O."""
        with self._changed:
            found = self._files.get((plugin, scope))
            if found is None:
                found = File((plugin, scope), self.folder / file_name(plugin, scope))
                self._files[plugin, scope] = found
            return found

    def lend(self, owner: object, file: File, deadline: float, gives_up: Callable[[], bool]) -> Connection:
        """Return a connection to a file, for one owner, who gives it back whatever happens, and lends one at a time.

        Raises:
            BackendTimeout: all connections were lent until the deadline.
            BackendError: the file can't be used.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(file) or gives_up(), seconds_until(deadline))
            self._check_usable(file)
            if gives_up() or not self._has_room(file):
                raise BackendTimeout("all connections to databases were in use until the deadline")
            if file.idle:
                return self._lent_from_idle(owner, file)
            evicted = self._evicted() if self._in_all() >= self._most else None
            self._opening.add(owner)
        return self._opened_anew(owner, file, evicted, deadline)

    def take_back(self, owner: object) -> None:
        """Take back what was lent, if anything was; close it where its state is in doubt."""
        with self._changed:
            self._opening.discard(owner)
            connection, file = self._lent.pop(owner, (None, None))
            keeps = connection is not None and not self._is_closed and connection.is_as_new
            if keeps and connection is not None and file is not None:
                file.idle.append(connection)
                self._idle[connection] = file
            self._changed.notify()
        if connection is not None and not keeps:
            connection.close()

    def look_again(self) -> None:
        """Have all that wait look whether they give up."""
        with self._changed:
            self._changed.notify_all()

    def existing(self, plugin: str | None = None) -> Iterator[Path]:
        """Yield the files that are there, all or one plugin's."""
        pattern = f"*{SUFFIX}" if plugin is None else f"{_shown(plugin)}.*{SUFFIX}"
        yield from sorted(self.folder.glob(pattern))

    @contextmanager
    def closed_off(self, file: File) -> Iterator[None]:
        """Have nothing of a file open, and let nobody open it meanwhile.

        Raises:
            BackendError: a session is using it.
        """
        with self._changed:
            self._check_usable(file)
            if any(file is lent for _, lent in self._lent.values()):
                raise BackendError("sessions are using the database")
            self._unusable[file.namespace] = "the database is being removed"
            closing, file.idle = file.idle, []
            for connection in closing:
                del self._idle[connection]
        try:
            _close(closing)
            yield
        finally:
            with self._changed:
                del self._unusable[file.namespace]

    def close(self) -> None:
        """Close all that isn't lent; what is lent is closed when it is taken back."""
        with self._changed:
            self._is_closed = True
            closing = self._all_idle()
            self._changed.notify_all()
        _close(closing)

    def before_fork(self) -> None:
        """Close what isn't lent."""
        with self._changed:
            closing = self._all_idle()
        for connection in closing:
            connection.raw.close()

    def after_fork_in_child(self) -> None:
        """Begin with no connections; those that were lent are neither used nor closed."""
        unusable, is_closed = self._unusable, self._is_closed
        for connection, file in self._lent.values():
            connection.keep_for_ever()
            unusable[file.namespace] = "this process was forked while the database was in use, and can't use it"
        self._begin()
        self._unusable, self._is_closed = unusable, is_closed

    def _check_usable(self, file: File) -> None:
        if self._is_closed:
            raise BackendError("the database is closed")
        if file.namespace in self._unusable:
            raise BackendError(self._unusable[file.namespace])

    def _has_room(self, file: File) -> bool:
        is_refused = self._is_closed or file.namespace in self._unusable
        return bool(file.idle or self._idle or self._in_all() < self._most or is_refused)

    def _in_all(self) -> int:
        return len(self._lent) + len(self._idle) + len(self._opening)

    def _lent_from_idle(self, owner: object, file: File) -> Connection:
        connection = file.idle.pop()
        del self._idle[connection]
        self._lent[owner] = connection, file
        return connection

    def _evicted(self) -> Connection:
        connection, file = self._idle.popitem(last=False)
        file.idle.remove(connection)
        return connection

    def _all_idle(self) -> list[Connection]:
        idle = list(self._idle)
        for file in self._idle.values():
            file.idle.clear()
        self._idle.clear()
        return idle

    def _opened_anew(self, owner: object, file: File, evicted: Connection | None, deadline: float) -> Connection:
        try:
            if evicted is not None:
                evicted.close()
            connection = self._opened(file, deadline)
            with self._changed:
                self._lent[owner] = connection, file
        finally:
            with self._changed:
                self._opening.discard(owner)
                self._changed.notify()
        return connection


@lru_cache(maxsize=4096)
def file_name(plugin: str, scope: str | None) -> str:
    """Return the name of a namespace's file: what can be shown of its names, and a hash that tells it from others."""
    digest = sha256(json.dumps([plugin, scope]).encode()).hexdigest()[:32]
    shown = [_shown(plugin), *([] if scope is None else [_shown(scope)])]
    return ".".join([*filter(None, shown), digest]) + SUFFIX


def _shown(name: str) -> str:
    return _NOT_IN_NAMES.sub("-", name.lower())[:_SHOWN]


def _close(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()
