"""Which addresses lie inside, where plugins don't belong, and why: one table, `NETWORKS`.

Rules:
* The first network that holds an address decides, then what Python's `ipaddress` says of it; of IPv6, only global
  unicast space is outside.
* An address within another's form (mapped, translated, tunnelled) is refused whatever it stands for: who unwraps it,
  and to where, isn't ours to know.
* The operator's word opens what is private by design. It opens nothing that leads to a cloud's credentials, to many
  machines at once, or nowhere.

Sources: IANA's special-purpose address registries for IPv4 and IPv6 (RFC 6890 and its successors), and the
clouds' own documentation for the addresses of their metadata services.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

Address = IPv4Address | IPv6Address


class Network(NamedTuple):
    """A network that plugins don't reach.

    Attributes:
        network: its addresses.
        reason: what it is, in words that follow "an address that is".
        is_private: plugins reach it where the operator opens the origin.
    """

    network: IPv4Network | IPv6Network
    reason: str
    is_private: bool = False


def _network(text: str, reason: str, *, is_private: bool = False) -> Network:
    return Network(ip_network(text), reason, is_private)


NETWORKS: Final = (
    _network("0.0.0.0/8", "unspecified: this host on this network"),
    _network("10.0.0.0/8", "private", is_private=True),
    _network("100.100.100.200/32", "a cloud's metadata service"),
    _network("100.64.0.0/10", "shared by a carrier's customers (CGNAT)", is_private=True),
    _network("127.0.0.0/8", "loopback", is_private=True),
    _network("168.63.129.16/32", "a cloud's platform service"),
    _network("169.254.0.0/16", "link-local, where clouds have their metadata services"),
    _network("172.16.0.0/12", "private", is_private=True),
    _network("192.0.0.0/24", "set aside for protocols"),
    _network("192.0.2.0/24", "for documentation"),
    _network("192.88.99.0/24", "a 6to4 relay's"),
    _network("192.168.0.0/16", "private", is_private=True),
    _network("198.18.0.0/15", "for benchmarks", is_private=True),
    _network("198.51.100.0/24", "for documentation"),
    _network("203.0.113.0/24", "for documentation"),
    _network("224.0.0.0/4", "multicast"),
    _network("255.255.255.255/32", "broadcast"),
    _network("240.0.0.0/4", "reserved"),
    _network("::/128", "unspecified"),
    _network("::1/128", "loopback", is_private=True),
    _network("::/96", "an IPv4 address in IPv6 form (compatible)"),
    _network("::ffff:0:0/96", "an IPv4 address in IPv6 form (mapped)"),
    _network("::ffff:0:0:0/96", "an IPv4 address in IPv6 form (translated)"),
    _network("64:ff9b::/96", "an IPv4 address behind a translator (NAT64)"),
    _network("64:ff9b:1::/48", "an IPv4 address behind a local translator (NAT64)"),
    _network("100::/64", "discard-only"),
    _network("2001::/32", "an IPv4 address in a tunnel (Teredo)"),
    _network("2001:2::/48", "for benchmarks", is_private=True),
    _network("2001:10::/28", "a hash, not a place (ORCHID)"),
    _network("2001:20::/28", "a hash, not a place (ORCHIDv2)"),
    _network("2001::/23", "set aside for protocols"),
    _network("2001:db8::/32", "for documentation"),
    _network("2002::/16", "an IPv4 address in a tunnel (6to4)"),
    _network("3fff::/20", "for documentation"),
    _network("fd00:42::/32", "a cloud's metadata service"),
    _network("fd00:c1::/32", "a cloud's metadata service"),
    _network("fd00:100::/32", "a cloud's metadata service"),
    _network("fd00:a9fe:a9fe::/48", "a cloud's metadata service"),
    _network("fd00:ec2::/32", "a cloud's metadata service"),
    _network("fd20:ce::/32", "a cloud's metadata service"),
    _network("fc00::/7", "private (unique local)", is_private=True),
    _network("fe80::/10", "link-local"),
    _network("fec0::/10", "site-local"),
    _network("ff00::/8", "multicast"),
)

_GLOBAL_UNICAST: Final = ip_network("2000::/3")


def refusal(text: str, *, is_opened: bool = False) -> str | None:
    """Return why plugins don't reach an address, in words that follow "an address that is", or `None`.

    Args:
        text: an address as a resolver gives it.
        is_opened: the operator has opened the origin: what is private is reached.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return "unreadable"
    for network, reason, is_private in NETWORKS:
        if address in network:
            return None if is_private and is_opened and not _zone(address) else reason
    return _special_use(address)


def _zone(address: Address) -> str | None:
    return address.scope_id if isinstance(address, IPv6Address) else None


def _special_use(address: Address) -> str | None:
    if isinstance(address, IPv6Address) and (_zone(address) or address not in _GLOBAL_UNICAST):
        return "outside the global internet"
    return None if address.is_global else "set aside for special use"
