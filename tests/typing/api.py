"""An application as one would write it: mypy --strict takes it, and infers what `reveal` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

import fuseboard as fb
from fuseboard.backends import Answer, HostCall, Identity, KvValue
from fuseboard.backends.memory import MemoryDb


@dataclass
class Post:
    """What a hook is told."""

    title: str


class Row(TypedDict):
    """A typed dict."""

    name: str


TITLE = fb.Filter("post.title", str)
ROW = fb.Filter("row", Row)
TAGS = fb.Filter("tags", list[str])
RAW = fb.Filter("raw", bytes, on_trap="raise")
PUBLISHED = fb.Action("post.published", Post)
PING: fb.Action[None] = fb.Action("ping")


@fb.host_function("mail.send", per_invocation=2)
def send_mail(to: str, subject: str = "", *, call: fb.Call) -> bool:
    """Send a mail."""
    call.on_commit(lambda: None)
    return bool(to and subject and call.plugin)


def told(outcome: fb.Outcome) -> str:
    """Tell what became of an invocation: every kind, and no other."""
    match outcome:
        case fb.Completed(value=value):
            return str(value)
        case fb.Trapped(trap=trap):
            assert_type(trap.limit, str | None)
            assert_type(trap.cause, fb.Cause)
            assert_type(trap.meters[fb.Limit.FUEL].used, float)
            return str(trap)
        case fb.Skipped(reason=reason):
            assert_type(reason, fb.SkipReason)
            return reason


def use(host: fb.Host) -> None:
    """Make every call."""
    assert_type(TITLE, fb.Filter[str])
    assert_type(ROW, fb.Filter[Row])
    assert_type(TAGS, fb.Filter[list[str]])
    assert_type(PUBLISHED, fb.Action[Post])
    assert_type(host.apply_filter(TITLE, "x"), str)
    assert_type(host.apply_filter(TAGS, ["x"], context={"a": 1}, request_id="r", scope=None, timeout_ms=1.5), list[str])
    assert_type(host.apply_filter(RAW, b"x"), bytes)
    assert_type(host.apply_filter("by.name", 5), int)
    host.do_action(PUBLISHED, Post("t"))
    host.do_action(PING)
    host.do_action("by.name", Post("t"), scope="s")
    assert_type(host.dispatch(TITLE, "x"), fb.Dispatch[str])
    assert_type(host.dispatch(PUBLISHED, Post("t")).outcomes, tuple[fb.Outcome, ...])
    told(host.invoke("blog", TITLE, "x", timeout_ms=5))
    assert_type(host.plugins, Mapping[str, fb.Plugin])
    assert_type(send_mail.name, str)


def make(settings: dict[str, Any]) -> fb.Host:
    """Make a host and load plugins."""
    with fb.Host(
        hooks=[TITLE, ROW, TAGS, RAW, PUBLISHED, PING],
        functions=[send_mail],
        backends=fb.Backends(),
        ceilings=fb.Limits(memory_limit_mb=8),
        caps=fb.Caps(output_bytes=1_000),
        on_outcome=told,
    ) as host:
        host.load("p", grants="as-requested", priority=5)
        host.load("p", grants=fb.Grants(http=["https://a.example"], db="write"), limits=fb.Limits(), settings=settings)
        host.load_bytes(b"", {"slug": "a"}, enabled=False)
        assert_type(host.load_all("p"), tuple[fb.Plugin, ...])
        host.declare(TITLE)
        host.unload("blog")
        return host


def mistakes(host: fb.Host) -> None:
    """Make the mistakes that a type checker should find: each ignore here is needed, says --strict."""
    host.apply_filter(TITLE, 5)  # type: ignore[misc]
    host.apply_filter(PUBLISHED, Post("t"))  # type: ignore[call-overload]
    host.do_action(TITLE, "x")  # type: ignore[call-overload]
    host.do_action(PUBLISHED)  # type: ignore[arg-type]
    host.do_action(PUBLISHED, "x")  # type: ignore[misc]
    host.apply_filter(TITLE, "x", timeout=5)  # type: ignore[call-overload]
    host.load("p", grant="as-requested")  # type: ignore[call-arg]
    host.load("p", grants="all")  # type: ignore[arg-type]
    fb.Filter("x", str, on_trap="ignore")  # type: ignore[arg-type]
    fb.Grants(db="all")  # type: ignore[arg-type]
    send_mail(5)  # type: ignore[arg-type, call-arg]


class Awaited:
    """A backend that an `AsyncHost` takes."""

    async def session(self, identity: Identity) -> Awaited:
        """Return a session."""
        return self

    async def answer(self, call: HostCall, deadline: float) -> Answer:
        """Serve a call."""
        return KvValue(None)

    async def commit(self, deadline: float) -> None:
        """Make it lasting."""

    async def rollback(self) -> None:
        """Forget it."""


class Mixed:
    """One of which only some methods wait."""

    def session(self, identity: Identity) -> Mixed:
        """Return a session."""
        return self

    async def answer(self, call: HostCall, deadline: float) -> Answer:
        """Serve a call."""
        return KvValue(None)

    def commit(self, deadline: float) -> None:
        """Make it lasting."""

    def rollback(self) -> None:
        """Forget it."""


AWAITED = fb.Backends(kv=Awaited(), db=MemoryDb(), http=Mixed())
