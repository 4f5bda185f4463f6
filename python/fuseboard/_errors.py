"""Every exception that Fuseboard raises.

Rules:
* An error writes its own sentence from typed arguments and says what to do next.
* `LoadError` is the plugin author's, `UsageError` the application programmer's, `BackendError` the
  application's services', `InvocationError` the running plugin's. `FuseboardError` is never raised itself.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuseboard._outcome import Skipped, Trap, Trapped

MISSING: Final = object()
"""Stands for a value that isn't there, where `None` would be a value."""


def near_miss(wrong: str, known: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the closest known name, or an empty string."""
    matches = get_close_matches(wrong, list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


class FuseboardError(Exception):
    """The root of all of Fuseboard's exceptions."""


class LoadError(FuseboardError):
    """A plugin can't be loaded.

    Attributes:
        slug: the plugin's slug, or `None` where it couldn't be read.
        path: the file at fault, or `None` for a plugin loaded from bytes.
    """

    def __init__(self, problem: str, *, slug: str | None = None, path: str | None = None) -> None:
        self.slug = slug
        self.path = path
        super().__init__(f"{path or slug or 'plugin'}: {problem}")


class ManifestError(LoadError):
    """A manifest's field is missing, unknown, wrong, above a ceiling, or not granted.

    Attributes:
        field: the dotted path of the field, e.g. `server.memory_limit_mb` or `hooks[0].name`.
        value: what the manifest says there, or `ManifestError.MISSING`.
    """

    MISSING: ClassVar = MISSING

    def __init__(
        self,
        field: str,
        problem: str,
        *,
        value: object = MISSING,
        slug: str | None = None,
        path: str | None = None,
    ) -> None:
        self.field = field
        self.value = value
        shown = "" if value is MISSING else f" = {_shortened(value)}"
        super().__init__(f"{field}{shown}: {problem}", slug=slug, path=path)


class ModuleError(LoadError):
    """A module isn't WebAssembly, imports or exports the wrong things, or is too costly to compile."""


class ModuleRefused(Exception):
    """The core's word on a module; the loader makes a `ModuleError` of it. `args[0]` lists every problem."""


class HookFailed(FuseboardError):
    """A hook declared with `on_trap="raise"` got no value from a plugin.

    Attributes:
        outcome: the `Trapped` or `Skipped` outcome that made the hook fail.
    """

    def __init__(self, outcome: Trapped | Skipped) -> None:
        self.outcome = outcome
        super().__init__(f"hook {outcome.hook!r} fails closed: {outcome}")


class InvocationError(FuseboardError):
    """A plugin misbehaved; raised only where an outcome is asked to raise.

    Attributes:
        trap: what happened, with every meter.
    """

    def __init__(self, trap: Trap) -> None:
        self.trap = trap
        super().__init__(str(trap))


class LimitTripped(InvocationError):
    """A limit was reached."""


class GuestFault(InvocationError):
    """The guest crashed, failed by its own word, gave bad output, or its writes couldn't be committed."""


class BackendError(FuseboardError):
    """A service of the application failed; backends raise it and the guest is answered with a code.

    Args:
        reason: one sentence for the plugin's author. The guest can read it: no secrets.
        code: the ABI's answer code, an `AnswerCode`; `BACKEND_FAILED` by default.
    """

    def __init__(self, reason: str, *, code: int = -4) -> None:
        self.reason = reason
        self.code = code
        super().__init__(reason)


class BackendTimeout(BackendError):
    """A service didn't answer before the deadline."""


class UsageError(FuseboardError):
    """The application calls Fuseboard in a way that can't work."""


class UnknownHook(UsageError):
    """A hook isn't declared in this host."""

    def __init__(self, name: str, declared: Iterable[str]) -> None:
        super().__init__(
            f"no hook {name!r} is declared in this host{near_miss(name, declared)}; "
            "pass it in Host(hooks=[...]) or call host.declare(hook)"
        )


class UnknownPlugin(UsageError):
    """A plugin isn't loaded in this host, or doesn't subscribe to the hook."""

    def __init__(self, slug: str, problem: str) -> None:
        super().__init__(f"plugin {slug!r} {problem}")


class HookTypeError(UsageError):
    """A value handed to a hook doesn't fit its declared type, or can't be written as JSON."""

    def __init__(self, hook: str, what: str, problem: str) -> None:
        super().__init__(f"hook {hook!r}: the {what} can't be sent to plugins: {problem}")


class InstanceBusy(UsageError):
    """An execution was resumed while another thread was resuming it: one host call is in flight per instance."""

    def __init__(self) -> None:
        super().__init__("this execution is being resumed by another thread; one caller at a time resumes it")


class HostClosed(UsageError):
    """The host is closed."""

    def __init__(self) -> None:
        super().__init__("this host is closed; make a new Host")


def _shortened(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python writes
        return f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004  a line's worth
