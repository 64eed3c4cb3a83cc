"""Our signatures are what the stock library makes and takes."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from oauthflow.protocol.secret import Secret
from oauthflow.protocol.webhook_signature import new_webhook_secret, signature_headers

SENT_AT = datetime(2026, 11, 21, 12, 0, 0, 900_000, tzinfo=UTC)


@pytest.mark.parametrize("body", [b"", b'{"test":"\xc3\xa9"}', b"a.b.c"])
def test_a_signature_is_the_one_that_the_stock_library_makes(body: bytes) -> None:
    secret = new_webhook_secret()
    headers = signature_headers(body, message_id="msg_1", sent_at=SENT_AT, signing_secrets=[secret])
    assert headers["webhook-timestamp"] == "1795262400"
    assert headers["webhook-signature"] == Webhook(secret.reveal()).sign("msg_1", SENT_AT, body.decode())


def test_each_secret_signs() -> None:
    secrets = [new_webhook_secret(), new_webhook_secret()]
    headers = signature_headers(b"{}", message_id="msg_1", sent_at=datetime.now(UTC), signing_secrets=secrets)
    for secret in secrets:
        assert Webhook(secret.reveal()).verify(b"{}", headers) == {}


def test_the_example_of_the_specification_comes_out() -> None:
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signature_headers(
        b'{"test": 2432232314}',
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        sent_at=datetime.fromtimestamp(1614265330, UTC),
        signing_secrets=[secret],
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_holds_256_bits_and_no_two_are_alike() -> None:
    made = {new_webhook_secret().reveal() for _ in range(20)}
    assert len(made) == 20
    assert {len(base64.b64decode(text.removeprefix("whsec_"))) for text in made} == {32}
