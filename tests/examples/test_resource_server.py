"""Both forms of the example take tokens of this site for their server, and no others."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from authserver.flows.end_tokens import end_families
from authserver.models import ProtectedResource, TokenFamily, hash_of_secret
from authserver.revoked import REVOKED, in_thread
from examples.resource_server.by_introspection import IntrospectionVerifier
from examples.resource_server.by_signature import SignatureVerifier
from oauthflow.protocol.secret import Secret
from tests.authserver.grants import SECRET, make_client, make_consent, make_family, mint, nothing_remembered

__all__ = ["nothing_remembered"]
pytestmark = pytest.mark.django_db(transaction=True)
WEATHER = "http://127.0.0.1:9200/mcp"


@pytest.fixture
def site(live_server: Any, settings: Any) -> str:
    settings.PUBLIC_URL = live_server.url
    return str(live_server.url)


@pytest.fixture
def resource(db: None) -> ProtectedResource:
    return ProtectedResource.objects.create(
        name="Weather", resource=WEATHER, scopes={"w:read": "Read"}, secret_hash=hash_of_secret(Secret(SECRET))
    )


@pytest.fixture
def tokens(site: str, alice: User) -> tuple[str, str, str]:
    """A good one, one for another resource, and one that has expired."""
    client = make_client()
    consent = make_consent(alice, client, scope="w:read", resource=WEATHER)
    other = make_consent(alice, client, scope="w:read", resource="https://elsewhere.example/mcp")
    return mint(make_family(consent)), mint(make_family(other)), mint(make_family(consent), issued_at=1_700_000_000)


async def test_the_form_that_checks_signatures(site: str, tokens: tuple[str, str, str]) -> None:
    async with httpx2.AsyncClient() as http:
        verifier = SignatureVerifier(site, WEATHER, http)
        good = await verifier.verify_token(tokens[0])
        assert good is not None
        assert (good.client_id, good.scopes, good.resource) == ("program", ["w:read"], WEATHER)
        for bad in (*tokens[1:], tokens[0][:-4], "x", ""):
            assert await verifier.verify_token(bad) is None


async def test_the_form_that_asks(site: str, tokens: tuple[str, str, str], resource: ProtectedResource) -> None:
    async with httpx2.AsyncClient(auth=(str(resource.pk), SECRET)) as http:
        verifier = IntrospectionVerifier(site, http)
        good = await verifier.verify_token(tokens[0])
        assert good is not None
        assert (good.client_id, good.scopes, good.resource) == ("program", ["w:read"], WEATHER)
        for bad in (*tokens[1:], tokens[0][:-4], "x"):
            assert await verifier.verify_token(bad) is None
        ended = TokenFamily.objects.all()
        await in_thread(lambda: end_families(ended, reason="test", now=timezone.now()))
        REVOKED._checked_at = float("-inf")  # half a second later
        assert await verifier.verify_token(tokens[0]) is None
