"""The languages that plugins are written in: what tells each, what compiles it and how, and where to get that.

Rules:
* `TOOLCHAINS` is the one table: `fuseboard new`, `fuseboard build`, the repository's tools and its tests read it.
* Modules keep the names of their functions, for backtraces, and lose the rest of what debuggers read:
  `without_debug_sections` does that for compilers that can only keep or drop both.
* Nothing runs a compiler here.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

OUTPUT: Final = "{output}"
"""Stands for the module's path in a compiler's arguments."""

SOURCES: Final = "{sources}"
"""Stands for all sources in a compiler's arguments."""

STACK_BYTES: Final = 65_536
"""The C stack of a guest; by default it is up to 16 MiB, which would count as memory before anything runs."""

RUST_TARGET: Final = "wasm32-wasip1"

_CUSTOM_SECTION: Final = 0
_HEADER_BYTES: Final = 8


class Language(StrEnum):
    """What a plugin is written in."""

    RUST = "rust"
    GO = "go"
    C = "c"
    CPP = "cpp"
    ZIG = "zig"


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that compiles.

    Attributes:
        name: what is looked for on `PATH`.
        version: the arguments by which it tells its version, whose first number with a dot is it.
        oldest: the oldest version that will do.
        get: the way to get it, as what follows "it is needed:".
        module: the Python module that is it too, looked for before `PATH`.
    """

    name: str
    version: str
    oldest: tuple[int, ...]
    get: str
    module: str | None = None

    def located(self) -> tuple[str, ...] | None:
        """Return how it is started on this machine, or `None` where it isn't there."""
        if self.module is not None and importlib.util.find_spec(self.module) is not None:
            return sys.executable, "-m", self.module
        path = shutil.which(self.name)
        return None if path is None else (path,)


@dataclass(frozen=True, slots=True)
class Compiler:
    """A tool with the arguments that make a plugin's module of its folder, in which it is started."""

    tool: Tool
    arguments: tuple[str, ...]

    @property
    def tells_output(self) -> bool:
        """Whether it tells where the module is, in JSON on standard output, as Cargo does: it can't be told."""
        return not any(OUTPUT in argument for argument in self.arguments)

    def command(
        self, located: tuple[str, ...], output: Path, sources: Iterable[str], more: Iterable[str] = ()
    ) -> list[str]:
        """Return the whole command.

        Args:
            located: how the tool is started, as `Tool.located` gives it.
            output: where the module goes, unless the compiler tells that itself.
            sources: the files to compile, relative to the folder, where the compiler doesn't find them itself.
            more: further arguments, by the plugin's author.
        """
        written: list[str] = []
        for argument in self.arguments:
            written.extend(sources if argument == SOURCES else [argument.replace(OUTPUT, str(output))])
        return [*located, *written, *more]


@dataclass(frozen=True, slots=True)
class Toolchain:
    """How a language's plugins are compiled.

    Attributes:
        title: the language's name, for people.
        marker: the file in a plugin's folder that tells the language.
        sdk: the folder of its SDK below `guest/`.
        sdk_place: where a plugin has its copy of that, in its own folder.
        sdk_lock: the file of the SDK that pins what it depends on; the plugin's own begins as that.
        sources: a pattern of the files to compile, or empty where the compiler finds them itself.
        compilers: the first that is on the machine compiles.
        exporting: what exports a hook's function; `{export}` stands for its name.
        environment: variables that the compiler needs.
        defaults: variables that it gets unless the author has set them.
        rust_target: a target that rustc must have the standard library for.
    """

    title: str
    marker: str
    compilers: tuple[Compiler, ...]
    exporting: str
    sdk: str
    sdk_place: str = "."
    sdk_lock: str = ""
    sources: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    rust_target: str = ""


_CARGO: Final = Tool("cargo", "--version", (1, 85), "install Rust from https://rustup.rs")
_GO: Final = Tool("go", "version", (1, 24), "install Go from https://go.dev/dl")
_ZIG_CC: Final = Tool("zig", "version", (0, 14), "pip install ziglang", module="ziglang")
_ZIG: Final = replace(_ZIG_CC, oldest=(0, 17))
"""The language changes with each version, what it makes of C doesn't."""
_CLANG: Final = Tool(
    "clang", "--version", (14,), "install clang, lld, wasi-libc and clang's runtime library for wasm32"
)
_CLANGXX: Final = Tool("clang++", "--version", (14,), f"{_CLANG.get}, and libc++ for wasm32")

_WASI: Final = (
    "-mexec-model=reactor", "-Os", "-UNDEBUG", "-g1", "-Wall", "-Wextra", f"-Wframe-larger-than={STACK_BYTES // 4}",
    "-I.", f"-Wl,-z,stack-size={STACK_BYTES}", "-o", OUTPUT, SOURCES,
)  # fmt: skip
"""Zig's `-Os` defines `NDEBUG` by itself, and `assert` would hold anything for true."""
_C_EXPORT: Final = "FUSEBOARD_EXPORT({export}) before the function's body"
_CPP: Final = ("-std=c++20", "-fno-exceptions", *_WASI)

TOOLCHAINS: Final[Mapping[Language, Toolchain]] = {
    Language.RUST: Toolchain(
        "Rust",
        "Cargo.toml",
        (
            Compiler(
                _CARGO, ("build", "--release", "--target", RUST_TARGET, "--message-format=json-render-diagnostics")
            ),
        ),
        exporting="#[filter] or #[action] right above fn {export}",
        sdk="rust",
        sdk_place="fuseboard-guest",
        sdk_lock="Cargo.lock",
        rust_target=RUST_TARGET,
    ),
    Language.GO: Toolchain(
        "Go",
        "go.mod",
        (
            Compiler(
                _GO,
                ("build", "-buildmode=c-shared", "-buildvcs=false", "-trimpath", "-ldflags=-w", "-o", OUTPUT),
            ),
        ),
        exporting="//go:wasmexport {export} right above a function, without a space after the //",
        sdk="go",
        sdk_place="fuseboard",
        environment={"GOOS": "wasip1", "GOARCH": "wasm", "CGO_ENABLED": "0"},
        defaults={"GOWORK": "off"},
    ),
    Language.C: Toolchain(
        "C",
        "plugin.c",
        (
            Compiler(_ZIG_CC, ("cc", "-target", "wasm32-wasi", *_WASI)),
            Compiler(_CLANG, ("--target=wasm32-wasi", *_WASI)),
        ),
        exporting=_C_EXPORT,
        sdk="c",
        sources="*.c",
    ),
    Language.CPP: Toolchain(
        "C++",
        "plugin.cpp",
        (
            Compiler(_ZIG_CC, ("c++", "-target", "wasm32-wasi", *_CPP)),
            Compiler(_CLANGXX, ("--target=wasm32-wasi", *_CPP)),
        ),
        exporting=_C_EXPORT,
        sdk="c",
        sources="*.cpp",
    ),
    Language.ZIG: Toolchain(
        "Zig",
        "plugin.zig",
        (
            Compiler(
                _ZIG,
                (
                    "build-exe", "-target", "wasm32-freestanding", "-O", "ReleaseSmall", "-fno-strip", "-fno-entry",
                    "-rdynamic", "--stack", str(STACK_BYTES), "-I.", f"-femit-bin={OUTPUT}", SOURCES,
                ),
            ),
        ),
        exporting='fb.hook("{export}", function) in a comptime block',
        sdk="zig",
        sources="plugin.zig",
    ),
}  # fmt: skip


def languages_in(folder: Path) -> list[Language]:
    """Return the languages whose marker is in a folder."""
    return [language for language, toolchain in TOOLCHAINS.items() if (folder / toolchain.marker).is_file()]


def sources_in(folder: Path, toolchain: Toolchain) -> list[str]:
    """Return the names of the files in a folder that its compiler is to be told."""
    return sorted(path.name for path in folder.glob(toolchain.sources)) if toolchain.sources else []


def without_debug_sections(module: bytes) -> bytes:
    """Return a module with the names of its functions, for backtraces, but without its other custom sections."""
    kept, start = bytearray(module[:_HEADER_BYTES]), _HEADER_BYTES
    while start < len(module):
        content = start + 1
        size, content = _leb128(module, content)
        end = content + size
        if module[start] != _CUSTOM_SECTION or module[content:end].startswith(b"\x04name"):
            kept += module[start:end]
        start = end
    return bytes(kept)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned number at a place, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004  the bit that says that more follows
            return number, at
