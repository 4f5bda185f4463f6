"""Every way to trip or crash, through a filter, a filter that fails closed, and an action."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

import fuseboard as fb
from drivers import MakeHost
from fuseboard import Cause, Limit
from guests import CLOSED, EVENT, HOSTILE, TEXT, Application, module

AMPLE = 1_000_000_000
MIB = 1 << 20


class Case(NamedTuple):
    """One attack and what must come of it: the cause, the limit, and what its meter must show at the least."""

    export: str
    cause: Cause = Cause.CRASH
    limit: str | None = None
    used: float = 0
    server: tuple[tuple[str, int], ...] = ()
    wasm: bytes = HOSTILE
    detail: str = ""


def tripped(export: str, limit: str, used: float, *, wasm: bytes = HOSTILE, **server: int) -> Case:
    """Return the case of a limit that trips."""
    return Case(export, Cause.LIMIT, limit, used, tuple(server.items()), wasm)


TRIPS = [
    tripped("loop_forever", Limit.FUEL, 50_000_000, invocation_timeout_ms=5_000),
    tripped("loop_forever", Limit.TIMEOUT, 50, fuel_per_invocation=AMPLE, invocation_timeout_ms=50),
    tripped("loop_over_import", Limit.TIMEOUT, 50, fuel_per_invocation=AMPLE, invocation_timeout_ms=50),
    tripped("loop_over_log", Limit.TIMEOUT, 50, fuel_per_invocation=AMPLE, invocation_timeout_ms=50),
    tripped("touch_pages", Limit.TIMEOUT, 50, fuel_per_invocation=AMPLE, invocation_timeout_ms=50),
    tripped("bulk_fill", Limit.FUEL, 50_000_000, invocation_timeout_ms=5_000),
    tripped("bulk_fill", Limit.TIMEOUT, 20, fuel_per_invocation=AMPLE, invocation_timeout_ms=20),
    tripped("grow_memory", Limit.MEMORY, 64 * MIB - 65536),
    tripped("grow_or_crash", Limit.MEMORY, 63 * MIB - 65536),
    tripped("run", Limit.MEMORY, 0, wasm=module("memory-initial")),
    tripped("run", Limit.MEMORY, 65536, wasm=module("table-initial"), memory_limit_mb=7),
    tripped("run", Limit.MEMORY, 7 * MIB, wasm=module("table-grow")),
    tripped("run", Limit.FUEL, 50_000_000, wasm=module("start-loop"), invocation_timeout_ms=5_000),
    tripped("run", Limit.FUEL, 50_000_000, wasm=module("initialize-loop"), invocation_timeout_ms=5_000),
    tripped("wait_in_host_call", Limit.TIMEOUT, 50, invocation_timeout_ms=50),
    tripped("fetch_9", Limit.HTTP_FETCHES, 8),
    tripped("query_33", Limit.DB_QUERIES, 32),
    tripped("kv_write_one_too_many", Limit.KV_WRITE_BYTES, MIB),
    tripped("call_function_3", "functions.mail.send", 2),
]
CRASHES = [
    Case("unreachable_now", detail="unreachable"),
    Case("out_of_bounds", detail="out of bounds memory access"),
    Case("divide_by_zero", detail="integer divide by zero"),
    Case("stack_exhaustion", detail="call stack exhausted"),
    Case("bad_indirect_call", detail="indirect call type mismatch"),
    Case("fail_with_message", Cause.FAILED, detail="the guest says no"),
    Case("fail_with_escapes", Cause.FAILED, detail=r"\u{1b}[31mred\nsecond line\u{202e}"),
    Case("too_much_output", Cause.BAD_OUTPUT, detail="the output is larger than 1048576 bytes"),
    Case("unknown_buffer", Cause.BAD_POINTER, detail="there is no buffer 99"),
    Case("bad_level", Cause.BAD_POINTER, detail="level 9 is not one of 0 to 4"),
]
BAD_POINTERS = [
    Case(f"bad_pointer_{name}", Cause.BAD_POINTER, detail="do not lie in the guest's")
    for name in (
        "buffer_read", "output_write", "fail", "log", "http_head", "http_body", "db_query_sql", "db_query_params",
        "db_exec_sql", "db_exec_params", "kv_get", "kv_set_key", "kv_set_value", "kv_set_for_key", "kv_set_for_value",
        "kv_delete", "kv_increment", "call_name", "call_body", "wraps", "one_byte_behind",
    )
]  # fmt: skip
BAD_VALUES = [Case(export, Cause.BAD_OUTPUT) for export in ("bad_json", "bad_utf8", "wrong_type", "empty_output")]

ALWAYS = [*TRIPS, *CRASHES, *BAD_POINTERS]


def name_of(case: Case) -> str:
    """Return a case's name among the test ids."""
    return f"{case.export}-{case.limit or case.cause}"


@pytest.fixture(scope="module")
def app(driver: MakeHost) -> Iterator[Application]:
    """One application for all attacks: none may leave a trace that another meets."""
    app = Application(driver, breaker=None)
    app.load("echo", slug="friend", hook="text")
    app.load("echo", slug="friend-closed", hook="text.closed")
    yield app
    app.host.close()


def check_trap(trap: fb.Trap, case: Case, hook: str, request_id: str) -> None:
    """Assert that a trap says exactly what the case expects."""
    assert (trap.cause, trap.limit) == (case.cause, case.limit)
    assert (trap.plugin, trap.hook, trap.request_id, trap.scope) == ("hostile", hook, request_id, "site-1")
    assert case.detail in trap.detail
    assert set(Limit) <= set(trap.meters)
    assert trap.elapsed_ms > 0
    if case.limit is not None:
        meter = trap.meters[case.limit]
        assert case.used <= meter.used
        assert meter.used <= meter.ceiling or case.limit == Limit.TIMEOUT
        assert case.limit in str(trap)


@pytest.mark.parametrize("case", [*ALWAYS, *BAD_VALUES], ids=name_of)
def test_filter_gives_its_input_back(app: Application, case: Case) -> None:
    """A filter whose plugin traps returns the very object it was given, and the trap says everything."""
    app.load(case.export, wasm=case.wasm, server=dict(case.server))
    value = "the value, whatever happens"
    try:
        result = app.host.dispatch(TEXT, value, request_id="r-1", scope="site-1")
    finally:
        app.host.unload("hostile")

    assert result.value is value
    friend, outcome = result.outcomes
    assert isinstance(friend, fb.Completed)
    assert isinstance(outcome, fb.Trapped)
    check_trap(outcome.trap, case, "text", "r-1")
    assert app.outcomes[-1] is outcome
    assert app.host.apply_filter(TEXT, "next") == "next"


@pytest.mark.parametrize("case", ALWAYS, ids=name_of)
def test_action_counts_as_done(app: Application, case: Case) -> None:
    """An action whose plugin traps is logged and returns like any other."""
    app.load(case.export, hook="event", wasm=case.wasm, server=dict(case.server))
    try:
        app.host.do_action(EVENT, "something happened", request_id="r-2", scope="site-1")
    finally:
        app.host.unload("hostile")

    outcome = app.outcomes[-1]
    assert isinstance(outcome, fb.Trapped)
    check_trap(outcome.trap, case, "event", "r-2")
    assert app.host.apply_filter(TEXT, "next") == "next"


@pytest.mark.parametrize("case", [*ALWAYS, *BAD_VALUES], ids=name_of)
def test_filter_that_fails_closed_raises(app: Application, case: Case) -> None:
    """A filter declared `on_trap="raise"` gives no value at all, but the outcome."""
    app.load(case.export, hook="text.closed", wasm=case.wasm, server=dict(case.server))
    try:
        with pytest.raises(fb.HookFailed) as caught:
            app.host.apply_filter(CLOSED, "<script>", request_id="r-3", scope="site-1")
    finally:
        app.host.unload("hostile")

    outcome = caught.value.outcome
    assert isinstance(outcome, fb.Trapped)
    check_trap(outcome.trap, case, "text.closed", "r-3")
    assert app.host.apply_filter(CLOSED, "next") == "next"


@pytest.mark.parametrize("case", BAD_VALUES, ids=name_of)
def test_action_ignores_output(app: Application, case: Case) -> None:
    """What a plugin outputs for an action is never read."""
    app.load(case.export, hook="event")
    try:
        app.host.do_action(EVENT, "something happened")
    finally:
        app.host.unload("hostile")

    assert isinstance(app.outcomes[-1], fb.Completed)


def test_trap_raises_as_the_error_of_its_cause(app: Application) -> None:
    """`raise_for_trap` gives `LimitTripped` for a limit and `GuestFault` for anything else, with the trap."""
    for export, error in (("fetch_9", fb.LimitTripped), ("unreachable_now", fb.GuestFault)):
        app.load(export)
        outcome = app.host.invoke("hostile", TEXT, "x")
        app.host.unload("hostile")
        assert isinstance(outcome, fb.Trapped)
        with pytest.raises(error) as caught:
            outcome.raise_for_trap()
        assert caught.value.trap is outcome.trap


def test_backtrace_names_functions(app: Application) -> None:
    """A crash says where the guest was, with the names of the name section, innermost first."""
    app.load("stack_exhaustion")
    outcome = app.host.invoke("hostile", TEXT, "x")
    app.host.unload("hostile")

    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.backtrace[0].function == "deeper"


def test_trap_lists_requests_that_were_sent(app: Application) -> None:
    """A trap names the host call in flight and every HTTP request that nothing can undo."""
    app.load("fetch_9")
    outcome = app.host.invoke("hostile", TEXT, "x")
    app.host.unload("hostile")

    assert isinstance(outcome, fb.Trapped)
    assert outcome.trap.host_call == "host_http_request"
    assert outcome.trap.http_requests == ("GET https://api.example.com/page",) * 8
    assert outcome.trap.backtrace


@pytest.mark.parametrize(
    ("export", "expected"),
    [
        ("denied_fetch", "-1"), ("db_bad_params", "-2"), ("missing_key", "-3"), ("too_large_request", "-5"),
        ("unknown_meter", "-1"),
    ],
)  # fmt: skip
def test_host_calls_answer_with_codes(app: Application, export: str, expected: str) -> None:
    """What isn't to be had is answered, and the guest goes on."""
    app.load(export)
    outcome = app.host.invoke("hostile", TEXT, "x")
    app.host.unload("hostile")

    assert isinstance(outcome, fb.Completed)
    assert outcome.value == expected


def test_denied_fetch_is_not_charged(app: Application) -> None:
    """A fetch outside the grants costs fuel, but none of the fetches, and reaches no backend."""
    app.http.requests.clear()
    app.load("denied_fetch")
    outcome = app.host.invoke("hostile", TEXT, "x")
    app.host.unload("hostile")

    assert outcome.meters[Limit.HTTP_FETCHES].used == 0
    assert outcome.meters[Limit.FUEL].used > 1_100
    assert app.http.requests == []


def test_redirect_hops_are_charged(app: Application) -> None:
    """Following a redirect costs a fetch more; the guest sees the last response."""
    app.load("redirected_fetch")
    outcome = app.host.invoke("hostile", TEXT, "x")
    app.host.unload("hostile")

    assert isinstance(outcome, fb.Completed)
    assert outcome.value == '5 {"status":200,"headers":[["X-Asked","/page"]]}'
    assert outcome.meters[Limit.HTTP_FETCHES].used == 2


def test_guest_reads_its_meters(app: Application) -> None:
    """`meter_remaining` gives what is left of each limit, in the table's order and units, uncharged."""
    app.load("read_meters")
    outcome = app.host.invoke("hostile", TEXT, "x")
    app.host.unload("hostile")

    assert isinstance(outcome, fb.Completed)
    memory, fuel, timeout, fetches, queries, kv_bytes = map(int, outcome.value.split())
    assert 0 < memory < 64 * MIB
    assert 0 < fuel < 50_000_000
    assert 0 <= timeout <= 250
    assert (fetches, queries, kv_bytes) == (7, 31, MIB - len("keyvalue"))
