"""What a client may register about itself, by request or by document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authserver.protocol.client_document import document_lifetime_seconds, is_document_url, read_client_document
from authserver.protocol.errors import InvalidClientMetadataError, UnusableRedirectUriError
from authserver.protocol.registration import LONGEST_BODY_BYTES, RegisteredMetadata, read_registration
from oauthflow.protocol.messages import Response
from tests.requirements import requirement

PLAIN: dict[str, Any] = {"client_name": "Notes", "redirect_uris": ["https://client.example.com/cb"]}
_KEY = {"kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ", "kid": "1"}
_KEYED = PLAIN | {"token_endpoint_auth_method": "private_key_jwt"}

REFUSED: list[dict[str, Any] | bytes] = [
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"{",
    b"{}",
    b"\xff",
    b"<html>",
    b'{"redirect_uris":["https://a.example/"],"redirect_uris":[]}',
    b'{"redirect_uris":["https://a.example/cb"],"x":NaN}',
    b"[" * 3000,
    b'{"a":' * 30 + b"1" + b"}" * 30,
    {"client_name": "Notes"},
    PLAIN | {"redirect_uris": []},
    PLAIN | {"redirect_uris": "https://client.example.com/cb"},
    PLAIN | {"redirect_uris": None},
    PLAIN | {"redirect_uris": [None]},
    PLAIN | {"redirect_uris": [["https://a.example"]]},
    PLAIN | {"redirect_uris": [f"https://a.example/{n}" for n in range(11)]},
    PLAIN | {"redirect_uris": ["https://client.example.com/cb", "javascript:alert(1)"]},
    PLAIN | {"redirect_uris": ["http://client.example.com/cb"]},
    PLAIN | {"redirect_uris": ["https://a.example/#"]},
    PLAIN | {"redirect_uris": ["https://*.a.example/"]},
    PLAIN | {"redirect_uris": ["https://u@a.example/"]},
    PLAIN | {"redirect_uris": ["https://3232235777/cb"]},
    PLAIN | {"redirect_uris": ["https://xn--pple-43d.example/"]},
    PLAIN | {"redirect_uris": ["myapp://cb"]},
    PLAIN | {"redirect_uris": ["data:text/html,hi"]},
    PLAIN | {"redirect_uris": ["file:///tmp/x"]},
    PLAIN | {"redirect_uris": ["vbscript:/x"]},
    PLAIN | {"redirect_uris": ["blob:https://a.example/x"]},
    PLAIN | {"redirect_uris": ["about:blank"]},
    PLAIN | {"redirect_uris": ["ws://127.0.0.1/cb"]},
    PLAIN | {"redirect_uris": ["https://a.example/" + "x" * 2048]},
    PLAIN | {"client_name": "n" * 65},
    PLAIN | {"client_name": "n" * 12_000},
    PLAIN | {"client_name": "<b>x</b>"},
    PLAIN | {"client_name": "a\u202eb"},
    PLAIN | {"client_name": "a\u200bb"},
    PLAIN | {"client_name": "a\x1bb"},
    PLAIN | {"client_name": 5},
    PLAIN | {"client_name": ["Notes"]},
    PLAIN | {"client_name": {"en": "Notes"}},
    PLAIN | {"grant_types": []},
    PLAIN | {"grant_types": "authorization_code"},
    PLAIN | {"grant_types": [1]},
    PLAIN | {"grant_types": ["implicit"]},
    PLAIN | {"grant_types": ["authorization_code", "implicit"]},
    PLAIN | {"grant_types": ["client_credentials"]},
    PLAIN | {"grant_types": ["authorization_code", "client_credentials"]},
    PLAIN | {"grant_types": ["password"]},
    PLAIN | {"grant_types": ["refresh_token"]},
    PLAIN | {"grant_types": ["authorization_code", "urn:ietf:params:oauth:grant-type:token-exchange"]},
    PLAIN | {"grant_types": ["authorization_code", "urn:ietf:params:oauth:grant-type:jwt-bearer"]},
    PLAIN | {"grant_types": ["authorization_code"] * 11},
    PLAIN | {"response_types": []},
    PLAIN | {"response_types": ["token"]},
    PLAIN | {"response_types": ["code", "token"]},
    PLAIN | {"response_types": ["code id_token"]},
    PLAIN | {"response_types": "code"},
    PLAIN | {"token_endpoint_auth_method": "tls_client_auth"},
    PLAIN | {"token_endpoint_auth_method": "client_secret_jwt"},
    PLAIN | {"token_endpoint_auth_method": 1},
    PLAIN | {"token_endpoint_auth_method": ["none"]},
    PLAIN | {"application_type": "desktop"},
    PLAIN | {"application_type": 1},
    PLAIN | {"client_uri": "http://client.example.com"},
    PLAIN | {"client_uri": "javascript:alert(1)"},
    PLAIN | {"client_uri": "https://a.example/" + "x" * 1000},
    PLAIN | {"client_uri": 7},
    _KEYED,
    _KEYED | {"jwks": {}},
    _KEYED | {"jwks": {"keys": []}},
    _KEYED | {"jwks": [_KEY]},
    _KEYED | {"jwks": {"keys": [1]}},
    _KEYED | {"jwks": {"keys": [_KEY | {"d": "c2VjcmV0"}]}},
    _KEYED | {"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}},
    _KEYED | {"jwks": {"keys": [{"kty": "EC"}]}},
    _KEYED | {"jwks": {"keys": [_KEY] * 11}},
    _KEYED | {"jwks": {"keys": [_KEY]}, "jwks_uri": "https://client.example.com/keys"},
    _KEYED | {"jwks_uri": "http://client.example.com/keys"},
    _KEYED | {"jwks_uri": "https://u:p@client.example.com/keys"},
    _KEYED | {"jwks_uri": "https://0x7f000001/keys"},
    PLAIN | {"jwks": {"keys": [_KEY | {"d": "c2VjcmV0"}]}},
    PLAIN | {"padding": "x" * LONGEST_BODY_BYTES},
]


def _body(document: dict[str, Any] | bytes) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document).encode()


@requirement("AS02", "AS16", "X-10")
@pytest.mark.parametrize("document", REFUSED)
def test_a_registration_that_asks_for_more_than_we_give_is_refused(document: dict[str, Any] | bytes) -> None:
    with pytest.raises(InvalidClientMetadataError):
        read_registration(_body(document))


def test_the_corpus_of_refused_registrations_is_large_enough() -> None:
    assert len(REFUSED) >= 60


def test_trouble_with_a_redirect_uri_has_a_code_of_its_own() -> None:
    with pytest.raises(UnusableRedirectUriError) as raised:
        read_registration(_body(PLAIN | {"redirect_uris": ["http://a.example/"]}))
    assert raised.value.error == "invalid_redirect_uri"


def test_a_plain_registration_gets_the_defaults_of_the_rfc() -> None:
    metadata, _ = read_registration(_body(PLAIN))
    assert metadata.redirect_uris == ("https://client.example.com/cb",)
    assert (metadata.auth_method, metadata.grant_types) == ("client_secret_basic", ("authorization_code",))


def test_what_we_do_not_register_is_left_alone_and_not_kept() -> None:
    metadata, _ = read_registration(
        _body(
            PLAIN
            | {
                "logo_uri": "https://169.254.169.254/logo.png",
                "software_statement": "eyJ.x.y",
                "contacts": [1],
                "unknown": {"deep": []},
                "client_id": "https://chosen.example/",
                "scope": "everything",
            }
        )
    )
    assert "169.254" not in repr(metadata)
    assert "everything" not in repr(metadata)


def test_keys_are_kept_only_where_the_method_needs_them() -> None:
    keyed, _ = read_registration(_body(_KEYED | {"jwks": {"keys": [_KEY], "extra": 1}}))
    public, _ = read_registration(_body(PLAIN | {"jwks": {"keys": [_KEY]}, "token_endpoint_auth_method": "none"}))
    assert keyed.jwks == {"keys": [_KEY]}
    assert public.jwks is None


@given(
    st.dictionaries(
        st.sampled_from(
            ["redirect_uris", "grant_types", "response_types", "client_name", "jwks", "jwks_uri", "client_uri"]
            + ["token_endpoint_auth_method", "application_type", "scope", "x"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        ),
    )
)
def test_any_json_ends_in_metadata_or_a_refusal(document: dict[str, Any]) -> None:
    try:
        metadata, _ = read_registration(json.dumps(document).encode())
    except InvalidClientMetadataError:
        return
    assert metadata.redirect_uris


URL = "https://client.example.com/oauth/client.json"


@requirement("R-05", "R-08", "AS04")
@pytest.mark.parametrize(
    "client_id",
    [
        "http://client.example.com/c",
        "https://client.example.com",
        "https://client.example.com/",
        "https://client.example.com?x=1",
        "https://client.example.com/c#x",
        "https://client.example.com/c#",
        "https://u@client.example.com/c",
        "https://u:p@client.example.com/c",
        "https://client.example.com/a/../c",
        "https://client.example.com/./c",
        "https://client.example.com/%2e%2e/c",
        "https://client.example.com\\c",
        "https://2130706433/c",
        "https://0x7f.1/c",
        "https://client.example.com/ c",
        "https://client.example.com/c\n",
        "client",
        "",
        "https:/client.example.com/c",
        "https://client.example.com/" + "c" * 1000,
        "https://cl\u0456ent.example.com/c",
        "HTTP://client.example.com/c",
    ],
)
def test_such_a_client_id_is_no_address_to_fetch(client_id: str) -> None:
    assert not is_document_url(client_id)


DOCUMENT: dict[str, Any] = PLAIN | {"client_id": URL}


def _read(body: bytes, *, status: int = 200, content_type: str = "application/json") -> RegisteredMetadata:
    response = Response(status, headers={"content-type": content_type}, body=body)
    return read_client_document(response, client_id=URL)


@requirement("R-12", "R-13", "AS04")
@pytest.mark.parametrize(
    ("status", "content_type"),
    [
        (201, "application/json"),
        (204, "application/json"),
        (206, "application/json"),
        (404, "application/json"),
        (500, "application/json"),
        (200, "text/html"),
        (200, "text/plain"),
        (200, ""),
    ],
)
def test_only_a_200_with_json_is_a_document(status: int, content_type: str) -> None:
    with pytest.raises(InvalidClientMetadataError):
        _read(_body(DOCUMENT), status=status, content_type=content_type)


@requirement("R-09", "R-12", "AS04")
@pytest.mark.parametrize(
    "document",
    [
        PLAIN,
        DOCUMENT | {"client_id": URL + "/"},
        DOCUMENT | {"client_id": URL.upper()},
        DOCUMENT | {"client_id": [URL]},
        DOCUMENT | {"client_id": "https://evil.example/c"},
        DOCUMENT | {"client_name": ""},
        DOCUMENT | {"client_name": None},
        {"client_id": URL, "redirect_uris": ["https://a.example/"]},
        {"client_id": URL, "client_name": "x"},
        DOCUMENT | {"token_endpoint_auth_method": "client_secret_basic"},
        DOCUMENT | {"client_secret": "x"},
        DOCUMENT | {"token_endpoint_auth_method": "client_secret_post"},
        DOCUMENT | {"client_secret_expires_at": 0},
        DOCUMENT | {"token_endpoint_auth_method": "private_key_jwt"},
        DOCUMENT | {"redirect_uris": ["javascript:/x"]},
        DOCUMENT | {"padding": "x" * 5120},
        b"",
        b"<html></html>",
        b"[]",
        b"\x1f\x8b",
    ],
)
def test_a_document_that_is_not_what_its_address_says_is_refused(document: dict[str, Any] | bytes) -> None:
    with pytest.raises(InvalidClientMetadataError):
        _read(_body(document))


def test_a_document_without_a_method_is_that_of_a_public_client() -> None:
    assert _read(_body(DOCUMENT)).auth_method == "none"


@requirement("AS04")
@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"client_name": "Other"}, True),
        ({"redirect_uris": ["https://client.example.com/other"]}, True),
        ({"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [_KEY]}}, True),
        ({"client_uri": "https://client.example.com/"}, False),
        ({"logo_uri": "https://client.example.com/logo.png"}, False),
    ],
)
def test_the_fingerprint_changes_with_what_a_person_relied_on(change: dict[str, Any], differs: bool) -> None:
    before = _read(_body(DOCUMENT)).fingerprint
    after = _read(_body(DOCUMENT | change)).fingerprint
    assert (before != after) == differs


@requirement("R-10", "AS04")
@pytest.mark.parametrize(
    ("control", "seconds"),
    [
        ("", 3600),
        ("max-age=600", 600),
        ("public, max-age=600", 600),
        ("max-age=0", 60),
        ("max-age=5", 60),
        ("max-age=86400", 86400),
        ("max-age=31536000", 86400),
        ("max-age=99999999999999", 86400),
        ("no-store", 60),
        ("no-cache, max-age=600", 60),
        ("max-age=x", 3600),
        ("MAX-AGE=120", 120),
        ("s-maxage=7", 3600),
    ],
)
def test_a_document_is_believed_for_a_minute_to_a_day(control: str, seconds: int) -> None:
    assert document_lifetime_seconds({"cache-control": control}) == seconds
