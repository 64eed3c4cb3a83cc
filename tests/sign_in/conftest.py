from __future__ import annotations

import pytest

from connections.models import IdentityProvider
from oauthflow.protocol.secret import Secret
from tests.fakes.internet import FakeInternet
from tests.fakes.openid_provider import FakeOpenIdProvider


@pytest.fixture
def provider(internet: FakeInternet, db: None) -> FakeOpenIdProvider:
    """An OpenID provider by which everybody may sign in, configured under the slug `corp`."""
    fake = FakeOpenIdProvider()
    internet[fake.issuer] = fake
    row = IdentityProvider(name="Corp", slug="corp", issuer=fake.issuer, client_id=fake.client_id)
    row.newcomers = IdentityProvider.Newcomers.EVERYBODY
    row.client_secret_sealed = Secret("provider-secret")
    row.save()
    return fake
