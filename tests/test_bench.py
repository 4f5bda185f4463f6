"""The benchmarks' own rules: rounds alternate, bars are judged, and the guard tells a slow path from noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from benchmarks.benches import _guard, _page, _race, _table
from benchmarks.benches._results import Figure, Ratio, Row, ratio, read, written

OURS, PEER = Figure("ours", (1.0, 2.0, 6.0)), Figure("a peer", (2.0, 4.0, 4.0))


def row(value: float, *, bar: float | None = None, why_not: str = "") -> Row:
    """Return a row with one guarded ratio."""
    return Row("echo", (OURS, PEER), (Ratio("ours / a peer", value, bar=bar, is_guarded=True, why_not=why_not),))


@pytest.fixture
def baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A baseline in which the ratio is 0.9."""
    place = tmp_path / "baseline.json"
    monkeypatch.setattr(_guard, "BASELINE", place)
    _guard.keep([row(0.9)])
    return place


def measuring(*values: float) -> Callable[[str], Iterator[Row]]:
    """Return what measures one of these ratios after the other."""
    left = iter(values)
    return lambda _: iter([row(next(left))])


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    """What disturbs a round disturbs both sides of it."""
    assert ratio(OURS, PEER).value == 0.5
    assert (OURS.minimum, OURS.median) == (1.0, 2.0)


def test_rounds_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everyone has a turn in each round, and nobody is always the first."""
    turns: list[str] = []
    monkeypatch.setattr(_race, "_calls_in", lambda *_: 1)
    contestants = {name: partial(turns.append, name) for name in "abc"}
    figures = _race.race(contestants, rounds=4)
    assert "".join(turns) == "abcbcacababc"
    assert [len(figure.rounds) for figure in figures.values()] == [4, 4, 4]


def test_rows_travel_as_json() -> None:
    """What a group's process writes is what the table is made of."""
    rows = [row(0.9, bar=1.0)]
    assert read(written(rows)) == rows


def test_the_guard_passes_what_is_as_it_was(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One measurement is enough where nothing has grown by a third."""
    assert baseline.exists()
    assert _guard.judge(["calls"], measuring(1.19), is_complete=True) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("✓")


def test_noise_goes_away(baseline: Path) -> None:
    """What looks slower is measured again, and the best counts."""
    assert baseline.exists()
    assert _guard.judge(["calls"], measuring(1.5, 1.4, 1.1), is_complete=True) == 0


def test_a_slow_path_stays(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is slower each time fails, with both numbers."""
    assert baseline.exists()
    assert _guard.judge(["calls"], measuring(1.5, 1.3, 1.4), is_complete=True) == 1
    assert "✗ echo: ours / a peer is 1.3, the baseline 0.9" in capsys.readouterr().out


def test_a_ratio_without_a_baseline_fails(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new ratio isn't guarded before it has a baseline: that must not go unseen."""
    baseline.write_text("{}")
    assert _guard.judge(["calls"], measuring(1), is_complete=True) == 1
    assert "isn't in baseline.json" in capsys.readouterr().out


def test_a_ratio_that_is_gone_fails(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that was renamed or dropped takes its guard along: that must not go unseen, where all groups ran."""
    baseline.write_text('{"echo: ours / a peer": 0.9, "gone: ours / a peer": 0.5}')
    assert _guard.judge(["calls"], measuring(0.9), is_complete=False) == 0
    assert _guard.judge(["calls"], measuring(0.9), is_complete=True) == 1
    assert "gone: ours / a peer isn't measured any more" in capsys.readouterr().out


def test_the_table_says_which_bars_were_missed() -> None:
    """Figures first, then ratios with bar and reason, and the verdict last."""
    lines = list(_table.lines([row(0.9, bar=0.5, why_not="it is fresh"), row(0.9, bar=1.0)]))
    assert lines[1:5] == [
        "echo",
        "  ours                                                 1 µs         2 µs",
        "  a peer                                               2 µs         4 µs",
        "    ours / a peer                                                  0.9 ×  ✗ at most 0.5 ×",
    ]
    assert lines[5].strip() == "because it is fresh"
    assert lines[-1] == "✗ 1 of 2 bars were reached, not: echo, ours / a peer"


def test_the_page_keeps_the_words_around_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what stands between the marks is replaced, however often."""
    monkeypatch.setattr(_page, "version", lambda _: "1")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n")
    _page.write(page, [row(0.9, bar=1.0)])
    _page.write(page, [row(0.8, bar=1.0)])
    text = page.read_text()
    assert text.startswith("before\n<!-- measured: begin -->")
    assert text.endswith("<!-- measured: end -->\nafter\n")
    assert "old" not in text
    assert "| ours / a peer | 0.8 × | ✓ at most 1 × |" in text


def test_a_page_without_a_place_is_left_alone(tmp_path: Path) -> None:
    """A page that has no marks is no page for the table."""
    page = tmp_path / "page.md"
    page.write_text("words")
    with pytest.raises(SystemExit, match="measured: begin"):
        _page.write(page, [])
    assert page.read_text() == "words"
