"""Which addresses are public, and what EGRESS_ALLOW opens."""

from __future__ import annotations

import ipaddress

import pytest
from django.core.exceptions import ImproperlyConfigured

from oauthflow.egress.addresses import is_public, parse_allowance, require_addresses, require_url
from oauthflow.protocol.errors import BlockedUrlError
from tests.requirements import requirement

NOTHING = parse_allowance(())


@requirement("U-03")
@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "168.63.129.16", "169.254.169.254",
        "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.88.99.1", "192.168.0.1", "198.18.0.1",
        "198.19.255.255", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:7f00:1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "64:ff9b:1::808:808", "100::1",
        "2001::1", "2001:0:7f00:1::", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "2606:4700::5efe:7f00:1",
        "2606:4700::200:5efe:8.8.8.8", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1",
        "ff02::1", "ff0e::1", "2606:4700::1%eth0",
    ],
)  # fmt: skip
def test_a_special_address_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
        "128.0.0.0", "168.63.129.15", "172.15.255.255", "172.32.0.0", "191.255.255.255", "198.17.255.255", "198.20.0.0",
        "223.255.255.255", "2001:200::1", "2606:4700::1111", "2a00:1450:4001::1", "64:ff9b::808:808",
    ],
)  # fmt: skip
def test_an_ordinary_address_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@requirement("U-02")
@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("localhost", "http://localhost:9000/x"),
        ("LocalHost", "http://localhost/"),
        ("127.0.0.1", "http://127.0.0.1:9000/"),
        ("127.0.0.1:9000", "http://127.0.0.1:9000/"),
        ("127.0.0.0/8", "http://127.3.2.1:9000/"),
        ("10.1.0.0/16", "https://10.1.2.3/"),
        ("mcp.internal:80", "http://mcp.internal/"),
        ("::1", "http://[::1]:9000/"),
        ("[::1]", "http://[::1]:9000/"),
        ("[::1]:9000", "http://[::1]:9000/"),
        ("fd00::/8", "http://[fd00::17]/"),
    ],
)
def test_what_the_operator_lists_may_be_reached(entry: str, url: str) -> None:
    assert require_url(url, allowed=parse_allowance((entry,))).url == url


@requirement("U-01", "U-02")
@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("localhost", "http://127.0.0.1/"),
        ("localhost:9000", "http://localhost:9001/"),
        ("localhost", "http://a.localhost/"),
        ("127.0.0.1", "http://127.0.0.2/"),
        ("127.0.0.1:9000", "https://127.0.0.1/"),
        ("127.0.0.0/8", "https://[::ffff:127.0.0.1]/"),
        ("127.0.0.0/8", "https://2130706433/"),
        ("10.1.0.0/16", "https://10.2.0.1/"),
        ("::1", "http://[::]/"),
        ("mcp.internal", "http://mcp.internal.example/"),
        ("mcp.internal", "ftp://mcp.internal/"),
    ],
)
def test_what_the_operator_does_not_list_stays_closed(entry: str, url: str) -> None:
    with pytest.raises(BlockedUrlError):
        require_url(url, allowed=parse_allowance((entry,)))


@pytest.mark.parametrize("entry", ["", "a b", "10.0.0.0/99", "http://localhost", "host:", "host:0", "*.example", "a@b"])
def test_an_entry_that_is_no_host_port_or_network_is_refused(entry: str) -> None:
    with pytest.raises(ImproperlyConfigured):
        parse_allowance((entry,))


@requirement("U-05")
def test_one_bad_address_among_good_ones_refuses_the_host() -> None:
    mixed = [ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address("127.0.0.1")]
    with pytest.raises(BlockedUrlError):
        require_addresses(mixed, host="as.example", port=443, plain=False, allowed=NOTHING)


@requirement("U-02")
def test_a_network_allows_plain_http_to_a_name_only_where_every_address_lies_inside() -> None:
    allowed = parse_allowance(("10.1.0.0/16",))
    inside, public = ipaddress.ip_address("10.1.0.9"), ipaddress.ip_address("8.8.8.8")
    assert require_url("http://mcp.internal/", allowed=allowed).host == "mcp.internal"
    require_addresses([inside], host="mcp.internal", port=80, plain=True, allowed=allowed)
    with pytest.raises(BlockedUrlError):
        require_addresses([inside, public], host="mcp.internal", port=80, plain=True, allowed=allowed)
