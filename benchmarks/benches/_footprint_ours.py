"""Fuseboard in a process of its own: see `_footprint_child.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from benchmarks.benches._footprint_child import HELD, Call, Job

import fuseboard as fb

_TIMEOUT_MS: Final = 10_000

logging.getLogger("fuseboard").setLevel(logging.CRITICAL)


def loader(job: Job) -> Callable[[bytes], object]:
    """Return what loads a module into a host, each time as another plugin."""
    host = _host(job, lambda: None)
    return lambda wasm: _load(host, job, wasm, f"guest-{len(host.plugins)}")


def caller(job: Job, hold: Callable[[], object]) -> Call:
    """Return calls of one plugin, each fresh and behind all limits; its memory is limited to what the job touches."""
    host = _host(job, hold)
    plugin = _load(host, job, job.wasm, "guest", max_concurrency=job.count, limits=_limits(job))
    hook = job.manifest["hooks"][0]["name"]

    def call(value: bytes) -> bytes | None:
        match host.invoke(plugin.slug, hook, value):
            case fb.Completed(value=result):
                return bytes(result)
            case fb.Trapped():
                return None
            case skipped:
                raise RuntimeError(str(skipped))

    return call


def _limits(job: Job) -> fb.Limits:
    return fb.Limits(memory_limit_mb=job.mib, invocation_timeout_ms=_TIMEOUT_MS) if job.mib else fb.Limits()


def _host(job: Job, hold: Callable[[], object]) -> fb.Host:
    @fb.host_function("lookup")
    def lookup() -> int:
        hold()
        return HELD

    hooks = [fb.Filter(hook["name"], bytes) for hook in job.manifest["hooks"]]
    cache = fb.ArtifactCache(folder=job.cache) if job.cache else None
    return fb.Host(
        hooks=hooks,
        functions=[lookup],
        breaker=None,
        cache=cache,
        compile="inline" if job.is_inline else "subprocess",
    )


def _load(host: fb.Host, job: Job, wasm: bytes, slug: str, **terms: Any) -> fb.Plugin:
    return host.load_bytes(wasm, {**job.manifest, "slug": slug}, grants="as-requested", **terms)
