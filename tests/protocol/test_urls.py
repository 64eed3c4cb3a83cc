import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import BlockedUrlError, InvalidRequestError
from oauthflow.protocol.urls import ParsedUrl, is_below, is_loopback_host, parse_http_url, validate_return_to
from tests.requirements import requirement


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://mcp.example", ParsedUrl("https", "mcp.example", 443, "", "")),
        ("HTTPS://MCP.Example:443/", ParsedUrl("https", "mcp.example", 443, "/", "")),
        ("http://localhost:8000/mcp?a=1&b", ParsedUrl("http", "localhost", 8000, "/mcp", "a=1&b")),
        ("https://[2001:DB8:0::1]:8443/x", ParsedUrl("https", "2001:db8::1", 8443, "/x", "")),
        ("http://127.0.0.1/", ParsedUrl("http", "127.0.0.1", 80, "/", "")),
        ("https://xn--bcher-kva.example?q", ParsedUrl("https", "xn--bcher-kva.example", 443, "", "q")),
        ("https://a.example/%7Euser/a:b@c", ParsedUrl("https", "a.example", 443, "/%7Euser/a:b@c", "")),
    ],
)
def test_a_url_is_taken_apart_into_what_is_dialled(text: str, expected: ParsedUrl) -> None:
    assert parse_http_url(text) == expected


@requirement("U-02", "A-21")
@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd",
        "ftp://a.example/",
        "gopher://a.example/",
        "dict://a.example:11211/",
        "data:text/html,x",
        "javascript:alert(1)",
        "vbscript:x",
        "jar:https://a.example!/",
        "unix:///run/x",
        "ws://a.example/",
        "wss://a.example/",
        "//a.example/",
        "/mcp",
        "a.example",
        "https:a.example",
        "https:/a.example",
        "https:///a.example",
        "",
    ],
)
def test_only_absolute_http_and_https_urls_are_taken(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_http_url(text)


@requirement("U-01")
@pytest.mark.parametrize(
    "text",
    [
        "https://user@a.example/",
        "https://user:secret@a.example/",
        "https://good:443@127.0.0.1",
        "https://good\\@127.0.0.1",
        "https://127.0.0.1#@good",
        "https://a.example/#x",
        "https://a.example/ b",
        " https://a.example/",
        "https://a.example/\n",
        "https://a.example\t/",
        "https://a.example/\x00",
        "https://a.example/%0d%0aX:y",
        "https://a.example/%5c..",
        "https://a.example/a/../b",
        "https://a.example/%2e%2E/b",
        "https://a.example/.",
        "https://a.example/%zz",
        "https://a.example/$(id)",
        "https://a.example/${SECRET_KEY}",
        "https://a.example/{{x}}",
        "https://a.example/%(x)s",
        "https://a.example/é",
        "https://bücher.example/",
        "https://１２７.0.0.1/",
        "https://a.example./",
        "https://127.0.0.1./",
        "https://a_b.example/",
        "https://-a.example/",
        "https://a..example/",
        f"https://{'a' * 64}.example/",
        f"https://{'a.' * 127}example/",
        "https://a.example:/",
        "https://a.example:0/",
        "https://a.example:080/",
        "https://a.example:65536/",
        "https://a.example:80:80/",
        "https://[::1/",
        "https://::1/",
        "https://[::1]x/",
        "https://[a.example]/",
        "https://[]/",
        "https:// /",
        "https://a.example/" + "a" * 4100,
    ],
)
def test_whatever_two_parsers_could_read_differently_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_http_url(text)


@requirement("U-01", "U-03")
@pytest.mark.parametrize(
    "host",
    [
        *["2130706433", "0x7f000001", "0X7F.1", "0177.0.0.1", "127.1", "127.0.1", "0x7f.0.0.1", "1.2.3.4.5"],
        *["127.0.0.256", "127.0.0.01", "a.1", "0", "0x", "[fe80::1%25eth0]", "127.0.0%2e1", "a%00.example"],
    ],
)
def test_an_address_in_disguise_is_blocked(host: str) -> None:
    with pytest.raises(BlockedUrlError):
        parse_http_url(f"https://{host}/")


def test_the_parts_of_a_url_go_together_again() -> None:
    parsed = parse_http_url("http://[::1]:8000/mcp?a=1")
    assert (parsed.authority, parsed.origin) == ("[::1]:8000", "http://[::1]:8000")
    assert (parsed.target, parsed.url) == ("/mcp?a=1", "http://[::1]:8000/mcp?a=1")
    assert parse_http_url("https://a.example").target == "/"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_this_machine_is_known_by_its_loopback_names(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host", ["localhost.example", "a.localhost", "127.1", "0.0.0.0", "::", "::ffff:127.0.0.1", "10.0.0.1", ""]
)
def test_other_hosts_are_not_this_machine(host: str) -> None:
    assert not is_loopback_host(host)


@pytest.mark.parametrize("text", ["/", "/connections/", "/connections/?server=a&x=%20y", "/a:b/c", "/" + "a" * 1023])
def test_a_path_of_this_site_is_a_return_address(text: str) -> None:
    assert validate_return_to(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *["", "e", "connections/", "//e", "///e", "/\\e", "\\/e", "/a\\b", "/%09/e", "/\t/e", "/\n/e", "\t//e"],
        *["https:e", "https://e", "javascript:alert(1)", "/%5ce", "/%5Ce", "/..//e", "/a/../b", "/%2e%2e/e", "/."],
        *["/%2f/e", "/%2Fe", "/a//e", "/a%2f/e", "/x\r\nSet-Cookie: a=b", "/%0d%0aX", "/a?b=%0a", "/a?b=%5c"],
        *[
            "/ e",
            " /e",
            "/\x00",
            "/%00",
            "/é",
            "/a#b",
            "/%zz",
            "/" + "a" * 1024,
            "/" + "a" * 5120,
            "@e",
            "?a=b",
            "/\x7f",
        ],
    ],
)
def test_anything_a_browser_could_take_for_another_site_is_no_return_address(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        validate_return_to(text)
    assert caught.value.code == Code.INVALID_RETURN_TO


def test_a_return_address_lies_below_an_allowed_prefix() -> None:
    assert validate_return_to("/app/x", prefixes=["/connections/", "/app/"]) == "/app/x"
    with pytest.raises(InvalidRequestError):
        validate_return_to("/admin/", prefixes=["/connections/", "/app/"])


@given(st.text(max_size=60) | st.text("/\\:@#?[]%.0x17fa", max_size=40).map("https://".__add__))
def test_any_text_is_parsed_or_refused_and_parsing_its_result_changes_nothing(text: str) -> None:
    try:
        parsed = parse_http_url(text)
    except (InvalidRequestError, BlockedUrlError):
        return
    assert parse_http_url(parsed.url) == parsed


LABELS = st.text(string.ascii_letters, min_size=1, max_size=10)


@given(
    scheme=st.sampled_from(["http", "https", "HTTPS"]),
    host=st.lists(LABELS, min_size=1, max_size=4).map(".".join),
    port=st.integers(1, 65535),
    path=st.lists(st.text(string.ascii_letters + "-_~", min_size=1, max_size=8), max_size=4),
)
def test_every_plain_url_is_parsed_into_what_was_put_in(scheme: str, host: str, port: int, path: list[str]) -> None:
    parsed = parse_http_url(f"{scheme}://{host}:{port}" + "".join(f"/{segment}" for segment in path))
    assert (parsed.scheme, parsed.host, parsed.port) == (scheme.lower(), host.lower(), port)
    assert parsed.path == "".join(f"/{segment}" for segment in path)


@given(st.text(max_size=30).map("/".__add__))
def test_a_return_address_never_leads_to_another_host(text: str) -> None:
    try:
        accepted = validate_return_to(text)
    except InvalidRequestError:
        return
    assert parse_http_url("https://site.example" + accepted).host == "site.example"
    assert accepted[:2] not in ("//", "/\\")


@pytest.mark.parametrize(
    ("url", "base", "expected"),
    [
        ("https://as.example/token", "https://as.example", True),
        ("https://as.example/token", "https://AS.example:443/", True),
        ("https://as.example/a/token", "https://as.example/a", True),
        ("https://as.example/a", "https://as.example/a/", True),
        ("https://as.example/ab/token", "https://as.example/a", False),
        ("https://as.example/b/a/token", "https://as.example/a", False),
        ("http://as.example/token", "https://as.example", False),
        ("https://as.example:8443/token", "https://as.example", False),
        ("https://as.example.evil.example/token", "https://as.example", False),
    ],
)
def test_below_an_address_is_its_origin_and_whole_segments(url: str, base: str, expected: bool) -> None:
    assert is_below(url, base=base) is expected
