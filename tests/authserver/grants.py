"""Clients, consents and codes, as the authorization endpoint would have made them."""

from __future__ import annotations

import hashlib
import uuid
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from authserver import tokens
from authserver.endpoints import refusals
from authserver.flows.issue_code import issue_authorization_code, subject_of
from authserver.models import Consent, McpClient, TokenFamily, fingerprint_of, hash_of_secret
from authserver.protocol.opaque import new_marking_key
from authserver.revoked import REVOKED
from connections.models import McpServer
from oauthflow.protocol.secret import Secret

RESOURCE = "http://localhost:8000/mcp/notes"
REDIRECT_URI = "http://127.0.0.1:33418/callback"
VERIFIER = "v" * 43
CHALLENGE = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
SECRET = "a-random-client-secret-of-256-bits-or-so-abcd"


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    """Each test begins like a fresh process."""
    REVOKED.forget()
    tokens._CACHE.forget()
    refusals.forget()


@pytest.fixture
def notes(db: None) -> McpServer:
    return McpServer.objects.create(name="Notes", slug="notes", url="https://notes.example/mcp", gateway_enabled=True)


@pytest.fixture
def client_of(db: None) -> Any:
    return make_client


def make_client(client_id: str = "program", *, method: str = "none", **changes: Any) -> McpClient:
    values: dict[str, Any] = {
        "name": "A program",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": method,
        "client_secret_hash": hash_of_secret(Secret(SECRET)) if method.startswith("client_secret") else "",
    }
    return McpClient.objects.create(client_id=client_id, **{**values, **changes})


def make_consent(user: User, client: McpClient, *, scope: str = "mcp:access", resource: str = RESOURCE) -> Consent:
    return Consent.objects.get_or_create(
        user=user,
        client=client,
        fingerprint=fingerprint_of(redirect_uri=REDIRECT_URI, resource=resource, scope=scope),
        defaults={
            "redirect_uri": REDIRECT_URI, "resource": resource, "scope": scope, "granted_at": timezone.now(),
        },
    )[0]  # fmt: skip


def make_code(consent: Consent, *, now: datetime | None = None) -> str:
    code = issue_authorization_code(
        consent, redirect_uri=REDIRECT_URI, code_challenge=CHALLENGE, now=now or timezone.now(), browser_hash="b" * 64
    )
    return code.reveal()


def make_family(consent: Consent, **changes: Any) -> TokenFamily:
    now = timezone.now()
    values: dict[str, Any] = {
        "subject": subject_of(consent.user), "resource": consent.resource, "scope": consent.scope,
        "is_refreshable": True, "issued_at": now, "expires_at": now + timedelta(days=90),
        "marking_key": new_marking_key(),
    }  # fmt: skip
    return TokenFamily.objects.create(
        consent=consent, user=consent.user, client=consent.client, **{**values, **changes}
    )


def mint(family: TokenFamily, **changes: Any) -> str:
    values: dict[str, Any] = {
        "subject": family.subject, "client_id": family.client.client_id, "audience": family.resource,
        "scope": family.scope, "jti": tokens.new_jti(family.pk, uuid.uuid4().bytes),
        "issued_at": int(timezone.now().timestamp()), "seconds": 900,
    }  # fmt: skip
    return tokens.mint_access_token(**{**values, **changes})
