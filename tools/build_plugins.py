"""Build the example plugins and the test plugins from their sources, in whatever language these are.

`plugin.c` is compiled freestanding by Zig's C compiler, `plugin.wat` by wat2wasm, and a folder with `Cargo.toml` or
`go.mod` as `fuseboard build` does it. With `--check`, build them elsewhere and compare: each committed module must be
what its source gives. Other versions of Rust and Go give other bytes: `plugins/compilers.toml` has those that the
committed modules were compiled by, and where this machine's differ, that is said, and the module isn't compared.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from wasmtime import wat2wasm

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.compiling import LackingError, Source, number  # noqa: E402  the folder above is put on the path first

from fuseboard._toolchains import TOOLCHAINS, Language, without_debug_sections  # noqa: E402

FOLDERS: Final = ("plugins", "tests/plugins")
COMPILERS: Final = ROOT / "plugins" / "compilers.toml"
MODULE: Final = "plugin.wasm"
SDKS: Final = {Language.RUST: "guest/rust", Language.GO: "guest/go"}
"""The languages whose plugins have a version of the compiler recorded, and their SDKs."""

C_FLAGS: Final = (
    "-target", "wasm32-freestanding", "-std=c17", "-Os", "-g1", "-nostdlib", "-mbulk-memory", "-mreference-types",
    "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", "-Wno-infinite-recursion", "-fno-sanitize=all",
    "-Wl,--no-entry", "-Wl,-z,stack-size=16384",
    "-Iguest/c",
)  # fmt: skip


def main() -> int:
    """Build or check every plugin; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    texts = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*/plugin.[cw]*") if is_text(path))
    projects = project_sources()
    if not check:
        record([source.language for source in projects])
    with tempfile.TemporaryDirectory() as scratch:
        built = [(path.parent, module_of(path, Path(scratch))) for path in texts]
    built += [
        (ROOT / source.folder, module) for source in projects if (module := module_of_project(source, check=check))
    ]
    differing = [folder for folder, module in built if not (compared if check else written)(folder, module)]
    print(
        f"{len(built)} plugins, {len(differing)} differ from their source" if check else f"{len(built)} plugins built"
    )
    is_uncompared = bool(os.environ.get("CI")) and len(built) < len(texts) + len(projects)
    return int(bool(differing) or is_uncompared)


# ── C and text ───────────────────────────────────────────────────────────────────────────────────


def is_text(path: Path) -> bool:
    """Return whether a path is a plugin's only source."""
    return path.suffix in {".c", ".wat"}


def module_of(source: Path, scratch: Path) -> bytes:
    """Return the module that a source gives."""
    if source.suffix == ".wat":
        return bytes(wat2wasm(source.read_text()))
    target = scratch / MODULE
    relative = source.relative_to(ROOT)
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *C_FLAGS, "-o", str(target), str(relative)], cwd=ROOT, check=True
    )
    return without_debug_sections(target.read_bytes())


# ── Rust and Go ──────────────────────────────────────────────────────────────────────────────────


def project_sources() -> list[Source]:
    """Return the plugins whose folder is a project in Rust or Go."""
    found = []
    for language, sdk in SDKS.items():
        for marker in sorted(ROOT.glob(f"plugins/*/{TOOLCHAINS[language].marker}")):
            folder = marker.parent
            found.append(Source(f"plugin-{folder.name}", language, str(folder.relative_to(ROOT)), (sdk,)))
    return found


def module_of_project(source: Source, *, check: bool) -> bytes | None:
    """Return the module that a project gives; to be compared only where the compiler is the one that is recorded."""
    try:
        here = number(source.compiler.tool)
        recorded = recorded_versions().get(source.language, "of a version that isn't recorded")
        if check and here != recorded:
            title = TOOLCHAINS[source.language].title
            print(
                f"{source.folder} isn't compared: what is committed was made by {title} {recorded}, and here is {here}"
            )
            return None
        return source.compiled(fetches=not check).read_bytes()
    except LackingError as error:
        print(f"{source.folder} can't be compiled: {error}")
        return None


def recorded_versions() -> dict[str, str]:
    """Return the compilers' versions that made the committed modules, by language."""
    return tomllib.loads(COMPILERS.read_text(encoding="utf-8")) if COMPILERS.exists() else {}


def record(languages: list[Language]) -> None:
    """Write down which compilers are here."""
    if languages:
        versions = {language: number(TOOLCHAINS[language].compilers[0].tool) for language in sorted(set(languages))}
        head = "# What compiled the committed modules; other versions give other bytes. By tools/build_plugins.py.\n"
        COMPILERS.write_text(head + "".join(f'{language} = "{found}"\n' for language, found in versions.items()))


# ── what comes of it ─────────────────────────────────────────────────────────────────────────────


def written(folder: Path, module: bytes) -> bool:
    """Write a module beside its source."""
    (folder / MODULE).write_bytes(module)
    print(f"{folder.relative_to(ROOT)}: {len(module):,} bytes")
    return True


def compared(folder: Path, module: bytes) -> bool:
    """Return whether the committed module is this one."""
    committed = folder / MODULE
    is_same = committed.exists() and committed.read_bytes() == module
    if not is_same:
        print(f"{committed.relative_to(ROOT)} isn't what its source gives; run tools/build_plugins.py")
    return is_same


if __name__ == "__main__":
    sys.exit(main())
