"""What is declared and loaded in a host.

Rules:
* What is installed is replaced as a whole, never changed in place: a dispatch goes on with the subscribers that it
  began with, and a plugin that is reloaded is never seen half old and half new.
* A plugin is compiled before anything is replaced: one that can't be loaded leaves what was there.
* Reloads come one after the other, so that the last to begin is the last to be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Final, NamedTuple

from fuseboard import _loading
from fuseboard._errors import LoadError, ManifestError, UnknownHook, UnknownPlugin, UsageError, near_miss
from fuseboard._hooks import Action, Filter, Hook
from fuseboard._manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from fuseboard._limits import Limits
    from fuseboard._loading import Candidate, Policy, Terms
    from fuseboard._plugin import Plugin, Subscriber


class _Loaded(NamedTuple):
    plugin: Plugin
    subscribers: tuple[Subscriber, ...]
    terms: Terms
    place: Path | None
    """Where to read it again, wherever the process goes."""


@dataclass(frozen=True, slots=True)
class _Installed:
    """Everything that is loaded, in load order, and who subscribes to which hook, in the order in which they run."""

    loaded: Mapping[str, _Loaded]
    plugins: Mapping[str, Plugin]
    subscribers: Mapping[str, tuple[Subscriber, ...]]

    @classmethod
    def of(cls, loaded: Mapping[str, _Loaded]) -> _Installed:
        subscribers: dict[str, tuple[Subscriber, ...]] = {}
        for one in loaded.values():
            for subscriber in one.subscribers:
                name = subscriber.hook.name
                subscribers[name] = (*subscribers.get(name, ()), subscriber)
        ordered = {name: tuple(sorted(each, key=lambda one: one.priority)) for name, each in subscribers.items()}
        plugins = {slug: one.plugin for slug, one in loaded.items()}
        return cls(loaded, MappingProxyType(plugins), ordered)


_NOTHING: Final = _Installed.of({})


class Registry:
    """The hooks and plugins of one host.

    Args:
        policy: what the host allows all plugins, given the declared hooks.
        ceilings: the most that manifests may ask for.
        check_open: raises `HostClosed` where the host is closed.
        changed: told the slug of a plugin that was replaced or removed.
    """

    def __init__(
        self,
        policy: Callable[[Mapping[str, Hook]], Policy],
        ceilings: Limits,
        check_open: Callable[[], None],
        changed: Callable[[str], None],
    ) -> None:
        self._policy = policy
        self._ceilings = ceilings
        self._check_open = check_open
        self._changed = changed
        self._hooks: Mapping[str, Hook] = {}
        self._installed = _NOTHING
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Take new locks: who held the old ones may not be in this process."""
        self._replacing = Lock()
        self._reloading = Lock()

    # ── to read ──────────────────────────────────────────────────────────────────────────────────

    @property
    def plugins(self) -> Mapping[str, Plugin]:
        """The loaded plugins by slug, in load order: a view of this moment."""
        return self._installed.plugins

    def policy(self) -> Policy:
        """Return what the host allows all plugins now."""
        return self._policy(self._hooks)

    def hook(self, hook: Hook | str, kind: type[Hook] | UnionType) -> Hook:
        """Return a declared hook.

        Raises:
            UnknownHook: it isn't declared.
            UsageError: it is of another kind.
        """
        found = self._hooks.get(hook if isinstance(hook, str) else getattr(hook, "name", ""))
        if found is None or not (found is hook or isinstance(hook, str) or found == hook):
            raise UnknownHook(hook if isinstance(hook, str) else getattr(hook, "name", repr(hook)), self._hooks)
        if not isinstance(found, kind):
            raise UsageError(f"hook {found.name!r} is {'a filter' if isinstance(found, Filter) else 'an action'}")
        return found

    def subscribers(self, hook: str) -> tuple[Subscriber, ...]:
        """Return who subscribes to a hook, in the order in which they run."""
        return self._installed.subscribers.get(hook, ())

    def is_loaded(self, plugin: Plugin) -> bool:
        """Return whether this very plugin is loaded, and wasn't reloaded since."""
        return self._installed.plugins.get(plugin.slug) is plugin

    def check(self, slug: str, hook: str | None) -> None:
        """Raise `UnknownPlugin` where there is no such plugin, or it doesn't subscribe to the hook."""
        if hook is None:
            self._find(slug)
        else:
            self.subscriber(slug, hook)

    def subscriber(self, slug: str, hook: str) -> Subscriber:
        """Return one plugin's subscription to a hook.

        Raises:
            UnknownPlugin: it isn't loaded, or doesn't subscribe to the hook.
        """
        loaded = self._find(slug)
        for subscriber in loaded.subscribers:
            if subscriber.hook.name == hook:
                return subscriber
        subscribed = ", ".join(loaded.plugin.hooks)
        raise UnknownPlugin(slug, f"doesn't subscribe to hook {hook!r}; it does to {subscribed}")

    def _find(self, slug: str) -> _Loaded:
        try:
            return self._installed.loaded[slug]
        except (KeyError, TypeError):
            hint = near_miss(slug, self.plugins) if isinstance(slug, str) else ""
            raise UnknownPlugin(str(slug), f"isn't loaded in this host{hint}") from None

    # ── to change ────────────────────────────────────────────────────────────────────────────────

    def declare(self, *hooks: Hook) -> None:
        """Add hooks: all, or none where one can't be."""
        with self._replacing:
            self._check_open()
            declared = dict(self._hooks)
            for hook in hooks:
                if not isinstance(hook, Filter | Action):
                    raise UsageError(f"{hook!r} is no hook; make one with Filter(name, type) or Action(name, type)")
                if declared.setdefault(hook.name, hook) != hook:
                    raise UsageError(f"hook {hook.name!r} is declared already, as {declared[hook.name]!r}")
            self._hooks = declared

    def load(self, candidate: Candidate, terms: Terms) -> Plugin:
        """Install a plugin."""
        self._check_open()
        self._check_free(candidate)
        loaded = self._loaded(candidate, terms)
        with self._replacing:
            self._check_open()
            self._check_free(candidate)
            self._installed = _Installed.of({**self._installed.loaded, loaded.plugin.slug: loaded})
        return loaded.plugin

    def load_all(self, directory: Path, terms: Terms) -> tuple[Plugin, ...]:
        """Install every plugin below a directory."""
        self._check_open()
        if not directory.is_dir():
            raise UsageError(f"{directory} is no directory")
        loaded, errors = [], []
        for manifest in sorted(directory.glob(f"*/{MANIFEST_NAME}")):
            try:
                loaded.append(self.load(_loading.from_folder(manifest, self._ceilings), terms))
            except LoadError as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup(f"{len(errors)} plugins in {directory} can't be loaded", errors)
        return tuple(loaded)

    def reload(self, slug: str) -> Plugin:
        """Read a plugin's folder again, and install what is there in its place."""
        with self._reloading:
            while (plugin := self._reloaded(slug)) is None:
                pass  # it was loaded anew meanwhile, under other terms
        self._changed(slug)
        return plugin

    def _reloaded(self, slug: str) -> Plugin | None:
        self._check_open()
        old = self._find(slug)
        if old.place is None:
            raise UsageError(f"plugin {slug!r} was loaded from bytes: there is no folder to read; unload and load it")
        candidate = _loading.from_folder(old.place, self._ceilings)
        _check_same_slug(candidate, slug)
        new = self._loaded(candidate, old.terms)
        with self._replacing:
            self._check_open()
            if self._find(slug) is not old:
                return None
            self._installed = _Installed.of({**self._installed.loaded, slug: new})
        return new.plugin

    def unload(self, slug: str) -> None:
        """Remove a plugin; what runs of it runs on."""
        with self._replacing:
            self._check_open()
            self._find(slug)
            self._installed = _Installed.of({name: one for name, one in self._installed.loaded.items() if name != slug})
        self._changed(slug)

    def longest_dispatch(self) -> int:
        """Return how many plugins the hook has to which most subscribe."""
        return max(map(len, self._installed.subscribers.values()), default=0)

    def clear(self) -> None:
        """Let all plugins go."""
        with self._replacing:
            self._installed = _NOTHING

    def _loaded(self, candidate: Candidate, terms: Terms) -> _Loaded:
        plugin, subscribers = _loading.load(candidate, self.policy(), terms)
        place = None if candidate.path is None else Path(candidate.path).absolute()
        return _Loaded(plugin, subscribers, terms, place)

    def _check_free(self, candidate: Candidate) -> None:
        manifest = candidate.manifest
        if manifest is not None and manifest.slug in self.plugins:
            problem = "a plugin of this slug is loaded already; unload it first"
            raise ManifestError("slug", problem, value=manifest.slug, slug=manifest.slug, path=candidate.path)


def _check_same_slug(candidate: Candidate, slug: str) -> None:
    manifest = candidate.manifest
    if manifest is not None and manifest.slug != slug:
        problem = f"the plugin was loaded as {slug!r}; unload that and load this"
        raise ManifestError("slug", problem, value=manifest.slug, slug=slug, path=candidate.path)
