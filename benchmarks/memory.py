"""Print how much memory 100,000 invocations take, half of them trapped: it must stay flat.

The trapped half takes turns among all the ways to trip and to crash. After a warm-up of a tenth, in which
pools and caches fill, the process may grow by at most 5 MiB; the exit code says whether it did.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import fuseboard as fb
from fuseboard.backends import HttpResponse
from fuseboard.backends.memory import MemoryDb, MemoryHttp, MemoryKv

HOSTILE = Path(__file__).resolve().parent.parent / "plugins" / "hostile"
ALLOWED_GROWTH_MIB = 5.0
CHEAP_TRAPS = (
    "attack.grow-memory", "attack.fetch-9", "attack.query-33", "attack.kv-write-one-too-many", "attack.call-function-3",
    "attack.unreachable-now", "attack.out-of-bounds", "attack.stack-exhaustion", "attack.fail-with-message",
    "attack.bad-json", "attack.bad-utf8", "attack.too-much-output", "attack.bad-pointer-kv-get", "attack.loop-forever",
    "attack.write-then-crash", "attack.loop-over-import",
)  # fmt: skip


def main() -> int:
    """Run, print and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--invocations", type=int, default=100_000)
    count = parser.parse_args().invocations
    logging.getLogger("fuseboard").setLevel(logging.CRITICAL)
    trapped = 0
    with make_host() as host:
        started, flat_from = time.perf_counter(), 0.0
        for number in range(count):
            if number == count // 10:
                flat_from = resident_mib()
            trapped += isinstance(one(host, number), fb.Trapped)
            if (number + 1) % (count // 10) == 0:
                print(f"{number + 1:>9,} invocations  {resident_mib():7.1f} MiB resident", flush=True)
        elapsed, growth = time.perf_counter() - started, resident_mib() - flat_from
    is_flat = growth <= ALLOWED_GROWTH_MIB
    print(f"{count:,} invocations, {trapped:,} trapped, in {elapsed:.1f} s; since the warm-up {growth:+.1f} MiB")
    print("✓ flat" if is_flat else f"✗ grew by more than {ALLOWED_GROWTH_MIB} MiB")
    return 0 if is_flat else 1


def make_host() -> fb.Host:
    """Return a host with the hostile plugin, whose loops are cut short by little fuel."""

    @fb.host_function("mail.send", per_invocation=2)
    def send_mail(to: str, subject: str) -> None:
        """Send nothing."""

    http = MemoryHttp(lambda _: HttpResponse(200))
    host = fb.Host(
        hooks=[fb.Filter(name, str) for name in hook_names()],
        functions=[send_mail],
        backends=fb.Backends(http=http, db=MemoryDb(), kv=MemoryKv()),
        on_outcome=lambda _: http.requests.clear(),
    )
    host.load(HOSTILE, grants="as-requested", limits=fb.Limits(fuel_per_invocation=3_000_000))
    return host


def hook_names() -> list[str]:
    """Return the hooks that the hostile plugin subscribes to."""
    lines = (HOSTILE / "plugin.toml").read_text().splitlines()
    return [line.split('"')[1] for line in lines if line.startswith('name = "attack.')]


def one(host: fb.Host, number: int) -> fb.Outcome:
    """Invoke the plugin once: a friendly export for even numbers, a hostile one for odd."""
    hook = CHEAP_TRAPS[number // 2 % len(CHEAP_TRAPS)] if number % 2 else "attack.echo"
    return host.invoke("hostile", hook, "a value of some length")


def resident_mib() -> float:
    """Return this process's resident memory in MiB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024


if __name__ == "__main__":
    sys.exit(main())
