"""The cache of compiled modules: what is found in it, what isn't believed, and how large it gets."""

from __future__ import annotations

import os
import re
import shutil
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fuseboard as fb
from fuseboard._artifacts import FOLDER_VARIABLE, ArtifactCache, Artifacts, Facts, entry_name
from fuseboard._compile_process import anonymous_file
from fuseboard._private_folder import SECRET_NAME, FolderUnusableError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY, OTHER = "a" * 64, "b" * 64
CONTENT = b"compiled" * 1_000
FACTS = Facts("title-case", "c" * 64, 123, "0.1.0", 1.5, 60.0)


def keep(folder: Path, key: str = KEY, content: bytes = CONTENT, max_mb: int = 512) -> Path:
    """Keep an entry and return its file."""
    with Artifacts(ArtifactCache(folder=folder, max_mb=max_mb)) as artifacts, anonymous_file("test") as file:
        file.write(content)
        artifacts.store(key, file, FACTS)
    return folder / entry_name(key)


def found(folder: Path, key: str = KEY) -> bytes | None:
    with Artifacts(ArtifactCache(folder=folder)) as artifacts:
        file = artifacts.find(key)
        if file is None:
            return None
        with file:
            return file.read(len(CONTENT))


def test_what_is_kept_is_found(tmp_path: Path) -> None:
    """An entry's file begins with what was kept, for as often as it is asked for, and only under its key."""
    keep(tmp_path / "cache")
    assert [found(tmp_path / "cache"), found(tmp_path / "cache"), found(tmp_path / "cache", OTHER)] == [
        CONTENT,
        CONTENT,
        None,
    ]


def test_folder_and_files_are_closed_to_others(tmp_path: Path) -> None:
    """Whatever the process's mask, the folder is made with mode 0700 and its files with 0600."""
    before = os.umask(0)
    try:
        keep(tmp_path / "cache")
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "cache").iterdir()}
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert modes == {entry_name(KEY): 0o600, SECRET_NAME: 0o600}


def flipped(place: int) -> Callable[[Path], object]:
    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[place] ^= 1
        file.write_bytes(content)

    return flip


def cut(length: int) -> Callable[[Path], object]:
    return lambda file: os.truncate(file, length)


def replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def replace(file: Path) -> None:
        file.rename(file.with_name("elsewhere"))
        make(file)

    return replace


def from_another_cache(file: Path) -> None:
    """Put the same entry there as another installation made it."""
    shutil.copyfile(keep(file.parent.parent / "another"), file)


def secret_by_link(secret: Path) -> None:
    """Have the secret be that of another folder, which anybody may know."""
    secret.unlink()
    (secret.parent.parent / "known").write_bytes(b"x" * 32)
    secret.symlink_to("../known")


WRONG: dict[str, Callable[[Path], object]] = {
    "its first byte is another": flipped(0),
    "a byte of it is another": flipped(4_000),
    "its facts are others": flipped(len(CONTENT) + 5),
    "the length of its facts is another": flipped(-55),
    "its seal is another": flipped(-30),
    "its last byte is another": flipped(-1),
    "it is empty": cut(0),
    "it has a byte": cut(1),
    "it has as many bytes as a seal": cut(53),
    "it was cut": cut(5_000),
    "it was cut within the artifact": cut(-1 + len(CONTENT)),
    "it has more": lambda file: file.write_bytes(file.read_bytes() + b"x"),
    "it is another's": lambda file: keep(file.parent, OTHER, b"other" * 9).rename(file),
    "it is of another installation": from_another_cache,
    "it can be read by others": lambda file: file.chmod(0o644),
    "it can be written by a group": lambda file: file.chmod(0o620),
    "it is a link": replaced(lambda file: file.symlink_to("elsewhere")),
    "it is a link to nothing": replaced(lambda file: file.symlink_to("nowhere")),
    "it is a pipe": replaced(lambda file: os.mkfifo(file, 0o600)),
    "it is a folder": replaced(lambda file: file.mkdir(0o700)),
    "the secret is another": lambda file: (file.parent / SECRET_NAME).write_bytes(b"x" * 32),
    "the secret was cut": lambda file: os.truncate(file.parent / SECRET_NAME, 31),
    "the secret can be read by others": lambda file: (file.parent / SECRET_NAME).chmod(0o604),
    "the secret is gone": lambda file: (file.parent / SECRET_NAME).unlink(),
    "the secret is a link": lambda file: secret_by_link(file.parent / SECRET_NAME),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_is_wrong_is_no_entry(tmp_path: Path, how: str) -> None:
    """Cut, changed, exchanged, or open to others: it isn't found, it is removed, and the next one is kept."""
    file = keep(tmp_path / "cache")
    WRONG[how](file)
    assert found(tmp_path / "cache") is None
    assert not os.path.lexists(file)
    keep(tmp_path / "cache")
    assert found(tmp_path / "cache") == CONTENT


def test_an_entry_of_another_user_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that belongs to somebody else isn't found, whatever its mode."""
    file = keep(tmp_path / "cache")
    entry, ours = file.stat().st_ino, os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        about = ours(descriptor)
        if about.st_ino != entry:
            return about
        return os.stat_result([*about[:4], os.geteuid() + 1, *about[5:10]])

    assert found(tmp_path / "cache") == CONTENT
    monkeypatch.setattr(os, "fstat", fstat)
    assert found(tmp_path / "cache") is None


def a_file(path: Path) -> None:
    path.write_bytes(b"")


def open_to_others(path: Path) -> None:
    path.mkdir()
    path.chmod(0o755)


def a_link(path: Path) -> None:
    (path.parent / "real").mkdir(mode=0o700)
    path.symlink_to("real")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_file, "can't be opened as a folder"),
        (a_link, "can't be opened as a folder"),
        (open_to_others, r"is open to other users \(mode 0755\), who may have put code into it; remove it, or name"),
    ],
)
def test_a_folder_that_is_not_private(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    """It isn't used, and isn't mended: what is in it may be somebody else's already."""
    make(tmp_path / "cache")
    with pytest.raises(FolderUnusableError, match=words):
        keep(tmp_path / "cache")


def test_a_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't used, with its owner named."""
    keep(tmp_path / "cache")
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(FolderUnusableError, match=rf"belongs to another user \(id {os.getuid()}\)"):
        found(tmp_path / "cache")


def test_where_the_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument comes first, then our variable, then the user's cache, then the one in their home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "ours"))
    assert ArtifactCache(folder="given").path() == Path.cwd() / "given"
    assert ArtifactCache().path() == tmp_path / "ours"
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    assert ArtifactCache().path() == tmp_path / "xdg" / "fuseboard" / "artifacts"
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert ArtifactCache().path() == tmp_path / ".cache" / "fuseboard" / "artifacts"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no cache, in words."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(FolderUnusableError, match="Could not determine home directory"):
        Artifacts(ArtifactCache())


class BytesPath(os.PathLike[bytes]):
    def __fspath__(self) -> bytes:
        return b"cache"


@pytest.mark.parametrize(
    "said",
    [
        {"folder": 1},
        {"folder": ""},
        {"folder": BytesPath()},
        {"max_mb": 0},
        {"max_mb": 1.5},
        {"max_mb": True},
        {"max_mb": 1 << 21},
    ],
)
def test_settings_that_cannot_be_used(said: Any) -> None:
    """Each is a `UsageError` that names the argument and its value."""
    [(name, value)] = said.items()
    with pytest.raises(fb.UsageError, match=rf"^{name}={re.escape(repr(value))} (must be |is no path)"):
        ArtifactCache(**said)


MIB = 1 << 20


def test_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    """Above the bound, the entries that were used last stay; finding one is using it."""
    folder, keys = tmp_path / "cache", [digit * 64 for digit in "0123"]
    for age, key in enumerate(keys):
        os.utime(keep(folder, key, b"x" * MIB), (0, time.time() - 100 + age))
    assert found(folder, keys[0]) is not None
    keep(folder, KEY, b"x" * MIB, max_mb=4)
    assert sorted(each.name for each in folder.glob("*.artifact")) == [
        entry_name(key) for key in (keys[0], keys[3], KEY)
    ]


def test_an_entry_over_the_bound_is_kept_alone(tmp_path: Path) -> None:
    """The newest stays, however large: somebody is about to load it."""
    folder = tmp_path / "cache"
    keep(folder, OTHER)
    keep(folder, KEY, b"x" * 2 * MIB, max_mb=1)
    assert [each.name for each in folder.glob("*.artifact")] == [entry_name(KEY)]


def test_what_was_left_half_done_goes(tmp_path: Path) -> None:
    """What killed processes left goes after an hour: what is younger may be in use, what is another's stays."""
    folder = tmp_path / "cache"
    keep(folder)
    names = [f"{KEY}.lock", f"{KEY}.{'0' * 16}.part", f"{SECRET_NAME}.{'0' * 16}", f"{OTHER}.lock", "mine.txt"]
    for name in names:
        (folder / name).write_bytes(b"")
    for name in (*names[:3], "mine.txt"):
        os.utime(folder / name, (0, time.time() - 4_000))
    keep(folder)
    assert {each.name for each in folder.iterdir()} == {entry_name(KEY), SECRET_NAME, f"{OTHER}.lock", "mine.txt"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_cache_that_cannot_be_written_keeps_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Where a rename fails, or is interrupted, the error comes out and no part stays."""

    def rename(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(type(error)):
        keep(tmp_path / "cache")
    assert [each.name for each in (tmp_path / "cache").iterdir()] == [SECRET_NAME]


def test_what_is_wrong_and_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that is only read it is no entry, and no error."""

    def unlink(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    flipped(0)(keep(tmp_path / "cache"))
    monkeypatch.setattr(os, "unlink", unlink)
    assert found(tmp_path / "cache") is None


def test_what_was_exchanged_meanwhile_stays(tmp_path: Path) -> None:
    """An entry that is right isn't removed for the wrong one that was there when it was opened."""
    file = keep(tmp_path / "cache")
    with Artifacts(ArtifactCache(folder=tmp_path / "cache")) as artifacts:
        opened = artifacts.find(KEY)
        assert opened is not None
        with opened:
            keep(tmp_path / "cache")
            artifacts.discard(KEY, opened)
            assert file.exists()
            artifacts.folder.discard(file.name, None)  # of what was missed when it was looked for
            assert file.exists()
    assert found(tmp_path / "cache") == CONTENT


def test_many_make_one_secret(tmp_path: Path) -> None:
    """Whoever comes at the same time finds what the others kept."""
    keys = [f"{number:064x}" for number in range(16)]
    threads = [threading.Thread(target=keep, args=(tmp_path / "cache", key)) for key in keys]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [found(tmp_path / "cache", key) for key in keys] == [CONTENT] * 16


def test_what_is_listed_and_cleared(tmp_path: Path) -> None:
    """Entries tell of themselves, even one that can't; clearing removes all that is ours."""
    folder = tmp_path / "cache"
    os.utime(keep(folder), (0, 1_000))
    cut(10)(keep(folder, OTHER))
    (folder / "mine.txt").write_bytes(b"")
    with Artifacts(ArtifactCache(folder=folder)) as artifacts:
        kept = artifacts.kept()
        assert [(each.name, each.facts) for each in kept] == [(entry_name(OTHER), None), (entry_name(KEY), FACTS)]
        assert kept[1].used == 1_000
        assert artifacts.clear() == (2, 10 + kept[1].size)
        assert artifacts.kept() == []
    assert {each.name for each in folder.iterdir()} == {SECRET_NAME, "mine.txt"}
