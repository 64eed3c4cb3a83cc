"""How we prove who we are."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from oauthflow.protocol.client_auth import (
    ClientCredentials,
    auth_method_to_register,
    authenticate,
    choose_auth_method,
    public_jwks,
)
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import InvalidRequestError, RegistrationError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.signing_key import SigningKey
from tests.requirements import requirement

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
ISSUER = "https://as.example.com/tenant"
PHRASE = "s3cret"
FORM = {"grant_type": "refresh_token", "refresh_token": "r"}


def private_jwk(kid: str = "k1") -> dict[str, str]:
    key = ECKey.generate_key("P-256", {"kid": kid}, private=True)
    return {name: str(value) for name, value in key.as_dict(private=True).items()}


def credentials(method: str, *, client_id: str = "client-1", secret: str = PHRASE) -> ClientCredentials:
    return ClientCredentials(client_id, client_secret=Secret(secret), auth_method=method)


@requirement("T-12")
def test_basic_puts_id_and_secret_into_the_header_and_nothing_into_the_form() -> None:
    headers, form = authenticate(FORM, client=credentials("client_secret_basic"), audience=ISSUER, now=NOW)
    assert headers == {"Authorization": "Basic Y2xpZW50LTE6czNjcmV0"}
    assert form == FORM


@requirement("T-12")
def test_basic_form_encodes_reserved_characters_before_base64() -> None:
    client = credentials("client_secret_basic", client_id="https://app.example.com/id:1", secret="p %&+:=?/\"'ü\\€")
    headers, _ = authenticate(FORM, client=client, audience=ISSUER, now=NOW)
    decoded = b64decode(headers["Authorization"].removeprefix("Basic ")).decode("ascii")
    expected_secret = "p+%25%26%2B%3A%3D%3F%2F%22%27%C3%BC%5C%E2%82%AC"
    assert decoded == f"https%3A%2F%2Fapp.example.com%2Fid%3A1:{expected_secret}"


def test_basic_leaves_unreserved_characters_alone() -> None:
    client = credentials("client_secret_basic", client_id="a-b.c_d~e", secret="A-Z.0_9~")
    headers, _ = authenticate(FORM, client=client, audience=ISSUER, now=NOW)
    assert b64decode(headers["Authorization"].removeprefix("Basic ")) == b"a-b.c_d~e:A-Z.0_9~"


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_server_that_decodes_basic_gets_back_any_id_and_secret(client_id: str, secret: str) -> None:
    client = credentials("client_secret_basic", client_id=client_id, secret=secret)
    headers, _ = authenticate({}, client=client, audience=ISSUER, now=NOW)
    sent_id, _, sent_secret = b64decode(headers["Authorization"].removeprefix("Basic ")).decode("ascii").partition(":")
    assert (unquote_plus(sent_id), unquote_plus(sent_secret)) == (client_id, secret)


@requirement("T-12")
def test_post_puts_id_and_secret_into_the_form_only() -> None:
    headers, form = authenticate(FORM, client=credentials("client_secret_post"), audience=ISSUER, now=NOW)
    assert headers == {}
    assert form == {**FORM, "client_id": "client-1", "client_secret": "s3cret"}


@requirement("T-12")
def test_none_sends_the_id_and_never_the_secret() -> None:
    headers, form = authenticate(FORM, client=credentials("none"), audience=ISSUER, now=NOW)
    assert headers == {}
    assert form == {**FORM, "client_id": "client-1"}


@requirement("T-12", "R-07")
def test_private_key_jwt_is_signed_for_the_issuer_and_lives_for_a_minute() -> None:
    key = SigningKey(private_jwk())
    client = ClientCredentials("client-1", auth_method="private_key_jwt", signing_key=key)
    headers, form = authenticate(FORM, client=client, audience=ISSUER, now=NOW)
    token = jwt.decode(form["client_assertion"], KeySet.import_key_set(public_jwks([key])), algorithms=["ES256"])
    issued_at = int(NOW.timestamp())
    assert headers == {}
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert form["client_id"] == "client-1"
    assert token.header == {"alg": "ES256", "typ": "JWT", "kid": "k1"}
    assert len(token.claims.pop("jti")) >= 16
    assert token.claims == {
        "iss": "client-1",
        "sub": "client-1",
        "aud": ISSUER,
        "iat": issued_at,
        "exp": issued_at + 60,
    }


def test_two_assertions_never_share_their_jti() -> None:
    key = SigningKey(private_jwk())
    client = ClientCredentials("client-1", auth_method="private_key_jwt", signing_key=key)
    sent = [authenticate({}, client=client, audience=ISSUER, now=NOW)[1]["client_assertion"] for _ in range(2)]
    public = KeySet.import_key_set(public_jwks([key]))
    assert len({jwt.decode(one, public, algorithms=["ES256"]).claims["jti"] for one in sent}) == 2


def test_a_fraction_of_a_second_does_not_reach_the_assertion() -> None:
    key = SigningKey(private_jwk())
    client = ClientCredentials("client-1", auth_method="private_key_jwt", signing_key=key)
    _, form = authenticate({}, client=client, audience=ISSUER, now=NOW + timedelta(microseconds=999_999))
    token = jwt.decode(form["client_assertion"], KeySet.import_key_set(public_jwks([key])), algorithms=["ES256"])
    assert token.claims["iat"] == int(NOW.timestamp())


def test_the_callers_form_is_not_changed() -> None:
    form = dict(FORM)
    authenticate(form, client=credentials("client_secret_post"), audience=ISSUER, now=NOW)
    assert form == FORM


@pytest.mark.parametrize(
    "method", ["client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth", ""]
)
def test_credentials_that_lack_what_their_method_needs_are_refused(method: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        authenticate(FORM, client=ClientCredentials("client-1", auth_method=method), audience=ISSUER, now=NOW)
    assert refused.value.code == Code.INVALID_CLIENT
    assert not refused.value.retryable


def test_an_empty_secret_counts_as_none() -> None:
    with pytest.raises(InvalidRequestError):
        authenticate(FORM, client=credentials("client_secret_basic", secret=""), audience=ISSUER, now=NOW)


@requirement("T-12")
@pytest.mark.parametrize(
    ("has_secret", "supported", "chosen"),
    [
        (True, None, "client_secret_basic"),
        (True, ["client_secret_post", "client_secret_basic"], "client_secret_basic"),
        (True, ["private_key_jwt", "client_secret_post"], "client_secret_post"),
        (True, ["none"], "none"),
        (False, None, "none"),
        (False, ["none"], "none"),
        (False, ["client_secret_basic"], "none"),
    ],
)
def test_auto_chooses_what_the_server_supports(has_secret: bool, supported: list[str] | None, chosen: str) -> None:
    assert choose_auth_method(wanted="auto", has_secret=has_secret, supported=supported) == chosen


@pytest.mark.parametrize("wanted", ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"])
def test_a_method_that_was_agreed_goes_before_the_servers_list(wanted: str) -> None:
    assert choose_auth_method(wanted=wanted, has_secret=True, supported=["tls_client_auth"]) == wanted


@pytest.mark.parametrize("supported", [[], ["private_key_jwt"], ["tls_client_auth"]])
def test_a_secret_that_the_server_has_no_use_for_is_an_error(supported: list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        choose_auth_method(wanted="auto", has_secret=True, supported=supported)


@pytest.mark.parametrize("wanted", ["client_secret_basic", "client_secret_post", "client_secret_jwt", ""])
def test_a_wanted_method_that_cannot_work_is_an_error(wanted: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        choose_auth_method(wanted=wanted, has_secret=False, supported=None)
    assert refused.value.code == Code.INVALID_CLIENT


@requirement("T-12")
@pytest.mark.parametrize(
    ("supported", "chosen"),
    [
        (None, "client_secret_basic"),
        (["none", "client_secret_post", "client_secret_basic"], "client_secret_basic"),
        (["none", "client_secret_post"], "client_secret_post"),
        (["none"], "none"),
        (["private_key_jwt", "none"], "none"),
        (["private_key_jwt"], "private_key_jwt"),
    ],
)
def test_we_register_for_a_method_that_the_server_supports(supported: list[str] | None, chosen: str) -> None:
    assert auth_method_to_register(supported=supported) == chosen


def test_we_do_not_register_where_no_method_of_ours_is_supported() -> None:
    with pytest.raises(RegistrationError):
        auth_method_to_register(supported=["tls_client_auth"])


def test_the_public_document_holds_no_private_member() -> None:
    keys = [SigningKey(private_jwk("k1")), SigningKey({**private_jwk("k2"), "note": "private"})]
    document = public_jwks(keys)
    assert [key["kid"] for key in document["keys"]] == ["k1", "k2"]
    assert {frozenset(key) for key in document["keys"]} == {frozenset({"kty", "crv", "x", "y", "kid", "use", "alg"})}
    assert not any(key.jwk["d"] in str(document) for key in keys)


@pytest.mark.parametrize("name", ["kid", "x", "y", "d", "kty", "crv"])
def test_a_signing_key_without_a_needed_member_is_refused_without_showing_the_others(name: str) -> None:
    jwk = private_jwk()
    kept = {member: value for member, value in jwk.items() if member != name}
    with pytest.raises(ValueError, match="signing key") as refused:
        SigningKey(kept)
    assert not any(jwk[member] in str(refused.value) for member in ("d", "x", "y"))


@pytest.mark.parametrize("change", [{"x": "!!"}, {"x": "AA", "y": "AA"}, {"d": "not base64url"}])
def test_a_signing_key_that_is_no_point_on_the_curve_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="signing key"):
        SigningKey({**private_jwk(), **change})


def test_a_private_part_of_another_key_is_refused() -> None:
    with pytest.raises(ValueError, match="signing key"):
        SigningKey({**private_jwk(), "d": private_jwk()["d"]})


def test_neither_key_nor_credentials_print_their_secrets() -> None:
    jwk = private_jwk()
    client = ClientCredentials("client-1", client_secret=Secret("marker-secret"), signing_key=SigningKey(jwk))
    assert not re.search(f"marker-secret|{re.escape(jwk['d'])}", f"{client!r} {client}")
