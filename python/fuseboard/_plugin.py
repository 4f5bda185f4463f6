"""What is installed in a host: plugins, and their subscriptions to hooks."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fuseboard._breaker import BreakerKey
from fuseboard._budget import Ceilings, ceilings_of
from fuseboard._grants import Grants
from fuseboard._hooks import Filter, Hook
from fuseboard._limits import Limit
from fuseboard._snapshot import Snapshot

if TYPE_CHECKING:
    from fuseboard._core import Entry


LOG_LEVELS: Final = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
"""The levels of what guests log, by the ABI's numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Plugin:
    """A loaded plugin.

    Attributes:
        slug, name, version: as in the manifest.
        path: the manifest's path, or `None` for a plugin loaded from bytes.
        hooks: the names of the hooks that it subscribes to.
        grants: what it may do: exactly what it requested, all of which is granted.
        limits: each limit in its meter's unit, in the order of the limits table.
        enabled: whether it is run; a plugin that isn't is `Skipped(DISABLED)`.
        max_concurrency: how many of its invocations run at once.
        snapshot: what became of its initialisation; `None` where it has none, or its manifest wants no snapshot.
        ceilings: each meter's ceiling and unit, the granted functions' own included.
        memory_bytes, timeout_seconds: two of them, as each invocation needs them.
        logger: `fuseboard.plugin.<slug>`.
    """

    slug: str
    name: str
    version: str
    path: str | None
    hooks: tuple[str, ...]
    grants: Grants
    limits: tuple[int, ...]
    enabled: bool
    max_concurrency: int
    function_limits: dict[str, int] = field(repr=False)
    snapshot: Snapshot | None = None
    ceilings: Ceilings = field(init=False, repr=False)
    memory_bytes: int = field(init=False, repr=False)
    timeout_seconds: float = field(init=False, repr=False)
    logger: logging.Logger = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ceilings", ceilings_of(self.limits, self.function_limits))
        object.__setattr__(self, "memory_bytes", self.ceilings[Limit.MEMORY][0])
        object.__setattr__(self, "timeout_seconds", self.ceilings[Limit.TIMEOUT][0] / 1e3)
        object.__setattr__(self, "logger", logging.getLogger(f"fuseboard.plugin.{self.slug}"))


@dataclass(frozen=True, slots=True, eq=False)
class Subscriber:
    """A plugin attached to a hook; lower priorities run first, ties in load order.

    Attributes:
        gives_value: whether what the plugin outputs is the hook's new value.
        breaker_key: that of the breaker without a scope.
    """

    plugin: Plugin
    hook: Hook
    entry: Entry
    priority: int
    gives_value: bool = field(init=False)
    breaker_key: BreakerKey = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "breaker_key", BreakerKey(self.plugin.slug, self.hook.name, None))
        object.__setattr__(self, "gives_value", isinstance(self.hook, Filter))
