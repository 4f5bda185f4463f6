"""Compile guests from their sources, and keep each module by what it is made of.

Rules:
* Compilers and their arguments are those of `fuseboard build`: `TOOLCHAINS`.
* The key is the compiler's version, its arguments and the bytes of all sources. The same key gives the same module, so
  that nothing is compiled twice. Modules are kept in the user's cache, and nothing is written into the work tree.
* The network is used only where `fetches` says so. What is missing is named, with the way to get it: `LackingError`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fuseboard._toolchains import RUST_TARGET, TOOLCHAINS, Compiler, Language, Tool, sources_in, without_debug_sections

ROOT: Final = Path(__file__).resolve().parent.parent
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fuseboard" / "guests"
_KEPT: Final = 8
"""How many modules of one name are kept: those of some branches and checkouts."""

_SUFFIXES: Final = {".c", ".cpp", ".go", ".h", ".hpp", ".lock", ".mod", ".rs", ".sum", ".toml", ".zig"}
_NO_SOURCES: Final = {".zig-cache", "examples", "target", "testdata", "tests", "zig-out"}
_VERSION: Final = re.compile(r"\d+(\.\d+)+")


class LackingError(Exception):
    """This machine lacks what a guest is compiled with; the text says what, and how to get it."""


class BrokenError(Exception):
    """The sources can't be compiled; the text has what the compiler says."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a module is made from.

    Attributes:
        name: what it is called in tables.
        folder: what is compiled, relative to the repository's root.
        sdks: folders of the sources that it includes, relative to the root.
        more: further arguments of the compiler.
    """

    name: str
    language: Language
    folder: str
    sdks: tuple[str, ...] = ()
    more: tuple[str, ...] = ()

    @property
    def compiler(self) -> Compiler:
        """What compiles it: only the first of its language, so that all machines make the same."""
        return TOOLCHAINS[self.language].compilers[0]

    def kept_at(self) -> Path:
        """Return where its module is, once it is compiled.

        Raises:
            LackingError: its compiler isn't here.
        """
        located(self.compiler.tool)
        made_by = (version(self.compiler.tool), *self.compiler.arguments, *self.more)
        digest = hashlib.sha256("\0".join(made_by).encode())
        for path in self._files():
            digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
        return CACHE / f"{self.name}-{digest.hexdigest()[:32]}.wasm"

    def compiled(self, *, fetches: bool = False) -> Path:
        """Return where its module is, compiling it where it isn't kept yet.

        Raises:
            LackingError: its compiler isn't here, or needs the network.
            BrokenError: the sources can't be compiled.
        """
        kept = self.kept_at()
        if kept.exists():
            return kept
        if self.language is Language.RUST:
            _ready_for_rust(ROOT / self.folder, fetches=fetches)
        CACHE.mkdir(parents=True, exist_ok=True)
        with _alone(), tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            module = Path(scratch) / "module.wasm"
            module.write_bytes(without_debug_sections(self._built(module).read_bytes()))
            module.replace(kept)
        self._forget_old()
        return kept

    def _forget_old(self) -> None:
        others = sorted(CACHE.glob(f"{self.name}-*.wasm"), key=lambda path: path.stat().st_mtime)
        for path in others[:-_KEPT]:
            path.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        for folder in (self.folder, *self.sdks):
            for path in sorted((ROOT / folder).rglob("*")):
                parts = path.relative_to(ROOT / folder).parts
                if path.suffix in _SUFFIXES and not path.name.endswith("_test.go") and not _NO_SOURCES & {*parts}:
                    yield path

    def _built(self, module: Path) -> Path:
        """Compile it, and return where the compiler put the module."""
        toolchain, folder = TOOLCHAINS[self.language], ROOT / self.folder
        more = (*self.more, "--locked") if self.language is Language.RUST else self.more
        command = self.compiler.command(located(self.compiler.tool), module, sources_in(folder, toolchain), more)
        surroundings = {**toolchain.defaults, **os.environ, **toolchain.environment, **_surroundings(self.language)}
        done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokenError(f"{self.folder} can't be compiled:\n{done.stderr.strip()}")
        return module if self.language is not Language.RUST else _where_cargo_put_it(done.stdout)


@contextmanager
def _alone() -> Iterator[None]:
    """Keep others out while a module is compiled: Cargo puts those of two checkouts in the same place."""
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _surroundings(language: Language) -> dict[str, str]:
    """Return variables by which a compiler uses no network, and gives all checkouts the same bytes."""
    if language is Language.GO:
        return {"GOPROXY": "off", "GOFLAGS": ""}
    if language is not Language.RUST:
        return {}
    crates = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo") / "registry" / "src"
    moved = [f"--remap-path-prefix={ROOT}/=", *(f"--remap-path-prefix={each}=crates" for each in crates.glob("*"))]
    return {
        "CARGO_NET_OFFLINE": "true",
        "CARGO_TARGET_DIR": str(CACHE / "rust"),
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(moved),
        "RUSTC_WRAPPER": str(ROOT / "tools" / "rustc_by_name.sh"),
    }


@cache
def located(tool: Tool) -> tuple[str, ...]:
    """Return how a tool is started.

    Raises:
        LackingError: it isn't here, or is too old.
    """
    found = tool.located()
    if found is None:
        raise LackingError(f"{tool.name} isn't here: {tool.get}")
    said = _VERSION.search(_said(*found, *tool.version.split()))
    if said is None or tuple(map(int, said[0].split("."))) < tool.oldest:
        oldest = ".".join(map(str, tool.oldest))
        raise LackingError(f"{tool.name} is {said and said[0]}, and {oldest} or newer is needed: {tool.get}")
    return found


@cache
def version(tool: Tool) -> str:
    """Return what a tool says of its version: a compiler's is `rustc 1.95.0 (59807616e 2026-04-14)`."""
    return _said("rustc", "--version") if tool.name == "cargo" else _said(*located(tool), *tool.version.split())


def number(tool: Tool) -> str:
    """Return a tool's version as a number, as it is recorded beside modules that are compared."""
    found = _VERSION.search(version(tool))
    return found[0] if found else version(tool)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# ── Rust ─────────────────────────────────────────────────────────────────────────────────────────


def _ready_for_rust(folder: Path, *, fetches: bool) -> None:
    """Have the target and the crates here."""
    libraries = Path(_said("rustc", "--print", "target-libdir", "--target", RUST_TARGET))
    if not libraries.is_dir() and not (fetches and shutil.which("rustup")):
        raise LackingError(f"Rust's target {RUST_TARGET} isn't here: rustup target add {RUST_TARGET}")
    if not libraries.is_dir():
        _fetched("rustup", "target", "add", RUST_TARGET)
    if fetches:
        _fetched("cargo", "fetch", "--locked", "--manifest-path", str(folder / "Cargo.toml"))


def _fetched(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LackingError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def _where_cargo_put_it(messages: str) -> Path:
    files = (name for line in messages.splitlines() for name in json.loads(line).get("filenames", []))
    return Path([name for name in files if name.endswith(".wasm")][-1])
