"""Strict URLs: a narrow grammar with one normal form, and the origin patterns that grants are made of.

Rules:
* What is accepted is written anew from its parts, so that the parser that checked a URL and the client that
  connects can't read two different origins from it. Backends get `str(url)`, never the text that came in.
* What two parsers could read differently is refused, with advice, not repaired.
* Grants are by origin: scheme, host and port. Paths are never compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final
from urllib.parse import urljoin

MAX_URL_LENGTH: Final = 8 << 10
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_MAX_HOST_LENGTH: Final = 253
_MAX_PORT: Final = 65_535

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?")
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([^:]*))?")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_FORBIDDEN: Final = re.compile(r"[^!-~]|\\")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_IN_TARGET: Final = re.compile(r"[^A-Za-z0-9._~!$&'()*+,;=:@/?%-]")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what a request connects to. Made by `parse_url`.

    Attributes:
        scheme: `http` or `https`.
        host: a lower-case name, an IPv4 address, or an IPv6 address without its brackets.
        port: always there; the scheme's own where the URL names none.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """Return the normal form, without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute URL in normal form. Made by `parse_url`.

    Attributes:
        origin: what to connect to.
        target: path and query as they go on the wire, beginning with `/`.
    """

    origin: Origin
    target: str

    def __str__(self) -> str:
        """Return the normal form."""
        return f"{self.origin}{self.target}"

    def join(self, location: str) -> Url:
        """Return where a redirect's `Location` leads, seen from this URL (RFC 3986 §5.2).

        Raises:
            ValueError: the location, or what it leads to, isn't a URL that `parse_url` takes.
        """
        _check_characters(location)
        if location.startswith("//"):
            return parse_url(f"{self.origin.scheme}:{location}")
        if _SCHEME.match(location):
            return parse_url(location)
        return parse_url(urljoin(str(self), location))


def parse_url(text: str) -> Url:
    """Return an absolute `http` or `https` URL in normal form: no fragment, `/` for an empty path.

    Raises:
        ValueError: one sentence that names what is wrong and what is allowed.
    """
    _check_characters(text)
    match = _URL.fullmatch(text)
    if not match:
        raise ValueError("a URL must begin with http:// or https://")
    scheme, authority, target = match.groups()
    url = Url(_origin(scheme.lower(), authority), _target(target))
    _check_length(str(url))
    return url


def _check_characters(text: str) -> None:
    _check_length(text)
    if not text.isascii():
        raise ValueError("a URL must be ASCII: write the host in punycode (xn--...) and the rest percent-encoded")
    if bad := _FORBIDDEN.search(text):
        raise ValueError(f"{bad[0]!r} at character {bad.start()} isn't allowed in a URL: percent-encode it")


def _check_length(text: str) -> None:
    if len(text) > MAX_URL_LENGTH:
        raise ValueError(f"a URL must be at most {MAX_URL_LENGTH} characters; this one has {len(text)}")


def _origin(scheme: str, authority: str) -> Origin:
    if scheme not in DEFAULT_PORTS:
        raise ValueError(f"the scheme must be http or https, not {scheme!r}")
    if "@" in authority:
        raise ValueError("a URL must not carry a user name or password: send them in a header")
    match = _AUTHORITY.fullmatch(authority)
    if not match:
        raise ValueError(f"{authority!r} isn't a host with an optional port; an IPv6 address stands in brackets")
    host, port = match.groups()
    return Origin(scheme, _host(host.lower()), DEFAULT_PORTS[scheme] if port is None else _port(port))


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > _MAX_PORT:
        raise ValueError(f"the port must be from 1 to {_MAX_PORT} without leading zeros, not {text!r}")
    return int(text)


def _host(text: str) -> str:
    if text.startswith("["):
        return _ipv6(text[1:-1])
    labels = text.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(text)
    if len(text) > _MAX_HOST_LENGTH or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(
            f"{text!r} isn't a host name: labels of 1 to 63 letters, digits and inner hyphens, "
            f"joined by single dots, at most {_MAX_HOST_LENGTH} characters, no dot at the end"
        )
    return text


def _ipv4(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        raise ValueError(f"{text!r} isn't an IPv4 address written as four decimal numbers, e.g. 127.0.0.1") from None


def _ipv6(text: str) -> str:
    if "%" in text:
        raise ValueError(f"the IPv6 address {text!r} must not carry a zone")
    try:
        return str(IPv6Address(text))
    except AddressValueError:
        raise ValueError(f"{text!r} isn't an IPv6 address") from None


def _target(text: str) -> str:
    if bad := _NOT_IN_TARGET.search(text):
        raise ValueError(f"{bad[0]!r} isn't allowed in a URL's path or query: write it as %{ord(bad[0]):02X}")
    if bad := _BAD_ESCAPE.search(text):
        raise ValueError(f"{text[bad.start() :][:3]!r} isn't a percent-encoding: write a plain % as %25")
    return text if text.startswith("/") else f"/{text}"


@dataclass(frozen=True, slots=True)
class OriginPattern:
    """An origin, or all hosts below one, as manifests and grants write it.

    Attributes:
        origin: the origin itself; of a wildcard, what stands after `*.`.
        is_wildcard: matches hosts with one or more labels before `origin.host`, never that host itself.
    """

    origin: Origin
    is_wildcard: bool

    @classmethod
    def parse(cls, text: str) -> OriginPattern:
        """Return the pattern that e.g. `https://api.example.com` or `https://*.example.org:8443` stands for.

        Raises:
            ValueError: one sentence that names what is wrong and what is allowed.
        """
        scheme, separator, rest = text.partition("://")
        if not separator:
            raise ValueError("an origin must begin with http:// or https://, e.g. 'https://api.example.com'")
        prefix = "*." if rest.startswith("*.") else ""
        origin = _bare_origin(f"{scheme}://{rest.removeprefix(prefix)}", prefix)
        if prefix:
            _check_wildcard(origin.host)
        return cls(origin, is_wildcard=bool(prefix))

    def __str__(self) -> str:
        """Return the normal form."""
        return _with_prefix(self.origin, "*." if self.is_wildcard else "")

    def matches(self, origin: Origin) -> bool:
        """Return whether the pattern allows an origin."""
        return self._has_place_of(origin) and self._has_host(origin.host)

    def covers(self, other: OriginPattern) -> bool:
        """Return whether every origin that the other pattern matches is matched by this one."""
        if not other.is_wildcard:
            return self.matches(other.origin)
        return self.is_wildcard and (self.origin == other.origin or self.matches(other.origin))

    def _has_place_of(self, origin: Origin) -> bool:
        return (self.origin.scheme, self.origin.port) == (origin.scheme, origin.port)

    def _has_host(self, host: str) -> bool:
        return host.endswith(f".{self.origin.host}") if self.is_wildcard else host == self.origin.host


def _bare_origin(text: str, prefix: str) -> Origin:
    if "*" in text:
        raise ValueError("a * stands only for whole labels at the front, as in 'https://*.example.org'")
    url = parse_url(text)
    if url.target != "/" or "#" in text or "?" in text:
        raise ValueError(f"grants are by origin, without a path: write {_with_prefix(url.origin, prefix)!r}")
    return url.origin


def _with_prefix(origin: Origin, prefix: str) -> str:
    return str(origin).replace("://", f"://{prefix}", 1)


def _check_wildcard(host: str) -> None:
    if ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise ValueError("a wildcard can't stand before an IP address")
    if "." not in host:
        raise ValueError(f"a wildcard must stand before at least two labels, e.g. '*.example.{host}'")
    if len(host) > _MAX_HOST_LENGTH - len("a."):
        raise ValueError(f"no host of at most {_MAX_HOST_LENGTH} characters can match {'*.' + host!r}")
