"""Strict URLs and origin patterns: what is accepted has one reading, what could have two is refused."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseboard._urls import MAX_URL_LENGTH, Origin, OriginPattern, Url, parse_url

NORMAL_FORMS = [
    ("http://example.com", "http://example.com/"),
    ("HTTPS://API.Example.COM/Path", "https://api.example.com/Path"),
    ("https://example.com:443/", "https://example.com/"),
    ("http://example.com:80", "http://example.com/"),
    ("https://example.com:80/", "https://example.com:80/"),
    ("http://example.com:65535/", "http://example.com:65535/"),
    ("https://example.com/a#fragment", "https://example.com/a"),
    ("https://example.com#a/b?c#d", "https://example.com/"),
    ("https://example.com?q=1", "https://example.com/?q=1"),
    ("https://example.com/?", "https://example.com/?"),
    ("https://example.com/a?b?c=/d", "https://example.com/a?b?c=/d"),
    ("https://example.com/%7Ea/%2f", "https://example.com/%7Ea/%2f"),
    ("https://example.com/a/../b;c=(1)!", "https://example.com/a/../b;c=(1)!"),
    ("https://example.com//evil.com/", "https://example.com//evil.com/"),
    ("https://example.com/@evil.com:80", "https://example.com/@evil.com:80"),
    ("http://localhost:8080", "http://localhost:8080/"),
    ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"),
    ("http://1password.com/", "http://1password.com/"),
    ("http://0x7f.example/", "http://0x7f.example/"),
    ("http://127.0.0.1/", "http://127.0.0.1/"),
    ("http://[::1]:8080/", "http://[::1]:8080/"),
    ("http://[2001:DB8:0:0:0:0:0:1]/", "http://[2001:db8::1]/"),
]

REFUSED = [
    ("", "begin with http"),
    ("example.com/a", "begin with http"),
    ("//example.com/", "begin with http"),
    ("http:/example.com", "begin with http"),
    ("http:example.com", "begin with http"),
    ("ftp://example.com/", "must be http or https"),
    ("file:///etc/passwd", "must be http or https"),
    ("http://", "isn't a host name"),
    ("http:///path", "isn't a host name"),
    ("http://:80/", "isn't a host name"),
    (" http://example.com/", "isn't allowed"),
    ("http://example.com/ ", "isn't allowed"),
    ("http://example.com/\n", "isn't allowed"),
    ("ht\ttp://example.com/", "isn't allowed"),
    ("http://example.com/\x00", "isn't allowed"),
    ("http://example.com/\x7f", "isn't allowed"),
    ("http://example.com\\@evil.com/", "isn't allowed"),
    ("http://example.com/a#b c", "isn't allowed"),
    ("http://b\u00fccher.example/", "punycode"),
    ("http://example\u3002com/", "punycode"),
    ("http://example.com/\u2028", "punycode"),
    ("http://user@example.com/", "user name"),
    ("http://user:pw@example.com/", "user name"),
    ("http://@example.com/", "user name"),
    ("http://example.com./", "no dot at the end"),
    ("http://.example.com/", "isn't a host name"),
    ("http://a..b/", "isn't a host name"),
    ("http://-a.example/", "isn't a host name"),
    ("http://a-.example/", "isn't a host name"),
    ("http://a_b.example/", "isn't a host name"),
    ("http://a%2eexample.com/", "isn't a host name"),
    ("http://*.example.com/", "isn't a host name"),
    (f"http://{'a' * 64}.example/", "1 to 63"),
    (f"http://{'a.' * 126}aa/", "at most 253"),
    ("http://0x7f.1/", "four decimal numbers"),
    ("http://2130706433/", "four decimal numbers"),
    ("http://0x7f000001/", "four decimal numbers"),
    ("http://127.1/", "four decimal numbers"),
    ("http://0177.0.0.1/", "four decimal numbers"),
    ("http://127.0.0.01/", "four decimal numbers"),
    ("http://127.0.0.0x1/", "four decimal numbers"),
    ("http://127.0.0.0x/", "four decimal numbers"),
    ("http://256.0.0.1/", "four decimal numbers"),
    ("http://1.2.3.4.5/", "four decimal numbers"),
    ("http://example.123/", "four decimal numbers"),
    ("http://[::1/", "IPv6 address stands in brackets"),
    ("http://::1/", "IPv6 address stands in brackets"),
    ("http://[::1]80/", "IPv6 address stands in brackets"),
    ("http://a[::1]/", "IPv6 address stands in brackets"),
    ("http://[]/", "isn't an IPv6 address"),
    ("http://[127.0.0.1]/", "isn't an IPv6 address"),
    ("http://[::1%25eth0]/", "zone"),
    ("http://[fe80::1%eth0]/", "zone"),
    ("http://[v1.a]/", "isn't an IPv6 address"),
    ("http://example.com:/", "the port"),
    ("http://example.com:0/", "the port"),
    ("http://example.com:080/", "the port"),
    ("http://example.com:65536/", "the port"),
    ("http://example.com:+80/", "the port"),
    ("http://example.com:80:90/", "a host with an optional port"),
    ("http://example.com:http/", "the port"),
    ("http://example.com/%", "percent-encoding"),
    ("http://example.com/%2", "percent-encoding"),
    ("http://example.com/%zz", "percent-encoding"),
    ("http://example.com/?a[0]=1", "write it as %5B"),
    ('http://example.com/"', "write it as %22"),
    ("http://example.com/<", "write it as %3C"),
    (f"http://example.com/{'a' * MAX_URL_LENGTH}", "at most 8192"),
]

BASE = "http://a/b/c/d;p?q"

# RFC 3986, section 5.4, without the references to other schemes; fragments are dropped.
REFERENCES = [
    ("g", "http://a/b/c/g"),
    ("./g", "http://a/b/c/g"),
    ("g/", "http://a/b/c/g/"),
    ("/g", "http://a/g"),
    ("//g", "http://g/"),
    ("?y", "http://a/b/c/d;p?y"),
    ("g?y", "http://a/b/c/g?y"),
    ("#s", "http://a/b/c/d;p?q"),
    ("g?y#s", "http://a/b/c/g?y"),
    (";x", "http://a/b/c/;x"),
    ("g;x?y#s", "http://a/b/c/g;x?y"),
    ("", "http://a/b/c/d;p?q"),
    (".", "http://a/b/c/"),
    ("..", "http://a/b/"),
    ("../g", "http://a/b/g"),
    ("../../../../g", "http://a/g"),
    ("/../g", "http://a/g"),
    ("g/../h", "http://a/b/c/h"),
    ("https://B:8443/x", "https://b:8443/x"),
    ("//B:8443", "http://b:8443/"),
]

ALPHABET = st.sampled_from("abzABZ019.-_:/?#[]@!$&'()*+,;=%\\ \t\n\x00\u00e9\u3002xXfF")
URL_LIKE = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["http", "https", "HTTP", "ftp", ""]),
    st.one_of(
        st.sampled_from(["example.com", "127.0.0.1", "[::1]", "a.b:8080", "u@h", "0x7f.1"]),
        st.text(ALPHABET, max_size=12),
    ),
    st.text(ALPHABET, max_size=20),
)
LABELS = st.lists(st.from_regex(r"[a-z]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True), min_size=2, max_size=4)
HOSTS = st.one_of(LABELS.map(".".join), st.sampled_from(["a.b", "x.a.b", "y.x.a.b", "1.2.3.4", "[::1]"]))
PLACES = st.sampled_from([("http", ""), ("https", ""), ("https", ":8443"), ("http", ":443")])
ORIGINS = st.builds(lambda place, host: f"{place[0]}://{host}{place[1]}", PLACES, HOSTS)
WILDCARDS = st.builds(
    lambda place, host: f"{place[0]}://*.{host}{place[1]}",
    PLACES,
    st.one_of(LABELS.map(".".join), st.sampled_from(["a.b", "x.a.b", "y.x.a.b"])),
)
PATTERNS = st.one_of(ORIGINS, WILDCARDS).map(OriginPattern.parse)


@pytest.mark.parametrize(("text", "normal"), NORMAL_FORMS)
def test_an_accepted_url_is_rewritten(text: str, normal: str) -> None:
    """Every accepted URL has one normal form: lower-case origin, no default port, no fragment, `/` for no path."""
    assert str(parse_url(text)) == normal


@pytest.mark.parametrize(("text", "fragment"), REFUSED)
def test_a_doubtful_url_is_refused(text: str, fragment: str) -> None:
    """What two parsers could read differently is refused with a sentence that names the reason."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse_url(text)
    assert fragment in str(caught.value)


def test_a_url_has_origin_and_target() -> None:
    """A URL's parts are the origin to connect to, with its port, and the target on the wire."""
    assert parse_url("https://[::1]/a?b") == Url(Origin("https", "::1", 443), "/a?b")


def test_the_longest_url_is_accepted_and_stays_accepted() -> None:
    """A URL of exactly 8 KiB is accepted; one whose normal form would be longer is refused."""
    head = "http://example.com/"
    longest = head + "a" * (MAX_URL_LENGTH - len(head))
    assert str(parse_url(longest)) == longest
    with pytest.raises(ValueError, match="at most 8192"):
        parse_url(longest.replace("com/a", "com?a"))


@given(st.one_of(URL_LIKE, st.text()))
def test_the_normal_form_is_stable_and_read_alike(text: str) -> None:
    """A normal form parses to itself, and the standard library reads the same origin from it."""
    try:
        url = parse_url(text)
    except ValueError:
        return
    assert parse_url(str(url)) == url
    split = urlsplit(str(url))
    port = split.port or {"http": 80, "https": 443}[split.scheme]
    assert Origin(split.scheme, split.hostname or "", port) == url.origin


@pytest.mark.parametrize(("location", "target"), REFERENCES)
def test_a_redirect_is_resolved(location: str, target: str) -> None:
    """A `Location` leads where RFC 3986 says."""
    assert str(parse_url(BASE).join(location)) == target


@pytest.mark.parametrize(
    "location",
    ["http:g", "mailto:x", "javascript:1", "///evil.com/x", "//u@evil.com", "\\\\evil.com", "ht\ttp://evil.com", "a b"],
)
def test_a_doubtful_redirect_is_refused(location: str) -> None:
    """A `Location` that clients could read differently is refused."""
    with pytest.raises(ValueError, match=r"."):
        parse_url(BASE).join(location)


@pytest.mark.parametrize(
    "location", ["/..//evil.com/x", "..//..//evil.com", ".//evil.com", "?//evil.com", "/%2f/evil.com"]
)
def test_slashes_within_a_path_make_no_origin(location: str) -> None:
    """A path that becomes `//...` when its dots are resolved stays a path of the same origin."""
    assert parse_url(BASE).join(location).origin == parse_url(BASE).origin


@given(st.text(ALPHABET, max_size=20))
def test_a_relative_redirect_keeps_the_origin(location: str) -> None:
    """Only a location with a scheme or a leading `//` leads to another origin."""
    base = parse_url("https://example.com/x/y?z")
    try:
        url = base.join(location)
    except ValueError:
        return
    assert url.origin == base.origin or location.startswith("//") or "://" in location


@pytest.mark.parametrize(
    ("pattern", "origin", "is_match"),
    [
        ("https://api.example.com", "https://api.example.com", True),
        ("https://api.example.com/", "https://api.example.com:443", True),
        ("HTTPS://API.EXAMPLE.COM:443", "https://api.example.com", True),
        ("https://api.example.com", "http://api.example.com", False),
        ("https://api.example.com", "https://api.example.com:8443", False),
        ("https://api.example.com", "https://x.api.example.com", False),
        ("https://*.example.org", "https://a.example.org", True),
        ("https://*.example.org", "https://a.b.example.org", True),
        ("https://*.example.org", "https://example.org", False),
        ("https://*.example.org", "https://badexample.org", False),
        ("https://*.example.org", "https://a.example.org.evil.com", False),
        ("https://*.example.org:8443", "https://a.example.org:8443", True),
        ("https://*.example.org:8443", "https://a.example.org", False),
        ("http://[::1]:8080", "http://[0:0::1]:8080", True),
    ],
)
def test_a_pattern_matches_by_origin(pattern: str, origin: str, *, is_match: bool) -> None:
    """A pattern matches scheme, host and port; a wildcard one or more labels, never the bare domain."""
    assert OriginPattern.parse(pattern).matches(parse_url(origin).origin) is is_match


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "begin with http"),
        ("*", "begin with http"),
        ("api.example.com", "begin with http"),
        ("*.example.com", "begin with http"),
        ("ftp://example.com", "must be http or https"),
        ("https://*", "whole labels"),
        ("https://*/", "whole labels"),
        ("*://example.com", "whole labels"),
        ("https://a*.example.com", "whole labels"),
        ("https://a.*.example.com", "whole labels"),
        ("https://*.*.example.com", "whole labels"),
        ("https://example.com:*", "whole labels"),
        ("https://*.com", "at least two labels"),
        ("https://*.", "isn't a host name"),
        ("https://*.1.2.3.4", "before an IP address"),
        ("https://*.[::1]", "before an IP address"),
        (f"https://*.{'a.' * 125}ab", "can match"),
        ("https://example.com/v1", "write 'https://example.com'"),
        ("https://*.example.com:8443/v1", "write 'https://*.example.com:8443'"),
        ("https://example.com?q", "without a path"),
        ("https://example.com/?", "without a path"),
        ("https://example.com/#", "without a path"),
        ("https://user@example.com", "user name"),
        ("https://b\u00fccher.example", "punycode"),
    ],
)
def test_a_bad_pattern_is_refused(text: str, fragment: str) -> None:
    """A pattern that isn't a plain origin, or allows more than hosts below a domain, is refused with advice."""
    with pytest.raises(ValueError, match=r".") as caught:
        OriginPattern.parse(text)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("wide", "narrow", "is_covered"),
    [
        ("https://a.example.org", "https://a.example.org:443", True),
        ("https://*.example.org", "https://a.example.org", True),
        ("https://*.example.org", "https://*.example.org", True),
        ("https://*.example.org", "https://*.a.example.org", True),
        ("https://*.example.org", "https://example.org", False),
        ("https://*.a.example.org", "https://*.example.org", False),
        ("https://a.example.org", "https://*.a.example.org", False),
        ("https://*.example.org", "http://*.example.org", False),
        ("https://*.example.org", "https://*.example.org:8443", False),
    ],
)
def test_a_pattern_covers_another(wide: str, narrow: str, *, is_covered: bool) -> None:
    """A pattern covers another exactly when all that the other matches is matched by it."""
    assert OriginPattern.parse(wide).covers(OriginPattern.parse(narrow)) is is_covered


@given(PATTERNS, PATTERNS, ORIGINS)
def test_covering_is_sound(wide: OriginPattern, narrow: OriginPattern, text: str) -> None:
    """An origin that a covered pattern matches is matched by the covering one."""
    origin = parse_url(text).origin
    if wide.covers(narrow) and narrow.matches(origin):
        assert wide.matches(origin)


@given(PATTERNS, PATTERNS)
def test_covering_is_complete(wide: OriginPattern, narrow: OriginPattern) -> None:
    """A pattern that isn't covered matches an origin that the other doesn't: the shortest one shows it."""
    place = narrow.origin
    witness = Origin(place.scheme, f"q7z.{place.host}", place.port) if narrow.is_wildcard else place
    assert narrow.matches(witness)
    assert wide.covers(narrow) is (wide.matches(witness) and (wide.is_wildcard or not narrow.is_wildcard))


@given(PATTERNS)
def test_a_pattern_reads_its_own_text(pattern: OriginPattern) -> None:
    """A pattern's text parses to the same pattern, and the pattern covers itself."""
    assert OriginPattern.parse(str(pattern)) == pattern
    assert pattern.covers(pattern)
