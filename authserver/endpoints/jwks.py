"""`/oauth/jwks`: the keys by which others check our access tokens."""

from __future__ import annotations

import json
from typing import Final

from ..signing_keys import public_jwks
from .plain_answers import Answer

_SECONDS: Final = 300


def answer_jwks() -> Answer:
    """Answer with all keys, also those that sign only later. RFC 7517 §5."""
    headers = (("Content-Type", "application/jwk-set+json"), ("Cache-Control", f"public, max-age={_SECONDS}"))
    return Answer(200, json.dumps(public_jwks(), separators=(",", ":")).encode(), headers)
