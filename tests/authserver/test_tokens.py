"""Access tokens of ours: what is accepted, and what is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from joserfc.jwk import ECKey, OctKey, RSAKey
from joserfc.jws import JWSRegistry

from authserver import tokens
from authserver.flows.end_tokens import end_families, revoke_values
from authserver.flows.issue_code import subject_of
from authserver.models import TokenFamily
from authserver.resources import find_resource
from authserver.revoked import REVOKED, in_thread
from authserver.signing_keys import public_jwks, signing_key, verification_keys
from authserver.tokens import InvalidTokenError, averify, verify
from connections.models import McpServer
from mcp_oauth_site.keys import new_keys
from tests.authserver.grants import RESOURCE, make_client, make_consent, make_family, mint, nothing_remembered
from tests.requirements import requirement

__all__ = ["nothing_remembered"]


@pytest.fixture
def family(alice: User) -> TokenFamily:
    return make_family(make_consent(alice, make_client()))


@requirement("X-06", "T-09")
def test_a_token_says_what_rfc_9068_asks_for_and_no_more(family: TokenFamily, alice: User) -> None:
    token = mint(family)
    header, claims = (_read(part) for part in token.split(".")[:2])
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": signing_key()[0]}
    assert claims.keys() == {"iss", "sub", "aud", "client_id", "scope", "iat", "exp", "jti"}
    assert (claims["iss"], claims["aud"], claims["exp"] - claims["iat"]) == ("http://localhost:8000", RESOURCE, 900)
    found = verify(token, audience=RESOURCE)
    assert (found.user_id, found.client_id, found.scopes) == (alice.pk, "program", {"mcp:access"})


@requirement("AS19")
def test_a_subject_is_opaque_stays_the_same_and_is_nobodys_client_id(alice: User, bob: User) -> None:
    assert subject_of(alice) == subject_of(alice) != subject_of(bob)
    assert subject_of(alice).startswith("user:")
    assert "alice" not in subject_of(alice)
    with transaction.atomic(), pytest.raises(IntegrityError):
        make_client(subject_of(alice))


@requirement("T-04", "X-05", "AS11")
@pytest.mark.parametrize(
    "audience",
    [
        f"{RESOURCE}b",
        f"{RESOURCE}/",
        RESOURCE.removesuffix("s"),
        "http://localhost:8000/api/v1",
        "http://localhost:8000",
    ],
)
def test_a_token_is_good_at_its_own_resource_only(family: TokenFamily, audience: str) -> None:
    with pytest.raises(InvalidTokenError):
        verify(mint(family), audience=audience)


@requirement("AS14")
def test_an_ended_family_ends_its_access_tokens_also_where_they_were_seen_before(family: TokenFamily) -> None:
    token, other = mint(family), mint(make_family(family.consent))
    verify(token, audience=RESOURCE)
    assert end_families(TokenFamily.objects.filter(pk=family.pk), reason="test", now=timezone.now()) == 1
    REVOKED._checked_at = float("-inf")  # half a second later
    with pytest.raises(InvalidTokenError):
        verify(token, audience=RESOURCE)
    assert verify(other, audience=RESOURCE)


def test_one_token_can_be_revoked_by_its_name(family: TokenFamily) -> None:
    token, other = mint(family), mint(family)
    revoke_values([verify(token, audience=RESOURCE).jti], now=timezone.now())
    REVOKED._checked_at = float("-inf")
    with pytest.raises(InvalidTokenError):
        verify(token, audience=RESOURCE)
    assert verify(other, audience=RESOURCE)


def test_somebody_who_is_deactivated_without_a_word_loses_access_all_the_same(family: TokenFamily, alice: User) -> None:
    token = mint(family)
    verify(token, audience=RESOURCE)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    object.__setattr__(REVOKED._latest, "read_at", time.monotonic() - 4)
    REVOKED._checked_at = float("-inf")
    with pytest.raises(InvalidTokenError):
        verify(token, audience=RESOURCE)


def test_nothing_is_asked_twice_within_half_a_second(
    family: TokenFamily, django_assert_num_queries: Callable[[int], Any]
) -> None:
    token = mint(family)
    verify(token, audience=RESOURCE)
    with django_assert_num_queries(0):
        verify(token, audience=RESOURCE)


def test_a_token_that_was_seen_is_refused_once_it_has_expired(family: TokenFamily) -> None:
    token = mint(family, issued_at=int(time.time()) - 905)
    assert verify(token, audience=RESOURCE)  # ten seconds of clock skew are allowed
    kept = tokens._CACHE._kept
    digest, seen = next(iter(kept.items()))
    kept[digest] = tokens.VerifiedToken(**{name: getattr(seen, name) for name in seen.__slots__} | {"expires_at": 1})
    with pytest.raises(InvalidTokenError):
        verify(token, audience=RESOURCE)


@pytest.mark.django_db(transaction=True)
async def test_the_event_loop_has_the_same_rules(alice: User) -> None:
    token = await in_thread(lambda: mint(make_family(make_consent(alice, make_client()))))
    assert (await averify(token, audience=RESOURCE)).user_id == alice.pk
    with pytest.raises(InvalidTokenError):
        await averify(token, audience=f"{RESOURCE}/b")
    with pytest.raises(InvalidTokenError):
        await averify(token[:-4], audience=RESOURCE)


@requirement("K05")
def test_the_same_keys_at_another_address_sign_nothing_that_is_good_here(family: TokenFamily, settings: Any) -> None:
    settings.PUBLIC_URL = "http://staging.localhost:8000"
    foreign = mint(family)
    settings.PUBLIC_URL = "http://localhost:8000"
    assert _read(foreign.split(".")[0])["kid"] not in verification_keys()
    with pytest.raises(InvalidTokenError):
        verify(foreign, audience=RESOURCE)


def test_a_new_key_is_published_before_it_signs_and_an_old_one_until_it_leaves(
    family: TokenFamily, settings: Any
) -> None:
    old = settings.SIGNING_KEYS[0]
    new = new_keys().signing_keys[0]
    token = mint(family)
    settings.SIGNING_KEYS = [old, new]
    assert len(public_jwks()["keys"]) == 2
    assert not any("d" in key for key in public_jwks()["keys"])
    assert _read(mint(family).split(".")[0])["kid"] == _read(token.split(".")[0])["kid"]
    settings.SIGNING_KEYS = [new, old]
    assert _read(mint(family).split(".")[0])["kid"] != _read(token.split(".")[0])["kid"]
    assert verify(token, audience=RESOURCE)
    settings.SIGNING_KEYS = [new]
    tokens._CACHE.forget()
    with pytest.raises(InvalidTokenError):
        verify(token, audience=RESOURCE)


# ---- Forged tokens

_HEADER: dict[str, Any] = {}


def _forged(header: dict[str, Any], claims: dict[str, Any], *, key: Any = None, alg: str = "ES256") -> str:
    used = key or signing_key()[1]
    signed = f"{_write(header)}.{_write(claims)}".encode()
    signature = JWSRegistry.algorithms[alg].sign(signed, used) if alg != "none" else b""
    return f"{signed.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _read(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def _write(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def _with(**changes: Any) -> Callable[[dict[str, Any], dict[str, Any]], str]:
    """A token whose header (`h_…`) or claims differ; None leaves one out. The signature is ours and right."""

    def forge(header: dict[str, Any], claims: dict[str, Any]) -> str:
        for name, value in changes.items():
            target = header if name.startswith("h_") else claims
            target[name.removeprefix("h_")] = value
        kept = [{name: value for name, value in part.items() if value is not None} for part in (header, claims)]
        return _forged(*kept)

    return forge


def _hs256_with_the_public_key(header: dict[str, Any], claims: dict[str, Any]) -> str:
    signed = f"{_write(header | {'alg': 'HS256'})}.{_write(claims)}"
    pem = signing_key()[1].as_pem(private=False)
    mac = base64.urlsafe_b64encode(hmac.digest(pem, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()
    return f"{signed}.{mac}"


def _changed_after_signing(header: dict[str, Any], claims: dict[str, Any]) -> str:
    head, _, signature = _forged(header, claims).split(".")
    return f"{head}.{_write(claims | {'scope': 'everything'})}.{signature}"


def _twice(header: dict[str, Any], claims: dict[str, Any]) -> str:
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    body = json.dumps(claims)[:-1] + ', "aud": "http://localhost:8000/mcp/other", "aud": ' + json.dumps(RESOURCE) + "}"
    signed = f"{head}.{base64.urlsafe_b64encode(body.encode()).rstrip(b'=').decode()}"
    signature = JWSRegistry.algorithms["ES256"].sign(signed.encode(), signing_key()[1])
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


_KNOWN_SECRET = OctKey.import_key("x" * 32)
_OTHER = ECKey.generate_key("P-256")
FORGED: dict[str, Callable[[dict[str, Any], dict[str, Any]], str]] = {
    "alg none": lambda h, c: _forged(h | {"alg": "none"}, c, alg="none"),
    "alg None, mixed case": lambda h, c: _forged(h | {"alg": "nOnE"}, c, alg="none"),
    "no signature": lambda h, c: _forged(h, c).rpartition(".")[0] + ".",
    "HS256 with the public key": _hs256_with_the_public_key,
    "HS256 with a known secret": lambda h, c: _forged(h | {"alg": "HS256"}, c, key=_KNOWN_SECRET, alg="HS256"),
    "RS256 of somebody": lambda h, c: _forged(h | {"alg": "RS256"}, c, key=RSAKey.generate_key(2048), alg="RS256"),
    "ES256 of somebody": lambda h, c: _forged(h, c, key=_OTHER),
    "another key under its own kid": lambda h, c: _forged(h | {"kid": _OTHER.thumbprint()}, c, key=_OTHER),
    "another key, given along": lambda h, c: _forged(h | {"jwk": _OTHER.as_dict(private=False)}, c, key=_OTHER),
    "jku": _with(h_jku="https://evil.example/jwks"),
    "x5u": _with(h_x5u="https://evil.example/cert"),
    "x5c": _with(h_x5c=["AAAA"]),
    "jwk, own": _with(h_jwk={"kty": "oct", "k": "AA"}),
    "crit": _with(h_crit=["exp"]),
    "b64": _with(h_b64=False, h_crit=["b64"]),
    "zip": _with(h_zip="DEF"),
    "cty JWT, nested": _with(h_cty="JWT"),
    "no kid": _with(h_kid=None),
    "kid, a path": _with(h_kid="../../etc/passwd"),
    "kid, SQL": _with(h_kid="' OR 1=1 --"),
    "kid, a list": _with(h_kid=["a"]),
    "typ JWT": _with(h_typ="JWT"),
    "typ of an id token": _with(h_typ=None),
    "typ of an assertion": _with(h_typ="client-authentication+jwt"),
    "another issuer": _with(iss="https://evil.example"),
    "issuer with a slash": _with(iss="http://localhost:8000/"),
    "no issuer": _with(iss=None),
    "two audiences": _with(aud=[RESOURCE, "https://evil.example"]),
    "an audience in a list": _with(aud=[RESOURCE]),
    "no audience": _with(aud=None),
    "no subject": _with(sub=None),
    "a subject of nobody": _with(sub="user:nobody"),
    "subject and client the same, and no service account": _with(sub="program"),
    "no client": _with(client_id=None),
    "no jti": _with(jti=None),
    "expired": _with(exp=int(time.time()) - 60, iat=int(time.time()) - 120),
    "no expiry": _with(exp=None),
    "expiry as text": _with(exp="9999999999"),
    "expiry as a float": _with(exp=1e300),
    "expiry far away": _with(exp=9_999_999_999),
    "expiry that is true": _with(exp=True),
    "from the future": _with(iat=int(time.time()) + 3600, exp=int(time.time()) + 4500),
    "no iat": _with(iat=None),
    "not before tomorrow": _with(nbf=int(time.time()) + 86_400),
    "scope in a list": _with(scope=["mcp:access"]),
    "larger than 8 KiB": _with(extra="x" * 8192),
    "changed after signing": _changed_after_signing,
    "a claim twice": _twice,
    "a part too many": lambda h, c: _forged(h, c) + ".AAAA",
    "a part too few": lambda h, c: _forged(h, c).rpartition(".")[0],
    "a JWE": lambda h, c: "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAA.AAAA.AAAA",
    "a list for claims": lambda h, c: _forged(h, [c]),  # type-wise no claims at all
    "no JSON": lambda h, c: "AAAA.AAAA.AAAA",
    "no base64": lambda h, c: "%%%.%%%.%%%",
    "beyond ASCII": lambda h, c: "é.é.é",
    "empty": lambda h, c: "",
    "dots": lambda h, c: "..",
}  # fmt: skip


@requirement("X-06", "AS12", "T-03", "T-05")
@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused(name: str, family: TokenFamily) -> None:
    good = mint(family)
    header, claims = (_read(part) for part in good.split(".")[:2])
    with pytest.raises(InvalidTokenError):
        verify(FORGED[name](dict(header), dict(claims)), audience=RESOURCE)
    assert verify(good, audience=RESOURCE)


def test_the_token_that_the_forgeries_are_made_of_is_good(family: TokenFamily) -> None:
    header, claims = (_read(part) for part in mint(family).split(".")[:2])
    assert verify(_with()(header, claims), audience=RESOURCE)


def test_no_resource_but_ours_is_known(db: None) -> None:
    server = McpServer.objects.create(name="N", slug="notes", url="https://n.example/mcp", gateway_enabled=True)
    assert find_resource(RESOURCE) is not None
    assert find_resource("http://localhost:8000/api/v1") is not None
    for unknown in (f"{RESOURCE}/", RESOURCE.upper(), "http://localhost:8000/mcp/", "https://notes.example/mcp", ""):
        assert find_resource(unknown) is None
    McpServer.objects.filter(pk=server.pk).update(gateway_enabled=False)
    assert find_resource(RESOURCE) is None
