"""How Fuseboard is used: the core alone, and whole hosts with a guest loaded, all with the default limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from benchmarks.benches._guests import module
from benchmarks.benches._peers import Call

import fuseboard as fb
from fuseboard import _core
from fuseboard._limits import LIMITS, SPEC_OF, Caps, Limit

T = TypeVar("T")

_SLOTS: Final = 80
_CONTEXT: Final = b"{}"
_CALL_INFO: Final = b'{"hook":"echo","request_id":"0123456789abcdef0123456789abcdef","scope":null,"plugin":"echo"}'
_DEFAULTS: Final = {spec.limit: spec.default * spec.scale for spec in LIMITS}


def core(wasm: bytes) -> Call:
    """Return calls of a fresh and fully limited instance each, without the Python around it."""
    memory, caps = SPEC_OF[Limit.MEMORY], Caps()
    entry = _core.Entry(
        _core.Module(_core.Engine(memory.ceiling * memory.scale, _SLOTS), wasm),
        "run",
        settings=b"{}",
        memory_bytes=_DEFAULTS[Limit.MEMORY],
        fuel=_DEFAULTS[Limit.FUEL],
        output_bytes=caps.output_bytes,
        request_bytes=caps.request_bytes,
        log_bytes=caps.log_bytes,
    )
    seconds = _DEFAULTS[Limit.TIMEOUT] / 1e3
    return lambda value: _run(entry, value, seconds)


def _run(entry: _core.Entry, value: bytes, seconds: float) -> bytes:
    """Run a guest that makes no host calls; the only place that knows how the core is called."""
    step = entry.begin(value, _CONTEXT, _CALL_INFO, seconds).resume()
    if not isinstance(step, _core.Completed) or step.output is None:
        raise TypeError(f"the guest gave {step!r} instead of an output")
    return step.output


def closed_filter(name: str, value_type: type[T]) -> fb.Filter[T]:
    """Return a filter that raises when a guest traps or is skipped: a call that failed must not count as a fast one."""
    return fb.Filter(name, value_type, on_trap="raise")


def host_with(
    hook: fb.Filter[Any],
    guest: str,
    *,
    plugins: int = 1,
    capabilities: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> fb.Host:
    """Return a host in which so many plugins, all the same guest, subscribe to a filter."""
    host = fb.Host(hooks=[hook], **arguments)
    for number in range(plugins):
        host.load_bytes(module(guest), manifest(hook, number, capabilities), grants="as-requested")
    return host


def manifest(hook: fb.Filter[Any], number: int = 0, capabilities: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the manifest of a guest, built from one of our C sources, that subscribes to a filter."""
    return {
        "manifest": 1,
        "slug": slug(number),
        "name": "Guest",
        "version": "1",
        "hooks": [{"name": hook.name, "export": "run"}],
        "server": {"capabilities": dict(capabilities or {})},
    }


def slug(number: int = 0) -> str:
    """Return the slug of one of a host's guests."""
    return f"guest-{number}"
