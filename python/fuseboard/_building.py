"""Compiles a plugin's folder into its module, with the author's own compiler.

Rules:
* What is missing is found before the compiler starts, and is told with the way to get it.
* The compiler's words go to standard error as it says them.
* The old module stays in its place until the new one is whole.
* Whatever ends a build early ends the compiler, and all that it began.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fuseboard._toolchains import (
    TOOLCHAINS,
    Compiler,
    Tool,
    Toolchain,
    languages_in,
    sources_in,
    without_debug_sections,
)

_WASM_HEADER: Final = b"\0asm\1\0\0\0"
_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")
_STANDARD_ERROR: Final = 2
_GRACE_SECONDS: Final = 2.0
"""How long a compiler that was interrupted may take to end."""


class CannotBuildError(Exception):
    """The compiler can't be started; `args` are lines that say why and what to do."""


class CompilerFailedError(Exception):
    """The compiler had something against the source, and said so itself; `args[0]` is one sentence."""


@dataclass(frozen=True, slots=True)
class Builder:
    """A compiler as it was found on this machine."""

    toolchain: Toolchain
    compiler: Compiler
    located: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Built:
    """What a build made: the module's size in bytes, and how long the compiler took."""

    size: int
    seconds: float


def builder_for(folder: Path) -> Builder:
    """Return what compiles a plugin's folder.

    Raises:
        CannotBuildError: the folder has no source, or sources of two languages; or a tool is missing or too old.
    """
    toolchain = _toolchain_of(folder)
    compiler, located = _located(toolchain)
    version = _version(folder, toolchain, compiler.tool, located)
    if toolchain.rust_target:
        _look_for_rust_target(folder, toolchain)
    return Builder(toolchain, compiler, located, version)


def build(
    folder: Path, module: Path, builder: Builder, more: Iterable[str], told: Callable[[list[str]], object]
) -> Built:
    """Compile a plugin's folder into a module.

    Args:
        folder: where the source is.
        module: the file to make or to replace.
        builder: what compiles it.
        more: further arguments for the compiler.
        told: gets the command before it starts.

    Raises:
        CompilerFailedError: the source doesn't compile.
        CannotBuildError: what it makes isn't one module, or can't be put in its place.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuseboard-build-") as scratch:
        output = Path(scratch) / "plugin.wasm"
        command = builder.compiler.command(builder.located, output, sources_in(folder, builder.toolchain), more)
        told(command)
        said = _run(folder, command, builder)
        content = _content(_artifact(folder, said) if builder.compiler.tells_output else output)
    seconds = time.monotonic() - begun
    _put(content, module)
    return Built(len(content), seconds)


# ── what is there ────────────────────────────────────────────────────────────────────────────────


def _toolchain_of(folder: Path) -> Toolchain:
    found = [TOOLCHAINS[language] for language in languages_in(folder)]
    if len(found) == 1:
        return found[0]
    if found:
        both = " and ".join(f"{each.marker} ({each.title})" for each in found)
        raise CannotBuildError(f"{folder}: has {both}: a plugin is built from one language; move the others elsewhere")
    known = ", ".join(f"{each.marker} ({each.title})" for each in TOOLCHAINS.values())
    raise CannotBuildError(f"{folder}: there is no source to build: one of these is needed: {known}")


def _located(toolchain: Toolchain) -> tuple[Compiler, tuple[str, ...]]:
    for compiler in toolchain.compilers:
        if located := compiler.tool.located():
            return compiler, located
    tools = [compiler.tool for compiler in toolchain.compilers]
    names = " or ".join(tool.name for tool in tools)
    ways = "; or ".join(tool.get for tool in tools)
    raise CannotBuildError(f"{toolchain.title} needs {names}, which isn't on PATH: {ways}")


def _version(folder: Path, toolchain: Toolchain, tool: Tool, located: tuple[str, ...]) -> str:
    """Return the version that a tool says it is; empty where it says none, as what its own makers build may do."""
    said = _asked(folder, toolchain, *located, tool.version)
    if said.returncode:
        raise CannotBuildError(f"`{tool.name} {tool.version}` failed:", *(said.stderr or said.stdout).splitlines())
    found = _VERSION.search(said.stdout)
    if found is None:
        return ""
    if tuple(map(int, found[0].split("."))) < tool.oldest:
        oldest = ".".join(map(str, tool.oldest))
        place = " ".join(located)
        raise CannotBuildError(
            f"{toolchain.title} needs {tool.name} {oldest} or newer, and {place} is {found[0]}: {tool.get}"
        )
    return found[0]


def _look_for_rust_target(folder: Path, toolchain: Toolchain) -> None:
    target, compiler = toolchain.rust_target, os.environ.get("RUSTC", "rustc")
    try:
        said = _asked(folder, toolchain, compiler, "--print", "target-libdir", "--target", target)
    except CannotBuildError:
        return  # Cargo may know of another
    if said.returncode == 0 and not Path(said.stdout.strip()).is_dir():
        raise CannotBuildError(
            f"Rust can't compile for {target} yet: rustup target add {target}",
            "(without rustup: the package of your system that has Rust's standard library for it)",
        )


def _asked(folder: Path, toolchain: Toolchain, *command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  the author's own compiler
            command, cwd=folder, env=_environment(toolchain), capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise CannotBuildError(f"{command[0]} can't be started: {error.strerror}") from None


def _environment(toolchain: Toolchain) -> dict[str, str]:
    return {**toolchain.defaults, **os.environ, **toolchain.environment}


# ── the compiler at work ─────────────────────────────────────────────────────────────────────────


def _run(folder: Path, command: list[str], builder: Builder) -> bytes:
    """Run a compiler to its end and return what it tells of its output."""
    with _begun(folder, command, builder) as process:
        said, _ = process.communicate()
    if process.returncode:
        raise CompilerFailedError(f"{builder.compiler.tool.name} ended with {_ending(process.returncode)}")
    return said or b""


@contextmanager
def _begun(folder: Path, command: list[str], builder: Builder) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(  # noqa: S603  the author's own compiler
            command,
            cwd=folder,
            env=_environment(builder.toolchain),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if builder.compiler.tells_output else _STANDARD_ERROR,
            process_group=0,
        )
    except OSError as error:
        raise CannotBuildError(f"{command[0]} can't be started: {error.strerror}") from None
    try:
        yield process
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a compiler as Ctrl-C does, and then end what is left of it and of all that it began."""
    _send(process, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(_GRACE_SECONDS)
    _send(process, signal.SIGKILL)
    process.communicate()


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(process.pid, number)


def _ending(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"


def _artifact(folder: Path, said: bytes) -> Path:
    """Return the module that Cargo tells, in its messages, to have made of the folder's package."""
    manifest = str((folder / "Cargo.toml").resolve())
    made = {
        path
        for message in _messages(said)
        if message.get("reason") == "compiler-artifact" and message["manifest_path"] == manifest
        for path in message["filenames"]
        if path.endswith(".wasm") and "cdylib" in message["target"]["kind"]
    }
    if len(made) != 1:
        names = ", ".join(sorted(Path(path).name for path in made)) or "none"
        raise CannotBuildError(
            f'{manifest}: must make one cdylib, and makes {names}: a plugin has [lib] crate-type = ["cdylib"]'
        )
    return Path(made.pop())


def _messages(said: bytes) -> Iterator[dict[str, Any]]:
    """Yield Cargo's messages; what macros print stands between them."""
    for line in said.splitlines():
        with suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict):
                yield message


# ── the module ───────────────────────────────────────────────────────────────────────────────────


def _content(made: Path) -> bytes:
    try:
        content = made.read_bytes()
    except OSError as error:
        raise CannotBuildError(f"the compiler left no module at {made}: {error.strerror}") from None
    if not content.startswith(_WASM_HEADER):
        raise CannotBuildError("the compiler made something else than a WebAssembly module: look at its arguments")
    return without_debug_sections(content)


def _put(content: bytes, module: Path) -> None:
    """Put a module in its place in one step."""
    try:
        module.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fuseboard-", dir=module.parent) as beside:
            part = Path(beside) / module.name
            part.write_bytes(content)
            part.replace(module)
    except OSError as error:
        raise CannotBuildError(f"{module} can't be written: {error.strerror}") from None
