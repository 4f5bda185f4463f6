"""A small CMS that lets plugins in: what an application with Fuseboard looks like.

Everything outside it is in memory here, so that it runs anywhere and you can look at what plugins leave behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import fuseboard as fb
from fuseboard.backends import HttpRequest, HttpResponse
from fuseboard.backends.memory import MemoryDb, MemoryHttp, MemoryKv

PLUGINS: Final = Path(__file__).resolve().parents[2] / "plugins"
NOT_SHOWN: Final = "<p>This comment can't be shown.</p>"
SLOW_SECONDS: Final = 0.06


@dataclass(frozen=True)
class Post:
    """What plugins learn of a post: this crosses to them as JSON."""

    id: int
    title: str
    body: str


@dataclass(frozen=True)
class Draft:
    """A post before it is published; `excerpt` is `None` where the author wrote none."""

    title: str
    body: str
    excerpt: str | None


@dataclass(frozen=True)
class Comment:
    """A visitor's comment, and how much it looks like spam: from 0, which is not at all."""

    author: str
    text: str
    score: float


# ── where plugins are let in ─────────────────────────────────────────────────────────────────────

TITLE = fb.Filter("post.title", str)
EXCERPT = fb.Filter("post.excerpt", Draft)
COMMENT = fb.Filter("comment.html", str, on_trap="raise")  # what isn't sanitised must not be shown
SCORE = fb.Filter("comment.score", Comment)
PUBLISHED = fb.Action("post.published", Post)

# ── what each plugin may do: the operator's word, whatever its manifest asks for ─────────────────

GRANTS: Final = {
    "title-case": fb.Grants(),
    "excerpt": fb.Grants(),
    "comment-score": fb.Grants(kv=True),
    "html-sanitiser": fb.Grants(),
    "publish-notes": fb.Grants(http=["https://hooks.example.com"], db="write", kv=True, functions=["mail.send"]),
}


class Cms:
    """The application: its services, its host, and what it does with plugins' help.

    Args:
        on_outcome: is told of every invocation, e.g. to count them.
    """

    def __init__(self, on_outcome: Callable[[fb.Outcome], object] | None = None) -> None:
        self.http = MemoryHttp(answer_request)
        self.db = MemoryDb()
        self.kv = MemoryKv()
        self.mails: list[str] = []

        @fb.host_function("mail.send", per_invocation=2)
        def send_mail(to: str, subject: str, *, call: fb.Call) -> None:
            """Send a mail once the plugin's writes last: a plugin that is rolled back sends none."""
            call.on_commit(lambda: self.mails.append(f"to {to}: {subject}"))

        self.host = fb.Host(
            hooks=[TITLE, EXCERPT, COMMENT, SCORE, PUBLISHED],
            functions=[send_mail],
            backends=fb.Backends(http=self.http, db=self.db, kv=self.kv),
            on_outcome=on_outcome,
        )
        for name, grants in GRANTS.items():
            self.host.load(PLUGINS / name, grants=grants)

    def publish(self, post: Post) -> Post:
        """Publish a post under the title that plugins make of it, and return it."""
        title = self.host.apply_filter(TITLE, post.title, context={"post_id": post.id})
        post = replace(post, title=title)
        self.host.do_action(PUBLISHED, post)
        return post

    def excerpt(self, post: Post) -> str:
        """Return what a list of posts shows of one, which plugins make of its body."""
        draft = self.host.apply_filter(EXCERPT, Draft(post.title, post.body, None))
        return draft.excerpt or ""

    def spam_score(self, author: str, text: str) -> float:
        """Return how much a visitor's comment looks like spam to plugins."""
        return self.host.apply_filter(SCORE, Comment(author, text, 0)).score

    def comment_html(self, html: str) -> str:
        """Return a visitor's comment as the page may show it."""
        try:
            return self.host.apply_filter(COMMENT, html)
        except fb.HookFailed:
            return NOT_SHOWN


def answer_request(request: HttpRequest) -> HttpResponse:
    """Answer a plugin's HTTP request in the network's place; `/slow` takes its time."""
    if request.url.target == "/slow":
        time.sleep(SLOW_SECONDS)
    return HttpResponse(200, (("Content-Type", "text/plain"),), b"hello")


def make_host() -> fb.Host:
    """Return the application's host, for the command line: `fuseboard run ... --host app:make_host`."""
    return Cms().host
