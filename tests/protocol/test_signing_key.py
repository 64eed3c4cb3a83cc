"""Private keys as people hand them over."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from oauthflow.protocol.errors import NotConfiguredError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.signing_key import SigningKey, read_signing_key


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, kind: PrivateFormat = PrivateFormat.PKCS8) -> str:
    return key.private_bytes(Encoding.PEM, kind, NoEncryption()).decode()


@pytest.mark.parametrize("kind", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_pem_key_is_read_and_named_by_its_thumbprint(kind: PrivateFormat) -> None:
    key = read_signing_key(Secret(f"\n{pem(ec.generate_private_key(ec.SECP256R1()), kind)}\n"))
    assert key.kid == key.thumbprint


def test_a_jwk_keeps_its_own_name() -> None:
    made = SigningKey.new()
    assert read_signing_key(made.as_secret()) == made
    named = {**made.jwk, "kid": "at-the-service"}
    assert read_signing_key(Secret(json.dumps(named))).kid == "at-the-service"


def test_the_public_half_has_no_private_member() -> None:
    key = SigningKey.new()
    assert set(key.public_jwk) == {"kty", "crv", "x", "y"}
    assert key.jwk["d"] not in repr(key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no key",
        "{}",
        '{"kty": "EC"}',
        '{"kty": "oct", "k": "c2VjcmV0"}',
        "[1]",
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(rsa.generate_private_key(65537, 2048)),
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "x" * 5000,
    ],
    ids=range(11),
)
def test_anything_else_is_refused_in_words_that_repeat_nothing(text: str) -> None:
    with pytest.raises(NotConfiguredError) as caught:
        read_signing_key(Secret(text))
    assert not text or text not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
