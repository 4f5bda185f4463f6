"""Limits are exact: the last unit passes, the next one trips, and the first trip is the one that is told."""

from collections.abc import Iterator

import pytest
from wasmtime import wat2wasm

import fuseboard as fb
from drivers import MakeHost
from fuseboard import Cause, Limit, Limits
from guests import HOSTILE, NUMBER, TEXT, Application, module

MIB = 1 << 20
EXACT = module("exact")


@pytest.fixture
def app(driver: MakeHost) -> Iterator[Application]:
    """A fresh application."""
    app = Application(driver)
    yield app
    app.host.close()


def run(app: Application, export: str, value: int | str = "x", *, wasm: bytes = HOSTILE, **server: int) -> fb.Outcome:
    """Invoke an export once, with keys of `[server]`."""
    hook: fb.Filter[int] | fb.Filter[str] = NUMBER if isinstance(value, int) else TEXT
    app.load(export, hook=hook.name, wasm=wasm, server=server)
    outcome = app.host.invoke("hostile", hook.name, value)
    app.host.unload("hostile")
    return outcome


def assembled(text: str) -> bytes:
    """Return the module that a text stands for."""
    return bytes(wat2wasm(text))


def limit_of(outcome: fb.Outcome) -> str | None:
    """Return which limit tripped; `None` for a completed outcome."""
    if isinstance(outcome, fb.Completed):
        return None
    assert isinstance(outcome, fb.Trapped)
    return outcome.trap.limit


def test_eight_fetches_pass_and_the_ninth_never_arrives(app: Application) -> None:
    """8 fetches pass; the 9th trips, and never reaches the backend."""
    assert limit_of(run(app, "fetch_8")) is None
    assert len(app.http.requests) == 8
    app.http.requests.clear()

    assert limit_of(run(app, "fetch_9")) == Limit.HTTP_FETCHES
    assert len(app.http.requests) == 8


def test_thirty_two_queries_pass(app: Application) -> None:
    """32 queries pass; the 33rd trips."""
    passed, tripped = run(app, "query_32"), run(app, "query_33")

    assert limit_of(passed) is None
    assert passed.meters[Limit.DB_QUERIES].used == 32
    assert limit_of(tripped) == Limit.DB_QUERIES
    assert tripped.meters[Limit.DB_QUERIES] == fb.Meter(32, 32, "count")


def test_a_mebibyte_of_writes_passes(app: Application) -> None:
    """Exactly 1,048,576 bytes of keys and values are written; one byte more trips, and nothing is kept."""
    tripped = run(app, "kv_write_one_too_many")

    assert limit_of(tripped) == Limit.KV_WRITE_BYTES
    assert tripped.meters[Limit.KV_WRITE_BYTES].used == MIB
    assert app.kv.items("hostile") == {}

    passed = run(app, "kv_write_exact")

    assert limit_of(passed) is None
    assert passed.meters[Limit.KV_WRITE_BYTES].used == MIB
    assert sum(len(key) + len(value) for key, value in app.kv.items("hostile").items()) == MIB


def test_functions_have_their_own_fuse(app: Application) -> None:
    """A function declared with `per_invocation=2` is called twice; the third call trips and isn't made."""
    assert limit_of(run(app, "call_function_2")) is None
    assert limit_of(run(app, "call_function_3")) == "functions.mail.send"
    assert len(app.mails) == 4


@pytest.mark.parametrize("count", [0, 1, 1_000, 100_000])
def test_fuel_is_exact(app: Application, count: int) -> None:
    """A guest that ends with exactly its fuel completes; with one unit less it trips."""
    ample = run(app, "count", count, wasm=EXACT)
    fuel = int(ample.meters[Limit.FUEL].used)
    enough = run(app, "count", count, wasm=EXACT, fuel_per_invocation=fuel)
    too_little = run(app, "count", count, wasm=EXACT, fuel_per_invocation=fuel - 1)

    assert limit_of(ample) is limit_of(enough) is None
    assert enough.meters[Limit.FUEL] == fb.Meter(fuel, fuel, "fuel")
    assert limit_of(too_little) == Limit.FUEL
    assert too_little.meters[Limit.FUEL] == fb.Meter(fuel - 1, fuel - 1, "fuel")


def test_memory_is_exact(app: Application) -> None:
    """Memory at the limit passes; one page more trips."""
    passed, tripped = (
        run(
            app,
            "run",
            wasm=assembled(f"""(module (memory (export "memory") 1)
            (func (export "run") (drop (memory.grow (i32.const {pages})))))"""),
        )
        for pages in (1023, 1024)
    )

    assert limit_of(passed) is None
    assert passed.meters[Limit.MEMORY] == fb.Meter(64 * MIB, 64 * MIB, "bytes")
    assert limit_of(tripped) == Limit.MEMORY
    assert tripped.meters[Limit.MEMORY].used == 65536


def test_tables_count_as_memory(app: Application) -> None:
    """Memory and tables share one limit: with a table of one element (8 bytes), the last page doesn't fit."""
    passed, tripped = run(app, "grow", 1023, wasm=EXACT), run(app, "grow", 1024, wasm=EXACT)

    assert isinstance(passed, fb.Completed)
    assert passed.value == 1023
    assert passed.meters[Limit.MEMORY].used == 64 * MIB - 65536 + 8
    assert limit_of(tripped) == Limit.MEMORY


def test_bulk_fill_above_the_fuel_left_trips(app: Application) -> None:
    """A fill is charged before it runs; that nothing is written then, the core's own tests show."""
    ample = run(app, "fill", MIB, wasm=EXACT)
    assert isinstance(ample, fb.Completed)
    fuel = int(ample.meters[Limit.FUEL].used)
    assert fuel > MIB

    app.load("fill", hook="number", wasm=EXACT, server={"fuel_per_invocation": MIB // 2})
    tripped = app.host.invoke("hostile", NUMBER, MIB)

    assert limit_of(tripped) == Limit.FUEL
    assert tripped.meters[Limit.FUEL] == fb.Meter(MIB // 2, MIB // 2, "fuel")


def test_growth_past_the_guests_own_maximum_is_no_trip(app: Application) -> None:
    """A guest that grows a table past the maximum that it declared itself gets -1, as the standard says."""
    assert limit_of(run(app, "past_declared_maximum", wasm=module("table-grow"))) is None


def test_initialize_runs_first_and_once(app: Application) -> None:
    """`_initialize` runs before the hook's export, in each fresh instance."""
    for _ in range(3):
        outcome = run(app, "run", wasm=module("initialize-sets"))
        assert isinstance(outcome, fb.Completed)
        assert outcome.value == "1"


def test_memory_trips_before_the_crash_that_would_follow(app: Application) -> None:
    """The refused growth ends the guest at once; it never gets to crash over it."""
    outcome = run(app, "grow_or_crash")

    assert isinstance(outcome, fb.Trapped)
    assert (outcome.trap.cause, outcome.trap.limit) == (Cause.LIMIT, Limit.MEMORY)


def test_the_first_of_two_limits_in_a_slice_is_told(app: Application) -> None:
    """Where fuel and clock could both trip, the one that comes first is told: fuel, when it is short."""
    fuel_first = run(app, "loop_forever", fuel_per_invocation=10_000, invocation_timeout_ms=250)
    clock_first = run(app, "loop_forever", fuel_per_invocation=1_000_000_000, invocation_timeout_ms=1)

    assert limit_of(fuel_first) == Limit.FUEL
    assert limit_of(clock_first) == Limit.TIMEOUT


def test_a_trip_inside_a_host_call_is_told(app: Application) -> None:
    """Time that runs out while a backend works trips TIMEOUT and names the host call."""
    outcome = run(app, "wait_in_host_call", invocation_timeout_ms=20)

    assert isinstance(outcome, fb.Trapped)
    assert (outcome.trap.limit, outcome.trap.host_call) == (Limit.TIMEOUT, "host_http_request")
    assert outcome.trap.http_requests == ("GET https://api.example.com/slow",)


def test_the_charge_trips_before_the_wait(app: Application) -> None:
    """A fetch that doesn't fit trips at once, though the backend would have been slow: no time is spent."""
    outcome = run(app, "wait_in_host_call", http_fetches_per_invocation=0, invocation_timeout_ms=20)

    assert limit_of(outcome) == Limit.HTTP_FETCHES
    assert app.http.requests == []


def test_the_operators_limits_go_over_the_manifests(app: Application) -> None:
    """`limits=` of a load replaces what the manifest asks for."""
    app.load("fetch_9", server={"http_fetches_per_invocation": 9})
    assert limit_of(app.host.invoke("hostile", TEXT, "x")) is None
    app.host.unload("hostile")
    manifest = {"manifest": 1, "slug": "hostile", "version": "1", "hooks": [{"name": "text", "export": "loop_forever"}]}
    capabilities = {"http": ["https://api.example.com"], "db": "write", "kv": True, "functions": ["mail.send"]}
    app.host.load_bytes(
        HOSTILE,
        {**manifest, "server": {"capabilities": capabilities}},
        grants="as-requested",
        limits=Limits(fuel_per_invocation=1_234),
    )

    assert app.host.invoke("hostile", TEXT, "x").meters[Limit.FUEL] == fb.Meter(1_234, 1_234, "fuel")
