"""What lies inside isn't reached: each address and network, and `WAYS`, the table of ways to get there all the same.

Rules:
* Nothing here connects to anything but loopback: two servers stand for what is outside and inside, and a network of
  ours leads there from every address.
* Each way is shown to lead inside where the guard that refuses it is off: a row that can't fail is no test.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from itertools import count
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetching import FORMS, Answers, Fetched, Net, Scene
from fuseboard._grants import Grants
from fuseboard._urls import parse_url
from fuseboard.backends import AnswerCode, _addresses
from fuseboard.backends._addresses import NETWORKS, refusal
from web import Web

PUBLIC: Final = "93.184.215.14"
PUBLIC_6: Final = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
DOWN: Final = [f"93.184.215.{number}" for number in range(100, 120)]
"""Public addresses where nobody answers."""

OUTSIDE: Final = "http://outside.example"

# ── the table of networks ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("network", NETWORKS, ids=lambda each: str(each.network))
def test_a_networks_ends_are_refused(network: _addresses.Network) -> None:
    """Its first and its last address are refused, for its reason or that of a smaller network within."""
    for address in (network.network[0], network.network[-1]):
        reason = refusal(str(address))
        within = [each.reason for each in NETWORKS if address in each.network]
        assert reason == within[0]
    assert network.reason in {refusal(str(each)) for each in (network.network[0], network.network[-1])} | {
        refusal(str(network.network[network.network.num_addresses // 2]))
    }


def test_what_is_private_is_reached_where_it_is_opened() -> None:
    """The operator's word opens loopback and private networks, and no metadata, multicast or other one."""
    for network in NETWORKS:
        for address in (network.network[0], network.network[-1]):
            first = next(each for each in NETWORKS if address in each.network)
            assert (refusal(str(address), is_opened=True) is None) == first.is_private
            assert address.version == 4 or refusal(f"{address}%1", is_opened=True) == first.reason
    opened = {str(network.network) for network in NETWORKS if network.is_private}
    assert opened == {
        "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "::1/128",
        "2001:2::/48", "fc00::/7",
    }  # fmt: skip


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "169.254.170.2", "169.254.42.42", "100.100.100.200", "168.63.129.16", "192.0.0.192",
     "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fd00:a9fe:a9fe::1",
     "fd00:100::100:200", "fe80::a9fe:a9fe"],
)  # fmt: skip
def test_metadata_stays_closed(address: str) -> None:
    """What clouds document as the addresses of their metadata services is reached by no word of the operator."""
    assert refusal(address, is_opened=True) is not None


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", PUBLIC, "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "198.17.255.255",
     "198.20.0.0", "223.255.255.255", "192.0.1.0", "169.253.255.255", "169.255.0.0", "126.255.255.255", "128.0.0.0",
     PUBLIC_6, "2001:200::1", "2001:4860:4860::8888", "2003::1", "2a00::1", "2001:db7:ffff::1", "2001:db9::1"],
)  # fmt: skip
def test_public_addresses_are_reached(address: str) -> None:
    """What is outside stays so, right up to the edges of what isn't."""
    assert refusal(address) is None


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "1.2.3.4%5", "1.2.3.4:80", "a"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """A resolver's answer that can't be read leads nowhere."""
    assert refusal(text, is_opened=True) == "unreadable"


@given(st.ip_addresses(v=6))
def test_only_global_unicast_is_outside(address: IPv6Address) -> None:
    """No IPv6 address outside 2000::/3 is reached, and none with a zone."""
    if address not in ip_network("2000::/3"):
        assert refusal(str(address)) is not None
    assert refusal(f"{address}%1", is_opened=True) is not None


@given(st.ip_addresses())
def test_what_pythons_own_table_calls_special_is_refused(address: Any) -> None:
    """Nothing is reached that `ipaddress` knows to be private, reserved, multicast or the like."""
    special = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    if special or address.is_reserved or address.is_unspecified:
        assert refusal(str(address)) is not None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_ipv6_form_is_refused(address: Any) -> None:
    """Whatever it stands for: mapped, compatible, translated, NAT64, 6to4, Teredo."""
    number = int(address)
    forms = [
        f"::ffff:{address}", f"::{address}", f"::ffff:0:{address}", f"64:ff9b::{address}", f"64:ff9b:1::{address}",
        str(IPv6Address((0x2002 << 112) | (number << 80))),
        str(IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF))),
    ]  # fmt: skip
    assert all(refusal(form, is_opened=True) for form in forms if ip_address(form) != ip_address("::1"))


# ── the ways ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Way:
    """A way to reach what lies inside.

    Attributes:
        url: what the plugin asks for.
        names: what the resolver answers.
        grants: what the plugin is granted, beside the URL's own origin.
        code: how it is refused.
        first: what the plugin asks for before, which is served.
    """

    url: str
    names: dict[str, list[Any]] = field(default_factory=dict)
    grants: tuple[str, ...] = ()
    code: int = AnswerCode.DENIED
    first: tuple[str, ...] = ()


def literal(address: str, port: int = 80) -> Way:
    host = f"[{address}]" if ":" in address else address
    return Way(f"http://{host}:{port}/latest/meta-data/")


def named(*addresses: str, host: str = "attacker.example") -> Way:
    return Way(f"http://{host}/", {host: [[*addresses]]})


def redirected(url: str, *grants: str, hops: int = 1, status: str = "redirect", **names: list[Any]) -> Way:
    location = url
    for _ in range(hops):
        location = f"{OUTSIDE}/{status}?{location.replace('?', '%3F')}"
    return Way(location, {name.replace("_", "."): answers for name, answers in names.items()}, grants)


WAYS: Final[dict[str, Way]] = {
    # an address in the URL
    "loopback": literal("127.0.0.1"),
    "another loopback": literal("127.8.9.10", 8_000),
    "this host": literal("0.0.0.0"),
    "this network": literal("0.1.2.3"),
    "private, class A": literal("10.0.0.1"),
    "private, class B": literal("172.31.255.254"),
    "private, class C": literal("192.168.1.1"),
    "a carrier's network": literal("100.64.0.1"),
    "metadata": literal("169.254.169.254"),
    "metadata of containers": literal("169.254.170.2"),
    "metadata in a carrier's network": literal("100.100.100.200"),
    "metadata among protocols": literal("192.0.0.192"),
    "a cloud's platform on a public address": literal("168.63.129.16"),
    "benchmarks": literal("198.18.0.1"),
    "documentation": literal("192.0.2.1"),
    "multicast": literal("224.0.0.1"),
    "reserved": literal("240.0.0.1"),
    "broadcast": literal("255.255.255.255"),
    "loopback in IPv6": literal("::1"),
    "unspecified in IPv6": literal("::"),
    "mapped loopback": literal("::ffff:127.0.0.1"),
    "mapped metadata, in hex": literal("::ffff:a9fe:a9fe"),
    "mapped public": literal(f"::ffff:{PUBLIC}"),
    "compatible": literal("::127.0.0.1"),
    "translated": literal("::ffff:0:127.0.0.1"),
    "NAT64": literal("64:ff9b::10.0.0.1"),
    "a local NAT64": literal("64:ff9b:1::10.0.0.1"),
    "6to4": literal("2002:7f00:1::"),
    "Teredo": literal("2001:0:a00:1::5efe"),
    "unique local": literal("fd12:3456:789a::1"),
    "metadata in unique local": literal("fd00:ec2::254"),
    "link-local in IPv6": literal("fe80::1"),
    "site-local": literal("fec0::1"),
    "multicast in IPv6": literal("ff02::1"),
    "discard-only": literal("100::1"),
    "ORCHID": literal("2001:20::1"),
    "documentation in IPv6": literal("2001:db8::1"),
    "space that nobody has": literal("4000::1"),
    # a name that stands for one
    "a name for loopback": named("127.0.0.1"),
    "a name for metadata": named("169.254.169.254"),
    "a name for mapped loopback": named("::ffff:127.0.0.1"),
    "a name for loopback in IPv6": named("::1"),
    "a name for link-local with a zone": named("fe80::1%2"),
    "a name for a public address with a zone": named(f"{PUBLIC_6}%2"),
    "one inner address among public ones": named(DOWN[0], "10.0.0.1"),
    "a public address first, loopback in IPv6 second": named(DOWN[0], "::1"),
    "the last of many": named(*DOWN, "10.0.0.1"),
    "localhost": named("127.0.0.1", host="localhost"),
    "a name below localhost": named("127.0.0.1", host="app.localhost"),
    "a name of the cloud": named("169.254.169.254", host="metadata.google.internal"),
    "a name with an address in it": named("127.0.0.1", host="127.0.0.1.attacker.example"),
    "a name in punycode": named("10.0.0.1", host="xn--bcher-kva.example"),
    "a single label": named("10.0.0.1", host="intranet"),
    "below a granted wildcard": Way("http://a.b.wild.example/", {"a.b.wild.example": ["10.0.0.1"]}, ("http://*.wild.example",)),
    "on another port": Way("http://attacker.example:6379/", {"attacker.example": ["127.0.0.1"]}),
    # a name that changes
    "rebinding once the connection is gone": Way(
        "http://attacker.example/", {"attacker.example": [PUBLIC, "127.0.0.1"]}, first=("http://attacker.example/last",)
    ),
    "rebinding within a redirect": Way(
        "http://attacker.example/redirect-last?http://attacker.example/", {"attacker.example": [PUBLIC, "127.0.0.1"]}
    ),
    # a redirect
    "a redirect to an address, granted": redirected("http://127.0.0.1/", "http://127.0.0.1"),
    "a redirect to metadata, granted": redirected("http://169.254.169.254/", "http://169.254.169.254"),
    "a redirect to a name for loopback": redirected(
        "http://inner.example/", "http://inner.example", inner_example=["127.0.0.1"]
    ),
    "a redirect that keeps the body": redirected(
        "http://inner.example/", "http://inner.example", status="redirect-307", inner_example=["127.0.0.1"]
    ),
    "three redirects": redirected(
        "http://inner.example/", "http://inner.example", hops=3, inner_example=["127.0.0.1"]
    ),
    "a redirect to another port of the same host": redirected("http://outside.example:8080/", "http://outside.example:8080"),
    "a redirect without a scheme": redirected("//inner.example/", "http://inner.example", inner_example=["10.0.0.1"]),
}  # fmt: skip
"""By address, by name, by a name that changes, by redirect. What is spelled oddly stands in `SPELLINGS`."""

WAYS["a redirect to another port of the same host"].names["outside.example"] = [PUBLIC, "10.0.0.1"]


class Ground:
    """A host whose network is ours: public addresses lead to one server, all others to another."""

    def __init__(self, form: str) -> None:
        self.outside, self.inside = Web(), Web()
        self.net = Net(self._port)
        self.resolver = Answers()
        self.scene = Scene(FORMS[form], self.net, resolver=self.resolver)
        self._slugs = map("way-{}".format, count())

    def go(self, way: Way) -> Fetched:
        """Have a new plugin go a way, and return what it got at its end."""
        self.inside.asked.clear()
        self.net.reached.clear()
        self.resolver.names = Answers({"outside.example": [PUBLIC]} | way.names).names
        slug = next(self._slugs)
        origins = {str(parse_url(url).origin) for url in (way.url, *way.first)} | {OUTSIDE, *way.grants}
        self.scene.load(*origins, slug=slug)
        for url in way.first:
            assert self.scene.fetch(url, slug=slug).code >= 0
        return self.scene.fetch(way.url, slug=slug)

    def _port(self, address: str) -> int:
        if address in DOWN:
            return 1
        return self.outside.port if _is_outside(address) else self.inside.port

    def close(self) -> None:
        self.scene.close()
        self.outside.close()
        self.inside.close()


def _is_outside(address: str) -> bool:
    return address.startswith("93.184.215.") and "%" not in address


@pytest.fixture(scope="module", params=["sync", "async"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    made = Ground(request.param)
    yield made
    made.close()


@pytest.fixture
def _no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every address for an outer one."""
    monkeypatch.setattr(_addresses, "NETWORKS", ())
    monkeypatch.setattr(_addresses, "_special_use", lambda _: None)


def test_the_outside_is_reached(ground: Ground) -> None:
    """What the ways are measured by: a public address is reached, by name, and by itself."""
    assert ground.go(named(PUBLIC)).body == b"hello"
    assert ground.go(literal(PUBLIC)).body == b"hello"
    assert (ground.net.reached, ground.inside.asked) == ([PUBLIC], [])


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_no_way_leads_inside(ground: Ground, way: Way) -> None:
    """It is refused, by the code in the table, and nothing inside was so much as connected to."""
    got = ground.go(way)
    assert got.code == way.code, got
    assert ground.inside.asked == []
    assert all(map(_is_outside, ground.net.reached))


@pytest.mark.usefixtures("_no_guard")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_each_way_leads_inside_without_the_guard(ground: Ground, way: Way) -> None:
    """Where addresses aren't judged, the request arrives: every row above can fail."""
    assert ground.go(way).body == b"hello"
    assert len(ground.inside.asked) == 1


def test_a_name_is_asked_for_once_a_connection(ground: Ground) -> None:
    """What was checked is what is connected to: the second answer is never heard."""
    got = ground.go(Way("http://attacker.example/", {"attacker.example": [PUBLIC, "127.0.0.1"]}))
    assert (got.body, ground.net.reached, ground.resolver.names["attacker.example"]) == (
        b"hello",
        [PUBLIC],
        [["127.0.0.1"]],
    )


# ── addresses that are spelled oddly ─────────────────────────────────────────────────────────────

SPELLINGS: Final = {
    "decimal": "2130706433",
    "hexadecimal": "0x7f000001",
    "octal": "017700000001",
    "short": "127.1",
    "shorter": "0",
    "three parts": "127.0.1",
    "parts in octal": "0177.0.0.1",
    "parts in hexadecimal": "0x7f.0x0.0x0.0x1",
    "mixed parts": "0x7f.1",
    "leading zeros": "127.0.0.01",
}
"""Texts that the operating system reads as an inner address."""

UNUSABLE: Final = {
    "user name": "http://outside.example@127.0.0.1/",
    "user name and password": "http://a:b@127.0.0.1/",
    "user name that looks like a host": "http://outside.example:80@127.0.0.1:80/",
    "trailing dot": "http://localhost./",
    "trailing dot after an address": "http://127.0.0.1./",
    "two dots": "http://127..0.0.1/",
    "a backslash": "http://outside.example\\@127.0.0.1/",
    "a tab": "http://127.0.0.1\t/",
    "a line break": "http://outside.example/\r\nHost: 127.0.0.1",
    "full-width digits": "http://\uff11\uff12\uff17.0.0.1/",
    "circled letters": "http://ⓛocalhost/",
    "an ideographic dot": "http://127。0。0。1/",
    "an encoded host": "http://%31%32%37.0.0.1/",
    "a zone": "http://[fe80::1%25eth0]/",
    "IPv6 without brackets": "http://::1/",
    "a future address": "http://[v1.a]/",
    "port zero": "http://127.0.0.1:0/",
    "a port that wraps": "http://127.0.0.1:65616/",
    "a port with a sign": "http://127.0.0.1:+80/",
    "no host": "http:///latest/",
    "a file": "file:///etc/passwd",
    "another scheme": "gopher://127.0.0.1:6379/_INFO",
    "no scheme": "//127.0.0.1/",
    "one slash": "http:/127.0.0.1/",
    "a space before": " http://127.0.0.1/",
}
"""URLs that one parser reads as leading inside, and another doesn't."""


@pytest.mark.parametrize("host", SPELLINGS.values(), ids=SPELLINGS)
def test_odd_spellings_are_no_urls(ground: Ground, host: str) -> None:
    """The operating system reads them as inner addresses; we refuse them, and as grants too."""
    [*_, address] = [found[4][0] for found in socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)]
    assert refusal(str(address)) is not None
    ground.scene.load(OUTSIDE, slug=(slug := next(ground._slugs)))
    assert ground.scene.fetch(f"http://{host}/", slug=slug).code == AnswerCode.BAD_REQUEST
    with pytest.raises(Exception, match="IPv4 address"):
        Grants(http=[f"http://{host}"])


@pytest.mark.parametrize("url", UNUSABLE.values(), ids=UNUSABLE)
def test_what_can_be_read_in_two_ways_is_no_url(ground: Ground, url: str) -> None:
    """It is refused before anything is looked up, as a request and as a redirect's aim."""
    ground.scene.load(OUTSIDE, slug=(slug := next(ground._slugs)))
    ground.inside.asked.clear()
    ground.net.reached.clear()
    assert ground.scene.fetch(url, slug=slug).code == AnswerCode.BAD_REQUEST
    assert (ground.net.reached, ground.inside.asked) == ([], [])
