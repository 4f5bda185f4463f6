"""The errors: one tree, and sentences that write themselves from what is known."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fuseboard as fb
from fuseboard import _errors
from fuseboard._budget import ceilings_of
from fuseboard._outcome import Meters

TREE: dict[type[BaseException], type[BaseException]] = {
    fb.FuseboardError: Exception,
    fb.LoadError: fb.FuseboardError,
    fb.ManifestError: fb.LoadError,
    fb.ModuleError: fb.LoadError,
    fb.HookFailed: fb.FuseboardError,
    fb.InvocationError: fb.FuseboardError,
    fb.LimitTripped: fb.InvocationError,
    fb.GuestFault: fb.InvocationError,
    fb.BackendError: fb.FuseboardError,
    fb.BackendTimeout: fb.BackendError,
    fb.UsageError: fb.FuseboardError,
    fb.UnknownHook: fb.UsageError,
    fb.UnknownPlugin: fb.UsageError,
    fb.HookTypeError: fb.UsageError,
    fb.InstanceBusy: fb.UsageError,
    fb.HostClosed: fb.UsageError,
}
CEILINGS = ceilings_of((1 << 20, 1000, 250, 8, 32, 1 << 20), {})
INTERNAL = {_errors.ModuleRefused}


@pytest.mark.parametrize(("error", "base"), TREE.items(), ids=lambda each: each.__name__)
def test_each_error_has_its_one_base(error: type[BaseException], base: type[BaseException]) -> None:
    """The tree is the one that DESIGN §7 draws: catching a branch catches what hangs on it and no more."""
    assert error.__bases__ == (base,)


def test_the_tree_is_complete() -> None:
    """Every error is in the tree and public; what is handed from the core to the loader is neither."""
    defined = {item for _, item in inspect.getmembers(_errors, inspect.isclass) if issubclass(item, BaseException)}
    assert defined - INTERNAL == set(TREE)
    assert {error.__name__ for error in TREE} <= set(fb.__all__)
    assert not any(issubclass(internal, fb.FuseboardError) for internal in INTERNAL)


def test_every_error_is_documented() -> None:
    """Each says in its docstring what it means."""
    assert [error.__name__ for error in TREE if not error.__doc__] == []


def test_public_names_are_all_there() -> None:
    """`__all__` names nothing twice, and nothing that isn't there."""
    assert [name for name in fb.__all__ if not hasattr(fb, name)] == []
    assert sorted(fb.__all__) == sorted(set(fb.__all__))


# ── sentences ────────────────────────────────────────────────────────────────────────────────────


def test_load_errors_name_the_file_then_the_plugin() -> None:
    """The path comes first where there is one, else the slug, else the word."""
    assert str(fb.ModuleError("is empty", slug="a", path="p/a.wasm")) == "p/a.wasm: is empty"
    assert str(fb.ModuleError("is empty", slug="a")) == "a: is empty"
    assert str(fb.ModuleError("is empty")) == "plugin: is empty"


def test_manifest_errors_name_field_value_and_problem() -> None:
    """Field, value and problem are in the sentence and are attributes too."""
    error = fb.ManifestError("server.memory_limit_mb", "is too much", value=512, slug="a")
    assert str(error) == "a: server.memory_limit_mb = 512: is too much"
    assert (error.field, error.value, error.slug, error.path) == ("server.memory_limit_mb", 512, "a", None)


def test_a_value_that_is_none_is_shown_and_a_missing_one_is_not() -> None:
    """`None` is a value; nothing is not."""
    assert str(fb.ManifestError("name", "is wrong", value=None)) == "plugin: name = None: is wrong"
    missing = fb.ManifestError("name", "is missing")
    assert str(missing) == "plugin: name: is missing"
    assert missing.value is _errors.MISSING


@given(st.text(max_size=300) | st.integers() | st.lists(st.text()) | st.just(10**5000))
def test_long_values_are_shortened(value: object) -> None:
    """Whatever a stranger wrote, the sentence stays short."""
    text = str(fb.ManifestError("name", "is wrong", value=value))
    assert text.endswith(": is wrong")
    assert len(text) < 120


def test_hook_failed_carries_its_outcome() -> None:
    """Who fails closed says which hook, why, and hands over the outcome."""
    outcome = fb.Skipped(
        plugin="a", hook="comment.html", request_id="r", scope=None, elapsed_ms=1.0,
        meters=Meters(CEILINGS, {}), reason=fb.SkipReason.DISABLED,
    )  # fmt: skip
    error = fb.HookFailed(outcome)
    assert error.outcome is outcome
    assert str(error) == "hook 'comment.html' fails closed: plugin 'a', hook 'comment.html': skipped (disabled)"


@pytest.mark.parametrize(
    ("cause", "limit", "error"),
    [(fb.Cause.LIMIT, "fuel", fb.LimitTripped)]
    + [(cause, None, fb.GuestFault) for cause in fb.Cause if cause is not fb.Cause.LIMIT],
)
def test_raising_an_outcome(cause: fb.Cause, limit: str | None, error: type[fb.InvocationError]) -> None:
    """A trip raises `LimitTripped`, every other cause `GuestFault`, with the trap and its sentence."""
    names = {"plugin": "a", "hook": "h", "request_id": "r", "scope": None, "elapsed_ms": 1.0}
    meters = Meters(CEILINGS, {}, (0, 999, 0.0))
    trap = fb.Trap(**names, meters=meters, cause=cause, limit=limit, detail="the detail", host_call="host_kv_get")  # type: ignore[arg-type]
    with pytest.raises(error) as caught:
        fb.Trapped(**names, meters=meters, trap=trap).raise_for_trap()  # type: ignore[arg-type]
    assert type(caught.value) is error
    assert caught.value.trap is trap
    what = "limit fuel tripped at 999 of 1,000 fuel" if limit else f"the plugin trapped ({cause})"
    assert str(caught.value) == f"plugin 'a', hook 'h', request r: {what} during host_kv_get: the detail"


def test_other_outcomes_raise_nothing() -> None:
    """A completed and a skipped invocation have no trap to raise."""
    names = {"plugin": "a", "hook": "h", "request_id": "r", "scope": None, "elapsed_ms": 1.0}
    meters = Meters(CEILINGS, {})
    fb.Completed(**names, meters=meters, value=1, changed=True).raise_for_trap()  # type: ignore[arg-type]
    fb.Skipped(**names, meters=meters, reason=fb.SkipReason.DEADLINE).raise_for_trap()  # type: ignore[arg-type]


def test_backend_errors_carry_reason_and_code() -> None:
    """The reason is the sentence; the code is `BACKEND_FAILED` unless said."""
    assert (fb.BackendError("down").reason, fb.BackendError("down").code) == ("down", -4)
    assert (str(fb.BackendTimeout("late", code=-6)), fb.BackendTimeout("late", code=-6).code) == ("late", -6)


def test_unknown_hook_names_a_near_miss_and_what_to_do() -> None:
    """A misspelt hook's sentence has the right spelling."""
    text = str(fb.UnknownHook("post.titel", ["post.title", "x"]))
    assert "'post.titel'" in text
    assert "did you mean 'post.title'?" in text
    assert "host.declare" in text
    assert "did you mean" not in str(fb.UnknownHook("zzz", ["post.title"]))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (fb.UnknownPlugin("a", "isn't loaded"), "plugin 'a' isn't loaded"),
        (
            fb.HookTypeError("h", "value", "Expected `str`"),
            "hook 'h': the value can't be sent to plugins: Expected `str`",
        ),
        (fb.InstanceBusy(), "one caller at a time"),
        (fb.HostClosed(), "make a new Host"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_usage_errors_say_what_to_do(error: Exception, words: str) -> None:
    """A programmer's mistake is told in a sentence that helps."""
    assert words in str(error)
