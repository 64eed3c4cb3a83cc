"""Tokens that another issuer signed: what is taken, and each way in which one is not."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from gateway.callers.claims import ExternalToken
from gateway.callers.signed_token import ALGORITHMS, SignatureRules, has_ended, read_signed_token, signed_key_id
from gateway.endpoint.challenges import InvalidTokenError
from tests.fakes.internet import FakeInternet
from tests.requirements import requirement

from .external_issuer import AUDIENCE, ISSUER, ExternalIssuer, part, signed

NOW = time.time()
RULES = SignatureRules(ISSUER, AUDIENCE, frozenset({"RS256", "PS256", "ES256", "EdDSA"}))
PLAIN = replace(RULES, accept_plain_jwt=True)
_ISSUER = ExternalIssuer(FakeInternet())
_KEY = _ISSUER.keys["one"]
_OTHER = ECKey.generate_key("P-256")
_RSA = RSAKey.generate_key(2048)
_EDWARDS = OKPKey.generate_key("Ed25519")


def read(token: str, *, rules: SignatureRules = RULES, key: Any = _KEY, now: float | None = None) -> ExternalToken:
    """Judge a token as the gateway does once the key is there."""
    signed_key_id(token, rules=rules)
    return read_signed_token(token, key=key, rules=rules, now=time.time() if now is None else now)


def with_header(**changes: Any) -> Callable[[], str]:
    return lambda: _ISSUER.token(header=changes)


def with_claims(**changes: Any) -> Callable[[], str]:
    return lambda: _ISSUER.token(**changes)


def _hs256_with(secret: bytes) -> str:
    text = f"{part({'alg': 'HS256', 'typ': 'at+jwt', 'kid': 'one'})}.{part(_ISSUER.claims())}"
    return f"{text}.{part(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def _changed_after_signing() -> str:
    head, _, signature = _ISSUER.token().split(".")
    return f"{head}.{part(_ISSUER.claims(sub='somebody-else'))}.{signature}"


def _audience_twice() -> str:
    claims = part(_ISSUER.claims())
    body = f'{{"aud": "https://evil.example", "aud": "{AUDIENCE}", '.encode() + b'"x": 1}'
    token = signed({"alg": "ES256", "typ": "at+jwt", "kid": "one"}, body, key=_KEY)
    assert claims not in token
    return token


WRONG: dict[str, Callable[[], str]] = {
    "alg none": lambda: signed({"alg": "none", "typ": "at+jwt"}, _ISSUER.claims(), key=_KEY),
    "alg None, mixed case": lambda: signed({"alg": "nOnE", "typ": "at+jwt"}, _ISSUER.claims(), key=_KEY),
    "no alg": with_header(alg=None),
    "alg in a list": lambda: _ISSUER.token().replace(
        _ISSUER.token().split(".")[0], part({"alg": ["ES256"], "typ": "at+jwt", "kid": "one"})
    ),
    "no signature": lambda: _ISSUER.token().rpartition(".")[0] + ".",
    "HS256 with the public key in PEM": lambda: _hs256_with(_KEY.as_pem(private=False)),
    "HS256 with the public key in JSON": lambda: _hs256_with(str(_KEY.as_dict(private=False)).encode()),
    "HS256 with a known secret": lambda: _ISSUER.token(header={"alg": "HS256"}, key=OctKey.import_key("x" * 32)),
    "an algorithm that is not allowed": lambda: _ISSUER.token(
        header={"alg": "ES384"}, key=ECKey.generate_key("P-384")
    ),
    "RS256 by somebody, for an EC key": lambda: _ISSUER.token(header={"alg": "RS256"}, key=_RSA),
    "signed by somebody else": lambda: _ISSUER.token(key=_OTHER),
    "signed by a key given along": lambda: _ISSUER.token(header={"jwk": _OTHER.as_dict(private=False)}, key=_OTHER),
    "jwk": with_header(jwk=_KEY.as_dict(private=False)),
    "jku": with_header(jku="https://evil.example/jwks"),
    "x5u": with_header(x5u="https://evil.example/cert"),
    "x5c": with_header(x5c=["AAAA"]),
    "crit": with_header(crit=["exp"]),
    "b64": with_header(b64=False, crit=["b64"]),
    "zip": with_header(zip="DEF"),
    "nested": with_header(cty="JWT"),
    "kid that is a list": with_header(kid=["one"]),
    "typ JWT": with_header(typ="JWT"),
    "no typ": with_header(typ=None),
    "typ of a logout token": with_header(typ="logout+jwt"),
    "typ of an assertion": with_header(typ="client-authentication+jwt"),
    "typ of a refresh token": with_header(typ="rt+jwt"),
    "another issuer": with_claims(iss="https://evil.example"),
    "issuer with a slash": with_claims(iss=f"{ISSUER}/"),
    "issuer in capitals": with_claims(iss="https://ISSUER.example"),
    "no issuer": with_claims(iss=None),
    "another audience": with_claims(aud="http://localhost:8000/mcp/other"),
    "audience that begins alike": with_claims(aud=f"{AUDIENCE}b"),
    "audience with a slash": with_claims(aud=f"{AUDIENCE}/"),
    "audience of the whole site": with_claims(aud="http://localhost:8000"),
    "two audiences": with_claims(aud=[AUDIENCE, "https://evil.example"]),
    "no audience in a list": with_claims(aud=[]),
    "no audience": with_claims(aud=None),
    "audience twice": _audience_twice,
    "audience, the client's id": with_claims(aud="editor"),
    "expired": with_claims(exp=int(NOW) - 11),
    "no expiry": with_claims(exp=None),
    "expiry as text": with_claims(exp="9999999999"),
    "expiry that is true": with_claims(exp=True),
    "not before later": with_claims(nbf=int(NOW) + 3600),
    "not before, as text": with_claims(nbf="0"),
    "issued in the future": with_claims(iat=int(NOW) + 3600),
    "no iat": with_claims(iat=None),
    "no subject": with_claims(sub=None),
    "empty subject": with_claims(sub=""),
    "subject that is a number": with_claims(sub=1),
    "subject without end": with_claims(sub="s" * 256),
    "bound to a DPoP key": with_claims(cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
    "bound to a certificate": with_claims(cnf={"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}),
    "an ID token": with_claims(aud="editor", nonce="n", at_hash="x"),
    "an ID token for this address": with_claims(nonce="n"),
    "a logout token": with_claims(events={"http://schemas.openid.net/event/backchannel-logout": {}}),
    "what calls itself a refresh token": with_claims(typ="Refresh"),
    "what is used as an ID token": with_claims(token_use="id"),
    "larger than 8 KiB": with_claims(extra="x" * 8192),
    "changed after signing": _changed_after_signing,
    "a part too many": lambda: f"{_ISSUER.token()}.AAAA",
    "a part too few": lambda: _ISSUER.token().rpartition(".")[0],
    "a JWE": lambda: "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAA.AAAA.AAAA",
    "a list for claims": lambda: signed({"alg": "ES256", "typ": "at+jwt", "kid": "one"}, [1], key=_KEY),
    "no JSON": lambda: "AAAA.AAAA.AAAA",
    "standard base64": lambda: _ISSUER.token().replace("-", "+").replace("_", "/") + "+",
    "padded": lambda: f"{_ISSUER.token()}=",
    "opaque": lambda: "2YotnFZFEjr1zCsicMWpAA",
    "dots": lambda: "..",
}  # fmt: skip
# What is wrong only because a token has to say that it is an access token.
ONLY_BY_TYPE = frozenset({"typ JWT", "no typ"})


@requirement("X-06", "AS12", "T-03", "T-04", "T-05")
@pytest.mark.parametrize("name", WRONG)
def test_a_token_that_is_not_good_here_is_refused(name: str) -> None:
    for rules in (RULES, PLAIN) if name not in ONLY_BY_TYPE else (RULES,):
        with pytest.raises(InvalidTokenError):
            read(WRONG[name](), rules=rules)
    assert read(_ISSUER.token()).subject == "248289761001"


@requirement("X-06")
def test_a_good_token_says_who_what_and_how_long() -> None:
    ends = int(time.time()) + 60
    found = read(_ISSUER.token(scope="mcp:access notes:read", exp=ends))
    assert (found.issuer, found.subject, found.client_id) == (ISSUER, "248289761001", "editor")
    assert found.scopes == {"mcp:access", "notes:read"}
    assert found.expires_at == ends
    assert read(_ISSUER.token(aud=[AUDIENCE])).client_id == "editor"
    assert read(_ISSUER.token(header={"x5t": "abc"}, typ="Bearer")).client_id == "editor"


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scope": None}, set()),
        ({"scope": None, "scp": "a b"}, {"a", "b"}),
        ({"scope": None, "scp": ["a", "b"]}, {"a", "b"}),
        ({"scope": ["a", 1]}, {"a"}),
        ({"scope": {}}, set()),
        ({"scope": "a", "scp": "b"}, {"a"}),
    ],
)
def test_scopes_are_read_as_issuers_write_them(changes: dict[str, Any], scopes: set[str]) -> None:
    assert read(_ISSUER.token(**changes)).scopes == scopes


@pytest.mark.parametrize(
    ("changes", "client_id"),
    [
        ({"client_id": None, "azp": "app"}, "app"),
        ({"client_id": None, "appid": "app"}, "app"),
        ({"client_id": None}, ""),
        ({"client_id": "a\nb"}, ""),
        ({"client_id": 1}, ""),
    ],
)
def test_the_program_is_known_where_the_issuer_says_it(changes: dict[str, Any], client_id: str) -> None:
    assert read(_ISSUER.token(**changes)).client_id == client_id


def test_clocks_may_be_ten_seconds_apart_and_no_more() -> None:
    token = _ISSUER.token(nbf=int(NOW) + 10, exp=int(NOW) + 20, iat=int(NOW) + 10)
    assert read(token, now=int(NOW)).subject
    assert read(token, now=int(NOW) + 29).subject
    for now in (int(NOW) - 1, int(NOW) + 30):
        with pytest.raises(InvalidTokenError):
            read(token, now=now)
    found = read(token, now=int(NOW))
    assert not has_ended(found, now=int(NOW) + 29)
    assert has_ended(found, now=int(NOW) + 30)


def test_where_an_administrator_says_so_the_type_may_be_missing() -> None:
    for header in ({"typ": "JWT"}, {"typ": None}, {"typ": "application/jwt"}, {"typ": "AT+JWT"}):
        assert read(_ISSUER.token(header=header), rules=PLAIN).subject


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", _RSA), ("PS256", _RSA), ("EdDSA", _EDWARDS)])
def test_other_algorithms_are_verified_by_keys_of_their_kind(algorithm: str, key: Any) -> None:
    token = _ISSUER.token(header={"alg": algorithm}, key=key)
    assert read(token, key=key).subject
    for other in (_KEY, RSAKey.generate_key(2048), OKPKey.generate_key("Ed25519")):
        with pytest.raises(InvalidTokenError):
            read(token, key=other)


def test_nothing_can_be_allowed_that_a_public_key_could_sign() -> None:
    assert not [name for name in ALGORITHMS if name.startswith("HS") or name.lower() == "none"]
    careless = replace(RULES, algorithms=frozenset({"HS256", "none", "ES256"}))
    for token in (WRONG["alg none"](), WRONG["HS256 with the public key in PEM"]()):
        with pytest.raises(InvalidTokenError):
            signed_key_id(token, rules=careless)


def test_a_key_verifies_what_it_was_published_for_and_nothing_else() -> None:
    token = _ISSUER.token(header={"alg": "PS256"}, key=_RSA)
    public = {name: str(value) for name, value in _RSA.as_dict(private=False).items()}
    assert read(token, key=RSAKey.import_key({**public, "alg": "PS256", "use": "sig"})).subject
    for purpose in ({"alg": "RS256"}, {"use": "enc"}):
        with pytest.raises(InvalidTokenError):
            read(token, key=RSAKey.import_key({**public, **purpose}))
