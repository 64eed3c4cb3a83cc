"""Webhooks signed by the Standard Webhooks scheme: the secret, and the three headers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from .secret import Secret

_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32


def new_webhook_secret() -> Secret:
    """Make a secret: `whsec_` and 256 random bits in base64."""
    return Secret(_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode("ascii"))


def signature_headers(
    body: bytes, *, message_id: str, sent_at: datetime, signing_secrets: Sequence[Secret]
) -> dict[str, str]:
    """Return the headers by which a receiver knows that a message is ours, whole and new.

    Args:
        body: Exactly as it is sent.
        message_id: The same for every attempt; holds no full stop.
        sent_at: Aware UTC; a receiver refuses what is minutes old.
        signing_secrets: As `new_webhook_secret` made them; each signs, so that a receiver may know any one of them.

    Spec: Standard Webhooks 1.0.0, "Webhook headers" and "Signature scheme" (symmetric, v1).
    """
    timestamp = str(int(sent_at.timestamp()))
    content = b".".join((message_id.encode("ascii"), timestamp.encode("ascii"), body))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(content, secret) for secret in signing_secrets),
    }


def _signature(content: bytes, secret: Secret) -> str:
    key = base64.b64decode(secret.reveal().removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode("ascii")
