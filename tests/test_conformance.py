"""The conformance suite: every scenario on every SDK's guest, through whole hosts and on the core alone."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import fuseboard as fb
from conformance import hosted, notation, scripted
from conformance.application import Application
from conformance.guests import SDKS, module
from conformance.scenario import SUITE, Scenario, read_all
from fuseboard import _core
from fuseboard._hostcalls import AnswerCode
from fuseboard._limits import Limit

if TYPE_CHECKING:
    from drivers import MakeHost

SCENARIOS = read_all()
HOSTED = [scenario for scenario in SCENARIOS if not scenario.is_scripted]
SCRIPTED = [scenario for scenario in SCENARIOS if scenario.is_scripted]
UNKNOWN_CODE = -99
UNREACHABLE = {fb.Cause.BAD_POINTER}
"""No SDK lets its user give the host a pointer outside memory; tests/test_exactness.py has guests that do."""

SNAPSHOTS: dict[str, dict[str, Any]] = {"snapshot": {}, "no snapshot": {"snapshot": False}}
"""Keys of the manifest, by whether the guest is initialised when it is loaded."""


def pairs(scenarios: list[Scenario]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test for each SDK and scenario; what an SDK's guest doesn't have is left out."""
    cases = [
        pytest.param(sdk, scenario, id=f"{sdk}-{scenario.name}")
        for sdk in SDKS
        for scenario in scenarios
        if SDKS[sdk].has(scenario.needs)
    ]
    return pytest.mark.parametrize(("sdk", "scenario"), cases)


# ── every scenario on every guest ────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=SNAPSHOTS)
def hosts(driver: MakeHost, request: pytest.FixtureRequest) -> Iterator[hosted.Hosts]:
    """Return hosts of either kind that load guests in each way."""
    made = hosted.Hosts(driver, SNAPSHOTS[request.param])
    yield made
    made.close()


@pairs(HOSTED)
def test_through_a_host(sdk: str, scenario: Scenario, hosts: hosted.Hosts) -> None:
    """The guest gives, logs, asks, and is stopped, as the scenario has it."""
    assert hosted.run(scenario, module(sdk), hosts) == []


@pairs(SCRIPTED)
def test_on_the_core(sdk: str, scenario: Scenario) -> None:
    """The guest makes exactly these host calls, and takes any answer."""
    assert scripted.run(scenario, module(sdk)) == []


@pytest.mark.parametrize("sdk", [sdk for sdk in SDKS if SDKS[sdk].has(["wasi"])])
def test_randomness_is_new_in_each_invocation(sdk: str, hosts: hosted.Hosts) -> None:
    """Two invocations of one plugin get different random bytes, whatever was initialised when."""
    scenario = next(scenario for scenario in HOSTED if scenario.name.startswith("random:"))
    application = Application(scenario)
    with hosts.loaded(scenario, module(sdk)) as loaded:
        outcomes = [loaded.invoke(scenario, application) for _ in range(2)]

    first, second = [outcome.value for outcome in outcomes if isinstance(outcome, fb.Completed)]
    assert first != second


@pytest.mark.parametrize("sdk", SDKS)
def test_a_backtrace_names_functions(sdk: str, hosts: hosted.Hosts) -> None:
    """Where a guest is stopped, the trap says in which functions, by their names."""
    scenario = next(scenario for scenario in HOSTED if scenario.name == "trip: fuel, while computing")
    with hosts.loaded(scenario, module(sdk)) as loaded:
        outcome = loaded.invoke(scenario, Application(scenario))

    assert isinstance(outcome, fb.Trapped)
    assert None not in {frame.function for frame in outcome.trap.backtrace}


# ── the suite itself ─────────────────────────────────────────────────────────────────────────────


def test_every_import_is_used() -> None:
    """Each host call is checked in a script, and each import that the core serves alone is used by some step."""
    scripted_calls = {call.import_ for scenario in SCRIPTED for call in scenario.calls or ()}
    assert scripted_calls == {*_core.HOST_CALLS, "meter_remaining"}

    hooks = {scenario.hook for scenario in SCENARIOS}
    steps = {step for scenario in SCENARIOS for step in _steps(scenario)}
    served_alone = set(_core.IMPORTS) - scripted_calls
    assert served_alone == {"buffer_length", "buffer_read", "output_write", "fail", "host_log"}
    assert {"context", "settings", "call_info", "fail", "log"} <= steps
    assert {"echo", "empty", "keep"} <= hooks


def test_every_answer_code_is_given_to_every_host_call() -> None:
    """Each code, and one that no host gives, answers each host call in a script; each comes from a whole host too."""
    errors = {code.value for code in AnswerCode if code is not AnswerCode.OK} | {UNKNOWN_CODE}
    given = {(call.import_, call.code) for scenario in SCRIPTED for call in scenario.calls or ()}
    assert [
        (name, code) for name in _core.HOST_CALLS for code in sorted(errors | {0}) if (name, code) not in given
    ] == []

    names = {code.name.lower() for code in AnswerCode if code is not AnswerCode.OK}
    results = " ".join(scenario.results or "" for scenario in HOSTED)
    assert {name for name in names if f'"error": "{name}"' not in results} == set()


def test_every_limit_trips() -> None:
    """There is a scenario in which each limit trips, a function's own included."""
    tripped = {scenario.trap.limit for scenario in HOSTED if scenario.trap is not None and scenario.trap.limit}
    assert tripped == {*Limit, "functions.suite.twice"}


def test_every_cause_is_met() -> None:
    """There is a scenario for each cause, but for those that no SDK's user can bring about."""
    causes = {scenario.trap.cause for scenario in HOSTED if scenario.trap is not None}
    assert causes == set(fb.Cause) - UNREACHABLE


def test_every_log_level_is_used() -> None:
    """There is a record of each level."""
    levels = {level for scenario in HOSTED for level, _ in notation.read(scenario.logs or "[]")}
    assert levels == {"debug", "info", "warning", "error", "critical"}


def test_every_step_and_export_of_the_page_is_used() -> None:
    """The page that says what a guest does, and the scenarios, know the same steps and exports."""
    page = (SUITE / "README.md").read_text(encoding="utf-8")
    exports, steps = (_first_column(page, head) for head in ("| export |", "| `do` |"))
    used = {step for scenario in SCENARIOS for step in _steps(scenario)} - {"levitate"}
    manifest = tomllib.loads((SUITE / "plugin.toml").read_text(encoding="utf-8"))

    assert used == steps
    assert {entry["export"] for entry in manifest["hooks"]} == exports
    assert {entry["name"] for entry in manifest["hooks"]} == {hook.name for hook in hosted.HOOKS}
    assert {f"{hosted.PREFIX}{scenario.hook}" for scenario in SCENARIOS} == {hook.name for hook in hosted.HOOKS}


def test_a_scenario_can_fail() -> None:
    """What isn't as a scenario has it is told: values of another kind, other keys, other signs of zero."""
    wrong = [
        (1, True),
        (0.0, -0.0),
        ("a", "b"),
        ([1], [1, 2]),
        ({"a": 1}, {"b": 1}),
        ({"a": [1]}, {"a": [2]}),
        (None, 0),
    ]
    right = [(1, 1.0), ({"$like": "a+"}, "aa"), ({"$between": [1, 2]}, 2), ({"$any": "string"}, ""), ([{}], [{}])]

    assert [pair for pair in wrong if notation.difference(*pair) is None] == []
    assert [pair for pair in right if notation.difference(*pair)] == []


def _steps(scenario: Scenario) -> list[str]:
    found = []
    pending = notation.read(scenario.steps or "[]")
    while pending:
        step = pending.pop()
        found.append(step["do"])
        pending += [step["step"]] if "step" in step else []
    return found


def _first_column(page: str, head: str) -> set[str]:
    """Return the names in the first column of the table that begins like this."""
    rows = page[page.index(head) :].partition("\n\n")[0].splitlines()[2:]
    return {row.split("`")[1] for row in rows}
