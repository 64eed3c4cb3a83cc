"""Which addresses may be reached: public ones by https, and what the operator named in EGRESS_ALLOW."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from ..protocol.errors import BlockedUrlError, FlowError, InvalidRequestError
from ..protocol.urls import ParsedUrl, parse_http_url

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The standard library's `is_global` is asked too, but it is not enough: it calls multicast, site-local and several
# forms that carry an IPv4 address inside global.
_DENIED_V4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network, RFC 791
        "10.0.0.0/8",  # private, RFC 1918
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598; a cloud's metadata service lives here too
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's host agent, reachable only from inside
        "169.254.0.0/16",  # link-local and cloud metadata, RFC 3927
        "172.16.0.0/12",  # private, RFC 1918
        "192.0.0.0/24",  # protocol assignments, RFC 6890
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.31.196.0/24",  # AS112, RFC 7535
        "192.52.193.0/24",  # AMT, RFC 7450
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.168.0.0/16",  # private, RFC 1918
        "192.175.48.0/24",  # AS112, RFC 7534
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "198.51.100.0/24",  # documentation, RFC 5737
        "203.0.113.0/24",  # documentation, RFC 5737
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_DENIED_V6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, RFC 2928: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation, RFC 3849
        "2002::/16",  # 6to4: carries an IPv4 address, RFC 3056
        "2620:4f:8000::/48",  # AS112, RFC 7534
        "3ffe::/16",  # the old 6bone
        "3fff::/20",  # documentation, RFC 9637
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
_WITH_PORT: Final = re.compile(r"(?:\[[^\]]*\]|[^:]*):[0-9]+")


def is_public(address: Address) -> bool:
    """Say whether this is an ordinary address of the Internet.

    IPv6 outside of global unicast is not: loopback, unique-local, link-local, site-local, multicast, IPv4-mapped and
    -compatible forms, and NAT64 with a local prefix. Of NAT64 with the well-known prefix the IPv4 address inside
    counts, because that is how a network without IPv4 reaches public servers.

    Spec: RFC 6890; RFC 6052 §2.1; RFC 5214 §6.1 (ISATAP). U-03.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not any(address in network for network in _DENIED_V4)
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return (
        address.scope_id is None
        and address in _GLOBAL_UNICAST
        and address.is_global
        and not any(address in network for network in _DENIED_V6)
    )


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may be reached although it is private or spoken to in plain http.

    Attributes:
        hosts: Names and addresses as URLs spell them, on every port.
        services: The same on one port.
        networks: Every address inside, whatever name led there.
    """

    hosts: frozenset[str] = frozenset()
    services: frozenset[tuple[str, int]] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def current(cls) -> Allowance:
        """Return what `settings.EGRESS_ALLOW` says now."""
        return parse_allowance(tuple(settings.EGRESS_ALLOW))

    def names(self, host: str, *, port: int) -> bool:
        """Say whether this host is listed, by itself or with this port."""
        return host in self.hosts or (host, port) in self.services

    def covers(self, address: Address) -> bool:
        """Say whether this address lies in a listed network."""
        return any(address in network for network in self.networks)


@lru_cache(maxsize=16)
def parse_allowance(entries: tuple[str, ...]) -> Allowance:
    """Read the entries of EGRESS_ALLOW: `host`, `host:port` or CIDR.

    Raises:
        ImproperlyConfigured: An entry is none of these.
    """
    hosts: set[str] = set()
    services: set[tuple[str, int]] = set()
    networks: list[Network] = []
    for entry in entries:
        try:
            if "/" in entry:
                networks.append(ipaddress.ip_network(entry, strict=False))
            elif _WITH_PORT.fullmatch(entry):
                url = _parse_entry(entry)
                services.add((url.host, url.port))
            else:
                hosts.add(_parse_entry(entry).host)
        except (ValueError, FlowError):
            raise ImproperlyConfigured(f"EGRESS_ALLOW: {entry!r} is no host, host:port or CIDR") from None
    return Allowance(frozenset(hosts), frozenset(services), tuple(networks))


def _parse_entry(entry: str) -> ParsedUrl:
    bare_ipv6 = entry.count(":") > 1 and not entry.startswith("[")
    return parse_http_url(f"http://[{entry}]" if bare_ipv6 else f"http://{entry}")


def require_url(text: str, *, allowed: Allowance) -> ParsedUrl:
    """Take a URL apart and refuse what can be refused without a name look-up.

    A name passes here even where it will turn out to be private: the addresses are judged when the socket is opened.

    Raises:
        BlockedUrlError: Not a canonical http or https URL, plain http that nobody allowed, or a private address.

    Spec: U-01, U-02, U-03.
    """
    try:
        url = parse_http_url(text)
    except InvalidRequestError as error:
        raise BlockedUrlError(error.detail) from None
    if allowed.names(url.host, port=url.port):
        return url
    address = literal_address(url.host)
    if address is not None:
        _require_address(address, plain=url.scheme == "http", allowed=allowed)
    elif url.scheme == "http" and not allowed.networks:
        raise BlockedUrlError("plain http to a host that EGRESS_ALLOW does not list")
    return url


def require_addresses(addresses: Iterable[Address], *, host: str, port: int, plain: bool, allowed: Allowance) -> None:
    """Refuse a host if any one of its addresses may not be reached.

    Args:
        addresses: All that the name look-up gave.
        host: The host as the URL spells it.
        port: The port that is about to be connected to.
        plain: Whether no TLS will be spoken.
        allowed: The operator's exceptions.

    Raises:
        BlockedUrlError: At least one address is neither public nor allowed, or plain http is not allowed there.

    Spec: U-03, U-05.
    """
    if not allowed.names(host, port=port):
        for address in addresses:
            _require_address(address, plain=plain, allowed=allowed)


def literal_address(host: str) -> Address | None:
    """Return the address that a host is without any look-up; `localhost` and below are loopback. RFC 6761 §6.3."""
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _require_address(address: Address, *, plain: bool, allowed: Allowance) -> None:
    if allowed.covers(address):
        return
    # One text for all of them: who asks must not learn what a name resolves to inside.
    if plain or not is_public(address):
        raise BlockedUrlError("the address is not public, or not spoken to by https, and EGRESS_ALLOW does not list it")
