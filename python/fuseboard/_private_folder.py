"""A folder that is nobody else's, and a secret in it.

Rules:
* It belongs to this user, and nobody else can read or write it: otherwise it is refused, and not mended, as what is in
  it may be somebody else's already.
* All names are looked up in the open folder, so that nobody can exchange it meanwhile; links aren't followed.
* A file is never changed: it comes by a rename and goes by an unlink.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, NamedTuple, Self

SECRET_NAME: Final = "fuseboard.secret"  # noqa: S105  a name
"""The file of the secret: nobody else's has this name."""

_SECRET_BYTES: Final = 32
_OTHERS: Final = 0o077
_NO_FILE: Final = (errno.ENOENT, errno.ELOOP, errno.EACCES, errno.ENXIO)
"""What opening says of what isn't there, of a link, of what this user can't read, and of a socket."""


class FolderUnusableError(OSError):
    """The folder can't be used; the text says why and what to do."""


class Found(NamedTuple):
    """A file of the folder: its name, its bytes, and when it was last used, in seconds of the epoch."""

    name: str
    size: int
    used: float


class PrivateFolder:
    """An open folder; one that isn't there is made, where that is said.

    Raises:
        FolderUnusableError: it isn't there or can't be made, belongs to somebody else, or is open to others.
    """

    def __init__(self, path: Path, *, makes: bool) -> None:
        self.path = path
        try:
            if makes:
                path.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):
                    path.mkdir(mode=0o700)
            self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise FolderUnusableError(f"{path} can't be opened as a folder: {error}") from None
        problem = _problem(os.fstat(self.descriptor))
        if problem is not None:
            self.close()
            raise FolderUnusableError(f"{path} {problem}")

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def secret(self) -> bytes:
        """Return the folder's secret of 32 bytes, and make it where there is none that is right.

        Raises:
            FolderUnusableError: somebody keeps removing it.
            OSError: it can't be written.
        """
        secret = self._read_secret() or self._make_secret()
        if secret is None:
            raise FolderUnusableError(f"{self.path} keeps no secret: somebody else is changing it")
        return secret

    def opened(self, name: str) -> IO[bytes] | None:
        """Open a file to be read; one that isn't a file of this user alone is none."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe would wait for its writer
        try:
            descriptor = os.open(name, flags, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            return None
        if _is_ours_alone(os.fstat(descriptor)):
            return os.fdopen(descriptor, "rb", buffering=0)
        os.close(descriptor)
        return None

    def created(self, name: str) -> IO[bytes]:
        """Make a file that isn't there."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(name, flags, 0o600, dir_fd=self.descriptor), "wb")

    def rename(self, name: str, to: str) -> None:
        """Give a file another name, which may be that of another."""
        os.rename(name, to, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def unlink(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            os.unlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            with suppress(OSError):  # one that isn't empty is nobody's of ours
                os.rmdir(name, dir_fd=self.descriptor)

    def discard(self, name: str, wrong: IO[bytes] | None) -> None:
        """Remove a file that was opened and is wrong, or `None` where it could not be opened.

        Another that somebody has put in its place meanwhile stays, and so does what can't be removed.
        """
        with suppress(OSError):
            there = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
            if wrong is None:
                is_another = _is_ours_alone(there) and bool(there.st_mode & stat.S_IRUSR)
            else:
                is_another = there.st_ino != os.fstat(wrong.fileno()).st_ino
            if not is_another:
                self.unlink(name)

    def files(self, pattern: re.Pattern[str]) -> Iterator[Found]:
        """Yield what has a name of this pattern."""
        with os.scandir(self.descriptor) as entries:
            names = [entry.name for entry in entries if pattern.fullmatch(entry.name)]
        for name in names:
            with suppress(FileNotFoundError):
                about = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
                yield Found(name, about.st_size, about.st_mtime)

    def _read_secret(self) -> bytes | None:
        file = self.opened(SECRET_NAME)
        if file is None:
            return None
        with file:
            secret = file.read(_SECRET_BYTES + 1)
        return secret if len(secret) == _SECRET_BYTES else None

    def _make_secret(self) -> bytes | None:
        """Make a secret, or take that of a process that was quicker."""
        part = f"{SECRET_NAME}.{secrets.token_hex(8)}"
        try:
            with self.created(part) as file:
                file.write(secrets.token_bytes(_SECRET_BYTES))
            try:
                os.link(part, SECRET_NAME, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
            except FileExistsError:
                if self._read_secret() is None:  # what is there is wrong
                    self.rename(part, SECRET_NAME)
        finally:
            self.unlink(part)
        return self._read_secret()


def _problem(folder: os.stat_result) -> str | None:
    if folder.st_uid != os.geteuid():
        return f"belongs to another user (id {folder.st_uid}); name a folder of your own"
    if folder.st_mode & _OTHERS:
        mode = f"{stat.S_IMODE(folder.st_mode):04o}"
        return f"is open to other users (mode {mode}), who may have put code into it; remove it, or name another folder"
    return None


def _is_ours_alone(file: os.stat_result) -> bool:
    return stat.S_ISREG(file.st_mode) and file.st_uid == os.geteuid() and not file.st_mode & _OTHERS
