"""A process that loads a plugin when it is told to, from the cache of all: prints how often it compiled."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

import fuseboard as fb

READY: Final = "ready"


class _Compilations(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += record.getMessage().startswith("plugin guest-0: compiled")


def main(wasm: Path, folder: Path, manifest: dict[str, Any]) -> None:
    """Load, and tell."""
    compilations, log = _Compilations(), logging.getLogger("fuseboard")
    log.addHandler(compilations)
    log.setLevel(logging.INFO)
    cache = fb.ArtifactCache(folder=folder)
    with fb.Host(hooks=[fb.Filter(manifest["hooks"][0]["name"], bytes)], cache=cache) as host:
        print(READY, flush=True)
        sys.stdin.readline()
        host.load_bytes(wasm.read_bytes(), manifest, grants="as-requested")
        print(compilations.count, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), msgspec.json.decode(sys.argv[3]))
