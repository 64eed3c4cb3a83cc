"""Redirect URIs: byte for byte, but for the port of a loopback address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authserver.protocol.errors import UnusableRedirectUriError
from authserver.protocol.redirect_uri import (
    check_redirect_uri,
    check_redirect_uris,
    find_registered,
    is_loopback,
    redirect_origin,
    shown_host,
)
from tests.requirements import requirement

_CORPUS = Path(__file__).parent.parent / "corpus" / "redirect_uris.txt"
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})")
_WEB = "https://client.example.com/callback"


def _vectors() -> Iterator[tuple[str, str]]:
    registered = ""
    for line in _CORPUS.read_text(encoding="ascii").splitlines():
        text = _ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)), line)
        if line.startswith("> "):
            registered = text[2:]
        elif not line.startswith("#"):
            yield registered, text


VECTORS = list(_vectors())


@requirement("A-17", "P-09", "X-03", "R-11", "AS01")
@pytest.mark.parametrize(("registered", "requested"), VECTORS)
def test_a_redirect_uri_that_differs_is_not_accepted(registered: str, requested: str) -> None:
    assert find_registered(requested, registered=[registered]) is None


def test_the_corpus_is_large_enough_and_names_nothing_twice() -> None:
    assert len(VECTORS) >= 150
    assert len(set(VECTORS)) == len(VECTORS)


@pytest.mark.parametrize("uri", [_WEB, f"{_WEB}?a=1&b=2", "com.example.app:/cb", "http://127.0.0.1:3000/cb"])
def test_the_registered_redirect_uri_itself_is_accepted(uri: str) -> None:
    assert find_registered(uri, registered=["https://other.example/cb", uri]) == uri


@requirement("X-03")
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
@pytest.mark.parametrize(
    ("registered", "requested"), [("", ":49152"), (":3000", ":1"), (":3000", ""), (":1", ":65535")]
)
def test_only_the_port_of_a_loopback_address_may_differ(host: str, registered: str, requested: str) -> None:
    known = f"http://{host}{registered}/callback?a=1"
    assert find_registered(f"http://{host}{requested}/callback?a=1", registered=[_WEB, known]) == known


@given(st.text(max_size=40))
def test_whatever_is_appended_is_refused(more: str) -> None:
    assert (find_registered(_WEB + more, registered=[_WEB]) is None) == bool(more)


USABLE = [
    "https://client.example.com/callback",
    "https://client.example.com",
    "https://client.example.com:8443/cb?x=1",
    "https://client.example.com:443/cb",
    "https://xn--bcher-kva.example/cb",
    "http://127.0.0.1/cb",
    "http://127.0.0.1:33418/",
    "http://[::1]:1/cb",
    "http://localhost:6274/oauth/callback",
    "com.example.app:/oauth",
    "com.example.app://oauth/callback",
    "org.example.my-app:/",
]
UNUSABLE = [
    "", " ", "https", "https:", "https://", "https:///cb", "//client.example.com/cb", "/cb", "cb", "?x", "#",
    "http://client.example.com/cb", "http://10.0.0.1/cb", "http://127.0.0.2/cb", "http://127.1/cb",
    "http://2130706433/cb", "http://0x7f.1/cb", "http://0177.0.0.1/cb", "http://0.0.0.0/cb", "http://[::]/cb",
    "http://[::ffff:127.0.0.1]/cb", "http://localhost.evil.example/cb", "http://localhost./cb",
    "https://client.example.com/cb#", "https://client.example.com/cb#x", "https://client.example.com/*",
    "https://*.example.com/cb", "https://user@client.example.com/cb", "https://user:pw@client.example.com/cb",
    "https://client.example.com\\@evil.example/cb", "https://client.example.com/\\cb", "https://client.example.com/a b",
    "https://client.example.com/\tcb", "https://client.example.com/cb\n", "https://client.example.com/cb\x00",
    "https://client.example.com/\u202ecb", "https://cl\u0456ent.example.com/cb", "https://2130706433/cb",
    "https://0x7f000001/cb", "https://127.0.0.1.:443/cb", "https://client.example.com:0/cb",
    "https://client.example.com:65536/cb", "https://client.example.com:/cb", "https://client.example.com/../cb",
    "https://client.example.com/%2e%2e/cb", "https://client.example.com/%zz", "https://CLIENT.example.com/cb",
    "HTTPS://client.example.com/cb", "https://xn--pple-43d.example.com/cb", "https://xn--a.example/cb",
    "javascript:alert(1)", "javascript://client.example.com/%0aalert(1)", "JavaScript:alert(1)",
    "data:text/html,x", "data:/x", "file:///etc/passwd", "vbscript:/x", "blob:https://client.example.com/x",
    "about:blank", "about:/blank", "ws://client.example.com/cb", "wss://client.example.com/cb", "ftp://example.com/cb",
    "myapp:/cb", "myapp://cb", "x:/cb", "com.example.app:cb", "com.example.app:", "com.example.app://user@host/cb",
    "com..example:/cb", "com.example.:/cb", ".com:/cb", "1com.example:/cb", "Com.Example:/cb",
    "urn:ietf:wg:oauth:2.0:oob",
    "https://client.example.com/" + "a" * 2048,
]  # fmt: skip


@requirement("A-18", "X-10")
@pytest.mark.parametrize("uri", UNUSABLE)
def test_a_redirect_uri_that_must_not_be_registered_is_refused(uri: str) -> None:
    with pytest.raises(UnusableRedirectUriError):
        check_redirect_uri(uri)


@pytest.mark.parametrize("uri", USABLE)
def test_a_plain_redirect_uri_is_taken(uri: str) -> None:
    check_redirect_uri(uri)


@pytest.mark.parametrize("value", [None, "", _WEB, {}, [], [None], [1], [[_WEB]], [_WEB] * 11, {"a": _WEB}, True])
def test_redirect_uris_are_a_list_of_one_to_ten_texts(value: object) -> None:
    with pytest.raises(UnusableRedirectUriError):
        check_redirect_uris(value)


def test_ten_redirect_uris_are_taken_as_they_are() -> None:
    ten = [f"{_WEB}/{number}" for number in range(10)]
    assert check_redirect_uris(ten) == tuple(ten)


def test_an_administrator_may_take_a_programs_own_scheme_but_none_that_a_browser_runs() -> None:
    check_redirect_uri("cursor://anysphere.cursor-mcp/oauth/callback", any_scheme=True)
    for uri in ("javascript:/x", "data:/x", "file:/x", "vbscript:/x", "http://example.com/cb", "cursor:cb"):
        with pytest.raises(UnusableRedirectUriError):
            check_redirect_uri(uri, any_scheme=True)


@given(st.text(max_size=60) | st.text(alphabet="htps:/.@#\\%?[]*:1aZ", max_size=40))
def test_checking_any_text_ends_in_a_verdict(text: str) -> None:
    try:
        check_redirect_uri(text)
    except UnusableRedirectUriError:
        return
    assert text.partition(":")[0] not in ("javascript", "data", "file", "vbscript")


def test_a_person_is_shown_where_a_redirect_uri_leads() -> None:
    assert shown_host("https://client.example.com:8443/a?b") == "client.example.com:8443"
    assert shown_host("http://[::1]:5/a") == "[::1]:5"
    assert shown_host("com.example.app:/cb") == "com.example.app:"
    assert redirect_origin("https://client.example.com:8443/a?b") == "https://client.example.com:8443"
    assert redirect_origin("com.example.app:/cb") == "com.example.app:"
    assert is_loopback("http://localhost:1/cb")
    assert not is_loopback("https://localhost:1/cb")
