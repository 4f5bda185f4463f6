"""The limits of one invocation: names, manifest keys, defaults and ceilings, all in one table.

Rules:
* A limit has one name, `Limit`; its place in `LIMITS` is its number in the guest ABI.
* Manifest parser, command line, docs and tests read `LIMITS`; a test holds the Rust core to it.
* A request above the operator's ceiling is an error, never clamped. A key that isn't there takes the
  smaller of default and ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final, Literal

from fuseboard._errors import UsageError

Unit = Literal["bytes", "fuel", "ms", "count"]

MIB: Final = 1 << 20
_LARGEST: Final = (1 << 62) - 1


class Limit(StrEnum):
    """What can trip. The values are the names in traps, meters and logs."""

    MEMORY = "memory"
    FUEL = "fuel"
    TIMEOUT = "timeout"
    HTTP_FETCHES = "http_fetches"
    DB_QUERIES = "db_queries"
    KV_WRITE_BYTES = "kv_write_bytes"


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """One row of the table.

    Attributes:
        key: the manifest key under `[server]`, also the field of `Limits`.
        default: what a plugin gets that asks for nothing, in the key's unit.
        ceiling: the most that a manifest may ask for unless the operator says otherwise, in the key's unit.
        minimum, maximum: what the key can hold at all, in the key's unit.
        unit: the unit of the meter.
        scale: meter units in one unit of the key (`memory_limit_mb` counts MiB, its meter bytes).
        counts: what is counted, in words.
    """

    limit: Limit
    key: str
    default: int
    ceiling: int
    minimum: int
    maximum: int
    unit: Unit
    scale: int
    counts: str


LIMITS: Final = (
    LimitSpec(
        Limit.MEMORY, "memory_limit_mb", 64, 256, 1, 4096, "bytes", MIB,
        "linear memory and tables (8 bytes an element), from instantiation on",
    ),
    LimitSpec(
        Limit.FUEL, "fuel_per_invocation", 50_000_000, 1_000_000_000, 1, _LARGEST, "fuel", 1,
        "WebAssembly instructions, bulk bytes, start code, and the host's work for the guest at fixed prices",
    ),
    LimitSpec(
        Limit.TIMEOUT, "invocation_timeout_ms", 250, 10_000, 1, 86_400_000, "ms", 1,
        "wall clock from entry: waiting for a slot, instantiation, guest, host calls",
    ),
    LimitSpec(
        Limit.HTTP_FETCHES, "http_fetches_per_invocation", 8, 64, 0, _LARGEST, "count", 1,
        "HTTP requests and every redirect hop followed for them",
    ),
    LimitSpec(
        Limit.DB_QUERIES, "db_queries_per_invocation", 32, 512, 0, _LARGEST, "count", 1,
        "database queries and statements",
    ),
    LimitSpec(
        Limit.KV_WRITE_BYTES, "kv_write_bytes_per_invocation", MIB, 16 * MIB, 0, _LARGEST, "bytes", 1,
        "key and value bytes of each set and increment, key bytes of each delete",
    ),
)  # fmt: skip
LIMIT_BY_KEY: Final = {spec.key: spec for spec in LIMITS}
SPEC_OF: Final[dict[str, LimitSpec]] = {spec.limit: spec for spec in LIMITS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits by their manifest keys; `None` says nothing about a limit.

    Used as `ceilings=` of a host (the most that manifests may ask for) and as `limits=` of a load (the
    operator's word for one plugin, over the manifest's).

    Raises:
        UsageError: a value isn't a whole number or is outside what the key can hold.
    """

    memory_limit_mb: int | None = None
    fuel_per_invocation: int | None = None
    invocation_timeout_ms: int | None = None
    http_fetches_per_invocation: int | None = None
    db_queries_per_invocation: int | None = None
    kv_write_bytes_per_invocation: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            problem = None if value is None else range_problem(LIMIT_BY_KEY[field.name], value)
            if problem:
                raise UsageError(f"Limits({field.name}={value!r}): {problem}")


def range_problem(spec: LimitSpec, value: object, ceiling: int | None = None) -> str | None:
    """Return what is wrong with a value for a limit's key, or `None`; `ceiling` is in the key's unit."""
    most = spec.maximum if ceiling is None else ceiling
    if not isinstance(value, int) or isinstance(value, bool):
        return f"must be a whole number from {spec.minimum} to {most}"
    if ceiling is not None and ceiling < value <= spec.maximum:
        return f"is above the operator's ceiling; allowed: {spec.minimum} to {most}"
    return None if spec.minimum <= value <= most else f"must be from {spec.minimum} to {most}"


def ceiling_of(spec: LimitSpec, ceilings: Limits) -> int:
    """Return the operator's ceiling for a limit in the key's unit; the table's own where nothing is said."""
    said: int | None = getattr(ceilings, spec.key)
    return spec.ceiling if said is None else said


def memory_ceiling_bytes(ceilings: Limits) -> int:
    """Return the most memory that an instance can have under the operator's ceilings."""
    spec = SPEC_OF[Limit.MEMORY]
    return ceiling_of(spec, ceilings) * spec.scale


def effective(requested: Limits, ceilings: Limits) -> tuple[int, ...]:
    """Return each limit's value in its meter's unit, in the order of `LIMITS`.

    `requested` must already lie under `ceilings`; what it doesn't name takes the smaller of default and ceiling.
    """
    return tuple(_effective(spec, getattr(requested, spec.key), ceiling_of(spec, ceilings)) for spec in LIMITS)


def _effective(spec: LimitSpec, requested: int | None, ceiling: int) -> int:
    return (min(spec.default, ceiling) if requested is None else requested) * spec.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """The operator's caps: sizes that are not exceeded, answered, cut or refused, never a trip. In bytes.

    Attributes:
        output_bytes: a hook's output; more ends the invocation with `BAD_OUTPUT`.
        request_bytes: each part of a host call's request (key, value, head, body ...); more is answered `TOO_LARGE`.
        reply_bytes: head and body of a host call's reply; more is answered `TOO_LARGE`.
        log_bytes: what a plugin may log in an invocation; more is dropped after one notice, as are lines over 1,024.
        module_bytes: a plugin's module; more fails the load.

    Raises:
        UsageError: a cap isn't a whole number from 1 to 1 GiB.
    """

    output_bytes: int = MIB
    request_bytes: int = MIB
    reply_bytes: int = 4 * MIB
    log_bytes: int = 64 << 10
    module_bytes: int = 32 * MIB

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1 << 30:
                raise UsageError(f"Caps({field.name}={value!r}): must be a whole number from 1 to {1 << 30}")
