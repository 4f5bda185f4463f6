"""The documentation says what the code does: its examples run, its tables are current, and nothing is left out."""

from __future__ import annotations

import importlib.util
import logging
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from wasmtime import wat2wasm

import fuseboard
from fuseboard import (
    ArtifactCache,
    AsyncHost,
    Breaker,
    BreakerChange,
    BreakerEvent,
    BreakerPolicy,
    BreakerState,
    Caps,
    Cause,
    CompileLimits,
    FuseboardError,
    Host,
    Limit,
    SkipReason,
    Trap,
    _core,
    backends,
)
from fuseboard._about import About
from fuseboard._breakers import Breakers
from fuseboard._limits import LIMITS
from fuseboard._loading import TermsArguments
from fuseboard._manifest import _TABLES
from fuseboard.backends import AnswerCode, db, http, kv
from fuseboard.cli import main as cli

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES: Final = [str(page.relative_to(ROOT)) for page in PAGES]
OTHERS: Final = [
    str(page.relative_to(ROOT))
    for folder in ("benchmarks", "examples", "guest", "plugins", "tests")
    for page in sorted((ROOT / folder).rglob("*.md"))
]
"""Pages that stand beside what they tell of."""

NOT_RUN: Final[dict[str, str]] = {}
"""Pages with a block that isn't run, and why."""

FORKING: Final = "docs/concepts/forks.md"
"""The page whose examples fork: they run in a process of their own, which has no other threads."""

_BLOCK: Final = re.compile(r"^```python( no-run)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FENCE: Final = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_PRINTED: Final = re.compile(r"# → (.*)$", re.MULTILINE)
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)
_SIGNATURE: Final = re.compile(r"^\| `(\w+)\(([^)]*)\)(?: -> (\w+))?` \|", re.MULTILINE)
_MACHINE_PATH: Final = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|opt)/")
_WORDS_NOT_OURS: Final = re.compile(r"\b(?:permissions?|quotas?|listeners?)\b", re.IGNORECASE)


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _prose(page: str) -> str:
    return _FENCE.sub("", _text(page))


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_reference", ROOT / "tools" / "write_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ── examples ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def _a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy what examples read into the working directory, and take what they add to the log away afterwards."""
    for folder in ("plugins", "tests/plugins"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    log = logging.getLogger("fuseboard")
    monkeypatch.setattr(log, "handlers", [*log.handlers])


@pytest.mark.usefixtures("_a_place_of_its_own")
@pytest.mark.parametrize("page", [page for page in NAMES if page != FORKING and "```python\n" in _text(page)])
def test_examples_run(page: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block runs, after those above it, and prints what its `# →` comments say."""
    module = ModuleType(f"docs:{page}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    text = _text(page)
    for block in _BLOCK.finditer(text):
        if block[1]:
            continue
        lines_above = "\n" * text.count("\n", 0, block.start(2))
        code = compile(lines_above + block[2], page, "exec", dont_inherit=True)
        exec(code, vars(module))
        assert capsys.readouterr().out.splitlines() == _PRINTED.findall(block[2])


@pytest.mark.usefixtures("_a_place_of_its_own")
def test_examples_that_fork_run() -> None:
    """Parent and child print what the page says, and both end well."""
    blocks = "\n".join(block[2] for block in _BLOCK.finditer(_text(FORKING)))
    command = [sys.executable, "-W", "error", "-X", "utf8", "-c", blocks]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == _PRINTED.findall(blocks)


def test_blocks_that_are_not_run_have_a_reason() -> None:
    """A block that isn't run stands on a page that this file names with a reason, and on such a page is one at most."""
    found = [page for page in NAMES for block in _BLOCK.finditer(_text(page)) if block[1]]
    assert found == sorted(NOT_RUN)


# ── tables and names ─────────────────────────────────────────────────────────────────────────────


def test_generated_regions_are_current() -> None:
    """The generator would change no page, and each of its regions stands somewhere."""
    generator = _generator()
    assert [page for page, _ in generator.stale_pages()] == []
    used = {found[2] for page in NAMES for found in generator.REGION.finditer(_text(page))}
    assert used == set(generator.REGIONS)


def _errors(error: type[FuseboardError] = FuseboardError) -> set[str]:
    below = {name for one in error.__subclasses__() for name in _errors(one)}
    return below | {error.__name__}


def _options() -> set[str]:
    commands = (command for _, command in _generator().all_commands(cli))
    return {option for command in commands for one in command.params for option in one.opts if "-" in option}


def _methods(noun: type) -> set[str]:
    return {name for name in dir(noun) if not name.startswith("_")}


_FOR_THE_FLOW: Final = {"admit", "settle", "forget", "after_fork_in_child"}
"""What a host's own parts call of its breakers, and an application doesn't."""

_BELONGS: Final = {
    "docs/reference/api.md": {
        *fuseboard.__all__,
        *backends.__all__,
        *(name for module in (db, http, kv) for name in module.__all__),
        *_methods(Host),
        *_methods(AsyncHost),
        *TermsArguments.__annotations__,
        *Trap.__struct_fields__,
        *Breaker.__struct_fields__,
        *BreakerChange.__struct_fields__,
    },
    "docs/concepts/asyncio.md": _methods(AsyncHost) - {"after_fork_in_child"},
    "docs/concepts/breaker.md": {
        *(field.name for field in fields(BreakerPolicy)),
        *(one.name for one in (*BreakerEvent, *BreakerState)),
        *BreakerState,
        *(_methods(Breakers) - _FOR_THE_FLOW),
        *Breaker.__struct_fields__,
        *BreakerChange.__struct_fields__,
        "on_breaker_change",
    },
    "docs/concepts/slots.md": {
        "max_concurrent_invocations",
        "max_concurrency",
        "max_guest_memory_mb",
        "deadline_shared",
    },
    "docs/concepts/forks.md": {"after_fork_in_child"},
    "docs/reference/manifest.md": {key for table in _TABLES for key in table.readers} | {spec.key for spec in LIMITS},
    "docs/reference/errors.md": _errors() & set(fuseboard.__all__),
    "docs/concepts/fuses.md": {*(one.name for one in Limit), *Limit, *(field.name for field in fields(Caps))},
    "docs/concepts/outcomes.md": {one.name for one in (*Cause, *SkipReason)},
    "docs/concepts/hooks.md": {*About.__annotations__},
    "docs/reference/abi.md": {*_core.IMPORTS, *(one.name for one in AnswerCode)},
    "docs/concepts/loading.md": {field.name for kind in (ArtifactCache, CompileLimits) for field in fields(kind)},
    "docs/reference/cli.md": {*(name for name, _ in _generator().all_commands(cli)), *_options()},
}


@pytest.mark.parametrize("page", _BELONGS)
def test_nothing_is_left_out(page: str) -> None:
    """Every public name, manifest key, error, limit, cause, cap, import, answer code and option has its place."""
    text = _text(page)
    assert [name for name in sorted(_BELONGS[page]) if not _is_said(name, text)] == []


def _is_said(name: str, text: str) -> bool:
    """Whether a page has a name as code, or as a command's heading."""
    return re.search(rf"(?:`|^### fuseboard ){re.escape(name)}(?![\w-])", text, re.MULTILINE) is not None


def test_every_error_is_public() -> None:
    """No error reaches an application that it can't name."""
    assert _errors() <= set(fuseboard.__all__)


def test_signatures_of_imports_are_the_cores() -> None:
    """A module that imports everything as the page writes it links."""
    found = _SIGNATURE.findall(_text("docs/reference/abi.md"))
    assert [name for name, _, _ in found] == _core.IMPORTS
    imports = "\n".join(_as_text_import(*signature) for signature in found)
    text = f'(module {imports} (memory (export "memory") 1))'
    module = _core.Module(_core.Engine(1 << 20, 1), bytes(wat2wasm(text)))
    assert sorted(module.imports) == sorted(_core.IMPORTS)


def _as_text_import(name: str, parameters: str, result: str) -> str:
    types = " ".join(parameter.partition(":")[2].strip() for parameter in parameters.split(",") if parameter)
    returned = f"(result {result})" if result else ""
    return f'(import "{_core.IMPORT_MODULE}" "{name}" (func (param {types}) {returned}))'


# ── prose ────────────────────────────────────────────────────────────────────────────────────────


def _anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(_FENCE.sub("", text)))
    return {heading.strip().replace(" ", "-") for heading in plain}


def _broken(page: str, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    if not target.resolve().is_relative_to(ROOT) or not target.exists():
        return True
    return bool(anchor) and anchor not in _anchors(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", NAMES + OTHERS)
def test_links_resolve(page: str) -> None:
    """Every relative link leads to a file of the repository, and to a heading of it."""
    links = [link for link in _LINK.findall(_prose(page)) if "://" not in link]
    assert [link for link in links if _broken(page, link)] == []


@pytest.mark.parametrize("page", [name for name in NAMES if name.startswith("docs/") and name != "docs/index.md"])
def test_index_leads_to_every_page(page: str) -> None:
    """No page of the documentation stands alone."""
    assert f"]({page.removeprefix('docs/')}" in _text("docs/index.md")


@pytest.mark.parametrize("page", NAMES + OTHERS)
def test_pages_hold_no_machine_paths(page: str) -> None:
    """No page names a folder of somebody's machine."""
    assert _MACHINE_PATH.findall(_text(page)) == []


@pytest.mark.parametrize("page", NAMES + OTHERS)
def test_pages_keep_to_the_glossary(page: str) -> None:
    """No page says what the glossary has another word for."""
    assert _WORDS_NOT_OURS.findall(_prose(page)) == []
