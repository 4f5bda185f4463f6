"""A host whose plugin completes and traps in known ways, for processes that fork.

A child that fails says so on standard error, and leaves with another status than 0; one that hangs, too.
"""

import faulthandler
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import fuseboard as fb
from fuseboard import Cause, Limit, _core
from fuseboard._slots import RESERVE, Ticket
from fuseboard.backends import HttpResponse
from fuseboard.backends.memory import MemoryDb, MemoryHttp, MemoryKv
from guests import HOSTILE, ORIGIN
from tables import migrations_of

MIB: Final = 1 << 20
SLOTS: Final = 8
PATIENCE_SECONDS: Final = 20
BUSY: Final = {
    "spin": "loop_forever",
    "touch": "touch_pages",
    "call": "call_function_2",
    "write": "kv_write_exact",
    "crash": "out_of_bounds",
}


class Case(NamedTuple):
    """A hook with an export of its name, and what must come of it: what tripped, or why it trapped, or the value."""

    hook: str
    limit: str | None = None
    used: float = 0
    cause: Cause | None = None
    value: str = "x"


CASES: Final = (
    Case("echo_context", value='{"asked":"by a test"}'),
    Case("missing_key", value="-3"),
    Case("write_and_finish"),
    Case("call_function_2"),
    Case("loop_forever", Limit.FUEL, 200_000, Cause.LIMIT),
    Case("grow_memory", Limit.MEMORY, 4 * MIB - 65_520, Cause.LIMIT),
    Case("query_33", Limit.DB_QUERIES, 32, Cause.LIMIT),
    Case("call_function_3", "functions.mail.send", 2, Cause.LIMIT),
    Case("unreachable_now", cause=Cause.CRASH),
)


def manifest(slug: str, exports: dict[str, str], **server: int) -> dict[str, object]:
    """Return the manifest of a plugin that subscribes with its exports to hooks, and requests everything."""
    capabilities = {"http": [ORIGIN], "db": "write", "kv": True, "functions": ["mail.send"]}
    hooks = [{"name": hook, "export": export} for hook, export in exports.items()]
    server = {"invocation_timeout_ms": 10_000, "memory_limit_mb": 4} | server
    return {
        "manifest": 1, "slug": slug, "version": "1", "hooks": hooks, "server": {"capabilities": capabilities, **server},
    }  # fmt: skip


class Site:
    """An application with a host.

    Attributes:
        on_mail: what the function that guests call does.
        host: the host; an `AsyncHost` where asked for.
        loaded: what loading the plugin gave: to be awaited where the host is asynchronous.
    """

    def __init__(self, make_host: Callable[..., Any] = fb.Host, **arguments: Any) -> None:
        logging.getLogger("fuseboard").setLevel(logging.CRITICAL)
        self.db, self.kv = MemoryDb(), MemoryKv()
        self.on_mail: Callable[[], object] = bool
        self._meters: dict[str, dict[str, fb.Meter]] = {}

        @fb.host_function("mail.send", per_invocation=2)
        def send_mail(to: str, subject: str) -> None:  # noqa: ARG001  what guests pass
            self.on_mail()

        self.db.prepare("hostile", migrations_of("hostile"))
        backends = fb.Backends(http=MemoryHttp(lambda _: HttpResponse(200)), db=self.db, kv=self.kv)
        self.host = make_host(
            hooks=[
                fb.Filter(name, str) for name in (*(case.hook for case in CASES), *BUSY, "wait_in_host_call", "new")
            ],
            functions=[send_mail],
            **{"backends": backends, "breaker": None, "max_concurrent_invocations": SLOTS} | arguments,
        )
        exports = {name: name for name in (*(case.hook for case in CASES), "wait_in_host_call")}
        self.loaded = self.load(HOSTILE, manifest("hostile", exports, fuel_per_invocation=200_000))

    def load(self, wasm: bytes, about: dict[str, object]) -> Any:
        """Load a plugin and grant it what it requests."""
        return self.host.load_bytes(wasm, about, grants="as-requested")

    # ── to serve ─────────────────────────────────────────────────────────────────────────────────

    def serve(self, rounds: int = 1) -> None:
        """Let each case come out right, as often as asked for."""
        for _ in range(rounds):
            for case in CASES:
                self.check(case, self.run(case.hook))

    def run(self, hook: str) -> fb.Outcome:
        """Return the outcome of a hook's only plugin."""
        dispatched = self.host.dispatch(hook, "x", context={"asked": "by a test"}, request_id="any")
        outcome: fb.Outcome = dispatched.outcomes[0]
        return outcome

    async def serve_async(self, rounds: int = 1) -> None:
        """Do what `serve` does, on the running loop."""
        for _ in range(rounds):
            for case in CASES:
                dispatched = await self.host.dispatch(case.hook, "x", context={"asked": "by a test"})
                self.check(case, dispatched.outcomes[0])

    def check(self, case: Case, outcome: fb.Outcome) -> None:
        """Compare an outcome with what must come of it, and its exact meters with those of the first time."""
        if isinstance(outcome, fb.Trapped):
            assert (outcome.trap.cause, outcome.trap.limit) == (case.cause, case.limit), outcome
        else:
            assert isinstance(outcome, fb.Completed), outcome
            assert (outcome.value, None) == (case.value, case.cause), outcome
        assert case.limit is None or outcome.meters[case.limit].used == case.used, outcome
        exact = {name: meter for name, meter in outcome.meters.items() if name != Limit.TIMEOUT and meter.exact}
        assert exact == self._meters.setdefault(case.hook, exact), outcome

    # ── slots ────────────────────────────────────────────────────────────────────────────────────

    def entry(self, slug: str, hook: str) -> _core.Entry:
        """Return what a plugin runs for a hook."""
        entry: _core.Entry = self.host._registry.subscriber(slug, hook).entry
        return entry

    def suspended(self) -> _core.Execution:
        """Return an execution that waits for the answer to a host call."""
        return suspended(self.entry("hostile", "wait_in_host_call"))

    def check_all_slots_free(self) -> None:
        """Hold as many instances as there may be; the pool has no room for another."""
        slots = self.host._services.slots
        assert (slots.held, slots.waiting) == (0, 0)
        tickets = [Ticket("any", SLOTS, MIB) for _ in range(SLOTS)]
        assert all(slots.ask(ticket) for ticket in tickets)
        held = [self.suspended() for _ in range(SLOTS + RESERVE)]
        one_more = self.entry("hostile", "wait_in_host_call").begin(b'"x"', b"{}", b"{}", 60.0).resume()
        assert isinstance(one_more, _core.Trapped)
        assert one_more.cause == "saturated"
        for execution in held:
            execution.close()
        for ticket in tickets:
            slots.give_back(ticket)

    def hold_all(self) -> None:
        """Have as many invocations at once as may be, on a thread each: none goes on before all are there."""
        together = threading.Barrier(SLOTS)
        self.on_mail = lambda: together.wait(5)
        threads = [threading.Thread(target=self.run, args=("call_function_2",)) for _ in range(SLOTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not together.broken
        self.on_mail = bool


def suspended(entry: _core.Entry) -> _core.Execution:
    """Begin an execution, and return it once it waits for an answer."""
    execution = entry.begin(b'"x"', b"{}", b"{}", 60.0)
    step = execution.resume()
    while isinstance(step, _core.Running):
        step = execution.resume()
    assert isinstance(step, _core.Suspended), step
    return execution


def busy_site() -> Site:
    """Return a site with plugins beside that take their time: one for each hook of `BUSY`."""
    site = Site(ceilings=fb.Limits(memory_limit_mb=64))
    for hook, export in BUSY.items():
        timeout_ms = 5 if hook in {"spin", "touch"} else 10_000
        limits = {"fuel_per_invocation": 10**9, "memory_limit_mb": 64, "invocation_timeout_ms": timeout_ms}
        site.load(HOSTILE, manifest(hook, {hook: export}, **limits))
    return site


# ── processes and threads ────────────────────────────────────────────────────────────────────────


def forked(
    work: Callable[[], object], leave: Callable[[int], object] = os._exit, patience: int = PATIENCE_SECONDS
) -> int:
    """Fork, and return the child's number; the child does its work and leaves within `patience` seconds."""
    pid = os.fork()
    if not pid:
        signal.alarm(patience)
        leave(status_of(work))
    return pid


def status_of(work: Callable[[], object]) -> int:
    """Do a child's work, and return the status to leave with."""
    try:
        work()
    except BaseException:  # noqa: BLE001  whatever it is, the child must not become a second parent
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0


def exit_status(pid: int) -> int:
    """Wait for a child to end, and return its status, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def repeating(*works: Callable[[], object]) -> Iterator[threading.Event]:
    """Do each again and again on a thread of its own, while the event is set; what one raises fails the whole."""
    goes_on, is_over = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def repeat(work: Callable[[], object]) -> None:
        try:
            while goes_on.wait() and not is_over.is_set():
                work()
        except BaseException as error:  # noqa: BLE001  it is shown below
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    goes_on.set()
    yield goes_on  # a child that leaves from here must not touch the events: their locks may be taken
    is_over.set()
    goes_on.set()
    for thread in threads:
        thread.join()
    assert not errors, errors


def perform(*scenarios: Callable[[], object]) -> None:
    """Perform the scenario that the command line names, and say so. Where all hangs, SIGABRT and SIGALRM show where."""
    faulthandler.enable()
    faulthandler.register(signal.SIGALRM, chain=True)
    by_name = {scenario.__name__: scenario for scenario in scenarios}
    by_name[sys.argv[1]]()
    print("served")
