"""Print how much memory 100,000 invocations take, half of them trapped: it must stay flat.

The trapped half takes turns among `TRAPS`: every limit trips, and guests crash, fail and give bad output.
After a warm-up of a tenth, in which pools and caches fill, the process may grow by at most 5 MiB; the exit
code says whether it did.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path

import fuseboard as fb
from fuseboard.backends import HttpResponse
from fuseboard.backends.memory import MemoryDb, MemoryHttp, MemoryKv

HOSTILE = Path(__file__).resolve().parent.parent / "plugins" / "hostile"
ALLOWED_GROWTH_MIB = 5.0
TRAPS = (
    "grow-memory", "loop-forever", "loop-over-import", "late:loop-over-import", "fetch-9", "query-33",
    "kv-write-one-too-many", "call-function-3", "unreachable-now", "out-of-bounds", "divide-by-zero",
    "stack-exhaustion", "bad-indirect-call", "fail-with-message", "bad-json", "bad-utf8", "too-much-output",
    "bad-pointer-kv-get", "unknown-buffer", "write-then-crash",
)  # fmt: skip
"""Hooks of the hostile plugin; `late:` for the one whose fuel is ample and whose time is 1 ms."""


def main() -> int:
    """Run, print and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--invocations", type=int, default=100_000)
    count = parser.parse_args().invocations
    logging.getLogger("fuseboard").setLevel(logging.CRITICAL)
    trapped = 0
    limits: Counter[str] = Counter()
    with make_host() as host:
        started, flat_from = time.perf_counter(), 0.0
        for number in range(count):
            if number == count // 10:
                flat_from = resident_mib()
            outcome = one(host, number)
            if isinstance(outcome, fb.Trapped):
                trapped += 1
                limits[outcome.trap.limit or outcome.trap.cause] += 1
            if (number + 1) % (count // 10) == 0:
                print(f"{number + 1:>9,} invocations  {resident_mib():7.1f} MiB resident", flush=True)
        elapsed, growth = time.perf_counter() - started, resident_mib() - flat_from
    is_flat = growth <= ALLOWED_GROWTH_MIB
    print(f"{count:,} invocations, {trapped:,} trapped, in {elapsed:.1f} s; since the warm-up {growth:+.1f} MiB")
    print("by limit or cause: " + ", ".join(f"{name} {times:,}" for name, times in sorted(limits.items())))
    print("✓ flat" if is_flat else f"✗ grew by more than {ALLOWED_GROWTH_MIB} MiB")
    return 0 if is_flat else 1


def make_host() -> fb.Host:
    """Return a host with the hostile plugin twice: with little fuel, and with little time."""

    @fb.host_function("mail.send", per_invocation=2)
    def send_mail(to: str, subject: str) -> None:
        """Send nothing."""

    manifest = tomllib.loads((HOSTILE / "plugin.toml").read_text())
    wasm = (HOSTILE / "plugin.wasm").read_bytes()
    http = MemoryHttp(lambda _: HttpResponse(200))
    host = fb.Host(
        hooks=[fb.Filter(hook["name"], str) for hook in manifest["hooks"]],
        functions=[send_mail],
        backends=fb.Backends(http=http, db=MemoryDb(), kv=MemoryKv()),
        on_outcome=lambda _: http.requests.clear(),
    )
    for slug, limits in (
        ("hostile", fb.Limits(fuel_per_invocation=3_000_000, invocation_timeout_ms=5_000)),
        ("late", fb.Limits(fuel_per_invocation=1_000_000_000, invocation_timeout_ms=1)),
    ):
        host.load_bytes(wasm, {**manifest, "slug": slug}, grants="as-requested", limits=limits)
    return host


def one(host: fb.Host, number: int) -> fb.Outcome:
    """Invoke a plugin once: a friendly export for even numbers, a hostile one for odd."""
    attack = TRAPS[number // 2 % len(TRAPS)] if number % 2 else "echo"
    slug, _, hook = attack.rpartition(":")
    return host.invoke(slug or "hostile", f"attack.{hook}", "a value of some length")


def resident_mib() -> float:
    """Return this process's resident memory in MiB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024


if __name__ == "__main__":
    sys.exit(main())
