"""The cache of compiled modules: a file for each, in a private folder.

Rules:
* An artifact is code that runs in this process as it is. Its seal must be right: an HMAC over its name and all its
  bytes, under the folder's secret.
* An entry that is wrong is a miss: it is removed, and made anew. A folder that is wrong is said, and not used.
* A lock spares work and protects nothing: without it, two processes compile the same.
"""

from __future__ import annotations

import fcntl
import hmac
import mmap
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Final, Self

import msgspec

from fuseboard._arguments import check_path, check_whole, lasting_path
from fuseboard._limits import MIB
from fuseboard._private_folder import FolderUnusableError, PrivateFolder
from fuseboard._snapshot import Snapshot

FOLDER_VARIABLE: Final = "FUSEBOARD_CACHE_DIR"
"""The environment variable that names the folder where `ArtifactCache` doesn't."""

_MAGIC: Final = b"fuseboard artifact 1\n"
_SEAL_BYTES: Final = 32
_LENGTH_BYTES: Final = 4
_PIECE_BYTES: Final = MIB
_END_BYTES: Final = _SEAL_BYTES + len(_MAGIC)
_ENTRY: Final = re.compile(r"[0-9a-f]{64}\.artifact")
_PASSING: Final = re.compile(r"[0-9a-f]{64}\.(?:lock|[0-9a-f]{16}\.part)|fuseboard\.secret\.[0-9a-f]{16}")
_ABANDONED_SECONDS: Final = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactCache:
    """Where compiled modules are kept, so that one that was compiled once is loaded at once.

    Attributes:
        folder: made where it isn't there; it must belong to this user, and be closed to others (mode 0700). `None` for
            the one that the environment variable `FUSEBOARD_CACHE_DIR` names, else `fuseboard/artifacts` below the
            user's cache (`$XDG_CACHE_HOME`, or `~/.cache`).
        max_mb: what all artifacts may take, in MiB; above it, those that weren't used for longest go.

    Raises:
        UsageError: the folder is no path, or `max_mb` no whole number from 1 to 1,048,576.
    """

    folder: str | os.PathLike[str] | None = None
    max_mb: int = 512

    def __post_init__(self) -> None:
        check_path("folder", self.folder)
        check_whole("max_mb", self.max_mb, MIB)
        if self.folder is not None:  # wherever the process goes
            object.__setattr__(self, "folder", lasting_path(self.folder))

    def path(self) -> Path:
        """Return the folder.

        Raises:
            RuntimeError: none is named, and this user has no home.
        """
        named = self.folder or os.environ.get(FOLDER_VARIABLE)
        if named:
            return Path(named)
        cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (cache if cache.is_absolute() else Path.home() / ".cache") / "fuseboard" / "artifacts"


class Facts(msgspec.Struct, frozen=True):
    """What the file of an artifact says of it.

    Attributes:
        plugin: the slug under which it was compiled.
        wasm_sha256, wasm_bytes: the module.
        made_by: the version of Fuseboard.
        cpu_seconds, peak_mb: what compiling took; 0 where it wasn't measured.
        snapshot: what became of the module's initialisation; `None` where it has none, or was to have no snapshot.
    """

    plugin: str
    wasm_sha256: str
    wasm_bytes: int
    made_by: str
    cpu_seconds: float
    peak_mb: float
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry, as it is listed.

    Attributes:
        name: the file.
        size: its bytes.
        used: when it was last used, in seconds of the epoch.
        facts: `None` where they can't be read.
    """

    name: str
    size: int
    used: float
    facts: Facts | None


class Artifacts:
    """A cache that is open; a folder that isn't there is made, unless it is only to be looked at.

    Raises:
        FolderUnusableError: the folder isn't there or can't be made, belongs to somebody else, or is open to others.
    """

    def __init__(self, cache: ArtifactCache, *, makes: bool = True) -> None:
        self._most_bytes = cache.max_mb * MIB
        self._secret = b""
        try:
            self.folder = PrivateFolder(cache.path(), makes=makes)
        except RuntimeError as error:
            raise FolderUnusableError(str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.close()

    def find(self, key: str) -> IO[bytes] | None:
        """Return the open file of an entry, which begins with the artifact, or `None` where none is right.

        Raises:
            OSError: this process can open or map no more; or there is no secret, and it can't be made.
        """
        name = entry_name(key)
        file = self.folder.opened(name)
        if file is None:
            self.folder.discard(name, None)
            return None
        with ExitStack() as stack:
            stack.enter_context(file)
            if not self._is_sealed(file, name):
                self.folder.discard(name, file)
                return None
            stack.pop_all()
        with suppress(OSError):  # a cache that is only read
            os.utime(file.fileno())
        return file

    def discard(self, key: str, wrong: IO[bytes]) -> None:
        """Remove an entry that was found."""
        self.folder.discard(entry_name(key), wrong)

    @contextmanager
    def lock(self, key: str) -> Iterator[int]:
        """Yield a descriptor whose lock is the right to make an entry; if it was taken, it is given back at the end."""
        name, folder = f"{key}.lock", self.folder
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=folder.descriptor)
        try:
            yield descriptor
        finally:
            folder.unlink(name)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process that was forked meanwhile has it open too
            os.close(descriptor)

    def store(self, key: str, artifact: IO[bytes], facts: Facts) -> None:
        """Copy an artifact into the cache, and make room for it.

        Raises:
            OSError: it can't be written.
        """
        name, part = entry_name(key), f"{key}.{secrets.token_hex(8)}.part"
        written = msgspec.json.encode(facts)
        tail = written + len(written).to_bytes(_LENGTH_BYTES, "little")
        artifact.seek(0)
        seal = self._seal(name)
        try:
            with self.folder.created(part) as file:
                for piece in chain(iter(partial(artifact.read, _PIECE_BYTES), b""), (tail,)):
                    file.write(piece)
                    seal.update(piece)
                file.write(seal.digest() + _MAGIC)
            self.folder.rename(part, name)
        except BaseException:
            self.folder.unlink(part)
            raise
        self._make_room(name)

    def kept(self) -> list[Kept]:
        """Return all entries, those that were used last first; their seals aren't looked at."""
        found = [Kept(*each, self._facts(each.name)) for each in self.folder.files(_ENTRY)]
        return sorted(found, key=lambda each: each.used, reverse=True)

    def clear(self) -> tuple[int, int]:
        """Remove everything, and return how many entries and bytes that were; what is loaded goes on."""
        entries = list(self.folder.files(_ENTRY))
        for each in (*entries, *self.folder.files(_PASSING)):
            self.folder.unlink(each.name)
        return len(entries), sum(each.size for each in entries)

    def _make_room(self, newest: str) -> None:
        """Remove what was used longest ago until the rest fits, and what was left half-done."""
        kept = sorted(self.folder.files(_ENTRY), key=lambda each: (each.name == newest, each.used), reverse=True)
        total = 0
        for each in kept:
            total += each.size
            if total > self._most_bytes and each.name != newest:
                self.folder.unlink(each.name)
        for each in self.folder.files(_PASSING):
            if time.time() - each.used > _ABANDONED_SECONDS:
                self.folder.unlink(each.name)

    def _facts(self, name: str) -> Facts | None:
        file = self.folder.opened(name)
        if file is None:
            return None
        with file:
            return facts_in(file)

    def _is_sealed(self, file: IO[bytes], name: str) -> bool:
        if os.fstat(file.fileno()).st_size <= _END_BYTES:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
            seal = self._seal(name)
            seal.update(content[:-_END_BYTES])
            return hmac.compare_digest(bytes(content[-_END_BYTES:]), seal.digest() + _MAGIC)

    def _seal(self, name: str) -> hmac.HMAC:
        self._secret = self._secret or self.folder.secret()
        return hmac.new(self._secret, name.encode(), "sha256")


def facts_in(file: IO[bytes]) -> Facts | None:
    """Return what an entry's file says of it, or `None` where that can't be read."""
    try:
        file.seek(-_END_BYTES - _LENGTH_BYTES, os.SEEK_END)
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        file.seek(-_END_BYTES - _LENGTH_BYTES - length, os.SEEK_END)
        return msgspec.json.decode(file.read(length), type=Facts)
    except (OSError, msgspec.DecodeError):
        return None


def entry_name(key: str) -> str:
    """Return the file of an entry."""
    return f"{key}.artifact"
