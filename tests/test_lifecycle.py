"""Loading, reloading, unloading and closing, while others dispatch."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final

import pytest

import fuseboard as fb
from conftest import CRASH, ECHO, NOTED, SILENT, SMALL, SPIN, TEXT, FakeClock, guest, manifest, shows, writes
from drivers import awaited
from fuseboard import _loading
from fuseboard.backends import Backends
from fuseboard.backends.memory import MemoryKv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    MakeHost = Callable[..., fb.Host]

SETTINGS = fb.Filter("settings", dict)
FIRST_TRAP_OPENS = fb.BreakerPolicy(min_traps=1, trap_ratio=0.01)
WAIT = """(drop (call $host_call (i32.const 60000) (i32.const 4) (i32.const 0) (i32.const 0)))"""
WAITS: Final[dict[str, Any]] = {"capabilities": {"functions": ["wait"]}}
WRITES_OLD = """(call $output_write (i32.const 0) (i32.const 5))"""


def waits_then(body: str) -> bytes:
    """Return a guest that calls the application's `wait`, then does something; there is `"old"` to output."""
    data = r"""(data (i32.const 60000) "wait") (data (i32.const 0) "\"old\"")"""
    return guest(f"""{data} (func (export "run") {WAIT} {body})""")


WAITS_THEN_OLD = waits_then(WRITES_OLD)
WAITS_THEN_CRASHES = waits_then("unreachable")


def toml(value: object) -> str:
    """Return a manifest's value as TOML writes it."""
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {toml(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case _:
            return json.dumps(value)


def put(folder: Path, module: bytes, *hooks: str | dict[str, Any], slug: str | None = None, **said: Any) -> Path:
    """Write a plugin's folder, or what is new in it, and return it; the arguments are those of `manifest`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{key} = {toml(value)}" for key, value in manifest(slug or folder.name, *hooks, **said).items()]
    (folder / "plugin.toml").write_text("\n".join(lines))
    (folder / "plugin.wasm").write_bytes(module)
    return folder


def tells(number: int) -> bytes:
    """Return a guest that outputs its own number and its settings, as one object."""
    text = f'{{"module":{number},"settings":'
    escaped = text.replace('"', '\\"')
    return guest(
        f"""(data (i32.const 0) "{escaped}") (data (i32.const 500) "}}")
        (func (export "run") (local $length i32)
          (local.set $length (call $buffer_read (i32.const 4) (i32.const 0) (i32.const 1000) (i32.const 1000)))
          (call $output_write (i32.const 0) (i32.const {len(text)}))
          (call $output_write (i32.const 1000) (local.get $length))
          (call $output_write (i32.const 500) (i32.const 1)))"""
    )


class Gate:
    """The application's function `wait`: guests that call it stay inside until they are let out."""

    def __init__(self) -> None:
        self._inside = threading.Semaphore(0)
        self._out = threading.Event()
        self.function = fb.host_function("wait")(self._wait)

    def _wait(self) -> None:
        self._inside.release()
        assert self._out.wait(15)

    def await_inside(self, guests: int = 1) -> None:
        for _ in range(guests):
            assert self._inside.acquire(timeout=10)

    def let_out(self) -> None:
        self._out.set()

    def shut(self) -> None:
        self._out.clear()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Return a function `wait`; whatever happens, nobody stays in it."""
    gate = Gate()
    yield gate
    gate.let_out()


class Holder:
    """Holds the next load up once it has read its manifest, when it is armed."""

    def __init__(self) -> None:
        self._real = _loading.load
        self._is_armed = False
        self.has_read, self.go_on = threading.Event(), threading.Event()

    def arm(self) -> None:
        self._is_armed = True

    def __call__(self, *arguments: Any) -> Any:
        if self._is_armed:
            self._is_armed = False
            self.has_read.set()
            assert self.go_on.wait(15)
        return self._real(*arguments)


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Holder]:
    """Return what can hold a load up between its manifest and its module."""
    holder = Holder()
    monkeypatch.setattr(_loading, "load", holder)
    yield holder
    holder.go_on.set()


def plugins(happened: fb.Dispatch[Any]) -> list[str]:
    return [outcome.plugin for outcome in happened.outcomes]


def all_completed(*happened: fb.Dispatch[Any]) -> bool:
    return all(isinstance(outcome, fb.Completed) for each in happened for outcome in each.outcomes)


# ── a reload ─────────────────────────────────────────────────────────────────────────────────────


def test_a_reload_runs_what_is_in_the_folder_now(make_host: MakeHost, tmp_path: Path) -> None:
    """Nothing changes before it; after it module, version, limits, settings and hooks are the new ones."""
    host = make_host(SETTINGS)
    old = host.load(put(tmp_path / "a", writes('"old"'), fuel_per_invocation=70_000))
    put(tmp_path / "a", shows(4), "settings", version="2.0.0", fuel_per_invocation=60_000, settings={"n": 2})
    assert (host.apply_filter(TEXT, "x"), host.plugins["a"]) == ("old", old)
    new = host.reload("a")
    assert host.plugins["a"] is new
    assert (old.version, new.version, new.path, new.hooks) == ("1.0.0", "2.0.0", old.path, ("settings",))
    assert host.dispatch(TEXT, "x") == fb.Dispatch("x", ())
    assert host.apply_filter(SETTINGS, {}) == {"n": 2}
    assert host.dispatch(SETTINGS, {}).outcomes[0].meters[fb.Limit.FUEL].ceiling == 60_000


def test_a_reload_takes_hooks_that_were_declared_since(make_host: MakeHost, tmp_path: Path) -> None:
    """A hook that isn't declared fails the reload; declared, the same folder is taken."""
    host = make_host()
    host.load(put(tmp_path / "a", writes('"old"')))
    put(tmp_path / "a", writes('"new"'), "text", "later")
    with pytest.raises(fb.ManifestError, match="declares no such hook"):
        host.reload("a")
    host.declare(fb.Filter("later", str))
    host.reload("a")
    assert (host.apply_filter("text", "x"), host.apply_filter("later", "x")) == ("new", "new")


def test_a_reload_keeps_the_load_order(make_host: MakeHost, tmp_path: Path) -> None:
    """The plugin stays where it was among equals, and goes where a new priority puts it."""
    host = make_host()
    for slug in "abc":
        host.load(put(tmp_path / slug, SILENT))
    host.reload("b")
    assert (list(host.plugins), plugins(host.dispatch(TEXT, "x"))) == (["a", "b", "c"], ["a", "b", "c"])
    put(tmp_path / "b", SILENT, {"name": "text", "priority": 9})
    host.reload("b")
    assert (list(host.plugins), plugins(host.dispatch(TEXT, "x"))) == (["a", "b", "c"], ["b", "a", "c"])


def test_a_reload_keeps_the_terms_of_the_load(make_host: MakeHost, tmp_path: Path) -> None:
    """The operator's word holds for what comes later too: limits, settings, priority, concurrency."""
    host = make_host(SETTINGS)
    host.load(put(tmp_path / "a", ECHO, "settings"))
    terms: dict[str, Any] = {
        "limits": fb.Limits(fuel_per_invocation=80_000),
        "settings": {"style": "mine"},
        "priority": -1,
        "max_concurrency": 3,
    }
    host.load(put(tmp_path / "b", ECHO, "settings", fuel_per_invocation=90_000), **terms)
    hook = {"name": "settings", "priority": 20}
    put(tmp_path / "b", shows(4), hook, fuel_per_invocation=70_000, settings={"style": "ap", "n": 2})
    new = host.reload("b")
    happened = host.dispatch(SETTINGS, {})
    assert (new.max_concurrency, plugins(happened)) == (3, ["b", "a"])
    assert happened.value == {"style": "mine", "n": 2}
    assert happened.outcomes[0].meters[fb.Limit.FUEL].ceiling == 80_000


def test_a_disabled_plugin_stays_disabled(make_host: MakeHost, tmp_path: Path) -> None:
    """Reloading isn't enabling."""
    host = make_host()
    host.load(put(tmp_path / "a", CRASH), enabled=False)
    assert not host.reload("a").enabled
    outcome = host.invoke("a", TEXT, "x")
    assert isinstance(outcome, fb.Skipped)
    assert outcome.reason is fb.SkipReason.DISABLED


def test_a_reload_is_granted_what_the_load_was(make_host: MakeHost, tmp_path: Path, gate: Gate) -> None:
    """A new version that requests more than was granted is refused, by the capability's name."""
    host = make_host(functions=[gate.function], backends=Backends(kv=MemoryKv()))
    grants = fb.Grants(kv=True, functions=["wait"])
    host.load(put(tmp_path / "a", SILENT, capabilities={"kv": True}), grants=grants)
    put(tmp_path / "a", SILENT, capabilities={"kv": True, "db": "read"})
    with pytest.raises(fb.ManifestError, match=r"server\.capabilities\.db") as caught:
        host.reload("a")
    assert caught.value.field == "server.capabilities.db"
    put(tmp_path / "a", SILENT, capabilities={"functions": ["wait"]})
    assert host.reload("a").grants == fb.Grants(functions=["wait"])


def test_settings_that_were_given_are_the_hosts_own(make_host: MakeHost, tmp_path: Path) -> None:
    """Changing the operator's mapping after the load changes nothing, at a reload either."""
    host = make_host(SETTINGS)
    mine: dict[str, Any] = {"deep": [1]}
    host.load(put(tmp_path / "a", shows(4), "settings"), settings=mine)
    mine["deep"].append(object())
    host.reload("a")
    assert host.apply_filter(SETTINGS, {}) == {"deep": [1]}


def test_a_reload_reads_the_same_folder(make_host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin loaded by a relative path is reloaded from there, wherever the process has gone since."""
    put(tmp_path / "a", writes('"old"'))
    monkeypatch.chdir(tmp_path)
    host = make_host()
    host.load("a")
    put(tmp_path / "a", writes('"new"'))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    host.reload("a")
    assert host.apply_filter(TEXT, "x") == "new"


def test_a_reload_follows_a_link_that_was_moved(make_host: MakeHost, tmp_path: Path) -> None:
    """Where the folder is a link to the current release, the reload reads the one that it leads to now."""
    for release in ("old", "new"):
        put(tmp_path / release, writes(f'"{release}"'), slug="a")
    current = tmp_path / "current"
    current.symlink_to(tmp_path / "old", target_is_directory=True)
    host = make_host()
    host.load(current)
    move(current, tmp_path / "new")
    host.reload("a")
    assert host.apply_filter(TEXT, "x") == "new"


def move(link: Path, target: Path) -> None:
    """Have a link lead elsewhere, in one step."""
    fresh = link.with_suffix(".fresh")
    fresh.symlink_to(target, target_is_directory=True)
    fresh.replace(link)


def test_a_release_is_read_whole(make_host: MakeHost, tmp_path: Path, holder: Holder) -> None:
    """A link that is moved between manifest and module mixes no two releases."""
    for number in (1, 2):
        put(tmp_path / f"release-{number}", tells(number), "settings", slug="a", settings={"n": number})
    current = tmp_path / "current"
    current.symlink_to(tmp_path / "release-1", target_is_directory=True)
    host = make_host(SETTINGS)
    holder.arm()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(host.load, current)
        assert holder.has_read.wait(10)
        move(current, tmp_path / "release-2")
        holder.go_on.set()
        loading.result(10)
    told = host.apply_filter(SETTINGS, {})
    assert told["module"] == told["settings"]["n"]


# ── a reload that fails ──────────────────────────────────────────────────────────────────────────


def test_a_reload_to_another_slug_is_refused(make_host: MakeHost, tmp_path: Path) -> None:
    """Another slug is another plugin: the field is named, and the old one serves on."""
    host = make_host()
    old = host.load(put(tmp_path / "a", writes('"old"')))
    put(tmp_path / "a", writes('"new"'), slug="b")
    with pytest.raises(fb.ManifestError, match="slug = 'b': the plugin was loaded as 'a'") as caught:
        host.reload("a")
    assert (caught.value.field, caught.value.value, caught.value.slug) == ("slug", "b", "a")
    assert (host.apply_filter(TEXT, "x"), dict(host.plugins)) == ("old", {"a": old})


BROKEN: Final[dict[str, tuple[type[fb.LoadError], Callable[[Path], object]]]] = {
    "no folder": (fb.ManifestError, lambda folder: folder.rename(folder.with_name("gone"))),
    "no module": (fb.ModuleError, lambda folder: (folder / "plugin.wasm").unlink()),
    "no TOML": (fb.ManifestError, lambda folder: (folder / "plugin.toml").write_text("manifest = ")),
    "half a module": (fb.ModuleError, lambda folder: (folder / "plugin.wasm").write_bytes(ECHO[:-5])),
    "no export": (fb.ModuleError, lambda folder: put(folder, guest('(func (export "walk"))'))),
    "above the ceiling": (fb.ManifestError, lambda folder: put(folder, ECHO, memory_limit_mb=5)),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_reload_that_fails_changes_nothing(make_host: MakeHost, tmp_path: Path, broken: str) -> None:
    """The error says what is wrong in which file; the old plugin, and what its breaker has seen, stay."""
    host = make_host()
    old = host.load(put(tmp_path / "a", writes('"old"')))
    host.apply_filter(TEXT, "x")
    kind, breaks = BROKEN[broken]
    breaks(tmp_path / "a")
    with pytest.raises(kind) as caught:
        host.reload("a")
    assert str(tmp_path / "a") in (caught.value.path or "")
    assert (host.apply_filter(TEXT, "x"), dict(host.plugins)) == ("old", {"a": old})
    assert host.breakers.get("a", "text").invocations == 2


def test_what_was_loaded_from_bytes_has_no_folder(make_host: MakeHost) -> None:
    """There is nothing to read again: a `UsageError` says what to do."""
    host = make_host()
    host.load_bytes(writes('"old"'), manifest("a"))
    with pytest.raises(fb.UsageError, match="'a' was loaded from bytes: there is no folder to read; unload and load"):
        host.reload("a")
    assert host.apply_filter(TEXT, "x") == "old"


def test_reloading_what_is_not_loaded(make_host: MakeHost) -> None:
    """A slug that isn't there is named with its near miss."""
    host = make_host()
    host.load_bytes(SILENT, manifest("title-case"))
    with pytest.raises(
        fb.UnknownPlugin, match=r"'title-cas' isn't loaded in this host \(did you mean 'title-case'\?\)"
    ):
        host.reload("title-cas")


# ── a reload beside invocations ──────────────────────────────────────────────────────────────────


def test_what_runs_ends_on_the_old_module(make_host: MakeHost, tmp_path: Path, gate: Gate) -> None:
    """Invocations that have begun give the old module's value; those that begin after the reload the new one's."""
    host = make_host(functions=[gate.function])
    host.load(put(tmp_path / "a", WAITS_THEN_OLD, **WAITS), grants="as-requested")
    put(tmp_path / "a", writes('"new"'))
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(host.apply_filter, TEXT, "x") for _ in range(3)]
        gate.await_inside(3)
        host.reload("a")
        assert host.apply_filter(TEXT, "x") == "new"
        gate.let_out()
        assert [each.result(10) for each in running] == ["old"] * 3


def test_a_function_may_reload_its_caller(make_host: MakeHost, tmp_path: Path) -> None:
    """A plugin that is reloaded by a function that it calls goes on as it was."""

    @fb.host_function("wait")
    def reload() -> None:
        host.reload("a")

    host = make_host(functions=[reload])
    host.load(put(tmp_path / "a", WAITS_THEN_OLD, **WAITS), grants="as-requested")
    put(tmp_path / "a", writes('"new"'))
    assert [host.apply_filter(TEXT, "x") for _ in range(2)] == ["old", "new"]


def test_a_mended_plugin_runs_at_once(make_host: MakeHost, tmp_path: Path) -> None:
    """A reload forgets what the breakers have seen: the new module needs no cooldown, in whatever scope."""
    host = make_host(breaker=FIRST_TRAP_OPENS)
    host.load(put(tmp_path / "a", CRASH))
    for scope in ("s", None):
        host.apply_filter(TEXT, "x", scope=scope)
        assert isinstance(host.invoke("a", TEXT, "x", scope=scope), fb.Skipped)
    put(tmp_path / "a", writes('"mended"'))
    host.reload("a")
    assert [host.apply_filter(TEXT, "x", scope=scope) for scope in ("s", None)] == ["mended"] * 2


def _reload(host: fb.Host, folder: Path) -> None:
    host.reload(put(folder, writes('"new"')).name)


def _load_anew(host: fb.Host, folder: Path) -> None:
    host.unload(folder.name)
    host.load(put(folder, writes('"new"')))


replaced = pytest.mark.parametrize("replace", [_reload, _load_anew])


@replaced
def test_late_traps_of_the_old_module_do_not_count(
    make_host: MakeHost, tmp_path: Path, gate: Gate, replace: Callable[[fb.Host, Path], None]
) -> None:
    """An invocation that began before the change and traps after it says nothing about the new module."""
    host = make_host(functions=[gate.function], breaker=FIRST_TRAP_OPENS)
    host.load(put(tmp_path / "a", WAITS_THEN_CRASHES, **WAITS), grants="as-requested")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.invoke, "a", TEXT, "x")
        gate.await_inside()
        replace(host, tmp_path / "a")
        assert host.apply_filter(TEXT, "x") == "new"
        gate.let_out()
        assert isinstance(running.result(10), fb.Trapped)
    seen = host.breakers.get("a", "text")
    assert (seen.state, seen.invocations, seen.traps) == (fb.BreakerState.CLOSED, 1, 0)


@replaced
def test_traps_of_a_dispatch_that_began_before_do_not_count(
    make_host: MakeHost, tmp_path: Path, gate: Gate, replace: Callable[[fb.Host, Path], None]
) -> None:
    """A dispatch keeps the subscribers that it began with: an old one that it comes to later is still the old one."""
    host = make_host(functions=[gate.function], breaker=FIRST_TRAP_OPENS)
    host.load_bytes(waits_then(""), manifest("first", **WAITS), grants="as-requested")
    host.load(put(tmp_path / "a", CRASH))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.dispatch, TEXT, "x")
        gate.await_inside()
        replace(host, tmp_path / "a")
        gate.let_out()
        assert isinstance(running.result(10).outcomes[1], fb.Trapped)
    assert host.breakers.get("a", "text").state is fb.BreakerState.CLOSED
    assert host.apply_filter(TEXT, "x") == "new"


def test_a_trap_does_not_count_where_the_reload_came_in_between(
    make_host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload at the very moment in which the breaker lets an old invocation through forgets that one too."""
    host = make_host(breaker=FIRST_TRAP_OPENS)
    host.load(put(tmp_path / "a", CRASH))
    put(tmp_path / "a", writes('"new"'))
    registry, is_loaded = host._registry, host._registry.is_loaded

    def is_loaded_until_now(plugin: fb.Plugin) -> bool:
        answer = is_loaded(plugin)
        monkeypatch.undo()
        registry.reload("a")
        return answer

    monkeypatch.setattr(registry, "is_loaded", is_loaded_until_now)
    assert isinstance(host.invoke("a", TEXT, "x"), fb.Trapped)
    assert host.breakers.get("a", "text").state is fb.BreakerState.CLOSED
    assert host.apply_filter(TEXT, "x") == "new"


def test_a_probe_of_the_old_module_says_nothing(
    make_host: MakeHost, tmp_path: Path, gate: Gate, clock: FakeClock
) -> None:
    """A reload while the probe runs closes the breaker; the probe's trap doesn't open it again."""
    host = make_host(functions=[gate.function], breaker=FIRST_TRAP_OPENS, clock=clock)
    host.load(put(tmp_path / "a", WAITS_THEN_CRASHES, **WAITS), grants="as-requested")
    gate.let_out()
    host.apply_filter(TEXT, "x")
    assert host.breakers.get("a", "text").state is fb.BreakerState.OPEN
    gate.shut()
    clock.advance(31)
    with ThreadPoolExecutor(1) as pool:
        probing = pool.submit(host.invoke, "a", TEXT, "x")
        gate.await_inside(2)
        assert host.breakers.get("a", "text").state is fb.BreakerState.HALF_OPEN
        _reload(host, tmp_path / "a")
        assert host.apply_filter(TEXT, "x") == "new"
        gate.let_out()
        assert isinstance(probing.result(10), fb.Trapped)
    assert host.breakers.get("a", "text").state is fb.BreakerState.CLOSED


def test_of_two_reloads_the_last_content_wins(make_host: MakeHost, tmp_path: Path, holder: Holder) -> None:
    """A reload that read the folder before it was written again doesn't overtake the one that read it after."""
    host = make_host()
    host.load(put(tmp_path / "a", SILENT, version="1"))
    holder.arm()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(host.reload, "a")
        assert holder.has_read.wait(10)
        put(tmp_path / "a", writes('"last"'), version="3")
        second = pool.submit(host.reload, "a")
        wait([second], 0.2)  # it would be done by now if it didn't wait for its turn
        holder.go_on.set()
        assert (first.result(10).version, second.result(10).version) == ("1", "3")
    assert host.plugins["a"].version == "3"
    assert host.apply_filter(TEXT, "x") == "last"


def test_a_reload_does_not_bring_back_what_was_unloaded(make_host: MakeHost, tmp_path: Path, holder: Holder) -> None:
    """Unloading while a reload reads the folder wins: the reload finds no such plugin any more."""
    host = make_host()
    host.load(put(tmp_path / "a", SILENT))
    holder.arm()
    with ThreadPoolExecutor(1) as pool:
        reloading = pool.submit(host.reload, "a")
        assert holder.has_read.wait(10)
        host.unload("a")
        holder.go_on.set()
        with pytest.raises(fb.UnknownPlugin):
            reloading.result(10)
    assert dict(host.plugins) == {}


def test_a_reload_does_not_bring_back_old_terms(make_host: MakeHost, tmp_path: Path, holder: Holder) -> None:
    """A plugin that was loaded anew, with less granted, while a reload of the one before reads, keeps its terms."""
    host = make_host(backends=Backends(kv=MemoryKv()))
    host.load(put(tmp_path / "a", SILENT, capabilities={"kv": True}), grants=fb.Grants(kv=True))
    holder.arm()
    with ThreadPoolExecutor(1) as pool:
        reloading = pool.submit(host.reload, "a")
        assert holder.has_read.wait(10)
        host.unload("a")
        latest = host.load(put(tmp_path / "a", SILENT), enabled=False)
        holder.go_on.set()
        wait([reloading], 10)
    assert host.plugins["a"].enabled == latest.enabled
    assert host.plugins["a"].grants == latest.grants


@pytest.mark.usefixtures("_crowded")
def test_no_invocation_is_lost_or_mixed_while_a_plugin_is_reloaded(make_host: MakeHost, tmp_path: Path) -> None:
    """During thirty reloads each invocation completes, with module and settings of one version; none is unknown."""
    host = make_host(SETTINGS)
    put(tmp_path / "a", tells(0), "settings", settings={"n": 0})
    host.load(tmp_path / "a")
    done = threading.Event()

    def calling() -> list[tuple[int, int]]:
        seen = []
        while not done.is_set():
            outcome = host.invoke("a", SETTINGS, {})
            assert isinstance(outcome, fb.Completed)
            value = host.apply_filter(SETTINGS, {})
            seen += [(one["module"], one["settings"]["n"]) for one in (outcome.value, value)]
        return seen

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(calling) for _ in range(4)]
        try:
            for number in range(1, 31):
                put(tmp_path / "a", tells(number % 7), "settings", settings={"n": number % 7})
                host.reload("a")
                assert host.apply_filter(SETTINGS, {}) == {"module": number % 7, "settings": {"n": number % 7}}
        finally:
            done.set()
        seen = {pair for each in calls for pair in each.result(10)}
    assert {module for module, _ in seen} == {settings for _, settings in seen} == set(range(7))
    assert all(module == settings for module, settings in seen)


# ── loading and unloading beside invocations ─────────────────────────────────────────────────────


def test_what_runs_of_an_unloaded_plugin_runs_on(make_host: MakeHost, tmp_path: Path, gate: Gate) -> None:
    """It is gone from the host at once, and its slug free; what has begun still gives its value."""
    host = make_host(functions=[gate.function])
    host.load(put(tmp_path / "a", WAITS_THEN_OLD, **WAITS), grants="as-requested")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.dispatch, TEXT, "x")
        gate.await_inside()
        host.unload("a")
        assert host.dispatch(TEXT, "x").outcomes == ()
        with pytest.raises(fb.UnknownPlugin):
            host.invoke("a", TEXT, "x")
        host.load_bytes(writes('"other"'), manifest("a"))
        assert host.apply_filter(TEXT, "x") == "other"
        gate.let_out()
        assert running.result(10).value == "old"


def test_of_many_loads_of_a_slug_one_is_taken(make_host: MakeHost, tmp_path: Path) -> None:
    """Loads of one slug at once, from folders and bytes: one is installed, the others are refused by the slug."""
    host = make_host()
    folders = [put(tmp_path / str(number), writes(f'"{number}"'), slug="a") for number in range(4)]
    start = threading.Barrier(8)

    def loading(number: int) -> fb.Plugin | str:
        start.wait(10)
        try:
            if number < 4:
                return host.load(folders[number])
            return host.load_bytes(writes(f'"{number}"'), manifest("a"))
        except fb.ManifestError as error:
            return error.field

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(loading, range(8)))
    (taken,) = (number for number, result in enumerate(results) if isinstance(result, fb.Plugin))
    assert [result for result in results if isinstance(result, str)] == ["slug"] * 7
    assert host.plugins["a"] is results[taken]
    assert host.apply_filter(TEXT, "x") == str(taken)


@pytest.mark.usefixtures("_crowded")
def test_load_all_beside_dispatches(make_host: MakeHost, tmp_path: Path) -> None:
    """Each dispatch sees the first so many of them, in order, never fewer than the one before on its thread."""
    host = make_host()
    slugs = [f"plugin-{letter}" for letter in "abcdefgh"]
    for slug in slugs:
        put(tmp_path / slug, SILENT)
    start, done = threading.Barrier(5), threading.Event()

    def dispatching() -> list[fb.Dispatch[str]]:
        start.wait(10)
        happened = []
        while not done.is_set():
            happened.append(host.dispatch(TEXT, "x"))
        return happened

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(dispatching) for _ in range(4)]
        start.wait(10)
        loaded = host.load_all(tmp_path)
        done.set()
        happened = [each.result(10) for each in calls]
    assert [plugin.slug for plugin in loaded] == slugs
    for of_thread in happened:
        seen = [plugins(each) for each in of_thread]
        assert seen == sorted(seen, key=len)
        assert all(each == slugs[: len(each)] for each in seen)
        assert all_completed(*of_thread)


def test_plugins_is_a_picture(make_host: MakeHost, tmp_path: Path) -> None:
    """It can be gone through while what it shows is reloaded, unloaded and loaded: it shows what was."""
    host = make_host()
    for slug in "abc":
        host.load(put(tmp_path / slug, SILENT))
    picture, seen = host.plugins, []
    for slug, plugin in picture.items():
        host.unload(slug)
        host.load(tmp_path / slug)
        assert host.reload(slug) is host.plugins[slug] is not plugin
        host.load_bytes(SILENT, manifest(f"more-{slug}"))
        seen.append(slug)
    assert seen == list(picture) == ["a", "b", "c"]
    assert sorted(host.plugins) == ["a", "b", "c", "more-a", "more-b", "more-c"]


# ── everything at once ───────────────────────────────────────────────────────────────────────────


ROUNDS: Final = 8


class Storm:
    """A host that is changed all the time and closed at the end, and what its dispatches gave.

    In each round `b` is loaded, `a` reloaded, a hook declared and `b` unloaded. After every change the changer
    dispatches too: it must see exactly what is loaded then.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = put(folder / "a", writes('"0"'))
        self.happened: list[fb.Dispatch[str]] = []
        self.refused: list[bool] = []
        self.is_closing = False
        self._version = 0

    def rounds(self) -> Iterator[tuple[dict[str, Any], fb.Filter[str]]]:
        """Write the next version of `a`, and yield a manifest for `b` and a hook to declare."""
        for number in range(1, ROUNDS + 1):
            put(self.folder, writes(f'"{number}"'))
            yield manifest("b", {"name": "text", "priority": number % 3 * 10}), fb.Filter(f"hook-{number}", str)
            self._version = number

    def expect(self, happened: fb.Dispatch[str], *slugs: str, reloaded: bool) -> None:
        assert happened.value == str(self._version + reloaded)
        assert sorted(plugins(happened)) == [*slugs]

    def check(self, dispatchers: int) -> None:
        assert self.refused == [True] * dispatchers
        assert {each.value for each in self.happened} >= {str(number) for number in range(1, ROUNDS + 1)}
        assert {tuple(sorted(plugins(each))) for each in self.happened} == {("a",), ("a", "b")}
        assert all_completed(*self.happened)


@pytest.mark.usefixtures("_crowded")
def test_everything_at_once_from_threads(make_host: MakeHost, tmp_path: Path) -> None:
    """Loads, reloads, declarations, unloads, then a close, beside forty threads: right values, then `HostClosed`."""
    storm, host = Storm(tmp_path), make_host()
    host.load(storm.folder)

    def dispatching() -> None:
        try:
            while True:
                storm.happened.append(host.dispatch(TEXT, "x"))
        except fb.HostClosed:
            storm.refused.append(storm.is_closing)

    with ThreadPoolExecutor(40) as pool:
        calls = [pool.submit(dispatching) for _ in range(40)]
        try:
            for more, hook in storm.rounds():
                host.load_bytes(SILENT, more)
                storm.expect(host.dispatch(TEXT, "x"), "a", "b", reloaded=False)
                assert host.reload("a") is host.plugins["a"]
                storm.expect(host.dispatch(TEXT, "x"), "a", "b", reloaded=True)
                host.declare(hook)
                host.unload("b")
                storm.expect(host.dispatch(TEXT, "x"), "a", reloaded=True)
        finally:
            storm.is_closing = True
            host.close()
        for each in calls:
            each.result(10)
    storm.check(40)


@pytest.mark.usefixtures("_crowded")
def test_everything_at_once_from_tasks(tmp_path: Path) -> None:
    """The same on one event loop, beside three hundred tasks."""
    storm = Storm(tmp_path)

    async def dispatching(host: fb.AsyncHost) -> None:
        try:
            while True:
                storm.happened.append(await host.dispatch(TEXT, "x"))
                await asyncio.sleep(0)
        except fb.HostClosed:
            storm.refused.append(storm.is_closing)

    async def changing(host: fb.AsyncHost) -> None:
        for more, hook in storm.rounds():
            await host.load_bytes(SILENT, more)
            storm.expect(await host.dispatch(TEXT, "x"), "a", "b", reloaded=False)
            assert await host.reload("a") is host.plugins["a"]
            storm.expect(await host.dispatch(TEXT, "x"), "a", "b", reloaded=True)
            await host.declare(hook)
            await host.unload("b")
            storm.expect(await host.dispatch(TEXT, "x"), "a", reloaded=True)
        storm.is_closing = True

    async def everything() -> None:
        host = fb.AsyncHost(hooks=[TEXT], ceilings=SMALL, max_concurrent_invocations=8)
        async with asyncio.TaskGroup() as tasks, host:
            await host.load(storm.folder)
            for _ in range(300):
                tasks.create_task(dispatching(host))
            await changing(host)

    awaited(everything())
    storm.check(300)


# ── closing ──────────────────────────────────────────────────────────────────────────────────────


def signalled(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> threading.Semaphore:
    """Return what counts the calls of a method, which does what it did."""
    called, real = threading.Semaphore(0), getattr(owner, name)

    def method(*arguments: Any) -> Any:
        called.release()
        return real(*arguments)

    monkeypatch.setattr(owner, name, method)
    return called


def test_close_while_slots_are_waited_for(make_host: MakeHost, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a slot when the host is closed is still served, or skipped at its deadline; nobody new is."""
    host = make_host(functions=[gate.function], max_concurrent_invocations=1)
    host.load_bytes(WAITS_THEN_OLD, manifest("a", **WAITS), grants="as-requested")
    queued = signalled(monkeypatch, host._services.slots, "call_when_held")
    closed = signalled(monkeypatch, host._running._ended, "wait_for")
    with ThreadPoolExecutor(6) as pool:
        served = [pool.submit(host.dispatch, TEXT, "x") for _ in range(4)]
        late = pool.submit(host.dispatch, TEXT, "x", timeout_ms=50)
        assert all(queued.acquire(timeout=10) for _ in range(4))
        closing = pool.submit(host.close)
        assert closed.acquire(timeout=10)
        with pytest.raises(fb.HostClosed):
            host.dispatch(TEXT, "x")
        skipped = late.result(10).outcomes[0]
        assert isinstance(skipped, fb.Skipped)
        assert skipped.reason is fb.SkipReason.SATURATED
        assert not closing.done()
        gate.let_out()
        closing.result(10)
        assert [each.result(10).value for each in served] == ["old"] * 4


def test_close_waits_for_a_whole_dispatch(make_host: MakeHost, caplog: pytest.LogCaptureFixture) -> None:
    """Six plugins that each take their whole time are one call that keeps to its deadlines: close waits for all."""
    outcomes: list[fb.Outcome] = []
    began = threading.Event()

    def note(outcome: fb.Outcome) -> None:
        outcomes.append(outcome)
        began.set()

    ceilings = fb.Limits(memory_limit_mb=4, invocation_timeout_ms=60)
    host = make_host(on_outcome=note, ceilings=ceilings, commit_timeout_ms=20)
    server = {"invocation_timeout_ms": 60, "fuel_per_invocation": 10**9}
    for number in range(6):
        host.load_bytes(SPIN, manifest(f"spins-{number}", **server))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.dispatch, TEXT, "x")
        assert began.wait(10)
        host.close()
        told = len(outcomes)
        happened = running.result(10)
    assert [type(outcome) for outcome in happened.outcomes] == [fb.Trapped] * 6
    assert told == 6
    assert "still running" not in caplog.text


@pytest.mark.parametrize("change", ["load", "reload"])
def test_a_load_that_ends_after_close_is_refused(
    make_host: MakeHost, tmp_path: Path, holder: Holder, change: str
) -> None:
    """What was being loaded when the host was closed isn't installed any more."""
    host = make_host()
    host.load(put(tmp_path / "a", SILENT))
    put(tmp_path / "b", SILENT)
    holder.arm()
    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(host.load, tmp_path / "b") if change == "load" else pool.submit(host.reload, "a")
        assert holder.has_read.wait(10)
        host.close()
        holder.go_on.set()
        with pytest.raises(fb.HostClosed):
            changing.result(10)
    assert dict(host.plugins) == {}


def test_every_call_after_close_says_so(make_host: MakeHost, tmp_path: Path) -> None:
    """Whatever is asked of a closed host, the answer is `HostClosed`; closing again does nothing."""
    host = make_host()
    host.load(put(tmp_path / "plugins" / "a", SILENT, "text", "noted"))
    (tmp_path / "empty").mkdir()
    host.close()
    calls: list[Callable[[], object]] = [
        lambda: host.apply_filter(TEXT, "x"),
        lambda: host.do_action(NOTED, "x"),
        lambda: host.dispatch(TEXT, "x"),
        lambda: host.invoke("a", TEXT, "x"),
        lambda: host.load(tmp_path / "plugins" / "a"),
        lambda: host.load_bytes(SILENT, manifest("b")),
        lambda: host.load_all(tmp_path / "plugins"),
        lambda: host.load_all(tmp_path / "empty"),
        lambda: host.reload("a"),
        lambda: host.unload("a"),
        lambda: host.declare(fb.Filter("more", str)),
    ]
    for call in calls:
        with pytest.raises(fb.HostClosed):
            call()
    host.close()


def test_closing_twice_at_once(make_host: MakeHost, gate: Gate) -> None:
    """Two who close both wait for what runs, and both return."""
    host = make_host(functions=[gate.function])
    host.load_bytes(WAITS_THEN_OLD, manifest("a", **WAITS), grants="as-requested")
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(host.apply_filter, TEXT, "x")
        gate.await_inside()
        closing = [pool.submit(host.close) for _ in range(2)]
        assert not wait(closing, 0.1).done
        gate.let_out()
        assert [each.result(10) for each in closing] == [None, None]
        assert running.result(10) == "old"
