"""Files that are no modules: other formats, other versions, other wrappings."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import pickle
import random
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import wasmtime

from fuseboard import _core

from .binary import HEADER, leb, module
from .case import Case, End

NOT_WASM: Final = "is not a WebAssembly module: it does not begin with"
NATIVE: Final = "is native code (ELF), perhaps precompiled"
COMPONENT: Final = "is a WebAssembly component; build a core module instead"
TEXT: Final = "is WebAssembly text; translate it first"
CUT: Final = "is cut: it ends within the 8 bytes that WebAssembly begins with"
VERSION: Final = "is of a WebAssembly version that Fuseboard does not know"
NO_MEMORY: Final = 'exports no memory named "memory"'
SOURCE: Final = '(module (memory (export "memory") 1) (func (export "run")))'

FORMATS: Final = "what tells formats apart"
CODE: Final = "loading as precompiled code, which would run it"


def noise(length: int) -> bytes:
    return random.Random(7).randbytes(length)


def precompiled() -> bytes:
    """Return an artifact of the wasmtime package's engine."""
    return bytes(wasmtime.Module(wasmtime.Engine(), SOURCE).serialize())


def own_artifact() -> bytes:
    """Return an artifact of Fuseboard's own engine, as the cache holds it."""
    return bytes(_core.compile(module(), 4 << 20, True))


def shared_library() -> bytes:
    """Return a library that this machine would load: the core of Fuseboard itself."""
    return Path(_core.__file__).read_bytes()[: 4 << 20]


def elf(bits: int) -> bytes:
    return b"\x7fELF" + bytes([bits, 1, 1]) + bytes(200)


def component() -> bytes:
    return bytes(wasmtime.wat2wasm("(component (core module))"))


def artifact_in_a_module() -> bytes:
    """Return a module with precompiled code behind its end."""
    return module() + precompiled()


def entry_of_a_cache() -> bytes:
    """Return what begins like a file of the artifact cache of another version."""
    return b"fuseboard artifact 1\n" + own_artifact()


def sparse(length: int) -> bytes:
    """Return a file of zeros, by way of a file as it would come."""
    with tempfile.TemporaryFile() as file:
        file.truncate(length)
        return file.read()


def _file(name: str, words: str, data: bytes, attacks: str = FORMATS) -> Case:
    return Case(f"file: {name}", attacks, End.SCAN, words, partial(bytes, data))


CASES: Final = (
    _file("empty", "is empty", b""),
    _file("one byte", NOT_WASM, b"\0"),
    _file("half the magic", NOT_WASM, b"\0as"),
    _file("magic only", CUT, b"\0asm"),
    _file("header only", NO_MEMORY, HEADER),
    _file("version 0", VERSION, b"\0asm\0\0\0\0"),
    _file("version 2", VERSION, b"\0asm\2\0\0\0"),
    _file("version 4 billion", VERSION, b"\0asm\xff\xff\xff\xff"),
    _file("magic in capitals", NOT_WASM, b"\0ASM" + module()[4:]),
    _file("a blank before the magic", NOT_WASM, b" " + module()),
    _file("a byte order mark before the magic", NOT_WASM, b"\xef\xbb\xbf" + module()),
    _file("random bytes", NOT_WASM, noise(5_000)),
    _file("random bytes behind the header", "cannot be read", HEADER + noise(5_000)),
    _file("HTML", NOT_WASM, b"<!doctype html><title>404</title>"),
    _file("JSON", NOT_WASM, b'{"module": "plugin.wasm"}'),
    _file("a picture", NOT_WASM, b"\x89PNG\r\n\x1a\n" + noise(99)),
    _file("a zip archive", NOT_WASM, b"PK\3\4" + noise(99)),
    _file("a script", NOT_WASM, b"#!/bin/sh\nexit 0\n", CODE),
    _file("a pickle", NOT_WASM, pickle.dumps({"cos": 1}), CODE),
    _file("a Windows program", NOT_WASM, b"MZ" + noise(99), CODE),
    _file("a macOS program", NOT_WASM, b"\xcf\xfa\xed\xfe" + noise(99), CODE),
    _file("an ELF header", NATIVE, elf(2), CODE),
    _file("an ELF header of 32 bits", NATIVE, elf(1), CODE),
    _file("a module compressed by gzip", NOT_WASM, gzip.compress(module(), mtime=0)),
    _file("a module compressed by bzip2", NOT_WASM, bz2.compress(module())),
    _file("a module compressed by xz", NOT_WASM, lzma.compress(module())),
    _file("a module as base64", NOT_WASM, base64.b64encode(module())),
    _file("a component's header", COMPONENT, b"\0asm\x0d\0\1\0"),
    _file("text", TEXT, SOURCE.encode()),
    _file("text after blanks", TEXT, b"\n\t " + SOURCE.encode()),
    _file("text after a comment", TEXT, b";; a plugin\n" + SOURCE.encode()),
    _file("text in UTF-16", NOT_WASM, SOURCE.encode("utf-16")),
    _file("text without an end", TEXT, b"(" * 100_000),
    _file("a section's size only", "cannot be read", HEADER + b"\1" + leb(0xFFFFFFFF)),
    Case("file: a component", FORMATS, End.SCAN, COMPONENT, component),
    Case("file: a library of this machine", CODE, End.SCAN, NATIVE, shared_library),
    Case("file: precompiled by another engine", CODE, End.SCAN, NATIVE, precompiled),
    Case("file: precompiled by Fuseboard's engine", CODE, End.SCAN, NATIVE, own_artifact),
    Case("file: precompiled code after a module", CODE, End.SCAN, "cannot be read", artifact_in_a_module),
    Case("file: an entry of the cache", CODE, End.SCAN, NOT_WASM, entry_of_a_cache),
    Case("file: 32 MiB of zeros", "memory", End.SCAN, NOT_WASM, partial(sparse, 32 << 20)),
    Case(
        "file: 33 MiB of zeros",
        "memory",
        End.REFUSED,
        "the module has more than 33554432 bytes",
        partial(sparse, 33 << 20),
    ),
)
