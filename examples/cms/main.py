"""What Fuseboard is, in one minute: friendly plugins at work, then a hostile one that trips every fuse.

It checks itself: what doesn't come out as it should is told, and the exit code is 1.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import tomllib
from collections.abc import Iterable
from io import TextIOWrapper
from logging.handlers import BufferingHandler
from typing import Final, NamedTuple

from app import COMMENT, NOT_SHOWN, PLUGINS, TITLE, Cms, Post
from board import INDENT, METERS, board, ending
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

import fuseboard as fb
from fuseboard import Cause, Limit

HOSTILE: Final = PLUGINS / "hostile"
WIDEST: Final = 120
CLOCK: Final = fb.Limits(invocation_timeout_ms=50, fuel_per_invocation=1_000_000_000)

BODY: Final = "Two plugins met in a process. Neither trusted the other, and both were right. " * 3
EXCERPT: Final = "Two plugins met in a process. Neither trusted the other, and both were right. " * 2
SPAM: Final = "FREE CRYPTO at https://spam.example"
SPAM_SCORE: Final = 8
RAW_TITLE: Final = "a tale of two plugins"
TITLED: Final = "A Tale of Two Plugins"
RAW_COMMENT: Final = 'Nice <b>post</b>!<script>steal()</script> <a href="https://example.com" onclick="steal()">me</a>'
CLEAN_COMMENT: Final = 'Nice <b>post</b>! <a href="https://example.com">me</a>'
HUGE_COMMENT: Final = "<b>spam</b> " * 20_000
TRACES: Final = 4
FETCHES: Final = 8


class Attack(NamedTuple):
    """One hook of the hostile plugin, and the limit or cause that must end it; empty where it may complete."""

    name: str
    ends_by: str

    @property
    def hook(self) -> str:
        """The hook's name."""
        return f"attack.{self.name}"


FUSES: Final = (
    Attack("grow-memory", Limit.MEMORY),
    Attack("loop-forever", Limit.FUEL),
    Attack("fetch-9", Limit.HTTP_FETCHES),
    Attack("query-33", Limit.DB_QUERIES),
    Attack("kv-write-one-too-many", Limit.KV_WRITE_BYTES),
    Attack("call-function-3", "functions.mail.send"),
)
CLOCKED: Final = (
    Attack("loop-over-import", Limit.TIMEOUT),
    Attack("wait-in-host-call", Limit.TIMEOUT),
)
CRASHES: Final = (
    Attack("unreachable-now", Cause.CRASH),
    Attack("out-of-bounds", Cause.CRASH),
    Attack("stack-exhaustion", Cause.CRASH),
    Attack("fail-with-message", Cause.FAILED),
    Attack("bad-json", Cause.BAD_OUTPUT),
)
DENIED: Final = Attack("denied-fetch", "")
WRITES: Final = (
    Attack("write-then-loop", Limit.FUEL),
    Attack("write-then-crash", Cause.CRASH),
    Attack("write-and-finish", ""),
)


class Show:
    """The acts, one method each, and what didn't come out as it should."""

    def __init__(self) -> None:
        self.console = Console(markup=False, emoji=False, highlight=False)
        self.console.width = min(self.console.width, WIDEST)
        self.log = log_in_memory()
        self.outcomes: list[fb.Outcome] = []
        self.cms = Cms(on_outcome=self.outcomes.append)
        self.checked = 0
        self.failures = 0

    def run(self) -> int:
        """Play every act and return the exit code."""
        began = time.perf_counter()
        self.console.print("Fuseboard runs plugins that you don't trust in your process, a fuse for each resource.")
        self.friendly_plugins()
        self.hostile_plugin()
        self.rolled_back()
        self.fails_closed()
        self.alive()
        return self.result(time.perf_counter() - began)

    # ── the acts ─────────────────────────────────────────────────────────────────────────────────

    def friendly_plugins(self) -> None:
        """Show values before and after, and what a published post leaves behind."""
        self.heading(1, "Friendly plugins at work")
        post = self.cms.publish(Post(7, RAW_TITLE, BODY))
        excerpt = self.cms.excerpt(post)
        comment = self.cms.comment_html(RAW_COMMENT)
        score = self.cms.spam_score("bot", SPAM)
        traces = self.traces_of_publishing()
        self.facts([
            ("post.title", RAW_TITLE), ("→", post.title),
            ("post.published", f"post {post.id}"), *(("→", trace) for trace in traces),
            ("post.excerpt", f"of {len(BODY)} characters"), ("→", excerpt),
            ("comment.html", RAW_COMMENT), ("→", comment),
            ("comment.score", SPAM), ("→", f"{score:g}"),
        ])  # fmt: skip
        self.board(self.outcomes)
        self.say("They are written in C, but for two: the excerpt's in Rust, the score's in Go.", "dim")
        self.say(f"The bars are meters against their ceilings: {', '.join(METERS)}.", "dim")
        self.expect(post.title == TITLED, "title-case gives the title its capitals")
        self.expect(comment == CLEAN_COMMENT, "html-sanitiser takes script and onclick out")
        self.expect(excerpt == EXCERPT.strip(), "excerpt takes whole sentences")
        self.expect(score == SPAM_SCORE, "comment-score finds what looks like spam")
        self.expect(len(traces) == TRACES, "publish-notes counts, notes, mails and calls the webhook")

    def traces_of_publishing(self) -> list[str]:
        """Return what publish-notes wrote and sent, one line each."""
        kv, rows = self.cms.kv.items("publish-notes"), self.cms.db.rows("publish-notes", "SELECT * FROM notes")
        return [
            *(f"KV       {key.decode()} = {value.decode()}" for key, value in kv.items()),
            *(f"DB       notes: {row}" for row in rows),
            *(f"mail     {mail}" for mail in self.cms.mails),
            *(f"webhook  {request.method} {request.url}" for request in self.cms.http.requests),
        ]

    def hostile_plugin(self) -> None:
        """Trip every fuse, crash in several ways, and get the value back each time."""
        self.heading(2, "A hostile plugin in the same process, granted all that it asks for")
        hooks = tomllib.loads((HOSTILE / "plugin.toml").read_text(encoding="utf-8"))["hooks"]
        self.cms.host.declare(*(fb.Filter(hook["name"], str) for hook in hooks))
        mails = len(self.cms.mails)
        ran = [*self.attack(FUSES), *self.attack(CLOCKED, CLOCK), *self.attack(CRASHES)]
        self.board(ran)
        self.say("wait-in-host-call is over its 50 ms: a synchronous backend can't be stopped, only charged.", "dim")
        self.say("Each time the filter returned the very object that it was given. Those without a limit say why:")
        traps = [outcome.trap for outcome in ran if isinstance(outcome, fb.Trapped)]
        self.facts([(trap.hook, trap.detail) for trap in traps if trap.limit is None])
        self.say("The operator's log has one line for each trap, for example:")
        self.show(Text("\n".join(map(self.log.format, self.log.buffer[:1]))))
        self.denied_fetch()
        self.expect(len(self.log.buffer) == len(ran), "the log has one warning for each trap")
        self.expect(len(self.cms.mails) == mails, "mails of a plugin that trapped aren't sent")

    def denied_fetch(self) -> None:
        """Ask for an origin that isn't granted."""
        sent = len(self.cms.http.requests)
        (outcome,) = self.attack([DENIED])
        self.say("A fetch from an origin that isn't granted is answered DENIED, never sent, and no fetch is charged.")
        self.expect(isinstance(outcome, fb.Completed) and outcome.value == "-1", "a fetch that isn't granted is DENIED")
        self.expect(len(self.cms.http.requests) == sent, "a fetch that isn't granted isn't sent")
        self.expect(outcome.meters[Limit.HTTP_FETCHES].used == 0, "a fetch that isn't granted isn't charged")

    def rolled_back(self) -> None:
        """Show what is left of writes: all of them, or none."""
        self.heading(3, "A plugin that traps leaves nothing but its record")
        table = Table.grid(padding=(0, 2))
        for heading in ("hook", "outcome", "its KV store", "its database"):
            table.add_column(Text(heading, "dim"), no_wrap=True)
        table.show_header = True
        table.add_row("everything above", "", *self.contents())
        for attack, is_kept in zip(WRITES, (False, False, True), strict=True):
            (outcome,) = self.attack([attack])
            kv, db = self.contents()
            table.add_row(attack.hook, f"{type(outcome).__name__.lower()} {ending(outcome)}", kv, db)
            left = ("trace = x", "traces: 1 row") if is_kept else ("empty", "traces: 0 rows")
            self.expect((kv, db) == left, f"after {attack.hook} there is {left}")
        self.show(table)
        trapped = [outcome for outcome in self.outcomes if isinstance(outcome, fb.Trapped)]
        sent = {outcome.hook: outcome.trap.http_requests for outcome in trapped if outcome.trap.http_requests}
        self.say("HTTP requests that were sent can't be undone, so the trap lists them:")
        self.facts([(hook, f"{len(requests)}x {requests[0]}") for hook, requests in sent.items()])
        self.expect(len(sent.get("attack.fetch-9", ())) == FETCHES, f"the trap of fetch-9 lists {FETCHES} requests")

    def contents(self) -> tuple[str, str]:
        """Return what the hostile plugin's KV store and database hold."""
        kv = self.cms.kv.items("hostile")
        tables = self.cms.db.rows("hostile", "SELECT name FROM sqlite_master")  # there are some once it is loaded
        rows = self.cms.db.rows("hostile", "SELECT count(*) FROM traces")[0][0] if tables else 0
        stored = ", ".join(f"{key.decode()} = {value.decode()}" for key, value in kv.items())
        return stored or "empty", f"traces: {rows} row{'s' * (rows != 1)}" if tables else "no tables"

    def fails_closed(self) -> None:
        """Let a comment be too much for the sanitiser."""
        self.heading(4, "A sanitiser that trips fails closed")
        refusal = ""
        try:
            self.cms.host.apply_filter(COMMENT, HUGE_COMMENT, request_id="visitor-1")
        except fb.HookFailed as error:
            refusal = str(error)
        shown = self.cms.comment_html(HUGE_COMMENT)
        self.facts([
            ("a comment of", f"{len(HUGE_COMMENT):,} characters"),
            ("HookFailed", refusal),
            ("the page shows", shown),
        ])  # fmt: skip
        self.expect(bool(refusal), "a comment that is too much for the sanitiser raises HookFailed")
        self.expect(shown == NOT_SHOWN, "a comment that couldn't be sanitised isn't shown")

    def alive(self) -> None:
        """Use the application as if nothing had happened."""
        self.heading(5, "The application goes on")
        title = self.cms.host.apply_filter(TITLE, RAW_TITLE)
        trapped = sum(isinstance(outcome, fb.Trapped) for outcome in self.outcomes)
        self.facts([
            ("post.title", RAW_TITLE), ("→", title),
            ("so far", f"{len(self.outcomes)} invocations, {trapped} of them trapped, all in process {os.getpid()}"),
        ])  # fmt: skip
        self.expect(title == TITLED, "the first filter does what it did before")

    def result(self, seconds: float) -> int:
        """Say how it went, and return the exit code."""
        self.console.print()
        if self.failures:
            self.console.print(Text(f"✗ {self.failures} of {self.checked} expectations weren't met", "bold red"))
            return 1
        self.console.print(Text(f"✓ all {self.checked} expectations were met, in {seconds:.1f} seconds", "bold green"))
        return 0

    # ── attacks ──────────────────────────────────────────────────────────────────────────────────

    def attack(self, attacks: Iterable[Attack], limits: fb.Limits | None = None) -> list[fb.Outcome]:
        """Load the hostile plugin, run these attacks and return what became of each."""
        host = self.cms.host
        host.load(HOSTILE, grants="as-requested", limits=limits)
        try:
            return [self.attacked(attack) for attack in attacks]
        finally:
            host.unload("hostile")

    def attacked(self, attack: Attack) -> fb.Outcome:
        """Run one attack as a filter on a title."""
        result = self.cms.host.dispatch(attack.hook, RAW_TITLE, request_id=f"visit-{len(self.outcomes) + 1}")
        (outcome,) = result.outcomes
        self.expect(ending(outcome) == attack.ends_by, f"{attack.hook} ends by {attack.ends_by}, not by {outcome}")
        if isinstance(outcome, fb.Trapped):
            self.expect(result.value is RAW_TITLE, f"{attack.hook} gives the title back as it was")
        return outcome

    # ── the screen ───────────────────────────────────────────────────────────────────────────────

    def expect(self, holds: bool, sentence: str) -> None:  # noqa: FBT001  reads as a sentence
        """Count an expectation, and say so where it isn't met."""
        self.checked += 1
        if not holds:
            self.failures += 1
            self.console.print(Text(f"✗ not met: {sentence}", "bold red"))

    def heading(self, number: int, text: str) -> None:
        """Begin an act."""
        self.console.print()
        self.console.print(Text(f"{number}  {text}", "bold"))

    def say(self, sentence: str, style: str = "") -> None:
        """Print a sentence."""
        self.console.print()
        self.show(Text(sentence, style))

    def facts(self, rows: Iterable[tuple[str, str]]) -> None:
        """Print names and what is said of them."""
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="cyan")
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(Text(name), Text(value))
        self.show(table)

    def board(self, outcomes: Iterable[fb.Outcome]) -> None:
        """Print outcomes with their meters."""
        self.console.print()
        self.show(board(outcomes, self.console.width))

    def show(self, what: RenderableType) -> None:
        """Print something under an act's heading."""
        self.console.print(Padding(what, (0, 0, 0, INDENT)))


def log_in_memory() -> BufferingHandler:
    """Keep the library's log off the screen, as this is one."""
    handler = BufferingHandler(capacity=10_000)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    log = logging.getLogger("fuseboard")
    log.addHandler(handler)
    log.propagate = False
    return handler


if __name__ == "__main__":
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # bars and arrows are more than some terminals can write
    sys.exit(Show().run())
