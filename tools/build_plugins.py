"""Build the example plugins and the test plugins: `plugin.c` by Zig's C compiler, `plugin.wat` by wat2wasm.

With `--check`, build them elsewhere and compare: each committed module must be what its source gives.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from wasmtime import wat2wasm

ROOT = Path(__file__).resolve().parent.parent
CUSTOM_SECTION = 0
FOLDERS = ("plugins", "tests/plugins")
FLAGS = (
    "-target", "wasm32-freestanding", "-std=c17", "-Os", "-g1", "-nostdlib", "-mbulk-memory", "-mreference-types",
    "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", "-Wno-infinite-recursion", "-fno-sanitize=all",
    "-Wl,--no-entry", "-Wl,-z,stack-size=16384",
    "-Iguest/c",
)  # fmt: skip


def main() -> int:
    """Build or check every plugin; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    sources = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*/plugin.[cw]*") if is_source(path))
    with tempfile.TemporaryDirectory() as scratch:
        built = [(source, module_of(source, Path(scratch))) for source in sources]
    differing = [source for source, module in built if not (compared if check else written)(source, module)]
    print(
        f"{len(built)} plugins, {len(differing)} differ from their source" if check else f"{len(built)} plugins built"
    )
    return 1 if differing else 0


def is_source(path: Path) -> bool:
    """Return whether a path is a plugin's source."""
    return path.suffix in {".c", ".wat"}


def module_of(source: Path, scratch: Path) -> bytes:
    """Return the module that a source gives."""
    if source.suffix == ".wat":
        return bytes(wat2wasm(source.read_text()))
    target = scratch / "plugin.wasm"
    relative = source.relative_to(ROOT)
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", str(target), str(relative)], cwd=ROOT, check=True
    )
    return without_debug_sections(target.read_bytes())


def without_debug_sections(module: bytes) -> bytes:
    """Return a module with function names, for backtraces, but without its other custom sections."""
    kept, start = bytearray(module[:8]), 8
    while start < len(module):
        content = start + 1
        size, content = leb128(module, content)
        end = content + size
        if module[start] != CUSTOM_SECTION or module[content:end].startswith(b"\x04name"):
            kept += module[start:end]
        start = end
    return bytes(kept)


def leb128(data: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned number at a place, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004  the bit that says that more follows
            return number, at


def written(source: Path, module: bytes) -> bool:
    """Write a module beside its source."""
    source.with_suffix(".wasm").write_bytes(module)
    print(f"{source.parent.relative_to(ROOT)}: {len(module):,} bytes")
    return True


def compared(source: Path, module: bytes) -> bool:
    """Return whether the committed module is this one."""
    committed = source.with_suffix(".wasm")
    is_same = committed.exists() and committed.read_bytes() == module
    if not is_same:
        print(f"{committed.relative_to(ROOT)} isn't what its source gives; run tools/build_plugins.py")
    return is_same


if __name__ == "__main__":
    sys.exit(main())
