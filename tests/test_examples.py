"""The example plugins do what plugins/README.md says, and the example application shows it."""

import json
import logging
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fuseboard as fb
from fuseboard import _core
from fuseboard.backends import HttpRequest, HttpResponse
from fuseboard.backends.memory import MemoryDb, MemoryHttp, MemoryKv
from guests import HOSTILE, ROOT, TEXT, Application

PLUGINS = ROOT / "plugins"
CMS = ROOT / "examples" / "cms"
README = (PLUGINS / "README.md").read_text(encoding="utf-8")
HOSTILE_HOOKS = tomllib.loads((PLUGINS / "hostile" / "plugin.toml").read_text(encoding="utf-8"))["hooks"]

TITLE = fb.Filter("post.title", str)
COMMENT = fb.Filter("comment.html", str, on_trap="raise")
PUBLISHED = fb.Action("post.published", dict[str, Any])


# ── plugins/README.md ────────────────────────────────────────────────────────────────────────────


class Attack(NamedTuple):
    """One row of the README's tables of attacks."""

    export: str
    outcome: str


ATTACKS = [
    Attack(*row) for row in re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", README, re.MULTILINE)
]  # fmt: skip


def test_readme_has_every_plugin() -> None:
    """The README's first table names each plugin's folder."""
    folders = {manifest.parent.name for manifest in PLUGINS.glob("*/plugin.toml")}
    assert set(re.findall(r"^\| \[([\w-]+)\]", README, re.MULTILINE)) == folders


def test_readme_has_every_attack() -> None:
    """The README's tables name each export of the hostile plugin's hooks once, and nothing else."""
    assert sorted(attack.export for attack in ATTACKS) == sorted(hook["export"] for hook in HOSTILE_HOOKS)


def test_every_hostile_export_is_a_hook() -> None:
    """What the hostile module exports for hooks is all in its manifest, each as `attack.<name>`."""
    module = _core.Module(_core.Engine(1 << 26, 1), HOSTILE)
    assert {hook["export"] for hook in HOSTILE_HOOKS} == set(module.hook_exports)
    assert all(hook["name"] == f"attack.{hook['export'].replace('_', '-')}" for hook in HOSTILE_HOOKS)


@pytest.fixture(scope="module")
def app() -> Iterator[Application]:
    """One application for all attacks."""
    app = Application()
    yield app
    app.host.close()
    app.db.close()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.export)
def test_readme_says_what_comes_of_an_attack(app: Application, attack: Attack) -> None:
    """With the default limits each attack ends by a limit or cause that its row names, or completes as it says."""
    app.load(attack.export)
    try:
        outcome = app.host.invoke("hostile", TEXT, "x")
    finally:
        app.host.unload("hostile")

    if isinstance(outcome, fb.Completed):
        assert "completes" in attack.outcome
        said = re.search(r"completes with `\"(-\d)\"`", attack.outcome)
        assert said is None or outcome.value == said[1]
    else:
        assert isinstance(outcome, fb.Trapped)
        assert f"`{outcome.trap.limit or outcome.trap.cause.name}`" in attack.outcome.split(",")[0]


# ── the example application ──────────────────────────────────────────────────────────────────────


def run_python(*arguments: str, cwd: Path = ROOT, width: int = 100) -> subprocess.CompletedProcess[str]:
    """Run Python as a terminal without colour would."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": str(width), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, encoding="utf-8", check=False
    )


@pytest.mark.parametrize("width", [80, 100, 120])
def test_show_runs(width: int, tmp_path: Path) -> None:
    """The show meets its own expectations from any folder, in plain lines that fit the terminal."""
    done = run_python(str(CMS / "main.py"), cwd=tmp_path, width=width)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "…" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= width
    shown = set(done.stdout.split())
    assert {*fb.Limit, "functions.mail.send", "completed", "trapped", "crash", "failed", "bad_output"} <= shown


def test_show_says_what_is_wrong() -> None:
    """A fuse that doesn't trip is named, and the exit code is 1."""
    sabotage = "import sys, app; app.SLOW_SECONDS = 0; import main; sys.exit(main.Show().run())"
    done = run_python("-c", sabotage, cwd=CMS)

    assert done.returncode == 1, done.stderr
    assert "✗ not met: attack.wait-in-host-call ends by timeout" in done.stdout


@pytest.mark.parametrize(("place", "cwd"), [("examples.cms.app:make_host", ROOT), ("app:make_host", CMS)])
def test_command_line_finds_the_application(place: str, cwd: Path) -> None:
    """`fuseboard run` takes the application's host, from the repository's root and from its own folder."""
    arguments = ("--host", place, "--hook", "post.title", "--value", '"hello world"', "--json")
    done = run_python("-m", "fuseboard", "run", str(PLUGINS / "title-case"), *arguments, cwd=cwd)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["value_after"] == "Hello World"


# ── title-case ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def titles() -> Iterator[fb.Host]:
    """A host with title-case as its manifest has it."""
    with fb.Host(hooks=[TITLE]) as host:
        host.load(PLUGINS / "title-case")
        yield host


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("a tale of two cities", "A Tale of Two Cities"),
        ("The Lord Of The Rings", "The Lord of the Rings"),
        ("what NASA said", "What NASA Said"),
        ('(of mice) and "men"', '(Of Mice) and "Men"'),
        ("élan vital, über alles", "élan Vital, über Alles"),
        ("日本 and 🎉 party", "日本 and 🎉 Party"),
        ("tab\tand\nbreak", "Tab\tand\nBreak"),
        ('back\\slash / "quote"', 'Back\\slash / "Quote"'),
        ("nul \x00 and \x1f", "Nul \x00 and \x1f"),
        ("  two  spaces  ", "  Two  Spaces  "),
        ("3 little pigs", "3 Little Pigs"),
        ("--- !!! ---", "--- !!! ---"),
        ("", ""),
    ],
)  # fmt: skip
def test_title_case(titles: fb.Host, title: str, expected: str) -> None:
    """Words get their capitals, small words but the first stay lower, and all else stays as it is."""
    assert titles.apply_filter(TITLE, title) == expected


@pytest.mark.parametrize("style", ["all", "", None, 7])
def test_title_case_without_ap_style(style: object) -> None:
    """With any other style the small words get their capital too."""
    with fb.Host(hooks=[TITLE]) as host:
        host.load(PLUGINS / "title-case", settings={"style": style})
        assert host.apply_filter(TITLE, "a tale of two") == "A Tale Of Two"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (rb'"\u0061 \u00e9 \ud83c\udf89 b"', "A é 🎉 B"),
        (rb'"\/ \b\f \" \\"', '/ \b\f " \\'),
    ],
)
def test_title_case_reads_escapes(value: bytes, expected: str) -> None:
    """Each way of JSON to write a character is read, surrogate pairs too."""
    raw = fb.Filter("post.title", bytes)  # so that the test says how the value is written
    with fb.Host(hooks=[raw]) as host:
        host.load(PLUGINS / "title-case")
        assert json.loads(host.apply_filter(raw, value)) == expected


@pytest.mark.parametrize("value", [rb'"half \ud83c pair"', rb'"half \udf89 pair"', b'"\xff"', b'"open'])
def test_title_case_refuses_what_is_no_text(value: bytes) -> None:
    """Half a surrogate pair, bytes that aren't UTF-8 and broken JSON fail; nothing is patched."""
    raw = fb.Filter("post.title", bytes)
    with fb.Host(hooks=[raw]) as host:
        host.load(PLUGINS / "title-case")
        outcome = host.invoke("title-case", raw, value)
        assert isinstance(outcome, fb.Trapped)
        assert outcome.trap.detail == "the value isn't JSON, or is nested deeper than 128"


def test_title_case_handles_long_titles(titles: fb.Host) -> None:
    """A title of a few thousand characters is within its fuel."""
    assert titles.apply_filter(TITLE, "word " * 1_000) == "Word " * 1_000


@settings(deadline=None)
@given(st.text())
def test_title_case_changes_only_case(titles: fb.Host, title: str) -> None:
    """Whatever the title, only the case of ASCII letters changes."""
    assert titles.apply_filter(TITLE, title).lower() == title.lower()


# ── html-sanitiser ───────────────────────────────────────────────────────────────────────────────

ALLOWED = {"p", "b", "i", "em", "strong", "a", "ul", "ol", "li", "code", "br"}
MARKUP = re.compile(r'</?(?:p|b|i|em|strong|a|ul|ol|li|code|br)>|<a href="https?://[^"<>]*">', re.IGNORECASE)

XSS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script>alert(1)",
    "<script\n>alert(1)</script\t\n bar>",
    "<script/src=//evil.example/x.js></script>",
    "<script>if (1 </script><img src=x onerror=alert(1)>",
    "<script><!--<script></script>--><img src=x onerror=alert(1)></script>",
    "<<script>alert(1)//<</script>",
    "<img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)//",
    '<img """><script>alert(1)</script>">',
    "<b onclick=alert(1)>b</b>",
    "<b/onclick=alert(1)>b</b>",
    "<b\x0bonclick=alert(1)>b</b>",
    "<b\x00onclick=alert(1)>b</b>",
    '<b "onclick=alert(1)>b</b>',
    "<b =onclick=alert(1)>b</b>",
    "<b x='><img src=x onerror=alert(1)>'>b</b>",
    '<a href="javascript:alert(1)">a</a>',
    '<a href="JaVaScRiPt:alert(1)">a</a>',
    '<a href=" \x01javascript:alert(1)">a</a>',
    '<a href="java\tscript:alert(1)">a</a>',
    '<a href="java\nscript:alert(1)">a</a>',
    '<a href="java&#09;script:alert(1)">a</a>',
    '<a href="&#106;avascript:alert(1)">a</a>',
    '<a href="&#x6A&#x61vascript:alert(1)">a</a>',
    '<a href="javascript&colon;alert(1)">a</a>',
    "<a href=javascript:alert(1)>a</a>",
    "<a href='vbscript:msgbox(1)'>a</a>",
    '<a href="data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==">a</a>',
    '<a href="//evil.example">a</a>',
    '<a href="https://x" href="javascript:alert(1)">a</a>',
    '<a href="javascript:alert(1)" href="https://x">a</a>',
    '<a href="https://x&quot; onclick=&quot;alert(1)">a</a>',
    "<a href='https://x\" onclick=\"alert(1)'>a</a>",
    '<a href="https://x"onclick="alert(1)">a</a>',
    "<a href=https://x/`onclick=alert(1)>a</a>",
    "<a xlink:href=javascript:alert(1)>a</a>",
    '<svg onload=alert(1)><a href="javascript:alert(1)"><circle r=400></a></svg>',
    "<svg><script>alert(1)</script></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src=x onerror=alert(1)>'>",
    "<style>@import 'javascript:alert(1)';</style>",
    '<p style="background:url(javascript:alert(1))">p</p>',
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=javascript:alert(1)><embed src=javascript:alert(1)>",
    "<form action=javascript:alert(1)><button formaction=javascript:alert(1)>go</button></form>",
    '<meta http-equiv="refresh" content="0;url=javascript:alert(1)"><base href="javascript:/">',
    "<textarea><script>alert(1)</script></textarea><title><script>alert(1)</script>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<plaintext><xmp><script>alert(1)</script></xmp>",
    "<!--><script>alert(1)</script>-->",
    "<!---><img src=x onerror=alert(1)>-->",
    "<!-- --!><img src=x onerror=alert(1)> -->",
    "<!-- unfinished <img src=x onerror=alert(1)>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<!DOCTYPE x [<!ENTITY y '<script>'>]><?php <script>alert(1)</script> ?>",
    "</><//><img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<\x00script>alert(1)</script>",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "< script>alert(1)</ script>",
    "<b><i></b></i></p></div></body>",
    "\u00bcscript\u00bealert(1)\u00bc/script\u00be",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "<\u0131mg src=x onerror=alert(1)><\u017fcript>alert(1)</\u017fcript>",
    "<b>" * 100 + "<script>alert(1)</script>",
]
FRAGMENTS = [
    "<", ">", "</", "/>", "<!--", "-->", "<![CDATA[", "]]>", "<script", "</script>", "<style>", "</style", "<a href=",
    "<a ", "<b>", "</b>", "<p", "<li>", "<br/>", "<svg", "<img src=x onerror=", '"', "'", "=", " ", "\t", "\n", "\x00",
    "javascript:", "https://x", "&lt;", "&#60;", "&quot;", "onclick=", "`", "/", "!", "?", "x",
]  # fmt: skip


class Found(HTMLParser):
    """What a parser finds in a comment: everything but text must be harmless."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.dangers: list[object] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what isn't harmless."""
        self.dangers += [tag] * (tag not in ALLOWED)
        self.dangers += [each for each in attrs if (tag, each[0]) != ("a", "href") or not is_web(each[1])]
        self.open += [tag] * (tag != "br")

    def handle_endtag(self, tag: str) -> None:
        """Hold that tags are closed in order."""
        if not self.open or self.open.pop() != tag:
            self.dangers.append(f"</{tag}>")

    def handle_comment(self, data: str) -> None:
        """Refuse comments, in which browsers and parsers differ most."""
        self.dangers.append(data)

    def handle_decl(self, decl: str) -> None:
        """Refuse doctypes."""
        self.dangers.append(decl)

    def handle_pi(self, data: str) -> None:
        """Refuse processing instructions."""
        self.dangers.append(data)

    def unknown_decl(self, data: str) -> None:
        """Refuse CDATA sections."""
        self.dangers.append(data)


def is_web(address: str | None) -> bool:
    """Return whether an address is one of the web."""
    return address is not None and address.lower().startswith(("http://", "https://"))


def check_harmless(html: str) -> None:
    """Assert that a parser finds nothing but harmless tags, all closed, and no `<` beside them."""
    found = Found(html)
    assert found.dangers == []
    assert found.open == []
    assert "<" not in MARKUP.sub("", html)


@pytest.fixture(scope="module")
def comments() -> Iterator[fb.Host]:
    """A host with the sanitiser."""
    with fb.Host(hooks=[COMMENT]) as host:
        host.load(PLUGINS / "html-sanitiser")
        yield host


@pytest.mark.parametrize("comment", XSS)
def test_sanitiser_lets_nothing_dangerous_out(comments: fb.Host, comment: str) -> None:
    """Of what is known to run scripts in some browser, no tag or attribute is left that could."""
    check_harmless(comments.apply_filter(COMMENT, comment))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=40).map("".join))
def test_sanitiser_lets_nothing_dangerous_out_of_anything(comments: fb.Host, comment: str) -> None:
    """However the pieces of markup are put together, what comes out is harmless, and stays as it is a second time."""
    clean = comments.apply_filter(COMMENT, comment)
    check_harmless(clean)
    assert comments.apply_filter(COMMENT, clean) == clean


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("plain & simple: 1 < 2 > 0", "plain & simple: 1 &lt; 2 > 0"),
        ("<B>bold</B> <EM >em</EM\n>", "<b>bold</b> <em>em</em>"),
        ("<p>one<p>two", "<p>one</p><p>two</p>"),
        ("<ul><li>a<li>b</ul>", "<ul><li>a</li><li>b</li></ul>"),
        ("<b><i>x</b>y</i>", "<b><i>x</i></b>y"),
        ("line<br>line<br/>", "line<br>line<br>"),
        ("<a href=' HTTPS://x/?a=1&amp;b=2 '>x</a>", '<a href="HTTPS://x/?a=1&amp;b=2">x</a>'),
        ("<a href='https://x/\"><'>x</a>", '<a href="https://x/&quot;&gt;&lt;">x</a>'),
        ("<a href='javascript:x'>x</a>", "<a>x</a>"),
        ("<div><h1>kept text</h1></div>", "kept text"),
        ("a<script>gone</script>b<style>gone</style>c<!-- gone -->d", "abcd"),
        ("&lt;script&gt; stays text", "&lt;script&gt; stays text"),
        ('Ünï©ode 🎉 \\ " \n', 'Ünï©ode 🎉 \\ " \n'),
        ("", ""),
    ],
)  # fmt: skip
def test_sanitiser_keeps_what_is_harmless(comments: fb.Host, comment: str, expected: str) -> None:
    """Text and the allowed tags come out, written one way and closed."""
    assert comments.apply_filter(COMMENT, comment) == expected


def test_sanitiser_fails_closed_on_too_much(comments: fb.Host) -> None:
    """A comment that is beyond its fuel isn't let through."""
    with pytest.raises(fb.HookFailed) as caught:
        comments.apply_filter(COMMENT, "<b>" * 100_000)

    assert isinstance(caught.value.outcome, fb.Trapped)
    assert caught.value.outcome.trap.limit == fb.Limit.FUEL


# ── publish-notes ────────────────────────────────────────────────────────────────────────────────


class Newsroom:
    """A host with publish-notes, whose services can fail."""

    def __init__(self, failing: str) -> None:
        self.http = MemoryHttp(refuse if failing == "http" else accept)
        self.db = MemoryDb()
        self.kv = MemoryKv({"publish-notes": {b"published": b"many"}} if failing == "kv" else {})
        self.mails: list[tuple[str, str]] = []

        @fb.host_function("mail.send", per_invocation=2)
        def send_mail(to: str, subject: str) -> None:
            if failing == "mail":
                raise ConnectionError("no mail server")
            self.mails.append((to, subject))

        backends = fb.Backends(http=self.http, db=self.db, kv=self.kv)
        self.host = fb.Host(hooks=[PUBLISHED], functions=[send_mail], backends=backends)
        self.host.load(PLUGINS / "publish-notes", grants="as-requested")
        if failing == "db":
            self.db.rows("publish-notes", "ALTER TABLE notes RENAME TO lost")

    def publish(self, post: dict[str, Any]) -> fb.Outcome:
        """Return what becomes of publishing a post."""
        with self.host:
            return self.host.invoke("publish-notes", PUBLISHED, post)

    def traces(self) -> tuple[object, ...]:
        """Return what is left in each of the services."""
        (table,) = self.db.rows("publish-notes", "SELECT name FROM sqlite_master")[0]
        notes = self.db.rows("publish-notes", f"SELECT * FROM {table}")
        return self.kv.items("publish-notes"), notes, self.mails, [str(request.url) for request in self.http.requests]


def accept(_: HttpRequest) -> HttpResponse:
    """Answer a webhook."""
    return HttpResponse(204)


def refuse(_: HttpRequest) -> HttpResponse:
    """Fail a webhook."""
    raise fb.BackendError("the webhook's server is down")


POST = {"id": 7, "title": 'A "quoted" title é 🎉', "body": "..."}
COUNTED, NOTED = {b"published": b"1"}, [(7, POST["title"])]
MAILED = [("editor@example.com", f"Published: {POST['title']}")]
CALLED = ["https://hooks.example.com/published"]


@pytest.fixture
def newsroom() -> Iterator[Callable[[str], Newsroom]]:
    """What makes a newsroom with one failing service, or with none, and closes its database."""
    rooms: list[Newsroom] = []

    def made(failing: str) -> Newsroom:
        rooms.append(Newsroom(failing))
        return rooms[-1]

    yield made
    for room in rooms:
        room.db.close()


def test_publish_notes_does_all_of_it(newsroom: Callable[[str], Newsroom]) -> None:
    """A published post is counted, noted, mailed and sent to the webhook as it is."""
    room = newsroom("")

    assert isinstance(room.publish(POST), fb.Completed)
    assert room.traces() == (COUNTED, NOTED, MAILED, CALLED)
    (request,) = room.http.requests
    assert request.method == "POST"
    assert json.loads(request.body) == POST


@pytest.mark.parametrize(
    ("failing", "call", "left"),
    [
        ("http", "POST https://hooks.example.com/published", (COUNTED, NOTED, MAILED, CALLED)),
        ("mail", "call mail.send", (COUNTED, NOTED, [], CALLED)),
        ("kv", "KV increment published", ({b"published": b"many"}, NOTED, MAILED, CALLED)),
        ("db", "exec INSERT INTO notes", (COUNTED, [], MAILED, CALLED)),
    ],
)
def test_publish_notes_goes_on(
    newsroom: Callable[[str], Newsroom],
    caplog: pytest.LogCaptureFixture,
    failing: str,
    call: str,
    left: tuple[object, ...],
) -> None:
    """Where a service fails, the plugin warns and does all the rest."""
    room = newsroom(failing)
    with caplog.at_level(logging.INFO, "fuseboard"):
        outcome = room.publish(POST)

    assert isinstance(outcome, fb.Completed), outcome
    assert room.traces() == left
    said = [record for record in caplog.records if record.name == "fuseboard.plugin.publish-notes"]
    assert re.match(re.escape(call) + r".*: (backend_failed|bad_request|conflict): ", said[0].getMessage())
    assert {record.levelno for record in said[:-1]} == {logging.WARNING}
    assert said[-1].getMessage().startswith("post 7 published")


@pytest.mark.parametrize(
    ("post", "said"),
    [
        ({}, "title: missing"),
        ({"id": 7}, "title: missing"),
        ({"title": "x"}, "id: missing"),
        ({"id": 7, "title": 8}, "title: not a string"),
    ],
)
def test_publish_notes_fails_without_its_fields(
    newsroom: Callable[[str], Newsroom], post: dict[str, Any], said: str
) -> None:
    """A post without id or title fails by the plugin's own word, and leaves nothing."""
    room = newsroom("")
    outcome = room.publish(post)

    assert isinstance(outcome, fb.Trapped)
    assert (outcome.trap.cause, outcome.trap.detail) == (fb.Cause.FAILED, said)
    assert room.traces() == ({}, [], [], [])
