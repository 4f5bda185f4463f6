"""The host: what is declared and loaded, the calls that an application makes, and what it is told."""

from __future__ import annotations

import json
import logging
import math
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import fuseboard as fb
from conftest import CRASH, ECHO, FAIL, NOTED, SILENT, SMALL, SPIN, TEXT, guest, manifest, only_sync, shows, writes
from fuseboard.backends import Backends
from fuseboard.backends.memory import MemoryDb, MemoryKv

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLOSED = fb.Filter("closed", str, on_trap="raise")
CLOSED_ACTION = fb.Action("closed.action", str, on_trap="raise")
CALL_INFO = fb.Filter("call.info", dict)


def appends(letter: str) -> bytes:
    """Return a guest that puts a letter at the end of a text."""
    return guest(
        f"""(data (i32.const 60000) "{letter}\\22")
        (func (export "run") (local $length i32)
          (local.set $length (call $buffer_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 50000)))
          (call $output_write (i32.const 0) (i32.sub (local.get $length) (i32.const 1)))
          (call $output_write (i32.const 60000) (i32.const 2)))"""
    )


def logs(level: int, text: str = "hello", times: int = 1) -> bytes:
    """Return a guest that logs a text a number of times."""
    return guest(
        f"""(data (i32.const 0) "{text}")
        (func (export "run") (local $left i32) (local.set $left (i32.const {times}))
          (loop $again
            (call $host_log (i32.const {level}) (i32.const 0) (i32.const {len(text)}))
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"""
    )


def calls_function(name: str) -> bytes:
    """Return a guest that calls a function of the application without arguments."""
    return guest(
        f"""(data (i32.const 0) "{name}")
        (func (export "run")
          (drop (call $host_call (i32.const 0) (i32.const {len(name)}) (i32.const 0) (i32.const 0))))"""
    )


def kinds(happened: fb.Dispatch[Any]) -> list[str]:
    return [type(outcome).__name__ for outcome in happened.outcomes]


def skip_reason(outcome: fb.Outcome) -> fb.SkipReason:
    assert isinstance(outcome, fb.Skipped)
    return outcome.reason


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────


def test_an_undeclared_hook_is_unknown(make_host: Callable[..., fb.Host]) -> None:
    """Every call names the hook that isn't there, its near miss, and how to declare it."""
    host = make_host()
    calls: list[Callable[[], object]] = [
        lambda: host.apply_filter("texd", "x"),
        lambda: host.do_action("texd", "x"),
        lambda: host.dispatch(fb.Filter("texd", str), "x"),
        lambda: host.invoke("any", "texd", "x"),
    ]
    for call in calls:
        with pytest.raises(fb.UnknownHook, match=r"no hook 'texd' is declared in this host \(did you mean 'text'\?\)"):
            call()


def test_another_hook_of_the_same_name_is_refused(make_host: Callable[..., fb.Host]) -> None:
    """A hook object that isn't the declared one doesn't get through on its name; an equal one does."""
    host = make_host()
    assert host.apply_filter(fb.Filter("text", str), "x") == "x"
    with pytest.raises(fb.UnknownHook):
        host.apply_filter(fb.Filter("text", int), 5)
    with pytest.raises(fb.UnknownHook):
        host.apply_filter(fb.Filter("text", str, on_trap="raise"), "x")


@pytest.mark.parametrize("hook", [None, 5, object, ["text"]])
def test_what_is_no_hook_is_refused(make_host: Callable[..., fb.Host], hook: Any) -> None:
    """Something else in a hook's place is a `UsageError`."""
    with pytest.raises(fb.UsageError):
        make_host().apply_filter(hook, "x")


def test_filters_and_actions_are_not_mixed_up(make_host: Callable[..., fb.Host]) -> None:
    """Applying an action, and doing a filter, is refused by what it is; `dispatch` takes both."""
    host = make_host()
    with pytest.raises(fb.UsageError, match="hook 'noted' is an action"):
        host.apply_filter("noted", "x")
    with pytest.raises(fb.UsageError, match="hook 'noted' is an action"):
        host.apply_filter(NOTED, "x")  # type: ignore[call-overload]
    with pytest.raises(fb.UsageError, match="hook 'text' is a filter"):
        host.do_action("text", "x")
    assert host.dispatch("noted", "x").value == host.dispatch("text", "x").value == "x"


def test_declaring_later(make_host: Callable[..., fb.Host]) -> None:
    """A hook can be declared at any time, before the plugins that subscribe to it; equal ones twice."""
    host = make_host()
    with pytest.raises(fb.ManifestError, match="declares no such hook"):
        host.load_bytes(ECHO, manifest("late", "later"))
    host.declare(fb.Filter("later", str))
    host.declare(fb.Filter("later", str))
    host.load_bytes(writes('"new"'), manifest("late", "later"))
    assert host.apply_filter("later", "x") == "new"


def test_declaring_another_hook_of_that_name_is_refused(make_host: Callable[..., fb.Host]) -> None:
    """One name is one hook, and a refused declaration declares none of its hooks."""
    host = make_host()
    with pytest.raises(fb.UsageError, match="hook 'text' is declared already, as Filter"):
        host.declare(fb.Filter("fresh", str), fb.Action("text", str))
    with pytest.raises(fb.UnknownHook):
        host.dispatch("fresh", "x")


@pytest.mark.parametrize("what", ["text", str, None, b"x"])
def test_only_hooks_can_be_declared(make_host: Callable[..., fb.Host], what: Any) -> None:
    """Something that is no hook is refused with how to make one."""
    with pytest.raises(fb.UsageError, match=r"is no hook; make one with Filter\(name, type\)"):
        make_host().declare(what)


# ── one hook across its plugins ──────────────────────────────────────────────────────────────────


def test_plugins_run_by_priority_then_load_order(make_host: Callable[..., fb.Host]) -> None:
    """Lower priorities come first, 10 where nothing is said; ties keep the order of loading."""
    host = make_host()
    for slug, priority in [("c", 10), ("d", None), ("e", 11), ("a", -5), ("b", 0)]:
        entry = {"name": "text"} if priority is None else {"name": "text", "priority": priority}
        host.load_bytes(appends(slug), manifest(slug, entry))
    assert host.apply_filter("text", "") == "abcde"
    assert list(host.plugins) == ["c", "d", "e", "a", "b"]


def test_the_operators_priority_wins(make_host: Callable[..., fb.Host]) -> None:
    """`priority=` at the load holds over the manifest's, for all hooks of the plugin."""
    host = make_host()
    host.load_bytes(appends("b"), manifest("b", {"name": "text", "priority": 1}))
    host.load_bytes(appends("a"), manifest("a", {"name": "text", "priority": 900}), priority=-2000)
    assert host.apply_filter("text", "") == "ab"


def test_each_plugin_gets_the_last_value(load: Callable[..., fb.Host]) -> None:
    """A filter is a chain, and all that happened can be asked for."""
    host = load(appends("a"), ECHO, appends("b"))
    happened = host.dispatch("text", "x")
    assert happened.value == "xab"
    assert [(o.value, o.changed) for o in happened.outcomes if isinstance(o, fb.Completed)] == [
        ("xa", True), ("xa", False), ("xab", True),
    ]  # fmt: skip


@pytest.mark.parametrize("bad", [CRASH, FAIL, writes("not JSON"), SPIN], ids=["crash", "fail", "bad output", "spin"])
def test_the_chain_goes_on_after_a_trap(load: Callable[..., fb.Host], bad: bytes) -> None:
    """A plugin that traps leaves the value as the one before gave it, and the next gets that."""
    host = load(appends("a"), bad, appends("b"), server={"fuel_per_invocation": 200_000})
    happened = host.dispatch("text", "x")
    assert happened.value == "xab"
    assert kinds(happened) == ["Completed", "Trapped", "Completed"]
    host.do_action("noted", "x")


def test_an_action_that_traps_counts_as_done(load: Callable[..., fb.Host]) -> None:
    """`do_action` returns as if nothing had happened, and tells every plugin."""
    host = load(CRASH, SILENT, CRASH, hook=NOTED)
    host.do_action("noted", "x")
    assert kinds(host.dispatch(NOTED, "x")) == ["Trapped", "Completed", "Trapped"]


def test_without_subscribers_nothing_is_encoded(make_host: Callable[..., fb.Host]) -> None:
    """No plugin, no cost: the same object comes back, even one that no plugin could get."""
    value: Any = object()
    host = make_host()
    assert host.apply_filter("text", value) is value
    assert host.dispatch("text", value) == fb.Dispatch(value, ())
    host.do_action("noted", value, context={"a": math.nan})


# ── hooks that fail closed ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "call",
    [
        lambda host: host.apply_filter(CLOSED, "x"),
        lambda host: host.dispatch(CLOSED, "x"),
        lambda host: host.do_action(CLOSED_ACTION, "x"),
        lambda host: host.dispatch("closed.action", "x"),
    ],
    ids=["apply_filter", "dispatch filter", "do_action", "dispatch action"],
)
@pytest.mark.parametrize("skipped", [False, True], ids=["trapped", "skipped"])
def test_a_hook_that_fails_closed_raises(
    make_host: Callable[..., fb.Host],
    call: Callable[[fb.Host], object],
    *,
    skipped: bool,
) -> None:
    """A trap and a skip both fail the hook, with the outcome; what comes after the plugin doesn't run."""
    outcomes: list[fb.Outcome] = []
    host = make_host(CLOSED, CLOSED_ACTION, on_outcome=outcomes.append)
    hooks = ("closed", "closed.action")
    host.load_bytes(SILENT, manifest("first", *hooks))
    host.load_bytes(CRASH, manifest("bad", *hooks), enabled=not skipped)
    host.load_bytes(SILENT, manifest("last", *hooks))
    with pytest.raises(fb.HookFailed, match=r"hook 'closed.* fails closed: .*'bad'") as caught:
        call(host)
    assert isinstance(caught.value.outcome, fb.Skipped if skipped else fb.Trapped)
    assert [outcome.plugin for outcome in outcomes] == ["first", "bad"]
    assert caught.value.outcome is outcomes[-1]


def test_invoke_never_raises_for_the_plugin(load: Callable[..., fb.Host]) -> None:
    """One plugin's outcome is a value even where the hook fails closed."""
    outcome = load(CRASH, hook=CLOSED).invoke("plugin-0", CLOSED, "x")
    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.cause is fb.Cause.CRASH
    with pytest.raises(fb.GuestFault):
        outcome.raise_for_trap()


def test_a_hook_that_fails_closed_and_does_not_fail(load: Callable[..., fb.Host]) -> None:
    """Where every plugin completes, such a hook is like any other."""
    assert load(appends("a"), SILENT, hook=CLOSED).apply_filter(CLOSED, "x") == "xa"


def test_invoke_needs_a_loaded_subscriber(make_host: Callable[..., fb.Host]) -> None:
    """A plugin that isn't loaded, or doesn't subscribe, is named with what would be right."""
    host = make_host()
    host.load_bytes(SILENT, manifest("blog", "text"))
    with pytest.raises(fb.UnknownPlugin, match=r"plugin 'blok' isn't loaded in this host \(did you mean 'blog'\?\)"):
        host.invoke("blok", "text", "x")
    with pytest.raises(fb.UnknownPlugin, match="doesn't subscribe to hook 'noted'; it does to text"):
        host.invoke("blog", "noted", "x")
    with pytest.raises(fb.UnknownPlugin):
        host.invoke(["blog"], "text", "x")  # type: ignore[arg-type]


# ── deadlines ────────────────────────────────────────────────────────────────────────────────────


def test_no_time_left_skips_them_all(load: Callable[..., fb.Host]) -> None:
    """A deadline of 0 runs no plugin: each is skipped, by name."""
    happened = load(SPIN, SILENT).dispatch("text", "x", timeout_ms=0)
    assert [skip_reason(outcome) for outcome in happened.outcomes] == [fb.SkipReason.DEADLINE] * 2
    assert happened.value == "x"


def test_a_shared_deadline_cuts_one_short_and_skips_the_rest(load: Callable[..., fb.Host]) -> None:
    """Who is running at the deadline trips TIMEOUT, told as the dispatch's doing; who is left is skipped."""
    host = load(SILENT, SPIN, SILENT, SILENT, server={"invocation_timeout_ms": 9_000, "fuel_per_invocation": 10**9})
    happened = host.dispatch("text", "x", timeout_ms=30)
    assert kinds(happened) == ["Completed", "Trapped", "Skipped", "Skipped"]
    trapped = happened.outcomes[1]
    assert isinstance(trapped, fb.Trapped)
    assert (trapped.trap.limit, trapped.trap.deadline_shared) == (fb.Limit.TIMEOUT, True)
    assert trapped.meters[fb.Limit.TIMEOUT].ceiling == 9_000
    assert [skip_reason(outcome) for outcome in happened.outcomes[2:]] == [fb.SkipReason.DEADLINE] * 2


def test_a_plugins_own_timeout_is_its_own(load: Callable[..., fb.Host]) -> None:
    """Where the plugin's own limit is the nearer one, the trip is its own, and the others still run."""
    host = load(SPIN, SILENT, server={"invocation_timeout_ms": 20, "fuel_per_invocation": 10**9})
    happened = host.dispatch("text", "x", timeout_ms=60_000)
    trapped, completed = happened.outcomes
    assert isinstance(trapped, fb.Trapped)
    assert (trapped.trap.limit, trapped.trap.deadline_shared) == (fb.Limit.TIMEOUT, False)
    assert isinstance(completed, fb.Completed)


def test_other_traps_under_a_shared_deadline_are_the_plugins(load: Callable[..., fb.Host]) -> None:
    """A crash under a short deadline is still a crash of the plugin."""
    outcome = load(CRASH).dispatch("text", "x", timeout_ms=100).outcomes[0]
    assert isinstance(outcome, fb.Trapped)
    assert not outcome.trap.deadline_shared


@pytest.mark.parametrize("timeout_ms", [-1, math.nan, math.inf, True, "5", 10**400])
@pytest.mark.parametrize("modules", [(), (SILENT,)], ids=["no plugin", "a plugin"])
def test_bad_timeouts_are_refused(load: Callable[..., fb.Host], timeout_ms: Any, modules: tuple[bytes, ...]) -> None:
    """A deadline that is no number of milliseconds is the caller's mistake, also where there is no plugin."""
    with pytest.raises(fb.UsageError, match=r"timeout_ms=.* must be a number of milliseconds, 0 or more"):
        load(*modules).apply_filter("text", "x", timeout_ms=timeout_ms)


# ── what a dispatch is told ──────────────────────────────────────────────────────────────────────


def test_a_request_id_is_made_where_there_is_none(load: Callable[..., fb.Host]) -> None:
    """Each dispatch gets 128 random bits in hex, the same for all its plugins."""
    host = load(SILENT, SILENT)
    first, second = (host.dispatch("text", "x").outcomes for _ in range(2))
    assert re.fullmatch(r"[0-9a-f]{32}", first[0].request_id)
    assert first[0].request_id == first[1].request_id != second[0].request_id


def test_a_request_id_can_be_given(load: Callable[..., fb.Host]) -> None:
    """The application's own id goes into every outcome, up to 200 characters."""
    host = load(SILENT)
    for request_id in ("r", "!~" * 100, "01J-abc/def:9"):
        assert host.dispatch("text", "x", request_id=request_id).outcomes[0].request_id == request_id


@pytest.mark.parametrize("request_id", ["", "a b", "a\n", "ä", "x" * 201, 5, b"r", "\x7f"])
@pytest.mark.parametrize("modules", [(), (SILENT,)], ids=["no plugin", "a plugin"])
def test_bad_request_ids_are_refused(load: Callable[..., fb.Host], request_id: Any, modules: tuple[bytes, ...]) -> None:
    """An id that couldn't stand in a header or a log line is refused."""
    with pytest.raises(fb.UsageError, match="must be 1 to 200 printable ASCII characters"):
        load(*modules).apply_filter("text", "x", request_id=request_id)


@pytest.mark.parametrize("scope", ["", 5, b"s", "\ud800"])
@pytest.mark.parametrize("modules", [(), (SILENT,)], ids=["no plugin", "a plugin"])
def test_bad_scopes_are_refused(load: Callable[..., fb.Host], scope: Any, modules: tuple[bytes, ...]) -> None:
    """A scope is text that can be told to a guest, or `None`; an empty one would be nobody's."""
    with pytest.raises(fb.UsageError, match=r"scope=.* must be text"):
        load(*modules).apply_filter("text", "x", scope=scope)


def test_call_info_reaches_the_guest(load: Callable[..., fb.Host]) -> None:
    """Buffer 5 says hook, request, scope and plugin."""
    host = load(shows(5), hook=CALL_INFO)
    assert host.apply_filter(CALL_INFO, {}, request_id="r-1", scope="sité-42") == {
        "plugin": "plugin-0", "hook": "call.info", "request_id": "r-1", "scope": "sité-42",
    }  # fmt: skip
    assert host.apply_filter(CALL_INFO, {})["scope"] is None


def test_scopes_have_their_own_data(load: Callable[..., fb.Host]) -> None:
    """What a plugin keeps for one scope, it doesn't see in another."""
    kv = MemoryKv()
    module = guest(
        """(data (i32.const 0) "n") (func (export "run")
          (drop (call $host_kv_increment (i32.const 0) (i32.const 1) (i64.const 1))))"""
    )
    host = load(module, backends=Backends(kv=kv), server={"capabilities": {"kv": True}})
    for scope in ("a", "a", "b", None):
        host.apply_filter("text", "x", scope=scope)
    assert [kv.items("plugin-0", scope=scope) for scope in ("a", "b", None)] == [
        {b"n": b"2"}, {b"n": b"1"}, {b"n": b"1"},
    ]  # fmt: skip


@pytest.mark.parametrize("modules", [(), (SILENT,)], ids=["no plugin", "a plugin"])
def test_unknown_arguments_are_refused(load: Callable[..., fb.Host], modules: tuple[bytes, ...]) -> None:
    """A misspelt argument is named with those that there are, by every call."""
    host: Any = load(*modules)
    for call in (host.apply_filter, host.dispatch):
        with pytest.raises(fb.UsageError, match="unknown argument 'timeout'; there are context, request_id, scope"):
            call("text", "x", timeout=5)
    with pytest.raises(fb.UsageError, match="unknown argument 'requestid'"):
        host.do_action("noted", "x", requestid="r")
    if modules:
        with pytest.raises(fb.UsageError, match="unknown argument 'scoped'"):
            host.invoke("plugin-0", "text", "x", scoped="s")


# ── the operator's word ──────────────────────────────────────────────────────────────────────────


def test_settings_are_merged_key_by_key(make_host: Callable[..., fb.Host]) -> None:
    """The operator's settings hold over the manifest's; keys that only one has stay."""
    host = make_host(CALL_INFO)
    said = manifest("a", "call.info", settings={"style": "ap", "deep": {"a": 1, "b": 2}, "n": 1})
    host.load_bytes(shows(4), said, settings={"deep": {"a": 3}, "extra": [True, None]})
    assert host.apply_filter(CALL_INFO, {"x": 1}) == {"style": "ap", "deep": {"a": 3}, "n": 1, "extra": [True, None]}


def test_settings_are_the_hosts_own_copy(make_host: Callable[..., fb.Host]) -> None:
    """Changing a mapping after the load changes nothing for the plugin."""
    host = make_host(CALL_INFO)
    mine: dict[str, Any] = {"deep": [1]}
    host.load_bytes(shows(4), manifest("a", "call.info"), settings=mine)
    mine["deep"].append(2)
    assert host.apply_filter(CALL_INFO, {"x": 1}) == {"deep": [1]}


def test_a_disabled_plugin_is_skipped(make_host: Callable[..., fb.Host]) -> None:
    """It is loaded and listed, and skipped as DISABLED, even where no time is left."""
    host = make_host()
    plugin = host.load_bytes(CRASH, manifest("off", "text", "noted"), enabled=False)
    assert not plugin.enabled
    assert host.apply_filter("text", "x") == "x"
    for call in (host.dispatch("text", "x"), host.dispatch("noted", "x", timeout_ms=0)):
        assert skip_reason(call.outcomes[0]) is fb.SkipReason.DISABLED


def test_the_operators_limits_hold_over_the_manifests(make_host: Callable[..., fb.Host]) -> None:
    """A limit that the operator names replaces the request, downwards and up to the ceiling; others stay."""
    host = make_host(ceilings=fb.Limits(memory_limit_mb=4, fuel_per_invocation=5_000))
    plugin = host.load_bytes(
        SPIN,
        manifest("a", "text", fuel_per_invocation=100, db_queries_per_invocation=3, invocation_timeout_ms=None),
        limits=fb.Limits(fuel_per_invocation=5_000, http_fetches_per_invocation=0),
    )
    assert plugin.limits == (4 << 20, 5_000, 250, 0, 3, 1 << 20)
    outcome = host.invoke("a", "text", "x")
    assert isinstance(outcome, fb.Trapped)
    assert (outcome.trap.limit, outcome.meters[fb.Limit.FUEL].ceiling) == ("fuel", 5_000)


def test_the_operators_limits_stay_under_the_hosts_ceilings(make_host: Callable[..., fb.Host]) -> None:
    """A limit above the host's own ceiling is the operator's mistake, and nothing is loaded."""
    host = make_host()
    with pytest.raises(fb.UsageError, match=r"limits\.memory_limit_mb = 5: is above the operator's ceiling"):
        host.load_bytes(SILENT, manifest(), limits=fb.Limits(memory_limit_mb=5))
    assert dict(host.plugins) == {}


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        ({"grants": "all"}, "grants='all' must be Grants"),
        ({"grants": {"kv": True}}, "must be Grants"),
        ({"grants": True}, "must be Grants"),
        ({"limits": {"memory_limit_mb": 1}}, "must be Limits"),
        ({"priority": 1.5}, "priority=1.5 must be a whole number"),
        ({"priority": True}, "must be a whole number"),
        ({"enabled": 1}, "enabled=1 must be True or False"),
        ({"enabled": None}, "must be True or False"),
        ({"settings": [1]}, "settings must be a table"),
        ({"settings": {"a": math.nan}}, "settings.a must be finite"),
        ({"settings": {1: 2}}, "settings has a key that is"),
        ({"grant": "as-requested"}, "unknown argument 'grant'.*did you mean 'grants'"),
        ({"slug": "x"}, "unknown argument 'slug'; there are grants, limits, settings, enabled, priority"),
    ],
    ids=str,
)
def test_bad_terms_are_refused(
    make_host: Callable[..., fb.Host], tmp_path: Path, terms: dict[str, Any], problem: str
) -> None:
    """The operator's own mistakes are `UsageError`s, by every way to load."""
    host = make_host()
    calls: list[Callable[[], object]] = [
        lambda: host.load_bytes(SILENT, manifest(), **terms),
        lambda: host.load(tmp_path, **terms),
    ]
    for call in calls:
        with pytest.raises(fb.UsageError, match=problem):
            call()
    assert dict(host.plugins) == {}


@pytest.mark.parametrize("wasm", ["plugin.wasm", None, 5, [0]])
def test_load_bytes_needs_bytes(make_host: Callable[..., fb.Host], wasm: Any) -> None:
    """A path in the place of bytes is told to the programmer, not to the plugin's author."""
    with pytest.raises(fb.UsageError, match=r"wasm must be bytes, not .*; host\.load takes a path"):
        make_host().load_bytes(wasm, manifest())


def test_load_bytes_takes_any_bytes(make_host: Callable[..., fb.Host]) -> None:
    """Arrays and views of bytes are modules too, and can be changed afterwards."""
    host = make_host()
    changing = bytearray(SILENT)
    host.load_bytes(changing, manifest("a"))
    changing[:] = b"\0" * len(changing)
    host.load_bytes(memoryview(SILENT), manifest("b"))
    assert kinds(host.dispatch("text", "x")) == ["Completed", "Completed"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"max_concurrent_invocations": 0}, "max_concurrent_invocations=0 must be a whole number from 1 to 10000"),
        ({"max_concurrent_invocations": True}, "must be a whole number"),
        ({"max_concurrent_invocations": 10_001}, "from 1 to 10000"),
        ({"commit_timeout_ms": 0}, "commit_timeout_ms=0 must be a whole number"),
        ({"commit_timeout_ms": 1.5}, "must be a whole number"),
        ({"hooks": ["text"]}, "'text' is no hook"),
        ({"hooks": [TEXT, fb.Filter("text", int)]}, "is declared already"),
        ({"backends": Backends(kv=object())}, r"Backends\(kv=<object.*is no backend: it needs a method session"),  # type: ignore[arg-type]
        ({"functions": [print]}, "it is not declared"),
    ],
    ids=str,
)
def test_bad_hosts_are_refused(arguments: dict[str, Any], problem: str) -> None:
    """A host's arguments are checked when it is made."""
    with pytest.raises(fb.UsageError, match=problem):
        fb.Host(**arguments)


def test_coroutine_functions_and_backends_are_refused() -> None:
    """What must be awaited is refused by name when the host is made, not at the first call."""

    @fb.host_function("mail.send")
    async def send() -> None: ...

    class Store:
        async def session(self, identity: object) -> None: ...

    with pytest.raises(fb.UsageError, match=r"no coroutine functions: mail\.send"):
        fb.Host(functions=[send])
    with pytest.raises(fb.UsageError, match=r"Backends\(db="):
        fb.Host(backends=Backends(db=Store()))  # type: ignore[arg-type]


# ── what an application is told ──────────────────────────────────────────────────────────────────


def test_on_outcome_is_called_once_per_invocation(make_host: Callable[..., fb.Host]) -> None:
    """Each invocation is told, in order, whatever became of it, on the calling thread."""
    told: list[tuple[str, str, int]] = []
    host = make_host(
        on_outcome=lambda outcome: told.append((outcome.plugin, type(outcome).__name__, threading.get_ident()))
    )
    for slug, module, enabled in [("ok", SILENT, True), ("bad", CRASH, True), ("off", SILENT, False)]:
        host.load_bytes(module, manifest(slug, "text", "noted"), enabled=enabled)
    everything = [("ok", "Completed"), ("bad", "Trapped"), ("off", "Skipped")]
    host.apply_filter("text", "x")
    host.do_action("noted", "x")
    host.invoke("bad", "text", "x")
    assert [(plugin, kind) for plugin, kind, _ in told] == [*everything, *everything, ("bad", "Trapped")]
    assert len({thread for _, _, thread in told}) == 1


@only_sync
def test_on_outcome_is_called_after_settling(load: Callable[..., fb.Host]) -> None:
    """What is told is lasting: the writes are committed by then, and the host can be used again."""
    kv = MemoryKv()
    seen: list[object] = []

    def look(outcome: fb.Outcome) -> None:
        seen.append(kv.items(outcome.plugin))
        if len(seen) == 1:
            host.apply_filter("text", "again")

    module = guest(
        """(data (i32.const 0) "n") (func (export "run")
          (drop (call $host_kv_increment (i32.const 0) (i32.const 1) (i64.const 1))))"""
    )
    host = load(module, backends=Backends(kv=kv), server={"capabilities": {"kv": True}}, on_outcome=look)
    host.apply_filter("text", "x")
    assert seen == [{b"n": b"1"}, {b"n": b"2"}]


def test_what_on_outcome_raises_is_logged(load: Callable[..., fb.Host], caplog: pytest.LogCaptureFixture) -> None:
    """The application's own mistake there stops no dispatch, and is logged with its traceback."""
    host = load(appends("a"), appends("b"), on_outcome=lambda _: 1 / 0)
    assert host.apply_filter("text", "x") == "xab"
    records = [record for record in caplog.records if record.name == "fuseboard"]
    assert [record.getMessage() for record in records] == [
        f"on_outcome failed for plugin plugin-{place} on hook text" for place in range(2)
    ]
    assert all(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in records)


def test_a_trap_is_one_warning_with_its_names(load: Callable[..., fb.Host], caplog: pytest.LogCaptureFixture) -> None:
    """One WARNING a trap, whose sentence is the trap's and whose record has its names as attributes."""
    host = load(CRASH, SPIN, server={"fuel_per_invocation": 1_000})
    caplog.set_level(logging.DEBUG)
    happened = host.dispatch("text", "x", request_id="r-1", scope="s-1")
    records: list[Any] = [record for record in caplog.records if record.name == "fuseboard"]
    assert [record.levelno for record in records] == [logging.WARNING] * 2
    assert [record.getMessage() for record in records] == [str(outcome) for outcome in happened.outcomes]
    names = ("limit", "cause", "plugin", "hook", "request_id", "scope")
    assert [tuple(getattr(record, name) for name in names) for record in records] == [
        (None, "crash", "plugin-0", "text", "r-1", "s-1"),
        ("fuel", "limit", "plugin-1", "text", "r-1", "s-1"),
    ]


def test_a_skip_is_no_warning(load: Callable[..., fb.Host], caplog: pytest.LogCaptureFixture) -> None:
    """A skip is told at INFO; who completes isn't told at all."""
    caplog.set_level(logging.DEBUG)
    host = load(SILENT)
    host.apply_filter("text", "x")
    host.apply_filter("text", "x", timeout_ms=0)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.INFO, "plugin 'plugin-0', hook 'text': skipped (deadline)")
    ]


def test_every_outcome_has_its_names_and_meters(make_host: Callable[..., fb.Host]) -> None:
    """Completed, trapped or skipped: plugin, hook, request, scope, time and all meters are there."""
    host = make_host()
    for slug, module, enabled in [("ok", SILENT, True), ("bad", CRASH, True), ("off", SILENT, False)]:
        host.load_bytes(module, manifest(slug), enabled=enabled)
    for slug in ("ok", "bad", "off"):
        outcome = host.invoke(slug, "text", "x", request_id="r", scope="s")
        assert (outcome.plugin, outcome.hook, outcome.request_id, outcome.scope) == (slug, "text", "r", "s")
        assert outcome.elapsed_ms >= 0
        assert list(outcome.meters) == list(fb.Limit)
        assert outcome.meters[fb.Limit.MEMORY].used == (0 if slug == "off" else 65_536)


# ── what a guest logs ────────────────────────────────────────────────────────────────────────────


def test_guest_levels_are_pythons(load: Callable[..., fb.Host], caplog: pytest.LogCaptureFixture) -> None:
    """0 to 4 are debug to critical, to the plugin's own logger, with the names of the invocation."""
    caplog.set_level(logging.DEBUG, "fuseboard.plugin")
    host = load(*[logs(level, f"level {level}") for level in range(5)])
    host.apply_filter("text", "x", request_id="r-1", scope="s-1")
    records: list[Any] = caplog.records
    assert [(record.name, record.levelname, record.getMessage()) for record in records] == [
        (f"fuseboard.plugin.plugin-{level}", name, f"level {level}")
        for level, name in enumerate(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
    ]
    assert {(record.hook, record.request_id, record.scope) for record in records} == {("text", "r-1", "s-1")}


@pytest.mark.parametrize("level", [-1, 5])
def test_other_levels_trap(load: Callable[..., fb.Host], level: int) -> None:
    """A level that there isn't is the guest's mistake."""
    outcome = load(logs(level)).invoke("plugin-0", "text", "x")
    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.cause is fb.Cause.BAD_POINTER


def test_guest_text_is_not_a_format(load: Callable[..., fb.Host], caplog: pytest.LogCaptureFixture) -> None:
    """Percent signs of a guest are text, and its line breaks are escaped: one call is one line."""
    module = guest(
        """(data (i32.const 0) "100%s %d\\0a{x}")
        (func (export "run") (call $host_log (i32.const 3) (i32.const 0) (i32.const 12)))"""
    )
    load(module).apply_filter("text", "x")
    assert [record.getMessage() for record in caplog.records] == [r"100%s %d\n{x}"]


def test_a_log_over_its_cap_is_cut_with_one_notice(
    load: Callable[..., fb.Host], caplog: pytest.LogCaptureFixture
) -> None:
    """What fits is logged, then one notice, then nothing more of that invocation; the next begins anew."""
    caplog.set_level(logging.DEBUG)
    host = load(logs(1, "0123456789", times=50), caps=fb.Caps(log_bytes=25))
    for _ in range(2):
        caplog.clear()
        assert kinds(host.dispatch("text", "x")) == ["Completed"]
        lines = [record.getMessage() for record in caplog.records]
        assert lines[:2] == ["0123456789"] * 2
        assert lines[2].startswith("01234")
        assert len(lines) == 4  # the third line, cut, and the notice
        assert "25 bytes" in lines[3]


def test_lines_before_a_trap_are_logged(load: Callable[..., fb.Host], caplog: pytest.LogCaptureFixture) -> None:
    """What a guest said before it crashed is what one wants to read, before the trap's own line."""
    module = guest(
        """(data (i32.const 0) "last words")
        (func (export "run") (call $host_log (i32.const 3) (i32.const 0) (i32.const 10)) unreachable)"""
    )
    load(module).apply_filter("text", "x")
    assert [record.name for record in caplog.records] == ["fuseboard.plugin.plugin-0", "fuseboard"]
    assert caplog.records[0].getMessage() == "last words"


# ── loading and unloading ────────────────────────────────────────────────────────────────────────


def folder(parent: Path, name: str, module: bytes | None = SILENT, **changes: Any) -> Path:
    """Write a plugin's folder and return it."""
    said = manifest(changes.pop("slug", name)) | changes
    lines = [f"{key} = {json.dumps(value)}" for key, value in said.items() if key not in ("hooks", "server")]
    hooks = [f'[[hooks]]\nname = "{hook["name"]}"\nexport = "{hook["export"]}"' for hook in said["hooks"]]
    path = parent / name
    path.mkdir(parents=True)
    (path / "plugin.toml").write_text("\n".join([*lines, *hooks]))
    if module is not None:
        (path / "plugin.wasm").write_bytes(module)
    return path


def test_load_takes_the_folder_or_the_manifest(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """A folder, its `plugin.toml`, as a path or as text; the plugin knows its manifest's path."""
    host = make_host()
    first = host.load(folder(tmp_path, "first"))
    second = host.load(str(folder(tmp_path, "second") / "plugin.toml"))
    assert (first.slug, first.name, first.version, first.hooks) == ("first", "first", "1.0.0", ("text",))
    assert second.path == str(tmp_path / "second" / "plugin.toml")
    assert kinds(host.dispatch("text", "x")) == ["Completed", "Completed"]


def test_a_folder_can_be_named_like_a_file(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """A folder `x.toml` has its module inside, not beside it."""
    (tmp_path / "plugin.wasm").write_bytes(b"the wrong one")
    plugin = make_host().load(folder(tmp_path, "x.toml", slug="x"))
    assert plugin.path == str(tmp_path / "x.toml" / "plugin.toml")


def test_loading_twice_is_refused(make_host: Callable[..., fb.Host]) -> None:
    """A slug is unique in a host; the plugin that was there stays."""
    host = make_host()
    host.load_bytes(appends("a"), manifest("a"))
    with pytest.raises(fb.ManifestError, match=r"slug = 'a': a plugin of this slug is loaded already; unload it first"):
        host.load_bytes(appends("b"), manifest("a"))
    assert host.apply_filter("text", "") == "a"


def test_unloading(make_host: Callable[..., fb.Host]) -> None:
    """An unloaded plugin isn't run and isn't listed, its slug is free, the others keep their order."""
    host = make_host()
    for slug in "abc":
        host.load_bytes(appends(slug), manifest(slug))
    host.unload("b")
    assert (host.apply_filter("text", ""), list(host.plugins)) == ("ac", ["a", "c"])
    host.load_bytes(appends("B"), manifest("b"))
    assert host.apply_filter("text", "") == "acB"
    with pytest.raises(fb.UnknownPlugin):
        host.unload("d")


def test_load_all_loads_what_it_can(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """Every folder is tried, by name; what fails is one group of errors, what loads stays."""
    folder(tmp_path, "b", appends("b"))
    folder(tmp_path, "a", appends("a"))
    folder(tmp_path, "broken-manifest", version=5)
    folder(tmp_path, "c-same-slug", appends("x"), slug="a")
    folder(tmp_path, "no-module", None)
    (tmp_path / "no-plugin").mkdir()
    (tmp_path / "file.txt").write_text("nothing")
    host = make_host()
    with pytest.raises(ExceptionGroup, match=r"3 plugins in .* can't be loaded") as caught:
        host.load_all(tmp_path)
    assert [(type(error), error.slug) for error in caught.value.exceptions if isinstance(error, fb.LoadError)] == [
        (fb.ManifestError, "broken-manifest"), (fb.ManifestError, "a"), (fb.ModuleError, "no-module"),
    ]  # fmt: skip
    assert list(host.plugins) == ["a", "b"]
    assert host.apply_filter("text", "") == "ab"


def test_load_all_returns_the_plugins(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """Where all load, they are returned in the order of their names; an empty directory has none."""
    host = make_host()
    assert host.load_all(tmp_path) == ()
    folder(tmp_path, "b")
    folder(tmp_path, "a")
    assert [plugin.slug for plugin in host.load_all(str(tmp_path))] == ["a", "b"]


def test_load_all_needs_a_directory(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """A directory that isn't there is the operator's mistake, not an empty set of plugins."""
    with pytest.raises(fb.UsageError, match="is no directory"):
        make_host().load_all(tmp_path / "plugin")


def test_the_view_of_plugins_can_not_be_changed(make_host: Callable[..., fb.Host]) -> None:
    """`plugins` is a picture of its moment, to read."""
    host = make_host()
    host.load_bytes(SILENT, manifest("a"))
    view: Any = host.plugins
    with pytest.raises(TypeError):
        del view["a"]
    with pytest.raises(TypeError):
        view["b"] = None
    host.unload("a")
    assert (list(view), list(host.plugins)) == (["a"], [])


# ── closing ──────────────────────────────────────────────────────────────────────────────────────


def test_a_closed_host_refuses_everything(make_host: Callable[..., fb.Host], tmp_path: Path) -> None:
    """After `close` no call is taken, with plugins or without; closing again does nothing."""
    host = make_host()
    host.load_bytes(SILENT, manifest("a"))
    with host as same:
        assert same is host
    path = folder(tmp_path, "p")
    calls: list[Callable[[], object]] = [
        lambda: host.apply_filter("text", "x"),
        lambda: host.do_action("noted", "x"),
        lambda: host.dispatch("text", "x"),
        lambda: host.load(path),
        lambda: host.load_bytes(SILENT, manifest("b")),
        lambda: host.declare(fb.Filter("more", str)),
        lambda: host.unload("a"),
    ]
    for call in calls:
        with pytest.raises(fb.HostClosed, match="make a new Host"):
            call()
    with pytest.raises(fb.UsageError):
        host.invoke("a", "text", "x")
    assert dict(host.plugins) == {}
    host.close()


def test_close_waits_for_what_runs(load: Callable[..., fb.Host]) -> None:
    """New calls are refused at once; the running one ends as if nothing were, and only then close returns."""
    entered, leave = threading.Event(), threading.Event()

    @fb.host_function("wait")
    def wait() -> None:
        entered.set()
        assert leave.wait(10)

    server = {"capabilities": {"functions": ["wait"]}}
    host = load(calls_function("wait"), functions=[wait], server=server)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(host.dispatch, "text", "x")
        assert entered.wait(10)
        closing = pool.submit(host.close)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                host.dispatch("text", "x", timeout_ms=0)
            except fb.HostClosed:
                break
            time.sleep(0.001)
        assert not closing.done()
        leave.set()
        assert kinds(running.result(10)) == ["Completed"]
        closing.result(10)


@only_sync
def test_close_waits_no_longer_than_the_longest_timeout(load: Callable[..., fb.Host]) -> None:
    """A function that never returns can't keep a host from closing."""
    entered, leave = threading.Event(), threading.Event()

    @fb.host_function("wait")
    def wait() -> None:
        entered.set()
        leave.wait(10)

    host = load(
        calls_function("wait"),
        functions=[wait],
        server={"capabilities": {"functions": ["wait"]}, "invocation_timeout_ms": 50},
        ceilings=fb.Limits(memory_limit_mb=4, invocation_timeout_ms=50),
        commit_timeout_ms=50,
    )
    with ThreadPoolExecutor() as pool:
        running = pool.submit(host.dispatch, "text", "x")
        assert entered.wait(10)
        started = time.monotonic()
        host.close()
        assert 0.09 < time.monotonic() - started < 5
        assert not running.done()
        leave.set()
        outcome = running.result(10).outcomes[0]
    assert isinstance(outcome, fb.Trapped)
    assert (outcome.trap.limit, outcome.trap.host_call) == ("timeout", "host_call")


# ── threads ──────────────────────────────────────────────────────────────────────────────────────


def test_loading_and_unloading_while_others_dispatch(make_host: Callable[..., fb.Host]) -> None:
    """A dispatch goes on with the plugins that it began with: it sees each set whole, and never an error."""
    host = make_host(max_concurrent_invocations=16)
    host.load_bytes(appends("a"), manifest("a"))
    stop = threading.Event()

    seen: set[str] = set()

    def dispatching() -> None:
        while not stop.is_set():
            seen.add(host.apply_filter("text", ""))

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(dispatching) for _ in range(3)]
        for _ in range(20):
            host.load_bytes(appends("b"), manifest("b"))
            host.declare(fb.Filter("text", str))
            until = time.monotonic() + 10
            while "ab" not in seen and time.monotonic() < until:
                time.sleep(0.001)
            host.unload("b")
        stop.set()
        for each in running:
            each.result(10)
    assert seen == {"a", "ab"}


def test_a_plugin_unloaded_by_the_one_before_still_runs(load: Callable[..., fb.Host]) -> None:
    """Subscribers are taken when a dispatch begins."""

    @fb.host_function("unload")
    def unload() -> None:
        host.unload("plugin-1")

    server = {"capabilities": {"functions": ["unload"]}}
    host = load(calls_function("unload"), appends("b"), functions=[unload], server=server)
    assert host.apply_filter("text", "a") == "ab"
    assert host.apply_filter("text", "a") == "a"


def test_more_calls_than_slots_wait_and_are_skipped(load: Callable[..., fb.Host]) -> None:
    """Whoever finds no slot until its deadline is skipped as SATURATED: never an error, and never the plugin's trap."""
    barrier = threading.Barrier(3)

    @fb.host_function("wait")
    def wait() -> None:
        barrier.wait(10)
        barrier.wait(10)

    server = {"capabilities": {"functions": ["wait"]}}
    host = load(calls_function("wait"), functions=[wait], server=server, max_concurrent_invocations=2)
    assert host._compiler.engine.pool_problem is None
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(host.dispatch, "text", "x") for _ in range(2)]
        barrier.wait(10)
        for _ in range(3):
            happened = host.dispatch("text", "x", timeout_ms=20)
            assert happened.value == "x"
            assert skip_reason(happened.outcomes[0]) is fb.SkipReason.SATURATED
            assert "2 of the host's 2 slots are taken" in str(happened.outcomes[0])
            assert happened.outcomes[0].elapsed_ms >= 20
        barrier.wait(10)
        assert [kinds(each.result(10)) for each in running] == [["Completed"]] * 2
    barrier.abort()
    assert kinds(host.dispatch("text", "x")) == ["Completed"]  # the slots are free again


def test_many_threads_on_few_slots(load: Callable[..., fb.Host]) -> None:
    """Under pressure each call waits for its turn, and all of them gave the right value."""
    host = load(appends("a"), max_concurrent_invocations=2)

    def dispatching(number: int) -> list[tuple[str, str]]:
        results = (host.dispatch("text", str(number)) for _ in range(100))
        return [(happened.value, kinds(happened)[0]) for happened in results]

    with ThreadPoolExecutor(8) as pool:
        for number, results in enumerate(pool.map(dispatching, range(8))):
            assert set(results) == {(f"{number}a", "Completed")}


@only_sync
def test_other_threads_have_their_turns_beside_one_that_only_dispatches(load: Callable[..., fb.Host]) -> None:
    """In half a second, 100 turns, another thread has at least every tenth: nothing begins its wait anew each time."""
    host = load(ECHO)
    host.apply_filter("text", "x")
    has_ended = threading.Event()

    def turns() -> int:
        """Return how often this thread had to wait for over a millisecond: as often as it has had a turn."""
        count, last = 0, time.perf_counter()
        while not has_ended.is_set():
            now = time.perf_counter()
            count += now - last > 0.001
            last = now
        return count

    def turns_beside() -> int:
        has_ended.clear()
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(turns)
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                host.apply_filter("text", "x")
            has_ended.set()
            return other.result(10)

    assert max(turns_beside() for _ in range(3)) >= 10


def test_hosts_are_apart(make_host: Callable[..., fb.Host]) -> None:
    """What is declared and loaded in one host is nothing to another."""
    first, second = make_host(), make_host(fb.Filter("own", str), ceilings=SMALL)
    first.load_bytes(appends("a"), manifest("a"))
    assert (first.apply_filter("text", ""), second.apply_filter("text", "")) == ("a", "")
    second.load_bytes(appends("b"), manifest("a"))
    assert (first.apply_filter("text", ""), second.apply_filter("text", "")) == ("a", "b")
    with pytest.raises(fb.UnknownHook):
        first.apply_filter("own", "x")


@only_sync
def test_close_from_inside_of_a_call_is_refused(make_host: Callable[..., fb.Host]) -> None:
    """A host that is closed by its own callback would wait for itself: that is an error at once."""
    errors: list[BaseException] = []

    def close(_: fb.Outcome) -> None:
        try:
            host.close()
        except fb.UsageError as error:
            errors.append(error)

    host = make_host(on_outcome=close)
    host.load_bytes(SILENT, manifest("a", "text"))
    host.apply_filter("text", "x")
    assert "from inside of one of its calls" in str(errors[0])
    assert host.apply_filter("text", "x") == "x"


@pytest.mark.usefixtures("_ctrl_c_interrupts")
@only_sync
def test_ctrl_c_during_a_query_ends_the_dispatch(make_host: Callable[..., fb.Host]) -> None:
    """SQLite drops what its callbacks raise; Ctrl-C passes all the same, and nothing is committed."""
    db = MemoryDb()
    sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    body = f"""(data (i32.const 0) "{sql}") (func (export "run")
        (drop (call $host_db_query (i32.const 0) (i32.const {len(sql)}) (i32.const 0) (i32.const 0))))"""
    host = make_host(backends=fb.Backends(db=db))
    host.load_bytes(
        guest(body),
        manifest("a", "text", capabilities={"db": "read"}, invocation_timeout_ms=9_000),
        grants="as-requested",
    )
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        host.apply_filter("text", "x")
    timer.join()
    assert time.monotonic() - started < 5
    assert db.rows("a", "SELECT 1") == [(1,)]


def test_the_same_value_written_otherwise_is_no_change(make_host: Callable[..., fb.Host]) -> None:
    """Blanks and escapes don't count: where the value is equal, the caller's own object comes back."""
    host = make_host()
    host.declare(fb.Filter("numbers", dict[str, int]))
    host.load_bytes(writes('{ "a" : 1 }'), manifest("a", "numbers"))
    value = {"a": 1}
    result = host.dispatch("numbers", value)
    assert result.value is value
    assert isinstance(result.outcomes[0], fb.Completed)
    assert not result.outcomes[0].changed
