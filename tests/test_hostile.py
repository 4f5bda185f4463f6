"""The hostile corpus: whatever is offered as a plugin is refused in words or works, and the host goes on."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import fuseboard as fb
from hostile import __main__ as report
from hostile import costly
from hostile.binary import module
from hostile.case import Case, End
from hostile.corpus import CASES, FLIPS, SMITH_MODULES, SmithMissingError, flipped, random_modules
from hostile.trial import HOOK, SHORT, SMALL, Verdict, grown_mb, manifest, new_host, offer, own_mb

BY_NAME = {case.name: case for case in CASES}
MOST_KEPT_MB = 20
LONGEST_SENTENCE = 10_000
TRIES = 3
"""The machine may be busy when a file is judged by how soon it is refused."""


@pytest.fixture(scope="module", autouse=True)
def _memory_comes_back() -> Iterator[None]:
    """Hold the memory of this process, after everything, to what it was before, and 20 MB."""
    before = own_mb()
    yield
    assert grown_mb(before) <= MOST_KEPT_MB


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, fb.Host]]:
    """Return a host as it comes, and those with small limits by what these are, each with a plugin that works."""
    made = {
        "": new_host(),
        costly.TIME: new_host(compile_limits=SHORT),
        costly.SPACE: new_host(compile_limits=SMALL),
    }
    for host in made.values():
        host.load_bytes(module(), manifest("good"))
    yield made
    for host in made.values():
        host.close()


@pytest.fixture(scope="module")
def inline() -> Iterator[fb.Host]:
    """Return a host that compiles in its own process, which is what thousands of small modules can wait for."""
    with new_host(compile="inline") as host:
        host.load_bytes(module(), manifest("good"))
        yield host


def offered(host: fb.Host, wasm: bytes) -> Verdict:
    """Offer a file, and hold what is true of every offer: the sentence can be read, and the host goes on."""
    verdict = offer(host, wasm)

    assert verdict.words.isprintable()
    assert len(verdict.words) <= LONGEST_SENTENCE
    assert list(host.plugins) == ["good"]
    assert isinstance(host.invoke("good", HOOK, "x"), fb.Completed)
    return verdict


@pytest.mark.parametrize("name", BY_NAME)
def test_a_hostile_file_ends_as_told(hosts: dict[str, fb.Host], name: str) -> None:
    """It is refused with these words, by whom the table says, or its invocation has this outcome."""
    case = BY_NAME[name]
    host = hosts[case.words if case.end is End.LIMITS else ""]

    before = own_mb()
    verdict = offered(host, case.make())

    assert verdict.end is case.end, verdict.words
    assert case.is_told_by(verdict.words), verdict.words
    if case.end is End.SCAN:
        tries = (offered(host, case.make()).milliseconds for _ in range(TRIES - 1))
        assert verdict.milliseconds < 1_000 or any(milliseconds < 1_000 for milliseconds in tries)
    assert grown_mb(before) <= MOST_KEPT_MB


def test_a_refused_file_is_let_go(hosts: dict[str, fb.Host]) -> None:
    """What was refused isn't kept until garbage is collected: that may take long, and files are large."""
    wasm = module()[:-1] + bytes(1)
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(wasm)
        verdict = offered(hosts[""], wasm)
        assert verdict.end is not End.WORKS
        assert sys.getrefcount(wasm) == before
    finally:
        gc.enable()


def test_flipped_bits(inline: fb.Host, hosts: dict[str, fb.Host]) -> None:
    """Whatever bits of a module are others, it is refused in words or works."""
    ends = _ends(inline, hosts[""], flipped())

    assert sum(ends.values()) == FLIPS
    assert set(ends) == {End.SCAN, End.REFUSED, End.WORKS}


def test_random_modules(inline: fb.Host, hosts: dict[str, fb.Host], tmp_path: Path) -> None:
    """Modules that wasm-smith makes are refused in words or work."""
    ends = _ends(inline, hosts[""], random_modules(tmp_path))

    assert sum(ends.values()) == SMITH_MODULES
    assert End.WORKS in ends


def _ends(inline: fb.Host, limited: fb.Host, files: Iterable[tuple[str, bytes]]) -> Counter[End]:
    """Offer many files, every tenth to a host as it comes, and count their ends."""
    ends: Counter[End] = Counter()
    for number, (name, wasm) in enumerate(files):
        print(name)  # shown where one fails
        ends[offered(limited if number % 10 == 0 else inline, wasm).end] += 1
    return ends


def test_random_modules_without_their_maker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the maker of random modules isn't built, one sentence says what builds it."""
    monkeypatch.setenv("CARGO_TARGET_DIR", str(tmp_path))
    with pytest.raises(SmithMissingError, match=r"release/smith isn't there: `make test` builds it"):
        next(random_modules(tmp_path))


def test_the_corpus_is_large() -> None:
    """There are 200 cases and more, each of a name of its own, and of each end many."""
    ends = Counter(case.end for case in CASES)

    assert len(BY_NAME) == len(CASES) >= 200
    assert min(ends.values()) >= 5
    assert {case.words for case in CASES if case.end is End.LIMITS} == {costly.TIME, costly.SPACE}


@pytest.mark.parametrize("name", [case.name for case in CASES if case.end is not End.LIMITS][::7])
def test_cases_are_always_the_same(name: str) -> None:
    """Made twice, a case has the same bytes."""
    assert BY_NAME[name].make() == BY_NAME[name].make()


def test_the_table_is_current() -> None:
    """The page lists the corpus as it is; `python -m tests.hostile --write` mends it."""
    listed = report.listed(report.PAGE.read_text(encoding="utf-8"))
    assert listed == [(case.name, case.attacks, str(case.end)) for case in CASES]


def test_a_case_of_another_end_is_told_apart() -> None:
    """A sentence tells of a case where it has the words; an outcome must be exactly it."""
    refused = Case("a: b", "c", End.SCAN, "is empty", bytes)
    works = Case("a: b", "c", End.WORKS, "fuel", bytes)
    assert [refused.is_told_by(words) for words in ("is empty", "is emptied")] == [True, False]
    assert [works.is_told_by(words) for words in ("fuel", "no fuel")] == [True, False]
